package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// What a benchmark of commands is made of.
const (
	// perCase is how many events each old case has; openCases how many newer ones with one event each the commands are about.
	perCase   = 10
	openCases = 10_000
	// connections is how many connections the callers share.
	connections = 8
	// turn is how long each way is measured at a time, turns how often.
	turn  = 2 * time.Second
	turns = 3
	// Ways to the service: appends in batches, appends one by one, and an echo.
	askGrouped = "tongan.cmd.intake.case.flag-special"
	askAlone   = "tongan.cmd.intake.case.close"
	askEcho    = "tongan.qry.intake.case.get"
)

// flagging is a case that counts how often it was flagged.
var flagging = decider.Decider[int]{
	Decide: func(_ int, c decider.Command) ([]decider.Event, error) {
		id := c.Body.(*intakev1.FlagCaseSpecial).GetCaseId()
		return []decider.Event{&intakev1.CaseFlaggedSpecial{CaseId: id, Provenance: c.Provenance()}}, nil
	},
	Evolve: func(n int, _ decider.Event) (int, bool) { return n + 1, true },
}

// BenchmarkCommands measures durable commands through a service: request on the bus, decode, validate, decide, fsync, reply. In turns, in the
// same run: the same with one fsync for each message; an echo of the same payloads; and a plain publish of the event. The
// stream holds TONGAN_BENCH_EVENTS events before, a million if not said. Of the commands, 1 in 100 comes just after another process appended
// to the same case. The cases are those opened last, Zipf-distributed: of ten thousand, the one asked for most has 0.25 % of the commands.
func BenchmarkCommands(b *testing.B) {
	f := newField(b)
	for _, callers := range []int{4, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) { f.measure(b, callers) })
	}
}

// field is a bus with a long stream, a service, and callers.
type field struct {
	js      jetstream.JetStream
	conns   []*nats.Conn
	other   jetstream.JetStream // another process's
	grouped *eventlog.Log
	next    atomic.Uint64
}

