package delivery_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/delivery"
)

const (
	mask   = outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK
	orphan = eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN
)

// What the rows are given: 100 masks for a child or an institution in 440705, while commands come from 440703.
var (
	requested = &outreachv1.DeliveryRequested{
		DeliveryId: "d1", Item: mask, Units: 100, ChildId: "ch1", Category: orphan, AdmCode: "440705",
	}
	forInstitution = &outreachv1.DeliveryRequested{DeliveryId: "d1", Item: mask, Units: 100, InstitutionId: "i1", AdmCode: "440705"}
)

func dispatched(units int32) *outreachv1.DeliveryDispatched {
	return &outreachv1.DeliveryDispatched{
		DeliveryId: "d1", Item: mask, Units: units, ChildId: "ch1", Category: orphan, AdmCode: "440705",
	}
}

func confirmed(units int32) *outreachv1.DeliveryReceiptConfirmed {
	return &outreachv1.DeliveryReceiptConfirmed{
		DeliveryId: "d1", Item: mask, Units: units, ChildId: "ch1", Category: orphan, AdmCode: "440705",
	}
}

func TestRequesting(t *testing.T) {
	t.Parallel()
	request := func(childID, institutionID string) decider.Command {
		return decidertest.Command("2020-02-04T02:00:00Z", "d1", &outreachv1.RequestDelivery{
			DeliveryId: "d1", Item: mask, Units: 100, ChildId: childID, Category: orphan, InstitutionId: institutionID,
		})
	}
	then := func(childID, institutionID string) []decider.Event {
		return []decider.Event{&outreachv1.DeliveryRequested{
			Provenance: request(childID, institutionID).Provenance(), DeliveryId: "d1", Item: mask, Units: 100, ChildId: childID,
			Category: orphan, InstitutionId: institutionID, AdmCode: "440703",
		}}
	}
	decidertest.Run(t, delivery.Decider, []decidertest.Row{
		{Name: "a delivery may be for a child", When: request("ch1", ""), Then: then("ch1", "")},
		{Name: "a delivery may be for an institution", When: request("", "i1"), Then: then("", "i1")},
		{Name: "a delivery may be for a district as a whole", When: request("", ""), Then: then("", "")},
		{Name: "a delivery is not for both", When: request("ch1", "i1"), Err: delivery.ErrTwoRecipients},
		{Name: "a delivery is requested once", Given: []decider.Event{requested}, When: request("ch1", ""), Err: delivery.ErrRequested},
	})
}

func TestDispatching(t *testing.T) {
	t.Parallel()
	dispatch := func(units int32) decider.Command {
		return decidertest.Command("2020-02-05T02:00:00Z", "k2", &outreachv1.DispatchDelivery{DeliveryId: "d1", Units: units})
	}
	whole := dispatched(100)
	whole.Provenance = dispatch(100).Provenance()
	decidertest.Run(t, delivery.Decider, []decidertest.Row{
		{
			Name:  "units leave for an institution",
			Given: []decider.Event{forInstitution},
			When:  dispatch(10),
			Then: []decider.Event{&outreachv1.DeliveryDispatched{
				DeliveryId: "d1", Item: mask, Units: 10, InstitutionId: "i1", AdmCode: "440705",
			}},
		},
		{Name: "all units leave at once, restated", Given: []decider.Event{requested}, When: dispatch(100), Then: []decider.Event{whole}},
		{
			Name:  "units leave in parts, and each part counts",
			Given: []decider.Event{requested, dispatched(30), dispatched(30)},
			When:  dispatch(40),
			Then:  []decider.Event{dispatched(40)},
		},
		{Name: "not more than requested", Given: []decider.Event{requested}, When: dispatch(101), Err: delivery.ErrMoreThanRequested},
		{
			Name:  "not more than is left of those requested",
			Given: []decider.Event{requested, dispatched(30), confirmed(30), dispatched(30)},
			When:  dispatch(41),
			Err:   delivery.ErrMoreThanRequested,
		},
		{Name: "a delivery never requested is not dispatched", When: dispatch(1), Err: delivery.ErrNotRequested},
	})
}

