// Package clock is the port through which services learn the time, so that history can be replayed without waiting for it.
package clock

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Clock tells the time. Implementations may be used from several goroutines.
type Clock interface {
	// Now returns the time in UTC.
	Now() time.Time
}

// Wall is the clock of the machine.
type Wall struct{}

// Now returns the machine's time in UTC.
func (Wall) Now() time.Time { return time.Now().UTC() }

// Replay is a clock that stands still until it is moved; its zero value stands at the Unix epoch. It never goes back. What is to happen at
// a time happens when Tick moves it there; whoever ticks first waits until all that came before is answered and reacted to.
type Replay struct {
	nanos atomic.Int64
	mu    sync.Mutex
	hooks []func(ctx context.Context, to time.Time) error // guarded by mu
}

// OnTick has f called by every Tick, before the clock stands at the new time.
func (r *Replay) OnTick(f func(ctx context.Context, to time.Time) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = append(r.hooks, f)
}

// Tick moves the clock to t, after everything that is due by then has happened.
func (r *Replay) Tick(ctx context.Context, t time.Time) error {
	r.mu.Lock()
	hooks := slices.Clone(r.hooks)
	r.mu.Unlock()
	for _, f := range hooks {
		if err := f(ctx, t); err != nil {
			return fmt.Errorf("tick to %s: %w", t.Format(time.RFC3339), err)
		}
	}
	r.Advance(t)
	return nil
}

// Now returns the time the clock was last moved to, in UTC.
func (r *Replay) Now() time.Time { return time.Unix(0, r.nanos.Load()).UTC() }

// Advance moves the clock to t without anything happening; a time before the present one is ignored.
func (r *Replay) Advance(t time.Time) {
	for next := t.UnixNano(); ; {
		now := r.nanos.Load()
		if next <= now || r.nanos.CompareAndSwap(now, next) {
			return
		}
	}
}
