package eventlog_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
)

// A reaction reads without a deadline of its own: it must not wait for ever for a server that was lost with its request.
func TestWhatNobodyAnswersIsAskedAgain(t *testing.T) {
	t.Parallel()
	nc := natstest.Bus(t).Conn()
	var asked atomic.Int64
	if _, err := nc.Subscribe("leader", func(m *nats.Msg) {
		if asked.Add(1) > 1 {
			_ = m.Respond([]byte("here"))
		}
	}); err != nil {
		t.Fatal(err)
	}
	answer, err := eventlog.Ask(t.Context(), nc, "leader", nil)
	if err != nil || string(answer.Data) != "here" || asked.Load() != 2 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}

// A server that holds a stream which nobody leads says what it has.
func TestWhatIsSaidOfAStreamIsWhatItsLeaderSays(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	if _, err := eventlog.Info(t.Context(), js, cases.Stream()); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers[1:] { // the first is connected
		s.Shutdown()
	}
	var silent error
	natstest.Eventually(t, time.Minute, "the last server answers without a leader", func() bool {
		s, err := js.Stream(t.Context(), cases.Stream())
		_, silent = eventlog.Info(t.Context(), js, cases.Stream())
		return err == nil && s.CachedInfo().Cluster.Leader == ""
	})
	if !errors.Is(silent, eventlog.ErrNoAnswer) {
		t.Errorf("that is taken for an answer: %v", silent)
	}
	for _, s := range servers[1:] {
		natstest.Again(t, s)
	}
	natstest.Eventually(t, time.Minute, "it has a leader again", func() bool {
		_, err := eventlog.Info(t.Context(), js, cases.Stream())
		return err == nil
	})
}
