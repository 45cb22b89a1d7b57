// Package intake is the child registry, the 24-hour hotline and protection cases.
package intake

import (
	"context"

	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
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
	numbers, err := newNumbers(ctx, box)
	if err != nil {
		return err
	}
	contacts, err := newContacts(ctx, rt, box)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return destroyKeys(ctx, rt, box, numbers, contacts) })
	g.Go(func() error {
		return serve.Run(ctx, rt, subject.Intake, "child registry, hotline and protection cases", endpoints(rt, box, numbers, contacts))
	})
	return g.Wait()
}

func endpoints(rt *serve.Runtime, box *seal.Box, numbers *numbers, contacts *contacts) []serve.Endpoint {
	cases := eventlog.New(rt.JS, protection.Aggregate, rt.Log)
	return append(append(registry(rt, box, numbers), hotlineEndpoints(rt, contacts)...),
		serve.Command(cases, protection.Decider, "open", (*intakev1.OpenCase).GetCaseId,
			serve.Creates((*intakev1.OpenCase).GetCaseId), serve.Seals[*intakev1.OpenCase](box, seal.ChildKey)),
		serve.Command(cases, protection.Decider, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
		serve.Command(cases, protection.Decider, "follow-up", (*intakev1.RecordFollowUp).GetCaseId,
			serve.Creates((*intakev1.RecordFollowUp).GetFollowUpId), serve.Seals[*intakev1.RecordFollowUp](box, seal.ChildKey)),
		serve.Command(cases, protection.Decider, "close", (*intakev1.CloseCase).GetCaseId),
		serve.Query(protection.Aggregate.Query("get"), func(ctx context.Context, q *intakev1.GetCase) (*intakev1.Case, error) {
			return getCase(ctx, cases, q)
		}),
	)
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
