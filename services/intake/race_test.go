package intake_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

// pairs is how often two commands for one aggregate are sent at once, and callers from how many sides.
const (
	pairs   = 10000
	callers = 16
)

func TestTwoCommandsAtOnce(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	key := servetest.MasterKey(t)
	raceFor(t, []*servetest.Client{
		servetest.RunOn(t, js, subject.Intake, intake.Run, intake.Config{MasterKey: key}),
		servetest.RunOn(t, natstest.Connect(t, js.Conn().ConnectedUrl()), subject.Intake, intake.Run, intake.Config{MasterKey: key}),
	})
}

func TestTwoCommandsAtOnceOnThreeReplicas(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	key := servetest.MasterKey(t)
	conns := []jetstream.JetStream{js}
	for _, s := range servers[1:] {
		conns = append(conns, natstest.Connect(t, s.ClientURL()))
	}
	var copies []*servetest.Client
	for _, c := range conns {
		copies = append(copies, servetest.RunOn(t, c, subject.Intake, intake.Run, intake.Config{MasterKey: key}))
	}
	raceFor(t, copies)
}

// raceFor sends two openings of each of many cases at once, then two closings, to several copies of the service, which know nothing of each
// other's locks. Whoever comes second must have decided on what the first one stored: of two openings one is refused, of two closings one
// finds it closed. The stream is what is checked: no case may have been opened or closed twice.
func raceFor(t *testing.T, copies []*servetest.Client) {
	t.Helper()
	ids := make(chan string)
	var wg sync.WaitGroup
	for i := range callers {
		nc := copies[i%len(copies)].As(t, access.Caller{ID: "worker", Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: natstest.Org})
		wg.Go(func() {
			for id := range ids {
				opened := both(t, nc, openCase,
					&intakev1.OpenCase{Provenance: provenance("a"), CaseId: id, ChildId: "ch1"},
					&intakev1.OpenCase{Provenance: provenance("b"), CaseId: id, ChildId: "ch2"})
				closed := both(t, nc, closeCase,
					&intakev1.CloseCase{Provenance: provenance("c"), CaseId: id, AgreedBy: "w9", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET},
					&intakev1.CloseCase{Provenance: provenance("d"), CaseId: id, AgreedBy: "w9", CloseReason: intakev1.CaseCloseReason_CASE_CLOSE_REASON_REFERRED})
				if opened != 1 || closed != 1 {
					t.Errorf("case %s: %d openings and %d closings were accepted", id, opened, closed)
				}
			}
		})
	}
	for i := range pairs / 2 {
		ids <- fmt.Sprintf("c%d", i)
	}
	close(ids)
	wg.Wait()
	checkStream(t, copies[0].JS)
}

// both sends two commands at once and returns how many were accepted and led to something.
func both(t *testing.T, nc *nats.Conn, subj string, commands ...proto.Message) int {
	t.Helper()
	var mu sync.Mutex
	var happened int
	var wg sync.WaitGroup
	for _, c := range commands {
		wg.Go(func() {
			payload, _ := proto.Marshal(c)
			for range 20 { // a service that has just lost its leader answers 503: the same command is sent again
				m, err := nc.Request(subj, payload, 15*time.Second)
				if err != nil || m.Header.Get(micro.ErrorCodeHeader) == "503" {
					continue
				}
				reply := &eventv1.CommandReply{}
				if m.Header.Get(micro.ErrorCodeHeader) == "" && proto.Unmarshal(m.Data, reply) == nil && reply.GetHappened() {
					mu.Lock()
					happened++
					mu.Unlock()
				}
				return
			}
			t.Error("a command got no answer")
		})
	}
	wg.Wait()
	return happened
}

func checkStream(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	seen := make(map[string]int)
	natstest.Each(t, js, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		if seen[m.Subject()]++; seen[m.Subject()] > 1 {
			t.Errorf("%s is stored twice", m.Subject())
		}
	})
	if len(seen) != pairs {
		t.Errorf("the stream holds %d events, want %d", len(seen), pairs)
	}
}
