// Package outreach is visits, SMS reminders, deliveries of protective items and service supports.
package outreach

import (
	"context"

	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/delivery"
	"tongan.dev/services/outreach/internal/reminder"
	"tongan.dev/services/outreach/internal/support"
	"tongan.dev/services/outreach/internal/visitlog"
)

// Config is what the service is told beside serve.Config.
type Config struct {
	MasterKey seal.File `embed:""`
}

// Folds say how the aggregates of the service's stream are folded.
func Folds() eventlog.Folds {
	return eventlog.Folds{
		visitlog.Aggregate: visitlog.Decider.Begin, reminder.Aggregate: reminder.Decider.Begin,
		delivery.Aggregate: delivery.Decider.Begin, support.Aggregate: support.Decider.Begin,
	}
}

// Run offers the service's commands and hands queued reminders to the gateway until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, cfg Config) error {
	if err := serve.Ready(ctx, rt, subject.Outreach); err != nil {
		return err
	}
	box, err := cfg.MasterKey.Box(ctx, rt.JS)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return runGateway(ctx, rt, LogGateway{rt.Log}) })
	g.Go(func() error {
		return serve.Run(ctx, rt, subject.Outreach, "visits, reminders, deliveries and service supports", endpoints(rt, box))
	})
	return g.Wait()
}

func endpoints(rt *serve.Runtime, box *seal.Box) []serve.Endpoint {
	visits := eventlog.New(rt.JS, visitlog.Aggregate, rt.Log)
	reminders := eventlog.New(rt.JS, reminder.Aggregate, rt.Log)
	deliveries := eventlog.New(rt.JS, delivery.Aggregate, rt.Log)
	supports := eventlog.New(rt.JS, support.Aggregate, rt.Log)
	return []serve.Endpoint{
		serve.Command(visits, visitlog.Decider, "record", visitlog.RecordID,
			serve.Creates((*outreachv1.RecordVisit).GetVisitId), serve.Seals[*outreachv1.RecordVisit](box, seal.ChildKey)),
		serve.Command(visits, visitlog.Decider, "void", visitlog.VoidID).WhenFull(),
		serve.Command(reminders, reminder.Decider, "queue", (*outreachv1.QueueReminders).GetBatchId,
			serve.Creates((*outreachv1.QueueReminders).GetBatchId), serve.Prepare(countSegments),
			serve.Seals[*outreachv1.QueueReminders](box, seal.ChildKey)),
		serve.Command(reminders, reminder.Decider, "accept", (*outreachv1.AcceptReminder).GetBatchId),
		serve.Command(reminders, reminder.Decider, "confirm-delivery", (*outreachv1.ConfirmReminderDelivery).GetBatchId),
		serve.Command(reminders, reminder.Decider, "fail", (*outreachv1.FailReminder).GetBatchId),
		serve.Command(deliveries, delivery.Decider, "request", (*outreachv1.RequestDelivery).GetDeliveryId,
			serve.Creates((*outreachv1.RequestDelivery).GetDeliveryId)),
		serve.Command(deliveries, delivery.Decider, "dispatch", (*outreachv1.DispatchDelivery).GetDeliveryId),
		serve.Command(deliveries, delivery.Decider, "confirm-receipt", (*outreachv1.ConfirmDeliveryReceipt).GetDeliveryId),
		serve.Command(supports, support.Decider, "request", (*outreachv1.RequestSupport).GetSupportId,
			serve.Creates((*outreachv1.RequestSupport).GetSupportId)),
		serve.Command(supports, support.Decider, "begin", (*outreachv1.BeginSupport).GetSupportId),
		serve.Command(supports, support.Decider, "end", (*outreachv1.EndSupport).GetSupportId),
	}
}
