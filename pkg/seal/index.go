package seal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
		return nil, fmt.Errorf("stream %s: %w: run `tongan migrate` first", subject.StreamIndex, err)
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
	var ids []string
	err = x.each(ctx, subject.Index(x.name, hash, "*"), func(m *jetstream.RawStreamMsg) error {
		ids = append(ids, m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
		return nil
	})
	slices.Sort(ids)
	return ids, err
}

// Leave removes that what has this id has the value.
func (x *Index) Leave(ctx context.Context, value, id string) error {
	hash, err := x.hash(ctx, value)
	if err != nil {
		return err
	}
	return x.each(ctx, subject.Index(x.name, hash, id), x.remove(ctx))
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
	remove, keep := x.remove(ctx), subject.Index(x.name, hash, id)
	return x.each(ctx, subject.Index(x.name, "*", id), func(m *jetstream.RawStreamMsg) error {
		if m.Subject == keep {
			return nil
		}
		return remove(m)
	})
}

// Forget removes all entries of what has this id; their bytes are overwritten where they lie.
func (x *Index) Forget(ctx context.Context, id string) error {
	return x.each(ctx, subject.Index(x.name, "*", id), x.remove(ctx))
}

func (x *Index) remove(ctx context.Context) func(*jetstream.RawStreamMsg) error {
	return func(m *jetstream.RawStreamMsg) error {
		err := x.stream.SecureDeleteMsg(ctx, m.Sequence)
		if err != nil {
			if _, there := x.stream.GetMsg(ctx, m.Sequence); errors.Is(there, jetstream.ErrMsgNotFound) {
				return nil // somebody else was faster
			}
			return fmt.Errorf("index %s: %w: %w", x.name, eventlog.ErrUnavailable, err)
		}
		return nil
	}
}

// eachWithin bounds one search.
const eachWithin = 5 * time.Second

// each shows the entries under a filter. An answer that is cut short is an error: who takes it for the end of one leaves entries behind.
func (x *Index) each(ctx context.Context, filter string, see func(*jetstream.RawStreamMsg) error) error {
	entries, err := x.search(ctx, filter)
	if err != nil {
		return fmt.Errorf("index %s: %w: %w", x.name, eventlog.ErrUnavailable, err)
	}
	for _, e := range entries {
		if err := see(e); err != nil {
			return err
		}
	}
	return nil
}

// Status of an answer that is no entry.
const (
	statusEnd  = "204"
	statusNone = "404"
)

// search asks for the last messages under a filter: one answer for each, and one that says that this was all.
func (x *Index) search(ctx context.Context, filter string) ([]*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, eachWithin)
	defer cancel()
	request, err := json.Marshal(map[string][]string{"multi_last": {filter}})
	if err != nil {
		return nil, err
	}
	nc := x.box.js.Conn()
	inbox := nc.NewRespInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := nc.PublishRequest(subject.API("DIRECT.GET", subject.StreamIndex), inbox, request); err != nil {
		return nil, err
	}
	var entries []*jetstream.RawStreamMsg
	for {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return nil, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case statusEnd, statusNone:
			return entries, nil
		default:
			return nil, fmt.Errorf("%s %s", status, m.Header.Get("Description"))
		}
		sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("sequence of an entry: %w", err)
		}
		entries = append(entries, &jetstream.RawStreamMsg{Subject: m.Header.Get(jetstream.SubjectHeader), Sequence: sequence})
	}
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
