package projector

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/transport"
)

func TestEveryDistrictHasAnAnalyst(t *testing.T) {
	t.Parallel()
	var names []string
	for _, u := range Users([]string{"440700", "440703", "440785"}, func(name string) string { return "password of " + name }) {
		names = append(names, u.Name)
		if u.Password != "password of "+u.Name {
			t.Errorf("%s: password %q", u.Name, u.Password)
		}
		if analyst := strings.HasPrefix(u.Name, "analyst_"); analyst != u.Readonly || analyst != (len(u.Quotas) > 0) {
			t.Errorf("%s: readonly %t, quotas %v", u.Name, u.Readonly, u.Quotas)
		}
		if district := u.Name == UserAnalyst("440703") || u.Name == UserAnalyst("440785"); !district {
			continue
		}
		var filtered []string
		for _, f := range u.Filters {
			filtered = append(filtered, "SELECT ON "+f.Table)
			if f.Column != "adm_code" || UserAnalyst(f.Value) != u.Name {
				t.Errorf("%s: filter %v", u.Name, f)
			}
		}
		if diff := gocmp.Diff(append(filtered, "SELECT ON tongan.indicators"), u.Grants); diff != "" {
			t.Errorf("%s may read what is not filtered: %s", u.Name, diff)
		}
	}
	want := []string{UserMigration, UserProjector, UserReporting, UserAnalystCity, "analyst_440703", "analyst_440785"}
	if diff := gocmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// Whoever adds a view says here whether a district's analyst may see it.
func (m migrated) testViewsOfAnalysts(t *testing.T) {
	var have []string
	for name, sql := range m.sql {
		view, ok := strings.CutPrefix(name, ViewDatabase+".")
		if !ok {
			continue
		}
		have = append(have, view)
		if filtered := slices.Contains(districtViews, view); filtered != strings.Contains(sql, "    `"+districtColumn+"` LowCardinality(String)") {
			t.Errorf("%s: filtered by district %t, but its columns say otherwise", name, filtered)
		}
	}
	slices.Sort(have)
	want := slices.Sorted(slices.Values(slices.Concat(districtViews, commonViews)))
	if diff := gocmp.Diff(want, have); diff != "" {
		t.Errorf("views of which access.go does not say what a district's analyst sees: %s", diff)
	}
}

// query asks over HTTP, as a user with the password of the tests, and returns the answer, or the engine's message as an error.
func query(t *testing.T, e *chengine.Engine, user, sql string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.HTTPAddr()+"/", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, "password of "+user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(string(body))
	}
	return strings.TrimSuffix(string(body), "\n"), nil
}

// districtRows puts rows into all tables but the definitions: sequences 10 to 13 and 20 to 23 in two parts, the even ones about
// 440703, the odd ones about 440704.
func districtRows(t *testing.T, e *chengine.Engine) {
	t.Helper()
	more := map[string][2]string{
		"visits":         {", child_id", ", concat('c', toString(seq))"},
		"facts":          {", indicator, definition_version, value, day", ", 'phone_visits', 1, seq, toDate('2020-01-23') + seq"},
		"child_events":   {", child_id, state, category, started_on", ", concat('c', toString(seq)), 'REGISTERED', 'LEFT_BEHIND', '2020-01-23'"},
		"cases":          {", case_id, state, owner_id", ", concat('x', toString(seq)), 'OPENED', concat('w', toString(seq))"},
		"contact_events": {", contact_id, state, channel, rang_at", ", concat('h', toString(seq)), 'RECEIVED', 'PHONE', toDateTime64('2020-01-23', 9) + toIntervalDay(seq)"},
		"deadlines":      {", object, object_id, deadline_id, state", ", 'CASE', concat('x', toString(seq)), 'd1', 'SET'"},
		"shifts":         {", line_id, shift_id, gap_number, state", ", 'l1', concat('s', toString(seq)), seq, if(seq < 20, 'STARTED', 'GAP_BEGAN')"},
	}
	conn := chtest.Conn(t, e, UserProjector)
	chtest.Exec(t, conn, "INSERT INTO "+BaseDatabase+".child_events (stream, seq, n, adm_code, child_id, state, reason, ended_on) SELECT 'S', number + 30 AS seq, state = 'DEREGISTERED', "+
		"if(seq % 2 = 0, '440703', '440704'), concat('c', toString(seq)), arrayJoin(['REGISTERED', 'DEREGISTERED']) AS state, 'MOVED_AWAY', '2020-01-31' FROM numbers(4)")
	for _, table := range baseTables() {
		for _, first := range []int{10, 20} {
			chtest.Exec(t, conn, fmt.Sprintf("INSERT INTO %s.%s (stream, seq, adm_code%s) SELECT 'S', number + %d AS seq, if(seq %% 2 = 0, '440703', '440704')%s FROM numbers(4)",
				BaseDatabase, table, more[table][0], first, more[table][1]))
		}
	}
}

