// Package child is the entry of one child in the registry (儿童登记).
//
// Commands: RegisterChild. Events: ChildRegistered. Rule: a child is registered once.
package child

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the child; its id is child_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "child"}

// ErrRegistered is returned when the child has been registered before by another command.
var ErrRegistered = decider.Refuse("child_id", "is registered already")

// State is what decisions about a child need to know.
type State struct {
	registered bool
}

// Decider decides about one child.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.RegisterChild:
		return register(s, cmd, c)
	default:
		return nil, fmt.Errorf("child: unexpected command %T", cmd.Body)
	}
}

func register(s State, cmd decider.Command, c *intakev1.RegisterChild) ([]decider.Event, error) {
	if s.registered {
		return nil, ErrRegistered
	}
	return []decider.Event{&intakev1.ChildRegistered{
		Provenance: cmd.Provenance(),
		ChildId:    c.GetChildId(),
		Category:   c.GetCategory(),
		WorkerId:   c.GetWorkerId(),
		Details:    cmd.Sealed["details"],
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e.(type) {
	case *intakev1.ChildRegistered:
		s.registered = true
	default:
		return s, false
	}
	return s, true
}
