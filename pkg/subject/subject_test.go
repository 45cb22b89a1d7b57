package subject_test

import (
	"testing"

	"tongan.dev/pkg/subject"
)

func TestEventSubjectRoundTrip(t *testing.T) {
	t.Parallel()
	c := subject.Aggregate{Service: subject.Intake, Name: "case"}
	s := c.Event("c1", "CaseOpened")
	if s != "tongan.evt.intake.case.c1.case-opened" {
		t.Fatalf("event subject is %s", s)
	}
	p, err := subject.ParseEvent(s)
	if err != nil {
		t.Fatal(err)
	}
	if p.Aggregate != c || p.ID != "c1" || p.Message() != "tongan.intake.v1.CaseOpened" {
		t.Fatalf("parsed %+v, message %s", p, p.Message())
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	c := subject.Aggregate{Service: subject.Intake, Name: "case"}
	for got, want := range map[string]string{
		c.Filter("c1"):                   "tongan.evt.intake.case.c1.*",
		c.Command("open"):                "tongan.cmd.intake.case.open",
		c.Query("get"):                   "tongan.qry.intake.case.get",
		c.Stream():                       "TONGAN_INTAKE",
		subject.Events(subject.Outreach): "tongan.evt.outreach.>",
		subject.Micro(subject.Outreach):  "tongan-outreach",
		subject.Key("k1"):                "tongan.keys.k1",
		subject.Dead("projector", "TONGAN_INTAKE", 7): "tongan.dead.projector.TONGAN_INTAKE.7",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "tongan.evt.intake.case.c1", "tongan.evt.intake.case.c1.case-opened.more", "tongan.cmd.intake.case.c1.open",
		"tongan.evt.intake.case..case-opened", "tongan.evt.intake.case.c 1.case-opened", "tongan.evt.intake.case.*.case-opened",
	} {
		if p, err := subject.ParseEvent(s); err == nil {
			t.Errorf("%q was taken as %+v", s, p)
		}
	}
}

func TestValidID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{"a": true, "A-b_9": true, "": false, "a.b": false, "a b": false, "a*": false, ">": false, "é": false} {
		if subject.ValidID(id) != want {
			t.Errorf("ValidID(%q) is %v", id, !want)
		}
	}
}
