package protection

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/deadline"
	"tongan.dev/services/intake/internal/rules"
)

// decisions are made by rules.
type decisions struct{ rules rules.Rules }

func (d decisions) decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.OpenCase:
		return openCase(s, cmd, c)
	case *intakev1.PassDeadline:
		return passDeadline(s, cmd, c)
	}
	if !s.opened {
		return nil, ErrNotOpened
	}
	switch c := cmd.Body.(type) { // what may come after the closing too
	case *intakev1.FlagCaseSpecial:
		return flagSpecial(s, cmd, c)
	case *intakev1.RecordFollowUp:
		return d.recordFollowUp(s, cmd, c)
	case *intakev1.CloseCase:
		return closeCase(s, cmd, c)
	case *intakev1.ReopenCase:
		return d.reopen(s, cmd, c)
	case *intakev1.NoteCaseService:
		return noteService(s, cmd, c)
	}
	switch {
	case s.closed:
		return nil, ErrClosed
	case occurredAt(cmd.Body).Before(s.openedAt):
		return nil, ErrBeforeOpening
	case !s.about(cmd.Body):
		return nil, ErrOtherChild
	}
	return d.whileOpen(s, cmd)
}

// whileOpen decides what may be done with an open case only.
func (d decisions) whileOpen(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.AssessCase:
		return d.assess(s, cmd, c)
	case *intakev1.ApproveCasePlan:
		return s.once(cmd, "plan_id", c.GetPlanId(), &intakev1.CasePlanApproved{
			PlanId: c.GetPlanId(), AgreedBy: c.GetAgreedBy(), Services: c.GetServices(), Note: cmd.Sealed["note"],
		})
	case *intakev1.AssignCaseWorker:
		return assignWorker(s, cmd, c)
	case *intakev1.HandOverCases:
		return handOver(s, cmd, c)
	case *intakev1.ProposeReferral:
		return proposeReferral(s, cmd, c)
	case *intakev1.AnswerReferral:
		return answerReferral(s, cmd, c)
	case *intakev1.ArrangeTemporaryCare:
		return s.once(cmd, "arrangement_id", c.GetArrangementId(), &intakev1.TemporaryCareArranged{
			ArrangementId: c.GetArrangementId(), CareProvider: c.GetCareProvider(), Note: cmd.Sealed["note"], DeadlinesMet: s.deadlines.Open(service),
		})
	case *intakev1.ReviewCase:
		ch, version := d.reviewed(s, occurredAt(c), cmd.At)
		return s.once(cmd, "review_id", c.GetReviewId(), by(version, cmd, &intakev1.CaseReviewed{
			ReviewId: c.GetReviewId(), Note: cmd.Sealed["note"], DeadlinesSet: ch.set, DeadlinesMet: ch.met,
		}))
	default:
		return nil, unexpected(cmd)
	}
}

// about reports whether a command names no child, or the case's.
func (s State) about(c decider.Event) bool {
	m, names := c.(interface{ GetChildId() string })
	return !names || m.GetChildId() == "" || m.GetChildId() == s.childID
}

// once returns the event unless the case has recorded one under the same id already; field is the id's name.
func (s State) once(cmd decider.Command, field, id string, e decider.Event) ([]decider.Event, error) {
	if s.recorded[field+" "+id] {
		return nil, Recorded(field)
	}
	return s.restate(cmd, e)
}

// restate fills in what every event of a case restates, where the event does not say it itself, so that a row needs no look-up.
func (s State) restate(cmd decider.Command, e decider.Event) ([]decider.Event, error) {
	m := e.ProtoReflect()
	fill := func(name protoreflect.Name, v protoreflect.Value) {
		if fd := m.Descriptor().Fields().ByName(name); fd != nil && !m.Has(fd) {
			m.Set(fd, v)
		}
	}
	fill("provenance", protoreflect.ValueOfMessage(cmd.Provenance().ProtoReflect()))
	fill("case_id", protoreflect.ValueOfString(s.caseID))
	fill("child_id", protoreflect.ValueOfString(s.childID))
	fill("category", protoreflect.ValueOfEnum(s.category.Number()))
	fill("adm_code", protoreflect.ValueOfString(s.admCode))
	fill("worker_id", protoreflect.ValueOfString(s.workerID))
	fill("risk_level", protoreflect.ValueOfEnum(s.risk.Number()))
	return []decider.Event{e}, nil
}

