// Package chtest gives tests a ClickHouse engine of their own. It is the real
// engine, never an imitation: where its library is not installed a test fails,
// since a skipped test says nothing about the SQL it would have run.
package chtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"tongan.dev/pkg/chengine"
)

const timeout = 30 * time.Second

// Main is the TestMain of packages that start an engine:
//
//	func TestMain(m *testing.M) { chtest.Main(m) }
func Main(m *testing.M) {
	chengine.ChildMain()
	os.Exit(m.Run())
}

// Run starts an engine with the given users in a folder of its own and stops
// it when the test ends. Tests may run in parallel, each with its engine; one
// costs about half a second and 240 MB.
func Run(tb testing.TB, users ...chengine.User) *chengine.Engine {
	tb.Helper()
	return Start(tb, chengine.Config{Dir: tb.TempDir(), Users: users})
}

// Start is Run with a configuration, for tests that start a second engine on
// the folder of the first. Without a Log, warnings go to the test's output.
func Start(tb testing.TB, cfg chengine.Config) *chengine.Engine {
	tb.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	e, err := chengine.Start(ctx, cfg)
	if err != nil {
		tb.Fatalf("start the engine: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_ = e.Stop(ctx) // a test that kills its engine knows why it ended
	})
	return e
}

// Conn opens a native connection as the user, without TLS even if the engine
// has it, and closes it when the test ends.
func Conn(tb testing.TB, e *chengine.Engine, user string) driver.Conn {
	tb.Helper()
	opts, err := clickhouse.ParseDSN(e.LocalDSN(user))
	if err != nil {
		tb.Fatalf("engine address of %s: %v", user, err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		tb.Fatalf("connect as %s: %v", user, err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		tb.Fatalf("connect as %s: %v", user, err)
	}
	return conn
}

// Exec runs the statements one after the other and fails the test at the first error.
func Exec(tb testing.TB, conn driver.Conn, statements ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, sql := range statements {
		if err := conn.Exec(ctx, sql); err != nil {
			tb.Fatalf("%s: %v", sql, err)
		}
	}
}

// Local asks one SELECT under a configuration file meant for a server, in an
// environment of the test's making, and returns the answer, tab separated. It
// tells whether ClickHouse takes such a file; nobody can connect meanwhile.
func Local(tb testing.TB, configFile string, environ []string, sql string) (string, error) {
	tb.Helper()
	library, err := chengine.FindLibrary()
	if err != nil {
		tb.Fatal(err)
	}
	lifeline, end, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = errors.Join(lifeline.Close(), end.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	dir := tb.TempDir()
	answer := filepath.Join(dir, "answer")
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"local", library, "--config-file=" + configFile, "--path=" + dir, "--query=" + sql + " INTO OUTFILE '" + answer + "' FORMAT TSV"}
	cmd.Dir = dir
	cmd.Env = append([]string{chengine.ChildEnv + "=1", "HOME=" + dir, "PATH=/usr/bin:/bin"}, environ...)
	cmd.ExtraFiles = []*os.File{lifeline}
	words, err := cmd.CombinedOutput()
	text, readErr := os.ReadFile(answer) // missing if the query failed, whatever the exit status
	if err = errors.Join(err, readErr); err != nil {
		return "", fmt.Errorf("%w: %s", err, words)
	}
	return string(text), nil
}
