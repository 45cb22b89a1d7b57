package outreach

import (
	"context"
	"fmt"
	"log/slog"
	"unicode/utf16"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/reminder"
)

// Gateway hands text messages to a carrier. What becomes of them comes back as commands (reminder.accept, confirm-delivery, fail).
type Gateway interface {
	// Submit hands a message over. It may be called more than once with the same message id, which the carrier must take as the same
	// message. Number and text are sealed; a gateway that sends opens them.
	Submit(ctx context.Context, m *outreachv1.ReminderMessage) error
}

// LogGateway sends nothing: it logs message id, number of segments and state, and nothing else.
type LogGateway struct{ Log *slog.Logger }

// Submit logs the message.
func (g LogGateway) Submit(_ context.Context, m *outreachv1.ReminderMessage) error {
	g.Log.Debug("reminder", "message", m.GetMessageId(), "segments", m.GetSegments(), "state", "submitted")
	return nil
}

// runGateway submits each message of each queued batch, at least once.
func runGateway(ctx context.Context, rt *serve.Runtime, g Gateway) error {
	queued := (&outreachv1.RemindersQueued{}).ProtoReflect().Descriptor().Name()
	return consume.Run(ctx, rt.JS, consume.Config{
		Stream:  subject.Stream(subject.Outreach),
		Durable: "outreach-gateway",
		Filters: []string{reminder.Aggregate.Event("*", queued)},
		Log:     rt.Log,
	}, func(ctx context.Context, e eventlog.Envelope) error {
		batch, ok := e.Event.(*outreachv1.RemindersQueued)
		if !ok {
			return fmt.Errorf("unexpected event %s", e.Type)
		}
		for _, m := range batch.GetMessages() {
			if err := g.Submit(ctx, m); err != nil {
				return fmt.Errorf("submit message %s: %w", m.GetMessageId(), err)
			}
		}
		return nil
	})
}

// Lengths of a text message in UCS-2 (3GPP TS 23.040): characters of a single message, and of each part of a longer one.
const (
	singleSegment = 70
	partSegment   = 67
)

// segments returns how many segments a text takes.
func segments(text string) int32 {
	units := len(utf16.Encode([]rune(text)))
	if units <= singleSegment {
		return 1
	}
	return int32((units + partSegment - 1) / partSegment)
}

// countSegments fills in what is known only while the text can be read.
func countSegments(c *outreachv1.QueueReminders) {
	for _, r := range c.GetRecipients() {
		r.Segments = segments(r.GetContent().GetText())
	}
}
