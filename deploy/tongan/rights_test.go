package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/projector"
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
	t.Cleanup(func() { bus.End(s) })
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
		subject.Connections, subject.Storage, subject.Kick("<server>"), "$SYS.REQ.SERVER.<server>.CONNZ", "$SYS.REQ.SERVER.<server>.RELOAD", "$SYS.REQ.SERVER.PING",
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
		{publish, "tongan.keys.child-c1", "intake outreach keykeeper"},
		{publish, "$JS.API.DIRECT.GET.TONGAN_KEYS.tongan.keys.child-c1", ""},
		{publish, "$JS.API.STREAM.MSG.GET.TONGAN_KEYS", "intake outreach keykeeper"},
		{publish, "TONGAN.API.STREAM.MSG.GET.TONGAN_KEYS", ""},
		{publish, "$JS.API.DIRECT.GET.TONGAN_AUDIT", "inspector"},
		{publish, "$JS.API.DIRECT.GET.TONGAN_INTAKE", "inspector"},
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
		// A service hears what another copy of it appends. Readers see events, and none of what audit keeps.
		{hear, "tongan.evt.intake.case.c1.case-opened", "intake OPERATOR EVENT_READER"},
		{hear, "tongan.evt.reporting.bulletin.b1.figure-published", "reporting OPERATOR EVENT_READER"},
		{hear, "tongan.evt.audit.caller.w1.caller-added", "audit"},
		{hear, "tongan.evt.audit.trail.w1.seal-opened", ""},
		// Who may call, and who is let in.
		{publish, "tongan.cmd.audit.caller.add", "OPERATOR"},
		{publish, "tongan.cmd.audit.caller.revoke", "OPERATOR"},
		{publish, "tongan.qry.audit.record.list", "BUREAU_LEADER OPERATOR"},
		{subscribe, subject.Callout, "audit"},
		{publish, subject.Callout, ""},
		{hear, subject.Callout, "audit"},
		{publish, subject.Kick("<server>"), "system"},
		{publish, subject.Storage, "intake healthcheck outreach reporting projector audit inspector"},
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
				case api+change == "$JS.API.STREAM.UPDATE" && (stream == subject.StreamKeys || stream == subject.StreamDead):
					want = access.Migration // those of an earlier release
				case api+change == "$JS.API.STREAM.MSG.DELETE" && stream == subject.StreamKeys:
					want = subject.Intake + " " + access.Keykeeper // to forget a child, and to wrap its key again
				case api+change == "$JS.API.STREAM.MSG.DELETE" && stream == subject.StreamIndex:
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
