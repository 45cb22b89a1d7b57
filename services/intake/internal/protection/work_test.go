package protection_test

import (
	"testing"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/intake/internal/protection"
)

const (
	meals    = outreachv1.SupportKind_SUPPORT_KIND_MEALS
	noon     = "2020-02-02T04:00:00Z"
	early    = "2020-02-01T08:59:59Z" // before the opening
	accepted = intakev1.ReferralState_REFERRAL_STATE_ACCEPTED
)

// worked is the one event that a command leads to.
func worked(e decider.Event) []decider.Event { return []decider.Event{e} }

func TestOwner(t *testing.T) {
	t.Parallel()
	assign := func(worker string, seen uint64) decider.Command {
		return decidertest.Command(noon, "k2", &intakev1.AssignCaseWorker{CaseId: "c1", WorkerId: worker, SeenRevision: seen})
	}
	handOver := decidertest.Command(noon, "k2", &intakev1.HandOverCases{CaseIds: []string{"c1"}, FromWorkerId: "w0", WorkerId: "w5"})
	assigned := &intakev1.CaseWorkerAssigned{CaseId: "c1", WorkerId: "w5", FromWorkerId: "w0"}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "who opens a case owns it unless somebody is named",
			When: decidertest.Command(noon, "c1", &intakev1.OpenCase{CaseId: "c1", ChildId: "ch1", WorkerId: "w5", CaseSource: intakev1.CaseSource_CASE_SOURCE_HOSPITAL, VisitId: "v1"}),
			Then: worked(&intakev1.CaseOpened{CaseId: "c1", ChildId: "ch1", WorkerId: "w5", CaseSource: intakev1.CaseSource_CASE_SOURCE_HOSPITAL, VisitId: "v1"}),
		},
		{
			Name: "a case is given to somebody", Given: []decider.Event{opened}, When: assign("w5", 1),
			Then: worked(&intakev1.CaseWorkerAssigned{CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w5", FromWorkerId: "w0"}),
		},
		{Name: "a case given to its owner stays", Given: []decider.Event{opened}, When: assign("w0", 1)},
		{
			Name: "a case is handed over", Given: []decider.Event{opened}, When: handOver,
			Then: worked(&intakev1.CaseWorkerAssigned{CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w5", FromWorkerId: "w0"}),
		},
		{Name: "a case handed over before stays", Given: []decider.Event{opened, assigned}, When: handOver},
		{
			Name:  "nobody hands over another one's case",
			Given: []decider.Event{opened, &intakev1.CaseWorkerAssigned{CaseId: "c1", WorkerId: "w7", FromWorkerId: "w0"}},
			When:  handOver, Err: protection.ErrNotTheirs,
		},
		{Name: "a closed case is not handed over", Given: []decider.Event{opened, closed}, When: handOver, Err: protection.ErrClosed},
		{Name: "a case never opened is not handed over", When: handOver, Err: protection.ErrNotOpened},
	})
}

func TestReopening(t *testing.T) {
	t.Parallel()
	ended := &intakev1.CaseClosed{Provenance: at("2020-02-02T09:00:00Z"), CaseId: "c1", CloseReason: met}
	reopen := decidertest.Command("2020-02-03T09:00:00Z", "k5", &intakev1.ReopenCase{CaseId: "c1", ReopenReason: "ILL_AGAIN"})
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "a closed case is taken up again by who reopens it", Given: []decider.Event{opened, flagged, ended}, When: reopen,
			Then: worked(&intakev1.CaseReopened{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w1", ReopenReason: "ILL_AGAIN", Special: true,
			}),
		},
		{Name: "an open case is not reopened", Given: []decider.Event{opened}, When: reopen, Err: protection.ErrNotClosed},
		{
			Name: "a case is not reopened before it was closed", Given: []decider.Event{opened, ended},
			When: decidertest.Command("2020-02-02T08:59:59Z", "k5", &intakev1.ReopenCase{CaseId: "c1", ReopenReason: "ILL_AGAIN"}), Err: protection.ErrBeforeClosing,
		},
		{
			Name: "what happened while a case was open may be entered after it closed", Given: []decider.Event{opened, ended},
			When: decidertest.Command("2020-02-02T08:00:00Z", "f1", &intakev1.RecordFollowUp{CaseId: "c1", FollowUpId: "f1", Channel: phone}),
			Then: worked(&intakev1.FollowUpRecorded{CaseId: "c1", FollowUpId: "f1", Channel: phone, ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0"}),
		},
		{
			Name: "a reopened case does not close before it was reopened", Given: []decider.Event{opened, ended, &intakev1.CaseReopened{Provenance: at("2020-02-03T09:00:00Z"), WorkerId: "w1"}},
			When: decidertest.Command("2020-02-03T08:59:59Z", "k6", &intakev1.CloseCase{CaseId: "c1", CloseReason: met, AgreedBy: "w9"}), Err: protection.ErrBeforeOpening,
		},
	})
}

