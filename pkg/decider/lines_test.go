package decider_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	"tongan.dev/pkg/natstest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// gated is a log whose first append waits until the test lets it go, so that other commands stand in line.
type gated struct {
	decidertest.Log
	entered, gate chan struct{}
	once          sync.Once
	sizes         []int // of each append
	loads         int
	fail          func(n int) error
}

func newGated() *gated {
	return &gated{entered: make(chan struct{}), gate: make(chan struct{}), fail: func(int) error { return nil }}
}

func (g *gated) Append(ctx context.Context, id string, last uint64, events []decider.Recorded) (uint64, error) {
	g.once.Do(func() {
		close(g.entered)
		<-g.gate
	})
	g.sizes = append(g.sizes, len(events))
	if err := g.fail(len(g.sizes)); err != nil {
		return 0, err
	}
	return g.Log.Append(ctx, id, last, events)
}

func (g *gated) Load(ctx context.Context, id string) ([]decider.Recorded, uint64, error) {
	g.loads++
	return g.Log.Load(ctx, id)
}

type answered struct {
	reply *eventv1.CommandReply
	err   error
}

// inLine has the first command enter the log, and then each of the others stand in line, in this order, before it is let go.
func inLine(t *testing.T, g *gated, d decider.Decider[counterState], first decider.Command, others ...decider.Command) []answered {
	t.Helper()
	out := make([]answered, 1+len(others))
	var wg sync.WaitGroup
	for i, cmd := range append([]decider.Command{first}, others...) {
		wg.Go(func() { out[i].reply, out[i].err = decider.Transact(t.Context(), g, d, "a1", cmd) })
		if i == 0 {
			<-g.entered
		} else {
			natstest.Eventually(t, 10*time.Second, "it stands in line", func() bool { return g.Lines().Waiting() == i })
		}
	}
	close(g.gate)
	wg.Wait()
	return out
}

func closing(id string) decider.Command {
	return decidertest.Command("2020-02-01T09:00:00Z", id, &intakev1.CloseCase{})
}

// Commands that stand in line are decided one after the other, each on what those before it lead to, and appended as one; each is told its own
// events and the sequence of its own last one.
func TestCommandsInLineAreAppendedTogether(t *testing.T) {
	t.Parallel()
	g := newGated()
	got := inLine(t, g, counter, open("k1"), open("k2"), open("k3"), closing("k4"))
	for i, a := range got {
		if a.err != nil || !a.reply.GetHappened() || a.reply.GetRevision() != []uint64{2, 4, 6, 7}[i] {
			t.Fatalf("command %d is answered %v, %v", i+1, a.reply, a.err)
		}
		if id := decider.EventID("test.aggregate.a1", fmt.Sprintf("k%d", i+1), 0); a.reply.GetEventIds()[0] != id {
			t.Errorf("command %d is told of event %s, want %s", i+1, a.reply.GetEventIds()[0], id)
		}
	}
	if !slices.Equal(g.sizes, []int{2, 5}) {
		t.Errorf("appends had %v events, want 2 and 5", g.sizes)
	}
	// What is kept is what a fold gives: the next answers rest on it.
	for i, cmd := range []decider.Command{open("k1"), open("k3"), closing("k4")} {
		reply, err := decider.Transact(t.Context(), g, counter, "a1", cmd)
		if err != nil || !reply.GetAgain() || reply.GetRevision() != []uint64{2, 6, 7}[i] {
			t.Errorf("again, it is answered %v, %v", reply, err)
		}
	}
}

// What appends nothing is answered when what it rests on is stored: a refusal, silence, and a command that came twice.
func TestWhatAppendsNothingInLineRestsOnWhatIsStored(t *testing.T) {
	t.Parallel()
	g := newGated()
	got := inLine(t, g, counter, open("k1"), closing("k2"), open("k3"), closing("k4"), closing("k2"))
	if got[1].err != nil || got[1].reply.GetRevision() != 3 {
		t.Errorf("closing is answered %v, %v", got[1].reply, got[1].err)
	}
	if !errors.Is(got[2].err, errClosed) {
		t.Errorf("opening what is closed is answered %v, %v", got[2].reply, got[2].err)
	}
	if got[3].err != nil || got[3].reply.GetHappened() || got[3].reply.GetRevision() != 3 {
		t.Errorf("closing what is closed is answered %v, %v", got[3].reply, got[3].err)
	}
	if got[4].err != nil || !got[4].reply.GetAgain() || got[4].reply.GetRevision() != 3 {
		t.Errorf("the same command again is answered %v, %v", got[4].reply, got[4].err)
	}
	if len(g.Events()) != 3 {
		t.Errorf("%d events are stored, want 3", len(g.Events()))
	}
}

