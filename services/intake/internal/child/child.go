// Package child is the entry of one child in the registry (儿童登记).
//
// Commands: RegisterChild. Events: ChildRegistered. Rule: a child is registered once.
package child

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the child; its id is child_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "child"}

// ErrNotRegistered is returned when a child that was never registered is asked for.
var ErrNotRegistered = decider.Refuse("child_id", "is not registered")

// ErrRegistered is returned when the child has been registered before by another command.
var ErrRegistered = decider.Refuse("child_id", "is registered already")

// State is what decisions about a child need to know.
type State struct {
	registered        bool
	category          eventv1.PopulationCategory
	admCode, workerID string
	details           *eventv1.Sealed
}

// View is the child as queries answer it, without personal details.
func (s State) View(id string, revision uint64) *intakev1.Child {
	return &intakev1.Child{ChildId: id, Revision: revision, Category: s.category, AdmCode: s.admCode, WorkerId: s.workerID}
}

// Details are the child's personal details as they were sealed, in the event's field details.
func (s State) Details() *eventv1.Sealed { return s.details }

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
	switch e := e.(type) {
	case *intakev1.ChildRegistered:
		s = State{true, e.GetCategory(), e.GetProvenance().GetAdmCode(), e.GetWorkerId(), e.GetDetails()}
	default:
		return s, false
	}
	return s, true
}
