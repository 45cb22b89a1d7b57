package projector

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/eventlog"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

const (
	minPause = 50 * time.Millisecond // before the first try after an error; it doubles
	maxPause = 5 * time.Second
	bearable = 2 * time.Second        // how long nothing but errors may come before it is said that a stream stands still
	minSpace = 200 * time.Millisecond // batches that are not full begin at least this far apart under load,
	maxSpace = 500 * time.Millisecond // at most this,
	spaceFor = 5                      // in between so many times as far as the last one took to write: each table is a part and an fsync
	atOnce   = 4                      // tables that are inserted into, or batches of references put aside, at the same time
)

// follower copies one stream.
type follower struct {
	*Projector
	service, stream string
	log             *slog.Logger
	created         int64 // when the stream was created, as the tables know it
	progress        bool  // a batch was written since the last error
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
	next, err := f.start(ctx)
	if err != nil {
		return err
	}
	r, err := f.read(ctx, next)
	if err != nil {
		return err
	}
	defer r.close()
	due, spare := time.Time{}, &batch{}
	for {
		b := r.take(ctx, due, spare)
		if err := b.packed(); err != nil || ctx.Err() != nil {
			return cmp.Or(ctx.Err(), err)
		}
		begun := time.Now()
		if err := f.write(ctx, b); err != nil {
			return err
		}
		due = begun.Add(min(max(minSpace, spaceFor*time.Since(begun)), maxSpace))
		f.progress = true
		f.cfg.Still(f.stream, false)
		if b.stop != nil {
			return b.stop
		}
		if b.total == 0 {
			if err := r.missed(ctx); err != nil {
				return err
			}
		}
		if spare = (&batch{}); r.large(b) { // otherwise a stream at rest would hold on to what it once needed
			b.empty()
			spare = b
		}
	}
}

// write makes a batch durable, the journal last: what the journal has is in all the other tables, and put aside if it was poison.
func (f *follower) write(ctx context.Context, b *batch) error {
	if err := f.sameStream(ctx); err != nil {
		return err
	}
	if b.total == 0 {
		return nil
	}
	if err := f.pack(ctx, b, &b.rows); err != nil {
		return err
	}
	last := len(b.packs) - 1
	if err := f.writeFirst(ctx, b.packs[:last], b.dead); err != nil {
		return err
	}
	journal := b.packs[last]
	if err := f.step(journal.name); err != nil {
		return err
	}
	if err := journal.insert(ctx, f.conn); err != nil {
		return err
	}
	return f.step("done")
}

// writeFirst writes at the same time all that must be there before the journal says so.
func (f *follower) writeFirst(ctx context.Context, tables []*pack, dead []*eventv1.DeadLetter) error {
	g, together := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	write := func(name string, do func() error) bool {
		err := f.step(name)
		if err == nil {
			err = together.Err()
		}
		g.Go(func() error {
			if err != nil {
				return err
			}
			return do()
		})
		return err == nil
	}
	if len(dead) > 0 {
		f.log.Error("messages cannot be read", "messages", len(dead), "first", dead[0].GetSequence(), "class", dead[0].GetClass())
	}
	for refs := range slices.Chunk(dead, eventlog.MaxEvents) {
		if !write("dead letter", func() error { return consume.DeadLetters(together, f.js, refs) }) {
			return g.Wait()
		}
	}
	for _, p := range tables {
		if p != nil && p.len > 0 && !write(p.name, func() error { return p.insert(together, f.conn) }) {
			return g.Wait()
		}
	}
	return g.Wait()
}

// step lets a test end Run here.
func (f *follower) step(name string) error {
	if err := f.cfg.Hook(f.stream, name); err != nil {
		return fatal{err}
	}
	return nil
}
