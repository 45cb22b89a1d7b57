package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/text/encoding/simplifiedchinese"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

var (
	chineseHeader = []string{"姓名", "儿童编号", "身份证号", "儿童类别", "行政区划代码", "责任人", "出生日期", "联系电话", "住址", "监护人姓名", "就读学校", "认定日期", "认定依据"}
	englishHeader = []string{"name", "child_id", "identity_number", "category", "adm_code", "worker_id", "birth_date", "phone", "address", "guardian_name", "school", "category_started_on", "category_rule"}
)

// importSecret is in every personal cell of the tests' files but numbers.
const importSecret = "zzimport"

// importRowOf makes up a child: the i-th of all tests, so that no identity number is there twice.
func importRowOf(prefix string, i int) []string {
	number := soundNumber(fmt.Sprintf("999999%04d%02d%02d%03d", 2006+i%12, 1+i/12%12, 1+i/144%28, i/4032))
	return []string{
		importSecret + "名", prefix + strconv.Itoa(i), number, "农村留守儿童", "440703", "w-1", "", "+999" + number[6:17], importSecret + "村1号, 2楼", importSecret + "监护", importSecret + "小学",
		"2019年9月1日", "国发[2016]13号",
	}
}

func soundNumber(digits string) string {
	sum := 0
	for i, weight := range []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2} { // GB 11643-1999
		sum += weight * int(digits[i]-'0')
	}
	return digits + "10X98765432"[sum%11:sum%11+1]
}

func importRows(prefix string, from, n int) [][]string {
	rows := make([][]string, n)
	for i := range rows {
		rows[i] = importRowOf(prefix, from+i)
	}
	return rows
}

// wrong are the ways in which rows are broken, and how they are refused: the column and the begin of the rule.
var wrong = []struct {
	spoil        func(row []string) []string
	column, rule string
}{
	{func(r []string) []string {
		r[2] = r[2][:17] + string("10X98765432"[(strings.IndexByte("10X98765432", r[2][17])+1)%11])
		return r
	}, "身份证号", "has a wrong check character"},
	{func(r []string) []string { r[3] = "某类儿童"; return r }, "儿童类别", "must be one of"},
	{func(r []string) []string { r[4] = "110000"; return r }, "行政区划代码", "is not a district served here"},
	{func(r []string) []string { r[0] = " "; return r }, "姓名", "must not be empty"},
	{func(r []string) []string { r[11] = "2019-02-30"; return r }, "认定日期", "must be a date"},
	{func(r []string) []string { return r[:9] }, "", "has 9 cells, the header has 13"},
	{func(r []string) []string { r[2] = soundNumber("99999919900101" + r[2][14:17]); return r }, "身份证号", "say 18 years or more"},
}

