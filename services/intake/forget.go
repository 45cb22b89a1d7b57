package intake

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
)

// destroyKeys removes the identity number of each child that is forgotten from the index, destroys the keys of the contacts about it and its
// own, and then says so. Each step may come again: a process that ends in between is followed by one that goes on.
func destroyKeys(ctx context.Context, rt *serve.Runtime, box *seal.Box, numbers *numbers, contacts *contacts) error {
	children := eventlog.New(rt.JS, child.Aggregate, rt.Log)
	forgotten := (&intakev1.ChildForgotten{}).ProtoReflect().Descriptor().Name()
	return consume.Run(ctx, rt.JS, consume.Config{
		Stream:  subject.Stream(subject.Intake),
		Durable: "intake-forget",
		Filters: []string{child.Aggregate.Event("*", forgotten)},
		Insists: true, // a key that was promised to be destroyed must not stay because the bus was away
		Log:     rt.Log,
	}, func(ctx context.Context, e eventlog.Envelope) error {
		f, ok := e.Event.(*intakev1.ChildForgotten)
		if !ok {
			return fmt.Errorf("unexpected event %s", e.Type)
		}
		if err := numbers.index.Forget(ctx, f.GetChildId()); err != nil {
			return err
		}
		if err := contacts.destroyKeys(ctx, f.GetChildId()); err != nil {
			return err
		}
		if err := box.Destroy(ctx, f.GetKeyId()); err != nil {
			return err
		}
		now := rt.Clock.Now()
		confirm := &intakev1.ConfirmKeyDestruction{
			Provenance: &eventv1.Provenance{
				OccurredAt: timestamppb.New(now), PerformedBy: subject.Micro(subject.Intake), RecordedBy: subject.Micro(subject.Intake),
				AdmCode: f.GetProvenance().GetAdmCode(), SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
			},
			ChildId: f.GetChildId(), KeyId: f.GetKeyId(),
		}
		_, err := decider.Transact(ctx, children, child.Decider, f.GetChildId(), decider.Command{At: now, ID: e.ID, Cause: e.ID, Body: confirm})
		return err
	})
}
