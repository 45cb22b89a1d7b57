package projector

import (
	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// decideShift is the decision about the events of a duty line. It returns false where event is none of them.
func (b *builder) decideShift(event decider.Event) bool {
	switch e := event.(type) {
	case *intakev1.ShiftStarted:
		b.shift(e, shiftRow{State: "STARTED", ShiftID: e.GetShiftId(), OperatorID: e.GetOperatorId(), BeganAt: b.occurred})
	case *intakev1.ShiftEnded:
		b.shift(e, shiftRow{
			State: "ENDED", ShiftID: e.GetShiftId(), OperatorID: e.GetOperatorId(), BeganAt: b.instant(e.GetStartedAt()), EndedAt: b.instantOf(b.p.GetOccurredAt()),
		})
	case *intakev1.CoverGapBegan:
		b.shift(e, shiftRow{State: "GAP_BEGAN", GapNumber: e.GetGapNumber(), BeganAt: b.instant(e.GetBeganAt())})
	case *intakev1.CoverGapEnded:
		ended := b.instant(e.GetEndedAt())
		b.shift(e, shiftRow{State: "GAP_ENDED", GapNumber: e.GetGapNumber(), BeganAt: b.instant(e.GetBeganAt()), EndedAt: &ended})
	default:
		return false
	}
	return true
}

// shift adds the row of a duty line's event.
func (b *builder) shift(e interface{ GetLineId() string }, row shiftRow) {
	row.place, row.times = b.place(len(b.rows.Shifts)), b.times()
	row.LineID, row.AdmCode, row.CreditedOrg = e.GetLineId(), b.p.GetAdmCode(), b.p.GetCreditedOrg()
	b.rows.Shifts = append(b.rows.Shifts, row)
}
