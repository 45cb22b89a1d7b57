// Package bus runs a nats-server with JetStream inside the process: the standalone's bus, and the one tests talk to.
package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"tongan.dev/pkg/transport"
)

// Config says where a server listens and stores.
type Config struct {
	// Name of the server; required where it is one of several.
	Name string
	// Dir is the folder of JetStream's files; it is created.
	Dir string
	// Host to listen on; empty means 127.0.0.1. Any but loopback needs TLS or Plaintext.
	Host string
	// Port for clients; 0 means a free one.
	Port int
	// Shut has the server listen only once Open is called; connections inside the process are let in before.
	Shut bool
	// TLS names the files by which the server proves who it is, and with a CA its clients; none means connections in clear. Connections
	// inside the process go without it.
	TLS transport.TLS
	// Plaintext permits a Host other than loopback without TLS.
	Plaintext bool
	// MonitorPort for the HTTP monitoring pages (/healthz, /varz, /jsz); 0 means a free one, -1 none. The pages ask nobody who they are, so
	// they stay on this machine: where Host is not loopback, they are at 127.0.0.1.
	MonitorPort int
	// MaxStore bounds what all streams together may reserve, in bytes. Required.
	MaxStore int64
	// Cluster is the name of the cluster the server belongs to; empty means it stands alone. Servers of a cluster ask each other nothing,
	// so Host must be loopback.
	Cluster string
	// ClusterPort is where it listens for the other servers of its cluster.
	ClusterPort int
	// Routes are the addresses (host:port) of the cluster's servers.
	Routes []string
	// Access is who may do what: the accounts and their users, as a nats-server's configuration file has them. Empty lets everybody do
	// everything.
	Access string
	// Denied is told of what the server denied a connection; it must not block. Nil means nobody is.
	Denied func(Denial)
	// Log takes the server's warnings and errors; nil means none.
	Log *slog.Logger
}

// MaxPayload is the largest message the server takes, in bytes.
const MaxPayload = 1 << 20

// readyTimeout bounds how long a server may take to recover its streams and listen.
const readyTimeout = 60 * time.Second

// Start starts a server. Every message is on disk before it is acknowledged (SyncAlways).
func Start(cfg Config) (*server.Server, error) {
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	if err := checkPlace(cfg); err != nil {
		return nil, err
	}
	var s *server.Server
	err = guarded(cfg.Dir, func() error {
		s, err = begin(opts, cfg)
		return err
	}, func() { End(s) })
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	if cfg.Cluster == "" { // of several, the others go on
		go heal(s, *s.JetStreamConfig(), cfg.Dir, cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)))
	}
	return s, nil
}

func begin(opts *server.Options, cfg Config) (*server.Server, error) {
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(logger{cfg.Log, cfg.Denied}, false, false, false)
	go s.Start()
	if !s.ReadyForConnections(readyTimeout) {
		End(s)
		return nil, fmt.Errorf("not ready within %s", readyTimeout)
	}
	return s, nil
}

// End ends a server, and waits for it.
func End(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// Open lets a server that was started Shut listen.
func Open(s *server.Server) error {
	ready := make(chan struct{})
	go s.AcceptLoop(ready)
	<-ready
	if s.Addr() == nil {
		return errors.New("bus: the port was taken in the meantime")
	}
	return nil
}

const loopback = "127.0.0.1"

func (c Config) host() string { return cmp.Or(c.Host, loopback) }

func (c Config) monitorHost() string {
	if transport.Loopback(c.host()) {
		return c.host()
	}
	return loopback
}

// checkPlace reports what would keep a server from starting here. It listens nowhere before it knows that it may.
func checkPlace(cfg Config) error {
	if err := checkHost(cfg); err != nil {
		return err
	}
	return cmp.Or(
		checkPort(cfg.host(), "NATS", cfg.Port), checkPort(cfg.monitorHost(), "NATS monitoring", cfg.MonitorPort), checkDir(cfg.Dir))
}

// checkHost reports a host that would let others listen in, or in.
func checkHost(cfg Config) error {
	if err := transport.Plain(cfg.host(), cfg.Plaintext || cfg.TLS.Enabled()); err != nil {
		return fmt.Errorf("NATS host: %w", err)
	}
	if cfg.Cluster != "" && !transport.Loopback(cfg.host()) {
		return fmt.Errorf("NATS host: %q is not loopback: whoever reaches a cluster there could join it and read everything", cfg.host())
	}
	return nil
}

func options(cfg Config) (*server.Options, error) {
	host := cfg.host()
	tlsConfig, err := cfg.TLS.Server()
	if err != nil {
		return nil, fmt.Errorf("--nats-%w", err)
	}
	o := &server.Options{}
	if cfg.Access != "" {
		if err := o.ProcessConfigString(cfg.Access); err != nil {
			return nil, fmt.Errorf("bus: access: %w", err)
		}
	}
	*o = server.Options{
		Accounts: o.Accounts, Nkeys: o.Nkeys, Users: o.Users, SystemAccount: o.SystemAccount, NoAuthUser: o.NoAuthUser, AuthCallout: o.AuthCallout,
		ServerName:        cfg.Name,
		Host:              host,
		Port:              freeIfZero(cfg.Port),
		DontListen:        cfg.Shut,
		TLSConfig:         tlsConfig,
		HTTPHost:          cfg.monitorHost(),
		HTTPPort:          freeIfZero(cfg.MonitorPort),
		NoSigs:            true,
		JetStream:         true,
		StoreDir:          cfg.Dir,
		SyncAlways:        true,
		JetStreamMaxStore: cfg.MaxStore,
		MaxPayload:        MaxPayload,
	}
	if cfg.MonitorPort < 0 {
		o.HTTPPort = 0
	}
	if cfg.Cluster != "" {
		o.Cluster = server.ClusterOpts{Name: cfg.Cluster, Host: host, Port: cfg.ClusterPort}
		for _, r := range cfg.Routes {
			o.Routes = append(o.Routes, server.RoutesFromStr("nats://"+r)...)
		}
	}
	return o, nil
}

// freeIfZero turns our 0 (a free port) into the server's -1.
func freeIfZero(port int) int {
	if port == 0 {
		return server.RANDOM_PORT
	}
	return port
}

// checkPort reports a port that is taken, or a host that is not of this machine, before the server, which would end the process over it,
// tries.
func checkPort(host, what string, port int) error {
	if port < 0 {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s port %d is taken: free it or choose another", what, port)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return l.Close()
}

func checkDir(dir string) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		probe := filepath.Join(dir, ".write")
		err = errors.Join(os.WriteFile(probe, nil, 0o600), os.Remove(probe))
	}
	if err != nil {
		return fmt.Errorf("data folder %s cannot be written: choose another", dir)
	}
	return nil
}
