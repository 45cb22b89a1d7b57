package scenario

import (
	"fmt"
	"time"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
)

// home is one of the six child-welfare institutions; persons are the ids under which its children are checked. They are not the
// registry's ids: who is who is not in the scenario.
type home struct {
	id       string
	district int
	persons  []string
}

// homeDistricts says where the institutions are, as places in districts; made up.
var homeDistricts = [...]int{0, 2, 3, 4, 5, 6}

// checkRound is one round of one institution: the id under which its commands are sent one after the other, day and slot.
type checkRound struct {
	home home
	on   string
	slot healthcheckv1.CheckSlot
	adm  string
	by   actor
}

// oddReading is a reading that is not as usual: abnormal by so much, or missing where temp is 0. Which child it is comes from the
// seed.
type oddReading struct {
	home, day int
	slot      healthcheckv1.CheckSlot
	temp      int32
}

// oddReadings are made up: three abnormal ones, one of them a fever, and one that is missing.
var oddReadings = [...]oddReading{
	{home: 1, day: 5, slot: healthcheckv1.CheckSlot_CHECK_SLOT_NOON, temp: 376},
	{home: 3, day: 8, slot: healthcheckv1.CheckSlot_CHECK_SLOT_MORNING, temp: 384},
	{home: 4, day: 11, slot: healthcheckv1.CheckSlot_CHECK_SLOT_NOON, temp: 373},
	{home: 2, day: 10, slot: healthcheckv1.CheckSlot_CHECK_SLOT_MORNING},
}

// institutions registers the six institutions on 23 January with their children, closes them on 26 January and checks every child
// twice a day from then on.
func (g *gen) institutions() {
	for n, i := range homeDistricts {
		h := home{id: fmt.Sprintf("in-%d", n+1), district: i}
		for range g.between(8, 20) {
			h.persons = append(h.persons, g.id("p"))
			g.admit(i)
		}
		g.homes = append(g.homes, h)
		g.openHome(h)
		for d := closureDay; d <= lastDay; d++ {
			g.round(n, d, healthcheckv1.CheckSlot_CHECK_SLOT_MORNING, day(d, 7*60))
			g.round(n, d, healthcheckv1.CheckSlot_CHECK_SLOT_NOON, day(d, 11*60+30))
		}
	}
}

// admit enters a child of an institution in the registry.
func (g *gen) admit(district int) {
	c := &child{
		id: g.id("ch"), district: district, registered: true, details: g.childDetails(),
		category: pick(g,
			eventv1.PopulationCategory_POPULATION_CATEGORY_INSTITUTION_RAISED,
			eventv1.PopulationCategory_POPULATION_CATEGORY_INSTITUTION_RAISED,
			eventv1.PopulationCategory_POPULATION_CATEGORY_INSTITUTION_FOSTERED),
	}
	g.register(c, day(0, 7*60).Add(g.minutes(0, 100)), g.anyWorker(district))
}

// openHome registers an institution on 23 January and closes it to visits, leave and gatherings on 26 January.
func (g *gen) openHome(h home) {
	adm, by := districts[h.district].adm, actor{by: "l-" + h.id, org: h.id}
	at := g.at(0, 9, 10)
	g.add(institutionAggregate, h.id, "register", at, &healthcheckv1.RegisterInstitution{
		Provenance:    actor{by: "b-1", org: "org-bureau"}.provenance(h.id, at, adm),
		InstitutionId: h.id,
		Beds:          int32(len(h.persons) + g.between(4, 30)),
	})
	at = day(closureDay, 6*60)
	g.add(institutionAggregate, h.id, "start-closure-regime", at.Add(g.minutes(1, 20)), &healthcheckv1.StartClosureRegime{
		Provenance:    by.provenance(g.id("cr"), at, adm),
		InstitutionId: h.id,
	})
}

// round opens a round at an institution, records the readings in one or two commands and closes it, all within its window.
func (g *gen) round(n, d int, slot healthcheckv1.CheckSlot, from time.Time) {
	h := g.homes[n]
	r := checkRound{
		home: h, on: date(from), slot: slot, adm: districts[h.district].adm,
		by: actor{by: fmt.Sprintf("n-%s-%d", h.id, g.between(1, 3)), org: h.id},
	}
	at := from.Add(g.minutes(0, 15))
	g.add(roundAggregate, r.id(), "open", at, &healthcheckv1.OpenCheckRound{
		Provenance:    r.by.provenance(g.id("ro"), at, r.adm),
		InstitutionId: h.id, CheckedOn: r.on, Slot: slot, Expected: int32(len(h.persons)),
	})
	readings := g.readings(n, d, slot)
	if half := len(readings) / 2; g.chance(10) {
		at = g.record(r, at, readings[:half])
		readings = readings[half:]
	}
	at = g.record(r, at, readings).Add(g.minutes(1, 5))
	g.add(roundAggregate, r.id(), "close", at, &healthcheckv1.CloseCheckRound{
		Provenance:    r.by.provenance(g.id("rc"), at, r.adm),
		InstitutionId: h.id, CheckedOn: r.on, Slot: slot,
	})
}

// id names the round among all rounds.
func (r checkRound) id() string { return fmt.Sprintf("%s_%s_%d", r.home.id, r.on, r.slot) }

// record enters readings some minutes after the last step of the round and returns when.
func (g *gen) record(r checkRound, after time.Time, readings []*healthcheckv1.Reading) time.Time {
	taken := after.Add(g.minutes(5, 20))
	entered := taken.Add(g.minutes(1, 4))
	g.add(roundAggregate, r.id(), "record", entered, &healthcheckv1.RecordHealthChecks{
		Provenance:    r.by.provenance(g.id("rr"), taken, r.adm),
		InstitutionId: r.home.id, CheckedOn: r.on, Slot: r.slot, Readings: readings,
	})
	return entered
}

// readings measures every child of the n-th institution, except where a reading is missing.
func (g *gen) readings(n, d int, slot healthcheckv1.CheckSlot) []*healthcheckv1.Reading {
	odd, oddPerson := oddReading{}, -1
	for _, o := range oddReadings {
		if o.home == n && o.day == d && o.slot == slot {
			odd, oddPerson = o, g.rng.IntN(len(g.homes[n].persons))
		}
	}
	var readings []*healthcheckv1.Reading
	for p, person := range g.homes[n].persons {
		reading := &healthcheckv1.Reading{
			CheckId: g.id("hc"), PersonId: person, TempDecicelsius: int32(g.between(361, 371)),
			Method: pick(g, healthcheckv1.MeasuringMethod_MEASURING_METHOD_FOREHEAD,
				healthcheckv1.MeasuringMethod_MEASURING_METHOD_FOREHEAD,
				healthcheckv1.MeasuringMethod_MEASURING_METHOD_AXILLARY,
				healthcheckv1.MeasuringMethod_MEASURING_METHOD_EAR),
		}
		if p == oddPerson {
			reading.TempDecicelsius = odd.temp
		}
		if reading.GetTempDecicelsius() > 0 {
			readings = append(readings, reading)
		}
	}
	return readings
}
