package consume_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

const (
	stream  = "TONGAN_INTAKE"
	durable = "tester-cases"
	within  = 20 * time.Second
)

var cases = subject.Aggregate{Service: subject.Intake, Name: "case"}

// store stores the opening of a case as a service would, spoilt if spoil is given, and returns its sequence.
func store(t *testing.T, js jetstream.JetStream, id string, spoil ...func(*nats.Msg)) uint64 {
	t.Helper()
	m, err := eventlog.Encode(cases, id, decider.Recorded{
		Event: &intakev1.CaseOpened{CaseId: id, Provenance: &eventv1.Provenance{CommandId: id}}, ID: "e-" + id, Cause: id,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spoil {
		s(m)
	}
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// reaction is one at work: it notes what it is given, and fails where it is told to.
type reaction struct {
	mu     sync.Mutex
	given  []string
	fails  map[string]int // how often a case fails; -1 is always
	cancel context.CancelFunc
	ended  chan error
}

// run starts a reaction to the cases of a bus; it ends with the test at the latest.
func run(t *testing.T, js jetstream.JetStream, fails map[string]int) *reaction {
	t.Helper()
	r := &reaction{fails: fails, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	done := make(chan struct{})
	cfg := consume.Config{
		Stream: stream, Durable: durable, Filters: []string{"tongan.evt.intake.case.*.*"},
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	go func() { defer close(done); r.ended <- consume.Run(ctx, js, cfg, r.handle) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func (r *reaction) handle(_ context.Context, e eventlog.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := e.Event.(*intakev1.CaseOpened).GetCaseId()
	r.given = append(r.given, id)
	if left := r.fails[id]; left != 0 {
		r.fails[id] = left - 1
		return errors.New("not now")
	}
	return nil
}

// times is how often a case was given to the reaction.
func (r *reaction) times(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(r.given), func(s string) bool { return s != id }))
}

// settled waits until everything stored is acknowledged or given up.
func settled(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, within, "everything is acknowledged", func() bool {
		c, err := js.Consumer(t.Context(), stream, durable)
		return err == nil && c.CachedInfo().AckFloor.Stream == s.CachedInfo().State.LastSeq
	})
}

// letters are what was put aside, by sequence in the stream of the dead.
func letters(t *testing.T, js jetstream.JetStream) []*eventv1.DeadLetter {
	t.Helper()
	s, err := js.Stream(t.Context(), subject.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	var out []*eventv1.DeadLetter
	for i := range s.CachedInfo().State.LastSeq {
		m, err := s.GetMsg(t.Context(), i+1)
		if err != nil {
			t.Fatal(err)
		}
		l := &eventv1.DeadLetter{}
		if err := proto.Unmarshal(m.Data, l); err != nil {
			t.Fatal(err)
		}
		if m.Subject != subject.Dead(l.GetReader(), l.GetStream(), l.GetSequence()) || m.Header.Get(eventlog.HeaderType) != "tongan.event.v1.DeadLetter" {
			t.Errorf("put aside on %s as %s", m.Subject, m.Header.Get(eventlog.HeaderType))
		}
		out = append(out, l)
	}
	return out
}

func TestAnEventIsHandledOnceAndAcknowledged(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	store(t, js, "c1")
	r := run(t, js, nil)
	store(t, js, "c2")
	settled(t, js)
	r.cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	// Whoever comes after it goes on where it stopped.
	store(t, js, "c3")
	next := run(t, js, nil)
	settled(t, js)
	if diff := cmp.Diff([][]string{{"c1", "c2"}, {"c3"}}, [][]string{r.given, next.given}); diff != "" {
		t.Error(diff)
	}
	if l := letters(t, js); len(l) != 0 {
		t.Errorf("put aside: %v", l)
	}
}

func TestAFailureIsTriedAgainAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := run(t, js, map[string]int{"c1": 3})
	store(t, js, "c1")
	store(t, js, "c2")
	settled(t, js)
	if r.times("c1") != 4 || r.times("c2") != 1 || r.given[len(r.given)-1] != "c1" {
		t.Errorf("given %v", r.given)
	}
	if l := letters(t, js); len(l) != 0 {
		t.Errorf("put aside: %v", l)
	}
}

// The pauses between ten tries add up to 23 seconds.
func TestTheTenthFailurePutsAnEventAside(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := run(t, js, map[string]int{"c1": -1})
	at := store(t, js, "c1")
	store(t, js, "c2")
	natstest.Eventually(t, time.Minute, "the event is put aside", func() bool { return len(letters(t, js)) > 0 })
	settled(t, js)
	want := []*eventv1.DeadLetter{{
		Stream: stream, Sequence: at, Reader: durable, Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HANDLER,
		SizeBytes: uint64(proto.Size(&intakev1.CaseOpened{CaseId: "c1", Provenance: &eventv1.Provenance{CommandId: "c1"}})),
	}}
	if diff := cmp.Diff(want, letters(t, js), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if r.times("c1") != 10 || r.times("c2") != 1 {
		t.Errorf("given %v", r.given)
	}
}

// sum makes the checksum right again after something was changed.
func sum(m *nats.Msg) {
	m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum(m.Header.Get(eventlog.HeaderType), m.Data))
}

func TestWhatDoesNotDecodeIsPutAsideAtOnce(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	var want []*eventv1.DeadLetter
	for i, tt := range []struct {
		class eventv1.DeadLetterClass
		size  uint64
		spoil func(*nats.Msg)
	}{
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HEADER, 10, func(m *nats.Msg) { m.Header.Del(eventlog.HeaderType) }},
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HEADER, 10, func(m *nats.Msg) { m.Header.Set(eventlog.HeaderType, "tongan.intake.v1.CaseClosed"); sum(m) }},
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HEADER, 10, func(m *nats.Msg) { m.Header.Del(eventlog.HeaderID) }},
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_CHECKSUM, 10, func(m *nats.Msg) { m.Header.Set(eventlog.HeaderCRC, "00000000") }},
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_CHECKSUM, 11, func(m *nats.Msg) { m.Data = append(m.Data, 0) }},
		{eventv1.DeadLetterClass_DEAD_LETTER_CLASS_DECODE, 3, func(m *nats.Msg) { m.Data = []byte("\xff\xffx"); sum(m) }},
	} {
		want = append(want, &eventv1.DeadLetter{
			Stream: stream, Sequence: store(t, js, fmt.Sprint("s", i), tt.spoil), Reader: durable, Class: tt.class, SizeBytes: tt.size,
		})
	}
	store(t, js, "c1")
	r := run(t, js, nil)
	settled(t, js)
	if diff := cmp.Diff(want, letters(t, js), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c1"}, r.given); diff != "" {
		t.Error(diff)
	}
}