func TestDistrictAnalystSeesItsDistrict(t *testing.T) {
	t.Parallel()
	e := engine(t)
	districtRows(t, e)
	t.Run("each view", func(t *testing.T) { testEachView(t, e) })
	t.Run("ways around the filter", func(t *testing.T) { testWaysAround(t, e) })
	t.Run("ways that are closed", func(t *testing.T) { testClosedWays(t, e) })
	t.Run("a view of later", func(t *testing.T) { testViewOfLater(t, e) })
}

func testEachView(t *testing.T, e *chengine.Engine) {
	t.Helper()
	more := map[string]int{ // rows of a district, where they are not 4
		"child_events": 8, "children": 6, "category_memberships": 6, "shifts": 2, "cover_gaps": 2, "retention_proposals": 2,
	}
	for _, view := range districtViews {
		n := cmp.Or(more[view], 4)
		for user, want := range map[string]string{
			UserAnalyst("440703"): fmt.Sprintf("%d\t['440703']", n), UserAnalyst("440704"): fmt.Sprintf("%d\t['440704']", n), UserAnalyst("440705"): "0\t[]",
			UserAnalystCity: fmt.Sprintf("%d\t['440703','440704']", 2*n), UserReporting: fmt.Sprintf("%d\t['440703','440704']", 2*n),
		} {
			got, err := query(t, e, user, "SELECT count(), arraySort(groupUniqArray(adm_code)) FROM tongan."+view)
			if err != nil || got != want {
				t.Errorf("%s reads of %s %q, %v, want %q", user, view, got, err, want)
			}
		}
	}
	for _, view := range commonViews {
		all, err := query(t, e, UserAnalystCity, "SELECT count() FROM tongan."+view)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := query(t, e, UserAnalyst("440703"), "SELECT count() FROM tongan."+view); err != nil || got != all {
			t.Errorf("%s: %q, %v, want %q", view, got, err, all)
		}
	}
}

// oracle fails on the row with sequence 11, which is about 440704.
const oracle = "bitTest(1, (child_id = 'c11') * 1000)"

