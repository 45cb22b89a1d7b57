package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

var now = time.Date(2020, 2, 4, 9, 0, 0, 0, time.UTC)

// told is a world in which stories were told and nothing went wrong.
type told struct {
	World
	commands []*Command
	ends     map[string]uint64
}

// tell returns the world after some stories.
func tell(stories int) *told {
	w := &told{World: World{Tallies: make(map[Tally]int64), Now: now.Add(time.Hour)}, ends: make(map[string]uint64)}
	for n := range stories {
		for _, c := range NewStory(1, n, now).Commands {
			w.carryOut(c)
		}
	}
	return w
}

// store stores an event at the end of its stream.
func (w *told) store(key, command string, index int, typ string, e decider.Event) uint64 {
	stream := subject.Stream(strings.Split(key, ".")[0])
	w.ends[stream]++
	w.Events = append(w.Events, Stored{
		Stream: stream, Sequence: w.ends[stream], Key: key, Type: typ, ID: decider.EventID(key, command, index), Command: command, Event: e,
	})
	return w.ends[stream]
}

// carryOut does what a command must lead to.
func (w *told) carryOut(c *Command) {
	w.commands = append(w.commands, c)
	if c.Outcome.State = Done; c.Refused {
		c.Outcome.State = Refused
		return
	}
	for _, m := range c.Makes {
		for i, typ := range m.Types {
			c.Outcome.Revision = w.store(m.Key, c.ID, i, typ, event(c.Body))
			c.Outcome.EventIDs = append(c.Outcome.EventIDs, decider.EventID(m.Key, c.ID, i))
		}
		if len(m.Types) > 0 {
			w.react(m, c)
		}
	}
	for t, n := range c.Counts {
		w.Tallies[t] += n
	}
}

// event is the event that a command leads to, where something follows from it.
func event(body proto.Message) decider.Event {
	switch b := body.(type) {
	case *intakev1.ForgetChild:
		return &intakev1.ChildForgotten{}
	case *intakev1.PromiseCallBack:
		return &intakev1.CallBackPromised{DeadlinesSet: []*intakev1.Deadline{{DeadlineId: "call-back-1", DueAt: b.GetDueAt(), Armed: true}}}
	case *outreachv1.RequestSupport:
		return &outreachv1.ServiceSupportRequested{CaseId: b.GetCaseId()}
	default:
		return nil
	}
}

func (w *told) react(m Made, c *Command) {
	id := decider.EventID(m.Key, c.ID, 0)
	switch b := c.Body.(type) {
	case *intakev1.ForgetChild:
		w.store(m.Key, id, 0, "ChildKeyDestroyed", nil)
	case *outreachv1.RequestSupport:
		if b.GetCaseId() != "" {
			w.store(cases.Key(b.GetCaseId()), id, 0, "CaseServiceNoted", nil)
		}
	case *intakev1.PromiseCallBack:
		if b.GetDueAt().AsTime().Before(now.Add(time.Minute)) {
			w.store(m.Key, "missed-call-back-1", 0, "DeadlineMissed", nil)
		}
	}
}

// index returns where the first event of a type is.
func (w *told) index(typ string) int {
	return slices.IndexFunc(w.Events, func(e Stored) bool { return e.Type == typ })
}

// command returns the first command that leads to a type, or of a subject that has to be refused.
func (w *told) command(typ string) *Command {
	return w.commands[slices.IndexFunc(w.commands, func(c *Command) bool {
		return len(c.Makes[0].Types) > 0 && c.Makes[0].Types[0] == typ || c.Refused && strings.HasSuffix(c.Subject, typ)
	})]
}

func (w *told) drop(typ string) {
	i := w.index(typ)
	w.Events = slices.Delete(w.Events, i, i+1)
}