// A newer build wrote it: it is nothing to this one, and no error.
func TestAnUnknownTypeIsPassedOver(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	for _, id := range []string{"c1", "c2"} {
		store(t, js, id, func(m *nats.Msg) {
			m.Subject = "tongan.evt.intake.case." + id + ".case-painted"
			m.Header.Set(eventlog.HeaderType, "tongan.intake.v1.CasePainted")
			sum(m)
		})
	}
	store(t, js, "c3")
	r := run(t, js, nil)
	settled(t, js)
	if diff := cmp.Diff([]string{"c3"}, r.given); diff != "" {
		t.Error(diff)
	}
	if l := letters(t, js); len(l) != 0 {
		t.Errorf("put aside: %v", l)
	}
}

func TestADeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := run(t, js, nil)
	store(t, js, "c1")
	settled(t, js)
	if err := js.DeleteConsumer(t.Context(), stream, durable); err != nil {
		t.Fatal(err)
	}
	store(t, js, "c2")
	settled(t, js)
	if r.times("c1") != 2 || r.times("c2") != 1 { // it began anew: handlers are idempotent
		t.Errorf("given %v", r.given)
	}
	r.cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

func TestAReactionWithoutAStreamWaitsForIt(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	r := run(t, js, nil)
	natstest.Migrate(t, js, 1)
	store(t, js, "c1")
	settled(t, js)
	r.cancel()
	if err := <-r.ended; !errors.Is(err, context.Canceled) || r.times("c1") != 1 {
		t.Errorf("it ends with %v after %v", err, r.given)
	}
}

