// Package institution is one child-welfare institution (儿童福利机构).
//
// Commands: RegisterInstitution, StartClosureRegime. Events: InstitutionRegistered, ClosureRegimeStarted.
//
// Rules: an institution is registered once; a registered institution is closed once, and again is silent.
package institution

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
)

// Aggregate is the institution; its id is institution_id.
var Aggregate = subject.Aggregate{Service: subject.HealthCheck, Name: "institution"}

// ErrRegistered is returned when the institution has been registered before by another command.
var ErrRegistered = decider.Refuse("institution_id", "is registered already")

// ErrNotRegistered is returned when an institution that was never registered is to be closed.
var ErrNotRegistered = decider.Refuse("institution_id", "is not registered")

// State is what decisions about an institution need to know.
type State struct {
	registered, closed bool
}

// Decider decides about one institution.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *healthcheckv1.RegisterInstitution:
		return register(s, cmd, c)
	case *healthcheckv1.StartClosureRegime:
		return startClosure(s, cmd, c)
	default:
		return nil, fmt.Errorf("institution: unexpected command %T", cmd.Body)
	}
}

func register(s State, cmd decider.Command, c *healthcheckv1.RegisterInstitution) ([]decider.Event, error) {
	if s.registered {
		return nil, ErrRegistered
	}
	return []decider.Event{&healthcheckv1.InstitutionRegistered{
		Provenance:    cmd.Provenance(),
		InstitutionId: c.GetInstitutionId(),
		Beds:          c.GetBeds(),
	}}, nil
}

func startClosure(s State, cmd decider.Command, c *healthcheckv1.StartClosureRegime) ([]decider.Event, error) {
	switch {
	case !s.registered:
		return nil, ErrNotRegistered
	case s.closed:
		return nil, nil
	}
	return []decider.Event{&healthcheckv1.ClosureRegimeStarted{
		Provenance:    cmd.Provenance(),
		InstitutionId: c.GetInstitutionId(),
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e.(type) {
	case *healthcheckv1.InstitutionRegistered:
		s.registered = true
	case *healthcheckv1.ClosureRegimeStarted:
		s.closed = true
	default:
		return s, false
	}
	return s, true
}
