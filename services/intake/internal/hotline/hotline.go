// Package hotline is one contact at the 24-hour hotline (热线来电).
//
// Commands: ReceiveHotlineContact, ClassifyHotlineContact, LinkHotlineContact, RecordContactAction, PromiseCallBack, RecordCallBack,
// HandOverContact, CloseHotlineContact; PassDeadline from the service itself. Events: one for each, in the past tense.
//
// Rules:
//   - A contact is received once, not before it rang, and everything else comes after that: nothing happens before it began, which is
//     when it rang or, where that was not recorded, when it was received.
//   - What it is about may be said anew until it is closed. The events restate what it was said to be about before, and the day, district
//     and organisation it counts for, which are those of the receipt and never change.
//   - Of call backs one is owed at a time: a new promise withdraws the one before. Who is reached after the promise was called back;
//     who is not reached is still to be called.
//   - It is closed once, and not while a call back is owed, unless another organisation or a case takes that over: then it is withdrawn.
//     After that nothing changes; only a call back that was promised is still written down.
package hotline

import (
	"fmt"
	"slices"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/deadline"
)

// Aggregate is the contact; its id is contact_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "contact"}

var (
	// ErrReceived is returned when the contact has been received before by another command.
	ErrReceived = decider.Refuse("contact_id", "was received already")
	// ErrNotReceived is returned when something is to be done about a contact that was never received.
	ErrNotReceived = decider.Refuse("contact_id", "was never received")
	// ErrBeforeRinging is returned when a contact would be received before it rang.
	ErrBeforeRinging = decider.Refuse("provenance.occurred_at", "must not lie before rang_at")
	// ErrAnsweredAhead is returned when a contact would have been answered in the future.
	ErrAnsweredAhead = decider.Refuse("answered_at", "is more than 5 minutes in the future")
	// ErrBeforeReceipt is returned when something happened before the contact began.
	ErrBeforeReceipt = decider.Refuse("provenance.occurred_at", "must not lie before the contact rang or was received")
	// ErrClosed is returned when a closed contact is to be changed, or closed otherwise.
	ErrClosed = decider.Refuse("contact_id", "is closed")
	// ErrDueBefore is returned when somebody would be called back before that was promised.
	ErrDueBefore = decider.Refuse("due_at", "must lie after provenance.occurred_at")
	// ErrCallBackDue is returned when a contact would be closed although somebody waits for a call and nobody else is going to make it.
	ErrCallBackDue = decider.Refuse("contact_id", "a call back is promised and not made")
	// ErrAboutForgotten is returned when a contact with personal details would be received that is about a forgotten child.
	ErrAboutForgotten = decider.Refuse("details", "cannot be kept: the child is forgotten")
	// ErrLinkForgotten is returned when a contact with personal details would be linked to a forgotten child.
	ErrLinkForgotten = decider.Refuse("child_ids", "name a forgotten child: the contact's details could not be kept")
	// ErrForgotten is returned when personal details are asked for whose key is destroyed, since a child they are about is forgotten.
	ErrForgotten = decider.Refuse("contact_id", "its personal details are forgotten")
)

// maxAhead is how far a time may lie ahead of the service's clock, as for when a command happened.
const maxAhead = 5 * time.Minute

// State is what decisions and queries about a contact need to know.
type State struct {
	id                string
	received, closed  bool
	beganAt           time.Time
	promised          bool // whether a call back ever was
	channel           intakev1.HotlineChannel
	speaker           intakev1.Speaker
	contactType       intakev1.ContactType
	reasons           []intakev1.ContactReason
	urgency           intakev1.Urgency
	admCode, countsOn string
	takenBy, org      string // who is credited, and who has it now
	childIDs          []string
	details           *eventv1.Sealed
	outcome           intakev1.ContactOutcome
	caseID            string
	deadlines         deadline.Set
}

// View returns the contact as the query answers it, without personal details; revision is the sequence of its last event.
func (s State) View(id string, revision uint64) *intakev1.Contact {
	return &intakev1.Contact{
		ContactId:      id,
		Revision:       revision,
		AdmCode:        s.admCode,
		Channel:        s.channel,
		Speaker:        s.speaker,
		ContactType:    s.contactType,
		Reasons:        s.reasons,
		Urgency:        s.urgency,
		ChildIds:       s.childIDs,
		OrgId:          s.org,
		Closed:         s.closed,
		ContactOutcome: s.outcome,
		Deadlines:      s.deadlines.Open(),
	}
}

// Details are the personal details as they were sealed, in the event's field details; nil where there are none.
func (s State) Details() *eventv1.Sealed { return s.details }

