package projector

import (
	"cmp"

	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// decideCase is the decision about the events of a case, and about deadlines that were missed. It returns false where event is none of them.
func (b *builder) decideCase(event decider.Event) bool {
	switch e := event.(type) {
	case *intakev1.CaseOpened:
		b.caseOpened(e)
	case *intakev1.CaseFlaggedSpecial:
		b.caseEvent(e, caseRow{State: "FLAGGED_SPECIAL", CountsSpecial: e.GetCountsSpecial()})
		b.specialCase(e)
	case *intakev1.AssessmentCompleted:
		b.caseEvent(e, caseRow{
			State: "ASSESSED", AssessmentID: e.GetAssessmentId(), PreviousRiskLevel: b.code(e.GetPreviousRiskLevel()), RiskReason: opaque(e.GetRiskReason()),
		})
	case *intakev1.CasePlanApproved:
		b.caseEvent(e, caseRow{State: "PLAN_APPROVED", PlanID: e.GetPlanId(), PlanServices: codes(b, e.GetServices()), AgreedBy: e.GetAgreedBy()})
	case *intakev1.CaseWorkerAssigned:
		b.caseEvent(e, caseRow{State: "WORKER_ASSIGNED", FromOwnerID: e.GetFromWorkerId()})
	case *intakev1.CaseServiceNoted:
		b.caseEvent(e, caseRow{
			State: "SERVICE_NOTED", SupportID: e.GetSupportId(), SupportKind: b.code(e.GetSupportKind()), ServiceStep: b.code(e.GetServiceStep()),
		})
	case *intakev1.ReferralProposed:
		b.caseEvent(e, caseRow{
			State: "REFERRAL_PROPOSED", ReferralID: e.GetReferralId(), ReferralState: "PROPOSED", ToOrg: e.GetToOrg(), SupportKind: b.code(e.GetSupportKind()),
		})
	case *intakev1.ReferralAnswered:
		b.caseEvent(e, caseRow{
			State: "REFERRAL_ANSWERED", ReferralID: e.GetReferralId(), ReferralState: b.code(e.GetReferralState()), ToOrg: e.GetToOrg(),
			SupportKind: b.code(e.GetSupportKind()),
		})
	case *intakev1.TemporaryCareArranged:
		b.caseEvent(e, caseRow{State: "CARE_ARRANGED", ArrangementID: e.GetArrangementId(), CareProvider: b.code(e.GetCareProvider())})
	case *intakev1.FollowUpRecorded:
		b.caseEvent(e, caseRow{
			State: "FOLLOWED_UP", FollowUpID: e.GetFollowUpId(), Channel: b.code(e.GetChannel()), FollowUpOutcome: b.code(e.GetFollowUpOutcome()),
			CountsSpecial: e.GetCountsSpecial(),
		})
		b.specialCase(e)
	case *intakev1.CaseReviewed:
		b.caseEvent(e, caseRow{State: "REVIEWED", ReviewID: e.GetReviewId()})
	case *intakev1.CaseClosed:
		b.caseEvent(e, caseRow{State: "CLOSED", CloseReason: b.code(e.GetCloseReason()), Special: e.GetSpecial(), AgreedBy: e.GetAgreedBy()})
	case *intakev1.CaseReopened:
		b.caseEvent(e, caseRow{State: "REOPENED", ReopenReason: opaque(e.GetReopenReason()), Special: e.GetSpecial()})
	case *intakev1.DeadlineMissed:
		b.deadlineMissed(e)
	default:
		return false
	}
	return true
}

func (b *builder) caseOpened(e *intakev1.CaseOpened) {
	row := caseRow{
		State: "OPENED", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: b.p.GetAdmCode(), GapCause: b.code(e.GetGapCause()), ContactID: e.GetContactId(),
		CaseSource: b.code(e.GetCaseSource()), VisitID: e.GetVisitId(), RiskLevel: "UNSPECIFIED",
		OwnerID: cmp.Or(e.GetWorkerId(), b.p.GetPerformedBy()), // an event of before names no owner
	}
	b.protectionCase(row)
	b.fact(casesOpened, 1, b.dims().of(row.Category, row.AdmCode))
}

// specialCase counts a case on the day it first was special and followed up, by the one event that says so.
func (b *builder) specialCase(e interface {
	GetCountsSpecial() bool
	GetCountsOn() string
	GetCategory() eventv1.PopulationCategory
	GetAdmCode() string
},
) {
	if e.GetCountsSpecial() {
		d := b.dims().of(b.code(e.GetCategory()), e.GetAdmCode())
		d.day = b.day(e.GetCountsOn())
		b.fact(specialCases, 1, d)
	}
}

// caseEvent adds the rows of an event that restates the case, and with it owner and risk where it says them.
func (b *builder) caseEvent(e interface {
	child
	GetCaseId() string
}, row caseRow,
) {
	row.CaseID, row.ChildID, row.Category, row.AdmCode = e.GetCaseId(), e.GetChildId(), b.code(e.GetCategory()), e.GetAdmCode()
	if e, ok := e.(interface {
		GetWorkerId() string
		GetRiskLevel() intakev1.RiskLevel
	}); ok {
		row.OwnerID, row.RiskLevel = e.GetWorkerId(), b.code(e.GetRiskLevel())
	}
	b.protectionCase(row)
	b.deadlines(e, deadlineRow{
		Object: "CASE", ObjectID: row.CaseID, ChildID: row.ChildID, Category: row.Category, AdmCode: row.AdmCode, OwnerID: row.OwnerID, RiskLevel: row.RiskLevel,
	})
}

// protectionCase adds the row of a case's event.
func (b *builder) protectionCase(row caseRow) {
	row.place, row.times = b.place(len(b.rows.Cases)), b.times()
	row.WorkerID, row.CreditedOrg = b.p.GetPerformedBy(), b.p.GetCreditedOrg()
	b.rows.Cases = append(b.rows.Cases, row)
}
