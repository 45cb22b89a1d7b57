package eventlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

var cases = subject.Aggregate{Service: subject.Intake, Name: "case"}

func newLog(js jetstream.JetStream) *eventlog.Log {
	return eventlog.New(js, cases, slog.New(slog.DiscardHandler))
}

// events returns n events of one command.
func events(id, command string, n int) []decider.Recorded {
	out := make([]decider.Recorded, n)
	for i := range out {
		out[i] = decider.Recorded{
			ID: decider.EventID(cases.Key(id), command, i), Cause: command,
			Event: &intakev1.CaseOpened{CaseId: id, Provenance: &eventv1.Provenance{CommandId: command}},
		}
	}
	return out
}

func TestAppendAndLoad(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	ctx := t.Context()
	if got, last, err := log.Load(ctx, "c1"); err != nil || len(got) != 0 || last != 0 {
		t.Fatalf("an empty aggregate loads as %v, %d, %v", got, last, err)
	}
	first, err := log.Append(ctx, "c1", 0, events("c1", "k1", 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(ctx, "c2", 0, events("c2", "k1", 2)); err != nil {
		t.Fatal(err)
	}
	batch, err := log.Append(ctx, "c1", first, events("c1", "k2", 3))
	if err != nil {
		t.Fatal(err)
	}
	got, last, err := log.Load(ctx, "c1")
	if err != nil || last != batch || len(got) != 4 {
		t.Fatalf("loaded %d events up to %d (%v), want 4 up to %d", len(got), last, err, batch)
	}
	for i, want := range append(events("c1", "k1", 1), events("c1", "k2", 3)...) {
		if got[i].ID != want.ID || got[i].Cause != want.Cause || got[i].Event.GetProvenance().GetCommandId() != want.Cause {
			t.Errorf("event %d is %+v, want %+v", i, got[i], want)
		}
	}
}

func TestAppendOnAStaleExpectation(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	for _, n := range []int{1, 3} {
		id := fmt.Sprintf("c%d", n)
		if _, err := log.Append(t.Context(), id, 0, events(id, "k1", n)); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), id, 0, events(id, "k2", n)); !errors.Is(err, decider.ErrConflict) {
			t.Errorf("%d events on a stale expectation: %v, want %v", n, err, decider.ErrConflict)
		}
		if got, _, _ := log.Load(t.Context(), id); len(got) != n {
			t.Errorf("%d events are stored, want %d", len(got), n)
		}
	}
}

// The expectation is about the aggregate, not about one kind of its events: another kind on a stale one conflicts too.
func TestAnotherKindOfEventOnAStaleExpectation(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	if _, err := log.Append(t.Context(), "c1", 0, events("c1", "k1", 1)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2} {
		command := fmt.Sprint("stale", n)
		closed := make([]decider.Recorded, n)
		for i := range closed {
			closed[i] = decider.Recorded{
				ID: decider.EventID(cases.Key("c1"), command, i), Cause: command,
				Event: &intakev1.CaseClosed{CaseId: "c1", Provenance: &eventv1.Provenance{CommandId: command}},
			}
		}
		if _, err := log.Append(t.Context(), "c1", 0, closed); !errors.Is(err, decider.ErrConflict) {
			t.Errorf("%d closings on a stale expectation: %v, want %v", n, err, decider.ErrConflict)
		}
	}
	if got, _, _ := log.Load(t.Context(), "c1"); len(got) != 1 {
		t.Errorf("%d events are stored, want 1", len(got))
	}
}

// The same events sent again on the same expectation, as after a lost acknowledgement, are found to be stored already.
func TestAppendAgainIsReadBack(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	for _, n := range []int{1, 3} {
		id := fmt.Sprintf("c%d", n)
		first, err := log.Append(t.Context(), id, 0, events(id, "k1", n))
		if err != nil {
			t.Fatal(err)
		}
		again, err := log.Append(t.Context(), id, 0, events(id, "k1", n))
		if err != nil || again != first {
			t.Errorf("%d events again: %d, %v; want %d", n, again, err, first)
		}
		if got, _, _ := log.Load(t.Context(), id); len(got) != n {
			t.Errorf("%d events are stored, want %d", len(got), n)
		}
	}
}

