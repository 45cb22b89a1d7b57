package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

const (
	askCase  = "tongan.qry.intake.case.get"
	flagCase = "tongan.cmd.intake.case.flag-special"
	// marker stands where a value stands that no text may repeat.
	marker = "1f2e3d"
)

var cases = subject.Aggregate{Service: subject.Intake, Name: "case"}

// flagged decides that every case is special.
var flagged = decider.Decider[struct{}]{
	Decide: func(_ struct{}, c decider.Command) ([]decider.Event, error) {
		return []decider.Event{&intakev1.CaseFlaggedSpecial{Provenance: c.Provenance()}}, nil
	},
	Evolve: func(s struct{}, _ decider.Event) (struct{}, bool) { return s, true },
}

// service is one under test: a command, and a query that fails as its case_id says.
type service struct {
	*servetest.Client
	log  *text         // what it logs
	held chan struct{} // what the case "slow" waits for
	came chan string   // a slow request has come
	end  func()        // ends the service
}

// text is a log that is read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fails are the errors that the query of a case returns.
var fails = map[string]error{
	"refused":  decider.Refuse("case_id", "was never opened"),
	"bad":      &serve.BadInput{Field: "case_id", Rule: "is not one"},
	"not-yet":  fmt.Errorf("%w: cuts[0] is not projected", serve.ErrNotYet),
	"lines":    fmt.Errorf("%w: first\nsecond", serve.ErrNotYet),
	"backend":  fmt.Errorf("%w: table %s", serve.ErrBackend, marker),
	"conflict": fmt.Errorf("case %s: %w", marker, decider.ErrConflict),
	"bus":      fmt.Errorf("load %s: %w", marker, eventlog.ErrUnavailable),
	"unclear":  fmt.Errorf("append %s: %w", marker, eventlog.ErrUnclear),
	"late":     fmt.Errorf("load %s: %w", marker, context.DeadlineExceeded),
	"unknown":  fmt.Errorf("fold %s: %w", marker, decider.ErrUnknownEvent),
	"other":    errors.New("other " + marker),
}

func start(t *testing.T) *service {
	t.Helper()
	s := &service{log: &text{}, held: make(chan struct{}), came: make(chan string, 10)}
	query := func(_ context.Context, q *intakev1.GetCase) (*intakev1.Case, error) {
		switch q.GetCaseId() {
		case "slow":
			s.came <- q.GetCaseId()
			<-s.held
		case "panic":
			panic("panic about " + marker)
		case "index":
			_ = []byte(marker)[len(marker)+len(q.GetCaseId())]
		}
		return &intakev1.Case{CaseId: q.GetCaseId(), FollowUps: 2}, fails[q.GetCaseId()]
	}
	s.Client = servetest.Run(t, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		ctx, s.end = context.WithCancel(ctx)
		rt.Log = slog.New(slog.NewTextHandler(s.log, nil))
		return serve.Run(ctx, rt, subject.Intake, "a service under test", []serve.Endpoint{
			serve.Query(askCase, query),
			serve.Command(eventlog.New(rt.JS, cases, rt.Log), flagged, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
		})
	}, struct{}{})
	return s
}

func flag(command string) *intakev1.FlagCaseSpecial {
	return &intakev1.FlagCaseSpecial{CaseId: "c1", Provenance: &eventv1.Provenance{
		CommandId: command, OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
	}}
}

