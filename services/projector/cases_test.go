package projector

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// due is one deadline, an hour after at.
func due(id string, kind intakev1.DeadlineKind) []*intakev1.Deadline {
	return []*intakev1.Deadline{{DeadlineId: id, Kind: kind, DueAt: timestamppb.New(at.Add(60 * 60e9)), Armed: true}}
}

// caseCases are the events of cases and the rows they give.
func caseCases() map[string]rowCase {
	p := provenance(at)
	note := &eventv1.Sealed{KeyId: secret, Ciphertext: []byte(secret)}
	const child, end = " case_id=x1 child_id=c1 category=LEFT_BEHIND adm_code=440781", " worker_id=w1" + common
	const owned, owner = " owner_id=w5 risk_level=HIGH", " child_id=c1 category=LEFT_BEHIND adm_code=440781 owner_id=w5 risk_level=HIGH" + common
	row := func(state, rest string) string { return "cases state=" + state + child + rest + end }
	deadline := func(state, what string) string {
		return "deadlines state=" + state + " object=CASE object_id=x1 " + what + " due_at=2020-01-27T17:30:00Z armed=true" + owner
	}
	opened := fact("cases_opened", 1, "adm_code=440703 category=LEFT_BEHIND credited_org=o1")
	special := strings.Replace(fact("special_cases", 1, "adm_code=440781 category=LEFT_BEHIND credited_org=o1"), "2020-01-28", "2020-01-30", 1)
	followed := func(counts bool, outcome intakev1.FollowUpOutcome) *intakev1.FollowUpRecorded {
		return &intakev1.FollowUpRecorded{
			Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", FollowUpId: "f1", Channel: 2, FollowUpOutcome: outcome,
			CountsSpecial: counts, CountsOn: "2020-01-30", Note: note,
		}
	}
	late := followed(false, 1)
	late.WorkerId, late.RiskLevel = "w5", 1
	late.DeadlinesSet, late.DeadlinesMet, late.DeadlinesWithdrawn = due("follow-up-2", 3), due("first-contact-1", 1), due("follow-up-1", 3)
	missed := func(caseID string) decider.Event {
		return &intakev1.DeadlineMissed{
			Provenance: p, Deadline: due("first-contact-1", 1)[0], CaseId: caseID, ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1,
		}
	}
	return map[string]rowCase{
		"case opened": {
			&intakev1.CaseOpened{Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, GapCause: 3, ContactId: "h1", CaseSource: 1, WorkerId: "w5", Note: note},
			lines(opened, "cases state=OPENED case_id=x1 child_id=c1 category=LEFT_BEHIND adm_code=440703 gap_cause=QUARANTINED contact_id=h1 "+
				"case_source=CONTACT owner_id=w5 risk_level=UNSPECIFIED"+end),
		},
		"case opened before there were owners": {
			&intakev1.CaseOpened{Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, VisitId: "v1"},
			lines(opened, "cases state=OPENED case_id=x1 child_id=c1 category=LEFT_BEHIND adm_code=440703 gap_cause=UNSPECIFIED "+
				"case_source=UNSPECIFIED visit_id=v1 owner_id=w1 risk_level=UNSPECIFIED"+end),
		},
		"flagged, counts": {
			&intakev1.CaseFlaggedSpecial{Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", CountsSpecial: true, CountsOn: "2020-01-30"},
			lines(special, row("FLAGGED_SPECIAL", " counts_special=true")),
		},
		"flagged, does not": {
			&intakev1.CaseFlaggedSpecial{Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781"}, lines(row("FLAGGED_SPECIAL", "")),
		},
		"assessed": {
			&intakev1.AssessmentCompleted{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", AssessmentId: "a1", RiskLevel: 1, PreviousRiskLevel: 3,
				RiskReason: "NEGLECT", Note: note, DeadlinesSet: due("first-contact-1", 1), DeadlinesMet: due("review-1", 4), DeadlinesWithdrawn: due("follow-up-1", 3),
			},
			lines(row("ASSESSED", owned+" previous_risk_level=LOW risk_reason=NEGLECT assessment_id=a1"), deadline("SET", "deadline_id=first-contact-1 kind=FIRST_CONTACT"),
				deadline("MET", "deadline_id=review-1 kind=REVIEW"), deadline("WITHDRAWN", "deadline_id=follow-up-1 kind=FOLLOW_UP")),
		},
		"plan approved": {
			&intakev1.CasePlanApproved{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, PlanId: "p1", AgreedBy: "w6",
				Services: []outreachv1.SupportKind{1, 2}, Note: note,
			},
			lines(row("PLAN_APPROVED", owned+" plan_id=p1 plan_services=[MEALS "+name(outreachv1.SupportKind(2))+"] agreed_by=w6")),
		},
		"worker assigned to the case": {
			&intakev1.CaseWorkerAssigned{Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, FromWorkerId: "w4"},
			lines(row("WORKER_ASSIGNED", " owner_id=w5 from_owner_id=w4 risk_level=HIGH")),
		},
		"service noted": {
			&intakev1.CaseServiceNoted{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, SupportId: "s1", SupportKind: 1, ServiceStep: 2,
				DeadlinesMet: due("service-1", 2),
			},
			lines(row("SERVICE_NOTED", owned+" support_id=s1 support_kind=MEALS service_step=BEGUN"), deadline("MET", "deadline_id=service-1 kind=SERVICE")),
		},
		"referral proposed": {
			&intakev1.ReferralProposed{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, ReferralId: "r1", ToOrg: "o5", SupportKind: 1, Note: note,
			},
			lines(row("REFERRAL_PROPOSED", owned+" support_kind=MEALS referral_id=r1 referral_state=PROPOSED to_org=o5")),
		},
		"referral answered": {
			&intakev1.ReferralAnswered{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, ReferralId: "r1", ToOrg: "o5", SupportKind: 1, ReferralState: 2,
			},
			lines(row("REFERRAL_ANSWERED", owned+" support_kind=MEALS referral_id=r1 referral_state=ACCEPTED to_org=o5")),
		},
		"temporary care arranged": {
			&intakev1.TemporaryCareArranged{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, ArrangementId: "t1", CareProvider: 4, Note: note,
				DeadlinesMet: due("service-1", 2),
			},
			lines(row("CARE_ARRANGED", owned+" arrangement_id=t1 care_provider=CIVIL_AFFAIRS"), deadline("MET", "deadline_id=service-1 kind=SERVICE")),
		},
		"followed up, counts": {
			followed(true, 0), lines(special, row("FOLLOWED_UP", " follow_up_id=f1 channel=ONLINE counts_special=true risk_level=UNSPECIFIED follow_up_outcome=UNSPECIFIED")),
		},
		"followed up, does not": {
			followed(false, 2), lines(row("FOLLOWED_UP", " follow_up_id=f1 channel=ONLINE risk_level=UNSPECIFIED follow_up_outcome=NO_ANSWER")),
		},
		"followed up with deadlines": {late, lines(
			row("FOLLOWED_UP", " follow_up_id=f1 channel=ONLINE"+owned+" follow_up_outcome=REACHED"), deadline("SET", "deadline_id=follow-up-2 kind=FOLLOW_UP"),
			deadline("MET", "deadline_id=first-contact-1 kind=FIRST_CONTACT"), deadline("WITHDRAWN", "deadline_id=follow-up-1 kind=FOLLOW_UP"),
		)},
		"case reviewed": {
			&intakev1.CaseReviewed{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, ReviewId: "v1", Note: note,
				DeadlinesSet: due("review-2", 4), DeadlinesMet: due("review-1", 4),
			},
			lines(row("REVIEWED", owned+" review_id=v1"), deadline("SET", "deadline_id=review-2 kind=REVIEW"), deadline("MET", "deadline_id=review-1 kind=REVIEW")),
		},
		"case closed": {
			&intakev1.CaseClosed{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", CloseReason: 1, Special: true, AgreedBy: "w6", WorkerId: "w5", RiskLevel: 1,
				DeadlinesWithdrawn: due("review-1", 4),
			},
			lines(row("CLOSED", " close_reason=NEED_MET special=true"+owned+" agreed_by=w6"), deadline("WITHDRAWN", "deadline_id=review-1 kind=REVIEW")),
		},
		"case reopened": {
			&intakev1.CaseReopened{
				Provenance: p, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", WorkerId: "w5", RiskLevel: 1, ReopenReason: "NEW_REPORT", Special: true,
				DeadlinesSet: due("follow-up-3", 3),
			},
			lines(row("REOPENED", " special=true"+owned+" reopen_reason=NEW_REPORT"), deadline("SET", "deadline_id=follow-up-3 kind=FOLLOW_UP")),
		},
		"deadline of a case missed": {missed("x1"), lines(deadline("MISSED", "deadline_id=first-contact-1 kind=FIRST_CONTACT"))},
	}
}
