package child_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
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

// What a query answers of a child is what the event says; the details stay sealed.
func TestView(t *testing.T) {
	t.Parallel()
	sealed := &eventv1.Sealed{KeyId: "child-ch1", Ciphertext: []byte("x")}
	s, known := child.Decider.Evolve(child.State{}, &intakev1.ChildRegistered{
		Provenance: &eventv1.Provenance{AdmCode: "440703"}, ChildId: "ch1", WorkerId: "w7",
		Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, Details: sealed,
	})
	want := &intakev1.Child{
		ChildId: "ch1", Revision: 7, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, AdmCode: "440703", WorkerId: "w7",
	}
	if got := s.View("ch1", 7); !known || !proto.Equal(got, want) {
		t.Errorf("it is %v, want %v", got, want)
	}
	if got := s.Details(); !proto.Equal(got, sealed) {
		t.Errorf("sealed are %v", got)
	}
	if got := (child.State{}).Details(); got != nil {
		t.Errorf("of a child that is not registered there is %v", got)
	}
}
