package child_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
)

func TestChild(t *testing.T) {
	t.Parallel()
	register := decidertest.Command("2020-02-01T09:00:00Z", "ch1", &intakev1.RegisterChild{
		ChildId: "ch1", Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w7",
	})
	register.Sealed = map[string]*eventv1.Sealed{"details": {KeyId: "ch1", Ciphertext: []byte("x")}}
	decidertest.Run(t, child.Decider, []decidertest.Row{
		{
			Name: "a child is registered with sealed details",
			When: register,
			Then: []decider.Event{&intakev1.ChildRegistered{
				Provenance: register.Provenance(), ChildId: "ch1",
				Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w7",
				Details: &eventv1.Sealed{KeyId: "ch1", Ciphertext: []byte("x")},
			}},
		},
		{
			Name:  "a child is registered once",
			Given: []decider.Event{&intakev1.ChildRegistered{ChildId: "ch1"}},
			When:  decidertest.Command("2020-02-01T10:00:00Z", "k2", &intakev1.RegisterChild{ChildId: "ch1"}),
			Err:   child.ErrRegistered,
		},
	})
}

func TestChildProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		return &intakev1.RegisterChild{ChildId: "ch1", WorkerId: rapid.SampledFrom([]string{"w1", "w2"}).Draw(t, "worker")}
	})
	registeredOnce := func(events []decider.Event) error {
		if len(events) > 1 {
			return fmt.Errorf("registered %d times", len(events))
		}
		return nil
	}
	decidertest.Property(t, child.Decider, commands, registeredOnce, &intakev1.ChildRegistered{})
}
