package scenario_test

import (
	"fmt"
	"slices"
	"testing"

	"tongan.dev/pkg/scenario"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// world is what is known after some steps: the state of each object by kind and id, and who has which key.
type world struct {
	state map[string]string
	units map[string]int32
	keys  map[string]string
}

// move takes an object from one of some states to another.
func (w *world) move(object, to string, from ...string) error {
	if slices.Contains(from, w.state[object]) {
		w.state[object] = to
		return nil
	}
	return fmt.Errorf("%s is %q, cannot become %q", object, w.state[object], to)
}

// apply carries a step out and returns the aggregate that must decide it.
func (w *world) apply(s scenario.Step) (aggregate string, err error) {
	switch c := s.Command.(type) {
	case *intakev1.RegisterChild:
		aggregate = "child " + c.GetChildId()
		return aggregate, w.move(aggregate, "registered", "")
	case *intakev1.ReceiveHotlineContact:
		aggregate = "contact " + c.GetContactId()
		if c.GetChildId() != "" && c.GetChildId() != scenario.AloneChildID && w.state["child "+c.GetChildId()] == "" {
			return aggregate, fmt.Errorf("child %s is not registered", c.GetChildId())
		}
		return aggregate, w.move(aggregate, "received", "")
	case *intakev1.OpenCase, *intakev1.FlagCaseSpecial, *intakev1.RecordFollowUp, *intakev1.CloseCase:
		return w.applyCase(s)
	case *healthcheckv1.RegisterInstitution:
		aggregate = "institution " + c.GetInstitutionId()
		return aggregate, w.move(aggregate, "registered", "")
	case *healthcheckv1.StartClosureRegime:
		aggregate = "institution " + c.GetInstitutionId()
		return aggregate, w.move(aggregate, "closed", "registered")
	case *healthcheckv1.OpenCheckRound, *healthcheckv1.RecordHealthChecks, *healthcheckv1.CloseCheckRound:
		return w.applyRound(s)
	default:
		return w.applyOutreach(s)
	}
}

func (w *world) applyCase(s scenario.Step) (string, error) {
	id := s.Command.(interface{ GetCaseId() string }).GetCaseId()
	aggregate := "case " + id
	switch c := s.Command.(type) {
	case *intakev1.OpenCase:
		if w.state["child "+c.GetChildId()] == "" {
			return aggregate, fmt.Errorf("child %s is not registered", c.GetChildId())
		}
		if c.GetContactId() != "" && w.state["contact "+c.GetContactId()] == "" {
			return aggregate, fmt.Errorf("contact %s does not exist", c.GetContactId())
		}
		w.state["child of "+id] = c.GetChildId()
		return aggregate, w.move(aggregate, "open", "")
	case *intakev1.FlagCaseSpecial:
		return aggregate, w.move(aggregate, "special", "open")
	case *intakev1.RecordFollowUp:
		if c.GetChildId() != "" && c.GetChildId() != w.state["child of "+id] {
			return aggregate, fmt.Errorf("follow-up names child %s", c.GetChildId())
		}
		return aggregate, w.move(aggregate, w.state[aggregate], "open", "special")
	default:
		return aggregate, w.move(aggregate, "closed", "open", "special")
	}
}

func (w *world) applyRound(s scenario.Step) (string, error) {
	c := s.Command.(interface {
		GetInstitutionId() string
		GetCheckedOn() string
		GetSlot() healthcheckv1.CheckSlot
	})
	aggregate := fmt.Sprintf("round %s %s %s", c.GetInstitutionId(), c.GetCheckedOn(), c.GetSlot())
	if dayOf(occurred(s)) != c.GetCheckedOn() {
		return aggregate, fmt.Errorf("happened on %s", dayOf(occurred(s)))
	}
	switch c := s.Command.(type) {
	case *healthcheckv1.OpenCheckRound:
		if w.state["institution "+c.GetInstitutionId()] != "closed" {
			return aggregate, fmt.Errorf("institution is not closed yet")
		}
		w.units[aggregate] = c.GetExpected()
		return aggregate, w.move(aggregate, "open", "")
	case *healthcheckv1.RecordHealthChecks:
		for _, r := range c.GetReadings() {
			if err := w.move(aggregate+" "+r.GetPersonId(), "checked", ""); err != nil {
				return aggregate, err
			}
		}
		w.units[aggregate] -= int32(len(c.GetReadings()))
		if w.units[aggregate] < 0 {
			return aggregate, fmt.Errorf("more readings than expected")
		}
		return aggregate, w.move(aggregate, "open", "open")
	default:
		return aggregate, w.move(aggregate, "closed", "open")
	}
}

func (w *world) applyOutreach(s scenario.Step) (aggregate string, err error) {
	switch c := s.Command.(type) {
	case *outreachv1.RecordVisit:
		p := c.GetProvenance()
		aggregate = "log " + p.GetPerformedBy() + " " + dayOf(occurred(s))
		w.units[aggregate]++
		return aggregate, w.move(aggregate+" "+c.GetVisitId(), "recorded", "")
	case *outreachv1.VoidVisit:
		aggregate = "log " + c.GetWorkerId() + " " + c.GetVisitedOn()
		return aggregate, w.move(aggregate+" "+c.GetVisitId(), "voided", "recorded")
	case *outreachv1.QueueReminders:
		for _, r := range c.GetRecipients() {
			w.state["message "+c.GetBatchId()+" "+r.GetMessageId()] = "queued"
		}
		aggregate = "batch " + c.GetBatchId()
		return aggregate, w.move(aggregate, "queued", "")
	case *outreachv1.AcceptReminder:
		return "batch " + c.GetBatchId(), w.move("message "+c.GetBatchId()+" "+c.GetMessageId(), "accepted", "queued")
	case *outreachv1.ConfirmReminderDelivery:
		return "batch " + c.GetBatchId(), w.move("message "+c.GetBatchId()+" "+c.GetMessageId(), "delivered", "accepted")
	case *outreachv1.FailReminder:
		return "batch " + c.GetBatchId(), w.move("message "+c.GetBatchId()+" "+c.GetMessageId(), "failed", "queued", "accepted")
	case *outreachv1.RequestSupport:
		aggregate = "support " + c.GetSupportId()
		if c.GetCaseId() != "" && w.state["child of "+c.GetCaseId()] != c.GetChildId() {
			return aggregate, fmt.Errorf("case %s is not one of child %s", c.GetCaseId(), c.GetChildId())
		}
		return aggregate, w.move(aggregate, "requested", "")
	case *outreachv1.BeginSupport:
		aggregate = "support " + c.GetSupportId()
		return aggregate, w.move(aggregate, "begun", "requested")
	case *outreachv1.EndSupport:
		aggregate = "support " + c.GetSupportId()
		return aggregate, w.move(aggregate, "ended", "begun")
	default:
		return w.applyDelivery(s)
	}
}

func (w *world) applyDelivery(s scenario.Step) (aggregate string, err error) {
	c, ok := s.Command.(interface {
		GetDeliveryId() string
		GetUnits() int32
	})
	if !ok {
		return "", fmt.Errorf("unknown command")
	}
	aggregate = "delivery " + c.GetDeliveryId()
	switch s.Command.(type) {
	case *outreachv1.RequestDelivery:
		w.units[aggregate] = c.GetUnits()
		return aggregate, w.move(aggregate, "requested", "")
	case *outreachv1.DispatchDelivery:
		if c.GetUnits() > w.units[aggregate] {
			return aggregate, fmt.Errorf("more dispatched than requested")
		}
		w.units[aggregate] = c.GetUnits()
		return aggregate, w.move(aggregate, "dispatched", "requested")
	default:
		if w.units[aggregate] -= c.GetUnits(); w.units[aggregate] < 0 {
			return aggregate, fmt.Errorf("more received than dispatched")
		}
		return aggregate, w.move(aggregate, "received", "dispatched", "received")
	}
}

// play carries out all steps; it fails the test where one is not legal or where keys and aggregates do not go together.
func play(t *testing.T, steps []scenario.Step) *world {
	t.Helper()
	w := &world{state: map[string]string{}, units: map[string]int32{}, keys: map[string]string{}}
	for n, s := range steps {
		aggregate, err := w.apply(s)
		if err != nil {
			t.Fatalf("%s: %v", where(n, s), err)
		}
		for _, pair := range [][2]string{{"aggregate " + aggregate, s.Key}, {"key " + s.Key, aggregate}} {
			if known := w.keys[pair[0]]; known != "" && known != pair[1] {
				t.Fatalf("%s: %s goes with %s and %s", where(n, s), pair[0], known, pair[1])
			}
			w.keys[pair[0]] = pair[1]
		}
	}
	return w
}

func TestStepsOfAnAggregateFollowEachOtherLegally(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		play(t, scenario.Steps(seed))
	}
}
