package projector

import (
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// visit is a visit that was recorded, or taken back: then everything it counted for counts the other way.
type visit struct {
	event interface {
		GetVisitId() string
		GetVisitedOn() string
		GetChannel() outreachv1.VisitChannel
		GetOutcome() outreachv1.VisitOutcome
		GetChildren() []*outreachv1.ChildVisited
	}
	state                string
	sign                 int64
	worker, org, admCode string
}

func (b *builder) visit(v visit) {
	day := b.day(v.event.GetVisitedOn())
	channel, outcome := b.code(v.event.GetChannel()), b.code(v.event.GetOutcome())
	for _, c := range v.event.GetChildren() {
		b.rows.Visits = append(b.rows.Visits, visitRow{
			place: b.place(len(b.rows.Visits)), times: b.times(), State: v.state,
			VisitID: v.event.GetVisitId(), VisitedOn: day, Channel: channel, Outcome: outcome,
			ChildID: c.GetChildId(), Category: b.code(c.GetCategory()), AdmCode: c.GetAdmCode(),
			WorkerID: v.worker, CreditedOrg: v.org,
		})
	}
	call := dims{day: day, admCode: v.admCode, org: v.org}
	reached := v.event.GetOutcome() == outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED
	if v.event.GetChannel() == outreachv1.VisitChannel_VISIT_CHANNEL_PHONE {
		b.fact(phoneAttempts, v.sign, call)
		if reached {
			b.fact(phoneCalls, v.sign, call)
		}
	}
	if indicator := visitIndicators[v.event.GetChannel()]; reached && indicator != "" {
		for _, c := range v.event.GetChildren() {
			b.fact(indicator, v.sign, call.of(b.code(c.GetCategory()), c.GetAdmCode()))
		}
	}
}

// visitIndicators are what a child counts for that was reached by a channel.
var visitIndicators = map[outreachv1.VisitChannel]string{
	outreachv1.VisitChannel_VISIT_CHANNEL_PHONE:      phoneVisits,
	outreachv1.VisitChannel_VISIT_CHANNEL_ONLINE:     onlineVisits,
	outreachv1.VisitChannel_VISIT_CHANNEL_HOME_VISIT: homeVisits,
}

func (b *builder) remindersQueued(e *outreachv1.RemindersQueued) {
	for _, m := range e.GetMessages() {
		b.addReminder(m, reminderRow{
			State: "QUEUED", BatchID: e.GetBatchId(), MessageID: m.GetMessageId(), Segments: m.GetSegments(),
		})
	}
}

// reminder adds the row of a message's event, and counts it.
func (b *builder) reminder(e interface {
	child
	GetBatchId() string
	GetMessageId() string
}, row reminderRow, indicator string,
) {
	row.BatchID, row.MessageID = e.GetBatchId(), e.GetMessageId()
	b.addReminder(e, row)
	b.fact(indicator, 1, b.dims().of(b.code(e.GetCategory()), e.GetAdmCode()))
}

func (b *builder) addReminder(c child, row reminderRow) {
	row.place, row.times, row.CreditedOrg = b.place(len(b.rows.Reminders)), b.times(), b.p.GetCreditedOrg()
	row.ChildID, row.Category, row.AdmCode = c.GetChildId(), b.code(c.GetCategory()), c.GetAdmCode()
	b.rows.Reminders = append(b.rows.Reminders, row)
}

// delivery adds the row of a delivery's event; its units count for the indicator, if there is one.
func (b *builder) delivery(e interface {
	child
	GetDeliveryId() string
	GetItem() outreachv1.ProtectiveItem
	GetUnits() int32
	GetInstitutionId() string
}, state, indicator string,
) {
	row := deliveryRow{
		place: b.place(len(b.rows.Deliveries)), times: b.times(), State: state,
		DeliveryID: e.GetDeliveryId(), Item: b.code(e.GetItem()), Units: e.GetUnits(),
		ChildID: e.GetChildId(), Category: b.code(e.GetCategory()), Institution: e.GetInstitutionId(), AdmCode: e.GetAdmCode(),
		CreditedOrg: b.p.GetCreditedOrg(),
	}
	b.rows.Deliveries = append(b.rows.Deliveries, row)
	if indicator != "" {
		d := b.dims().of(row.Category, row.AdmCode)
		d.institution = row.Institution
		b.fact(indicator, int64(row.Units), d)
	}
}

func (b *builder) supportRequested(e *outreachv1.ServiceSupportRequested) {
	b.support(e, supportRow{State: "REQUESTED", DueAt: b.instantOf(e.GetDueAt())}, "")
}

// support adds the row of a support's event, and counts it for the indicator, if there is one.
func (b *builder) support(e interface {
	child
	GetSupportId() string
	GetKind() outreachv1.SupportKind
	GetCaseId() string
	GetProviderOrg() string
}, row supportRow, indicator string,
) {
	row.place, row.times, row.CreditedOrg = b.place(len(b.rows.Supports)), b.times(), b.p.GetCreditedOrg()
	row.SupportID, row.Kind, row.CaseID, row.ProviderOrg = e.GetSupportId(), b.code(e.GetKind()), e.GetCaseId(), e.GetProviderOrg()
	row.ChildID, row.Category, row.AdmCode = e.GetChildId(), b.code(e.GetCategory()), e.GetAdmCode()
	b.rows.Supports = append(b.rows.Supports, row)
	if indicator != "" {
		b.fact(indicator, 1, b.dims().of(row.Category, row.AdmCode))
	}
}
