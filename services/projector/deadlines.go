package projector

import (
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// deadlines adds the rows of all deadlines that an event sets, meets or withdraws; of is what is the same in each of them.
func (b *builder) deadlines(e any, of deadlineRow) {
	if e, ok := e.(interface{ GetDeadlinesSet() []*intakev1.Deadline }); ok {
		b.deadlineRows("SET", e.GetDeadlinesSet(), of)
	}
	if e, ok := e.(interface{ GetDeadlinesMet() []*intakev1.Deadline }); ok {
		b.deadlineRows("MET", e.GetDeadlinesMet(), of)
	}
	if e, ok := e.(interface{ GetDeadlinesWithdrawn() []*intakev1.Deadline }); ok {
		b.deadlineRows("WITHDRAWN", e.GetDeadlinesWithdrawn(), of)
	}
}

func (b *builder) deadlineRows(state string, deadlines []*intakev1.Deadline, of deadlineRow) {
	for _, d := range deadlines {
		row := of
		row.place, row.times, row.CreditedOrg = b.place(len(b.rows.Deadlines)), b.times(), b.p.GetCreditedOrg()
		row.State, row.DeadlineID, row.Kind = state, d.GetDeadlineId(), b.code(d.GetKind())
		row.DueAt, row.Armed = b.instant(d.GetDueAt()), d.GetArmed()
		b.rows.Deadlines = append(b.rows.Deadlines, row)
	}
}

// deadlineMissed adds the row of a missed deadline. Its own provenance is that of who noticed.
func (b *builder) deadlineMissed(e *intakev1.DeadlineMissed) {
	of := deadlineRow{Object: "CONTACT", ObjectID: e.GetContactId(), AdmCode: e.GetAdmCode()}
	if e.GetCaseId() != "" {
		of = deadlineRow{
			Object: "CASE", ObjectID: e.GetCaseId(), ChildID: e.GetChildId(), Category: b.code(e.GetCategory()), AdmCode: e.GetAdmCode(),
			OwnerID: e.GetWorkerId(), RiskLevel: b.code(e.GetRiskLevel()),
		}
	}
	b.deadlineRows("MISSED", []*intakev1.Deadline{e.GetDeadline()}, of)
}
