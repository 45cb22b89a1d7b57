package decider_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

var errElsewhere = errors.New("lies elsewhere")

// openedIn is a case that was opened in one district; what came later names another.
func openedIn(district string) *decidertest.Log {
	log := &decidertest.Log{}
	log.Seed(
		&intakev1.CaseOpened{CaseId: "c1", Provenance: &eventv1.Provenance{AdmCode: district, CommandId: "k0", CommandDigest: []byte("k0")}},
		&intakev1.CaseOpened{CaseId: "c1", Provenance: &eventv1.Provenance{AdmCode: "440785"}},
	)
	return log
}

// Where an aggregate lies is what its first event says. It is asked before anything is decided, and before a command that was carried out is
// answered again: the answer is about the aggregate too.
func TestWhereAnAggregateLiesIsAskedFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, district, command string
		want                    error
	}{
		{"in the district covered", "440703", "k1", nil},
		{"in another one", "440704", "k1", errElsewhere},
		{"in the district covered, sent again", "440703", "k0", nil},
		{"in another one, sent again", "440704", "k0", errElsewhere},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := openedIn(tt.district)
			cmd := decidertest.Command("2020-02-01T09:00:00Z", tt.command, &intakev1.CloseCase{})
			var asked []string
			cmd.Covers = func(district string) error {
				asked = append(asked, district)
				if district != "440703" {
					return errElsewhere
				}
				return nil
			}
			before := len(log.Events())
			if _, err := decider.Transact(t.Context(), log, counter, "a1", cmd); !errors.Is(err, tt.want) {
				t.Errorf("it says %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff([]string{tt.district}, asked); diff != "" {
				t.Errorf("asked is: %s", diff)
			}
			if stored := len(log.Events()) - before; stored > 0 && (tt.want != nil || tt.command == "k0") {
				t.Errorf("%d events are stored", stored)
			}
		})
	}
}

func TestAnAggregateWithoutEventsLiesNowhere(t *testing.T) {
	t.Parallel()
	cmd := decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.OpenCase{CaseId: "c1"})
	cmd.Covers = func(district string) error {
		if district != "" {
			t.Errorf("asked is %q", district)
		}
		return errElsewhere
	}
	log := &decidertest.Log{}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", cmd); !errors.Is(err, errElsewhere) || len(log.Events()) != 0 {
		t.Errorf("%d events are stored (%v)", len(log.Events()), err)
	}
}

// A command without Covers, as a reaction sends it, is decided wherever the aggregate lies.
func TestACommandWithoutCoversIsDecidedEverywhere(t *testing.T) {
	t.Parallel()
	log := openedIn("440704")
	cmd := decidertest.Command("2020-02-01T09:00:00Z", "k1", &intakev1.CloseCase{})
	first, err := decider.Transact(t.Context(), log, counter, "a1", cmd)
	if err != nil || !first.GetHappened() {
		t.Fatalf("answered is %v (%v)", first, err)
	}
	first.Again = true
	if again, err := decider.Transact(t.Context(), log, counter, "a1", cmd); err != nil || !proto.Equal(first, again) {
		t.Errorf("answered is %v (%v), at first %v", again, err, first)
	}
	f, err := decider.Load(t.Context(), log, counter, "a1")
	if err != nil || f.AdmCode != "440704" {
		t.Errorf("it lies in %q (%v)", f.AdmCode, err)
	}
}
