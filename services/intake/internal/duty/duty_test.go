package duty_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/duty"
)

// at is an hour of a day.
func at(hour int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2020, 2, 1, hour, 0, 0, 0, time.UTC))
}

func when(hour int) *eventv1.Provenance {
	return &eventv1.Provenance{OccurredAt: at(hour), PerformedBy: "h1", CreditedOrg: "org-a", AdmCode: "440703"}
}

func start(hour int, shift, operator string) decider.Command {
	return decidertest.Command("2020-02-02T00:00:00Z", "k-"+shift, &intakev1.StartShift{
		Provenance: when(hour), LineId: "ping-an", ShiftId: shift, OperatorId: operator,
	})
}

func end(hour int, shift string) decider.Command {
	return decidertest.Command("2020-02-02T00:00:00Z", "e-"+shift, &intakev1.EndShift{Provenance: when(hour), LineId: "ping-an", ShiftId: shift})
}

func started(hour int, shift, operator string) *intakev1.ShiftStarted {
	return &intakev1.ShiftStarted{Provenance: when(hour), LineId: "ping-an", ShiftId: shift, OperatorId: operator}
}

func ended(from, to int, shift, operator string) *intakev1.ShiftEnded {
	return &intakev1.ShiftEnded{Provenance: when(to), LineId: "ping-an", ShiftId: shift, OperatorId: operator, StartedAt: at(from)}
}

func gapBegan(number uint32, hour int) *intakev1.CoverGapBegan {
	return &intakev1.CoverGapBegan{LineId: "ping-an", GapNumber: number, BeganAt: at(hour)}
}

// gapEnded ends the first gap, from 16 on.
func gapEnded(to int) *intakev1.CoverGapEnded {
	return &intakev1.CoverGapEnded{LineId: "ping-an", GapNumber: 1, BeganAt: at(16), EndedAt: at(to)}
}

// bare are events as a row compares them: without provenance.
func bare(events ...decider.Event) []decider.Event {
	for _, e := range events {
		e.ProtoReflect().Clear(e.ProtoReflect().Descriptor().Fields().ByName("provenance"))
	}
	return events
}

func TestShifts(t *testing.T) {
	t.Parallel()
	decidertest.Run(t, duty.Decider, []decidertest.Row{
		{
			Name: "the first shift ends no gap, and who did it is on duty where nobody is named",
			When: start(8, "s1", ""),
			Then: bare(started(8, "s1", "h1")),
		},
		{
			Name:  "several are on duty at a time",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  start(9, "s2", "h2"),
			Then:  bare(started(9, "s2", "h2")),
		},
		{
			Name:  "a shift starts once",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  start(9, "s1", "h2"),
			Err:   duty.ErrStarted,
		},
		{
			Name:  "a shift that ended does not start again",
			Given: []decider.Event{started(8, "s1", "h1"), ended(8, 16, "s1", "h1"), gapBegan(1, 16)},
			When:  start(17, "s1", "h1"),
			Err:   duty.ErrStarted,
		},
		{
			Name:  "nobody is on duty twice",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  start(9, "s2", "h1"),
			Err:   duty.ErrOnDuty,
		},
		{
			Name:  "a shift that another one follows ends without a gap",
			Given: []decider.Event{started(8, "s1", "h1"), started(15, "s2", "h2")},
			When:  end(16, "s1"),
			Then:  bare(ended(8, 16, "s1", "h1")),
		},
		{
			Name:  "a shift ends once, and again is silent",
			Given: []decider.Event{started(8, "s1", "h1"), ended(8, 16, "s1", "h1"), gapBegan(1, 16)},
			When:  end(17, "s1"),
		},
		{
			Name:  "a shift that never started does not end",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  end(16, "s2"),
			Err:   duty.ErrNotStarted,
		},
		{
			Name:  "a shift does not end before it started",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  end(7, "s1"),
			Err:   duty.ErrEndBeforeStart,
		},
	})
}

func TestCoverGaps(t *testing.T) {
	t.Parallel()
	gone := func(more ...decider.Event) []decider.Event {
		return append([]decider.Event{started(8, "s1", "h1"), ended(8, 16, "s1", "h1"), gapBegan(1, 16)}, more...)
	}
	decidertest.Run(t, duty.Decider, []decidertest.Row{
		{
			Name:  "the end after which nobody is on duty begins a gap",
			Given: []decider.Event{started(8, "s1", "h1")},
			When:  end(16, "s1"),
			Then:  bare(ended(8, 16, "s1", "h1"), gapBegan(1, 16)),
		},
		{
			Name:  "the start that finds nobody on duty ends it",
			Given: gone(),
			When:  start(18, "s2", "h2"),
			Then:  bare(started(18, "s2", "h2"), gapEnded(18)),
		},
		{
			Name:  "gaps are numbered",
			Given: gone(started(18, "s2", "h2"), gapEnded(18)),
			When:  end(20, "s2"),
			Then:  bare(ended(18, 20, "s2", "h2"), gapBegan(2, 20)),
		},
		{
			Name:  "a gap begins at the latest end, though an earlier one is entered last",
			Given: []decider.Event{started(8, "s1", "h1"), started(10, "s2", "h2"), ended(10, 20, "s2", "h2")},
			When:  end(16, "s1"),
			Then:  bare(ended(8, 16, "s1", "h1"), gapBegan(1, 20)),
		},
		{
			Name:  "a shift entered late that began before the gap shows that there was none",
			Given: gone(),
			When:  start(15, "s2", "h2"),
			Then:  bare(started(15, "s2", "h2"), gapEnded(16)),
		},
		{
			Name:  "a whole shift before the gap, entered late, leaves it where it was, under another number",
			Given: gone(started(9, "s2", "h2"), gapEnded(16)),
			When:  end(12, "s2"),
			Then:  bare(ended(9, 12, "s2", "h2"), gapBegan(2, 16)),
		},
	})
}