// testWaysAround asks what may be asked, in ways that get around weak filters. Nothing of 440704 comes back, not even an error.
func testWaysAround(t *testing.T, e *chengine.Engine) {
	t.Helper()
	const none, four = "", "4"
	for sql, want := range map[string]string{
		"SELECT count() FROM tongan.visits": four,
		"SELECT groupArray(seq) FROM (SELECT seq FROM tongan.visits WHERE adm_code = '440704' OR 1 ORDER BY seq)":       "[10,12,20,22]",
		"SELECT seq FROM tongan.visits WHERE adm_code != '440703'":                                                      none,
		"SELECT sum(value) FROM tongan.tallies":                                                                         "64",
		"SELECT sum(value) FROM tongan.tallies WHERE adm_code = '440704'":                                               "0",
		"SELECT EXISTS (SELECT 1 FROM tongan.visits WHERE child_id = 'c11')":                                            "0",
		"SELECT 1 WHERE 'c11' IN (SELECT child_id FROM tongan.visits)":                                                  none,
		"SELECT v.seq FROM tongan.indicators AS i, tongan.visits AS v WHERE v.adm_code != '440703'":                     none,
		"SELECT v.seq FROM (SELECT 11 AS seq) AS s JOIN tongan.visits AS v ON v.seq = s.seq":                            none,
		"SELECT count() FROM tongan.visits AS v LEFT ANTI JOIN tongan.journal AS j ON j.seq = v.seq":                    "0",
		"SELECT count() FROM tongan.visits FINAL":                                                                       four,
		"SELECT count() FROM (SELECT * FROM tongan.visits UNION ALL SELECT * FROM tongan.visits)":                       "8",
		"SELECT count() FROM view(SELECT * FROM tongan.visits)":                                                         four,
		"SELECT count() FROM merge('tongan', '^visits$')":                                                               four,
		"SELECT count() FROM merge('tongan', '^(visits|indicators)$') WHERE _table = 'visits'":                          four,
		"SELECT count() FROM viewIfPermitted(SELECT seq FROM tongan.visits ELSE null('seq UInt64'))":                    four,
		"SELECT count() FROM viewIfPermitted(SELECT seq FROM tongan_g1.visits ELSE null('seq UInt64'))":                 "0",
		"WITH v AS MATERIALIZED (SELECT * FROM tongan.visits) SELECT count() FROM v":                                    four,
		"WITH RECURSIVE v AS (SELECT seq FROM tongan.visits UNION ALL SELECT seq FROM v WHERE 0) SELECT count() FROM v": four,
		"SELECT max(n) FROM (SELECT count() OVER () AS n FROM tongan.visits)":                                           four,
		"SELECT arraySort(topK(10)(child_id)) FROM tongan.visits":                                                       "['c10','c12','c20','c22']",
		"SELECT seq FROM tongan.visits ORDER BY seq LIMIT 1 OFFSET 1 SETTINGS extremes = 1":                             "12\n\n10\n12",
		"SELECT groupUniqArray(lowCardinalityKeys(adm_code)) FROM tongan.visits WHERE adm_code = '440704'":              "[]",
		// A condition is not computed on rows of others, where its error would tell of them.
		"SELECT count() FROM tongan.children WHERE throwIf(child_id = 'c11') = 0":                                                       "6",
		"SELECT count() FROM tongan.children WHERE has(categories, 'LEFT_BEHIND') AND throwIf(child_id = 'c11') = 0":                    four,
		"SELECT count() FROM tongan.category_memberships WHERE throwIf(child_id = 'c11') = 0":                                           "6",
		"SELECT count() FROM tongan.cases WHERE throwIf(case_id = 'x11') = 0":                                                           four,
		"SELECT count() FROM tongan.overdue WHERE throwIf(object_id = 'x11') = 0":                                                       four,
		"SELECT count() FROM tongan.case_owners WHERE throwIf(owner_id = 'w11') = 0":                                                    four,
		"SELECT count() FROM tongan.hotline_levels WHERE throwIf(day = '2020-02-03') = 0":                                               four,
		"SELECT count() FROM tongan.retention_proposals WHERE throwIf(child_id = 'c31') = 0":                                            "2",
		"SELECT count() FROM tongan.visits WHERE throwIf(child_id = 'c11') = 0":                                                         four,
		"SELECT count() FROM tongan.visits WHERE intDiv(1, toUInt8(child_id != 'c11')) = 1":                                             four,
		"SELECT count() FROM tongan.visits WHERE " + oracle:                                                                             four,
		"SELECT sum(x) FROM (SELECT " + oracle + " AS x FROM tongan.visits WHERE x)":                                                    four,
		"SELECT count() FROM tongan.visits WHERE child_id = 'c11' AND " + oracle:                                                        "0",
		"SELECT count() FROM (SELECT * FROM tongan.visits) WHERE " + oracle:                                                             four,
		"SELECT count() FROM merge('tongan', '^visits$') WHERE " + oracle:                                                               four,
		"SELECT count() FROM tongan.visits AS a JOIN tongan.visits AS b ON a.seq = b.seq AND bitTest(1, (b.child_id = 'c11') * 1000)":   four,
		"SELECT count() FROM tongan.visits AS a JOIN tongan.visits AS b ON a.seq = b.seq WHERE bitTest(1, (b.child_id = 'c11') * 1000)": four,
		"SELECT count() FROM tongan.visits AS a LEFT JOIN tongan.visits AS b ON a.seq = bitTest(1, (b.child_id = 'c11') * 1000)":        four,
		"SELECT max(n) FROM (SELECT count() AS n FROM tongan.visits GROUP BY " + oracle + ")":                                           four,
		"SELECT seq FROM tongan.visits ORDER BY " + oracle + ", seq LIMIT 1":                                                            "10",
		"SELECT count() FROM tongan.visits WHERE arrayJoin([" + oracle + "]) = 1":                                                       four,
		"SELECT count() FROM tongan.tallies WHERE bitTest(1, (value = 11) * 1000)":                                                      four,
		"SELECT count() FROM tongan.visits WHERE seq IN (SELECT seq FROM tongan.visits WHERE " + oracle + ")":                           four,
		"SELECT count() FROM tongan.visits WHERE bitTest(1, (seq = 11) * 1000)":                                                         four,
		"SHOW DATABASES": "tongan",
		"SELECT groupUniqArray(database) FROM system.tables WHERE database != 'system'": "['tongan']",
	} {
		if got, err := query(t, e, UserAnalyst("440703"), sql); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sql, got, err, want)
		}
	}
}

