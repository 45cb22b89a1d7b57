package access_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

var now = time.Date(2020, 2, 6, 0, 0, 0, 0, time.UTC)

// trail reads what stands on the audit trail.
func trail(t *testing.T, js jetstream.JetStream) []eventlog.Envelope {
	t.Helper()
	var out []eventlog.Envelope
	natstest.Each(t, js, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 0)
		if err != nil {
			t.Fatalf("%s: %v", m.Subject(), err)
		}
		out = append(out, e)
	})
	return out
}

// attempts are those that stand on the audit trail.
func attempts(t *testing.T, js jetstream.JetStream) (out []*auditv1.AttemptRefused) {
	t.Helper()
	for _, e := range trail(t, js) {
		a, is := e.Event.(*auditv1.AttemptRefused)
		if !is {
			t.Fatalf("%T stands there", e.Event)
		}
		out = append(out, a)
	}
	return out
}

func refuse(t *testing.T, a *access.Attempts, at time.Time, attempt access.Attempt) {
	t.Helper()
	if err := a.Refused(t.Context(), at, attempt); err != nil {
		t.Fatal(err)
	}
}

// attempt is one of a caller's who may not send a command.
func attempt() access.Attempt {
	return access.Attempt{
		Caller: access.Caller{ID: "w1", Key: "U1", AdmCode: "440703"}, Key: "U1",
		Action: auditv1.BusAction_BUS_ACTION_REQUEST, Subject: "tongan.cmd.intake.case.open", Denied: *access.ErrRole,
	}
}

func TestAnAttemptIsWrittenDownUnderItsCaller(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	refuse(t, access.NewAttempts(js), now, attempt())
	got := trail(t, js)
	if len(got) != 1 {
		t.Fatalf("%d events stand on the trail", len(got))
	}
	want := &auditv1.AttemptRefused{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(now), PerformedBy: "w1", RecordedBy: "w1", AdmCode: "440703", SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
		},
		Action: auditv1.BusAction_BUS_ACTION_REQUEST, Nkey: "U1", Subject: "tongan.cmd.intake.case.open",
		Field: "caller", Rule: "has a role that does not include this",
	}
	if diff := cmp.Diff(want, got[0].Event, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if p := got[0].Subject; p.Aggregate != subject.Trail || p.ID != "w1" || p.Event != "attempt-refused" || got[0].ID == "" {
		t.Errorf("it stands under %+v", p)
	}
}

// Whoever tries stands under the id that is known of it, and never under one that breaks the subject. All keys that are nobody's are one kind.
func TestAnAttemptOfNobodyStandsUnderUnknown(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	a := access.NewAttempts(js)
	key := newCredentials(t).Public()
	for _, who := range []struct{ id, key, want string }{
		{"", key, "unknown"},
		{"", "", "unknown"},
		{"", "U1.>", "unknown"},
		{"", "a name", "unknown"},
		{"", "小明", "unknown"},
		{"w.1", key, "unknown"},
		{strings.Repeat("w", 129), "", "unknown"},
	} {
		one := attempt()
		one.Caller = access.Caller{ID: who.id}
		one.Key, one.Subject = who.key, "tongan.cmd.intake.case."+[]string{"open", "close"}[len(who.id)%2]
		one.Denied.Rule += fmt.Sprint(who) // a kind of its own
		refuse(t, a, now, one)
		got := trail(t, js)
		if id := got[len(got)-1].Subject.ID; id != who.want {
			t.Errorf("an attempt by id %q and key %q stands under %s", who.id, who.key, id)
		}
	}
}

// Attempts of one kind are written once a minute; the next one tells how many were not.
func TestOneAttemptAMinuteOfAKind(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	a := access.NewAttempts(js)
	for _, after := range []time.Duration{0, 0, time.Second, 30 * time.Second, time.Minute - 1, time.Minute, time.Minute + 1, 2*time.Minute - 1, 10 * time.Minute} {
		refuse(t, a, now.Add(after), attempt())
	}
	var got []string
	for _, e := range attempts(t, js) {
		got = append(got, fmt.Sprintf("%s %d", e.GetProvenance().GetOccurredAt().AsTime().Sub(now), e.GetLeftOut()))
	}
	if diff := cmp.Diff([]string{"0s 0", "1m0s 4", "10m0s 2"}, got); diff != "" {
		t.Error(diff)
	}
}

// Attempts that differ in who, what or why are of different kinds; those that differ in what is not told are of one.
func TestWhatMakesAKindOfAttempts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*access.Attempt)
		other  bool
	}{
		"another caller":             {func(a *access.Attempt) { a.Caller.ID = "w2" }, true},
		"another action":             {func(a *access.Attempt) { a.Action = auditv1.BusAction_BUS_ACTION_PUBLISH }, true},
		"another command":            {func(a *access.Attempt) { a.Subject = "tongan.cmd.intake.case.close" }, true},
		"another rule":               {func(a *access.Attempt) { a.Denied = *access.ErrDistrict }, true},
		"another field":              {func(a *access.Attempt) { a.Denied.Field = "nkey" }, true},
		"another key of the caller":  {func(a *access.Attempt) { a.Key = "U2" }, false},
		"another role of the caller": {func(a *access.Attempt) { a.Caller.Role = auditv1.Role_ROLE_ANALYST }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js := natstest.Bus(t)
			a, two := access.NewAttempts(js), attempt()
			tt.change(&two)
			refuse(t, a, now, attempt())
			refuse(t, a, now, two)
			if n := len(attempts(t, js)); (n == 2) != tt.other {
				t.Errorf("%d are written", n)
			}
		})
	}
	js := natstest.Bus(t)
	a := access.NewAttempts(js)
	for i := range 100 {
		one := attempt()
		one.Subject = fmt.Sprintf("tongan.evt.%d.小明", i)
		refuse(t, a, now, one)
	}
	if got := attempts(t, js); len(got) != 1 || got[0].GetSubject() != "tongan.evt.?.?" {
		t.Errorf("subjects that nobody has are %d kinds", len(got))
	}
}