// writeCSV writes a file of rows as UTF-8.
func writeCSV(tb testing.TB, path, bom string, d rune, rows [][]string) string {
	tb.Helper()
	var b strings.Builder
	b.WriteString(bom)
	w := csv.NewWriter(&b)
	w.Comma = d
	if err := w.WriteAll(rows); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// toGB18030 turns a file into GB18030.
func toGB18030(tb testing.TB, path string) {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if text, err = simplifiedchinese.GB18030.NewEncoder().Bytes(text); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func writeWorkbook(t *testing.T, path string, rows [][]string) string {
	t.Helper()
	book := excelize.NewFile()
	for i, row := range rows {
		if err := book.SetSheetRow("Sheet1", "A"+strconv.Itoa(i+1), &row); err != nil {
			t.Fatal(err)
		}
	}
	if err := book.SetCellValue("Sheet1", "G2", time.Date(2010, 3, 4, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if err := book.SaveAs(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// importer is who imports in a test.
type importer struct {
	s   *standalone
	key string
	dir string
}

// imports imports a file and returns what is printed; nothing personal may be in it.
func (i importer) imports(t *testing.T, file string, more ...string) (out string, err error) {
	t.Helper()
	args := append([]string{"import", "children", file, "--on", "2020-02-01", "--nats-url", i.s.natsURL, "--credentials", i.key}, more...)
	stdout, stderr, err := run(t, nil, binary, args...)
	out = stdout + stderr
	if strings.Contains(out, importSecret) || strings.Contains(out, "999999") || strings.Contains(out, "+999") {
		t.Fatal("what is printed holds personal data")
	}
	return out, err
}

// adds fails unless the import ends well and adds n events, and says that so many were registered.
func (i importer) adds(t *testing.T, n int, file string, more ...string) string {
	t.Helper()
	before := i.events(t)
	out, err := i.imports(t, file, more...)
	if err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
	if added := i.events(t) - before; added != n {
		t.Fatalf("%d events were added, want %d\n%s", added, n, out)
	}
	if !slices.Contains(more, "--dry-run") && counted(t, out, "registered") != n {
		t.Errorf("it is not said that %d were registered:\n%s", n, out)
	}
	return out
}

// counted is how many rows an import says became that.
func counted(t *testing.T, out, what string) int {
	t.Helper()
	for line := range strings.SplitSeq(out, "\n") {
		if n, is := strings.CutSuffix(strings.TrimSpace(line), " "+what); is {
			if n, err := strconv.Atoi(n); err == nil {
				return n
			}
		}
	}
	t.Errorf("it is not said how many rows were %s:\n%s", what, out)
	return 0
}

func (i importer) events(t *testing.T) int {
	t.Helper()
	return int(sizes(t, i.s)[subject.Intake])
}

// TestImport imports files into a standalone as a child supervisor does.
func TestImport(t *testing.T) {
	t.Parallel()
	s := startStandalone(t, t.TempDir())
	i := importer{s, s.add(t, "supervisor-1", "CHILD_SUPERVISOR"), t.TempDir()}
	t.Run("GB18030 with broken rows, corrected, and again", func(t *testing.T) { brokenRows(t, i) })
	t.Run("XLSX with Chinese headers", func(t *testing.T) {
		rows := importRows("x-", 10_000, 200)
		rows[7][12] = "" // nothing at the end of the row
		rows[9][2] = importRowOf("", 5)[2]
		rows[0][2] = ""
		file := writeWorkbook(t, filepath.Join(i.dir, "book.xlsx"), slices.Insert(rows, 0, chineseHeader))
		out := i.adds(t, 200, file)
		if !strings.Contains(out, "line 11: x-10009 may be the same child as c-5\n") {
			t.Errorf("the possible duplicate is not named:\n%s", out)
		}
		if out := i.adds(t, 0, file); counted(t, out, "there before with the same content") != 200 {
			t.Errorf("it is not said that they were there:\n%s", out)
		}
	})
	t.Run("UTF-8 with BOM, English headers, semicolons", func(t *testing.T) {
		rows := importRows("e-", 11_000, 200)
		for _, r := range rows {
			r[3], r[12] = "in_difficulty", "GF_2016_36"
		}
		rows = slices.Insert(rows, 0, englishHeader)
		i.adds(t, 0, writeCSV(t, filepath.Join(i.dir, "english.csv"), "\ufeff", ';', rows), "--dry-run")
		i.adds(t, 200, filepath.Join(i.dir, "english.csv"))
	})
	t.Run("the same file through two imports at once", func(t *testing.T) {
		file := writeCSV(t, filepath.Join(i.dir, "twice.csv"), "", '\t', slices.Insert(importRows("t-", 12_000, 500), 0, chineseHeader))
		before := i.events(t)
		var both sync.WaitGroup
		var registered atomic.Int64
		for range 2 {
			both.Go(func() {
				out, err := i.imports(t, file)
				if err != nil {
					t.Errorf("import: %v\n%s", err, out)
				}
				registered.Add(int64(counted(t, out, "registered")))
			})
		}
		both.Wait()
		if added := i.events(t) - before; added != 500 || registered.Load() != 500 {
			t.Errorf("%d events were added, of %d children it is said that they were registered", added, registered.Load())
		}
	})
	t.Run("other content for a child that is there is refused", func(t *testing.T) {
		rows := importRows("t-", 12_000, 2)
		rows[1][5] = "w-2"
		file := writeCSV(t, filepath.Join(i.dir, "other.csv"), "", ',', slices.Insert(rows, 0, chineseHeader))
		before := i.events(t)
		out, err := i.imports(t, file)
		if err == nil || !strings.Contains(out, "line 3: 儿童编号: is there already with other content") || strings.Contains(out, "line 2") || i.events(t) != before {
			t.Errorf("ended with %v\n%s", err, out)
		}
	})
	t.Run("a role that may not register is told so", func(t *testing.T) {
		analyst := importer{s, s.add(t, "analyst-1", "ANALYST"), i.dir}
		if out, err := analyst.imports(t, filepath.Join(i.dir, "english.csv")); err == nil || !strings.Contains(out, "may not register children") {
			t.Errorf("ended with %v\n%s", err, out)
		}
	})
	if strings.Contains(s.logs.String(), importSecret) || strings.Contains(s.logs.String(), "999999") {
		t.Error("the logs hold personal data")
	}
}

// brokenRows imports a file of which one row in a hundred is broken, imports it again, and then the corrected rows.
func brokenRows(t *testing.T, i importer) {
	t.Helper()
	rows, broken := importRows("c-", 0, 2000), make(map[int]int) // kind by line
	for n := range 20 {
		at := 100*n + 7*n%100
		broken[at+2] = n % len(wrong)
		rows[at] = wrong[n%len(wrong)].spoil(rows[at])
	}
	file := writeCSV(t, filepath.Join(i.dir, "children.csv"), "", ',', slices.Insert(rows, 0, chineseHeader))
	toGB18030(t, file)
	before := i.events(t)
	if out, err := i.imports(t, file, "--dry-run"); err == nil || i.events(t) != before || !strings.Contains(out, "1988 would be sent") {
		t.Fatalf("the dry run ends with %v\n%s", err, out)
	}
	refused := filepath.Join(i.dir, "refused.csv")
	out, err := i.imports(t, file, "--refused", refused, "--with-rows")
	if err == nil || i.events(t)-before != 1980 || !strings.Contains(out, "20 of 2000 rows were refused") {
		t.Fatalf("ended with %v, %d events more\n%s", err, i.events(t)-before, out)
	}
	again := filepath.Join(i.dir, "again.csv")
	if out, err := i.imports(t, file, "--refused", again); err == nil || i.events(t)-before != 1980 {
		t.Errorf("again: ended with %v, %d events more\n%s", err, i.events(t)-before, out)
	}
	if bare := readRefused(t, again); len(bare) != 21 || len(bare[20]) != 3 {
		t.Errorf("the file without cells has %d lines", len(bare))
	}
	list := readRefused(t, refused)
	if len(list) != 21 {
		t.Fatalf("%d rows were refused", len(list)-1)
	}
	last := 0
	for _, r := range list[1:] {
		line, err := strconv.Atoi(r[0])
		kind, is := broken[line]
		if err != nil || !is || line <= last {
			t.Fatalf("line %d is refused, or not in order", line)
		}
		if r[1] != wrong[kind].column || !strings.HasPrefix(r[2], wrong[kind].rule) {
			t.Errorf("line %d: %s: %s, want %s: %s", line, r[1], r[2], wrong[kind].column, wrong[kind].rule)
		}
		copy(r[3:], importRowOf("c-", line-2))
		last = line
	}
	i.adds(t, 20, writeCSV(t, filepath.Join(i.dir, "corrected.csv"), "\ufeff", ',', list))
	if info, err := os.Stat(refused); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of refused rows has mode %v (%v)", info.Mode(), err)
	}
}

func readRefused(t *testing.T, path string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "\ufeff") {
		t.Fatalf("the file of refused rows has no BOM (%v)", err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text[3:]))).ReadAll()
	if err != nil {
		t.Fatal("the file of refused rows is no CSV")
	}
	return rows
}

// A file that cannot be imported is answered with what it is and what to do, and none of its cells.
func TestImportNamesWhatIsWrongWithAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	book := writeWorkbook(t, filepath.Join(dir, "book.xlsx"), slices.Insert(importRows("x-", 0, 3), 0, chineseHeader))
	zipped, err := os.ReadFile(book)
	if err != nil {
		t.Fatal(err)
	}
	row := strings.Join(importRowOf("x-", 1), ";")
	head := strings.Join(chineseHeader, ";")
	gb, err := simplifiedchinese.GB18030.NewEncoder().String(head + "\n" + row)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ file, content, says string }{
		"text that is a workbook":       {"a.csv", string(zipped), "is not the text that .csv says"},
		"workbook that is text":         {"b.xlsx", head + "\n" + row, "is not the workbook that .xlsx says"},
		"zip that is no workbook":       {"c.xlsx", "PK\x03\x04 and nothing", "no workbook"},
		"workbook cut off":              {"d.xlsx", string(zipped[:len(zipped)/2]), "no workbook"},
		"old workbook":                  {"e.xlsx", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more", "is an old workbook (.xls)"},
		"binary":                        {"f.csv", "\x7fELF\x02\x01\x01\x00\x00\x00", "is neither text nor a workbook"},
		"UTF-16":                        {"g.csv", "\xff\xfeh\x00i\x00", "is UTF-16"},
		"empty":                         {"h.csv", "", "is empty"},
		"no header":                     {"i.csv", row + "\n" + row, "it must be the header"},
		"a required column missing":     {"j.csv", strings.ReplaceAll(head, "责任人;", ""), "are missing: 责任人/worker_id"},
		"an unknown column":             {"k.csv", head + ";喜好", "are not known: 喜好"},
		"a column twice":                {"l.csv", head + ";name", "are there twice: name"},
		"UTF-8 with a broken character": {"m.csv", head + "\n" + row[:1] + "\xe5" + row, "line 2: is not UTF-8"},
		"GB18030 cut off":               {"n.csv", gb[:len(gb)-6] + "\x81", "line 2: is neither UTF-8 nor GB18030"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(dir, tt.file)
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, err := run(t, nil, binary, "import", "children", path, "--dry-run")
			if strings.Contains(out+errs, importSecret) {
				t.Fatal("what is printed holds personal data")
			}
			if err == nil || !strings.Contains(errs, tt.says) || strings.Count(errs, "\n") != 1 {
				t.Errorf("ended with %v: %s%s, want %q", err, out, errs, tt.says)
			}
		})
	}
}

// A row that cannot be split into cells is refused, and the ones after it are read.
func TestImportGoesOnAfterABrokenLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.csv")
	sound := strings.Join(importRowOf("a-", 1), "\t")
	lines := []string{
		strings.Join(chineseHeader, "\t"), sound, `"` + sound, "", strings.Replace(sound, "a-1", `"a-"1`, 1), strings.Repeat("x", 2*maxLine), sound + "\r", sound + "\t",
	}
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := run(t, nil, binary, "import", "children", path, "--dry-run")
	if err == nil {
		t.Error("broken rows do not make it fail")
	}
	for _, says := range []string{
		"6 rows read", "2 would be sent", "line 3: has a quotation mark that is not closed", "line 5: has text behind a closing quotation mark",
		"line 6: is longer than", "line 8: has 14 cells, the header has 13",
	} {
		if !strings.Contains(out+errs, says) {
			t.Errorf("%q is not said:\n%s%s", says, out, errs)
		}
	}
}

