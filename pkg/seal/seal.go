// Package seal encrypts personal details under a key for each child before they become part of an event. The keys, wrapped by the
// master key, stand in a stream of their own from which a key can really be removed; then every copy of the event is unreadable there.
package seal

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

var (
	// ErrNoKey is returned when the key of a sealed field does not exist, or no longer.
	ErrNoKey = errors.New("the key does not exist")
	// ErrDestroyed is returned when the key was destroyed: what it sealed opens no more, and nothing is sealed in its place.
	ErrDestroyed = errors.New("the key was destroyed")
	// ErrBroken is returned when a sealed field does not open: it was changed, moved, or wrapped by another master key.
	ErrBroken = errors.New("the seal does not open")
)

// Box seals and opens. It keeps no key: what is destroyed is gone at once. Its methods may be called from several goroutines.
type Box struct {
	js     jetstream.JetStream
	keys   jetstream.Stream
	master *Master
}

// NewBox returns a box over the key stream, which must exist.
func NewBox(ctx context.Context, js jetstream.JetStream, master *Master) (*Box, error) {
	keys, err := js.Stream(ctx, subject.StreamKeys)
	if err != nil {
		return nil, eventlog.Unavailable(subject.StreamKeys, err)
	}
	return &Box{js: js, keys: keys, master: master}, nil
}

// Seal encrypts a message under the key with this id, which is made if it does not exist. Aggregate is the key of the aggregate whose
// event will hold it (see subject.Aggregate.Key), field the name of the field there: it opens nowhere else.
func (b *Box) Seal(ctx context.Context, keyID, aggregate, field string, m proto.Message) (*eventv1.Sealed, error) {
	if !subject.ValidID(keyID) {
		return nil, fmt.Errorf("seal %s of %s: the key id is not letters, digits, '_' and '-'", field, aggregate)
	}
	plain, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("seal %s of %s: %w", field, aggregate, err)
	}
	aead, err := b.key(ctx, keyID, true)
	if err != nil {
		return nil, fmt.Errorf("seal %s of %s: %w", field, aggregate, err)
	}
	s := &eventv1.Sealed{
		KeyId:     keyID,
		Algorithm: eventv1.SealAlgorithm_SEAL_ALGORITHM_AES_256_GCM,
		Content:   string(m.ProtoReflect().Descriptor().FullName()),
		Nonce:     newNonce(aead),
	}
	s.Ciphertext = aead.Seal(nil, s.Nonce, plain, additional(s, aggregate, field))
	return s, nil
}

// Open decrypts a sealed field of an event of aggregate into a message.
func (b *Box) Open(ctx context.Context, aggregate, field string, s *eventv1.Sealed, into proto.Message) error {
	if s.GetContent() != string(into.ProtoReflect().Descriptor().FullName()) {
		return fmt.Errorf("open %s of %s: it holds a %s", field, aggregate, s.GetContent())
	}
	aead, err := b.key(ctx, s.GetKeyId(), false)
	if err != nil {
		return fmt.Errorf("open %s of %s: %w", field, aggregate, err)
	}
	if len(s.GetNonce()) != aead.NonceSize() {
		return fmt.Errorf("open %s of %s: %w", field, aggregate, ErrBroken)
	}
	plain, err := aead.Open(nil, s.GetNonce(), s.GetCiphertext(), additional(s, aggregate, field))
	if err != nil || proto.Unmarshal(plain, into) != nil {
		return fmt.Errorf("open %s of %s: %w", field, aggregate, ErrBroken)
	}
	return nil
}

// additional binds a sealed field to its key, place and content.
func additional(s *eventv1.Sealed, aggregate, field string) []byte {
	return []byte(strings.Join([]string{s.GetKeyId(), aggregate, field, s.GetContent()}, "\x00"))
}

func newNonce(aead cipher.AEAD) []byte {
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return nonce
}

// key loads a key; if it does not exist and create is set, it makes one. Of several who make one at once, one wins and all use its key.
func (b *Box) key(ctx context.Context, id string, create bool) (cipher.AEAD, error) {
	raw, err := b.rawKey(ctx, id, create)
	if err != nil {
		return nil, err
	}
	return newAEAD(raw)
}

func (b *Box) rawKey(ctx context.Context, id string, create bool) ([]byte, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		wrapped, err := b.load(ctx, id)
		if err == nil {
			var key []byte
			if key, err = b.unwrap(wrapped); !errors.Is(err, errNoVersion) || wait > time.Second {
				return key, err
			}
		} else {
			if !errors.Is(err, ErrNoKey) || !create {
				return nil, err
			}
			key, err := b.create(ctx, id)
			if err == nil {
				return key, nil
			}
			if !exists(err) {
				return nil, fmt.Errorf("make key: %w: %w", eventlog.ErrUnavailable, err)
			}
		}
		select { // somebody else made it, or wrapped it again: read it
		case <-ctx.Done():
			return nil, fmt.Errorf("load key: %w: %w", eventlog.ErrUnavailable, ctx.Err())
		case <-time.After(wait):
		}
	}
}

