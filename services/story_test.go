package services_test

import (
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/intake"
	"tongan.dev/services/outreach"
)

// story is the services that the case of 1 February needs, on one bus and by one clock.
type story struct {
	*testing.T
	intake, outreach *servetest.Client
	clock            *clock.Replay
	commands         int
}

func newStory(t *testing.T) *story {
	t.Helper()
	js, replay := natstest.Bus(t), &clock.Replay{}
	replay.Advance(moment(t, "2020-02-01 16:00"))
	key := servetest.MasterKey(t)
	return &story{
		T: t, clock: replay,
		intake:   servetest.RunBy(t, js, replay, subject.Intake, intake.Run, intake.Config{MasterKey: key}),
		outreach: servetest.RunBy(t, js, replay, subject.Outreach, outreach.Run, outreach.Config{MasterKey: key}),
	}
}

// moment is a time in Asia/Shanghai.
func moment(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", text, time.FixedZone("Asia/Shanghai", 8*60*60))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// at moves the clock to a time, has what is due by then happen, and returns who did what happens then.
func (s *story) at(text, by string) *eventv1.Provenance {
	s.Helper()
	to := moment(s.T, text)
	s.intake.Tick(s, to)
	s.commands++
	return &eventv1.Provenance{
		CommandId: fmt.Sprint("k", s.commands), OccurredAt: timestamppb.New(to), PerformedBy: by, AdmCode: "440703",
		SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_DESK,
	}
}

func (s *story) sends(verb string, command proto.Message) uint64 {
	s.Helper()
	return s.intake.Send(s, "tongan.cmd.intake."+verb, command).GetRevision()
}

// called has somebody call, the child entered, and a special case opened at high risk within six minutes.
func (s *story) called() {
	s.Helper()
	rang := s.at("2020-02-01 16:40", "h-2")
	s.sends("contact.receive", &intakev1.ReceiveHotlineContact{
		Provenance: rang, ContactId: "ct1", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
		ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD, ChildId: "ch1", RangAt: rang.GetOccurredAt(), AnsweredAt: rang.GetOccurredAt(),
		Speaker: intakev1.Speaker_SPEAKER_NEIGHBOUR, Details: &intakev1.ContactDetails{Narrative: "标识-5c6d7e"},
	})
	s.sends("child.register", &intakev1.RegisterChild{
		Provenance: s.at("2020-02-01 16:43", "h-2"), ChildId: "ch1", Category: eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY, WorkerId: "h-2",
		Details: &intakev1.ChildDetails{Name: "标识-5c6d7e"},
	})
	opened := s.sends("case.open", &intakev1.OpenCase{
		Provenance: s.at("2020-02-01 16:45", "h-2"), CaseId: "cs1", ChildId: "ch1", ContactId: "ct1", CaseSource: intakev1.CaseSource_CASE_SOURCE_CONTACT,
		GapCause: intakev1.GuardianshipGapCause_GUARDIANSHIP_GAP_CAUSE_QUARANTINED, Note: &intakev1.CaseNote{Text: "标识-5c6d7e"},
	})
	s.sends("case.flag-special", &intakev1.FlagCaseSpecial{Provenance: s.at("2020-02-01 16:46", "h-2"), CaseId: "cs1"})
	s.sends("case.assess", &intakev1.AssessCase{
		Provenance: s.at("2020-02-01 16:46", "h-2"), CaseId: "cs1", AssessmentId: "as1", RiskLevel: intakev1.RiskLevel_RISK_LEVEL_HIGH, RiskReason: "ALONE_AT_HOME", SeenRevision: opened,
	})
}

// told is what is stored about the case: kind and time of each event, and which deadlines it sets (+), meets (-), withdraws (/) or misses (!).
func (s *story) told() (out []string) {
	s.Helper()
	natstest.Settled(s, s.intake.JS)
	natstest.Each(s, s.intake.JS, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 0)
		if err != nil {
			s.Fatal(err)
		}
		if e.Subject.Name != "case" {
			return
		}
		at := e.Event.GetProvenance().GetOccurredAt().AsTime().In(time.FixedZone("Asia/Shanghai", 8*60*60))
		line := at.Format("01-02 15:04 ") + string(e.Event.ProtoReflect().Descriptor().Name())
		add := func(sign string, all []*intakev1.Deadline) {
			for _, d := range all {
				line += " " + sign + d.GetDeadlineId()
			}
		}
		if by, ok := e.Event.(interface{ GetDeadlinesMet() []*intakev1.Deadline }); ok {
			add("-", by.GetDeadlinesMet())
		}
		if by, ok := e.Event.(interface{ GetDeadlinesWithdrawn() []*intakev1.Deadline }); ok {
			add("/", by.GetDeadlinesWithdrawn())
		}
		if by, ok := e.Event.(interface{ GetDeadlinesSet() []*intakev1.Deadline }); ok {
			add("+", by.GetDeadlinesSet())
		}
		if missed, ok := e.Event.(*intakev1.DeadlineMissed); ok {
			add("!", []*intakev1.Deadline{missed.GetDeadline()})
		}
		out = append(out, line)
	})
	return out
}

