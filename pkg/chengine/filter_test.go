package chengine_test

import (
	"strings"
	"testing"
	"time"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

// shops has a view that runs in the name of the user migration; town is what readers are filtered by.
var shops = []string{
	"CREATE DATABASE tongan_g1 ENGINE = Atomic",
	"CREATE DATABASE tongan ENGINE = Atomic",
	"CREATE TABLE tongan_g1.sales (seq UInt64, town LowCardinality(String), shop String, value Int64) ENGINE = ReplacingMergeTree ORDER BY seq",
	"CREATE VIEW tongan.sales DEFINER = migration SQL SECURITY DEFINER AS SELECT seq, town, shop, value FROM tongan_g1.sales FINAL",
	"CREATE VIEW tongan.sums DEFINER = migration SQL SECURITY DEFINER AS SELECT town, sum(value) AS value FROM tongan_g1.sales FINAL GROUP BY town",
}

// east reads the views of one town.
var east = chengine.User{
	Name: "east", Password: "e", Readonly: true,
	Grants:  []string{"SELECT ON tongan.sales", "SELECT ON tongan.sums"},
	Filters: []chengine.Filter{{Table: "tongan.sales", Column: "town", Value: "east"}, {Table: "tongan.sums", Column: "town", Value: "east"}},
}

func TestFilteredReaderSeesItsRows(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, migration, projector, analyst, east)
	chtest.Exec(t, chtest.Conn(t, e, "migration"), shops...)
	chtest.Exec(t, chtest.Conn(t, e, "projector"),
		"INSERT INTO tongan_g1.sales VALUES (1, 'east', 'e1', 1), (2, 'west', 'w1', 10), (3, 'east', 'e2', 2), (4, 'west', 'w2', 20)")
	for _, tt := range []struct{ user, password, sql, want string }{
		{"analyst", "a", "SELECT count() FROM tongan.sales", "4"},
		{"projector", "p", "SELECT count() FROM tongan_g1.sales", "4"},
		{"east", "e", "SELECT count(), sum(value), groupArray(shop) FROM tongan.sales", "2\t3\t['e1','e2']"},
		{"east", "e", "SELECT town, value FROM tongan.sums", "east\t3"},
		{"east", "e", "SELECT count() FROM tongan.sales WHERE town = 'west' OR 1", "2"},
		// A condition is not computed on rows of others, where it would fail.
		{"east", "e", "SELECT count() FROM tongan.sales WHERE bitTest(1, (shop = 'w1') * 1000)", "2"},
		{"east", "e", "SELECT count() FROM tongan.sales AS a JOIN tongan.sales AS b ON a.seq = b.seq AND bitTest(1, (b.shop = 'w1') * 1000)", "2"},
		{"east", "e", "SELECT sum(bitTest(1, (value = 10) * 1000)) FROM tongan.sales", "2"},
		{"east", "e", "SELECT getSetting('query_plan_enable_optimizations')", "false"},
	} {
		if got, err := ask(t.Context(), e.HTTPAddr(), tt.user, tt.password, tt.sql); err != nil || got != tt.want {
			t.Errorf("%s: %s: %q, %v, want %q", tt.user, tt.sql, got, err, tt.want)
		}
	}
	testRefused(t, e, "east", "e", map[string]string{
		"SELECT 1 SETTINGS query_plan_enable_optimizations = 1":                      "READONLY",
		"SELECT 1 SETTINGS additional_table_filters = {'tongan.sales': '1'}":         "READONLY",
		"SELECT count() FROM tongan.sales WHERE bitTest(1, (shop = 'e1') * 1000)":    "PARAMETER_OUT_OF_BOUND",
		"CREATE ROW POLICY p ON tongan.sales USING 1 TO east":                        "ACCESS_DENIED",
		"SELECT * FROM system.row_policies":                                          "ACCESS_DENIED",
		"SHOW CREATE ROW POLICY east ON tongan.sales":                                "ACCESS_DENIED",
		"SELECT count() FROM remote('127.0.0.1', 'tongan', 'sales', 'analyst', 'a')": "ACCESS_DENIED",
		"EXECUTE AS analyst SELECT count() FROM tongan.sales":                        "SUPPORT_IS_DISABLED",
		"SELECT count() FROM mergeTreeIndex('tongan_g1', 'sales')":                   "ACCESS_DENIED",
		"SELECT * FROM tongan_g1.sales":                                              "ACCESS_DENIED",
	})
}

