package chengine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

func TestReaderReadsItsViews(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, migration, projector, analyst)
	chtest.Exec(t, chtest.Conn(t, e, "migration"), schema...)
	chtest.Exec(t, chtest.Conn(t, e, "projector"), "INSERT INTO tongan_g1.facts VALUES (1, 40), (2, 2)")
	conn := chtest.Conn(t, e, "analyst")
	// The client makes a setting of a deadline; within the bound that must work.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var value int64
	if err := conn.QueryRow(ctx, "SELECT value FROM tongan.tallies").Scan(&value); err != nil || value != 42 {
		t.Errorf("tallies: %d, %v, want 42", value, err)
	}
	ctx = clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_result_rows": 10, "session_timezone": "Asia/Shanghai"}))
	if err := conn.QueryRow(ctx, "SELECT value FROM tongan.tallies").Scan(&value); err != nil {
		t.Errorf("with settings of a client: %v", err)
	}
	ctx = clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_execution_time": 1000}))
	if err := conn.QueryRow(ctx, "SELECT value FROM tongan.tallies").Scan(&value); err == nil {
		t.Error("a limit was raised over its bound")
	}
	testRefused(t, e, "analyst", "a", refused)
}

// refused is what a reader must not do, and what the engine says to it.
var refused = map[string]string{
	"INSERT INTO tongan_g1.facts VALUES (9, 9)":                               "ACCESS_DENIED",
	"CREATE TABLE tongan.t (a Int8) ENGINE = Memory":                          "ACCESS_DENIED",
	"CREATE TEMPORARY TABLE t (a Int8)":                                       "ACCESS_DENIED",
	"CREATE DATABASE d ENGINE = Atomic":                                       "ACCESS_DENIED",
	"CREATE USER u":                                                           "ACCESS_DENIED",
	"CREATE FUNCTION f AS x -> x":                                             "ACCESS_DENIED",
	"DROP VIEW tongan.tallies":                                                "ACCESS_DENIED",
	"ALTER TABLE tongan_g1.facts DELETE WHERE 1":                              "ACCESS_DENIED",
	"BACKUP TABLE tongan.tallies TO File('b')":                                "ACCESS_DENIED",
	"SELECT * FROM tongan_g1.facts":                                           "ACCESS_DENIED",
	"SELECT * FROM mergeTreeIndex('tongan_g1', 'facts')":                      "ACCESS_DENIED",
	"SELECT * FROM merge('tongan_g1', '.*')":                                  "CANNOT_EXTRACT_TABLE_STRUCTURE",
	"SELECT * FROM system.processes":                                          "ACCESS_DENIED",
	"SELECT * FROM system.users":                                              "ACCESS_DENIED",
	"SELECT * FROM system.server_settings":                                    "ACCESS_DENIED",
	"SELECT * FROM system.parts":                                              "ACCESS_DENIED",
	"SELECT * FROM information_schema.tables":                                 "ACCESS_DENIED",
	"SHOW PROCESSLIST":                                                        "ACCESS_DENIED",
	"KILL QUERY WHERE 1":                                                      "ACCESS_DENIED",
	"SYSTEM STOP MERGES tongan_g1.facts":                                      "ACCESS_DENIED",
	"SYSTEM SHUTDOWN":                                                         "ACCESS_DENIED",
	"SYSTEM STOP LISTEN HTTP":                                                 "ACCESS_DENIED",
	"SELECT * FROM file('/etc/hostname', 'LineAsString')":                     "getcwd failed",
	"SELECT * FROM filesystem('/etc')":                                        "ACCESS_DENIED",
	"SELECT * FROM url('http://127.0.0.1/', 'LineAsString')":                  "ACCESS_DENIED",
	"SELECT * FROM s3('http://127.0.0.1/bucket/a', 'LineAsString')":           "ACCESS_DENIED",
	"SELECT * FROM remote('127.0.0.1', 'system', 'one')":                      "ACCESS_DENIED",
	"SELECT * FROM executable('id', 'TSV', 'a String')":                       "ACCESS_DENIED",
	"SELECT file('/etc/hostname')":                                            "getcwd failed",
	"SELECT file(materialize('/proc/self/environ'), 'default')":               "getcwd failed",
	"SELECT 1 FORMAT Template SETTINGS format_template_row = '/etc/hostname'": "READONLY",
	"SELECT 1 SETTINGS output_format_schema = '/tmp/a'":                       "READONLY",
	"SELECT 1 SETTINGS format_schema = 'a:A'":                                 "READONLY",
	"SELECT addressToSymbol(1)":                                               "ACCESS_DENIED",
	"SET max_execution_time = 1000":                                           "SETTING_CONSTRAINT_VIOLATION",
	"SELECT 1 SETTINGS max_execution_time = 0":                                "SETTING_CONSTRAINT_VIOLATION",
	"SELECT 1 SETTINGS max_memory_usage = 100000000000":                       "SETTING_CONSTRAINT_VIOLATION",
	"SELECT 1 SETTINGS max_result_rows = 0":                                   "SETTING_CONSTRAINT_VIOLATION",
	"SELECT 1 SETTINGS readonly = 0":                                          "READONLY",
	"SELECT 1 SETTINGS timeout_overflow_mode = 'break'":                       "READONLY",
	"SELECT 1 SETTINGS compatibility = '20.1'":                                "READONLY",
	"SELECT number FROM numbers(2000000) FORMAT Null":                         "TOO_MANY_ROWS",
}

