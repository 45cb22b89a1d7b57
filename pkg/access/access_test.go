package access_test

import (
	"errors"
	"testing"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

func TestARoleHasItsCommandsAndQueriesAndNoOthers(t *testing.T) {
	t.Parallel()
	const (
		openCase  = "tongan.cmd.intake.case.open"
		closeCase = "tongan.cmd.intake.case.close"
		visit     = "tongan.cmd.outreach.visit.record"
		round     = "tongan.cmd.healthcheck.round.record"
		dispatch  = "tongan.cmd.outreach.delivery.dispatch"
		child     = "tongan.qry.intake.child.get"
		figures   = "tongan.qry.reporting.figures.get"
		records   = "tongan.qry.audit.record.list"
		addCaller = "tongan.cmd.audit.caller.add"
		arrived   = "tongan.cmd.outreach.reminder.confirm-delivery"
		health    = "tongan.qry.intake.health.get"
		listNames = "TONGAN.API.STREAM.NAMES"
	)
	all := []string{openCase, closeCase, visit, round, dispatch, child, figures, records, addCaller, arrived, health, listNames}
	for role, may := range map[auditv1.Role][]string{
		auditv1.Role_ROLE_UNSPECIFIED:       {},
		auditv1.Role_ROLE_HOTLINE_OPERATOR:  {openCase, child},
		auditv1.Role_ROLE_SOCIAL_WORKER:     {openCase, closeCase, visit, child},
		auditv1.Role_ROLE_CHILD_DIRECTOR:    {openCase, closeCase, visit, child},
		auditv1.Role_ROLE_CHILD_SUPERVISOR:  {openCase, closeCase, visit, child},
		auditv1.Role_ROLE_INSTITUTION_NURSE: {round},
		auditv1.Role_ROLE_WAREHOUSE:         {dispatch},
		auditv1.Role_ROLE_BUREAU_LEADER:     {figures, records},
		auditv1.Role_ROLE_ANALYST:           {figures},
		auditv1.Role_ROLE_OPERATOR:          {records, addCaller, health, listNames},
		auditv1.Role_ROLE_EVENT_READER:      {},
		auditv1.Role_ROLE_SMS_GATEWAY:       {arrived},
		auditv1.Role(99):                    {},
	} {
		allowed := make(map[string]bool)
		for _, s := range may {
			allowed[s] = true
		}
		for _, s := range all {
			err := access.Caller{ID: "w1", Role: role}.May(s)
			if allowed[s] && err != nil || !allowed[s] && !errors.Is(err, access.ErrRole) {
				t.Errorf("%v and %s: %v", role, s, err)
			}
		}
	}
}

// Only the roles whose work one person does and another types in may enter for others, and then for those of the same organisation.
func TestWhoMayEnterForWhom(t *testing.T) {
	t.Parallel()
	find := func(id string) (access.Caller, bool) {
		c, known := map[string]access.Caller{
			"w2":    {ID: "w2", Org: "o1"},
			"w3":    {ID: "w3", Org: "o2"},
			"homed": {ID: "homed"},
		}[id]
		return c, known
	}
	worker := access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: "o1"}
	director := access.Caller{ID: "w1", Role: auditv1.Role_ROLE_CHILD_DIRECTOR, Org: "o1"}
	for _, tt := range []struct {
		name      string
		caller    access.Caller
		performer string
		want      error
	}{
		{"oneself", worker, "w1", nil},
		{"oneself, in a role that may not enter for others", director, "w1", nil},
		{"a colleague", worker, "w2", nil},
		{"a colleague, in a role that may not", director, "w2", access.ErrPerformer},
		{"somebody of another organisation", worker, "w3", access.ErrPerformer},
		{"somebody of no organisation", worker, "homed", access.ErrPerformer},
		{"nobody who is known", worker, "w9", access.ErrPerformer},
		{"nobody", worker, "", access.ErrPerformer},
		{"a role that does not exist", access.Caller{ID: "w1", Role: 99, Org: "o1"}, "w2", access.ErrPerformer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.caller.Enters(&eventv1.Provenance{PerformedBy: tt.performer}, find); !errors.Is(err, tt.want) {
				t.Errorf("it says %v, want %v", err, tt.want)
			}
		})
	}
	for _, role := range access.Roles() {
		want := map[auditv1.Role]bool{
			auditv1.Role_ROLE_HOTLINE_OPERATOR: true, auditv1.Role_ROLE_SOCIAL_WORKER: true, auditv1.Role_ROLE_CHILD_SUPERVISOR: true,
			auditv1.Role_ROLE_INSTITUTION_NURSE: true, auditv1.Role_ROLE_WAREHOUSE: true,
		}[role]
		if access.Of(role).ForOthers != want {
			t.Errorf("%v enters for others: %v", role, !want)
		}
	}
}

