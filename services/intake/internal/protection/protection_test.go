package protection_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/protection"
	"tongan.dev/services/intake/internal/rules"
)

const (
	orphan = eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN
	phone  = intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE
	met    = intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET
)

// cases decides by the rules of the project.
var cases = func() decider.Decider[protection.State] {
	r, err := rules.New(rules.Project())
	if err != nil {
		panic(err)
	}
	return protection.New(r)
}()

// What the rows are given; the case was opened in 440705, while commands come from 440703.
var (
	opened = &intakev1.CaseOpened{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(time.Date(2020, 2, 1, 9, 0, 0, 0, time.UTC)), AdmCode: "440705", PerformedBy: "w0",
		},
		CaseId: "c1", ChildId: "ch1", Category: orphan,
	}
	flagged  = &intakev1.CaseFlaggedSpecial{CaseId: "c1"}
	followed = &intakev1.FollowUpRecorded{CaseId: "c1", FollowUpId: "f1"}
	closed   = &intakev1.CaseClosed{CaseId: "c1", CloseReason: met}
	high     = intakev1.RiskLevel_RISK_LEVEL_HIGH
	low      = intakev1.RiskLevel_RISK_LEVEL_LOW
)

func TestOpening(t *testing.T) {
	t.Parallel()
	open := decidertest.Command("2020-02-01T09:00:00Z", "c1", &intakev1.OpenCase{
		CaseId: "c1", ChildId: "ch1", Category: orphan, ContactId: "hc1",
		GapCause: intakev1.GuardianshipGapCause_GUARDIANSHIP_GAP_CAUSE_QUARANTINED,
	})
	open.Sealed = map[string]*eventv1.Sealed{"note": {KeyId: "ch1"}}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "a case is opened with a sealed note",
			When: open,
			Then: []decider.Event{&intakev1.CaseOpened{
				Provenance: open.Provenance(), CaseId: "c1", ChildId: "ch1", Category: orphan, ContactId: "hc1",
				GapCause: intakev1.GuardianshipGapCause_GUARDIANSHIP_GAP_CAUSE_QUARANTINED, Note: &eventv1.Sealed{KeyId: "ch1"}, WorkerId: "w1",
			}},
		},
		{
			Name:  "a case is opened once",
			Given: []decider.Event{opened},
			When:  decidertest.Command("2020-02-02T09:00:00Z", "k2", &intakev1.OpenCase{CaseId: "c1", ChildId: "ch1"}),
			Err:   protection.ErrOpened,
		},
		{
			Name:  "a closed case is not opened again",
			Given: []decider.Event{opened, closed},
			When:  decidertest.Command("2020-02-02T09:00:00Z", "k2", &intakev1.OpenCase{CaseId: "c1", ChildId: "ch1"}),
			Err:   protection.ErrOpened,
		},
	})
}

func TestFlagging(t *testing.T) {
	t.Parallel()
	flag := decidertest.Command("2020-02-02T09:00:00Z", "k2", &intakev1.FlagCaseSpecial{CaseId: "c1"})
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name:  "a flag before any follow-up does not count yet",
			Given: []decider.Event{opened},
			When:  flag,
			Then: []decider.Event{&intakev1.CaseFlaggedSpecial{
				Provenance: flag.Provenance(), CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705",
			}},
		},
		{
			Name:  "a flag after a follow-up counts",
			Given: []decider.Event{opened, followed},
			When:  flag,
			Then: []decider.Event{&intakev1.CaseFlaggedSpecial{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", CountsSpecial: true, CountsOn: "2020-02-02",
			}},
		},
		{
			Name:  "a flag entered late counts from the follow-up on",
			Given: []decider.Event{opened, &intakev1.FollowUpRecorded{Provenance: at("2020-02-03T09:00:00Z"), CaseId: "c1", FollowUpId: "f1"}},
			When:  flag,
			Then: []decider.Event{&intakev1.CaseFlaggedSpecial{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", CountsSpecial: true, CountsOn: "2020-02-03",
			}},
		},
		{
			Name:  "a flag does not happen before the opening",
			Given: []decider.Event{opened},
			When:  decidertest.Command("2020-02-01T08:59:59Z", "k2", &intakev1.FlagCaseSpecial{CaseId: "c1"}),
			Err:   protection.ErrBeforeOpening,
		},
		{Name: "a second flag is silent", Given: []decider.Event{opened, flagged}, When: flag},
		{Name: "a second flag is silent after closing", Given: []decider.Event{opened, flagged, closed}, When: flag},
		{Name: "a closed case is not flagged", Given: []decider.Event{opened, closed}, When: flag, Err: protection.ErrClosed},
		{Name: "a case never opened is not flagged", When: flag, Err: protection.ErrNotOpened},
	})
}