func testClosedWays(t *testing.T, e *chengine.Engine) {
	t.Helper()
	for sql, want := range map[string]string{
		"SELECT * FROM tongan_g1.visits":                                                               "ACCESS_DENIED",
		"SELECT count() FROM merge('tongan_g1', 'visits')":                                             "CANNOT_EXTRACT_TABLE_STRUCTURE",
		"SELECT count() FROM mergeTreeIndex('tongan_g1', 'visits')":                                    "ACCESS_DENIED",
		"SELECT hasColumnInTable('tongan_g1', 'visits', 'seq')":                                        "ACCESS_DENIED",
		"DESCRIBE TABLE tongan_g1.visits":                                                              "ACCESS_DENIED",
		"SHOW CREATE TABLE tongan_g1.visits":                                                           "ACCESS_DENIED",
		"SELECT count() FROM remote('127.0.0.1', 'tongan', 'visits')":                                  "ACCESS_DENIED",
		"SELECT count() FROM cluster('default', 'tongan', 'visits')":                                   "CLUSTER_DOESNT_EXIST",
		"SELECT count() FROM loop('tongan', 'visits')":                                                 "ACCESS_DENIED",
		"SELECT count() FROM dictionary('tongan.visits')":                                              "ACCESS_DENIED",
		"SELECT seq FROM tongan.visits PREWHERE adm_code = '440704'":                                   "ILLEGAL_PREWHERE",
		"SELECT 1 FROM tongan.visits SETTINGS additional_table_filters = {'tongan.visits': '1'}":       "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS additional_result_filter = '1'":                          "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS enable_analyzer = 0":                                     "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS query_plan_enable_optimizations = 1":                     "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS optimize_move_to_prewhere_if_final = 1":                  "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS short_circuit_function_evaluation = 'disable'":           "READONLY",
		"SET profile = 'default'":                                                                      "SETTING_CONSTRAINT_VIOLATION",
		"SET profile = 'session'":                                                                      "READONLY",
		"SELECT 1 FROM tongan.visits SETTINGS profile = 'reader', query_plan_enable_optimizations = 1": "READONLY",
		"EXECUTE AS analyst_city SELECT count() FROM tongan.visits":                                    "SUPPORT_IS_DISABLED",
		"SET ROLE analyst_city":                                                                        "UNKNOWN_ROLE",
		"GRANT SELECT ON tongan.* TO analyst_440703":                                                   "ACCESS_DENIED",
		"CREATE ROW POLICY p ON tongan.visits USING 1 TO analyst_440703":                               "ACCESS_DENIED",
		"DROP ROW POLICY analyst_440703 ON tongan.visits":                                              "ACCESS_DENIED",
		"ALTER USER analyst_440703 SETTINGS readonly = 0":                                              "ACCESS_DENIED",
		"ALTER QUOTA analyst_440703 FOR INTERVAL 1 HOUR NO LIMITS":                                     "ACCESS_DENIED",
		"SHOW ROW POLICIES":                                       "ACCESS_DENIED",
		"SELECT * FROM system.row_policies":                       "ACCESS_DENIED",
		"SELECT * FROM system.parts":                              "ACCESS_DENIED",
		"SELECT * FROM system.processes":                          "ACCESS_DENIED",
		"SELECT * FROM system.query_log":                          "UNKNOWN_TABLE",
		"CREATE TEMPORARY TABLE t AS SELECT * FROM tongan.visits": "ACCESS_DENIED",
		"CREATE VIEW tongan.v DEFINER = migration SQL SECURITY DEFINER AS SELECT * FROM tongan_g1.visits": "ACCESS_DENIED",
		"SELECT seq FROM tongan.visits INTO OUTFILE '/tmp/visits'":                                        "INTO_OUTFILE_NOT_ALLOWED",
	} {
		if got, err := query(t, e, UserAnalyst("440703"), sql); err == nil {
			t.Errorf("%s: may, and gets %q", sql, got)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: refused for another reason: %v", sql, err)
		}
	}
}

