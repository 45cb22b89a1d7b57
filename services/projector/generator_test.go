package projector

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

var opening = time.Date(2020, 1, 23, 1, 0, 0, 0, time.UTC)

func provenance(at time.Time) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: "k1", OccurredAt: timestamppb.New(at), PerformedBy: "w1", CreditedOrg: "o1", AdmCode: "440703",
		SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_DESK,
	}
}

// generator makes up events, the same for the same seed.
type generator struct {
	*rand.Rand
	n int
}

func newGenerator(seed uint64) *generator { return &generator{Rand: rand.New(rand.NewPCG(seed, seed))} }

func (g *generator) id(prefix string) string {
	g.n++
	return fmt.Sprintf("%s%d", prefix, g.n)
}

func (g *generator) provenance() *eventv1.Provenance {
	p := provenance(opening.Add(time.Duration(g.IntN(13*24*60)) * time.Minute))
	p.AdmCode, p.CreditedOrg, p.PerformedBy = g.district(), fmt.Sprint("o", g.IntN(3)), fmt.Sprint("w", g.IntN(5))
	return p
}

func (g *generator) district() string {
	return []string{"440703", "440704", "440705", "440781"}[g.IntN(4)]
}

func (g *generator) category() eventv1.PopulationCategory {
	return eventv1.PopulationCategory(g.IntN(8))
}

// pick takes one of a service's makers.
func (g *generator) pick(service, aggregate string, makers ...func() decider.Event) stored {
	return stored{subject.Aggregate{Service: service, Name: aggregate}, g.id("a"), makers[g.IntN(len(makers))]()}
}

// stream returns n events of every service.
func (g *generator) streams(n int) []stored {
	var out []stored
	for range n {
		out = append(out,
			g.pick(subject.Intake, "case", g.child, g.moved, g.contact, g.classified, g.opened, g.assessed, g.followUp, g.closed, g.missed, g.shift),
			g.pick(subject.HealthCheck, "round", g.round, g.check, g.check),
			g.pick(subject.Outreach, "log", g.visit, g.visit, g.void, g.queued, g.accepted, g.received, g.begun),
			g.pick(subject.Reporting, "bulletin", g.figure),
		)
	}
	return out
}

func (g *generator) child() decider.Event {
	return &intakev1.ChildRegistered{Provenance: g.provenance(), ChildId: g.id("c"), Category: g.category(), WorkerId: "w1"}
}

func (g *generator) moved() decider.Event {
	return &intakev1.ChildMoved{Provenance: g.provenance(), ChildId: g.id("c"), FromAdmCode: g.district(), ToAdmCode: g.district(), MovedOn: "2020-01-25"}
}

func (g *generator) contact() decider.Event {
	return &intakev1.HotlineContactReceived{
		Provenance: g.provenance(), ContactId: g.id("h"), Channel: 1, ContactType: intakev1.ContactType(1 + g.IntN(3)),
	}
}

func (g *generator) classified() decider.Event {
	return &intakev1.HotlineContactClassified{
		Provenance: g.provenance(), ContactId: g.id("h"), ContactType: intakev1.ContactType(1 + g.IntN(3)), PreviousContactType: intakev1.ContactType(g.IntN(4)),
		Reasons: []intakev1.ContactReason{1, 5}, Urgency: 2, Channel: 1, AdmCode: g.district(), CountsOn: "2020-01-29", ContactOrg: "o8",
	}
}

func (g *generator) deadline() *intakev1.Deadline {
	return &intakev1.Deadline{DeadlineId: g.id("d"), Kind: intakev1.DeadlineKind(1 + g.IntN(5)), DueAt: timestamppb.New(opening), Armed: g.IntN(2) == 0}
}

func (g *generator) assessed() decider.Event {
	return &intakev1.AssessmentCompleted{
		Provenance: g.provenance(), CaseId: g.id("x"), ChildId: g.id("c"), Category: g.category(), AdmCode: g.district(), WorkerId: "w1", AssessmentId: g.id("a"),
		RiskLevel: intakev1.RiskLevel(1 + g.IntN(4)), RiskReason: "NEGLECT", DeadlinesSet: []*intakev1.Deadline{g.deadline(), g.deadline()},
		DeadlinesMet: []*intakev1.Deadline{g.deadline()},
	}
}

func (g *generator) missed() decider.Event {
	return &intakev1.DeadlineMissed{Provenance: g.provenance(), Deadline: g.deadline(), ContactId: g.id("h")}
}

