package chtest_test

import (
	"testing"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

func TestMain(m *testing.M) { chtest.Main(m) }

var writer = chengine.User{
	Name: "writer", Password: "p@ss:/word", // characters a DSN has to escape
	Grants: []string{"CREATE DATABASE, CREATE TABLE, SELECT, INSERT ON t.*", "TABLE ENGINE ON Atomic", "TABLE ENGINE ON MergeTree"},
}

func TestRunGivesEachTestItsOwnEngine(t *testing.T) {
	t.Parallel()
	for _, value := range []uint64{1, 2} {
		conn := chtest.Conn(t, chtest.Run(t, writer), "writer")
		chtest.Exec(t, conn,
			"CREATE DATABASE t ENGINE = Atomic",
			"CREATE TABLE t.n (n UInt64) ENGINE = MergeTree ORDER BY n",
		)
		batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO t.n")
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Append(value); err != nil {
			t.Fatal(err)
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
		var sum uint64
		if err := conn.QueryRow(t.Context(), "SELECT sum(n) FROM t.n").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		if sum != value {
			t.Errorf("sum: %d, want %d", sum, value)
		}
	}
}

// failures is a test that only notes its failing. Fatalf ends the goroutine, as that of a test does.
type failures struct {
	testing.TB
	failed bool
}

func (f *failures) Helper() {}

func (f *failures) Fatalf(string, ...any) {
	f.failed = true
	panic(f)
}

func TestWithoutLibraryTheTestFails(t *testing.T) {
	t.Setenv(chengine.LibraryEnv, t.TempDir()+"/libchdb.so")
	f := &failures{TB: t}
	func() {
		defer func() { _ = recover() }()
		chtest.Run(f)
	}()
	if !f.failed {
		t.Error("Run does not fail without the library")
	}
}
