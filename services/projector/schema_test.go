package projector

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/transport"
)

var update = flag.Bool("update", false, "rewrite testdata/schema.sql and the files of deploy/clickhouse")

const golden = "testdata/schema.sql"

// migrated is a ClickHouse after the migration, and the statements that would make its tables and views, by qualified name.
type migrated struct {
	engine *chengine.Engine
	conn   driver.Conn
	sql    map[string]string
}

func TestSchema(t *testing.T) {
	t.Parallel()
	e := engine(t)
	conn := chtest.Conn(t, e, UserMigration)
	m := migrated{e, conn, schemaOf(t, conn)}
	t.Run("is as in the golden file", m.testGolden)
	t.Run("migrating again changes nothing", m.testAgain)
	t.Run("tables survive a loss of power and duplicates", m.testTables)
	t.Run("views show each row once, in the name of the migration", m.testViews)
	t.Run("of every view it is said what a district's analyst sees", m.testViewsOfAnalysts)
	t.Run("columns are those of the rows", m.testColumns)
	t.Run("indicators are those that are counted", m.testIndicators)
	t.Run("users can do what they must and nothing else", m.testAccess)
}

func (m migrated) testAgain(t *testing.T) {
	if err := Migrate(t.Context(), m.engine.DSN(UserMigration), transport.TLS{}, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.sql, schemaOf(t, m.conn)); diff != "" {
		t.Error(diff)
	}
}

// schemaOf returns the statements that would make the tables and views, by qualified name.
func schemaOf(t *testing.T, conn driver.Conn) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, database := range []string{BaseDatabase, ViewDatabase} {
		for _, table := range strs(t, conn, "SHOW TABLES FROM "+database) {
			name := database + "." + table
			out[name] = strings.Join(strs(t, conn, "SHOW CREATE "+name), "")
		}
	}
	return out
}

func (m migrated) testGolden(t *testing.T) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.sql)) {
		b.WriteString(m.sql[name] + ";\n\n")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the schema changed; if that is meant, -update rewrites the golden file: %s", diff)
	}
}

// inBothLanguages is a comment in English, and in Chinese in brackets.
var inBothLanguages = regexp.MustCompile(`COMMENT '[^']+ \(\p{Han}[^']*\)'`)

