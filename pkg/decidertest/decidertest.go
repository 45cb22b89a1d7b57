// Package decidertest tests deciders: rows of given, when, then, and a log in memory. Only tests import it.
package decidertest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Row is one case of a decider's table: ids and times are literal.
type Row struct {
	Name string
	// Given are the events stored before, in order. They need no provenance.
	Given []decider.Event
	// When is the command; make it with Command.
	When decider.Command
	// Then are the events it leads to. An event without provenance is compared without it.
	Then []decider.Event
	// Err is the error it leads to, compared by errors.Is.
	Err error
}

// Run runs each row as a subtest: it decides on the state that Given makes, compares the outcome with Then and Err, sends the same
// command again and expects the same answer and silence, and folds twice to find state that is shared between folds.
func Run[S any](t *testing.T, d decider.Decider[S], rows []Row) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			runRow(t, d, row)
		})
	}
}

func runRow[S any](t *testing.T, d decider.Decider[S], row Row) {
	t.Helper()
	log := &Log{}
	log.Seed(row.Given...)
	first, err := decider.Transact(t.Context(), log, d, "a1", row.When)
	if !errors.Is(err, row.Err) {
		t.Fatalf("error is %v, want %v", err, row.Err)
	}
	if diff := cmp.Diff(row.Then, log.Events()[len(row.Given):], compareEvents(row.Then)...); diff != "" {
		t.Fatalf("events differ (-want +got):\n%s", diff)
	}
	size := len(log.Events())
	if first.GetHappened() {
		first.Again = true
	}
	again, err := decider.Transact(t.Context(), log, d, "a1", row.When)
	if !errors.Is(err, row.Err) {
		t.Fatalf("error of the same command again is %v, want %v", err, row.Err)
	}
	if diff := cmp.Diff(first, again, protocmp.Transform()); diff != "" || len(log.Events()) != size {
		t.Fatalf("the same command again is not silent: %d events more, reply (-first +again):\n%s", len(log.Events())-size, diff)
	}
	recorded, _, _ := log.Load(t.Context(), "a1")
	one, err1 := d.Fold(recorded)
	two, err2 := d.Fold(recorded)
	if err1 != nil || err2 != nil {
		t.Fatalf("fold: %v, %v", err1, err2)
	}
	if a, b := fmt.Sprintf("%+v", one.State), fmt.Sprintf("%+v", two.State); a != b {
		t.Fatalf("two folds of the same events differ:\n%s\n%s", a, b)
	}
}

// compareEvents ignores provenance unless an expected event states one.
func compareEvents(want []decider.Event) []cmp.Option {
	opts := []cmp.Option{protocmp.Transform(), equateNil()}
	for _, e := range want {
		if e.GetProvenance() == nil {
			opts = append(opts, protocmp.IgnoreFields(e, "provenance"))
		}
	}
	return opts
}

func equateNil() cmp.Option {
	return cmp.FilterValues(func(a, b []decider.Event) bool { return len(a) == 0 && len(b) == 0 },
		cmp.Comparer(func(_, _ []decider.Event) bool { return true }))
}

// Command returns a command with id at a time (RFC 3339). A body without provenance gets one that happened then, by worker w1, in
// district 440703.
func Command(at, id string, body decider.Event) decider.Command {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	if body.GetProvenance() == nil {
		m := body.ProtoReflect()
		p := &eventv1.Provenance{CommandId: id, OccurredAt: timestamppb.New(t), PerformedBy: "w1", AdmCode: "440703"}
		m.Set(m.Descriptor().Fields().ByName("provenance"), protoreflect.ValueOfMessage(p.ProtoReflect()))
	}
	return decider.Command{At: t, ID: id, Digest: []byte(id), Aggregate: (&Log{}).Key("a1"), Body: body}
}

// Log is a decider.Keeper in memory for a single aggregate. Its zero value is empty.
type Log struct {
	events []decider.Recorded
	kept   any
	lines  decider.Lines
}

var _ decider.Keeper = (*Log)(nil)

// Seed stores events as if they had been appended one by one.
func (l *Log) Seed(events ...decider.Event) {
	for i, e := range events {
		l.events = append(l.events, decider.Recorded{Event: e, ID: fmt.Sprintf("given-%d", i), Sequence: uint64(len(l.events) + 1)})
	}
}

// Events returns all events stored so far.
func (l *Log) Events() []decider.Event {
	events := make([]decider.Event, len(l.events))
	for i, r := range l.events {
		events[i] = r.Event
	}
	return events
}

// Key names the aggregate test.aggregate.<id>.
func (*Log) Key(id string) string { return "test.aggregate." + id }

// Lines is where commands wait.
func (l *Log) Lines() *decider.Lines { return &l.lines }

// Together says that all commands that wait are appended as one.
func (*Log) Together(int) bool { return true }

// Load returns copies of all events.
func (l *Log) Load(ctx context.Context, id string) ([]decider.Recorded, uint64, error) {
	return l.LoadAfter(ctx, id, 0)
}

// LoadAfter returns copies of the events after a sequence.
func (l *Log) LoadAfter(_ context.Context, _ string, after uint64) ([]decider.Recorded, uint64, error) {
	var out []decider.Recorded
	for _, r := range l.events[after:] {
		out = append(out, decider.Recorded{Event: proto.Clone(r.Event).(decider.Event), ID: r.ID, Sequence: r.Sequence})
	}
	return out, uint64(len(l.events)), nil
}

// Append stores events if last is the last sequence.
func (l *Log) Append(_ context.Context, _ string, last uint64, events []decider.Recorded) (uint64, error) {
	if last != uint64(len(l.events)) {
		return 0, decider.ErrConflict
	}
	for _, e := range events {
		e.Sequence = uint64(len(l.events) + 1)
		l.events = append(l.events, e)
	}
	return uint64(len(l.events)), nil
}

// Take returns what was kept.
func (l *Log) Take(string) (value any, stale, ok bool) {
	kept := l.kept
	l.kept = nil
	return kept, false, kept != nil
}

// Keep keeps a value.
func (l *Log) Keep(_ string, _ uint64, value any, _ int) { l.kept = value }
