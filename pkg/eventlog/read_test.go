package eventlog_test

import (
	"sync/atomic"
	"testing"

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
