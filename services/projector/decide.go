package projector

import (
	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

// Indicators; table indicators says how each is counted.
const (
	phoneVisits               = "phone_visits"
	phoneCalls                = "phone_calls"
	phoneAttempts             = "phone_attempts"
	onlineVisits              = "online_visits"
	homeVisits                = "home_visits"
	smsReminders              = "sms_reminders"
	smsDelivered              = "sms_delivered"
	smsFailed                 = "sms_failed"
	protectiveItems           = "protective_items"
	protectiveItemsDispatched = "protective_items_dispatched"
	serviceSupports           = "service_supports"
	specialCases              = "special_cases"
	casesOpened               = "cases_opened"
	hotlineContacts           = "hotline_contacts"
	hotlineNonCounselling     = "hotline_non_counselling"
	childrenRegistered        = "children_registered"
	healthChecks              = "health_checks"
	abnormalTemperatures      = "abnormal_temperatures"
)

// decide is the decision about every event: which rows it gives beside its journal row. It returns false where none was made.
func (b *builder) decide(event decider.Event) bool {
	if b.decideChild(event) || b.decideContact(event) || b.decideShift(event) || b.decideCase(event) {
		return true
	}
	switch e := event.(type) {
	case *healthcheckv1.CheckRoundOpened:
		b.roundOpened(e)
	case *healthcheckv1.HealthCheckRecorded:
		b.healthCheck(e)
	case *healthcheckv1.CheckRoundClosed:
		b.roundClosed(e)

	case *outreachv1.VisitRecorded:
		b.visit(visit{event: e, state: "RECORDED", sign: 1, worker: b.p.GetPerformedBy(), org: b.p.GetCreditedOrg(), admCode: b.p.GetAdmCode()})
	case *outreachv1.VisitVoided:
		b.visit(visit{event: e, state: "VOIDED", sign: -1, worker: e.GetWorkerId(), org: e.GetCreditedOrg(), admCode: e.GetAdmCode()})
	case *outreachv1.RemindersQueued:
		b.remindersQueued(e)
	case *outreachv1.ReminderAccepted:
		b.reminder(e, reminderRow{State: "ACCEPTED", Segments: e.GetSegments()}, smsReminders)
	case *outreachv1.ReminderDelivered:
		b.reminder(e, reminderRow{State: "DELIVERED"}, smsDelivered)
	case *outreachv1.ReminderFailed:
		b.reminder(e, reminderRow{State: "FAILED", Failure: b.code(e.GetFailure())}, smsFailed)
	case *outreachv1.DeliveryRequested:
		b.delivery(e, "REQUESTED", "")
	case *outreachv1.DeliveryDispatched:
		b.delivery(e, "DISPATCHED", protectiveItemsDispatched)
	case *outreachv1.DeliveryReceiptConfirmed:
		b.delivery(e, "RECEIVED", protectiveItems)
	case *outreachv1.ServiceSupportRequested:
		b.supportRequested(e)
	case *outreachv1.ServiceSupportBegun:
		b.support(e, supportRow{State: "BEGUN"}, serviceSupports)
	case *outreachv1.ServiceSupportEnded:
		b.support(e, supportRow{State: "ENDED"}, "")

	// Events that give their journal row only: nothing counts them, and the journal has their aggregate and their times.
	case *healthcheckv1.InstitutionRegistered, *healthcheckv1.ClosureRegimeStarted, *reportingv1.FigurePublished:
	default:
		return false
	}
	return true
}

// child is a child's id, category and district as an event states them.
type child interface {
	GetChildId() string
	GetCategory() eventv1.PopulationCategory
	GetAdmCode() string
}
