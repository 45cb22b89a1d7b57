package intake_test

import (
	"bytes"
	"errors"
	"fmt"
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
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

const (
	registerChild  = "tongan.cmd.intake.child.register"
	receiveContact = "tongan.cmd.intake.contact.receive"
	openCase       = "tongan.cmd.intake.case.open"
	flagSpecial    = "tongan.cmd.intake.case.flag-special"
	followUp       = "tongan.cmd.intake.case.follow-up"
	closeCase      = "tongan.cmd.intake.case.close"
	getCase        = "tongan.qry.intake.case.get"
	getChild       = "tongan.qry.intake.child.get"
)

func provenance(command string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: command, OccurredAt: timestamppb.New(time.Date(2020, 2, 1, 9, 0, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
	}
}

func TestACaseFromOpeningToClosing(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	ask, _ := proto.Marshal(&intakev1.GetCase{CaseId: "c1"})
	c.Ask(t, getCase, ask).Refused(t, "409", "case_id", "never opened")
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1", Note: &intakev1.CaseNote{Text: "标识"}})
	c.Send(t, flagSpecial, &intakev1.FlagCaseSpecial{Provenance: provenance("k1"), CaseId: "c1"})
	for _, id := range []string{"f1", "f2"} {
		c.Send(t, followUp, &intakev1.RecordFollowUp{
			Provenance: provenance(""), CaseId: "c1", FollowUpId: id, Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE,
		})
	}
	last := c.Send(t, closeCase, &intakev1.CloseCase{Provenance: provenance("k2"), CaseId: "c1", AgreedBy: "w9", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET})
	got := &intakev1.Case{}
	if err := proto.Unmarshal(c.Ask(t, getCase, ask).Data, got); err != nil {
		t.Fatal(err)
	}
	want := &intakev1.Case{
		CaseId: "c1", Revision: last.GetRevision(), ChildId: "ch1", AdmCode: "440703", Special: true, FollowUps: 2, Closed: true,
		CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET, WorkerId: "w1",
	}
	if !proto.Equal(got, want) {
		t.Errorf("the case is %v, want %v", got, want)
	}
}

// Personal details leave a command only sealed: a child's under its own key, a contact's under a key of the contact's.
func TestPersonalDetailsAreSealed(t *testing.T) {
	t.Parallel()
	key := servetest.MasterKey(t)
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: key})
	details := &intakev1.ChildDetails{Name: "标识-5c6d7e", Phone: "19900000001"}
	child := c.Send(t, registerChild, &intakev1.RegisterChild{
		Provenance: provenance(""), ChildId: "ch1", Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1", Details: details,
	})
	contact := c.Send(t, receiveContact, &intakev1.ReceiveHotlineContact{
		Provenance: provenance(""), ContactId: "h1", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
		ContactType: intakev1.ContactType_CONTACT_TYPE_CHILD, ChildId: "ch1", Details: &intakev1.ContactDetails{Narrative: "标识-5c6d7e"},
	})
	registered := event(t, c, child.GetRevision()).(*intakev1.ChildRegistered)
	received := event(t, c, contact.GetRevision()).(*intakev1.HotlineContactReceived)
	if k := received.GetDetails().GetKeyId(); k != "contact-h1" {
		t.Errorf("the contact is sealed under %s", k)
	}
	box, err := key.Box(t.Context(), c.JS)
	if err != nil {
		t.Fatal(err)
	}
	opened := &intakev1.ChildDetails{}
	if err := box.Open(t.Context(), "intake.child.ch1", "details", registered.GetDetails(), opened); err != nil || !proto.Equal(opened, details) {
		t.Errorf("the child's details open as %v, %v", opened, err)
	}
	if k := registered.GetDetails().GetKeyId(); k != seal.ChildKey(registered) {
		t.Errorf("the child is sealed under %s", k)
	}
}

func event(t *testing.T, c *servetest.Client, sequence uint64) proto.Message {
	t.Helper()
	s, err := c.JS.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(m.Data, []byte("5c6d7e")) {
		t.Errorf("a personal detail can be read on %s", m.Subject)
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", m.Subject, err))
	}
	return e.Event
}