func TestView(t *testing.T) {
	t.Parallel()
	fold := func(events ...decider.Event) *intakev1.Line {
		var s duty.State
		for _, e := range events {
			s, _ = duty.Decider.Evolve(s, e)
		}
		return s.View("ping-an", 7)
	}
	want := &intakev1.Line{LineId: "ping-an", Revision: 7, OnDuty: []*intakev1.OnDuty{
		{ShiftId: "s2", OperatorId: "h2", OrgId: "org-a", StartedAt: at(8)},
		{ShiftId: "s1", OperatorId: "h1", OrgId: "org-a", StartedAt: at(9)},
	}}
	if got := fold(started(9, "s1", "h1"), started(8, "s2", "h2")); !proto.Equal(got, want) {
		t.Errorf("on duty are %v, want %v", got, want)
	}
	want = &intakev1.Line{LineId: "ping-an", Revision: 7, UncoveredSince: at(16)}
	if got := fold(started(8, "s1", "h1"), ended(8, 16, "s1", "h1"), gapBegan(1, 16)); !proto.Equal(got, want) {
		t.Errorf("uncovered it is %v, want %v", got, want)
	}
}

// A line is uncovered just while nobody is on duty, after its first shift; the gaps are numbered one by one, each from the latest end on.
func TestLineProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		shift := fmt.Sprintf("s%d", rapid.IntRange(1, 8).Draw(t, "shift"))
		if rapid.Bool().Draw(t, "ends") {
			return &intakev1.EndShift{LineId: "ping-an", ShiftId: shift}
		}
		return &intakev1.StartShift{LineId: "ping-an", ShiftId: shift, OperatorId: rapid.SampledFrom([]string{"", "h1", "h2"}).Draw(t, "operator")}
	})
	decidertest.Property(t, duty.Decider, commands, lineHolds,
		&intakev1.ShiftStarted{}, &intakev1.ShiftEnded{}, &intakev1.CoverGapBegan{}, &intakev1.CoverGapEnded{})
}

func lineHolds(events []decider.Event) error {
	onDuty, seen, operators := make(map[string]bool), make(map[string]bool), make(map[string]string)
	var gap *intakev1.CoverGapBegan
	var gaps uint32
	var latest time.Time
	for _, e := range events {
		switch e := e.(type) {
		case *intakev1.ShiftStarted:
			if seen[e.GetShiftId()] || operators[e.GetOperatorId()] != "" {
				return fmt.Errorf("%s is on duty twice", e.GetOperatorId())
			}
			onDuty[e.GetShiftId()], seen[e.GetShiftId()], operators[e.GetOperatorId()] = true, true, e.GetShiftId()
		case *intakev1.ShiftEnded:
			if operators[e.GetOperatorId()] != e.GetShiftId() || e.GetProvenance().GetOccurredAt().AsTime().Before(e.GetStartedAt().AsTime()) {
				return fmt.Errorf("shift %s ends", e.GetShiftId())
			}
			delete(onDuty, e.GetShiftId())
			delete(operators, e.GetOperatorId())
			if at := e.GetProvenance().GetOccurredAt().AsTime(); at.After(latest) {
				latest = at
			}
		case *intakev1.CoverGapBegan:
			if gaps++; gap != nil || e.GetGapNumber() != gaps || !e.GetBeganAt().AsTime().Equal(latest) {
				return fmt.Errorf("gap %d begins at %v", e.GetGapNumber(), e.GetBeganAt().AsTime())
			}
			gap = e
		case *intakev1.CoverGapEnded:
			if gap == nil || e.GetGapNumber() != gaps || !proto.Equal(e.GetBeganAt(), gap.GetBeganAt()) || e.GetEndedAt().AsTime().Before(latest) {
				return fmt.Errorf("gap %d ends at %v", e.GetGapNumber(), e.GetEndedAt().AsTime())
			}
			gap = nil
		}
	}
	if uncovered := len(seen) > 0 && len(onDuty) == 0; uncovered != (gap != nil) {
		return fmt.Errorf("%d are on duty, and a gap is open: %t", len(onDuty), gap != nil)
	}
	return nil
}
