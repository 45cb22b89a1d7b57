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
	// Log takes what could not be processed.
	Log *slog.Logger
}

// Handler reacts to one event. An error means: try again later.
type Handler func(ctx context.Context, e eventlog.Envelope) error

// Run reads until ctx ends. What does not decode is put aside at once, what fails ten times after that, both in TONGAN_DEAD; a type
// that this build does not know is acknowledged and reported once.
func Run(ctx context.Context, js jetstream.JetStream, cfg Config, handle Handler) error {
	c, err := js.CreateOrUpdateConsumer(ctx, cfg.Stream, jetstream.ConsumerConfig{
		Durable:       cfg.Durable,
		FilterSubject: cfg.Filter,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
		MaxDeliver:    -1,
		MaxAckPending: 256,
	})
	if err != nil {
		return fmt.Errorf("consumer %s: %w", cfg.Durable, err)
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(64))
	if err != nil {
		return fmt.Errorf("consumer %s: %w", cfg.Durable, err)
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	r := &reaction{js: js, cfg: cfg, handle: handle}
	for {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			cfg.Log.Warn("consumer pauses", "consumer", cfg.Durable, "error", err)
			continue
		}
		if err := r.process(ctx, m); err != nil {
			cfg.Log.Warn("event is delivered again", "consumer", cfg.Durable, "error", err)
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
		if meta.NumDelivered >= maxTries {
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
