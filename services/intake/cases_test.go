package intake_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/intake"
)

const caseCommand = "tongan.cmd.intake.case."

// Every command about a case leads to its event over the bus, and sent again to nothing more.
func TestEveryCommandAboutACaseIsStored(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	note := &intakev1.CaseNote{Text: "标识-5c6d7e"}
	later := provenance("k5")
	later.OccurredAt = timestamppb.New(later.GetOccurredAt().AsTime().Add(time.Hour))
	seen := c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1", Note: note}).GetRevision()
	for _, tt := range []struct {
		verb    string
		command decider.Event
		leadsTo proto.Message
	}{
		{"assess", &intakev1.AssessCase{Provenance: provenance(""), CaseId: "c1", AssessmentId: "as1", RiskLevel: 1, RiskReason: "ALONE_AT_HOME", SeenRevision: seen, ChildId: "ch1", Note: note}, &intakev1.AssessmentCompleted{}},
		{"approve-plan", &intakev1.ApproveCasePlan{Provenance: provenance(""), CaseId: "c1", PlanId: "p1", AgreedBy: "w9", Services: []outreachv1.SupportKind{1}, ChildId: "ch1", Note: note}, &intakev1.CasePlanApproved{}},
		{"assign-worker", &intakev1.AssignCaseWorker{Provenance: provenance("k1"), CaseId: "c1", WorkerId: "w2", SeenRevision: seen}, &intakev1.CaseWorkerAssigned{}},
		{"hand-over", &intakev1.HandOverCases{Provenance: provenance("k2"), CaseIds: []string{"c1"}, FromWorkerId: "w2", WorkerId: "w3"}, &intakev1.CaseWorkerAssigned{}},
		{"propose-referral", &intakev1.ProposeReferral{Provenance: provenance(""), CaseId: "c1", ReferralId: "r1", ToOrg: "o2", SupportKind: 1, ChildId: "ch1", Note: note}, &intakev1.ReferralProposed{}},
		{"answer-referral", &intakev1.AnswerReferral{Provenance: provenance("k3"), CaseId: "c1", ReferralId: "r1", ReferralState: 2}, &intakev1.ReferralAnswered{}},
		{"arrange-care", &intakev1.ArrangeTemporaryCare{Provenance: provenance(""), CaseId: "c1", ArrangementId: "ar1", CareProvider: 4, ChildId: "ch1", Note: note}, &intakev1.TemporaryCareArranged{}},
		{"review", &intakev1.ReviewCase{Provenance: provenance(""), CaseId: "c1", ReviewId: "v1", ChildId: "ch1", Note: note}, &intakev1.CaseReviewed{}},
		{"close", &intakev1.CloseCase{Provenance: provenance("k4"), CaseId: "c1", CloseReason: 1, AgreedBy: "w9"}, &intakev1.CaseClosed{}},
		{"reopen", &intakev1.ReopenCase{Provenance: later, CaseId: "c1", ReopenReason: "ILL_AGAIN"}, &intakev1.CaseReopened{}},
	} {
		reply := c.Send(t, caseCommand+tt.verb, tt.command)
		if got, want := event(t, c, reply.GetRevision()).ProtoReflect().Descriptor(), tt.leadsTo.ProtoReflect().Descriptor(); got != want {
			t.Errorf("%s leads to %s", tt.verb, got.Name())
		}
		stored := c.Events(t, subject.Intake)
		if again := c.Send(t, caseCommand+tt.verb, tt.command); again.GetRevision() != reply.GetRevision() || c.Events(t, subject.Intake) != stored {
			t.Errorf("%s sent again is answered with revision %d after %d", tt.verb, again.GetRevision(), reply.GetRevision())
		}
	}
	natstest.Each(t, c.JS, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		if bytes.Contains(m.Data(), []byte("5c6d7e")) {
			t.Errorf("a note stands in %s", m.Subject())
		}
	})
}

