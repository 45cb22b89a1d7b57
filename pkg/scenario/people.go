package scenario

import (
	"cmp"
	"slices"
	"strings"

	"tongan.dev/pkg/access"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// Leader is the id of the bureau's leader.
const Leader = "b-1"

// EnteredBy returns the id of who enters a command: who did what it is about, unless somebody else types it in.
func EnteredBy(s Step) string {
	p := s.Command.GetProvenance()
	return cmp.Or(p.GetRecordedBy(), p.GetPerformedBy())
}

// kind is a kind of persons.
type kind struct {
	prefix string
	role   auditv1.Role
	// city says that they act everywhere; the others are bound to their district, and of an institution to that.
	city, institution bool
}

// people are the kinds of persons by the beginning of their ids; the first that fits counts.
var people = []kind{
	{prefix: "sys-", role: auditv1.Role_ROLE_SMS_GATEWAY, city: true},
	{prefix: "s-440", role: auditv1.Role_ROLE_WAREHOUSE},
	{prefix: "l-", role: auditv1.Role_ROLE_BUREAU_LEADER, institution: true},
	{prefix: "n-", role: auditv1.Role_ROLE_INSTITUTION_NURSE, institution: true},
	{prefix: "b-", role: auditv1.Role_ROLE_BUREAU_LEADER, city: true},
	{prefix: "h-", role: auditv1.Role_ROLE_HOTLINE_OPERATOR, city: true},
	{prefix: "k-", role: auditv1.Role_ROLE_CHILD_SUPERVISOR},
	{prefix: "s-", role: auditv1.Role_ROLE_CHILD_SUPERVISOR},
	{prefix: "w-", role: auditv1.Role_ROLE_CHILD_DIRECTOR},
	{prefix: "c-", role: auditv1.Role_ROLE_SOCIAL_WORKER},
	{prefix: "v-", role: auditv1.Role_ROLE_SOCIAL_WORKER},
	{prefix: "y-", role: auditv1.Role_ROLE_SOCIAL_WORKER},
}

// Callers returns everybody who does or enters something in these steps, without keys, sorted by id: role and organisation, and the
// district or institution they are bound to.
func Callers(steps []Step) []access.Caller {
	byID := make(map[string]access.Caller)
	for _, s := range steps {
		p := s.Command.GetProvenance()
		for _, id := range []string{p.GetPerformedBy(), EnteredBy(s)} {
			at := slices.IndexFunc(people, func(k kind) bool { return strings.HasPrefix(id, k.prefix) })
			k := people[at]
			c := access.Caller{ID: id, Role: k.role, Org: p.GetCreditedOrg()}
			if !k.city {
				c.AdmCode = p.GetAdmCode()
			}
			if k.institution {
				c.InstitutionID = p.GetCreditedOrg()
			}
			byID[id] = c
		}
	}
	callers := make([]access.Caller, 0, len(byID))
	for _, c := range byID {
		callers = append(callers, c)
	}
	slices.SortFunc(callers, func(a, b access.Caller) int { return strings.Compare(a.ID, b.ID) })
	return callers
}
