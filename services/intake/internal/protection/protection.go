// Package protection is one protection case of a child (保护个案).
//
// Commands: OpenCase, FlagCaseSpecial, RecordFollowUp, CloseCase.
// Events: CaseOpened, CaseFlaggedSpecial, FollowUpRecorded, CaseClosed.
//
// Rules:
//   - A case is opened once, and everything else comes after that.
//   - A case becomes special once and for ever, while it is open.
//   - A follow-up is recorded once, while the case is open, for the case's own child.
//   - A case counts as special from the first moment at which it is both special and followed up: counts_special is true on that
//     one event and on no other.
//   - Nobody follows up or closes a case before it was opened (发生时间).
package protection

import (
	"fmt"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the case; its id is case_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "case"}

// ErrOpened is returned when the case has been opened before by another command.
var ErrOpened = decider.Refuse("case_id", "was opened already")

// ErrNotOpened is returned when something is to be done with a case that was never opened.
var ErrNotOpened = decider.Refuse("case_id", "was never opened")

// ErrClosed is returned when a closed case is to be followed up or flagged.
var ErrClosed = decider.Refuse("case_id", "is closed")

// ErrFollowUpRecorded is returned when the follow-up has been recorded before by another command.
var ErrFollowUpRecorded = decider.Refuse("follow_up_id", "was recorded already")

// ErrOtherChild is returned when a follow-up names a child that is not the case's.
var ErrOtherChild = decider.Refuse("child_id", "is not the child of this case")

// ErrBeforeOpening is returned when a follow-up, the flagging or the closing happened before the case was opened.
var ErrBeforeOpening = decider.Refuse("provenance.occurred_at", "must not lie before the opening of the case")

// State is what decisions and queries about a case need to know.
type State struct {
	opened, special, closed bool
	openedAt, flaggedAt     time.Time
	firstFollowedUpAt       time.Time
	childID, admCode        string
	category                eventv1.PopulationCategory
	closeReason             intakev1.CaseCloseReason
	followUps               map[string]bool
}

// View returns the case as the query answers it; revision is the sequence of its last event.
func (s State) View(id string, revision uint64) *intakev1.Case {
	return &intakev1.Case{
		CaseId:      id,
		Revision:    revision,
		ChildId:     s.childID,
		Category:    s.category,
		AdmCode:     s.admCode,
		Special:     s.special,
		FollowUps:   uint32(len(s.followUps)),
		Closed:      s.closed,
		CloseReason: s.closeReason,
	}
}

// Decider decides about one case.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.OpenCase:
		return openCase(s, cmd, c)
	case *intakev1.FlagCaseSpecial:
		return flagSpecial(s, cmd, c)
	case *intakev1.RecordFollowUp:
		return recordFollowUp(s, cmd, c)
	case *intakev1.CloseCase:
		return closeCase(s, cmd, c)
	default:
		return nil, fmt.Errorf("protection case: unexpected command %T", cmd.Body)
	}
}

func openCase(s State, cmd decider.Command, c *intakev1.OpenCase) ([]decider.Event, error) {
	if s.opened {
		return nil, ErrOpened
	}
	return []decider.Event{&intakev1.CaseOpened{
		Provenance: cmd.Provenance(),
		CaseId:     c.GetCaseId(),
		ChildId:    c.GetChildId(),
		Category:   c.GetCategory(),
		GapCause:   c.GetGapCause(),
		ContactId:  c.GetContactId(),
		Note:       cmd.Sealed["note"],
	}}, nil
}

func flagSpecial(s State, cmd decider.Command, c *intakev1.FlagCaseSpecial) ([]decider.Event, error) {
	switch {
	case !s.opened:
		return nil, ErrNotOpened
	case s.special:
		return nil, nil
	case s.closed:
		return nil, ErrClosed
	case occurredAt(c).Before(s.openedAt):
		return nil, ErrBeforeOpening
	}
	e := &intakev1.CaseFlaggedSpecial{
		Provenance: cmd.Provenance(),
		CaseId:     c.GetCaseId(),
		ChildId:    s.childID,
		Category:   s.category,
		AdmCode:    s.admCode,
	}
	if len(s.followUps) > 0 {
		e.CountsSpecial, e.CountsOn = true, decider.Day(later(occurredAt(c), s.firstFollowedUpAt))
	}
	return []decider.Event{e}, nil
}

func recordFollowUp(s State, cmd decider.Command, c *intakev1.RecordFollowUp) ([]decider.Event, error) {
	switch {
	case !s.opened:
		return nil, ErrNotOpened
	case s.closed:
		return nil, ErrClosed
	case s.followUps[c.GetFollowUpId()]:
		return nil, ErrFollowUpRecorded
	case c.GetChildId() != "" && c.GetChildId() != s.childID:
		return nil, ErrOtherChild
	case occurredAt(c).Before(s.openedAt):
		return nil, ErrBeforeOpening
	}
	e := &intakev1.FollowUpRecorded{
		Provenance: cmd.Provenance(),
		CaseId:     c.GetCaseId(),
		FollowUpId: c.GetFollowUpId(),
		Channel:    c.GetChannel(),
		ChildId:    s.childID,
		Category:   s.category,
		AdmCode:    s.admCode,
		Note:       cmd.Sealed["note"],
	}
	if s.special && len(s.followUps) == 0 {
		e.CountsSpecial, e.CountsOn = true, decider.Day(later(occurredAt(c), s.flaggedAt))
	}
	return []decider.Event{e}, nil
}

func closeCase(s State, cmd decider.Command, c *intakev1.CloseCase) ([]decider.Event, error) {
	switch {
	case !s.opened:
		return nil, ErrNotOpened
	case s.closed:
		return nil, nil
	case occurredAt(c).Before(s.openedAt):
		return nil, ErrBeforeOpening
	}
	return []decider.Event{&intakev1.CaseClosed{
		Provenance:  cmd.Provenance(),
		CaseId:      c.GetCaseId(),
		CloseReason: c.GetCloseReason(),
		ChildId:     s.childID,
		Category:    s.category,
		AdmCode:     s.admCode,
		Special:     s.special,
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *intakev1.CaseOpened:
		s.opened, s.openedAt = true, occurredAt(e)
		s.childID, s.category, s.admCode = e.GetChildId(), e.GetCategory(), e.GetProvenance().GetAdmCode()
	case *intakev1.CaseFlaggedSpecial:
		s.special, s.flaggedAt = true, occurredAt(e)
	case *intakev1.FollowUpRecorded:
		if s.followUps == nil {
			s.followUps = make(map[string]bool)
		}
		if len(s.followUps) == 0 || occurredAt(e).Before(s.firstFollowedUpAt) {
			s.firstFollowedUpAt = occurredAt(e)
		}
		s.followUps[e.GetFollowUpId()] = true
	case *intakev1.CaseClosed:
		s.closed, s.closeReason = true, e.GetCloseReason()
	default:
		return s, false
	}
	return s, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// occurredAt returns when a command or an event happened.
func occurredAt(e decider.Event) time.Time { return e.GetProvenance().GetOccurredAt().AsTime() }
