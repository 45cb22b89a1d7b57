package projector

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

const (
	byPhone    = outreachv1.VisitChannel_VISIT_CHANNEL_PHONE
	answered   = outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED
	unanswered = outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER
)

var (
	visits    = subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	pcases    = subject.Aggregate{Service: subject.Intake, Name: "case"}
	pchildren = subject.Aggregate{Service: subject.Intake, Name: "child"}
	figures   = subject.Aggregate{Service: subject.Reporting, Name: "bulletin"}
)

// world is a bus, a ClickHouse and connections to both.
type world struct {
	js      jetstream.JetStream
	dir     string // of the engine
	engine  *chengine.Engine
	conn    driver.Conn // as the projector
	analyst driver.Conn
	first   *running
}

// TestProjection takes one bus and one ClickHouse through what happens to them; the parts build on each other.
func TestProjection(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := engineIn(t, dir)
	w := &world{natstest.Bus(t), dir, e, chtest.Conn(t, e, UserProjector), chtest.Conn(t, e, UserAnalystCity), nil}
	w.first = run(t, w.js, w.conn, Config{})
	t.Run("events become tallies", w.testTallies)
	t.Run("one event is seen soon", w.testLatency)
	t.Run("poison is put aside and the rest goes on", w.testPoison)
	t.Run("a stream created anew is refused while running", w.testRecreated)
	t.Run("before a batch the stream is looked at", w.testSameStream)
	t.Run("another version or stream is refused at start", w.testRefused)
	t.Run("what is not known stops its stream only", w.testUndecided)
	t.Run("waiting ends with its context", w.testWaitEnds)
	t.Run("a ClickHouse that goes away is waited for", w.testAway)
}

func (w *world) testTallies(t *testing.T) {
	publish(t, w.js,
		stored{visits, "w1_20200128", visited(byPhone, answered)},
		stored{visits, "w1_20200128", visited(byPhone, answered)},
		stored{visits, "w1_20200128", visited(byPhone, unanswered)},
		stored{visits, "w1_20200128", voided(byPhone, answered)},
	)
	for name, c := range outreachCases() {
		publish(t, w.js, stored{visits, strings.ReplaceAll(name, " ", "_"), c.event})
	}
	for _, c := range childCases() {
		publish(t, w.js, stored{pchildren, "c1", c.event})
	}
	for _, cases := range []map[string]rowCase{caseCases(), contactCases(), shiftCases()} {
		for name, c := range cases {
			publish(t, w.js, stored{pcases, strings.ReplaceAll(strings.ReplaceAll(name, " ", "_"), ",", ""), c.event})
		}
	}
	for name, c := range healthCheckCases() {
		publish(t, w.js, stored{subject.Aggregate{Service: subject.HealthCheck, Name: "round"}, strings.ReplaceAll(name, " ", "_"), c.event})
	}
	wait(t, w.js, w.conn)
	want := map[string]string{
		phoneVisits: "2 人次", phoneCalls: "1 次", phoneAttempts: "2 次", smsReminders: "1 条次", smsDelivered: "1 条次", smsFailed: "1 条次",
		protectiveItems: "3 件", protectiveItemsDispatched: "20 件", serviceSupports: "1 宗", specialCases: "2 个", casesOpened: "2 个",
		hotlineContacts: "4 次", hotlineNonCounselling: "1 次", childrenRegistered: "2 人", healthChecks: "3 人次", abnormalTemperatures: "2 人次",
	}
	if diff := cmp.Diff(want, tallies(t, w.analyst)); diff != "" {
		t.Error(diff)
	}
	byDistrict := strs(t, w.analyst, `SELECT concat(toString(day), ' ', adm_code, ' ', category, ' ', credited_org, ' ', toString(value)) AS r FROM tongan.tallies WHERE indicator = 'phone_visits' ORDER BY r`)
	if diff := cmp.Diff([]string{
		"2020-01-28 440781 LEFT_BEHIND o1 2", "2020-01-28 440781 LEFT_BEHIND o7 -1",
		"2020-01-28 440783 SCATTERED_ORPHAN o1 2", "2020-01-28 440783 SCATTERED_ORPHAN o7 -1",
	}, byDistrict); diff != "" {
		t.Error(diff)
	}
}

