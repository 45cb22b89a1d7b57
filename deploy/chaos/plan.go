package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	// Kill is SIGKILL; the supervisor starts the process again after For.
	Kill Kind = "kill"
	// Pause is SIGSTOP, and SIGCONT after For.
	Pause Kind = "pause"
	// Overlap pauses a process, starts a second copy of it, lets both run for For, and kills one of them.
	Overlap Kind = "overlap"
	// Cut resets all connections of a service or of the callers to the bus, or those to the engine.
	Cut Kind = "cut"
	// Slow delays everything on these connections, for For.
	Slow Kind = "slow"
	// HalfOpen lets nothing through for For, while they stay open; then it resets them.
	HalfOpen Kind = "half-open"
	// Poison puts messages into a service's stream that cannot be read, one of them among the events of an aggregate in use.
	Poison Kind = "poison"
	// Step steps the clock of a service, for For.
	Step Kind = "clock step"
	// Partition cuts a node of the bus off from the others, for For.
	Partition Kind = "partition"
)

// Names of targets that are no service.
const (
	// Engine is the ClickHouse engine.
	Engine = "engine"
	// Callers are those who send commands.
	Callers = "callers"
	// Bus is every node of the bus at once.
	Bus = "bus"
	// Leader is the node that leads most streams at the moment of the fault.
	Leader = "leader"
)

// Node returns the name of the n-th node of the bus, from 1.
func Node(n int) string { return fmt.Sprintf("node-%d", n) }

// Fault is one fault of a plan.
type Fault struct {
	Kind   Kind
	Target string
	// After is how many more commands have to be carried out before it, since the fault before it began.
	After int
	// For is how long it lasts.
	For time.Duration
	// Way chooses between variants of the kind.
	Way int
}

// String says what is done, to whom, when and how long.
func (f Fault) String() string {
	return fmt.Sprintf("after %3d commands %-10s %-11s %5d ms, variant %d", f.After, f.Kind, f.Target, f.For.Milliseconds(), f.Way)
}

// PlanConfig says how large a plan is.
type PlanConfig struct {
	Seed uint64
	// Kills is how many processes are killed.
	Kills int
	// Nodes of the bus; 1 or 3.
	Nodes int
	// Leaders has every kill be one of the leader, and nothing else be done.
	Leaders bool
}

// services are the processes that connect to the bus.
func services() []string {
	return append(subject.Services(), subject.Audit, projector.Name)
}

// Plan returns the faults of a seed. The same configuration gives the same plan. Every target is killed as often as any other, give or take one,
// and between kills stand faults of the other kinds in the same way.
func Plan(c PlanConfig) []Fault {
	p := &planner{rng: rand.New(rand.NewPCG(c.Seed, 1))}
	targets := append(services(), Engine, Bus)
	if c.Nodes > 1 {
		targets = append(targets, Leader)
		for n := range c.Nodes {
			targets = append(targets, Node(n+1))
		}
	}
	if c.Leaders {
		targets = []string{Leader}
	}
	var kills, others []Fault
	for _, t := range targets {
		kills = append(kills, Fault{Kind: Kill, Target: t})
		others = append(others, Fault{Kind: Pause, Target: t})
	}
	for _, t := range services() {
		kills = append(kills, Fault{Kind: Overlap, Target: t})
		others = append(others, Fault{Kind: Step, Target: t})
	}
	for _, t := range append(services(), Engine, Callers) {
		others = append(others, Fault{Kind: Cut, Target: t}, Fault{Kind: Slow, Target: t}, Fault{Kind: HalfOpen, Target: t})
	}
	for _, t := range subject.Services() {
		others = append(others, Fault{Kind: Poison, Target: t})
	}
	if c.Nodes > 1 {
		others = append(others, Fault{Kind: Partition, Target: Leader}, Fault{Kind: Partition, Target: Node(1)}, Fault{Kind: Partition, Target: Node(2)})
	}
	if c.Leaders {
		kills, others = kills[:1], nil
	}
	for range c.Kills {
		p.take(&p.kills, kills)
		if p.rng.IntN(2) == 0 && len(others) > 0 {
			p.take(&p.others, others)
		}
	}
	return p.out
}

// planner draws from decks: each fault comes once before any comes again.
type planner struct {
	rng           *rand.Rand
	kills, others []Fault
	out           []Fault
}

func (p *planner) take(deck *[]Fault, all []Fault) {
	if len(*deck) == 0 {
		*deck = slices.Clone(all)
		p.rng.Shuffle(len(all), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
	}
	f := (*deck)[0]
	*deck = (*deck)[1:]
	f.After, f.Way = p.rng.IntN(150), p.rng.IntN(3)
	f.For = time.Duration(20+p.rng.IntN(400)) * time.Millisecond
	switch f.Kind {
	case Pause, Slow, HalfOpen, Step, Overlap:
		f.For += time.Duration(p.rng.IntN(2500)) * time.Millisecond
	case Partition:
		f.For += time.Duration(p.rng.IntN(6000)) * time.Millisecond
	}
	p.out = append(p.out, f)
}
