package audit

import (
	"context"
	"encoding/json"
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

// again is when connections are looked for once more: one may have been let in just before, and not have been listed.
const again = time.Second

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
		for _, key := range gone(before, now) {
			time.AfterFunc(again, func() {
				if err := b.end(ctx, key); err != nil && ctx.Err() == nil {
					b.log.Error("connections of a key that is no longer valid were not ended", "key", key, "error", err)
				}
			})
		}
		before = now
	}
}

// gone returns the keys that callers had and have no more, or have with other rights.
func gone(before, now []access.Caller) []string {
	same := make(map[access.Caller]bool)
	for _, c := range now {
		same[c] = true
	}
	var keys []string
	for _, c := range before {
		if c.Key != "" && !same[c] {
			keys = append(keys, c.Key)
		}
	}
	return keys
}

// serversAnswer is how long servers have to tell their connections after the first one did.
const serversAnswer = 250 * time.Millisecond

// end ends every connection that was let in with a key.
func (b *boundary) end(ctx context.Context, key string) error {
	request, err := json.Marshal(map[string]any{"auth": true, "user": key, "limit": 1 << 20})
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
	for wait := 2 * time.Second; ; wait = serversAnswer {
		ctx, cancel := context.WithTimeout(ctx, wait)
		m, err := answers.NextMsgWithContext(ctx)
		cancel()
		if err != nil && wait == serversAnswer {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: connections: %w", eventlog.ErrUnavailable, err)
		}
		if err := b.kick(m.Data); err != nil {
			return err
		}
	}
}

// kick ends the connections that one server told.
func (b *boundary) kick(answer []byte) error {
	var told struct {
		Server struct {
			ID string `json:"id"`
		} `json:"server"`
		Data struct {
			Connections []struct {
				CID uint64 `json:"cid"`
			} `json:"connections"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		return fmt.Errorf("connections: %w", err)
	}
	for _, c := range told.Data.Connections {
		request, err := json.Marshal(map[string]uint64{"cid": c.CID})
		if err != nil {
			return err
		}
		if err := b.system.Publish(subject.Kick(told.Server.ID), request); err != nil {
			return fmt.Errorf("%w: kick: %w", eventlog.ErrUnavailable, err)
		}
	}
	return b.system.Flush()
}
