package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

const (
	contactCommand = "tongan.cmd.intake.contact."
	lineCommand    = "tongan.cmd.intake.line."
	getContact     = "tongan.qry.intake.contact.get"
	getLine        = "tongan.qry.intake.line.get"
	phone          = intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE
	aboutChild     = intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD
)

// operator takes calls for an organisation, in a district or in all.
func operator(id, org, admCode string) access.Caller {
	return access.Caller{ID: id, Role: auditv1.Role_ROLE_HOTLINE_OPERATOR, Org: org, AdmCode: admCode}
}

// byOperator is the provenance of what operator h1 did.
func byOperator(command string) *eventv1.Provenance {
	p := provenance(command)
	p.PerformedBy = "h1"
	return p
}

// said are details that nobody may see by chance.
func said() *intakev1.ContactDetails {
	return &intakev1.ContactDetails{CallerName: "来电人-5c6d7e", Phone: "19900000001", Narrative: "标识-5c6d7e"}
}

func receiving(id, child string, details *intakev1.ContactDetails) *intakev1.ReceiveHotlineContact {
	return &intakev1.ReceiveHotlineContact{
		Provenance: provenance(""), ContactId: id, Channel: phone, ContactType: aboutChild, ChildId: child, Details: details,
	}
}

// asksContact asks for a contact over a connection and returns the reply.
func asksContact(t *testing.T, nc *nats.Conn, id string) servetest.Reply {
	t.Helper()
	return sends(t, nc, getContact, &intakev1.GetContact{ContactId: id, Reason: "CALL_BACK"})
}

