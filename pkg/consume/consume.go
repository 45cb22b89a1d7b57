// Package consume runs the reactions of a service to what streams hold: a durable consumer, one message after the other or several at once,
// each acknowledged last. A message may come more than once; handlers must be idempotent.
package consume

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// maxTries is how often an event is handed to a handler that fails before it is put aside.
const maxTries = 10

// quietTries is how often an event may fail before it is a warning: by then a second has passed.
const quietTries = 5

// heartbeat is how often the server says that nothing came. That a server was lost, and the request for messages with it, shows when two are
// missing; with the library's own 15 s a deadline would be noticed half a minute late.
const heartbeat = 2 * time.Second

// Config says what a reaction reads.
type Config struct {
	// Stream to read, for example TONGAN_OUTREACH.
	Stream string
	// Durable is the consumer's name, <reader>-<purpose>, for example outreach-gateway. Its progress is kept under it.
	Durable string
	// Filters are the subject filters of the messages it wants; no two may overlap.
	Filters []string
	// AckWait is how long a message that was handed to a process that ended is waited for before it is handed to another; 0 means 30 s.
	AckWait time.Duration
	// AtOnce is how many messages are handled at once, in no order; 0 means one after the other.
	AtOnce int
	// Insists hands an event to a handler that fails for as long as it takes, in place of putting it aside after ten times.
	Insists bool
	// Log takes what could not be processed.
	Log *slog.Logger
}

// Handler reacts to one event. An error means: try again later.
type Handler func(ctx context.Context, e eventlog.Envelope) error

// Run reads events until ctx ends, and returns its error. A consumer that is deleted is made again and begins anew: handlers are idempotent.
// What does not decode is put aside at once, what fails ten times after that, both in TONGAN_DEAD; a type that this build does not know is
// acknowledged and reported once.
func Run(ctx context.Context, js jetstream.JetStream, cfg Config, handle Handler) error {
	var unknown sync.Map // types reported already
	return Messages(ctx, js, cfg, func(ctx context.Context, m jetstream.Msg, sequence uint64) error {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), sequence)
		switch {
		case errors.Is(err, eventlog.ErrUnknownType):
			if _, again := unknown.LoadOrStore(e.Type, true); !again {
				cfg.Log.Warn("events of an unknown type are passed over", "consumer", cfg.Durable, "type", e.Type)
			}
			return nil
		case err != nil:
			return &Unreadable{err}
		}
		return handle(ctx, e)
	})
}

// Unreadable is the error of a handler for a message that will never be readable: it is put aside at once.
type Unreadable struct{ Err error }

// Error says why.
func (u *Unreadable) Error() string { return u.Err.Error() }

// Unwrap returns why.
func (u *Unreadable) Unwrap() error { return u.Err }

// Messages is Run for a stream whose messages are not events; the handler reads them itself.
func Messages(ctx context.Context, js jetstream.JetStream, cfg Config,
	handle func(ctx context.Context, m jetstream.Msg, sequence uint64) error,
) error {
	r := &reaction{js: js, cfg: cfg, handle: handle, slots: make(chan struct{}, max(cfg.AtOnce, 1))}
	for wait := time.Duration(0); ; wait = time.Second {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		messages, err := r.open(ctx)
		if err != nil {
			if ctx.Err() == nil {
				cfg.Log.Warn("consumer is not to be had", "consumer", cfg.Durable, "error", err)
			}
			continue
		}
		r.read(ctx, messages)
	}
}

// open makes the consumer, or finds it as it was left.
func (r *reaction) open(ctx context.Context) (jetstream.MessagesContext, error) {
	cfg := jetstream.ConsumerConfig{
		Durable:       r.cfg.Durable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       cmp.Or(r.cfg.AckWait, 30*time.Second),
		MaxDeliver:    -1,
		MaxAckPending: 256,
	}
	if len(r.cfg.Filters) == 1 { // one filter stands in the subject of the request too, and so a right can be for it alone
		cfg.FilterSubject = r.cfg.Filters[0]
	} else {
		cfg.FilterSubjects = r.cfg.Filters
	}
	c, err := r.js.CreateOrUpdateConsumer(ctx, r.cfg.Stream, cfg)
	if err != nil {
		return nil, err
	}
	return c.Messages(jetstream.PullMaxMessages(64), jetstream.PullHeartbeat(heartbeat))
}

