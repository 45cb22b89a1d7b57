// Package timer tells a service when a time has come: by the wall clock with schedules that the bus keeps, by a replay clock when it is
// moved. A timer may go off more than once, and a little late; what it means is decided where it arrives.
package timer

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// kept is how long the bus keeps a timer that went off for a service that is away.
const kept = 30 * 24 * time.Hour

// Fire is told that a timer's time has come, and the time by the service's clock. An error means: try again later.
type Fire func(ctx context.Context, t subject.Timer, now time.Time) error

// Timers sets the timers of one service. Its methods may be called from several goroutines.
type Timers struct {
	js      jetstream.JetStream
	clock   clock.Clock
	service string
	fire    Fire
	log     *slog.Logger

	mu  sync.Mutex
	due map[subject.Timer]time.Time // by a replay clock only; guarded by mu
}

// New returns the timers of a service. Those of a replay clock are known to this process only.
func New(js jetstream.JetStream, ck clock.Clock, service string, log *slog.Logger, fire Fire) *Timers {
	return &Timers{js: js, clock: ck, service: service, fire: fire, log: log, due: make(map[subject.Timer]time.Time)}
}

// Set has the timer go off at a time, in place of an earlier time if one was set.
func (t *Timers) Set(ctx context.Context, timer subject.Timer, at time.Time) error {
	if _, replayed := t.clock.(*clock.Replay); replayed {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.due[timer] = at
		return nil
	}
	m := nats.NewMsg(timer.Set())
	m.Header.Set(jetstream.ScheduleHeader, "@at "+at.UTC().Format(time.RFC3339Nano)) // the library's own option cuts off the fraction: up to a second too soon
	_, err := eventlog.Publish(ctx, t.js, m, jetstream.WithScheduleTarget(timer.Due()), jetstream.WithScheduleTTL(kept))
	if err != nil {
		return fmt.Errorf("set timer %s of %s: %w: %w", timer.Name, timer.Key(timer.ID), eventlog.ErrUnavailable, err)
	}
	return nil
}

// Run has timers go off until ctx ends, and returns its error. Durable is the consumer's name, <service>-<purpose>.
func (t *Timers) Run(ctx context.Context, durable string) error {
	if replay, is := t.clock.(*clock.Replay); is {
		replay.OnTick(t.tick)
		<-ctx.Done()
		return ctx.Err()
	}
	return consume.Messages(ctx, t.js, consume.Config{
		Stream: subject.StreamTimer, Durable: durable, Filters: []string{subject.AllTimersDue(t.service)}, Log: t.log,
		Insists: true,            // what was to be noticed must not be lost because the bus was away
		AckWait: 5 * time.Second, // a copy that was killed must not keep a deadline waiting
		AtOnce:  16,
	}, func(ctx context.Context, m jetstream.Msg, _ uint64) error {
		timer, err := subject.ParseDue(m.Subject())
		if err != nil {
			return &consume.Unreadable{Err: fmt.Errorf("%w: %w", eventlog.ErrDecode, err)}
		}
		return t.fire(ctx, timer, t.clock.Now())
	})
}

// tick has every timer that is due by a time go off at its own time, in order.
func (t *Timers) tick(ctx context.Context, to time.Time) error {
	for {
		timer, at, found := t.next(to)
		if !found {
			return nil
		}
		if err := t.fire(ctx, timer, at); err != nil {
			return fmt.Errorf("timer %s of %s: %w", timer.Name, timer.Key(timer.ID), err)
		}
		t.mu.Lock()
		if t.due[timer].Equal(at) {
			delete(t.due, timer)
		}
		t.mu.Unlock()
	}
}

// next returns the timer that goes off first, of several at the same time the first by name.
func (t *Timers) next(to time.Time) (first subject.Timer, at time.Time, found bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var due []subject.Timer
	for timer, when := range t.due {
		if !when.After(to) {
			due = append(due, timer)
		}
	}
	if len(due) == 0 {
		return subject.Timer{}, time.Time{}, false
	}
	first = slices.MinFunc(due, func(a, b subject.Timer) int {
		if c := t.due[a].Compare(t.due[b]); c != 0 {
			return c
		}
		return strings.Compare(a.Set(), b.Set())
	})
	return first, t.due[first], true
}
