package chaos

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"tongan.dev/pkg/access"
)

func TestASeedGivesOnePlan(t *testing.T) {
	t.Parallel()
	for _, c := range []PlanConfig{{Seed: 1, Kills: 44}, {Seed: 1, Kills: 44, Nodes: 3}, {Seed: 1, Kills: 44, Nodes: 3, Leaders: true}} {
		other := c
		other.Seed++
		if !slices.Equal(Plan(c), Plan(c)) || slices.Equal(Plan(c), Plan(other)) {
			t.Errorf("plans of %+v are not its seed's", c)
		}
	}
}

// A plan kills as often as it is told, and everybody; and given some length it does everything else to everybody.
func TestAPlanSparesNobody(t *testing.T) {
	t.Parallel()
	kills, done := make(map[string]int), make(map[Kind]map[string]int)
	for _, f := range Plan(PlanConfig{Seed: 7, Kills: 160, Nodes: 3}) {
		if f.Kind == Kill || f.Kind == Overlap {
			kills[f.Target]++
		}
		if done[f.Kind] == nil {
			done[f.Kind] = make(map[string]int)
		}
		done[f.Kind][f.Target]++
	}
	all := 0
	for _, n := range kills {
		all += n
	}
	targets := append(services(), Engine, Bus, Leader, Node(1), Node(2), Node(3))
	if slices.Sort(targets); all != 160 || !slices.Equal(slices.Sorted(maps.Keys(kills)), targets) {
		t.Errorf("%d kills, %v", all, kills)
	}
	for kind, n := range map[Kind]int{Kill: 12, Pause: 12, Overlap: 6, Cut: 8, Slow: 8, HalfOpen: 8, Step: 6, Poison: 4, Partition: 3} {
		if len(done[kind]) != n {
			t.Errorf("%s is done to %v", kind, done[kind])
		}
	}
}

// subjects are the commands that somebody may send.
func subjects() map[string]bool {
	out := make(map[string]bool)
	for _, role := range access.Roles() {
		for _, s := range access.Of(role).Send {
			if strings.HasPrefix(s, "tongan.cmd.") {
				out[s] = true
			}
		}
	}
	return out
}

func TestTheStoriesHoldEveryCommandThereIs(t *testing.T) {
	t.Parallel()
	told := make(map[string]bool)
	for n := range tales {
		for _, c := range NewStory(1, n, now).Commands {
			told[c.Subject] = true
		}
	}
	if want := subjects(); !maps.Equal(told, want) {
		t.Errorf("the stories hold %v, there are %v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(want)))
	}
}
