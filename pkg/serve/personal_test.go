package serve

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// digestOf is the digest of a command as it came.
func digestOf(t *testing.T, r asked) []byte {
	t.Helper()
	c := &outreachv1.RecordVisit{}
	if err := decode(r, c); err != nil {
		t.Fatal(err)
	}
	sum, err := digest(c, true)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestDigestIsOfTheContentAndNotOfItsForm(t *testing.T) {
	t.Parallel()
	want := digestOf(t, asked{data: inProtobuf(t, visit())})
	if len(want) != 8 {
		t.Errorf("the digest has %d bytes", len(want))
	}
	if got := digestOf(t, asked{data: inJSON(t, visit())}); !bytes.Equal(got, want) {
		t.Errorf("in JSON it is %x, in protobuf %x", got, want)
	}
	spelt := []byte(`{"visit_id":"v1","outcome":1,"channel":1,"children":[{"childId":"ch1","admCode":"440703","note":{"text":"x"}},{"childId":"ch2","admCode":"440704","category":0}],
		"provenance":{"adm_code":"440703","occurredAt":"2020-02-04T09:00:00+08:00","performedBy":"w1","commandId":"k1"}}`)
	if got := digestOf(t, asked{data: spelt}); !bytes.Equal(got, want) {
		t.Errorf("in other words it is %x, in protobuf %x", got, want)
	}
}

// Taking the digest of a command changes nothing in it, whether it has personal fields or not.
func TestDigestLeavesTheCommandAsItIs(t *testing.T) {
	t.Parallel()
	for _, sealed := range []bool{true, false} {
		c := visit()
		c.Provenance.RecordedBy, c.Provenance.CommandDigest = "w9", []byte("12345678")
		before := proto.Clone(c)
		if _, err := digest(c, sealed); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(c, before) {
			t.Errorf("sealed %v: the command is another one", sealed)
		}
	}
}

// Each leaf of a command is changed in turn: the digest is another one, unless the leaf is personal or is what the service fills in.
func TestDigestIsOfEveryFieldThatIsNotPersonal(t *testing.T) {
	t.Parallel()
	leaves := func(c *outreachv1.RecordVisit) []leaf { return leavesOf("", false, c.ProtoReflect()) }
	want, err := digest(visit(), true)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[bool]int{}
	for i := range leaves(visit()) {
		c := visit()
		l := leaves(c)[i]
		l.change()
		got, err := digest(c, true)
		if err != nil {
			t.Fatal(err)
		}
		out := l.personal || l.path == ".provenance.command_digest" || l.path == ".provenance.recorded_by"
		if bytes.Equal(got, want) != out {
			t.Errorf("%s is changed, and the digest from %x to %x", l.path, want, got)
		}
		seen[out]++
	}
	if seen[true] != 5 || seen[false] != 21 { // the digest itself, who entered it, the note that is there twice, the note that is missing
		t.Errorf("%d leaves count, %d do not", seen[false], seen[true])
	}
}

// leaf is a field that can be changed.
type leaf struct {
	path     string
	personal bool
	change   func()
}

// leavesOf lists every leaf of a message, of those that are missing too, but for what lists do not hold.
func leavesOf(path string, inside bool, m protoreflect.Message) []leaf {
	var out []leaf
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		at, hidden := path+"."+string(fd.Name()), inside || personal(fd)
		switch {
		case fd.IsList():
			for j := range m.Get(fd).List().Len() {
				out = append(out, leavesOf(fmt.Sprintf("%s[%d]", at, j), hidden, m.Get(fd).List().Get(j).Message())...)
			}
			out = append(out, leaf{at, hidden, func() { m.Mutable(fd).List().AppendMutable() }})
		case fd.Message() != nil && m.Has(fd):
			out = append(out, leavesOf(at, hidden, m.Get(fd).Message())...)
			if fd.Name() != "provenance" { // no command gets so far without
				out = append(out, leaf{at, hidden, func() { m.Clear(fd) }})
			}
		case fd.Message() != nil:
			out = append(out, leaf{at, hidden, func() { m.Mutable(fd) }})
		default:
			out = append(out, leaf{at, hidden, func() { m.Set(fd, other(fd, m.Get(fd))) }})
		}
	}
	return out
}

// other is another value of a field.
func other(fd protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(v.String() + "x")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte{1}, v.Bytes()...))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(v.Enum() + 1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(v.Int() + 1)
	default:
		return protoreflect.ValueOfInt32(int32(v.Int()) + 1)
	}
}

func TestAPersonalFieldMustBeSealed(t *testing.T) {
	t.Parallel()
	file := descriptors(t)
	for _, tt := range []struct {
		name           string
		message        protoreflect.Name
		sealed, open   string // what is said of the type with Seals, and without
		ofTheRealThing protoreflect.MessageDescriptor
	}{
		{name: "nothing personal", message: "Plain"},
		{name: "a message", message: "Single", open: "personal field t.Single.note is not sealed: the endpoint lacks Seals"},
		{name: "a message inside a list", message: "Inside", open: "personal field t.Single.note is not sealed: the endpoint lacks Seals"},
		{
			name: "a list", message: "List", sealed: "personal field t.List.notes is not a single message: it cannot be sealed",
			open: "personal field t.List.notes is not a single message: it cannot be sealed",
		},
		{
			name: "a text", message: "Note", sealed: "personal field t.Note.text is not a single message: it cannot be sealed",
			open: "personal field t.Note.text is not a single message: it cannot be sealed",
		},
		{
			name: "a visit", ofTheRealThing: (&outreachv1.RecordVisit{}).ProtoReflect().Descriptor(),
			open: "personal field tongan.outreach.v1.ChildSpokenAbout.note is not sealed: the endpoint lacks Seals",
		},
		{name: "a delivery", ofTheRealThing: (&outreachv1.RequestDelivery{}).ProtoReflect().Descriptor()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := tt.ofTheRealThing
			if m == nil {
				m = file.Messages().ByName(tt.message)
			}
			for sealed, want := range map[bool]string{true: tt.sealed, false: tt.open} {
				got := ""
				if err := checkPersonal(m, sealed, map[protoreflect.FullName]bool{}); err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("with Seals %v it says %q, want %q", sealed, got, want)
				}
			}
		})
	}
}

// descriptors are message types with a personal field in every place.
func descriptors(t *testing.T) protoreflect.FileDescriptor {
	t.Helper()
	field := func(name, typeName string, repeated, redact bool) *descriptorpb.FieldDescriptorProto {
		f := &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			Label:   descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Options: &descriptorpb.FieldOptions{DebugRedact: &redact},
		}
		if typeName != "" {
			f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), &typeName
		}
		if repeated {
			f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		return f
	}
	message := func(name string, f *descriptorpb.FieldDescriptorProto) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: []*descriptorpb.FieldDescriptorProto{f}}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("t.proto"), Package: new("t"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			message("Plain", field("text", "", false, false)),
			message("Note", field("text", "", false, true)),
			message("Single", field("note", ".t.Note", false, true)),
			message("List", field("notes", ".t.Note", true, true)),
			message("Inside", field("singles", ".t.Single", true, false)),
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