// by says by which version of the rules an event was decided.
func by(version string, cmd decider.Command, e decider.Event) decider.Event {
	p := cmd.Provenance()
	if version != "" {
		p.RuleVersion = version
	}
	m := e.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfMessage(p.ProtoReflect()))
	return e
}

func openCase(s State, cmd decider.Command, c *intakev1.OpenCase) ([]decider.Event, error) {
	if s.opened {
		return nil, ErrOpened
	}
	worker := c.GetWorkerId()
	if worker == "" {
		worker = c.GetProvenance().GetPerformedBy()
	}
	return []decider.Event{&intakev1.CaseOpened{
		Provenance: cmd.Provenance(), CaseId: c.GetCaseId(), ChildId: c.GetChildId(), Category: c.GetCategory(), GapCause: c.GetGapCause(),
		ContactId: c.GetContactId(), Note: cmd.Sealed["note"], CaseSource: c.GetCaseSource(), VisitId: c.GetVisitId(), WorkerId: worker,
	}}, nil
}

func flagSpecial(s State, cmd decider.Command, c *intakev1.FlagCaseSpecial) ([]decider.Event, error) {
	switch {
	case s.special:
		return nil, nil
	case s.closed:
		return nil, ErrClosed
	case occurredAt(c).Before(s.openedAt):
		return nil, ErrBeforeOpening
	}
	e := &intakev1.CaseFlaggedSpecial{}
	if s.followUps > 0 {
		e.CountsSpecial, e.CountsOn = true, decider.Day(later(occurredAt(c), s.firstFollowedUpAt))
	}
	return s.restate(cmd, e)
}

func (d decisions) assess(s State, cmd decider.Command, c *intakev1.AssessCase) ([]decider.Event, error) {
	if err := cmd.Stale(Risk, c.GetSeenRevision()); err != nil {
		return nil, err
	}
	ch, version := d.assessed(s, c.GetRiskLevel(), occurredAt(c), cmd.At)
	return s.once(cmd, "assessment_id", c.GetAssessmentId(), by(version, cmd, &intakev1.AssessmentCompleted{
		AssessmentId: c.GetAssessmentId(), RiskLevel: c.GetRiskLevel(), PreviousRiskLevel: s.risk, RiskReason: c.GetRiskReason(), Note: cmd.Sealed["note"],
		DeadlinesSet: ch.set, DeadlinesMet: ch.met, DeadlinesWithdrawn: ch.withdrawn,
	}))
}

func assignWorker(s State, cmd decider.Command, c *intakev1.AssignCaseWorker) ([]decider.Event, error) {
	if s.workerID == c.GetWorkerId() {
		return nil, nil
	}
	if err := cmd.Stale(Worker, c.GetSeenRevision()); err != nil {
		return nil, err
	}
	return s.restate(cmd, &intakev1.CaseWorkerAssigned{WorkerId: c.GetWorkerId(), FromWorkerId: s.workerID})
}

func handOver(s State, cmd decider.Command, c *intakev1.HandOverCases) ([]decider.Event, error) {
	if err := s.CheckHandOver(c.GetFromWorkerId(), c.GetWorkerId()); err != nil {
		return nil, err
	}
	if s.workerID == c.GetWorkerId() {
		return nil, nil
	}
	return s.restate(cmd, &intakev1.CaseWorkerAssigned{WorkerId: c.GetWorkerId(), FromWorkerId: s.workerID})
}

func proposeReferral(s State, cmd decider.Command, c *intakev1.ProposeReferral) ([]decider.Event, error) {
	if _, there := s.referrals[c.GetReferralId()]; there {
		return nil, Recorded("referral_id")
	}
	return s.restate(cmd, &intakev1.ReferralProposed{
		ReferralId: c.GetReferralId(), ToOrg: c.GetToOrg(), SupportKind: c.GetSupportKind(), Note: cmd.Sealed["note"],
	})
}

