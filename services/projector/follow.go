package projector

import (
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
	minSpace = 200 * time.Millisecond // batches that are not full begin at least this far apart under load,
	maxSpace = 700 * time.Millisecond // at most this,
	spaceFor = 8                      // in between so many times as far as the last one took to write: each table is a part and an fsync
	atOnce   = 4                      // tables that are inserted into at the same time
)

// follower copies one stream.
type follower struct {
	*Projector
	service, stream string
	log             *slog.Logger
	created         int64              // when the stream was created, as the tables know it
	progress        bool               // a batch was written since the last error
	buffers         map[string]buffers // of every table that was inserted into
}

// run copies until ctx ends or an error is fatal. Whatever else goes wrong, it begins again after the watermark.
func (f *follower) run(ctx context.Context) error {
	pause := minPause
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
		if f.progress {
			pause = minPause
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
		if ctx.Err() != nil {
			return ctx.Err()
		}
		begun := time.Now()
		if err := f.write(ctx, b); err != nil {
			return err
		}
		due = begun.Add(min(max(minSpace, spaceFor*time.Since(begun)), maxSpace))
		f.progress = true
		if b.stop != nil {
			return b.stop
		}
		b.empty()
		spare = b
	}
}

// write makes a batch durable, the journal last: what the journal has is in all the other tables, and put aside if it was poison.
func (f *follower) write(ctx context.Context, b *batch) error {
	if err := f.sameStream(ctx); err != nil {
		return err
	}
	if len(b.rows.Journal) == 0 {
		return nil
	}
	if err := f.putAside(ctx, b.dead); err != nil {
		return err
	}
	tables := slices.DeleteFunc(b.rows.inserts(), func(t table) bool { return t.rows.Len() == 0 })
	last := len(tables) - 1
	g, together := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, t := range tables[:last] {
		if err := f.step(t.name); err != nil {
			return errors.Join(err, g.Wait())
		}
		keep := f.buffersOf(t)
		g.Go(func() error { return t.insert(together, f.conn, keep) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := f.step(tables[last].name); err != nil {
		return err
	}
	if err := tables[last].insert(ctx, f.conn, f.buffersOf(tables[last])); err != nil {
		return err
	}
	return f.step("done")
}

// putAside stores references to poison, many at a time.
func (f *follower) putAside(ctx context.Context, dead []*eventv1.DeadLetter) error {
	if len(dead) > 0 {
		f.log.Error("messages cannot be read", "messages", len(dead), "first", dead[0].GetSequence(), "class", dead[0].GetClass())
	}
	for refs := range slices.Chunk(dead, eventlog.MaxEvents) {
		if err := f.step("dead letter"); err != nil {
			return err
		}
		if err := consume.DeadLetters(ctx, f.js, refs); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) buffersOf(t table) buffers {
	if f.buffers[t.name] == nil {
		f.buffers[t.name] = buffers{}
	}
	return f.buffers[t.name]
}

// step lets a test end Run here.
func (f *follower) step(name string) error {
	if err := f.cfg.Hook(f.stream, name); err != nil {
		return fatal{err}
	}
	return nil
}