func (w *world) testLatency(t *testing.T) {
	began := time.Now()
	publish(t, w.js, stored{pcases, "soon", &intakev1.CaseOpened{Provenance: provenance(at), CaseId: "soon"}})
	wait(t, w.js, w.conn)
	t.Logf("from publishing to reading: %s", time.Since(began))
}

func (w *world) testPoison(t *testing.T) {
	classes := poisonEvents(t, w.js)
	publish(t, w.js, stored{pcases, "after", &intakev1.CaseOpened{Provenance: provenance(at), CaseId: "after"}})
	wait(t, w.js, w.conn)
	got := strs(t, w.analyst, "SELECT toString(poison) FROM tongan.journal WHERE kind = 'poison' ORDER BY seq")
	if diff := cmp.Diff(classes, got); diff != "" {
		t.Error(diff)
	}
	if n := strs(t, w.analyst, "SELECT toString(count()) FROM tongan.cases WHERE case_id = 'after'"); n[0] != "1" {
		t.Errorf("%s rows of the event after the poison", n[0])
	}
	dead, err := w.js.Stream(t.Context(), subject.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	if n := dead.CachedInfo().State.Msgs; n != uint64(len(classes)) {
		t.Errorf("%d dead letters, want %d", n, len(classes))
	}
}

func (w *world) testRecreated(t *testing.T) {
	name := subject.Stream(subject.Reporting)
	s, err := w.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	if err := w.js.DeleteStream(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	publish(t, w.js, stored{figures, "p1", newGenerator(9).figure()})
	if err := w.first.ends(t); !errors.Is(err, ErrGeneration) || !strings.Contains(err.Error(), name) {
		t.Errorf("ended with %v", err)
	}
}

// testSameStream checks what is asked before every batch, in case the reader has not noticed.
func (w *world) testSameStream(t *testing.T) {
	p, err := New(w.js, w.conn, Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{Projector: p, service: subject.Intake, stream: subject.Stream(subject.Intake), created: 5}
	if err := f.sameStream(t.Context()); !errors.Is(err, ErrGeneration) {
		t.Errorf("a batch of a stream created anew: %v", err)
	}
}

// testRefused begins with a journal that has nothing of the stream that was created anew.
func (w *world) testRefused(t *testing.T) {
	intake := subject.Stream(subject.Intake)
	for _, c := range []struct{ name, insert, says string }{
		{"created", "", subject.Stream(subject.Reporting)},
		{"version", "INSERT INTO " + projection + " VALUES ('" + intake + "', 4, 1)", "projection version 4"},
		{"earlier version of another stream", "INSERT INTO " + projection + " VALUES ('" + intake + "', 1, 12345)", "created at 12345"},
		{"other stream", "INSERT INTO " + projection + " VALUES ('" + intake + "', 3, 12345)", "created at 12345"},
		{"ahead", "INSERT INTO " + journal + " (stream, seq, kind, projection_version) VALUES ('" + intake + "', 100000, 'event', 3)", "up to sequence 100000"},
	} {
		if c.insert != "" {
			empty(t, w.engine)
			chtest.Exec(t, w.conn, c.insert)
		}
		err := run(t, w.js, w.conn, Config{}).ends(t)
		if !errors.Is(err, ErrGeneration) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: ended with %v", c.name, err)
		}
	}
	empty(t, w.engine)
}

// errorsOnly counts log records at error level that say a projection stopped.
type errorsOnly struct {
	slog.Handler
	stopped *atomic.Int32
}

func (h errorsOnly) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && strings.HasPrefix(r.Message, "projection stopped") {
		h.stopped.Add(1)
	}
	return nil
}
func (h errorsOnly) Enabled(context.Context, slog.Level) bool { return true }
func (h errorsOnly) WithAttrs([]slog.Attr) slog.Handler       { return h }

func (w *world) testUndecided(t *testing.T) {
	outreach := subject.Stream(subject.Outreach)
	before := targets(t, w.js)
	m := nats.NewMsg(visits.Event("v9", "FutureThingHappened"))
	m.Data = []byte("of a build to come")
	m.Header.Set(eventlog.HeaderID, "e9")
	m.Header.Set(eventlog.HeaderType, "tongan.outreach.v1.FutureThingHappened")
	m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum("tongan.outreach.v1.FutureThingHappened", m.Data))
	if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	publish(t, w.js, stored{visits, "later", visited(byPhone, answered)}, stored{pcases, "later", &intakev1.CaseOpened{Provenance: provenance(at)}})

	var stopped atomic.Int32
	p := run(t, w.js, w.conn, Config{Log: slog.New(errorsOnly{slog.DiscardHandler, &stopped})})
	want := targets(t, w.js)
	want[outreach] = before[outreach]
	waitUntil(t, w.conn, want)
	natstest.Eventually(t, waitLimit, "the stream has stopped", func() bool { return p.Stopped()[outreach] != nil })
	if err := p.Stopped()[outreach]; !errors.Is(err, ErrUndecided) || !strings.Contains(err.Error(), "FutureThingHappened") {
		t.Errorf("stopped by %v", err)
	}
	publish(t, w.js, stored{pcases, "later2", &intakev1.CaseOpened{Provenance: provenance(at)}})
	want[subject.Stream(subject.Intake)]++
	waitUntil(t, w.conn, want)
	got, err := p.Watermarks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(p.Stopped()) != 1 || stopped.Load() != 1 {
		t.Errorf("stopped %v, reported %d times, watermarks %s", p.Stopped(), stopped.Load(), diff)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

func (w *world) testWaitEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := WaitFor(ctx, w.conn, map[string]uint64{subject.Stream(subject.Intake): 1 << 40}); err == nil {
		t.Error("a sequence was reached that is far away")
	}
}

// testAway stops the ClickHouse under a running projector and starts it again on the same folder and ports.
func (w *world) testAway(t *testing.T) {
	var still sync.Map
	p := run(t, w.js, w.conn, Config{Still: func(stream string, is bool) { still.Store(stream, is) }})
	told := func(is bool) func() bool {
		return func() bool { got, _ := still.Load(subject.Stream(subject.Intake)); return got == is }
	}
	before := targets(t, w.js)
	delete(before, subject.Stream(subject.Outreach)) // has stopped
	waitUntil(t, w.conn, before)
	if err := w.engine.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, w.js, stored{pcases, "meanwhile", &intakev1.CaseOpened{Provenance: provenance(at), CaseId: "meanwhile"}})
	natstest.Eventually(t, waitLimit, "it says that the stream stands still", told(true))
	chtest.Start(t, chengine.Config{
		Dir: w.dir, Users: users(), TCPPort: port(t, w.engine.TCPAddr()), HTTPPort: port(t, w.engine.HTTPAddr()),
	})
	before[subject.Stream(subject.Intake)]++
	waitUntil(t, w.conn, before)
	natstest.Eventually(t, waitLimit, "it says that the stream goes on", told(false))
	if n := strs(t, w.analyst, "SELECT toString(count()) FROM tongan.cases WHERE case_id = 'meanwhile'"); !slices.Equal(n, []string{"1"}) {
		t.Errorf("%v rows of what happened meanwhile", n)
	}
	if err := p.end(); err != nil {
		t.Error(err)
	}
}

// A message that the bus sent and that never arrived is read again, even if nothing follows it.
func TestWhatGotLostOnItsWayIsReadAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	way := natstest.Lossy(t, js.Conn().ConnectedUrl(), pcases.Event("lost", "CaseOpened"))
	conn := chtest.Conn(t, engine(t), UserProjector)
	run(t, natstest.Connect(t, way), conn, Config{})
	for _, id := range []string{"before", "lost"} {
		publish(t, js, stored{pcases, id, &intakev1.CaseOpened{Provenance: provenance(at), CaseId: id}})
		wait(t, js, conn)
	}
}

func port(t *testing.T, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