func TestFollowingUp(t *testing.T) {
	t.Parallel()
	follow := func(at, followUpID, childID string) decider.Command {
		return decidertest.Command(at, "k2", &intakev1.RecordFollowUp{
			CaseId: "c1", FollowUpId: followUpID, Channel: phone, ChildId: childID,
		})
	}
	noted := follow("2020-02-02T09:00:00Z", "f1", "ch1")
	noted.Sealed = map[string]*eventv1.Sealed{"note": {KeyId: "ch1"}}
	recorded := func(followUpID, countsOn string) []decider.Event {
		return []decider.Event{&intakev1.FollowUpRecorded{
			CaseId: "c1", FollowUpId: followUpID, Channel: phone, ChildId: "ch1", Category: orphan, AdmCode: "440705",
			CountsSpecial: countsOn != "", CountsOn: countsOn, WorkerId: "w0",
		}}
	}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name:  "a follow-up has a sealed note",
			Given: []decider.Event{opened},
			When:  noted,
			Then: []decider.Event{&intakev1.FollowUpRecorded{
				Provenance: noted.Provenance(), CaseId: "c1", FollowUpId: "f1", Channel: phone, ChildId: "ch1", Category: orphan,
				AdmCode: "440705", Note: &eventv1.Sealed{KeyId: "ch1"}, WorkerId: "w0",
			}},
		},
		{
			Name:  "the first follow-up of a special case counts",
			Given: []decider.Event{opened, flagged},
			When:  follow("2020-02-02T09:00:00Z", "f1", ""),
			Then:  recorded("f1", "2020-02-02"),
		},
		{
			Name:  "a follow-up entered late counts from the flag on",
			Given: []decider.Event{opened, &intakev1.CaseFlaggedSpecial{Provenance: at("2020-02-03T16:00:00Z"), CaseId: "c1"}},
			When:  follow("2020-02-02T09:00:00Z", "f1", ""),
			Then:  recorded("f1", "2020-02-04"),
		},
		{
			Name:  "the second follow-up of a special case does not count",
			Given: []decider.Event{opened, flagged, followed},
			When:  follow("2020-02-02T09:00:00Z", "f2", ""),
			Then:  recorded("f2", ""),
		},
		{
			Name:  "a follow-up after a flag that counted does not count",
			Given: []decider.Event{opened, followed, flagged},
			When:  follow("2020-02-02T09:00:00Z", "f2", ""),
			Then:  recorded("f2", ""),
		},
		{
			Name:  "a follow-up may happen at the moment of opening",
			Given: []decider.Event{opened},
			When:  follow("2020-02-01T09:00:00Z", "f1", ""),
			Then:  recorded("f1", ""),
		},
		{
			Name:  "a follow-up does not happen before the opening",
			Given: []decider.Event{opened},
			When:  follow("2020-02-01T08:59:59Z", "f1", ""),
			Err:   protection.ErrBeforeOpening,
		},
		{
			Name:  "a follow-up is recorded once",
			Given: []decider.Event{opened, followed},
			When:  follow("2020-02-02T09:00:00Z", "f1", ""),
			Err:   protection.Recorded("follow_up_id"),
		},
		{
			Name:  "a follow-up is about the child of the case",
			Given: []decider.Event{opened},
			When:  follow("2020-02-02T09:00:00Z", "f1", "ch2"),
			Err:   protection.ErrOtherChild,
		},
		{
			Name:  "a closed case is not followed up",
			Given: []decider.Event{opened, closed},
			When:  follow("2020-02-02T09:00:00Z", "f1", ""),
			Err:   protection.ErrClosed,
		},
		{
			Name: "a case never opened is not followed up",
			When: follow("2020-02-02T09:00:00Z", "f1", ""),
			Err:  protection.ErrNotOpened,
		},
	})
}

func TestClosing(t *testing.T) {
	t.Parallel()
	end := func(at string) decider.Command {
		return decidertest.Command(at, "k3", &intakev1.CloseCase{CaseId: "c1", CloseReason: met})
	}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name:  "closing restates the case",
			Given: []decider.Event{opened},
			When:  end("2020-02-04T10:00:00Z"),
			Then: []decider.Event{&intakev1.CaseClosed{
				Provenance: end("2020-02-04T10:00:00Z").Provenance(), CaseId: "c1", CloseReason: met, ChildId: "ch1", Category: orphan,
				AdmCode: "440705", WorkerId: "w0",
			}},
		},
		{
			Name:  "closing says that the case was special",
			Given: []decider.Event{opened, flagged},
			When:  end("2020-02-04T10:00:00Z"),
			Then: []decider.Event{&intakev1.CaseClosed{
				CaseId: "c1", CloseReason: met, ChildId: "ch1", Category: orphan, AdmCode: "440705", Special: true, WorkerId: "w0",
			}},
		},
		{Name: "closing twice is silent", Given: []decider.Event{opened, closed}, When: end("2020-02-04T10:00:00Z")},
		{
			Name:  "a closed case is not closed for another reason",
			Given: []decider.Event{opened, &intakev1.CaseClosed{CaseId: "c1", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_REFERRED}},
			When:  end("2020-02-04T10:00:00Z"),
			Err:   protection.ErrClosed,
		},
		{
			Name:  "a case does not close before its opening",
			Given: []decider.Event{opened},
			When:  end("2020-02-01T08:59:59Z"),
			Err:   protection.ErrBeforeOpening,
		},
		{Name: "a case never opened is not closed", When: end("2020-02-04T10:00:00Z"), Err: protection.ErrNotOpened},
	})
}

func TestView(t *testing.T) {
	t.Parallel()
	var stored []decider.Recorded
	for i, e := range []decider.Event{opened, followed, flagged, &intakev1.FollowUpRecorded{FollowUpId: "f2"}, closed} {
		stored = append(stored, decider.Recorded{Event: e, Sequence: uint64(10 * (i + 1))})
	}
	folded, err := cases.Fold(stored)
	if err != nil {
		t.Fatal(err)
	}
	want := &intakev1.Case{
		CaseId: "c1", Revision: 50, ChildId: "ch1", Category: orphan, AdmCode: "440705", Special: true, FollowUps: 2, Closed: true,
		CloseReason: met, WorkerId: "w0",
	}
	if diff := cmp.Diff(want, folded.State.View("c1", folded.Revision), protocmp.Transform()); diff != "" {
		t.Fatalf("view differs (-want +got):\n%s", diff)
	}
}

// at returns a provenance of that time (RFC 3339).
func at(text string) *eventv1.Provenance {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return &eventv1.Provenance{OccurredAt: timestamppb.New(t)}
}
