package timer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/timer"
)

const durable = "intake-timers"

var cases = subject.Aggregate{Service: subject.Intake, Name: "case"}

func named(id, name string) subject.Timer { return subject.Timer{Aggregate: cases, ID: id, Name: name} }

// alarms notes what went off and when, and fails as often as it is told to.
type alarms struct {
	mu    sync.Mutex
	off   []string
	times map[string]time.Time
	fails int
}

func (a *alarms) fire(_ context.Context, t subject.Timer, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fails > 0 {
		a.fails--
		return errors.New("not now")
	}
	a.off = append(a.off, t.ID+" "+t.Name+" "+now.UTC().Format(time.TimeOnly))
	if a.times == nil {
		a.times = make(map[string]time.Time)
	}
	a.times[t.ID] = now
	return nil
}

func (a *alarms) read() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.off...)
}

// run starts the timers of a service; end stops them.
func run(t *testing.T, js jetstream.JetStream, ck clock.Clock, a *alarms) (timers *timer.Timers, end func()) {
	t.Helper()
	timers = timer.New(js, ck, subject.Intake, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), a.fire)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = timers.Run(ctx, durable) }()
	end = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(end)
	return timers, end
}

func set(t *testing.T, timers *timer.Timers, timer subject.Timer, at time.Time) {
	t.Helper()
	if err := timers.Set(t.Context(), timer, at); err != nil {
		t.Fatal(err)
	}
}

func TestATimerGoesOffAtItsTime(t *testing.T) {
	t.Parallel()
	a := &alarms{}
	timers, _ := run(t, natstest.Bus(t), clock.Wall{}, a)
	due := time.Now().Add(time.Second)
	set(t, timers, named("c1", "first-contact-1"), due)
	natstest.Eventually(t, 20*time.Second, "the timer goes off", func() bool { return len(a.read()) == 1 })
	if at := a.times["c1"]; at.Before(due) {
		t.Errorf("it went off %s early", due.Sub(at))
	}
}

func TestATimerSetAgainGoesOffOnceAtTheLaterTime(t *testing.T) {
	t.Parallel()
	a := &alarms{}
	timers, _ := run(t, natstest.Bus(t), clock.Wall{}, a)
	due := time.Now().Add(2 * time.Second)
	set(t, timers, named("c1", "review-1"), time.Now().Add(500*time.Millisecond))
	set(t, timers, named("c1", "review-1"), due)
	set(t, timers, named("c2", "review-1"), due.Add(time.Second))
	natstest.Eventually(t, 20*time.Second, "both timers go off", func() bool { return len(a.read()) == 2 })
	if at := a.times["c1"]; at.Before(due) {
		t.Errorf("it went off at the time it was set to first, %s early", due.Sub(at))
	}
}

// What comes due while nobody listens, or fails, is not lost.
func TestATimerThatCouldNotBeHandledComesAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	a := &alarms{fails: 3}
	timers, end := run(t, js, clock.Wall{}, &alarms{})
	end()
	set(t, timers, named("c1", "follow-up-1"), time.Now().Add(-time.Hour))
	run(t, js, clock.Wall{}, a)
	natstest.Eventually(t, time.Minute, "the timer goes off in the end", func() bool { return len(a.read()) == 1 })
	if s, err := js.Stream(t.Context(), subject.StreamDead); err != nil || s.CachedInfo().State.Msgs != 0 {
		t.Errorf("a timer was put aside (%v)", err)
	}
}

func TestTimersOfAReplayClockGoOffWhenItIsMoved(t *testing.T) {
	t.Parallel()
	a, replay := &alarms{}, &clock.Replay{}
	timers, _ := run(t, nil, replay, a)
	start := time.Date(2020, 2, 1, 9, 0, 0, 0, time.UTC)
	replay.Advance(start)
	set(t, timers, named("c2", "first-contact-1"), start.Add(time.Hour))
	set(t, timers, named("c1", "first-contact-1"), start.Add(time.Hour))
	set(t, timers, named("c3", "service-1"), start.Add(30*time.Minute))
	set(t, timers, named("c4", "review-1"), start.Add(3*time.Hour))
	set(t, timers, named("c4", "review-1"), start.Add(4*time.Hour))
	tick := func(to time.Time, want ...string) {
		t.Helper()
		if err := replay.Tick(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, a.read()); diff != "" || !replay.Now().Equal(to) {
			t.Errorf("at %s went off: %s", replay.Now(), diff)
		}
	}
	natstest.Eventually(t, 20*time.Second, "the timers follow the clock", func() bool {
		_ = replay.Tick(t.Context(), start.Add(30*time.Minute))
		return len(a.read()) == 1
	})
	tick(start.Add(time.Hour), "c3 service-1 09:30:00", "c1 first-contact-1 10:00:00", "c2 first-contact-1 10:00:00")
	tick(start.Add(210*time.Minute), "c3 service-1 09:30:00", "c1 first-contact-1 10:00:00", "c2 first-contact-1 10:00:00")
	a.fails = 1
	if err := replay.Tick(t.Context(), start.Add(5*time.Hour)); err == nil || replay.Now().After(start.Add(210*time.Minute)) {
		t.Errorf("the clock passes over a timer that fails (%v)", err)
	}
	tick(start.Add(5*time.Hour), "c3 service-1 09:30:00", "c1 first-contact-1 10:00:00", "c2 first-contact-1 10:00:00", "c4 review-1 13:00:00")
}

// Timers are kept by one of the nodes that hold the stream; when that one is lost, another goes on with them.
func TestTimersGoOffAlthoughTheNodeThatKeepsThemIsLost(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	a := &alarms{}
	timers, _ := run(t, js, clock.Wall{}, a)
	due := make(map[string]time.Time)
	for i := range 40 {
		id := fmt.Sprint("c", i)
		due[id] = time.Now().Add(time.Duration(i) * 100 * time.Millisecond)
		set(t, timers, named(id, "first-contact-1"), due[id])
	}
	s, err := js.Stream(t.Context(), subject.StreamTimer)
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range servers {
		if lost.Name() == s.CachedInfo().Cluster.Leader {
			lost.Shutdown()
		}
	}
	natstest.Eventually(t, time.Minute, "all timers go off", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.times) == len(due)
	})
	for id, at := range a.times {
		if at.Before(due[id]) {
			t.Errorf("%s goes off %s before its time", id, due[id].Sub(at))
		}
	}
}