// read processes messages until ctx ends or the consumer is gone. What it was handed by then and has not begun it hands back, so that
// another copy need not wait for it.
func (r *reaction) read(ctx context.Context, messages jetstream.MessagesContext) {
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Drain)()
	defer r.wg.Wait()
	for {
		r.slots <- struct{}{} // only what can be begun is taken
		m, err := messages.Next()
		if err != nil || ctx.Err() != nil {
			<-r.slots
		}
		switch {
		case err == nil && ctx.Err() != nil:
			_ = m.Nak() // if that is lost it comes again anyway
			continue
		case ctx.Err() != nil:
			return
		case errors.Is(err, jetstream.ErrMsgIteratorClosed), errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound):
			r.cfg.Log.Warn("consumer is gone, it is made again", "consumer", r.cfg.Durable, "error", err)
			return
		case err != nil:
			r.cfg.Log.Warn("consumer pauses", "consumer", r.cfg.Durable, "error", err)
			continue
		}
		r.wg.Go(func() {
			defer func() { <-r.slots }()
			r.process(ctx, m)
		})
	}
}

type reaction struct {
	js     jetstream.JetStream
	cfg    Config
	handle func(ctx context.Context, m jetstream.Msg, sequence uint64) error
	slots  chan struct{}
	wg     sync.WaitGroup
}

// process handles one message and acknowledges it, last of all.
func (r *reaction) process(ctx context.Context, m jetstream.Msg) {
	meta, err := m.Metadata()
	if err != nil {
		r.cfg.Log.Error("message has no metadata", "consumer", r.cfg.Durable, "error", err)
		return
	}
	err = r.answer(ctx, m, meta)
	switch {
	case err == nil:
	case meta.NumDelivered < quietTries: // it may only have to wait for something else
		r.cfg.Log.Debug("message is delivered again", "consumer", r.cfg.Durable, "sequence", meta.Sequence.Stream, "error", err)
	default:
		r.cfg.Log.Warn("message is delivered again", "consumer", r.cfg.Durable, "sequence", meta.Sequence.Stream, "tries", meta.NumDelivered, "error", err)
	}
}

// answer hands one message to the handler and tells the bus what became of it.
func (r *reaction) answer(ctx context.Context, m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	err := r.handle(ctx, m, meta.Sequence.Stream)
	unreadable, is := errors.AsType[*Unreadable](err)
	switch {
	case err == nil:
		return m.Ack()
	case is:
		return r.putAside(ctx, m, meta.Sequence.Stream, unreadable.Err)
	case meta.NumDelivered >= maxTries && !r.cfg.Insists:
		return r.putAside(ctx, m, meta.Sequence.Stream, err)
	default:
		return errors.Join(err, m.NakWithDelay(backoff(meta.NumDelivered)))
	}
}

// putAside keeps a reference to the message before it gives the message up.
func (r *reaction) putAside(ctx context.Context, m jetstream.Msg, sequence uint64, cause error) error {
	class := Class(cause)
	r.cfg.Log.Error("message put aside", "consumer", r.cfg.Durable, "sequence", sequence, "class", class.String())
	err := DeadLetter(ctx, r.js, &eventv1.DeadLetter{
		Stream: r.cfg.Stream, Sequence: sequence, Reader: r.cfg.Durable, Class: class, SizeBytes: uint64(len(m.Data())),
	})
	if err != nil {
		return errors.Join(err, m.NakWithDelay(time.Second))
	}
	return m.TermWithReason(class.String())
}

// backoff is 50 ms after the first failure and doubles up to 10 s.
func backoff(delivered uint64) time.Duration {
	return min(50*time.Millisecond<<min(delivered-1, 8), 10*time.Second)
}
