package reminder_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/reminder"
)

const (
	leftBehind = eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND
	expired    = outreachv1.ReminderFailure_REMINDER_FAILURE_EXPIRED
	rejected   = outreachv1.ReminderFailure_REMINDER_FAILURE_REJECTED
)

// What the rows are given; the child lives in 440705, while commands come from 440703.
var (
	queued = &outreachv1.RemindersQueued{BatchId: "b1", Messages: []*outreachv1.ReminderMessage{
		{MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705", Segments: 2},
	}}
	accepted  = &outreachv1.ReminderAccepted{BatchId: "b1", MessageId: "m1"}
	delivered = &outreachv1.ReminderDelivered{BatchId: "b1", MessageId: "m1"}
	failed    = &outreachv1.ReminderFailed{BatchId: "b1", MessageId: "m1", Failure: expired}
)

func TestQueueing(t *testing.T) {
	t.Parallel()
	queue := decidertest.Command("2020-02-04T02:00:00Z", "b1", &outreachv1.QueueReminders{
		BatchId: "b1", Recipients: []*outreachv1.ReminderRecipient{
			{MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705", Segments: 2},
			{MessageId: "m2", ChildId: "ch1", Category: leftBehind, AdmCode: "440705", Segments: 1},
		},
	})
	queue.Sealed = map[string]*eventv1.Sealed{
		"recipients[0].content": {KeyId: "ch1", Nonce: []byte("0")}, "recipients[1].content": {KeyId: "ch1", Nonce: []byte("1")},
	}
	decidertest.Run(t, reminder.Decider, []decidertest.Row{
		{
			Name: "a batch is queued, each message with its sealed content",
			When: queue,
			Then: []decider.Event{&outreachv1.RemindersQueued{
				Provenance: queue.Provenance(), BatchId: "b1", Messages: []*outreachv1.ReminderMessage{
					{
						MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705", Segments: 2,
						Content: &eventv1.Sealed{KeyId: "ch1", Nonce: []byte("0")},
					},
					{
						MessageId: "m2", ChildId: "ch1", Category: leftBehind, AdmCode: "440705", Segments: 1,
						Content: &eventv1.Sealed{KeyId: "ch1", Nonce: []byte("1")},
					},
				},
			}},
		},
		{Name: "a batch is queued once", Given: []decider.Event{queued}, When: queue, Err: reminder.ErrQueued},
	})
}

func TestAMessageIsInABatchOnce(t *testing.T) {
	t.Parallel()
	when := decidertest.Command("2020-02-04T02:00:00Z", "b1", &outreachv1.QueueReminders{
		BatchId: "b1", Recipients: []*outreachv1.ReminderRecipient{{MessageId: "m1"}, {MessageId: "m1"}},
	})
	decidertest.Refused(t, reminder.Decider, nil, when, "recipients[1].message_id", reminder.RuleRepeated)
}

func TestAccepting(t *testing.T) {
	t.Parallel()
	accept := decidertest.Command("2020-02-04T02:01:00Z", "k2", &outreachv1.AcceptReminder{BatchId: "b1", MessageId: "m1"})
	other := decidertest.Command("2020-02-04T02:01:00Z", "k2", &outreachv1.AcceptReminder{BatchId: "b1", MessageId: "m2"})
	decidertest.Run(t, reminder.Decider, []decidertest.Row{
		{
			Name:  "a queued message is accepted and restated",
			Given: []decider.Event{queued},
			When:  accept,
			Then: []decider.Event{&outreachv1.ReminderAccepted{
				Provenance: accept.Provenance(), BatchId: "b1", MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705",
				Segments: 2,
			}},
		},
		{Name: "accepting twice is silent", Given: []decider.Event{queued, accepted}, When: accept},
		{Name: "accepting after delivery is silent", Given: []decider.Event{queued, accepted, delivered}, When: accept},
		{Name: "a failed message is not accepted", Given: []decider.Event{queued, failed}, When: accept, Err: reminder.ErrFailed},
		{
			Name:  "a message that failed after acceptance is not accepted again",
			Given: []decider.Event{queued, accepted, failed},
			When:  accept,
			Err:   reminder.ErrFailed,
		},
		{Name: "an unknown message is not accepted", Given: []decider.Event{queued}, When: other, Err: reminder.ErrUnknownMessage},
		{Name: "a message of a batch never queued is not accepted", When: accept, Err: reminder.ErrUnknownMessage},
	})
}

func TestDelivering(t *testing.T) {
	t.Parallel()
	confirm := decidertest.Command("2020-02-04T02:02:00Z", "k3", &outreachv1.ConfirmReminderDelivery{BatchId: "b1", MessageId: "m1"})
	decidertest.Run(t, reminder.Decider, []decidertest.Row{
		{
			Name:  "an accepted message is delivered and restated",
			Given: []decider.Event{queued, accepted},
			When:  confirm,
			Then: []decider.Event{&outreachv1.ReminderDelivered{
				Provenance: confirm.Provenance(), BatchId: "b1", MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705",
			}},
		},
		{Name: "delivering twice is silent", Given: []decider.Event{queued, accepted, delivered}, When: confirm},
		{Name: "a message is not delivered before acceptance", Given: []decider.Event{queued}, When: confirm, Err: reminder.ErrNotAccepted},
		{Name: "a failed message is not delivered", Given: []decider.Event{queued, accepted, failed}, When: confirm, Err: reminder.ErrFailed},
		{Name: "an unknown message is not delivered", When: confirm, Err: reminder.ErrUnknownMessage},
	})
}

func TestFailing(t *testing.T) {
	t.Parallel()
	fail := decidertest.Command("2020-02-04T02:02:00Z", "k4", &outreachv1.FailReminder{BatchId: "b1", MessageId: "m1", Failure: rejected})
	then := []decider.Event{&outreachv1.ReminderFailed{
		Provenance: fail.Provenance(), BatchId: "b1", MessageId: "m1", ChildId: "ch1", Category: leftBehind, AdmCode: "440705",
		Failure: rejected,
	}}
	decidertest.Run(t, reminder.Decider, []decidertest.Row{
		{Name: "a queued message fails and is restated", Given: []decider.Event{queued}, When: fail, Then: then},
		{
			Name:  "a failure after acceptance takes nothing back",
			Given: []decider.Event{queued, accepted},
			When:  fail,
			Then:  then,
		},
		{Name: "failing twice is silent, whatever the cause", Given: []decider.Event{queued, failed}, When: fail},
		{
			Name:  "a delivered message does not fail",
			Given: []decider.Event{queued, accepted, delivered},
			When:  fail,
			Err:   reminder.ErrDelivered,
		},
		{Name: "an unknown message does not fail", When: fail, Err: reminder.ErrUnknownMessage},
	})
}

func TestReminderProperty(t *testing.T) {
	t.Parallel()
	ids := []string{"m1", "m2", "m3"}
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		id := rapid.SampledFrom(ids).Draw(t, "message")
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			q := &outreachv1.QueueReminders{BatchId: "b1"}
			for _, id := range append([]string{id}, ids[rapid.IntRange(0, 2).Draw(t, "others"):]...) {
				q.Recipients = append(q.Recipients, &outreachv1.ReminderRecipient{MessageId: id, ChildId: "ch1"})
			}
			return q
		case 1, 2:
			return &outreachv1.AcceptReminder{BatchId: "b1", MessageId: id}
		case 3:
			return &outreachv1.FailReminder{BatchId: "b1", MessageId: id, Failure: expired}
		default:
			return &outreachv1.ConfirmReminderDelivery{BatchId: "b1", MessageId: id}
		}
	})
	decidertest.Property(t, reminder.Decider, commands, legalLife,
		&outreachv1.RemindersQueued{}, &outreachv1.ReminderAccepted{}, &outreachv1.ReminderDelivered{}, &outreachv1.ReminderFailed{})
}

// legalLife holds if each message goes queued, accepted, delivered or failed, or queued, failed.
func legalLife(events []decider.Event) error {
	life := map[string]string{}
	for i, e := range events {
		switch e := e.(type) {
		case *outreachv1.RemindersQueued:
			if i != 0 {
				return fmt.Errorf("queued by event %d", i)
			}
			for _, m := range e.GetMessages() {
				life[m.GetMessageId()] += "q"
			}
		case *outreachv1.ReminderAccepted:
			life[e.GetMessageId()] += "a"
		case *outreachv1.ReminderDelivered:
			life[e.GetMessageId()] += "d"
		case *outreachv1.ReminderFailed:
			life[e.GetMessageId()] += "f"
		}
	}
	legal := map[string]bool{"q": true, "qa": true, "qad": true, "qaf": true, "qf": true}
	for id, l := range life {
		if !legal[l] {
			return fmt.Errorf("life of %s is %s", id, l)
		}
	}
	return nil
}