func (m migrated) testTables(t *testing.T) {
	unkeyed := []string{projection, BaseDatabase + ".indicators", BaseDatabase + ".retention_rules"} // not about single events
	for name, sql := range m.sql {
		if !strings.HasPrefix(name, BaseDatabase+".") {
			continue
		}
		for _, want := range []string{"fsync_after_insert = 1", "fsync_part_directory = 1"} {
			if !strings.Contains(sql, want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if strings.Contains(sql, "PARTITION BY") {
			t.Errorf("%s has partitions: one block would be several parts", name)
		}
		if name == versionTable {
			continue // goose's own
		}
		if !strings.Contains(sql, "ENGINE = ReplacingMergeTree\n") {
			t.Errorf("%s is not a plain ReplacingMergeTree: %s", name, sql)
		}
		if !strings.Contains(sql, "ORDER BY (stream, seq") && !slices.Contains(unkeyed, name) {
			t.Errorf("the key of %s does not begin with stream and sequence", name)
		}
		for line := range strings.SplitSeq(sql, "\n") {
			if strings.HasPrefix(line, "    `") && !inBothLanguages.MatchString(line) {
				t.Errorf("%s: no comment in English and Chinese: %s", name, line)
			}
		}
	}
}

func (m migrated) testViews(t *testing.T) {
	for name, sql := range m.sql {
		for _, never := range []string{"MATERIALIZED VIEW", "SummingMergeTree", "AggregatingMergeTree", "AggregateFunction", "State("} {
			if strings.Contains(sql, never) {
				t.Errorf("%s has %s: it would count a repeated insert twice", name, never)
			}
		}
		if !strings.HasPrefix(name, ViewDatabase+".") {
			continue
		}
		if !strings.Contains(sql, "DEFINER = "+UserMigration+" SQL SECURITY DEFINER") {
			t.Errorf("%s does not run in the migration's name", name)
		}
		n, views := strings.Count(sql, "FROM "+BaseDatabase+"."), strings.Count(sql, "FROM "+ViewDatabase+".")
		if n+views == 0 || n != len(regexp.MustCompile(`FROM tongan_g1\.\w+\s+FINAL`).FindAllString(sql, -1)) {
			t.Errorf("%s reads a base table without FINAL", name)
		}
		for line := range strings.SplitSeq(sql, "\n") {
			if strings.Contains(line, "COMMENT") && !inBothLanguages.MatchString(line) {
				t.Errorf("%s: no comment in English and Chinese: %s", name, line)
			}
		}
	}
}

func (m migrated) testColumns(t *testing.T) {
	column := regexp.MustCompile("(?m)^    `(\\w+)`")
	for _, table := range (&rows{}).inserts() {
		var have []string
		for _, found := range column.FindAllStringSubmatch(m.sql[BaseDatabase+"."+table.name], -1) {
			have = append(have, found[1])
		}
		if diff := cmp.Diff(have, columns(table.rows.Type().Elem())); diff != "" {
			t.Errorf("%s: %s", table.name, diff)
		}
		if table.name != "journal" && !slices.Contains(columns(reflect.TypeFor[journalRow]()), table.name+"_rows") {
			t.Errorf("the journal does not say how many rows %s has", table.name)
		}
	}
}

func (m migrated) testIndicators(t *testing.T) {
	want := []string{
		phoneVisits, phoneCalls, phoneAttempts, onlineVisits, homeVisits, smsReminders, smsDelivered, smsFailed, protectiveItems,
		protectiveItemsDispatched, serviceSupports, specialCases, casesOpened, hotlineContacts, hotlineNonCounselling,
		childrenRegistered, healthChecks, abnormalTemperatures,
	}
	slices.Sort(want)
	have := strs(t, m.conn, "SELECT toString(indicator) FROM tongan.indicators WHERE unit != '' AND title_zh != '' AND title_en != '' AND definition != '' AND definition_version = $1 ORDER BY indicator", uint16(definitionVersion))
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func (m migrated) testAccess(t *testing.T) {
	fact := " tongan_g1.facts (stream, seq, n, indicator, definition_version, value, day) VALUES ('TONGAN_OUTREACH', 1, 0, 'phone_visits', 1, 5, '2020-01-23')"
	for _, c := range []struct {
		user, query string
		allowed     bool
	}{
		{UserProjector, "INSERT INTO" + fact, true},
		{UserProjector, "SELECT * FROM tongan_g1.facts", true},
		{UserProjector, "SELECT * FROM tongan.tallies", false},
		{UserProjector, "DROP TABLE tongan_g1.facts", false},
		{UserProjector, "ALTER TABLE tongan_g1.facts DELETE WHERE 1", false},
		{UserReporting, "SELECT * FROM tongan_g1.facts", true},
		{UserReporting, "SELECT * FROM tongan.tallies", true},
		{UserReporting, "INSERT INTO" + fact, false},
		{UserAnalystCity, "SELECT * FROM tongan.tallies", true},
		{UserAnalystCity, "SELECT * FROM tongan.journal", true},
		{UserAnalystCity, "DESCRIBE TABLE tongan.tallies", true},
		{UserAnalystCity, "SELECT * FROM tongan_g1.facts", false},
		{UserAnalystCity, "INSERT INTO" + fact, false},
		{UserAnalystCity, "DROP VIEW tongan.tallies", false},
		{UserAnalystCity, "CREATE VIEW tongan.mine AS SELECT 1", false},
	} {
		err := chtest.Conn(t, m.engine, c.user).Exec(t.Context(), c.query)
		if (err == nil) != c.allowed {
			t.Errorf("%s: %s: %v", c.user, c.query, err)
		}
		if err != nil && !strings.Contains(err.Error(), "ACCESS_DENIED") && !strings.Contains(err.Error(), "Not enough privileges") {
			t.Errorf("%s: %s: refused for another reason: %v", c.user, c.query, err)
		}
	}
	if got := strs(t, chtest.Conn(t, m.engine, UserAnalystCity), "SELECT concat(unit, toString(value)) FROM tongan.tallies"); !slices.Equal(got, []string{"人次5"}) {
		t.Errorf("the analyst reads %v", got)
	}
}

func TestMigrationsAreNumbered(t *testing.T) {
	t.Parallel()
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	for i, f := range files {
		if !regexp.MustCompile(`^\d{4}_[a-z_]+\.sql$`).MatchString(f.Name()) || !strings.HasPrefix(f.Name(), fmt.Sprintf("%04d", i+1)) {
			t.Errorf("%s is out of line", f.Name())
		}
		sql, err := fs.ReadFile(migrations, "migrations/"+f.Name())
		if err != nil || strings.Contains(string(sql), "goose Down") {
			t.Errorf("%s: %v; migrations go forward only", f.Name(), err)
		}
	}
}
