package eventlog_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
)

// A bus without room says so; one whose disk is full says nothing. Either is known until something is stored again.
func TestABusThatStoresNothingIsKnown(t *testing.T) {
	t.Parallel()
	t.Run("it says so", func(t *testing.T) {
		t.Parallel()
		js := natstest.Bus(t)
		log := newLog(js)
		s := roomOf(t, js, 1)
		if _, err := log.Append(t.Context(), "c1", 0, events("c1", "k1", 1)); !errors.Is(err, eventlog.ErrUnavailable) {
			t.Fatalf("a full stream: %v", err)
		}
		age := eventlog.Stalled(js.Conn())
		natstest.Eventually(t, time.Second, "it is stalled, and stays so", func() bool { return eventlog.Stalled(js.Conn()) > age && age > 0 })
		roomOf(t, js, s)
		if _, err := log.Append(t.Context(), "c1", 0, events("c1", "k1", 1)); err != nil || eventlog.Stalled(js.Conn()) != 0 {
			t.Errorf("with room again: %v, stalled for %s", err, eventlog.Stalled(js.Conn()))
		}
	})
	t.Run("it says nothing", func(t *testing.T) {
		t.Parallel()
		js := natstest.Connect(t, natstest.Run(t).ClientURL()) // there is no stream, but somebody who takes what is sent and does not answer
		sub, err := js.Conn().SubscribeSync(cases.Filter("c1"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := newLog(js).Append(t.Context(), "c1", 0, events("c1", "k1", 1))
			ended <- err
		}()
		if _, err := sub.NextMsg(10 * time.Second); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, 10*time.Second, "it is stalled before the try ends", func() bool { return eventlog.Stalled(js.Conn()) > 100*time.Millisecond })
		js.Conn().Close()
		if err := <-ended; err == nil {
			t.Error("it is stored")
		}
	})
}

// A conflict says that the bus looked, and a cut connection nothing at all.
func TestAConflictIsNoStall(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	if _, err := log.Append(t.Context(), "c1", 0, events("c1", "k1", 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), "c1", 0, events("c1", "k2", 1)); !errors.Is(err, decider.ErrConflict) {
		t.Fatal(err)
	}
	if s := eventlog.Stalled(js.Conn()); s != 0 {
		t.Errorf("stalled for %s", s)
	}
	if s := eventlog.Stalled(&nats.Conn{}); s != 0 {
		t.Errorf("a connection over which nothing was appended: stalled for %s", s)
	}
}

// roomOf gives the stream so many bytes of room, and returns how many it had.
func roomOf(t *testing.T, js jetstream.JetStream, bytes int64) int64 {
	t.Helper()
	s, err := js.Stream(t.Context(), cases.Stream())
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	had := cfg.MaxBytes
	cfg.MaxBytes = bytes
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return had
}
