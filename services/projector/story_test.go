package projector

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// deadlineOn is a deadline at noon of a day.
func deadlineOn(id string, kind intakev1.DeadlineKind, day string) *intakev1.Deadline {
	return &intakev1.Deadline{DeadlineId: id, Kind: kind, DueAt: on(day, "").GetOccurredAt(), Armed: true}
}

func list(d ...*intakev1.Deadline) []*intakev1.Deadline { return d }

// ownedBy is the provenance of what a worker did at noon of a day.
func ownedBy(worker, day, admCode string) *eventv1.Provenance {
	p := on(day, admCode)
	p.PerformedBy = worker
	return p
}

func inAggregate(name, id string, events ...decider.Event) []stored {
	out := make([]stored, len(events))
	for i, e := range events {
		out[i] = stored{subject.Aggregate{Service: subject.Intake, Name: name}, id, e}
	}
	return out
}

// firstCase is of 440703: assessed, reached late, handed over, closed and opened again, with a follow-up that nobody makes.
func firstCase() []stored {
	const high = intakev1.RiskLevel_RISK_LEVEL_HIGH
	p := func(day string) *eventv1.Provenance { return on(day, "440703") }
	contact, followUp, review := deadlineOn("first-contact-1", 1, "2020-01-26"), deadlineOn("follow-up-1", 3, "2020-01-30"), deadlineOn("review-1", 4, "2020-04-26")
	again := deadlineOn("follow-up-2", 3, "2020-02-16")
	followed := func(day string, outcome intakev1.FollowUpOutcome, met ...*intakev1.Deadline) decider.Event {
		return &intakev1.FollowUpRecorded{
			Provenance: p(day), CaseId: "x1", FollowUpId: "f" + day, Channel: 1, ChildId: "c1", Category: leftBehind, AdmCode: "440703", FollowUpOutcome: outcome,
			WorkerId: "w1", RiskLevel: high, DeadlinesMet: met,
		}
	}
	missed := func(day string, d *intakev1.Deadline, owner string) decider.Event {
		return &intakev1.DeadlineMissed{
			Provenance: p(day), Deadline: d, CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703", WorkerId: owner, RiskLevel: high,
		}
	}
	return inAggregate("case", "x1",
		&intakev1.CaseOpened{Provenance: p("2020-01-25"), CaseId: "x1", ChildId: "c1", Category: leftBehind, ContactId: "h1", CaseSource: 1, GapCause: 3, WorkerId: "w1"},
		&intakev1.AssessmentCompleted{
			Provenance: p("2020-01-26"), CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703", WorkerId: "w1", RiskLevel: high,
			DeadlinesSet: list(contact, followUp, review),
		},
		&intakev1.CaseFlaggedSpecial{Provenance: p("2020-01-26"), CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703"},
		missed("2020-01-26", contact, "w1"),
		followed("2020-01-27", intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED, contact),
		missed("2020-01-30", followUp, "w1"),
		followed("2020-01-29", intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED, followUp), // recorded after it was missed
		followed("2020-01-31", intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_NO_ANSWER),
		&intakev1.CaseWorkerAssigned{
			Provenance: p("2020-02-03"), CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703", WorkerId: "w2", FromWorkerId: "w1", RiskLevel: high,
		},
		&intakev1.CaseClosed{
			Provenance: p("2020-02-10"), CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703", WorkerId: "w2", RiskLevel: high, CloseReason: 1,
			DeadlinesWithdrawn: list(review),
		},
		&intakev1.CaseReopened{
			Provenance: p("2020-02-15"), CaseId: "x1", ChildId: "c1", Category: leftBehind, AdmCode: "440703", WorkerId: "w3", RiskLevel: high, DeadlinesSet: list(again),
		},
		missed("2020-02-16", again, "w3"),
	)
}

// otherCases are one of before there were owners, one that was open for a part of a day, one with a hand-over recorded late, and one of a child that left.
func otherCases(inAnHour time.Time) []stored {
	unarmed := deadlineOn("follow-up-1", 3, "2020-02-02")
	unarmed.Armed = false
	soon := &intakev1.Deadline{DeadlineId: "review-1", Kind: 4, DueAt: timestamppb.New(inAnHour), Armed: true}
	low := func(risk intakev1.RiskLevel, day, id string, set ...*intakev1.Deadline) decider.Event {
		return &intakev1.AssessmentCompleted{
			Provenance: on(day, "440704"), CaseId: "x2", ChildId: "c2", Category: orphan, AdmCode: "440704", WorkerId: "w1", RiskLevel: risk, AssessmentId: id, DeadlinesSet: set,
		}
	}
	assigned := func(day, from, to string) decider.Event {
		return &intakev1.CaseWorkerAssigned{
			Provenance: on(day, "440703"), CaseId: "x4", ChildId: "c4", Category: orphan, AdmCode: "440703", WorkerId: to, FromWorkerId: from,
		}
	}
	out := inAggregate("case", "x2",
		&intakev1.CaseOpened{Provenance: ownedBy("w1", "2020-02-01", "440704"), CaseId: "x2", ChildId: "c2", Category: orphan},
		low(intakev1.RiskLevel_RISK_LEVEL_MEDIUM, "2020-02-01", "a1"),
		low(intakev1.RiskLevel_RISK_LEVEL_LOW, "2020-02-05", "a2", unarmed, soon),
	)
	out = append(out, inAggregate("case", "x3",
		&intakev1.CaseOpened{Provenance: on("2020-02-02", "440704"), CaseId: "x3", ChildId: "c3", Category: orphan, CaseSource: 4, WorkerId: "w1"},
		&intakev1.CaseClosed{Provenance: on("2020-02-02", "440704"), CaseId: "x3", ChildId: "c3", Category: orphan, AdmCode: "440704", CloseReason: 3, WorkerId: "w1"},
	)...)
	out = append(out, inAggregate("case", "x4",
		&intakev1.CaseOpened{Provenance: on("2020-02-04", "440703"), CaseId: "x4", ChildId: "c4", Category: orphan, WorkerId: "w1"},
		assigned("2020-02-08", "w1", "w2"), assigned("2020-02-06", "w2", "w3"),
	)...)
	return append(out, inAggregate("case", "x5",
		&intakev1.CaseOpened{Provenance: on("2020-02-09", "440704"), CaseId: "x5", ChildId: "gone-with-case", Category: orphan, WorkerId: "w4"},
	)...)
}

// received is a contact of noon of 24 January; seconds is how long it rang, less than 0 where nobody answered.
func received(id, admCode string, channel intakev1.HotlineChannel, kind intakev1.ContactType, seconds int) *intakev1.HotlineContactReceived {
	p := on("2020-01-24", admCode)
	e := &intakev1.HotlineContactReceived{Provenance: p, ContactId: id, Channel: channel, ContactType: kind, RangAt: p.GetOccurredAt()}
	if seconds >= 0 {
		e.AnsweredAt = timestamppb.New(p.GetOccurredAt().AsTime().Add(time.Duration(seconds) * time.Second))
	}
	return e
}

// hotlineStory is a contact that becomes a case, one with a promise that is not kept, and others that only come.
func hotlineStory() []stored {
	p := func(day string) *eventv1.Provenance { return on(day, "440703") }
	callBack := deadlineOn("call-back-1", 5, "2020-01-25")
	classified := func(was, is intakev1.ContactType) decider.Event {
		return &intakev1.HotlineContactClassified{
			Provenance: p("2020-01-25"), ContactId: "h1", ContactType: is, PreviousContactType: was, Reasons: []intakev1.ContactReason{5, 1}, Urgency: 3, Channel: 1,
			AdmCode: "440703", CountsOn: "2020-01-24", ContactOrg: "o1",
		}
	}
	first := received("h1", "440703", 1, 0, 10)
	first.Speaker, first.ChildId = 4, "c1"
	out := inAggregate("contact", "h1", first, classified(0, 3), classified(3, 2),
		&intakev1.HotlineContactLinked{Provenance: p("2020-01-25"), ContactId: "h1", ChildIds: []string{"c9"}},
		&intakev1.ContactActionRecorded{Provenance: p("2020-01-25"), ContactId: "h1", ContactAction: 4, ContactType: 2},
		&intakev1.CallBackPromised{Provenance: p("2020-01-24"), ContactId: "h1", DeadlinesSet: list(callBack)},
		&intakev1.CallBackRecorded{Provenance: p("2020-01-25"), ContactId: "h1", Reached: true, DeadlinesMet: list(callBack)},
		&intakev1.HotlineContactHandedOver{Provenance: p("2020-01-25"), ContactId: "h1", FromOrg: "o1", ToOrg: "o5"},
		&intakev1.HotlineContactClosed{Provenance: p("2020-01-25"), ContactId: "h1", ContactOutcome: 1, CaseId: "x1", ContactType: 2},
	)
	kept := deadlineOn("call-back-1", 5, "2020-02-02")
	out = append(out, inAggregate("contact", "h2", received("h2", "440704", 1, 1, 20),
		&intakev1.CallBackPromised{Provenance: on("2020-01-24", "440705"), ContactId: "h2", DeadlinesSet: list(kept)}, // by somebody of elsewhere
		&intakev1.DeadlineMissed{Provenance: on("2020-02-02", ""), ContactId: "h2", AdmCode: "440704", Deadline: kept},
	)...)
	for _, e := range []*intakev1.HotlineContactReceived{
		received("h3", "440703", 1, 0, -1), received("h4", "440703", 1, 3, 5),
		received("h5", "440703", 2, 2, 150), received("h6", "440703", 3, 1, 181),
		{Provenance: p("2020-01-24"), ContactId: "h7", Channel: 1, ContactType: 1}, // of before times were recorded
	} {
		out = append(out, inAggregate("contact", e.GetContactId(), e)...)
	}
	return out
}

// dutyStory is a line with one gap that was one, one that was none and one that goes on, and another line.
func dutyStory() []stored {
	p := func(day string) *eventv1.Provenance { return on(day, "440703") }
	at := func(day string) *timestamppb.Timestamp { return p(day).GetOccurredAt() }
	return append(inAggregate("line", "l1",
		&intakev1.ShiftStarted{Provenance: p("2020-01-24"), LineId: "l1", ShiftId: "s1", OperatorId: "w1"},
		&intakev1.ShiftEnded{Provenance: p("2020-01-25"), LineId: "l1", ShiftId: "s1", OperatorId: "w1", StartedAt: at("2020-01-24")},
		&intakev1.CoverGapBegan{Provenance: p("2020-01-25"), LineId: "l1", GapNumber: 1, BeganAt: at("2020-01-25")},
		&intakev1.ShiftStarted{Provenance: p("2020-01-26"), LineId: "l1", ShiftId: "s2", OperatorId: "w2"},
		&intakev1.CoverGapEnded{Provenance: p("2020-01-26"), LineId: "l1", GapNumber: 1, BeganAt: at("2020-01-25"), EndedAt: at("2020-01-26")},
		&intakev1.ShiftEnded{Provenance: p("2020-01-27"), LineId: "l1", ShiftId: "s2", OperatorId: "w2", StartedAt: at("2020-01-26")},
		&intakev1.CoverGapBegan{Provenance: p("2020-01-27"), LineId: "l1", GapNumber: 2, BeganAt: at("2020-01-27")},
		&intakev1.CoverGapEnded{Provenance: p("2020-01-27"), LineId: "l1", GapNumber: 2, BeganAt: at("2020-01-27"), EndedAt: at("2020-01-27")},
		&intakev1.CoverGapBegan{Provenance: p("2020-01-28"), LineId: "l1", GapNumber: 3, BeganAt: at("2020-01-28")},
	), inAggregate("line", "l2",
		&intakev1.ShiftStarted{Provenance: on("2020-01-24", "440704"), LineId: "l2", ShiftId: "s9", OperatorId: "w9"},
	)...)
}

// leavers are children that have left, for what reason and when; the day may be any.
func leavers(yesterday string) []stored {
	var out []stored
	for _, c := range []struct {
		id, day string
		reason  intakev1.DeregistrationReason
	}{
		{"long-gone", "2020-02-10", 2},
		{"gone-with-case", "2020-02-10", 2},
		{"just-gone", yesterday, 5},
		{"before-any-rule", "2020-01-22", 5},
		{"under-the-later-rule", "2020-03-10", 2},
		{"forgotten", "2020-02-10", 2},
	} {
		out = append(out, inAggregate("child", c.id,
			&intakev1.ChildRegistered{Provenance: on("2020-01-10", "440704"), ChildId: c.id, Category: orphan, WorkerId: "w1"},
			&intakev1.ChildDeregistered{Provenance: on(c.day, "440704"), ChildId: c.id, DeregistrationReason: c.reason, EndedOn: c.day},
		)...)
	}
	out = append(out, inAggregate("child", "forgotten", &intakev1.ChildForgotten{Provenance: on("2020-04-01", "440704"), ChildId: "forgotten", KeyId: "k", Basis: "X"})...)
	return append(out, inAggregate("child", "duplicate",
		&intakev1.ChildRegistered{Provenance: on("2020-01-10", "440703"), ChildId: "duplicate", Category: orphan, WorkerId: "w1"},
		&intakev1.ChildMerged{Provenance: on("2020-02-25", "440703"), ChildId: "duplicate", IntoChildId: "c1"},
	)...)
}