// What cannot be of cases is refused, with field and rule.
func TestBadInputAboutACase(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1"})
	p := provenance("k1")
	for says, tt := range map[string]struct {
		verb, code string
		command    proto.Message
	}{
		"risk_reason":                      {"assess", "400", &intakev1.AssessCase{Provenance: p, CaseId: "c1", AssessmentId: "as1", RiskLevel: 1, SeenRevision: 1}},
		"risk_level":                       {"assess", "400", &intakev1.AssessCase{Provenance: p, CaseId: "c1", AssessmentId: "as1", RiskReason: "ALONE", SeenRevision: 1}},
		"seen_revision":                    {"assess", "400", &intakev1.AssessCase{Provenance: p, CaseId: "c1", AssessmentId: "as1", RiskLevel: 1, RiskReason: "ALONE"}},
		"child_id is required with a note": {"review", "400", &intakev1.ReviewCase{Provenance: p, CaseId: "c1", ReviewId: "v1", Note: &intakev1.CaseNote{Text: "标识-5c6d7e"}}},
		"child_id: is not the child":       {"review", "409", &intakev1.ReviewCase{Provenance: p, CaseId: "c1", ReviewId: "v1", ChildId: "ch9"}},
		"agreed_by":                        {"close", "400", &intakev1.CloseCase{Provenance: p, CaseId: "c1", CloseReason: 1}},
		"referral_state":                   {"answer-referral", "400", &intakev1.AnswerReferral{Provenance: p, CaseId: "c1", ReferralId: "r1", ReferralState: 1}},
		"referral_id: was never proposed":  {"answer-referral", "409", &intakev1.AnswerReferral{Provenance: p, CaseId: "c1", ReferralId: "r1", ReferralState: 2}},
		"case_id: is not closed":           {"reopen", "409", &intakev1.ReopenCase{Provenance: p, CaseId: "c1", ReopenReason: "AGAIN"}},
		"case_id: was never opened":        {"close", "409", &intakev1.CloseCase{Provenance: p, CaseId: "c9", CloseReason: 1, AgreedBy: "w9"}},
		"next_due_at: must lie after":      {"follow-up", "409", &intakev1.RecordFollowUp{Provenance: p, CaseId: "c1", FollowUpId: "f1", Channel: 1, NextDueAt: p.GetOccurredAt()}},
	} {
		payload, err := proto.Marshal(tt.command)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Ask(t, caseCommand+tt.verb, payload)
		if r.Refused(t, tt.code, says); strings.Contains(r.Error, "5c6d7e") {
			t.Errorf("the refusal of %s repeats what was sent", tt.verb)
		}
	}
	if n := c.Events(t, subject.Intake); n != 1 {
		t.Errorf("%d events are stored", n)
	}
}

// Who assesses what somebody else has assessed since is told who did and when.
func TestAStaleAssessmentIsRefused(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	seen := c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1"}).GetRevision()
	assess := func(id string, revision uint64) *intakev1.AssessCase {
		return &intakev1.AssessCase{Provenance: provenance(""), CaseId: "c1", AssessmentId: id, RiskLevel: 1, RiskReason: "ALONE_AT_HOME", SeenRevision: revision}
	}
	changed := c.Send(t, caseCommand+"assess", assess("as1", seen)).GetRevision()
	payload, err := proto.Marshal(assess("as2", seen))
	if err != nil {
		t.Fatal(err)
	}
	c.Ask(t, caseCommand+"assess", payload).Refused(t, "409", "seen_revision: is stale: risk_level was changed by w1 at 2020-02-01T17:00:00+08:00, revision 2")
	c.Send(t, caseCommand+"assess", assess("as2", changed))
}