func newField(b *testing.B) *field {
	b.Helper()
	serve.CollectRarely() // as every process of ours
	n := 1_000_000
	if s := os.Getenv("TONGAN_BENCH_EVENTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	url := natstest.Run(b).ClientURL()
	f := &field{js: natstest.Connect(b, url, nats.NoEcho())}
	for _, c := range eventlog.Streams(eventlog.StreamOptions{MaxBytes: natstest.MaxStore / 10}) {
		if c.Name == subject.Stream(subject.Intake) {
			c.MaxBytes = natstest.MaxStore / 4 * 3
		}
		if _, err := f.js.CreateStream(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	f.fill(b, n)
	quiet := slog.New(slog.DiscardHandler)
	f.grouped = eventlog.New(f.js, cases, quiet)
	f.other = natstest.Connect(b, url)
	client := servetest.RunOn(b, f.js, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		return serve.Run(ctx, rt, subject.Intake, "flags cases", []serve.Endpoint{
			serve.Command(f.grouped, flagging, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
			serve.Command(eventlog.New(f.js, cases, quiet).Alone(), flagging, "close", (*intakev1.FlagCaseSpecial).GetCaseId),
		})
	}, struct{}{})
	echo, err := micro.AddService(f.js.Conn(), micro.Config{Name: "echo", Version: "0.1.0"})
	if err == nil {
		err = echo.AddEndpoint("get", micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }), micro.WithEndpointSubject(askEcho))
	}
	if err != nil {
		b.Fatal(err)
	}
	for i := range connections {
		f.conns = append(f.conns, client.As(b, access.Caller{ID: fmt.Sprint("w", i), Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org}))
	}
	f.warm(b, askGrouped, "open")
	f.warm(b, askAlone, "alone")
	return f
}

// warm sends a command about each open case, so that what is measured is a service that has worked for a while: each case is kept.
func (f *field) warm(b *testing.B, subj, kind string) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(256)
	for i := range openCases {
		g.Go(func() error {
			data, err := proto.Marshal(&intakev1.FlagCaseSpecial{CaseId: caseID(kind, i), Provenance: provenance(fmt.Sprint("k", f.next.Add(1)))})
			if err == nil {
				_, err = f.request(b.Context(), i, subj, data)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// fill stores n events of old cases, spread over the stream, and after them one of each open case. Each way to the service has open cases of
// its own, so that neither meets what the other did.
func (f *field) fill(b *testing.B, n int) {
	b.Helper()
	begun := time.Now()
	store := func(kind string, cases, round int) {
		for from := 0; from < cases; from += eventlog.MaxEvents {
			var msgs []*nats.Msg
			for i := from; i < min(from+eventlog.MaxEvents, cases); i++ {
				m, err := f.event(caseID(kind, i), fmt.Sprintf("before-%d", round))
				if err != nil {
					b.Fatal(err)
				}
				msgs = append(msgs, m)
			}
			if _, err := jetstreamext.PublishMsgBatch(b.Context(), f.js, msgs, jetstreamext.BatchFlowControl{AckFirst: false}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for round := range perCase {
		store("old", n/perCase, round)
	}
	store("open", openCases, 0)
	store("alone", openCases, 0)
	b.Logf("%d events stored before in %s", n+2*openCases, time.Since(begun).Round(time.Second))
}

func caseID(kind string, i int) string { return fmt.Sprintf("%s-%07d", kind, i) }

// event is the message of an event that a command leads to at a case.
func (f *field) event(id, command string) (*nats.Msg, error) {
	p := provenance(command)
	p.RecordedBy, p.PerformedBy, p.CommandDigest = "w1", "w1", []byte("12345678")
	return eventlog.Encode(cases, id, decider.Recorded{
		ID: decider.EventID(cases.Key(id), command, 0), Cause: command, Event: &intakev1.CaseFlaggedSpecial{CaseId: id, Provenance: p},
	})
}

func provenance(command string) *eventv1.Provenance {
	return &eventv1.Provenance{CommandId: command, OccurredAt: timestamppb.New(servetest.Now.Add(-time.Hour)), AdmCode: "440703"}
}

// way is one way to spend a turn: what a caller does for one command.
type way struct {
	name string
	do   func(ctx context.Context, caller int, pick *rand.Zipf) (time.Duration, error)
	took []time.Duration
	rate []float64
}

// measure lets callers go each way in turns and reports medians of the turns, percentiles over all of them, and ratios.
func (f *field) measure(b *testing.B, callers int) {
	b.Helper()
	ways := []*way{
		{name: "grouped", do: f.command(askGrouped, "open")},
		{name: "alone", do: f.command(askAlone, "alone")},
		{name: "echo", do: f.echo},
		{name: "publish", do: f.publish},
	}
	for range turns {
		for _, w := range ways {
			f.turn(b, w, callers)
		}
	}
	rate := make(map[string]float64)
	for _, w := range ways {
		slices.Sort(w.rate)
		slices.Sort(w.took)
		rate[w.name] = w.rate[len(w.rate)/2]
		b.ReportMetric(rate[w.name], w.name+"/s")
		b.ReportMetric(float64(w.took[len(w.took)*99/100].Microseconds())/1000, w.name+"-p99-ms")
	}
	b.ReportMetric(rate["grouped"]/rate["alone"], "grouped/alone")
	b.ReportMetric(rate["grouped"]/rate["echo"], "grouped/echo")
	b.ReportMetric(rate["publish"]/rate["grouped"], "publish/grouped")
	s := f.grouped.Stats()
	b.ReportMetric(float64(s["states_hit"])/float64(s["states_hit"]+s["states_missed"]), "hits")
	b.ReportMetric(0, "ns/op")
}

func (f *field) turn(b *testing.B, w *way, callers int) {
	b.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var failed atomic.Int64
	begun := time.Now()
	done := 0
	for caller := range callers {
		wg.Go(func() {
			pick := rand.NewZipf(rand.New(rand.NewPCG(f.next.Add(1), 1)), 1.1, 100, openCases-1)
			var took []time.Duration
			for time.Since(begun) < turn {
				d, err := w.do(ctx, caller, pick)
				if err != nil {
					failed.Add(1)
					continue
				}
				took = append(took, d)
			}
			mu.Lock()
			defer mu.Unlock()
			w.took, done = append(w.took, took...), done+len(took)
		})
	}
	wg.Wait()
	w.rate = append(w.rate, float64(done)/time.Since(begun).Seconds())
	if failed.Load() > 0 {
		b.Logf("%s: %d of %d commands had no answer in time", w.name, failed.Load(), done)
	}
}

// payload is a command about a case under an id that was not used before.
func (f *field) payload(kind string, pick *rand.Zipf) (id string, data []byte, err error) {
	id = caseID(kind, int(pick.Uint64()))
	data, err = proto.Marshal(&intakev1.FlagCaseSpecial{CaseId: id, Provenance: provenance(fmt.Sprint("k", f.next.Add(1)))})
	return id, data, err
}

func (f *field) command(subj, kind string) func(context.Context, int, *rand.Zipf) (time.Duration, error) {
	return func(ctx context.Context, caller int, pick *rand.Zipf) (time.Duration, error) {
		id, data, err := f.payload(kind, pick)
		if err != nil {
			return 0, err
		}
		if n := f.next.Load(); n%100 == 0 {
			if err := f.meddle(ctx, id, fmt.Sprint("other", n)); err != nil {
				return 0, err
			}
		}
		return f.request(ctx, caller, subj, data)
	}
}

// meddle appends to a case as another process does; it is answered before.
func (f *field) meddle(ctx context.Context, id, command string) error {
	m, err := f.event(id, command)
	if err != nil {
		return err
	}
	last, err := eventlog.LastSequence(ctx, f.other, cases.Stream(), cases.Filter(id))
	if err != nil {
		return err
	}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(last))
	m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, cases.Filter(id))
	_, err = f.other.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.Code == 400 {
		return nil // it met an append of the service: they are even
	}
	return err
}

func (f *field) request(ctx context.Context, caller int, subj string, data []byte) (time.Duration, error) {
	begun := time.Now()
	r, err := f.conns[caller%len(f.conns)].RequestWithContext(ctx, subj, data)
	if err == nil && r.Header.Get(micro.ErrorCodeHeader) != "" {
		err = fmt.Errorf("%s: %s", r.Header.Get(micro.ErrorCodeHeader), r.Header.Get(micro.ErrorHeader))
	}
	return time.Since(begun), err
}

func (f *field) echo(ctx context.Context, caller int, pick *rand.Zipf) (time.Duration, error) {
	_, data, err := f.payload("open", pick)
	if err != nil {
		return 0, err
	}
	return f.request(ctx, caller, askEcho, data)
}

func (f *field) publish(ctx context.Context, _ int, pick *rand.Zipf) (time.Duration, error) {
	id := caseID("other", int(pick.Uint64())) // of their own: commands must not find these events
	m, err := f.event(id, fmt.Sprint("p", f.next.Add(1)))
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	_, err = f.js.PublishMsg(ctx, m)
	return time.Since(begun), err
}
