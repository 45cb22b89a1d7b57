package support_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach/internal/support"
)

const (
	meals  = outreachv1.SupportKind_SUPPORT_KIND_MEALS
	orphan = eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN
)

// What the rows are given; the child lives in 440705, while commands come from 440703.
var (
	requested = &outreachv1.ServiceSupportRequested{
		SupportId: "s1", Kind: meals, ChildId: "ch1", Category: orphan, CaseId: "c1", ProviderOrg: "o1", AdmCode: "440705",
	}
	begun = &outreachv1.ServiceSupportBegun{
		Provenance: &eventv1.Provenance{OccurredAt: timestamppb.New(time.Date(2020, 2, 5, 4, 0, 0, 0, time.UTC))},
		SupportId:  "s1",
	}
	ended = &outreachv1.ServiceSupportEnded{SupportId: "s1"}
)

func TestRequesting(t *testing.T) {
	t.Parallel()
	due := timestamppb.New(time.Date(2020, 2, 5, 4, 0, 0, 0, time.UTC))
	request := decidertest.Command("2020-02-04T02:00:00Z", "s1", &outreachv1.RequestSupport{
		SupportId: "s1", Kind: meals, ChildId: "ch1", Category: orphan, CaseId: "c1", ProviderOrg: "o1", DueAt: due,
	})
	decidertest.Run(t, support.Decider, []decidertest.Row{
		{
			Name: "a support is requested in the child's district",
			When: request,
			Then: []decider.Event{&outreachv1.ServiceSupportRequested{
				Provenance: request.Provenance(), SupportId: "s1", Kind: meals, ChildId: "ch1", Category: orphan, CaseId: "c1",
				ProviderOrg: "o1", AdmCode: "440703", DueAt: due,
			}},
		},
		{Name: "a support is requested once", Given: []decider.Event{requested}, When: request, Err: support.ErrRequested},
	})
}

func TestBeginning(t *testing.T) {
	t.Parallel()
	begin := decidertest.Command("2020-02-05T04:00:00Z", "k2", &outreachv1.BeginSupport{SupportId: "s1"})
	decidertest.Run(t, support.Decider, []decidertest.Row{
		{
			Name:  "a requested support begins, restated",
			Given: []decider.Event{requested},
			When:  begin,
			Then: []decider.Event{&outreachv1.ServiceSupportBegun{
				Provenance: begin.Provenance(), SupportId: "s1", Kind: meals, ChildId: "ch1", Category: orphan, CaseId: "c1",
				ProviderOrg: "o1", AdmCode: "440705",
			}},
		},
		{Name: "beginning twice is silent", Given: []decider.Event{requested, begun}, When: begin},
		{Name: "beginning again after the end is silent", Given: []decider.Event{requested, begun, ended}, When: begin},
		{Name: "a support never requested does not begin", When: begin, Err: support.ErrNotRequested},
	})
}

func TestEnding(t *testing.T) {
	t.Parallel()
	end := func(at string) decider.Command {
		return decidertest.Command(at, "k3", &outreachv1.EndSupport{SupportId: "s1"})
	}
	then := func(at string) []decider.Event {
		return []decider.Event{&outreachv1.ServiceSupportEnded{
			Provenance: end(at).Provenance(), SupportId: "s1", Kind: meals, ChildId: "ch1", Category: orphan, CaseId: "c1",
			ProviderOrg: "o1", AdmCode: "440705",
		}}
	}
	decidertest.Run(t, support.Decider, []decidertest.Row{
		{
			Name:  "a support that began ends, restated",
			Given: []decider.Event{requested, begun},
			When:  end("2020-02-05T05:00:00Z"),
			Then:  then("2020-02-05T05:00:00Z"),
		},
		{
			Name:  "a support may end at the moment it began",
			Given: []decider.Event{requested, begun},
			When:  end("2020-02-05T04:00:00Z"),
			Then:  then("2020-02-05T04:00:00Z"),
		},
		{
			Name:  "a support does not end before it began",
			Given: []decider.Event{requested, begun},
			When:  end("2020-02-05T03:59:59Z"),
			Err:   support.ErrBeforeBeginning,
		},
		{Name: "ending twice is silent", Given: []decider.Event{requested, begun, ended}, When: end("2020-02-06T05:00:00Z")},
		{
			Name:  "a support that never began does not end",
			Given: []decider.Event{requested},
			When:  end("2020-02-05T05:00:00Z"),
			Err:   support.ErrNotBegun,
		},
		{Name: "a support never requested does not end", When: end("2020-02-05T05:00:00Z"), Err: support.ErrNotBegun},
	})
}

func TestSupportProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.SampledFrom([]decider.Event{
		&outreachv1.RequestSupport{SupportId: "s1", Kind: meals, ChildId: "ch1", ProviderOrg: "o1"},
		&outreachv1.BeginSupport{SupportId: "s1"},
		&outreachv1.EndSupport{SupportId: "s1"},
	})
	decidertest.Property(t, support.Decider, commands, inOrderOnce,
		&outreachv1.ServiceSupportRequested{}, &outreachv1.ServiceSupportBegun{}, &outreachv1.ServiceSupportEnded{})
}

// inOrderOnce holds if a support is requested, begins and ends, each at most once, in this order, and not before it began.
func inOrderOnce(events []decider.Event) error {
	var order string
	for _, e := range events {
		switch e.(type) {
		case *outreachv1.ServiceSupportRequested:
			order += "r"
		case *outreachv1.ServiceSupportBegun:
			order += "b"
		case *outreachv1.ServiceSupportEnded:
			order += "e"
		}
	}
	switch order {
	case "", "r", "rb":
		return nil
	case "rbe":
		if occurredAt(events[2]).Before(occurredAt(events[1])) {
			return fmt.Errorf("ended before it began")
		}
		return nil
	}
	return fmt.Errorf("order of events is %s", order)
}

func occurredAt(e decider.Event) time.Time { return e.GetProvenance().GetOccurredAt().AsTime() }
