package intake_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

// errNotNow is what a caller is told who may send the same again.
var errNotNow = errors.New("not now")

// tries sends something once.
func tries(nc *nats.Conn, subj string, ask, answer proto.Message) error {
	payload, err := proto.Marshal(ask)
	if err != nil {
		return err
	}
	m, err := nc.Request(subj, payload, 3*time.Second) // a node that is lost takes requests and replies with it
	if err != nil {
		return fmt.Errorf("%w: %w", errNotNow, err)
	}
	switch code := m.Header.Get(micro.ErrorCodeHeader); code {
	case "":
		return proto.Unmarshal(m.Data, answer)
	case "503":
		return fmt.Errorf("%w: %s", errNotNow, m.Header.Get(micro.ErrorHeader))
	default:
		return fmt.Errorf("%s %s", code, m.Header.Get(micro.ErrorHeader))
	}
}

// insists sends something until it is answered.
func insists(nc *nats.Conn, subj string, ask, answer proto.Message) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ; ; <-tick.C {
		if err := tries(nc, subj, ask, answer); !errors.Is(err, errNotNow) {
			return err
		}
	}
}

// registrars register children, several at once, until they are told to stop.
type registrars struct {
	mu    sync.Mutex
	ids   []string // of those that are registered
	conns []*nats.Conn
	stop  chan struct{}
	wg    sync.WaitGroup
}

func register(t *testing.T, c *servetest.Client) *registrars {
	t.Helper()
	r := &registrars{stop: make(chan struct{})}
	for w := range 4 {
		nc := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: fmt.Sprint(natstest.Org, w)})
		r.conns = append(r.conns, nc)
		r.wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-r.stop:
					return
				default:
				}
				id, same := fmt.Sprintf("ch%d-%d", w, i), ""
				if i%10 == 0 {
					same = number
				}
				reply := &eventv1.CommandReply{}
				if err := insists(nc, registerChild, withNumber(id, same), reply); err != nil || !reply.GetHappened() {
					t.Errorf("%s: %v, %v", id, reply, err)
					return
				}
				r.mu.Lock()
				r.ids = append(r.ids, id)
				r.mu.Unlock()
			}
		})
	}
	return r
}

// more waits until so many more are registered.
func (r *registrars) more(t *testing.T, n int) {
	t.Helper()
	begun := r.count()
	natstest.Eventually(t, time.Minute, "children are registered", func() bool { return r.count() >= begun+n })
}

func (r *registrars) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

// whole waits until every node has all there is.
func whole(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	natstest.Eventually(t, time.Minute, "every node has every stream", func() bool {
		streams := js.ListStreams(t.Context())
		n := 0
		for s := range streams.Info() {
			if s.Cluster == nil || s.Cluster.Leader == "" || len(s.Cluster.Replicas) != 2 {
				return false
			}
			for _, r := range s.Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
			n++
		}
		return streams.Err() == nil && n > 0
	})
}

// TestEachOfThreeNodesMayBeLostInTurn shuts down each node, with the connections to it, and starts it again, while children are registered: each with
// what it stored, and then each with an empty disk. What is acknowledged is there once, with its key, although nothing is left of the disks on
// which it was. With two lost nothing is acknowledged, and nothing answered; when they are back all goes on.
func TestEachOfThreeNodesMayBeLostInTurn(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	t.Run("while children are registered", func(calls *testing.T) { loseInTurn(t, calls, servers, js) })
}

// loseInTurn loses them. Who calls is gone with calls, before the nodes are with t.
func loseInTurn(t, calls *testing.T, servers []*server.Server, js jetstream.JetStream) {
	calls.Helper()
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	all, err := serve.Connect(strings.Join(urls, ","), "intake", slog.New(slog.DiscardHandler), nats.IgnoreDiscoveredServers())
	if err != nil {
		calls.Fatal(err)
	}
	calls.Cleanup(all.Conn().Close)
	c := servetest.RunOn(calls, all, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(calls)})
	r := register(calls, c)
	r.more(calls, 20)
	for n := range 2 * len(servers) {
		i := n % len(servers)
		folder := servers[i].StoreDir()
		r.lose(calls, servers[i])
		if n >= len(servers) {
			if err := os.RemoveAll(folder); err != nil {
				calls.Fatal(err)
			}
		}
		r.more(calls, 20)
		servers[i] = natstest.Again(t, servers[i])
		whole(calls, js)
	}
	close(r.stop)
	r.wg.Wait()
	r.twoLost(t, calls, servers)
	whole(calls, js)
	for _, id := range r.ids {
		child := &intakev1.Child{}
		if err := insists(r.conns[0], getChild, &intakev1.GetChild{ChildId: id, Reason: "FOLLOW_UP"}, child); err != nil || child.GetDetails().GetName() == "" {
			calls.Errorf("%s is acknowledged: %v", id, err)
		}
	}
	seen := make(map[string]int)
	natstest.Each(calls, js, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		if seen[m.Subject()]++; seen[m.Subject()] > 1 {
			calls.Errorf("%s is stored twice", m.Subject())
		}
	})
}

// lose ends a node, and waits until all callers are let in at another: a nats-server 2.15 panics if one asks to be while it is shut down, as the next
// node may be.
func (r *registrars) lose(t *testing.T, lost *server.Server) {
	t.Helper()
	bus.End(lost)
	natstest.Eventually(t, time.Minute, "all callers are let in at another node", func() bool {
		return !slices.ContainsFunc(r.conns, func(nc *nats.Conn) bool { return !nc.IsConnected() || nc.ConnectedUrl() == lost.ClientURL() })
	})
}

// twoLost shuts down two nodes, and starts them again.
func (r *registrars) twoLost(t, calls *testing.T, servers []*server.Server) {
	calls.Helper()
	worker := r.conns[0]
	for _, s := range servers[1:] {
		r.lose(calls, s)
	}
	reply := &eventv1.CommandReply{}
	if err := tries(worker, registerChild, withNumber("late", ""), reply); !errors.Is(err, errNotNow) {
		calls.Errorf("with two nodes lost: %v, %v", reply, err)
	}
	// A node that led goes on answering until it notices; it has all that was ever acknowledged.
	natstest.Eventually(calls, time.Minute, "a query is not answered", func() bool {
		return errors.Is(tries(worker, getChild, &intakev1.GetChild{ChildId: "late", Reason: "FOLLOW_UP"}, &intakev1.Child{}), errNotNow)
	})
	for _, s := range servers[1:] {
		natstest.Again(t, s)
	}
	if err := insists(worker, registerChild, withNumber("late", ""), reply); err != nil || !reply.GetHappened() {
		calls.Errorf("with all nodes back: %v, %v", reply, err)
	}
}
