package serve_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// office is a bus with its users, a door that holds to the audit stream, and the service intake, which says whom it takes a caller for.
type office struct {
	url      string
	js       jetstream.JetStream // may do everything in the services' account
	ran      chan string         // ids of callers whose command was carried out
	registry *access.Registry
	issuer   *access.Issuer
}

func newOffice(t *testing.T) *office {
	t.Helper()
	issuer, err := access.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	users := make(map[string]*access.Credentials)
	for _, u := range append(access.Users(), access.SystemUser(), access.User{Name: "everything"}) {
		if users[u.Name], err = access.NewCredentials(); err != nil {
			t.Fatal(err)
		}
	}
	everything := access.User{Name: "everything", Publish: []string{">"}, Subscribe: []string{">"}}
	s, err := bus.Start(bus.Config{
		Dir: t.TempDir(), MonitorPort: -1, MaxStore: natstest.MaxStore,
		Access: access.Conf(append(access.Users(), everything), func(user string) string { return users[user].Public() }, issuer.Public()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	connect := func(user string) jetstream.JetStream {
		return natstest.Connect(t, s.ClientURL(), users[user].ServiceOptions(user)...)
	}
	// Who configures no user but its own connects by its key; the rest goes through the door.
	door := connect(subject.Audit)
	o := &office{issuer: issuer, url: s.ClientURL(), ran: make(chan string, 100)}
	if o.js, err = jetstream.New(natstest.Connect(t, s.ClientURL(), users["everything"].Option()).Conn()); err != nil {
		t.Fatal(err)
	}
	natstest.Migrate(t, o.js, 1)
	if o.registry, err = access.Follow(t.Context(), door, issuer.Public(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if _, err := (access.Door{Issuer: issuer, Find: o.registry.ByKey}).Open(door.Conn()); err != nil {
		t.Fatal(err)
	}
	now := &clock.Replay{}
	now.Advance(servetest.Now)
	rt := &serve.Runtime{JS: connect(subject.Intake), Issuer: issuer.Public(), Clock: now, Log: slog.New(slog.DiscardHandler), Districts: servetest.Districts}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, rt, subject.Intake, "a service under test", o.endpoints(rt)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the service ended with: %v", err)
		}
	})
	natstest.Eventually(t, 20*time.Second, "the service answers", func() bool {
		_, err := o.js.Conn().Request(subject.Health(subject.Intake), nil, time.Second)
		return err == nil
	})
	return o
}

// endpoints are a command, and a query that answers with whom it takes the caller for.
func (o *office) endpoints(rt *serve.Runtime) []serve.Endpoint {
	remembers := flagged
	remembers.Decide = func(s struct{}, c decider.Command) ([]decider.Event, error) {
		o.ran <- c.Body.GetProvenance().GetRecordedBy()
		return flagged.Decide(s, c)
	}
	return []serve.Endpoint{
		serve.Query(askCase, func(ctx context.Context, _ *intakev1.GetCase) (*intakev1.Case, error) {
			return &intakev1.Case{CaseId: serve.CallerOf(ctx).ID}, nil
		}),
		serve.Command(eventlog.New(rt.JS, cases, rt.Log), remembers, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
	}
}

// add registers a social worker.
func (o *office) add(t *testing.T, id string) *access.Credentials {
	t.Helper()
	creds, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{
		ID: uuid.NewString(), Event: &auditv1.CallerAdded{CallerId: id, Nkey: creds.Public(), Role: auditv1.Role_ROLE_SOCIAL_WORKER, OrgId: "o1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.issuer.Sign(m); err != nil {
		t.Fatal(err)
	}
	if _, err := o.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return creds
}

// line is what a client of the library speaks over; what is written to it goes to the server as it is.
type line struct{ net.Conn }

// Dial connects.
func (l *line) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	l.Conn = c
	return c, err
}

func (o *office) connect(t *testing.T, creds *access.Credentials) (*nats.Conn, *line) {
	t.Helper()
	l := &line{}
	nc, err := nats.Connect(o.url, append(creds.CallerOptions(), nats.SetCustomDialer(l), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, l
}

// asks sends a request whose headers are these bytes, and returns the reply.
func asks(t *testing.T, nc *nats.Conn, l *line, subj, headers string, payload []byte) *nats.Msg {
	t.Helper()
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf("HPUB %s %s %d %d\r\n%s%s\r\n", subj, sub.Subject, len(headers), len(headers)+len(payload), headers, payload)
	if _, err := l.Write([]byte(said)); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(15 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Who sends a request is what the bus says. It replaces the header of that name where it sees one; where a caller hides one from the bus, or
// the bus's from the service, the request is refused. Nobody passes as another, and recorded_by is never another's.
func TestNobodyPassesAsAnother(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	victim := o.add(t, "victim")
	nc, l := o.connect(t, o.add(t, "w1"))
	forged := fmt.Sprintf(`{"acc":"CALLERS","user":%q}`, victim.Public())
	const (
		first = "NATS/1.0\r\n"
		name  = "Nats-Request-Info"
		twice = "X: Nats-Request-InfoNats-Request-Info\r\n" // after which the server looks no further
	)
	for what, tt := range map[string]struct {
		headers string
		want    string // the caller, empty where the request is refused
	}{
		"none":                         {first + "\r\n", "w1"},
		"another one's":                {first + "Content-Type: application/protobuf\r\n\r\n", "w1"},
		"a forged one":                 {first + name + ": " + forged + "\r\n\r\n", "w1"},
		"a forged one without a space": {first + name + ":" + forged + "\r\n\r\n", "w1"},
		"two forged ones":              {first + name + ": " + forged + "\r\n" + name + ": " + forged + "\r\n\r\n", "w1"},
		"a forged one between others":  {first + "A: b\r\n" + name + ": " + forged + "\r\nC: d\r\n\r\n", "w1"},
		"in small letters":             {first + "nats-request-info: " + forged + "\r\n\r\n", "w1"},
		"in capitals":                  {first + "NATS-REQUEST-INFO: " + forged + "\r\n\r\n", "w1"},
		"a blank after the name":       {first + name + " : " + forged + "\r\n\r\n", ""},
		"a blank before the name":      {first + " " + name + ": " + forged + "\r\n\r\n", ""},
		"the name as a value":          {first + "A: " + name + "\r\n\r\n", ""},
		"after a line feed alone":      {first + "A: b\n" + name + ": " + forged + "\r\n\r\n", ""},
		"after a line feed, and an end before the bus's":     {first + "A: b\n" + name + ": " + forged + "\n\nX: y\r\n\r\n", ""},
		"the bus's in a value":                               {first + "A: b\n" + name + ": " + forged + "\nX: yZZ", ""},
		"the bus's in a name":                                {first + "A: b\n" + name + ": " + forged + "\nXZZ", ""},
		"the bus's without a name":                           {first + "A: b\n" + name + ": " + forged + "\n:ZZ", ""},
		"behind the name twice":                              {first + twice + name + ": " + forged + "\r\n\r\n", ""},
		"behind the name twice, and an end before the bus's": {first + twice + name + ": " + forged + "\r\n\r\nX: y\r\n\r\n", ""},
		"the first line ends with a line feed":               {"NATS/1.0\n" + name + ": " + forged + "\n\n\r\n", ""},
		"a status in the first line":                         {"NATS/1.0 503 No\n" + name + ": " + forged + "\n\n\r\n", ""},
		"many short lines, and an end before the bus's":      {first + "A: b\n" + name + ": " + forged + "\n" + strings.Repeat("a:\n", 400) + "\nX: y\r\n\r\n", ""},
		"as many short lines as may be":                      {first + "A: b\n" + name + ":" + forged + "\n" + strings.Repeat("a:\n", 14) + "\nX: y\r\n\r\n", ""},
		"no line of headers at all":                          {"NATS/1.0" + name + ": " + forged + "\n\n\r\n", ""},
		"no headers":                                         {forged + "\r\n\r\n", ""},
	} {
		m := asks(t, nc, l, askCase, tt.headers, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}))
		got := &intakev1.Case{}
		if err := proto.Unmarshal(m.Data, got); err != nil || got.GetCaseId() != tt.want {
			t.Errorf("%s: the query comes from %q (%v)", what, got.GetCaseId(), err)
		}
		if code := m.Header.Get(micro.ErrorCodeHeader); (code == "403") != (tt.want == "") {
			t.Errorf("%s: the query is answered with code %q", what, code)
		}
		m = asks(t, nc, l, flagCase, tt.headers, inProtobuf(t, flag(uuid.NewString())))
		if code := m.Header.Get(micro.ErrorCodeHeader); (code == "403") != (tt.want == "") {
			// performed_by is another one's, which a social worker may enter
			t.Errorf("%s: the command is answered with code %q", what, code)
		}
		if tt.want != "" {
			if by := <-o.ran; by != tt.want {
				t.Errorf("%s: recorded_by is %q", what, by)
			}
		}
	}
	if len(o.ran) != 0 {
		t.Errorf("%d commands more were carried out", len(o.ran))
	}
}

// A program may call its connection what it likes: the bus puts that beside the key, and it is nobody's key.
func TestANameOfAConnectionIsNoKey(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	victim, creds := o.add(t, "victim"), o.add(t, "w1")
	for _, name := range []string{victim.Public(), `","user":"` + victim.Public(), "\",\"user\":\"" + victim.Public() + "\"}\r\nNats-Request-Info: {", "小明", strings.Repeat("x", 2000)} {
		nc, err := nats.Connect(o.url, append(creds.CallerOptions(), nats.Name(name))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		m, err := nc.Request(askCase, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got := &intakev1.Case{}
		if err := proto.Unmarshal(m.Data, got); err != nil || got.GetCaseId() != "w1" && m.Header.Get(micro.ErrorCodeHeader) != "403" {
			t.Errorf("named %q the query comes from %q", name, got.GetCaseId())
		}
	}
}

// A connection may say a second time who it is. If that is another one it must show the key, and is ended if it cannot; what it sent behind
// is lost.
func TestWhoSaysToBeAnotherIsThrownOut(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	victim, creds := o.add(t, "victim"), o.add(t, "w1")
	for _, second := range []string{`{"nkey":%q}`, `{"nkey":%q,"sig":""}`, `{"nkey":%q,"sig":"AAAA","jwt":"eyJ","user":"x","pass":"y"}`} {
		nc, l := o.connect(t, creds)
		payload := inProtobuf(t, flagIn("c1", "victim", uuid.NewString(), "440703"))
		said := fmt.Sprintf("CONNECT "+second+"\r\nPUB %s %s %d\r\n%s\r\n", victim.Public(), flagCase, nc.NewInbox(), len(payload), payload)
		if _, err := l.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, 10*time.Second, "the connection is ended", func() bool { return !nc.IsConnected() || nc.Stats().Reconnects > 0 })
	}
	nc, l := o.connect(t, creds)
	asks(t, nc, l, flagCase, "NATS/1.0\r\n\r\n", inProtobuf(t, flag("k1")))
	if by := <-o.ran; by != "w1" || len(o.ran) != 0 {
		t.Errorf("carried out is what %q sent, and %d commands more", by, len(o.ran))
	}
}

// The services' account is where the header is not the bus's: a request from there comes from nobody, whatever it says, whether a service
// sends it or has JetStream send what it stored.
func TestARequestFromTheServicesAccountIsNobodys(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	victim := o.add(t, "victim")
	forged := fmt.Sprintf(`{"acc":"CALLERS","user":%q}`, victim.Public())
	command := nats.NewMsg(flagCase)
	command.Data = inProtobuf(t, flagIn("c1", "victim", "k1", "440703"))
	for _, with := range []nats.Header{{}, {"Nats-Request-Info": {forged}}, {"Nats-Request-Info": {forged, forged}}} {
		command.Header = with
		m, err := o.js.Conn().RequestMsg(command, 10*time.Second)
		if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "403" {
			t.Errorf("with %d headers it is answered %v (%v)", len(with), m, err)
		}
	}
	// A stored message with the header hidden from the server, which a right to read has JetStream send where one likes.
	stored := nats.NewMsg("tongan.evt.intake.case.c1.case-opened")
	stored.Header = nats.Header{"Nats-Request-Info": {forged}}
	stored.Data = command.Data
	for _, hide := range []string{"", "Nats-Request-InfoNats-Request-Info"} {
		if hide != "" {
			stored.Header.Set("A", hide)
		}
		ack, err := o.js.PublishMsg(t.Context(), stored)
		if err != nil {
			t.Fatal(err)
		}
		seq, err := json.Marshal(map[string]uint64{"seq": ack.Sequence})
		if err != nil {
			t.Fatal(err)
		}
		for _, reply := range []string{flagCase, "_R_.x"} {
			if err := o.js.Conn().PublishRequest("$JS.API.DIRECT.GET.TONGAN_INTAKE", reply, seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := o.js.CreateOrUpdatePushConsumer(t.Context(), "TONGAN_INTAKE", jetstream.ConsumerConfig{
		DeliverSubject: flagCase, DeliverGroup: micro.DefaultQueueGroup, AckPolicy: jetstream.AckNonePolicy,
	}); err != nil {
		t.Fatal(err)
	}
	// Nor does it help to name the reply that the bus would: it refuses that.
	command.Header, command.Reply = nats.Header{"Nats-Request-Info": {forged}}, "_R_.x"
	if err := o.js.Conn().PublishMsg(command); err != nil {
		t.Fatal(err)
	}
	// Three requests, two stored messages that were asked for, and the same two pushed.
	nc, l := o.connect(t, o.add(t, "w1"))
	if m := asks(t, nc, l, flagCase, "NATS/1.0\r\n\r\n", inProtobuf(t, flag("k2"))); m.Header.Get(micro.ErrorCodeHeader) != "" {
		t.Fatalf("a good command is answered %v", m.Header)
	}
	var stats struct {
		Endpoints []struct {
			Subject string
			Data    struct{ Answered, Refused uint64 }
		}
	}
	natstest.Eventually(t, 10*time.Second, "everything that was sent has come", func() bool {
		m, err := o.js.Conn().Request("$SRV.STATS."+subject.Micro(subject.Intake), nil, 5*time.Second)
		if err != nil || json.Unmarshal(m.Data, &stats) != nil {
			t.Fatal(err)
		}
		for _, e := range stats.Endpoints {
			if e.Subject == flagCase {
				return e.Data.Refused >= 3+2+2 && e.Data.Answered == 1
			}
		}
		return false
	})
	if by := <-o.ran; by != "w1" || len(o.ran) != 0 {
		t.Errorf("carried out is what %q sent, and %d commands more", by, len(o.ran))
	}
}

// The reply to a request goes where the caller says, even to a command: as what it is, an answer, and from nobody.
func TestAnAnswerIsNoCommand(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	nc, l := o.connect(t, o.add(t, "w1"))
	if err := nc.PublishRequest(askCase, flagCase, inProtobuf(t, &intakev1.GetCase{CaseId: "c1"})); err != nil {
		t.Fatal(err)
	}
	asks(t, nc, l, askCase, "NATS/1.0\r\n\r\n", inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}))
	asks(t, nc, l, flagCase, "NATS/1.0\r\n\r\n", inProtobuf(t, flag("k1")))
	if by := <-o.ran; by != "w1" || len(o.ran) != 0 {
		t.Errorf("carried out is what %q sent, and %d commands more", by, len(o.ran))
	}
}

// A command that is published instead of asked is not carried out: who sent it is known by the reply that the bus makes.
func TestACommandThatNobodyWaitsForIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	nc, l := o.connect(t, o.add(t, "w1"))
	if err := nc.Publish(flagCase, inProtobuf(t, flag("k1"))); err != nil {
		t.Fatal(err)
	}
	asks(t, nc, l, flagCase, "NATS/1.0\r\n\r\n", inProtobuf(t, flag("k2")))
	if by := <-o.ran; by != "w1" || len(o.ran) != 0 {
		t.Errorf("carried out is what %q sent, and %d commands more", by, len(o.ran))
	}
}

// A caller who is revoked is refused by the service at once, also over a connection that still stands.
func TestWhoIsRevokedIsRefusedByTheService(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	nc, l := o.connect(t, o.add(t, "w1"))
	asks(t, nc, l, flagCase, "NATS/1.0\r\n\r\n", inProtobuf(t, flag("k1")))
	m, err := eventlog.Encode(subject.Caller, "w1", decider.Recorded{ID: uuid.NewString(), Event: &auditv1.CallerRevoked{CallerId: "w1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.issuer.Sign(m); err != nil {
		t.Fatal(err)
	}
	if _, err := o.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 2*time.Second, "the service refuses", func() bool {
		r := asks(t, nc, l, askCase, "NATS/1.0\r\n\r\n", inProtobuf(t, &intakev1.GetCase{CaseId: "c1"}))
		return r.Header.Get(micro.ErrorCodeHeader) == "403"
	})
}

// refusals are the attempts on the audit trail.
func refusals(t *testing.T, js jetstream.JetStream) (out []*auditv1.AttemptRefused) {
	t.Helper()
	natstest.Each(t, js, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if a, is := e.Event.(*auditv1.AttemptRefused); is {
			out = append(out, a)
		}
	})
	return out
}
