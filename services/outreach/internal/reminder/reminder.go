// Package reminder is one batch of text messages to families (短信提醒). Messages are entries of it.
//
// Commands: QueueReminders, AcceptReminder, ConfirmReminderDelivery, FailReminder.
// Events: RemindersQueued, ReminderAccepted, ReminderDelivered, ReminderFailed.
//
// Rules:
//   - A batch is queued once, and names each message once.
//   - A message is queued, then accepted by the carrier, then delivered or failed; or it fails without having been accepted.
//     Nothing follows delivery or failure.
//   - What a message has gone through already is silent: acceptance again, also after delivery; delivery again; failure again,
//     whatever the cause.
//   - A message counts from its acceptance. A failure after that takes nothing back.
package reminder

import (
	"fmt"
	"maps"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Aggregate is the batch; its id is batch_id.
var Aggregate = subject.Aggregate{Service: subject.Outreach, Name: "reminder"}

// ErrQueued is returned when the batch has been queued before by another command.
var ErrQueued = decider.Refuse("batch_id", "was queued already")

// ErrUnknownMessage is returned when something is said about a message that the batch does not have, or of a batch never queued.
var ErrUnknownMessage = decider.Refuse("message_id", "is not a message of this batch")

// ErrNotAccepted is returned when a message is said to be delivered that the carrier has not accepted.
var ErrNotAccepted = decider.Refuse("message_id", "was not accepted by the carrier")

// ErrFailed is returned when a message is said to be accepted or delivered that has failed.
var ErrFailed = decider.Refuse("message_id", "has failed already")

// ErrDelivered is returned when a message is said to have failed that was delivered.
var ErrDelivered = decider.Refuse("message_id", "was delivered already")

// RuleRepeated is violated, at recipients[i].message_id, when a batch names a message twice.
const RuleRepeated = "is in the batch twice"

// State is what decisions about a batch need to know.
type State struct {
	// messages is nil until the batch is queued.
	messages map[string]message
}

// message is what later events restate, and how far the message has come.
type message struct {
	childID, admCode string
	category         eventv1.PopulationCategory
	segments         int32
	stage            stage
}

type stage int

const (
	queued stage = iota
	accepted
	delivered
	failed
)

// Decider decides about one batch.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve, Fork: fork}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *outreachv1.QueueReminders:
		return queue(s, cmd, c)
	case *outreachv1.AcceptReminder:
		return accept(s, cmd, c)
	case *outreachv1.ConfirmReminderDelivery:
		return confirm(s, cmd, c)
	case *outreachv1.FailReminder:
		return fail(s, cmd, c)
	default:
		return nil, fmt.Errorf("reminder batch: unexpected command %T", cmd.Body)
	}
}

func queue(s State, cmd decider.Command, c *outreachv1.QueueReminders) ([]decider.Event, error) {
	if s.messages != nil {
		return nil, ErrQueued
	}
	named := make(map[string]bool, len(c.GetRecipients()))
	messages := make([]*outreachv1.ReminderMessage, len(c.GetRecipients()))
	for i, r := range c.GetRecipients() {
		if named[r.GetMessageId()] {
			return nil, decider.Refuse(fmt.Sprintf("recipients[%d].message_id", i), RuleRepeated)
		}
		named[r.GetMessageId()] = true
		messages[i] = &outreachv1.ReminderMessage{
			MessageId: r.GetMessageId(),
			ChildId:   r.GetChildId(),
			Category:  r.GetCategory(),
			AdmCode:   r.GetAdmCode(),
			Content:   cmd.Sealed[fmt.Sprintf("recipients[%d].content", i)],
			Segments:  r.GetSegments(),
		}
	}
	return []decider.Event{&outreachv1.RemindersQueued{
		Provenance: cmd.Provenance(), BatchId: c.GetBatchId(), Messages: messages,
	}}, nil
}

func accept(s State, cmd decider.Command, c *outreachv1.AcceptReminder) ([]decider.Event, error) {
	m, known := s.messages[c.GetMessageId()]
	switch {
	case !known:
		return nil, ErrUnknownMessage
	case m.stage == failed:
		return nil, ErrFailed
	case m.stage != queued:
		return nil, nil
	}
	return []decider.Event{&outreachv1.ReminderAccepted{
		Provenance: cmd.Provenance(), BatchId: c.GetBatchId(), MessageId: c.GetMessageId(),
		ChildId: m.childID, Category: m.category, AdmCode: m.admCode, Segments: m.segments,
	}}, nil
}

func confirm(s State, cmd decider.Command, c *outreachv1.ConfirmReminderDelivery) ([]decider.Event, error) {
	m, known := s.messages[c.GetMessageId()]
	switch {
	case !known:
		return nil, ErrUnknownMessage
	case m.stage == queued:
		return nil, ErrNotAccepted
	case m.stage == failed:
		return nil, ErrFailed
	case m.stage == delivered:
		return nil, nil
	}
	return []decider.Event{&outreachv1.ReminderDelivered{
		Provenance: cmd.Provenance(), BatchId: c.GetBatchId(), MessageId: c.GetMessageId(),
		ChildId: m.childID, Category: m.category, AdmCode: m.admCode,
	}}, nil
}

func fail(s State, cmd decider.Command, c *outreachv1.FailReminder) ([]decider.Event, error) {
	m, known := s.messages[c.GetMessageId()]
	switch {
	case !known:
		return nil, ErrUnknownMessage
	case m.stage == delivered:
		return nil, ErrDelivered
	case m.stage == failed:
		return nil, nil
	}
	return []decider.Event{&outreachv1.ReminderFailed{
		Provenance: cmd.Provenance(), BatchId: c.GetBatchId(), MessageId: c.GetMessageId(),
		ChildId: m.childID, Category: m.category, AdmCode: m.admCode, Failure: c.GetFailure(),
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *outreachv1.RemindersQueued:
		for _, m := range e.GetMessages() {
			s = s.with(m.GetMessageId(), message{
				childID: m.GetChildId(), category: m.GetCategory(), admCode: m.GetAdmCode(), segments: m.GetSegments(),
			})
		}
	case *outreachv1.ReminderAccepted:
		s = s.reach(e.GetMessageId(), accepted)
	case *outreachv1.ReminderDelivered:
		s = s.reach(e.GetMessageId(), delivered)
	case *outreachv1.ReminderFailed:
		s = s.reach(e.GetMessageId(), failed)
	default:
		return s, false
	}
	return s, true
}

func fork(s State) State {
	s.messages = maps.Clone(s.messages)
	return s
}

func (s State) reach(id string, to stage) State {
	m := s.messages[id]
	m.stage = to
	return s.with(id, m)
}

func (s State) with(id string, m message) State {
	if s.messages == nil {
		s.messages = make(map[string]message)
	}
	s.messages[id] = m
	return s
}
