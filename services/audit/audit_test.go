package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/audit"
)

func TestTheFirstOperatorIsAddedOnce(t *testing.T) {
	t.Parallel()
	d, stop := deploy(t, 1)
	if info, err := os.Stat(d.cfg.FirstOperator); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its credentials are %v, %v", info, err)
	}
	before, err := os.ReadFile(d.cfg.FirstOperator)
	if err != nil {
		t.Fatal(err)
	}
	again := func() {
		stop()
		stop = d.start(t)
		if after, err := os.ReadFile(d.cfg.FirstOperator); err != nil || string(after) != string(before) {
			t.Errorf("its credentials are others now (%v)", err)
		}
	}
	again()
	second := d.connect(t, d.add(t, "op2", operator))
	send(t, second, revoke, d.revoking(audit.FirstOperatorID))
	again() // there is an operator still
	d.outside(t, load(t, d.cfg.FirstOperator))
	want := []string{"operator-1 caller-added", "op2 caller-added", "operator-1 caller-revoked"}
	if diff := cmp.Diff(want, d.events(t)); diff != "" {
		t.Error(diff)
	}
}

// Nobody needs to wait: when the reply is there, the caller is let in, with its key, into its account, and hears what is for it.
func TestACallerConnectsAtOnce(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	for i := range 20 {
		role, account := worker, access.AccountCallers
		if i%2 == 1 {
			role, account = reader, access.AccountReaders
		}
		key := d.add(t, fmt.Sprintf("u%d", i), role)
		nc := d.connect(t, key)
		if got := d.accounts(t, key.Public()); !slices.Equal(got, []string{account}) {
			t.Errorf("%v is in %v", role, got)
		}
		if !hears(t, nc, subject.Inbox(key.Public())+".one") {
			t.Errorf("%v does not hear its inbox", role)
		}
		for _, other := range []string{"_INBOX.>", subject.Inbox("audit") + ".>", subject.Inbox(d.nc.Opts.Nkey) + ".one", "tongan.cmd.>", ">"} {
			if hears(t, nc, other) {
				t.Errorf("%v may subscribe %s", role, other)
			}
		}
	}
}

// hears reports whether a connection may subscribe a subject.
func hears(t *testing.T, nc *nats.Conn, subj string) bool {
	t.Helper()
	sub, err := nc.SubscribeSync(subj)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	_, err = sub.NextMsg(time.Millisecond)
	if err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	return !errors.Is(err, nats.ErrPermissionViolation)
}

