package hotline_test

import (
	"testing"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/deadline"
	"tongan.dev/services/intake/internal/hotline"
)

func TestCallBacks(t *testing.T) {
	t.Parallel()
	owed := due("call-back-1", "2020-01-31T19:00:00Z")
	called := func(at string, reached bool) decider.Command {
		return decidertest.Command(at, "k2", &intakev1.RecordCallBack{ContactId: "hc1", Reached: reached})
	}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name:  "a promised call back is owed",
			Given: []decider.Event{receipt()},
			When:  decidertest.Command(later, "k1", &intakev1.PromiseCallBack{ContactId: "hc1", DueAt: at("2020-01-31T19:00:00Z")}),
			Then:  []decider.Event{&intakev1.CallBackPromised{ContactId: "hc1", DeadlinesSet: owed}},
		},
		{
			Name:  "a new promise withdraws the one before",
			Given: []decider.Event{receipt(), promised()},
			When:  decidertest.Command(later, "k2", &intakev1.PromiseCallBack{ContactId: "hc1", DueAt: at("2020-01-31T18:00:00Z")}),
			Then: []decider.Event{&intakev1.CallBackPromised{
				ContactId: "hc1", DeadlinesSet: due("call-back-2", "2020-01-31T18:00:00Z"), DeadlinesWithdrawn: owed,
			}},
		},
		{
			Name:  "the same promise again is silent",
			Given: []decider.Event{receipt(), promised()},
			When:  decidertest.Command(later, "k2", &intakev1.PromiseCallBack{ContactId: "hc1", DueAt: at("2020-01-31T19:00:00Z")}),
		},
		{
			Name:  "a call back is not due before it is promised",
			Given: []decider.Event{receipt()},
			When:  decidertest.Command(later, "k1", &intakev1.PromiseCallBack{ContactId: "hc1", DueAt: at(later)}),
			Err:   hotline.ErrDueBefore,
		},
		{
			Name:  "who is reached was called back",
			Given: []decider.Event{receipt(), promised()},
			When:  called("2020-01-31T18:00:00Z", true),
			Then:  []decider.Event{&intakev1.CallBackRecorded{ContactId: "hc1", Reached: true, DeadlinesMet: owed}},
		},
		{
			Name:  "who is not reached is still to be called",
			Given: []decider.Event{receipt(), promised()},
			When:  called("2020-01-31T18:00:00Z", false),
			Then:  []decider.Event{&intakev1.CallBackRecorded{ContactId: "hc1"}},
		},
		{
			Name:  "a call before the promise is not the promised one",
			Given: []decider.Event{receipt(), promised()},
			When:  called(received, true),
			Then:  []decider.Event{&intakev1.CallBackRecorded{ContactId: "hc1", Reached: true}},
		},
		{
			Name:  "a call that nobody promised is written down",
			Given: []decider.Event{receipt()},
			When:  called(later, true),
			Then:  []decider.Event{&intakev1.CallBackRecorded{ContactId: "hc1", Reached: true}},
		},
		{
			Name:  "a promised call back is written down after closing",
			Given: []decider.Event{receipt(), promised(), closed(handedOver, "", owed...)},
			When:  called("2020-02-01T09:00:00Z", true),
			Then:  []decider.Event{&intakev1.CallBackRecorded{ContactId: "hc1", Reached: true}},
		},
	})
}

func TestClosing(t *testing.T) {
	t.Parallel()
	owed := due("call-back-1", "2020-01-31T19:00:00Z")
	command := func(outcome intakev1.ContactOutcome, caseID string) decider.Command {
		return decidertest.Command("2020-01-31T20:00:00Z", "k3", &intakev1.CloseHotlineContact{ContactId: "hc1", ContactOutcome: outcome, CaseId: caseID})
	}
	ended := func(outcome intakev1.ContactOutcome, caseID string, withdrawn ...*intakev1.Deadline) *intakev1.HotlineContactClosed {
		e := closed(outcome, caseID, withdrawn...)
		e.ContactType = aboutChild
		return e
	}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name:  "a contact is closed",
			Given: []decider.Event{receipt()},
			When:  command(answered, ""),
			Then:  []decider.Event{ended(answered, "")},
		},
		{
			Name:  "it is not closed while a call back is owed",
			Given: []decider.Event{receipt(), promised()},
			When:  command(answered, ""),
			Err:   hotline.ErrCallBackDue,
		},
		{
			Name:  "a call back made is not owed",
			Given: []decider.Event{receipt(), promised(), &intakev1.CallBackRecorded{ContactId: "hc1", Reached: true, DeadlinesMet: owed}},
			When:  command(answered, ""),
			Then:  []decider.Event{ended(answered, "")},
		},
		{
			Name:  "another organisation takes the call back over",
			Given: []decider.Event{receipt(), promised()},
			When:  command(handedOver, ""),
			Then:  []decider.Event{ended(handedOver, "", owed...)},
		},
		{
			Name:  "a case takes the call back over, also a missed one",
			Given: []decider.Event{receipt(), promised(), &intakev1.DeadlineMissed{Deadline: owed[0], ContactId: "hc1"}},
			When:  command(caseOpened, "c1"),
			Then:  []decider.Event{ended(caseOpened, "c1", owed...)},
		},
		{
			Name:  "closing again in the same way is silent",
			Given: []decider.Event{receipt(), closed(caseOpened, "c1")},
			When:  command(caseOpened, "c1"),
		},
		{
			Name:  "closing again with another case is refused",
			Given: []decider.Event{receipt(), closed(caseOpened, "c1")},
			When:  command(caseOpened, "c2"),
			Err:   hotline.ErrClosed,
		},
	})
}

func TestMissedCallBacks(t *testing.T) {
	t.Parallel()
	pass := func(at string) decider.Command {
		return decidertest.Command(at, "e1", &intakev1.PassDeadline{DeadlineId: "call-back-1"})
	}
	owed := due("call-back-1", "2020-01-31T19:00:00Z")
	missed := &intakev1.DeadlineMissed{Deadline: owed[0], ContactId: "hc1", ChildId: "ch1", AdmCode: "440703"}
	nobodys := receipt()
	nobodys.ChildId = ""
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name:  "a call back that is not made in time was missed",
			Given: []decider.Event{receipt(), promised()},
			When:  pass("2020-01-31T19:00:00Z"),
			Then:  []decider.Event{missed},
		},
		{
			Name:  "it may be about no known child",
			Given: []decider.Event{nobodys, promised()},
			When:  pass("2020-01-31T19:00:00Z"),
			Then:  []decider.Event{&intakev1.DeadlineMissed{Deadline: owed[0], ContactId: "hc1", AdmCode: "440703"}},
		},
		{
			Name:  "that it was missed is said once",
			Given: []decider.Event{receipt(), promised(), missed},
			When:  pass("2020-01-31T19:00:00Z"),
		},
		{
			Name:  "that it was missed is not said before",
			Given: []decider.Event{receipt(), promised()},
			When:  pass("2020-01-31T18:59:59Z"),
			Err:   deadline.ErrNotDue,
		},
		{
			Name:  "a call back that was made is not missed",
			Given: []decider.Event{receipt(), promised(), &intakev1.CallBackRecorded{ContactId: "hc1", Reached: true, DeadlinesMet: owed}},
			When:  pass("2020-01-31T19:00:00Z"),
		},
		{
			Name: "nothing is missed of a contact that was never received",
			When: pass("2020-01-31T19:00:00Z"),
			Err:  hotline.ErrNotReceived,
		},
	})
}
