package seal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// Index is a blind index: it finds what has the same value without holding the value, by a keyed hash (HMAC-SHA-256). Hashes are personal
// data too: they stand in a stream of their own from which they can be removed, and in no event. Its methods may be called from several
// goroutines.
type Index struct {
	box    *Box
	stream jetstream.Stream
	name   string
}

// NewIndex returns the index with this name. Its key is kept among those of the box, wrapped by the master key.
func (b *Box) NewIndex(ctx context.Context, name string) (*Index, error) {
	stream, err := b.js.Stream(ctx, subject.StreamIndex)
	if err != nil {
		return nil, eventlog.Unavailable(subject.StreamIndex, err)
	}
	return &Index{box: b, stream: stream, name: name}, nil
}

// Enter notes that what has this id has the value, and reports whether that is new.
func (x *Index) Enter(ctx context.Context, value, id string) (isNew bool, err error) {
	hash, err := x.hash(ctx, value)
	if err != nil {
		return false, err
	}
	_, err = eventlog.Publish(ctx, x.box.js, &nats.Msg{Subject: subject.Index(x.name, hash, id)}, jetstream.WithExpectLastSequencePerSubject(0))
	if exists(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("index %s: %w: %w", x.name, eventlog.ErrUnavailable, err)
	}
	return true, nil
}

// Find returns the ids that have the value, sorted.
func (x *Index) Find(ctx context.Context, value string) ([]string, error) {
	hash, err := x.hash(ctx, value)
	if err != nil {
		return nil, err
	}
	entries, err := x.box.subjects(ctx, subject.StreamIndex, subject.Index(x.name, hash, "*"))
	for i, e := range entries {
		entries[i] = e[strings.LastIndexByte(e, '.')+1:]
	}
	slices.Sort(entries)
	return entries, err
}

// Leave removes that what has this id has the value.
func (x *Index) Leave(ctx context.Context, value, id string) error {
	hash, err := x.hash(ctx, value)
	if err != nil {
		return err
	}
	return x.remove(ctx, subject.Index(x.name, hash, id))
}

// Only removes all entries of what has this id but the one for this value; an empty value is none.
func (x *Index) Only(ctx context.Context, value, id string) error {
	if value == "" {
		return x.Forget(ctx, id)
	}
	hash, err := x.hash(ctx, value)
	if err != nil {
		return err
	}
	return x.removeBut(ctx, id, subject.Index(x.name, hash, id))
}

// Forget removes all entries of what has this id; their bytes are overwritten where they lie.
func (x *Index) Forget(ctx context.Context, id string) error { return x.removeBut(ctx, id, "") }

// removeBut removes all entries of what has this id but one.
func (x *Index) removeBut(ctx context.Context, id, but string) error {
	entries, err := x.box.subjects(ctx, subject.StreamIndex, subject.Index(x.name, "*", id))
	for _, e := range entries {
		if e != but {
			err = errors.Join(err, x.remove(ctx, e))
		}
	}
	return err
}

// remove removes an entry, if it is there.
func (x *Index) remove(ctx context.Context, entry string) error {
	m, err := x.box.get(ctx, subject.StreamIndex, which{Last: entry})
	if err != nil || m == nil {
		return err
	}
	if err := x.stream.SecureDeleteMsg(ctx, m.Seq); err != nil {
		if m, there := x.box.get(ctx, subject.StreamIndex, which{Last: entry}); there == nil && m == nil {
			return nil // somebody else was faster
		}
		return fmt.Errorf("index %s: %w: %w", x.name, eventlog.ErrUnavailable, err)
	}
	return nil
}

// hash is the keyed hash of a value as it stands in subjects.
func (x *Index) hash(ctx context.Context, value string) (string, error) {
	key, err := x.box.rawKey(ctx, "index-"+x.name, true)
	if err != nil {
		return "", fmt.Errorf("index %s: %w", x.name, err)
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value))
	return hex.EncodeToString(h.Sum(nil)), nil
}
