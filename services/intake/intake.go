// Package intake is the child registry, the 24-hour hotline and protection cases.
package intake

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
	"tongan.dev/services/intake/internal/hotline"
	"tongan.dev/services/intake/internal/protection"
)

// Config is what the service is told beside serve.Config.
type Config struct {
	MasterKey seal.File `embed:""`
}

// Run offers the service's commands and queries until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, cfg Config) error {
	box, err := cfg.MasterKey.Box(ctx, rt.JS)
	if err != nil {
		return err
	}
	if _, err := eventlog.Created(ctx, rt.JS, subject.Intake); err != nil {
		return err
	}
	return serve.Run(ctx, rt, subject.Intake, "child registry, hotline and protection cases", endpoints(rt, box))
}

// ChildSubject answers intakev1.GetChild with intakev1.Child.
var ChildSubject = child.Aggregate.Query("get")

func endpoints(rt *serve.Runtime, box *seal.Box) []serve.Endpoint {
	children := eventlog.New(rt.JS, child.Aggregate, rt.Log)
	contacts := eventlog.New(rt.JS, hotline.Aggregate, rt.Log)
	cases := eventlog.New(rt.JS, protection.Aggregate, rt.Log)
	return []serve.Endpoint{
		serve.Command(children, child.Decider, "register", (*intakev1.RegisterChild).GetChildId,
			serve.Creates((*intakev1.RegisterChild).GetChildId), serve.Seals[*intakev1.RegisterChild](box, seal.ChildKey)),
		serve.Command(contacts, hotline.Decider, "receive", (*intakev1.ReceiveHotlineContact).GetContactId,
			serve.Creates((*intakev1.ReceiveHotlineContact).GetContactId), serve.Seals[*intakev1.ReceiveHotlineContact](box, contactKey)),
		serve.Command(cases, protection.Decider, "open", (*intakev1.OpenCase).GetCaseId,
			serve.Creates((*intakev1.OpenCase).GetCaseId), serve.Seals[*intakev1.OpenCase](box, seal.ChildKey)),
		serve.Command(cases, protection.Decider, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
		serve.Command(cases, protection.Decider, "follow-up", (*intakev1.RecordFollowUp).GetCaseId,
			serve.Creates((*intakev1.RecordFollowUp).GetFollowUpId), serve.Seals[*intakev1.RecordFollowUp](box, seal.ChildKey)),
		serve.Command(cases, protection.Decider, "close", (*intakev1.CloseCase).GetCaseId),
		serve.Query(protection.Aggregate.Query("get"), func(ctx context.Context, q *intakev1.GetCase) (*intakev1.Case, error) {
			return getCase(ctx, cases, q)
		}),
		serve.Query(ChildSubject, func(ctx context.Context, q *intakev1.GetChild) (*intakev1.Child, error) {
			return getChild(ctx, rt, children, box, q)
		}),
	}
}

// contactKey gives a contact a key of its own: there may be no child yet.
func contactKey(parent proto.Message) string {
	return "contact-" + parent.(*intakev1.ReceiveHotlineContact).GetContactId()
}

func getCase(ctx context.Context, cases *eventlog.Log, q *intakev1.GetCase) (*intakev1.Case, error) {
	f, err := decider.Load(ctx, cases, protection.Decider, q.GetCaseId())
	if err != nil {
		return nil, err
	}
	if f.Revision == 0 {
		return nil, protection.ErrNotOpened
	}
	return f.State.View(q.GetCaseId(), f.Revision), nil
}

// getChild opens the seal for a caller who may act in the child's district. That it was opened is on the audit trail before it is.
func getChild(ctx context.Context, rt *serve.Runtime, children *eventlog.Log, box *seal.Box, q *intakev1.GetChild) (*intakev1.Child, error) {
	f, err := decider.Load(ctx, children, child.Decider, q.GetChildId())
	if err != nil {
		return nil, err
	}
	if f.Revision == 0 {
		return nil, child.ErrNotRegistered
	}
	caller, view := serve.CallerOf(ctx), f.State.View(q.GetChildId(), f.Revision)
	if err := caller.Covers(view.GetAdmCode(), ""); err != nil {
		return nil, err
	}
	err = access.Record(ctx, rt.JS, caller.ID, &auditv1.SealOpened{
		Provenance: access.Provenance(caller, rt.Clock.Now(), q.GetReason()), ChildId: q.GetChildId(), Subject: ChildSubject,
	})
	if err != nil {
		return nil, err
	}
	view.Details = &intakev1.ChildDetails{}
	return view, box.Open(ctx, children.Key(q.GetChildId()), "details", f.State.Details(), view.GetDetails())
}
