// Package eventlog keeps the events of aggregates in JetStream: it appends with an expectation, many appends in one batch, loads, and finds
// out what became of an append whose outcome is unclear. The stream is the only truth; nothing is stored beside it.
package eventlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
)

// MaxEvents is how many events one command may lead to: the server's bound for an atomic batch.
const MaxEvents = 1000

// ReadQueue is the queue length (nats.SyncQueueLen) for connections that load aggregates. A load makes a queue and throws it away; the
// library's own 65536 places cost half a megabyte each time.
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
	sign   func(*nats.Msg) error
	// genuine reports whether a stored message was signed; nil means that none is.
	genuine func(subj string, h nats.Header, payload []byte) bool
}

var _ decider.Keeper = (*Log)(nil)

// New returns the log of one kind of aggregate. Damaged messages are reported to log.
func New(js jetstream.JetStream, agg subject.Aggregate, log *slog.Logger) *Log {
	return &Log{js: js, agg: agg, log: log, writer: writerOf(js, agg.Stream()), states: newStates(maxStates)}
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

// Lock waits until nobody in this process has an append to the aggregate under way. A message whose expectation is met twice
// inside one atomic batch would be stored twice, so one append at a time is the rule.
func (l *Log) Lock(ctx context.Context, id string) (func(), error) {
	return l.writer.locks.lock(ctx, l.Key(id))
}

// Load returns the events of an aggregate in order, as confirmed with the stream's leader, and the sequence of its last message.
// A damaged message is skipped and reported; its sequence counts. A sound one of an unknown type is decider.ErrUnknownEvent.
func (l *Log) Load(ctx context.Context, id string) ([]decider.Recorded, uint64, error) {
	envelopes, last, err := l.read(ctx, id, 0)
	if err != nil {
		return nil, 0, err
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

// read returns the envelopes of an aggregate after a sequence, and the sequence of the last message as the leader knows it.
func (l *Log) read(ctx context.Context, id string, after uint64) ([]Envelope, uint64, error) {
	last, err := l.Last(ctx, id)
	if err != nil {
		return nil, 0, fmt.Errorf("load %s: %w", l.Key(id), err)
	}
	var out []Envelope
	for next := after + 1; next <= last; {
		msgs, err := jetstreamext.GetBatch(ctx, l.js, l.agg.Stream(), MaxEvents,
			jetstreamext.GetBatchSubject(l.agg.Filter(id)), jetstreamext.GetBatchSeq(next))
		if err != nil {
			return nil, 0, fmt.Errorf("load %s: %w: %w", l.Key(id), ErrUnavailable, err)
		}
		for m, err := range msgs {
			if errors.Is(err, jetstreamext.ErrNoMessages) { // a follower that lags behind the leader
				break
			}
			if err != nil {
				return nil, 0, fmt.Errorf("load %s: %w: %w", l.Key(id), ErrUnavailable, err)
			}
			next = m.Sequence + 1
			if e, ok := l.decode(m); ok {
				out = append(out, e)
			}
		}
		if next <= last {
			if err := pause(ctx, time.Millisecond); err != nil {
				return nil, 0, fmt.Errorf("load %s: %w: %w", l.Key(id), ErrUnavailable, err)
			}
		}
	}
	return out, last, nil
}

func (l *Log) decode(m *jetstream.RawStreamMsg) (Envelope, bool) {
	e, err := Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if l.genuine != nil && !l.genuine(m.Subject, m.Header, m.Data) {
		err = errNotGenuine
	}
	if err != nil && !errors.Is(err, ErrUnknownType) {
		l.log.Error("damaged event skipped", "stream", l.agg.Stream(), "sequence", m.Sequence, "error", err)
		return e, false
	}
	return e, true
}

// Last asks the leader for the sequence of the last message of an aggregate; 0 means there is none.
func (l *Log) Last(ctx context.Context, id string) (uint64, error) {
	return LastSequence(ctx, l.js, l.agg.Stream(), l.agg.Filter(id))
}

// LastSequence asks a stream's leader, not a follower, for the sequence of the last message under a subject filter; 0 means there is
// none.
func LastSequence(ctx context.Context, js jetstream.JetStream, stream, filter string) (uint64, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": filter})
	if err != nil {
		return 0, err
	}
	answer, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, request)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq uint64 `json:"seq"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return 0, fmt.Errorf("last message of %s: %w", stream, err)
	}
	if got.Error != nil && got.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, got.Error)
	}
	return got.Message.Seq, nil
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
