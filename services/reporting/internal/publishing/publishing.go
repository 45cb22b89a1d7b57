// Package publishing decides on bulletins: each is issued once, with the figures it published and how far into the streams they look.
// Command: IssueBulletin. Event: FigurePublished.
package publishing

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

// Aggregate is the bulletin; its id is the bulletin_id.
var Aggregate = subject.Aggregate{Service: subject.Reporting, Name: "bulletin"}

// ErrIssued is returned when a bulletin is issued that was issued before.
var ErrIssued = decider.Refuse("bulletin_id", "was issued already")

// State is a bulletin as its events make it.
type State struct{ issued bool }

// Decider decides with the figures that the bulletin is to publish.
func Decider(figures *reportingv1.Figures) decider.Decider[State] {
	return decider.Decider[State]{
		Decide: func(s State, c decider.Command) ([]decider.Event, error) { return decide(s, c, figures) },
		Evolve: evolve,
	}
}

func decide(s State, c decider.Command, figures *reportingv1.Figures) ([]decider.Event, error) {
	body, ok := c.Body.(*reportingv1.IssueBulletin)
	if !ok {
		return nil, fmt.Errorf("unexpected command %T", c.Body)
	}
	if s.issued {
		return nil, ErrIssued
	}
	return []decider.Event{&reportingv1.FigurePublished{
		Provenance: c.Provenance(),
		BulletinId: body.GetBulletinId(),
		BaselineOn: figures.GetBaselineOn(),
		AsOf:       figures.GetAsOf(),
		Grouping:   figures.GetGrouping(),
		Cuts:       figures.GetCuts(),
		Figures:    figures.GetFigures(),
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	if _, ok := e.(*reportingv1.FigurePublished); !ok {
		return s, false
	}
	s.issued = true
	return s, true
}
