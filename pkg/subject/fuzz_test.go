package subject_test

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"tongan.dev/pkg/subject"
)

// FuzzParse holds that a subject which is taken apart is put together again to the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"tongan.evt.intake.case.c1.case-opened", "tongan.timer.due.intake.case.c1.first-contact-1", "tongan.evt.....", "tongan.evt.a.b.c.>", "tongan.timer.due.a.b.c.*", "",
		"tongan.evt.intake.case.c1.-", "tongan.evt.intake.case.c1.Case", "case-opened", "a-1", "1-a", "a_-b", "-a", "a-", "a--b", "A",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := subject.ParseEvent(s); err == nil {
			if at := p.Filter(p.ID); !subject.Matches(at, s) {
				t.Errorf("%q is not one of %q", s, at)
			}
			if again := p.Aggregate.Event(p.ID, protoreflect.Name(subject.Camel(p.Event))); again != s {
				t.Errorf("%q is put together to %q", s, again)
			}
		}
		// A last token that is an id is taken where it is in kebab case, and nowhere else.
		if _, err := subject.ParseEvent("tongan.evt.a.b.c." + s); (err == nil) != (subject.ValidID(s) && subject.Kebab(subject.Camel(s)) == s) {
			t.Errorf("%q as an event: %v", s, err)
		}
		if d, err := subject.ParseDue(s); err == nil && d.Due() != s {
			t.Errorf("%q is put together to %q", s, d.Due())
		}
	})
}
