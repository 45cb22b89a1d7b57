package projector

import (
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
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
	b.specialCase(e)
}

func (b *builder) caseFollowedUp(e *intakev1.FollowUpRecorded) {
	b.protectionCase(caseRow{
		State: "FOLLOWED_UP", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: e.GetAdmCode(), FollowUpID: e.GetFollowUpId(), Channel: b.code(e.GetChannel()),
		CountsSpecial: e.GetCountsSpecial(),
	})
	b.specialCase(e)
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

func (b *builder) caseClosed(e *intakev1.CaseClosed) {
	b.protectionCase(caseRow{
		State: "CLOSED", CaseID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()),
		AdmCode: e.GetAdmCode(), CloseReason: b.code(e.GetCloseReason()), Special: e.GetSpecial(),
	})
}

// protectionCase adds the row of a case's event.
func (b *builder) protectionCase(row caseRow) {
	row.place, row.times = b.place(len(b.rows.Cases)), b.times()
	row.WorkerID, row.CreditedOrg = b.p.GetPerformedBy(), b.p.GetCreditedOrg()
	b.rows.Cases = append(b.rows.Cases, row)
}
