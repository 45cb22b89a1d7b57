package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
)

// What is half configured, or would not work, is refused with the flag and the rule, in one line.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	files, open, other := ca.Issue(t, "good"), ca.Issue(t, "open"), ca.Issue(t, "other")
	expired := ca.Issue(t, "expired", tlstest.Expired)
	early := ca.Issue(t, "early", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	dir := t.TempDir()
	garbage, none := filepath.Join(dir, "garbage"), filepath.Join(dir, "none")
	if err := errors.Join(os.Chmod(open.Key, 0o640), os.WriteFile(garbage, []byte("garbage"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		files transport.TLS
		says  string
		only  string // the side that refuses; empty for both
	}{
		{"a certificate without its key", transport.TLS{Cert: files.Cert}, "tls-key is missing: it and tls-cert belong together", ""},
		{"with a CA, too", transport.TLS{Cert: files.Cert, CA: ca.File}, "tls-key is missing: it and tls-cert belong together", ""},
		{"a key without its certificate", transport.TLS{Key: files.Key}, "tls-cert is missing: it and tls-key belong together", ""},
		{"a server with a CA alone", transport.TLS{CA: ca.File}, "tls-cert is missing: a server needs a certificate and its key", "server"},
		{"a certificate that is not there", transport.TLS{Cert: none, Key: files.Key}, "tls-cert: open " + none + ": no such file", ""},
		{"a certificate that is a folder", transport.TLS{Cert: dir, Key: files.Key}, "tls-cert: read " + dir + ": is a directory", ""},
		{"a certificate that is none", transport.TLS{Cert: garbage, Key: files.Key}, "tls-cert " + garbage + " and tls-key " + files.Key + " do not fit", ""},
		{"a key that is not there", transport.TLS{Cert: files.Cert, Key: none}, "tls-key: open " + none + ": no such file", ""},
		{"a key that is none", transport.TLS{Cert: files.Cert, Key: garbage}, "tls-key " + garbage + " do not fit", ""},
		{"a key open to others", open, "tls-key: " + open.Key + " is open to others (mode 0640): chmod 600 it", ""},
		{"the key of another", transport.TLS{Cert: files.Cert, Key: other.Key}, "do not fit", ""},
		{"the two the wrong way round", transport.TLS{Cert: files.Key, Key: files.Cert}, "do not fit", ""},
		{"a CA that is not there", transport.TLS{Cert: files.Cert, Key: files.Key, CA: none}, "tls-ca: open " + none + ": no such file", ""},
		{"a CA that holds no certificate", transport.TLS{Cert: files.Cert, Key: files.Key, CA: garbage}, "tls-ca: " + garbage + " holds no certificate", ""},
		{"a CA that is a key", transport.TLS{CA: files.Key}, "tls-ca: " + files.Key + " holds no certificate", "client"},
		{"a certificate that has expired", expired, "tls-cert: " + expired.Cert + " is valid from ", ""},
		{"a certificate before its time", early, "tls-cert: " + early.Cert + " is valid from ", ""},
	} {
		for side, load := range map[string]func() (*tls.Config, error){"server": tt.files.Server, "client": tt.files.Client} {
			if tt.only != "" && side != tt.only {
				continue
			}
			cfg, err := load()
			if err == nil || cfg != nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: the %s says %v, want %q", tt.name, side, err, tt.says)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "tls-") {
				t.Errorf("%s: %q does not begin with the flag", tt.name, err)
			}
		}
	}
}

func TestWhatTheConfigurationsAre(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "one")
	if cfg, err := (transport.TLS{}).Server(); cfg != nil || err != nil {
		t.Errorf("a server without files: %v, %v", cfg, err)
	}
	if cfg, err := (transport.TLS{}).Client(); cfg != nil || err != nil {
		t.Errorf("a client without files: %v, %v", cfg, err)
	}
	s, err := files.Server()
	if err != nil {
		t.Fatal(err)
	}
	if s.MinVersion != tls.VersionTLS12 || s.ClientAuth != tls.RequireAndVerifyClientCert || s.ClientCAs == nil || len(s.Certificates) != 1 {
		t.Errorf("a server with a CA: %+v", s)
	}
	c, err := files.Client()
	if err != nil {
		t.Fatal(err)
	}
	if c.MinVersion != tls.VersionTLS12 || c.InsecureSkipVerify || c.RootCAs == nil || len(c.Certificates) != 1 {
		t.Errorf("a client: %+v", c)
	}
	files.CA = ""
	if s, err = files.Server(); err != nil || s.ClientAuth != tls.NoClientCert {
		t.Errorf("a server without a CA: %+v, %v", s, err)
	}
	// Roots that are nil are those of the system.
	if c, err = files.Client(); err != nil || c.RootCAs != nil || c.InsecureSkipVerify {
		t.Errorf("a client without a CA: %+v, %v", c, err)
	}
}