func (g *generator) shift() decider.Event {
	return &intakev1.ShiftEnded{Provenance: g.provenance(), LineId: "l1", ShiftId: g.id("s"), OperatorId: "w1", StartedAt: timestamppb.New(opening)}
}

func (g *generator) opened() decider.Event {
	return &intakev1.CaseOpened{Provenance: g.provenance(), CaseId: g.id("x"), ChildId: g.id("c"), Category: g.category()}
}

func (g *generator) followUp() decider.Event {
	return &intakev1.FollowUpRecorded{
		Provenance: g.provenance(), CaseId: g.id("x"), FollowUpId: g.id("f"), Channel: 1, ChildId: g.id("c"), Category: g.category(),
		AdmCode: g.district(), CountsSpecial: g.IntN(2) == 0, CountsOn: "2020-01-30",
	}
}

func (g *generator) closed() decider.Event {
	return &intakev1.CaseClosed{Provenance: g.provenance(), CaseId: g.id("x"), CloseReason: 1, ChildId: g.id("c"), Category: g.category(), AdmCode: g.district()}
}

func (g *generator) round() decider.Event {
	return &healthcheckv1.CheckRoundOpened{Provenance: g.provenance(), InstitutionId: "i1", CheckedOn: "2020-01-26", Slot: 1, Expected: 20}
}

func (g *generator) check() decider.Event {
	return &healthcheckv1.HealthCheckRecorded{
		Provenance: g.provenance(), InstitutionId: "i1", CheckedOn: "2020-01-26", Slot: 2, AdmCode: g.district(),
		Reading: &healthcheckv1.Reading{CheckId: g.id("r"), PersonId: g.id("c"), TempDecicelsius: 360 + g.Int32N(40), Method: 2},
		Band:    healthcheckv1.TemperatureBand(1 + g.IntN(3)),
	}
}

func (g *generator) children() []*outreachv1.ChildVisited {
	out := make([]*outreachv1.ChildVisited, 1+g.IntN(3))
	for i := range out {
		out[i] = &outreachv1.ChildVisited{ChildId: g.id("c"), Category: g.category(), AdmCode: g.district()}
	}
	return out
}

func (g *generator) visit() decider.Event {
	return &outreachv1.VisitRecorded{
		Provenance: g.provenance(), VisitId: g.id("v"), VisitedOn: "2020-01-28", Children: g.children(),
		Channel: outreachv1.VisitChannel(1 + g.IntN(3)), Outcome: outreachv1.VisitOutcome(1 + g.IntN(2)),
	}
}

func (g *generator) void() decider.Event {
	return &outreachv1.VisitVoided{
		Provenance: g.provenance(), VisitId: g.id("v"), VisitedOn: "2020-01-27", Children: g.children(), WorkerId: "w9", CreditedOrg: "o9", AdmCode: g.district(),
		Channel: outreachv1.VisitChannel(1 + g.IntN(3)), Outcome: outreachv1.VisitOutcome(1 + g.IntN(2)),
	}
}

func (g *generator) queued() decider.Event {
	e := &outreachv1.RemindersQueued{Provenance: g.provenance(), BatchId: g.id("b")}
	for range 1 + g.IntN(12) {
		e.Messages = append(e.Messages, &outreachv1.ReminderMessage{MessageId: g.id("m"), ChildId: g.id("c"), Category: g.category(), AdmCode: g.district(), Segments: 1})
	}
	return e
}

func (g *generator) accepted() decider.Event {
	return &outreachv1.ReminderAccepted{
		Provenance: g.provenance(), BatchId: g.id("b"), MessageId: g.id("m"), ChildId: g.id("c"), Category: g.category(), AdmCode: g.district(), Segments: 2,
	}
}

func (g *generator) received() decider.Event {
	return &outreachv1.DeliveryReceiptConfirmed{
		Provenance: g.provenance(), DeliveryId: g.id("d"), Item: 1, Units: 1 + g.Int32N(20), ChildId: g.id("c"), Category: g.category(), AdmCode: g.district(),
	}
}

func (g *generator) begun() decider.Event {
	return &outreachv1.ServiceSupportBegun{
		Provenance: g.provenance(), SupportId: g.id("s"), Kind: 1, ChildId: g.id("c"), Category: g.category(), AdmCode: g.district(),
	}
}

func (g *generator) figure() decider.Event {
	return &reportingv1.FigurePublished{Provenance: g.provenance(), BulletinId: g.id("p")}
}
