package services_test

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"tongan.dev/pkg/subject"
	_ "tongan.dev/proto/gen/tongan/audit/v1"       // the contract, by its descriptors
	_ "tongan.dev/proto/gen/tongan/healthcheck/v1" // the contract, by its descriptors
	_ "tongan.dev/proto/gen/tongan/intake/v1"      // the contract, by its descriptors
	_ "tongan.dev/proto/gen/tongan/outreach/v1"    // the contract, by its descriptors
	_ "tongan.dev/proto/gen/tongan/reporting/v1"   // the contract, by its descriptors
)

var update = flag.Bool("update", false, "write a golden file for every event with a field that none has; one that is there is never written again")

// messages are those of one file of every service.
func messages(t *testing.T, file string) []protoreflect.MessageDescriptor {
	t.Helper()
	var out []protoreflect.MessageDescriptor
	for _, service := range append(subject.Services(), subject.Audit) {
		f, err := protoregistry.GlobalFiles.FindFileByPath("tongan/" + service + "/v1/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Messages().Len() {
			out = append(out, f.Messages().Get(i))
		}
	}
	return out
}

func personal(fd protoreflect.FieldDescriptor) bool {
	o, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// walk calls visit for every field of a message and of the messages inside it, with its path.
func walk(path string, m protoreflect.MessageDescriptor, visit func(string, protoreflect.FieldDescriptor)) {
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		at := path + "." + string(fd.Name())
		visit(at, fd)
		if fd.Message() != nil {
			walk(at, fd.Message(), visit)
		}
	}
}

// Whoever stores, projects and admits counts on where the provenance is.
func TestProvenanceIsTheFirstField(t *testing.T) {
	t.Parallel()
	events, commands := messages(t, "events.proto"), messages(t, "commands.proto")
	if len(events) < 30 || len(commands) < 27 {
		t.Errorf("only %d events and %d commands are found", len(events), len(commands))
	}
	for _, m := range slices.Concat(events, commands) {
		fd := m.Fields().ByNumber(1)
		if fd == nil || fd.Name() != "provenance" || fd.IsList() || fd.Message() == nil || fd.Message().FullName() != "tongan.event.v1.Provenance" {
			t.Errorf("field 1 of %s is %v", m.FullName(), fd)
		}
	}
	for _, m := range commands {
		if !required(m.Fields().ByNumber(1)) {
			t.Errorf("%s may come without provenance", m.FullName())
		}
	}
}

// required reports whether the rules of the contract require a field.
func required(fd protoreflect.FieldDescriptor) (is bool) {
	fd.Options().ProtoReflect().Range(func(option protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if option.FullName() == "buf.validate.field" {
			rules := v.Message()
			is = rules.Get(rules.Descriptor().Fields().ByName("required")).Bool()
		}
		return !is
	})
	return is
}

// The subject of an event is made of its message's name, and leads back to it.
func TestSubjectsOfEventsLeadBackToTheirMessages(t *testing.T) {
	t.Parallel()
	seen := make(map[string]protoreflect.FullName)
	for _, m := range messages(t, "events.proto") {
		kebab := subject.Kebab(string(m.Name()))
		if subject.Camel(kebab) != string(m.Name()) {
			t.Errorf("%s becomes %s and then %s", m.Name(), kebab, subject.Camel(kebab))
		}
		service := strings.Split(string(m.FullName()), ".")[1]
		p, err := subject.ParseEvent(subject.Aggregate{Service: service, Name: "one"}.Event("id1", m.Name()))
		if err != nil || p.Message() != m.FullName() {
			t.Errorf("the subject of %s leads to %s (%v)", m.FullName(), p.Message(), err)
		}
		if other, twice := seen[kebab]; twice {
			t.Errorf("%s and %s have the same name", other, m.FullName())
		}
		seen[kebab] = m.FullName()
	}
}

// Personal data never stands in an event in the clear, and neither does a message of which a part is personal.
func TestEventsHoldNothingPersonal(t *testing.T) {
	t.Parallel()
	for _, m := range messages(t, "events.proto") {
		walk(string(m.Name()), m, func(path string, fd protoreflect.FieldDescriptor) {
			if personal(fd) {
				t.Errorf("%s is personal", path)
			}
		})
	}
}

// What is personal in a command has a place in an event of the same service, sealed and under the same name.
func TestWhatIsPersonalHasASealedPlace(t *testing.T) {
	t.Parallel()
	sealed := make(map[string][]string) // by package and field, the paths
	for _, m := range messages(t, "events.proto") {
		walk(string(m.Name()), m, func(path string, fd protoreflect.FieldDescriptor) {
			if fd.Message() != nil && fd.Message().FullName() == "tongan.event.v1.Sealed" {
				key := fmt.Sprintf("%s %s", m.ParentFile().Package(), fd.Name())
				sealed[key] = append(sealed[key], path)
			}
		})
	}
	used := make(map[string]bool)
	for _, m := range messages(t, "commands.proto") {
		walk(string(m.Name()), m, func(path string, fd protoreflect.FieldDescriptor) {
			if !personal(fd) || insidePersonal(path, m) {
				return
			}
			key := fmt.Sprintf("%s %s", m.ParentFile().Package(), fd.Name())
			if fd.Message() == nil || fd.IsList() || fd.IsMap() || len(sealed[key]) == 0 {
				t.Errorf("%s cannot be sealed: the places for %s are %v", path, key, sealed[key])
			}
			used[key] = true
		})
	}
	for key, paths := range sealed {
		if !used[key] {
			t.Errorf("nothing is sealed for %v", paths)
		}
	}
}

