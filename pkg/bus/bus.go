// Package bus runs a nats-server with JetStream inside the process: the standalone's bus, and the one tests talk to.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where a server listens and stores.
type Config struct {
	// Name of the server; required where it is one of several.
	Name string
	// Dir is the folder of JetStream's files; it is created.
	Dir string
	// Host to listen on; empty means 127.0.0.1.
	Host string
	// Port for clients; 0 means a free one.
	Port int
	// MonitorPort for the HTTP monitoring pages (/healthz, /varz, /jsz); 0 means a free one, -1 none.
	MonitorPort int
	// MaxStore bounds what all streams together may reserve, in bytes. Required.
	MaxStore int64
	// Cluster is the name of the cluster the server belongs to; empty means it stands alone.
	Cluster string
	// ClusterPort is where it listens for the other servers of its cluster.
	ClusterPort int
	// Routes are the addresses (host:port) of the cluster's servers.
	Routes []string
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
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	s.SetLoggerV2(logger{cfg.Log}, false, false, false)
	go s.Start()
	if !s.ReadyForConnections(readyTimeout) {
		s.Shutdown()
		return nil, fmt.Errorf("bus: not ready within %s", readyTimeout)
	}
	return s, nil
}

func options(cfg Config) (*server.Options, error) {
	host := cfg.Host
	if host == "" {
		host = "127.0.0.1"
	}
	if err := checkPort(host, "NATS", cfg.Port); err != nil {
		return nil, err
	}
	if err := checkPort(host, "NATS monitoring", cfg.MonitorPort); err != nil {
		return nil, err
	}
	if err := checkDir(cfg.Dir); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:        cfg.Name,
		Host:              host,
		Port:              freeIfZero(cfg.Port),
		HTTPHost:          host,
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

// checkPort reports a port that is taken before the server, which would end the process over it, tries.
func checkPort(host, what string, port int) error {
	if port <= 0 {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("%s port %d is taken: free it or choose another", what, port)
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

// logger passes the server's messages on; notices and debugging output are left out.
type logger struct{ log *slog.Logger }

func (l logger) at(level slog.Level, format string, v ...any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, "bus", "message", fmt.Sprintf(format, v...))
	}
}

func (l logger) Noticef(string, ...any)         {}
func (l logger) Debugf(string, ...any)          {}
func (l logger) Tracef(string, ...any)          {}
func (l logger) Warnf(format string, v ...any)  { l.at(slog.LevelWarn, format, v...) }
func (l logger) Errorf(format string, v ...any) { l.at(slog.LevelError, format, v...) }
func (l logger) Fatalf(format string, v ...any) { l.at(slog.LevelError, format, v...) }
