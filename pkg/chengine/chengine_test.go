package chengine_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

func TestMain(m *testing.M) {
	chengine.ChildMain()
	parentMain()
	os.Exit(m.Run())
}

var (
	migration = chengine.User{Name: "migration", Password: "m", Grants: []string{
		"CREATE DATABASE, CREATE TABLE, CREATE VIEW, SELECT ON tongan.*",
		"CREATE DATABASE, CREATE TABLE, SELECT ON tongan_g1.*",
		"TABLE ENGINE ON Atomic", "TABLE ENGINE ON ReplacingMergeTree",
	}}
	projector = chengine.User{Name: "projector", Password: "p", Grants: []string{"SELECT, INSERT ON tongan_g1.*"}}
	analyst   = chengine.User{Name: "analyst", Password: "a", Readonly: true, Grants: []string{"SELECT ON tongan.*"}}
)

// schema is a base table and a view on it, made by the user migration.
var schema = []string{
	"CREATE DATABASE tongan_g1 ENGINE = Atomic",
	"CREATE DATABASE tongan ENGINE = Atomic",
	"CREATE TABLE tongan_g1.facts (seq UInt64, value Int64) ENGINE = ReplacingMergeTree ORDER BY seq",
	"CREATE VIEW tongan.tallies DEFINER = migration SQL SECURITY DEFINER AS SELECT sum(value) AS value FROM tongan_g1.facts FINAL",
}

// ask sends sql over HTTP and returns the answer, or the engine's message as an error.
func ask(ctx context.Context, addr, user, password, sql string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(body))
	}
	return strings.TrimSpace(string(body)), err
}

// ping opens a native connection of its own and asks for a sign of life.
func ping(t *testing.T, dsn string) error {
	t.Helper()
	opts, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.Ping(t.Context())
}

// waitFor polls until ok says so, and fails the test after the limit.
func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", limit, what)
		case <-poll.C:
		}
	}
}

func TestAnswersOverHTTPAndNative(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, migration, projector)
	got, err := ask(t.Context(), e.HTTPAddr(), "migration", "m", "SELECT currentUser()")
	if err != nil || got != "migration" {
		t.Errorf("over HTTP: %q, %v", got, err)
	}
	chtest.Exec(t, chtest.Conn(t, e, "migration"), schema...)
	conn := chtest.Conn(t, e, "projector")
	for range 2 { // the same rows again are the same rows
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO tongan_g1.facts")
		if err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(10) {
			if err := batch.Append(seq, int64(1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	var all, final uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM tongan_g1.facts").Scan(&all); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM tongan_g1.facts FINAL").Scan(&final); err != nil {
		t.Fatal(err)
	}
	if final != 10 || all != 20 {
		t.Errorf("rows: %d of %d, want 10 of 20 (the second insert must not be dropped as a duplicate)", final, all)
	}
}

func TestSettingsOfWriters(t *testing.T) {
	t.Parallel()
	reader := migration
	reader.Grants = append([]string{"SELECT ON system.merge_tree_settings"}, reader.Grants...)
	conn := chtest.Conn(t, chtest.Run(t, reader), "migration")
	for sql, want := range map[string]string{
		"SELECT toString(getSetting('async_insert'))":                                                      "false",
		"SELECT toString(getSetting('deduplicate_insert'))":                                                "disable",
		"SELECT value FROM system.merge_tree_settings WHERE name = 'fsync_after_insert'":                   "1",
		"SELECT value FROM system.merge_tree_settings WHERE name = 'fsync_part_directory'":                 "1",
		"SELECT toString(count()) FROM system.tables WHERE database = 'system' AND name LIKE '%query_log'": "0",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sql, got, err, want)
		}
	}
}

func TestDataSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	cfg := chengine.Config{Dir: t.TempDir(), Users: []chengine.User{migration, projector, analyst}}
	first := chtest.Start(t, cfg)
	chtest.Exec(t, chtest.Conn(t, first, "migration"), schema...)
	chtest.Exec(t, chtest.Conn(t, first, "projector"), "INSERT INTO tongan_g1.facts VALUES (1, 40), (2, 2)")
	if err := syscall.Kill(first.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Done()
	if first.Err() == nil {
		t.Error("a killed engine has no error")
	}
	second := chtest.Start(t, cfg)
	got, err := ask(t.Context(), second.HTTPAddr(), "analyst", "a", "SELECT value FROM tongan.tallies")
	if err != nil || got != "42" {
		t.Errorf("after the restart: %q, %v, want 42", got, err)
	}
}

