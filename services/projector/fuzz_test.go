package projector

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// FuzzRows holds that whatever a stream holds gives one journal row, the same each time, or stops the stream because this build does not know
// it; and that what is no sound event gives no other row.
func FuzzRows(f *testing.F) {
	for _, s := range newGenerator(1).streams(20) {
		m, err := eventlog.Encode(s.aggregate, s.id, decider.Recorded{Event: s.event, ID: "e1", Cause: "k1"})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Subject, m.Header.Get(eventlog.HeaderType), m.Data)
	}
	for _, s := range registryStory() {
		b, err := proto.Marshal(s.event)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.aggregate.Event(s.id, s.event.ProtoReflect().Descriptor().Name()), string(s.event.ProtoReflect().Descriptor().FullName()), b)
	}
	f.Fuzz(func(t *testing.T, subj, kind string, payload []byte) {
		h := nats.Header{
			eventlog.HeaderID: {"e1"}, eventlog.HeaderType: {kind}, eventlog.HeaderCommand: {"k1"}, eventlog.HeaderCause: {"k1"}, eventlog.HeaderCRC: {eventlog.Checksum(kind, payload)},
		}
		e, err := eventlog.Decode(subj, h, payload, 7)
		m := message{stream: subject.Stream(subject.Intake), sequence: 7, recorded: time.Date(2020, 2, 4, 0, 0, 0, 0, time.UTC), size: len(payload), envelope: e, err: err}
		one, err := rowsOf(m)
		if err != nil {
			if !errors.Is(err, ErrUndecided) {
				t.Errorf("an error that does not stop the stream: %v", err)
			}
			return
		}
		if len(one.Journal) != 1 || one.Journal[0].Kind == "poison" && one.total() != 1 {
			t.Errorf("it gives %d journal rows, and %d in all", len(one.Journal), one.total())
		}
		if again, err := rowsOf(m); err != nil || !reflect.DeepEqual(one, again) {
			t.Errorf("the second time it gives other rows (%v)", err)
		}
	})
}
