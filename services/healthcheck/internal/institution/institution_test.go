package institution_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	"tongan.dev/services/healthcheck/internal/institution"
)

func TestInstitution(t *testing.T) {
	t.Parallel()
	register := decidertest.Command("2020-01-20T01:00:00Z", "i1", &healthcheckv1.RegisterInstitution{InstitutionId: "i1", Beds: 120})
	start := decidertest.Command("2020-01-26T01:00:00Z", "k2", &healthcheckv1.StartClosureRegime{InstitutionId: "i1"})
	registered := &healthcheckv1.InstitutionRegistered{InstitutionId: "i1", Beds: 120}
	started := &healthcheckv1.ClosureRegimeStarted{InstitutionId: "i1"}
	decidertest.Run(t, institution.Decider, []decidertest.Row{
		{
			Name: "an institution is registered",
			When: register,
			Then: []decider.Event{&healthcheckv1.InstitutionRegistered{Provenance: register.Provenance(), InstitutionId: "i1", Beds: 120}},
		},
		{Name: "an institution is registered once", Given: []decider.Event{registered}, When: register, Err: institution.ErrRegistered},
		{
			Name:  "a registered institution is closed",
			Given: []decider.Event{registered},
			When:  start,
			Then:  []decider.Event{&healthcheckv1.ClosureRegimeStarted{Provenance: start.Provenance(), InstitutionId: "i1"}},
		},
		{Name: "closing twice is silent", Given: []decider.Event{registered, started}, When: start},
		{Name: "an institution never registered is not closed", When: start, Err: institution.ErrNotRegistered},
	})
}

func TestInstitutionProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.SampledFrom([]decider.Event{
		&healthcheckv1.RegisterInstitution{InstitutionId: "i1", Beds: 120},
		&healthcheckv1.RegisterInstitution{InstitutionId: "i1", Beds: 80},
		&healthcheckv1.StartClosureRegime{InstitutionId: "i1"},
	})
	registeredThenClosed := func(events []decider.Event) error {
		for i, e := range events {
			if _, first := e.(*healthcheckv1.InstitutionRegistered); first != (i == 0) || i > 1 {
				return fmt.Errorf("event %d is %T", i, e)
			}
		}
		return nil
	}
	decidertest.Property(t, institution.Decider, commands, registeredThenClosed,
		&healthcheckv1.InstitutionRegistered{}, &healthcheckv1.ClosureRegimeStarted{})
}
