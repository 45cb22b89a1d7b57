package scenario_test

import (
	"testing"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/scenario"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// Every command is entered by somebody who may: by role, for whom, and where.
func TestEverybodyMayEnterWhatTheyEnter(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{scenario.DefaultSeed, 1, 2} {
		steps := scenario.Steps(seed)
		callers := make(map[string]access.Caller)
		roles := make(map[auditv1.Role]int)
		for _, c := range scenario.Callers(steps) {
			callers[c.ID] = c
			roles[c.Role]++
		}
		find := func(id string) (access.Caller, bool) { c, ok := callers[id]; return c, ok }
		forOthers := 0
		for _, s := range steps {
			by, p := callers[scenario.EnteredBy(s)], s.Command.GetProvenance()
			institution, named := s.Command.(interface{ GetInstitutionId() string })
			if err := by.May(s.Subject); err != nil {
				t.Errorf("%s of role %s sends %s: %v", by.ID, by.Role, s.Subject, err)
			}
			if err := by.Enters(p, find); err != nil {
				t.Errorf("%s enters what %s did: %v", by.ID, p.GetPerformedBy(), err)
			}
			if err := by.Covers(p.GetAdmCode(), ""); err != nil {
				t.Errorf("%s acts in %s: %v", by.ID, p.GetAdmCode(), err)
			}
			if by.InstitutionID != "" && (!named || by.Covers("", institution.GetInstitutionId()) != nil) {
				t.Errorf("%s of %s sends %s", by.ID, by.InstitutionID, s.Subject)
			}
			if by.ID != p.GetPerformedBy() {
				forOthers++
			}
		}
		if len(callers) < 90 || len(roles) != 8 || forOthers < 300 {
			t.Errorf("%d callers of %d roles, %d commands entered for others", len(callers), len(roles), forOthers)
		}
	}
}
