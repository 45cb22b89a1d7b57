// Package deadline keeps the deadlines of one case or contact (时限): which are open, which of those were missed, and what they are called.
//
// Rules:
//   - A deadline is set once, under a name that says its kind and its number within the case or contact.
//   - It is open until it is met, in time or late, or withdrawn.
//   - That it was missed is said at most once, while it is open, and not before it has passed. One that had passed already when its cause was
//     recorded is not armed: nobody could have kept it, so nothing is said.
package deadline

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// ErrNotDue is returned when a deadline is said to have passed that has not: the clock that said so is ahead, or this one behind.
var ErrNotDue = errors.New("the deadline has not passed yet")

// Set is the deadlines of one case or contact. The zero value has none.
type Set struct {
	open   []*intakev1.Deadline
	missed []string
	number map[intakev1.DeadlineKind]int
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
	var out []*intakev1.Deadline
	for _, d := range s.open {
		if len(kinds) == 0 || slices.Contains(kinds, d.GetKind()) {
			out = append(out, d)
		}
	}
	return out
}

// Missed returns the names of the open deadlines that were missed.
func (s Set) Missed() []string { return s.missed }

// Pass returns the deadline of this name if it is to be said now that it was missed, nil if there is nothing to say, and ErrNotDue before
// it has passed.
func (s Set) Pass(name string, now time.Time) (*intakev1.Deadline, error) {
	for _, d := range s.open {
		switch {
		case d.GetDeadlineId() != name:
		case !d.GetArmed() || slices.Contains(s.missed, name):
			return nil, nil
		case now.Before(d.GetDueAt().AsTime()):
			return nil, ErrNotDue
		default:
			return d, nil
		}
	}
	return nil, nil
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
	if m, ok := e.(interface{ GetDeadlinesSet() []*intakev1.Deadline }); ok {
		s = s.with(m.GetDeadlinesSet())
	}
	return s
}

func (s Set) with(more []*intakev1.Deadline) Set {
	s.open = append(slices.Clone(s.open), more...)
	number := make(map[intakev1.DeadlineKind]int, len(s.number))
	for kind, n := range s.number {
		number[kind] = n
	}
	for _, d := range more {
		number[d.GetKind()]++
	}
	s.number = number
	return s
}

func (s Set) without(gone []*intakev1.Deadline) Set {
	for _, d := range gone {
		s.open = slices.DeleteFunc(slices.Clone(s.open), func(o *intakev1.Deadline) bool { return o.GetDeadlineId() == d.GetDeadlineId() })
		s.missed = slices.DeleteFunc(slices.Clone(s.missed), func(name string) bool { return name == d.GetDeadlineId() })
	}
	return s
}
