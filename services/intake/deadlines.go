package intake

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/timer"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/hotline"
	"tongan.dev/services/intake/internal/protection"
)

// deadlines has what was not done by a deadline said. The deadlines stand in events; a timer for each is set from them, never beside them, so
// none can be lost; and whether a timer that goes off means anything is decided on the state.
type deadlines struct {
	rt       *serve.Runtime
	cases    *caseLog
	contacts *contacts
	timers   *timer.Timers
}

func newDeadlines(rt *serve.Runtime, cases *caseLog, contacts *contacts) *deadlines {
	d := &deadlines{rt: rt, cases: cases, contacts: contacts}
	d.timers = timer.New(rt.JS, rt.Clock, subject.Intake, rt.Log, d.pass)
	return d
}

// sets are the subjects of the events that set deadlines.
func sets() (filters []string) {
	events := intakev1.File_tongan_intake_v1_events_proto.Messages()
	for i := range events.Len() {
		if m := events.Get(i); m.Fields().ByName("deadlines_set") != nil {
			filters = append(filters, subject.Aggregate{Service: subject.Intake, Name: "*"}.Event("*", m.Name()))
		}
	}
	return filters
}

// set sets a timer for each deadline of each event, until ctx ends. Doing it again sets the same timer.
func (d *deadlines) set(ctx context.Context) error {
	return consume.Run(ctx, d.rt.JS, consume.Config{
		Stream: subject.Stream(subject.Intake), Durable: "intake-deadlines", Filters: sets(), Log: d.rt.Log,
		Insists: true, AckWait: 5 * time.Second, AtOnce: 16,
	}, func(ctx context.Context, e eventlog.Envelope) error {
		by, ok := e.Event.(interface{ GetDeadlinesSet() []*intakev1.Deadline })
		if !ok {
			return fmt.Errorf("unexpected event %s", e.Type)
		}
		for _, l := range by.GetDeadlinesSet() {
			if !l.GetArmed() {
				continue
			}
			t := subject.Timer{Aggregate: e.Subject.Aggregate, ID: e.Subject.ID, Name: l.GetDeadlineId()}
			if err := d.timers.Set(ctx, t, l.GetDueAt().AsTime()); err != nil {
				return err
			}
		}
		return nil
	})
}

// pass decides whether a deadline that has passed was missed.
func (d *deadlines) pass(ctx context.Context, t subject.Timer, now time.Time) error {
	command := func(admCode string) decider.Command {
		return decider.Command{At: now, ID: "missed-" + t.Name, Cause: t.Due(), Body: &intakev1.PassDeadline{
			Provenance: &eventv1.Provenance{
				OccurredAt: timestamppb.New(now), PerformedBy: subject.Micro(subject.Intake), RecordedBy: subject.Micro(subject.Intake),
				AdmCode: admCode, SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
			},
			DeadlineId: t.Name,
		}}
	}
	switch t.Aggregate {
	case protection.Aggregate:
		return pass(ctx, d.cases.Log, d.cases.Decider, t, command)
	case hotline.Aggregate:
		return pass(ctx, d.contacts, hotline.Decider, t, command)
	default:
		return &consume.Unreadable{Err: fmt.Errorf("%w: no aggregate %s has deadlines", eventlog.ErrDecode, t.Name)}
	}
}

func pass[S any](ctx context.Context, log decider.Log, by decider.Decider[S], t subject.Timer, command func(admCode string) decider.Command) error {
	f, err := decider.Load(ctx, log, by, t.ID)
	if err != nil {
		return err
	}
	_, err = decider.Transact(ctx, log, by, t.ID, command(f.AdmCode))
	return err
}
