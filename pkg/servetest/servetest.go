// Package servetest runs a service against a real bus for tests, and asks it things as a caller would.
package servetest

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Districts are the districts a service under test serves.
var Districts = []string{"440703", "440704", "440705", "440781", "440783", "440784", "440785"}

// Now is where the replay clock of a service under test stands: after the last day of the scenario.
var Now = time.Date(2020, 2, 6, 0, 0, 0, 0, time.UTC)

// Client asks a service that runs on a bus of its own.
type Client struct {
	// JS may do everything in the services' account. Requests over it come from nobody.
	JS      jetstream.JetStream
	Clock   *clock.Replay
	callers *callers
}

// Run starts a service on a new bus; it ends with the test. A service that ends with an error fails the test.
func Run[C any](tb testing.TB, name string, run func(context.Context, *serve.Runtime, C) error, cfg C) *Client {
	tb.Helper()
	return RunOn(tb, natstest.Bus(tb), name, run, cfg)
}

// RunOn starts a service on a bus that runs already.
func RunOn[C any](tb testing.TB, js jetstream.JetStream, name string, run func(context.Context, *serve.Runtime, C) error, cfg C) *Client {
	tb.Helper()
	replay := &clock.Replay{}
	replay.Advance(Now)
	return RunBy(tb, js, replay, name, run, cfg)
}

// RunBy starts a service on a bus that runs already, by a clock that others may share.
func RunBy[C any](tb testing.TB, js jetstream.JetStream, replay *clock.Replay, name string, run func(context.Context, *serve.Runtime, C) error, cfg C) *Client {
	tb.Helper()
	c := &Client{JS: js, Clock: replay, callers: newCallers(tb, js.Conn())}
	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, &serve.Runtime{JS: js, Clock: c.Clock, Log: log, Districts: Districts, Callers: c.callers}, cfg)
	}()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			tb.Errorf("service %s ended with: %v", name, err)
		}
	})
	other := natstest.Connect(tb, js.Conn().ConnectedUrl()).Conn() // the service may not hear what it sends itself
	natstest.Eventually(tb, 20*time.Second, "the service answers", func() bool {
		_, err := other.Request(subject.Health(name), nil, time.Second)
		return err == nil
	})
	return c
}

// MasterKey writes a master key file for the test.
func MasterKey(tb testing.TB) seal.File {
	tb.Helper()
	f := seal.File{Path: filepath.Join(tb.TempDir(), "master.key")}
	if _, err := seal.CreateMaster(f.Path); err != nil {
		tb.Fatal(err)
	}
	return f
}

// Reply is what a service answered.
type Reply struct {
	Data []byte
	// Code and Error are set where the service refused.
	Code, Error string
	// ContentType of the data.
	ContentType string
}

// Ask sends bytes and returns the reply. The caller is who performed what a command is about, in a role that has it.
func (c *Client) Ask(tb testing.TB, subj string, payload []byte, headers ...string) Reply {
	tb.Helper()
	m := nats.NewMsg(subj)
	m.Data = payload
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	r, err := c.callers.conn(tb, subj, payload).RequestMsg(m, 15*time.Second)
	if err != nil {
		tb.Fatalf("%s: %v", subj, err)
	}
	return Reply{
		Data: r.Data, Code: r.Header.Get(micro.ErrorCodeHeader), Error: r.Header.Get(micro.ErrorHeader),
		ContentType: r.Header.Get("Content-Type"),
	}
}

// Send sends a command in protobuf and returns what it led to; a refusal fails the test.
func (c *Client) Send(tb testing.TB, subj string, command proto.Message) *eventv1.CommandReply {
	tb.Helper()
	payload, err := proto.Marshal(command)
	if err != nil {
		tb.Fatal(err)
	}
	r := c.Ask(tb, subj, payload)
	if r.Code != "" {
		tb.Fatalf("%s: %s (%s)", subj, r.Error, r.Code)
	}
	reply := &eventv1.CommandReply{}
	if err := proto.Unmarshal(r.Data, reply); err != nil {
		tb.Fatalf("%s: %v", subj, err)
	}
	return reply
}

// Tick moves the clock, once everything that was stored is reacted to.
func (c *Client) Tick(tb testing.TB, to time.Time) {
	tb.Helper()
	natstest.Settled(tb, c.JS)
	if err := c.Clock.Tick(tb.Context(), to); err != nil {
		tb.Fatal(err)
	}
}

// Events returns how many messages a service's stream holds.
func (c *Client) Events(tb testing.TB, service string) uint64 {
	tb.Helper()
	s, err := c.JS.Stream(tb.Context(), subject.Stream(service))
	if err != nil {
		tb.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// Refused checks that a reply is a refusal with this code whose text holds every one of the parts.
func (r Reply) Refused(tb testing.TB, code string, parts ...string) {
	tb.Helper()
	if r.Code != code {
		tb.Fatalf("code is %q (%s), want %s", r.Code, r.Error, code)
	}
	for _, p := range parts {
		if !strings.Contains(r.Error, p) {
			tb.Errorf("%q does not say %q", r.Error, p)
		}
	}
}
