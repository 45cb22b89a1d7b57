package eventlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
)

// road is a way to the bus on which what is sent may come late: after the connection was given up.
type road struct {
	mu     sync.Mutex
	holds  bool
	held   []byte
	on     net.Conn // where it was sent
	caught chan struct{}
}

// Dial makes a connection that goes this way.
func (w *road) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return &onRoad{c, w}, err
}

// hold has the next event that is sent, and what is sent after it over the same connection, be on its way until arrive is called.
func (w *road) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.holds, w.caught = true, make(chan struct{})
}

func (w *road) arrive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.on.Write(w.held)
	return errors.Join(err, w.on.Close())
}

type onRoad struct {
	net.Conn
	road *road
}

// Write sends, or seems to.
func (c *onRoad) Write(b []byte) (int, error) {
	w := c.road
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holds && w.on == nil && bytes.Contains(b, []byte("HPUB")) {
		w.on = c.Conn
		close(w.caught)
	}
	if w.on != c.Conn {
		return c.Conn.Write(b)
	}
	w.held = append(w.held, b...)
	return len(b), nil
}

// Close ends reading, and the connection where nothing is on its way.
func (c *onRoad) Close() error {
	c.road.mu.Lock()
	defer c.road.mu.Unlock()
	if c.road.on == c.Conn {
		return c.SetReadDeadline(time.Now())
	}
	return c.Conn.Close()
}

// Who gives up while an append waits is told that nothing was stored only if it was never sent: one that had no answer and was then set aside waits too,
// and may be stored after all.
func TestWhatMayBeOnItsWayIsNotSaidToBeNowhere(t *testing.T) {
	t.Parallel()
	bus, w := natstest.Bus(t), &road{}
	js := natstest.Connect(t, bus.Conn().ConnectedUrl(), nats.NoEcho(), nats.SetCustomDialer(w))
	log := newLog(js)
	if _, err := log.Append(t.Context(), "c0", 0, events("c0", "k1", 1)); err != nil {
		t.Fatal(err)
	}
	w.hold()
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	told := make(chan error, 1)
	go func() {
		_, err := log.Append(ctx, "c1", 0, events("c1", "k1", 1))
		told <- err
	}()
	<-w.caught
	release := log.Hold() // so that it has to wait for others afterwards
	defer release()
	m, err := eventlog.Encode(cases, "c1", events("c1", "other", 1)[0])
	if err != nil {
		t.Fatal(err)
	}
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "99") // somebody else is heard, and refused
	m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, cases.Filter("c1"))
	if _, err := bus.PublishMsg(t.Context(), m); err == nil {
		t.Fatal("an expectation that is not met is not refused")
	}
	natstest.Eventually(t, 10*time.Second, "it is suspect", func() bool { return log.Suspected("c1") })
	if err := js.Conn().ForceReconnect(); err != nil { // the answer will not come
		t.Fatal(err)
	}
	natstest.Eventually(t, 10*time.Second, "it waits again", func() bool { return log.Waiting() == 1 })
	giveUp()
	if err := <-told; !errors.Is(err, eventlog.ErrUnclear) || errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("who gave up is told %v", err)
	}
	if err := w.arrive(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 10*time.Second, "it is stored after all", func() bool {
		stored, _, err := newLog(bus).Load(t.Context(), "c1")
		return err == nil && len(stored) == 1
	})
}

// Who gives up soon says nothing about the bus: it stores, though nobody waits for the answer.
func TestWhoGivesUpIsNoStall(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	log := newLog(js)
	for i := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(100*i)*time.Microsecond)
		id := fmt.Sprint("c", i)
		_, err := log.Append(ctx, id, 0, events(id, "k1", 1))
		cancel()
		if age := eventlog.Stalled(js.Conn()); err != nil && age > 0 {
			t.Errorf("after %v it is said to store nothing for %s", err, age)
		}
	}
}
