package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/intake"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// outsider is another system that may read events, and tries to read everything.
type outsider struct {
	nc     *nats.Conn
	mu     sync.Mutex
	got    map[string]int // by the first three tokens of the subject
	marked string         // where a personal detail was found
	denied []string
}

// wanted is what it subscribes.
var wanted = []string{
	"tongan.evt.>", "tongan.evt.audit.>", // allowed; of the second nothing comes
	">", "tongan.>", "tongan.cmd.>", "tongan.qry.>", "tongan.keys.>", "tongan.dead.>", "_INBOX.>", "_R_.>", "$SYS.>", "$JS.>", "$SRV.>", "*.evt.>",
}

func newOutsider(t *testing.T, s *standalone) *outsider {
	t.Helper()
	o := &outsider{got: make(map[string]int)}
	key, err := access.LoadCredentials(s.add(t, "reader-1", "EVENT_READER"))
	if err != nil {
		t.Fatal(err)
	}
	note := func(_ *nats.Conn, _ *nats.Subscription, err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.denied = append(o.denied, err.Error())
	}
	if o.nc, err = nats.Connect(s.natsURL, append(key.CallerOptions(), nats.ErrorHandler(note))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.nc.Close)
	for _, w := range wanted {
		sub, err := o.nc.Subscribe(w, o.see)
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *outsider) see(m *nats.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got[strings.Join(strings.SplitN(m.Subject, ".", 4)[:3], ".")]++
	all := bytes.Join([][]byte{[]byte(m.Subject), m.Data, fmt.Append(nil, m.Header), []byte(m.Reply)}, []byte(" "))
	if marker(all) >= 0 {
		o.marked = m.Subject
	}
	if text, err := decode(m.Subject, m.Data); err == nil && marker([]byte(text)) >= 0 {
		o.marked = m.Subject
	}
}

// check compares what came with what the streams hold, every event since the outsider subscribed.
func (o *outsider) check(t *testing.T, s *standalone) {
	t.Helper()
	want := make(map[string]int)
	for service, n := range sizes(t, s) {
		if n > 0 {
			want["tongan.evt."+service] = int(n)
		}
	}
	natstest.Eventually(t, 20*time.Second, "all events have come", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return fmt.Sprint(o.got) == fmt.Sprint(want)
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.marked != "" {
		t.Errorf("a personal detail came on %s", o.marked)
	}
	for _, w := range wanted[2:] {
		if !strings.Contains(strings.Join(o.denied, "\n"), fmt.Sprintf("Subscription to %q", w)) {
			t.Errorf("the subscription of %s was not denied: %v", w, o.denied)
		}
	}
	for _, subj := range []string{"tongan.cmd.intake.case.close", intake.ChildSubject, "tongan.evt.intake.case.c1.case-opened", "$SRV.PING", "TONGAN.API.INFO"} {
		if _, err := o.nc.Request(subj, nil, 100*time.Millisecond); err == nil {
			t.Errorf("the outsider got an answer on %s", subj)
		}
	}
	trail := s.tongan(t, "audit", "--person", "reader-1")
	for _, says := range []string{"AttemptRefused", "tongan.cmd.>", "tongan.keys.>", "is not one the connection may subscribe", "is not one the connection may publish"} {
		if !strings.Contains(trail, says) {
			t.Errorf("the audit trail does not show %q:\n%s", says, trail)
		}
	}
}

// refusals tries what a caller may not, one thing after the other: each is refused with its reason, and stands on the audit trail.
func refusals(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	visit := func(id, adm, performer string) *outreachv1.RecordVisit {
		return &outreachv1.RecordVisit{
			Provenance: &eventv1.Provenance{OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: performer, AdmCode: adm},
			VisitId:    id, Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
			Children: []*outreachv1.ChildSpokenAbout{{ChildId: "child-1", AdmCode: adm}},
		}
	}
	const record = "tongan.cmd.outreach.visit.record"
	before := fmt.Sprint(sizes(t, s))
	for name, tt := range map[string]struct {
		caller, subj string
		ask          interface {
			GetProvenance() *eventv1.Provenance
		}
		says string
	}{
		"another district":       {"w-101", record, visit("x-1", "440704", "w-101"), access.ErrDistrict.Error()},
		"for a stranger":         {"k-1", record, visit("x-2", "440703", "nobody"), access.ErrPerformer.Error()},
		"for another district's": {"k-1", record, visit("x-3", "440703", "w-201"), access.ErrPerformer.Error()},
		"for anybody":            {"w-101", record, visit("x-4", "440703", "w-102"), access.ErrPerformer.Error()},
	} {
		err := request(t.Context(), conns[tt.caller], tt.subj, tt.ask.(*outreachv1.RecordVisit), newReply())
		var refused *refusal
		if !errors.As(err, &refused) || refused.code != "403" || refused.text != tt.says {
			t.Errorf("%s: answered %v", name, err)
		}
	}
	if after := fmt.Sprint(sizes(t, s)); after != before {
		t.Errorf("the streams hold %s, before %s", after, before)
	}
	// What the caller's role does not have does not even reach a service: there is no reply.
	if err := request(withTimeout(t, 200*time.Millisecond), conns["w-101"], reporting.FiguresSubject, &reportingv1.GetFigures{AsOf: sourceAsOf}, &reportingv1.Figures{}); err == nil {
		t.Error("a child director got figures")
	}
	natstest.Eventually(t, 5*time.Second, "what was tried is on the audit trail", func() bool {
		trail := s.tongan(t, "audit", "--person", "w-101")
		for _, says := range []string{access.ErrDistrict.Error(), access.ErrPerformer.Error(), reporting.FiguresSubject} {
			if !strings.Contains(trail, says) {
				return false
			}
		}
		return true
	})
	key := s.add(t, "worker-2", "SOCIAL_WORKER")
	if err := os.Chmod(key, 0o644); err != nil { //nolint:gosec // that is what is refused
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"others may read the file":   {"report", "--as-of", sourceAsOf, "--nats-url", s.natsURL, "--credentials", key},
		"there is no such role":      {"users", "add", "x", "--role", "KING", "--org", "o", "--nats-url", s.natsURL, "--credentials", s.operatorFile()},
		"is added already":           {"users", "add", "worker-2", "--role", "ANALYST", "--org", "o", "--nats-url", s.natsURL, "--credentials", s.operatorFile(), "--out", key + "2"},
		"is the caller who asks":     {"users", "revoke", "operator-1", "--nats-url", s.natsURL, "--credentials", s.operatorFile()},
		"is not a district served":   {"users", "add", "y", "--role", "ANALYST", "--org", "o", "--district", "110000", "--no-key", "--nats-url", s.natsURL, "--credentials", s.operatorFile()},
		"--plaintext":                {"users", "list", "--nats-url", "nats://10.0.0.1:4222", "--credentials", s.operatorFile()},
		"--nats-tls-key is missing:": {"users", "list", "--nats-url", s.natsURL, "--nats-tls-cert", key, "--credentials", s.operatorFile()},
	} {
		if out, errs, err := run(t, nil, binary, args...); err == nil || !strings.Contains(errs, says) {
			t.Errorf("%v ends with %v: %s%s, want %q", args, err, out, errs, says)
		}
	}
	if _, err := os.Stat(key + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key that nobody knows was left behind: %v", err)
	}
}

func (s *standalone) operatorFile() string {
	return filepath.Join(s.dir, "credentials", "operator-1.nk")
}

// childDetails shows a child's details to a worker of the district, and that it was shown is on the audit trail.
func childDetails(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	got, ask := &intakev1.Child{}, &intakev1.GetChild{Reason: "FOLLOW_UP"}
	for _, step := range scenario.Steps(scenario.DefaultSeed) {
		if c, ok := step.Command.(*intakev1.RegisterChild); ok {
			ask.ChildId = c.GetChildId()
			break
		}
	}
	if err := request(t.Context(), conns["h-1"], intake.ChildSubject, ask, got); err != nil || marker([]byte(got.GetDetails().GetName())) < 0 {
		t.Errorf("the hotline is not shown the child's name: %v", err)
	}
	if trail := s.tongan(t, "audit", "--child", ask.GetChildId()); !strings.Contains(trail, "SealOpened") || !strings.Contains(trail, "h-1") || !strings.Contains(trail, "FOLLOW_UP") {
		t.Errorf("the audit trail does not show who looked at the child:\n%s", trail)
	}
}

// forgotten forgets a child: nobody is shown its details any more, its number is nobody's duplicate, and no figure changes.
func forgotten(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	var child *intakev1.RegisterChild
	for _, step := range scenario.Steps(scenario.DefaultSeed) {
		if c, ok := step.Command.(*intakev1.RegisterChild); ok && c.GetDetails().GetIdentityNumber() != "" {
			child = c
		}
	}
	registered := func() string {
		_, body := s.query(t, projector.UserAnalystCity, "SELECT sum(value) FROM tongan.tallies WHERE indicator = 'children_registered'")
		return body
	}
	before, events := registered(), sizes(t, s)[subject.Intake]
	forget := &intakev1.ForgetChild{Provenance: provenance("440700"), ChildId: child.GetChildId(), Basis: "RETENTION_ENDED"}
	if err := request(withTimeout(t, 200*time.Millisecond), conns["w-101"], "tongan.cmd.intake.child.forget", forget, newReply()); err == nil {
		t.Error("a child director forgot a child")
	}
	if err := request(t.Context(), conns[scenario.Leader], "tongan.cmd.intake.child.forget", forget, newReply()); err != nil {
		t.Fatal(err)
	}
	ask := &intakev1.GetChild{ChildId: child.GetChildId(), Reason: "FOLLOW_UP"}
	var refused *refusal
	err := request(t.Context(), conns["h-1"], intake.ChildSubject, ask, &intakev1.Child{})
	if !errors.As(err, &refused) || refused.text != "child_id: is forgotten" {
		t.Errorf("asked for a forgotten child it answers %v", err)
	}
	natstest.Eventually(t, 10*time.Second, "that the key is destroyed is recorded", func() bool {
		return sizes(t, s)[subject.Intake] == events+2
	})
	twin := proto.CloneOf(child)
	twin.ChildId, twin.Provenance.CommandId = "twin", ""
	reply := newReply()
	if err := request(t.Context(), conns["h-1"], "tongan.cmd.intake.child.register", asEntered(twin, "h-1"), reply); err != nil || len(reply.GetPossibleDuplicates()) > 0 {
		t.Errorf("registered again it is a duplicate of %v (%v)", reply.GetPossibleDuplicates(), err)
	}
	natstest.Eventually(t, 10*time.Second, "only the twin is counted anew", func() bool {
		is, _ := strconv.Atoi(registered())
		was, _ := strconv.Atoi(before)
		return is == was+1
	})
}

// asEntered is a command as somebody enters it who did it too.
func asEntered(c *intakev1.RegisterChild, by string) *intakev1.RegisterChild {
	c.Provenance.PerformedBy, c.Provenance.RecordedBy = by, ""
	return c
}

// revoked ends a caller's access while others work: within 2 s its connection is gone and it is not let in again, and nobody else notices.
func revoked(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	key, err := access.LoadCredentials(s.add(t, "worker-3", "ANALYST"))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan time.Time, 1)
	nc, err := nats.Connect(s.natsURL, append(key.CallerOptions(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { gone <- time.Now() }))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := request(t.Context(), nc, reporting.EndSubject, &reportingv1.GetEnd{}, &reportingv1.End{}); err != nil {
		t.Fatalf("before: %v", err)
	}
	var asked, failed atomic.Int64
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				if err := request(withTimeout(t, 5*time.Second), conns["b-1"], reporting.EndSubject, &reportingv1.GetEnd{}, &reportingv1.End{}); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	begun := time.Now()
	s.tongan(t, "users", "revoke", "worker-3")
	select {
	case at := <-gone:
		t.Logf("the connection ended %s after the command was given", at.Sub(begun).Round(time.Millisecond))
	case <-time.After(2 * time.Second):
		t.Error("2 s after the reply the connection is still there")
	}
	if again, err := nats.Connect(s.natsURL, key.CallerOptions()...); err == nil {
		again.Close()
		t.Error("it was let in again")
	}
	close(stop)
	others.Wait()
	if failed.Load() > 0 || asked.Load() < 10 || conns["b-1"].Stats().Reconnects > 0 {
		t.Errorf("of %d requests of another caller %d failed, with %d reconnects", asked.Load(), failed.Load(), conns["b-1"].Stats().Reconnects)
	}
	natstest.Eventually(t, 5*time.Second, "the attempt is on the audit trail", func() bool {
		return strings.Contains(s.tongan(t, "audit", "--format", "json"), "BUS_ACTION_CONNECT") ||
			strings.Contains(s.tongan(t, "audit"), "nkey: is not known, or no longer")
	})
	if list := s.tongan(t, "users", "list"); strings.Contains(list, "worker-3") || !strings.Contains(list, "operator-1") {
		t.Errorf("the callers are\n%s", list)
	}
}

// The operator gives itself another key; the old one opens nothing.
func rotated(t *testing.T, s *standalone) {
	t.Helper()
	old := s.operatorFile()
	next := filepath.Join(t.TempDir(), "operator-1.nk")
	s.tongan(t, "users", "rotate", "operator-1", "--out", next)
	if _, errs, err := run(t, nil, binary, "users", "list", "--nats-url", s.natsURL, "--credentials", old); err == nil || !strings.Contains(errs, "does not know this key") {
		t.Errorf("with the old key: %v %s", err, errs)
	}
	if err := os.Rename(next, old); err != nil {
		t.Fatal(err)
	}
	s.tongan(t, "users", "list")
}

// The contract's names of commands and queries are all some role's, and no role has others.
func TestEveryCommandAndQueryIsSomeRoles(t *testing.T) {
	t.Parallel()
	var rights []string
	for _, role := range access.Roles() {
		rights = append(rights, access.Of(role).Send...)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "proto", "tongan", "*", "v1", "*.proto"))
	if err != nil {
		t.Fatal(err)
	}
	var named int
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.FieldsFunc(string(text), func(r rune) bool { return r <= ' ' || r == ';' })
		for _, w := range words {
			w = strings.TrimSuffix(w, ".")
			if strings.HasPrefix(w, "tongan.cmd.") || strings.HasPrefix(w, "tongan.qry.") {
				named++
				if !matchesAny(rights, w) {
					t.Errorf("%s names %s, which no role has", f, w)
				}
			}
		}
	}
	if named < 30 {
		t.Errorf("only %d commands and queries are found", named)
	}
}

func matchesAny(filters []string, subj string) bool {
	for _, f := range filters {
		if subject.Matches(f, subj) {
			return true
		}
	}
	return false
}
