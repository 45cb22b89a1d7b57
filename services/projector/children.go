package projector

import (
	"time"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// decideChild is the decision about the events of the child registry. It returns false where event is none of them.
func (b *builder) decideChild(event decider.Event) bool {
	switch e := event.(type) {
	case *intakev1.ChildRegistered:
		b.childRegistered(e)
	case *intakev1.ChildCorrected:
		b.childEvent(e, childEventRow{State: "CORRECTED", AgeBand: b.code(e.GetAgeBand())})
	case *intakev1.ChildMoved:
		b.childEvent(e, childEventRow{State: "MOVED", AdmCode: e.GetToAdmCode(), FromAdmCode: e.GetFromAdmCode(), StartedOn: b.dayOf(e.GetMovedOn())})
	case *intakev1.ChildDeregistered:
		b.childEvent(e, childEventRow{State: "DEREGISTERED", Reason: b.code(e.GetDeregistrationReason()), EndedOn: b.dayOf(e.GetEndedOn())})
	case *intakev1.CategoryStarted:
		b.childEvent(e, childEventRow{
			State: "CATEGORY_STARTED", Category: b.code(e.GetCategory()), CategoryRule: b.code(e.GetCategoryRule()), StartedOn: b.dayOf(e.GetStartedOn()),
		})
	case *intakev1.CategoryEnded:
		b.childEvent(e, childEventRow{
			State: "CATEGORY_ENDED", Category: b.code(e.GetCategory()), StartedOn: b.dayOf(e.GetStartedOn()), EndedOn: b.dayOf(e.GetEndedOn()),
		})
	case *intakev1.GuardianRecorded:
		b.childEvent(e, childEventRow{
			State: "GUARDIAN_RECORDED", GuardianID: e.GetGuardianId(), Relation: b.code(e.GetRelation()), StartedOn: b.dayOf(e.GetStartedOn()),
		})
	case *intakev1.GuardianEnded:
		b.childEvent(e, childEventRow{State: "GUARDIAN_ENDED", GuardianID: e.GetGuardianId(), EndedOn: b.dayOf(e.GetEndedOn())})
	case *intakev1.CareArranged:
		b.childEvent(e, childEventRow{
			State: "CARE_ARRANGED", ArrangementID: e.GetArrangementId(), EndedArrangementID: e.GetEndedArrangementId(),
			CareType: b.code(e.GetCareType()), GuardianID: e.GetGuardianId(), Institution: e.GetCareInstitution(), StartedOn: b.dayOf(e.GetStartedOn()),
		})
	case *intakev1.HouseholdJoined:
		b.childEvent(e, childEventRow{State: "HOUSEHOLD_JOINED", HouseholdID: e.GetHouseholdId()})
	case *intakev1.WorkerAssigned:
		b.childEvent(e, childEventRow{
			State: "WORKER_ASSIGNED", WorkerID: e.GetWorkerId(), WorkerRole: b.code(e.GetWorkerRole()), StartedOn: b.dayOf(e.GetStartedOn()),
		})
	case *intakev1.ChildMerged:
		b.childEvent(e, childEventRow{State: "MERGED", IntoChildID: e.GetIntoChildId()})
	case *intakev1.ChildForgotten:
		b.childEvent(e, childEventRow{State: "FORGOTTEN", Reason: opaque(e.GetBasis())})
	case *intakev1.ChildKeyDestroyed:
		b.childEvent(e, childEventRow{State: "KEY_DESTROYED"})
	default:
		return false
	}
	return true
}

func (b *builder) childRegistered(e *intakev1.ChildRegistered) {
	started := e.GetCategoryStartedOn()
	if started == "" { // an event of before the field
		started = decider.Day(b.occurred)
	}
	row := childEventRow{
		State: "REGISTERED", Category: b.code(e.GetCategory()), CategoryRule: b.code(e.GetCategoryRule()), StartedOn: b.dayOf(started),
		AgeBand: b.code(e.GetAgeBand()), WorkerID: e.GetWorkerId(),
	}
	b.childEvent(e, row)
	b.fact(childrenRegistered, 1, b.dims().of(row.Category, b.p.GetAdmCode()))
}

// childEvent adds the row of a child's event; the district is the event's own where the row does not say another one.
func (b *builder) childEvent(e interface{ GetChildId() string }, row childEventRow) {
	row.place, row.times, row.CreditedOrg = b.place(len(b.rows.ChildEvents)), b.times(), b.p.GetCreditedOrg()
	row.ChildID = e.GetChildId()
	if row.AdmCode == "" {
		row.AdmCode = b.p.GetAdmCode()
	}
	b.rows.ChildEvents = append(b.rows.ChildEvents, row)
}

// dayOf is day for a column that may be NULL.
func (b *builder) dayOf(s string) *time.Time {
	d := b.day(s)
	return &d
}
