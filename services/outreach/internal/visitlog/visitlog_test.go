package visitlog_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/visitlog"
)

const (
	phone      = outreachv1.VisitChannel_VISIT_CHANNEL_PHONE
	reached    = outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED
	leftBehind = eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND
	orphan     = eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN
)

// recorded is a visit about two siblings, stored by command k1.
var recorded = &outreachv1.VisitRecorded{
	Provenance: &eventv1.Provenance{CommandId: "k1", PerformedBy: "w1", CreditedOrg: "o1", AdmCode: "440703"},
	VisitId:    "v1", VisitedOn: "2020-02-04", Channel: phone, Outcome: reached,
	Children: []*outreachv1.ChildVisited{
		{ChildId: "ch1", Category: leftBehind, AdmCode: "440703", Note: &eventv1.Sealed{KeyId: "ch1"}},
		{ChildId: "ch2", Category: orphan, AdmCode: "440705", Note: &eventv1.Sealed{KeyId: "ch2"}},
	},
}

func TestRecording(t *testing.T) {
	t.Parallel()
	siblings := decidertest.Command("2020-02-03T16:00:00Z", "v1", &outreachv1.RecordVisit{
		VisitId: "v1", Channel: phone, Outcome: reached, Children: []*outreachv1.ChildSpokenAbout{
			{ChildId: "ch1", Category: leftBehind, AdmCode: "440703"},
			{ChildId: "ch2", Category: orphan, AdmCode: "440705"},
		},
	})
	siblings.Sealed = map[string]*eventv1.Sealed{"children[1].note": {KeyId: "ch2"}}
	again := decidertest.Command("2020-02-04T02:00:00Z", "k3", &outreachv1.RecordVisit{
		VisitId: "v1", Channel: phone, Outcome: reached, Children: []*outreachv1.ChildSpokenAbout{{ChildId: "ch3"}},
	})
	decidertest.Run(t, visitlog.Decider, []decidertest.Row{
		{
			Name: "a visit is recorded on the day in Asia/Shanghai, each note with its child",
			When: siblings,
			Then: []decider.Event{&outreachv1.VisitRecorded{
				Provenance: siblings.Provenance(), VisitId: "v1", VisitedOn: "2020-02-04", Channel: phone, Outcome: reached,
				Children: []*outreachv1.ChildVisited{
					{ChildId: "ch1", Category: leftBehind, AdmCode: "440703"},
					{ChildId: "ch2", Category: orphan, AdmCode: "440705", Note: &eventv1.Sealed{KeyId: "ch2"}},
				},
			}},
		},
		{Name: "a visit is recorded once", Given: []decider.Event{recorded}, When: again, Err: visitlog.ErrRecorded},
		{
			Name:  "a voided visit is not recorded anew",
			Given: []decider.Event{recorded, &outreachv1.VisitVoided{VisitId: "v1"}},
			When:  again,
			Err:   visitlog.ErrRecorded,
		},
	})
}

func TestAChildIsInAVisitOnce(t *testing.T) {
	t.Parallel()
	when := decidertest.Command("2020-02-04T02:00:00Z", "v1", &outreachv1.RecordVisit{
		VisitId: "v1", Children: []*outreachv1.ChildSpokenAbout{{ChildId: "ch1"}, {ChildId: "ch2"}, {ChildId: "ch1"}},
	})
	decidertest.Refused(t, visitlog.Decider, nil, when, "children[2].child_id", visitlog.RuleRepeated)
}

func TestVoiding(t *testing.T) {
	t.Parallel()
	void := decidertest.Command("2020-02-05T02:00:00Z", "k2", &outreachv1.VoidVisit{
		Provenance: &eventv1.Provenance{PerformedBy: "w9", CreditedOrg: "o9", AdmCode: "440783", Reason: "DUPLICATE"},
		VisitId:    "v1", WorkerId: "w1", VisitedOn: "2020-02-04",
	})
	corrects := void.Provenance()
	corrects.CorrectionOf = decider.EventID("test.aggregate.a1", "k1", 0)
	decidertest.Run(t, visitlog.Decider, []decidertest.Row{
		{
			Name:  "a void restates the recording without notes and names it",
			Given: []decider.Event{recorded},
			When:  void,
			Then: []decider.Event{&outreachv1.VisitVoided{
				Provenance: corrects, VisitId: "v1", VisitedOn: "2020-02-04", Channel: phone, Outcome: reached,
				Children: []*outreachv1.ChildVisited{
					{ChildId: "ch1", Category: leftBehind, AdmCode: "440703"},
					{ChildId: "ch2", Category: orphan, AdmCode: "440705"},
				},
				WorkerId: "w1", CreditedOrg: "o1", AdmCode: "440703",
			}},
		},
		{
			Name:  "voiding twice is silent",
			Given: []decider.Event{recorded, &outreachv1.VisitVoided{VisitId: "v1"}},
			When:  void,
		},
		{Name: "an unknown visit is not voided", When: void, Err: visitlog.ErrUnknown},
	})
}

