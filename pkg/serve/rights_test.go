package serve_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
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
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

const (
	openRound   = "tongan.cmd.healthcheck.round.open"
	recordVisit = "tongan.cmd.outreach.visit.record"
)

// bound is a service with a command of each kind of place, and a query that answers with the place it is asked for.
func bound(t *testing.T) *servetest.Client {
	t.Helper()
	js := natstest.Bus(t)
	box, err := servetest.MasterKey(t).Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	rounds := subject.Aggregate{Service: subject.HealthCheck, Name: "round"}
	visits := subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	return servetest.RunOn(t, js, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Intake, "a service under test", []serve.Endpoint{
			serve.Query(askCase, func(_ context.Context, q *intakev1.GetCase) (*intakev1.Case, error) {
				return &intakev1.Case{CaseId: q.GetCaseId(), AdmCode: strings.TrimPrefix(q.GetCaseId(), "in-")}, nil
			}),
			serve.Command(eventlog.New(rt.JS, cases, rt.Log), flagged, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
			serve.Handle(eventlog.New(rt.JS, rounds, rt.Log), "open", (*healthcheckv1.OpenCheckRound).GetInstitutionId,
				accept[*healthcheckv1.OpenCheckRound]),
			serve.Handle(eventlog.New(rt.JS, visits, rt.Log), "record", (*outreachv1.RecordVisit).GetVisitId,
				accept[*outreachv1.RecordVisit], serve.Seals[*outreachv1.RecordVisit](box, seal.ChildKey)),
		})
	}, struct{}{})
}

// accept carries any command out.
func accept[C decider.Event](context.Context, *serve.Runtime, string, decider.Command, C) (*eventv1.CommandReply, error) {
	return &eventv1.CommandReply{Happened: true}, nil
}

// by is provenance of what somebody did in a district.
func by(performer, command, district string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: command, OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: performer, AdmCode: district,
	}
}

func round(institution, district string) *healthcheckv1.OpenCheckRound {
	return &healthcheckv1.OpenCheckRound{
		Provenance: by("w1", "k1", district), InstitutionId: institution, CheckedOn: "2020-02-04", Slot: healthcheckv1.CheckSlot_CHECK_SLOT_MORNING, Expected: 2,
	}
}

func visitOf(district string, children ...string) *outreachv1.RecordVisit {
	v := &outreachv1.RecordVisit{
		Provenance: by("w1", "k1", district), VisitId: "v1",
		Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
	}
	for i, c := range children {
		v.Children = append(v.Children, &outreachv1.ChildSpokenAbout{ChildId: fmt.Sprintf("ch%d", i), AdmCode: c})
	}
	return v
}

func flagIn(caseID, performer, command, district string) *intakev1.FlagCaseSpecial {
	return &intakev1.FlagCaseSpecial{CaseId: caseID, Provenance: by(performer, command, district)}
}

// ask sends as a caller and returns code and text of a refusal.
func ask(t *testing.T, nc *nats.Conn, subj string, m proto.Message) (reply *nats.Msg, code, text string) {
	t.Helper()
	reply, err := nc.Request(subj, inProtobuf(t, m), 15*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subj, err)
	}
	return reply, reply.Header.Get(micro.ErrorCodeHeader), reply.Header.Get(micro.ErrorHeader)
}

// answered flags a case, and that is to be answered.
func answered(t *testing.T, nc *nats.Conn, m *intakev1.FlagCaseSpecial) *eventv1.CommandReply {
	t.Helper()
	r, code, text := ask(t, nc, flagCase, m)
	reply := &eventv1.CommandReply{}
	if err := proto.Unmarshal(r.Data, reply); err != nil || code != "" {
		t.Fatalf("answered %s %s (%v)", code, text, err)
	}
	return reply
}

func worker(id string) access.Caller {
	return access.Caller{ID: id, Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org}
}

// provenances are those of a case's events.
func provenances(t *testing.T, js jetstream.JetStream, caseID string) (out []*eventv1.Provenance) {
	t.Helper()
	events, _, err := eventlog.New(js, cases, slog.New(slog.DiscardHandler)).Load(t.Context(), caseID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		out = append(out, e.Event.GetProvenance())
	}
	return out
}

