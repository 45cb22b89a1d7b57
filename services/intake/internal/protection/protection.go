// Package protection is one protection case of a child (保护个案), in six steps: opened, assessed, planned, served and referred, followed up
// and reviewed, closed.
//
// Commands: OpenCase, FlagCaseSpecial, AssessCase, ApproveCasePlan, AssignCaseWorker, HandOverCases, ProposeReferral, AnswerReferral,
// ArrangeTemporaryCare, RecordFollowUp, ReviewCase, CloseCase, ReopenCase; of the service itself NoteCaseService and PassDeadline.
// Events: one for each in the past tense; AssessmentCompleted, ReferralAnswered, CaseServiceNoted, DeadlineMissed.
//
// Rules:
//   - A case is opened once, and everything else comes after that. Closed, it is taken up again only by reopening.
//   - Nothing about a case happened before it was opened, and nobody reopens it before it was closed (发生时间). A follow-up that happened
//     while the case was open may be entered after it was closed.
//   - It has an owner at every moment: who opens it unless somebody is named, then whom it is assigned to.
//   - Risk and owner are contested: a change names the revision it was decided on, and a stale one is told who changed it and when.
//   - A case becomes special once and for ever, while it is open. It counts from the first moment at which it is both special and followed
//     up: counts_special is true on that one event and on no other.
//   - What a risk demands, by the rules of the day it was assessed, are deadlines; see deadlines.go.
//   - A plan, assessment, review, arrangement, follow-up or referral is recorded once under its id; a referral is accepted, rejected or
//     revoked, and done or revoked once it was accepted.
package protection

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/intake/internal/deadline"
	"tongan.dev/services/intake/internal/rules"
)

// Aggregate is the case; its id is case_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "case"}

var (
	// ErrOpened is returned when the case has been opened before by another command.
	ErrOpened = decider.Refuse("case_id", "was opened already")
	// ErrNotOpened is returned when something is to be done with a case that was never opened.
	ErrNotOpened = decider.Refuse("case_id", "was never opened")
	// ErrClosed is returned when something is to be done with a closed case.
	ErrClosed = decider.Refuse("case_id", "is closed")
	// ErrNotClosed is returned when a case that is open is to be reopened.
	ErrNotClosed = decider.Refuse("case_id", "is not closed")
	// ErrOtherChild is returned when a command names a child that is not the case's.
	ErrOtherChild = decider.Refuse("child_id", "is not the child of this case")
	// ErrBeforeOpening is returned when something happened before the case was opened.
	ErrBeforeOpening = decider.Refuse("provenance.occurred_at", "must not lie before the opening of the case")
	// ErrBeforeClosing is returned when a case is to be reopened before it was closed.
	ErrBeforeClosing = decider.Refuse("provenance.occurred_at", "must not lie before the closing of the case")
	// ErrNextDue is returned when the next follow-up would be due before this one happened.
	ErrNextDue = decider.Refuse("next_due_at", "must lie after this follow-up")
	// ErrNotTheirs is returned when a case is to be handed over by somebody who does not own it.
	ErrNotTheirs = decider.Refuse("from_worker_id", "does not own this case")
	// ErrNoReferral is returned when a referral that was never proposed is answered.
	ErrNoReferral = decider.Refuse("referral_id", "was never proposed")
	// ErrReferralState is returned when a referral is not where it could come to the state.
	ErrReferralState = decider.Refuse("referral_state", "does not follow on the state the referral is in")
)

// Recorded is the refusal of what has been recorded before under the same id by another command; field is the id's name.
func Recorded(field string) error { return decider.Refuse(field, "was recorded already") }

// Contested fields.
const (
	// Risk is how much the child is at risk.
	Risk = "risk_level"
	// Worker is who owns the case.
	Worker = "worker_id"
)

// State is what decisions and queries about a case need to know.
type State struct {
	opened, special, closed        bool
	reached, served                bool      // since it was opened, or reopened last
	openedAt, takenUpAt, closedAt  time.Time // takenUpAt is when it was opened, or reopened last
	flaggedAt                      time.Time
	firstFollowedUpAt, lastReached time.Time
	caseID, childID, admCode       string
	category                       eventv1.PopulationCategory
	closeReason                    intakev1.CaseCloseReason
	risk                           intakev1.RiskLevel
	workerID                       string
	followUps                      int
	recorded                       map[string]bool // what was recorded once, by the name of its id and the id
	referrals                      map[string]referral
	deadlines                      deadline.Set
	notes                          []Note
}

type referral struct {
	to    string
	kind  outreachv1.SupportKind
	state intakev1.ReferralState
}

// Note is a sealed note, and the event whose field note it is.
type Note struct {
	Event  decider.Event
	Sealed *eventv1.Sealed
}

// Notes are the notes of the case, oldest first.
func (s State) Notes() []Note { return s.notes }

// View returns the case as the query answers it, without notes; revision is the sequence of its last event.
func (s State) View(id string, revision uint64) *intakev1.Case {
	return &intakev1.Case{
		CaseId: id, Revision: revision, ChildId: s.childID, Category: s.category, AdmCode: s.admCode, Special: s.special,
		FollowUps: uint32(s.followUps), Closed: s.closed, CloseReason: s.closeReason, WorkerId: s.workerID, RiskLevel: s.risk,
		Deadlines: s.deadlines.Open(), MissedDeadlineIds: s.deadlines.Missed(),
	}
}

