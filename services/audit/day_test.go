package audit

import (
	"testing"
	"time"
)

// A day of the trail begins and ends at midnight in Asia/Shanghai, eight hours before it does in UTC.
func TestADayIsOneInShanghai(t *testing.T) {
	t.Parallel()
	for on, want := range map[string][2]string{
		"2020-02-04": {"2020-02-03T16:00:00Z", "2020-02-04T16:00:00Z"},
		"2020-02-29": {"2020-02-28T16:00:00Z", "2020-02-29T16:00:00Z"},
		"2020-12-31": {"2020-12-30T16:00:00Z", "2020-12-31T16:00:00Z"},
	} {
		from, until, err := day(on)
		if err != nil || from.UTC().Format(time.RFC3339) != want[0] || until.UTC().Format(time.RFC3339) != want[1] {
			t.Errorf("%s is from %v to %v, %v", on, from, until, err)
		}
	}
	if from, until, err := day(""); err != nil || !from.IsZero() || !until.IsZero() {
		t.Errorf("no day is from %v to %v, %v", from, until, err)
	}
}
