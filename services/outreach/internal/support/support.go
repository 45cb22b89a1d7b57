// Package support is one service for one child, from its request to its end (服务支援).
//
// Commands: RequestSupport, BeginSupport, EndSupport.
// Events: ServiceSupportRequested, ServiceSupportBegun, ServiceSupportEnded.
//
// Rules:
//   - A support is requested once; it begins once and ends once, in this order. Beginning or ending again is silent.
//   - It does not end before it began (发生时间).
//   - It counts from its beginning, once.
package support

import (
	"fmt"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Aggregate is the support; its id is support_id.
var Aggregate = subject.Aggregate{Service: subject.Outreach, Name: "support"}

// ErrRequested is returned when the support has been requested before by another command.
var ErrRequested = decider.Refuse("support_id", "was requested already")

// ErrNotRequested is returned when a support that was never requested is to begin.
var ErrNotRequested = decider.Refuse("support_id", "was never requested")

// ErrNotBegun is returned when a support that never began is to end.
var ErrNotBegun = decider.Refuse("support_id", "has not begun")

// ErrBeforeBeginning is returned when a support is to end before it began.
var ErrBeforeBeginning = decider.Refuse("provenance.occurred_at", "must not lie before the beginning of the support")

// State is what decisions about a support need to know.
type State struct {
	requested, begun, ended      bool
	begunAt                      time.Time
	kind                         outreachv1.SupportKind
	childID, caseID, providerOrg string
	category                     eventv1.PopulationCategory
	admCode                      string
}

// Decider decides about one support.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *outreachv1.RequestSupport:
		return request(s, cmd, c)
	case *outreachv1.BeginSupport:
		return begin(s, cmd, c)
	case *outreachv1.EndSupport:
		return end(s, cmd, c)
	default:
		return nil, fmt.Errorf("service support: unexpected command %T", cmd.Body)
	}
}

func request(s State, cmd decider.Command, c *outreachv1.RequestSupport) ([]decider.Event, error) {
	if s.requested {
		return nil, ErrRequested
	}
	return []decider.Event{&outreachv1.ServiceSupportRequested{
		Provenance:  cmd.Provenance(),
		SupportId:   c.GetSupportId(),
		Kind:        c.GetKind(),
		ChildId:     c.GetChildId(),
		Category:    c.GetCategory(),
		CaseId:      c.GetCaseId(),
		ProviderOrg: c.GetProviderOrg(),
		AdmCode:     c.GetProvenance().GetAdmCode(),
		DueAt:       c.GetDueAt(),
	}}, nil
}

func begin(s State, cmd decider.Command, c *outreachv1.BeginSupport) ([]decider.Event, error) {
	switch {
	case !s.requested:
		return nil, ErrNotRequested
	case s.begun:
		return nil, nil
	}
	return []decider.Event{&outreachv1.ServiceSupportBegun{
		Provenance:  cmd.Provenance(),
		SupportId:   c.GetSupportId(),
		Kind:        s.kind,
		ChildId:     s.childID,
		Category:    s.category,
		CaseId:      s.caseID,
		ProviderOrg: s.providerOrg,
		AdmCode:     s.admCode,
	}}, nil
}

func end(s State, cmd decider.Command, c *outreachv1.EndSupport) ([]decider.Event, error) {
	switch {
	case !s.begun:
		return nil, ErrNotBegun
	case s.ended:
		return nil, nil
	case occurredAt(c).Before(s.begunAt):
		return nil, ErrBeforeBeginning
	}
	return []decider.Event{&outreachv1.ServiceSupportEnded{
		Provenance:  cmd.Provenance(),
		SupportId:   c.GetSupportId(),
		Kind:        s.kind,
		ChildId:     s.childID,
		Category:    s.category,
		CaseId:      s.caseID,
		ProviderOrg: s.providerOrg,
		AdmCode:     s.admCode,
	}}, nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *outreachv1.ServiceSupportRequested:
		s.requested, s.kind, s.admCode = true, e.GetKind(), e.GetAdmCode()
		s.childID, s.category = e.GetChildId(), e.GetCategory()
		s.caseID, s.providerOrg = e.GetCaseId(), e.GetProviderOrg()
	case *outreachv1.ServiceSupportBegun:
		s.begun, s.begunAt = true, occurredAt(e)
	case *outreachv1.ServiceSupportEnded:
		s.ended = true
	default:
		return s, false
	}
	return s, true
}

// occurredAt returns when a command or an event happened.
func occurredAt(e decider.Event) time.Time { return e.GetProvenance().GetOccurredAt().AsTime() }
