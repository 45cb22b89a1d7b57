package projector

import (
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

func (b *builder) caseOpened(e *intakev1.CaseOpened) {
	row := caseRow{
		State: "OPENED", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: b.p.GetAdmCode(), GapCause: b.code(e.GetGapCause()), ContactID: e.GetContactId(),
	}
	b.protectionCase(row)
	b.fact(casesOpened, 1, b.dims().of(row.Category, row.AdmCode))
}

func (b *builder) caseFlagged(e *intakev1.CaseFlaggedSpecial) {
	b.protectionCase(caseRow{
		State: "FLAGGED_SPECIAL", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: e.GetAdmCode(), CountsSpecial: e.GetCountsSpecial(),
	})
}

func (b *builder) caseFollowedUp(e *intakev1.FollowUpRecorded) {
	b.protectionCase(caseRow{
		State: "FOLLOWED_UP", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: e.GetAdmCode(), FollowUpID: e.GetFollowUpId(), Channel: b.code(e.GetChannel()),
		CountsSpecial: e.GetCountsSpecial(),
	})
}

func (b *builder) caseClosed(e *intakev1.CaseClosed) {
	b.protectionCase(caseRow{
		State: "CLOSED", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: e.GetAdmCode(), CloseReason: b.code(e.GetCloseReason()), Special: e.GetSpecial(),
	})
}

// protectionCase adds the row of a case's event; the event that makes the case count as special is a fact too.
func (b *builder) protectionCase(row caseRow) {
	row.place, row.times = b.place(len(b.rows.Cases)), b.times()
	row.WorkerID, row.CreditedOrg = b.p.GetPerformedBy(), b.p.GetCreditedOrg()
	b.rows.Cases = append(b.rows.Cases, row)
	if row.CountsSpecial {
		b.fact(specialCases, 1, b.dims().of(row.Category, row.AdmCode))
	}
}
