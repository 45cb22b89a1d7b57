package decidertest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Property sends random sequences of commands to one aggregate and checks what must hold for every decider: nothing panics, deciding
// leaves the state alone, evolving leaves what was forked alone, the same command again is silent, a refusal is a decider.Refusal, folding
// everything equals folding event by event and what is kept between commands, and types of others are turned away. Then invariant judges all events stored so far.
//
// The commands drawn come without provenance: Property gives them command ids, some of them used before, and times that often run
// backwards. Each of kinds must come up at least once, so that the property is not empty; let the generator's ids collide.
func Property[S any](t *testing.T, d decider.Decider[S], commands *rapid.Generator[decider.Event],
	invariant func([]decider.Event) error, kinds ...decider.Event,
) {
	t.Helper()
	turnsOthersAway(t, d)
	met := make(map[protoreflect.FullName]bool)
	var lacking []decider.Event
	for range rounds {
		rapid.Check(t, func(rt *rapid.T) {
			r := run[S]{t: rt, d: d, log: &Log{}}
			for step := range rapid.IntRange(10, 50).Draw(rt, "length") {
				r.send(drawCommand(rt, step, commands))
				if err := invariant(r.log.Events()); err != nil {
					rt.Fatalf("invariant: %v", err)
				}
			}
			for _, e := range r.log.Events() {
				met[name(e)] = true
			}
		})
		lacking = slices.DeleteFunc(slices.Clone(kinds), func(k decider.Event) bool { return met[name(k)] })
		if len(lacking) == 0 || t.Failed() {
			return
		}
	}
	for _, k := range lacking {
		t.Errorf("no sequence led to %s: the property says nothing about it", name(k))
	}
}

// rounds is how often Property draws its sequences anew while a kind of event has not come up: what comes up once in a round on average
// stays away from one of a hundred rounds, and from all of them hardly ever.
const rounds = 5

// Refused checks that a command is refused with this field and rule, for refusals that name an entry of a list.
func Refused[S any](t *testing.T, d decider.Decider[S], given []decider.Event, when decider.Command, field, rule string) {
	t.Helper()
	log := &Log{}
	log.Seed(given...)
	_, err := decider.Transact(t.Context(), log, d, "a1", when)
	var refusal *decider.Refusal
	if !errors.As(err, &refusal) || refusal.Field != field || refusal.Rule != rule {
		t.Fatalf("error is %v, want %v", err, decider.Refuse(field, rule))
	}
	if n := len(log.Events()) - len(given); n != 0 {
		t.Fatalf("%d events stored by a refused command", n)
	}
}

// run is one random sequence.
type run[S any] struct {
	t   *rapid.T
	d   decider.Decider[S]
	log *Log
	// state is folded event by event.
	state S
}

// send sends a command, then sends it again.
func (r *run[S]) send(cmd decider.Command) {
	size := len(r.log.Events())
	r.decideIsPure(cmd)
	first, err := decider.Transact(r.t.Context(), r.log, r.d, "a1", cmd)
	var refusal *decider.Refusal
	if err != nil && !errors.As(err, &refusal) {
		r.t.Fatalf("error is not a refusal: %v", err)
	}
	stored, forked, before := r.log.Events(), r.state, r.fold(size)
	if r.d.Fork != nil {
		forked = r.d.Fork(r.state)
	}
	for _, e := range stored[size:] {
		var zero S
		r.evolve(zero, e) // evolving never fails, even where what came before was lost
		r.state = r.evolve(r.state, e)
	}
	if diff := difference(before, forked); diff != "" {
		r.t.Fatalf("evolving changes a state that was forked before (-as folded +as forked):\n%s", diff)
	}
	if diff := difference(r.state, r.fold(len(stored))); diff != "" {
		r.t.Fatalf("folding everything differs from folding event by event (-by event +everything):\n%s", diff)
	}
	kept, _ := r.log.kept.(decider.Folded[S])
	if diff := difference(r.state, kept.State); diff != "" {
		r.t.Fatalf("what is kept differs from folding event by event (-by event +kept):\n%s", diff)
	}
	if first.GetHappened() {
		first.Again = true
	}
	again, errAgain := decider.Transact(r.t.Context(), r.log, r.d, "a1", cmd)
	if fmt.Sprint(err) != fmt.Sprint(errAgain) || !proto.Equal(first, again) || len(r.log.Events()) != len(stored) {
		r.t.Fatalf("the same command again is not silent: %v, %v; at first %v, %v", again, errAgain, first, err)
	}
}

