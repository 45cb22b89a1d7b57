package scenario

import (
	"fmt"
	"time"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// familyCount is how many families in the community the scenario knows; about a fifth of them are not in the registry.
const familyCount = 320

// child is a made-up child; registered says whether it is ever entered in the registry, registeredOn the day.
type child struct {
	id           string
	category     eventv1.PopulationCategory
	district     int
	registered   bool
	registeredOn int
	details      *intakev1.ChildDetails
}

// adm returns the code of the child's district.
func (c *child) adm() string { return districts[c.district].adm }

// registry makes the children in the community and enters most of them in the registry, most on 23 January in the morning.
func (g *gen) registry() {
	var given [len(districts)]int
	for n := range familyCount {
		i := furthestBehind(given, n+1)
		given[i]++
		g.families[i] = append(g.families[i], g.family(i))
	}
}

// family makes the one to three children of a family and registers them where they are to be.
func (g *gen) family(district int) []*child {
	size := pick(g, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3)
	registered, on := !g.chance(21), 0
	if g.chance(15) {
		on = g.between(1, lastDay)
	}
	category := g.communityCategory(registered)
	siblings := make([]*child, size)
	for n := range siblings {
		siblings[n] = &child{
			id: g.id("ch"), category: category, district: district,
			registered: registered, registeredOn: on, details: g.childDetails(),
		}
		if n > 0 {
			siblings[n].details.Address = siblings[0].details.Address
			siblings[n].details.GuardianName = siblings[0].details.GuardianName
		}
		if registered {
			g.register(siblings[n], day(on, 7*60).Add(g.minutes(0, 100)), g.anyWorker(district))
		}
	}
	return siblings
}

// communityCategory returns a category of children that live with a family; of children who are not registered it is often unknown.
func (g *gen) communityCategory(registered bool) eventv1.PopulationCategory {
	if !registered && g.chance(50) {
		return eventv1.PopulationCategory_POPULATION_CATEGORY_UNSPECIFIED
	}
	return pick(g,
		eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND,
		eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND,
		eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND,
		eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY,
		eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY,
		eventv1.PopulationCategory_POPULATION_CATEGORY_DE_FACTO_UNATTENDED,
		eventv1.PopulationCategory_POPULATION_CATEGORY_DE_FACTO_UNATTENDED,
		eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN,
		eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN,
		eventv1.PopulationCategory_POPULATION_CATEGORY_PRIVATELY_RAISED_ORPHAN,
	)
}

// childDetails makes up personal details, each with a marker; the identity number is not always known.
func (g *gen) childDetails() *intakev1.ChildDetails {
	d := &intakev1.ChildDetails{
		Name:         pick(g, "甲童", "乙童", "丙童", "丁童", "戊童") + g.marker(),
		Phone:        g.phone(),
		Address:      fmt.Sprintf("某街%d号", g.between(1, 300)) + g.marker(),
		GuardianName: "监护人" + g.marker(),
		School:       "某小学" + g.marker(),
	}
	if g.chance(80) {
		d.IdentityNumber = g.identityNumber()
	}
	return d
}

// register enters a child in the registry a few minutes after the papers were taken.
func (g *gen) register(c *child, at time.Time, by actor) {
	g.add(childAggregate, c.id, "register", at, &intakev1.RegisterChild{
		Provenance: by.provenance(c.id, at.Add(-g.minutes(2, 30)), c.adm()),
		ChildId:    c.id,
		Category:   c.category,
		WorkerId:   by.by,
		Details:    c.details,
	})
}

// someFamily returns a family of a district.
func (g *gen) someFamily(district int) []*child { return pick(g, g.families[district]...) }

// someRegistered returns a child of a district that has been in the registry since the morning of 23 January.
func (g *gen) someRegistered(district int) *child {
	for {
		if c := pick(g, g.someFamily(district)...); c.registered && c.registeredOn == 0 {
			return c
		}
	}
}

// shuffledChildren returns all children of a district's families in random order.
func (g *gen) shuffledChildren(district int) []*child {
	var all []*child
	for _, siblings := range g.families[district] {
		all = append(all, siblings...)
	}
	g.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}
