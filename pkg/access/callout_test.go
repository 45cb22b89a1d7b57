package access_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// gate is a bus with its users and a door, as in a deployment: nobody gets in without a key.
type gate struct {
	*server.Server
	issuer *access.Issuer
	users  map[string]*access.Credentials
	door   *nats.Conn

	mu      sync.Mutex
	callers map[string]access.Caller // by key
	refused []string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{issuer: newIssuer(t), users: make(map[string]*access.Credentials), callers: make(map[string]access.Caller)}
	for _, u := range append(access.Users(), access.SystemUser()) {
		g.users[u.Name] = newCredentials(t)
	}
	s, err := bus.Start(bus.Config{
		Dir: t.TempDir(), MonitorPort: -1, MaxStore: natstest.MaxStore,
		Access: access.Conf(access.Users(), func(user string) string { return g.users[user].Public() }, g.issuer.Public()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	g.Server = s
	g.door = g.service(t, subject.Audit)
	if _, err := (access.Door{Issuer: g.issuer, Find: g.find, Refused: g.refuse}).Open(g.door); err != nil {
		t.Fatal(err)
	}
	flush(t, g.door)
	return g
}

func (g *gate) find(_ context.Context, key string) (access.Caller, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, known := g.callers[key]
	return c, known
}

func (g *gate) refuse(_ context.Context, key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, key)
}

// service connects a user of the services' account.
func (g *gate) service(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(g.ClientURL(), g.users[user].ServiceOptions(user)...)
	if err != nil {
		t.Fatalf("%s: %v", user, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// add makes a caller known.
func (g *gate) add(t *testing.T, c access.Caller) *access.Credentials {
	t.Helper()
	creds := newCredentials(t)
	c.Key = creds.Public()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.callers[c.Key] = c
	return creds
}

// connection is one that remembers what it was denied.
type connection struct {
	*nats.Conn
	mu     sync.Mutex
	denied []string
}

func (g *gate) caller(t *testing.T, creds *access.Credentials) *connection {
	t.Helper()
	c := &connection{}
	nc, err := nats.Connect(g.ClientURL(), append(creds.CallerOptions(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.denied = append(c.denied, err.Error())
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c.Conn = nc
	return c
}

func flush(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// allowed tries each subject and returns those that the server did not deny.
func (c *connection) allowed(t *testing.T, subjects []string, try func(subj string) error) (out []string) {
	t.Helper()
	c.mu.Lock()
	c.denied = nil
	c.mu.Unlock()
	for _, s := range subjects {
		if err := try(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	flush(t, c.Conn)
	// What the handler is told of comes in order; the last denial is one that is made for it.
	const last = "_INBOX.the-last-one"
	if err := c.Publish(last, nil); err != nil {
		t.Fatal(err)
	}
	var denied string
	natstest.Eventually(t, 10*time.Second, "every denial is told", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		denied = strings.Join(c.denied, "\n")
		return strings.Contains(denied, last)
	})
	for _, s := range subjects {
		if !strings.Contains(denied, fmt.Sprintf("%q", s)) {
			out = append(out, s)
		}
	}
	return out
}

// Each role gets the account and the rights that the data say. Every subject that some role may send is tried with every role, and what none
// may send too.
func TestARoleMayDoOnTheBusWhatTheDataSay(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	sent := []string{
		"tongan.cmd.intake.case.erase", "tongan.cmd.intake.case.open.more", "tongan.cmd.intake", "tongan.qry.intake.key.get", "tongan.evt.intake.case.c1.case-opened",
		"tongan.keys.k1", "tongan.dead.projector.TONGAN_INTAKE.1", "$JS.API.INFO", "$JS.API.STREAM.DELETE.TONGAN_INTAKE", "TONGAN.API.STREAM.DELETE.TONGAN_INTAKE",
		"TONGAN.API.STREAM.MSG.GET.TONGAN_KEYS", "TONGAN.API.STREAM.MSG.GET.TONGAN_AUDIT", "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING.CONNZ", "_INBOX.intake.x",
		"_R_.x", "x",
	}
	wild := strings.NewReplacer("*", "x", ">", "PING")
	for _, role := range access.Roles() {
		for _, s := range access.Of(role).Send {
			sent = append(sent, wild.Replace(s))
		}
	}
	slices.Sort(sent)
	sent = slices.Compact(sent)
	other := newCredentials(t).Public()
	pairs := 0
	for _, role := range append(access.Roles(), 0, 99) {
		creds := g.add(t, access.Caller{ID: "w1", Role: role})
		c := g.caller(t, creds)
		var want []string
		for _, s := range sent {
			if slices.ContainsFunc(access.Of(role).Send, func(right string) bool { return subject.Matches(right, s) }) {
				want = append(want, s)
			}
		}
		got := c.allowed(t, sent, func(subj string) error { return c.Publish(subj, nil) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v may send: %s", role, diff)
		}
		inbox, events := "_INBOX."+creds.Public(), "tongan.evt.intake.>"
		heard := []string{
			inbox + ".x.*", inbox + ".>", "_INBOX.>", "_INBOX.*.>", "_INBOX." + other + ".>", "_INBOX.intake.>", ">", "*", "tongan.>", "tongan.*.>", "tongan.cmd.>", "tongan.qry.>",
			"tongan.keys.>", "tongan.dead.>", "$JS.>", "$SYS.>", "$SRV.>", "_R_.>", "$JS.ACK.>", events, "tongan.evt.>", "tongan.*.intake.>",
		}
		want = []string{inbox + ".x.*", inbox + ".>"}
		if role == auditv1.Role_ROLE_OPERATOR || role == auditv1.Role_ROLE_EVENT_READER {
			want = append(want, events, "tongan.evt.>")
		}
		got = c.allowed(t, heard, func(subj string) error { _, err := c.SubscribeSync(subj); return err })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v may subscribe: %s", role, diff)
		}
		pairs += len(sent) + len(heard)
		conns, err := g.Connz(&server.ConnzOptions{Username: true, User: creds.Public()})
		if err != nil {
			t.Fatal(err)
		}
		account := "CALLERS"
		if role == auditv1.Role_ROLE_EVENT_READER {
			account = "READERS"
		}
		if len(conns.Conns) != 1 || conns.Conns[0].Account != account {
			t.Errorf("%v is in %+v, want one connection in %s", role, conns.Conns, account)
		}
	}
	if pairs < 500 {
		t.Errorf("%d pairs were tried", pairs)
	}
}

// A reader of events sees the services' events, and of everything else that goes over the bus nothing.
func TestAReaderSeesEventsAndNothingElse(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	for _, role := range []auditv1.Role{auditv1.Role_ROLE_EVENT_READER, auditv1.Role_ROLE_OPERATOR} {
		c := g.caller(t, g.add(t, access.Caller{ID: "r1", Role: role}))
		sub, err := c.SubscribeSync(subject.AllEvents)
		if err != nil {
			t.Fatal(err)
		}
		flush(t, c.Conn)
		for user, subjects := range map[string][]string{
			subject.Audit:  {"tongan.evt.audit.caller.w1.caller-added", "tongan.evt.audit.trail.w1.seal-opened"},
			subject.Intake: {"tongan.keys.k1", "tongan.evt.audit.trail.w1.seal-opened", "tongan.evt.intake.case.c1.case-opened"},
		} {
			nc := g.service(t, user)
			for _, s := range subjects {
				if err := nc.Publish(s, []byte("1f2e3d")); err != nil {
					t.Fatal(err)
				}
			}
			flush(t, nc)
		}
		for want := "tongan.evt.intake.case.c1.case-opened"; ; want = "" {
			m, err := sub.NextMsg(time.Second)
			if want == "" && errors.Is(err, nats.ErrTimeout) {
				break
			}
			if err != nil || m.Subject != want {
				t.Fatalf("%v sees %v (%v)", role, m, err)
			}
		}
	}
}

// Who is not known, or cannot show that the key is its own, is not let in. Only a key that its owner showed is told of: anybody may name another's.
func TestWhoCannotShowAKnownKeyIsNotLetIn(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	known, unknown := g.add(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_OPERATOR}), newCredentials(t)
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountKey, err := account.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string][]nats.Option{
		"nobody":                              nil,
		"a password":                          {nats.UserInfo("w1", "secret")},
		"a key for a name":                    {nats.UserInfo(known.Public(), "")},
		"a token":                             {nats.Token(known.Public())},
		"a JWT":                               {nats.UserJWT(func() (string, error) { return "eyJ", nil }, pair.Sign)},
		"a key that is nobody's":              unknown.CallerOptions(),
		"another one's key":                   {nats.Nkey(known.Public(), pair.Sign)},
		"another one's key, and no signature": {nats.Nkey(known.Public(), func([]byte) ([]byte, error) { return nil, nil })},
		"another one's key, and an old signature": {nats.Nkey(known.Public(), func([]byte) ([]byte, error) { return pair.Sign([]byte("nonce")) })},
		"a service's key":                         {nats.Nkey(g.users[subject.Intake].Public(), pair.Sign)},
		"the door's key":                          {nats.Nkey(g.users[subject.Audit].Public(), pair.Sign)},
		"the issuer's key":                        {nats.Nkey(g.issuer.Public(), account.Sign)},
		"an account's key":                        {nats.Nkey(accountKey, account.Sign)},
	} {
		nc, err := nats.Connect(g.ClientURL(), opts...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.mu.Lock()
	if diff := cmp.Diff([]string{unknown.Public()}, g.refused); diff != "" {
		t.Errorf("told of are: %s", diff)
	}
	g.mu.Unlock()
	g.caller(t, known)
}

// A caller that is removed does not come in again; its key rotated, the new one does and the old one does not. Nobody else notices.
func TestTheDoorHoldsToWhoIsKnownNow(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	one, other := g.add(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_ANALYST}), g.add(t, access.Caller{ID: "w2", Role: auditv1.Role_ROLE_ANALYST})
	stays := g.caller(t, other)
	cid, err := stays.GetClientID()
	if err != nil {
		t.Fatal(err)
	}
	g.caller(t, one).Close()
	g.mu.Lock()
	delete(g.callers, one.Public())
	g.mu.Unlock()
	if _, err := nats.Connect(g.ClientURL(), one.CallerOptions()...); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("once removed: %v", err)
	}
	g.caller(t, g.add(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_ANALYST}))
	flush(t, stays.Conn)
	if again, err := stays.GetClientID(); err != nil || again != cid || stays.Reconnects != 0 {
		t.Errorf("another one's connection was %d and is %d (%v)", cid, again, err)
	}
}

// While nobody answers at the door nobody new comes in, who is in stays, and services come and go: the door may be opened again.
func TestADoorThatIsShutKeepsCallersOut(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	creds := g.add(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_ANALYST})
	in := g.caller(t, creds)
	g.door.Close()
	if nc, err := nats.Connect(g.ClientURL(), append(creds.CallerOptions(), nats.Timeout(10*time.Second))...); err == nil {
		nc.Close()
		t.Error("somebody comes in")
	}
	flush(t, in.Conn)
	again := g.service(t, subject.Audit)
	flush(t, g.service(t, subject.Intake))
	if _, err := (access.Door{Issuer: g.issuer, Find: g.find}).Open(again); err != nil {
		t.Fatal(err)
	}
	flush(t, again)
	flush(t, g.caller(t, creds).Conn)
}

// What another one answers at the door counts for nothing: the bus knows the issuer's key. And only the audit service hears who knocks.
func TestOnlyTheIssuerLetsSomebodyIn(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.door.Close()
	forged := g.service(t, subject.Audit)
	all := func(_ context.Context, key string) (access.Caller, bool) {
		return access.Caller{ID: "w1", Key: key, Role: auditv1.Role_ROLE_OPERATOR}, true
	}
	if _, err := (access.Door{Issuer: newIssuer(t), Find: all}).Open(forged); err != nil {
		t.Fatal(err)
	}
	flush(t, forged)
	if nc, err := nats.Connect(g.ClientURL(), newCredentials(t).CallerOptions()...); err == nil {
		nc.Close()
		t.Error("another issuer lets somebody in")
	}
	for _, u := range access.Users() {
		for _, right := range u.Subscribe {
			if server.SubjectsCollide(right, subject.Callout) && u.Name != subject.Audit {
				t.Errorf("%s hears who knocks", u.Name)
			}
		}
	}
}

func TestAnIssuerIsKeptLikeCredentials(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "credentials", "issuer.nk")
	first, err := access.EnsureIssuer(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is kept with mode %v (%v)", info.Mode(), err)
	}
	if again, err := access.EnsureIssuer(path); err != nil || again.Public() != first.Public() || !nkeys.IsValidPublicAccountKey(first.Public()) {
		t.Errorf("the second time it is another (%v)", err)
	}
	if _, err := access.LoadCredentials(path); err == nil {
		t.Error("it is taken for a user's")
	}
	for _, mode := range []fs.FileMode{0o640, 0o604} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := access.EnsureIssuer(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	user := filepath.Join(t.TempDir(), "user.nk")
	if err := newCredentials(t).Save(user); err != nil {
		t.Fatal(err)
	}
	if _, err := access.LoadIssuer(user); err == nil {
		t.Error("a user's is taken for it")
	}
}
