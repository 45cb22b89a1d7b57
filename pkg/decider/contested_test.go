package decider_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// owned is a case whose special flag and closing are contested, and everything else is not.
var owned = decider.Decider[counterState]{
	Decide: func(_ counterState, c decider.Command) ([]decider.Event, error) {
		body := c.Body.(*intakev1.AssignWorker)
		for _, field := range []string{"flag", "closing", "never"} {
			if body.GetWorkerId() == field {
				if err := c.Stale(field, body.GetSeenRevision()); err != nil {
					return nil, err
				}
			}
		}
		return []decider.Event{&intakev1.CaseFlaggedSpecial{Provenance: c.Provenance()}}, nil
	},
	Evolve: func(s counterState, _ decider.Event) (counterState, bool) { return s, true },
	Contested: func(e decider.Event) string {
		switch e.(type) {
		case *intakev1.CaseFlaggedSpecial:
			return "flag"
		case *intakev1.CaseClosed:
			return "closing"
		default:
			return ""
		}
	},
}

func by(performer, recorder string, hour int) *eventv1.Provenance {
	return &eventv1.Provenance{PerformedBy: performer, RecordedBy: recorder, OccurredAt: timestamppb.New(time.Date(2020, 2, 1, hour, 0, 0, 0, time.UTC))}
}

// A contested field has the last event that changed it, and who entered it; a command decided before that is stale.
func TestACommandDecidedBeforeTheLastChangeIsStale(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, field string
		seen        uint64
		rule        string
	}{
		{"seen before the first change", "flag", 1, "is stale: flag was changed by k2 at 2020-02-01T11:00:00+08:00, revision 3"},
		{"seen between two changes", "flag", 2, "is stale: flag was changed by k2 at 2020-02-01T11:00:00+08:00, revision 3"},
		{"seen at the last change", "flag", 3, ""},
		{"seen after another field changed", "flag", 4, ""},
		{"another field, changed since, whose entry says who did it only", "closing", 3, "is stale: closing was changed by w4 at 2020-02-01T12:00:00+08:00, revision 4"},
		{"a field that never changed", "never", 0, ""},
		{"a field that nobody contests", "other", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &decidertest.Log{}
			log.Seed(
				&intakev1.CaseOpened{Provenance: by("w1", "k1", 1)},
				&intakev1.CaseFlaggedSpecial{Provenance: by("w2", "k1", 2)},
				&intakev1.CaseFlaggedSpecial{Provenance: by("w3", "k2", 3)},
				&intakev1.CaseClosed{Provenance: by("w4", "", 4)},
				&intakev1.CaseOpened{Provenance: by("w5", "k5", 5)},
			)
			cmd := decidertest.Command("2020-02-01T09:00:00Z", "k9", &intakev1.AssignWorker{WorkerId: tt.field, SeenRevision: tt.seen})
			_, err := decider.Transact(t.Context(), log, owned, "a1", cmd)
			var refused *decider.Refusal
			switch {
			case tt.rule == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case tt.rule != "" && (!errors.As(err, &refused) || refused.Field != "seen_revision" || refused.Rule != tt.rule):
				t.Errorf("the answer is %v, want %s", err, tt.rule)
			}
			if stored := len(log.Events()) - 5; (stored == 1) != (tt.rule == "") {
				t.Errorf("%d events are stored", stored)
			}
		})
	}
}

// A change that was made is answered again as the first time, though it is itself what makes it stale.
func TestAChangeSentAgainIsNotStale(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	log.Seed(&intakev1.CaseFlaggedSpecial{Provenance: by("w1", "k1", 1)})
	cmd := decidertest.Command("2020-02-01T09:00:00Z", "k9", &intakev1.AssignWorker{WorkerId: "flag", SeenRevision: 1})
	for range 2 {
		if reply, err := decider.Transact(t.Context(), log, owned, "a1", cmd); err != nil || reply.GetRevision() != 2 {
			t.Errorf("it is answered %v, %v", reply, err)
		}
	}
	if n := len(log.Events()); n != 2 {
		t.Errorf("%d events are stored", n)
	}
}

// An aggregate that moved lies where it moved to last, whatever later events say of where they happened.
func TestAnAggregateThatMovedLiesWhereItMovedTo(t *testing.T) {
	t.Parallel()
	log := openedIn("440703")
	log.Seed(
		&intakev1.ChildMoved{ToAdmCode: "440784", Provenance: &eventv1.Provenance{AdmCode: "440703"}},
		&intakev1.ChildMoved{ToAdmCode: "440704", Provenance: &eventv1.Provenance{AdmCode: "440784"}},
		&intakev1.CaseClosed{Provenance: &eventv1.Provenance{AdmCode: "440785"}},
	)
	f, err := decider.Load(t.Context(), log, owned, "a1")
	if err != nil || f.AdmCode != "440704" {
		t.Errorf("it lies in %q (%v)", f.AdmCode, err)
	}
}
