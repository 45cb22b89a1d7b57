package serve

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tongan.dev/pkg/eventlog"
)

// Trouble is what keeps a service from its work, as long as it does: health says it. The zero value is that nothing does.
type Trouble struct {
	mu  sync.Mutex
	now map[string]bool
}

// Set says whether something is wrong, in fixed words, and reports whether that is news.
func (t *Trouble) Set(what string, wrong bool) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now[what] == wrong {
		return false
	}
	if t.now == nil {
		t.now = make(map[string]bool)
	}
	t.now[what] = wrong
	maps.DeleteFunc(t.now, func(_ string, wrong bool) bool { return !wrong })
	return true
}

// What is all that is wrong now; empty if nothing is.
func (t *Trouble) What() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(t.now)), "; ")
}

const (
	// notStored is what a service says when its appends are not stored: the disk of the bus is full or broken, or its stream is full.
	notStored = "the bus does not store"
	// stalledFor is how long that is borne.
	stalledFor = 2 * time.Second
	// watchEvery is how often it is looked.
	watchEvery = 500 * time.Millisecond
)

// watchBus gives the alarm when the bus does not store what the service appends, until ctx ends. Nobody else does: a bus whose disk is full
// answers everything but appends.
func watchBus(ctx context.Context, rt *Runtime) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		since := eventlog.Stalled(rt.JS.Conn())
		switch wrong := since > stalledFor; {
		case !rt.Trouble.Set(notStored, wrong):
		case wrong:
			rt.Log.Error(notStored, "since", since.Round(time.Millisecond))
		default:
			rt.Log.Warn("the bus stores again")
		}
	}
}
