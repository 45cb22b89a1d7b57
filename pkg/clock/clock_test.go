package clock_test

import (
	"testing"
	"time"

	"tongan.dev/pkg/clock"
)

func TestReplayNeverGoesBack(t *testing.T) {
	t.Parallel()
	var r clock.Replay
	noon := time.Date(2020, 2, 1, 4, 0, 0, 0, time.UTC)
	r.Advance(noon)
	r.Advance(noon.Add(-time.Hour))
	if got := r.Now(); !got.Equal(noon) {
		t.Fatalf("clock stands at %s, want %s", got, noon)
	}
	r.Advance(noon.Add(time.Second))
	if got := r.Now(); !got.Equal(noon.Add(time.Second)) {
		t.Fatalf("clock stands at %s after it was moved by a second", got)
	}
}

func TestWallIsUTC(t *testing.T) {
	t.Parallel()
	if loc := (clock.Wall{}).Now().Location(); loc != time.UTC {
		t.Fatalf("wall clock is in %s", loc)
	}
}