// Decider decides about one contact.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	if c, is := cmd.Body.(*intakev1.ReceiveHotlineContact); is {
		return receive(s, cmd, c)
	}
	if !s.received {
		return nil, ErrNotReceived
	}
	if c, is := cmd.Body.(*intakev1.PassDeadline); is {
		return passDeadline(s, cmd, c)
	}
	if occurredAt(cmd.Body).Before(s.beganAt) {
		return nil, ErrBeforeReceipt
	}
	switch c := cmd.Body.(type) {
	case *intakev1.RecordCallBack:
		return recordCallBack(s, cmd, c)
	case *intakev1.CloseHotlineContact:
		return closeContact(s, cmd, c)
	}
	if s.closed {
		return nil, ErrClosed
	}
	switch c := cmd.Body.(type) {
	case *intakev1.ClassifyHotlineContact:
		return classify(s, cmd, c)
	case *intakev1.LinkHotlineContact:
		return link(s, cmd, c)
	case *intakev1.RecordContactAction:
		return []decider.Event{&intakev1.ContactActionRecorded{
			Provenance: cmd.Provenance(), ContactId: c.GetContactId(), ContactAction: c.GetContactAction(), HelpingOrg: c.GetHelpingOrg(),
			ContactType: s.contactType,
		}}, nil
	case *intakev1.PromiseCallBack:
		return promiseCallBack(s, cmd, c)
	case *intakev1.HandOverContact:
		if c.GetToOrg() == s.org {
			return nil, nil
		}
		return []decider.Event{&intakev1.HotlineContactHandedOver{
			Provenance: cmd.Provenance(), ContactId: c.GetContactId(), FromOrg: s.org, ToOrg: c.GetToOrg(),
		}}, nil
	default:
		return nil, fmt.Errorf("hotline contact: unexpected command %T", cmd.Body)
	}
}

func receive(s State, cmd decider.Command, c *intakev1.ReceiveHotlineContact) ([]decider.Event, error) {
	switch {
	case s.received:
		return nil, ErrReceived
	case c.GetRangAt() != nil && occurredAt(c).Before(c.GetRangAt().AsTime()):
		return nil, ErrBeforeRinging
	case c.GetAnsweredAt().AsTime().After(cmd.At.Add(maxAhead)):
		return nil, ErrAnsweredAhead
	}
	return []decider.Event{&intakev1.HotlineContactReceived{
		Provenance:  cmd.Provenance(),
		ContactId:   c.GetContactId(),
		Channel:     c.GetChannel(),
		ContactType: c.GetContactType(),
		ChildId:     c.GetChildId(),
		Details:     cmd.Sealed["details"],
		RangAt:      c.GetRangAt(),
		AnsweredAt:  c.GetAnsweredAt(),
		Speaker:     c.GetSpeaker(),
	}}, nil
}

func classify(s State, cmd decider.Command, c *intakev1.ClassifyHotlineContact) ([]decider.Event, error) {
	if c.GetContactType() == s.contactType && c.GetUrgency() == s.urgency && slices.Equal(sorted(c.GetReasons()), sorted(s.reasons)) {
		return nil, nil
	}
	return []decider.Event{&intakev1.HotlineContactClassified{
		Provenance:          cmd.Provenance(),
		ContactId:           c.GetContactId(),
		ContactType:         c.GetContactType(),
		PreviousContactType: s.contactType,
		Reasons:             c.GetReasons(),
		Urgency:             c.GetUrgency(),
		Channel:             s.channel,
		AdmCode:             s.admCode,
		CountsOn:            s.countsOn,
		ContactOrg:          s.takenBy,
	}}, nil
}

func sorted(reasons []intakev1.ContactReason) []intakev1.ContactReason {
	return slices.Sorted(slices.Values(reasons))
}

func link(s State, cmd decider.Command, c *intakev1.LinkHotlineContact) ([]decider.Event, error) {
	var more []string
	for _, id := range c.GetChildIds() {
		if !slices.Contains(s.childIDs, id) {
			more = append(more, id)
		}
	}
	if len(more) == 0 {
		return nil, nil
	}
	return []decider.Event{&intakev1.HotlineContactLinked{Provenance: cmd.Provenance(), ContactId: c.GetContactId(), ChildIds: more}}, nil
}

