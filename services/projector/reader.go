package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

const (
	batchIdle  = 20 * time.Millisecond // how long a batch waits for what follows its first message closely
	batchBytes = 16 << 20              // payload that makes a batch full
	quiet      = 10 * time.Second      // how long nothing may come before the stream is looked at
	heartbeat  = 2 * time.Second       // how often the server says that nothing came
	readAhead  = 4 << 20               // bytes that are asked for ahead
	packRows   = 1024                  // rows that are packed at a time: so many that they stay in the processor's cache until then; a quarter of a small batch
)

// errSkipped is returned when the bus handed over another message than the next: it is read again from the watermark on.
var errSkipped = errors.New("the bus left out a message")

// batch is consecutive sequences of a stream as rows: the last ones as such, those before them packed.
type batch struct {
	rows  rows
	packs []*pack // in the order of rows.inserts; nil where there are no rows
	total int     // rows in all tables
	bytes int     // of payload
	dead  []*eventv1.DeadLetter
	stop  error // why the sequence after these cannot be had

	packing sync.WaitGroup // what is packed meanwhile: the goroutine has before, packs and err until then
	before  rows
	err     error
}

// packed waits until the rows before these are packed.
func (b *batch) packed() error {
	b.packing.Wait()
	return b.err
}

// packMeanwhile packs the rows that are not packed yet, while others are added.
func (p *Projector) packMeanwhile(ctx context.Context, b *batch) error {
	if err := b.packed(); err != nil {
		return err
	}
	b.rows, b.before = b.before, b.rows
	b.packing.Go(func() { b.err = p.pack(ctx, b, &b.before) })
	return nil
}

// pack packs rows, which follow those packed before.
func (p *Projector) pack(ctx context.Context, b *batch, r *rows) error {
	tables := r.inserts()
	if b.packs == nil {
		b.packs = make([]*pack, len(tables))
	}
	for i, t := range tables {
		if t.rows.Len() == 0 {
			continue
		}
		if b.packs[i] == nil {
			types, err := p.typesOf(ctx, t)
			if err != nil {
				return err
			}
			if b.packs[i], err = newPack(t, types); err != nil {
				return err
			}
		}
		if err := b.packs[i].add(t.rows); err != nil {
			return err
		}
	}
	r.empty()
	return nil
}

// typesOf asks for the types of a table's columns once.
func (p *Projector) typesOf(ctx context.Context, t table) ([]column.Type, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.types[t.name] == nil {
		types, err := t.types(ctx, p.conn)
		if err != nil {
			return nil, err
		}
		p.types[t.name] = types
	}
	return p.types[t.name], nil
}

// empty makes a batch as new, but for the memory it has for rows.
func (b *batch) empty() {
	for _, p := range b.packs {
		if p != nil {
			p.empty()
		}
	}
	b.rows.empty()
	b.total, b.bytes, b.dead, b.stop = 0, 0, nil, nil
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
	*follower
	source  *source         // hands over messages before it is known here
	ctx     context.Context //nolint:containedctx // ends the source's goroutine
	builder builder

	pressed bool // the batch taken last was full

	mu    sync.Mutex
	batch *batch // guarded by mu
	last  uint64 // sequence of the stream up to which batches have all, those taken and the one at hand; guarded by mu

	changed chan struct{} // has an element when the batch at hand was begun, became full or came to its end
	taken   chan struct{} // has an element when it was taken
}

// read begins to make rows at a sequence.
func (f *follower) read(ctx context.Context, next uint64) (*reader, error) {
	r := &reader{follower: f, ctx: ctx, batch: &batch{}, last: next - 1, changed: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
	var err error
	r.source, err = f.open(ctx, next, r.add, r.stop)
	return r, err
}

// close ends it; what is at hand is lost.
func (r *reader) close() {
	r.stop(context.Canceled)
	r.press(false)
	r.source.close()
	_ = r.batch.packed()
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
		notify(r.changed) // it may be full only since other streams have much to read too
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
	r.last = m.sequence
	b.total, b.bytes = b.total+made.total(), b.bytes+m.size
	if b.rows.total() >= min(packRows, r.cfg.BatchRows/4) {
		if err := r.packMeanwhile(r.ctx, b); err != nil {
			b.stop = err
			notify(r.changed)
			return
		}
	}
	switch j := made.Journal[0]; j.Kind {
	case "gap":
		r.log.Error("stream lacks a sequence", "sequence", m.sequence)
	case "poison":
		b.dead = append(b.dead, &eventv1.DeadLetter{
			Stream: m.stream, Sequence: m.sequence, Reader: readerName, SizeBytes: uint64(m.size),
			Class: eventv1.DeadLetterClass(eventv1.DeadLetterClass_value["DEAD_LETTER_CLASS_"+j.Poison]),
		})
	}
	if b.total == made.total() || r.full(b) {
		notify(r.changed)
	}
}

// missed is errSkipped if the stream holds more than was handed over although nothing came for long: what a server sends while a connection
// breaks, to here or between servers, is not sent again, and only the next message would show it.
func (r *reader) missed(ctx context.Context) error {
	info, err := eventlog.Info(ctx, r.js, r.stream)
	if err != nil {
		return err
	}
	sound := func(b *batch) bool { return r.last >= info.State.LastSeq || b.total > 0 }
	r.wait(ctx, heartbeat, sound) // it may be under way
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.batch.stop == nil && !sound(r.batch) {
		return fmt.Errorf("read: %w", errSkipped)
	}
	return nil
}

// full reports whether a batch is as large as it may be: streams of which there is much to read share what is allowed.
func (r *reader) full(b *batch) bool {
	share := int(max(r.busy.Load(), 1))
	return b.total >= r.cfg.BatchRows/share || b.bytes >= batchBytes/share
}

// large reports whether a batch used a good part of the memory that it may have.
func (r *reader) large(b *batch) bool { return b.total >= r.cfg.BatchRows/8 }

// take returns the batch at hand and leaves an empty one. It waits for a first message, and then until the batch is full, at most until it is
// due or what follows closely has come. When nothing comes for long, the batch is empty.
func (r *reader) take(ctx context.Context, due time.Time, empty *batch) *batch {
	r.wait(ctx, quiet, func(b *batch) bool { return b.total > 0 })
	r.wait(ctx, max(batchIdle, time.Until(due)), r.full)
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.batch
	r.press(r.full(b))
	if r.batch = empty; b.stop != nil {
		r.batch.stop = b.stop
	}
	notify(r.taken)
	return b
}

// press notes whether there is more to read than one batch.
func (r *reader) press(much bool) {
	if much != r.pressed {
		r.pressed = much
		r.busy.Add(map[bool]int32{true: 1, false: -1}[much])
	}
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