// What a void names as its correction is the id under which the recording was really stored.
func TestAVoidNamesTheStoredEvent(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	record := decidertest.Command("2020-02-04T02:00:00Z", "k1", &outreachv1.RecordVisit{VisitId: "v1"})
	reply, err := decider.Transact(t.Context(), log, visitlog.Decider, "a1", record)
	if err != nil {
		t.Fatal(err)
	}
	void := decidertest.Command("2020-02-04T03:00:00Z", "k2", &outreachv1.VoidVisit{VisitId: "v1"})
	if _, err := decider.Transact(t.Context(), log, visitlog.Decider, "a1", void); err != nil {
		t.Fatal(err)
	}
	if got := log.Events()[1].GetProvenance().GetCorrectionOf(); got != reply.GetEventIds()[0] {
		t.Fatalf("the void corrects %s, the recording is %s", got, reply.GetEventIds()[0])
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]string{
		"2020-02-03T15:59:59Z": "w1_20200203", // 23:59:59 in Asia/Shanghai
		"2020-02-03T16:00:00Z": "w1_20200204", // midnight there
		"2020-02-04T15:59:59Z": "w1_20200204",
	} {
		occurred, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		record := &outreachv1.RecordVisit{
			Provenance: &eventv1.Provenance{PerformedBy: "w1", RecordedBy: "w2", OccurredAt: timestamppb.New(occurred)},
		}
		if got := visitlog.RecordID(record); got != want {
			t.Errorf("log of a visit at %s is %s, want %s", at, got, want)
		}
		void := &outreachv1.VoidVisit{WorkerId: "w1", VisitedOn: decider.Day(occurred)}
		if got := visitlog.VoidID(void); got != want {
			t.Errorf("log of a void of a visit at %s is %s, want %s", at, got, want)
		}
	}
}

func TestVisitLogProperty(t *testing.T) {
	t.Parallel()
	children := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *outreachv1.ChildSpokenAbout {
		return &outreachv1.ChildSpokenAbout{ChildId: rapid.SampledFrom([]string{"ch1", "ch2", "ch3", "ch4"}).Draw(t, "child")}
	}), 1, 3)
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		visit := rapid.SampledFrom([]string{"v1", "v2", "v3", "v4"}).Draw(t, "visit")
		if rapid.Bool().Draw(t, "void") {
			return &outreachv1.VoidVisit{VisitId: visit, WorkerId: "w1", VisitedOn: "2020-02-01"}
		}
		return &outreachv1.RecordVisit{VisitId: visit, Channel: phone, Outcome: reached, Children: children.Draw(t, "children")}
	})
	decidertest.Property(t, visitlog.Decider, commands, voidedAtMostOnce,
		&outreachv1.VisitRecorded{}, &outreachv1.VisitVoided{})
}

// voidedAtMostOnce holds if each visit is recorded once, then voided at most once for as many children.
func voidedAtMostOnce(events []decider.Event) error {
	standing := map[string]int{}
	for _, e := range events {
		switch e := e.(type) {
		case *outreachv1.VisitRecorded:
			if _, seen := standing[e.GetVisitId()]; seen {
				return fmt.Errorf("%s is recorded twice", e.GetVisitId())
			}
			standing[e.GetVisitId()] = len(e.GetChildren())
		case *outreachv1.VisitVoided:
			if n := len(e.GetChildren()); n == 0 || standing[e.GetVisitId()] != n {
				return fmt.Errorf("%s is voided for %d children, %d stand", e.GetVisitId(), n, standing[e.GetVisitId()])
			}
			standing[e.GetVisitId()] = 0
		}
	}
	return nil
}
