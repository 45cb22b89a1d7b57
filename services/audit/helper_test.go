package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	"tongan.dev/services/audit"
	"tongan.dev/services/intake"
)

const (
	add         = "tongan.cmd.audit.caller.add"
	rotate      = "tongan.cmd.audit.caller.rotate"
	revoke      = "tongan.cmd.audit.caller.revoke"
	listCallers = "tongan.qry.audit.caller.list"
	listRecords = "tongan.qry.audit.record.list"

	openCase      = "tongan.cmd.intake.case.open"
	registerChild = "tongan.cmd.intake.child.register"
	getChild      = "tongan.qry.intake.child.get"

	operator = auditv1.Role_ROLE_OPERATOR
	worker   = auditv1.Role_ROLE_SOCIAL_WORKER
	leader   = auditv1.Role_ROLE_BUREAU_LEADER
	reader   = auditv1.Role_ROLE_EVENT_READER

	// promised is how soon a caller who was revoked must be out.
	promised = 2 * time.Second
)

// deployment is a bus at which nobody but the service audit lets callers in.
type deployment struct {
	js     jetstream.JetStream // may do everything in the services' account
	urls   []string            // of the bus's servers
	cfg    audit.Config
	clock  *clock.Replay
	denied chan access.Attempt // what the bus denied
	nc     *nats.Conn          // the first operator's
}

// deploy starts a bus of n servers and the service, and connects as the first operator.
func deploy(t *testing.T, n int) (d *deployment, stop func()) {
	t.Helper()
	servers, js, issuer := natstest.Doorless(t, n)
	d = &deployment{js: js, clock: &clock.Replay{}, denied: make(chan access.Attempt)}
	d.clock.Advance(servetest.Now)
	for _, s := range servers {
		d.urls = append(d.urls, s.ClientURL())
	}
	d.cfg = audit.Config{
		Issuer: issuer, SystemCredentials: natstest.Credentials(t, d.urls[0], access.System),
		FirstOperator: filepath.Join(t.TempDir(), "operator-1.nk"), Denied: d.denied,
	}
	stop = d.start(t)
	d.nc = d.connect(t, load(t, d.cfg.FirstOperator))
	return d, stop
}

// runtime is what a service works with that runs under its own user, and knows callers by the audit stream.
func (d *deployment) runtime(t *testing.T, user string) *serve.Runtime {
	t.Helper()
	opts := load(t, natstest.Credentials(t, d.urls[0], user)).ServiceOptions(user)
	return &serve.Runtime{
		Issuer: natstest.Issuer(t, d.urls[0]).Public(), JS: natstest.Connect(t, d.urls[0], opts...), Clock: d.clock, Districts: servetest.Districts,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// start starts a copy of the service, and returns once it answers; stop ends it.
func (d *deployment) start(t *testing.T) (stop func()) {
	t.Helper()
	return d.run(t, subject.Audit, func(ctx context.Context, rt *serve.Runtime) error { return audit.Run(ctx, rt, d.cfg) })
}

// intake starts the service intake beside it.
func (d *deployment) intake(t *testing.T) {
	t.Helper()
	key := servetest.MasterKey(t)
	d.run(t, subject.Intake, func(ctx context.Context, rt *serve.Runtime) error {
		return intake.Run(ctx, rt, intake.Config{MasterKey: key})
	})
}

func (d *deployment) run(t *testing.T, name string, run func(context.Context, *serve.Runtime) error) (stop func()) {
	t.Helper()
	rt := d.runtime(t, name)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, rt) }()
	over := false
	stop = func() {
		cancel()
		if over {
			return
		}
		over = true
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("service %s ended with: %v", name, err)
		}
		rt.JS.Conn().Close()
	}
	t.Cleanup(stop)
	natstest.Eventually(t, 20*time.Second, "the service answers", func() bool {
		_, err := d.js.Conn().Request(subject.Health(name), nil, time.Second)
		return err == nil && rt.JS.Conn().NumSubscriptions() > 5
	})
	return stop
}

