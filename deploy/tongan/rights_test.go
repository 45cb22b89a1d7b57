package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/audit"
	"tongan.dev/services/intake"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// goldenRights is what each user was allowed, as tried.
const goldenRights = "testdata/rights.txt"

// leastPairs is how many pairs of a user and a subject must have been tried.
const leastPairs = 500

// probe is a user beside those of the data, who may do everything in the services' account.
const probe = "probe"

// guard starts a bus with the configuration of the data for these users, and the probe. Users without a key get one. It does not wait for the
// disk; log, if there is one, is told all that clients tell the bus.
func guard(t *testing.T, keys *serviceKeys, users []access.User, log server.Logger) *server.Server {
	t.Helper()
	users = append(slices.Clip(users), access.User{Name: probe, Publish: []string{">"}, Subscribe: []string{">"}})
	key := func(user string) string {
		if keys.users[user] == nil {
			var err error
			if keys.users[user], err = access.NewCredentials(); err != nil {
				t.Fatal(err)
			}
		}
		return keys.users[user].Public()
	}
	var o server.Options
	if err := o.ProcessConfigString(access.Conf(users, key, keys.issuer.Public())); err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port, o.NoSigs, o.MaxPayload = "127.0.0.1", server.RANDOM_PORT, true, bus.MaxPayload
	o.JetStream, o.StoreDir, o.JetStreamMaxStore = true, filepath.Join(t.TempDir(), "bus"), 1<<50
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	if log != nil {
		s.SetLoggerV2(log, false, true, true)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("the bus is not ready")
	}
	return s
}

