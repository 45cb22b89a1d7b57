package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// most is the highest balance of an account.
const most = 3

var errLimit = decider.Refuse("amount", "is over the limit")

// account is a balance of 0 to most: flagging a case is a deposit, closing it a withdrawal; a deposit of two is two events.
var account = decider.Decider[int]{
	Decide: func(balance int, c decider.Command) ([]decider.Event, error) {
		var events []decider.Event
		switch body := c.Body.(type) {
		case *intakev1.FlagCaseSpecial:
			for range len(body.GetCaseId()) {
				events = append(events, &intakev1.CaseFlaggedSpecial{Provenance: c.Provenance()})
			}
		case *intakev1.CloseCase:
			events = append(events, &intakev1.CaseClosed{Provenance: c.Provenance()})
		}
		for _, e := range events {
			balance, _ = move(balance, e)
		}
		if balance < 0 || balance > most {
			return nil, errLimit
		}
		return events, nil
	},
	Evolve: move,
}

func move(balance int, e decider.Event) (int, bool) {
	switch e.(type) {
	case *intakev1.CaseFlaggedSpecial:
		return balance + 1, true
	case *intakev1.CaseClosed:
		return balance - 1, true
	default:
		return balance, false
	}
}

func TestManyWritersFromTwoProcesses(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	race(t, js, natstest.Connect(t, js.Conn().ConnectedUrl()))
}

func TestManyWritersFromTwoProcessesOnThreeReplicas(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	race(t, js, natstest.Connect(t, servers[1].ClientURL()))
}

// race has 64 writers on 100 accounts, from two processes whose connections are cut again and again. No balance may ever leave its bounds, as
// it does where somebody decides on an old state; what was acknowledged must be there, and nothing twice.
func race(t *testing.T, conns ...jetstream.JetStream) {
	t.Helper()
	const writers, accounts, commands, cutAfter = 64, 100, 40, 100
	var logs []*eventlog.Log
	for _, js := range conns {
		logs = append(logs, eventlog.New(js, cases, slog.New(slog.DiscardHandler)))
	}
	var sent atomic.Int64
	var mu sync.Mutex
	acknowledged := make(map[string]*eventv1.CommandReply)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			pick := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range commands {
				id := fmt.Sprint("c", pick.IntN(accounts))
				cmd := decider.Command{ID: fmt.Sprintf("w%d-%d", w, i), Body: body(pick.IntN(3))}
				if n := sent.Add(1); n%cutAfter == 0 {
					_ = conns[n/cutAfter%int64(len(conns))].Conn().ForceReconnect()
				}
				reply, err := insist(t.Context(), logs[w%len(logs)], id, cmd)
				switch {
				case errors.Is(err, errLimit):
				case err != nil:
					t.Errorf("%s: %v", cmd.ID, err)
				default:
					mu.Lock()
					acknowledged[cmd.ID] = reply
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	check(t, conns[0], acknowledged)
}

func body(kind int) decider.Event {
	if kind == 0 {
		return &intakev1.CloseCase{Provenance: &eventv1.Provenance{}}
	}
	return &intakev1.FlagCaseSpecial{CaseId: "ab"[:kind], Provenance: &eventv1.Provenance{}}
}

// insist sends a command again until it is answered.
func insist(ctx context.Context, log *eventlog.Log, id string, cmd decider.Command) (*eventv1.CommandReply, error) {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		reply, err := decider.Transact(try, log, account, id, cmd)
		cancel()
		again := errors.Is(err, eventlog.ErrUnavailable) || errors.Is(err, eventlog.ErrUnclear) || errors.Is(err, decider.ErrConflict) ||
			errors.Is(err, context.DeadlineExceeded)
		if !again || ctx.Err() != nil {
			return reply, err
		}
	}
}

func check(t *testing.T, js jetstream.JetStream, acknowledged map[string]*eventv1.CommandReply) {
	t.Helper()
	balance := make(map[string]int)
	events, ids := make(map[string]int), make(map[string]bool)
	natstest.Each(t, js, cases.Stream(), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 1)
		if err != nil {
			t.Fatal(err)
		}
		id := e.Subject.ID
		balance[id], _ = move(balance[id], e.Event)
		if balance[id] < 0 || balance[id] > most {
			t.Errorf("the balance of %s is %d after %s", id, balance[id], e.Command)
		}
		if ids[e.ID] {
			t.Errorf("event %s is stored twice", e.ID)
		}
		ids[e.ID] = true
		events[e.Command]++
	})
	for command, reply := range acknowledged {
		if events[command] != len(reply.GetEventIds()) {
			t.Errorf("%s is acknowledged by %v, %d events are stored", command, reply, events[command])
		}
	}
	if len(events) != len(acknowledged) || len(events) == 0 {
		t.Errorf("%d commands are stored, %d were acknowledged", len(events), len(acknowledged))
	}
}