func TestWhatIsAsItMustBeIsNoViolation(t *testing.T) {
	t.Parallel()
	w := tell(2 * len(tales))
	if found := Check(w.World, w.commands); len(found) > 0 {
		t.Errorf("%v", found)
	}
	// Of what is not known, all or nothing may be there; what is there counts.
	visit := w.command("VisitRecorded")
	visit.Outcome = Outcome{State: Unknown}
	if found := Check(w.World, w.commands); len(found) > 0 {
		t.Errorf("%v", found)
	}
	w.drop("VisitRecorded")
	for k, n := range visit.Counts {
		w.Tallies[k] -= n
	}
	if found := Check(w.World, w.commands); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// Each thing that must not be is found, under its class, and nothing else is.
func TestWhatMustNotBeIsFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		class Class
		spoil func(w *told)
		more  int // violations beside the one
	}{
		"an acknowledged event is not there": {Lost, func(w *told) { w.drop("ChildMoved") }, 0},
		"a sequence is not there":            {Lost, func(w *told) { w.Missing = append(w.Missing, "TONGAN_INTAKE/3") }, 0},
		"a key was not destroyed":            {Lost, func(w *told) { w.drop("ChildKeyDestroyed") }, 0},
		"a service was not noted":            {Lost, func(w *told) { w.drop("CaseServiceNoted") }, 0},
		"a call back was not missed":         {Lost, func(w *told) { w.drop("DeadlineMissed") }, 0},
		"an event is there twice":            {Double, func(w *told) { w.again("ChildMoved", 0) }, 1}, // by its id, and by its command
		"a command was carried out twice":    {Double, func(w *told) { w.again("ChildMoved", 1) }, 0},
		"a reaction came twice":              {Double, func(w *told) { w.again("CaseServiceNoted", 1) }, 0},
		"of several events one is not there": {Torn, func(w *told) { w.drop("CoverGapBegan") }, 0},
		"of an unknown command one event is not there": {Torn, func(w *told) {
			w.command("HealthCheckRecorded").Outcome = Outcome{State: Unknown}
			w.drop("HealthCheckRecorded")
		}, 0},
		"something lies between two events": {Torn, func(w *told) {
			i := w.index("CoverGapBegan")
			w.Events[i].Sequence += 100
			w.command("ShiftEnded").Outcome.Revision += 100
		}, 0},
		"an event is nobody's": {Invented, func(w *told) { w.store("intake.child.x", "x-k1", 0, "ChildMoved", nil) }, 0},
		"what was refused is there": {Invented, func(w *told) {
			c := w.command(".dispatch")
			w.store(c.Makes[0].Key, c.ID, 0, "DeliveryDispatched", nil)
		}, 0},
		"what leads to nothing led to something": {Double, func(w *told) { c := w.silent(); w.store(c.Makes[0].Key, c.ID, 0, "VisitVoided", nil) }, 0},
		"an answer names another revision":       {Wrong, func(w *told) { w.command("ChildMoved").Outcome.Revision++ }, 0},
		"an answer names another event":          {Wrong, func(w *told) { w.command("ChildMoved").Outcome.EventIDs = []string{"x"} }, 0},
		"an event is of another type":            {Wrong, func(w *told) { w.Events[w.index("ChildMoved")].Type = "ChildMerged" }, 0},
		"a command was refused without a rule": {Wrong, func(w *told) {
			c := w.command("FigurePublished")
			c.Outcome = Outcome{State: Refused}
			w.drop("FigurePublished")
		}, 0},
		"a rule was not followed": {Wrong, func(w *told) { w.command(".dispatch").Outcome.State = Done }, 0},
		"a figure is too high": {Wrong, func(w *told) {
			w.Tallies[Tally{"phone_visits", w.command("VisitRecorded").Body.GetProvenance().GetAdmCode()}]++
		}, 0},
		"a figure is not there": {Wrong, func(w *told) {
			delete(w.Tallies, Tally{"phone_visits", w.command("VisitRecorded").Body.GetProvenance().GetAdmCode()})
		}, 0},
		"a figure is nobody's": {Wrong, func(w *told) { w.Tallies[Tally{"home_visits", "440703"}] = 1 }, 0},
	} {
		w := tell(len(tales))
		tt.spoil(w)
		found := Check(w.World, w.commands)
		if len(found) != 1+tt.more || !slices.ContainsFunc(found, func(v Violation) bool { return v.Class == tt.class }) {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// again stores an event again, at another place among its command's.
func (w *told) again(typ string, index int) {
	e := w.Events[w.index(typ)]
	w.store(e.Key, e.Command, index, typ, e.Event)
}

// silent returns a command that leads to nothing and is not refused.
func (w *told) silent() *Command {
	return w.commands[slices.IndexFunc(w.commands, func(c *Command) bool { return len(c.Makes[0].Types) == 0 && !c.Refused })]
}

// A promise that lies ahead, or was armed no more when it was made, is not missed.
func TestOnlyWhatHasPassedIsMissed(t *testing.T) {
	t.Parallel()
	w := tell(len(tales))
	w.drop("DeadlineMissed")
	for _, e := range w.Events {
		if p, is := e.Event.(*intakev1.CallBackPromised); is {
			p.GetDeadlinesSet()[0].DueAt = timestamppb.New(w.Now.Add(time.Hour))
		}
	}
	if found := Check(w.World, w.commands); len(found) > 0 {
		t.Errorf("%v", found)
	}
}