func TestWhoIsNotLetIn(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	key, other := d.add(t, "u1", worker), newKey(t)
	var signs nats.Options
	if err := other.Option()(&signs); err != nil {
		t.Fatal(err)
	}
	service, err := access.LoadIssuer(d.cfg.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string][]nats.Option{
		"a key that nobody added":           other.CallerOptions(),
		"the signature of another key":      {nats.Nkey(key.Public(), signs.SignatureCB)},
		"a signature of nothing":            {nats.Nkey(key.Public(), func([]byte) ([]byte, error) { return nil, nil })},
		"a signature of something else":     {nats.Nkey(key.Public(), func([]byte) ([]byte, error) { return signs.SignatureCB([]byte("nonce")) })},
		"no user's key":                     {nats.Nkey(service.Public(), signs.SignatureCB)},
		"a name and a password":             {nats.UserInfo("u1", "password")},
		"a token":                           {nats.Token(key.Public())},
		"a key, with the name of a service": {nats.Nkey(other.Public(), signs.SignatureCB), nats.UserInfo("audit", "")},
	} {
		nc, err := nats.Connect(d.urls[0], append(opts, nats.NoReconnect(), nats.Timeout(10*time.Second))...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.connect(t, key)
}

// A service that cannot do its part does not start, and says why.
func TestWithoutWhatItNeedsItDoesNotStart(t *testing.T) {
	t.Parallel()
	d, stop := deploy(t, 1)
	stop()
	open := func(path string, mode os.FileMode) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out := t.TempDir() + "/open.nk"
		if err := os.WriteFile(out, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(out, mode); err != nil {
			t.Fatal(err)
		}
		return out
	}
	fresh := t.TempDir() + "/stranger.nk"
	if err := newKey(t).Save(fresh); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*audit.Config)
		says   string
	}{
		"an issuer that others may read":  {func(c *audit.Config) { c.Issuer = open(c.Issuer, 0o640) }, "others may read the file (mode 0640)"},
		"an issuer that is a user":        {func(c *audit.Config) { c.Issuer = c.SystemCredentials }, "is not the seed of an account's NKey"},
		"no issuer":                       {func(c *audit.Config) { c.Issuer += "-" }, "cannot be read"},
		"a system key others may read":    {func(c *audit.Config) { c.SystemCredentials = open(c.SystemCredentials, 0o604) }, "others may read the file (mode 0604)"},
		"a system key that is an issuer":  {func(c *audit.Config) { c.SystemCredentials = c.Issuer }, "is not the seed of a user's NKey"},
		"a system key the bus knows not":  {func(c *audit.Config) { c.SystemCredentials = fresh }, "system account: the bus does not let its user in"},
		"no system key":                   {func(c *audit.Config) { c.SystemCredentials += "-" }, "cannot be read"},
		"a system key of another service": {func(c *audit.Config) { c.SystemCredentials = natstest.Credentials(t, d.urls[0], subject.Intake) }, "connections: "},
	} {
		cfg := d.cfg
		tt.change(&cfg)
		if err := audit.Run(t.Context(), d.runtime(t, subject.Audit), cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty := natstest.Connect(t, natstest.Run(t).ClientURL())
	rt := d.runtime(t, subject.Audit)
	rt.JS = empty
	if err := audit.Run(t.Context(), rt, d.cfg); err == nil || !strings.Contains(err.Error(), "tongan migrate") {
		t.Errorf("without streams: %v", err)
	}
}

// TestAFirstOperatorsKeyThatOthersMayReadIsRefused: nobody becomes operator by a key that others may have read.
func TestAFirstOperatorsKeyThatOthersMayReadIsRefused(t *testing.T) {
	t.Parallel()
	servers, _, issuer := natstest.Doorless(t, 1)
	d := &deployment{urls: []string{servers[0].ClientURL()}}
	path := t.TempDir() + "/operator-1.nk"
	if err := newKey(t).Save(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := audit.Config{Issuer: issuer, SystemCredentials: natstest.Credentials(t, d.urls[0], access.System), FirstOperator: path}
	if err := audit.Run(t.Context(), d.runtime(t, subject.Audit), cfg); err == nil || !strings.Contains(err.Error(), "others may read the file (mode 0644)") {
		t.Errorf("it says %v", err)
	}
}

// When the reply to a revocation is there, the caller's connections are ended on every server, nothing is answered over them, and the key
// lets nobody in.
func TestRevokingEndsConnectionsAndAccess(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprintf("at %d servers", servers), func(t *testing.T) {
			t.Parallel()
			d, _ := deploy(t, servers)
			other := d.connect(t, d.add(t, "b1", leader), servers-1)
			for i, role := range []auditv1.Role{worker, reader, operator, leader} {
				id := fmt.Sprintf("u%d", i)
				key := d.add(t, id, role)
				var conns []*nats.Conn
				for at := range 2 * servers {
					conns = append(conns, d.connect(t, key, at%servers))
				}
				begun := time.Now()
				send(t, d.nc, revoke, d.revoking(id))
				replied := time.Since(begun)
				if left := d.accounts(t, key.Public()); len(left) != 0 {
					t.Errorf("%v: after the reply %d connections are left", role, len(left))
				}
				for _, nc := range conns {
					ended(t, nc, promised-min(time.Since(begun), promised))
				}
				seen := time.Since(begun)
				d.outside(t, key)
				if seen > promised {
					t.Errorf("%v: it takes %s", role, seen)
				}
				t.Logf("%v: replied after %s, all %d connections seen ended after %s", role, replied, len(conns), seen)
				if again := send(t, d.nc, revoke, &auditv1.RevokeCaller{Provenance: d.provenance("again"), CallerId: id}); again.GetHappened() {
					t.Errorf("revoking again is answered %v", again)
				}
			}
			if other.IsClosed() || other.Reconnects != 0 {
				t.Error("somebody else's connection was ended")
			}
			callers := got(t, other, listCallers, &auditv1.ListCallers{}, &auditv1.Callers{}).GetCallers()
			if len(callers) != 2 || callers[0].GetCallerId() != "b1" || callers[1].GetCallerId() != audit.FirstOperatorID {
				t.Errorf("callers are %v", callers)
			}
		})
	}
}

// Callers who come and go touch nobody else: whoever works keeps the same connection, and every request is answered.
func TestAddingAndRevokingTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	const rounds, workers = 50, 4
	d, _ := deploy(t, 1)
	d.intake(t)
	var working, changing sync.WaitGroup
	var answered atomic.Int64
	done := make(chan struct{})
	for w := range workers {
		id := fmt.Sprintf("w%d", w)
		nc := d.connect(t, d.add(t, id, worker))
		working.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					if nc.IsClosed() || nc.Reconnects != 0 {
						t.Errorf("%s was disconnected", id)
					}
					return
				default:
				}
				payload, _ := proto.Marshal(&intakev1.OpenCase{Provenance: d.provenance(""), CaseId: fmt.Sprintf("c-%s-%d", id, i), ChildId: "ch1"})
				m, err := nc.Request(openCase, payload, 5*time.Second)
				if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "" {
					t.Errorf("request %d of %s: %v %v", i, id, err, m)
					return
				}
				answered.Add(1)
			}
		})
	}
	begun := time.Now()
	took := make([]time.Duration, rounds)
	for lane := range 5 {
		changing.Go(func() {
			for i := lane; i < rounds; i += 5 {
				id, key := fmt.Sprintf("u%d", i), newKey(t)
				if r := ask(t, d.nc, add, d.adding(id, key.Public(), worker)); r.Code != "" {
					t.Errorf("adding is answered %s", r.Error)
					return
				}
				nc, err := d.dial(key)
				if err != nil {
					t.Errorf("connecting: %v", err)
					return
				}
				at := time.Now()
				if r := ask(t, d.nc, revoke, d.revoking(id)); r.Code != "" {
					t.Errorf("revoking is answered %s", r.Error)
				}
				took[i] = time.Since(at)
				if m, err := nc.Request(openCase, nil, time.Second); err == nil {
					t.Errorf("who was revoked is answered %v", m.Header)
				}
				nc.Close()
			}
		})
	}
	changing.Wait()
	close(done)
	working.Wait()
	slices.Sort(took)
	t.Logf("%d requests of others answered in %s; a revocation is answered after %s, at most %s", answered.Load(), time.Since(begun), took[rounds/2], took[rounds-1])
	if took[rounds-1] > promised || answered.Load() < rounds {
		t.Errorf("a revocation took %s, and %d requests were answered", took[rounds-1], answered.Load())
	}
	d.nc.Close() // the operator's connection was the same all the time, too: it does not reconnect
}

