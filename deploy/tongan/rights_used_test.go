package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
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
	"tongan.dev/services/reporting"
)

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
	earlierStreams(t, b, keys)
	s := startAt(t, dir, b.ClientURL())
	conns := people(t, s.operator(t))
	if err := compare(sendAll(t, conns), source); err != nil {
		t.Error(err)
	}
	s.beside(t, conns)
	s.rotate(t, conns)
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
	s.inspect(t)
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

// inspect has the bus and the tables looked at. The bus does not wait for the disk, and is told of for that and nothing else.
func (s *standalone) inspect(t *testing.T) {
	t.Helper()
	out, errs, err := s.doctor(t)
	if err == nil || strings.Count(out, "WRONG") != 1 || !strings.Contains(out, "syncs every message: ") || !strings.Contains(errs, "1 of ") {
		t.Errorf("doctor: %v\n%s%s", err, out, errs)
	}
	// Of all that was done, what disturbs is wrong, and nothing else.
	const damaged = ": a header is missing or does not fit the subject\n"
	natstest.Eventually(t, time.Minute, "what disturbs is projected", func() bool {
		out, errs, err = s.verify(t)
		return !strings.Contains(out, "rows missing")
	})
	if err == nil || strings.Count(out, "WRONG") != 2 || strings.Count(out, damaged) != 2 || !strings.Contains(errs, "2 findings, 0 mended") {
		t.Errorf("verify: %v\n%s%s", err, out, errs)
	}
}

// startAt starts everything but the bus as a process of its own and waits until it is up.
func startAt(t *testing.T, dir, natsURL string) *standalone {
	t.Helper()
	s := &standalone{dir: dir, natsURL: natsURL, logs: &natstest.Lines{}, ended: make(chan error, 1)}
	s.cmd = exec.Command(binary, "standalone", "--data", dir, "--nats-url", natsURL, "--unsynced", "--clickhouse-http-port", "0", "--clickhouse-tcp-port", "0")
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
	natstest.Eventually(t, time.Minute, "everything is up", func() bool {
		engine := regexp.MustCompile(`(?m)^  ClickHouse  http://\S+  (\S+)\n`).FindStringSubmatch(s.logs.String())
		if engine != nil {
			s.tcpAddr = engine[1]
		}
		return engine != nil
	})
	return s
}

// earlierStreams creates the streams that a migration mends as an earlier release did.
func earlierStreams(t *testing.T, b *server.Server, keys *serviceKeys) {
	t.Helper()
	js := natstest.Connect(t, b.ClientURL(), keys.users[access.Migration].ServiceOptions(access.Migration)...)
	defer js.Conn().Close()
	for _, c := range eventlog.Streams(eventlog.StreamOptions{MaxBytes: 1 << 30}) {
		switch c.Name {
		case subject.StreamKeys:
			c.MaxMsgsPerSubject = 1
		case subject.StreamDead:
			c.AllowAtomicPublish = false
		default:
			continue
		}
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// rotate rotates the master key while everything runs; children's details open after that as before, without a restart.
func (s *standalone) rotate(t *testing.T, conns map[string]*nats.Conn) {
	t.Helper()
	out, errs, err := run(t, nil, binary, "keys", "rotate", "--nats-url", s.natsURL, "--master-key", filepath.Join(s.dir, "master.key"),
		"--credentials", filepath.Join(s.dir, "credentials", "services", access.Keykeeper+".nk"))
	if err != nil {
		t.Fatalf("keys rotate: %v\n%s", err, errs)
	}
	said := regexp.MustCompile(`^a version was added\n +[1-9][0-9]* keys wrapped again\n +1 destroyed ones passed over\nversions of the master key: 1 before, 2 now\n$`)
	if !said.MatchString(out) || strings.Contains(out+errs, "child-") {
		t.Errorf("it said %q, and %q beside", out, errs)
	}
	var shown int
	for _, step := range scenario.Steps(scenario.DefaultSeed) {
		c, is := step.Command.(*intakev1.RegisterChild)
		if !is || shown == 5 {
			continue
		}
		child := &intakev1.Child{}
		err := insist(t.Context(), conns[scenario.EnteredBy(step)], intake.ChildSubject, &intakev1.GetChild{ChildId: c.GetChildId(), Reason: "FOLLOW_UP"}, child)
		if err == nil && child.GetDetails().GetName() != "" {
			shown++
		}
	}
	if shown < 5 {
		t.Errorf("the details of %d children are shown after the rotation", shown)
	}
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
	s.missCallBack(t, conns)
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

// missCallBack promises a call and lets the time pass.
func (s *standalone) missCallBack(t *testing.T, conns map[string]*nats.Conn) {
	t.Helper()
	received := provenance("440703")
	received.OccurredAt = timestamppb.New(time.Now().Add(-time.Second))
	promised := provenance("440703")
	for _, step := range []struct {
		verb    string
		command proto.Message
	}{
		{"receive", &intakev1.ReceiveHotlineContact{Provenance: received, ContactId: "called", Channel: 1, RangAt: received.GetOccurredAt(), AnsweredAt: received.GetOccurredAt()}},
		{"promise-call-back", &intakev1.PromiseCallBack{Provenance: promised, ContactId: "called", DueAt: timestamppb.New(time.Now().Add(time.Second))}},
	} {
		if err := insist(t.Context(), conns["h-1"], "tongan.cmd.intake.contact."+step.verb, step.command, newReply()); err != nil {
			t.Fatal(err)
		}
	}
}

// disturb puts damaged events where two read each, and ends the connection of every service.
func disturb(t *testing.T, b *server.Server, injects *trial) {
	t.Helper()
	for _, subj := range []string{
		"tongan.evt.outreach.reminder.damaged.reminders-queued", "tongan.evt.intake.child.damaged.child-forgotten",
		"tongan.evt.intake.case.damaged.case-reviewed", "tongan.evt.outreach.support.damaged.service-support-begun", "tongan.timer.due.intake.damaged",
	} {
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
