// Package access is who may do what on the bus: the users of the services and the rights of every role, written once as data; the callers
// and what they are bound to; and the credentials they connect with. Beside scenario it is the one package of pkg that knows words of the
// services: what a role may send.
package access

import (
	"slices"
	"sync"

	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Caller is somebody who works here: who may call, or whose work others enter.
type Caller struct {
	// ID is opaque.
	ID string
	// Key is the public NKey the caller connects with; empty for somebody who does not connect.
	Key  string
	Role auditv1.Role
	// Org is the organisation the caller belongs to.
	Org string
	// AdmCode and InstitutionID are what the caller is bound to; empty means nothing.
	AdmCode, InstitutionID string
}

// Denied says why a caller may not do something. It names the field and the rule and repeats no value.
type Denied struct{ Field, Rule string }

// Error names the field and the rule.
func (d *Denied) Error() string { return d.Field + ": " + d.Rule }

// Reasons to refuse a caller.
var (
	// ErrUnknown is returned when the connection is nobody's whom the registry knows.
	ErrUnknown = &Denied{"caller", "is not known: the request does not come from a caller's connection, or the caller was revoked"}
	// ErrRole is returned when the caller's role does not have the command or query.
	ErrRole = &Denied{"caller", "has a role that does not include this"}
	// ErrPerformer is returned when somebody else did it, and the caller may not enter that.
	ErrPerformer = &Denied{"provenance.performed_by", "is somebody for whom the caller may not enter: another person of the caller's organisation, where the role allows it"}
	// ErrDistrict is returned when a district is named or meant to which the caller is not bound.
	ErrDistrict = &Denied{"caller", "is bound to another district"}
	// ErrInstitution is returned when the caller is bound to an institution and another one, or none, is named.
	ErrInstitution = &Denied{"caller", "is bound to an institution that the command does not name"}
)

// rights are those of every role, made once: each request asks for them.
var rights = sync.OnceValue(func() map[auditv1.Role]Rights {
	of := make(map[auditv1.Role]Rights)
	for _, role := range Roles() {
		of[role] = Of(role)
	}
	return of
})

// May reports whether the caller's role has a command or query.
func (c Caller) May(subj string) error {
	if slices.ContainsFunc(rights()[c.Role].Send, func(right string) bool { return subject.Matches(right, subj) }) {
		return nil
	}
	return ErrRole
}

// Enters reports whether the caller may enter what performer did; find is asked for a caller by id.
func (c Caller) Enters(p *eventv1.Provenance, find func(id string) (Caller, bool)) error {
	if p.GetPerformedBy() == c.ID {
		return nil
	}
	if !rights()[c.Role].ForOthers {
		return ErrPerformer
	}
	performer, known := find(p.GetPerformedBy())
	if !known || performer.Org != c.Org {
		return ErrPerformer
	}
	return nil
}

// Covers reports whether a place is one the caller may act at. Every service asks it for every place that a command names or that the
// aggregate it is for lies at, and for every place that an answer names. Empty is no place.
func (c Caller) Covers(admCode, institutionID string) error {
	if c.AdmCode != "" && admCode != "" && admCode != c.AdmCode {
		return ErrDistrict
	}
	if c.InstitutionID != "" && institutionID != "" && institutionID != c.InstitutionID {
		return ErrInstitution
	}
	return nil
}