func TestRotatingAKey(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	old, next := d.add(t, "u1", worker), newKey(t)
	nc := d.connect(t, old)
	begun := time.Now()
	send(t, d.nc, rotate, d.rotating("u1", next.Public()))
	if left := d.accounts(t, old.Public()); len(left) != 0 {
		t.Errorf("after the reply %d connections are left", len(left))
	}
	ended(t, nc, promised)
	t.Logf("the old key's connection is ended after %s", time.Since(begun))
	d.outside(t, old)
	nc = d.connect(t, next)
	if again := send(t, d.nc, rotate, &auditv1.RotateCallerKey{Provenance: d.provenance("k2"), CallerId: "u1", Nkey: next.Public()}); again.GetHappened() {
		t.Errorf("the same key again is answered %v", again)
	}
	// A command that comes again, after all that, is answered as the first time, and nobody's connection is ended for it.
	send(t, d.nc, rotate, d.rotating("u1", old.Public()))
	ended(t, nc, promised)
	nc = d.connect(t, old)
	if r := send(t, d.nc, rotate, d.rotating("u1", next.Public())); !r.GetHappened() {
		t.Errorf("an old command is answered %v", r)
	}
	if err := nc.Flush(); err != nil || nc.IsClosed() {
		t.Errorf("the connection is ended for an old command: %v", err)
	}
	d.outside(t, next)
}