// insidePersonal reports whether a path leads through a personal field: what is inside is sealed with it.
func insidePersonal(path string, m protoreflect.MessageDescriptor) bool {
	names := strings.Split(path, ".")
	for _, name := range names[1 : len(names)-1] {
		fd := m.Fields().ByName(protoreflect.Name(name))
		if personal(fd) {
			return true
		}
		m = fd.Message()
	}
	return false
}

// Events are kept for ever, so their bytes must be readable for ever. A golden file is the encoding of an event as some build wrote it, and
// beside it stands what it says. It is never written again: a field that is new gets a file of its own, of the next version.
func TestStoredEventsAreReadForEver(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, m := range messages(t, "events.proto") {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
		if err != nil {
			t.Fatal(err)
		}
		t.Run(string(m.Name()), func(t *testing.T) { testGolden(t, mt, known) })
	}
	files, err := filepath.Glob("testdata/events/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f] {
			t.Errorf("%s is of no event: an event is never removed, and its versions have no gap", f)
		}
	}
}

func testGolden(t *testing.T, mt protoreflect.MessageType, known map[string]bool) {
	t.Helper()
	golden := func(version int) string {
		return fmt.Sprintf("testdata/events/%s.v%d", mt.Descriptor().Name(), version)
	}
	example := mt.New()
	fill(example)
	missing := paths(example)
	if *update {
		writeNew(t, golden(1), example)
	}
	version := 1
	for ; version == 1 || exists(golden(version)); version++ {
		known[golden(version)+".hex"], known[golden(version)+".txt"] = true, true
		for path := range paths(read(t, golden(version), mt)) {
			delete(missing, path)
		}
	}
	switch {
	case len(missing) > 0 && *update:
		writeNew(t, golden(version), example)
		known[golden(version)+".hex"], known[golden(version)+".txt"] = true, true
	case len(missing) > 0:
		t.Errorf("no golden file has %v: write one with -update, it is kept for ever", slices.Sorted(maps.Keys(missing)))
	}
}

func exists(name string) bool {
	_, err := os.Stat(name + ".hex")
	return err == nil
}

// writeNew writes a golden file that does not exist yet.
func writeNew(t *testing.T, name string, m protoreflect.Message) {
	t.Helper()
	if exists(name) {
		return
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for part := range slices.Chunk([]byte(hex.EncodeToString(b)), 128) {
		fmt.Fprintf(&lines, "%s\n", part)
	}
	for file, content := range map[string]string{name + ".hex": lines.String(), name + ".txt": text(m)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// read decodes a golden file and checks that it says what it said when it was written, and that nothing of it is lost.
func read(t *testing.T, name string, mt protoreflect.MessageType) protoreflect.Message {
	t.Helper()
	content, err := os.ReadFile(name + ".hex")
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(string(content), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	m := mt.New()
	if err := proto.Unmarshal(b, m.Interface()); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), text(m)); diff != "" {
		t.Errorf("%s reads otherwise: %s", name, diff)
	}
	if again, err := (proto.MarshalOptions{Deterministic: true}).Marshal(m.Interface()); err != nil || !bytes.Equal(again, b) {
		t.Errorf("%s is written as %x (%v)", name, again, err)
	}
	return m
}

// text says what a message holds, a line for each value.
func text(m protoreflect.Message) string {
	var b strings.Builder
	lines(m, "", func(path, value string) { fmt.Fprintf(&b, "%s = %s\n", path, value) })
	return b.String()
}

var index = regexp.MustCompile(`\[\d+\]`)

// paths are the fields that are set in a message; those of one list count once.
func paths(m protoreflect.Message) map[string]bool {
	out := make(map[string]bool)
	lines(m, "", func(path, _ string) { out[index.ReplaceAllString(path, "")] = true })
	return out
}

// lines calls line for every value of a message, in the order of the field numbers.
func lines(m protoreflect.Message, path string, line func(path, value string)) {
	fields := m.Descriptor().Fields()
	inOrder := make([]protoreflect.FieldDescriptor, fields.Len())
	for i := range inOrder {
		inOrder[i] = fields.Get(i)
	}
	slices.SortFunc(inOrder, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	for _, fd := range inOrder {
		at := fmt.Sprintf("%s%s", path, fd.Name())
		switch v := m.Get(fd); {
		case !m.Has(fd):
		case fd.IsList():
			for i := range v.List().Len() {
				one(fd, v.List().Get(i), fmt.Sprintf("%s[%d]", at, i), line)
			}
		default:
			one(fd, v, at, line)
		}
	}
}

func one(fd protoreflect.FieldDescriptor, v protoreflect.Value, at string, line func(path, value string)) {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		lines(v.Message(), at+".", line)
	case protoreflect.EnumKind:
		line(at, fmt.Sprintf("%d %s", v.Enum(), fd.Enum().Values().ByNumber(v.Enum()).Name()))
	case protoreflect.BytesKind:
		line(at, hex.EncodeToString(v.Bytes()))
	default:
		line(at, fmt.Sprint(v.Interface()))
	}
}

// fill sets every field of a message to something that tells it from the others. The values are part of the golden files.
func fill(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if fd.IsList() {
			list := m.Mutable(fd).List()
			for n := range 2 {
				v := list.NewElement()
				list.Append(value(fd, v, n))
			}
			continue
		}
		v := m.NewField(fd)
		m.Set(fd, value(fd, v, 0))
	}
}

// value is the n-th example of a field.
func value(fd protoreflect.FieldDescriptor, empty protoreflect.Value, n int) protoreflect.Value {
	number := int64(fd.Number())*10 + int64(n)
	switch fd.Kind() {
	case protoreflect.MessageKind:
		fill(empty.Message())
		return empty
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(1 + n%(values.Len()-1)).Number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprintf("%s-%d", fd.Name(), number))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, byte(number), 0xff})
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(number << 32)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number) << 40)
	default:
		panic("no example of " + fd.Kind().String())
	}
}