// decideIsPure checks that deciding changes neither state nor command, and that no two messages share a provenance.
func (r *run[S]) decideIsPure(cmd decider.Command) {
	size := len(r.log.Events())
	state, body := r.fold(size), proto.Clone(cmd.Body)
	events, _ := r.d.Decide(state, cmd)
	if !reflect.DeepEqual(state, r.fold(size)) || !proto.Equal(body, cmd.Body) {
		r.t.Fatalf("deciding changed the state or the command")
	}
	owner := map[*eventv1.Provenance]bool{cmd.Body.GetProvenance(): true}
	for _, e := range events {
		if p := e.GetProvenance(); p == nil || owner[p] {
			r.t.Fatalf("%s has no provenance of its own", name(e))
		}
		owner[e.GetProvenance()] = true
	}
}

// fold folds the first n events.
func (r *run[S]) fold(n int) S {
	recorded, _, _ := r.log.Load(r.t.Context(), "a1")
	f, err := r.d.Fold(recorded[:n])
	if err != nil {
		r.t.Fatalf("fold: %v", err)
	}
	return f.State
}

func (r *run[S]) evolve(s S, e decider.Event) S {
	s, known := r.d.Evolve(s, proto.Clone(e).(decider.Event))
	if !known {
		r.t.Fatalf("evolve does not know %s, which decide returns", name(e))
	}
	return s
}

// difference compares states. Messages in them are compared as messages: what the library notes in them to encode them faster does not count.
func difference(a, b any) string {
	return cmp.Diff(a, b, cmp.Exporter(func(reflect.Type) bool { return true }), protocmp.Transform())
}

// drawCommand draws the command of a step, now and then under the id of an earlier one.
func drawCommand(t *rapid.T, step int, commands *rapid.Generator[decider.Event]) decider.Command {
	id := step
	if rapid.IntRange(0, 9).Draw(t, "reuse") == 9 {
		id = rapid.IntRange(0, step).Draw(t, "command id")
	}
	body := proto.Clone(commands.Draw(t, "command")).(decider.Event)
	at := time.Date(2020, 2, 1, 8, rapid.IntRange(0, 9).Draw(t, "minute"), 0, 0, time.UTC)
	cmd := Command(at.Format(time.RFC3339), fmt.Sprintf("k%d", id), body)
	digest, err := proto.MarshalOptions{Deterministic: true}.Marshal(body)
	if err != nil {
		t.Fatalf("encode the command: %v", err)
	}
	cmd.Digest = digest
	return cmd
}

// foreign is a message that no decider knows, as a command or as an event.
type foreign struct{ *structpb.Value }

// GetProvenance returns none.
func (foreign) GetProvenance() *eventv1.Provenance { return nil }

func turnsOthersAway[S any](t *testing.T, d decider.Decider[S]) {
	t.Helper()
	var zero S
	stranger := foreign{structpb.NewNullValue()}
	if events, err := d.Decide(zero, decider.Command{ID: "k1", Body: stranger}); err == nil {
		t.Errorf("a command of another aggregate led to %v", events)
	}
	if s, known := d.Evolve(zero, stranger); known || !reflect.DeepEqual(s, zero) {
		t.Errorf("an event of another aggregate was taken: %+v", s)
	}
}

func name(m proto.Message) protoreflect.FullName { return m.ProtoReflect().Descriptor().FullName() }
