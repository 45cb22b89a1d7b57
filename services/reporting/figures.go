package reporting

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

//go:embed figures.sql
var figuresSQL string

// figures answers from ClickHouse.
type figures struct {
	db       driver.Conn
	baseline string
}

// get returns the figures that a query asks for. The same cuts always give the same values.
func (f figures) get(ctx context.Context, q *reportingv1.GetFigures) (*reportingv1.Figures, error) {
	if err := f.checkDay(q.GetAsOf()); err != nil {
		return nil, err
	}
	cuts, err := f.cuts(ctx, q.GetCuts())
	if err != nil {
		return nil, err
	}
	indicators, err := f.indicators(ctx)
	if err != nil {
		return nil, err
	}
	values, err := f.values(ctx, q.GetAsOf(), cuts)
	if err != nil {
		return nil, err
	}
	out := &reportingv1.Figures{BaselineOn: f.baseline, AsOf: q.GetAsOf(), Grouping: q.GetGrouping(), Cuts: cuts}
	for place, value := range values {
		if place.admCode != "" && q.GetGrouping() != reportingv1.Grouping_GROUPING_DISTRICT {
			continue
		}
		def := indicators[place.indicator]
		out.Figures = append(out.Figures, &reportingv1.Figure{
			Indicator: place.indicator, DefinitionVersion: def.version, AdmCode: place.admCode, Value: value, Unit: def.unit,
		})
	}
	for name, def := range indicators {
		if _, there := values[place{name, ""}]; !there {
			out.Figures = append(out.Figures, &reportingv1.Figure{Indicator: name, DefinitionVersion: def.version, Unit: def.unit})
		}
	}
	slices.SortFunc(out.Figures, func(a, b *reportingv1.Figure) int {
		return cmp.Or(cmp.Compare(a.GetIndicator(), b.GetIndicator()), cmp.Compare(a.GetAdmCode(), b.GetAdmCode()))
	})
	return out, nil
}

// checkDay refuses what is no day, or one before the baseline.
func (f figures) checkDay(asOf string) error {
	if _, err := time.Parse(time.DateOnly, asOf); err != nil {
		return &serve.BadInput{Field: "as_of", Rule: "must be a date, YYYY-MM-DD"}
	}
	if asOf < f.baseline {
		return &serve.BadInput{Field: "as_of", Rule: "must not lie before the baseline " + f.baseline}
	}
	return nil
}

// cuts completes the cuts of a query with how far each stream is projected, one for each service. A cut that is not reached yet is
// serve.ErrNotYet: the figures would not be whole.
func (f figures) cuts(ctx context.Context, asked []*reportingv1.Cut) ([]*reportingv1.Cut, error) {
	var cuts []*reportingv1.Cut
	for _, service := range subject.Services() {
		cut := &reportingv1.Cut{Stream: subject.Stream(service)}
		// From the end: it costs the same however much the journal holds.
		const last = "SELECT max(seq) FROM (SELECT seq FROM tongan_g1.journal WHERE stream = $1 ORDER BY seq DESC LIMIT 1)"
		if err := f.db.QueryRow(ctx, last, cut.GetStream()).Scan(&cut.Sequence); err != nil {
			return nil, fmt.Errorf("%w: watermark of %s: %w", serve.ErrBackend, cut.GetStream(), err)
		}
		cuts = append(cuts, cut)
	}
	named := make(map[string]bool)
	for i, want := range asked {
		if named[want.GetStream()] {
			return nil, &serve.BadInput{Field: fmt.Sprintf("cuts[%d].stream", i), Rule: "is named twice"}
		}
		named[want.GetStream()] = true
		at := slices.IndexFunc(cuts, func(c *reportingv1.Cut) bool { return c.GetStream() == want.GetStream() })
		if at < 0 {
			return nil, &serve.BadInput{Field: fmt.Sprintf("cuts[%d].stream", i), Rule: "is not the stream of a service"}
		}
		if cuts[at].GetSequence() < want.GetSequence() {
			return nil, fmt.Errorf("%w: cuts[%d] is not projected", serve.ErrNotYet, i)
		}
		cuts[at].Sequence = want.GetSequence()
	}
	return cuts, nil
}

// definition is what counts under an indicator's name.
type definition struct {
	version int32
	unit    string
}

func (f figures) indicators(ctx context.Context) (map[string]definition, error) {
	rows, err := f.db.Query(ctx, "SELECT indicator, toInt32(max(definition_version)), toString(argMax(unit, definition_version)) FROM tongan_g1.indicators FINAL GROUP BY indicator")
	if err != nil {
		return nil, fmt.Errorf("%w: indicators: %w", serve.ErrBackend, err)
	}
	defer func() { _ = rows.Close() }()
	out := make(map[string]definition)
	for rows.Next() {
		var name string
		var d definition
		if err := rows.Scan(&name, &d.version, &d.unit); err != nil {
			return nil, fmt.Errorf("indicators: %w", err)
		}
		out[name] = d
	}
	return out, rows.Err()
}

// place is what a value is for; an empty district is the whole.
type place struct{ indicator, admCode string }

func (f figures) values(ctx context.Context, asOf string, cuts []*reportingv1.Cut) (map[place]int64, error) {
	streams, sequences := make([]string, len(cuts)), make([]uint64, len(cuts))
	for i, c := range cuts {
		streams[i], sequences[i] = c.GetStream(), c.GetSequence()
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{
		"baseline_on": f.baseline, "as_of": asOf, "streams": stringArray(streams), "sequences": numberArray(sequences),
	}))
	rows, err := f.db.Query(ctx, figuresSQL)
	if err != nil {
		return nil, fmt.Errorf("%w: figures: %w", serve.ErrBackend, err)
	}
	defer func() { _ = rows.Close() }()
	out := make(map[place]int64)
	for rows.Next() {
		var p place
		var value int64
		if err := rows.Scan(&p.indicator, &p.admCode, &value); err != nil {
			return nil, fmt.Errorf("figures: %w", err)
		}
		out[p] = value
	}
	return out, rows.Err()
}

// stringArray writes names of streams, which hold no quotes, as an array of ClickHouse.
func stringArray(names []string) string {
	if len(names) == 0 {
		return "[]"
	}
	return "['" + strings.Join(names, "','") + "']"
}

func numberArray(n []uint64) string { return strings.ReplaceAll(fmt.Sprint(n), " ", ",") }
