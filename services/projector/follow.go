package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

const (
	batchIdle = 20 * time.Millisecond  // a batch ends when nothing more comes within this time, unless the last one is too recent:
	minSpace  = 200 * time.Millisecond // batches begin at least this far apart under load,
	maxSpace  = 700 * time.Millisecond // at most this,
	spaceFor  = 8                      // in between so many times as far as the last one took to write: each table is a part and an fsync
	quiet     = 10 * time.Second       // how long nothing may come before the stream is looked at
	heartbeat = 2 * time.Second        // how often the server says that nothing came
	minPause  = 50 * time.Millisecond  // before the first try after an error; it doubles
	maxPause  = 5 * time.Second
	bearable  = 2 * time.Second // how long nothing but errors may come before it is said that a stream stands still
	readAhead = 1000            // messages asked for ahead; a limit in bytes beside it makes the client overflow
)

// follower copies one stream.
type follower struct {
	*Projector
	service, stream string
	log             *slog.Logger
	created         int64 // when the stream was created, as the tables know it
	next            uint64
	messages        jetstream.MessagesContext
	pending         *message  // read, but not yet part of a batch
	progress        bool      // a batch was written since the last error
	due             time.Time // before this the next batch is not written unless it is full
}

// run copies until ctx ends or an error is fatal. Whatever else goes wrong, it begins again after the watermark.
func (f *follower) run(ctx context.Context) error {
	pause, since := minPause, time.Time{}
	for {
		f.progress = false
		err := f.follow(ctx)
		end, isEnd := errors.AsType[fatal](err)
		switch {
		case ctx.Err() != nil:
			return nil
		case isEnd:
			return end
		case errors.Is(err, ErrUndecided):
			f.stop(err)
			<-ctx.Done()
			return nil
		}
		if f.progress || since.IsZero() {
			pause, since = minPause, time.Now()
		}
		if time.Since(since) > bearable {
			f.cfg.Still(f.stream, true)
		}
		f.log.Warn("projection pauses", "pause", pause, "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// stop notes that the stream cannot go on. What would make it go on is another build, so it is not tried again.
func (f *follower) stop(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped[f.stream] = err
	f.log.Error("projection stopped: start a build that knows the event", "error", err)
}

// follow copies from the watermark on until something goes wrong.
func (f *follower) follow(ctx context.Context) error {
	if err := f.claim(ctx); err != nil {
		return err
	}
	var err error
	if f.next, err = f.start(ctx); err != nil {
		return err
	}
	if err := f.open(ctx); err != nil {
		return err
	}
	defer f.messages.Stop()
	defer context.AfterFunc(ctx, f.messages.Stop)()
	for {
		b, err := f.read(ctx)
		if err != nil {
			return err
		}
		if err := f.write(ctx, b); err != nil {
			return err
		}
		f.progress = true
		f.cfg.Still(f.stream, false)
		if b.stop != nil {
			return b.stop
		}
	}
}

func (f *follower) open(ctx context.Context) error {
	f.pending = nil
	c, err := f.js.OrderedConsumer(ctx, f.stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: f.next,
		InactiveThreshold: time.Minute, MaxResetAttempts: 1, // run tries again, and knows when to end
	})
	if err == nil {
		f.messages, err = c.Messages(jetstream.PullMaxMessages(readAhead), jetstream.PullExpiry(quiet), jetstream.PullHeartbeat(heartbeat))
	}
	if err != nil {
		return fmt.Errorf("consumer: %w", err)
	}
	return nil
}

// batch is consecutive sequences of a stream as rows.
type batch struct {
	rows rows
	dead []*eventv1.DeadLetter
	stop error // why the sequence after these cannot be had
}

// read returns what is there: after a wait for the first message, all that follow closely, as far as a batch goes.
func (f *follower) read(ctx context.Context) (*batch, error) {
	b := &batch{}
	wait, deadline := quiet, time.Time{}
	for b.rows.largest() < f.cfg.BatchRows {
		m, err := f.take(ctx, wait)
		if errors.Is(err, nats.ErrTimeout) {
			return b, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if err := f.add(b, m); err != nil {
			b.stop = err
			return b, nil
		}
		if deadline.IsZero() {
			deadline = later(f.due, time.Now().Add(minSpace))
		}
		wait = min(max(batchIdle, time.Until(f.due)), time.Until(deadline))
		if wait <= 0 {
			return b, nil
		}
	}
	return b, nil
}

// take returns the next sequence: a message, or that the stream does not hold it.
func (f *follower) take(ctx context.Context, wait time.Duration) (message, error) {
	for f.pending == nil || f.pending.sequence < f.next {
		msg, err := f.messages.Next(jetstream.NextMaxWait(wait))
		if err != nil {
			return message{}, errors.Join(err, ctx.Err())
		}
		meta, err := msg.Metadata()
		if err != nil {
			return message{}, fmt.Errorf("metadata: %w", err)
		}
		m := message{stream: f.stream, sequence: meta.Sequence.Stream, recorded: meta.Timestamp.UTC(), size: len(msg.Data())}
		m.envelope, m.err = eventlog.Decode(msg.Subject(), msg.Headers(), msg.Data(), m.sequence)
		f.pending = &m
	}
	if f.pending.sequence > f.next {
		return message{stream: f.stream, sequence: f.next, err: errGap}, nil
	}
	return *f.pending, nil
}

// add makes a message part of a batch.
func (f *follower) add(b *batch, m message) error {
	r, err := rowsOf(m)
	if err != nil {
		return err
	}
	f.next++
	b.rows.add(r)
	switch j := r.Journal[0]; j.Kind {
	case "gap":
		f.log.Error("stream lacks a sequence", "sequence", m.sequence)
	case "poison":
		f.log.Error("message cannot be read", "sequence", m.sequence, "class", j.Poison)
		b.dead = append(b.dead, &eventv1.DeadLetter{
			Stream: m.stream, Sequence: m.sequence, Reader: reader, SizeBytes: uint64(m.size),
			Class: eventv1.DeadLetterClass(eventv1.DeadLetterClass_value["DEAD_LETTER_CLASS_"+j.Poison]),
		})
	}
	return nil
}

// write makes a batch durable, the journal last: what the journal has is in all the other tables, and put aside if it was poison.
func (f *follower) write(ctx context.Context, b *batch) error {
	if err := f.sameStream(ctx); err != nil {
		return err
	}
	if len(b.rows.Journal) == 0 {
		return nil
	}
	begun := time.Now()
	for _, ref := range b.dead {
		if err := f.step("dead letter"); err != nil {
			return err
		}
		if err := consume.DeadLetter(ctx, f.js, ref); err != nil {
			return err
		}
	}
	for _, t := range b.rows.inserts() {
		if t.rows.Len() == 0 {
			continue
		}
		if err := f.step(t.name); err != nil {
			return err
		}
		if err := t.insert(ctx, f.conn); err != nil {
			return err
		}
	}
	f.due = begun.Add(min(max(minSpace, spaceFor*time.Since(begun)), maxSpace))
	return f.step("done")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// step lets a test end Run here.
func (f *follower) step(name string) error {
	if err := f.cfg.Hook(f.stream, name); err != nil {
		return fatal{err}
	}
	return nil
}