func testRefused(t *testing.T, e *chengine.Engine, user, password string, refused map[string]string) {
	t.Helper()
	for sql, want := range refused {
		answer, err := ask(t.Context(), e.HTTPAddr(), user, password, sql)
		if err == nil {
			t.Errorf("%s may: %s: %.200s", user, sql, answer)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s: %.300v, want %s", user, sql, err, want)
		}
	}
}

func TestReaderSeesOnlyWhatItIsGranted(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, migration, analyst, chengine.User{Name: "nobody", Password: "n"})
	chtest.Exec(t, chtest.Conn(t, e, "migration"), schema...)
	for _, tt := range []struct{ user, password, sql, want string }{
		{"analyst", "a", "SHOW DATABASES", "tongan"},
		{"analyst", "a", "SELECT concat(database, '.', name) FROM system.tables WHERE database != 'system'", "tongan.tallies"},
		{"nobody", "n", "SHOW DATABASES", ""},
		{"nobody", "n", "SHOW GRANTS", ""},
	} {
		got, err := ask(t.Context(), e.HTTPAddr(), tt.user, tt.password, tt.sql)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s: %q, %v, want %q", tt.user, tt.sql, got, err, tt.want)
		}
	}
	testRefused(t, e, "nobody", "n", map[string]string{
		"SELECT * FROM tongan.tallies":      "ACCESS_DENIED",
		"SELECT * FROM tongan_g1.facts":     "ACCESS_DENIED",
		"SELECT * FROM system.users":        "ACCESS_DENIED",
		"SELECT file('/etc/hostname')":      "getcwd failed",
		"CREATE TEMPORARY TABLE t (a Int8)": "ACCESS_DENIED",
	})
}

// The engine's session runs as a user without a password. Nobody else can be it.
func TestNobodyIsTheUserOfTheSession(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, analyst)
	for _, sql := range []string{"SELECT 1", "SELECT * FROM system.numbers LIMIT 1", "SYSTEM STOP LISTEN TCP"} {
		for _, user := range []string{"", "default"} {
			if answer, err := ask(t.Context(), e.HTTPAddr(), user, "", sql); err == nil {
				t.Errorf("%s as %q: %s", sql, user, answer)
			}
		}
	}
	for _, user := range []string{"default", "tongan_engine", "analyst_"} {
		if err := ping(t, e.DSN(user)); err == nil {
			t.Errorf("%s may log in over the native interface", user)
		}
	}
}

func TestFilesTellNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := chengine.User{Name: "analyst", Password: "canary-password", Readonly: true}
	e := chtest.Start(t, chengine.Config{Dir: dir, Users: []chengine.User{secret}})
	for _, sql := range []string{"SELECT 'canary-value' FROM nowhere", "SELECT toInt8('canary-value')", "SELECT throwIf(1, 'canary-value')"} {
		if _, err := ask(t.Context(), e.HTTPAddr(), "analyst", secret.Password, sql); err == nil {
			t.Errorf("%s: no error", sql)
		}
		if err := chtest.Conn(t, e, "analyst").Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: no error", sql)
		}
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "canary") {
			t.Errorf("%s has the password or the text of a query", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