// Every category and rule of the contract has a Chinese name in files.
func TestImportKnowsEveryCode(t *testing.T) {
	t.Parallel()
	if len(categories) != len(eventv1.PopulationCategory_name)-1 || len(categoryRules) != len(intakev1.CategoryRule_name)-1 {
		t.Errorf("of %d categories %d have a name, of %d rules %d", len(eventv1.PopulationCategory_name)-1, len(categories), len(intakev1.CategoryRule_name)-1, len(categoryRules))
	}
}

// BenchmarkImport imports children from a file, and sends as many of the same commands from memory, in turns on the same system.
func BenchmarkImport(b *testing.B) {
	const rows = 2000
	var districts serve.DistrictFlags
	districts.Districts = []string{"440700", "440703"}
	s, err := start(b.Context(), systemFlags{logFlags: logFlags{}, Data: b.TempDir(), DistrictFlags: districts, NATSHost: "127.0.0.1", ClickHouseHost: "127.0.0.1", Baseline: sourceBaseline}, clock.Wall{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			b.Error(err)
		}
	}()
	via, err := callerFlags{NATSURL: s.natsURL, Credentials: s.operatorFile()}.caller()
	if err != nil {
		b.Fatal(err)
	}
	conns, err := enrol(b.Context(), via, "440700", []access.Caller{{ID: "supervisor-1", Role: auditv1.Role_ROLE_CHILD_SUPERVISOR, Org: "bureau"}})
	if err != nil {
		b.Fatal(err)
	}
	defer closeAll(conns)
	send, n := sendRow(conns["supervisor-1"]), 0
	opened := func() *importFile {
		path := writeCSV(b, filepath.Join(b.TempDir(), "children.csv"), "", ',', slices.Insert(importRows("b-", n, rows), 0, chineseHeader))
		toGB18030(b, path)
		n += rows
		f, err := (&importChildrenCmd{File: path, On: "2020-02-01"}).open()
		if err != nil {
			b.Fatal(err)
		}
		return f
	}
	var fromFile, fromMemory time.Duration
	for round := 0; b.Loop(); round++ {
		if round%2 == 1 { // in turns, for the streams grow
			fromMemory += sentFromMemory(b, opened(), send)
		}
		fromFile += sentFromFile(b, opened(), send)
		if round%2 == 0 {
			fromMemory += sentFromMemory(b, opened(), send)
		}
	}
	b.ReportMetric(float64(rows*b.N)/fromFile.Seconds(), "rows/s")
	b.ReportMetric(float64(rows*b.N)/fromMemory.Seconds(), "rows/s-from-memory")
	b.ReportMetric(100*fromMemory.Seconds()/fromFile.Seconds(), "%-of-memory")
}

