package hotline_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/hotline"
)

func TestContact(t *testing.T) {
	t.Parallel()
	receive := decidertest.Command("2020-02-01T09:00:00Z", "hc1", &intakev1.ReceiveHotlineContact{
		ContactId: "hc1", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
		ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD, ChildId: "ch1",
	})
	receive.Sealed = map[string]*eventv1.Sealed{"details": {KeyId: "hc1"}}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name: "a contact is received with sealed details",
			When: receive,
			Then: []decider.Event{&intakev1.HotlineContactReceived{
				Provenance: receive.Provenance(), ContactId: "hc1", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
				ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD, ChildId: "ch1",
				Details: &eventv1.Sealed{KeyId: "hc1"},
			}},
		},
		{
			Name: "a contact may be about no known child and without details",
			When: decidertest.Command("2020-02-01T09:00:00Z", "hc2", &intakev1.ReceiveHotlineContact{
				ContactId: "hc2", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_SMS,
				ContactType: intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING,
			}),
			Then: []decider.Event{&intakev1.HotlineContactReceived{
				ContactId: "hc2", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_SMS,
				ContactType: intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING,
			}},
		},
		{
			Name:  "a contact is received once",
			Given: []decider.Event{&intakev1.HotlineContactReceived{ContactId: "hc1"}},
			When:  decidertest.Command("2020-02-01T10:00:00Z", "k2", &intakev1.ReceiveHotlineContact{ContactId: "hc1"}),
			Err:   hotline.ErrReceived,
		},
	})
}

func TestContactProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		return &intakev1.ReceiveHotlineContact{ContactId: "hc1", ChildId: rapid.SampledFrom([]string{"", "ch1"}).Draw(t, "child")}
	})
	receivedOnce := func(events []decider.Event) error {
		if len(events) > 1 {
			return fmt.Errorf("received %d times", len(events))
		}
		return nil
	}
	decidertest.Property(t, hotline.Decider, commands, receivedOnce, &intakev1.HotlineContactReceived{})
}
