package serve

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/checkup"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// BusFlags say what a bus may lack.
type BusFlags struct {
	Unsynced bool `env:"TONGAN_UNSYNCED" help:"For experiments: start although a server of the bus does not sync every message to disk before it acknowledges it, or its clock is off."`
}

// Ready finds out whether the bus is one to start at, before a service does anything: its servers sync every message and have the time, and
// the streams of the services named are as declared. What is wrong is an error that says what to do; what is bearable is only logged: a lack of
// room, since a service that is started then still takes what makes room, and a server that is away, since the others go on.
func Ready(ctx context.Context, rt *Runtime, services ...string) error {
	var streams []*jetstream.StreamInfo
	var results []checkup.Result
	for _, service := range services {
		stream, info, err := checkup.Stream(ctx, rt.JS, subject.Stream(service), 0)
		if err != nil {
			return err
		}
		if info == nil {
			return stream[0]
		}
		results, streams = append(results, stream...), append(streams, info)
	}
	if err := judge(rt, results, false); err != nil {
		return err
	}
	servers, err := checkup.Bus(ctx, rt.JS.Conn(), time.Now, streams...)
	if err != nil {
		return err
	}
	return judge(rt, servers, rt.Unsynced)
}

// judge returns what is wrong, but for what may be.
func judge(rt *Runtime, results []checkup.Result, permit bool) error {
	var wrong []error
	for _, r := range results {
		switch {
		case r.Wrong == "":
		case permit, r.Bearable:
			rt.Log.Warn("the bus is not as it should be", "about", r.About, "wrong", r.Wrong, "do", r.Do)
		default:
			wrong = append(wrong, r)
		}
	}
	return errors.Join(wrong...)
}

// lookEvery is how old what is known of a stream's room may be.
const lookEvery = time.Second

// lookWithin bounds how long it is looked for.
const lookWithin = 2 * time.Second

// room knows how full a stream is. Who asks does not wait for the bus: one of those who find it old looks again, and what it finds is for
// those after it.
type room struct {
	rt      *Runtime
	stream  string
	looking sync.Mutex
	looked  time.Time // guarded by looking
	percent atomic.Int64
}

// forOrdinary refuses an ordinary command when the stream is nearly full.
func (r *room) forOrdinary() error {
	if r.looking.TryLock() {
		if time.Since(r.looked) > lookEvery {
			r.look()
		}
		r.looking.Unlock()
	}
	if p := r.percent.Load(); p >= eventlog.NearlyFull {
		return fmt.Errorf("stream %s is full to %d %%: %w", r.stream, p, ErrNearlyFull)
	}
	return nil
}

// look asks the bus. Where it does not answer, what was known stays: the append will tell.
func (r *room) look() {
	ctx, cancel := context.WithTimeout(context.Background(), lookWithin)
	defer cancel()
	s, err := r.rt.JS.Stream(ctx, r.stream)
	r.looked = time.Now()
	if err != nil {
		r.rt.Log.Warn("room is not known", "stream", r.stream, "error", err)
		return
	}
	info := s.CachedInfo()
	r.percent.Store(eventlog.Percent(int64(info.State.Bytes), info.Config.MaxBytes))
}
