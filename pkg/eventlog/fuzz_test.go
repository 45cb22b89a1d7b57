package eventlog_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// FuzzDecode holds that no message of a stream ends who reads it: it is an event that encodes to a message that decodes to the same, or one of
// the errors that say what is wrong.
func FuzzDecode(f *testing.F) {
	cases := subject.Aggregate{Service: subject.Intake, Name: "case"}
	for _, e := range []decider.Event{&intakev1.CaseOpened{CaseId: "c1", Provenance: &eventv1.Provenance{CommandId: "k1"}}, &intakev1.CaseClosed{}} {
		m, err := eventlog.Encode(cases, "c1", decider.Recorded{Event: e, ID: "e1", Cause: "k1"})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Subject, "e1", m.Header.Get(eventlog.HeaderType), "k1", m.Header.Get(eventlog.HeaderCRC), m.Data)
	}
	f.Add("tongan.evt.intake.case.c1.case-opened", "", "", "", "", []byte(nil))
	f.Add("tongan.evt.a.b.c.d", "e1", "google.protobuf.Timestamp", "k1", eventlog.Checksum("google.protobuf.Timestamp", nil), []byte(nil))
	f.Add("tongan.evt.intake.case.c1.case-opened", "e1", "tongan.intake.v1.CaseOpened", "k1", eventlog.Checksum("tongan.intake.v1.CaseOpened", []byte{0xff}), []byte{0xff})
	f.Fuzz(func(t *testing.T, subj, id, kind, command, crc string, payload []byte) {
		for _, sum := range []string{crc, eventlog.Checksum(kind, payload)} { // also past the checksum
			h := nats.Header{eventlog.HeaderID: {id}, eventlog.HeaderType: {kind}, eventlog.HeaderCommand: {command}, eventlog.HeaderCause: {command}, eventlog.HeaderCRC: {sum}}
			e, err := eventlog.Decode(subj, h, payload, 7)
			if err != nil {
				if !errors.Is(err, eventlog.ErrHeader) && !errors.Is(err, eventlog.ErrChecksum) && !errors.Is(err, eventlog.ErrDecode) && !errors.Is(err, eventlog.ErrUnknownType) {
					t.Errorf("an error without a class: %v", err)
				}
				continue
			}
			m, err := eventlog.Encode(e.Subject.Aggregate, e.Subject.ID, e.Recorded)
			if err != nil || m.Subject != subj {
				t.Fatalf("it is encoded under %q (%v)", m.Subject, err)
			}
			again, err := eventlog.Decode(m.Subject, m.Header, m.Data, 7)
			if err != nil || !proto.Equal(e.Event, again.Event) || again.ID != e.ID {
				t.Fatalf("decoded again it is another (%v)", err)
			}
		}
	})
}
