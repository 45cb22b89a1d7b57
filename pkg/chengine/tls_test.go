package chengine_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
)

// asks returns what the engine answers over both interfaces to a client with these files, or the first error.
func asks(t *testing.T, e *chengine.Engine, files transport.TLS, sql string) (native, overHTTP string, err error) {
	t.Helper()
	if !strings.Contains(e.DSN("analyst"), "secure=true") {
		t.Errorf("%s says nothing of TLS", e.DSN("analyst"))
	}
	opts, err := chclient.Options(e.DSN("analyst"), files, false)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&native); err != nil {
		return "", "", err
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+e.HTTPAddr()+"/", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("analyst", "a")
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: opts.TLS, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return native, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(string(body))
	}
	return native, strings.TrimSpace(string(body)), err
}

func TestInterfacesByTLS(t *testing.T) {
	t.Parallel()
	ca, other := tlstest.New(t), tlstest.New(t)
	server, client, stranger := ca.Issue(t, "engine"), ca.Issue(t, "client"), other.Issue(t, "client")
	e := chtest.Start(t, chengine.Config{Dir: t.TempDir(), Users: []chengine.User{analyst}, TLS: server})
	const long = "SELECT concat(repeat('x', 1000000), repeat('y', 1000000))"
	native, overHTTP, err := asks(t, e, client, long)
	if err != nil || len(native) != 2_000_000 || native != overHTTP {
		t.Errorf("with a certificate of the CA: %d and %d bytes, %v", len(native), len(overHTTP), err)
	}
	for name, files := range map[string]transport.TLS{
		"no certificate":                        {CA: ca.File},
		"a certificate of somebody else":        {CA: ca.File, Cert: stranger.Cert, Key: stranger.Key},
		"a client that does not trust the CA":   {CA: other.File, Cert: client.Cert, Key: client.Key},
		"a client that trusts the system's CAs": {Cert: client.Cert, Key: client.Key},
	} {
		if native, overHTTP, err := asks(t, e, files, "SELECT 'in'"); err == nil {
			t.Errorf("%s: %q, %q", name, native, overHTTP)
		}
	}
	if answer, err := ask(t.Context(), e.HTTPAddr(), "analyst", "a", "SELECT 'in'"); err == nil {
		t.Errorf("without TLS: %q", answer)
	}
	if err := ping(t, strings.ReplaceAll(e.DSN("analyst"), "secure=true", "")); err == nil {
		t.Error("without TLS the native interface answers")
	}
	if err := ping(t, e.LocalDSN("analyst")); err != nil {
		t.Errorf("on loopback: %v", err)
	}
	testNobodyIsLeftAfterStop(t, e)
}

// testNobodyIsLeftAfterStop: an open connection ends with the engine, and its ports are free.
func testNobodyIsLeftAfterStop(t *testing.T, e *chengine.Engine) {
	t.Helper()
	conn, err := net.Dial("tcp", e.TCPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives the engine")
	}
	l, err := net.Listen("tcp", e.TCPAddr())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestTLSWithoutClientCertificates(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	files := ca.Issue(t, "engine", func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"engine"}, nil })
	files.CA = ""
	// On all addresses; the certificate is not for the one its DSN has, so the DSN has its name.
	// Plaintext changes nothing: where there is TLS, there is nothing else.
	e := chtest.Start(t, chengine.Config{Dir: t.TempDir(), Host: "0.0.0.0", Users: []chengine.User{analyst}, TLS: files, Plaintext: true})
	if dsn := e.DSN("analyst"); !strings.Contains(dsn, "@127.0.0.1:") || !strings.Contains(dsn, "tls_server_name=engine") {
		t.Error(dsn)
	}
	if native, overHTTP, err := asks(t, e, transport.TLS{CA: ca.File}, "SELECT 'in'"); err != nil || native != "in" || overHTTP != "in" {
		t.Errorf("%q, %q, %v", native, overHTTP, err)
	}
	if err := ping(t, "clickhouse://analyst:a@"+e.TCPAddr()); err == nil {
		t.Error("without TLS the native interface answers")
	}
	elsewhere := strings.Replace(e.LocalDSN("analyst"), "@127.0.0.1:", "@127.0.0.2:", 1)
	if err := ping(t, elsewhere); err == nil || elsewhere == e.LocalDSN("analyst") {
		t.Error("the engine itself listens on more than loopback's first address")
	}
}