// Who gives oneself another key hears that it is so, over the connection it has; then the old key's connections are ended.
func TestRotatingOnesOwnKey(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	old, next := load(t, d.cfg.FirstOperator), newKey(t)
	second := d.connect(t, old)
	begun := time.Now()
	send(t, d.nc, rotate, d.rotating(audit.FirstOperatorID, next.Public()))
	if r, err := second.Request(listCallers, nil, time.Second); err == nil && r.Header.Get(micro.ErrorCodeHeader) != "403" {
		t.Errorf("the old key is still answered: %v", r.Header)
	}
	d.outside(t, old)
	ended(t, d.nc, promised)
	ended(t, second, promised)
	if took := time.Since(begun); took > promised {
		t.Errorf("it takes %s", took)
	}
	d.nc = d.connect(t, next)
	d.add(t, "u1", worker)
}

func TestRefusedCommandsAboutCallers(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	one := d.add(t, "u1", worker)
	d.add(t, "u2", worker)
	n := len(d.events(t))
	key := newKey(t).Public()
	adding := func(change func(*auditv1.AddCaller)) *auditv1.AddCaller {
		c := d.adding("u9", key, worker)
		change(c)
		return c
	}
	nothing := func(*auditv1.AddCaller) {}
	for _, tt := range []struct {
		name    string
		subj    string
		command proto.Message
		code    string
		says    []string
	}{
		{"a role that does not exist", add, adding(func(c *auditv1.AddCaller) { c.Role = 99 }), "400", []string{"role", "defined enum values"}},
		{"a negative role", add, adding(func(c *auditv1.AddCaller) { c.Role = -1 }), "400", []string{"role", "defined enum values"}},
		{"no role", add, adding(func(c *auditv1.AddCaller) { c.Role = 0 }), "400", []string{"role", "must not be in list"}},
		{"no organisation", add, adding(func(c *auditv1.AddCaller) { c.OrgId = "" }), "400", []string{"org_id"}},
		{"no id", add, adding(func(c *auditv1.AddCaller) { c.CallerId = "" }), "400", []string{"caller_id"}},
		{"an id that is a name", add, adding(func(c *auditv1.AddCaller) { c.CallerId = "标识" }), "400", []string{"caller_id"}},
		{"a private key", add, adding(func(c *auditv1.AddCaller) { c.Nkey = "S" + key[1:] }), "400", []string{"nkey"}},
		{"a district that is not served", add, adding(func(c *auditv1.AddCaller) { c.AdmCode = "440106" }), "400", []string{"adm_code", "not a district served here"}},
		{"no command id", add, adding(func(c *auditv1.AddCaller) { c.Provenance.CommandId = "" }), "400", []string{"provenance.command_id", "required"}},
		{"no provenance", add, adding(func(c *auditv1.AddCaller) { c.Provenance = nil }), "400", []string{"provenance"}},
		{"in another's name", add, adding(func(c *auditv1.AddCaller) { c.Provenance.PerformedBy = "u1" }), "403", []string{"provenance.performed_by"}},
		{"the key of another caller", add, adding(func(c *auditv1.AddCaller) { c.Nkey = one.Public() }), "409", []string{"nkey", "another caller's"}},
		{"a reader without a key", add, adding(func(c *auditv1.AddCaller) { c.Nkey, c.Role = "", reader }), "409", []string{"nkey", "required for this role"}},
		{"an operator of a district", add, adding(func(c *auditv1.AddCaller) { c.AdmCode, c.Role = "440703", operator }), "409", []string{"adm_code", "not for this role"}},
		{"somebody who is there", add, adding(func(c *auditv1.AddCaller) { c.CallerId = "u1" }), "409", []string{"caller_id", "added already"}},
		{"the command id of another command", add, adding(func(c *auditv1.AddCaller) { c.CallerId, c.Provenance.CommandId = "u1", "add-u1" }), "409", []string{"provenance.command_id", "used before"}},
		{"rotating to another caller's key", rotate, d.rotating("u2", one.Public()), "409", []string{"nkey", "another caller's"}},
		{"rotating to no key", rotate, d.rotating("u2", ""), "400", []string{"nkey"}},
		{"rotating nobody's key", rotate, d.rotating("u9", key), "409", []string{"caller_id", "not added"}},
		{"revoking nobody", revoke, d.revoking("u9"), "409", []string{"caller_id", "not added"}},
		{"revoking oneself", revoke, d.revoking(audit.FirstOperatorID), "409", []string{"caller_id", "somebody else must do it"}},
		{"something else than a command", add, adding(nothing).GetProvenance(), "400", nil},
	} {
		t.Run(tt.name, func(t *testing.T) { ask(t, d.nc, tt.subj, tt.command).Refused(t, tt.code, tt.says...) })
	}
	if now := len(d.events(t)); now != n {
		t.Errorf("%d events were stored", now-n)
	}
}

