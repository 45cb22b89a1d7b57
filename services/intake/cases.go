package intake

import (
	"context"
	"errors"
	"fmt"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/protection"
)

// CaseSubject answers intakev1.GetCase with intakev1.Case.
var CaseSubject = protection.Aggregate.Query("get")

// caseLog is the cases and who decides about them.
type caseLog struct {
	*eventlog.Log
	decider.Decider[protection.State]
}

func (c *caseLog) transact(ctx context.Context, id string, cmd decider.Command) (*eventv1.CommandReply, error) {
	return decider.Transact(ctx, c.Log, c.Decider, id, cmd)
}

// endpoints are the endpoints about cases.
func (c *caseLog) endpoints(rt *serve.Runtime, box *seal.Box) []serve.Endpoint {
	return []serve.Endpoint{
		serve.Command(c.Log, c.Decider, "open", (*intakev1.OpenCase).GetCaseId,
			serve.Creates((*intakev1.OpenCase).GetCaseId), serve.Seals[*intakev1.OpenCase](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
		serve.Command(c.Log, c.Decider, "assess", (*intakev1.AssessCase).GetCaseId,
			serve.Creates((*intakev1.AssessCase).GetAssessmentId), serve.Seals[*intakev1.AssessCase](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "approve-plan", (*intakev1.ApproveCasePlan).GetCaseId,
			serve.Creates((*intakev1.ApproveCasePlan).GetPlanId), serve.Seals[*intakev1.ApproveCasePlan](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "assign-worker", (*intakev1.AssignCaseWorker).GetCaseId),
		serve.Handle(c.Log, "hand-over", func(h *intakev1.HandOverCases) string { return h.GetCaseIds()[0] },
			func(ctx context.Context, _ *serve.Runtime, _ string, cmd decider.Command, h *intakev1.HandOverCases) (*eventv1.CommandReply, error) {
				return c.handOver(ctx, cmd, h)
			}),
		serve.Command(c.Log, c.Decider, "propose-referral", (*intakev1.ProposeReferral).GetCaseId,
			serve.Creates((*intakev1.ProposeReferral).GetReferralId), serve.Seals[*intakev1.ProposeReferral](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "answer-referral", (*intakev1.AnswerReferral).GetCaseId),
		serve.Command(c.Log, c.Decider, "arrange-care", (*intakev1.ArrangeTemporaryCare).GetCaseId,
			serve.Creates((*intakev1.ArrangeTemporaryCare).GetArrangementId), serve.Seals[*intakev1.ArrangeTemporaryCare](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "follow-up", (*intakev1.RecordFollowUp).GetCaseId,
			serve.Creates((*intakev1.RecordFollowUp).GetFollowUpId), serve.Seals[*intakev1.RecordFollowUp](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "review", (*intakev1.ReviewCase).GetCaseId,
			serve.Creates((*intakev1.ReviewCase).GetReviewId), serve.Seals[*intakev1.ReviewCase](box, seal.ChildKey)),
		serve.Command(c.Log, c.Decider, "close", (*intakev1.CloseCase).GetCaseId),
		serve.Command(c.Log, c.Decider, "reopen", (*intakev1.ReopenCase).GetCaseId),
		serve.Query(CaseSubject, func(ctx context.Context, q *intakev1.GetCase) (*intakev1.Case, error) { return c.get(ctx, rt, box, q) }),
	}
}

// handOver gives cases to another worker, all or none: it is refused as long as one of them cannot be. Each case is an aggregate of its own, so
// a process that ends in between leaves some of them handed over; the same command again finishes, whoever owns by then those that it gave over.
func (c *caseLog) handOver(ctx context.Context, cmd decider.Command, h *intakev1.HandOverCases) (*eventv1.CommandReply, error) {
	for i, id := range h.GetCaseIds() {
		f, err := decider.Load(ctx, c.Log, c.Decider, id)
		if err == nil && !f.Carried(cmd.ID) {
			err = errors.Join(cmd.Covers(f.AdmCode), f.State.CheckHandOver(h.GetFromWorkerId(), h.GetWorkerId()))
		}
		if refused, is := errors.AsType[*decider.Refusal](err); is {
			return nil, decider.Refuse(fmt.Sprintf("case_ids[%d]", i), refused.Error())
		}
		if err != nil {
			return nil, err
		}
	}
	all := &eventv1.CommandReply{Again: true}
	for _, id := range h.GetCaseIds() {
		reply, err := c.transact(ctx, id, cmd)
		if err != nil {
			return nil, err
		}
		all.Revision = max(all.GetRevision(), reply.GetRevision())
		all.EventIds = append(all.EventIds, reply.GetEventIds()...)
		all.Happened = all.GetHappened() || reply.GetHappened()
		all.Again = all.GetAgain() && reply.GetAgain()
	}
	return all, nil
}

// get answers a case, and its notes if a reason is given. That they were opened is on the audit trail before they are.
func (c *caseLog) get(ctx context.Context, rt *serve.Runtime, box *seal.Box, q *intakev1.GetCase) (*intakev1.Case, error) {
	f, err := decider.Load(ctx, c.Log, c.Decider, q.GetCaseId())
	if err != nil {
		return nil, err
	}
	if f.Revision == 0 {
		return nil, protection.ErrNotOpened
	}
	view := f.State.View(q.GetCaseId(), f.Revision)
	if q.GetReason() == "" || len(f.State.Notes()) == 0 {
		return view, nil
	}
	if err := serve.CallerOf(ctx).Covers(view.GetAdmCode(), ""); err != nil {
		return nil, err
	}
	if err := looks(ctx, rt, q.GetReason(), &auditv1.SealOpened{ChildId: view.GetChildId(), CaseId: q.GetCaseId(), Subject: CaseSubject}); err != nil {
		return nil, err
	}
	for _, n := range f.State.Notes() {
		note := &intakev1.CaseNote{}
		if err := box.Open(ctx, c.Key(q.GetCaseId()), "note", n.Sealed, note); errors.Is(err, seal.ErrDestroyed) {
			return view, nil // the child is forgotten, and with it every note
		} else if err != nil {
			return nil, err
		}
		p := n.Event.GetProvenance()
		view.Notes = append(view.Notes, &intakev1.RecordedNote{
			EventType: string(n.Event.ProtoReflect().Descriptor().Name()), OccurredAt: p.GetOccurredAt(), PerformedBy: p.GetPerformedBy(), Note: note,
		})
	}
	return view, nil
}