// With TLS given, the ports are those of the front; who takes them is told.
func TestTLSPortTaken(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "engine")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, cfg := range []chengine.Config{{HTTPPort: l.Addr().(*net.TCPAddr).Port}, {TCPPort: l.Addr().(*net.TCPAddr).Port}} {
		cfg.Dir, cfg.TLS = t.TempDir(), files
		if _, err := chengine.Start(t.Context(), cfg); !errors.Is(err, chengine.ErrPortTaken) {
			t.Errorf("error: %v, want %v", err, chengine.ErrPortTaken)
		}
	}
}

func TestListensElsewhere(t *testing.T) {
	t.Parallel()
	for _, cfg := range []chengine.Config{{Host: "127.0.0.2"}, {Host: "0.0.0.0", Plaintext: true}} {
		cfg.Dir, cfg.Users = t.TempDir(), []chengine.User{analyst}
		e := chtest.Start(t, cfg)
		if got, err := ask(t.Context(), e.HTTPAddr(), "analyst", "a", "SELECT 1"); err != nil || got != "1" {
			t.Errorf("%s: %q, %v", cfg.Host, got, err)
		}
		if err := ping(t, e.DSN("analyst")); err != nil {
			t.Errorf("%s: %v", cfg.Host, err)
		}
		if _, err := ask(t.Context(), e.HTTPAddr(), "", "", "SELECT 1"); err == nil {
			t.Errorf("%s: the user of the session comes in", cfg.Host)
		}
	}
}

func TestPlacesThatAreRefused(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "engine")
	open := tlstest.New(t).Issue(t, "open")
	if err := os.Chmod(open.Key, 0o640); err != nil {
		t.Fatal(err)
	}
	const plain = " is not loopback: without TLS, children's names would cross the network in clear; give certificates, or permit it with --plaintext"
	for _, tt := range []struct {
		name string
		cfg  chengine.Config
		says string
	}{
		{"any address without TLS", chengine.Config{Host: "0.0.0.0"}, `engine: Host: "0.0.0.0"` + plain},
		{"an address without TLS", chengine.Config{Host: "192.0.2.1"}, `engine: Host: "192.0.2.1"` + plain},
		{"a name", chengine.Config{Host: "localhost"}, `engine: Host "localhost" is not an IP address`},
		{"a name that is permitted all", chengine.Config{Host: "clickhouse", Plaintext: true}, `engine: Host "clickhouse" is not an IP address`},
		{"markup", chengine.Config{Host: "127.0.0.1</ip>"}, "engine: Host"},
		{"no key", chengine.Config{TLS: transport.TLS{Cert: files.Cert}}, "--clickhouse-tls-key is missing"},
		{"no key, though all is permitted", chengine.Config{TLS: transport.TLS{Cert: files.Cert}, Plaintext: true}, "--clickhouse-tls-key is missing"},
		{"a CA alone", chengine.Config{TLS: transport.TLS{CA: files.CA}}, "--clickhouse-tls-cert is missing: a server needs"},
		{"key open to others", chengine.Config{TLS: open}, "--clickhouse-tls-key: " + open.Key + " is open to others (mode 0640)"},
	} {
		tt.cfg.Dir = filepath.Join(t.TempDir(), "none")
		ctx, cancel := context.WithCancel(t.Context())
		_, err := chengine.Start(ctx, tt.cfg)
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
		if _, err := os.Stat(tt.cfg.Dir); err == nil {
			t.Errorf("%s: a folder was made", tt.name)
		}
	}
}
