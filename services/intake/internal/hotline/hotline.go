// Package hotline is one contact at the 24-hour hotline (热线来电).
//
// Commands: ReceiveHotlineContact. Events: HotlineContactReceived. Rule: a contact is received once.
package hotline

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the contact; its id is contact_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "contact"}

// ErrReceived is returned when the contact has been received before by another command.
var ErrReceived = decider.Refuse("contact_id", "was received already")

// State is what decisions about a contact need to know.
type State struct {
	received bool
}

// Decider decides about one contact.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.ReceiveHotlineContact:
		return receive(s, cmd, c)
	default:
		return nil, fmt.Errorf("hotline contact: unexpected command %T", cmd.Body)
	}
}

func receive(s State, cmd decider.Command, c *intakev1.ReceiveHotlineContact) ([]decider.Event, error) {
	if s.received {
		return nil, ErrReceived
	}
	return []decider.Event{&intakev1.HotlineContactReceived{
		Provenance:  cmd.Provenance(),
		ContactId:   c.GetContactId(),
		Channel:     c.GetChannel(),
		ContactType: c.GetContactType(),
		ChildId:     c.GetChildId(),
		Details:     cmd.Sealed["details"],
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e.(type) {
	case *intakev1.HotlineContactReceived:
		s.received = true
	default:
		return s, false
	}
	return s, true
}