// newKeys makes the keys that a system makes.
func newKeys(t *testing.T, dir string) *serviceKeys {
	t.Helper()
	keys, err := loadKeys(filepath.Join(dir, "credentials", "services"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// trial is a connection that tries subjects and is told which are denied.
type trial struct {
	*nats.Conn
	mu     sync.Mutex
	denied map[string]bool // subjects since the last call of denials
	over   chan bool       // told when the subject after the last one was denied
}

// afterLast is a subject that nobody has: that it is denied says that everything before it was looked at. The server says so in the order
// in which it was asked.
const afterLast = "rights.after.last"

var violation = regexp.MustCompile(`Permissions Violation for (?:Publish|Subscription) to "([^"]+)"`)

// try connects with a key.
func try(t *testing.T, s *server.Server, opts []nats.Option) *trial {
	t.Helper()
	c := &trial{denied: make(map[string]bool), over: make(chan bool, 1)}
	var err error
	c.Conn, err = nats.Connect(s.ClientURL(), append(opts, nats.NoReconnect(), nats.SyncQueueLen(1<<10), nats.ErrorHandler(c.failed))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (c *trial) failed(_ *nats.Conn, _ *nats.Subscription, err error) {
	m := violation.FindStringSubmatch(err.Error())
	switch {
	case m == nil:
	case m[1] == afterLast:
		c.over <- true
	default:
		c.mu.Lock()
		c.denied[m[1]] = true
		c.mu.Unlock()
	}
}

// denials returns the subjects that were denied since it was called last.
func (c *trial) denials(t *testing.T) map[string]bool {
	t.Helper()
	if err := c.Publish(afterLast, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.over:
	case <-time.After(20 * time.Second):
		t.Fatalf("the server does not answer: %v", c.LastError())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.denied
	c.denied = make(map[string]bool)
	return d
}

// within reports whether a subject or filter is one that a filter allows, as the server sees it: every subject that the inner one matches, the
// outer one matches too. But it takes a ">" for a token like others, so that "*" at the end allows ">".
func within(inner, outer string) bool {
	in, out := strings.Split(inner, "."), strings.Split(outer, ".")
	for i, token := range out {
		switch {
		case token == ">":
			return len(in) > i
		case i >= len(in), token != "*" && token != in[i]:
			return false
		}
	}
	return len(in) == len(out)
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func anyWithin(inner string, outer []string) bool {
	return slices.ContainsFunc(outer, func(o string) bool { return within(inner, o) })
}

// contract returns the commands and queries that the comments of the contract name.
func contract(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../proto/tongan/*/v1/*.proto")
	if err != nil || len(files) == 0 {
		t.Fatalf("no contract: %v", err)
	}
	said := regexp.MustCompile(`Subject(?:\s|//)+(tongan\.(?:cmd|qry)(?:\.[a-z-]+){3})`)
	var out []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range said.FindAllSubmatch(text, -1) {
			out = append(out, string(m[1]))
		}
	}
	return distinct(out)
}

// requests are the commands and queries of the contract, what stands beside them, and some that there are not.
func requests(t *testing.T) []string {
	t.Helper()
	out := append(contract(t), "tongan.cmd.intake.case.erase", "tongan.qry.intake.case.list", "tongan.cmd.registry.child.register", "tongan.qry.health.get")
	for _, s := range services() {
		out = append(out, subject.Health(s))
	}
	return out
}

// services are all that answer.
func services() []string { return append(subject.Services(), subject.Audit, projector.Name) }

// subjects are what everybody tries to publish and to subscribe. Where it stands for something else for each, a name is in brackets.
func subjects(t *testing.T) []string {
	t.Helper()
	out := append(requests(t),
		"tongan.evt.intake.case.c1.case-opened", "tongan.evt.healthcheck.round.r1.check-round-opened", "tongan.evt.outreach.visit.v1.visit-recorded",
		"tongan.evt.outreach.reminder.b1.reminders-queued", "tongan.evt.reporting.bulletin.b1.figure-published", "tongan.evt.projector.batch.b1.batch-written",
		"tongan.evt.audit.caller.w1.caller-added", "tongan.evt.audit.trail.w1.seal-opened", "tongan.evt.audit.trail.w1.data-exported",
		"tongan.evt.audit.trail.w1.attempt-refused", "tongan.keys.child-c1", "tongan.keys.contact-c1",
		"tongan.dead.projector.TONGAN_INTAKE.1", "tongan.dead.outreach-gateway.TONGAN_OUTREACH.1", "tongan.dead.outreach-gateway.TONGAN_INTAKE.1",
		"tongan.dead.intake.TONGAN_INTAKE.1", "tongan.other", "elsewhere",
		"$JS.ACK.TONGAN_OUTREACH.outreach-gateway.1.1.1.1.0", "$JS.ACK.TONGAN_INTAKE.x.1.1.1.1.0", "$JS.FC.TONGAN_INTAKE.x.1", "$JS.EVENT.ADVISORY.API",
		subject.Connections, subject.Kick("<server>"), "$SYS.REQ.SERVER.<server>.CONNZ", "$SYS.REQ.SERVER.<server>.RELOAD", "$SYS.REQ.SERVER.PING",
		"$SYS.REQ.ACCOUNT.TONGAN.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SYS.ACCOUNT.TONGAN.CONNECT", subject.Callout,
		"$SRV.PING", "$SRV.INFO", "$SRV.STATS", "_INBOX.x", "_INBOX.<own>.x", "_INBOX.<own>.x.y", "_INBOX.<other>.x", "_R_.x",
	)
	for _, s := range services() {
		out = append(out, "$SRV.PING."+subject.Micro(s), "$SRV.STATS."+subject.Micro(s)+".id1")
	}
	for _, prefix := range []string{"$JS.API.", access.APIPrefix + "."} {
		for _, op := range jetStream() {
			out = append(out, prefix+op)
		}
	}
	return out
}

// streams are all of them, and one that there is not.
func streams() []string {
	out := []string{"TONGAN_NEW"}
	for _, s := range eventlog.Streams(eventlog.StreamOptions{}) {
		out = append(out, s.Name)
	}
	return out
}

// jetStream are the operations of JetStream's interface, on every stream.
func jetStream() []string {
	out := []string{"INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.TONGAN", "META.LEADER.STEPDOWN"}
	for _, s := range streams() {
		for _, op := range slices.Concat(changes(), []string{"STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "CONSUMER.NAMES", "CONSUMER.LIST"}) {
			out = append(out, op+"."+s)
		}
		for _, op := range []string{"CREATE", "DURABLE.CREATE", "INFO", "MSG.NEXT", "DELETE", "PAUSE"} {
			out = append(out, "CONSUMER."+op+"."+s+".x")
		}
	}
	return append(out,
		"DIRECT.GET.TONGAN_KEYS.tongan.keys.child-c1", "DIRECT.GET.TONGAN_INTAKE.tongan.evt.intake.case.c1.case-opened",
		"CONSUMER.CREATE.TONGAN_AUDIT.x.tongan.evt.audit.caller.>", "CONSUMER.CREATE.TONGAN_AUDIT.x.tongan.evt.audit.>",
		"CONSUMER.CREATE.TONGAN_INTAKE.x.tongan.evt.intake.>", "CONSUMER.CREATE.TONGAN_KEYS.x.tongan.keys.>",
		"CONSUMER.CREATE.TONGAN_OUTREACH.outreach-gateway.tongan.evt.outreach.reminder.*.reminders-queued",
		"CONSUMER.CREATE.TONGAN_OUTREACH.x.tongan.evt.outreach.reminder.*.reminders-queued",
		"CONSUMER.MSG.NEXT.TONGAN_OUTREACH.outreach-gateway", "CONSUMER.DELETE.TONGAN_OUTREACH.outreach-gateway", "CONSUMER.INFO.TONGAN_OUTREACH.outreach-gateway",
	)
}

// changes are the operations that create, change or remove a stream or what it holds.
func changes() []string {
	return []string{
		"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE",
		"STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE",
	}
}

// wildcards are what everybody tries to subscribe beside the subjects.
func wildcards() []string {
	out := []string{
		">", "*", "*.>", "tongan.>", "tongan.*.>", "tongan.*.intake.>", "tongan.cmd.>", "tongan.cmd.*.*.*", "tongan.qry.>", "tongan.qry.*.health.get",
		subject.AllEvents, "tongan.evt.*.>", "tongan.evt.*.*.*.*", "tongan.evt.audit.caller.>", "tongan.evt.audit.trail.*.*",
		subject.AllKeys, "tongan.keys.*", subject.AllDead, "tongan.dead.projector.>", "tongan.dead.*.*.*",
		"$JS.>", "$JS.API.>", "$JS.API.STREAM.*.*", "$JS.ACK.>", "$JS.ACK.TONGAN_OUTREACH.outreach-gateway.>", "$JS.EVENT.>", access.APIPrefix + ".>",
		"$SRV.>", "$SRV.*", "$SRV.*.*", "$SRV.*.*.*", "$SRV.PING.>",
		"$SYS.>", "$SYS.*.>", "$SYS.REQ.>", "$SYS.ACCOUNT.>", "$SYS.REQ.USER.*",
		"_INBOX.>", "_INBOX.*.>", "_INBOX.<own>.>", "_INBOX.<own>.*", "_INBOX.<other>.>", "_R_.>",
	}
	for _, s := range services() {
		out = append(out, subject.Commands(s), subject.Queries(s), subject.Events(s), "$SRV.*."+subject.Micro(s), "$SRV.*."+subject.Micro(s)+".*")
	}
	return out
}

// party is somebody who connects to the bus, and what was found out by trying.
type party struct {
	name, account      string
	inbox, other       string   // whose inbox is its own, and somebody else's
	publish, subscribe []string // what the data say
	key                string
	conn               *trial
	full               *strings.Replacer

	publishes, subscribes, hears map[string]bool // by subject as everybody's list has it
}

// service reports whether the party is in the services' account.
func (p *party) service() bool { return p.account == access.AccountServices }

// parties connects every user of the data, and a caller of each role.
func parties(t *testing.T, s *server.Server, keys *serviceKeys) []*party {
	t.Helper()
	var all []*party
	add := func(p *party, credentials *access.Credentials, opts []nats.Option) {
		p.key, p.conn = credentials.Public(), try(t, s, opts)
		p.publishes, p.subscribes, p.hears = make(map[string]bool), make(map[string]bool), make(map[string]bool)
		all = append(all, p)
	}
	for _, u := range append(access.Users(), access.SystemUser()) {
		p := &party{name: u.Name, inbox: u.Name, account: access.AccountServices, publish: u.Publish, subscribe: u.Subscribe}
		if u.Name == access.System {
			p.account = access.AccountSystem
		}
		add(p, keys.users[u.Name], keys.users[u.Name].ServiceOptions(u.Name))
	}
	callers := make(map[string]access.Caller)
	find := func(_ context.Context, key string) (access.Caller, bool) { c, ok := callers[key]; return c, ok }
	credentials := make(map[auditv1.Role]*access.Credentials)
	for _, role := range access.Roles() {
		c, err := access.NewCredentials()
		if err != nil {
			t.Fatal(err)
		}
		credentials[role], callers[c.Public()] = c, access.Caller{ID: "w1", Key: c.Public(), Role: role}
	}
	doorkeeper := try(t, s, keys.users[subject.Audit].ServiceOptions(subject.Audit))
	if _, err := (access.Door{Issuer: keys.issuer, Find: find}).Open(doorkeeper.Conn); err != nil {
		t.Fatal(err)
	}
	if err := doorkeeper.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, role := range access.Roles() {
		r, c := access.Of(role), credentials[role]
		p := &party{name: strings.TrimPrefix(role.String(), "ROLE_"), inbox: c.Public(), account: access.AccountCallers, publish: r.Send}
		p.subscribe = append([]string{subject.Inbox(c.Public()) + ".>"}, r.Read...)
		if r.Outside {
			p.account = access.AccountReaders
		}
		add(p, c, c.CallerOptions())
	}
	for i, p := range all {
		p.other = all[(i+1)%len(all)].inbox
		p.full = strings.NewReplacer("<own>", p.inbox, "<other>", p.other, "<server>", s.ID())
	}
	return all
}

// TestEveryUserMayDoWhatTheDataSay tries every pair of a user and a subject at a real server, publishing and subscribing.
func TestEveryUserMayDoWhatTheDataSay(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, t.TempDir())
	s := guard(t, keys, access.Users(), nil)
	all, literal, filters := parties(t, s, keys), distinct(subjects(t)), distinct(append(subjects(t), wildcards()...))
	observer := try(t, s, keys.users[probe].ServiceOptions(probe))
	arrived, err := observer.SubscribeSync(">")
	if err == nil {
		err = observer.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		p.tryPublishing(t, literal, observer, arrived)
	}
	if err := arrived.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	subs := make(map[*party]map[string]*nats.Subscription)
	for _, p := range all {
		subs[p] = p.trySubscribing(t, filters)
	}
	published := make(map[string]bool)
	for _, p := range all {
		for _, name := range literal {
			published[p.full.Replace(name)] = true
		}
	}
	for subj := range published {
		if err := observer.Publish(subj, []byte(probe)); err != nil {
			t.Fatal(err)
		}
	}
	if err := observer.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		p.listen(t, literal, subs[p], published)
	}
	pairs := len(all) * (len(literal) + len(filters))
	t.Logf("%d users, %d subjects to publish and %d to subscribe: %d pairs", len(all), len(literal), len(filters), pairs)
	if pairs < leastPairs {
		t.Errorf("%d pairs were tried, at least %d are asked for", pairs, leastPairs)
	}
	t.Run("as in the golden file", func(t *testing.T) { goldenAs(t, all) })
	t.Run("what matters most", func(t *testing.T) { whatMattersMost(t, all) })
	t.Run("what nobody may", func(t *testing.T) { whatNobodyMay(t, all) })
	t.Run("every command and query is somebody's", func(t *testing.T) {
		for _, request := range contract(t) {
			if who(all, (*party).published, request) == "" {
				t.Errorf("%s is nobody's", request)
			}
		}
	})
}

// tryPublishing publishes everything. What is allowed must arrive in the services' account, from a caller with the caller's name on it; what
// is not must not.
func (p *party) tryPublishing(t *testing.T, names []string, observer *trial, arrived *nats.Subscription) {
	t.Helper()
	reply := ""
	if !p.service() {
		reply = subject.Inbox(p.inbox) + ".reply"
	}
	for _, name := range names {
		if err := p.conn.PublishMsg(&nats.Msg{Subject: p.full.Replace(name), Reply: reply, Data: []byte(p.name + " " + name)}); err != nil {
			t.Fatal(err)
		}
	}
	denied := p.conn.denials(t)
	if err := observer.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]*nats.Msg)
	for _, m := range received(t, arrived) {
		got[string(m.Data)] = m
	}
	for _, name := range names {
		subj := p.full.Replace(name)
		p.publishes[name] = !denied[subj]
		if want := anyWithin(subj, p.publish); want != p.publishes[name] {
			t.Errorf("%s publishes %s: %v, the data say %v", p.name, name, !want, want)
		}
		m := got[p.name+" "+name]
		switch want := p.publishes[name] && p.account != access.AccountSystem; {
		case want != (m != nil):
			t.Errorf("%s publishes %s: that it arrives is %v", p.name, name, m != nil)
		case m != nil && p.account == access.AccountCallers:
			p.checkArrived(t, subj, m)
		case m != nil && m.Subject != subj:
			t.Errorf("%s publishes %s: it arrives as %s", p.name, name, m.Subject)
		}
	}
}

// checkArrived checks how what a caller published arrives.
func (p *party) checkArrived(t *testing.T, subj string, m *nats.Msg) {
	t.Helper()
	if api, is := strings.CutPrefix(subj, access.APIPrefix+"."); is {
		subj = subject.API(api)
	}
	if m.Subject != subj {
		t.Errorf("%s publishes %s: it arrives as %s", p.name, subj, m.Subject)
	}
	var info struct{ Acc, User string }
	if err := json.Unmarshal([]byte(m.Header.Get("Nats-Request-Info")), &info); err != nil {
		t.Errorf("%s publishes %s: it says of its origin: %v", p.name, subj, err)
	}
	if named := info.User == p.key && info.Acc == p.account; named != anyWithin(subj, []string{"tongan.cmd.>", "tongan.qry.>"}) {
		t.Errorf("%s publishes %s: it comes from %q of %q", p.name, subj, info.User, info.Acc)
	}
	if !strings.HasPrefix(m.Reply, "_R_.") {
		t.Errorf("%s publishes %s: it is to be answered to %s", p.name, subj, m.Reply)
	}
}

// received returns what a subscription has got.
func received(t *testing.T, sub *nats.Subscription) []*nats.Msg {
	t.Helper()
	n, _, err := sub.Pending()
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := sub.Dropped(); err != nil || lost > 0 {
		t.Fatalf("%d messages on %s were lost: %v", lost, sub.Subject, err)
	}
	out := make([]*nats.Msg, n)
	for i := range out {
		if out[i], err = sub.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// trySubscribing subscribes everything, and returns what was allowed.
func (p *party) trySubscribing(t *testing.T, names []string) map[string]*nats.Subscription {
	t.Helper()
	subs := make(map[string]*nats.Subscription)
	for _, name := range names {
		var err error
		if subs[name], err = p.conn.SubscribeSync(p.full.Replace(name)); err != nil {
			t.Fatal(err)
		}
	}
	denied := p.conn.denials(t)
	for _, name := range names {
		filter := p.full.Replace(name)
		p.subscribes[name] = !denied[filter]
		if want := anyWithin(filter, p.subscribe); want != p.subscribes[name] {
			t.Errorf("%s subscribes %s: %v, the data say %v", p.name, name, !want, want)
		}
		if denied[filter] {
			delete(subs, name)
		}
	}
	return subs
}

// listen checks what came of all that was published in the services' account: to its own users what they subscribed, to others the events of
// it that readers see.
func (p *party) listen(t *testing.T, literal []string, subs map[string]*nats.Subscription, published map[string]bool) {
	t.Helper()
	if err := p.conn.Flush(); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for name, sub := range subs {
		heard := make(map[string]bool)
		for _, m := range received(t, sub) {
			if string(m.Data) == probe {
				heard[m.Subject], all[m.Subject] = true, true
			}
		}
		for subj := range published {
			want := within(subj, sub.Subject) && (p.service() || p.account != access.AccountSystem && isEvent(subj))
			if heard[subj] != want {
				t.Errorf("%s subscribes %s: that it hears %s is %v", p.name, name, subj, !want)
			}
		}
	}
	for _, name := range literal {
		p.hears[name] = all[p.full.Replace(name)]
	}
}

// isEvent reports whether a subject is that of an event that readers see.
func isEvent(subj string) bool {
	return slices.ContainsFunc(subject.Services(), func(s string) bool { return within(subj, subject.Events(s)) })
}

func (p *party) published(name string) bool  { return p.publishes[name] }
func (p *party) subscribed(name string) bool { return p.subscribes[name] }
func (p *party) heard(name string) bool      { return p.hears[name] }

// who returns the names of those who did something with a subject.
func who(all []*party, did func(*party, string) bool, name string) string {
	var names []string
	for _, p := range all {
		if did(p, name) {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, " ")
}

// whatMattersMost is said here by hand, whatever the data say.
func whatMattersMost(t *testing.T, all []*party) {
	t.Helper()
	publish, subscribe, hear := (*party).published, (*party).subscribed, (*party).heard
	const deciding = "intake healthcheck outreach reporting audit"
	for _, line := range []struct {
		did  func(*party, string) bool
		name string
		who  string
	}{
		// Each event has one writer; only the trail has several.
		{publish, "tongan.evt.intake.case.c1.case-opened", "intake"},
		{publish, "tongan.evt.healthcheck.round.r1.check-round-opened", "healthcheck"},
		{publish, "tongan.evt.outreach.visit.v1.visit-recorded", "outreach"},
		{publish, "tongan.evt.reporting.bulletin.b1.figure-published", "reporting"},
		{publish, "tongan.evt.projector.batch.b1.batch-written", ""},
		{publish, "tongan.evt.audit.caller.w1.caller-added", "audit"},
		{publish, "tongan.evt.audit.trail.w1.seal-opened", "intake audit"},
		{publish, "tongan.evt.audit.trail.w1.data-exported", "reporting audit"},
		{publish, "tongan.evt.audit.trail.w1.attempt-refused", deciding},
		// Keys are made where something is sealed, and come by request only.
		{publish, "tongan.keys.child-c1", "intake outreach"},
		{publish, "$JS.API.DIRECT.GET.TONGAN_KEYS.tongan.keys.child-c1", "intake outreach"},
		{publish, "$JS.API.STREAM.MSG.GET.TONGAN_KEYS", ""},
		{publish, "TONGAN.API.STREAM.MSG.GET.TONGAN_KEYS", ""},
		{publish, "TONGAN.API.STREAM.MSG.GET.TONGAN_AUDIT", ""},
		{publish, "TONGAN.API.STREAM.MSG.GET.TONGAN_INTAKE", "OPERATOR"},
		{publish, "$JS.API.CONSUMER.CREATE.TONGAN_KEYS.x", ""},
		{publish, "$JS.API.CONSUMER.CREATE.TONGAN_KEYS.x.tongan.keys.>", ""},
		{publish, "$JS.API.CONSUMER.CREATE.TONGAN_AUDIT.x", "audit"},
		{publish, "$JS.API.CONSUMER.CREATE.TONGAN_AUDIT.x.tongan.evt.audit.>", ""},
		{publish, "TONGAN.API.CONSUMER.CREATE.TONGAN_INTAKE.x", ""},
		{subscribe, subject.AllKeys, ""},
		{hear, "tongan.keys.child-c1", ""},
		{subscribe, subject.AllDead, ""},
		{hear, "tongan.dead.projector.TONGAN_INTAKE.1", ""},
		// Personal details in clear.
		{publish, "tongan.cmd.intake.child.register", "HOTLINE_OPERATOR SOCIAL_WORKER CHILD_DIRECTOR CHILD_SUPERVISOR"},
		{publish, "tongan.qry.intake.child.get", "HOTLINE_OPERATOR SOCIAL_WORKER CHILD_DIRECTOR CHILD_SUPERVISOR"},
		{hear, "tongan.cmd.intake.child.register", "intake"},
		{hear, "tongan.qry.intake.child.get", "intake"},
		{subscribe, "tongan.cmd.>", ""},
		{subscribe, "tongan.qry.>", ""},
		{subscribe, "tongan.>", ""},
		{subscribe, ">", ""},
		{subscribe, "tongan.cmd.intake.>", "intake"},
		{subscribe, "tongan.cmd.outreach.>", "outreach"},
		{subscribe, "tongan.cmd.audit.>", "audit"},
		{subscribe, "_INBOX.>", ""},
		{subscribe, "_INBOX.<other>.>", ""},
		{subscribe, "_R_.>", ""},
		{publish, "_R_.x", ""},
		// Readers see events, and none of what audit keeps.
		{hear, "tongan.evt.intake.case.c1.case-opened", "OPERATOR EVENT_READER"},
		{hear, "tongan.evt.reporting.bulletin.b1.figure-published", "OPERATOR EVENT_READER"},
		{hear, "tongan.evt.audit.caller.w1.caller-added", ""},
		{hear, "tongan.evt.audit.trail.w1.seal-opened", ""},
		// Who may call, and who is let in.
		{publish, "tongan.cmd.audit.caller.add", "OPERATOR"},
		{publish, "tongan.cmd.audit.caller.revoke", "OPERATOR"},
		{publish, "tongan.qry.audit.record.list", "BUREAU_LEADER OPERATOR"},
		{subscribe, subject.Callout, "audit"},
		{publish, subject.Callout, ""},
		{hear, subject.Callout, "audit"},
		{publish, subject.Kick("<server>"), "system"},
		{publish, "$SYS.REQ.SERVER.<server>.RELOAD", ""},
		{subscribe, "$SYS.>", ""},
		{publish, "tongan.qry.intake.health.get", "migration OPERATOR"},
	} {
		if got := who(all, line.did, line.name); got != line.who {
			t.Errorf("%s: it is %q, must be %q", line.name, got, line.who)
		}
	}
}

// whatNobodyMay is said by hand too.
func whatNobodyMay(t *testing.T, all []*party) {
	t.Helper()
	for _, stream := range streams() {
		for _, change := range changes() {
			for _, api := range []string{"$JS.API.", access.APIPrefix + "."} {
				want := ""
				switch {
				case api+change == "$JS.API.STREAM.CREATE":
					want = access.Migration
				case api+change == "$JS.API.STREAM.MSG.DELETE" && (stream == subject.StreamKeys || stream == subject.StreamIndex):
					want = subject.Intake // to forget a child
				}
				if got := who(all, (*party).published, api+change+"."+stream); got != want {
					t.Errorf("%s%s of %s: it is %q, must be %q", api, change, stream, got, want)
				}
			}
		}
	}
	for _, p := range all {
		for _, request := range requests(t) {
			if p.service() && p.publishes[request] && (p.name != access.Migration || !within(request, subject.Health("*"))) {
				t.Errorf("%s publishes %s, as nobody", p.name, request)
			}
		}
		for name := range p.publishes {
			if p.account == access.AccountReaders && p.publishes[name] {
				t.Errorf("the reader %s publishes %s", p.name, name)
			}
			if !p.service() && p.hears[name] && !isEvent(name) {
				t.Errorf("%s hears %s", p.name, name)
			}
		}
		for _, filter := range p.subscribe {
			if strings.HasSuffix(filter, "*") && !strings.HasPrefix(filter, "$SRV.") {
				t.Errorf("%s may subscribe %s, and so all that begins with it, see within", p.name, filter)
			}
		}
	}
}

// goldenAs compares what was allowed with the golden file, so that a change of rights is seen.
func goldenAs(t *testing.T, all []*party) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# What the bus allowed each user, of all that each tried: go test ./deploy/tongan -run TestEveryUserMay -args -update\n")
	for _, p := range all {
		fmt.Fprintf(&b, "\n%s (%s)\n", p.name, p.account)
		writeGrouped(&b, "publishes", p.publishes)
		writeGrouped(&b, "subscribes", p.subscribes)
		if !p.service() { // a service hears what it subscribes
			writeGrouped(&b, "hears", p.hears)
		}
	}
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(goldenRights), 0o755), os.WriteFile(goldenRights, []byte(b.String()), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenRights)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	was, is := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
	for i := range max(len(was), len(is)) {
		if i >= len(was) || i >= len(is) || was[i] != is[i] {
			t.Fatalf("from line %d on, what was allowed is not as in %s; if that is meant, -update rewrites it:\nis  %s\nwas %s",
				i+1, goldenRights, strings.Join(is[min(i, len(is)):min(i+1, len(is))], ""), strings.Join(was[min(i, len(was)):min(i+1, len(was))], ""))
		}
	}
}

// writeGrouped writes the subjects by what they begin with.
func writeGrouped(b *strings.Builder, what string, allowed map[string]bool) {
	groups := make(map[string][]string)
	for name, is := range allowed {
		if is {
			t := strings.Split(name, ".")
			n := min(3, len(t)-1)
			if strings.HasPrefix(name, "$S") || strings.HasPrefix(name, "_") {
				n = min(1, n)
			}
			groups[strings.Join(t[:n], ".")] = append(groups[strings.Join(t[:n], ".")], strings.Join(t[n:], "."))
		}
	}
	for _, begin := range slices.Sorted(maps.Keys(groups)) {
		slices.Sort(groups[begin])
		fmt.Fprintf(b, "  %-10s %s: %s\n", what, begin, strings.Join(groups[begin], " "))
	}
}

// right is one thing that a user may do.
type right struct{ user, kind, filter string }

// Kinds of rights.
const (
	toPublish   = "publish"
	toSubscribe = "subscribe"
	toReply     = "reply"
)

// String names the right.
func (r right) String() string { return strings.TrimSpace(r.user + " may " + r.kind + " " + r.filter) }

// rightsOf returns what a user may do.
func rightsOf(u access.User) []right {
	var out []right
	for _, f := range u.Publish {
		out = append(out, right{u.Name, toPublish, f})
	}
	for _, f := range u.Subscribe {
		out = append(out, right{u.Name, toSubscribe, f})
	}
	if u.Replies {
		out = append(out, right{u.Name, toReply, ""})
	}
	return out
}

// without returns the user without the right, under the right's name.
func (r right) without(u access.User) access.User {
	drop := func(filters []string) []string {
		filters = slices.Clone(filters)
		filters[slices.Index(filters, r.filter)] = "rights.none" // to the server an empty list would allow everything
		return filters
	}
	switch r.kind {
	case toPublish:
		u.Publish = drop(u.Publish)
	case toSubscribe:
		u.Subscribe = drop(u.Subscribe)
	default:
		u.Replies = false
	}
	u.Name = r.String()
	return u
}

// ledger is the log of a bus that traces what it is told. It notes which rights are used, and what is denied.
type ledger struct {
	users map[string]access.User // by key

	mu     sync.Mutex
	used   map[right]string // what for: a subject that no other right covers, if there is one
	alone  map[right]bool   // whether no other does
	denied []string
}

func newLedger(keys *serviceKeys) *ledger {
	l := &ledger{users: make(map[string]access.User), used: make(map[right]string), alone: make(map[right]bool)}
	for _, u := range append(access.Users(), access.SystemUser()) {
		l.users[keys.users[u.Name].Public()] = u
	}
	return l
}

// Noticef does nothing.
func (*ledger) Noticef(string, ...any) {}

// Debugf does nothing.
func (*ledger) Debugf(string, ...any) {}

// Warnf does nothing.
func (*ledger) Warnf(string, ...any) {}

// Fatalf notes it.
func (l *ledger) Fatalf(format string, v ...any) { l.Errorf("Violation: "+format, v...) }

// Errorf notes what is denied.
func (l *ledger) Errorf(format string, v ...any) {
	if strings.Contains(format, "Violation") {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.denied = append(l.denied, fmt.Sprintf(format, v...))
	}
}

// incoming ends the format of what a connection tells the server, after the connection's account and key.
const incoming = `" - <<- %s`

// Tracef notes which right a publication or subscription uses.
func (l *ledger) Tracef(format string, v ...any) {
	connection, is := strings.CutSuffix(format, incoming)
	_, key, named := strings.Cut(connection, "/nkey:")
	if !is || !named || len(v) != 1 {
		return
	}
	told, _ := v[0].([]any)
	u, known := l.users[key]
	if !known || len(told) != 2 {
		return
	}
	args := strings.Fields(fmt.Sprint(told[1])) // a copy: the server reuses the bytes
	switch told[0] {
	case "PUB", "HPUB":
		l.note(u, toPublish, u.Publish, args[0])
	case "SUB":
		l.note(u, toSubscribe, u.Subscribe, args[0])
	}
}

func (l *ledger) note(u access.User, kind string, filters []string, subj string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var covering []right
	for _, f := range filters {
		if within(subj, f) {
			covering = append(covering, right{u.Name, kind, f})
		}
	}
	if len(covering) == 0 && kind == toPublish && u.Replies {
		covering = []right{{u.Name, toReply, ""}}
	}
	for _, r := range covering {
		if alone := len(covering) == 1; l.used[r] == "" || alone && !l.alone[r] {
			l.used[r], l.alone[r] = subj, alone
		}
	}
}

// unused returns the rights that were not used so far.
func (l *ledger) unused() []right {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []right
	for _, u := range append(access.Users(), access.SystemUser()) {
		for _, r := range rightsOf(u) {
			if l.used[r] == "" {
				out = append(out, r)
			}
		}
	}
	return out
}

// read returns what each right was used for, and what was denied.
func (l *ledger) read() (used map[right]string, denied []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.used), slices.Clone(l.denied)
}

// eventuallyUsed waits until every right was used; what is left then is not needed.
func (l *ledger) eventuallyUsed(t *testing.T) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); len(l.unused()) > 0; {
		select {
		case <-tick.C:
		case <-deadline:
			for _, r := range l.unused() {
				t.Errorf("nothing uses it: %s", r)
			}
			return
		}
	}
}

// TestEveryRightIsNeededAndNoneIsMissing runs everything with the users of the data at a bus that tells what they do, through the whole
// scenario and what may happen beside it. Nothing may be denied; and of each right it is shown what would be denied without it.
func TestEveryRightIsNeededAndNoneIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := newKeys(t, dir)
	l := newLedger(keys)
	b := guard(t, keys, access.Users(), l)
	s := startAt(t, dir, b.ClientURL())
	conns := people(t, s.operator(t))
	if err := compare(sendAll(t, conns), source); err != nil {
		t.Error(err)
	}
	s.beside(t, conns)
	operator, err := s.operator(t).connect()
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	disturb(t, b, try(t, b, keys.users[probe].ServiceOptions(probe)))
	offers(t, operator)
	s.keepCallers(t, operator)
	if err := eventlog.Migrate(t.Context(), s.as(t, access.Migration), eventlog.StreamOptions{MaxBytes: 1 << 30}); err != nil {
		t.Error(err) // there is nothing to do
	}
	l.eventuallyUsed(t)
	if err := s.end(t, syscall.SIGTERM, 30*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	used, denied := l.read()
	for _, d := range denied {
		t.Errorf("the bus denied: %s", d)
	}
	for line := range strings.SplitSeq(s.logs.String(), "\n") {
		if strings.Contains(strings.ToLower(line), "permission") {
			t.Errorf("a service logged: %s", line)
		}
	}
	t.Run("without one right something is denied", func(t *testing.T) { withoutOne(t, keys, used) })
}

// startAt starts everything but the bus as a process of its own and waits until it is up.
func startAt(t *testing.T, dir, natsURL string) *standalone {
	t.Helper()
	s := &standalone{dir: dir, natsURL: natsURL, logs: &lockedBuffer{}, ended: make(chan error, 1)}
	s.cmd = exec.Command(binary, "standalone", "--data", dir, "--nats-url", natsURL, "--clickhouse-http-port", "0", "--clickhouse-tcp-port", "0")
	s.cmd.Stdout, s.cmd.Stderr = s.logs, s.logs
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if t.Failed() {
			t.Log(s.logs)
		}
	})
	natstest.Eventually(t, time.Minute, "everything is up", func() bool { return strings.Contains(s.logs.String(), "Tongan is up") })
	return s
}

// beside does what the scenario does not: it issues a bulletin twice, looks at a child and forgets it, and has somebody refused by each service.
func (s *standalone) beside(t *testing.T, conns map[string]*nats.Conn) {
	t.Helper()
	leader := conns[scenario.Leader]
	ask, err := upToNow(t.Context(), leader, sourceAsOf)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := issue(t.Context(), leader, time.Now(), "440700", ask); err != nil {
			t.Fatal(err)
		}
	}
	steps := scenario.Steps(scenario.DefaultSeed)
	first := func(begin string) scenario.Step {
		return steps[slices.IndexFunc(steps, func(step scenario.Step) bool { return strings.HasPrefix(step.Subject, begin) })]
	}
	child := steps[slices.IndexFunc(steps, func(step scenario.Step) bool {
		c, is := step.Command.(*intakev1.RegisterChild)
		return is && c.GetDetails().GetIdentityNumber() != ""
	})]
	look := &intakev1.GetChild{ChildId: child.Command.(*intakev1.RegisterChild).GetChildId(), Reason: "FOLLOW_UP"}
	if err := insist(t.Context(), conns[scenario.EnteredBy(child)], intake.ChildSubject, look, &intakev1.Child{}); err != nil {
		t.Fatal(err)
	}
	forget := &intakev1.ForgetChild{Provenance: provenance("440700"), ChildId: look.GetChildId(), Basis: "RETENTION_ENDED"}
	if err := insist(t.Context(), leader, "tongan.cmd.intake.child.forget", forget, newReply()); err != nil {
		t.Fatal(err)
	}
	bulletin := scenario.Step{Subject: reporting.IssueSubject, Command: &reportingv1.IssueBulletin{
		Provenance: provenance("440700"), BulletinId: "refused", AsOf: sourceAsOf, Grouping: reportingv1.Grouping_GROUPING_DISTRICT, Cuts: ask.GetCuts(),
	}}
	bulletin.Command.GetProvenance().RecordedBy = scenario.Leader
	for _, step := range []scenario.Step{first("tongan.cmd.intake."), first("tongan.cmd.healthcheck."), first("tongan.cmd.outreach."), bulletin} {
		by, forged := scenario.EnteredBy(step), proto.Clone(step.Command).(decider.Event)
		forged.GetProvenance().PerformedBy = "somebody-else"
		err := request(t.Context(), conns[by], step.Subject, forged, newReply())
		if refused, is := errors.AsType[*refusal](err); !is || refused.code != "403" {
			t.Errorf("%s for somebody else: %v", step.Subject, err)
		}
	}
}

// disturb puts damaged events where two read each, and ends the connection of every service.
func disturb(t *testing.T, b *server.Server, injects *trial) {
	t.Helper()
	for _, subj := range []string{"tongan.evt.outreach.reminder.damaged.reminders-queued", "tongan.evt.intake.child.damaged.child-forgotten"} {
		if err := injects.Publish(subj, []byte("neither this nor that")); err != nil {
			t.Fatal(err)
		}
	}
	names := make(map[string]bool)
	for _, name := range append(services(), access.System) {
		names[subject.Micro(name)] = true
	}
	connections, err := b.Connz(&server.ConnzOptions{Limit: 1 << 12})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range connections.Conns {
		if names[c.Name] {
			delete(names, c.Name)
			if err := b.DisconnectClientByID(c.Cid); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(names) > 0 {
		t.Errorf("not connected: %v", names)
	}
}

// offers checks that what the services answer is what the contract says, and so what was tried.
func offers(t *testing.T, operator *nats.Conn) {
	t.Helper()
	var offered []string
	for _, name := range services() {
		var info micro.Info
		natstest.Eventually(t, 20*time.Second, name+" answers", func() bool {
			answer, err := operator.Request("$SRV.INFO."+subject.Micro(name), nil, time.Second)
			return err == nil && json.Unmarshal(answer.Data, &info) == nil
		})
		for _, e := range info.Endpoints {
			if e.Subject != subject.Health(name) {
				offered = append(offered, e.Subject)
			}
		}
	}
	slices.Sort(offered)
	if want := contract(t); !slices.Equal(offered, want) {
		t.Errorf("the services answer %q, the contract has %q", offered, want)
	}
}

// keepCallers adds a caller, gives it another key while it is connected with the first, revokes it, and reads the trail.
func (s *standalone) keepCallers(t *testing.T, operator *nats.Conn) {
	t.Helper()
	analyst := []access.Caller{{ID: "analyst-1", Role: auditv1.Role_ROLE_ANALYST, Org: "o1"}}
	for range 2 {
		conns, err := enrol(t.Context(), s.operator(t), "440700", analyst)
		if err != nil {
			t.Fatal(err)
		}
		defer closeAll(conns)
	}
	revoke := &auditv1.RevokeCaller{Provenance: provenance("440700"), CallerId: "analyst-1"}
	if err := insistBriefly(t.Context(), operator, subject.Caller.Command("revoke"), revoke); err != nil {
		t.Fatal(err)
	}
	page := &auditv1.Records{}
	if err := insist(t.Context(), operator, audit.RecordsSubject, &auditv1.ListRecords{}, page); err != nil || len(page.GetRecords()) == 0 {
		t.Errorf("%d records, %v", len(page.GetRecords()), err)
	}
}

// withoutOne connects, for each right, as its user would if the data lacked it, and does what the right was used for.
func withoutOne(t *testing.T, keys *serviceKeys, used map[right]string) {
	t.Helper()
	users := access.Users()
	var all []right
	for _, u := range append(access.Users(), access.SystemUser()) {
		for _, r := range rightsOf(u) {
			if slices.Contains(all, r) {
				t.Errorf("said twice: %s", r)
				continue
			}
			all = append(all, r)
			users = append(users, r.without(u)) // the system's in the services' account too: what is denied does not depend on that
		}
	}
	b := guard(t, keys, users, nil)
	asker := try(t, b, keys.users[probe].ServiceOptions(probe))
	for _, r := range all {
		if used[r] == "" {
			continue // reported above
		}
		for _, name := range []string{r.user, r.String()} {
			denied := useOnce(t, try(t, b, keys.users[name].ServiceOptions(r.user)), asker, r, used[r])
			if lacks := name != r.user; denied != lacks {
				t.Errorf("%s: with a user who may that, or without (%v), denied is %v: %s", r, lacks, denied, used[r])
			}
		}
	}
	t.Logf("%d rights", len(all))
}

// useOnce does over a connection what a right was used for, and reports whether that is denied.
func useOnce(t *testing.T, c, asker *trial, r right, subj string) bool {
	t.Helper()
	defer c.Close()
	var err error
	switch r.kind {
	case toPublish:
		err = c.Publish(subj, nil)
	case toSubscribe:
		_, err = c.SubscribeSync(subj)
	default:
		err = answerOnce(c, asker, subject.Health(r.user))
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(c.denials(t)) > 0
}

// answerOnce has a connection receive a request and answer it.
func answerOnce(c, asker *trial, subj string) error {
	requests, err := c.SubscribeSync(subj)
	if err == nil {
		err = c.Flush()
	}
	if err == nil {
		err = asker.PublishRequest(subj, subject.Inbox(probe)+".answer", nil)
	}
	if err != nil {
		return err
	}
	m, err := requests.NextMsg(10 * time.Second)
	if err != nil {
		return err
	}
	return m.Respond(nil)
}