// sentFromFile imports a file.
func sentFromFile(b *testing.B, f *importFile, send sendFunc) time.Duration {
	b.Helper()
	begun := time.Now()
	var sum tally
	if err := f.each(b.Context(), send, func(r *importRow) error { return sum.add(r, nil) }); err != nil || sum.refused > 0 || sum.read == 0 {
		b.Fatalf("%d rows read, %d refused: %v", sum.read, sum.refused, err)
	}
	took := time.Since(begun)
	if err := f.close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// sentFromMemory sends the commands of a file that is read before the clock starts.
func sentFromMemory(b *testing.B, f *importFile, send sendFunc) time.Duration {
	b.Helper()
	var lanes [importers][]*importRow
	for i := 0; ; i++ {
		r, err := f.next()
		if err != nil {
			break
		}
		lanes[i%importers] = append(lanes[i%importers], r)
	}
	begun := time.Now()
	g, ctx := errgroup.WithContext(b.Context())
	for _, lane := range lanes {
		g.Go(func() error { return sendLane(ctx, f, lane, send) })
	}
	if err := errors.Join(g.Wait(), f.close()); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}

func sendLane(ctx context.Context, f *importFile, lane []*importRow, send sendFunc) error {
	for _, r := range lane {
		if err := send(ctx, f.header, r); err != nil || len(r.faults) > 0 {
			return fmt.Errorf("line %d: %v: %w", r.line, r.faults, err)
		}
	}
	return nil
}