func TestADeadLetterIsKeptOnceForEachReader(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	want := []*eventv1.DeadLetter{
		{Stream: stream, Sequence: 7, Reader: "one", Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_DECODE},
		{Stream: stream, Sequence: 7, Reader: "two", Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HANDLER},
		{Stream: stream, Sequence: 8, Reader: "one", Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HEADER},
	}
	for range 2 {
		for _, l := range want {
			if err := consume.DeadLetter(t.Context(), js, l); err != nil {
				t.Fatal(err)
			}
		}
	}
	if diff := cmp.Diff(want, letters(t, js), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// References are stored in batches, of which one refuses all when one of them is there.
func TestOfManyDeadLettersThoseThatAreThereAreLeft(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	var want []*eventv1.DeadLetter
	put := func(from, to uint64) {
		t.Helper()
		var refs []*eventv1.DeadLetter
		for i := from; i <= to; i++ {
			refs = append(refs, &eventv1.DeadLetter{Stream: stream, Sequence: i, Reader: "many", Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_DECODE})
		}
		if err := consume.DeadLetters(t.Context(), js, refs); err != nil {
			t.Fatal(err)
		}
	}
	put(3, 3)
	put(5, 7)
	put(1, 20)
	put(1, 21)
	for _, i := range []uint64{3, 5, 6, 7, 1, 2, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21} {
		want = append(want, &eventv1.DeadLetter{Stream: stream, Sequence: i, Reader: "many", Class: eventv1.DeadLetterClass_DEAD_LETTER_CLASS_DECODE})
	}
	if diff := cmp.Diff(want, letters(t, js), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// What was handed to a process that ends in order goes to the next one at once, not after the time an event is waited for.
func TestWhatWasNotBegunIsHandedBack(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	for i := range 40 {
		store(t, js, fmt.Sprint("c", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg := consume.Config{Stream: stream, Durable: durable, Filters: []string{"tongan.evt.intake.case.*.*"}, Log: slog.New(slog.DiscardHandler)}
	begun := make(chan struct{})
	go func() {
		ended <- consume.Run(ctx, js, cfg, func(ctx context.Context, _ eventlog.Envelope) error {
			close(begun)
			<-ctx.Done() // the first event is under way when the process ends
			return nil
		})
	}()
	<-begun
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("ended with %v", err)
	}
	next := run(t, js, nil)
	natstest.Eventually(t, within, "the next one has the rest", func() bool { return next.times("c39") == 1 })
	settled(t, js)
	if n := next.times("c0"); n != 0 {
		t.Errorf("what was handled came %d times again", n)
	}
}

func TestSeveralMessagesAreHandledAtOnce(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	const n = 8
	for i := range n {
		store(t, js, fmt.Sprint("c", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var together sync.WaitGroup
	together.Add(n)
	cfg := consume.Config{
		Stream: stream, Durable: durable, Filters: []string{"tongan.evt.intake.case.*.*"}, AtOnce: n, AckWait: 20 * time.Second, Log: slog.New(slog.DiscardHandler),
	}
	go func() {
		ended <- consume.Messages(ctx, js, cfg, func(context.Context, jetstream.Msg, uint64) error {
			together.Done()
			together.Wait() // none ends before all have begun
			return nil
		})
	}()
	settled(t, js)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
