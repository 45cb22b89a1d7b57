package serve_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
)

// addresses are those of servers, as --nats-url takes them.
func addresses(servers []*server.Server) string {
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.ClientURL())
	}
	return strings.Join(urls, ",")
}

// at connects as a service does.
func at(t *testing.T, urls string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	security, err := serve.SecurityFlags{}.NATSOptions(urls)
	if err != nil {
		t.Fatal(err)
	}
	js, err := serve.Connect(urls, "under-test", slog.New(slog.DiscardHandler), append(security, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(js.Conn().Close)
	return js.Conn()
}

func TestAConnectionGoesToAnyOfTheServersNamedAndToNoOther(t *testing.T) {
	t.Parallel()
	servers, _ := natstest.Cluster(t, 3)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "nats://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	nc := at(t, nobody+","+addresses(servers[:2]))
	if n := len(nc.Servers()); n != 3 {
		t.Errorf("it knows %d addresses of the three it was given: %v", n, nc.Servers())
	}
	lost, other := servers[0], servers[1]
	if nc.ConnectedUrl() == other.ClientURL() {
		lost, other = other, lost
	}
	lost.Shutdown()
	natstest.Eventually(t, 20*time.Second, "it is connected to the other one", func() bool { return nc.ConnectedUrl() == other.ClientURL() })
	other.Shutdown()
	refused := nc.Stats().Reconnects
	natstest.Again(t, lost)
	natstest.Eventually(t, 20*time.Second, "it is connected to the one that came back", func() bool { return nc.ConnectedUrl() == lost.ClientURL() })
	if n := nc.Stats().Reconnects; n != refused+1 {
		t.Errorf("it was connected %d times in between, the third server is not one of those named", n-refused-1)
	}
}

// A bus says no to everybody while nobody can tell it whom to let in.
func TestAConnectionThatIsNotLetInForAWhileTriesOn(t *testing.T) {
	t.Parallel()
	servers, _, issuerFile := natstest.Doorless(t, 1)
	issuer, err := access.LoadIssuer(issuerFile)
	if err != nil {
		t.Fatal(err)
	}
	url := servers[0].ClientURL()
	caller, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	var shut atomic.Bool
	var refused atomic.Int64
	find := func(_ context.Context, key string) (access.Caller, bool) {
		return access.Caller{ID: "c1", Key: key}, !shut.Load()
	}
	audit, err := access.LoadCredentials(natstest.Credentials(t, url, subject.Audit))
	if err != nil {
		t.Fatal(err)
	}
	door := at(t, url, audit.ServiceOptions(subject.Audit)...)
	if _, err := (access.Door{Issuer: issuer, Find: find, Refused: func(context.Context, string) { refused.Add(1) }}).Open(door); err != nil {
		t.Fatal(err)
	}
	if err := door.Flush(); err != nil {
		t.Fatal(err)
	}
	nc := at(t, url, caller.CallerOptions()...)
	shut.Store(true)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 20*time.Second, "it was refused several times", func() bool { return refused.Load() > 3 || nc.IsClosed() })
	shut.Store(false)
	natstest.Eventually(t, 20*time.Second, "it is let in again", func() bool { return nc.IsConnected() || nc.IsClosed() })
	if nc.IsClosed() {
		t.Errorf("it gave up after %d refusals", refused.Load())
	}
}