func TestACallerIsHeldToThePlacesItIsBoundTo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                  string
		caller                access.Caller
		district, institution string
		want                  error
	}{
		{"bound to nothing", access.Caller{}, "440704", "i2", nil},
		{"the district bound to", access.Caller{AdmCode: "440703"}, "440703", "", nil},
		{"another district", access.Caller{AdmCode: "440703"}, "440704", "", access.ErrDistrict},
		{"the city, which is no district bound to", access.Caller{AdmCode: "440703"}, "440700", "", access.ErrDistrict},
		{"a district that only begins like it", access.Caller{AdmCode: "440703"}, "4407031", "", access.ErrDistrict},
		{"no place", access.Caller{AdmCode: "440703", InstitutionID: "i1"}, "", "", nil},
		{"the institution bound to", access.Caller{InstitutionID: "i1"}, "440704", "i1", nil},
		{"another institution", access.Caller{InstitutionID: "i1"}, "440703", "i2", access.ErrInstitution},
		{"bound to both, another institution of the district", access.Caller{AdmCode: "440703", InstitutionID: "i1"}, "440703", "i2", access.ErrInstitution},
		{"bound to both, and both are others", access.Caller{AdmCode: "440703", InstitutionID: "i1"}, "440704", "i2", access.ErrDistrict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.caller.Covers(tt.district, tt.institution); !errors.Is(err, tt.want) {
				t.Errorf("it says %v, want %v", err, tt.want)
			}
		})
	}
}

// A refusal names the field and the rule, and has no place for a value.
func TestRefusalsNameFieldAndRule(t *testing.T) {
	t.Parallel()
	for _, d := range []*access.Denied{access.ErrUnknown, access.ErrRole, access.ErrPerformer, access.ErrDistrict, access.ErrInstitution} {
		if d.Field == "" || d.Rule == "" || d.Error() != d.Field+": "+d.Rule {
			t.Errorf("%q is said of field %q and rule %q", d.Error(), d.Field, d.Rule)
		}
	}
}

func TestEveryRoleHasRights(t *testing.T) {
	t.Parallel()
	if n, want := len(access.Roles()), auditv1.Role(0).Descriptor().Values().Len()-1; n != want {
		t.Errorf("%d roles, the contract has %d", n, want)
	}
	for _, role := range access.Roles() {
		r := access.Of(role)
		if len(r.Send)+len(r.Read) == 0 {
			t.Errorf("%v may do nothing", role)
		}
		if r.Outside && len(r.Send) > 0 {
			t.Errorf("%v is outside and may send %v", role, r.Send)
		}
		for _, s := range r.Send {
			if subject.Matches("tongan.evt.>", s) || subject.Matches("$JS.>", s) || subject.Matches("tongan.keys.>", s) {
				t.Errorf("%v may send %s", role, s)
			}
		}
	}
	if r := access.Of(auditv1.Role_ROLE_UNSPECIFIED); len(r.Send)+len(r.Read) != 0 || r.ForOthers {
		t.Errorf("nobody's role has %+v", r)
	}
}
