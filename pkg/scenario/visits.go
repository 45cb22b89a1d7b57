package scenario

import (
	"fmt"
	"time"

	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// perWorker is how many visits a worker makes on a day, at most.
const perWorker = 14

// visit is an attempt to reach a family that has no time and no worker yet.
type visit struct {
	channel  outreachv1.VisitChannel
	outcome  outreachv1.VisitOutcome
	children []*child
	late     bool // entered a day late or later
	voided   bool // taken back
}

// visits makes the visits of every day and district: calls that count, up to the quota, and what does not count beside them.
func (g *gen) visits() {
	counted, voided, late := phoneContacts.apportion(), voidedVisits.apportion(), lateVisits.apportion()
	for d := range counted {
		for i := range districts {
			all := g.calls(i, counted[d][i])
			for n := range late[d][i] {
				all[n].late = true
			}
			all = append(all, g.others(i, len(all))...)
			for range voided[d][i] {
				v := g.reached(i)
				v.voided = true
				all = append(all, v)
			}
			g.rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
			g.makeVisits(d, i, all)
		}
	}
}

// reached returns a call to some family of a district that reaches somebody and is about all its children.
func (g *gen) reached(district int) visit {
	return visit{
		channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		children: g.someFamily(district),
	}
}

// calls returns calls that reach somebody and are about so many children together.
func (g *gen) calls(district, children int) []visit {
	var all []visit
	for children > 0 {
		v := g.reached(district)
		v.children = v.children[:min(len(v.children), children)]
		children -= len(v.children)
		all = append(all, v)
	}
	return all
}

// others returns what comes with so many calls and does not count: calls in vain, greetings online and visits at home.
func (g *gen) others(district, calls int) []visit {
	var all []visit
	for range calls {
		v := g.reached(district)
		switch n := g.rng.IntN(100); {
		case n < 14:
			v.outcome = pick(g, outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER, outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER,
				outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER, outreachv1.VisitOutcome_VISIT_OUTCOME_CALL_BACK,
				outreachv1.VisitOutcome_VISIT_OUTCOME_CALL_BACK, outreachv1.VisitOutcome_VISIT_OUTCOME_WRONG_NUMBER,
				outreachv1.VisitOutcome_VISIT_OUTCOME_REFUSED)
		case n < 20:
			v.channel = outreachv1.VisitChannel_VISIT_CHANNEL_ONLINE
		case n < 22:
			v.channel = outreachv1.VisitChannel_VISIT_CHANNEL_HOME_VISIT
		default:
			continue
		}
		all = append(all, v)
	}
	return all
}

// makeVisits spreads visits over a day from 07:30 to 20:30 and over as many workers of the district as it takes.
func (g *gen) makeVisits(d, district int, all []visit) {
	team := (len(all) + perWorker - 1) / perWorker
	for n, v := range all {
		from, to := 13*60*n/len(all), 13*60*(n+1)/len(all)
		g.makeVisit(v, g.worker(district, d+n%team), day(d, 7*60+30).Add(g.minutes(from, to)), district)
	}
}

// makeVisit records a visit some minutes after it was made, or on another day where it is late, and takes it back where it is void.
func (g *gen) makeVisit(v visit, by actor, at time.Time, district int) {
	id := g.id("v")
	p := by.provenance(id, at, districts[district].adm)
	entered := at.Add(g.minutes(1, 20))
	if v.late {
		p.Reason = "LATE_ENTRY"
		entered = at.Add(24*time.Hour + g.minutes(1, 180))
	}
	g.add(visitAggregate, visitLog(by.by, at), "record", entered, &outreachv1.RecordVisit{
		Provenance: p, VisitId: id, Channel: v.channel, Outcome: v.outcome, Children: g.spokenAbout(v),
	})
	if v.voided {
		g.void(id, by.by, at, entered.Add(g.minutes(10, 130)), district)
	}
}

// visitLog names the log of a worker and day, which decides about the visits in it.
func visitLog(worker string, at time.Time) string { return fmt.Sprintf("%s_%s", worker, date(at)) }

// void takes back the visit that a worker made at an instant; sometimes somebody else does.
func (g *gen) void(visit, worker string, made, now time.Time, district int) {
	by := actor{by: worker, org: "org-" + districts[district].adm}
	if g.chance(40) {
		by.by = fmt.Sprintf("s-%d", district+1)
	}
	p := by.provenance(g.id("vv"), now, districts[district].adm)
	p.Reason = pick(g, "DUPLICATE_ENTRY", "WRONG_CHILD", "NOT_MADE")
	g.add(visitAggregate, visitLog(worker, made), "void", now.Add(g.minutes(0, 5)), &outreachv1.VoidVisit{
		Provenance: p, VisitId: visit, WorkerId: worker, VisitedOn: date(made),
	})
}

// spokenAbout names the children of a visit, with a note about some where somebody was reached.
func (g *gen) spokenAbout(v visit) []*outreachv1.ChildSpokenAbout {
	var all []*outreachv1.ChildSpokenAbout
	for _, c := range v.children {
		s := &outreachv1.ChildSpokenAbout{ChildId: c.id, Category: c.category, AdmCode: c.adm()}
		if v.outcome == outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED && g.chance(20) {
			s.Note = &outreachv1.VisitNote{Text: pick(g, "一切平安", "已讲解防护知识", "缺少口罩", "想念父母") + "，" + g.marker()}
		}
		all = append(all, s)
	}
	return all
}
