package intake_test

import (
	"errors"
	"fmt"
	"log/slog"
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
	mu   sync.Mutex
	ids  []string // of those that are registered
	stop chan struct{}
	wg   sync.WaitGroup
}

func register(t *testing.T, c *servetest.Client) *registrars {
	t.Helper()
	r := &registrars{stop: make(chan struct{})}
	for w := range 4 {
		nc := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: fmt.Sprint(natstest.Org, w)})
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

// TestEachOfThreeNodesMayBeLostInTurn shuts down each node, with the connections to it, while children are registered: what is acknowledged is
// there once, with its key. With two lost nothing is acknowledged, and nothing answered; when they are back all goes on.
func TestEachOfThreeNodesMayBeLostInTurn(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	bus, err := serve.Connect(strings.Join(urls, ","), "intake", slog.New(slog.DiscardHandler), nats.IgnoreDiscoveredServers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Conn().Close)
	c := servetest.RunOn(t, bus, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	r := register(t, c)
	r.more(t, 20)
	for i, s := range servers {
		s.Shutdown()
		r.more(t, 20)
		servers[i] = natstest.Again(t, s)
		whole(t, js)
	}
	close(r.stop)
	r.wg.Wait()
	twoLost(t, c, servers)
	whole(t, js)
	worker := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org})
	for _, id := range r.ids {
		child := &intakev1.Child{}
		if err := insists(worker, getChild, &intakev1.GetChild{ChildId: id, Reason: "FOLLOW_UP"}, child); err != nil || child.GetDetails().GetName() == "" {
			t.Errorf("%s is acknowledged: %v", id, err)
		}
	}
	seen := make(map[string]int)
	natstest.Each(t, js, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		if seen[m.Subject()]++; seen[m.Subject()] > 1 {
			t.Errorf("%s is stored twice", m.Subject())
		}
	})
}

// twoLost shuts down two nodes, and starts them again.
func twoLost(t *testing.T, c *servetest.Client, servers []*server.Server) {
	t.Helper()
	worker := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org})
	for _, s := range servers[1:] {
		s.Shutdown()
	}
	reply := &eventv1.CommandReply{}
	if err := tries(worker, registerChild, withNumber("late", ""), reply); !errors.Is(err, errNotNow) {
		t.Errorf("with two nodes lost: %v, %v", reply, err)
	}
	// A node that led goes on answering until it notices; it has all that was ever acknowledged.
	natstest.Eventually(t, time.Minute, "a query is not answered", func() bool {
		return errors.Is(tries(worker, getChild, &intakev1.GetChild{ChildId: "late", Reason: "FOLLOW_UP"}, &intakev1.Child{}), errNotNow)
	})
	for _, s := range servers[1:] {
		natstest.Again(t, s)
	}
	if err := insists(worker, registerChild, withNumber("late", ""), reply); err != nil || !reply.GetHappened() {
		t.Errorf("with all nodes back: %v, %v", reply, err)
	}
}
