package hotline_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/hotline"
)

// A contact is received first and once, and closed once; of call backs one is owed at a time, and none when it is closed; what it was said
// to be about before is what it was said to be about last.
func TestContactProperty(t *testing.T) {
	t.Parallel()
	decidertest.Property(t, hotline.Decider, rapid.Custom(drawCommand), contactHolds,
		&intakev1.HotlineContactReceived{}, &intakev1.HotlineContactClassified{}, &intakev1.HotlineContactLinked{}, &intakev1.ContactActionRecorded{},
		&intakev1.CallBackPromised{}, &intakev1.CallBackRecorded{}, &intakev1.HotlineContactHandedOver{}, &intakev1.HotlineContactClosed{},
		&intakev1.DeadlineMissed{})
}

func drawCommand(t *rapid.T) decider.Event {
	// Around the minutes at which the commands are sent.
	minute := timestamppb.New(time.Date(2020, 2, 1, 8, rapid.IntRange(0, 12).Draw(t, "minute"), 0, 0, time.UTC))
	someChild := rapid.SampledFrom([]string{"ch1", "ch2", "ch3"})
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0, 1:
		c := &intakev1.ReceiveHotlineContact{ContactId: "hc1", ContactType: rapid.SampledFrom([]intakev1.ContactType{0, child}).Draw(t, "type")}
		if rapid.Bool().Draw(t, "rings") {
			c.RangAt = minute
		}
		if rapid.Bool().Draw(t, "about") {
			c.ChildId = someChild.Draw(t, "child")
		}
		return c
	case 2:
		return &intakev1.ClassifyHotlineContact{
			ContactId: "hc1", ContactType: rapid.SampledFrom([]intakev1.ContactType{child, aboutChild, nonCounselling}).Draw(t, "type"),
		}
	case 3:
		return &intakev1.LinkHotlineContact{ContactId: "hc1", ChildIds: rapid.SliceOfNDistinct(someChild, 1, 3, rapid.ID[string]).Draw(t, "children")}
	case 4:
		return &intakev1.RecordContactAction{ContactId: "hc1", ContactAction: counselled}
	case 5:
		return &intakev1.PromiseCallBack{ContactId: "hc1", DueAt: minute}
	case 6:
		return &intakev1.RecordCallBack{ContactId: "hc1", Reached: rapid.Bool().Draw(t, "reached")}
	case 7:
		return &intakev1.HandOverContact{ContactId: "hc1", ToOrg: rapid.SampledFrom([]string{"org-a", "org-b"}).Draw(t, "org")}
	case 8:
		return &intakev1.CloseHotlineContact{
			ContactId: "hc1", ContactOutcome: rapid.SampledFrom([]intakev1.ContactOutcome{answered, handedOver, caseOpened}).Draw(t, "outcome"),
		}
	default:
		return &intakev1.PassDeadline{DeadlineId: fmt.Sprintf("call-back-%d", rapid.IntRange(1, 3).Draw(t, "number"))}
	}
}

func contactHolds(events []decider.Event) error {
	var ended bool
	var kind intakev1.ContactType
	var children, owed, said []string
	for i, e := range events {
		_, first := e.(*intakev1.HotlineContactReceived)
		_, called := e.(*intakev1.CallBackRecorded)
		switch {
		case first != (i == 0):
			return fmt.Errorf("event %d is %T", i, e)
		case ended && !called:
			return fmt.Errorf("%T after closing", e)
		}
		switch e := e.(type) {
		case *intakev1.HotlineContactReceived:
			kind = e.GetContactType()
			if e.GetChildId() != "" {
				children = append(children, e.GetChildId())
			}
		case *intakev1.HotlineContactClassified:
			if e.GetPreviousContactType() != kind {
				return fmt.Errorf("it was said to be %v before, not %v", kind, e.GetPreviousContactType())
			}
			kind = e.GetContactType()
		case *intakev1.HotlineContactLinked:
			children = append(children, e.GetChildIds()...)
			if slices.Sort(children); len(slices.Compact(slices.Clone(children))) != len(children) {
				return fmt.Errorf("it is about %v", children)
			}
		case *intakev1.DeadlineMissed:
			if id := e.GetDeadline().GetDeadlineId(); !slices.Contains(owed, id) || slices.Contains(said, id) {
				return fmt.Errorf("%s was missed, of %v, after %v", id, owed, said)
			}
			said = append(said, e.GetDeadline().GetDeadlineId())
		case *intakev1.HotlineContactClosed:
			ended = true
		}
		if owed = after(owed, e); len(owed) > 1 || ended && len(owed) > 0 {
			return fmt.Errorf("owed are %v", owed)
		}
	}
	return nil
}

// after returns the call backs that are owed after an event.
func after(owed []string, e decider.Event) []string {
	var gone []*intakev1.Deadline
	switch e := e.(type) {
	case *intakev1.CallBackPromised:
		gone = e.GetDeadlinesWithdrawn()
	case *intakev1.CallBackRecorded:
		gone = e.GetDeadlinesMet()
	case *intakev1.HotlineContactClosed:
		gone = e.GetDeadlinesWithdrawn()
	}
	for _, d := range gone {
		owed = slices.DeleteFunc(slices.Clone(owed), func(id string) bool { return id == d.GetDeadlineId() })
	}
	if p, is := e.(*intakev1.CallBackPromised); is {
		for _, d := range p.GetDeadlinesSet() {
			owed = append(owed, d.GetDeadlineId())
		}
	}
	return owed
}
