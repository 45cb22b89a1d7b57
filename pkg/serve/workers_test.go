package serve

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
)

// slow is a request for whose answer nobody waits, and which takes until its gate is opened.
type slow struct {
	micro.Request
	gate chan struct{}
}

func (s slow) Reply() string {
	<-s.gate
	return ""
}

func (slow) Headers() micro.Headers { return nil }
func (slow) Data() []byte           { return nil }

// Where all workers are busy a request waits for one, and is let go when the service has ended.
func TestARequestWaitsForAWorkerUntilTheEnd(t *testing.T) {
	t.Parallel()
	const subj = "tongan.qry.intake.case.get"
	r := &running{
		rt: &Runtime{Log: slog.New(slog.DiscardHandler)}, slots: make(chan struct{}, 1), tasks: make(chan task), ended: make(chan struct{}),
		stats: map[string]*stats{subj: {}},
	}
	handler, gate := r.handler(Endpoint{subject: subj}), make(chan struct{})
	handler.Handle(slow{gate: gate})
	back := make(chan struct{})
	go func() {
		handler.Handle(slow{gate: gate})
		close(back)
	}()
	select {
	case <-back:
		t.Error("one more than there are workers is taken")
	case <-time.After(20 * time.Millisecond):
	}
	close(r.ended)
	select {
	case <-back:
	case <-time.After(10 * time.Second):
		t.Error("it waits for ever")
	}
	close(gate)
	r.wg.Wait()
}
