package projector

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

const (
	batchIdle  = 20 * time.Millisecond // how long a batch waits for what follows its first message closely
	batchBytes = 8 << 20               // payload that makes a batch full
	quiet      = 10 * time.Second      // how long nothing may come before the stream is looked at
	heartbeat  = 2 * time.Second       // how often the server says that nothing came
	readAhead  = 4 << 20               // bytes that are asked for ahead
)

// errSkipped is returned when the bus handed over another message than the next: it is read again from the watermark on.
var errSkipped = errors.New("the bus left out a message")

// batch is consecutive sequences of a stream as rows.
type batch struct {
	rows  rows
	dead  []*eventv1.DeadLetter
	bytes int   // of payload
	stop  error // why the sequence after these cannot be had
}

// empty makes a batch as new, but for the memory it has for rows.
func (b *batch) empty() {
	b.rows.empty()
	*b = batch{rows: b.rows, dead: b.dead[:0]}
}

// source hands over every sequence of a stream, in order, in a goroutine of its own.
type source struct {
	*follower
	next      uint64 // sequence of the stream
	delivered uint64 // messages so far
	take      func(message)
	end       func(error) // nothing comes any more
	consuming jetstream.ConsumeContext
}

// open begins to hand over at a sequence.
func (f *follower) open(ctx context.Context, next uint64, take func(message), end func(error)) (*source, error) {
	c, err := f.js.CreateConsumer(ctx, f.stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: next, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	s := &source{follower: f, next: next, take: take, end: end}
	s.consuming, err = c.Consume(s.see, jetstream.PullMaxBytes(readAhead), jetstream.PullExpiry(quiet), jetstream.PullHeartbeat(heartbeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { end(fmt.Errorf("read: %w", err)) }))
	if err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	return s, nil
}

// close ends it. The server forgets the consumer by itself.
func (s *source) close() {
	s.consuming.Stop()
	<-s.consuming.Closed()
}

// see hands over a message, and all sequences before it that the stream does not hold.
func (s *source) see(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err == nil && (meta.Sequence.Consumer != s.delivered+1 || meta.Sequence.Stream < s.next) {
		err = errSkipped
	}
	if err != nil {
		s.end(fmt.Errorf("read: %w", err))
		return
	}
	s.delivered++
	for ; s.next < meta.Sequence.Stream; s.next++ {
		s.take(message{stream: s.stream, sequence: s.next, err: errGap})
	}
	m := message{stream: s.stream, sequence: s.next, recorded: meta.Timestamp.UTC(), size: len(msg.Data())}
	m.envelope, m.err = eventlog.Decode(msg.Subject(), msg.Headers(), msg.Data(), m.sequence)
	s.take(m)
	s.next++
}

// reader makes rows of a stream, while a batch of what came before is written. Two batches are all it holds: when the one at hand is full, it
// goes on only once that is taken.
type reader struct {
	*source
	ctx     context.Context //nolint:containedctx // ends the source's goroutine
	builder builder

	mu    sync.Mutex
	batch *batch // guarded by mu

	changed chan struct{} // has an element when the batch at hand was begun, became full or came to its end
	taken   chan struct{} // has an element when it was taken
}

// read begins to make rows at a sequence.
func (f *follower) read(ctx context.Context, next uint64) (*reader, error) {
	r := &reader{ctx: ctx, batch: &batch{}, changed: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
	var err error
	r.source, err = f.open(ctx, next, r.add, r.stop)
	return r, err
}

// close ends it; what is at hand is lost.
func (r *reader) close() {
	r.stop(context.Canceled)
	r.source.close()
}

// stop notes why nothing comes after what was read so far.
func (r *reader) stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.batch.stop == nil {
		r.batch.stop = err
	}
	notify(r.changed)
	notify(r.taken)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// add makes a message part of the batch at hand, when there is room, unless that has come to its end.
func (r *reader) add(m message) {
	made, err := r.builder.rowsOf(m)
	if err != nil {
		r.stop(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.full(r.batch) && r.batch.stop == nil && r.ctx.Err() == nil {
		r.mu.Unlock()
		select {
		case <-r.taken:
		case <-r.ctx.Done():
		}
		r.mu.Lock()
	}
	b := r.batch
	if b.stop != nil || r.ctx.Err() != nil {
		return
	}
	b.rows.add(made)
	b.bytes += m.size
	switch j := made.Journal[0]; j.Kind {
	case "gap":
		r.log.Error("stream lacks a sequence", "sequence", m.sequence)
	case "poison":
		b.dead = append(b.dead, &eventv1.DeadLetter{
			Stream: m.stream, Sequence: m.sequence, Reader: readerName, SizeBytes: uint64(m.size),
			Class: eventv1.DeadLetterClass(eventv1.DeadLetterClass_value["DEAD_LETTER_CLASS_"+j.Poison]),
		})
	}
	if len(b.rows.Journal) == 1 || r.full(b) {
		notify(r.changed)
	}
}

func (r *reader) full(b *batch) bool { return b.rows.largest() >= r.cfg.BatchRows || b.bytes >= batchBytes }

// take returns the batch at hand and leaves an empty one. It waits for a first message, and then until the batch is full, at most until it is
// due or what follows closely has come. When nothing comes for long, the batch is empty.
func (r *reader) take(ctx context.Context, due time.Time, empty *batch) *batch {
	r.wait(ctx, quiet, func(b *batch) bool { return len(b.rows.Journal) > 0 })
	r.wait(ctx, max(batchIdle, time.Until(due)), r.full)
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.batch
	if r.batch = empty; b.stop != nil {
		r.batch.stop = b.stop
	}
	notify(r.taken)
	return b
}

// wait waits until the batch at hand is as it should be, nothing more comes, or the time is over.
func (r *reader) wait(ctx context.Context, within time.Duration, ready func(*batch) bool) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		r.mu.Lock()
		ok := r.batch.stop != nil || ready(r.batch)
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.changed:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// empty takes all rows out and keeps their memory; what the rows held is let go.
func (r *rows) empty() {
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		v.Field(i).Clear()
		v.Field(i).SetLen(0)
	}
}
