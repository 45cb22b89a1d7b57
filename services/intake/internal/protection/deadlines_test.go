package protection_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/deadline"
	"tongan.dev/services/intake/internal/protection"
)

// Kinds of deadlines.
const (
	contact = intakev1.DeadlineKind_DEADLINE_KIND_FIRST_CONTACT
	service = intakev1.DeadlineKind_DEADLINE_KIND_SERVICE
	follow  = intakev1.DeadlineKind_DEADLINE_KIND_FOLLOW_UP
	review  = intakev1.DeadlineKind_DEADLINE_KIND_REVIEW
)

// due is a deadline that is armed.
func due(id string, kind intakev1.DeadlineKind, text string) *intakev1.Deadline {
	return &intakev1.Deadline{DeadlineId: id, Kind: kind, DueAt: at(text).GetOccurredAt(), Armed: true}
}

func deadlines(all ...*intakev1.Deadline) []*intakev1.Deadline { return all }

// What a case has that was assessed at nine, 17:00 in Shanghai, on 1 February.
var (
	contact1 = due("first-contact-1", contact, "2020-02-01T10:00:00Z")
	service1 = due("service-1", service, "2020-02-01T16:00:00Z")
	review1  = due("review-1", review, "2020-05-01T09:00:00Z")
	assessed = &intakev1.AssessmentCompleted{
		Provenance: at("2020-02-01T09:00:00Z"), CaseId: "c1", AssessmentId: "as1", RiskLevel: high, DeadlinesSet: deadlines(contact1, service1, review1),
	}
	reached1 = &intakev1.FollowUpRecorded{
		Provenance: at("2020-02-01T09:30:00Z"), CaseId: "c1", FollowUpId: "f1", FollowUpOutcome: intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED,
		DeadlinesMet: deadlines(contact1), DeadlinesSet: deadlines(followUp1),
	}
	followUp1 = due("follow-up-1", follow, "2020-02-04T09:30:00Z")
)

func assess(at, id string, risk intakev1.RiskLevel) decider.Command {
	return decidertest.Command(at, id, &intakev1.AssessCase{CaseId: "c1", AssessmentId: id, RiskLevel: risk, RiskReason: "ALONE_AT_HOME", SeenRevision: 9})
}

// assessment is the event of an assessment, restated.
func assessment(id string, risk, before intakev1.RiskLevel, set, met, withdrawn []*intakev1.Deadline) []decider.Event {
	return []decider.Event{&intakev1.AssessmentCompleted{
		CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", AssessmentId: id, RiskLevel: risk, PreviousRiskLevel: before,
		RiskReason: "ALONE_AT_HOME", DeadlinesSet: set, DeadlinesMet: met, DeadlinesWithdrawn: withdrawn,
	}}
}