func TestConfirming(t *testing.T) {
	t.Parallel()
	confirm := func(units int32) decider.Command {
		return decidertest.Command("2020-02-06T02:00:00Z", "k3", &outreachv1.ConfirmDeliveryReceipt{DeliveryId: "d1", Units: units})
	}
	whole := confirmed(60)
	whole.Provenance = confirm(60).Provenance()
	decidertest.Run(t, delivery.Decider, []decidertest.Row{
		{
			Name:  "units are received by an institution",
			Given: []decider.Event{forInstitution, dispatched(10)},
			When:  confirm(10),
			Then: []decider.Event{&outreachv1.DeliveryReceiptConfirmed{
				DeliveryId: "d1", Item: mask, Units: 10, InstitutionId: "i1", AdmCode: "440705",
			}},
		},
		{
			Name:  "all dispatched units are received at once, restated",
			Given: []decider.Event{requested, dispatched(60)},
			When:  confirm(60),
			Then:  []decider.Event{whole},
		},
		{
			Name:  "units are received in parts, and each part counts",
			Given: []decider.Event{requested, dispatched(60), confirmed(20)},
			When:  confirm(20),
			Then:  []decider.Event{confirmed(20)},
		},
		{
			Name:  "not more than is left of those dispatched",
			Given: []decider.Event{requested, dispatched(60), confirmed(20)},
			When:  confirm(41),
			Err:   delivery.ErrMoreThanDispatched,
		},
		{Name: "nothing is received before dispatch", Given: []decider.Event{requested}, When: confirm(1), Err: delivery.ErrMoreThanDispatched},
		{Name: "a delivery never requested is not received", When: confirm(1), Err: delivery.ErrNotRequested},
	})
}

func TestDeliveryProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		units := rapid.Int32Range(1, 6)
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return &outreachv1.RequestDelivery{
				DeliveryId: "d1", Item: mask, Units: rapid.Int32Range(1, 20).Draw(t, "requested"),
				ChildId:       rapid.SampledFrom([]string{"", "ch1"}).Draw(t, "child"),
				InstitutionId: rapid.SampledFrom([]string{"", "i1"}).Draw(t, "institution"),
			}
		case 1, 2:
			return &outreachv1.DispatchDelivery{DeliveryId: "d1", Units: units.Draw(t, "dispatched")}
		default:
			return &outreachv1.ConfirmDeliveryReceipt{DeliveryId: "d1", Units: units.Draw(t, "confirmed")}
		}
	})
	decidertest.Property(t, delivery.Decider, commands, nothingFromNowhere,
		&outreachv1.DeliveryRequested{}, &outreachv1.DeliveryDispatched{}, &outreachv1.DeliveryReceiptConfirmed{})
}

// nothingFromNowhere holds if never more was confirmed than dispatched, nor more dispatched than requested.
func nothingFromNowhere(events []decider.Event) error {
	var requested, dispatched, confirmed int32
	for i, e := range events {
		switch e := e.(type) {
		case *outreachv1.DeliveryRequested:
			requested += e.GetUnits()
			if i != 0 || e.GetChildId() != "" && e.GetInstitutionId() != "" {
				return fmt.Errorf("requested by event %d for %q and %q", i, e.GetChildId(), e.GetInstitutionId())
			}
		case *outreachv1.DeliveryDispatched:
			dispatched += e.GetUnits()
		case *outreachv1.DeliveryReceiptConfirmed:
			confirmed += e.GetUnits()
		}
		if confirmed > dispatched || dispatched > requested {
			return fmt.Errorf("%d confirmed, %d dispatched, %d requested", confirmed, dispatched, requested)
		}
	}
	return nil
}