func TestRecordedByIsWhoTheBusSays(t *testing.T) {
	t.Parallel()
	c := bound(t)
	nc := c.As(t, worker("w1"))
	for i, claimed := range []string{"", "w1", "w9", "unknown"} {
		cmd := flagIn("c1", "w1", fmt.Sprintf("k%d", i), "440703")
		cmd.Provenance.RecordedBy = claimed
		answered(t, nc, cmd)
	}
	json := []byte(`{"caseId":"c1","provenance":{"commandId":"k9","occurredAt":"2020-02-04T01:00:00Z","performedBy":"w2","recordedBy":"w2","admCode":"440703"}}`)
	if r, err := nc.Request(flagCase, json, 15*time.Second); err != nil || r.Header.Get(micro.ErrorCodeHeader) != "" {
		t.Fatalf("in JSON it is answered %v (%v)", r, err)
	}
	stored := provenances(t, c.JS, "c1")
	for _, p := range stored {
		if p.GetRecordedBy() != "w1" {
			t.Errorf("command %s was recorded by %q", p.GetCommandId(), p.GetRecordedBy())
		}
	}
	if n := len(stored); n != 5 || stored[4].GetPerformedBy() != "w2" {
		t.Errorf("stored are %d events: %v", n, stored)
	}
}

// What was entered is entered: the same command with the same content, sent again by a colleague, is answered as the first time.
func TestTheSameCommandFromAnotherCaller(t *testing.T) {
	t.Parallel()
	c := bound(t)
	first := answered(t, c.As(t, worker("w1")), flagIn("c1", "w1", "k1", "440703"))
	first.Again = true
	again := flagIn("c1", "w1", "k1", "440703")
	again.Provenance.RecordedBy = "w2"
	if got := answered(t, c.As(t, worker("w2")), again); !proto.Equal(first, got) {
		t.Errorf("answered %v, at first %v", got, first)
	}
	if _, code, _ := ask(t, c.As(t, worker("w2")), flagCase, flagIn("c1", "w2", "k1", "440703")); code != "409" {
		t.Errorf("with another performer it is answered %q", code)
	}
	stored := provenances(t, c.JS, "c1")
	if len(stored) != 1 || stored[0].GetRecordedBy() != "w1" {
		t.Errorf("stored is %v", stored)
	}
}

