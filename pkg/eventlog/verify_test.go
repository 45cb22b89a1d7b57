package eventlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// folds fold cases, which must not be flagged as special before they are opened.
var folds = eventlog.Folds{cases: decider.Decider[bool]{Evolve: func(opened bool, e decider.Event) (bool, bool) {
	switch e.(type) {
	case *intakev1.CaseOpened:
		return true, true
	case *intakev1.CaseClosed:
		if !opened {
			panic("it was never opened")
		}
		return false, true
	}
	return opened, false
}}.Begin}

// spoiltBus is a bus whose intake stream begins at sequence 4; a message may be stored twice there soon.
func spoiltBus(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	c := eventlog.Streams(eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4})[0]
	c.FirstSeq, c.Duplicates = 4, 100*time.Millisecond
	if _, err := js.CreateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return js
}

// put stores an event as change leaves it.
func put(t *testing.T, js jetstream.JetStream, id string, e decider.Recorded, change func(*nats.Msg)) {
	t.Helper()
	m, err := eventlog.Encode(cases, id, e)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	natstest.Eventually(t, 20*time.Second, "the message is stored", func() bool {
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return !ack.Duplicate
	})
}

func asItIs(*nats.Msg) {}

// findings are what was found, a line each.
func findings(v *eventlog.Verified) []string {
	var out []string
	for _, f := range v.Findings {
		out = append(out, fmt.Sprintf("%d-%d %s", f.From, f.To, f.What))
	}
	return out
}

func TestWhatIsWrongInAStreamIsNamed(t *testing.T) {
	t.Parallel()
	js := spoiltBus(t)
	log := newLog(js)
	for i := range 20 {
		id := fmt.Sprint("c", i)
		if _, err := log.Append(t.Context(), id, 0, events(id, "k", 3)); err != nil {
			t.Fatal(err)
		}
	}
	sound, err := eventlog.Verify(t.Context(), js, subject.Intake, folds)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&eventlog.Verified{Stream: "TONGAN_INTAKE", To: 63, Events: 60, Aggregates: 20, Findings: []eventlog.Finding{{From: 1, To: 3, What: "the stream does not hold it"}}}, sound); diff != "" {
		t.Fatalf("a stream in which nothing is wrong but where it begins: %s", diff)
	}

	const marker = "1f2e3d"
	put(t, js, "c1", events("c1", "k", 3)[2], asItIs)                                                                            // 64: stored before
	put(t, js, "c2", events("c3", "k2", 1)[0], asItIs)                                                                           // 65: the id of another aggregate
	put(t, js, "c2", events("c2", "k3", 1)[0], func(m *nats.Msg) { m.Header.Set(eventlog.HeaderCRC, "00000000") })               // 66
	put(t, js, "c2", events("c2", "k3", 2)[1], asItIs)                                                                           // 67: sound, after one that is not
	put(t, js, "c2", events("c2", "k4", 1)[0], func(m *nats.Msg) { m.Header.Set(eventlog.HeaderCommand, marker) })               // 68
	put(t, js, "c2", events("c2", "k5", 1)[0], func(m *nats.Msg) { m.Subject = "tongan.evt.intake." + marker })                  // 69
	put(t, js, "c2", events("c2", "k6", 1)[0], func(m *nats.Msg) { m.Header.Set(eventlog.HeaderType, marker) })                  // 70
	put(t, js, "c2", events("c2", "k7", 1)[0], func(m *nats.Msg) { m.Subject = strings.Replace(m.Subject, "case", "other", 1) }) // 71
	put(t, js, "c2", decider.Recorded{Event: &intakev1.ChildRegistered{}, ID: decider.EventID(cases.Key("c2"), "", 0)}, asItIs)  // 72: not of a case
	put(t, js, "new", decider.Recorded{Event: &intakev1.CaseClosed{}, ID: decider.EventID(cases.Key("new"), "", 0)}, asItIs)     // 73
	put(t, js, "c4", events("c4", "k2", 1)[0], asItIs)                                                                           // 74: sound

	want := []string{
		"1-3 the stream does not hold it",
		"64-65 its id does not follow from aggregate, command and place: it was stored twice, or by somebody else",
		"66-66 the checksum does not match",
		"68-68 the command in its header is not the one of its provenance",
		"69-69 its subject is not one of the stream",
		"70-70 a header is missing or does not fit the subject",
		"71-71 nobody decides on aggregates of this kind",
		"72-72 its aggregate does not fold: a stored event is of a type this build does not know",
		"73-73 its aggregate does not fold: folding it panics",
	}
	found, err := eventlog.Verify(t.Context(), js, subject.Intake, folds)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, findings(found)); diff != "" {
		t.Error(diff)
	}
	if found.Events != 68 || found.Aggregates != 21 || found.To != 74 {
		t.Errorf("%d events of %d aggregates up to %d", found.Events, found.Aggregates, found.To)
	}
	t.Run("however many passes it takes", func(t *testing.T) {
		again, err := eventlog.VerifyInPasses(t.Context(), js, &eventlog.Verified{Stream: found.Stream, To: found.To}, subject.Intake, folds, 7)
		if err != nil || again.Events != found.Events || again.Aggregates != found.Aggregates {
			t.Fatalf("%+v, %v", again, err)
		}
		for _, line := range want[2:] {
			if !strings.Contains(strings.Join(findings(again), "\n"), line) {
				t.Errorf("it does not say %q", line)
			}
		}
	})
}

func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	js := spoiltBus(t)
	for i := range 210 {
		e := events("c1", fmt.Sprint("k", i), 1)[0]
		put(t, js, "c1", e, func(m *nats.Msg) {
			if i%2 == 0 {
				m.Header.Set(eventlog.HeaderCRC, "")
			}
		})
	}
	v, err := eventlog.Verify(t.Context(), js, subject.Intake, folds)
	if err != nil || len(v.Findings) != 100 || v.More != 6 || v.Events != 105 {
		t.Errorf("%d findings and %d more, %d events, %v", len(v.Findings), v.More, v.Events, err)
	}
}

func TestAScanShowsEverySequenceOnAllReplicas(t *testing.T) {
	t.Parallel()
	_, js := natstest.Cluster(t, 3)
	log := newLog(js)
	for i := range 30 {
		id := fmt.Sprint("c", i)
		if _, err := log.Append(t.Context(), id, 0, events(id, "k", 50)); err != nil {
			t.Fatal(err)
		}
		var next uint64 = 1
		last := uint64(50 * (i + 1))
		err := eventlog.Scan(t.Context(), js, cases.Stream(), 1, last, func(sequence uint64, m *jetstream.RawStreamMsg) error {
			if sequence != next || m == nil || m.Sequence != sequence {
				t.Fatalf("at %d: %v of %d, want %d", i, m, sequence, next)
			}
			next++
			return nil
		})
		if err != nil || next != last+1 {
			t.Fatalf("it went up to %d of %d: %v", next-1, last, err)
		}
	}
}