func TestSignalsOfTheTerminalDoNotEndIt(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, analyst)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(e.Pid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if group, err := syscall.Getpgid(e.Pid()); err != nil || group == syscall.Getpgrp() {
		t.Errorf("process group: %d, %v, want one of its own", group, err)
	}
	for range 3 {
		if _, err := ask(t.Context(), e.HTTPAddr(), "analyst", "a", "SELECT 1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStopIsQuickAndIdempotent(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, analyst)
	conn := chtest.Conn(t, e, "analyst") // an open connection must not hold it up
	began := time.Now()
	for range 2 {
		if err := e.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	select {
	case <-e.Done():
	default:
		t.Error("stopped, but not done")
	}
	if err := e.Err(); err != nil {
		t.Errorf("error after Stop: %v", err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a stopped engine answers")
	}
}

func TestStartErrorsAreClear(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	taken := listener.Addr().(*net.TCPAddr).Port
	_, takenText, _ := net.SplitHostPort(listener.Addr().String())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  chengine.Config
		is   error
		says string
	}{
		{name: "HTTP port taken", cfg: chengine.Config{Dir: t.TempDir(), HTTPPort: taken}, is: chengine.ErrPortTaken, says: takenText},
		{name: "TCP port taken", cfg: chengine.Config{Dir: t.TempDir(), TCPPort: taken}, is: chengine.ErrPortTaken, says: takenText},
		{name: "no library", cfg: chengine.Config{Dir: t.TempDir(), Library: file + "/none.so"}, is: chengine.ErrNoLibrary, says: "make engine"},
		{name: "not a library", cfg: chengine.Config{Dir: t.TempDir(), Library: file}, says: "load " + file},
		{name: "folder not writable", cfg: chengine.Config{Dir: filepath.Join(file, "data")}, says: "is not writable"},
		{name: "no folder", says: "no data folder"},
		{name: "user without password", cfg: chengine.Config{Dir: "x", Users: []chengine.User{{Name: "a"}}}, says: "no password"},
		{name: "user default", cfg: chengine.Config{Dir: "x", Users: []chengine.User{{Name: "default", Password: "x"}}}, says: "taken"},
		{name: "bad name", cfg: chengine.Config{Dir: "x", Users: []chengine.User{{Name: "a b", Password: "x"}}}, says: "lower case"},
		{name: "not a grant", cfg: chengine.Config{Dir: "x", Users: []chengine.User{{Name: "a", Password: "x", Grants: []string{"EVERYTHING"}}}}, says: "not of the form"},
		{name: "unknown grant", cfg: chengine.Config{Dir: t.TempDir(), Users: []chengine.User{{Name: "a", Password: "x", Grants: []string{"EAT ON a.*"}}}}, says: "engine ended"},
		{name: "same port twice", cfg: chengine.Config{Dir: "x", HTTPPort: 1, TCPPort: 1}, says: "both"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := chengine.Start(t.Context(), tt.cfg)
			if err == nil {
				_ = e.Stop(t.Context())
				t.Fatal("started")
			}
			if tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error: %v, want %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %v", err)
			}
		})
	}
}

func TestOneEngineInAFolder(t *testing.T) {
	t.Parallel()
	cfg := chengine.Config{Dir: t.TempDir()}
	first := chtest.Start(t, cfg)
	if _, err := chengine.Start(t.Context(), cfg); !errors.Is(err, chengine.ErrDirInUse) {
		t.Errorf("second engine: %v, want %v", err, chengine.ErrDirInUse)
	}
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	chtest.Start(t, cfg)
}

func TestEndOfContextEndsTheStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := chengine.Start(ctx, chengine.Config{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v, want %v", err, context.Canceled)
	}
}

// Without a terminal the engine ends at the first of these.
func TestSurvivesItsClients(t *testing.T) {
	t.Parallel()
	e := chtest.Run(t, analyst)
	for _, addr := range []string{e.HTTPAddr(), e.TCPAddr()} {
		for _, data := range []string{"", "garbage\r\n\r\n", "\x00\xff\xff\xff\xff\xff", "GET /?query=SELECT+1 HTTP/1.1\r\nHost: a\r\n\r\n"} {
			for _, linger := range []int{-1, 0} { // 0 resets the connection
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.(*net.TCPConn).SetLinger(linger)
				_, _ = io.WriteString(conn, data)
				_ = conn.Close()
			}
		}
	}
	for range 3 {
		if err := ping(t, strings.Replace(e.DSN("analyst"), ":a@", ":wrong@", 1)); err == nil {
			t.Error("a wrong password is accepted")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, e.HTTPAddr(), "analyst", "a", "SELECT sleep(3)"); err == nil {
		t.Error("a query of three seconds took less")
	}
	if err := ping(t, e.DSN("analyst")); err != nil {
		t.Error(err)
	}
	if _, err := ask(t.Context(), e.HTTPAddr(), "analyst", "a", "SELECT 1"); err != nil {
		t.Error(err)
	}
}
