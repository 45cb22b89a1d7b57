package subject_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"

	"tongan.dev/pkg/subject"
)

func TestWhatAFilterMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		filter, subject string
		want            bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"*.b", "a.b", true},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c.d", true},
		{"a.>", "a", false},
		{"a.>", "b.c", false},
		{">", "a", true},
		{"*", "a.b", false},
		{"a.b*", "a.bc", false},
	} {
		if subject.Matches(tt.filter, tt.subject) != tt.want {
			t.Errorf("%s matches %s: %v", tt.filter, tt.subject, !tt.want)
		}
	}
}

// Rights are judged here as the server judges them.
func TestAFilterMatchesAsTheServerHasIt(t *testing.T) {
	t.Parallel()
	token := rapid.SampledFrom([]string{"a", "b", "c", "$SRV"})
	filter := rapid.OneOf(token, rapid.Just("*"))
	rapid.Check(t, func(rt *rapid.T) {
		s := strings.Join(rapid.SliceOfN(token, 1, 5).Draw(rt, "subject"), ".")
		f := strings.Join(rapid.SliceOfN(filter, 1, 5).Draw(rt, "filter"), ".")
		if rapid.Bool().Draw(rt, "open") {
			f += ".>"
		}
		if got, want := subject.Matches(f, s), server.SubjectsCollide(f, s); got != want {
			rt.Fatalf("%s matches %s: %v, the server says %v", f, s, got, want)
		}
	})
}

func TestNamesOfTheBus(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		subject.Inbox("intake"):                            "_INBOX.intake",
		subject.API("INFO"):                                "$JS.API.INFO",
		subject.API("STREAM.INFO", "TONGAN_INTAKE"):        "$JS.API.STREAM.INFO.TONGAN_INTAKE",
		subject.Ack("TONGAN_OUTREACH", "outreach-gateway"): "$JS.ACK.TONGAN_OUTREACH.outreach-gateway.>",
		subject.Commands(subject.Intake):                   "tongan.cmd.intake.>",
		subject.Queries(subject.Intake):                    "tongan.qry.intake.>",
		subject.AllCallers():                               "tongan.evt.audit.caller.>",
		subject.Caller.Filter("w1"):                        "tongan.evt.audit.caller.w1.*",
		subject.Trail.Event("*", "SealOpened"):             "tongan.evt.audit.trail.*.seal-opened",
		subject.AllDeadOf("projector", "*"):                "tongan.dead.projector.*.*",
		strings.Join(subject.Discovery("intake"), " "): "$SRV.PING $SRV.PING.tongan-intake $SRV.PING.tongan-intake.* $SRV.INFO $SRV.INFO.tongan-intake $SRV.INFO.tongan-intake.* " +
			"$SRV.STATS $SRV.STATS.tongan-intake $SRV.STATS.tongan-intake.*",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if !subject.Matches(subject.AllDeadOf("projector", "*"), subject.Dead("projector", "TONGAN_INTAKE", 7)) {
		t.Error("a reference to a message is none that its reader makes")
	}
	for _, s := range subject.Services() {
		if s == subject.Audit {
			t.Error("the audit trail is projected")
		}
	}
}