func answerReferral(s State, cmd decider.Command, c *intakev1.AnswerReferral) ([]decider.Event, error) {
	r, there := s.referrals[c.GetReferralId()]
	const (
		proposed = intakev1.ReferralState_REFERRAL_STATE_PROPOSED
		accepted = intakev1.ReferralState_REFERRAL_STATE_ACCEPTED
		rejected = intakev1.ReferralState_REFERRAL_STATE_REJECTED
		done     = intakev1.ReferralState_REFERRAL_STATE_DONE
		revoked  = intakev1.ReferralState_REFERRAL_STATE_REVOKED
	)
	to := c.GetReferralState()
	switch {
	case !there:
		return nil, ErrNoReferral
	case r.state == to:
		return nil, nil
	case r.state == proposed && (to == accepted || to == rejected || to == revoked), r.state == accepted && (to == done || to == revoked):
		return s.restate(cmd, &intakev1.ReferralAnswered{ReferralId: c.GetReferralId(), ToOrg: r.to, SupportKind: r.kind, ReferralState: to})
	default:
		return nil, ErrReferralState
	}
}

func (d decisions) recordFollowUp(s State, cmd decider.Command, c *intakev1.RecordFollowUp) ([]decider.Event, error) {
	at := occurredAt(c)
	switch {
	case s.closed && !at.Before(s.closedAt):
		return nil, ErrClosed
	case !s.about(c):
		return nil, ErrOtherChild
	case at.Before(s.openedAt):
		return nil, ErrBeforeOpening
	case c.GetNextDueAt() != nil && !c.GetNextDueAt().AsTime().After(at):
		return nil, ErrNextDue
	}
	ch, version := d.followedUp(s, c, cmd.At)
	e := &intakev1.FollowUpRecorded{
		FollowUpId: c.GetFollowUpId(), Channel: c.GetChannel(), Note: cmd.Sealed["note"], FollowUpOutcome: c.GetFollowUpOutcome(),
		DeadlinesSet: ch.set, DeadlinesMet: ch.met, DeadlinesWithdrawn: ch.withdrawn,
	}
	if s.special && s.followUps == 0 {
		e.CountsSpecial, e.CountsOn = true, decider.Day(later(at, s.flaggedAt))
	}
	return s.once(cmd, "follow_up_id", c.GetFollowUpId(), by(version, cmd, e))
}

// noteService notes a step of a service that names the case. It may come after the closing, and steps may come in any order.
func noteService(s State, cmd decider.Command, c *intakev1.NoteCaseService) ([]decider.Event, error) {
	switch {
	case !s.about(c):
		return nil, ErrOtherChild
	case s.recorded[step(c)]:
		return nil, nil
	}
	e := &intakev1.CaseServiceNoted{SupportId: c.GetSupportId(), SupportKind: c.GetSupportKind(), ServiceStep: c.GetServiceStep()}
	if begun(c.GetServiceStep()) {
		e.DeadlinesMet = s.deadlines.Open(service)
	}
	return s.restate(cmd, e)
}

func closeCase(s State, cmd decider.Command, c *intakev1.CloseCase) ([]decider.Event, error) {
	switch {
	case s.closed && s.closeReason == c.GetCloseReason():
		return nil, nil
	case s.closed:
		return nil, ErrClosed
	case occurredAt(c).Before(s.takenUpAt):
		return nil, ErrBeforeOpening
	}
	return s.restate(cmd, &intakev1.CaseClosed{
		CloseReason: c.GetCloseReason(), Special: s.special, AgreedBy: c.GetAgreedBy(), DeadlinesWithdrawn: s.deadlines.Open(),
	})
}

func (d decisions) reopen(s State, cmd decider.Command, c *intakev1.ReopenCase) ([]decider.Event, error) {
	at := occurredAt(c)
	switch {
	case !s.closed:
		return nil, ErrNotClosed
	case at.Before(s.closedAt):
		return nil, ErrBeforeClosing
	}
	worker := c.GetWorkerId()
	if worker == "" {
		worker = c.GetProvenance().GetPerformedBy()
	}
	s.reached, s.served = false, false // somebody has to look after the child anew
	set, version := d.demanded(s, s.risk, at, cmd.At)
	return s.restate(cmd, by(version, cmd, &intakev1.CaseReopened{
		WorkerId: worker, ReopenReason: c.GetReopenReason(), Special: s.special, DeadlinesSet: set,
	}))
}

func passDeadline(s State, cmd decider.Command, c *intakev1.PassDeadline) ([]decider.Event, error) {
	d, err := s.deadlines.Pass(c.GetDeadlineId(), cmd.At)
	if err != nil || d == nil {
		return nil, err
	}
	return s.restate(cmd, &intakev1.DeadlineMissed{Provenance: deadline.MissedBy(cmd, d), Deadline: d})
}
