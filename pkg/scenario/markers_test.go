package scenario_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"tongan.dev/pkg/scenario"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// texts calls f with each text of a message, and whether its field is a personal one.
func texts(m protoreflect.Message, personal bool, f func(path, text string, personal bool)) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := fd.Options().(*descriptorpb.FieldOptions)
		inside := personal || options.GetDebugRedact()
		visit := func(v protoreflect.Value) {
			switch fd.Kind() {
			case protoreflect.MessageKind:
				texts(v.Message(), inside, f)
			case protoreflect.StringKind:
				f(string(fd.FullName()), v.String(), inside)
			}
		}
		if fd.IsList() {
			for i := range v.List().Len() {
				visit(v.List().Get(i))
			}
		} else {
			visit(v)
		}
		return true
	})
}

func TestMarkersCoverThePersonalDetailsAndNothingElse(t *testing.T) {
	t.Parallel()
	markers := map[string]bool{}
	for _, m := range scenario.Markers(scenario.DefaultSeed) {
		if len(m) < 8 || markers[m] {
			t.Errorf("marker %s is short or comes twice", m)
		}
		markers[m] = true
	}
	t.Logf("%d markers", len(markers))
	for n, s := range scenario.Steps(scenario.DefaultSeed) {
		texts(s.Command.ProtoReflect(), false, func(path, text string, personal bool) {
			found := markers[text] || slices.ContainsFunc(strings.FieldsFunc(text, func(r rune) bool { return r > 127 || r == '-' }),
				func(part string) bool { return markers[part] })
			if found != personal {
				t.Errorf("%s: %s holds a marker: %v, personal: %v", where(n, s), path, found, personal)
			}
		})
		if strings.Contains(s.Subject+s.Key, "zz") {
			t.Errorf("%s: marker in subject or key", where(n, s))
		}
	}
}

func TestPhonesAndIdentityNumbersAreUniquePerChild(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, s := range scenario.Steps(scenario.DefaultSeed) {
		c, ok := s.Command.(*intakev1.RegisterChild)
		if !ok {
			continue
		}
		for _, text := range []string{c.GetDetails().GetPhone(), c.GetDetails().GetIdentityNumber(), c.GetDetails().GetName()} {
			if other := seen[text]; text != "" && other != "" {
				t.Errorf("%s of %s is that of %s", text, c.GetChildId(), other)
			}
			seen[text] = c.GetChildId()
		}
	}
}
