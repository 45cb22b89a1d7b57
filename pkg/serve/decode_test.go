package serve

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/clock"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// marker stands where a value of a request stands; no text for a caller may hold it.
const marker = "1f2e3d"

// asked is a request that did not come over the bus.
type asked struct {
	micro.Request
	data        []byte
	contentType string
}

// Data is the payload.
func (a asked) Data() []byte { return a.data }

// Headers holds the content type alone.
func (a asked) Headers() micro.Headers { return micro.Headers{"Content-Type": {a.contentType}} }

func visit() *outreachv1.RecordVisit {
	return &outreachv1.RecordVisit{
		Provenance: &eventv1.Provenance{
			CommandId: "k1", OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
		},
		VisitId: "v1",
		Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		Children: []*outreachv1.ChildSpokenAbout{
			{ChildId: "ch1", AdmCode: "440703", Note: &outreachv1.VisitNote{Text: "标识-" + marker}},
			{ChildId: "ch2", AdmCode: "440704"},
		},
	}
}

func inProtobuf(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func inJSON(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// The tag of provenance is a newline and its length may be that of a brace: white space before JSON must not be passed over.
func TestAProvenanceOf123BytesIsProtobuf(t *testing.T) {
	t.Parallel()
	want := visit()
	want.Provenance.PerformedBy, want.Provenance.CommandId = strings.Repeat("w", 52), strings.Repeat("k", 51)
	payload := inProtobuf(t, want)
	if proto.Size(want.GetProvenance()) != 123 || !bytes.HasPrefix(payload, []byte("\n{")) {
		t.Fatalf("the provenance has %d bytes, the command begins with %x", proto.Size(want.GetProvenance()), payload[:2])
	}
	if isJSON(asked{data: payload}) {
		t.Error("it is taken for JSON")
	}
	got := &outreachv1.RecordVisit{}
	if err := decode(asked{data: payload}, got); err != nil || !proto.Equal(got, want) {
		t.Errorf("decoded as %v, %v", got, err)
	}
}

func TestWhatIsJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, payload, contentType string
		want                       bool
	}{
		{"a brace first", `{"visitId":"v1"}`, "", true},
		{"a brace first under the type of protobuf", `{"visitId":"v1"}`, "application/protobuf", true},
		{"white space first", "\n {\"visitId\":\"v1\"}", "", false},
		{"white space first under the type of JSON", "\n {\"visitId\":\"v1\"}", contentJSON, true},
		{"nothing", "", "", false},
		{"nothing under the type of JSON", "", contentJSON, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := isJSON(asked{data: []byte(tt.payload), contentType: tt.contentType}); got != tt.want {
				t.Errorf("is JSON: %v", got)
			}
		})
	}
}

// What is told of JSON that cannot be read is the place, the name of the field and its type.
func TestBadJSONIsToldWithoutItsValues(t *testing.T) {
	t.Parallel()
	const name = " tongan.outreach.v1.RecordVisit"
	for _, tt := range []struct{ name, payload, want string }{
		{"an unknown field", `{"nickname":"1f2e3d"}`, `payload: at 1:2: unknown field "nickname" in` + name},
		{"an unknown field inside", `{"provenance":{"nickname":"1f2e3d"}}`, `payload: at 1:16: unknown field "nickname" in` + name},
		{"an unknown field inside a list", `{"children":[{},{"note":{"name":"1f2e3d"}}]}`, `payload: at 1:26: unknown field "name" in` + name},
		{"an unknown field on the third line", "{\n\n \"nickname\":\"1f2e3d\"}", `payload: at 3:2: unknown field "nickname" in` + name},
		{"a name that is none", `{"name of 1f2e3d":1}`, "payload: is not JSON for" + name},
		{"a name that is long", `{"` + strings.Repeat("x", 65) + `":1}`, "payload: is not JSON for" + name},
		{"a name in Chinese", `{"姓名":"1f2e3d"}`, "payload: is not JSON for" + name},
		{"a text for an enum", `{"channel":"1f2e3d"}`, "payload: at 1:12: not a value of type enum channel"},
		{"a number for a text", `{"visitId":1234567}`, "payload: at 1:12: not a value of type string visitId"},
		{"a truth for a text", `{"visitId":true}`, "payload: at 1:12: not a value of type string visitId"},
		{"a text for a time", `{"provenance":{"occurredAt":"1f2e3d"}}`, "payload: is not JSON for" + name},
		{"a time out of range", `{"provenance":{"occurredAt":"0000-01-01T00:00:00Z"}}`, "payload: is not JSON for" + name},
		{"a text for a list", `{"children":"1f2e3d"}`, "payload: is not JSON for" + name},
		{"a text for a message", `{"provenance":"1f2e3d"}`, "payload: is not JSON for" + name},
		{"a message for a text", `{"visitId":{"1f2e3d":1}}`, "payload: at 1:12: not a value of type string visitId"},
		{"a text that is not UTF-8", "{\"visitId\":\"1f2e3d\xff\"}", "payload: is not JSON for" + name},
		{"a field twice", `{"visitId":"v1","visitId":"1f2e3d"}`, "payload: is not JSON for" + name},
		{"a name of the contract as a value", `{"visitId": unknown field "1f2e3d"}`, "payload: is not JSON for" + name},
		{"half a document", `{"visitId":"1f2e3d"`, "payload: is not JSON for" + name},
		{"two documents", `{"visitId":"v1"}{"visitId":"1f2e3d"}`, "payload: is not JSON for" + name},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := decode(asked{data: []byte(tt.payload)}, &outreachv1.RecordVisit{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("told %v, want %s", err, tt.want)
			}
		})
	}
}

