package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// Limits of one request of a scan.
const (
	scanBytes   = 16 << 20
	scanTimeout = 30 * time.Second
)

// Scan shows every sequence of a stream from one to another, both included, in order: the message, or nil where the stream does not hold it.
// It needs no consumer, and leaves nothing behind.
func Scan(ctx context.Context, js jetstream.JetStream, stream string, from, to uint64, see func(sequence uint64, m *jetstream.RawStreamMsg) error) error {
	for next := from; next <= to; {
		reached, err := scan(ctx, js, stream, next, to, see)
		if err != nil {
			return fmt.Errorf("read %s from sequence %d: %w", stream, next, err)
		}
		if reached > next {
			next = reached
			continue
		}
		// Whoever answered has nothing from here on. The leader says whether there is anything.
		there, err := get(ctx, js, stream, which{Seq: next, Next: ">"})
		if err != nil {
			return fmt.Errorf("read %s from sequence %d: %w", stream, next, err)
		}
		var held uint64
		if there != nil {
			held = there.Seq
		}
		if held == next { // a follower that lags behind the leader
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		for ; next <= to && (held == 0 || next < held); next++ {
			if err := see(next, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// scan shows what one request gives, and returns the sequence after it.
func scan(ctx context.Context, js jetstream.JetStream, stream string, next, to uint64, see func(uint64, *jetstream.RawStreamMsg) error) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	batch := int(min(to-next+1, MaxEvents))
	msgs, err := jetstreamext.GetBatch(ctx, js, stream, batch, jetstreamext.GetBatchSeq(next), jetstreamext.GetBatchMaxBytes(scanBytes))
	if err != nil {
		return next, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for m, err := range msgs {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return next, nil
		}
		if err != nil {
			return next, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for ; next < min(m.Sequence, to+1); next++ {
			if err := see(next, nil); err != nil {
				return next, err
			}
		}
		if next > to {
			return next, nil
		}
		if err := see(next, m); err != nil {
			return next, err
		}
		next++
	}
	if ctx.Err() != nil {
		return next, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	return next, nil
}
