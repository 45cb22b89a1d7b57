package servetest

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protowire"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// callers lets callers in as they are needed: one for each person and role, with a connection and key of its own.
type callers struct {
	*natstest.Callers
	mu    sync.Mutex
	conns map[access.Caller]*nats.Conn
}

func newCallers(tb testing.TB, bus *nats.Conn) *callers {
	tb.Helper()
	return &callers{Callers: natstest.CallersAt(tb, bus), conns: make(map[access.Caller]*nats.Conn)}
}

// conn returns a connection of who may send this.
func (c *callers) conn(tb testing.TB, subj string, payload []byte) *nats.Conn {
	tb.Helper()
	return c.as(tb, access.Caller{ID: performer(payload), Role: roleFor(subj), Org: natstest.Org})
}

func (c *callers) as(tb testing.TB, caller access.Caller) *nats.Conn {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if nc := c.conns[caller]; nc != nil && !nc.IsClosed() { // a subtest closes those it made
		return nc
	}
	nc := c.LetIn(tb, caller)
	c.conns[caller] = nc
	return nc
}

// As returns a connection of a caller, whom the service knows from now on.
func (c *Client) As(tb testing.TB, caller access.Caller) *nats.Conn {
	tb.Helper()
	return c.callers.as(tb, caller)
}

// roleFor returns a role that may send to a subject. What no role may send comes from an operator, and is lost at the bus.
func roleFor(subj string) auditv1.Role {
	for _, role := range access.Roles() {
		if slices.ContainsFunc(access.Of(role).Send, func(right string) bool { return subject.Matches(right, subj) }) {
			return role
		}
	}
	return auditv1.Role_ROLE_OPERATOR
}

// performer finds who performed it in a command, in JSON or protobuf; a payload that is neither comes from "somebody".
func performer(payload []byte) string {
	var text struct {
		Provenance struct {
			PerformedBy string `json:"performedBy"`
		} `json:"provenance"`
	}
	if json.Unmarshal(payload, &text) == nil && text.Provenance.PerformedBy != "" {
		return text.Provenance.PerformedBy
	}
	if by := string(field(field(payload, 1), 3)); by != "" {
		return by
	}
	return "somebody"
}

// field returns the first bytes field of this number in a protobuf message.
func field(message []byte, number protowire.Number) []byte {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeField(message)
		if size < 0 {
			return nil
		}
		if n == number && kind == protowire.BytesType {
			_, _, tag := protowire.ConsumeTag(message)
			value, _ := protowire.ConsumeBytes(message[tag:])
			return value
		}
		message = message[size:]
	}
	return nil
}