// After a conflict all are decided again on what the log has; after another failure each that was under way is told, and those after them go on.
func TestWhatFailsInLine(t *testing.T) {
	t.Parallel()
	t.Run("conflict", func(t *testing.T) {
		t.Parallel()
		g := newGated()
		g.fail = func(n int) error {
			if n == 2 { // somebody else closed it meanwhile
				g.Seed(&intakev1.CaseClosed{})
			}
			return nil
		}
		for i, a := range inLine(t, g, counter, open("k1"), open("k2"), open("k3"))[1:] {
			if !errors.Is(a.err, errClosed) {
				t.Errorf("command %d is answered %v, %v", i+2, a.reply, a.err)
			}
		}
		if g.loads != 1 {
			t.Errorf("the aggregate was loaded %d times, want only the first, and then what is new", g.loads)
		}
	})
	t.Run("no bus", func(t *testing.T) {
		t.Parallel()
		g, noBus := newGated(), errors.New("no bus")
		g.fail = func(n int) error {
			if n == 1 {
				return noBus
			}
			return nil
		}
		got := inLine(t, g, counter, open("k1"), open("k2"), open("k3"))
		if !errors.Is(got[0].err, noBus) || got[1].err != nil || got[1].reply.GetRevision() != 2 || got[2].reply.GetRevision() != 4 {
			t.Errorf("they are answered %v", got)
		}
	})
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		d := counter
		d.Decide = func(s counterState, c decider.Command) ([]decider.Event, error) {
			if c.ID == "k2" {
				panic("about something personal")
			}
			return counter.Decide(s, c)
		}
		got := inLine(t, newGated(), d, open("k1"), open("k2"), open("k3"))
		if got[0].err != nil || got[1].err == nil || got[2].err != nil || got[2].reply.GetRevision() != 4 {
			t.Errorf("they are answered %v", got)
		}
	})
}

// Who gives up while standing in line has stored nothing.
func TestWhoLeavesTheLineStoresNothing(t *testing.T) {
	t.Parallel()
	g := newGated()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := decider.Transact(t.Context(), g, counter, "a1", open("k1")); err != nil {
			t.Error(err)
		}
	})
	<-g.entered
	wg.Go(func() {
		if _, err := decider.Transact(ctx, g, counter, "a1", open("k2")); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up is answered %v", err)
		}
	})
	natstest.Eventually(t, 10*time.Second, "it stands in line", func() bool { return g.Lines().Waiting() == 1 })
	cancel()
	natstest.Eventually(t, 10*time.Second, "it has left the line", func() bool { return g.Lines().Waiting() == 0 })
	close(g.gate)
	wg.Wait()
	if len(g.Events()) != 2 {
		t.Errorf("%d events are stored, want those of the first", len(g.Events()))
	}
}

// A command that was decided before a change that another in line makes is stale, and is told by what.
func TestACommandInLineIsStale(t *testing.T) {
	t.Parallel()
	assign := func(id string, seen uint64) decider.Command {
		return decidertest.Command("2020-02-01T09:00:00Z", id, &intakev1.AssignWorker{WorkerId: "flag", SeenRevision: seen})
	}
	g := newGated()
	got := inLine(t, g, owned, assign("k1", 0), assign("k2", 1), assign("k3", 1))
	if got[0].err != nil || got[1].err != nil {
		t.Fatalf("they are answered %v", got)
	}
	want := decider.Refuse("seen_revision", "is stale: flag was changed by w1 at 2020-02-01T17:00:00+08:00, revision 2")
	if !errors.Is(got[2].err, want) {
		t.Errorf("the stale one is answered %v, want %v", got[2].err, want)
	}
}
