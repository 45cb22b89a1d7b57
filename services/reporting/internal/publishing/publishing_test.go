package publishing_test

import (
	"testing"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting/internal/publishing"
)

func TestBulletin(t *testing.T) {
	t.Parallel()
	figures := &reportingv1.Figures{
		BaselineOn: "2020-01-23", AsOf: "2020-02-04",
		Cuts:    []*reportingv1.Cut{{Stream: "TONGAN_OUTREACH", Sequence: 7}},
		Figures: []*reportingv1.Figure{{Indicator: "phone_visits", DefinitionVersion: 1, Value: 3, Unit: "人次"}},
	}
	published := &reportingv1.FigurePublished{
		BulletinId: "b1", BaselineOn: "2020-01-23", AsOf: "2020-02-04", Cuts: figures.GetCuts(), Figures: figures.GetFigures(),
	}
	decidertest.Run(t, publishing.Decider(figures), []decidertest.Row{
		{
			Name: "a bulletin publishes what was looked up for it",
			When: decidertest.Command("2020-02-04T10:00:00Z", "b1", &reportingv1.IssueBulletin{BulletinId: "b1", AsOf: "2020-02-04"}),
			Then: []decider.Event{published},
		},
		{
			Name:  "a bulletin is issued once",
			Given: []decider.Event{published},
			When:  decidertest.Command("2020-02-04T11:00:00Z", "k2", &reportingv1.IssueBulletin{BulletinId: "b1", AsOf: "2020-02-04"}),
			Err:   publishing.ErrIssued,
		},
	})
}
