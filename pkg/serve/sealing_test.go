package serve_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// What decides never sees a personal field: it is gone from the command, wherever it stood, and there sealed under its path.
func TestADeciderSeesPersonalFieldsOnlySealed(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box, err := servetest.MasterKey(t).Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan decider.Command, 1)
	visits := subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	offer := func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Outreach, "test", []serve.Endpoint{
			serve.Handle(eventlog.New(js, visits, rt.Log), "record", (*outreachv1.RecordVisit).GetVisitId,
				func(_ context.Context, _ *serve.Runtime, _ string, cmd decider.Command, _ *outreachv1.RecordVisit) (*eventv1.CommandReply, error) {
					seen <- cmd
					return &eventv1.CommandReply{}, nil
				}, serve.Creates((*outreachv1.RecordVisit).GetVisitId), serve.Seals[*outreachv1.RecordVisit](box, seal.ChildKey)),
		})
	}
	c := servetest.RunOn(t, js, subject.Outreach, offer, struct{}{})
	c.Send(t, visits.Command("record"), &outreachv1.RecordVisit{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
		},
		VisitId: "v1", Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		Children: []*outreachv1.ChildSpokenAbout{
			{ChildId: "ch1", AdmCode: "440703"},
			{ChildId: "ch2", AdmCode: "440703", Note: &outreachv1.VisitNote{Text: "planted-5c6d7e"}},
		},
	})
	cmd := <-seen
	if strings.Contains(prototext.Format(cmd.Body), "5c6d7e") {
		t.Error("the note stands in the command that is decided")
	}
	if s := cmd.Sealed["children[1].note"]; len(cmd.Sealed) != 1 || s.GetKeyId() != "child-ch2" || strings.Contains(string(s.GetCiphertext()), "5c6d7e") {
		t.Errorf("sealed are %v", cmd.Sealed)
	}
}

// A rule of its own and what the service fills in see the personal fields; who is refused by the rule leaves nothing behind, not even a key.
func TestWhatIsPersonalIsCheckedAndPreparedBeforeItIsSealed(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box, err := servetest.MasterKey(t).Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	children := subject.Aggregate{Service: subject.Intake, Name: "child"}
	decided := make(chan decider.Command, 1)
	offer := func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Intake, "test", []serve.Endpoint{
			serve.Handle(eventlog.New(js, children, rt.Log), "register", (*intakev1.RegisterChild).GetChildId,
				func(_ context.Context, _ *serve.Runtime, _ string, cmd decider.Command, _ *intakev1.RegisterChild) (*eventv1.CommandReply, error) {
					decided <- cmd
					return &eventv1.CommandReply{}, nil
				}, serve.Creates((*intakev1.RegisterChild).GetChildId), serve.Seals[*intakev1.RegisterChild](box, seal.ChildKey),
				serve.Checks(func(c *intakev1.RegisterChild) error {
					if c.GetDetails().GetName() == "planted-5c6d7e" {
						return &serve.BadInput{Field: "details.name", Rule: "must not be that one"}
					}
					return nil
				}),
				serve.Prepare(func(c *intakev1.RegisterChild) { c.WorkerId = "of-" + c.GetDetails().GetSchool() })),
		})
	}
	c := servetest.RunOn(t, js, subject.Intake, offer, struct{}{})
	register := func(name string) *intakev1.RegisterChild {
		return &intakev1.RegisterChild{
			Provenance: &eventv1.Provenance{
				OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
			},
			ChildId: "ch1", Category: eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY, WorkerId: "w1",
			Details: &intakev1.ChildDetails{Name: name, School: "school-1"},
		}
	}
	payload, err := proto.Marshal(register("planted-5c6d7e"))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Ask(t, children.Command("register"), payload)
	if r.Refused(t, "400", "details.name: must not be that one"); strings.Contains(r.Error, "5c6d7e") {
		t.Error("the refusal repeats the name")
	}
	if keys, err := js.Stream(t.Context(), subject.StreamKeys); err != nil || keys.CachedInfo().State.Msgs != 0 {
		t.Errorf("a key was made for what was refused (%v)", err)
	}
	c.Send(t, children.Command("register"), register("another"))
	body := (<-decided).Body.(*intakev1.RegisterChild)
	if body.GetWorkerId() != "of-school-1" || body.GetDetails() != nil {
		t.Errorf("decided is on a command with %s as worker, and details %t", body.GetWorkerId(), body.GetDetails() != nil)
	}
}

// A command that names no organisation is credited to the caller's; which command it is depends on what the caller said.
func TestWhatNamesNoOrganisationIsCreditedToTheCallers(t *testing.T) {
	t.Parallel()
	decided := make(chan decider.Command, 1)
	offer := func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Intake, "test", []serve.Endpoint{
			serve.Handle(eventlog.New(rt.JS, cases, rt.Log), "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId,
				func(_ context.Context, _ *serve.Runtime, _ string, cmd decider.Command, _ *intakev1.FlagCaseSpecial) (*eventv1.CommandReply, error) {
					decided <- cmd
					return &eventv1.CommandReply{}, nil
				}, serve.Credits[*intakev1.FlagCaseSpecial]()),
		})
	}
	c := servetest.Run(t, subject.Intake, offer, struct{}{})
	flag := func(named string) decider.Command {
		payload, err := proto.Marshal(&intakev1.FlagCaseSpecial{CaseId: "c1", Provenance: &eventv1.Provenance{
			CommandId: "k1", OccurredAt: timestamppb.New(time.Date(2020, 2, 4, 1, 0, 0, 0, time.UTC)), AdmCode: "440703", CreditedOrg: named,
			PerformedBy: "w1",
		}})
		if err != nil {
			t.Fatal(err)
		}
		nc := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: "org-a"})
		if _, err := nc.Request(flagCase, payload, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		return <-decided
	}
	bare, same, other := flag(""), flag("org-a"), flag("org-b")
	for want, cmd := range map[string]decider.Command{"org-a": bare, "org-b": other} {
		if got := cmd.Body.GetProvenance().GetCreditedOrg(); got != want {
			t.Errorf("it is credited to %q, want %q", got, want)
		}
	}
	if bytes.Equal(bare.Digest, same.Digest) {
		t.Error("what is filled in is taken for what the caller said")
	}
}