func TestPlansReferralsAndServices(t *testing.T) {
	t.Parallel()
	answer := func(to intakev1.ReferralState) decider.Command {
		return decidertest.Command(noon, "k4", &intakev1.AnswerReferral{CaseId: "c1", ReferralId: "r1", ReferralState: to})
	}
	answered := func(to intakev1.ReferralState) *intakev1.ReferralAnswered {
		return &intakev1.ReferralAnswered{CaseId: "c1", ReferralId: "r1", ToOrg: "o2", SupportKind: meals, ReferralState: to}
	}
	restated := func(to intakev1.ReferralState) []decider.Event {
		e := answered(to)
		e.ChildId, e.Category, e.AdmCode, e.WorkerId = "ch1", orphan, "440705", "w0"
		return []decider.Event{e}
	}
	propose := decidertest.Command(noon, "r1", &intakev1.ProposeReferral{CaseId: "c1", ReferralId: "r1", ToOrg: "o2", SupportKind: meals})
	asked := &intakev1.ReferralProposed{CaseId: "c1", ReferralId: "r1", ToOrg: "o2", SupportKind: meals}
	plan := decidertest.Command(noon, "p1", &intakev1.ApproveCasePlan{CaseId: "c1", PlanId: "p1", AgreedBy: "w9", Services: []outreachv1.SupportKind{meals}, ChildId: "ch1"})
	plan.Sealed = map[string]*eventv1.Sealed{"note": {KeyId: "ch1"}}
	note := func(step intakev1.ServiceStep, child string) decider.Command {
		return decidertest.Command(noon, "k"+step.String(), &intakev1.NoteCaseService{CaseId: "c1", SupportId: "s1", SupportKind: meals, ServiceStep: step, ChildId: child})
	}
	begun := intakev1.ServiceStep_SERVICE_STEP_BEGUN
	noted := &intakev1.CaseServiceNoted{CaseId: "c1", SupportId: "s1", SupportKind: meals, ServiceStep: begun}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "a plan is agreed with a sealed note", Given: []decider.Event{opened}, When: plan,
			Then: worked(&intakev1.CasePlanApproved{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", PlanId: "p1", AgreedBy: "w9",
				Services: []outreachv1.SupportKind{meals}, Note: &eventv1.Sealed{KeyId: "ch1"},
			}),
		},
		{Name: "a plan is agreed once", Given: []decider.Event{opened, &intakev1.CasePlanApproved{PlanId: "p1"}}, When: plan, Err: protection.Recorded("plan_id")},
		{
			Name: "a plan is about the child of the case", Given: []decider.Event{opened},
			When: decidertest.Command(noon, "p1", &intakev1.ApproveCasePlan{CaseId: "c1", PlanId: "p1", AgreedBy: "w9", ChildId: "ch2"}), Err: protection.ErrOtherChild,
		},
		{Name: "a closed case is not planned", Given: []decider.Event{opened, closed}, When: plan, Err: protection.ErrClosed},
		{
			Name: "no plan lies before the opening", Given: []decider.Event{opened},
			When: decidertest.Command(early, "p1", &intakev1.ApproveCasePlan{CaseId: "c1", PlanId: "p1", AgreedBy: "w9"}), Err: protection.ErrBeforeOpening,
		},
		{
			Name: "a referral is proposed", Given: []decider.Event{opened}, When: propose,
			Then: worked(&intakev1.ReferralProposed{CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", ReferralId: "r1", ToOrg: "o2", SupportKind: meals}),
		},
		{Name: "a referral is proposed once", Given: []decider.Event{opened, asked}, When: propose, Err: protection.Recorded("referral_id")},
		{Name: "a proposed referral is accepted", Given: []decider.Event{opened, asked}, When: answer(accepted), Then: restated(accepted)},
		{Name: "a referral accepted before stays", Given: []decider.Event{opened, asked, answered(accepted)}, When: answer(accepted)},
		{
			Name: "an accepted referral is done", Given: []decider.Event{opened, asked, answered(accepted)}, When: answer(intakev1.ReferralState_REFERRAL_STATE_DONE),
			Then: restated(intakev1.ReferralState_REFERRAL_STATE_DONE),
		},
		{
			Name: "a referral that was not accepted is not done", Given: []decider.Event{opened, asked}, When: answer(intakev1.ReferralState_REFERRAL_STATE_DONE),
			Err: protection.ErrReferralState,
		},
		{
			Name: "a rejected referral is not accepted", Given: []decider.Event{opened, asked, answered(intakev1.ReferralState_REFERRAL_STATE_REJECTED)}, When: answer(accepted),
			Err: protection.ErrReferralState,
		},
		{Name: "a referral never proposed is not answered", Given: []decider.Event{opened}, When: answer(accepted), Err: protection.ErrNoReferral},
		{
			Name: "a service for the case is noted", Given: []decider.Event{opened}, When: note(begun, "ch1"),
			Then: worked(&intakev1.CaseServiceNoted{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", SupportId: "s1", SupportKind: meals, ServiceStep: begun,
			}),
		},
		{Name: "a step of a service is noted once", Given: []decider.Event{opened, noted}, When: note(begun, "ch1")},
		{
			Name: "a step that comes late is noted", Given: []decider.Event{opened, noted, closed}, When: note(intakev1.ServiceStep_SERVICE_STEP_REQUESTED, "ch1"),
			Then: worked(&intakev1.CaseServiceNoted{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", SupportId: "s1", SupportKind: meals,
				ServiceStep: intakev1.ServiceStep_SERVICE_STEP_REQUESTED,
			}),
		},
		{Name: "a service for another child is not noted", Given: []decider.Event{opened}, When: note(begun, "ch2"), Err: protection.ErrOtherChild},
		{Name: "a service for a case never opened is not noted", When: note(begun, "ch1"), Err: protection.ErrNotOpened},
	})
}