// answer decodes what a query was answered.
func answer[M proto.Message](t *testing.T, r servetest.Reply, into M) M {
	t.Helper()
	r.Refused(t, "")
	if err := proto.Unmarshal(r.Data, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// From ringing to closing every command is stored as its event, once, credited to the organisation of who entered it where it names none.
func TestAContactFromRingingToClosing(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	nc := c.As(t, operator("h1", "org-rescue", ""))
	rang := timestamppb.New(time.Date(2020, 2, 1, 8, 59, 0, 0, time.UTC))
	due := timestamppb.New(time.Date(2020, 2, 7, 9, 0, 0, 0, time.UTC))
	callBack := []*intakev1.Deadline{{DeadlineId: "call-back-1", Kind: intakev1.DeadlineKind_DEADLINE_KIND_CALL_BACK, DueAt: due, Armed: true}}
	violence := []intakev1.ContactReason{intakev1.ContactReason_CONTACT_REASON_VIOLENCE}
	elsewhere := byOperator("k-act")
	elsewhere.CreditedOrg = "org-other"
	for _, tt := range []struct {
		verb          string
		command, want decider.Event
	}{
		{"receive", &intakev1.ReceiveHotlineContact{
			Provenance: byOperator(""), ContactId: "hc1", Channel: phone, ChildId: "ch1", Details: said(), RangAt: rang, AnsweredAt: rang,
		}, &intakev1.HotlineContactReceived{
			ContactId: "hc1", Channel: phone, ChildId: "ch1", Details: &eventv1.Sealed{KeyId: "contact-hc1"}, RangAt: rang, AnsweredAt: rang,
		}},
		{"classify", &intakev1.ClassifyHotlineContact{
			Provenance: byOperator("k-classify"), ContactId: "hc1", ContactType: aboutChild, Reasons: violence, Urgency: intakev1.Urgency_URGENCY_URGENT,
		}, &intakev1.HotlineContactClassified{
			ContactId: "hc1", ContactType: aboutChild, Reasons: violence, Urgency: intakev1.Urgency_URGENCY_URGENT,
			Channel: phone, AdmCode: "440703", CountsOn: "2020-02-01", ContactOrg: "org-rescue",
		}},
		{
			"link", &intakev1.LinkHotlineContact{Provenance: byOperator("k-link"), ContactId: "hc1", ChildIds: []string{"ch1", "ch2"}},
			&intakev1.HotlineContactLinked{ContactId: "hc1", ChildIds: []string{"ch2"}},
		},
		{"act", &intakev1.RecordContactAction{
			Provenance: elsewhere, ContactId: "hc1", ContactAction: intakev1.ContactAction_CONTACT_ACTION_COUNSELLED,
		}, &intakev1.ContactActionRecorded{
			ContactId: "hc1", ContactAction: intakev1.ContactAction_CONTACT_ACTION_COUNSELLED, ContactType: aboutChild,
		}},
		{
			"promise-call-back", &intakev1.PromiseCallBack{Provenance: byOperator("k-promise"), ContactId: "hc1", DueAt: due},
			&intakev1.CallBackPromised{ContactId: "hc1", DeadlinesSet: callBack},
		},
		{
			"call-back", &intakev1.RecordCallBack{Provenance: byOperator("k-call"), ContactId: "hc1", Reached: true},
			&intakev1.CallBackRecorded{ContactId: "hc1", Reached: true, DeadlinesMet: callBack},
		},
		{
			"hand-over", &intakev1.HandOverContact{Provenance: byOperator("k-hand"), ContactId: "hc1", ToOrg: "org-bureau"},
			&intakev1.HotlineContactHandedOver{ContactId: "hc1", FromOrg: "org-rescue", ToOrg: "org-bureau"},
		},
		{"close", &intakev1.CloseHotlineContact{
			Provenance: byOperator("k-close"), ContactId: "hc1", ContactOutcome: intakev1.ContactOutcome_CONTACT_OUTCOME_CASE_OPENED, CaseId: "c1",
		}, &intakev1.HotlineContactClosed{
			ContactId: "hc1", ContactOutcome: intakev1.ContactOutcome_CONTACT_OUTCOME_CASE_OPENED, CaseId: "c1", ContactType: aboutChild,
		}},
	} {
		reply := answer(t, sends(t, nc, contactCommand+tt.verb, tt.command), &eventv1.CommandReply{})
		got := event(t, c, reply.GetRevision()).(decider.Event)
		if diff := cmp.Diff(tt.want, got, protocmp.Transform(), protocmp.IgnoreMessages(&eventv1.Provenance{}),
			protocmp.IgnoreFields(&eventv1.Sealed{}, "algorithm", "nonce", "ciphertext", "content")); diff != "" {
			t.Errorf("%s stores: %s", tt.verb, diff)
		}
		want := map[string]string{"act": "org-other"}[tt.verb]
		if want == "" {
			want = "org-rescue"
		}
		if org := got.GetProvenance().GetCreditedOrg(); org != want {
			t.Errorf("%s is credited to %s, want %s", tt.verb, org, want)
		}
		stored := c.Events(t, subject.Intake)
		again := answer(t, sends(t, nc, contactCommand+tt.verb, tt.command), &eventv1.CommandReply{})
		if again.GetRevision() != reply.GetRevision() || c.Events(t, subject.Intake) != stored {
			t.Errorf("%s sent again is answered with revision %d after %d", tt.verb, again.GetRevision(), reply.GetRevision())
		}
	}
}

// The details of a contact come back as they were received, to who may act in its district; who looked and why is on the trail before.
func TestAContactsDetailsAreShownToItsDistrictAndWhoLookedIsOnTheTrail(t *testing.T) {
	t.Parallel()
	key := servetest.MasterKey(t)
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: key})
	here, elsewhere := c.As(t, operator("h1", natstest.Org, "440703")), c.As(t, operator("h2", natstest.Org, "440704"))
	revision := c.Send(t, receiveContact, receiving("hc1", "ch1", said())).GetRevision()
	c.Send(t, receiveContact, receiving("hc2", "ch1", nil))

	bare := answer(t, asksContact(t, here, "hc2"), &intakev1.Contact{})
	if bare.GetDetails() != nil || len(trail(t, c)) != 0 {
		t.Errorf("without details it is %v, and the trail %v", bare, trail(t, c))
	}
	asksContact(t, here, "hc9").Refused(t, "409", "contact_id", "never received")
	sends(t, here, getContact, &intakev1.GetContact{ContactId: "hc1"}).Refused(t, "400", "reason")
	want := &intakev1.Contact{
		ContactId: "hc1", Revision: revision, AdmCode: "440703", Channel: phone, ContactType: aboutChild, ChildIds: []string{"ch1"}, OrgId: natstest.Org,
		Details: said(),
	}
	if got := answer(t, asksContact(t, here, "hc1"), &intakev1.Contact{}); !proto.Equal(got, want) {
		t.Errorf("it is shown as %v", got)
	}
	opened := sealOpened(operator("h1", natstest.Org, "440703"), "ch1", "CALL_BACK")
	opened.ContactId, opened.Subject = "hc1", getContact
	if diff := cmp.Diff([]proto.Message{opened}, trail(t, c), protocmp.Transform()); diff != "" {
		t.Errorf("the trail is: %s", diff)
	}
	for _, id := range []string{"hc1", "hc2"} {
		r := asksContact(t, elsewhere, id)
		if r.Refused(t, "403", "caller", "bound to another district"); len(r.Data) != 0 {
			t.Errorf("beside the refusal there are %d bytes", len(r.Data))
		}
	}

	// While its key is being destroyed it can be asked for again, and then it is forgotten.
	keys, err := c.JS.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := keys.GetLastMsgForSubject(t.Context(), subject.Key("contact-hc1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.SecureDeleteMsg(t.Context(), m.Sequence); err != nil {
		t.Fatal(err)
	}
	asksContact(t, here, "hc1").Refused(t, "503", "not available now")
	box, err := key.Box(t.Context(), c.JS)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Destroy(t.Context(), "contact-hc1"); err != nil {
		t.Fatal(err)
	}
	asksContact(t, here, "hc1").Refused(t, "409", "contact_id: its personal details are forgotten")
	if err := c.JS.DeleteStream(t.Context(), subject.Stream(subject.Audit)); err != nil {
		t.Fatal(err)
	}
	asksContact(t, here, "hc1").Refused(t, "503", "not available now")
}

// What cannot be of a contact is refused, with field and rule and without what was sent.
func TestBadInputAboutAContact(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, receiveContact, receiving("hc1", "", said()))
	stored := c.Events(t, subject.Intake)
	refused := func(verb string, command proto.Message, code string, says ...string) {
		t.Helper()
		payload, err := proto.Marshal(command)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Ask(t, contactCommand+verb, payload)
		if r.Refused(t, code, says...); strings.Contains(r.Error, "5c6d7e") || strings.Contains(r.Error, "1990000") || c.Events(t, subject.Intake) != stored {
			t.Errorf("the refusal of %s repeats what was sent, or something is stored", verb)
		}
	}
	minute := func(m int) *timestamppb.Timestamp {
		return timestamppb.New(time.Date(2020, 2, 1, 9, m, 0, 0, time.UTC))
	}
	ringing := func(rang, answered *timestamppb.Timestamp) *intakev1.ReceiveHotlineContact {
		r := receiving("hc2", "", said())
		r.RangAt, r.AnsweredAt = rang, answered
		return r
	}
	refused("receive", ringing(nil, minute(0)), "400", "answered_at needs rang_at")
	refused("receive", ringing(minute(0), minute(-1)), "400", "answered_at needs rang_at and must not lie before it")
	refused("receive", ringing(minute(0), nil), "400", "contact_type must be left out where nobody answered")
	refused("receive", ringing(minute(1), minute(1)), "409", "provenance.occurred_at: must not lie before rang_at")
	refused("receive", ringing(minute(0), timestamppb.New(servetest.Now.Add(time.Hour))), "409", "answered_at: is more than 5 minutes in the future")
	another := receiving("hc1", "", said())
	another.Provenance.CommandId = "another"
	refused("receive", another, "409", "contact_id: was received already")
	before := provenance("k1")
	before.OccurredAt = minute(-1)
	refused("act", &intakev1.RecordContactAction{
		Provenance: before, ContactId: "hc1", ContactAction: intakev1.ContactAction_CONTACT_ACTION_COUNSELLED,
	}, "409", "provenance.occurred_at: must not lie before the contact rang or was received")
	refused("classify", &intakev1.ClassifyHotlineContact{Provenance: provenance("k1"), ContactId: "hc1", ContactType: aboutChild}, "400", "reasons are required")
	refused("promise-call-back", &intakev1.PromiseCallBack{Provenance: provenance("k1"), ContactId: "hc1", DueAt: minute(0)}, "409", "due_at: must lie after")
	refused("link", &intakev1.LinkHotlineContact{Provenance: provenance("k1"), ContactId: "hc9", ChildIds: []string{"ch1"}}, "409", "contact_id: was never received")
	refused("call-back", &intakev1.RecordCallBack{Provenance: provenance(""), ContactId: "hc1"}, "400", "provenance.command_id: is required")
}

