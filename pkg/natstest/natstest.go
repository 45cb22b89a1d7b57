// Package natstest starts real nats-servers for tests: on free ports, in folders of their own, ended with the test.
package natstest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
)

// MaxStore is what the streams of a test may reserve, in bytes.
const MaxStore = 4 << 30

// Run starts a server with JetStream, SyncAlways and the accounts of package access, without streams. Who connects without credentials is
// in the services' account and may do everything there.
func Run(tb testing.TB) *server.Server {
	tb.Helper()
	return newFleet(tb).start(tb, alone(tb))
}

// Unsynced starts a server as [Run] does, without streams, that acknowledges before it has synced: one that nothing may rely on.
func Unsynced(tb testing.TB) *server.Server {
	tb.Helper()
	f := newFleet(tb)
	var o server.Options
	if err := o.ProcessConfigString(f.conf()); err != nil {
		tb.Fatal(err)
	}
	o.Host, o.Port, o.NoSigs, o.JetStream, o.StoreDir, o.JetStreamMaxStore = "127.0.0.1", server.RANDOM_PORT, true, true, tb.TempDir(), MaxStore
	s, err := server.NewServer(&o)
	if err != nil {
		tb.Fatal(err)
	}
	go s.Start()
	tb.Cleanup(func() { bus.End(s) })
	if !s.ReadyForConnections(20 * time.Second) {
		tb.Fatal("the server is not ready")
	}
	f.open(tb, s)
	fleets.Store(s.ClientURL(), f)
	tb.Cleanup(func() { fleets.Delete(s.ClientURL()) })
	return s
}

// Roomy starts a server as [Run] does with the streams, which may reserve so many bytes, and returns a connection to it.
func Roomy(tb testing.TB, maxStore int64) jetstream.JetStream {
	tb.Helper()
	cfg := alone(tb)
	cfg.MaxStore = maxStore
	js := Connect(tb, newFleet(tb).start(tb, cfg).ClientURL())
	if err := eventlog.Migrate(tb.Context(), js, eventlog.StreamOptions{MaxBytes: maxStore}); err != nil {
		tb.Fatal(err)
	}
	return js
}

func alone(tb testing.TB) bus.Config {
	tb.Helper()
	return bus.Config{Dir: tb.TempDir(), MaxStore: MaxStore, MonitorPort: -1}
}

// Bus starts a server, creates the streams, and returns a connection to it.
func Bus(tb testing.TB) jetstream.JetStream {
	tb.Helper()
	js := Connect(tb, Run(tb).ClientURL())
	Migrate(tb, js, 1)
	return js
}

// Cluster starts n servers that form a cluster, creates the streams with n replicas, and returns a connection to the servers.
func Cluster(tb testing.TB, n int) ([]*server.Server, jetstream.JetStream) {
	tb.Helper()
	return newFleet(tb).cluster(tb, n)
}

func (f *fleet) cluster(tb testing.TB, n int) ([]*server.Server, jetstream.JetStream) {
	tb.Helper()
	ports := freePorts(tb, n)
	routes := make([]string, n)
	for i, p := range ports {
		routes[i] = fmt.Sprintf("127.0.0.1:%d", p)
	}
	servers := make([]*server.Server, n)
	for i := range servers {
		servers[i] = f.start(tb, bus.Config{
			Name: fmt.Sprintf("n%d", i+1), Dir: tb.TempDir(), MaxStore: MaxStore, MonitorPort: -1,
			Cluster: "test", ClusterPort: ports[i], Routes: routes,
		})
	}
	js := Connect(tb, servers[0].ClientURL())
	Eventually(tb, 30*time.Second, "the cluster has a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == n {
				return true
			}
		}
		return false
	})
	Migrate(tb, js, n)
	return servers, js
}

// Connect connects to a server; the connection ends with the test.
func Connect(tb testing.TB, url string, opts ...nats.Option) jetstream.JetStream {
	tb.Helper()
	nc, err := nats.Connect(url, slices.Concat(reconnect, []nats.Option{nats.SyncQueueLen(eventlog.ReadQueue)}, opts)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	return js
}

// Migrate creates the streams.
func Migrate(tb testing.TB, js jetstream.JetStream, replicas int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if err := eventlog.Migrate(ctx, js, eventlog.StreamOptions{MaxBytes: MaxStore / 4, Replicas: replicas}); err != nil {
		tb.Fatal(err)
	}
}

// Eventually polls until ok holds, and fails the test when it does not within the time.
func Eventually(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			tick.Stop()
			tb.Fatalf("within %s it did not become true that %s", within, what)
		}
	}
}

func freePorts(tb testing.TB, n int) []int {
	tb.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// Settled waits until every durable consumer has acknowledged what its stream holds for it.
func Settled(tb testing.TB, js jetstream.JetStream) {
	tb.Helper()
	Eventually(tb, time.Minute, "all reactions are done", func() bool {
		streams := js.StreamNames(tb.Context())
		for name := range streams.Name() {
			s, err := js.Stream(tb.Context(), name)
			if err != nil {
				return false
			}
			consumers := s.ListConsumers(tb.Context())
			for c := range consumers.Info() {
				if c.Config.Durable != "" && c.NumPending+uint64(c.NumAckPending) > 0 {
					return false
				}
			}
			if consumers.Err() != nil {
				return false
			}
		}
		return streams.Err() == nil
	})
}

// Each calls see for every message that a stream holds now, in order.
func Each(tb testing.TB, js jetstream.JetStream, stream string, see func(jetstream.Msg)) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		tb.Fatal(err)
	}
	n := s.CachedInfo().State.Msgs
	if n == 0 {
		return
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		tb.Fatal(err)
	}
	defer it.Stop()
	for range n {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			tb.Fatal(err)
		}
		see(m)
	}
}