func TestAssessing(t *testing.T) {
	t.Parallel()
	const none = intakev1.RiskLevel_RISK_LEVEL_UNSPECIFIED
	byRules := assess("2020-02-01T09:00:00Z", "as1", high)
	said := byRules.Provenance()
	said.RuleVersion = "tongan-2020.1"
	first := assessment("as1", high, none, deadlines(contact1, service1, review1), nil, nil)
	first[0].(*intakev1.AssessmentCompleted).Provenance = said
	late := assess("2020-02-01T09:00:00Z", "as1", high)
	late.At = time.Date(2020, 2, 2, 9, 0, 0, 0, time.UTC)
	passed := func(d *intakev1.Deadline) *intakev1.Deadline {
		return &intakev1.Deadline{DeadlineId: d.GetDeadlineId(), Kind: d.GetKind(), DueAt: d.GetDueAt()}
	}
	decidertest.Run(t, cases, []decidertest.Row{
		{Name: "high risk demands contact within an hour and a service before midnight", Given: []decider.Event{opened}, When: byRules, Then: first},
		{
			Name: "low risk demands contact within three days", Given: []decider.Event{opened}, When: assess("2020-02-01T09:00:00Z", "as1", low),
			Then: assessment("as1", low, none, deadlines(due("first-contact-1", contact, "2020-02-04T09:00:00Z"), review1), nil, nil),
		},
		{
			Name: "what had passed already when it was recorded is not armed", Given: []decider.Event{opened}, When: late,
			Then: assessment("as1", high, none, deadlines(passed(contact1), passed(service1), review1), nil, nil),
		},
		{
			Name:  "a rule is not applied before the day from which it holds",
			Given: []decider.Event{&intakev1.CaseOpened{Provenance: at("2020-01-20T09:00:00Z"), CaseId: "c1", ChildId: "ch1"}},
			When:  assess("2020-01-22T15:59:59Z", "as1", high),
			Then:  []decider.Event{&intakev1.AssessmentCompleted{CaseId: "c1", ChildId: "ch1", AssessmentId: "as1", RiskLevel: high, RiskReason: "ALONE_AT_HOME"}},
		},
		{
			Name: "another risk sets its deadlines in place of those that wait", Given: []decider.Event{opened, assessed}, When: assess("2020-02-01T09:40:00Z", "as2", low),
			Then: assessment("as2", low, high, deadlines(due("first-contact-2", contact, "2020-02-04T09:40:00Z"), due("review-2", review, "2020-05-01T09:40:00Z")),
				deadlines(review1), deadlines(contact1, service1)),
		},
		{
			Name: "the same risk leaves what waits", Given: []decider.Event{opened, assessed}, When: assess("2020-02-01T09:40:00Z", "as2", high),
			Then: assessment("as2", high, high, deadlines(due("review-2", review, "2020-05-01T09:40:00Z")), deadlines(review1), nil),
		},
		{
			Name: "no risk demands nothing", Given: []decider.Event{opened, assessed}, When: assess("2020-02-01T09:40:00Z", "as2", intakev1.RiskLevel_RISK_LEVEL_NONE),
			Then: assessment("as2", intakev1.RiskLevel_RISK_LEVEL_NONE, high, nil, deadlines(review1), deadlines(contact1, service1)),
		},
		{
			Name: "once somebody was reached the next follow-up is due", Given: []decider.Event{opened, &intakev1.FollowUpRecorded{Provenance: at("2020-02-01T09:10:00Z"), FollowUpId: "f1"}},
			When: assess("2020-02-01T09:40:00Z", "as1", high),
			Then: assessment("as1", high, none, deadlines(due("service-1", service, "2020-02-01T16:00:00Z"), due("follow-up-1", follow, "2020-02-04T09:40:00Z"),
				due("review-1", review, "2020-05-01T09:40:00Z")), nil, nil),
		},
		{Name: "an assessment is recorded once", Given: []decider.Event{opened, assessed}, When: assess("2020-02-01T09:40:00Z", "as1", low), Err: protection.Recorded("assessment_id")},
		{Name: "a closed case is not assessed", Given: []decider.Event{opened, closed}, When: byRules, Err: protection.ErrClosed},
		{Name: "no assessment lies before the opening", Given: []decider.Event{opened}, When: assess(early, "as1", low), Err: protection.ErrBeforeOpening},
	})
}

