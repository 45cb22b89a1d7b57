package projector

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

func TestMain(m *testing.M) {
	projectorMain()
	chtest.Main(m)
}

// waitLimit is how long anything may take; a test that needs it has failed.
const waitLimit = 30 * time.Second

// districts are those of the default deployment; the first stands for the whole.
var districts = []string{"440700", "440703", "440704", "440705", "440781", "440783", "440784", "440785"}

// users are those of a deployment, and one that may empty the tables.
func users() []chengine.User {
	return append(Users(districts, func(name string) string { return "password of " + name }),
		chengine.User{Name: "janitor", Password: "j", Grants: []string{"TRUNCATE, SELECT, ALTER DELETE ON " + BaseDatabase + ".*"}})
}

// engine starts a ClickHouse and migrates it.
func engine(tb testing.TB) *chengine.Engine {
	tb.Helper()
	return engineIn(tb, tb.TempDir())
}

func engineIn(tb testing.TB, dir string) *chengine.Engine {
	tb.Helper()
	e := chtest.Start(tb, chengine.Config{Dir: dir, Users: users()})
	if err := Migrate(tb.Context(), e.DSN(UserMigration), transport.TLS{}, false); err != nil {
		tb.Fatal(err)
	}
	return e
}

// baseTables are the tables the projector fills.
func baseTables() []string {
	var names []string
	for _, table := range (&rows{}).inserts() {
		names = append(names, table.name)
	}
	return names
}

// empty makes the tables as they were after the migration.
func empty(tb testing.TB, e *chengine.Engine) {
	tb.Helper()
	conn := chtest.Conn(tb, e, "janitor")
	for _, table := range append(baseTables(), "projection") {
		chtest.Exec(tb, conn, "TRUNCATE TABLE "+BaseDatabase+"."+table)
	}
}

// running is a projector at work.
type running struct {
	*Projector
	cancel context.CancelFunc
	done   chan error
}

// run starts a projector; it ends with the test at the latest.
func run(tb testing.TB, js jetstream.JetStream, conn driver.Conn, cfg Config) *running {
	tb.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	p, err := New(js, conn, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	r := &running{Projector: p, cancel: cancel, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() { r.done <- p.Run(ctx); close(ended) }()
	tb.Cleanup(func() { cancel(); <-ended })
	return r
}

// end ends the projector and returns its error.
func (r *running) end() error {
	r.cancel()
	return <-r.done
}

// ends waits for the projector to end by itself.
func (r *running) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(waitLimit):
		t.Fatal("the projector does not end")
		return nil
	}
}

// targets are the last sequences of the streams.
func targets(tb testing.TB, js jetstream.JetStream) map[string]uint64 {
	tb.Helper()
	out := make(map[string]uint64)
	for _, service := range subject.Services() {
		s, err := js.Stream(tb.Context(), subject.Stream(service))
		if err != nil {
			tb.Fatal(err)
		}
		out[subject.Stream(service)] = s.CachedInfo().State.LastSeq
	}
	return out
}

// wait waits until the tables hold all the streams hold.
func wait(t *testing.T, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	waitUntil(t, conn, targets(t, js))
}

func waitUntil(t *testing.T, conn driver.Conn, targets map[string]uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := WaitFor(ctx, conn, targets); err != nil {
		t.Fatal(err)
	}
}

// dump returns all rows of all tables as readers see them.
func dump(t *testing.T, conn driver.Conn) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for _, table := range append(baseTables(), "projection") {
		out[table] = strs(t, conn, "SELECT toString(tuple(*)) FROM (SELECT * FROM "+BaseDatabase+"."+table+" FINAL ORDER BY ALL)")
		slices.Sort(out[table])
	}
	return out
}

// strs returns the one column of a query's rows.
func strs(tb testing.TB, conn driver.Conn, query string, args ...any) []string {
	tb.Helper()
	var out []string
	rows, err := conn.Query(tb.Context(), query, args...)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			tb.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return out
}