// Who was revoked and is added again has the role and key of the second time, and nothing of the first.
func TestAddedAgainWithAnotherRole(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	old := d.add(t, "u1", leader)
	was := d.connect(t, old)
	send(t, d.nc, revoke, d.revoking("u1"))
	next := newKey(t)
	again := d.adding("u1", next.Public(), reader)
	again.Provenance.CommandId = "k2"
	send(t, d.nc, add, again)
	d.outside(t, old)
	ended(t, was, promised)
	nc := d.connect(t, next)
	if got := d.accounts(t, next.Public()); !slices.Equal(got, []string{access.AccountReaders}) {
		t.Errorf("it is in %v", got)
	}
	if _, err := nc.Request(listCallers, nil, 200*time.Millisecond); err == nil {
		t.Error("it has the rights of the first time")
	}
	// The same key may come again, also for somebody else, and in another role.
	send(t, d.nc, revoke, &auditv1.RevokeCaller{Provenance: d.provenance("k3"), CallerId: "u1"})
	send(t, d.nc, add, d.adding("u2", old.Public(), operator))
	send(t, d.connect(t, old), add, d.adding("u3", "", worker))
}

func TestCallersAreListedByIdAPageAtATime(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	const n = 1100
	for i := range n {
		id := fmt.Sprintf("u%04d", i)
		m := d.signed(t, id, &auditv1.CallerAdded{CallerId: id, Role: worker, OrgId: "o1", AdmCode: "440703", InstitutionId: "i1"})
		if _, err := d.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	<-d.js.PublishAsyncComplete()
	natstest.Eventually(t, time.Minute, "the service knows them", func() bool {
		q := &auditv1.ListCallers{After: fmt.Sprintf("u%04d", n-2)}
		return len(got(t, d.nc, listCallers, q, &auditv1.Callers{}).GetCallers()) == 1
	})
	want := d.adding("last", newKey(t).Public(), leader)
	want.AdmCode = "440703"
	send(t, d.nc, add, want)
	var all []*auditv1.Caller
	pages := 0
	for q := (&auditv1.ListCallers{}); ; pages++ {
		page := got(t, d.nc, listCallers, q, &auditv1.Callers{})
		all = append(all, page.GetCallers()...)
		if len(page.GetCallers()) > 1000 || page.GetMore() != (len(page.GetCallers()) == 1000) {
			t.Fatalf("a page of %d, more %v", len(page.GetCallers()), page.GetMore())
		}
		if !page.GetMore() {
			break
		}
		q.After = all[len(all)-1].GetCallerId()
	}
	if len(all) != n+2 || pages != 1 || !slices.IsSortedFunc(all, func(a, b *auditv1.Caller) int { return strings.Compare(a.GetCallerId(), b.GetCallerId()) }) {
		t.Errorf("%d callers on %d pages", len(all), pages+1)
	}
	if got := all[0]; got.GetCallerId() != "last" || got.GetNkey() != want.GetNkey() || got.GetRole() != leader || got.GetOrgId() != "o1" || got.GetAdmCode() != "440703" {
		t.Errorf("the first is %v", got)
	}
	if got := all[2]; got.GetCallerId() != "u0000" || got.GetNkey() != "" || got.GetInstitutionId() != "i1" {
		t.Errorf("the third is %v", got)
	}
}

// Two copies of the service at once are as good as one, and one of them may go.
func TestTwoCopiesAtOnce(t *testing.T) {
	t.Parallel()
	d, stop := deploy(t, 1)
	d.start(t)
	both := func(from int) {
		for i := from; i < from+5; i++ {
			id := fmt.Sprintf("u%d", i)
			key := d.add(t, id, worker)
			d.connect(t, key)
			next := newKey(t)
			send(t, d.nc, rotate, d.rotating(id, next.Public()))
			if left := d.accounts(t, key.Public()); len(left) != 0 {
				t.Errorf("after the reply %d connections are left", len(left))
			}
			d.outside(t, key)
			nc := d.connect(t, next)
			send(t, d.nc, revoke, d.revoking(id))
			ended(t, nc, promised)
			d.outside(t, next)
		}
	}
	both(0)
	stop()
	both(5)
	if d.nc.Reconnects != 0 {
		t.Error("the operator was disconnected")
	}
}

// While no copy of the service runs, nobody comes in and nobody is thrown out: who is connected works on. The next copy lets callers in
// again, and ends nobody's connection.
func TestARestartTouchesNobodyWhoIsConnected(t *testing.T) {
	t.Parallel()
	d, stop := deploy(t, 1)
	d.intake(t)
	key, read := d.add(t, "u1", worker), d.add(t, "r1", reader)
	nc, reads := d.connect(t, key), d.connect(t, read)
	heard, err := reads.SubscribeSync(subject.AllEvents)
	if err != nil {
		t.Fatal(err)
	}
	if err := reads.Flush(); err != nil {
		t.Fatal(err)
	}
	works := func(id string) {
		t.Helper()
		send(t, nc, openCase, &intakev1.OpenCase{Provenance: d.provenance(""), CaseId: id, ChildId: "ch1"})
		if m, err := heard.NextMsg(5 * time.Second); err != nil || !strings.Contains(m.Subject, "."+id+".") {
			t.Errorf("the reader hears %v, %v", m, err)
		}
	}
	works("c1")
	stop()
	works("c2")
	if late, err := d.dial(key); err == nil {
		late.Close()
		t.Error("somebody was let in while nobody could say who it is")
	}
	works("c3")
	d.start(t)
	d.connect(t, key)
	works("c4")
	natstest.Eventually(t, promised, "the service has looked at all connections", func() bool {
		return len(d.accounts(t, key.Public())) == 2
	})
	send(t, d.nc, revoke, d.revoking("u1"))
	ended(t, nc, promised)
	if d.nc.Reconnects+reads.Reconnects != 0 || reads.IsClosed() {
		t.Error("somebody was disconnected")
	}
}

// An event about a caller that the service did not sign is none: not for who is let in, and not for what is decided.
func TestAnEventThatIsNotSignedChangesNothing(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	nc := d.connect(t, d.add(t, "u1", worker))
	m, err := eventlog.Encode(subject.Caller, "u1", decider.Recorded{Event: &auditv1.CallerRevoked{CallerId: "u1"}, ID: "e-forged"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if reply := send(t, d.nc, revoke, d.revoking("u1")); !reply.GetHappened() {
		t.Error("a forged revocation is taken for one")
	}
	ended(t, nc, promised)
}

// A copy of the service may end after a revocation is stored and before the caller's connections are ended. The next one ends them.
func TestARevocationThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	d, stop := deploy(t, 1)
	gone, rotated, stays := d.connect(t, d.add(t, "u1", reader)), d.connect(t, d.add(t, "u2", worker)), d.connect(t, d.add(t, "u3", worker))
	stop()
	for id, e := range map[string]decider.Event{
		"u1": &auditv1.CallerRevoked{CallerId: "u1"}, "u2": &auditv1.CallerKeyRotated{CallerId: "u2", Nkey: newKey(t).Public()},
	} {
		if _, err := d.js.PublishMsg(t.Context(), d.signed(t, id, e)); err != nil {
			t.Fatal(err)
		}
	}
	d.start(t)
	ended(t, gone, promised)
	ended(t, rotated, promised)
	if stays.IsClosed() || d.nc.IsClosed() {
		t.Error("somebody else's connection was ended")
	}
}

// A copy of the service that learns of a revocation late may let the caller in once more: for a moment only.
func TestWhomALateCopyLetInIsOutAMomentLater(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	key := d.add(t, "u1", reader)
	other := d.connect(t, d.add(t, "u2", reader))
	d.door(t, func(k string) (access.Caller, bool) {
		return access.Caller{ID: "u1", Key: k, Role: reader}, k == key.Public()
	})
	begun := time.Now()
	send(t, d.nc, revoke, d.revoking("u1"))
	for in := 0; in == 0; { // the bus asks one of the two
		var dials sync.WaitGroup
		conns := make(chan *nats.Conn, 8)
		for range cap(conns) {
			dials.Go(func() {
				if nc, err := d.dial(key); err == nil {
					conns <- nc
				}
			})
		}
		dials.Wait()
		close(conns)
		in = len(conns)
		late := time.Since(begun)
		for nc := range conns {
			if late < promised/3 { // the machine keeps up
				ended(t, nc, promised-time.Since(begun))
			}
			ended(t, nc, 3*promised)
		}
		t.Logf("%d connections let in within %s are ended after %s", in, late, time.Since(begun))
	}
	if other.IsClosed() || d.nc.IsClosed() {
		t.Error("somebody else's connection was ended")
	}
}

// Whom the bus is just asking about when the revocation comes is not in afterwards, whatever the bus is told.
func TestWhoKnocksWhileBeingRevokedIsNotIn(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	key := d.add(t, "u1", reader)
	asked, revoked := make(chan struct{}), make(chan struct{})
	d.door(t, func(k string) (access.Caller, bool) {
		if k == key.Public() {
			asked <- struct{}{}
			<-revoked
		}
		return access.Caller{ID: "u1", Key: k, Role: reader}, k == key.Public()
	})
	for {
		in := make(chan *nats.Conn, 1)
		go func() {
			nc, _ := d.dial(key)
			in <- nc
		}()
		select {
		case nc := <-in: // the bus asked the other one
			nc.Close()
			continue
		case <-asked:
		}
		send(t, d.nc, revoke, d.revoking("u1"))
		close(revoked)
		if nc := <-in; nc != nil {
			ended(t, nc, 3*promised)
		}
		return
	}
}

// door lets callers in beside the service.
func (d *deployment) door(t *testing.T, find func(key string) (access.Caller, bool)) {
	t.Helper()
	issuer, err := access.LoadIssuer(d.cfg.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	nc := d.runtime(t, subject.Audit).JS.Conn()
	door := access.Door{Issuer: issuer, Find: func(_ context.Context, key string) (access.Caller, bool) { return find(key) }}
	if _, err := door.Open(nc); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