// A view that a migration adds is the city's until somebody decides.
func testViewOfLater(t *testing.T, e *chengine.Engine) {
	t.Helper()
	chtest.Exec(t, chtest.Conn(t, e, UserMigration),
		"CREATE VIEW tongan.later DEFINER = migration SQL SECURITY DEFINER AS SELECT adm_code FROM tongan_g1.visits FINAL")
	if got, err := query(t, e, UserAnalystCity, "SELECT count() FROM tongan.later"); err != nil || got != "8" {
		t.Errorf("%s: %q, %v", UserAnalystCity, got, err)
	}
	if got, err := query(t, e, UserAnalyst("440703"), "SELECT count() FROM tongan.later"); err == nil || !strings.Contains(err.Error(), "ACCESS_DENIED") {
		t.Errorf("%s: %q, %v", UserAnalyst("440703"), got, err)
	}
}

// A script that runs away is stopped, and the others notice nothing.
func TestAnalystsHaveQuotas(t *testing.T) {
	t.Parallel()
	all := users()
	for i := range all {
		if all[i].Name == UserAnalyst("440703") {
			all[i].Quotas = []chengine.Quota{{Every: 24 * time.Hour, Queries: 3}}
		}
	}
	e := chtest.Run(t, all...)
	if err := Migrate(t.Context(), e.DSN(UserMigration), transport.TLS{}, false); err != nil {
		t.Fatal(err)
	}
	const sql = "SELECT count() FROM tongan.visits"
	for i := range 5 {
		_, err := query(t, e, UserAnalyst("440703"), sql)
		if exceeded := err != nil && strings.Contains(err.Error(), "QUOTA_EXCEEDED"); exceeded != (i >= 3) {
			t.Errorf("query %d: %v", i+1, err)
		}
		if _, err := query(t, e, UserAnalyst("440704"), sql); err != nil {
			t.Errorf("%s: %v", UserAnalyst("440704"), err)
		}
	}
	got, err := query(t, e, UserAnalyst("440704"), "SELECT duration, max_queries, max_errors, max_read_rows, max_execution_time FROM system.quota_usage ORDER BY 1")
	if want := "60\t600\t60\t\\N\t\\N\n3600\t\\N\t\\N\t20000000000\t3600"; err != nil || got != want {
		t.Errorf("quota: %q, %v, want %q", got, err, want)
	}
}
