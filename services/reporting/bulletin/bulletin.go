// Package bulletin writes figures as a bulletin for people (通报), as JSON, or as CSV.
package bulletin

import (
	"embed"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

// Published are the five indicators of the source's sentence, in its order.
var Published = []string{"phone_visits", "sms_reminders", "protective_items", "service_supports", "special_cases"}

//go:embed *.tmpl
var templates embed.FS

// Lang is a language a bulletin is written in.
type Lang string

// The languages.
const (
	Chinese Lang = "zh"
	English Lang = "en"
)

// districts are the names of GB/T 2260 codes that a bulletin may show; another code stands for itself.
var districts = map[string]map[Lang]string{
	"440700": {Chinese: "江门市", English: "Jiangmen"},
	"440703": {Chinese: "蓬江区", English: "Pengjiang"},
	"440704": {Chinese: "江海区", English: "Jianghai"},
	"440705": {Chinese: "新会区", English: "Xinhui"},
	"440781": {Chinese: "台山市", English: "Taishan"},
	"440783": {Chinese: "开平市", English: "Kaiping"},
	"440784": {Chinese: "鹤山市", English: "Heshan"},
	"440785": {Chinese: "恩平市", English: "Enping"},
}

// Row is one line of a bulletin's table.
type Row struct {
	Indicator, Unit string
	Value           int64
	Districts       []int64
}

// page is what a template sees.
type page struct {
	Figures   *reportingv1.Figures
	AsOf      time.Time
	Headline  []Row
	Others    []Row
	Districts []string
	Value     map[string]int64
	Draft     bool
}

// WriteText writes a bulletin for people; draft marks one that was not published.
func WriteText(w io.Writer, f *reportingv1.Figures, lang Lang, draft bool) error {
	p, err := newPage(f, lang, draft)
	if err != nil {
		return err
	}
	t, err := template.New("").Funcs(template.FuncMap{"left": left, "right": right}).ParseFS(templates, "*.tmpl")
	if err != nil {
		return fmt.Errorf("bulletin: %w", err)
	}
	if err := t.ExecuteTemplate(w, string(lang)+".tmpl", p); err != nil {
		return fmt.Errorf("bulletin: %w", err)
	}
	return nil
}

func newPage(f *reportingv1.Figures, lang Lang, draft bool) (page, error) {
	asOf, err := time.Parse(time.DateOnly, f.GetAsOf())
	if err != nil {
		return page{}, fmt.Errorf("bulletin: as_of: %w", err)
	}
	p := page{Figures: f, AsOf: asOf, Draft: draft, Value: Whole(f)}
	var codes []string
	rows := make(map[string]*Row)
	var order []string
	for _, fig := range f.GetFigures() {
		if fig.GetAdmCode() != "" && !slices.Contains(codes, fig.GetAdmCode()) {
			codes = append(codes, fig.GetAdmCode())
		}
		if rows[fig.GetIndicator()] == nil {
			rows[fig.GetIndicator()] = &Row{Indicator: fig.GetIndicator(), Unit: fig.GetUnit(), Value: p.Value[fig.GetIndicator()]}
			order = append(order, fig.GetIndicator())
		}
	}
	slices.Sort(codes)
	for _, c := range codes {
		p.Districts = append(p.Districts, districtName(c, lang))
	}
	for _, r := range rows {
		r.Districts = make([]int64, len(codes))
	}
	for _, fig := range f.GetFigures() {
		if fig.GetAdmCode() != "" {
			rows[fig.GetIndicator()].Districts[slices.Index(codes, fig.GetAdmCode())] = fig.GetValue()
		}
	}
	for _, name := range Published {
		if rows[name] == nil {
			return page{}, fmt.Errorf("bulletin: there is no figure %s", name)
		}
		p.Headline = append(p.Headline, *rows[name])
	}
	for _, name := range order {
		if !slices.Contains(Published, name) {
			p.Others = append(p.Others, *rows[name])
		}
	}
	return p, nil
}

func districtName(code string, lang Lang) string {
	if name, ok := districts[code][lang]; ok {
		return name
	}
	return code
}

// Whole returns the value of each indicator for the whole.
func Whole(f *reportingv1.Figures) map[string]int64 {
	out := make(map[string]int64)
	for _, fig := range f.GetFigures() {
		if fig.GetAdmCode() == "" {
			out[fig.GetIndicator()] = fig.GetValue()
		}
	}
	return out
}

// WriteJSON writes the figures as the JSON form of reportingv1.Figures.
func WriteJSON(w io.Writer, f *reportingv1.Figures) error {
	b, err := protojson.MarshalOptions{Multiline: true, EmitDefaultValues: true}.Marshal(f)
	if err != nil {
		return fmt.Errorf("bulletin: %w", err)
	}
	_, err = fmt.Fprintln(w, string(b))
	return err
}

// WriteCSV writes one line for each figure; an empty adm_code is the whole.
func WriteCSV(w io.Writer, f *reportingv1.Figures) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"baseline_on", "as_of", "indicator", "definition_version", "adm_code", "value", "unit"}}
	for _, fig := range f.GetFigures() {
		rows = append(rows, []string{
			f.GetBaselineOn(), f.GetAsOf(), fig.GetIndicator(), strconv.Itoa(int(fig.GetDefinitionVersion())), fig.GetAdmCode(),
			strconv.FormatInt(fig.GetValue(), 10), fig.GetUnit(),
		})
	}
	if err := c.WriteAll(rows); err != nil {
		return fmt.Errorf("bulletin: %w", err)
	}
	return nil
}

// width is how many columns a text takes in a terminal: two for each Chinese character.
func width(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r >= 0x2E80 {
			n++
		}
	}
	return n
}

// left pads a text on its right to so many columns.
func left(n int, s string) string { return s + strings.Repeat(" ", max(0, n-width(s))) }

// right pads a value on its left to so many columns.
func right(n int, v any) string {
	s := fmt.Sprint(v)
	return strings.Repeat(" ", max(0, n-width(s))) + s
}