// What is bounded is refused until the span is over; nobody else notices. SELECT 1, by which clients ask for a sign of life, is never.
func TestQuotaIsEnforced(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour // long, so that no span ends in the middle of the test
	with := func(name string, q chengine.Quota) chengine.User {
		u := analyst
		q.Every = day
		u.Name, u.Quotas = name, []chengine.Quota{q, {Every: 2 * day, Queries: 1000}}
		return u
	}
	e := chtest.Run(t, analyst,
		with("asks", chengine.Quota{Queries: 3}), with("fails", chengine.Quota{Errors: 2}),
		with("reads", chengine.Quota{ReadRows: 1000}), with("works", chengine.Quota{ExecutionTime: time.Second}))
	const sound, faulty = "SELECT count() FROM numbers(2)", "SELECT throwIf(number = 1) FROM numbers(2)"
	for _, tt := range []struct {
		user    string
		queries []string // the last is refused
	}{
		{"asks", []string{sound, sound, sound, sound}},
		{"fails", []string{sound, faulty, sound, faulty, sound, faulty, sound}},
		{"reads", []string{"SELECT sum(number) FROM numbers(900)", "SELECT sum(number) FROM numbers(900)"}},
		{"works", []string{"SELECT sleepEachRow(0.2) FROM numbers(20) SETTINGS max_block_size = 1"}},
	} {
		for i, sql := range tt.queries {
			_, err := ask(t.Context(), e.HTTPAddr(), tt.user, "a", sql)
			exceeded := err != nil && strings.Contains(err.Error(), "QUOTA_EXCEEDED")
			if last := i == len(tt.queries)-1; exceeded != last {
				t.Errorf("%s: query %d, %s: %v", tt.user, i+1, sql, err)
			}
		}
		if _, err := ask(t.Context(), e.HTTPAddr(), "analyst", "a", sound); err != nil {
			t.Errorf("analyst, after %s: %v", tt.user, err)
		}
	}
}

func TestUsersThatAreRefused(t *testing.T) {
	t.Parallel()
	filter := chengine.Filter{Table: "tongan.visits", Column: "adm_code", Value: "440703"}
	changed := func(change func(f *chengine.Filter)) []chengine.Filter {
		f := filter
		change(&f)
		return []chengine.Filter{f}
	}
	for _, tt := range []struct {
		name string
		user chengine.User
		says string
	}{
		{"filter of a writer", chengine.User{Filters: []chengine.Filter{filter}}, "only a reader"},
		{"table without database", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Table = "visits" })}, "table"},
		{"table with markup", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Table = "tongan.v/><x" })}, "table"},
		{"column with SQL", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Column = "1 OR a" })}, "column"},
		{"value with a quote", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Value = "' OR '1" })}, "value"},
		{"value with a backslash", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Value = `\` })}, "value"},
		{"no value", chengine.User{Readonly: true, Filters: changed(func(f *chengine.Filter) { f.Value = "" })}, "value"},
		{"filter given twice", chengine.User{Readonly: true, Filters: []chengine.Filter{filter, filter}}, "twice"},
		{"span of 0", chengine.User{Quotas: []chengine.Quota{{Queries: 1}}}, "span"},
		{"span of half a second", chengine.User{Quotas: []chengine.Quota{{Every: time.Second / 2, Queries: 1}}}, "span"},
		{"span given twice", chengine.User{Quotas: []chengine.Quota{{Every: time.Second, Queries: 1}, {Every: time.Second, Errors: 1}}}, "twice"},
		{"bound below 0", chengine.User{Quotas: []chengine.Quota{{Every: time.Second, Queries: -1}}}, "below 0"},
		{"quota without bound", chengine.User{Quotas: []chengine.Quota{{Every: time.Second}}}, "no bound"},
		{"grant with markup", chengine.User{Grants: []string{"SELECT ON a.*</query>"}}, "grant"},
	} {
		tt.user.Name, tt.user.Password = "a", "p"
		err := chengine.Config{Dir: "x", Users: []chengine.User{tt.user}}.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "engine user a: ") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
