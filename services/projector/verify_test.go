package projector

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// audited is a bus and a ClickHouse that were filled from it.
type audited struct {
	js             jetstream.JetStream
	engine         *chengine.Engine
	conn, janitor  driver.Conn // as migration, which may repair, and as who may do harm
	intake, health string
	chunk          int
}

// verify compares, and returns what differs, a line each; equal rows are counted.
func (a *audited) verify(t *testing.T, repair bool) (lines []string, rows uint64) {
	t.Helper()
	all, err := Verify(t.Context(), a.js, a.conn, VerifyConfig{Repair: repair, Settle: time.Millisecond, ChunkRows: a.chunk})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Stopped != nil {
			t.Errorf("%s: %v", c.Stream, c.Stopped)
		}
		rows += c.Rows
		for _, d := range c.Differences {
			lines = append(lines, fmt.Sprintf("%s %s %d-%d: %d %d %d", d.Table, d.Stream, d.From, d.To, d.Missing, d.Extra, d.Different))
		}
	}
	return lines, rows
}

// TestTheTablesAreComparedWithTheStreams takes one bus and one ClickHouse through harm of every kind. Each is named, mended, and gone then.
func TestTheTablesAreComparedWithTheStreams(t *testing.T) {
	t.Parallel()
	e := engine(t)
	a := &audited{
		js: gappyBus(t), engine: e, conn: chtest.Conn(t, e, UserMigration), janitor: chtest.Conn(t, e, "janitor"),
		intake: subject.Stream(subject.Intake), health: subject.Stream(subject.HealthCheck),
	}
	writer := chtest.Conn(t, e, UserProjector)
	publish(t, a.js, newGenerator(1).streams(100)...)
	poisonEvents(t, a.js)
	p := run(t, a.js, writer, Config{})
	wait(t, a.js, writer)
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	ends, sound := targets(t, a.js), dump(t, writer)
	var total uint64
	for table, rows := range sound {
		if table != "projection" {
			total += uint64(len(rows))
		}
	}
	if lines, rows := a.verify(t, false); len(lines) > 0 || rows != total {
		t.Fatalf("sound tables of %d rows: %d are equal, different is %q", total, rows, lines)
	}
	exec := func(sql ...string) { chtest.Exec(t, a.janitor, sql...) }
	insert := func(sql ...string) { chtest.Exec(t, writer, sql...) }
	const sync = " SETTINGS mutations_sync = 2"
	whole := func(stream string) string { return fmt.Sprintf("0-%d", ends[stream]) }
	for _, c := range []struct {
		name string
		harm func()
		want []string
	}{
		{"rows are gone", func() {
			exec("ALTER TABLE tongan_g1.facts DELETE WHERE stream = 'TONGAN_INTAKE' AND seq BETWEEN 30 AND 50" + sync)
		}, []string{fmt.Sprintf("facts TONGAN_INTAKE %s: %d 0 0", whole(a.intake), a.count(t, "facts", "stream = 'TONGAN_INTAKE' AND seq BETWEEN 30 AND 50"))}},
		{"journal rows are gone, also the last", func() {
			exec(fmt.Sprintf("ALTER TABLE tongan_g1.journal DELETE WHERE stream = 'TONGAN_INTAKE' AND seq IN (7, 8, %d)%s", ends[a.intake], sync))
		}, []string{fmt.Sprintf("journal TONGAN_INTAKE %s: 3 0 0", whole(a.intake))}},
		{"a row is altered", func() {
			insert("INSERT INTO tongan_g1.health_checks SELECT * REPLACE (temp_decicelsius + 1 AS temp_decicelsius) FROM tongan_g1.health_checks FINAL ORDER BY seq LIMIT 1")
		}, []string{fmt.Sprintf("health_checks TONGAN_HEALTHCHECK %s: 0 0 1", whole(a.health))}},
		{"a figure of the journal is altered", func() {
			insert("INSERT INTO tongan_g1.journal SELECT * REPLACE (visits_rows + 1 AS visits_rows) FROM tongan_g1.journal FINAL WHERE stream = 'TONGAN_HEALTHCHECK' LIMIT 2")
		}, []string{fmt.Sprintf("journal TONGAN_HEALTHCHECK %s: 0 0 2", whole(a.health))}},
		{"rows that no event gives", func() {
			insert("INSERT INTO tongan_g1.facts (stream, seq, n, indicator, value) VALUES ('TONGAN_INTAKE', 9, 77, 'phone_visits', 1000), ('TONGAN_INTAKE', 0, 0, 'phone_visits', 1000)",
				"INSERT INTO tongan_g1.visits SELECT * REPLACE (9 AS n) FROM tongan_g1.visits FINAL LIMIT 1")
		}, []string{
			fmt.Sprintf("facts TONGAN_INTAKE %s: 0 2 0", whole(a.intake)), fmt.Sprintf("visits TONGAN_OUTREACH %s: 0 1 0", whole(subject.Stream(subject.Outreach))),
		}},
		{"rows of a stream that there is not", func() {
			insert("INSERT INTO tongan_g1.facts (stream, seq, n, indicator, value) VALUES ('TONGAN_OTHER', 9, 0, 'phone_visits', 1000)")
		}, []string{"facts  0-0: 0 1 0"}},
		{"rows beyond the end of a stream", func() {
			insert("INSERT INTO tongan_g1.facts (stream, seq, n, indicator, value) VALUES ('TONGAN_INTAKE', 100000, 0, 'phone_visits', 1000)",
				"INSERT INTO tongan_g1.journal (stream, seq, kind, projection_version) VALUES ('TONGAN_INTAKE', 100001, 'event', 3)")
		}, []string{
			fmt.Sprintf("facts TONGAN_INTAKE %d-100000: 0 1 0", ends[a.intake]+1), fmt.Sprintf("journal TONGAN_INTAKE %d-100001: 0 1 0", ends[a.intake]+1),
		}},
		{"journal rows of an earlier version", func() {
			insert("INSERT INTO tongan_g1.journal SELECT * REPLACE (2 AS projection_version) FROM tongan_g1.journal FINAL WHERE stream = 'TONGAN_HEALTHCHECK'")
		}, []string{fmt.Sprintf("journal TONGAN_HEALTHCHECK %s: 0 0 %d", whole(a.health), ends[a.health])}},
		{"parts twice are no difference", func() {
			insert("INSERT INTO tongan_g1.facts SELECT * FROM tongan_g1.facts FINAL", "INSERT INTO tongan_g1.journal SELECT * FROM tongan_g1.journal FINAL")
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.harm()
			a.checkMended(t, writer, sound, c.want)
		})
	}
	t.Run("all tables are empty", func(t *testing.T) {
		for _, table := range baseTables() {
			exec("TRUNCATE TABLE " + BaseDatabase + "." + table)
		}
		if lines, _ := a.verify(t, true); len(lines) < len(baseTables()) {
			t.Errorf("different is %q", lines)
		}
		a.checkMended(t, writer, sound, nil)
	})
	t.Run("in chunks the place is told more exactly", func(t *testing.T) {
		a.chunk = 60
		exec("ALTER TABLE tongan_g1.journal DELETE WHERE stream = 'TONGAN_HEALTHCHECK' AND seq IN (5, 95, 96)" + sync)
		lines, rows := a.verify(t, true)
		if want := []string{"journal TONGAN_HEALTHCHECK 0-23: 1 0 0", "journal TONGAN_HEALTHCHECK 87-100: 2 0 0"}; !cmp.Equal(want, lines) || rows != total {
			t.Errorf("of %d rows, different is %q", rows, lines)
		}
		a.checkMended(t, writer, sound, nil)
	})
	t.Run("what is not known ends the comparison of its stream", a.testUndecided)
}

