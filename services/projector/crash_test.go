package projector

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// smallBatch makes many batches of few events, and so many places to crash at.
const smallBatch = 50

// steps notes which steps the batches of a stream have: all the places where a projector can be killed.
type steps struct {
	mu    sync.Mutex
	seen  map[string][]string
	last  map[string]string
	wrong []string // streams where a batch ended on another step than the journal
}

func (s *steps) hook(stream, step string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.seen[stream], step) {
		s.seen[stream] = append(s.seen[stream], step)
	}
	if step == "done" && s.last[stream] != "journal" {
		s.wrong = append(s.wrong, stream)
	}
	s.last[stream] = step
	return nil
}

// TestTablesAreTheSameWhateverHappens is the promise of the projector: one that starts from nothing, two at a time, and one that is
// killed at every step of a batch of every stream all leave the same rows in every table.
func TestTablesAreTheSameWhateverHappens(t *testing.T) {
	t.Parallel()
	e := engine(t)
	conn := chtest.Conn(t, e, UserProjector)
	js := gappyBus(t)
	publish(t, js, newGenerator(1).streams(60)...)
	poisonEvents(t, js)
	publish(t, js, newGenerator(2).streams(40)...)

	all := &steps{seen: make(map[string][]string), last: make(map[string]string)}
	p := run(t, js, conn, Config{Hook: all.hook})
	wait(t, js, conn)
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	want := dump(t, conn)
	checkAgainstStreams(t, js, want)

	if t.Logf("steps: %v", all.seen); len(all.wrong) > 0 {
		t.Fatalf("the journal is not the last insert: %v", all.wrong)
	}
	same := func(t *testing.T) {
		t.Helper()
		if diff := cmp.Diff(want, dump(t, conn)); diff != "" {
			t.Fatal(diff)
		}
	}
	t.Run("two at a time", func(t *testing.T) {
		empty(t, e)
		together(t, js, conn)
		same(t)
	})
	for _, service := range subject.Services() {
		t.Run("killed at every step of "+subject.Stream(service), func(t *testing.T) {
			empty(t, e)
			killAtEveryStep(t, js, conn, subject.Stream(service), all.seen[subject.Stream(service)])
			same(t)
		})
	}
	t.Run("tables damaged, from the first hole", func(t *testing.T) {
		refill(t, e, js, conn)
		same(t)
	})
}

// gappyBus is a bus whose reporting stream begins at sequence 4: the first three are gaps.
func gappyBus(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	for _, cfg := range eventlog.Streams(eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 4}) {
		if cfg.Name == subject.Stream(subject.Reporting) {
			cfg.FirstSeq = 4
		}
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	return js
}

// checkAgainstStreams checks that there is one journal row for every sequence, and rows in every table.
func checkAgainstStreams(t *testing.T, js jetstream.JetStream, tables map[string][]string) {
	t.Helper()
	var total uint64
	for _, last := range targets(t, js) {
		total += last
	}
	if uint64(len(tables["journal"])) != total {
		t.Fatalf("%d journal rows for %d sequences", len(tables["journal"]), total)
	}
	for table, rows := range tables {
		if len(rows) < 4 {
			t.Errorf("only %d rows in %s: the test would show nothing", len(rows), table)
		}
	}
}

// together runs two projectors of which neither begins to write a stream before the other is there too.
func together(t *testing.T, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	meet := make(map[string]*sync.WaitGroup)
	for _, service := range subject.Services() {
		meet[subject.Stream(service)] = &sync.WaitGroup{}
		meet[subject.Stream(service)].Add(2)
	}
	var projectors []*running
	for i := range 2 {
		var there sync.Map
		hook := func(stream, _ string) error {
			if _, again := there.LoadOrStore(stream, true); !again {
				meet[stream].Done()
				meet[stream].Wait()
			}
			return nil
		}
		projectors = append(projectors, run(t, js, conn, Config{BatchRows: smallBatch + 7*i, Hook: hook}))
	}
	wait(t, js, conn)
	for _, p := range projectors {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}
}

// killAtEveryStep runs projectors that are killed, one for every step of a batch of the stream, and then one to the end. The first is
// killed after its first batch, so that the others begin in the middle.
func killAtEveryStep(t *testing.T, js jetstream.JetStream, conn driver.Conn, stream string, steps []string) {
	t.Helper()
	for i, step := range steps {
		killed := errors.New("killed at " + step)
		var mu sync.Mutex
		batches := 0
		hook := func(at, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if at == stream && name == "done" {
				batches++
			}
			if at == stream && name == step && (batches > 0 || i > 0) {
				return killed
			}
			return nil
		}
		p := run(t, js, conn, Config{BatchRows: smallBatch, Hook: hook})
		if err := p.ends(t); !errors.Is(err, killed) {
			t.Fatalf("ended with %v, want %v", err, killed)
		}
	}
	p := run(t, js, conn, Config{BatchRows: smallBatch})
	wait(t, js, conn)
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
}

// refill takes rows out of the middle of the tables, as a loss of power could, and lets a projector put them back.
func refill(t *testing.T, e *chengine.Engine, js jetstream.JetStream, conn driver.Conn) {
	t.Helper()
	janitor := chtest.Conn(t, e, "janitor")
	for _, table := range baseTables() {
		chtest.Exec(t, janitor, fmt.Sprintf("ALTER TABLE %s.%s DELETE WHERE seq BETWEEN 30 AND 50 SETTINGS mutations_sync = 2", BaseDatabase, table))
	}
	p, err := New(js, conn, Config{})
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{Projector: p, service: subject.Intake, stream: subject.Stream(subject.Intake), log: slog.New(slog.DiscardHandler)}
	if next, err := f.start(t.Context()); err != nil || next != 30 {
		t.Fatalf("begins at %d, %v; want the first hole, 30", next, err)
	}
	again := run(t, js, conn, Config{})
	natstest.Eventually(t, waitLimit, "the holes are filled", func() bool {
		rows := strs(t, conn, "SELECT toString(groupBitmap(seq) = max(seq)) FROM "+journal+" GROUP BY stream")
		return fmt.Sprint(rows) == "[1 1 1 1]"
	})
	if err := again.end(); err != nil {
		t.Fatal(err)
	}
}
