package bus_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
)

// clientConfig loads files that are well.
func clientConfig(t *testing.T, files transport.TLS) *tls.Config {
	t.Helper()
	cfg, err := files.Client()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startTLS starts a bus whose clients must have a certificate if the files have a CA.
func startTLS(t *testing.T, files transport.TLS) *server.Server {
	t.Helper()
	return start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1, TLS: files})
}

// speaks reports why a client cannot exchange a message with a server.
func speaks(t *testing.T, url string, opts ...nats.Option) error {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.NoReconnect()}, opts...)...)
	if err != nil {
		return err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("one")
	if err != nil {
		return err
	}
	if err := nc.Publish("one", nil); err != nil {
		return err
	}
	_, err = sub.NextMsg(10 * time.Second)
	return err
}

func TestClientsThatTrustTheCA(t *testing.T) {
	t.Parallel()
	ca, other := tlstest.New(t), tlstest.New(t)
	files := ca.Issue(t, "bus")
	files.CA = ""
	s := startTLS(t, files)
	trusting := nats.Secure(clientConfig(t, transport.TLS{CA: ca.File}))
	// A client that has the CA insists on TLS, whatever its URL says.
	for _, scheme := range []string{"tls", "nats"} {
		nc, err := nats.Connect(scheme+"://"+s.Addr().String(), trusting)
		if err != nil {
			t.Fatal(err)
		}
		if state, err := nc.TLSConnectionState(); err != nil || state.Version < tls.VersionTLS12 {
			t.Errorf("by %s it speaks %+v, %v", scheme, state, err)
		}
		nc.Close()
	}
	if err := speaks(t, start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1}).ClientURL(), trusting); !errors.Is(err, nats.ErrSecureConnWanted) {
		t.Errorf("with a server without TLS: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	for name, opts := range map[string][]nats.Option{
		"no options":     nil,
		"another CA":     {nats.Secure(clientConfig(t, transport.TLS{CA: other.File}))},
		"the system's":   {nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12})},
		"a certificate":  {nats.Secure(clientConfig(t, transport.TLS{Cert: files.Cert, Key: files.Key}))},
		"an old version": {nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS11, RootCAs: clientConfig(t, transport.TLS{CA: ca.File}).RootCAs})},
	} {
		err := speaks(t, s.ClientURL(), opts...)
		if err == nil || name != "an old version" && !errors.As(err, &unknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The certificate is not for that address.
	elsewhere := ca.Issue(t, "elsewhere", func(c *x509.Certificate) { c.IPAddresses = nil })
	elsewhere.CA = ""
	var wrong x509.HostnameError
	if err := speaks(t, startTLS(t, elsewhere).ClientURL(), trusting); !errors.As(err, &wrong) {
		t.Errorf("a server with a certificate for another: %v", err)
	}
}

func TestClientsWithACertificate(t *testing.T) {
	t.Parallel()
	ca, other := tlstest.New(t), tlstest.New(t)
	s := startTLS(t, ca.Issue(t, "bus"))
	if err := speaks(t, s.ClientURL(), nats.Secure(clientConfig(t, ca.Issue(t, "client")))); err != nil {
		t.Errorf("with a certificate of the CA: %v", err)
	}
	// A client of Go keeps a certificate to itself that the server would not take; this one does not.
	present := func(files transport.TLS) *tls.Config {
		cfg := clientConfig(t, transport.TLS{CA: ca.File})
		if files.Cert != "" {
			pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		return cfg
	}
	for name, files := range map[string]transport.TLS{
		"no certificate":                 {},
		"one that has expired":           ca.Issue(t, "expired", tlstest.Expired),
		"one of another CA":              other.Issue(t, "client"),
		"one that is not for connecting": ca.Issue(t, "server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
	} {
		if err := speaks(t, s.ClientURL(), nats.Secure(present(files))); err == nil {
			t.Errorf("with %s a client is let in", name)
		}
	}
}

// A bus does not start with an expired certificate; a server whose certificate expires while it runs is not spoken to.
func TestAServerWhoseCertificateHasExpired(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	files := ca.Issue(t, "bus", tlstest.Expired)
	if s, err := bus.Start(bus.Config{Dir: t.TempDir(), MaxStore: natstest.MaxStore, MonitorPort: -1, TLS: files}); err == nil {
		s.Shutdown()
		t.Error("a bus starts")
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { bus.End(s) })
	var invalid x509.CertificateInvalidError
	err = speaks(t, s.ClientURL(), nats.Secure(clientConfig(t, transport.TLS{CA: ca.File})))
	if !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("a client says %v", err)
	}
}

// A client that does not begin TLS gets the server's greeting and nothing else.
func TestAPlainClientGetsNowhere(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "bus")
	files.CA = ""
	s := startTLS(t, files)
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") || !strings.Contains(line, `"tls_required":true`) {
		t.Fatalf("it greets with %q, %v", line, err)
	}
	if _, err := io.WriteString(c, "CONNECT {\"verbose\":true}\r\nSUB > 1\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if strings.Contains(string(rest), "+OK") || strings.Contains(string(rest), "PONG") {
		t.Errorf("it answers %q, %v", rest, err)
	}
	natstest.Eventually(t, 10*time.Second, "it is disconnected", func() bool { return s.NumClients() == 0 })
}

