package projector

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
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

// resident notes the most memory that this process held, in MB, until it is told to stop.
func resident(tb testing.TB) (most func() float64) {
	tb.Helper()
	debug.FreeOSMemory()
	now := func() int64 {
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			tb.Error(err)
			return 0
		}
		pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
		if err != nil {
			tb.Error(err)
		}
		return pages * int64(os.Getpagesize())
	}
	var peak atomic.Int64
	ctx, stop := context.WithCancel(tb.Context())
	ended := make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for logged := begun; ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
			peak.Store(max(peak.Load(), now()))
			if time.Since(logged) > 10*time.Second {
				logged = time.Now()
				tb.Logf("after %s: %d MB resident", time.Since(begun).Round(time.Second), now()>>20)
			}
		}
	}()
	return func() float64 {
		stop()
		<-ended
		return float64(peak.Load()) / (1 << 20)
	}
}

// rebuild runs a projector until the tables hold all that the streams hold, and returns how long that took.
func rebuild(b *testing.B, js jetstream.JetStream, conn driver.Conn) time.Duration {
	b.Helper()
	goals := targets(b, js)
	begun := time.Now()
	p := run(b, js, conn, Config{Log: slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Minute)
	defer cancel()
	if err := WaitFor(ctx, conn, goals); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begun)
	if err := p.end(); err != nil {
		b.Fatal(err)
	}
	return took
}

// BenchmarkRebuild fills empty tables from a stream of TONGAN_BENCH_EVENTS readings of body temperature, 200 000 if not said: journal, facts and
// one typed table. In the same run: its limits, reading and decoding alone, and inserting the same rows from memory alone.
func BenchmarkRebuild(b *testing.B) {
	n := sized(b, "TONGAN_BENCH_EVENTS", 200_000)
	js := natstest.Roomy(b, int64(n)*eventBytes*4+natstest.MaxStore)
	g := newGenerator(1)
	store(b, js, n, func(i int) *nats.Msg { return reading(b, g, i) })
	e := engine(b)
	conn := chtest.Conn(b, e, UserProjector)

	readAlone(b, js, min(n, 100_000)) // the first is slower
	readRate := readAlone(b, js, n)
	most := resident(b)
	rate := float64(n) / rebuild(b, js, conn).Seconds()
	b.ReportMetric(most(), "rss-MB")
	empty(b, e)
	insertRate := insertAlone(b, js, conn, min(n, 500_000))
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(readRate, "reading/s")
	b.ReportMetric(insertRate, "inserting/s")
	b.ReportMetric(rate/min(readRate, insertRate), "of-slower")
	b.ReportMetric(0, "ns/op")
}

// benchFollower follows the stream of the readings from its start.
func benchFollower(b *testing.B, js jetstream.JetStream, conn driver.Conn) *follower {
	b.Helper()
	p, err := New(js, conn, Config{})
	if err != nil {
		b.Fatal(err)
	}
	return &follower{Projector: p, service: subject.HealthCheck, stream: subject.Stream(subject.HealthCheck), log: p.cfg.Log, buffers: make(map[string]buffers)}
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

// insertAlone holds the rows of the first n messages in memory and inserts them. It returns how many messages a second.
func insertAlone(b *testing.B, js jetstream.JetStream, conn driver.Conn, n int) float64 {
	b.Helper()
	f := benchFollower(b, js, conn)
	if err := f.claim(b.Context()); err != nil {
		b.Fatal(err)
	}
	r, err := f.read(b.Context(), 1)
	if err != nil {
		b.Fatal(err)
	}
	var batches []*batch
	for at := 0; at < n; {
		one := r.take(b.Context(), time.Now().Add(time.Second), &batch{})
		at += len(one.rows.Journal)
		batches = append(batches, one)
	}
	r.close()
	begun := time.Now()
	for _, one := range batches {
		if err := f.write(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
	return float64(n) / time.Since(begun).Seconds()
}
