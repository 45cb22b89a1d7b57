package protection_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/intake/internal/protection"
	"tongan.dev/services/intake/internal/rules"
)

// hasty are rules under which deadlines pass within the minutes of a property.
func hasty(t *testing.T) rules.Rules {
	t.Helper()
	care := func(risk intakev1.RiskLevel, contact, follow time.Duration) *intakev1.CareRules {
		return &intakev1.CareRules{
			RiskLevel: risk, FirstContact: durationpb.New(contact), FollowUp: durationpb.New(follow), ServiceBeforeMidnight: risk == high, ReviewMonths: 1,
		}
	}
	r, err := rules.New(&intakev1.RuleSets{RuleSets: []*intakev1.RuleSet{{
		Version: "v1", ValidFrom: "2020-01-01", Care: []*intakev1.CareRules{care(high, time.Second, time.Second), care(low, time.Minute, time.Minute)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drawn are commands about one case, with ids that collide.
func drawn(t *rapid.T) decider.Event {
	id := func(prefix string) string { return prefix + rapid.SampledFrom([]string{"1", "2"}).Draw(t, prefix) }
	seen := uint64(rapid.SampledFrom([]int{1, 3, 5, 99, 99}).Draw(t, "seen"))
	worker := id("w")
	switch rapid.IntRange(0, 22).Draw(t, "kind") {
	case 0:
		return &intakev1.OpenCase{CaseId: "c1", ChildId: "ch1", Category: orphan}
	case 5, 21:
		return &intakev1.FlagCaseSpecial{CaseId: "c1"}
	case 6, 22:
		return &intakev1.CloseCase{CaseId: "c1", CloseReason: met, AgreedBy: "w9"}
	case 15:
		return &intakev1.ReopenCase{CaseId: "c1", ReopenReason: "AGAIN"}
	case 1:
		risk := rapid.SampledFrom([]intakev1.RiskLevel{high, low, intakev1.RiskLevel_RISK_LEVEL_NONE}).Draw(t, "risk")
		return &intakev1.AssessCase{CaseId: "c1", AssessmentId: id("as") + id("as"), RiskLevel: risk, RiskReason: "ALONE", SeenRevision: seen}
	case 7:
		return &intakev1.ApproveCasePlan{CaseId: "c1", PlanId: id("p"), AgreedBy: "w9"}
	case 8:
		return &intakev1.AssignCaseWorker{CaseId: "c1", WorkerId: worker, SeenRevision: seen}
	case 9:
		return &intakev1.HandOverCases{CaseIds: []string{"c1"}, FromWorkerId: worker, WorkerId: id("w")}
	case 10:
		return &intakev1.ProposeReferral{CaseId: "c1", ReferralId: "r1", ToOrg: "o1", SupportKind: 1}
	case 11:
		return &intakev1.AnswerReferral{CaseId: "c1", ReferralId: "r1", ReferralState: intakev1.ReferralState(rapid.IntRange(2, 5).Draw(t, "state"))}
	case 12:
		return &intakev1.ArrangeTemporaryCare{CaseId: "c1", ArrangementId: id("ar"), CareProvider: 1}
	case 13:
		return &intakev1.ReviewCase{CaseId: "c1", ReviewId: id("v")}
	case 14:
		return &intakev1.NoteCaseService{CaseId: "c1", SupportId: "s1", SupportKind: outreachv1.SupportKind_SUPPORT_KIND_MEALS, ServiceStep: intakev1.ServiceStep(rapid.IntRange(1, 3).Draw(t, "step")), ChildId: "ch1"}
	case 2, 3, 20:
		return &intakev1.PassDeadline{DeadlineId: rapid.SampledFrom([]string{"first-contact-1", "first-contact-1", "first-contact-2", "follow-up-1"}).Draw(t, "deadline")}
	default:
		f := &intakev1.RecordFollowUp{
			CaseId: "c1", Channel: phone, FollowUpId: id("f") + id("f"), ChildId: rapid.SampledFrom([]string{"", "ch1", "ch2"}).Draw(t, "child"),
			FollowUpOutcome: intakev1.FollowUpOutcome(rapid.IntRange(0, 2).Draw(t, "outcome")),
		}
		if rapid.Bool().Draw(t, "next") {
			f.NextDueAt = timestamppb.New(time.Date(2020, 2, 1, 8, rapid.IntRange(3, 12).Draw(t, "due"), 0, 0, time.UTC))
		}
		return f
	}
}

func TestCaseProperty(t *testing.T) {
	t.Parallel()
	decidertest.Property(t, protection.New(hasty(t)), rapid.Custom(drawn), func(events []decider.Event) error {
		for _, holds := range []func([]decider.Event) error{countsSpecialOnce, opensBeforeAll, deadlinesEndOnce, hasAnOwner} {
			if err := holds(events); err != nil {
				return err
			}
		}
		return nil
	}, &intakev1.CaseOpened{}, &intakev1.CaseFlaggedSpecial{}, &intakev1.FollowUpRecorded{}, &intakev1.CaseClosed{}, &intakev1.CaseReopened{},
		&intakev1.AssessmentCompleted{}, &intakev1.CasePlanApproved{}, &intakev1.CaseWorkerAssigned{}, &intakev1.ReferralProposed{},
		&intakev1.ReferralAnswered{}, &intakev1.TemporaryCareArranged{}, &intakev1.CaseReviewed{}, &intakev1.CaseServiceNoted{}, &intakev1.DeadlineMissed{})
}

// countsSpecialOnce holds if one event counts where the case is special and followed up, and none does otherwise.
func countsSpecialOnce(events []decider.Event) error {
	var special, followedUp bool
	var counting int
	for _, e := range events {
		switch e := e.(type) {
		case *intakev1.CaseFlaggedSpecial:
			special = true
			counting += count(e.GetCountsSpecial())
		case *intakev1.FollowUpRecorded:
			followedUp = true
			counting += count(e.GetCountsSpecial())
		case *intakev1.CaseClosed:
			if e.GetSpecial() != special {
				return fmt.Errorf("closed as special %v", e.GetSpecial())
			}
		}
	}
	if want := count(special && followedUp); counting != want {
		return fmt.Errorf("%d events count as special, want %d", counting, want)
	}
	return nil
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// opensBeforeAll holds if nothing but the opening comes first, once, and after a closing come only a reopening, a late follow-up and a service.
func opensBeforeAll(events []decider.Event) error {
	closed := false
	for i, e := range events {
		_, opens := e.(*intakev1.CaseOpened)
		if opens != (i == 0) {
			return fmt.Errorf("event %d is %T", i, e)
		}
		switch e.(type) {
		case *intakev1.CaseClosed:
			if closed {
				return fmt.Errorf("closed twice, by event %d", i)
			}
			closed = true
		case *intakev1.CaseReopened:
			if !closed {
				return fmt.Errorf("reopened while open, by event %d", i)
			}
			closed = false
		case *intakev1.FollowUpRecorded, *intakev1.CaseServiceNoted:
		default:
			if closed {
				return fmt.Errorf("after the closing comes %T", e)
			}
		}
	}
	return nil
}

// deadlinesEndOnce holds if each deadline is set once, missed at most once and while it is open, armed and past, and ends once: met or
// withdrawn. A closed case has none open.
func deadlinesEndOnce(events []decider.Event) error {
	open, ended, missed := map[string]*intakev1.Deadline{}, map[string]bool{}, map[string]bool{}
	for _, e := range events {
		if m, ok := e.(*intakev1.DeadlineMissed); ok {
			id := m.GetDeadline().GetDeadlineId()
			if open[id] == nil || missed[id] || !open[id].GetArmed() {
				return fmt.Errorf("%s is missed while it is not open, or once more", id)
			}
			missed[id] = true
		}
		for _, d := range endedBy(e) {
			if open[d.GetDeadlineId()] == nil {
				return fmt.Errorf("%s ends while it is not open", d.GetDeadlineId())
			}
			delete(open, d.GetDeadlineId())
			ended[d.GetDeadlineId()] = true
		}
		if s, ok := e.(interface{ GetDeadlinesSet() []*intakev1.Deadline }); ok {
			for _, d := range s.GetDeadlinesSet() {
				if open[d.GetDeadlineId()] != nil || ended[d.GetDeadlineId()] {
					return fmt.Errorf("%s is set twice", d.GetDeadlineId())
				}
				open[d.GetDeadlineId()] = d
			}
		}
		if _, closes := e.(*intakev1.CaseClosed); closes && len(open) > 0 {
			return fmt.Errorf("closed with %d open deadlines", len(open))
		}
	}
	return nil
}

func endedBy(e decider.Event) (out []*intakev1.Deadline) {
	if m, ok := e.(interface{ GetDeadlinesMet() []*intakev1.Deadline }); ok {
		out = append(out, m.GetDeadlinesMet()...)
	}
	if m, ok := e.(interface{ GetDeadlinesWithdrawn() []*intakev1.Deadline }); ok {
		out = append(out, m.GetDeadlinesWithdrawn()...)
	}
	return out
}

// hasAnOwner holds if every event restates the owner that the last change left.
func hasAnOwner(events []decider.Event) error {
	owner := ""
	for _, e := range events {
		m, ok := e.(interface{ GetWorkerId() string })
		if !ok {
			continue
		}
		switch e := e.(type) {
		case *intakev1.CaseWorkerAssigned:
			if e.GetFromWorkerId() != owner {
				return fmt.Errorf("taken from %q, who is not the owner %q", e.GetFromWorkerId(), owner)
			}
			owner = m.GetWorkerId()
		case *intakev1.CaseOpened, *intakev1.CaseReopened:
			owner = m.GetWorkerId()
		}
		if owner == "" || m.GetWorkerId() != owner {
			return fmt.Errorf("%T restates owner %q, which is %q", e, m.GetWorkerId(), owner)
		}
	}
	return nil
}