// Connections inside the process need no certificate. Under a URL that asks for TLS they would hang for a minute; serve.Connect sees to it.
func TestInsideTheProcessWithTLS(t *testing.T) {
	t.Parallel()
	s := startTLS(t, tlstest.New(t).Issue(t, "bus"))
	for _, url := range []string{"", "nats://bus", "nats://" + s.Addr().String()} {
		if err := speaks(t, url, nats.InProcessServer(s)); err != nil {
			t.Errorf("at %q: %v", url, err)
		}
	}
}

// A bus that is opened later speaks TLS to those outside as any other.
func TestABusThatIsOpenedLaterSpeaksTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	s := start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1, Shut: true, TLS: ca.Issue(t, "bus")})
	if err := speaks(t, "", nats.InProcessServer(s)); err != nil {
		t.Errorf("inside the process before: %v", err)
	}
	if err := bus.Open(s); err != nil {
		t.Fatal(err)
	}
	if err := speaks(t, s.ClientURL(), nats.Secure(clientConfig(t, ca.Issue(t, "client")))); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := speaks(t, s.ClientURL(), nats.Secure(clientConfig(t, transport.TLS{CA: ca.File}))); err == nil {
		t.Error("a client without a certificate is let in")
	}
	if err := speaks(t, "", nats.InProcessServer(s)); err != nil {
		t.Errorf("inside the process after: %v", err)
	}
}

// Without TLS a bus is for this machine. It is refused before it listens.
func TestWithoutTLSOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is taken, so that a bus says whether it tried
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	files := tlstest.New(t).Issue(t, "bus")
	for _, tt := range []struct {
		name string
		cfg  bus.Config
		says string
	}{
		{"every address", bus.Config{Host: "0.0.0.0"}, `NATS host: "0.0.0.0" is not loopback`},
		{"every address of IPv6", bus.Config{Host: "::"}, `NATS host: "::" is not loopback`},
		{"another address", bus.Config{Host: "192.0.2.1"}, "permit it with --plaintext"},
		{"a name", bus.Config{Host: "bus"}, "children's names would cross the network in clear"},
		{"a cluster", bus.Config{Host: "0.0.0.0", Cluster: "c", Plaintext: true}, `NATS host: "0.0.0.0" is not loopback: whoever reaches a cluster`},
		{"a cluster with TLS", bus.Config{Host: "0.0.0.0", Cluster: "c", TLS: files}, `NATS host: "0.0.0.0" is not loopback: whoever reaches a cluster`},
		{"permitted", bus.Config{Host: "0.0.0.0", Plaintext: true}, "is taken"},
		{"with TLS", bus.Config{Host: "0.0.0.0", TLS: files}, "is taken"},
		{"half of TLS", bus.Config{TLS: transport.TLS{Cert: files.Cert}}, "--nats-tls-key is missing: it and tls-cert belong together"},
		{"half of TLS, permitted", bus.Config{Host: "0.0.0.0", Plaintext: true, TLS: transport.TLS{CA: files.CA}}, "--nats-tls-cert is missing: a server needs"},
		{"not of this machine", bus.Config{Host: "192.0.2.1", TLS: files}, "NATS: listen tcp 192.0.2.1:"},
	} {
		tt.cfg.Dir, tt.cfg.Port, tt.cfg.MonitorPort, tt.cfg.MaxStore = t.TempDir(), taken, -1, natstest.MaxStore
		s, err := bus.Start(tt.cfg)
		if err == nil {
			s.Shutdown()
		}
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
