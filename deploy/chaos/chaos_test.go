package chaos

import (
	"strings"
	"testing"
	"time"

	"tongan.dev/pkg/chtest"
)

func TestMain(m *testing.M) { chtest.Main(m) }

// survives runs a plan and reports whatever must not be. The seed is another one each time; `make chaos` with it gives the same plan.
func survives(t *testing.T, cfg Config) {
	t.Helper()
	t.Parallel()
	cfg.Seed, cfg.Dir, cfg.Say = uint64(time.Now().UnixNano()), t.TempDir(), func(s string) { t.Log(s) }
	t.Logf("make chaos SEED=%d KILLS=%d NODES=%d", cfg.Seed, cfg.Kills, cfg.Nodes)
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.Write(&text)
	t.Log(text.String())
	if len(r.Violations) > 0 || r.Kills < cfg.Kills {
		t.Errorf("%d violations after %d kills", len(r.Violations), r.Kills)
	}
	if want := len(subjects()); len(r.Kinds) < want {
		t.Errorf("commands of %d kinds were carried out, there are %d", len(r.Kinds), want)
	}
}

// Whatever is killed, paused, cut off, slowed down, poisoned or run twice, and however clocks jump: nothing is lost, nothing is double,
// nothing is torn, and the figures are those of the commands that took effect.
func TestNothingIsLostDoubledOrTorn(t *testing.T) {
	survives(t, Config{PlanConfig: PlanConfig{Kills: 44, Nodes: 1}, AtOnce: 12, PerSecond: 150})
}

// The same with three nodes of the bus, of which one and all are killed, and cut off from each other.
func TestNothingIsLostDoubledOrTornByThreeNodes(t *testing.T) {
	survives(t, Config{PlanConfig: PlanConfig{Kills: 18, Nodes: 3}, AtOnce: 12, PerSecond: 150})
}
