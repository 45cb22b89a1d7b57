package outreach_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach"
)

const (
	recordVisit     = "tongan.cmd.outreach.visit.record"
	voidVisit       = "tongan.cmd.outreach.visit.void"
	queueReminders  = "tongan.cmd.outreach.reminder.queue"
	requestDelivery = "tongan.cmd.outreach.delivery.request"
)

func run(t *testing.T) *servetest.Client {
	t.Helper()
	return servetest.Run(t, subject.Outreach, outreach.Run, outreach.Config{MasterKey: servetest.MasterKey(t)})
}

func provenance() *eventv1.Provenance {
	return &eventv1.Provenance{
		OccurredAt:  timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)),
		PerformedBy: "w1", AdmCode: "440703", CreditedOrg: "org1",
	}
}

func visit() *outreachv1.RecordVisit {
	return &outreachv1.RecordVisit{
		Provenance: provenance(), VisitId: "v1",
		Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		Children: []*outreachv1.ChildSpokenAbout{
			{ChildId: "ch1", AdmCode: "440703", Note: &outreachv1.VisitNote{Text: "标识-1f2e3d"}},
			{ChildId: "ch2", AdmCode: "440704"},
		},
	}
}

func TestVisitRecordedVoidedAndAgain(t *testing.T) {
	t.Parallel()
	c := run(t)
	first := c.Send(t, recordVisit, visit())
	if !first.GetHappened() || len(first.GetEventIds()) != 1 {
		t.Fatalf("first reply is %v", first)
	}
	void := &outreachv1.VoidVisit{Provenance: provenance(), VisitId: "v1", WorkerId: "w1", VisitedOn: "2020-02-04"}
	void.Provenance.CommandId, void.Provenance.Reason = "k2", "WRONG_CHILD"
	c.Send(t, voidVisit, void)
	first.Again = true
	if again := c.Send(t, recordVisit, visit()); !proto.Equal(first, again) {
		t.Errorf("the same command again is answered %v, the first time %v", again, first)
	}
	if n := c.Events(t, subject.Outreach); n != 2 {
		t.Errorf("%d events stored, want 2", n)
	}
	s, err := c.JS.Stream(t.Context(), subject.Stream(subject.Outreach))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), first.GetRevision())
	if err != nil {
		t.Fatal(err)
	}
	if m.Subject != "tongan.evt.outreach.visit.w1_20200204.visit-recorded" || m.Header.Get(eventlog.HeaderID) != first.GetEventIds()[0] {
		t.Errorf("stored on %s with id %s", m.Subject, m.Header.Get(eventlog.HeaderID))
	}
	if bytes.Contains(m.Data, []byte("1f2e3d")) {
		t.Error("the note can be read in the event")
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	children := e.Event.(*outreachv1.VisitRecorded).GetChildren()
	if children[0].GetNote().GetKeyId() != "child-ch1" || children[1].GetNote() != nil {
		t.Errorf("notes are %v", children)
	}
}

func TestJSONInJSONOut(t *testing.T) {
	t.Parallel()
	c := run(t)
	payload, err := protojson.Marshal(visit())
	if err != nil {
		t.Fatal(err)
	}
	r := c.Ask(t, recordVisit, payload)
	if r.ContentType != "application/json" || !strings.Contains(string(r.Data), `"happened"`) {
		t.Fatalf("replied %q as %q (%s)", r.Data, r.ContentType, r.Error)
	}
	// The same command in protobuf is the same command.
	if again := c.Send(t, recordVisit, visit()); !strings.Contains(string(r.Data), again.GetEventIds()[0]) {
		t.Errorf("in protobuf it is answered %v, in JSON %s", again, r.Data)
	}
	if n := c.Events(t, subject.Outreach); n != 1 {
		t.Errorf("%d events stored, want 1", n)
	}
}