func (b *Box) load(ctx context.Context, id string) (*eventv1.WrappedKey, error) {
	m, err := b.get(ctx, subject.StreamKeys, which{Last: subject.Key(id)})
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	if m == nil {
		return nil, ErrNoKey
	}
	wrapped := &eventv1.WrappedKey{}
	switch {
	case proto.Unmarshal(m.Data, wrapped) != nil || wrapped.GetKeyId() != id:
		return nil, ErrBroken
	case len(wrapped.GetCiphertext()) == 0:
		return nil, ErrDestroyed
	}
	return wrapped, nil
}

// Destroy removes a key for ever: its bytes are overwritten where they lie, and a mark in its place keeps another one from being made. To
// destroy it again is to find the mark, or to finish what was begun.
func (b *Box) Destroy(ctx context.Context, keyID string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := b.destroy(ctx, keyID)
		if err == nil {
			return nil
		}
		if wait > time.Second || !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) && !exists(err) {
			return fmt.Errorf("destroy key %s: %w: %w", keyID, eventlog.ErrUnavailable, err)
		}
		select { // somebody else removed it, or made a key in between: look again
		case <-ctx.Done():
			return fmt.Errorf("destroy key %s: %w: %w", keyID, eventlog.ErrUnavailable, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// destroy removes the last message of a key, and puts the mark in its place if there is no other: while a key is wrapped again there are two
// of it, and in between somebody may have made one. It looks again only after a pause, since others make keys as fast as it could look.
func (b *Box) destroy(ctx context.Context, keyID string) error {
	m, err := b.get(ctx, subject.StreamKeys, which{Last: subject.Key(keyID)})
	if err != nil {
		return err
	}
	if m != nil {
		found := &eventv1.WrappedKey{}
		if proto.Unmarshal(m.Data, found) == nil && len(found.GetCiphertext()) == 0 {
			return nil
		}
		if err := b.keys.SecureDeleteMsg(ctx, m.Seq); err != nil {
			return err
		}
	}
	mark, err := proto.Marshal(&eventv1.WrappedKey{KeyId: keyID})
	if err != nil {
		return err
	}
	_, err = eventlog.Publish(ctx, b.js, &nats.Msg{Subject: subject.Key(keyID), Data: mark}, jetstream.WithExpectLastSequencePerSubject(0))
	return err
}

// create makes a key. It counts once it is stored under the version that wraps: of one under an earlier version a rotation that began in
// between may know nothing, and what unwraps it may be gone soon.
func (b *Box) create(ctx context.Context, id string) ([]byte, error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails
	v, err := b.master.newest()
	for last := uint64(0); err == nil; {
		if last, err = b.put(ctx, id, key, v, last); err != nil {
			break
		}
		wrapped := v.number
		if v, err = b.master.newest(); err == nil && v.number == wrapped {
			return key, nil
		}
	}
	return nil, err
}

// put wraps a key and stores it, if the last message in its place is the one with this sequence; 0 stands for none.
func (b *Box) put(ctx context.Context, id string, key []byte, v version, last uint64) (uint64, error) {
	w := &eventv1.WrappedKey{
		KeyId:         id,
		MasterVersion: v.number,
		Algorithm:     eventv1.SealAlgorithm_SEAL_ALGORITHM_AES_256_GCM,
		Nonce:         newNonce(v.aead),
	}
	w.Ciphertext = v.aead.Seal(nil, w.GetNonce(), key, wrapAdditional(w))
	payload, err := proto.Marshal(w)
	if err != nil {
		return 0, err
	}
	ack, err := eventlog.Publish(ctx, b.js, &nats.Msg{Subject: subject.Key(id), Data: payload}, jetstream.WithExpectLastSequencePerSubject(last))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (b *Box) unwrap(w *eventv1.WrappedKey) ([]byte, error) {
	v, err := b.master.numbered(w.GetMasterVersion())
	if err != nil {
		return nil, err
	}
	if len(w.GetNonce()) != v.aead.NonceSize() {
		return nil, ErrBroken
	}
	key, err := v.aead.Open(nil, w.GetNonce(), w.GetCiphertext(), wrapAdditional(w))
	if err != nil {
		return nil, ErrBroken
	}
	return key, nil
}

func wrapAdditional(w *eventv1.WrappedKey) []byte {
	return fmt.Appendf(nil, "%s\x00%d", w.GetKeyId(), w.GetMasterVersion())
}

// exists reports whether an error says that the key was made by somebody else in the meantime.
func exists(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// ChildKey returns the id of the key of the child that a message is about; every message with personal details of a child has child_id.
func ChildKey(about proto.Message) string {
	child, ok := about.(interface{ GetChildId() string })
	if !ok || child.GetChildId() == "" {
		return ""
	}
	return "child-" + child.GetChildId()
}
