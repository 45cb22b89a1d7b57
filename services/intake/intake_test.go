package intake_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
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
	last := c.Send(t, closeCase, &intakev1.CloseCase{Provenance: provenance("k2"), CaseId: "c1", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET})
	got := &intakev1.Case{}
	if err := proto.Unmarshal(c.Ask(t, getCase, ask).Data, got); err != nil {
		t.Fatal(err)
	}
	want := &intakev1.Case{
		CaseId: "c1", Revision: last.GetRevision(), ChildId: "ch1", AdmCode: "440703", Special: true, FollowUps: 2, Closed: true,
		CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET,
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
