// Package scenario makes the commands that replay 23 January to 4 February 2020 in Jiangmen, the twelve days of which a notice
// of the city's civil affairs bureau of February 2020 tells. The list is a pure function of a seed.
//
// From the source, and therefore the same for every seed:
//   - the city's seven districts by their codes, and that six child-welfare institutions exist;
//   - the closed regime of all six institutions from 26 January, with a check in the morning and one at noon every day;
//   - the 24-hour hotline that bureau, rescue centre and Ping'an Tong service centre run together;
//   - the case of 1 February: a child alone at home, father in hospital with high fever, mother with him, both isolated; Ping'an
//     Tong took the report, the community canteen of the Pengjiang home-care centre brought dinner from that same evening, and
//     the street's youth social workers kept the child company, mostly online with few home visits;
//   - what five kinds of work amounted to by the end of 4 February, which the tables in quotas.go add up to.
//
// Made up, all of it: every person, id, name, number, address and text; every time of day; which day and district a piece of work
// falls on (quotas.go); where the institutions are, how many children live in them and what their temperatures were; every
// contact, case, delivery and service but that of 1 February, and of that everything the list above does not say; attempts, voids,
// late entries, failures; and everything on 5 February (dayafter.go), which is there to prove that a figure as of 4 February
// leaves it out. No person in it ever lived. Personal details carry markers, see [Markers].
package scenario

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// DefaultSeed is the seed of the demonstration.
const DefaultSeed = 20200204

// Step is one command of the scenario.
type Step struct {
	// At is when the command is entered, in UTC. What it is about occurred then or before.
	At time.Time
	// Subject is where the command goes, for example tongan.cmd.intake.case.open.
	Subject string
	// Key names the aggregate that decides. Commands with the same key must be sent one after the other, in the order of the
	// list; commands with different keys may be sent at the same time.
	Key string
	// Command is the message. Its command id is always set, so that sending it again changes nothing.
	Command decider.Event
}

// Steps returns the commands in the order in which they are entered. The same seed gives the same list; another seed gives
// another list that comes to the same five figures. The caller owns the result.
func Steps(seed uint64) []Step {
	g := &gen{seed: seed, count: map[string]int{}}
	// The order matters only where a part refers to an earlier one: everything to children, supports to cases.
	for n, part := range []func(){
		g.registry, g.institutions, g.hotline, g.protection, g.aloneAtHome, g.services,
		g.visits, g.reminders, g.deliveries, g.dayAfter,
	} {
		g.rng = rand.New(rand.NewPCG(seed, uint64(n)))
		part()
	}
	slices.SortStableFunc(g.steps, func(a, b Step) int { return a.At.Compare(b.At) })
	return g.steps
}

// gen is a scenario in the making. Each part draws from a sequence of random numbers of its own, so that a change in one part
// leaves the others as they are.
type gen struct {
	seed  uint64
	rng   *rand.Rand
	steps []Step
	count map[string]int // ids given out, by prefix

	families [len(districts)][][]*child // in the community, by district; siblings together
	homes    []home
	files    []*file

	// What is left undone on 4 February, for the day after.
	queued     []pending
	dispatched []pending
	unbegun    []pending
}

// pending is something that waits to be completed: which object, for how many units, where.
type pending struct {
	id, message string
	units       int32
	district    int
}

// china is China standard time, which had no summer time in 2020.
var china = time.FixedZone("Asia/Shanghai", 8*60*60)

// day returns the instant so many minutes into a day, days counted from 23 January 2020 as 0.
func day(d, minutes int) time.Time {
	return time.Date(2020, time.January, 23+d, 0, minutes, 0, 0, china)
}

// date returns the day of an instant as YYYY-MM-DD in Asia/Shanghai.
func date(t time.Time) string { return t.In(china).Format(time.DateOnly) }

// id returns the next id with this prefix. Ids are numbered and say nothing about whom or what they name.
func (g *gen) id(prefix string) string {
	g.count[prefix]++
	return fmt.Sprintf("%s-%05d", prefix, g.count[prefix])
}

// between returns a number from lo to hi, both included.
func (g *gen) between(lo, hi int) int { return lo + g.rng.IntN(hi-lo+1) }

// chance says yes in so many of a hundred times.
func (g *gen) chance(percent int) bool { return g.rng.IntN(100) < percent }

// minutes returns a duration from lo to hi minutes, to the second.
func (g *gen) minutes(lo, hi int) time.Duration {
	return time.Duration(g.between(lo*60, hi*60)) * time.Second
}

// at returns an instant on day d between two hours.
func (g *gen) at(d, fromHour, toHour int) time.Time {
	return day(d, fromHour*60).Add(g.minutes(0, (toHour-fromHour)*60))
}

// pick returns one of several.
func pick[T any](g *gen, of ...T) T { return of[g.rng.IntN(len(of))] }

// actor is who did something, who entered it (empty: the same) and who is credited.
type actor struct{ by, enteredBy, org string }

// worker returns the n-th worker of a district, any n; now and then somebody else enters what the worker did.
func (g *gen) worker(district, n int) actor {
	d := districts[district]
	a := actor{by: fmt.Sprintf("w-%d%02d", district+1, n%d.workers+1), org: "org-" + d.adm}
	if g.chance(12) {
		a.enteredBy = fmt.Sprintf("k-%d", district+1)
	}
	return a
}

// anyWorker returns some worker of a district.
func (g *gen) anyWorker(district int) actor { return g.worker(district, g.rng.IntN(100)) }

// provenance says that the command with this id is about something that the actor did then and there.
func (a actor) provenance(id string, occurred time.Time, adm string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId:     id,
		OccurredAt:    timestamppb.New(occurred),
		PerformedBy:   a.by,
		RecordedBy:    a.enteredBy,
		CreditedOrg:   a.org,
		AdmCode:       adm,
		SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SCENARIO,
	}
}

// The kinds of aggregates that commands go to.
var (
	childAggregate       = subject.Aggregate{Service: subject.Intake, Name: "child"}
	contactAggregate     = subject.Aggregate{Service: subject.Intake, Name: "contact"}
	caseAggregate        = subject.Aggregate{Service: subject.Intake, Name: "case"}
	institutionAggregate = subject.Aggregate{Service: subject.HealthCheck, Name: "institution"}
	roundAggregate       = subject.Aggregate{Service: subject.HealthCheck, Name: "round"}
	visitAggregate       = subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	reminderAggregate    = subject.Aggregate{Service: subject.Outreach, Name: "reminder"}
	deliveryAggregate    = subject.Aggregate{Service: subject.Outreach, Name: "delivery"}
	supportAggregate     = subject.Aggregate{Service: subject.Outreach, Name: "support"}
)

// add appends a step for the aggregate of this kind and id.
func (g *gen) add(kind subject.Aggregate, id, verb string, at time.Time, command decider.Event) {
	g.steps = append(g.steps, Step{At: at.UTC(), Subject: kind.Command(verb), Key: kind.Key(id), Command: command})
}

// later returns the later of two instants.
func later(a, b time.Time) time.Time {
	if cmp.Compare(a.UnixNano(), b.UnixNano()) < 0 {
		return b
	}
	return a
}
