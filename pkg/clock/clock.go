// Package clock is the port through which services learn the time, so that history can be replayed without waiting for it.
package clock

import (
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

// Replay is a clock that stands still until it is moved; its zero value stands at the Unix epoch. It never goes back.
type Replay struct{ nanos atomic.Int64 }

// Now returns the time the clock was last moved to, in UTC.
func (r *Replay) Now() time.Time { return time.Unix(0, r.nanos.Load()).UTC() }

// Advance moves the clock to t; a time before the present one is ignored.
func (r *Replay) Advance(t time.Time) {
	for next := t.UnixNano(); ; {
		now := r.nanos.Load()
		if next <= now || r.nanos.CompareAndSwap(now, next) {
			return
		}
	}
}