func inProtobuf(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inJSON(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheReplyIsInTheFormOfTheRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	long := flag(strings.Repeat("k", 51))
	long.Provenance.PerformedBy = strings.Repeat("w", 52)
	if b := inProtobuf(t, long); !bytes.HasPrefix(b, []byte{0x0A, 0x7B}) {
		t.Fatalf("the command begins with %x", b[:2])
	}
	found := &intakev1.Case{CaseId: "c1", FollowUps: 2}
	for _, tt := range []struct {
		name, subject string
		payload       []byte
		headers       []string
		json          bool
		want          proto.Message
	}{
		{"a query in protobuf", askCase, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}), nil, false, found},
		{"a query in JSON", askCase, []byte(`{"caseId":"c1"}`), nil, true, found},
		{"a query in JSON that says so", askCase, []byte("\n {\"case_id\":\"c1\"}\n"), []string{"Content-Type", "application/json"}, true, found},
		{"a command in protobuf", flagCase, inProtobuf(t, flag("k1")), nil, false, nil},
		{"a command in JSON", flagCase, inJSON(t, flag("k2")), nil, true, nil},
		{"a command whose provenance has 123 bytes", flagCase, inProtobuf(t, long), nil, false, nil},
	} {
		r := s.Ask(t, tt.subject, tt.payload, tt.headers...)
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r.Code != "" {
				t.Fatalf("refused: %s %s", r.Code, r.Error)
			}
			var got proto.Message = &intakev1.Case{}
			if tt.want == nil {
				got = &eventv1.CommandReply{}
			}
			unmarshal, contentType := proto.Unmarshal, "application/protobuf"
			if tt.json {
				unmarshal, contentType = protojson.Unmarshal, "application/json"
			}
			if err := unmarshal(r.Data, got); err != nil || r.ContentType != contentType {
				t.Fatalf("answered %q as %s (%v)", r.Data, r.ContentType, err)
			}
			if tt.want != nil && !proto.Equal(got, tt.want) {
				t.Errorf("answered %v, want %v", got, tt.want)
			}
			if reply, ok := got.(*eventv1.CommandReply); ok && !reply.GetHappened() {
				t.Errorf("answered %v", got)
			}
		})
	}
	if r := s.Ask(t, askCase, []byte(`{"caseId":"c1"}`)); !strings.Contains(string(r.Data), `"special":false`) {
		t.Errorf("JSON does not say what is not set: %s", r.Data) // whoever reads JSON has no contract at hand
	}
}

// The code is by the kind of the error, and only what names no value is told; the rest is for the log.
func TestErrorsAndWhatIsToldOfThem(t *testing.T) {
	t.Parallel()
	s := start(t)
	const again = "not available now: send the same command again"
	for id, want := range map[string]servetest.Reply{
		"refused":  {Code: "409", Error: "case_id: was never opened"},
		"bad":      {Code: "400", Error: "case_id: is not one"},
		"not-yet":  {Code: "503", Error: "not there yet: cuts[0] is not projected"},
		"lines":    {Code: "503", Error: "not there yet: first; second"},
		"backend":  {Code: "503", Error: again},
		"conflict": {Code: "503", Error: again},
		"bus":      {Code: "503", Error: again},
		"unclear":  {Code: "503", Error: again},
		"late":     {Code: "503", Error: again},
		"unknown":  {Code: "500", Error: "internal error: see the service's log"},
		"other":    {Code: "500", Error: "internal error: see the service's log"},
	} {
		want.Data = []byte{}
		before := strings.Count(s.log.String(), "request failed")
		got := s.Ask(t, askCase, inProtobuf(t, &intakev1.GetCase{CaseId: id}))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
		logged := strings.Count(s.log.String(), "request failed") - before
		if hidden := want.Error == again || want.Code == "500"; hidden != (logged == 1) {
			t.Errorf("%s is logged %d times", id, logged)
		}
	}
	s.Ask(t, askCase, bytes.Repeat([]byte{'{'}, serve.MaxRequest+1)).Refused(t, "413", "payload", "524288")
	s.Ask(t, flagCase, bytes.Repeat([]byte{0}, serve.MaxRequest+1)).Refused(t, "413", "payload", "524288")
	if n := s.Events(t, subject.Intake); n != 0 {
		t.Errorf("%d events are stored", n)
	}
}

func TestAPanicEndsOneRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	for i, id := range []string{"panic", "index", "panic"} {
		s.Ask(t, askCase, inProtobuf(t, &intakev1.GetCase{CaseId: id})).Refused(t, "500", "internal error: see the service's log")
		if n := strings.Count(s.log.String(), "request ended in a panic"); n != i+1 {
			t.Errorf("after %d panics %d are logged", i+1, n)
		}
	}
	if l := s.log.String(); strings.Contains(l, marker) || strings.Contains(l, "about") || !strings.Contains(l, "service_test.go") {
		t.Errorf("logged is %s", l)
	}
	if r := s.Ask(t, askCase, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"})); r.Code != "" {
		t.Errorf("after a panic it answers %s", r.Error)
	}
}

