package projector

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

const (
	journal    = BaseDatabase + ".journal"
	projection = BaseDatabase + ".projection"
)

// claim says in the tables what they hold of this stream, and refuses to go on where they hold something else.
func (f *follower) claim(ctx context.Context) error {
	created, err := eventlog.Created(ctx, f.js, f.service)
	if err != nil {
		return err
	}
	f.created = created
	found, err := f.claimed(ctx)
	if err != nil || found {
		return err
	}
	err = f.conn.Exec(insertContext(ctx), "INSERT INTO "+projection+" (stream, projection_version, stream_created) VALUES ($1, $2, $3)",
		f.stream, uint32(Version), created)
	if err != nil {
		return fmt.Errorf("insert into projection: %w", err)
	}
	_, err = f.claimed(ctx) // another version may have come first
	return err
}

// claimed reports whether the tables are said to hold this stream in this version.
func (f *follower) claimed(ctx context.Context) (found bool, err error) {
	rows, err := f.conn.Query(ctx, "SELECT projection_version, stream_created FROM "+projection+" FINAL WHERE stream = $1", f.stream)
	if err != nil {
		return false, fmt.Errorf("read projection: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var version uint32
		var created int64
		if err := rows.Scan(&version, &created); err != nil {
			return false, fmt.Errorf("read projection: %w", err)
		}
		if version < extends || version > Version {
			return false, fatal{fmt.Errorf("%w: %s in projection version %d, this build is version %d; start the build of that version, or fill a new generation of tables",
				ErrGeneration, f.stream, version, Version)}
		}
		if created != f.created {
			return false, f.recreated(created)
		}
		found = found || version == Version
	}
	return found, rows.Err()
}

// Identity reports whether the tables are what a projector of this build would go on to fill from the stream of a service on this bus; if
// they hold something else, the error is ErrGeneration and says what to do. Nothing is changed.
func Identity(ctx context.Context, js jetstream.JetStream, conn driver.Conn, service string) error {
	f := &follower{Projector: &Projector{js: js, conn: conn}, service: service, stream: subject.Stream(service)}
	var err error
	if f.created, err = eventlog.Created(ctx, js, service); err != nil {
		return err
	}
	if _, err := f.claimed(ctx); err != nil {
		return err
	}
	last, err := watermark(ctx, f.conn, f.stream)
	if err != nil {
		return err
	}
	return f.notAhead(ctx, last)
}

// recreated is the error for tables filled from a stream that was created at another time.
func (f *follower) recreated(created int64) error {
	return fatal{fmt.Errorf("%w: stream %s created at %d, on this bus it was created at %d; connect to the bus the tables were filled from, or drop them, migrate and let them fill again",
		ErrGeneration, f.stream, created, f.created)}
}

// sameStream refuses to go on when the stream was created anew after the messages at hand were read.
func (f *follower) sameStream(ctx context.Context) error {
	created, err := eventlog.Created(ctx, f.js, f.service)
	if err == nil && created != f.created {
		was := f.created
		f.created = created
		return f.recreated(was)
	}
	return err
}

// start returns the first sequence to be read: the one after the watermark, or the first that the journal lacks.
func (f *follower) start(ctx context.Context) (uint64, error) {
	last, err := watermark(ctx, f.conn, f.stream)
	if err != nil {
		return 0, err
	}
	if err := f.notAhead(ctx, last); err != nil {
		return 0, err
	}
	complete := func(upTo uint64) bool {
		// A bitmap counts distinct sequences as exactly as uniqExact, in a few megabytes where that takes a gigabyte.
		n, e := count(ctx, f.conn, f.stream, upTo)
		err = errors.Join(err, e)
		return n == upTo
	}
	if complete(last) || err != nil {
		return last + 1, err
	}
	hole := sort.Search(int(last), func(n int) bool { return err != nil || !complete(uint64(n)) })
	f.log.Warn("journal has a hole", "sequence", hole, "last", last)
	return uint64(hole), err
}

// watermark returns the last sequence of a stream that the journal has in this version, 0 if it has none. It reads from the end, so that it costs
// the same however much the journal holds.
func watermark(ctx context.Context, conn driver.Conn, stream string) (last uint64, err error) {
	return journalled(ctx, conn, "SELECT max(seq) FROM (SELECT seq FROM "+journal+" WHERE stream = $1 AND projection_version = $2 ORDER BY seq DESC LIMIT 1)",
		stream, uint32(Version))
}

// count returns how many sequences of a stream the journal has in this version, up to one.
func count(ctx context.Context, conn driver.Conn, stream string, upTo uint64) (uint64, error) {
	return journalled(ctx, conn, "SELECT groupBitmap(seq) FROM "+journal+" WHERE stream = $1 AND projection_version = $2 AND seq <= $3",
		stream, uint32(Version), upTo)
}

func journalled(ctx context.Context, conn driver.Conn, query string, args ...any) (n uint64, err error) {
	if err := conn.QueryRow(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("read journal: %w", err)
	}
	return n, nil
}

// errAhead stands for a journal that knows what the stream does not have.
var errAhead = errors.New("the tables are ahead of the stream")

// notAhead refuses to go on when the journal knows sequences that the stream has not reached, as after the restoring of an old copy.
func (f *follower) notAhead(ctx context.Context, last uint64) error {
	info, err := eventlog.Info(ctx, f.js, f.stream)
	if err != nil {
		return err
	}
	if end := info.State.LastSeq; end < last {
		return fatal{fmt.Errorf("%w: %w: stream %s up to sequence %d, on this bus it ends at %d; restore the bus, or drop the tables, migrate and let them fill again",
			ErrGeneration, errAhead, f.stream, last, end)}
	}
	return nil
}
