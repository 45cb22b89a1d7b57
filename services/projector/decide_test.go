package projector

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// eventMessages are the types of all events of all services, from the contract.
func eventMessages(t *testing.T) []protoreflect.MessageType {
	t.Helper()
	var out []protoreflect.MessageType
	for _, service := range subject.Services() {
		f, err := protoregistry.GlobalFiles.FindFileByPath("tongan/" + service + "/v1/events.proto")
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Messages().Len() {
			m, err := protoregistry.GlobalTypes.FindMessageByName(f.Messages().Get(i).FullName())
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, m)
		}
	}
	return out
}

// secret stands in everything sealed.
const secret = "SEALED-CANARY"

// fill sets every field of a message to something sound.
func fill(m protoreflect.Message) {
	switch m.Interface().(type) {
	case *eventv1.Sealed:
		proto.Merge(m.Interface(), &eventv1.Sealed{KeyId: secret, Content: secret, Nonce: []byte(secret), Ciphertext: []byte(secret)})
		return
	case *timestamppb.Timestamp:
		proto.Merge(m.Interface(), timestamppb.New(at))
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).List().AppendMutable().Message())
		case f.IsList() && f.Kind() == protoreflect.EnumKind:
			m.Mutable(f).List().Append(protoreflect.ValueOfEnum(1))
		case f.IsList() && f.Kind() == protoreflect.StringKind:
			m.Mutable(f).List().Append(protoreflect.ValueOfString("x1"))
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message())
		case f.Kind() == protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(1))
		case f.Kind() == protoreflect.StringKind && strings.HasSuffix(string(f.Name()), "_on"):
			m.Set(f, protoreflect.ValueOfString("2020-01-28"))
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString("x1"))
		case f.Kind() == protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		case f.Kind() == protoreflect.Int32Kind:
			m.Set(f, protoreflect.ValueOfInt32(3))
		case f.Kind() == protoreflect.Uint32Kind:
			m.Set(f, protoreflect.ValueOfUint32(3))
		}
	}
}

func TestEveryEventHasADecision(t *testing.T) {
	t.Parallel()
	for _, m := range eventMessages(t) {
		event, ok := m.New().Interface().(decider.Event)
		if !ok {
			t.Errorf("%s has no provenance", m.Descriptor().FullName())
			continue
		}
		fill(event.ProtoReflect())
		msg := messageOf(stored{subject.Aggregate{Service: "s", Name: "agg"}, "a1", event})
		got, err := rowsOf(msg)
		if err != nil {
			t.Errorf("%v: decide about it in decide.go", err)
			continue
		}
		if again, _ := rowsOf(msg); fmt.Sprintf("%+v", render(got)) != fmt.Sprintf("%+v", render(again)) {
			t.Errorf("%s gives other rows the second time", msg.envelope.Type)
		}
		if got.Journal[0].Kind != "event" {
			t.Errorf("%s gives %+v", msg.envelope.Type, got.Journal[0])
		}
		if text := strings.Join(render(got), "\n"); strings.Contains(text, secret) {
			t.Errorf("%s: something sealed is in a row: %s", msg.envelope.Type, text)
		}
	}
}
