package eventlog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// stall knows since when a bus stores nothing. One whose disk is full or broken does not say so: it answers everything but what it is to store.
type stall struct {
	mu sync.Mutex
	// tries are those under way, by number, each with its begin.
	tries map[int]time.Time
	next  int
	// since is when the first try began that was not stored, and after which none was; zero if there is none.
	since time.Time
}

// begin notes a try; what it returns is told how it ended.
func (s *stall) begin() func(error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries == nil {
		s.tries = make(map[int]time.Time)
	}
	n, at := s.next, time.Now()
	s.next, s.tries[n] = n+1, at
	return func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tries, n)
		switch {
		case err == nil:
			s.since = time.Time{}
		case errors.Is(err, context.Canceled), kindOf(err) == conflicting: // the connection was cut, or the bus looked at it: that says nothing about its disk
		case errors.Is(err, context.DeadlineExceeded) && time.Since(at) < publishTimeout/2: // who waited for it gave up, and too soon to say anything
		case s.since.IsZero():
			s.since = at
		}
	}
}

// age is how long nothing was stored although something was sent.
func (s *stall) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.since
	for _, at := range s.tries {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if first.IsZero() {
		return 0
	}
	return time.Since(first)
}

// Publish stores a message that is no event of a [Log], and lets Stalled know how that ended. Where the connection is cut meanwhile it returns
// context.Canceled: whether it is stored is not known.
func Publish(ctx context.Context, js jetstream.JetStream, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ctx, end := untilCut(ctx, js.Conn())
	defer end()
	ended := commonOf(js.Conn()).stall.begin()
	ack, err := js.PublishMsg(ctx, m, opts...)
	ended(err)
	return ack, err
}

// Stalled returns for how long the bus has stored nothing of what was sent over a connection: since the first that was refused for want of
// room, or not answered, and after which none was stored. It is 0 where all is well, and short while something is under way.
func Stalled(nc *nats.Conn) time.Duration { return commonOf(nc).stall.age() }
