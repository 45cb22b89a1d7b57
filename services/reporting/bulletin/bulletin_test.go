package bulletin_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting/bulletin"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// whole are the five figures of the source and some others, for the whole.
func whole() *reportingv1.Figures {
	f := &reportingv1.Figures{
		BaselineOn: "2020-01-23", AsOf: "2020-02-04",
		Cuts: []*reportingv1.Cut{
			{Stream: "TONGAN_INTAKE", Sequence: 4711},
			{Stream: "TONGAN_HEALTHCHECK"},
			{Stream: "TONGAN_OUTREACH", Sequence: 26181},
			{Stream: "TONGAN_REPORTING", Sequence: 1},
		},
	}
	for _, fig := range []struct {
		indicator, unit string
		value           int64
	}{
		{"abnormal_temperatures", "人次", 0},
		{"health_checks", "人次", 1248},
		{"phone_visits", "人次", 2633},
		{"protective_items", "件", 626},
		{"protective_items_dispatched", "件", 640},
		{"service_supports", "宗", 3},
		{"sms_reminders", "条次", 1684},
		{"special_cases", "个", 64},
	} {
		f.Figures = append(f.Figures, &reportingv1.Figure{Indicator: fig.indicator, DefinitionVersion: 1, Value: fig.value, Unit: fig.unit})
	}
	return f
}

// byDistrict is whole with two districts; not every indicator has a value for both, and the name of one is not known.
func byDistrict() *reportingv1.Figures {
	f := whole()
	f.Grouping = reportingv1.Grouping_GROUPING_DISTRICT
	for _, fig := range []struct {
		indicator, unit, district string
		value                     int64
	}{
		{"phone_visits", "人次", "440703", 2600},
		{"phone_visits", "人次", "440786", 33},
		{"special_cases", "个", "440786", 64},
		{"sms_reminders", "条次", "440703", 1684},
		{"health_checks", "人次", "440785", 1248},
	} {
		f.Figures = append(f.Figures, &reportingv1.Figure{
			Indicator: fig.indicator, DefinitionVersion: 1, AdmCode: fig.district, Value: fig.value, Unit: fig.unit,
		})
	}
	slices.SortStableFunc(f.GetFigures(), func(a, b *reportingv1.Figure) int {
		return strings.Compare(a.GetIndicator()+" "+a.GetAdmCode(), b.GetIndicator()+" "+b.GetAdmCode())
	})
	return f
}

// text writes a bulletin in a language.
func text(lang bulletin.Lang, draft bool) func(io.Writer, *reportingv1.Figures) error {
	return func(w io.Writer, f *reportingv1.Figures) error { return bulletin.WriteText(w, f, lang, draft) }
}

// spaced writes JSON whose white space is always the same; protojson changes it from build to build.
func spaced(w io.Writer, f *reportingv1.Figures) error {
	var b bytes.Buffer
	if err := bulletin.WriteJSON(&b, f); err != nil {
		return err
	}
	_, err := io.WriteString(w, strings.ReplaceAll(b.String(), `":  `, `": `))
	return err
}

func TestBulletinsAreAsInTheGoldenFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file    string
		figures *reportingv1.Figures
		write   func(io.Writer, *reportingv1.Figures) error
	}{
		{"whole.zh.txt", whole(), text(bulletin.Chinese, false)},
		{"whole.en.txt", whole(), text(bulletin.English, false)},
		{"draft.zh.txt", whole(), text(bulletin.Chinese, true)},
		{"draft.en.txt", whole(), text(bulletin.English, true)},
		{"districts.zh.txt", byDistrict(), text(bulletin.Chinese, false)},
		{"districts.en.txt", byDistrict(), text(bulletin.English, false)},
		{"whole.json", whole(), spaced},
		{"districts.json", byDistrict(), spaced},
		{"whole.csv", whole(), bulletin.WriteCSV},
		{"districts.csv", byDistrict(), bulletin.WriteCSV},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := tt.write(&got, tt.figures); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// JSON and CSV are read by programs: what comes out is what went in.
func TestJSONAndCSVHoldTheFigures(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := bulletin.WriteJSON(&b, byDistrict()); err != nil {
		t.Fatal(err)
	}
	got := &reportingv1.Figures{}
	if err := protojson.Unmarshal(b.Bytes(), got); err != nil || !proto.Equal(got, byDistrict()) {
		t.Errorf("JSON reads as %v (%v)", got, err)
	}
	b.Reset()
	if err := bulletin.WriteCSV(&b, byDistrict()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 1+len(byDistrict().GetFigures()) {
		t.Fatalf("%d rows (%v)", len(rows), err)
	}
	if diff := cmp.Diff([]string{"2020-01-23", "2020-02-04", "special_cases", "1", "440786", "64", "个"}, rows[len(rows)-1]); diff != "" {
		t.Error(diff)
	}
}

func TestABulletinNeedsEveryPublishedFigure(t *testing.T) {
	t.Parallel()
	for _, missing := range bulletin.Published {
		f := whole()
		f.Figures = slices.DeleteFunc(f.GetFigures(), func(fig *reportingv1.Figure) bool { return fig.GetIndicator() == missing })
		for _, lang := range []bulletin.Lang{bulletin.Chinese, bulletin.English} {
			var b bytes.Buffer
			err := bulletin.WriteText(&b, f, lang, false)
			if err == nil || err.Error() != "bulletin: there is no figure "+missing || b.Len() > 0 {
				t.Errorf("without %s in %s: %v, and %q", missing, lang, err, b.String())
			}
		}
	}
}

func TestWhatIsNoBulletin(t *testing.T) {
	t.Parallel()
	f := whole()
	f.AsOf = "2020-02-30"
	if err := bulletin.WriteText(io.Discard, f, bulletin.Chinese, false); err == nil || !strings.Contains(err.Error(), "as_of") {
		t.Errorf("of no day: %v", err)
	}
	if err := bulletin.WriteText(io.Discard, whole(), "fr", false); err == nil {
		t.Error("there is one in French")
	}
	for name, write := range map[string]func(io.Writer, *reportingv1.Figures) error{
		"text": text(bulletin.Chinese, false), "JSON": bulletin.WriteJSON, "CSV": bulletin.WriteCSV,
	} {
		if err := write(full{}, whole()); !errors.Is(err, errFull) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
	}
}

var errFull = errors.New("the disk is full")

// full takes nothing.
type full struct{}

// Write refuses.
func (full) Write([]byte) (int, error) { return 0, errFull }