// The events of the same command are a conflict where another process stored them on more than was known here, or decided otherwise: who goes on
// from what it expected and its own events would not know what is stored.
func TestTheSameCommandByAnotherProcessIsAConflict(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	for last, command := range []string{"k1", "k2", "k3"} {
		if _, err := log.Append(t.Context(), "c1", uint64(last), events("c1", command, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := log.Append(t.Context(), "c1", 1, events("c1", "k3", 1)); !errors.Is(err, decider.ErrConflict) {
		t.Errorf("on more than was known: %d, %v", got, err)
	}
	other := events("c1", "k3", 1)
	other[0].Event = &intakev1.CaseOpened{CaseId: "c1", ChildId: "ch1", Provenance: other[0].Event.GetProvenance()}
	if got, err := log.Append(t.Context(), "c1", 2, other); !errors.Is(err, decider.ErrConflict) {
		t.Errorf("decided otherwise: %d, %v", got, err)
	}
	together := append(events("c1", "k4", 1), events("c1", "k3", 1)...)
	if got, err := log.Append(t.Context(), "c1", 2, together); !errors.Is(err, decider.ErrConflict) {
		t.Errorf("together with those of a command that is not stored: %d, %v", got, err)
	}
	if got, err := log.Append(t.Context(), "c1", 2, events("c1", "k3", 1)); err != nil || got != 3 {
		t.Errorf("the same on the same: %d, %v", got, err)
	}
}

// What a process keeps of an aggregate is all that is stored, also after a command that another process has carried out, on what was not known
// here, and that came here again.
func TestWhatIsKeptHasWhatOthersStoredBefore(t *testing.T) {
	t.Parallel()
	url := natstest.Run(t).ClientURL()
	natstest.Migrate(t, natstest.Connect(t, url), 1)
	var seen []string // the commands that led to the state that was decided on last
	d := decider.Decider[[]string]{
		Decide: func(s []string, c decider.Command) ([]decider.Event, error) {
			seen = s
			return []decider.Event{&intakev1.CaseOpened{Provenance: c.Provenance()}}, nil
		},
		Evolve: func(s []string, e decider.Event) ([]string, bool) {
			return append(slices.Clone(s), e.GetProvenance().GetCommandId()), true
		},
	}
	here, there := newLog(natstest.Connect(t, url)), newLog(natstest.Connect(t, url))
	for _, tt := range []struct {
		log     *eventlog.Log
		command string
		again   bool
	}{{here, "k1", false}, {there, "k2", false}, {there, "k3", false}, {here, "k3", true}, {here, "k4", false}} {
		reply, err := decider.Transact(t.Context(), tt.log, d, "c1", decider.Command{ID: tt.command, Body: &intakev1.OpenCase{}})
		if err != nil || reply.GetAgain() != tt.again {
			t.Fatalf("%s is answered %v, %v", tt.command, reply, err)
		}
	}
	if want := []string{"k1", "k2", "k3"}; !slices.Equal(seen, want) {
		t.Errorf("it was decided on %v, want %v", seen, want)
	}
}

func TestLoadReadsPastABatch(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t))
	var last uint64
	for i := range 3 {
		var err error
		if last, err = log.Append(t.Context(), "c1", last, events("c1", fmt.Sprint("k", i), eventlog.MaxEvents)); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := log.Load(t.Context(), "c1"); err != nil || len(got) != 3*eventlog.MaxEvents {
		t.Fatalf("loaded %d events, %v", len(got), err)
	}
}

func TestLoadSkipsDamagedMessages(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	good, err := log.Append(t.Context(), "c1", 0, events("c1", "k1", 1))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := eventlog.Encode(cases, "c1", events("c1", "k2", 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	bad.Data = append(bad.Data, 0)
	ack, err := js.PublishMsg(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	got, last, err := log.Load(t.Context(), "c1")
	if err != nil || len(got) != 1 || got[0].Sequence != good || last != ack.Sequence {
		t.Fatalf("loaded %d events up to %d (%v), want the good one up to %d", len(got), last, err, ack.Sequence)
	}
	if _, err := log.Append(t.Context(), "c1", last, events("c1", "k3", 1)); err != nil {
		t.Fatalf("append after a damaged message: %v", err)
	}
}

func TestLoadRefusesAnUnknownType(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	m := nats.NewMsg("tongan.evt.intake.case.c1.case-from-the-future")
	const typ = "tongan.intake.v1.CaseFromTheFuture"
	m.Header.Set(eventlog.HeaderID, "e1")
	m.Header.Set(eventlog.HeaderType, typ)
	m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum(typ, nil))
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newLog(js).Load(t.Context(), "c1"); !errors.Is(err, decider.ErrUnknownEvent) {
		t.Fatalf("error is %v, want %v", err, decider.ErrUnknownEvent)
	}
}

func TestMigrateTwiceAndDrift(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	o := eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4}
	if err := eventlog.Migrate(t.Context(), js, o); err != nil {
		t.Fatalf("a second migration: %v", err)
	}
	s, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	changed := s.CachedInfo().Config
	changed.AllowDirect, changed.MaxAge = false, time.Hour
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	err = eventlog.Migrate(t.Context(), js, o)
	if err == nil || err.Error() != "stream TONGAN_INTAKE: is not as declared: max_age, allow_direct" {
		t.Fatalf("drift is reported as %v", err)
	}
}

func TestWhoSaysNothingAboutReplicasTakesThoseThatThereAre(t *testing.T) {
	t.Parallel()
	_, js := natstest.Cluster(t, 3)
	if err := eventlog.Migrate(t.Context(), js, eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4}); err != nil {
		t.Errorf("with three: %v", err)
	}
	err := eventlog.Migrate(t.Context(), js, eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4, Replicas: 1})
	if !errors.Is(err, eventlog.ErrDrift) {
		t.Errorf("with three, where there is to be one: %v", err)
	}
}

// A stream of an earlier release is given the one property that it lacks, unless it differs in others too.
func TestMigrateMendsStreamsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	o := eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4}
	for _, c := range eventlog.Streams(o) {
		if c.Name == subject.StreamDead {
			c.AllowAtomicPublish, c.MaxBytes = false, 1<<20
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if c.Name == subject.StreamKeys {
			c.MaxMsgsPerSubject, c.MaxAge, c.MaxBytes = 1, time.Hour, 1<<20
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	config := func() jetstream.StreamConfig {
		s, err := js.Stream(t.Context(), subject.StreamKeys)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().Config
	}
	if err := eventlog.Migrate(t.Context(), js, o); err == nil || err.Error() != "stream TONGAN_KEYS: is not as declared: max_age" {
		t.Errorf("other drift is reported as %v", err)
	}
	before := config()
	if before.MaxMsgsPerSubject != 1 {
		t.Errorf("it was changed although it differs in more")
	}
	before.MaxAge = 0
	if _, err := js.UpdateStream(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if err := eventlog.Migrate(t.Context(), js, o); err != nil {
		t.Fatal(err)
	}
	if after := config(); after.MaxMsgsPerSubject != 2 || after.MaxBytes != 1<<20 {
		t.Errorf("it holds %d messages of a subject and %d bytes", after.MaxMsgsPerSubject, after.MaxBytes)
	}
}

// Two messages for one aggregate inside one atomic batch, both with the same expectation, are both stored: the reason why a process has
// one append at a time under way for an aggregate. This pins the server's behaviour (2.15).
func TestServerStoresTwoEqualExpectationsInOneBatch(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	var msgs []*nats.Msg
	for _, command := range []string{"k1", "k2"} {
		m, err := eventlog.Encode(cases, "c1", events("c1", command, 1)[0])
		if err != nil {
			t.Fatal(err)
		}
		m.Subject = "tongan.evt.intake.case.c1.case-" + command
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, cases.Filter("c1"))
		msgs = append(msgs, m)
	}
	if _, err := jetstreamext.PublishMsgBatch(t.Context(), js, msgs); err != nil {
		t.Fatalf("the server refuses the batch now (%v): the rule of one append at a time may be looked at again", err)
	}
}

// Messages between those that a Log appended, which do not say what they were stored on, are found all the same, and what has no neighbour
// of its own aggregate is not taken for one.
func TestLoadFindsWhatDoesNotTell(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	var last, other uint64
	var want []string
	for i := range 9 {
		id, command := []string{"c1", "c2", "c1"}[i%3], fmt.Sprint("k", i)
		all := events(id, command, 2)
		if i%3 == 2 { // a single message without an expectation
			m, err := eventlog.Encode(cases, id, all[0])
			if err != nil {
				t.Fatal(err)
			}
			ack, err := js.PublishMsg(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			last, want = ack.Sequence, append(want, all[0].ID)
			continue
		}
		on := last
		if id == "c2" {
			on = other
		}
		seq, err := log.Append(t.Context(), id, on, all)
		if err != nil {
			t.Fatal(i, err)
		}
		if id == "c2" {
			other = seq
			continue
		}
		last, want = seq, append(want, all[0].ID, all[1].ID)
	}
	for _, after := range []uint64{0, 1, 5, last - 1, last} {
		got, at, err := log.LoadAfter(t.Context(), "c1", after)
		if err != nil || at != last {
			t.Fatalf("loaded up to %d (%v), want %d", at, err, last)
		}
		for _, e := range got {
			if e.Sequence <= after {
				t.Errorf("after %d there is %d", after, e.Sequence)
			}
		}
		if after == 0 {
			var ids []string
			for _, e := range got {
				ids = append(ids, e.ID)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("loaded %v, want %v", ids, want)
			}
		}
	}
}