func promiseCallBack(s State, cmd decider.Command, c *intakev1.PromiseCallBack) ([]decider.Event, error) {
	due, owed := c.GetDueAt().AsTime(), s.deadlines.Open()
	if !due.After(occurredAt(c)) {
		return nil, ErrDueBefore
	}
	if len(owed) > 0 && owed[0].GetDueAt().AsTime().Equal(due) {
		return nil, nil
	}
	return []decider.Event{&intakev1.CallBackPromised{
		Provenance:         cmd.Provenance(),
		ContactId:          c.GetContactId(),
		DeadlinesSet:       []*intakev1.Deadline{s.deadlines.Next(intakev1.DeadlineKind_DEADLINE_KIND_CALL_BACK, due, cmd.At)},
		DeadlinesWithdrawn: owed,
	}}, nil
}

// recordCallBack meets what is owed if somebody was reached. A call that happened before the promise is not the promised one.
func recordCallBack(s State, cmd decider.Command, c *intakev1.RecordCallBack) ([]decider.Event, error) {
	if s.closed && !s.promised {
		return nil, ErrClosed
	}
	e := &intakev1.CallBackRecorded{Provenance: cmd.Provenance(), ContactId: c.GetContactId(), Reached: c.GetReached()}
	if c.GetReached() {
		e.DeadlinesMet = s.deadlines.OpenSince(intakev1.DeadlineKind_DEADLINE_KIND_CALL_BACK, occurredAt(c))
	}
	return []decider.Event{e}, nil
}

func closeContact(s State, cmd decider.Command, c *intakev1.CloseHotlineContact) ([]decider.Event, error) {
	owed := s.deadlines.Open()
	switch {
	case s.closed && c.GetContactOutcome() == s.outcome && c.GetCaseId() == s.caseID:
		return nil, nil
	case s.closed:
		return nil, ErrClosed
	case len(owed) > 0 && c.GetContactOutcome() != intakev1.ContactOutcome_CONTACT_OUTCOME_HANDED_OVER &&
		c.GetContactOutcome() != intakev1.ContactOutcome_CONTACT_OUTCOME_CASE_OPENED:
		return nil, ErrCallBackDue
	}
	return []decider.Event{&intakev1.HotlineContactClosed{
		Provenance:         cmd.Provenance(),
		ContactId:          c.GetContactId(),
		ContactOutcome:     c.GetContactOutcome(),
		CaseId:             c.GetCaseId(),
		ContactType:        s.contactType,
		DeadlinesWithdrawn: owed,
	}}, nil
}

func passDeadline(s State, cmd decider.Command, c *intakev1.PassDeadline) ([]decider.Event, error) {
	missed, err := s.deadlines.Pass(c.GetDeadlineId(), cmd.At)
	if err != nil || missed == nil {
		return nil, err
	}
	e := &intakev1.DeadlineMissed{Provenance: deadline.MissedBy(cmd, missed), Deadline: missed, ContactId: s.id, AdmCode: s.admCode}
	if len(s.childIDs) > 0 {
		e.ChildId = s.childIDs[0]
	}
	return []decider.Event{e}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	s.deadlines = s.deadlines.Evolve(e)
	switch e := e.(type) {
	case *intakev1.HotlineContactReceived:
		s.received, s.id, s.beganAt = true, e.GetContactId(), occurredAt(e)
		if e.GetRangAt() != nil {
			s.beganAt = e.GetRangAt().AsTime()
		}
		s.channel, s.speaker, s.contactType, s.details = e.GetChannel(), e.GetSpeaker(), e.GetContactType(), e.GetDetails()
		s.admCode, s.countsOn = e.GetProvenance().GetAdmCode(), decider.Day(occurredAt(e))
		s.takenBy, s.org = e.GetProvenance().GetCreditedOrg(), e.GetProvenance().GetCreditedOrg()
		if e.GetChildId() != "" {
			s.childIDs = []string{e.GetChildId()}
		}
	case *intakev1.HotlineContactClassified:
		s.contactType, s.reasons, s.urgency = e.GetContactType(), e.GetReasons(), e.GetUrgency()
	case *intakev1.HotlineContactLinked:
		s.childIDs = slices.Concat(s.childIDs, e.GetChildIds())
	case *intakev1.CallBackPromised:
		s.promised = true
	case *intakev1.HotlineContactHandedOver:
		s.org = e.GetToOrg()
	case *intakev1.HotlineContactClosed:
		s.closed, s.outcome, s.caseID = true, e.GetContactOutcome(), e.GetCaseId()
	case *intakev1.ContactActionRecorded, *intakev1.CallBackRecorded, *intakev1.DeadlineMissed:
	default:
		return s, false
	}
	return s, true
}

// occurredAt returns when a command or an event happened.
func occurredAt(e decider.Event) time.Time { return e.GetProvenance().GetOccurredAt().AsTime() }