func TestWhoMayEnterWhatAnotherDid(t *testing.T) {
	t.Parallel()
	c := bound(t)
	director := func(id, org string) access.Caller {
		return access.Caller{ID: id, Role: auditv1.Role_ROLE_CHILD_DIRECTOR, Org: org}
	}
	elsewhere := worker("w3")
	elsewhere.Org = "o2"
	for name, tt := range map[string]struct {
		caller    access.Caller
		performer string
		code      string
	}{
		"oneself":                          {director("w1", natstest.Org), "w1", ""},
		"another, in a role that may not":  {director("w1", natstest.Org), "w2", "403"},
		"a colleague, in a role that may":  {worker("w1"), "w2", ""},
		"somebody of another organisation": {elsewhere, "w2", "403"},
		"oneself, in another organisation": {elsewhere, "w3", ""},
		"nobody said, which is oneself":    {director("w1", natstest.Org), "", ""},
	} {
		_, code, text := ask(t, c.As(t, tt.caller), flagCase, flagIn("c1", tt.performer, "k-"+strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", ""), "440703"))
		if code != tt.code || code != "" && !strings.HasPrefix(text, "provenance.performed_by: ") {
			t.Errorf("%s: answered %q %s", name, code, text)
		}
	}
}

// A caller who is bound to a place acts there only: whatever place a command names, wherever the aggregate lies, whatever place an answer names.
func TestACallerBoundToAPlaceActsThereOnly(t *testing.T) {
	t.Parallel()
	c := bound(t)
	here, everywhere := worker("w1"), worker("w2")
	here.AdmCode = "440703"
	nurse := access.Caller{ID: "w1", Role: auditv1.Role_ROLE_INSTITUTION_NURSE, Org: natstest.Org, InstitutionID: "i1"}
	both := nurse
	both.AdmCode = "440703"
	inside := worker("w1")
	inside.InstitutionID = "i1"
	answered(t, c.As(t, everywhere), flagIn("there", "w2", "k0", "440704"))
	answered(t, c.As(t, everywhere), flagIn("here", "w2", "k0", "440703"))
	before := c.Events(t, subject.Intake)
	for name, tt := range map[string]struct {
		caller  access.Caller
		subject string
		sent    proto.Message
		rule    string // empty where it is answered
	}{
		"a command in the district":                  {here, flagCase, flagIn("here", "w1", "k1", "440703"), ""},
		"a command in another district":              {here, flagCase, flagIn("new", "w1", "k1", "440704"), "caller: is bound to another district"},
		"a case that lies in another district":       {here, flagCase, flagIn("there", "w1", "k1", "440703"), "caller: is bound to another district"},
		"the same, as somebody sent it already":      {here, flagCase, flagIn("there", "w2", "k0", "440704"), "caller: is bound to another district"},
		"a child in another district":                {here, recordVisit, visitOf("440703", "440703", "440704"), "caller: is bound to another district"},
		"children in the district":                   {here, recordVisit, visitOf("440703", "440703", "440703"), ""},
		"an answer about the district":               {here, askCase, &intakev1.GetCase{CaseId: "in-440703"}, ""},
		"an answer about another district":           {here, askCase, &intakev1.GetCase{CaseId: "in-440704"}, "caller: is bound to another district"},
		"an answer about another, bound to nothing":  {everywhere, askCase, &intakev1.GetCase{CaseId: "in-440704"}, ""},
		"the institution bound to":                   {nurse, openRound, round("i1", "440704"), ""},
		"another institution":                        {nurse, openRound, round("i2", "440704"), "caller: is bound to an institution that the command does not name"},
		"a command that names no institution":        {inside, flagCase, flagIn("here", "w1", "k2", "440703"), "caller: is bound to an institution that the command does not name"},
		"an answer that names no institution":        {inside, askCase, &intakev1.GetCase{CaseId: "in-440704"}, ""},
		"bound to both":                              {both, openRound, round("i1", "440703"), ""},
		"bound to both, in another district":         {both, openRound, round("i1", "440704"), "caller: is bound to another district"},
		"a district that is not served, told as bad": {here, flagCase, flagIn("new", "w1", "k1", "110000"), "provenance.adm_code: is not a district served here (" + strings.Join(servetest.Districts, ", ") + ")"},
	} {
		r, code, text := ask(t, c.As(t, tt.caller), tt.subject, tt.sent)
		if text != tt.rule || (code == "403") != strings.HasPrefix(tt.rule, "caller: ") {
			t.Errorf("%s: answered %q %s", name, code, text)
		}
		if tt.rule != "" && len(r.Data) > 0 {
			t.Errorf("%s: refused with %d bytes of an answer", name, len(r.Data))
		}
	}
	if stored := c.Events(t, subject.Intake) - before; stored != 1 {
		t.Errorf("%d events are stored", stored)
	}
}

// What is refused as a matter of rights stands on the trail, with who, what and why, and without anything of what was sent.
func TestEachRefusalStandsOnTheTrail(t *testing.T) {
	t.Parallel()
	c := bound(t)
	here := worker("w1")
	here.AdmCode = "440703"
	nc := c.As(t, here)
	spelt := "c-" + marker
	refuse := func(subj string, m proto.Message) {
		t.Helper()
		if _, code, _ := ask(t, nc, subj, m); code != "403" {
			t.Fatalf("%s is answered %q", subj, code)
		}
	}
	elsewhere := flagIn(spelt, "w1", "k-"+marker, "440704")
	refuse(flagCase, elsewhere)
	refuse(askCase, &intakev1.GetCase{CaseId: "in-440704"})
	stranger := worker("w3")
	stranger.Org = "o2"
	nc = c.As(t, stranger)
	refuse(flagCase, flagIn(spelt, marker, "k-"+marker, "440704"))
	if _, code, _ := ask(t, nc, flagCase, flagIn(spelt, "w 3", "k1", "440703")); code != "400" {
		t.Fatalf("bad input is answered %q", code)
	}
	var got []*auditv1.AttemptRefused
	natstest.Eventually(t, 10*time.Second, "three attempts stand on the trail", func() bool {
		got = refusals(t, c.JS)
		return len(got) >= 3
	})
	at := timestamppb.New(servetest.Now)
	system := eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM
	want := []*auditv1.AttemptRefused{
		{
			Provenance: &eventv1.Provenance{OccurredAt: at, PerformedBy: "w1", RecordedBy: "w1", AdmCode: "440703", SourceChannel: system},
			Action:     auditv1.BusAction_BUS_ACTION_REQUEST, Subject: flagCase, Field: "caller", Rule: "is bound to another district",
		},
		{
			Provenance: &eventv1.Provenance{OccurredAt: at, PerformedBy: "w1", RecordedBy: "w1", AdmCode: "440703", SourceChannel: system},
			Action:     auditv1.BusAction_BUS_ACTION_REQUEST, Subject: askCase, Field: "caller", Rule: "is bound to another district",
		},
		{
			Provenance: &eventv1.Provenance{OccurredAt: at, PerformedBy: "w3", RecordedBy: "w3", SourceChannel: system},
			Action:     auditv1.BusAction_BUS_ACTION_REQUEST, Subject: flagCase, Field: "provenance.performed_by", Rule: access.ErrPerformer.Rule,
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreFields(&auditv1.AttemptRefused{}, "nkey")); diff != "" {
		t.Error(diff)
	}
	for _, a := range got {
		if len(a.GetNkey()) != 56 || !strings.HasPrefix(a.GetNkey(), "U") {
			t.Errorf("the key is %q", a.GetNkey())
		}
	}
	natstest.Each(t, c.JS, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		if strings.Contains(m.Subject()+string(m.Data())+fmt.Sprint(m.Headers()), marker) {
			t.Errorf("what was sent stands at %s", m.Subject())
		}
	})
}

// However often the same is refused, it is written once a minute.
func TestRefusalsOfAKindAreWrittenOnceAMinute(t *testing.T) {
	t.Parallel()
	c := bound(t)
	here := worker("w1")
	here.AdmCode = "440703"
	nc := c.As(t, here)
	refuse := func(times int) {
		t.Helper()
		for i := range times {
			if _, code, _ := ask(t, nc, flagCase, flagIn(fmt.Sprintf("c%d", i), "w1", fmt.Sprintf("k%d", i), "440704")); code != "403" {
				t.Fatalf("answered is %q", code)
			}
		}
	}
	refuse(20)
	c.Clock.Advance(servetest.Now.Add(2 * time.Minute))
	// The answer is not kept waiting by the trail, so the twenty may be counted after the clock went on; the last one tells of all.
	natstest.Eventually(t, 10*time.Second, "the first is written", func() bool { return len(refusals(t, c.JS)) > 0 })
	refuse(1)
	natstest.Eventually(t, 10*time.Second, "what was left out is told", func() bool {
		got := refusals(t, c.JS)
		return len(got) == 2 && got[1].GetLeftOut() > 10
	})
}

// exporting is a service whose query answers are put on the trail.
func exporting(t *testing.T) *servetest.Client {
	t.Helper()
	return servetest.Run(t, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Intake, "a service under test", []serve.Endpoint{
			serve.Query(askCase, func(_ context.Context, q *intakev1.GetCase) (*intakev1.Case, error) {
				if err := fails[q.GetCaseId()]; err != nil {
					return nil, err
				}
				return &intakev1.Case{CaseId: q.GetCaseId(), AdmCode: "440703"}, nil
			}).Exports(),
		})
	}, struct{}{})
}