// TestBadInput holds every line of bad input: each is answered with field and rule, appends nothing, and repeats no value.
func TestBadInput(t *testing.T) {
	t.Parallel()
	c := run(t)
	changed := func(change func(*outreachv1.RecordVisit)) []byte {
		v := visit()
		change(v)
		b, err := proto.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	delivery := func(units int32) []byte {
		b, _ := proto.Marshal(&outreachv1.RequestDelivery{
			Provenance: provenance(), DeliveryId: "d1", Item: outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK, Units: units,
		})
		return b
	}
	tests := []struct {
		name, subject string
		payload       []byte
		code          string
		says          []string
	}{
		{"unknown field in JSON", recordVisit, []byte(`{"visitId":"v1","nickname":"1f2e3d"}`), "400", []string{`unknown field "nickname"`, "1:"}},
		{"unknown field in protobuf", recordVisit, append(changed(func(*outreachv1.RecordVisit) {}), 0xfa, 0x7f, 0x01, 'x'), "400", []string{"has a field"}},
		{"value of the wrong type in JSON", recordVisit, []byte(`{"visitId":{"1f2e3d":1}}`), "400", []string{"payload"}},
		{"missing occurred_at", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Provenance.OccurredAt = nil }), "400", []string{"provenance.occurred_at", "required"}},
		{"zero occurred_at", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Provenance.OccurredAt = &timestamppb.Timestamp{} }), "400", []string{"provenance.occurred_at", "after 1970"}},
		{"occurred_at in the future", recordVisit, changed(func(v *outreachv1.RecordVisit) {
			v.Provenance.OccurredAt = timestamppb.New(servetest.Now.Add(6 * time.Minute))
		}), "400", []string{"provenance.occurred_at", "5 minutes"}},
		{"missing provenance", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Provenance = nil }), "400", []string{"provenance", "required"}},
		{"wrong district", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Children[1].AdmCode = "440786" }), "400", []string{"children[1].adm_code", "not a district"}},
		{"wrong district in provenance", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Provenance.AdmCode = "440786" }), "400", []string{"provenance.adm_code", "not a district"}},
		{"negative quantity", requestDelivery, delivery(-1), "400", []string{"units", "greater than 0"}},
		{"zero quantity", requestDelivery, delivery(0), "400", []string{"units", "greater than 0"}},
		{"id with a dot", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.VisitId = "v.1" }), "400", []string{"visit_id"}},
		{"id with a space", recordVisit, changed(func(v *outreachv1.RecordVisit) { v.Children[0].ChildId = "ch 1" }), "400", []string{"children[0].child_id"}},
		{"neither protobuf nor JSON", recordVisit, []byte("visit 1f2e3d please"), "400", []string{"payload", "neither JSON nor"}},
		{"broken JSON", recordVisit, []byte(`{"visitId": 1f2e3d`), "400", []string{"payload"}},
		{"empty", recordVisit, nil, "400", []string{"provenance", "required"}},
		{"over 512 KiB", recordVisit, bytes.Repeat([]byte{' '}, serve.MaxRequest+1), "413", []string{"payload", "524288"}},
		{"no command id where nothing is created", voidVisit, func() []byte {
			p := provenance()
			p.Reason = "WRONG_CHILD"
			b, _ := proto.Marshal(&outreachv1.VoidVisit{Provenance: p, VisitId: "v1", WorkerId: "w1", VisitedOn: "2020-02-04"})
			return b
		}(), "400", []string{"provenance.command_id", "required"}},
		{"a void without reason", voidVisit, func() []byte {
			p := provenance()
			p.CommandId = "k1"
			b, _ := proto.Marshal(&outreachv1.VoidVisit{Provenance: p, VisitId: "v1", WorkerId: "w1", VisitedOn: "2020-02-04"})
			return b
		}(), "400", []string{"reason"}},
		{"a phone number that is none", queueReminders, func() []byte {
			b, _ := proto.Marshal(&outreachv1.QueueReminders{Provenance: provenance(), BatchId: "b1", Recipients: []*outreachv1.ReminderRecipient{
				{MessageId: "m1", ChildId: "ch1", AdmCode: "440703", Content: &outreachv1.ReminderContent{Phone: "tel 1f2e3d", Text: "x"}},
			}})
			return b
		}(), "400", []string{"recipients[0].content.phone"}},
	}
	for _, tt := range tests {
		r := c.Ask(t, tt.subject, tt.payload)
		t.Run(tt.name, func(t *testing.T) {
			r.Refused(t, tt.code, tt.says...)
			if strings.Contains(r.Error, "1f2e3d") {
				t.Errorf("the refusal repeats a value: %s", r.Error)
			}
		})
	}
	if n := c.Events(t, subject.Outreach); n != 0 {
		t.Errorf("%d events were appended", n)
	}
	// Over the server's bound the client itself refuses, and the service stays up.
	err := c.JS.Conn().PublishMsg(&nats.Msg{Subject: recordVisit, Data: make([]byte, bus.MaxPayload+1)})
	if !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("the client takes a message over max_payload: %v", err)
	}
	c.Send(t, recordVisit, visit())
}

func TestRefusedByTheState(t *testing.T) {
	t.Parallel()
	c := run(t)
	c.Send(t, recordVisit, visit())
	other := visit()
	other.Outcome = outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER
	b, _ := proto.Marshal(other)
	c.Ask(t, recordVisit, b).Refused(t, "409", "provenance.command_id", "used before")
	other.Provenance.CommandId = "k2"
	b, _ = proto.Marshal(other)
	c.Ask(t, recordVisit, b).Refused(t, "409", "visit_id", "recorded already")
}

func TestSegmentsAreCountedByTheService(t *testing.T) {
	t.Parallel()
	c := run(t)
	q := &outreachv1.QueueReminders{Provenance: provenance(), BatchId: "b1"}
	want := map[string]int32{}
	for i, runes := range []int{1, 70, 71, 134, 135} {
		id := fmt.Sprint("m", i)
		want[id] = []int32{1, 1, 2, 2, 3}[i]
		q.Recipients = append(q.Recipients, &outreachv1.ReminderRecipient{
			MessageId: id, ChildId: fmt.Sprint("ch", i), AdmCode: "440703", Segments: 9,
			Content: &outreachv1.ReminderContent{Phone: "19900000001", Text: strings.Repeat("安", runes)},
		})
	}
	reply := c.Send(t, queueReminders, q)
	s, err := c.JS.Stream(t.Context(), subject.Stream(subject.Outreach))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), reply.GetRevision())
	if err != nil {
		t.Fatal(err)
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range e.Event.(*outreachv1.RemindersQueued).GetMessages() {
		if msg.GetSegments() != want[msg.GetMessageId()] || msg.GetContent().GetContent() != "tongan.outreach.v1.ReminderContent" {
			t.Errorf("message %s has %d segments, want %d", msg.GetMessageId(), msg.GetSegments(), want[msg.GetMessageId()])
		}
	}
}
