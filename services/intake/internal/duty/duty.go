// Package duty is who is on duty at one line of the 24-hour hotline (值班), and when nobody is.
//
// Commands: StartShift, EndShift. Events: ShiftStarted, ShiftEnded, CoverGapBegan, CoverGapEnded.
//
// Rules:
//   - A shift starts once and ends once, not before its start. Nobody is on duty twice at one line.
//   - Shifts are entered in any order: one that is entered late may have been before others.
//   - A line is uncovered while nobody is on duty, not before its first shift. The shift that ends last begins a gap, from the latest end
//     of all on; the shift that starts next ends it. Gaps are numbered from 1.
package duty

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the line; its id is line_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "line"}

var (
	// ErrNoShift is returned when a line is asked for at which there was never a shift.
	ErrNoShift = decider.Refuse("line_id", "never had a shift")
	// ErrStarted is returned when the shift has been started before by another command.
	ErrStarted = decider.Refuse("shift_id", "was started already")
	// ErrOnDuty is returned when somebody would be on duty twice at one line.
	ErrOnDuty = decider.Refuse("operator_id", "is on duty at this line already")
	// ErrNotStarted is returned when a shift would end that was never started.
	ErrNotStarted = decider.Refuse("shift_id", "was never started")
	// ErrEndBeforeStart is returned when a shift would end before it started.
	ErrEndBeforeStart = decider.Refuse("provenance.occurred_at", "must not lie before the start of the shift")
)

// shift is one that goes on.
type shift struct {
	id, operator, org string
	startedAt         time.Time
}

// State is what decisions and queries about a line need to know.
type State struct {
	onDuty  []shift         // longest first
	ended   map[string]bool // the shifts that are over
	lastEnd time.Time       // the latest end of a shift
	gaps    uint32          // how many there were, the open one included
	// uncoveredSince is when the open gap began; nil while there is none.
	uncoveredSince *timestamppb.Timestamp
}

// View returns the line as the query answers it; revision is the sequence of its last event.
func (s State) View(id string, revision uint64) *intakev1.Line {
	line := &intakev1.Line{LineId: id, Revision: revision, UncoveredSince: s.uncoveredSince}
	for _, d := range s.onDuty {
		line.OnDuty = append(line.OnDuty, &intakev1.OnDuty{ShiftId: d.id, OperatorId: d.operator, OrgId: d.org, StartedAt: timestamppb.New(d.startedAt)})
	}
	return line
}

// Decider decides about one line.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve, Fork: fork}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.StartShift:
		return start(s, cmd, c)
	case *intakev1.EndShift:
		return end(s, cmd, c)
	default:
		return nil, fmt.Errorf("line: unexpected command %T", cmd.Body)
	}
}

func start(s State, cmd decider.Command, c *intakev1.StartShift) ([]decider.Event, error) {
	operator := c.GetOperatorId()
	if operator == "" {
		operator = c.GetProvenance().GetPerformedBy()
	}
	switch {
	case s.ended[c.GetShiftId()] || s.index(c.GetShiftId()) >= 0:
		return nil, ErrStarted
	case slices.ContainsFunc(s.onDuty, func(d shift) bool { return d.operator == operator }):
		return nil, ErrOnDuty
	}
	out := []decider.Event{&intakev1.ShiftStarted{
		Provenance: cmd.Provenance(), LineId: c.GetLineId(), ShiftId: c.GetShiftId(), OperatorId: operator,
	}}
	if s.uncoveredSince == nil {
		return out, nil
	}
	until := c.GetProvenance().GetOccurredAt()
	if until.AsTime().Before(s.uncoveredSince.AsTime()) {
		until = s.uncoveredSince
	}
	return append(out, &intakev1.CoverGapEnded{
		Provenance: cmd.Provenance(), LineId: c.GetLineId(), GapNumber: s.gaps, BeganAt: s.uncoveredSince, EndedAt: until,
	}), nil
}

func end(s State, cmd decider.Command, c *intakev1.EndShift) ([]decider.Event, error) {
	i, at := s.index(c.GetShiftId()), c.GetProvenance().GetOccurredAt()
	switch {
	case s.ended[c.GetShiftId()]:
		return nil, nil
	case i < 0:
		return nil, ErrNotStarted
	case at.AsTime().Before(s.onDuty[i].startedAt):
		return nil, ErrEndBeforeStart
	}
	out := []decider.Event{&intakev1.ShiftEnded{
		Provenance: cmd.Provenance(), LineId: c.GetLineId(), ShiftId: c.GetShiftId(), OperatorId: s.onDuty[i].operator,
		StartedAt: timestamppb.New(s.onDuty[i].startedAt),
	}}
	if len(s.onDuty) > 1 {
		return out, nil
	}
	if at.AsTime().Before(s.lastEnd) {
		at = timestamppb.New(s.lastEnd)
	}
	return append(out, &intakev1.CoverGapBegan{Provenance: cmd.Provenance(), LineId: c.GetLineId(), GapNumber: s.gaps + 1, BeganAt: at}), nil
}

// index returns where a shift that goes on stands among those on duty, -1 if it is not one of them.
func (s State) index(shiftID string) int {
	return slices.IndexFunc(s.onDuty, func(d shift) bool { return d.id == shiftID })
}

func evolve(s State, e decider.Event) (State, bool) {
	at := e.GetProvenance().GetOccurredAt()
	switch e := e.(type) {
	case *intakev1.ShiftStarted:
		s.onDuty = append(slices.Clone(s.onDuty), shift{
			id: e.GetShiftId(), operator: e.GetOperatorId(), org: e.GetProvenance().GetCreditedOrg(), startedAt: at.AsTime(),
		})
		slices.SortStableFunc(s.onDuty, func(a, b shift) int { return a.startedAt.Compare(b.startedAt) })
	case *intakev1.ShiftEnded:
		s.onDuty = slices.DeleteFunc(slices.Clone(s.onDuty), func(d shift) bool { return d.id == e.GetShiftId() })
		if s.ended == nil {
			s.ended = make(map[string]bool)
		}
		s.ended[e.GetShiftId()] = true
		if at.AsTime().After(s.lastEnd) {
			s.lastEnd = at.AsTime()
		}
	case *intakev1.CoverGapBegan:
		s.gaps, s.uncoveredSince = e.GetGapNumber(), e.GetBeganAt()
	case *intakev1.CoverGapEnded:
		s.uncoveredSince = nil
	default:
		return s, false
	}
	return s, true
}

func fork(s State) State {
	s.ended = maps.Clone(s.ended)
	return s
}
