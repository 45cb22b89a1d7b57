package chengine_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

// authority is a CA that issues certificates.
type authority struct {
	file string // its certificate
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.crt")
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.sign(t, a.cert, a.file)
	return a
}

// sign completes a certificate for a new key and writes it to the file.
func (a *authority) sign(t *testing.T, cert *x509.Certificate, file string) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := key
	if a.key != nil {
		signer = a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, file, "CERTIFICATE", der)
	return key
}

// issue writes a certificate for the name and the addresses, and its key.
func (a *authority) issue(t *testing.T, name string, addrs ...net.IP) chengine.TLS {
	t.Helper()
	files := chengine.TLS{Cert: filepath.Join(a.dir, name+".crt"), Key: filepath.Join(a.dir, name+".key"), CA: a.file}
	key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: addrs,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, files.Cert)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, files.Key, "PRIVATE KEY", der)
	return files
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// asks returns what the engine answers over both interfaces to a client with these files, or the first error.
func asks(t *testing.T, e *chengine.Engine, files chengine.TLS, sql string) (native, overHTTP string, err error) {
	t.Helper()
	cfg, err := files.Client()
	if err != nil {
		t.Fatal(err)
	}
	opts, err := clickhouse.ParseDSN(e.DSN("analyst"))
	if err != nil {
		t.Fatal(err)
	}
	if opts.TLS == nil {
		t.Errorf("%s says nothing of TLS", e.DSN("analyst"))
	}
	cfg.ServerName = opts.TLS.ServerName
	opts.TLS = cfg
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&native); err != nil {
		return "", "", err
	}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+e.HTTPAddr()+"/", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("analyst", "a")
	resp, err := (&http.Client{Transport: transport}).Do(req)
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
	ca, other := newAuthority(t), newAuthority(t)
	server, client, stranger := ca.issue(t, "engine", net.IPv4(127, 0, 0, 1)), ca.issue(t, "client"), other.issue(t, "client")
	e := chtest.Start(t, chengine.Config{Dir: t.TempDir(), Users: []chengine.User{analyst}, TLS: server})
	const long = "SELECT concat(repeat('x', 1000000), repeat('y', 1000000))"
	native, overHTTP, err := asks(t, e, client, long)
	if err != nil || len(native) != 2_000_000 || native != overHTTP {
		t.Errorf("with a certificate of the CA: %d and %d bytes, %v", len(native), len(overHTTP), err)
	}
	for name, files := range map[string]chengine.TLS{
		"no certificate":                        {CA: ca.file},
		"a certificate of somebody else":        {CA: ca.file, Cert: stranger.Cert, Key: stranger.Key},
		"a client that does not trust the CA":   {CA: other.file, Cert: client.Cert, Key: client.Key},
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
	ca := newAuthority(t)
	files := ca.issue(t, "engine")
	files.CA = ""
	// On all addresses; the certificate is not for the one its DSN has, so the DSN has its name.
	e := chtest.Start(t, chengine.Config{Dir: t.TempDir(), Host: "0.0.0.0", Users: []chengine.User{analyst}, TLS: files})
	if dsn := e.DSN("analyst"); !strings.Contains(dsn, "@127.0.0.1:") || !strings.Contains(dsn, "tls_server_name=engine") {
		t.Error(dsn)
	}
	if native, overHTTP, err := asks(t, e, chengine.TLS{CA: ca.file}, "SELECT 'in'"); err != nil || native != "in" || overHTTP != "in" {
		t.Errorf("%q, %q, %v", native, overHTTP, err)
	}
}

// With TLS given, the ports are those of the front; who takes them is told.
func TestTLSPortTaken(t *testing.T) {
	t.Parallel()
	files := newAuthority(t).issue(t, "engine")
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
	ca := newAuthority(t)
	files, open, garbage := ca.issue(t, "engine"), ca.issue(t, "open"), filepath.Join(t.TempDir(), "garbage")
	if err := errors.Join(os.Chmod(open.Key, 0o640), os.WriteFile(garbage, []byte("garbage"), 0o600)); err != nil {
		t.Fatal(err)
	}
	other := ca.issue(t, "other")
	for _, tt := range []struct {
		name string
		cfg  chengine.Config
		says string
	}{
		{"any address without TLS", chengine.Config{Host: "0.0.0.0"}, "Host 0.0.0.0 is not loopback"},
		{"an address without TLS", chengine.Config{Host: "192.0.2.1"}, "Host 192.0.2.1 is not loopback"},
		{"a name", chengine.Config{Host: "localhost"}, `Host "localhost"`},
		{"markup", chengine.Config{Host: "127.0.0.1</ip>"}, "Host"},
		{"both", chengine.Config{TLS: files, Plaintext: true}, "exclude"},
		{"no key", chengine.Config{TLS: chengine.TLS{Cert: files.Cert}}, "Cert and Key"},
		{"no certificate", chengine.Config{TLS: chengine.TLS{Key: files.Key}}, "Cert and Key"},
		{"a CA alone", chengine.Config{TLS: chengine.TLS{CA: ca.file}}, "Cert and Key"},
		{"certificate that is not there", chengine.Config{TLS: chengine.TLS{Cert: "none", Key: files.Key}}, "TLS: Cert: "},
		{"key that is not there", chengine.Config{TLS: chengine.TLS{Cert: files.Cert, Key: "none"}}, "TLS: Key: "},
		{"key open to others", chengine.Config{TLS: open}, "is open to others (mode 0640)"},
		{"key of another", chengine.Config{TLS: chengine.TLS{Cert: files.Cert, Key: other.Key}}, "TLS: Cert and Key: "},
		{"CA that is not there", chengine.Config{TLS: chengine.TLS{Cert: files.Cert, Key: files.Key, CA: "none"}}, "TLS: CA: "},
		{"CA that is none", chengine.Config{TLS: chengine.TLS{Cert: files.Cert, Key: files.Key, CA: garbage}}, "TLS: CA: no certificate"},
	} {
		tt.cfg.Dir = "x"
		ctx, cancel := context.WithCancel(t.Context())
		_, err := chengine.Start(ctx, tt.cfg)
		cancel()
		if err == nil || !strings.HasPrefix(err.Error(), "engine: ") || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}