func TestFollowUpsMeetDeadlines(t *testing.T) {
	t.Parallel()
	followUp := func(at, id string, outcome intakev1.FollowUpOutcome, next string) decider.Command {
		c := &intakev1.RecordFollowUp{CaseId: "c1", FollowUpId: id, Channel: phone, FollowUpOutcome: outcome}
		if next != "" {
			c.NextDueAt = moment(next)
		}
		return decidertest.Command(at, id, c)
	}
	recorded := func(id string, outcome intakev1.FollowUpOutcome, set, met, withdrawn []*intakev1.Deadline) []decider.Event {
		return []decider.Event{&intakev1.FollowUpRecorded{
			CaseId: "c1", FollowUpId: id, Channel: phone, ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high, FollowUpOutcome: outcome,
			DeadlinesSet: set, DeadlinesMet: met, DeadlinesWithdrawn: withdrawn,
		}}
	}
	const reached, silent = intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED, intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_NO_ANSWER
	missed := &intakev1.DeadlineMissed{CaseId: "c1", Deadline: contact1}
	second := due("follow-up-2", follow, "2020-02-06T09:30:00Z")
	again := &intakev1.FollowUpRecorded{
		Provenance: at("2020-02-03T09:30:00Z"), CaseId: "c1", FollowUpId: "f2", FollowUpOutcome: reached, DeadlinesMet: deadlines(followUp1), DeadlinesSet: deadlines(second),
	}
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "who reaches somebody meets the first contact, and the next is due", Given: []decider.Event{opened, assessed},
			When: followUp("2020-02-01T09:30:00Z", "f1", reached, ""), Then: recorded("f1", reached, deadlines(followUp1), deadlines(contact1), nil),
		},
		{
			Name: "who reaches nobody meets nothing", Given: []decider.Event{opened, assessed},
			When: followUp("2020-02-01T09:30:00Z", "f1", silent, ""), Then: recorded("f1", silent, nil, nil, nil),
		},
		{
			Name: "a deadline that was missed is met late", Given: []decider.Event{opened, assessed, missed},
			When: followUp("2020-02-01T11:00:00Z", "f1", reached, ""),
			Then: recorded("f1", reached, deadlines(due("follow-up-1", follow, "2020-02-04T11:00:00Z")), deadlines(contact1), nil),
		},
		{
			Name: "who follows up says when the next is due", Given: []decider.Event{opened, assessed, reached1},
			When: followUp("2020-02-02T09:30:00Z", "f2", reached, "2020-02-03T00:00:00Z"),
			Then: recorded("f2", reached, deadlines(due("follow-up-2", follow, "2020-02-03T00:00:00Z")), deadlines(followUp1), nil),
		},
		{
			Name: "who reached nobody may put the next one off", Given: []decider.Event{opened, assessed, reached1},
			When: followUp("2020-02-02T09:30:00Z", "f2", silent, "2020-02-05T00:00:00Z"),
			Then: recorded("f2", silent, deadlines(due("follow-up-2", follow, "2020-02-05T00:00:00Z")), nil, deadlines(followUp1)),
		},
		{
			Name: "one entered late does not meet what a later one has set", Given: []decider.Event{opened, assessed, reached1, again},
			When: followUp("2020-02-02T09:30:00Z", "f3", reached, ""), Then: recorded("f3", reached, nil, nil, nil),
		},
		{
			Name: "the next follow-up is due after this one", Given: []decider.Event{opened}, When: followUp("2020-02-02T09:30:00Z", "f1", reached, "2020-02-02T09:30:00Z"),
			Err: protection.ErrNextDue,
		},
	})
}

func TestServicesAndReviewsMeetDeadlines(t *testing.T) {
	t.Parallel()
	care := decidertest.Command("2020-02-01T12:00:00Z", "ar1", &intakev1.ArrangeTemporaryCare{
		CaseId: "c1", ArrangementId: "ar1", CareProvider: intakev1.TemporaryCareProvider_TEMPORARY_CARE_PROVIDER_CIVIL_AFFAIRS,
	})
	begins := func(step intakev1.ServiceStep) decider.Command {
		return decidertest.Command("2020-02-01T10:30:00Z", "k3", &intakev1.NoteCaseService{CaseId: "c1", SupportId: "s1", SupportKind: meals, ServiceStep: step, ChildId: "ch1"})
	}
	noted := func(step intakev1.ServiceStep, met []*intakev1.Deadline) []decider.Event {
		return []decider.Event{&intakev1.CaseServiceNoted{
			CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high, SupportId: "s1", SupportKind: meals, ServiceStep: step, DeadlinesMet: met,
		}}
	}
	reviewed := decidertest.Command("2020-04-01T09:00:00Z", "v1", &intakev1.ReviewCase{CaseId: "c1", ReviewId: "v1"})
	decidertest.Run(t, cases, []decidertest.Row{
		{
			Name: "a service that begins meets its deadline", Given: []decider.Event{opened, assessed}, When: begins(intakev1.ServiceStep_SERVICE_STEP_BEGUN),
			Then: noted(intakev1.ServiceStep_SERVICE_STEP_BEGUN, deadlines(service1)),
		},
		{
			Name: "a service that is asked for meets nothing", Given: []decider.Event{opened, assessed}, When: begins(intakev1.ServiceStep_SERVICE_STEP_REQUESTED),
			Then: noted(intakev1.ServiceStep_SERVICE_STEP_REQUESTED, nil),
		},
		{
			Name: "care for a time is a service", Given: []decider.Event{opened, assessed}, When: care,
			Then: []decider.Event{&intakev1.TemporaryCareArranged{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high, ArrangementId: "ar1",
				CareProvider: intakev1.TemporaryCareProvider_TEMPORARY_CARE_PROVIDER_CIVIL_AFFAIRS, DeadlinesMet: deadlines(service1),
			}},
		},
		{
			Name: "care for a time is arranged once", Given: []decider.Event{opened, &intakev1.TemporaryCareArranged{ArrangementId: "ar1"}}, When: care,
			Err: protection.Recorded("arrangement_id"),
		},
		{
			Name: "a review meets the one that was due and sets the next", Given: []decider.Event{opened, assessed}, When: reviewed,
			Then: []decider.Event{&intakev1.CaseReviewed{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high, ReviewId: "v1",
				DeadlinesMet: deadlines(review1), DeadlinesSet: deadlines(due("review-2", review, "2020-07-01T09:00:00Z")),
			}},
		},
		{Name: "a review is recorded once", Given: []decider.Event{opened, &intakev1.CaseReviewed{ReviewId: "v1"}}, When: reviewed, Err: protection.Recorded("review_id")},
		{
			Name: "closing withdraws what is open", Given: []decider.Event{opened, assessed, &intakev1.DeadlineMissed{CaseId: "c1", Deadline: contact1}},
			When: decidertest.Command("2020-02-04T10:00:00Z", "k3", &intakev1.CloseCase{CaseId: "c1", CloseReason: met, AgreedBy: "w9"}),
			Then: []decider.Event{&intakev1.CaseClosed{
				CaseId: "c1", CloseReason: met, ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high, AgreedBy: "w9",
				DeadlinesWithdrawn: deadlines(contact1, service1, review1),
			}},
		},
		{
			Name:  "a reopened case demands contact and service anew",
			Given: []decider.Event{opened, assessed, reached1, &intakev1.CaseClosed{Provenance: at("2020-02-02T09:00:00Z"), DeadlinesWithdrawn: deadlines(service1, review1, followUp1)}},
			When:  decidertest.Command("2020-02-03T09:00:00Z", "k5", &intakev1.ReopenCase{CaseId: "c1", ReopenReason: "ILL_AGAIN"}),
			Then: []decider.Event{&intakev1.CaseReopened{
				CaseId: "c1", ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w1", RiskLevel: high, ReopenReason: "ILL_AGAIN",
				DeadlinesSet: deadlines(due("first-contact-2", contact, "2020-02-03T10:00:00Z"), due("service-2", service, "2020-02-03T16:00:00Z"),
					due("review-2", review, "2020-05-03T09:00:00Z")),
			}},
		},
	})
}