// The statistics of an endpoint say how many requests were answered, how many refused, and how many failed; those of a command how often the
// state it was decided on was at hand.
func TestStatisticsCountWhatBecameOfRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, id := range []string{"c1", "c2", "c3", "refused", "bad", "not-yet", "backend", "other", "panic", "index"} {
		s.Ask(t, askCase, inProtobuf(t, &intakev1.GetCase{CaseId: id}))
	}
	s.Ask(t, askCase, []byte("{"))
	s.Send(t, flagCase, flag("k1"))
	s.Send(t, flagCase, flag("k2"))
	s.Send(t, flagCase, flag("k3"))
	type counts struct {
		Answered, Refused, Failed uint64
		Hit                       uint64 `json:"states_hit"`
		Missed                    uint64 `json:"states_missed"`
	}
	var stats struct {
		Endpoints []struct {
			Name, Subject string
			Data          counts
		}
	}
	m, err := s.JS.Conn().Request("$SRV.STATS."+subject.Micro(subject.Intake), nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(m.Data, &stats); err != nil {
		t.Fatal(err)
	}
	got := map[string]counts{}
	for _, e := range stats.Endpoints {
		got[e.Name+" "+e.Subject] = e.Data
	}
	want := map[string]counts{
		"qry-case-get " + askCase: {3, 4, 4, 0, 0}, "cmd-case-flag-special " + flagCase: {3, 0, 0, 2, 1}, "health " + subject.Health(subject.Intake): {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A request that is under way when the service is to end is answered; one that comes after that finds nobody.
func TestARequestUnderWayIsAnsweredAtTheEnd(t *testing.T) {
	t.Parallel()
	s := start(t)
	caller := s.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER})
	inbox, err := caller.SubscribeSync(caller.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := caller.PublishRequest(askCase, inbox.Subject, inProtobuf(t, &intakev1.GetCase{CaseId: "slow"})); err != nil {
		t.Fatal(err)
	}
	<-s.came
	s.end()
	natstest.Eventually(t, 10*time.Second, "the service takes no requests", func() bool {
		_, err := caller.Request(askCase, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}), time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	})
	close(s.held)
	m, err := inbox.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got := &intakev1.Case{}
	if err := proto.Unmarshal(m.Data, got); err != nil || got.GetCaseId() != "slow" {
		t.Errorf("answered %v (%v)", got, err)
	}
}

// A request that takes too long does not keep the service from ending.
func TestARequestThatDoesNotEndIsGivenUp(t *testing.T) {
	t.Parallel()
	s := start(t)
	defer close(s.held)
	caller := s.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER})
	if err := caller.PublishRequest(askCase, caller.NewInbox(), inProtobuf(t, &intakev1.GetCase{CaseId: "slow"})); err != nil {
		t.Fatal(err)
	}
	<-s.came
	s.end()
	natstest.Eventually(t, 10*time.Second, "the request is given up", func() bool {
		return strings.Contains(s.log.String(), "requests under way were given up")
	})
}

// What would leave a personal field in the clear is refused before anything is offered.
func TestAnEndpointThatWouldNotSealIsRefused(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	rt := &serve.Runtime{JS: js, Log: slog.New(slog.DiscardHandler)}
	visits := eventlog.New(js, subject.Aggregate{Service: subject.Outreach, Name: "visit"}, rt.Log)
	opened := eventlog.New(js, cases, rt.Log)
	for want, e := range map[string]serve.Endpoint{
		"tongan.cmd.intake.case.open tongan.intake.v1.OpenCase: personal field tongan.intake.v1.OpenCase.note is not sealed": serve.Command(
			opened, flagged, "open", (*intakev1.OpenCase).GetCaseId),
		"tongan.cmd.outreach.visit.record tongan.outreach.v1.RecordVisit: personal field tongan.outreach.v1.ChildSpokenAbout.note is not sealed": serve.Command(
			visits, flagged, "record", (*outreachv1.RecordVisit).GetVisitId),
	} {
		err := serve.Run(t.Context(), rt, subject.Intake, "not offered", []serve.Endpoint{e})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it ends with %v, want %s", err, want)
		}
		if _, err := js.Conn().Request("$SRV.PING."+subject.Micro(subject.Intake), nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("it was offered: %v", err)
		}
	}
	box, err := servetest.MasterKey(t).Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sealed := serve.Command(opened, flagged, "open", (*intakev1.OpenCase).GetCaseId, serve.Seals[*intakev1.OpenCase](box, seal.ChildKey))
	if err := serve.Run(ctx, rt, subject.Intake, "offered", []serve.Endpoint{sealed}); !errors.Is(err, context.Canceled) {
		t.Errorf("with Seals it ends with %v", err)
	}
}