func load(t *testing.T, path string) *access.Credentials {
	t.Helper()
	c, err := access.LoadCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newKey(t *testing.T) *access.Credentials {
	t.Helper()
	c, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dial connects with a key, once, to one of the servers.
func (d *deployment) dial(c *access.Credentials, at ...int) (*nats.Conn, error) {
	url := d.urls[0]
	if len(at) > 0 {
		url = d.urls[at[0]]
	}
	return nats.Connect(url, append(c.CallerOptions(), nats.NoReconnect(), nats.Timeout(10*time.Second), nats.IgnoreDiscoveredServers(),
		nats.PermissionErrOnSubscribe(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
}

func (d *deployment) connect(t *testing.T, c *access.Credentials, at ...int) *nats.Conn {
	t.Helper()
	nc, err := d.dial(c, at...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// outside checks that a key lets nobody in. A connection that is found and ended while it knocks hears nothing, and knocks again.
func (d *deployment) outside(t *testing.T, c *access.Credentials) {
	t.Helper()
	var err error
	for range 5 {
		var nc *nats.Conn
		if nc, err = d.dial(c); err == nil {
			nc.Close()
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
	}
	if !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("connecting gives %v", err)
	}
}

func (d *deployment) provenance(command string) *eventv1.Provenance {
	return &eventv1.Provenance{CommandId: command, OccurredAt: timestamppb.New(d.clock.Now()), AdmCode: "440703"}
}

// ask sends a message over a connection.
func ask(t *testing.T, nc *nats.Conn, subj string, m proto.Message) servetest.Reply {
	t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	r, err := nc.Request(subj, payload, 15*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subj, err)
	}
	return servetest.Reply{Data: r.Data, Code: r.Header.Get(micro.ErrorCodeHeader), Error: r.Header.Get(micro.ErrorHeader)}
}

// got asks and takes the answer apart; a refusal fails the test.
func got[A proto.Message](t *testing.T, nc *nats.Conn, subj string, m proto.Message, answer A) A {
	t.Helper()
	r := ask(t, nc, subj, m)
	if r.Code != "" {
		t.Fatalf("%s: %s (%s)", subj, r.Error, r.Code)
	}
	if err := proto.Unmarshal(r.Data, answer); err != nil {
		t.Fatalf("%s: %v", subj, err)
	}
	return answer
}

func send(t *testing.T, nc *nats.Conn, subj string, m proto.Message) *eventv1.CommandReply {
	t.Helper()
	return got(t, nc, subj, m, &eventv1.CommandReply{})
}

func (d *deployment) adding(id, key string, role auditv1.Role) *auditv1.AddCaller {
	return &auditv1.AddCaller{Provenance: d.provenance("add-" + id), CallerId: id, Nkey: key, Role: role, OrgId: "o1"}
}

// add has the first operator add a caller, and returns the caller's key.
func (d *deployment) add(t *testing.T, id string, role auditv1.Role) *access.Credentials {
	t.Helper()
	c := newKey(t)
	send(t, d.nc, add, d.adding(id, c.Public(), role))
	return c
}

func (d *deployment) revoking(id string) *auditv1.RevokeCaller {
	return &auditv1.RevokeCaller{Provenance: d.provenance("revoke-" + id), CallerId: id}
}

func (d *deployment) rotating(id, key string) *auditv1.RotateCallerKey {
	return &auditv1.RotateCallerKey{Provenance: d.provenance("rotate-" + key), CallerId: id, Nkey: key}
}

// ended waits until the bus has ended a connection.
func ended(t *testing.T, nc *nats.Conn, within time.Duration) {
	t.Helper()
	natstest.Eventually(t, within, "the connection has been ended", nc.IsClosed)
}

// accounts are those that the connections of a key are in, by what the servers say.
func (d *deployment) accounts(t *testing.T, key string) (out []string) {
	t.Helper()
	nc, err := nats.Connect(d.urls[0], load(t, d.cfg.SystemCredentials).ServiceOptions(access.System)...)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	answers, err := nc.SubscribeSync(nc.NewRespInbox())
	if err == nil {
		err = nc.PublishRequest(subject.Connections, answers.Subject, fmt.Appendf(nil, `{"auth":true,"user":%q}`, key))
	}
	if err != nil {
		t.Fatal(err)
	}
	for range d.urls {
		m, err := answers.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var told struct {
			Data struct {
				Connections []struct {
					Account string `json:"account"`
				} `json:"connections"`
			} `json:"data"`
		}
		if err := json.Unmarshal(m.Data, &told); err != nil {
			t.Fatal(err)
		}
		for _, c := range told.Data.Connections {
			out = append(out, c.Account)
		}
	}
	return out
}

// signed is an event about a caller as the service would have stored it.
func (d *deployment) signed(t *testing.T, id string, e decider.Event) *nats.Msg {
	t.Helper()
	m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{Event: e, ID: "e-" + id})
	if err == nil {
		err = natstest.Issuer(t, d.urls[0]).Sign(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// events are the names of the events about callers, with their ids, in order.
func (d *deployment) events(t *testing.T) (out []string) {
	t.Helper()
	natstest.Each(t, d.js, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		if p, err := subject.ParseEvent(m.Subject()); err == nil && p.Aggregate == subject.Caller {
			out = append(out, p.ID+" "+p.Event)
		}
	})
	return out
}
