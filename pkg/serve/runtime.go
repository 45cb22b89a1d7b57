// Package serve is the life of a service: configuration, logging, signals, the connection to the bus, commands and queries as endpoints
// from a table, health, and a clean end.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/eventlog"
)

// Version of all services and of the binary, a semantic version.
const Version = "0.1.0"

// Config is what every service process is told by flags and environment.
type Config struct {
	NATSURL     string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"Address of the bus; of several servers all, with commas between."`
	Credentials string `env:"TONGAN_CREDENTIALS" required:"" type:"path" help:"File with the seed of the service's NKey, mode 0600."`
	IssuerKey   string `env:"TONGAN_NKEY_ISSUER" required:"" help:"Public part of the key that signs who may call."`
	SecurityFlags
	DistrictFlags
	BusFlags
	LogLevel   slog.Level `env:"TONGAN_LOG_LEVEL" default:"info" help:"Least level that is logged: debug, info, warn, error."`
	HealthAddr string     `env:"TONGAN_HEALTH_ADDR" help:"Where to answer /healthz over HTTP, for example 127.0.0.1:8080; empty means nowhere."`
}

// DistrictFlags name the districts a deployment serves, the one that stands for the whole first. The default is Jiangmen, the city of the source, and its seven districts.
type DistrictFlags struct {
	Districts []string `env:"TONGAN_DISTRICTS" default:"440700,440703,440704,440705,440781,440783,440784,440785" help:"Districts served, six digits of GB/T 2260 each; a command about another one is refused."`
}

// Runtime is what a service works with.
type Runtime struct {
	JS        jetstream.JetStream
	Clock     clock.Clock
	Log       *slog.Logger
	Districts []string
	// Plaintext permits connections without TLS to other machines.
	Plaintext bool
	// Unsynced permits a bus that is not safe, see [BusFlags].
	Unsynced bool
	// Issuer is the public part of the key that signs who may call.
	Issuer string
	// Callers knows who calls; nil means what the audit stream says.
	Callers Callers
	// Trouble is what keeps the service from its work now.
	Trouble Trouble
}

// Callers knows who calls.
type Callers interface {
	// ByKey returns the caller with a public NKey.
	ByKey(ctx context.Context, key string) (access.Caller, bool)
	// ByID returns the caller with an id.
	ByID(ctx context.Context, id string) (access.Caller, bool)
}

// NewLog returns a logger that writes text to standard error. What is logged is ids, codes and counts, never personal data.
func NewLog(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// Connect connects to the bus under a name, at one of the addresses in the URL, and goes to another when that one is lost, for ever. Errors that the server reports later, such as denied permissions, are logged. With
// nats.InProcessServer the URL is a name only, and there is no TLS; otherwise see [SecurityFlags.NATSOptions].
func Connect(url, name string, log *slog.Logger, opts ...nats.Option) (jetstream.JetStream, error) {
	opts = append([]nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond), // and a tenth of a second of jitter, with TLS up to one
		nats.IgnoreAuthErrorAbort(),                // a server that restarts, or whose rights are being reloaded, may say no for a while
		nats.SyncQueueLen(eventlog.ReadQueue),
		nats.NoEcho(), // a service hears what others append, see eventlog
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Error("bus reports an error", "connection", name, "error", err)
		}),
	}, opts...)
	at := url
	if inProcess(opts) {
		at, opts = strings.ReplaceAll(url, "tls://", "nats://"), append(opts, withoutTLS)
	}
	nc, err := nats.Connect(at, opts...)
	if err != nil {
		return nil, fmt.Errorf("no bus at %s (%w): start it, or name another with --nats-url", url, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("bus at %s: %w", url, err)
	}
	return js, nil
}

// GCPercent lets the heap of a service that carries out commands, and of a bus of our own, grow fivefold between collections (GOGC, which overrides
// it): they keep little on it, and collecting it often takes a fifth of the processor. The projector keeps much, and gains nothing by it.
const GCPercent = 400

// CollectRarely sets GCPercent for this process, unless GOGC says otherwise.
func CollectRarely() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(GCPercent)
	}
}

// Main runs one service as a process of its own until it is interrupted, and exits: 0 after a clean end, 1 after an error, which it
// prints as one line. C holds the flags of this service beside Config.
func Main[C any](name string, run func(ctx context.Context, rt *Runtime, cfg C) error) {
	var cli struct {
		Config
		Service C `embed:""`
	}
	kong.Parse(&cli, kong.Name(name), kong.Description("Service "+name+" of Tongan."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := process(ctx, name, cli.Config, func(rt *Runtime) error { return run(ctx, rt, cli.Service) })
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func process(ctx context.Context, name string, cfg Config, run func(*Runtime) error) error {
	log := NewLog(cfg.LogLevel)
	credentials, err := access.LoadCredentials(cfg.Credentials)
	if err != nil {
		return err
	}
	opts, err := cfg.NATSOptions(cfg.NATSURL)
	if err != nil {
		return err
	}
	js, err := Connect(cfg.NATSURL, name, log, append(opts, credentials.ServiceOptions(name)...)...)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	rt := &Runtime{JS: js, Issuer: cfg.IssuerKey, Clock: clock.Wall{}, Log: log, Districts: cfg.Districts, Plaintext: cfg.Plaintext, Unsynced: cfg.Unsynced}
	if cfg.HealthAddr != "" {
		end, err := serveHealth(ctx, cfg.HealthAddr, rt)
		if err != nil {
			return err
		}
		defer end()
	}
	log.Info("service starts", "service", name, "version", Version)
	err = run(rt)
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	log.Info("service ends", "service", name)
	return err
}

// serveHealth answers /healthz: 200 while the bus answers and nothing keeps the service from its work, 503 otherwise.
func serveHealth(ctx context.Context, addr string, rt *Runtime) (end func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("health address %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if _, err := rt.JS.AccountInfo(ctx); err != nil {
			http.Error(w, "the bus does not answer", http.StatusServiceUnavailable)
		} else if what := rt.Trouble.What(); what != "" {
			http.Error(w, what, http.StatusServiceUnavailable)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			rt.Log.Error("health server ends", "error", err)
		}
	}()
	return func() { _ = srv.Close() }, nil
}
