package projector

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/natstest"
)

// Tables that an earlier version has filled are filled up where they are: nothing is read less than before, and what is new is whole.
func TestTablesOfTheVersionBeforeAreFilledUp(t *testing.T) {
	t.Parallel()
	for version := uint32(extends); version < Version; version++ {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			t.Parallel()
			testFilledUp(t, version)
		})
	}
}

func testFilledUp(t *testing.T, version uint32) {
	t.Helper()
	e, js := engine(t), natstest.Bus(t)
	conn := chtest.Conn(t, e, UserProjector)
	publish(t, js, newGenerator(3).streams(20)...)
	publish(t, js, registryStory()...)
	first := run(t, js, conn, Config{})
	wait(t, js, conn)
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	want := dump(t, conn)
	asVersion(t, e, version)
	total := tallies(t, chtest.Conn(t, e, UserAnalystCity))

	stop := errors.New("killed before the journal")
	killed := run(t, js, conn, Config{Hook: func(_, step string) error {
		if step == "journal" {
			return stop
		}
		return nil
	}})
	if err := killed.ends(t); !errors.Is(err, stop) {
		t.Fatalf("ended with %v", err)
	}
	if diff := cmp.Diff(total, tallies(t, chtest.Conn(t, e, UserAnalystCity))); diff != "" {
		t.Errorf("in between: %s", diff)
	}
	second := run(t, js, conn, Config{})
	wait(t, js, conn)
	if err := second.end(); err != nil {
		t.Fatal(err)
	}
	got := dump(t, conn)
	if len(got["projection"]) != 2*len(want["projection"]) {
		t.Errorf("projection holds %q", got["projection"])
	}
	delete(got, "projection")
	delete(want, "projection")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// newTables are the tables that came with a version.
var newTables = map[uint32][]string{2: {"child_events"}, 3: {"contact_events", "shifts", "deadlines"}}

// asVersion makes the tables as an earlier version had left them.
func asVersion(t *testing.T, e *chengine.Engine, version uint32) {
	t.Helper()
	janitor, conn := chtest.Conn(t, e, "janitor"), chtest.Conn(t, e, UserProjector)
	unknown := "projection_version"
	for later := version + 1; later <= Version; later++ {
		for _, table := range newTables[later] {
			chtest.Exec(t, janitor, "TRUNCATE TABLE "+BaseDatabase+"."+table)
			unknown += ", " + table + "_rows"
		}
	}
	known := "* EXCEPT (" + unknown + ")"
	chtest.Exec(t, conn, fmt.Sprintf("INSERT INTO %s (%s, projection_version) SELECT %s, %d FROM %s FINAL", journal, known, known, version, journal))
	chtest.Exec(t, janitor, fmt.Sprintf("ALTER TABLE %s DELETE WHERE projection_version = %d SETTINGS mutations_sync = 2", journal, Version))
	const old = "stream, seq, n, state, case_id, child_id, category, adm_code, gap_cause, contact_id, follow_up_id, channel, close_reason, counts_special, special, " +
		"worker_id, credited_org, occurred_at, recorded_at" // what versions 1 and 2 knew of a case
	chtest.Exec(t, conn, fmt.Sprintf("INSERT INTO %s.cases (%s) SELECT %s FROM %s.cases FINAL", BaseDatabase, old, old, BaseDatabase))
	created := strs(t, conn, "SELECT concat(stream, ' ', toString(stream_created)) FROM "+projection+" FINAL")
	chtest.Exec(t, janitor, "TRUNCATE TABLE "+projection)
	for _, c := range created {
		var stream string
		var at int64
		if _, err := fmt.Sscan(c, &stream, &at); err != nil {
			t.Fatal(err)
		}
		chtest.Exec(t, conn, fmt.Sprintf("INSERT INTO %s VALUES ('%s', %d, %d)", projection, stream, version, at))
	}
}
