package decider_test

import (
	"testing"
	"time"

	"tongan.dev/pkg/decider"
)

func TestDayChangesAtMidnightInShanghai(t *testing.T) {
	t.Parallel()
	midnight := time.Date(2020, 2, 4, 16, 0, 0, 0, time.UTC)
	if got := decider.Day(midnight.Add(-time.Nanosecond)); got != "2020-02-04" {
		t.Errorf("just before midnight it is %s", got)
	}
	if got := decider.Day(midnight); got != "2020-02-05" {
		t.Errorf("at midnight it is %s", got)
	}
}

func TestMidnightIsTheEndOfTheDay(t *testing.T) {
	t.Parallel()
	end := time.Date(2020, 2, 1, 16, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{end.Add(-24 * time.Hour), end.Add(-time.Nanosecond)} {
		if got := decider.Midnight(at); !got.Equal(end) {
			t.Errorf("the day of %s ends at %s, want %s", at, got, end)
		}
	}
	if got := decider.Midnight(end); !got.Equal(end.Add(24 * time.Hour)) {
		t.Errorf("midnight is of the day before: %s", got)
	}
}

func TestMonthsAreThoseOfShanghai(t *testing.T) {
	t.Parallel()
	first := time.Date(2020, 11, 30, 17, 0, 0, 0, time.UTC) // 1 December there
	if got := decider.Day(decider.AddMonths(first, 3)); got != "2021-03-01" {
		t.Errorf("three months after 1 December it is %s", got)
	}
}
