package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// appended is what came of an append.
type appended struct {
	sequence uint64
	err      error
}

// together has n appends, each made by do, wait for each other and go out at once.
func together(t *testing.T, log *eventlog.Log, n int, do func(i int) (uint64, error)) []appended {
	t.Helper()
	release := log.Hold()
	out := make([]appended, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i].sequence, out[i].err = do(i) })
	}
	natstest.Eventually(t, 10*time.Second, "all appends wait", func() bool { return log.Waiting() == n })
	release()
	wg.Wait()
	return out
}

// batches returns the numbers of messages of the batches in the stream, and how many messages came alone.
func batches(t *testing.T, js jetstream.JetStream) (sizes map[string]int, alone int) {
	t.Helper()
	sizes = make(map[string]int)
	natstest.Each(t, js, cases.Stream(), func(m jetstream.Msg) {
		if id := m.Headers().Get(jetstreamext.BatchIDHeader); id != "" {
			sizes[id]++
		} else {
			alone++
		}
	})
	return sizes, alone
}

// Appends of different aggregates that wait at the same time are one batch; each is told the sequence of its own last event, and the events of
// one stay together.
func TestAppendsThatWaitGoOutTogether(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	id := func(i int) string { return fmt.Sprint("c", i) }
	out := together(t, log, 200, func(i int) (uint64, error) {
		return log.Append(t.Context(), id(i), 0, events(id(i), "k1", 1+i%3))
	})
	if sizes, alone := batches(t, js); len(sizes) != 1 || alone != 0 {
		t.Errorf("there are %d batches and %d single messages, want one batch", len(sizes), alone)
	}
	for i, a := range out {
		got, last, err := log.Load(t.Context(), id(i))
		if a.err != nil || err != nil || last != a.sequence || len(got) != 1+i%3 || got[0].Sequence != last-uint64(i%3) {
			t.Errorf("append %d gave %d, %v; loaded are %d events up to %d (%v)", i, a.sequence, a.err, len(got), last, err)
		}
	}
}

func TestAnAppendAloneIsNoBatch(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	for i := range 3 {
		id := fmt.Sprint("c", i)
		if _, err := log.Append(t.Context(), id, 0, events(id, "k1", 1)); err != nil {
			t.Fatal(err)
		}
	}
	if sizes, alone := batches(t, js); len(sizes) != 0 || alone != 3 {
		t.Errorf("there are %d batches and %d single messages", len(sizes), alone)
	}
}

