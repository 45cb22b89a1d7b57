// Package projector copies the events of all services into ClickHouse, exactly: every row is a pure function of one event, written
// as often as need be and read with FINAL, and the journal is written last. It keeps no state of its own beside its tables, and may
// run in several copies at once.
package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/subject"
)

// Version is the version of the projection: which rows an event gives. The tables of a version from extends on are filled up where they
// are; those of any other belong to another generation.
const Version = 3

// extends is the earliest version all of whose rows this one writes again under the same keys, the same or with more in them. What its
// journal says does not count; until the streams are read again its rows stand, so no figure falls meanwhile.
const extends = 1

// ErrGeneration is returned when the tables hold another projection, or another stream of the same name: rows of both must not mix.
var ErrGeneration = errors.New("the tables hold something else")

// readerName is the name under which the projector puts messages aside.
const readerName = "projector"

// Config says how a projector runs. The zero value is useful.
type Config struct {
	// Log takes what goes wrong, with ids and counts only; nil is silent.
	Log *slog.Logger
	// BatchRows is how many rows, of all tables together, make a batch full; streams with more to read share them. 0 means 120 000.
	BatchRows int
	// Still is told when a stream stands still, since nothing but errors comes of it, and when it goes on; the same may be told again. It is
	// called from several goroutines; nil is not called.
	Still func(stream string, still bool)
	// Hook is for tests: it is called before every step of a batch (a dead letter, an insert, the end) with the names of stream and
	// step, from several goroutines; its error ends Run there as a crash would. Nil is not called.
	Hook func(stream, step string) error
}

// Projector copies events into ClickHouse. Its methods may be called from several goroutines; Run at most once.
type Projector struct {
	js   jetstream.JetStream
	conn driver.Conn
	cfg  Config

	mu      sync.Mutex
	stopped map[string]error         // guarded by mu
	types   map[string][]column.Type // guarded by mu: of the columns of each table

	busy atomic.Int32 // streams with more to read than one batch
}

// New returns a projector that writes as the connection's user, UserProjector.
func New(js jetstream.JetStream, conn driver.Conn, cfg Config) (*Projector, error) {
	if cfg.BatchRows < 0 {
		return nil, fmt.Errorf("projector: %d rows a batch", cfg.BatchRows)
	}
	if cfg.BatchRows == 0 {
		cfg.BatchRows = 120_000
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Still == nil {
		cfg.Still = func(string, bool) {}
	}
	if cfg.Hook == nil {
		cfg.Hook = func(string, string) error { return nil }
	}
	return &Projector{js: js, conn: conn, cfg: cfg, stopped: map[string]error{}, types: map[string][]column.Type{}}, nil
}

// Run copies the events of every service until ctx ends, and then returns nil. It tries for ever what may come right by itself;
// ErrGeneration does not. A stream that holds what this build does not know stops alone, see Stopped.
func (p *Projector) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, service := range subject.Services() {
		f := &follower{Projector: p, service: service, stream: subject.Stream(service)}
		f.log = p.cfg.Log.With("stream", f.stream)
		wg.Go(func() {
			if err := f.run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if end, ok := errors.AsType[fatal](context.Cause(ctx)); ok {
		return end.error
	}
	return nil
}

// fatal is an error that ends Run.
type fatal struct{ error }

// Unwrap returns what is fatal.
func (f fatal) Unwrap() error { return f.error }

// Stopped returns the streams that have stopped, and why; the errors wrap ErrUndecided.
func (p *Projector) Stopped() map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.stopped)
}

// Watermarks returns the last sequence of every stream up to which all tables are complete.
func (p *Projector) Watermarks(ctx context.Context) (map[string]uint64, error) {
	return Watermarks(ctx, p.conn)
}

// Watermarks returns the last sequence of every stream up to which all tables are complete; a stream of which nothing is there
// stands at 0.
func Watermarks(ctx context.Context, conn driver.Conn) (map[string]uint64, error) {
	marks := make(map[string]uint64)
	for _, service := range subject.Services() {
		stream := subject.Stream(service)
		var err error
		if marks[stream], err = watermark(ctx, conn, stream); err != nil {
			return nil, err
		}
	}
	return marks, nil
}

// WaitFor waits until the watermark of every stream in targets has reached its target.
func WaitFor(ctx context.Context, conn driver.Conn, targets map[string]uint64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for stream, target := range targets {
		for {
			mark, err := watermark(ctx, conn, stream)
			if err != nil {
				return err
			}
			if mark >= target {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("projection of %s is at %d, not yet at %d: %w", stream, mark, target, ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

func reached(marks, targets map[string]uint64) bool {
	for stream, target := range targets {
		if marks[stream] < target {
			return false
		}
	}
	return true
}
