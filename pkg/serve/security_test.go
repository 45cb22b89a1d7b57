package serve

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
)

var quiet = slog.New(slog.DiscardHandler)

// startTLS starts a bus that lets the user of the credentials in, with a certificate.
func startTLS(t *testing.T, ca *tlstest.CA, c *access.Credentials) *server.Server {
	t.Helper()
	s, err := bus.Start(bus.Config{
		Dir: t.TempDir(), MaxStore: natstest.MaxStore, MonitorPort: -1, TLS: ca.Issue(t, "bus"), Access: "authorization { users: [{nkey: " + c.Public() + "}] }",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	return s
}

func saved(t *testing.T) (*access.Credentials, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "service.nk")
	c, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	return c, path
}

func TestAProcessThatSpeaksTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	c, path := saved(t)
	s := startTLS(t, ca, c)
	files := ca.Issue(t, "service")
	try := func(url string, files transport.TLS) error {
		cfg := Config{NATSURL: url, Credentials: path, LogLevel: slog.LevelError + 1}
		cfg.NATSTLS = files
		return process(t.Context(), subject.Intake, cfg, func(rt *Runtime) error {
			if state, err := rt.JS.Conn().TLSConnectionState(); err != nil || !state.HandshakeComplete {
				t.Errorf("at %s it runs with %+v, %v", url, state, err)
			}
			_, err := rt.JS.AccountInfo(t.Context())
			return err
		})
	}
	for _, url := range []string{s.ClientURL(), "nats://" + s.Addr().String(), s.Addr().String()} {
		if err := try(url, files); err != nil {
			t.Errorf("at %s: %v", url, err)
		}
	}
	for _, tt := range []struct {
		name, url string
		files     transport.TLS
		says      string
	}{
		{"no files", s.ClientURL(), transport.TLS{}, "unknown authority"},
		{"no files, a plain URL", "nats://" + s.Addr().String(), transport.TLS{}, "unknown authority"},
		{"no CA", s.ClientURL(), transport.TLS{Cert: files.Cert, Key: files.Key}, "unknown authority"},
		{"no certificate", s.ClientURL(), transport.TLS{CA: ca.File}, "no bus at " + s.ClientURL()},
		{"no key", s.ClientURL(), transport.TLS{Cert: files.Cert, CA: ca.File}, "--nats-tls-key is missing: it and tls-cert belong together"},
		{"a bus without TLS", natstest.Run(t).ClientURL(), files, nats.ErrSecureConnWanted.Error()},
	} {
		if err := try(tt.url, tt.files); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

// Where it is embedded, the bus is connected to without TLS, by whatever URL and options.
func TestConnectInsideTheProcess(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	c, _ := saved(t)
	s := startTLS(t, ca, c)
	var flags SecurityFlags
	flags.NATSTLS = ca.Issue(t, "service")
	opts, err := flags.NATSOptions(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, opts := range [][]nats.Option{nil, opts, {nil}} {
		js, err := Connect(s.ClientURL(), "inside", quiet, append(opts, nats.InProcessServer(s), c.Option())...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.AccountInfo(ctx); err != nil {
			t.Error(err)
		}
		js.Conn().Close()
	}
	s.Shutdown()
	if _, err := Connect(s.ClientURL(), "inside", quiet, nats.InProcessServer(s), c.Option()); err == nil || !strings.Contains(err.Error(), "no bus at "+s.ClientURL()) {
		t.Errorf("when it has ended: %v", err)
	}
}

func TestWhichURLsOfABusAreTaken(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "service")
	const plain = "is not loopback: without TLS, children's names would cross the network in clear; give certificates, or permit it with --plaintext"
	for _, tt := range []struct {
		urls      string
		files     transport.TLS
		plaintext bool
		secure    bool
		says      string
	}{
		{urls: "nats://127.0.0.1:4222"},
		{urls: "nats://localhost:4222, nats://[::1]:4222"},
		{urls: "127.0.0.1:4222"},
		{urls: ""},
		{urls: "nats://bus:4222", says: `--nats-url: "bus" ` + plain},
		{urls: "bus:4222", says: `--nats-url: "bus" ` + plain},
		{urls: "nats://127.0.0.1:4222,nats://192.0.2.1:4222", says: `--nats-url: "192.0.2.1" ` + plain},
		{urls: "nats://localhost:secret@192.0.2.1", says: `--nats-url: "192.0.2.1" ` + plain},
		{urls: "nats://0.0.0.0:4222", says: `--nats-url: "0.0.0.0" ` + plain},
		{urls: "nats://bus:4222", plaintext: true},
		{urls: "nats://bus:4222", files: files, secure: true},
		{urls: "nats://bus:4222", files: transport.TLS{CA: files.CA}, plaintext: true, secure: true},
		{urls: "tls://bus:4222", secure: true},
		{urls: "tls://bus:4222", plaintext: true, secure: true},
		{urls: "nats://bus:4222,tls://bus2:4222", secure: true},
		{urls: "ws://127.0.0.1:4222", says: "--nats-url: ws:// is not supported"},
		{urls: "wss://bus:4222", plaintext: true, says: "--nats-url: wss:// is not supported"},
		{urls: "nats://user:secret@bus:port", plaintext: true, says: "--nats-url: not an address"},
		{urls: "tls://bus:4222", files: transport.TLS{Cert: files.Cert}, says: "--nats-tls-key is missing"},
		{urls: "tls://bus:4222", files: transport.TLS{Key: files.Key}, plaintext: true, says: "--nats-tls-cert is missing"},
	} {
		opts, err := SecurityFlags{NATSTLS: tt.files, Plaintext: tt.plaintext}.NATSOptions(tt.urls)
		if tt.says != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		var o nats.Options
		for _, set := range opts {
			err = errors.Join(err, set(&o))
		}
		if err != nil || o.Secure != tt.secure || o.Secure && o.TLSConfig == nil {
			t.Errorf("%+v: TLS is %t, %v", tt, o.Secure, err)
		}
	}
}

func TestFlagsAndEnvironmentOfTLS(t *testing.T) {
	t.Setenv("TONGAN_PLAINTEXT", "true")
	t.Setenv("TONGAN_NATS_TLS_CA", "/ca.crt")
	t.Setenv("TONGAN_NATS_TLS_CERT", "")
	var cfg struct{ Config }
	p, err := kong.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Parse([]string{"--credentials=/seed", "--issuer-key=A", "--nats-tls-key=/one.key"}); err != nil {
		t.Fatal(err)
	}
	if want := (SecurityFlags{NATSTLS: transport.TLS{Key: "/one.key", CA: "/ca.crt"}, Plaintext: true}); cfg.SecurityFlags != want {
		t.Errorf("they give %+v, want %+v", cfg.SecurityFlags, want)
	}
}
