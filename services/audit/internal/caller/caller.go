// Package caller is somebody who may call (调用方).
//
// Commands: AddCaller, RotateCallerKey, RevokeCaller. Events: CallerAdded, CallerKeyRotated, CallerRevoked.
//
// Rules: a caller is added once, and again after having been revoked; only who was added gets another key; revoking twice is silent, and
// nobody revokes themself. A role that is there to connect needs a key. A role that a binding would not hold back is not bound: an
// operator could add callers who are not, and a reader reads the events of all districts.
package caller

import (
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// Aggregate is the caller; its id is caller_id.
var Aggregate = subject.Caller

var (
	// ErrAdded is returned when the caller is there already.
	ErrAdded = decider.Refuse("caller_id", "is added already")
	// ErrNotAdded is returned when the caller was never added, or needs to be added again first.
	ErrNotAdded = decider.Refuse("caller_id", "is not added")
	// ErrSelf is returned when somebody would lock themself out.
	ErrSelf = decider.Refuse("caller_id", "is the caller who asks: somebody else must do it")
	// ErrNoKey is returned when a role that is there to connect comes without a key.
	ErrNoKey = decider.Refuse("nkey", "is required for this role")
	// ErrBound is returned when a role that no binding holds back comes with one.
	ErrBound = decider.Refuse("adm_code", "is not for this role, nor is institution_id: they would hold nothing back")
)

// State is what decisions about a caller need to know.
type State struct {
	known, active bool
	key           string
}

// Key is the public NKey the caller connects with; empty for none.
func (s State) Key() string { return s.key }

// Decider decides about one caller.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *auditv1.AddCaller:
		return add(s, cmd, c)
	case *auditv1.RotateCallerKey:
		return rotate(s, cmd, c)
	case *auditv1.RevokeCaller:
		return revoke(s, cmd, c)
	default:
		return nil, fmt.Errorf("caller: unexpected command %T", cmd.Body)
	}
}

func add(s State, cmd decider.Command, c *auditv1.AddCaller) ([]decider.Event, error) {
	if s.active {
		return nil, ErrAdded
	}
	switch c.GetRole() {
	case auditv1.Role_ROLE_EVENT_READER, auditv1.Role_ROLE_SMS_GATEWAY, auditv1.Role_ROLE_OPERATOR:
		if c.GetNkey() == "" {
			return nil, ErrNoKey
		}
	}
	switch c.GetRole() {
	case auditv1.Role_ROLE_EVENT_READER, auditv1.Role_ROLE_OPERATOR:
		if c.GetAdmCode() != "" || c.GetInstitutionId() != "" {
			return nil, ErrBound
		}
	}
	return []decider.Event{&auditv1.CallerAdded{
		Provenance: cmd.Provenance(), CallerId: c.GetCallerId(), Nkey: c.GetNkey(), Role: c.GetRole(),
		OrgId: c.GetOrgId(), AdmCode: c.GetAdmCode(), InstitutionId: c.GetInstitutionId(),
	}}, nil
}

func rotate(s State, cmd decider.Command, c *auditv1.RotateCallerKey) ([]decider.Event, error) {
	switch {
	case !s.active:
		return nil, ErrNotAdded
	case s.key == c.GetNkey():
		return nil, nil
	}
	return []decider.Event{&auditv1.CallerKeyRotated{Provenance: cmd.Provenance(), CallerId: c.GetCallerId(), Nkey: c.GetNkey()}}, nil
}

func revoke(s State, cmd decider.Command, c *auditv1.RevokeCaller) ([]decider.Event, error) {
	switch {
	case !s.known:
		return nil, ErrNotAdded
	case c.GetCallerId() == c.GetProvenance().GetRecordedBy():
		return nil, ErrSelf
	case !s.active:
		return nil, nil
	}
	return []decider.Event{&auditv1.CallerRevoked{Provenance: cmd.Provenance(), CallerId: c.GetCallerId()}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *auditv1.CallerAdded:
		s = State{known: true, active: true, key: e.GetNkey()}
	case *auditv1.CallerKeyRotated:
		s.key = e.GetNkey()
	case *auditv1.CallerRevoked:
		s.active, s.key = false, ""
	default:
		return s, false
	}
	return s, true
}