// Data about many that are given away stand on the trail before they are: whoever has the answer finds the record.
func TestAnExportIsOnTheTrailBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	c := exporting(t)
	exports := func() (out []*auditv1.DataExported) {
		natstest.Each(t, c.JS, subject.Stream(subject.Audit), func(m jetstream.Msg) {
			e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 0)
			if err != nil {
				t.Fatal(err)
			}
			if x, is := e.Event.(*auditv1.DataExported); is && e.Subject.ID == "w1" {
				out = append(out, x)
			}
		})
		return out
	}
	nc := c.As(t, worker("w1"))
	r, code, text := ask(t, nc, askCase, &intakev1.GetCase{CaseId: "c1"})
	if code != "" {
		t.Fatalf("answered %s %s", code, text)
	}
	want := []*auditv1.DataExported{{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(servetest.Now), PerformedBy: "w1", RecordedBy: "w1", SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
		},
		Subject: askCase, SizeBytes: uint64(len(r.Data)),
	}}
	if diff := cmp.Diff(want, exports(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	// What is not given is no export: a query that fails, and one whose answer names another district.
	elsewhere := worker("w1")
	elsewhere.AdmCode = "440704"
	for _, refused := range []struct {
		nc   *nats.Conn
		id   string
		code string
	}{{nc, "refused", "409"}, {nc, "backend", "503"}, {c.As(t, elsewhere), "c1", "403"}} {
		if _, code, _ := ask(t, refused.nc, askCase, &intakev1.GetCase{CaseId: refused.id}); code != refused.code {
			t.Errorf("%s is answered %q", refused.id, code)
		}
	}
	if n := len(exports()); n != 1 {
		t.Errorf("%d exports stand on the trail", n)
	}
}

func TestWithoutTheTrailNothingIsExported(t *testing.T) {
	t.Parallel()
	c := exporting(t)
	nc := c.As(t, worker("w1"))
	if err := c.JS.DeleteStream(t.Context(), subject.Stream(subject.Audit)); err != nil {
		t.Fatal(err)
	}
	r, code, text := ask(t, nc, askCase, &intakev1.GetCase{CaseId: "c1"})
	if code != "503" || len(r.Data) > 0 || strings.Contains(text, "c1") {
		t.Errorf("answered %q %s with %d bytes", code, text, len(r.Data))
	}
}

// demoted are callers who have another role in the registry than the bus let them in with.
type demoted struct{ serve.Callers }

// ByKey returns a caller in the role of an analyst.
func (d demoted) ByKey(ctx context.Context, key string) (access.Caller, bool) {
	c, known := d.Callers.ByKey(ctx, key)
	c.Role = auditv1.Role_ROLE_ANALYST
	return c, known
}

// A command that a role does not have is lost at the bus; and where it comes through, because the bus let the caller in with another role, the
// service refuses it.
func TestARoleWithoutTheCommandIsRefusedTwice(t *testing.T) {
	t.Parallel()
	c := bound(t)
	analyst := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_ANALYST, Org: natstest.Org})
	denied := make(chan error, 10)
	analyst.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
	for _, subj := range []string{flagCase, askCase} {
		if _, err := analyst.Request(subj, inProtobuf(t, flagIn("c1", "w1", "k1", "440703")), 200*time.Millisecond); err == nil {
			t.Errorf("%s is answered", subj)
		}
		if err := <-denied; !strings.Contains(err.Error(), subj) {
			t.Errorf("denied is %v", err)
		}
	}
	if n := c.Events(t, subject.Intake); n != 0 || len(refusals(t, c.JS)) != 0 {
		t.Errorf("it reached the service: %d events", n)
	}
	d := servetest.Run(t, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		rt.Callers = demoted{rt.Callers}
		return serve.Run(ctx, rt, subject.Intake, "a service under test", []serve.Endpoint{
			serve.Command(eventlog.New(rt.JS, cases, rt.Log), flagged, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
		})
	}, struct{}{})
	if _, code, text := ask(t, d.As(t, worker("w1")), flagCase, flagIn("c1", "w1", "k1", "440703")); code != "403" || text != access.ErrRole.Error() {
		t.Errorf("answered %q %s", code, text)
	}
	if n := d.Events(t, subject.Intake); n != 0 {
		t.Errorf("%d events are stored", n)
	}
}
