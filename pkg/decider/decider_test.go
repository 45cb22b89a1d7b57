package decider_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

var errClosed = decider.Refuse("case_id", "the case is closed")

// counter is a small aggregate: a case that can be opened any number of times until it is closed.
var counter = decider.Decider[counterState]{
	Decide: func(s counterState, c decider.Command) ([]decider.Event, error) {
		switch body := c.Body.(type) {
		case *intakev1.OpenCase:
			if s.closed {
				return nil, errClosed
			}
			one := &intakev1.CaseOpened{Provenance: c.Provenance(), CaseId: body.GetCaseId()}
			return []decider.Event{one, proto.CloneOf(one)}, nil
		case *intakev1.CloseCase:
			if s.closed {
				return nil, nil
			}
			return []decider.Event{&intakev1.CaseClosed{Provenance: c.Provenance()}}, nil
		}
		return nil, fmt.Errorf("unexpected command %T", c.Body)
	},
	Evolve: func(s counterState, e decider.Event) (counterState, bool) {
		switch e.(type) {
		case *intakev1.CaseOpened:
			s.opened++
		case *intakev1.CaseClosed:
			s.closed = true
		default:
			return s, false
		}
		return s, true
	},
}

type counterState struct {
	opened int
	closed bool
}

func TestTransactRows(t *testing.T) {
	t.Parallel()
	decidertest.Run(t, counter, []decidertest.Row{
		{
			Name: "several events of one command",
			When: decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{CaseId: "c1"}),
			Then: []decider.Event{&intakev1.CaseOpened{CaseId: "c1"}, &intakev1.CaseOpened{CaseId: "c1"}},
		},
		{
			Name:  "already so is silent",
			Given: []decider.Event{&intakev1.CaseClosed{}},
			When:  decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.CloseCase{}),
		},
		{
			Name:  "refused",
			Given: []decider.Event{&intakev1.CaseClosed{}},
			When:  decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{}),
			Err:   errClosed,
		},
	})
}

// The same command is known however much happened in between: open, close, the first open again is answered as the first time, and that
// it comes again.
func TestTheSameCommandMuchLater(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	open := decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{CaseId: "c1"})
	first, err := decider.Transact(t.Context(), log, counter, "a1", open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", decidertest.Command("2020-02-01T10:00:00Z", "k2", &intakev1.CloseCase{})); err != nil {
		t.Fatal(err)
	}
	if first.GetAgain() {
		t.Error("the first time is answered as if it came again")
	}
	first.Again = true
	again, err := decider.Transact(t.Context(), log, counter, "a1", open)
	if err != nil || !proto.Equal(first, again) {
		t.Fatalf("got %v, %v; want %v", again, err, first)
	}
	if n := len(log.Events()); n != 3 {
		t.Fatalf("%d events stored, want 3", n)
	}
}

func TestOtherContentUnderTheSameCommandID(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	open := decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{CaseId: "c1"})
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open); err != nil {
		t.Fatal(err)
	}
	open.Digest = []byte("other")
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open); !errors.Is(err, decider.ErrCommandReused) {
		t.Fatalf("error is %v, want %v", err, decider.ErrCommandReused)
	}
}

// A command that something bars is refused, but for one that was carried out before.
func TestABarredCommandIsAnsweredIfItWasCarriedOutBefore(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	open := decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{CaseId: "c1"})
	errBarred := decider.Refuse("note", "cannot be kept")
	open.Barred = errBarred
	if reply, err := decider.Transact(t.Context(), log, counter, "a1", open); !errors.Is(err, errBarred) || len(log.Events()) != 0 {
		t.Fatalf("a new one is answered %v, %v", reply, err)
	}
	open.Barred = nil
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open); err != nil {
		t.Fatal(err)
	}
	open.Barred = errBarred
	if reply, err := decider.Transact(t.Context(), log, counter, "a1", open); err != nil || !reply.GetAgain() || len(log.Events()) != 2 {
		t.Errorf("one that was carried out is answered %v, %v", reply, err)
	}
}

func TestEventIDIsStable(t *testing.T) {
	t.Parallel()
	const want = "6c2695d0-1cc6-5b7e-b60d-9acd0b645363"
	got := decider.EventID("intake.case.c1", "k1", 0)
	if got != want {
		t.Errorf("event id is %s, want %s: ids of stored events must never change", got, want)
	}
	for _, other := range []string{decider.EventID("intake.case.c2", "k1", 0), decider.EventID("intake.case.c1", "k2", 0), decider.EventID("intake.case.c1", "k1", 1)} {
		if other == got {
			t.Error("two events share an id")
		}
	}
}

func TestAnUnknownEventStopsDeciding(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	log.Seed(&intakev1.ChildRegistered{})
	_, err := decider.Transact(t.Context(), log, counter, "a1", decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{}))
	if !errors.Is(err, decider.ErrUnknownEvent) {
		t.Fatalf("error is %v, want %v", err, decider.ErrUnknownEvent)
	}
}
