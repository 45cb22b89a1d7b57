package access_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// text is a log that is read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func logger(l *text) *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// happened stores an event about a caller.
func happened(t *testing.T, js jetstream.JetStream, id string, e decider.Event) uint64 {
	t.Helper()
	m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{Event: e, ID: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	sign(t, js, m)
	ack, err := js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// sign signs a message as the audit service does.
func sign(t *testing.T, js jetstream.JetStream, m *nats.Msg) {
	t.Helper()
	if err := natstest.Issuer(t, js.Conn().ConnectedUrl()).Sign(m); err != nil {
		t.Fatal(err)
	}
}

func issuer(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	return natstest.Issuer(t, js.Conn().ConnectedUrl()).Public()
}

func added(id, key string) *auditv1.CallerAdded {
	return &auditv1.CallerAdded{
		CallerId: id, Nkey: key, Role: auditv1.Role_ROLE_SOCIAL_WORKER, OrgId: "o1", AdmCode: "440703", InstitutionId: "i1",
	}
}

func follow(t *testing.T, js jetstream.JetStream) *access.Registry {
	t.Helper()
	r, err := access.Follow(t.Context(), js, issuer(t, js), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reaches waits until a registry knows what was recorded up to a sequence.
func reaches(t *testing.T, r *access.Registry, sequence uint64) {
	t.Helper()
	natstest.Eventually(t, 10*time.Second, "the registry knows what was recorded", func() bool {
		_, last, _ := r.Callers()
		return last >= sequence
	})
}

// What happens to a caller is known the same whether it was recorded before the registry was asked, or after.
func TestTheRegistryFollowsWhatIsRecorded(t *testing.T) {
	t.Parallel()
	const k1, k2, k3 = "U1", "U2", "U3"
	worker := func(id, key string) access.Caller {
		return access.Caller{ID: id, Key: key, Role: auditv1.Role_ROLE_SOCIAL_WORKER, Org: "o1", AdmCode: "440703", InstitutionID: "i1"}
	}
	type event struct {
		id string
		decider.Event
	}
	rotated := func(id, key string) event { return event{id, &auditv1.CallerKeyRotated{CallerId: id, Nkey: key}} }
	revoked := func(id string) event { return event{id, &auditv1.CallerRevoked{CallerId: id}} }
	add := func(id, key string) event { return event{id, added(id, key)} }
	for _, tt := range []struct {
		name    string
		events  []event
		want    []access.Caller
		byKey   map[string]string // the caller's id, empty where the key is nobody's
		unknown []string          // ids
	}{
		{"nothing", nil, nil, map[string]string{k1: ""}, []string{"w1"}},
		{"added", []event{add("w1", k1)}, []access.Caller{worker("w1", k1)}, map[string]string{k1: "w1", k2: "", "": ""}, []string{"w2", ""}},
		{"two, in the order of ids", []event{add("w2", k2), add("w1", k1)}, []access.Caller{worker("w1", k1), worker("w2", k2)}, map[string]string{k1: "w1", k2: "w2"}, nil},
		{"one who does not connect", []event{add("w1", "")}, []access.Caller{worker("w1", "")}, map[string]string{"": ""}, nil},
		{"two who do not connect", []event{add("w1", ""), add("w2", ""), revoked("w1")}, []access.Caller{worker("w2", "")}, map[string]string{"": ""}, []string{"w1"}},
		{"rotated", []event{add("w1", k1), rotated("w1", k2)}, []access.Caller{worker("w1", k2)}, map[string]string{k1: "", k2: "w1"}, nil},
		{"rotated to the same key", []event{add("w1", k1), rotated("w1", k1)}, []access.Caller{worker("w1", k1)}, map[string]string{k1: "w1"}, nil},
		{"who did not connect gets a key", []event{add("w1", ""), rotated("w1", k1)}, []access.Caller{worker("w1", k1)}, map[string]string{k1: "w1"}, nil},
		{"revoked", []event{add("w1", k1), revoked("w1")}, nil, map[string]string{k1: ""}, []string{"w1"}},
		{"revoked after its key was rotated", []event{add("w1", k1), rotated("w1", k2), revoked("w1")}, nil, map[string]string{k1: "", k2: ""}, []string{"w1"}},
		{"revoked and added again", []event{add("w1", k1), revoked("w1"), add("w1", k2)}, []access.Caller{worker("w1", k2)}, map[string]string{k1: "", k2: "w1"}, nil},
		{"added twice", []event{add("w1", k1), add("w1", k2)}, []access.Caller{worker("w1", k2)}, map[string]string{k1: "", k2: "w1"}, nil},
		{"rotated, and was never added", []event{rotated("w1", k1)}, nil, map[string]string{k1: ""}, []string{"w1", ""}},
		{"rotated, and was revoked", []event{add("w1", k1), revoked("w1"), rotated("w1", k2)}, nil, map[string]string{k1: "", k2: ""}, []string{"w1", ""}},
		{"revoked, and was never added", []event{revoked("w1")}, nil, nil, []string{"w1"}},
		{
			"a key that another one has now stays that one's",
			[]event{add("w1", k1), add("w2", k1), rotated("w1", k3)},
			[]access.Caller{worker("w1", k3), worker("w2", k1)},
			map[string]string{k1: "w2", k3: "w1"},
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			js := natstest.Bus(t)
			before := follow(t, js)
			var last uint64
			for _, e := range tt.events {
				last = happened(t, js, e.id, e.Event)
			}
			reaches(t, before, last)
			for when, r := range map[string]*access.Registry{"recorded after the start": before, "recorded before the start": follow(t, js)} {
				got, upTo, _ := r.Callers()
				if diff := cmp.Diff(tt.want, got); diff != "" || upTo != last {
					t.Errorf("%s, known up to %d: %s", when, upTo, diff)
				}
				for key, id := range tt.byKey {
					if c, known := r.Known(key); c.ID != id || known != (id != "") {
						t.Errorf("%s: key %q is that of %q, want %q", when, key, c.ID, id)
					}
				}
				for _, id := range tt.unknown {
					if _, known := r.ByID(t.Context(), id); known {
						t.Errorf("%s: %q is known", when, id)
					}
				}
			}
		})
	}
}

// An event that cannot be read locks nobody out, and is told of without what it holds.
func TestADamagedEventAboutACallerIsPassedOver(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	happened(t, js, "w1", added("w1", "U1"))
	damaged := func() {
		m, err := eventlog.Encode(subject.Caller, "w1", decider.Recorded{Event: added("w1", "U1f2e3d"), ID: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		m.Data[len(m.Data)-1]++
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	damaged()
	l := &text{}
	r, err := access.Follow(t.Context(), js, issuer(t, js), logger(l))
	if err != nil {
		t.Fatal(err)
	}
	damaged()
	reaches(t, r, happened(t, js, "w2", added("w2", "U2")))
	for key, id := range map[string]string{"U1": "w1", "U2": "w2"} {
		if c, _ := r.Known(key); c.ID != id {
			t.Errorf("key %s is that of %q", key, c.ID)
		}
	}
	if n := strings.Count(l.String(), "event about a caller passed over"); n != 2 || strings.Contains(l.String(), "1f2e3d") {
		t.Errorf("logged is %s", l)
	}
}

// The trail stands in the same stream, and is none of the registry's business.
func TestTheTrailIsNotFollowed(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := follow(t, js)
	_, _, changed := r.Callers()
	if err := access.Record(t.Context(), js, "w1", &auditv1.SealOpened{ChildId: "c1"}); err != nil {
		t.Fatal(err)
	}
	sequence := happened(t, js, "w1", added("w1", "U1"))
	reaches(t, r, sequence)
	select {
	case <-changed:
	default:
		t.Error("who waits for a change is not told")
	}
	if callers, last, _ := r.Callers(); len(callers) != 1 || last != sequence {
		t.Errorf("%d callers up to %d", len(callers), last)
	}
}

// Whom the bus let in a moment ago is known a moment later: who asks waits for it.
func TestWhoWasAddedAMomentAgoIsFound(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := follow(t, js)
	n := 0
	natstest.Eventually(t, 20*time.Second, "somebody is found who was not known when the question came", func() bool {
		n++
		id, key := fmt.Sprintf("w%d", n), fmt.Sprintf("U%d", n)
		m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{Event: added(id, key), ID: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		sign(t, js, m)
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
		_, before := r.Known(key)
		byKey, found := r.ByKey(t.Context(), key)
		byID, also := r.ByID(t.Context(), id)
		if found && also && byKey != byID {
			t.Fatalf("by key it is %v, by id %v", byKey, byID)
		}
		return !before && found && also
	})
}

func TestWhoIsNotKnownIsRefusedSoon(t *testing.T) {
	t.Parallel()
	r := follow(t, natstest.Bus(t))
	begun := time.Now()
	if _, found := r.ByKey(t.Context(), "U9"); found {
		t.Error("a key that is nobody's is found")
	}
	if _, found := r.ByID(t.Context(), "w9"); found {
		t.Error("an id that is nobody's is found")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("that takes %s", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, found := r.ByKey(ctx, "U9"); found {
		t.Error("it is found for somebody who is gone")
	}
}

func TestWithoutAnAuditStreamNobodyIsKnown(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	if _, err := access.Follow(t.Context(), js, issuer(t, js), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "tongan migrate") {
		t.Errorf("it says %v", err)
	}
}

// labelled counts goroutines by the label of a test.
func labelled(t *testing.T) int {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	return strings.Count(b.String(), fmt.Sprintf("%q:%q", "of", t.Name()))
}

func TestFollowingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	happened(t, js, "w1", added("w1", "U1"))
	ctx, cancel := context.WithCancel(t.Context())
	l := &text{}
	// Goroutines inherit the label of who started them.
	pprof.Do(ctx, pprof.Labels("of", t.Name()), func(ctx context.Context) {
		if _, err := access.Follow(ctx, js, issuer(t, js), logger(l)); err != nil {
			t.Error(err)
		}
	})
	if labelled(t) == 0 {
		t.Error("nobody follows")
	}
	cancel()
	natstest.Eventually(t, 10*time.Second, "nobody follows any more", func() bool { return labelled(t) == 0 })
	if l.String() != "" {
		t.Errorf("logged is %s", l)
	}
	if _, err := access.Follow(ctx, js, issuer(t, js), logger(l)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// A bus that goes and comes again is followed on from where it was.
func TestFollowingOutlivesTheBus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func(port int) *server.Server {
		s, err := bus.Start(bus.Config{Dir: dir, Port: port, MonitorPort: -1, MaxStore: natstest.MaxStore})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { bus.End(s) })
		return s
	}
	first := start(0)
	js := natstest.Connect(t, first.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	natstest.Migrate(t, js, 1)
	issuer, err := access.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	happens := func(js jetstream.JetStream, id string, e decider.Event) uint64 {
		m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{Event: e, ID: uuid.NewString()})
		if err == nil {
			err = issuer.Sign(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		ack, err := js.PublishMsg(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	happens(js, "w1", added("w1", "U1"))
	r, err := access.Follow(t.Context(), js, issuer.Public(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(first.ClientURL(), "nats://127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()
	first.WaitForShutdown()
	if c, _ := r.ByKey(t.Context(), "U1"); c.ID != "w1" {
		t.Error("without the bus it forgets who may call")
	}
	again := natstest.Connect(t, start(port).ClientURL())
	happens(again, "w1", &auditv1.CallerRevoked{CallerId: "w1"})
	last := happens(again, "w2", added("w2", "U2"))
	natstest.Eventually(t, 30*time.Second, "it follows again", func() bool {
		_, upTo, _ := r.Callers()
		return upTo == last
	})
	if callers, _, _ := r.Callers(); len(callers) != 1 || callers[0].ID != "w2" {
		t.Errorf("it knows %v", callers)
	}
}

// A revocation that the bus sent and that never arrived counts soon, even if nothing else happens to anybody.
func TestARevocationThatGotLostOnItsWayCounts(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	way := natstest.Lossy(t, js.Conn().ConnectedUrl(), subject.Caller.Event("w1", "CallerRevoked"))
	happened(t, js, "w1", added("w1", "U1"))
	r, err := access.Follow(t.Context(), natstest.Connect(t, way), issuer(t, js), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	happened(t, js, "w1", &auditv1.CallerRevoked{CallerId: "w1"})
	natstest.Eventually(t, time.Minute, "it is known", func() bool {
		_, known := r.Known("U1")
		return !known
	})
}

// What the audit service did not sign counts for nothing, wherever it came from; nor does what it said before, said again.
func TestOnlyWhatTheIssuerSignedCounts(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	r := follow(t, js)
	encode := func(id string, e decider.Event) *nats.Msg {
		m, err := eventlog.Encode(subject.Caller, id, decider.Recorded{Event: e, ID: uuid.NewString()})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	publish := func(m *nats.Msg) {
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	publish(encode("evil1", added("evil1", "U1")))
	other, err := access.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	m := encode("evil2", added("evil2", "U2"))
	if err := other.Sign(m); err != nil {
		t.Fatal(err)
	}
	publish(m)
	m = encode("w3", added("w3", "U3"))
	sign(t, js, m)
	publish(m)
	moved := encode("evil4", added("evil4", "U4")) // a signature of another place
	moved.Header.Set("Tongan-Signature", m.Header.Get("Tongan-Signature"))
	publish(moved)
	happened(t, js, "w3", &auditv1.CallerRevoked{CallerId: "w3"})
	// The first word about w3 once more, after the server has forgotten its id: written from another stream, so to say.
	if err := js.Conn().PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	reaches(t, r, happened(t, js, "w5", added("w5", "U5")))
	if callers, _, _ := r.Callers(); len(callers) != 1 || callers[0].ID != "w5" {
		t.Errorf("the callers are %v", callers)
	}
}
