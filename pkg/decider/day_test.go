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
