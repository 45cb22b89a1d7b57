package scenario

import (
	"time"

	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// delivery is a delivery in the making: to a child's family or to an institution.
type delivery struct {
	g         *gen
	id        string
	district  int
	requested time.Time
}

// deliveries makes deliveries of protective items: received ones up to the quota of each day and district, and others that are
// dispatched or requested only.
func (g *gen) deliveries() {
	received, dispatched, requested := receivedUnits.apportion(), undelivered.apportion(), unmet.apportion()
	for d := range received {
		for i := range districts {
			for left := received[d][i]; left > 0; {
				units := min(left, g.between(4, 12))
				g.received(d, i, units)
				left -= units
			}
			for range dispatched[d][i] {
				units := int32(g.between(3, 12))
				f := g.request(d, i, units)
				f.dispatch(g.at(d, 11, 13), units)
				g.dispatched = append(g.dispatched, pending{id: f.id, units: units, district: i})
			}
			for range requested[d][i] {
				g.request(d, i, int32(g.between(3, 12)))
			}
		}
	}
}

// received makes a delivery of which so many units are received on day d: all of them, all in two parts, or fewer than dispatched.
func (g *gen) received(d, district, units int) {
	sent, parts := units, []int{units}
	switch n := g.rng.IntN(100); {
	case n < 15:
		sent += g.between(1, 4)
	case n < 35 && units > 1:
		parts = []int{units / 2, units - units/2}
	}
	f := g.request(max(0, d-pick(g, 0, 0, 1)), district, int32(sent))
	f.dispatch(g.at(d, 11, 13), int32(sent))
	at := g.at(d, 14, 17)
	for _, n := range parts {
		f.receive(at, int32(n))
		at = at.Add(g.minutes(30, 90))
	}
}

// request asks for items on day d in the morning; one in five is for an institution, where the district has one.
func (g *gen) request(d, district int, units int32) *delivery {
	f := &delivery{g: g, id: g.id("d"), district: district, requested: g.at(d, 8, 10)}
	command := &outreachv1.RequestDelivery{
		Provenance: g.anyWorker(district).provenance(f.id, f.requested, districts[district].adm),
		DeliveryId: f.id, Units: units,
		Item: pick(g, outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK, outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK,
			outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK, outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK,
			outreachv1.ProtectiveItem_PROTECTIVE_ITEM_DISINFECTANT, outreachv1.ProtectiveItem_PROTECTIVE_ITEM_GLOVES,
			outreachv1.ProtectiveItem_PROTECTIVE_ITEM_THERMOMETER, outreachv1.ProtectiveItem_PROTECTIVE_ITEM_OTHER),
	}
	if h := g.homeIn(district); h != "" && g.chance(20) {
		command.InstitutionId = h
	} else {
		c := pick(g, g.someFamily(district)...)
		command.ChildId, command.Category = c.id, c.category
	}
	g.add(deliveryAggregate, f.id, "request", f.requested.Add(g.minutes(2, 20)), command)
	return f
}

// homeIn returns the institution of a district, or nothing.
func (g *gen) homeIn(district int) string {
	for _, h := range g.homes {
		if h.district == district {
			return h.id
		}
	}
	return ""
}

// dispatch sends units out of the store.
func (f *delivery) dispatch(at time.Time, units int32) {
	adm := districts[f.district].adm
	f.g.add(deliveryAggregate, f.id, "dispatch", at.Add(f.g.minutes(1, 10)), &outreachv1.DispatchDelivery{
		Provenance: actor{by: "s-" + adm, org: "org-" + adm}.provenance(f.g.id("dd"), at, adm),
		DeliveryId: f.id, Units: units,
	})
}

// receive confirms that units were received.
func (f *delivery) receive(at time.Time, units int32) {
	f.g.add(deliveryAggregate, f.id, "confirm-receipt", at.Add(f.g.minutes(1, 20)), &outreachv1.ConfirmDeliveryReceipt{
		Provenance: f.g.anyWorker(f.district).provenance(f.g.id("dr"), at, districts[f.district].adm),
		DeliveryId: f.id, Units: units,
	})
}
