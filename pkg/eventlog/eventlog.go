// Package eventlog keeps the events of aggregates in JetStream: it appends with an expectation, many appends in one batch, loads, and finds
// out what became of an append whose outcome is unclear. The stream is the only truth; nothing is stored beside it.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
)

// MaxEvents is how many events one command may lead to: the server's bound for an atomic batch.
const MaxEvents = 1000

// ReadQueue is the queue length (nats.SyncQueueLen) for the connections of services. A request with many answers makes a queue and throws it
// away; the library's own 65536 places cost half a megabyte each time.
const ReadQueue = 2 * MaxEvents

var (
	// ErrUnavailable is returned when the bus does not answer or has no room: nothing was stored, try again later.
	ErrUnavailable = errors.New("the bus does not take events now")
	// ErrUnclear is returned when time ran out before it could be found out whether the events were stored. The same command
	// sent again finds out.
	ErrUnclear = errors.New("it is not known whether the events were stored; send the same command again")
)

// errNotGenuine stands for a message of a signed log that is not signed.
var errNotGenuine = errors.New("it is not signed")

// Log stores the events of one kind of aggregate. Its methods may be called from several goroutines. All logs that share a connection and
// a stream share one writer, which keeps appends to the same aggregate apart and sends those to different ones together.
type Log struct {
	js     jetstream.JetStream
	agg    subject.Aggregate
	log    *slog.Logger
	writer *writer
	states *states
	lines  decider.Lines
	// hits and misses tell how often what became of an aggregate was kept when a command came.
	hits, misses atomic.Uint64
	sign         func(*nats.Msg) error
	// genuine reports whether a stored message was signed; nil means that none is.
	genuine func(subj string, h nats.Header, payload []byte) bool
}

var _ decider.Keeper = (*Log)(nil)

// New returns the log of one kind of aggregate. Damaged messages are reported to log.
func New(js jetstream.JetStream, agg subject.Aggregate, log *slog.Logger) *Log {
	c := commonOf(js.Conn())
	l := &Log{js: js, agg: agg, log: log, writer: c.writer(js, agg.Stream()), states: c.states}
	if _, err := js.Conn().Subscribe(agg.Filter("*"), l.hear); err != nil { // a hint only: without it there are more conflicts
		log.Error("what others append is not heard", "stream", agg.Stream(), "error", err)
	}
	return l
}

// Signed has every message signed before it is sent, and those that are not genuine passed over as damaged. It returns the log.
func (l *Log) Signed(sign func(*nats.Msg) error, genuine func(subj string, h nats.Header, payload []byte) bool) *Log {
	l.sign, l.genuine = sign, genuine
	return l
}

// Aggregate returns the kind of aggregate.
func (l *Log) Aggregate() subject.Aggregate { return l.agg }

// Key names one aggregate uniquely over all services.
func (l *Log) Key(id string) string { return l.agg.Key(id) }

// Lines is where commands wait for others of the same aggregate in this process.
func (l *Log) Lines() *decider.Lines { return &l.lines }

// Together reports whether the events of n commands that wait for one aggregate are to be appended as one: a batch costs the server as much as
// several single messages, unless there is one anyhow.
func (l *Log) Together(n int) bool { return l.writer.together(n) }

// Load returns the events of an aggregate in order, as confirmed with the stream's leader, and the sequence of its last message.
// A damaged message is skipped and reported; its sequence counts. A sound one of an unknown type is decider.ErrUnknownEvent.
func (l *Log) Load(ctx context.Context, id string) ([]decider.Recorded, uint64, error) {
	return l.LoadAfter(ctx, id, 0)
}

// LoadAfter is Load of the events after a sequence. Where there are none it is one request.
func (l *Log) LoadAfter(ctx context.Context, id string, after uint64) ([]decider.Recorded, uint64, error) {
	envelopes, last, err := l.read(ctx, id, after)
	if err != nil {
		return nil, 0, fmt.Errorf("load %s: %w", l.Key(id), err)
	}
	events := make([]decider.Recorded, len(envelopes))
	for i, e := range envelopes {
		if e.Event == nil {
			return nil, 0, fmt.Errorf("load %s: %w: %s at sequence %d", l.Key(id), decider.ErrUnknownEvent, e.Type, e.Sequence)
		}
		events[i] = e.Recorded
	}
	return events, last, nil
}

func (l *Log) decode(m *stored) (Envelope, bool) {
	e, err := Decode(m.Subject, m.header, m.Data, m.Seq)
	if l.genuine != nil && !l.genuine(m.Subject, m.header, m.Data) {
		err = errNotGenuine
	}
	if err != nil && !errors.Is(err, ErrUnknownType) {
		l.log.Error("damaged event skipped", "stream", l.agg.Stream(), "sequence", m.Seq, "error", err)
		return e, false
	}
	return e, true
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