// A field that the contract does not have is refused wherever it stands: it may be one that must be sealed.
func TestUnknownFieldsAreNamedByTheirPlace(t *testing.T) {
	t.Parallel()
	unknown := []byte{0xfa, 0x7f, 0x06, '1', 'f', '2', 'e', '3', 'd'} // field 2047
	for _, tt := range []struct {
		where func(*outreachv1.RecordVisit) proto.Message
		want  string
	}{
		{func(v *outreachv1.RecordVisit) proto.Message { return v }, "has a field that tongan.outreach.v1.RecordVisit does not have"},
		{
			func(v *outreachv1.RecordVisit) proto.Message { return v.GetProvenance() },
			"provenance: has a field that tongan.event.v1.Provenance does not have",
		},
		{
			func(v *outreachv1.RecordVisit) proto.Message { return v.GetProvenance().GetOccurredAt() },
			"provenance.occurred_at: has a field that google.protobuf.Timestamp does not have",
		},
		{
			func(v *outreachv1.RecordVisit) proto.Message { return v.GetChildren()[1] },
			"children[1]: has a field that tongan.outreach.v1.ChildSpokenAbout does not have",
		},
		{
			func(v *outreachv1.RecordVisit) proto.Message { return v.GetChildren()[0].GetNote() },
			"children[0].note: has a field that tongan.outreach.v1.VisitNote does not have",
		},
	} {
		t.Run(tt.want, func(t *testing.T) {
			t.Parallel()
			v := visit()
			tt.where(v).ProtoReflect().SetUnknown(unknown)
			err := decode(asked{data: inProtobuf(t, v)}, &outreachv1.RecordVisit{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("told %v, want %s", err, tt.want)
			}
		})
	}
}

func TestLargestRequest(t *testing.T) {
	t.Parallel()
	for size, over := range map[int]bool{MaxRequest: false, MaxRequest + 1: true} {
		for _, contentType := range []string{contentJSON, "application/protobuf"} {
			data := bytes.Repeat([]byte{' '}, size)
			copy(data, "{}")
			err := decode(asked{data: data, contentType: contentType}, &outreachv1.RecordVisit{})
			if errors.Is(err, errTooLarge) != over {
				t.Errorf("%d bytes of %s: %v", size, contentType, err)
			}
		}
	}
}

// FuzzDecode holds that nothing a caller sends ends the service, and that no text for a caller holds a value of the request. The name of a
// field that the contract does not have is told; it is the caller's, so it is not looked at.
func FuzzDecode(f *testing.F) {
	long := visit()
	long.Provenance.PerformedBy, long.Provenance.CommandId = strings.Repeat("w", 52), strings.Repeat("k", 51)
	for _, m := range []proto.Message{visit(), long, &outreachv1.RecordVisit{VisitId: "tel " + marker}, &outreachv1.RecordVisit{}} {
		f.Add(inProtobuf(f, m), "")
		f.Add(inJSON(f, m), "")
		f.Add(inJSON(f, m), contentJSON)
	}
	for _, s := range []string{
		"", "{", "\n{", `{"visitId":"1f2e3d`, `{"visitId":1f2e3d}`, `{"provenance":"1f2e3d"}`, `{"channel":"1f2e3d"}`, `{"children":[{"childId":"ch 1f2e3d"}]}`,
		`{"provenance":{"occurredAt":"1f2e3d"}}`, `{"provenance":{"occurredAt":"9999-12-31T23:59:59.999999999Z","performedBy":"w1","admCode":"1f2e3d"}}`,
		"\x0a\x7b1f2e3d", "\xfa\x7f\x061f2e3d", "\x7b\x7c", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f1f2e3d",
	} {
		f.Add([]byte(s), "")
		f.Add([]byte(s), contentJSON)
	}
	now := &clock.Replay{}
	now.Advance(time.Date(2020, 2, 6, 0, 0, 0, 0, time.UTC))
	rt := &Runtime{Clock: now, Districts: []string{"440703", "440704"}}
	a := admission[*outreachv1.RecordVisit]{creates: (*outreachv1.RecordVisit).GetVisitId}
	f.Fuzz(func(t *testing.T, data []byte, contentType string) {
		body := &outreachv1.RecordVisit{}
		err := decode(asked{data: data, contentType: contentType}, body)
		if err == nil {
			cmd, again := body, proto.CloneOf(body)
			_, err = a.admit(t.Context(), rt, cmd)
			if _, second := a.admit(t.Context(), rt, again); textOf(err) != textOf(second) {
				t.Errorf("told %q, and the second time %q", textOf(err), textOf(second))
			}
		}
		told := textOf(err)
		if i := strings.Index(told, "unknown field "); i >= 0 {
			rest := strings.SplitN(told[i:], `"`, 3)
			told = told[:i] + rest[len(rest)-1]
		}
		if strings.Contains(told, marker) || strings.Contains(told, "\n") {
			t.Errorf("%q is told of %q", told, data)
		}
	})
}

// textOf is what the caller is told of an error; of none, nothing.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	code, tell := status(err)
	if !tell || !slices.Contains([]string{"400", "413"}, code) {
		return "code " + code + ": " + err.Error()
	}
	return describe(err)
}
