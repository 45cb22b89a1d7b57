package chengine_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

// A part of a table that is broken, as after a full disk, does not keep the engine from starting: it is put aside, and the rest is there.
func TestAnEngineStartsWithABrokenPart(t *testing.T) {
	t.Parallel()
	cfg := chengine.Config{Dir: t.TempDir(), Users: []chengine.User{migration, projector}}
	e := chtest.Start(t, cfg)
	chtest.Exec(t, chtest.Conn(t, e, "migration"), schema...)
	conn := chtest.Conn(t, e, "projector")
	chtest.Exec(t, conn, "INSERT INTO tongan_g1.facts VALUES (1, 40)", "INSERT INTO tongan_g1.facts VALUES (2, 2)")
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken := 0
	err := filepath.WalkDir(cfg.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.HasPrefix(filepath.Base(filepath.Dir(path)), "all_1_1_") {
			broken++
			err = os.Truncate(path, 0)
		}
		return err
	})
	if err != nil || broken == 0 {
		t.Fatalf("%d files of a part are emptied: %v", broken, err)
	}
	conn = chtest.Conn(t, chtest.Start(t, cfg), "projector")
	var n, sum int64
	if err := conn.QueryRow(t.Context(), "SELECT toInt64(count()), toInt64(sum(value)) FROM tongan_g1.facts").Scan(&n, &sum); err != nil || n != 1 {
		t.Errorf("%d rows, %v; want the one of the part that is sound", n, err)
	}
}