// marked are details that nobody may see by chance.
func marked() *intakev1.ChildDetails {
	return &intakev1.ChildDetails{
		Name: "标识-5c6d7e", IdentityNumber: number, Address: "江门市-5c6d7e", GuardianName: "监护人-5c6d7e", Phone: "19900000001",
	}
}

func registering() *intakev1.RegisterChild {
	return &intakev1.RegisterChild{
		Provenance: provenance(""), ChildId: "ch1", Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1", Details: marked(),
	}
}

// worker is a social worker of a district.
func worker(id, admCode string) access.Caller {
	return access.Caller{ID: id, Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org, AdmCode: admCode}
}

// asks asks for a child over a connection and returns the reply.
func asks(t *testing.T, nc *nats.Conn, child, reason string) servetest.Reply {
	t.Helper()
	return sends(t, nc, getChild, &intakev1.GetChild{ChildId: child, Reason: reason})
}

// trail are the events of the audit trail, without their times.
func trail(t *testing.T, c *servetest.Client) (out []proto.Message) {
	t.Helper()
	natstest.Each(t, c.JS, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 1)
		if err != nil {
			t.Fatal(err)
		}
		e.Event.GetProvenance().OccurredAt = nil
		out = append(out, e.Event)
	})
	return out
}

// sealOpened is what the trail says of a look at a child.
func sealOpened(by access.Caller, child, reason string) *auditv1.SealOpened {
	return &auditv1.SealOpened{
		Provenance: &eventv1.Provenance{
			PerformedBy: by.ID, RecordedBy: by.ID, AdmCode: by.AdmCode, Reason: reason, SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
		},
		ChildId: child, Subject: getChild,
	}
}

// The details of a child come back exactly as they were registered, to who may act in the child's district; who looked and why is on the
// trail, each time.
func TestAChildsDetailsAreShownToItsDistrictAndWhoLookedIsOnTheTrail(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	revision := c.Send(t, registerChild, registering()).GetRevision()
	want := &intakev1.Child{
		ChildId: "ch1", Revision: revision, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, AdmCode: "440703", WorkerId: "w1",
		Details: marked(),
	}
	var looked []proto.Message
	for _, caller := range []access.Caller{
		worker("w1", "440703"), worker("w2", "440703"), worker("w3", ""),
		{ID: "h1", Role: auditv1.Role_ROLE_HOTLINE_OPERATOR, Org: natstest.Org},
		{ID: "d1", Role: auditv1.Role_ROLE_CHILD_DIRECTOR, Org: natstest.Org, AdmCode: "440703"},
		{ID: "s1", Role: auditv1.Role_ROLE_CHILD_SUPERVISOR, Org: natstest.Org, AdmCode: "440703"},
	} {
		nc := c.As(t, caller)
		for _, reason := range []string{"FOLLOW_UP", "FOLLOW_UP", "VISIT"} {
			got := &intakev1.Child{}
			if r := asks(t, nc, "ch1", reason); r.Code != "" || proto.Unmarshal(r.Data, got) != nil || !proto.Equal(got, want) {
				t.Errorf("%s sees %v (%s)", caller.ID, got, r.Error)
			}
			looked = append(looked, sealOpened(caller, "ch1", reason))
			if diff := cmp.Diff(looked, trail(t, c), protocmp.Transform()); diff != "" {
				t.Fatalf("when %s sees it, the trail is: %s", caller.ID, diff)
			}
		}
	}
	asked, err := c.As(t, worker("w1", "440703")).Request(getChild, []byte(`{"childId":"ch1","reason":"FOLLOW_UP"}`), 15*time.Second)
	if err != nil || !bytes.Contains(asked.Data, []byte(`"标识-5c6d7e"`)) {
		t.Errorf("in JSON it is %s, %v", asked.Data, err)
	}
}