func (a *audited) count(t *testing.T, table, where string) int {
	t.Helper()
	var n uint64
	if err := a.conn.QueryRow(t.Context(), "SELECT count() FROM tongan_g1."+table+" FINAL WHERE "+where).Scan(&n); err != nil || n == 0 {
		t.Fatalf("%d rows in %s: %v", n, table, err)
	}
	return int(n)
}

// checkMended checks that what differs is named, and gone once it was repaired, not before.
func (a *audited) checkMended(t *testing.T, writer driver.Conn, sound map[string][]string, want []string) {
	t.Helper()
	if lines, _ := a.verify(t, false); !cmp.Equal(want, lines) {
		t.Fatal(cmp.Diff(want, lines))
	}
	if lines, _ := a.verify(t, true); !cmp.Equal(want, lines) {
		t.Errorf("when it is repaired: %s", cmp.Diff(want, lines))
	}
	if diff := cmp.Diff(sound, dump(t, writer)); diff != "" {
		t.Error(diff)
	}
}

func (a *audited) testUndecided(t *testing.T) {
	m := nats.NewMsg(visits.Event("v9", "FutureThingHappened"))
	m.Header.Set(eventlog.HeaderID, "e9")
	m.Header.Set(eventlog.HeaderType, "tongan.outreach.v1.FutureThingHappened")
	m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum("tongan.outreach.v1.FutureThingHappened", nil))
	ack, err := a.js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	all, err := Verify(t.Context(), a.js, a.conn, VerifyConfig{Settle: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if stops := c.Stream == subject.Stream(subject.Outreach); stops != errors.Is(c.Stopped, ErrUndecided) || stops && c.To != ack.Sequence-1 || len(c.Differences) > 0 {
			t.Errorf("%s up to %d: %v, %v", c.Stream, c.To, c.Stopped, c.Differences)
		}
	}
}
