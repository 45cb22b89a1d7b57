package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// lag bounds how long the registry waits for somebody it does not know: the bus may let a caller in a moment before the registry learns of it.
const lag = 250 * time.Millisecond

// Registry knows who may call. It follows the events about callers.
type Registry struct {
	issuer  string
	applied map[string]bool   // ids of the events taken in
	former  map[string]string // keys that opened something once, and whose they were
	mu      sync.RWMutex
	byID    map[string]Caller
	byKey   map[string]string
	last    uint64        // sequence of the last event
	changed chan struct{} // closed and replaced with each event
}

// heartbeat is how often the server says that nothing came; that it was lost shows when two are missing. Until then who is added or revoked
// is not heard of.
const heartbeat = 2 * time.Second

// quiet is how long nothing may come before the registry reads on with another consumer: what a server sends while a connection between
// servers breaks is not sent again, and only the next event would show it. It bounds how long who was revoked then is still let in.
const quiet = 30 * time.Second

// Follow reads who may call, and keeps on reading until ctx ends. When it returns, everything recorded before is known. Only events that the
// issuer with this public key signed count.
func Follow(ctx context.Context, js jetstream.JetStream, issuer string, log *slog.Logger) (*Registry, error) {
	r := &Registry{issuer: issuer, applied: make(map[string]bool), former: make(map[string]string), byID: make(map[string]Caller), byKey: make(map[string]string), changed: make(chan struct{})}
	messages, pending, err := r.open(ctx, js)
	if err != nil {
		return nil, err
	}
	caughtUp := make(chan struct{})
	if pending == 0 {
		close(caughtUp)
	}
	go func() {
		defer func() { messages.Stop() }()
		for n := uint64(0); ctx.Err() == nil; {
			soon, cancel := context.WithTimeout(ctx, quiet)
			m, err := messages.Next(jetstream.NextContext(soon))
			cancel()
			if err != nil {
				messages = r.openAgain(ctx, js, messages, log)
				continue
			}
			r.apply(m, log)
			if n++; n == pending {
				close(caughtUp)
			}
		}
	}()
	select {
	case <-caughtUp:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// open reads on after the last event taken in; pending is how many events there are now.
func (r *Registry) open(ctx context.Context, js jetstream.JetStream) (messages jetstream.MessagesContext, pending uint64, err error) {
	c, err := js.OrderedConsumer(ctx, subject.Stream(subject.Audit), jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subject.AllCallers()}, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.last + 1,
		InactiveThreshold: quiet, // one that is read no more is forgotten soon
		MaxResetAttempts:  1,     // more of them take 20 seconds each while nobody leads; openAgain is quicker
	})
	if err == nil {
		messages, err = c.Messages(jetstream.PullHeartbeat(heartbeat))
	}
	if err != nil {
		return nil, 0, eventlog.Unavailable(subject.Stream(subject.Audit), err)
	}
	return messages, c.CachedInfo().NumPending, nil
}

// openAgain opens until it succeeds or ctx ends.
func (r *Registry) openAgain(ctx context.Context, js jetstream.JetStream, before jetstream.MessagesContext, log *slog.Logger) jetstream.MessagesContext {
	before.Stop()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		select {
		case <-ctx.Done():
			return before
		case <-time.After(wait):
		}
		messages, _, err := r.open(ctx, js)
		if err == nil {
			return messages
		}
		if ctx.Err() == nil {
			log.Warn("registry of callers pauses", "error", err)
		}
	}
}

var (
	errNotSigned = errors.New("it is not signed by the audit service")
	errRepeated  = errors.New("it was there before")
)

// apply takes in one event. One that cannot be read is passed over: a damaged event must not lock everybody out.
func (r *Registry) apply(m jetstream.Msg, log *slog.Logger) {
	meta, err := m.Metadata()
	if err != nil {
		return
	}
	e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream)
	if err == nil && !verify(r.issuer, m.Subject(), m.Headers(), m.Data()) {
		err = errNotSigned
	}
	if err == nil && r.applied[e.ID] {
		err = errRepeated
	}
	if err != nil {
		log.Error("event about a caller passed over", "sequence", meta.Sequence.Stream, "error", err)
		e.Event = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied[e.ID] = true
	switch e := e.Event.(type) {
	case *auditv1.CallerAdded:
		r.put(Caller{e.GetCallerId(), e.GetNkey(), e.GetRole(), e.GetOrgId(), e.GetAdmCode(), e.GetInstitutionId()})
	case *auditv1.CallerKeyRotated:
		if c, known := r.byID[e.GetCallerId()]; known {
			c.Key = e.GetNkey()
			r.put(c)
		}
	case *auditv1.CallerRevoked:
		r.put(Caller{ID: e.GetCallerId()})
		delete(r.byID, e.GetCallerId())
	}
	r.last = meta.Sequence.Stream
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Registry) put(c Caller) {
	if old := r.byID[c.ID].Key; r.byKey[old] == c.ID { // a key that somebody else has now stays that one's
		delete(r.byKey, old)
		r.former[old] = c.ID
	}
	r.byID[c.ID] = c
	if c.Key != "" {
		r.byKey[c.Key] = c.ID
	}
}

// Former returns the id of the caller whose key this was once, empty if it never was anybody's.
func (r *Registry) Former(key string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.former[key]
}

// Known returns the caller with this public NKey as far as is known now.
func (r *Registry) Known(key string) (Caller, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	id, ok := r.byKey[key]
	return r.byID[id], ok
}

// ByKey returns the caller with this public NKey.
func (r *Registry) ByKey(ctx context.Context, key string) (Caller, bool) {
	return r.find(ctx, func() (c Caller, ok bool) {
		id, ok := r.byKey[key]
		return r.byID[id], ok
	})
}

// ByID returns the caller with this id.
func (r *Registry) ByID(ctx context.Context, id string) (Caller, bool) {
	return r.find(ctx, func() (c Caller, ok bool) {
		c, ok = r.byID[id]
		return c, ok
	})
}

// find looks, and looks again with each change for a while.
func (r *Registry) find(ctx context.Context, look func() (Caller, bool)) (Caller, bool) {
	timeout := time.NewTimer(lag)
	defer timeout.Stop()
	for {
		r.mu.RLock()
		c, ok := look()
		changed := r.changed
		r.mu.RUnlock()
		if ok {
			return c, true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return Caller{}, false
		case <-ctx.Done():
			return Caller{}, false
		}
	}
}

// Wait returns once the event with this sequence is taken in.
func (r *Registry) Wait(ctx context.Context, sequence uint64) error {
	for {
		_, last, changed := r.Callers()
		if last >= sequence {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("registry of callers: %w: %w", eventlog.ErrUnavailable, ctx.Err())
		}
	}
}

// Callers returns all of them by id, the sequence of the event they are known up to, and a channel that is closed when that changes.
func (r *Registry) Callers() (callers []Caller, last uint64, changed <-chan struct{}) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, id := range slices.Sorted(maps.Keys(r.byID)) {
		callers = append(callers, r.byID[id])
	}
	return callers, r.last, r.changed
}