// A child is alone at home, both parents in hospital. Somebody calls; within six minutes it is a special case at high risk; within an hour
// the child is spoken to, and the same evening dinner comes. Social workers keep it company, mostly online, until the mother is back.
func TestTheCaseOfTheFirstOfFebruary(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.called()
	follow := func(at, by string, channel intakev1.FollowUpChannel) {
		p := s.at(at, by)
		s.sends("case.follow-up", &intakev1.RecordFollowUp{
			Provenance: p, CaseId: "cs1", FollowUpId: "f-" + p.GetCommandId(), Channel: channel, ChildId: "ch1",
			FollowUpOutcome: intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED, Note: &intakev1.CaseNote{Text: "标识-5c6d7e"},
		})
	}
	const online, home = intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE, intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_HOME_VISIT
	follow("2020-02-01 16:52", "h-2", intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE)
	asked := s.at("2020-02-01 16:58", "h-2")
	s.outreach.Send(t, "tongan.cmd.outreach.support.request", &outreachv1.RequestSupport{
		Provenance: asked, SupportId: "sp1", Kind: outreachv1.SupportKind_SUPPORT_KIND_MEALS, ChildId: "ch1", CaseId: "cs1", ProviderOrg: "org-homecare",
	})
	seen := s.caseNow().GetRevision()
	s.sends("case.assign-worker", &intakev1.AssignCaseWorker{Provenance: s.at("2020-02-01 17:10", "h-2"), CaseId: "cs1", WorkerId: "y-1", SeenRevision: seen})
	s.outreach.Send(t, "tongan.cmd.outreach.support.begin", &outreachv1.BeginSupport{Provenance: s.at("2020-02-01 18:30", "c-1"), SupportId: "sp1"})
	follow("2020-02-01 20:15", "y-1", online)
	follow("2020-02-02 10:10", "y-2", home)
	follow("2020-02-04 20:00", "y-1", online)
	follow("2020-02-07 09:00", "y-1", online)
	s.sends("case.close", &intakev1.CloseCase{
		Provenance: s.at("2020-02-08 11:00", "y-1"), CaseId: "cs1", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET, AgreedBy: "s-1",
	})
	s.at("2020-08-01 00:00", "nobody")
	want := []string{
		"02-01 16:45 CaseOpened",
		"02-01 16:46 CaseFlaggedSpecial",
		"02-01 16:46 AssessmentCompleted +first-contact-1 +service-1 +review-1",
		"02-01 16:52 FollowUpRecorded -first-contact-1 +follow-up-1",
		"02-01 16:58 CaseServiceNoted",
		"02-01 17:10 CaseWorkerAssigned",
		"02-01 18:30 CaseServiceNoted -service-1",
		"02-01 20:15 FollowUpRecorded -follow-up-1 +follow-up-2",
		"02-02 10:10 FollowUpRecorded -follow-up-2 +follow-up-3",
		"02-04 20:00 FollowUpRecorded -follow-up-3 +follow-up-4",
		"02-07 09:00 FollowUpRecorded -follow-up-4 +follow-up-5",
		"02-08 11:00 CaseClosed /review-1 /follow-up-5",
	}
	if diff := gocmp.Diff(want, s.told()); diff != "" {
		t.Error(diff)
	}
	if c := s.caseNow(); c.GetWorkerId() != "y-1" || !c.GetSpecial() || !c.GetClosed() || c.GetFollowUps() != 5 {
		t.Errorf("in the end the case is %v", c)
	}
}

// The same call, and nobody does anything: what is missed is said, each thing once, at its time and in the order of time.
func TestTheCaseOfTheFirstOfFebruaryWithNobodyActing(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.called()
	opened := []string{
		"02-01 16:45 CaseOpened",
		"02-01 16:46 CaseFlaggedSpecial",
		"02-01 16:46 AssessmentCompleted +first-contact-1 +service-1 +review-1",
	}
	contact, evening, review := "02-01 17:46 DeadlineMissed !first-contact-1", "02-02 00:00 DeadlineMissed !service-1", "05-01 16:46 DeadlineMissed !review-1"
	for _, tt := range []struct {
		until  string
		missed []string
	}{
		{"2020-02-01 17:45", nil},
		{"2020-02-01 17:46", []string{contact}},
		{"2020-02-01 23:59", []string{contact}},
		{"2020-02-02 00:00", []string{contact, evening}},
		{"2020-04-30 00:00", []string{contact, evening}},
		{"2020-05-02 00:00", []string{contact, evening, review}},
		{"2021-01-01 00:00", []string{contact, evening, review}},
	} {
		s.at(tt.until, "nobody")
		if diff := gocmp.Diff(append(opened[:3:3], tt.missed...), s.told()); diff != "" {
			t.Errorf("until %s: %s", tt.until, diff)
		}
	}
	// Late is better than never, and is accepted.
	p := s.at("2021-01-02 09:00", "y-1")
	s.sends("case.follow-up", &intakev1.RecordFollowUp{
		Provenance: p, CaseId: "cs1", FollowUpId: "f1", Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_HOME_VISIT, FollowUpOutcome: intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED,
	})
	if c := s.caseNow(); len(c.GetDeadlines()) != 3 || gocmp.Diff([]string{"service-1", "review-1"}, c.GetMissedDeadlineIds()) != "" {
		t.Errorf("after a late contact %v are open, of them missed %v", c.GetDeadlines(), c.GetMissedDeadlineIds())
	}
}

func (s *story) caseNow() *intakev1.Case {
	s.Helper()
	ask, err := proto.Marshal(&intakev1.GetCase{CaseId: "cs1"})
	if err != nil {
		s.Fatal(err)
	}
	r := s.intake.Ask(s, intake.CaseSubject, ask)
	r.Refused(s, "")
	out := &intakev1.Case{}
	if err := proto.Unmarshal(r.Data, out); err != nil {
		s.Fatal(err)
	}
	return out
}
