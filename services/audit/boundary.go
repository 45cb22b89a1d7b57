package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// boundary ends the connections of callers whose key is no longer theirs, on every server of the bus.
type boundary struct {
	system   *nats.Conn // in the system account
	registry *access.Registry
	log      *slog.Logger
}

// again is when connections are looked for once more: one may have been let in just before, and not have been listed. The bus waits 3
// seconds at most to be told whom to let in.
var again = []time.Duration{time.Second, 4 * time.Second}

// run looks at each change for keys that are no caller's any more, until ctx ends. Whoever revoked or rotated waits for end below; this
// is for the other copies of the service, and for those that come to an end in between.
func (b *boundary) run(ctx context.Context) error {
	before, _, changed := b.registry.Callers()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		var now []access.Caller
		now, _, changed = b.registry.Callers()
		for _, c := range gone(before, now) {
			for _, later := range again {
				time.AfterFunc(later, func() { b.lookAgain(ctx, c) })
			}
		}
		before = now
	}
}

// lookAgain ends the connections of a caller that is gone, unless it came again as it was.
func (b *boundary) lookAgain(ctx context.Context, c access.Caller) {
	if now, _ := b.registry.Known(c.Key); now == c {
		return
	}
	if err := b.end(ctx, c.Key); err != nil && ctx.Err() == nil {
		b.log.Error("connections of a key that is no longer valid were not ended", "key", c.Key, "error", err)
	}
}

// gone returns the callers with a key that were there and are no more, or are there with another key or other rights.
func gone(before, now []access.Caller) (out []access.Caller) {
	same := make(map[access.Caller]bool)
	for _, c := range now {
		same[c] = true
	}
	for _, c := range before {
		if c.Key != "" && !same[c] {
			out = append(out, c)
		}
	}
	return out
}

// end ends every connection that was let in with a key.
func (b *boundary) end(ctx context.Context, key string) error {
	return b.endWhere(ctx, map[string]any{"user": key}, func(string) bool { return true })
}

// endStrangers ends every connection in the accounts of callers that was let in with a key that is no caller's: a copy of the service may
// have come to an end between a revocation and what follows from it.
func (b *boundary) endStrangers(ctx context.Context) error {
	for _, account := range []string{access.AccountCallers, access.AccountReaders} {
		err := b.endWhere(ctx, map[string]any{"acc": account}, func(key string) bool {
			_, known := b.registry.ByKey(ctx, key) // waits for what another copy of the service may just have added
			return !known
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Limits of looking for connections.
const (
	// firstAnswer is how long the first server has to tell its connections, or to say that it ended one.
	firstAnswer = 2 * time.Second
	// serversAnswer is how long servers have to tell their connections after the one before did.
	serversAnswer = 250 * time.Millisecond
)

// endWhere asks every server for its connections that a filter matches, and ends those whose key ends says so of.
func (b *boundary) endWhere(ctx context.Context, filter map[string]any, ends func(key string) bool) error {
	filter["auth"], filter["limit"] = true, 1<<20
	request, err := json.Marshal(filter)
	if err != nil {
		return err
	}
	inbox := b.system.NewRespInbox()
	answers, err := b.system.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("%w: connections: %w", eventlog.ErrUnavailable, err)
	}
	defer func() { _ = answers.Unsubscribe() }()
	if err := b.system.PublishRequest(subject.Connections, inbox, request); err != nil {
		return fmt.Errorf("%w: connections: %w", eventlog.ErrUnavailable, err)
	}
	for wait := firstAnswer; ; wait = serversAnswer {
		next, cancel := context.WithTimeout(ctx, wait)
		m, err := answers.NextMsgWithContext(next)
		cancel()
		if err != nil && wait == serversAnswer && ctx.Err() == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: connections: %w", eventlog.ErrUnavailable, err)
		}
		if err := b.kick(ctx, m.Data, ends); err != nil {
			return err
		}
	}
}

// kick ends connections that one server told, and returns once they are ended.
func (b *boundary) kick(ctx context.Context, answer []byte, ends func(key string) bool) error {
	var told struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Data struct {
			Connections []struct {
				CID uint64 `json:"cid"`
				Key string `json:"authorized_user"`
			} `json:"connections"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		return fmt.Errorf("connections: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	for _, c := range told.Data.Connections {
		if !ends(c.Key) {
			continue
		}
		request, err := json.Marshal(map[string]uint64{"cid": c.CID})
		if err != nil {
			return err
		}
		_, err = b.system.RequestWithContext(ctx, subject.Kick(told.Server.ID), request) // that there is none such is an answer, too
		if err != nil && !errors.Is(err, nats.ErrNoResponders) {                         // nobody: the server has gone
			return fmt.Errorf("%w: kick: %w", eventlog.ErrUnavailable, err)
		}
	}
	return nil
}