// However many kinds there are, only so many are written within a minute, and none is counted twice or lost.
func TestKindsOfAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	const tried, bound = 1500, 1000 // one of them is for all that is more
	js := natstest.Bus(t)
	a := access.NewAttempts(js)
	var wg sync.WaitGroup
	for part := range 10 {
		wg.Go(func() {
			for i := range tried / 10 {
				one := attempt()
				one.Caller.ID = fmt.Sprintf("w%d-%d", part, i)
				if err := a.Refused(t.Context(), now, one); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(attempts(t, js)); n != bound {
		t.Fatalf("%d of %d are written, want %d", n, tried, bound)
	}
	// What was left out, all of it of the kind of all that is more, is told when that kind comes again.
	var leftOut uint64
	for i := range bound {
		one := attempt()
		one.Caller.ID = fmt.Sprintf("x%d", i)
		refuse(t, a, now.Add(2*time.Minute), one)
	}
	for _, e := range attempts(t, js) {
		leftOut += e.GetLeftOut()
	}
	if leftOut != tried-bound {
		t.Errorf("%d are told as left out, want %d", leftOut, tried-bound)
	}
}

func TestAttemptsMayBeWrittenAtOnce(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	a := access.NewAttempts(js)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := a.Refused(t.Context(), now, attempt()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	refuse(t, a, now.Add(time.Hour), attempt())
	if got := attempts(t, js); len(got) != 2 || got[1].GetLeftOut() != 399 {
		t.Errorf("written are %v", got)
	}
}

// Without its stream nothing is written, and who asked is told.
func TestATrailThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	if err := js.DeleteStream(t.Context(), subject.Stream(subject.Audit)); err != nil {
		t.Fatal(err)
	}
	if err := access.Record(t.Context(), js, "w1", &auditv1.SealOpened{}); err == nil {
		t.Error("it is recorded")
	}
	if err := access.NewAttempts(js).Refused(t.Context(), now, attempt()); err == nil {
		t.Error("it is written")
	}
}

func TestNamedKeepsTheNamesOfThisSystem(t *testing.T) {
	t.Parallel()
	for subj, want := range map[string]string{
		"":                                       "",
		"tongan.cmd.intake.case.open":            "tongan.cmd.intake.case.open",
		"tongan.cmd.intake.case.小明":              "tongan.cmd.intake.case.?",
		"tongan.evt.intake.case.c1.case-opened":  "tongan.evt.intake.case.?.?",
		"tongan.evt.>":                           "tongan.evt.>",
		"tongan.evt.*.*":                         "tongan.evt.*.*",
		"tongan.keys.>":                          "tongan.keys.>",
		"$JS.API.STREAM.1f2e3d.TONGAN_INTAKE":    "$JS.API.STREAM.?.TONGAN_INTAKE",
		"$SYS.REQ.1f2e3d":                        "$SYS.REQ.?",
		">":                                      ">",
		"*":                                      "*",
		"Tongan.Cmd":                             "?.?",
		"tongan..cmd.":                           "tongan..cmd.",
		"tongan cmd.intake":                      "?.intake",
		"_INBOX.U2.x":                            "_INBOX.?.?",
		"a.b.c.d.e.f.g.h.i.j.k.l.m.n":            "?.?.?.?.?.?.?.?.?.?.?",
		"tongan.cmd.a.b.c.d.e.f.g.h.intake.case": "tongan.cmd.?.?.?.?.?.?.?.?.?",
	} {
		if got := access.Named(subj); got != want {
			t.Errorf("%q is named %q, want %q", subj, got, want)
		}
	}
}

// A subject may hold anything, even a child's name: what is not one of this system's names is never repeated.
func TestNamedRepeatsNothingUnknown(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	learn := func(subjects []string) {
		for _, s := range subjects {
			for token := range strings.SplitSeq(s, ".") {
				known[token] = true
			}
		}
	}
	for _, u := range access.Users() {
		learn(u.Publish)
		learn(u.Subscribe)
	}
	for _, role := range access.Roles() {
		learn(access.Of(role).Send)
	}
	learn([]string{"tongan.evt.>", "tongan.dead.keys", "tongan.cmd.*", "tongan.qry", "$SYS.REQ.SERVER.PING.CONNZ.KICK", "?"})
	var names []string
	for token := range known {
		names = append(names, token)
	}
	token := rapid.OneOf(
		rapid.StringMatching(`[A-Za-z0-9_-]{1,12}`),
		rapid.StringMatching(`[\x{4e00}-\x{9fff}]{2,4}`),
		rapid.SampledFrom([]string{"陈小明", "Chen Xiaoming", "13800138000", "440703201001011234", "case-opened", "\"", "\n", "a\"b", "%s", "..", "小明 open"}),
		rapid.SampledFrom(names),
		rapid.String(),
	)
	rapid.Check(t, func(rt *rapid.T) {
		subj := strings.Join(rapid.SliceOfN(token, 0, 20).Draw(rt, "tokens"), ".")
		got := access.Named(subj)
		for t := range strings.SplitSeq(got, ".") {
			if t != "" && !known[t] {
				rt.Fatalf("%q is named %q, which repeats %q", subj, got, t)
			}
		}
		if n := strings.Count(got, "."); n > 10 {
			rt.Fatalf("%q is named by %d tokens", subj, n+1)
		}
	})
}