// All cases of a hand-over go over, or none; and the same command again finishes what was begun.
func TestCasesAreHandedOverTogether(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	for _, id := range []string{"c1", "c2", "c3"} {
		c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: id, ChildId: "ch1", WorkerId: "w5"})
	}
	hand := func(ids ...string) *intakev1.HandOverCases {
		return &intakev1.HandOverCases{Provenance: provenance("k1"), FromWorkerId: "w5", WorkerId: "w6", CaseIds: ids}
	}
	refuse := func(command *intakev1.HandOverCases, code string, says ...string) {
		t.Helper()
		payload, err := proto.Marshal(command)
		if err != nil {
			t.Fatal(err)
		}
		c.Ask(t, caseCommand+"hand-over", payload).Refused(t, code, says...)
	}
	refuse(hand("c1", "c9"), "409", "case_ids[1]", "was never opened")
	refuse(hand("c1", "c1"), "400", "case_ids")
	c.Send(t, caseCommand+"assign-worker", &intakev1.AssignCaseWorker{Provenance: provenance("k0"), CaseId: "c3", WorkerId: "w7", SeenRevision: 3})
	refuse(hand("c1", "c2", "c3"), "409", "case_ids[2]", "from_worker_id: does not own this case")
	if n := c.Events(t, subject.Intake); n != 4 {
		t.Errorf("%d events are stored by hand-overs that were refused", n-4)
	}
	c.Send(t, caseCommand+"assign-worker", &intakev1.AssignCaseWorker{Provenance: provenance("k00"), CaseId: "c1", WorkerId: "w6", SeenRevision: 3}) // as if it had ended in between
	first := c.Send(t, caseCommand+"hand-over", hand("c1", "c2"))
	again := c.Send(t, caseCommand+"hand-over", hand("c1", "c2"))
	if n := c.Events(t, subject.Intake); n != 6 || !first.GetHappened() || !proto.Equal(first, again) {
		t.Errorf("%d events are stored, answered with %v and then %v", n, first, again)
	}
	on := &intakev1.HandOverCases{Provenance: provenance("k3"), FromWorkerId: "w6", WorkerId: "w8", CaseIds: []string{"c1", "c2"}}
	given := c.Send(t, caseCommand+"hand-over", on)
	c.Send(t, caseCommand+"hand-over", &intakev1.HandOverCases{Provenance: provenance("k4"), FromWorkerId: "w8", WorkerId: "w9", CaseIds: []string{"c1"}})
	if late := c.Send(t, caseCommand+"hand-over", on); !late.GetAgain() || !slices.Equal(late.GetEventIds(), given.GetEventIds()) || c.Events(t, subject.Intake) != 9 {
		t.Errorf("sent again when somebody else owns one, it is answered with %v", late)
	}
	elsewhere := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_CHILD_SUPERVISOR, Org: natstest.Org, AdmCode: "440704"})
	sends(t, elsewhere, caseCommand+"hand-over", &intakev1.HandOverCases{
		Provenance: provenance("k2"), FromWorkerId: "w9", WorkerId: "w8", CaseIds: []string{"c1"},
	}).Refused(t, "403", "caller")
}

