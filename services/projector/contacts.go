package projector

import (
	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// decideContact is the decision about the events of a hotline contact. It returns false where event is none of them.
func (b *builder) decideContact(event decider.Event) bool {
	switch e := event.(type) {
	case *intakev1.HotlineContactReceived:
		b.contactReceived(e)
	case *intakev1.HotlineContactClassified:
		b.contactClassified(e)
	case *intakev1.HotlineContactLinked:
		b.contactEvent(e, contactEventRow{State: "LINKED", ChildIDs: e.GetChildIds()})
	case *intakev1.ContactActionRecorded:
		b.contactEvent(e, contactEventRow{
			State: "ACTED", Action: b.code(e.GetContactAction()), HelpingOrg: e.GetHelpingOrg(), ContactType: b.code(e.GetContactType()),
		})
	case *intakev1.CallBackPromised:
		b.contactEvent(e, contactEventRow{State: "CALL_BACK_PROMISED"})
	case *intakev1.CallBackRecorded:
		b.contactEvent(e, contactEventRow{State: "CALLED_BACK", Reached: e.GetReached()})
	case *intakev1.HotlineContactHandedOver:
		b.contactEvent(e, contactEventRow{State: "HANDED_OVER", FromOrg: e.GetFromOrg(), ToOrg: e.GetToOrg()})
	case *intakev1.HotlineContactClosed:
		b.contactEvent(e, contactEventRow{
			State: "CLOSED", Outcome: b.code(e.GetContactOutcome()), CaseID: e.GetCaseId(), ContactType: b.code(e.GetContactType()),
		})
	default:
		return false
	}
	return true
}

func (b *builder) contactReceived(e *intakev1.HotlineContactReceived) {
	row := contactEventRow{
		State: "RECEIVED", Channel: b.code(e.GetChannel()), Speaker: b.code(e.GetSpeaker()), ContactType: b.code(e.GetContactType()),
		RangAt: b.instantOf(e.GetRangAt()), AnsweredAt: b.instantOf(e.GetAnsweredAt()),
	}
	if e.GetChildId() != "" {
		row.ChildIDs = []string{e.GetChildId()}
	}
	b.contactEvent(e, row)
	if indicator := contactIndicator(e.GetContactType()); indicator != "" {
		b.fact(indicator, 1, b.dims())
	}
}

// contactClassified takes back what the contact counted for, and counts it for what it is about now, on the day it came.
func (b *builder) contactClassified(e *intakev1.HotlineContactClassified) {
	b.contactEvent(e, contactEventRow{
		State: "CLASSIFIED", AdmCode: e.GetAdmCode(), Channel: b.code(e.GetChannel()), ContactType: b.code(e.GetContactType()),
		PreviousContactType: b.code(e.GetPreviousContactType()), Reasons: codes(b, e.GetReasons()), Urgency: b.code(e.GetUrgency()),
	})
	d := dims{day: b.day(e.GetCountsOn()), admCode: e.GetAdmCode(), org: e.GetContactOrg()}
	was, is := contactIndicator(e.GetPreviousContactType()), contactIndicator(e.GetContactType())
	if was == is {
		return
	}
	if was != "" {
		b.fact(was, -1, d)
	}
	if is != "" {
		b.fact(is, 1, d)
	}
}

// contactIndicator is what a contact of the type counts for; nothing where it is not known what it is about.
func contactIndicator(t intakev1.ContactType) string {
	switch t {
	case intakev1.ContactType_CONTACT_TYPE_UNSPECIFIED:
		return ""
	case intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING:
		return hotlineNonCounselling
	default: // by a child or about one; a type this build does not know leaves the event undecided
		return hotlineContacts
	}
}

// contactEvent adds the rows of a contact's event; the district is the event's own where the row does not say another one.
func (b *builder) contactEvent(e interface{ GetContactId() string }, row contactEventRow) {
	row.place, row.times = b.place(len(b.rows.ContactEvents)), b.times()
	row.ContactID, row.WorkerID, row.CreditedOrg = e.GetContactId(), b.p.GetPerformedBy(), b.p.GetCreditedOrg()
	if row.AdmCode == "" {
		row.AdmCode = b.p.GetAdmCode()
	}
	b.rows.ContactEvents = append(b.rows.ContactEvents, row)
	b.deadlines(e, deadlineRow{Object: "CONTACT", ObjectID: row.ContactID, AdmCode: row.AdmCode})
}