func TestPlainIsForLoopback(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{
		"127.0.0.1", "127.0.0.1:4222", "127.9.8.7", "::1", "[::1]", "[::1]:4222", "::ffff:127.0.0.1", "localhost", "LocalHost:4222",
		"nats://127.0.0.1:4222", "nats://localhost", "nats://[::1]:4222", "nats://u:p@127.0.0.1:4222", "clickhouse://u:p@localhost:9000/tongan",
	} {
		if err := transport.Plain(addr, false); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{
		"", ":4222", "0.0.0.0", "0.0.0.0:4222", "::", "[::]", "[::]:4222", "nats://", "nats://:4222", "192.0.2.1", "10.0.0.1:4222", "bus", "bus:4222",
		"nats://bus:4222", "nats://127.0.0.1@bus:4222", "nats://127.0.0.1:4222@bus", "127.0.0.1:4222@bus:4222", "127.1", "128.0.0.1",
		"localhost.bus", "nats://127.0.0.1,bus:4222", "nats://%zz@127.0.0.1", "::ffff:192.0.2.1", "localhost:secret@bus:4222",
	} {
		err := transport.Plain(addr, false)
		if err == nil {
			t.Errorf("%q goes without TLS", addr)
			continue
		}
		for _, says := range []string{"is not loopback", "children's names would cross the network in clear", "--plaintext"} {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%q: %v, want %q", addr, err, says)
			}
		}
		if err := transport.Plain(addr, true); err != nil {
			t.Errorf("%q is refused although it is permitted: %v", addr, err)
		}
	}
	if err := transport.Plain("nats://user:secret@bus:4222", false); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a password is told: %v", err)
	}
}

// A program may have such flags more than once, each under a prefix.
func TestFlags(t *testing.T) {
	type flags struct {
		NATS       transport.TLS `embed:"" prefix:"nats-" envprefix:"TONGAN_NATS_"`
		ClickHouse transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
	}
	t.Setenv("TONGAN_NATS_TLS_KEY", "/from/env.key")
	t.Setenv("TONGAN_CLICKHOUSE_TLS_CA", "/from/ca.crt")
	t.Setenv("TONGAN_CLICKHOUSE_TLS_CERT", "")
	var one flags
	p, err := kong.New(&one, kong.Exit(func(int) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse([]string{"--nats-tls-cert=/from/flag.crt", "--clickhouse-tls-key", "/from/flag.key"}); err != nil {
		t.Fatal(err)
	}
	want := flags{
		NATS:       transport.TLS{Cert: "/from/flag.crt", Key: "/from/env.key"},
		ClickHouse: transport.TLS{Key: "/from/flag.key", CA: "/from/ca.crt"},
	}
	if one != want {
		t.Errorf("flags and environment are %+v, want %+v", one, want)
	}
	var names []string
	for _, f := range p.Model.Flags {
		names = append(names, append([]string{"--" + f.Name}, f.Envs...)...)
	}
	for _, name := range []string{
		"--nats-tls-cert", "--nats-tls-key", "--nats-tls-ca", "TONGAN_NATS_TLS_CERT", "TONGAN_NATS_TLS_KEY", "TONGAN_NATS_TLS_CA",
	} {
		if !slices.Contains(names, name) {
			t.Errorf("there is no %s in %v", name, names)
		}
	}
}