// CheckHandOver reports why the case cannot be handed over from one worker to another; nil if it can, or was already.
func (s State) CheckHandOver(from, to string) error {
	switch {
	case !s.opened:
		return ErrNotOpened
	case s.closed:
		return ErrClosed
	case s.workerID != from && s.workerID != to:
		return ErrNotTheirs
	}
	return nil
}

// New returns the decider about one case, by rules.
func New(r rules.Rules) decider.Decider[State] {
	return decider.Decider[State]{Decide: decisions{r}.decide, Evolve: evolve, Contested: contested}
}

// contested names the contested field that an event changes.
func contested(e decider.Event) string {
	switch e.(type) {
	case *intakev1.AssessmentCompleted:
		return Risk
	case *intakev1.CaseOpened, *intakev1.CaseReopened, *intakev1.CaseWorkerAssigned:
		return Worker
	default:
		return ""
	}
}

func evolve(s State, e decider.Event) (State, bool) {
	at := occurredAt(e)
	switch e := e.(type) {
	case *intakev1.CaseOpened:
		s.opened, s.openedAt, s.takenUpAt = true, at, at
		s.caseID, s.childID, s.category, s.admCode = e.GetCaseId(), e.GetChildId(), e.GetCategory(), e.GetProvenance().GetAdmCode()
		if s.workerID = e.GetWorkerId(); s.workerID == "" { // an event of before the field
			s.workerID = e.GetProvenance().GetPerformedBy()
		}
	case *intakev1.CaseFlaggedSpecial:
		s.special, s.flaggedAt = true, at
	case *intakev1.AssessmentCompleted:
		s.risk = e.GetRiskLevel()
		s.recorded = with(s.recorded, "assessment_id "+e.GetAssessmentId(), true)
	case *intakev1.CasePlanApproved:
		s.recorded = with(s.recorded, "plan_id "+e.GetPlanId(), true)
	case *intakev1.CaseReviewed:
		s.recorded = with(s.recorded, "review_id "+e.GetReviewId(), true)
	case *intakev1.CaseWorkerAssigned:
		s.workerID = e.GetWorkerId()
	case *intakev1.CaseServiceNoted:
		s.recorded = with(s.recorded, step(e), true)
		s.served = s.served || begun(e.GetServiceStep())
	case *intakev1.TemporaryCareArranged:
		s.recorded = with(s.recorded, "arrangement_id "+e.GetArrangementId(), true)
		s.served = true
	case *intakev1.ReferralProposed:
		s.referrals = with(s.referrals, e.GetReferralId(), referral{e.GetToOrg(), e.GetSupportKind(), intakev1.ReferralState_REFERRAL_STATE_PROPOSED})
	case *intakev1.ReferralAnswered:
		s.referrals = with(s.referrals, e.GetReferralId(), referral{e.GetToOrg(), e.GetSupportKind(), e.GetReferralState()})
	case *intakev1.FollowUpRecorded:
		s = s.followed(e, at)
	case *intakev1.CaseClosed:
		s.closed, s.closedAt, s.closeReason = true, at, e.GetCloseReason()
	case *intakev1.CaseReopened:
		s.closed, s.takenUpAt, s.closeReason = false, at, intakev1.CaseCloseReason_CASE_CLOSE_REASON_UNSPECIFIED
		s.reached, s.served, s.workerID = false, false, e.GetWorkerId()
	case *intakev1.DeadlineMissed:
	default:
		return s, false
	}
	s.deadlines = s.deadlines.Evolve(e)
	if n, ok := e.(interface{ GetNote() *eventv1.Sealed }); ok && n.GetNote() != nil {
		s.notes = append(slices.Clone(s.notes), Note{e, n.GetNote()})
	}
	return s, true
}

func (s State) followed(e *intakev1.FollowUpRecorded, at time.Time) State {
	if s.followUps == 0 || at.Before(s.firstFollowedUpAt) {
		s.firstFollowedUpAt = at
	}
	s.followUps++
	s.recorded = with(s.recorded, "follow_up_id "+e.GetFollowUpId(), true)
	if reaches(e.GetFollowUpOutcome()) && !at.Before(s.takenUpAt) {
		s.reached, s.lastReached = true, later(s.lastReached, at)
	}
	return s
}

// reaches reports whether a follow-up reached somebody; before outcomes were recorded, every one did.
func reaches(o intakev1.FollowUpOutcome) bool {
	return o == intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED || o == intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_UNSPECIFIED
}

// step names a step of a service.
func step(of interface {
	GetSupportId() string
	GetServiceStep() intakev1.ServiceStep
},
) string {
	return fmt.Sprint("support_id ", of.GetSupportId(), " ", of.GetServiceStep())
}

// begun reports whether a service that got to this step has begun.
func begun(s intakev1.ServiceStep) bool {
	return s == intakev1.ServiceStep_SERVICE_STEP_BEGUN || s == intakev1.ServiceStep_SERVICE_STEP_ENDED
}

// with returns a map with a key set; the map given stays as it is.
func with[V any](m map[string]V, key string, v V) map[string]V {
	out := make(map[string]V, len(m)+1)
	maps.Copy(out, m)
	out[key] = v
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// occurredAt returns when a command or an event happened.
func occurredAt(e decider.Event) time.Time { return e.GetProvenance().GetOccurredAt().AsTime() }

func unexpected(cmd decider.Command) error {
	return fmt.Errorf("protection case: unexpected command %T", cmd.Body)
}