// Of a batch in which some expect what is no longer so, and one was stored before, these are told so, and the others go out again as one.
func TestAConflictHurtsOnlyItsOwner(t *testing.T) {
	t.Parallel()
	bus := natstest.Bus(t)
	js := natstest.Connect(t, bus.Conn().ConnectedUrl(), nats.NoEcho()) // as services connect: they do not hear themselves
	other, log := newLog(bus), newLog(js)
	id := func(i int) string { return fmt.Sprint("c", i) }
	stored := make(map[int]uint64)
	for i := range 100 {
		var err error
		switch {
		case i%10 == 3: // by somebody else
			_, err = other.Append(t.Context(), id(i), 0, events(id(i), "other", 2))
		case i == 50: // by a first try of the same
			stored[i], err = other.Append(t.Context(), id(i), 0, events(id(i), "k1", 2))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	before, _ := batches(t, js)
	out := together(t, log, 100, func(i int) (uint64, error) { return log.Append(t.Context(), id(i), 0, events(id(i), "k1", 2)) })
	for i, a := range out {
		switch {
		case i%10 == 3 && !errors.Is(a.err, decider.ErrConflict):
			t.Errorf("%d, which somebody else changed, gave %d, %v", i, a.sequence, a.err)
		case i%10 != 3 && a.err != nil:
			t.Errorf("%d gave %v", i, a.err)
		case i == 50 && a.sequence != stored[i]:
			t.Errorf("%d, which was stored before as %d, gave %d", i, stored[i], a.sequence)
		}
		if got, _, err := log.Load(t.Context(), id(i)); err != nil || len(got) != 2 {
			t.Errorf("%d has %d events (%v)", i, len(got), err)
		}
	}
	if after, _ := batches(t, js); len(after) != len(before)+1 {
		t.Errorf("what was left went out in %d batches", len(after)-len(before))
	}
}

// Of a batch in which one expects what is no longer so, the server says which, and only that one is asked about.
func TestWhoIsInConflictIsFoundByWhatTheServerSays(t *testing.T) {
	t.Parallel()
	url := natstest.Bus(t).Conn().ConnectedUrl()
	js := natstest.Connect(t, url, nats.NoEcho())
	log := newLog(js)
	if _, err := log.Append(t.Context(), "c7", 0, events("c7", "other", 1)); err != nil {
		t.Fatal(err)
	}
	listener := natstest.Connect(t, url).Conn()
	asked, err := listener.SubscribeSync(subject.API("STREAM.MSG.GET", cases.Stream()))
	if err == nil {
		err = listener.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := together(t, log, 100, func(i int) (uint64, error) {
		id := fmt.Sprint("c", i)
		return log.Append(t.Context(), id, 0, events(id, "k1", 1))
	})
	for i, a := range out {
		if i == 7 && !errors.Is(a.err, decider.ErrConflict) || i != 7 && a.err != nil {
			t.Errorf("%d gave %v", i, a.err)
		}
	}
	if err := listener.Flush(); err != nil { // what was asked has been heard by then
		t.Fatal(err)
	}
	if n, _, err := asked.Pending(); err != nil || n != 2 { // for the message that the server named, and for the aggregate's last
		t.Errorf("%d messages were asked for (%v)", n, err)
	}
}

// However many expect the same of one aggregate, without its lock and from two logs, one is stored.
func TestNoBatchHoldsAnAggregateTwice(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	logs := []*eventlog.Log{newLog(js), newLog(js)}
	out := together(t, logs[0], 60, func(i int) (uint64, error) {
		id := []string{"c1", fmt.Sprint("d", i)}[i%2]
		return logs[i%4/2].Append(t.Context(), id, 0, events(id, fmt.Sprint("k", i), 1))
	})
	won := 0
	for i, a := range out {
		if i%2 == 0 && a.err == nil {
			won++
		} else if i%2 == 0 && !errors.Is(a.err, decider.ErrConflict) || i%2 == 1 && a.err != nil {
			t.Errorf("%d gave %v", i, a.err)
		}
	}
	if got, _, err := logs[0].Load(t.Context(), "c1"); won != 1 || len(got) != 1 {
		t.Errorf("%d appends were acknowledged, %d stored (%v)", won, len(got), err)
	}
}

// A batch with one expectation for each aggregate, wherever its message stands, is refused as a whole where one does not hold. This pins the
// server's behaviour (2.15).
func TestServerHonoursExpectationsLaterInABatch(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	if _, err := log.Append(t.Context(), "c3", 0, events("c3", "k1", 1)); err != nil {
		t.Fatal(err)
	}
	var msgs []*nats.Msg
	for _, id := range []string{"c1", "c2", "c3", "c4"} {
		m, err := eventlog.Encode(cases, id, events(id, "k2", 1)[0])
		if err != nil {
			t.Fatal(err)
		}
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, cases.Filter(id))
		msgs = append(msgs, m)
	}
	_, err := jetstreamext.PublishMsgBatch(t.Context(), js, msgs)
	api, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || api.ErrorCode != 10071 {
		t.Errorf("the server answers %v", err)
	}
	if _, alone := batches(t, js); alone != 1 {
		t.Errorf("%d messages are stored", alone)
	}
}

// What waits is bounded, and who gives up while it waits is told that nothing was stored, which stays so.
func TestTooMuchIsRefusedAndWhatIsGivenUpIsNotStored(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	release := log.Hold()
	ctx, giveUp := context.WithCancel(t.Context())
	errs := make(chan error, eventlog.MaxWaiting)
	for i := range eventlog.MaxWaiting {
		go func() {
			id := fmt.Sprint("c", i)
			_, err := log.Append(ctx, id, 0, events(id, "k1", 1))
			errs <- err
		}()
	}
	natstest.Eventually(t, 30*time.Second, "as many wait as may", func() bool { return log.Waiting() == eventlog.MaxWaiting })
	if _, err := log.Append(t.Context(), "d", 0, events("d", "k1", 1)); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("one more is answered %v", err)
	}
	giveUp()
	for range eventlog.MaxWaiting {
		if err := <-errs; !errors.Is(err, eventlog.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Fatalf("who gave up is answered %v", err)
		}
	}
	release()
	if _, err := log.Append(t.Context(), "d", 0, events("d", "k1", 1)); err != nil {
		t.Error(err)
	}
	if sizes, alone := batches(t, js); len(sizes) != 0 || alone != 1 {
		t.Errorf("%d batches and %d messages are stored", len(sizes), alone)
	}
}

// A bus that has no room refuses a batch at once, and everybody in it is told to try again.
func TestABusWithoutRoomRefusesTheWholeBatch(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	if err := eventlog.Migrate(t.Context(), js, eventlog.StreamOptions{MaxBytes: 200_000}); err != nil { // a fifth of it is for this stream
		t.Fatal(err)
	}
	log := newLog(js)
	acknowledged := 0
	for round := range 5 {
		for _, a := range together(t, log, 50, func(i int) (uint64, error) {
			id := fmt.Sprintf("c%d-%d", round, i)
			return log.Append(t.Context(), id, 0, events(id, "k1", 1))
		}) {
			if a.err == nil {
				acknowledged++
			} else if !errors.Is(a.err, eventlog.ErrUnavailable) {
				t.Fatalf("it is answered %v", a.err)
			}
		}
	}
	stored := 0
	natstest.Each(t, js, cases.Stream(), func(jetstream.Msg) { stored++ })
	if acknowledged == 0 || acknowledged == 250 || stored != acknowledged {
		t.Errorf("%d of 250 were acknowledged, %d are stored", acknowledged, stored)
	}
}

// What is kept is bounded in bytes; what was used last stays.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	log := newLog(natstest.Bus(t)).Keeping(1000)
	for i := range 20 {
		log.Keep(fmt.Sprint("c", i), 1, i, 100)
	}
	if _, _, ok := log.Take("c9"); ok {
		t.Error("what was used long ago is still kept")
	}
	if v, _, ok := log.Take("c10"); !ok || v != 10 {
		t.Errorf("kept is %v, %v", v, ok)
	}
	if _, _, ok := log.Take("c10"); ok {
		t.Error("what was taken is still kept")
	}
	log.Keep("c19", 1, 1, 950)
	if s := log.Stats(); s["states_bytes"] != 950 || s["states_hit"] != 1 || s["states_missed"] != 2 {
		t.Errorf("stats are %v", s)
	}
}

// What another process appends is heard, and marks what is kept of that aggregate; what a process appends itself does not.
func TestWhatOthersAppendIsHeard(t *testing.T) {
	t.Parallel()
	url := natstest.Run(t).ClientURL()
	js := natstest.Connect(t, url)
	natstest.Migrate(t, js, 1)
	own, other := newLog(js), newLog(natstest.Connect(t, url))
	for _, id := range []string{"a", "b"} {
		last, err := own.Append(t.Context(), id, 0, events(id, "k1", 2))
		if err != nil {
			t.Fatal(err)
		}
		own.Keep(id, last, id, 1)
		if id == "a" {
			if _, err := other.Append(t.Context(), id, last, events(id, "k2", 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	natstest.Eventually(t, 10*time.Second, "it is heard", func() bool { return own.Stale("a") })
	if value, stale, ok := own.Take("a"); !ok || !stale || value != "a" {
		t.Errorf("of what others appended to is kept %v, %v, stale %v", value, ok, stale)
	}
	if value, stale, ok := own.Take("b"); !ok || stale || value != "b" {
		t.Errorf("of what nobody else appended to is kept %v, %v, stale %v", value, ok, stale)
	}
}