// Who is on duty, and since when nobody is, is told; a gap and its end are stored with the shifts that make them.
func TestWhoIsOnDutyAndSinceWhenNobodyIs(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	nc := c.As(t, operator("h1", "org-rescue", ""))
	hour := func(command string, h int) *eventv1.Provenance {
		p := byOperator(command)
		p.OccurredAt = timestamppb.New(time.Date(2020, 2, 1, h, 0, 0, 0, time.UTC))
		return p
	}
	get := &intakev1.GetLine{LineId: "ping-an"}
	sends(t, nc, getLine, get).Refused(t, "409", "line_id: never had a shift")
	start := &intakev1.StartShift{Provenance: hour("", 8), LineId: "ping-an", ShiftId: "s1"}
	sends(t, nc, lineCommand+"start-shift", start).Refused(t, "")
	twice := &intakev1.StartShift{Provenance: hour("", 9), LineId: "ping-an", ShiftId: "s2"}
	sends(t, nc, lineCommand+"start-shift", twice).Refused(t, "409", "operator_id: is on duty at this line already")
	line := answer(t, sends(t, nc, getLine, get), &intakev1.Line{})
	want := &intakev1.Line{LineId: "ping-an", Revision: 1, OnDuty: []*intakev1.OnDuty{
		{ShiftId: "s1", OperatorId: "h1", OrgId: "org-rescue", StartedAt: start.GetProvenance().GetOccurredAt()},
	}}
	if !proto.Equal(line, want) {
		t.Errorf("the line is %v, want %v", line, want)
	}
	end := &intakev1.EndShift{Provenance: hour("k1", 16), LineId: "ping-an", ShiftId: "s1"}
	ended := answer(t, sends(t, nc, lineCommand+"end-shift", end), &eventv1.CommandReply{})
	gap := event(t, c, ended.GetRevision())
	if began, is := gap.(*intakev1.CoverGapBegan); !is || len(ended.GetEventIds()) != 2 || began.GetProvenance().GetCreditedOrg() != "org-rescue" {
		t.Errorf("the last end stores %v", gap)
	}
	leader := c.As(t, access.Caller{ID: "l1", Role: auditv1.Role_ROLE_BUREAU_LEADER, Org: natstest.Org})
	line = answer(t, sends(t, leader, getLine, get), &intakev1.Line{})
	want = &intakev1.Line{LineId: "ping-an", Revision: ended.GetRevision(), UncoveredSince: end.GetProvenance().GetOccurredAt()}
	if !proto.Equal(line, want) {
		t.Errorf("the line is %v, want %v", line, want)
	}
	next := answer(t, sends(t, nc, lineCommand+"start-shift", &intakev1.StartShift{Provenance: hour("", 18), LineId: "ping-an", ShiftId: "s3"}), &eventv1.CommandReply{})
	if over, is := event(t, c, next.GetRevision()).(*intakev1.CoverGapEnded); !is || over.GetEndedAt().AsTime().Hour() != 18 || over.GetGapNumber() != 1 {
		t.Errorf("the next start stores %v", over)
	}
}
