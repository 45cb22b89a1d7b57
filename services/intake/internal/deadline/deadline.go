// Package deadline keeps the deadlines of one case or contact (时限): which are open, which of those were missed, and what they are called.
//
// Rules:
//   - A deadline is set once, under a name that says its kind and its number within the case or contact.
//   - It is open until it is met, in time or late, or withdrawn.
//   - That it was missed is said at most once, while it is open, and not before it has passed. One that had passed already when its cause was
//     recorded is not armed: nobody could have kept it, so nothing is said.
package deadline

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// ErrNotDue is returned when a deadline is said to have passed that has not: the clock that said so is ahead, or this one behind.
var ErrNotDue = decider.Refuse("deadline_id", "has not passed yet")

// Set is the deadlines of one case or contact. The zero value has none.
type Set struct {
	open   []entry
	missed []string
	number map[intakev1.DeadlineKind]int
}

type entry struct {
	*intakev1.Deadline
	since time.Time // when what set it happened
}

// Next returns the next deadline of a kind, due at a time, for an event recorded now.
func (s Set) Next(kind intakev1.DeadlineKind, due, now time.Time) *intakev1.Deadline {
	name := strings.ToLower(strings.TrimPrefix(kind.String(), "DEADLINE_KIND_"))
	return &intakev1.Deadline{
		DeadlineId: strings.ReplaceAll(name, "_", "-") + "-" + strconv.Itoa(s.number[kind]+1),
		Kind:       kind, DueAt: timestamppb.New(due), Armed: due.After(now),
	}
}

// Open returns the open deadlines of these kinds, of all kinds if none is named, missed ones included.
func (s Set) Open(kinds ...intakev1.DeadlineKind) []*intakev1.Deadline {
	return s.list(func(e entry) bool { return len(kinds) == 0 || slices.Contains(kinds, e.GetKind()) })
}

// OpenSince returns the open deadlines of a kind that something which happened at a time can meet: those set by what happened by then.
func (s Set) OpenSince(kind intakev1.DeadlineKind, at time.Time) []*intakev1.Deadline {
	return s.list(func(e entry) bool { return e.GetKind() == kind && !e.since.After(at) })
}

// Waiting returns the open deadlines of a kind that were not missed.
func (s Set) Waiting(kind intakev1.DeadlineKind) []*intakev1.Deadline {
	return s.list(func(e entry) bool { return e.GetKind() == kind && !slices.Contains(s.missed, e.GetDeadlineId()) })
}

func (s Set) list(wanted func(entry) bool) (out []*intakev1.Deadline) {
	for _, e := range s.open {
		if wanted(e) {
			out = append(out, e.Deadline)
		}
	}
	return out
}

// Missed returns the names of the open deadlines that were missed.
func (s Set) Missed() []string { return s.missed }

// Pass returns the deadline of this name if it is to be said now that it was missed, nil if there is nothing to say, and ErrNotDue before
// it has passed.
func (s Set) Pass(name string, now time.Time) (*intakev1.Deadline, error) {
	i := slices.IndexFunc(s.open, func(e entry) bool { return e.GetDeadlineId() == name })
	switch {
	case i < 0 || !s.open[i].GetArmed() || slices.Contains(s.missed, name):
		return nil, nil
	case now.Before(s.open[i].GetDueAt().AsTime()):
		return nil, ErrNotDue
	default:
		return s.open[i].Deadline, nil
	}
}

// MissedBy returns the provenance of the event that says that a deadline was missed: it happened when the deadline passed.
func MissedBy(cmd decider.Command, d *intakev1.Deadline) *eventv1.Provenance {
	p := cmd.Provenance()
	p.OccurredAt = d.GetDueAt()
	return p
}

// Evolve returns the deadlines after an event.
func (s Set) Evolve(e decider.Event) Set {
	if m, ok := e.(*intakev1.DeadlineMissed); ok {
		s.missed = append(slices.Clone(s.missed), m.GetDeadline().GetDeadlineId())
	}
	if m, ok := e.(interface{ GetDeadlinesMet() []*intakev1.Deadline }); ok {
		s = s.without(m.GetDeadlinesMet())
	}
	if m, ok := e.(interface{ GetDeadlinesWithdrawn() []*intakev1.Deadline }); ok {
		s = s.without(m.GetDeadlinesWithdrawn())
	}
	if m, ok := e.(interface{ GetDeadlinesSet() []*intakev1.Deadline }); ok && len(m.GetDeadlinesSet()) > 0 {
		s.open, s.number = slices.Clone(s.open), maps.Clone(s.number)
		if s.number == nil {
			s.number = make(map[intakev1.DeadlineKind]int)
		}
		for _, d := range m.GetDeadlinesSet() {
			s.open = append(s.open, entry{d, e.GetProvenance().GetOccurredAt().AsTime()})
			s.number[d.GetKind()]++
		}
	}
	return s
}

func (s Set) without(gone []*intakev1.Deadline) Set {
	for _, d := range gone {
		s.open = slices.DeleteFunc(slices.Clone(s.open), func(e entry) bool { return e.GetDeadlineId() == d.GetDeadlineId() })
		s.missed = slices.DeleteFunc(slices.Clone(s.missed), func(name string) bool { return name == d.GetDeadlineId() })
	}
	return s
}