// Who is refused sees nothing. Where it is a matter of rights, the attempt is on the trail; that a seal was opened never is.
func TestWhoDoesNotGetToSeeAChild(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, registering())
	here, elsewhere := worker("w1", "440703"), worker("w4", "440704")
	refused := func(caller access.Caller, child, reason, code string, says ...string) {
		t.Helper()
		r := asks(t, c.As(t, caller), child, reason)
		if r.Refused(t, code, says...); len(r.Data) != 0 {
			t.Errorf("beside the refusal there are %d bytes", len(r.Data))
		}
	}
	refused(here, "ch9", "FOLLOW_UP", "409", "child_id", "not registered")
	refused(here, "ch1", "", "400", "reason")
	refused(here, "ch1", "because", "400", "reason")
	refused(here, "", "FOLLOW_UP", "400", "child_id")
	refused(here, "*", "FOLLOW_UP", "400", "child_id")
	if got := trail(t, c); len(got) != 0 {
		t.Errorf("what cannot be asked is on the trail as %v", got)
	}
	refused(elsewhere, "ch1", "FOLLOW_UP", "403", "caller", "bound to another district")
	refused(elsewhere, "ch9", "FOLLOW_UP", "409", "child_id", "not registered")
	r := c.Ask(t, getChild, nil)
	r.Refused(t, "400")
	natstest.Eventually(t, 10*time.Second, "the attempt is on the trail", func() bool { return len(trail(t, c)) > 0 })
	got := trail(t, c)
	attempt, is := got[0].(*auditv1.AttemptRefused)
	if !is || len(got) != 1 || attempt.GetProvenance().GetPerformedBy() != "w4" || attempt.GetSubject() != getChild || attempt.GetField() != "caller" ||
		attempt.GetAction() != auditv1.BusAction_BUS_ACTION_REQUEST {
		t.Errorf("the trail is %v", got)
	}
}

// A role that has not the query is held up by the bus: the service never hears of it.
func TestARoleThatMaySeeNoChildIsHeldUpByTheBus(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, registering())
	payload, err := proto.Marshal(&intakev1.GetChild{ChildId: "ch1", Reason: "FOLLOW_UP"})
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range access.Roles() {
		if (access.Caller{Role: role}).May(getChild) == nil || access.Of(role).Outside {
			continue
		}
		nc := c.As(t, access.Caller{ID: "x1", Role: role, Org: natstest.Org})
		denied := make(chan error, 1)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
		if m, err := nc.Request(getChild, payload, 100*time.Millisecond); err == nil {
			t.Errorf("%v is answered %q", role, m.Data)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%v: the bus says %v", role, err)
		}
	}
	// Over the services' own connections a request comes from nobody.
	m, err := c.JS.Conn().Request(getChild, payload, 15*time.Second)
	if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "403" || len(m.Data) != 0 {
		t.Errorf("nobody is answered %v, %v", m, err)
	}
	natstest.Eventually(t, 10*time.Second, "that is on the trail", func() bool { return len(trail(t, c)) == 1 })
	if _, is := trail(t, c)[0].(*auditv1.AttemptRefused); !is {
		t.Errorf("the trail is %v", trail(t, c))
	}
}

// Where it cannot be written down that somebody looked, nobody looks.
func TestWithoutATrailNoDetails(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, registering())
	nc := c.As(t, worker("w1", "440703"))
	if r := asks(t, nc, "ch1", "FOLLOW_UP"); r.Code != "" {
		t.Fatal(r.Error)
	}
	if err := c.JS.DeleteStream(t.Context(), subject.Stream(subject.Audit)); err != nil {
		t.Fatal(err)
	}
	r := asks(t, nc, "ch1", "FOLLOW_UP")
	if r.Refused(t, "503", "not available now"); len(r.Data) != 0 {
		t.Errorf("beside the refusal there are %d bytes", len(r.Data))
	}
	natstest.Migrate(t, c.JS, 1)
	if r := asks(t, nc, "ch1", "FOLLOW_UP"); r.Code != "" || len(trail(t, c)) != 1 {
		t.Errorf("with a trail again it is answered %s", r.Error)
	}
}
