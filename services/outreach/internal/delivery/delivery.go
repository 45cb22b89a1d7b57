// Package delivery is one delivery of protective items (物资配送), to a family, to an institution or to a district as a whole.
//
// Commands: RequestDelivery, DispatchDelivery, ConfirmDeliveryReceipt.
// Events: DeliveryRequested, DeliveryDispatched, DeliveryReceiptConfirmed.
//
// Rules:
//   - A delivery is requested once, for a child or an institution or neither, never for both.
//   - Units may leave the store and be received in parts; each part counts.
//   - Never more units are dispatched than were requested, and never more are confirmed than were dispatched.
package delivery

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Aggregate is the delivery; its id is delivery_id.
var Aggregate = subject.Aggregate{Service: subject.Outreach, Name: "delivery"}

// ErrRequested is returned when the delivery has been requested before by another command.
var ErrRequested = decider.Refuse("delivery_id", "was requested already")

// ErrNotRequested is returned when a delivery that was never requested is to be dispatched or confirmed.
var ErrNotRequested = decider.Refuse("delivery_id", "was never requested")

// ErrTwoRecipients is returned when a delivery names both a child and an institution.
var ErrTwoRecipients = decider.Refuse("institution_id", "must be empty where child_id is given")

// ErrMoreThanRequested is returned when more units are to be dispatched than are left of those requested.
var ErrMoreThanRequested = decider.Refuse("units", "must not exceed those requested and not yet dispatched")

// ErrMoreThanDispatched is returned when more units are to be confirmed than are left of those dispatched.
var ErrMoreThanDispatched = decider.Refuse("units", "must not exceed those dispatched and not yet confirmed")

// State is what decisions about a delivery need to know.
type State struct {
	exists                          bool
	requested, dispatched, received int32
	item                            outreachv1.ProtectiveItem
	childID, institutionID, admCode string
	category                        eventv1.PopulationCategory
}

// Decider decides about one delivery.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *outreachv1.RequestDelivery:
		return request(s, cmd, c)
	case *outreachv1.DispatchDelivery:
		return dispatch(s, cmd, c)
	case *outreachv1.ConfirmDeliveryReceipt:
		return confirm(s, cmd, c)
	default:
		return nil, fmt.Errorf("delivery: unexpected command %T", cmd.Body)
	}
}

func request(s State, cmd decider.Command, c *outreachv1.RequestDelivery) ([]decider.Event, error) {
	switch {
	case s.exists:
		return nil, ErrRequested
	case c.GetChildId() != "" && c.GetInstitutionId() != "":
		return nil, ErrTwoRecipients
	}
	return []decider.Event{&outreachv1.DeliveryRequested{
		Provenance:    cmd.Provenance(),
		DeliveryId:    c.GetDeliveryId(),
		Item:          c.GetItem(),
		Units:         c.GetUnits(),
		ChildId:       c.GetChildId(),
		Category:      c.GetCategory(),
		InstitutionId: c.GetInstitutionId(),
		AdmCode:       c.GetProvenance().GetAdmCode(),
	}}, nil
}

func dispatch(s State, cmd decider.Command, c *outreachv1.DispatchDelivery) ([]decider.Event, error) {
	switch {
	case !s.exists:
		return nil, ErrNotRequested
	case c.GetUnits() > s.requested-s.dispatched:
		return nil, ErrMoreThanRequested
	}
	return []decider.Event{&outreachv1.DeliveryDispatched{
		Provenance:    cmd.Provenance(),
		DeliveryId:    c.GetDeliveryId(),
		Item:          s.item,
		Units:         c.GetUnits(),
		ChildId:       s.childID,
		Category:      s.category,
		InstitutionId: s.institutionID,
		AdmCode:       s.admCode,
	}}, nil
}

func confirm(s State, cmd decider.Command, c *outreachv1.ConfirmDeliveryReceipt) ([]decider.Event, error) {
	switch {
	case !s.exists:
		return nil, ErrNotRequested
	case c.GetUnits() > s.dispatched-s.received:
		return nil, ErrMoreThanDispatched
	}
	return []decider.Event{&outreachv1.DeliveryReceiptConfirmed{
		Provenance:    cmd.Provenance(),
		DeliveryId:    c.GetDeliveryId(),
		Item:          s.item,
		Units:         c.GetUnits(),
		ChildId:       s.childID,
		Category:      s.category,
		InstitutionId: s.institutionID,
		AdmCode:       s.admCode,
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *outreachv1.DeliveryRequested:
		s.exists, s.requested, s.item = true, e.GetUnits(), e.GetItem()
		s.childID, s.category = e.GetChildId(), e.GetCategory()
		s.institutionID, s.admCode = e.GetInstitutionId(), e.GetAdmCode()
	case *outreachv1.DeliveryDispatched:
		s.dispatched += e.GetUnits()
	case *outreachv1.DeliveryReceiptConfirmed:
		s.received += e.GetUnits()
	default:
		return s, false
	}
	return s, true
}
