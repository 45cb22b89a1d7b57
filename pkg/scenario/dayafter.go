package scenario

import "time"

// afterDay is 5 February.
const afterDay = lastDay + 1

// dayAfter adds something to each of the five figures on 5 February. All of it is made up. A figure as of 4 February must leave it
// out, although some of it happens while it is still 4 February in UTC, and although most of it completes what began before.
func (g *gen) dayAfter() {
	g.visitsAfter()
	for _, p := range g.queued {
		at := day(afterDay, 0).Add(time.Duration(g.between(5, 300)) * time.Second)
		g.accept(p.id, p.message, districts[p.district].adm, at)
		if g.chance(50) {
			g.deliver(p.id, p.message, districts[p.district].adm, at.Add(g.minutes(1, 20)))
		}
	}
	for n, p := range g.dispatched {
		if n%3 == 0 {
			f := &delivery{g: g, id: p.id, district: p.district}
			f.receive(g.at(afterDay, 9, 11), p.units)
		}
	}
	p := g.unbegun[len(g.unbegun)-1]
	g.begin(p.id, p.district, g.at(afterDay, 9, 10))
	g.casesAfter()
}

// visitsAfter makes calls in two districts before and after 08:00, which is midnight in UTC; one is taken back.
func (g *gen) visitsAfter() {
	for i := range 2 {
		by := g.worker(i, afterDay)
		for n := range 4 {
			v := g.reached(i)
			v.voided = n == 3
			g.makeVisit(v, by, day(afterDay, 7*60+40+15*n).Add(g.minutes(0, 10)), i)
		}
	}
}

// casesAfter makes three more cases count: two special ones without a follow-up until now, and one followed up but not special
// until now. It also follows a case up that counts since long, which changes no figure.
func (g *gen) casesAfter() {
	silent, ordinary, counted := 2, 1, 1
	for _, f := range g.files {
		switch {
		case f.closed:
		case f.special && f.count == 0 && silent > 0:
			silent--
			f.followUp(g.at(afterDay, 9, 11))
		case !f.special && f.count > 0 && ordinary > 0:
			ordinary--
			f.flag(g.at(afterDay, 9, 11))
		case f.special && f.count > 0 && counted > 0:
			counted--
			f.followUp(g.at(afterDay, 9, 11))
		}
	}
}
