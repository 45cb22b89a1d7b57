package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Class is a class of violations.
type Class string

// The classes of violations.
const (
	// Lost is what was acknowledged, or has to follow from it, and is not there.
	Lost Class = "lost"
	// Double is what is there twice, or was answered twice in different ways.
	Double Class = "double"
	// Torn is a command of whose events some are there and some are not, or that lie apart.
	Torn Class = "torn"
	// Invented is what nobody has sent, or what was refused, and is there.
	Invented Class = "invented"
	// Wrong is a table, a figure or an answer that is not what it has to be.
	Wrong Class = "wrong"
)

// Violation is something that must not be.
type Violation struct {
	Class Class
	About string
	What  string
}

// String says what is wrong.
func (v Violation) String() string { return fmt.Sprintf("%-8s %s: %s", v.Class, v.About, v.What) }

// Stored is an event as a stream has it.
type Stored struct {
	Stream   string
	Sequence uint64
	Key      string // of its aggregate
	Type     string
	ID       string
	Command  string
	Event    decider.Event
}

// World is what there is after the faults.
type World struct {
	// Events of all streams, each stream in order. What cannot be read is not among them.
	Events []Stored
	// Missing are sequences that a stream does not hold, as stream/sequence.
	Missing []string
	Tallies map[Tally]int64
	// Engine is the engine's version.
	Engine string
	// Now is when it was looked at.
	Now time.Time
}

// place names an event.
func (e Stored) place() string { return fmt.Sprintf("%s/%d %s", e.Stream, e.Sequence, e.Type) }

// checker compares a world with what the commands say.
type checker struct {
	of    map[string][]Stored // by aggregate and command
	found []Violation
	want  map[Tally]int64
}

func (c *checker) wrong(class Class, about, format string, args ...any) {
	c.found = append(c.found, Violation{class, about, fmt.Sprintf(format, args...)})
}

// Check compares what there is with the commands that were sent: their events, once and in one piece, what follows from these by itself, nothing
// else; and the figures with what the commands that took effect count for.
func Check(w World, commands []*Command) []Violation {
	c := newChecker(w)
	for _, command := range commands {
		c.command(command)
	}
	c.consequences(w)
	for _, events := range c.of {
		for _, e := range events {
			c.wrong(Invented, e.place(), "nobody sent its command %s", e.Command)
		}
	}
	for t, n := range w.Tallies {
		if c.want[t] != n {
			c.wrong(Wrong, "figure "+t.Indicator+" of "+t.AdmCode, "is %d, must be %d", n, c.want[t])
		}
	}
	for t, n := range c.want {
		if _, there := w.Tallies[t]; !there && n != 0 {
			c.wrong(Wrong, "figure "+t.Indicator+" of "+t.AdmCode, "is missing, must be %d", n)
		}
	}
	slices.SortFunc(c.found, func(a, b Violation) int { return strings.Compare(a.String(), b.String()) })
	return c.found
}

// newChecker checks each event by itself.
func newChecker(w World) *checker {
	c := &checker{of: make(map[string][]Stored), want: make(map[Tally]int64)}
	for _, m := range w.Missing {
		c.wrong(Lost, m, "the stream does not hold it")
	}
	ids := make(map[string]Stored)
	for _, e := range w.Events {
		if before, twice := ids[e.ID]; twice {
			c.wrong(Double, e.place(), "its id is that of %s", before.place())
		}
		ids[e.ID] = e
		c.of[e.Key+"/"+e.Command] = append(c.of[e.Key+"/"+e.Command], e)
	}
	return c
}

// take takes the events of a command at an aggregate: each is somebody's once.
func (c *checker) take(key, command string) []Stored {
	events := c.of[key+"/"+command]
	delete(c.of, key+"/"+command)
	return events
}

// command checks one command and counts what it counts for.
func (c *checker) command(cmd *Command) {
	var ids []string
	var last uint64
	took, before := false, len(c.found)
	for _, m := range cmd.Makes {
		got := c.take(m.Key, cmd.ID)
		took = took || len(got) > 0
		for i := range m.Types {
			ids = append(ids, decider.EventID(m.Key, cmd.ID, i))
		}
		if cmd.Outcome.State == Refused || cmd.Refused {
			for _, e := range got {
				c.wrong(Invented, e.place(), "its command was refused, or had to be: %s", cmd)
			}
			continue
		}
		if len(got) > 0 {
			last = max(last, got[len(got)-1].Sequence)
		}
		c.events(cmd, m, got)
	}
	if len(c.found) == before { // otherwise its answer cannot fit
		c.answer(cmd, ids, last)
	}
	if took && !cmd.Refused {
		for t, n := range cmd.Counts {
			c.want[t] += n
		}
	}
}

