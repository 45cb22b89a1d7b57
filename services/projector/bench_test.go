package projector

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/outreach"
)

var rounds = subject.Aggregate{Service: subject.HealthCheck, Name: "round"}

// eventBytes is more than a stored reading takes.
const eventBytes = 1500

// reading is one reading of body temperature as the service stores it.
func reading(tb testing.TB, g *generator, i int) *nats.Msg {
	tb.Helper()
	command, id := fmt.Sprintf("k-%08d", i), fmt.Sprintf("i%03d_2020-01-26_2", i/20%500)
	p := g.provenance()
	p.CommandId, p.RecordedBy, p.RuleVersion, p.CommandDigest = command, "w1", "gd-2020-1", []byte("12345678")
	e := &healthcheckv1.HealthCheckRecorded{
		Provenance: p, InstitutionId: fmt.Sprintf("i%03d", i/20%500), CheckedOn: "2020-01-26", Slot: 2, AdmCode: p.GetAdmCode(),
		Reading: &healthcheckv1.Reading{CheckId: fmt.Sprintf("r-%08d", i), PersonId: fmt.Sprintf("c-%06d", i%100_000), TempDecicelsius: 360 + g.Int32N(12), Method: 2},
		Band:    healthcheckv1.TemperatureBand(1),
	}
	m, err := eventlog.Encode(rounds, id, decider.Recorded{Event: e, ID: decider.EventID(rounds.Key(id), command, 0), Cause: command})
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// store stores n messages in synced batches, as the services' writer would.
func store(tb testing.TB, js jetstream.JetStream, n int, message func(i int) *nats.Msg) {
	tb.Helper()
	begun := time.Now()
	for from := 0; from < n; from += eventlog.MaxEvents {
		var msgs []*nats.Msg
		for i := from; i < min(from+eventlog.MaxEvents, n); i++ {
			msgs = append(msgs, message(i))
		}
		if _, err := jetstreamext.PublishMsgBatch(tb.Context(), js, msgs, jetstreamext.BatchFlowControl{AckFirst: false}); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("%d messages stored before in %s", n, time.Since(begun).Round(time.Second))
}

// roomyBus is a bus with room for n messages. It does not remember their ids for long: that is what a bus does that was filled just now.
func roomyBus(tb testing.TB, n int) jetstream.JetStream {
	tb.Helper()
	js := natstest.Roomy(tb, int64(n)*eventBytes*4+natstest.MaxStore)
	for _, name := range []string{subject.Stream(subject.HealthCheck), subject.StreamDead} {
		s, err := js.Stream(tb.Context(), name)
		if err != nil {
			tb.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.Duplicates = time.Second
		if _, err := js.UpdateStream(tb.Context(), cfg); err != nil {
			tb.Fatal(err)
		}
	}
	return js
}

// sized returns the number that an environment variable says.
func sized(tb testing.TB, name string, otherwise int) int {
	tb.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return n
}

// BenchmarkRebuild fills empty tables from a stream of TONGAN_BENCH_EVENTS readings of body temperature, 200 000 if not said: journal, facts and
// one typed table. In the same run: its limits, reading and decoding alone, and inserting the same rows from memory alone.
func BenchmarkRebuild(b *testing.B) {
	n := sized(b, "TONGAN_BENCH_EVENTS", 200_000)
	js := roomyBus(b, n)
	g := newGenerator(1)
	store(b, js, n, func(i int) *nats.Msg { return reading(b, g, i) })
	e := engine(b)
	conn := benchConn(b, e)

	readAlone(b, js, min(n, 100_000)) // the first is slower
	readRate := readAlone(b, js, n)
	bus := computing(b)
	got := rebuild(b, js, e)
	rate := float64(n) / got.took.Seconds()
	b.ReportMetric((computing(b)-bus)/float64(n)*1e6, "bus-us")
	b.ReportMetric(got.computed.Seconds()/float64(n)*1e6, "own-us")
	b.ReportMetric(got.mostMB, "rss-MB")
	empty(b, e)
	insertRate := insertAlone(b, js, conn, min(n, 500_000))
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(readRate, "reading/s")
	b.ReportMetric(insertRate, "inserting/s")
	b.ReportMetric(rate/min(readRate, insertRate), "of-slower")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPoison fills empty tables from a stream in which every second of TONGAN_BENCH_EVENTS messages cannot be read. The baseline, in the
// same run, is the same number of good ones.
func BenchmarkPoison(b *testing.B) {
	n := sized(b, "TONGAN_BENCH_EVENTS", 200_000)
	rate := make(map[string]float64)
	for _, name := range []string{"good", "poison"} {
		every := map[string]int{"good": n + 1, "poison": 2}[name]
		js, e := roomyBus(b, 2*n), engine(b)
		conn, g := benchConn(b, e), newGenerator(1)
		store(b, js, n, func(i int) *nats.Msg {
			m := reading(b, g, i)
			if i%every == every-1 {
				m.Data = append(m.Data, 0) // the checksum tells
			}
			return m
		})
		got := rebuild(b, js, e)
		rate[name] = float64(n) / got.took.Seconds()
		b.ReportMetric(got.mostMB, name+"-rss-MB")
		if name == "poison" {
			dead, err := js.Stream(b.Context(), subject.StreamDead)
			if err != nil {
				b.Fatal(err)
			}
			rows := strs(b, conn, "SELECT toString(count()) FROM (SELECT DISTINCT seq FROM "+journal+" WHERE kind = 'poison')")[0]
			if want := n / 2; rows != strconv.Itoa(want) || dead.CachedInfo().State.Msgs != uint64(want) {
				b.Errorf("%s rows and %d references of %d", rows, dead.CachedInfo().State.Msgs, want)
			}
		}
		b.ReportMetric(rate[name], name+"/s")
	}
	b.ReportMetric(rate["poison"]/rate["good"], "poison/good")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkVisible measures from the reply to a command until tallies has what it counted, at 4 000 commands a second for TONGAN_BENCH_SECONDS, 5
// if not said: telephone calls, made by TONGAN_BENCH_WORKERS in turn, 200 000 if not said, of whom few make two; sent to the service outreach, which
// stores each on disk before it replies. It polls tallies, so what it finds is late by one query.
func BenchmarkVisible(b *testing.B) {
	const perSecond, callers = 4000, 512
	serve.CollectRarely() // as every process of ours
	seconds := sized(b, "TONGAN_BENCH_SECONDS", 5)
	n := perSecond * seconds
	js, e := roomyBus(b, n), engine(b)
	analyst := chtest.Conn(b, e, UserReporting)
	p := run(b, js, benchConn(b, e), Config{})
	d := newDesk(b, js)
	visible := func() int {
		var sum int64
		if err := analyst.QueryRow(b.Context(), "SELECT sum(value) FROM tongan.tallies WHERE indicator = 'phone_attempts'").Scan(&sum); err != nil {
			b.Error(err)
		}
		return int(sum)
	}
	// The first are slower: connections and kinds are new.
	for visible() == 0 {
		d.tell(b)
	}
	natstest.Eventually(b, time.Minute, "what went before is visible", func() bool { return reached(marks(b, p), targets(b, js)) })
	before := visible()

	var mu sync.Mutex
	var replied []time.Time // in the order of the replies, which is about that of the stream
	var wg sync.WaitGroup
	begun := time.Now()
	next := make(chan int, n)
	for range callers {
		wg.Go(func() {
			for range next {
				d.tell(b)
				mu.Lock()
				replied = append(replied, time.Now())
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		defer close(next)
		for i := range n { // evenly: what is late is made up for
			if d := time.Until(begun.Add(time.Duration(i) * time.Second / perSecond)); d > time.Millisecond {
				time.Sleep(d)
			}
			next <- i
		}
	})
	var late []float64 // in ms
	for len(late) < n {
		seen := visible() - before
		now := time.Now()
		mu.Lock()
		for _, t := range replied[min(len(late), len(replied)):min(seen, len(replied))] {
			late = append(late, float64(now.Sub(t).Microseconds())/1000)
		}
		mu.Unlock()
	}
	wg.Wait()
	rate := float64(n) / replied[n-1].Sub(begun).Seconds()
	b.ReportMetric(rate, "replies/s")
	slices.Sort(late)
	b.ReportMetric(late[n/2], "p50-ms")
	b.ReportMetric(late[n*99/100], "p99-ms")
	b.ReportMetric(late[n-1], "max-ms")
	b.ReportMetric(alone(b, d, visible), "one-ms")
	b.ReportMetric(0, "ns/op")
}

// alone returns how many milliseconds it takes until a single call is visible when nothing else comes: the median of some.
func alone(b *testing.B, d *desk, visible func() int) float64 {
	b.Helper()
	var took []float64
	for range 9 {
		before := visible()
		time.Sleep(maxSpace)
		d.tell(b)
		begun := time.Now()
		for visible() == before {
		}
		took = append(took, float64(time.Since(begun).Microseconds())/1000)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func marks(b *testing.B, p *running) map[string]uint64 {
	b.Helper()
	m, err := p.Watermarks(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// desk tells the service outreach of telephone calls, over several connections.
type desk struct {
	conns   []*nats.Conn
	workers int // who made the calls
	told    atomic.Uint64
}

func newDesk(b *testing.B, js jetstream.JetStream) *desk {
	b.Helper()
	own := natstest.Connect(b, js.Conn().ConnectedUrl(), nats.NoEcho())
	client := servetest.RunOn(b, own, subject.Outreach, outreach.Run, outreach.Config{MasterKey: servetest.MasterKey(b)})
	d := &desk{workers: sized(b, "TONGAN_BENCH_WORKERS", 200_000)}
	for i := range 8 {
		d.conns = append(d.conns, client.As(b, access.Caller{ID: fmt.Sprint("d", i), Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org}))
	}
	return d
}

// tell tells of another call, and returns when it is stored.
func (d *desk) tell(b *testing.B) {
	b.Helper()
	n := int(d.told.Add(1))
	payload, err := proto.Marshal(&outreachv1.RecordVisit{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(servetest.Now.Add(-time.Hour)), PerformedBy: fmt.Sprint("w", n%d.workers), AdmCode: "440703",
		},
		VisitId: fmt.Sprint("v", n), Channel: byPhone, Outcome: answered,
		Children: []*outreachv1.ChildSpokenAbout{{ChildId: fmt.Sprint("c", n%100_000), AdmCode: "440703"}},
	})
	if err != nil {
		b.Error(err)
		return
	}
	r, err := d.conns[n%len(d.conns)].Request("tongan.cmd.outreach.visit.record", payload, time.Minute)
	if err == nil && r.Header.Get(micro.ErrorCodeHeader) != "" {
		err = fmt.Errorf("%s: %s", r.Header.Get(micro.ErrorCodeHeader), r.Header.Get(micro.ErrorHeader))
	}
	if err != nil {
		b.Error(err)
	}
}

// benchConn is the connection that the service makes.
func benchConn(tb testing.TB, e *chengine.Engine) driver.Conn {
	tb.Helper()
	conn, err := connect(e.DSN(UserProjector))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// benchFollower follows the stream of the readings from its start.
func benchFollower(b *testing.B, js jetstream.JetStream, conn driver.Conn) *follower {
	b.Helper()
	p, err := New(js, conn, Config{})
	if err != nil {
		b.Fatal(err)
	}
	return &follower{Projector: p, service: subject.HealthCheck, stream: subject.Stream(subject.HealthCheck), log: p.cfg.Log}
}

// readAlone reads and decodes the first n messages and does nothing with them. It returns how many a second.
func readAlone(b *testing.B, js jetstream.JetStream, n int) float64 {
	b.Helper()
	begun, all := time.Now(), make(chan struct{})
	seen := uint64(0)
	r, err := benchFollower(b, js, nil).open(b.Context(), 1, func(m message) {
		if m.err != nil {
			b.Error(m.err)
		}
		if seen++; seen == uint64(n) {
			close(all)
		}
	}, func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	<-all
	took := time.Since(begun)
	r.close()
	return float64(n) / took.Seconds()
}

// insertAlone holds the rows of the first n messages in memory and inserts them: packed and written at the same time, as the projector does. It
// returns how many messages a second.
func insertAlone(b *testing.B, js jetstream.JetStream, conn driver.Conn, n int) float64 {
	b.Helper()
	f := benchFollower(b, js, conn)
	if err := f.claim(b.Context()); err != nil {
		b.Fatal(err)
	}
	chunks := []*rows{{}}
	seen, all := 0, make(chan struct{})
	r, err := f.open(b.Context(), 1, func(m message) {
		made, err := rowsOf(m)
		if err != nil {
			b.Error(err)
		}
		if seen++; seen > n {
			return
		}
		at := chunks[len(chunks)-1]
		if at.add(made); at.total() >= packRows {
			chunks = append(chunks, &rows{})
		}
		if seen == n {
			close(all)
		}
	}, func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	<-all
	r.close()
	begun, packed, free := time.Now(), make(chan *batch), make(chan *batch, 2)
	free <- &batch{}
	free <- &batch{}
	go func() {
		defer close(packed)
		at := <-free
		for i, chunk := range chunks {
			at.total += chunk.total()
			if err := f.pack(b.Context(), at, chunk); err != nil {
				b.Error(err)
			}
			if chunks[i] = nil; at.total >= f.cfg.BatchRows {
				packed <- at
				at = <-free
			}
		}
		packed <- at
	}()
	for one := range packed {
		if err := f.write(b.Context(), one); err != nil {
			b.Fatal(err)
		}
		one.empty()
		free <- one
	}
	return float64(n) / time.Since(begun).Seconds()
}