// Notes are shown to who may act in the district and says why, and who looked is on the trail; a forgotten child's are shown to nobody.
func TestNotesOfACaseAreShownWithAReason(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", ""))
	note := &intakev1.CaseNote{Text: "标识-5c6d7e"}
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1", Note: note})
	c.Send(t, followUp, &intakev1.RecordFollowUp{Provenance: provenance(""), CaseId: "c1", FollowUpId: "f1", Channel: 1, ChildId: "ch1", Note: note})
	looking := c.As(t, worker("w1", "440703"))
	ask := func(nc *nats.Conn, reason string) servetest.Reply {
		return sends(t, nc, getCase, &intakev1.GetCase{CaseId: "c1", Reason: reason})
	}
	if got := answer(t, ask(looking, ""), &intakev1.Case{}); len(got.GetNotes()) != 0 || len(trail(t, c)) != 0 {
		t.Errorf("without a reason %d notes are shown", len(got.GetNotes()))
	}
	at := provenance("").GetOccurredAt()
	want := []*intakev1.RecordedNote{
		{EventType: "CaseOpened", OccurredAt: at, PerformedBy: "w1", Note: note}, {EventType: "FollowUpRecorded", OccurredAt: at, PerformedBy: "w1", Note: note},
	}
	if diff := cmp.Diff(want, answer(t, ask(looking, "FOLLOW_UP"), &intakev1.Case{}).GetNotes(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	seal, is := trail(t, c)[0].(*auditv1.SealOpened)
	if !is || seal.GetCaseId() != "c1" || seal.GetChildId() != "ch1" || seal.GetProvenance().GetReason() != "FOLLOW_UP" || seal.GetProvenance().GetPerformedBy() != "w1" {
		t.Errorf("on the trail is %v", trail(t, c))
	}
	ask(c.As(t, worker("w4", "440704")), "FOLLOW_UP").Refused(t, "403", "caller")
	c.Send(t, forgetChild, forgetting("ch1"))
	settled(t, c.JS)
	if got := answer(t, ask(looking, "FOLLOW_UP"), &intakev1.Case{}); len(got.GetNotes()) != 0 || got.GetFollowUps() != 1 {
		t.Errorf("of a forgotten child is shown %v", got)
	}
}

// A service may be asked for before its case is entered: it is noted once there is a case.
func TestAServiceIsNotedOnceItsCaseIsThere(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	supports := subject.Aggregate{Service: subject.Outreach, Name: "support"}
	for i, e := range []decider.Event{
		&outreachv1.ServiceSupportRequested{Provenance: provenance("sp0"), SupportId: "sp0", Kind: 1, ChildId: "ch1"},
		&outreachv1.ServiceSupportRequested{Provenance: provenance("sp1"), SupportId: "sp1", Kind: 1, ChildId: "ch1", CaseId: "c1"},
		&outreachv1.ServiceSupportBegun{Provenance: provenance("sp2"), SupportId: "sp1", Kind: 1, ChildId: "ch1", CaseId: "c1"},
	} {
		m, err := eventlog.Encode(supports, "sp", decider.Recorded{Event: e, ID: "e" + e.GetProvenance().GetCommandId(), Cause: "k"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.JS.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(i, err)
		}
	}
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1"})
	natstest.Eventually(t, time.Minute, "both steps are noted", func() bool { return c.Events(t, subject.Intake) == 3 })
	natstest.Settled(t, c.JS)
	for _, sequence := range []uint64{2, 3} { // in the order in which they got through
		e, is := event(t, c, sequence).(*intakev1.CaseServiceNoted)
		if !is || e.GetSupportId() != "sp1" || e.GetProvenance().GetPerformedBy() != "w1" || e.GetProvenance().GetRecordedBy() != "tongan-intake" {
			t.Errorf("event %d is %v", sequence, e)
		}
	}
}

// Rules of a deployment's own are followed, and what is none is refused at the start, with file and rule.
func TestRulesOfADeploymentsOwn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	js, key := natstest.Bus(t), servetest.MasterKey(t)
	for text, says := range map[string]string{
		"{}":    "rule_sets: must contain at least 1 item",
		"rules": "syntax error",
		`{"ruleSets":[{"version":"a","validFrom":"2020-02-30"}]}`:                                          "valid_from: must be a date",
		`{"ruleSets":[{"version":"a","validFrom":"2020-01-01","care":[{"riskLevel":9}]}]}`:                 "risk_level",
		`{"ruleSets":[{"version":"a","validFrom":"2020-01-01"},{"version":"b","validFrom":"2020-01-01"}]}`: "no two may hold from the same day",
	} {
		write(text)
		err := intake.Run(t.Context(), &serve.Runtime{JS: js, Clock: clock.Wall{}}, intake.Config{MasterKey: key, Rules: file})
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s is answered with %v", text, err)
		}
	}
	if err := intake.Run(context.Background(), &serve.Runtime{JS: js, Clock: clock.Wall{}}, intake.Config{MasterKey: key, Rules: file + "x"}); err == nil {
		t.Error("a file that is not there is no error")
	}
	write(`{"ruleSets":[{"version":"own.1","validFrom":"2020-01-01","care":[{"riskLevel":"RISK_LEVEL_LOW","firstContact":"60s"}]}]}`)
	c := servetest.RunOn(t, js, subject.Intake, intake.Run, intake.Config{MasterKey: key, Rules: file})
	seen := c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1"}).GetRevision()
	reply := c.Send(t, caseCommand+"assess", &intakev1.AssessCase{
		Provenance: provenance(""), CaseId: "c1", AssessmentId: "as1", RiskLevel: 3, RiskReason: "ALONE_AT_HOME", SeenRevision: seen,
	})
	got := event(t, c, reply.GetRevision()).(*intakev1.AssessmentCompleted)
	due := timestamppb.New(provenance("").GetOccurredAt().AsTime().Add(time.Minute))
	want := []*intakev1.Deadline{{DeadlineId: "first-contact-1", Kind: intakev1.DeadlineKind_DEADLINE_KIND_FIRST_CONTACT, DueAt: due}}
	if diff := cmp.Diff(want, got.GetDeadlinesSet(), protocmp.Transform()); diff != "" || got.GetProvenance().GetRuleVersion() != "own.1" {
		t.Errorf("by version %s: %s", got.GetProvenance().GetRuleVersion(), diff)
	}
}