// events checks the events of a command at one aggregate.
func (c *checker) events(cmd *Command, m Made, got []Stored) {
	switch {
	case len(got) == 0 && len(m.Types) == 0, len(got) == 0 && cmd.Outcome.State == Unknown:
		return
	case len(got) == 0:
		c.wrong(Lost, cmd.String(), "it was carried out, and %s has no event of it", m.Key)
		return
	case len(got) < len(m.Types):
		c.wrong(Torn, cmd.String(), "of %d events %d are there", len(m.Types), len(got))
		return
	case len(got) > len(m.Types):
		c.wrong(Double, cmd.String(), "in place of %d events %d are there", len(m.Types), len(got))
		return
	}
	for i, e := range got {
		switch {
		case e.Type != m.Types[i]:
			c.wrong(Wrong, e.place(), "must be %s: %s", m.Types[i], cmd)
		case e.ID != decider.EventID(m.Key, cmd.ID, i):
			c.wrong(Wrong, e.place(), "its id does not follow from its command: %s", cmd)
		case i > 0 && e.Sequence != got[i-1].Sequence+1:
			c.wrong(Torn, e.place(), "does not follow the one before it: %s", cmd)
		}
	}
}

// answer checks what the caller was told.
func (c *checker) answer(cmd *Command, ids []string, last uint64) {
	out := cmd.Outcome
	switch {
	case cmd.Refused && out.State == Done:
		c.wrong(Wrong, cmd.String(), "it was carried out, and a rule is against it")
	case !cmd.Refused && out.State == Refused:
		c.wrong(Wrong, cmd.String(), "it was refused: %s", out.Why)
	case !cmd.Refused && out.State == Done && !slices.Equal(out.EventIDs, ids):
		c.wrong(Wrong, cmd.String(), "its answer names other events")
	case !cmd.Refused && out.State == Done && len(ids) > 0 && out.Revision != last:
		c.wrong(Wrong, cmd.String(), "its answer names revision %d, its last event is %d", out.Revision, last)
	}
}

// consequences checks what services do by themselves because of events: a forgotten child's key is destroyed, a service for a case is noted in
// it, a call back that was not made in time is said; each once.
func (c *checker) consequences(w World) {
	called := make(map[string]bool)
	for _, e := range w.Events {
		if e.Type == "CallBackRecorded" {
			called[e.Key] = true
		}
	}
	for _, e := range w.Events {
		switch event := e.Event.(type) {
		case *intakev1.ChildForgotten:
			c.follows(e, e.Key, e.ID, "ChildKeyDestroyed")
		case *outreachv1.ServiceSupportRequested:
			c.noted(e, event.GetCaseId())
		case *outreachv1.ServiceSupportBegun:
			c.noted(e, event.GetCaseId())
		case *outreachv1.ServiceSupportEnded:
			c.noted(e, event.GetCaseId())
		case *intakev1.CallBackPromised:
			for _, d := range event.GetDeadlinesSet() {
				if d.GetArmed() && !called[e.Key] && d.GetDueAt().AsTime().Before(w.Now) {
					c.follows(e, e.Key, "missed-"+d.GetDeadlineId(), "DeadlineMissed")
				}
			}
		}
	}
	for k, events := range c.of { // the first operator is added by the service itself, under a command id that nobody is told
		if strings.HasPrefix(k, subject.Caller.Key(callerID(operator))+"/") && len(events) == 1 && events[0].Sequence == 1 {
			delete(c.of, k)
		}
	}
}

func (c *checker) noted(e Stored, caseID string) {
	if caseID != "" {
		c.follows(e, cases.Key(caseID), e.ID, "CaseServiceNoted")
	}
}

// follows checks that an event has led to one of a type, once.
func (c *checker) follows(e Stored, key, command, typ string) {
	got := c.take(key, command)
	switch {
	case len(got) == 0:
		c.wrong(Lost, e.place(), "%s has not followed from it", typ)
	case len(got) > 1:
		c.wrong(Double, e.place(), "%s has followed from it %d times", typ, len(got))
	case got[0].Type != typ:
		c.wrong(Wrong, got[0].place(), "must be %s", typ)
	}
}