func TestMissing(t *testing.T) {
	t.Parallel()
	pass := func(now, id string) decider.Command {
		return decidertest.Command(now, "deadline-"+id, &intakev1.PassDeadline{DeadlineId: id})
	}
	late := pass("2020-02-01T10:00:07Z", "first-contact-1")
	p := late.Provenance()
	p.OccurredAt = contact1.GetDueAt()
	missed := &intakev1.DeadlineMissed{Provenance: p, CaseId: "c1", Deadline: contact1, ChildId: "ch1", Category: orphan, AdmCode: "440705", WorkerId: "w0", RiskLevel: high}
	decidertest.Run(t, cases, []decidertest.Row{
		{Name: "a deadline that passes is missed at that moment", Given: []decider.Event{opened, assessed}, When: late, Then: []decider.Event{missed}},
		{
			Name: "a deadline is missed once", Given: []decider.Event{opened, assessed, missed},
			When: decidertest.Command("2020-02-01T10:00:08Z", "under another id", &intakev1.PassDeadline{DeadlineId: "first-contact-1"}),
		},
		{
			Name: "a deadline is not missed before it has passed", Given: []decider.Event{opened, assessed}, When: pass("2020-02-01T09:59:59Z", "first-contact-1"),
			Err: deadline.ErrNotDue,
		},
		{Name: "a deadline that was met is not missed", Given: []decider.Event{opened, assessed, reached1}, When: pass("2020-02-01T10:00:00Z", "first-contact-1")},
		{Name: "a deadline of a closed case is not missed", Given: []decider.Event{opened, assessed, &intakev1.CaseClosed{DeadlinesWithdrawn: deadlines(contact1, service1, review1)}}, When: pass("2020-02-01T10:00:00Z", "first-contact-1")},
		{
			Name: "a deadline that was not armed is not missed", Given: []decider.Event{opened, &intakev1.AssessmentCompleted{DeadlinesSet: deadlines(&intakev1.Deadline{DeadlineId: "service-1", Kind: service, DueAt: contact1.GetDueAt()})}},
			When: pass("2020-02-02T10:00:00Z", "service-1"),
		},
		{Name: "a deadline that was never set is not missed", Given: []decider.Event{opened}, When: pass("2020-02-02T10:00:00Z", "service-1")},
	})
}

func moment(text string) *timestamppb.Timestamp { return at(text).GetOccurredAt() }