// tallies returns the sums by indicator and day as readers see them.
func tallies(t *testing.T, conn driver.Conn) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, s := range strs(t, conn, `SELECT concat(indicator, ' ', toString(sum(value)), ' ', any(unit)) FROM tongan.tallies GROUP BY indicator`) {
		indicator, rest, _ := strings.Cut(s, " ")
		out[indicator] = rest
	}
	return out
}

// stored is an event with the aggregate it belongs to.
type stored struct {
	aggregate subject.Aggregate
	id        string
	event     decider.Event
}

// publish appends events as services do, in order.
func publish(t *testing.T, js jetstream.JetStream, events ...stored) {
	t.Helper()
	logs := make(map[subject.Aggregate]*eventlog.Log)
	for i, s := range events {
		if logs[s.aggregate] == nil {
			logs[s.aggregate] = eventlog.New(js, s.aggregate, slog.New(slog.DiscardHandler))
		}
		log := logs[s.aggregate]
		last, err := eventlog.LastSequence(t.Context(), js, s.aggregate.Stream(), s.aggregate.Filter(s.id))
		if err != nil {
			t.Fatal(err)
		}
		command := fmt.Sprintf("k%d-%d", last, i)
		recorded := decider.Recorded{Event: s.event, ID: decider.EventID(log.Key(s.id), command, 0), Cause: command}
		if _, err := log.Append(t.Context(), s.id, last, []decider.Recorded{recorded}); err != nil {
			t.Fatal(err)
		}
	}
}

// poisonEvents stores one message of every kind that cannot be read.
func poisonEvents(t *testing.T, js jetstream.JetStream) (classes []string) {
	t.Helper()
	a := subject.Aggregate{Service: subject.Intake, Name: "case"}
	sound := decider.Recorded{Event: &intakev1.CaseOpened{Provenance: provenance(opening)}, ID: "e-poison", Cause: "k"}
	for i, spoil := range []func(m *nats.Msg){
		func(m *nats.Msg) { m.Header.Del(eventlog.HeaderType) },
		func(m *nats.Msg) { m.Header.Set(eventlog.HeaderCRC, "00000000") },
		func(m *nats.Msg) {
			m.Data = []byte("\xff\xff not a message")
			m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum(m.Header.Get(eventlog.HeaderType), m.Data))
		},
	} {
		m, err := eventlog.Encode(a, fmt.Sprint("spoilt", i), sound)
		if err != nil {
			t.Fatal(err)
		}
		m.Header.Set(eventlog.HeaderID, fmt.Sprint("e-poison", i))
		spoil(m)
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"HEADER", "CHECKSUM", "DECODE"}
}

// render returns rows as text, a line each, without what is empty and where in the stream they are.
func render(r rows) []string {
	var out []string
	for _, table := range r.inserts() {
		for i := range table.rows.Len() {
			line := table.name
			for _, f := range reflect.VisibleFields(table.rows.Type().Elem()) {
				v := table.rows.Index(i).FieldByIndex(f.Index)
				column := f.Tag.Get("ch")
				if column == "" || column == "stream" || column == "seq" || column == "n" || column == "recorded_at" || v.IsZero() {
					continue
				}
				line += fmt.Sprintf(" %s=%s", column, text(v))
			}
			out = append(out, line)
		}
	}
	return out
}

func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if t, ok := reflect.TypeAssert[time.Time](v); ok {
		return strings.TrimSuffix(t.Format(time.RFC3339), "T00:00:00Z")
	}
	return fmt.Sprint(v.Interface())
}

// messageOf is an event as the projector reads it.
func messageOf(s stored) message {
	payload, _ := proto.Marshal(s.event)
	return message{
		stream: s.aggregate.Stream(), sequence: 7, recorded: time.Date(2020, 2, 5, 0, 0, 0, 1, time.UTC), size: len(payload),
		envelope: eventlog.Envelope{
			Recorded: decider.Recorded{Event: s.event, ID: "e1", Cause: "k0", Sequence: 7},
			Subject:  subject.Parsed{Aggregate: s.aggregate, ID: s.id},
			Type:     string(s.event.ProtoReflect().Descriptor().FullName()),
			Command:  "k1",
		},
	}
}
