// Package consume runs the reactions of a service to events: a durable consumer, one event after the other, acknowledged last. An event
// may come more than once; handlers must be idempotent.
package consume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// maxTries is how often an event is handed to a handler that fails before it is put aside.
const maxTries = 10

// Config says what a reaction reads.
type Config struct {
	// Stream to read, for example TONGAN_OUTREACH.
	Stream string
	// Durable is the consumer's name, <reader>-<purpose>, for example outreach-gateway. Its progress is kept under it.
	Durable string
	// Filter is the subject filter of the events it wants.
	Filter string
	// Insists hands an event to a handler that fails for as long as it takes, in place of putting it aside after ten times.
	Insists bool
	// Log takes what could not be processed.
	Log *slog.Logger
}

// Handler reacts to one event. An error means: try again later.
type Handler func(ctx context.Context, e eventlog.Envelope) error

// Run reads until ctx ends, and returns its error. A consumer that is deleted is made again and begins anew: handlers are idempotent. What does not decode is put aside at once, what fails ten times after that, both in TONGAN_DEAD; a type
// that this build does not know is acknowledged and reported once.
func Run(ctx context.Context, js jetstream.JetStream, cfg Config, handle Handler) error {
	r := &reaction{js: js, cfg: cfg, handle: handle}
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
	c, err := r.js.CreateOrUpdateConsumer(ctx, r.cfg.Stream, jetstream.ConsumerConfig{
		Durable:       r.cfg.Durable,
		FilterSubject: r.cfg.Filter,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxDeliver:    -1,
		MaxAckPending: 256,
	})
	if err != nil {
		return nil, err
	}
	return c.Messages(jetstream.PullMaxMessages(64))
}

// read processes messages until ctx ends or the consumer is gone.
func (r *reaction) read(ctx context.Context, messages jetstream.MessagesContext) {
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	for {
		m, err := messages.Next()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, jetstream.ErrMsgIteratorClosed), errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound):
			r.cfg.Log.Warn("consumer is gone, it is made again", "consumer", r.cfg.Durable, "error", err)
			return
		case err != nil:
			r.cfg.Log.Warn("consumer pauses", "consumer", r.cfg.Durable, "error", err)
			continue
		}
		if err := r.process(ctx, m); err != nil {
			r.cfg.Log.Warn("event is delivered again", "consumer", r.cfg.Durable, "error", err)
		}
	}
}

type reaction struct {
	js      jetstream.JetStream
	cfg     Config
	handle  Handler
	unknown sync.Map // types reported already
}

// process handles one message and acknowledges it, last of all.
func (r *reaction) process(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream)
	if errors.Is(err, eventlog.ErrUnknownType) {
		if _, again := r.unknown.LoadOrStore(e.Type, true); !again {
			r.cfg.Log.Warn("events of an unknown type are passed over", "consumer", r.cfg.Durable, "type", e.Type)
		}
		return m.Ack()
	}
	if err != nil {
		return r.putAside(ctx, m, meta.Sequence.Stream, err)
	}
	if err := r.handle(ctx, e); err != nil {
		if meta.NumDelivered >= maxTries && !r.cfg.Insists {
			return r.putAside(ctx, m, meta.Sequence.Stream, err)
		}
		return errors.Join(err, m.NakWithDelay(backoff(meta.NumDelivered)))
	}
	return m.Ack()
}

// putAside keeps a reference to the message before it gives the message up.
func (r *reaction) putAside(ctx context.Context, m jetstream.Msg, sequence uint64, cause error) error {
	class := Class(cause)
	r.cfg.Log.Error("event put aside", "consumer", r.cfg.Durable, "sequence", sequence, "class", class.String())
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
