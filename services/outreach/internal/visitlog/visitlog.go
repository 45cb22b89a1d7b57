// Package visitlog is the log of the visits one worker made on one day (探访日志). Visits are entries of it.
//
// Commands: RecordVisit, VoidVisit. Events: VisitRecorded, VisitVoided.
//
// Rules:
//   - A visit is recorded once, and names each child once.
//   - A visit that was recorded can be taken back once; again is silent. It cannot be recorded anew under its id.
//   - A void restates what the recording counted for, and names the recording as what it corrects.
package visitlog

import (
	"fmt"
	"maps"
	"strings"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Aggregate is the log of one worker and day; RecordID and VoidID make its id.
var Aggregate = subject.Aggregate{Service: subject.Outreach, Name: "visit"}

// ErrRecorded is returned when the visit has been recorded before by another command, voided since or not.
var ErrRecorded = decider.Refuse("visit_id", "was recorded already")

// ErrUnknown is returned when a visit is to be voided that this worker did not record on this day.
var ErrUnknown = decider.Refuse("visit_id", "was not recorded by this worker on this day")

// RuleRepeated is violated, at children[i].child_id, when a visit names a child twice.
const RuleRepeated = "is in the visit twice"

// State is what decisions about a worker's day need to know.
type State struct {
	visits map[string]visit
}

// visit is what a void has to restate.
type visit struct {
	commandID, worker, creditedOrg, admCode, visitedOn string

	channel  outreachv1.VisitChannel
	outcome  outreachv1.VisitOutcome
	children []child
	voided   bool
}

type child struct {
	id, admCode string
	category    eventv1.PopulationCategory
}

// Decider decides about one worker's day.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve, Fork: fork}

// LogID returns the id of the log of a worker and a day (YYYY-MM-DD), for example w1_20200204.
func LogID(workerID, day string) string {
	return workerID + "_" + strings.ReplaceAll(day, "-", "")
}

// RecordID returns the id of the log that a visit belongs to: of who performed it, on the day it happened.
func RecordID(c *outreachv1.RecordVisit) string {
	return LogID(c.GetProvenance().GetPerformedBy(), dayOf(c))
}

// VoidID returns the id of the log that holds the visit to be voided.
func VoidID(c *outreachv1.VoidVisit) string { return LogID(c.GetWorkerId(), c.GetVisitedOn()) }

func dayOf(c *outreachv1.RecordVisit) string {
	return decider.Day(c.GetProvenance().GetOccurredAt().AsTime())
}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *outreachv1.RecordVisit:
		return record(s, cmd, c)
	case *outreachv1.VoidVisit:
		return void(s, cmd, c)
	default:
		return nil, fmt.Errorf("visit log: unexpected command %T", cmd.Body)
	}
}

func record(s State, cmd decider.Command, c *outreachv1.RecordVisit) ([]decider.Event, error) {
	if _, seen := s.visits[c.GetVisitId()]; seen {
		return nil, ErrRecorded
	}
	named := make(map[string]bool, len(c.GetChildren()))
	children := make([]*outreachv1.ChildVisited, len(c.GetChildren()))
	for i, k := range c.GetChildren() {
		if named[k.GetChildId()] {
			return nil, decider.Refuse(fmt.Sprintf("children[%d].child_id", i), RuleRepeated)
		}
		named[k.GetChildId()] = true
		children[i] = &outreachv1.ChildVisited{
			ChildId:  k.GetChildId(),
			Category: k.GetCategory(),
			AdmCode:  k.GetAdmCode(),
			Note:     cmd.Sealed[fmt.Sprintf("children[%d].note", i)],
		}
	}
	return []decider.Event{&outreachv1.VisitRecorded{
		Provenance: cmd.Provenance(),
		VisitId:    c.GetVisitId(),
		VisitedOn:  dayOf(c),
		Channel:    c.GetChannel(),
		Outcome:    c.GetOutcome(),
		Children:   children,
	}}, nil
}

func void(s State, cmd decider.Command, c *outreachv1.VoidVisit) ([]decider.Event, error) {
	v, seen := s.visits[c.GetVisitId()]
	switch {
	case !seen:
		return nil, ErrUnknown
	case v.voided:
		return nil, nil
	}
	p := cmd.Provenance()
	p.CorrectionOf = decider.EventID(cmd.Aggregate, v.commandID, 0)
	children := make([]*outreachv1.ChildVisited, len(v.children))
	for i, k := range v.children {
		children[i] = &outreachv1.ChildVisited{ChildId: k.id, Category: k.category, AdmCode: k.admCode}
	}
	return []decider.Event{&outreachv1.VisitVoided{
		Provenance:  p,
		VisitId:     c.GetVisitId(),
		VisitedOn:   v.visitedOn,
		Channel:     v.channel,
		Outcome:     v.outcome,
		Children:    children,
		WorkerId:    v.worker,
		CreditedOrg: v.creditedOrg,
		AdmCode:     v.admCode,
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *outreachv1.VisitRecorded:
		return s.with(e.GetVisitId(), visitOf(e)), true
	case *outreachv1.VisitVoided:
		v := s.visits[e.GetVisitId()]
		v.voided = true
		return s.with(e.GetVisitId(), v), true
	default:
		return s, false
	}
}

func fork(s State) State {
	s.visits = maps.Clone(s.visits)
	return s
}

func (s State) with(id string, v visit) State {
	if s.visits == nil {
		s.visits = make(map[string]visit)
	}
	s.visits[id] = v
	return s
}

func visitOf(e *outreachv1.VisitRecorded) visit {
	p := e.GetProvenance()
	v := visit{
		commandID: p.GetCommandId(), worker: p.GetPerformedBy(), creditedOrg: p.GetCreditedOrg(), admCode: p.GetAdmCode(),
		visitedOn: e.GetVisitedOn(), channel: e.GetChannel(), outcome: e.GetOutcome(),
	}
	for _, k := range e.GetChildren() {
		v.children = append(v.children, child{id: k.GetChildId(), admCode: k.GetAdmCode(), category: k.GetCategory()})
	}
	return v
}
