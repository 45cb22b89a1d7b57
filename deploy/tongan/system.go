package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/audit"
	"tongan.dev/services/healthcheck"
	"tongan.dev/services/intake"
	"tongan.dev/services/outreach"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// systemFlags say where a system listens and stores, and which of its servers run elsewhere.
type systemFlags struct {
	logFlags
	serve.DistrictFlags
	serve.SecurityFlags
	serve.BusFlags
	Data           string        `env:"TONGAN_DATA" default:"tongan-data" type:"path" help:"Folder of all data."`
	MasterKey      string        `env:"TONGAN_MASTER_KEY" type:"path" help:"File of the master key; created if it does not exist. Default: master.key in the data folder."`
	NATSURL        string        `name:"nats-url" env:"TONGAN_NATS_URL" help:"Use this bus instead of the embedded one; of several servers all addresses, with commas between."`
	NATSHost       string        `name:"nats-host" env:"TONGAN_NATS_HOST" default:"127.0.0.1" help:"Address the embedded bus listens at; any but loopback needs TLS."`
	NATSPort       int           `name:"nats-port" env:"TONGAN_NATS_PORT" default:"4222" help:"Port of the embedded bus; 0 takes a free one."`
	NATSHTTPPort   int           `name:"nats-http-port" env:"TONGAN_NATS_HTTP_PORT" default:"8222" help:"Port of its monitoring pages; 0 takes a free one."`
	ClickHouseDSN  string        `name:"clickhouse-dsn" env:"TONGAN_CLICKHOUSE_DSN" help:"Use this ClickHouse instead of the embedded engine: clickhouse://user:password@host:port."`
	ClickHouseTLS  transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
	ClickHouseHost string        `name:"clickhouse-host" env:"TONGAN_CLICKHOUSE_HOST" default:"127.0.0.1" help:"Address the engine listens at; any but loopback needs TLS."`
	ClickHouseHTTP int           `name:"clickhouse-http-port" env:"TONGAN_CLICKHOUSE_HTTP_PORT" default:"8123" help:"HTTP port of the engine; 0 takes a free one."`
	ClickHouseTCP  int           `name:"clickhouse-tcp-port" env:"TONGAN_CLICKHOUSE_TCP_PORT" default:"9000" help:"Native port of the engine; 0 takes a free one."`
	Baseline       string        `env:"TONGAN_REPORTING_BASELINE" default:"2020-01-23" help:"First day that counts, in Asia/Shanghai."`
	EngineLibrary  string        `env:"TONGAN_ENGINE_LIBRARY" type:"path" help:"The engine's library libchdb.so; by default it is looked for where make engine puts it."`
}

// stopTimeout bounds how long the clean end of a system may take.
const stopTimeout = 5 * time.Second

// readyTimeout bounds how long the services may take to answer after the start.
const readyTimeout = 30 * time.Second

// system is everything that runs: the bus, the engine and the services.
type system struct {
	flags    systemFlags
	settings settings
	log      *slog.Logger
	clock    clock.Clock
	keys     *serviceKeys
	bus      *server.Server
	denied   chan access.Attempt
	engine   *chengine.Engine
	natsURL  string
	services *errgroup.Group
	ended    context.Context // ends when a service does
	cancel   context.CancelFunc
}

// start starts everything, or nothing: when one part fails, those before it are stopped again.
func start(ctx context.Context, flags systemFlags, ck clock.Clock) (*system, error) {
	s := &system{flags: flags, log: serve.NewLog(flags.LogLevel), clock: ck, denied: make(chan access.Attempt, deniedAhead), cancel: func() {}}
	if err := s.startAll(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *system) startAll(ctx context.Context) error {
	for _, step := range []func(context.Context) error{s.prepare, s.startBus, s.startEngine, s.startServices, s.open} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the data folder, its settings, the keys of the bus's users and the master key.
func (s *system) prepare(context.Context) error {
	var users []string
	for _, u := range s.engineUsers() {
		users = append(users, u.Name)
	}
	var err error
	if s.settings, err = loadSettings(s.flags.Data, users); err != nil {
		return err
	}
	if s.flags.MasterKey == "" {
		s.flags.MasterKey = filepath.Join(s.flags.Data, "master.key")
	}
	if _, err = seal.CreateMaster(s.flags.MasterKey); err != nil {
		return err
	}
	s.keys, err = loadKeys(s.credentials("services"))
	return err
}

// credentials is the path of a file or folder of credentials.
func (s *system) credentials(name string) string {
	return filepath.Join(s.flags.Data, "credentials", name)
}

// startBus starts the embedded bus unless there is another one, and creates the streams.
func (s *system) startBus(ctx context.Context) error {
	s.natsURL = s.flags.NATSURL
	if s.natsURL == "" {
		if err := s.startEmbedded(); err != nil {
			return err
		}
	}
	js, err := s.connect(access.Migration)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	// Nine tenths of the store are reserved for the streams; the rest is left for what the server writes beside them.
	return eventlog.Migrate(ctx, js, eventlog.StreamOptions{MaxBytes: s.settings.MaxStore / 10 * 9})
}

// startEmbedded starts the bus. It listens once everything is up: before, nobody could be let in.
func (s *system) startEmbedded() (err error) {
	conf := access.Conf(access.Users(), func(user string) string { return s.keys.users[user].Public() }, s.keys.issuer.Public())
	s.bus, err = bus.Start(bus.Config{
		Dir: filepath.Join(s.flags.Data, "bus"), Host: s.flags.NATSHost, Port: s.flags.NATSPort, Shut: true, TLS: s.flags.NATSTLS, Plaintext: s.flags.Plaintext, MonitorPort: s.flags.NATSHTTPPort,
		MaxStore: s.settings.MaxStore, Log: s.log, Access: conf, Denied: s.deny,
	})
	return err
}

// deniedAhead is how many denials wait to be put on the audit trail; what is more is lost, the bus does not wait.
const deniedAhead = 256

// deny hands on what the bus denied.
func (s *system) deny(d bus.Denial) {
	if d.Subject == "" {
		return // who was not let in, the audit service knows
	}
	a := access.Attempt{Key: d.Key, Subject: d.Subject}
	if d.Subscribe {
		a.Action, a.Denied = auditv1.BusAction_BUS_ACTION_SUBSCRIBE, access.Denied{Field: "subject", Rule: "is not one the connection may subscribe"}
	} else {
		a.Action, a.Denied = auditv1.BusAction_BUS_ACTION_PUBLISH, access.Denied{Field: "subject", Rule: "is not one the connection may publish"}
	}
	select {
	case s.denied <- a:
	default:
	}
}

// open lets callers come to the embedded bus.
func (s *system) open(context.Context) error {
	if s.bus == nil {
		return nil
	}
	err := bus.Open(s.bus)
	s.natsURL = s.bus.ClientURL()
	return err
}

// connect connects to the bus as one of its users: inside the process where it is embedded.
func (s *system) connect(user string) (jetstream.JetStream, error) {
	opts := s.keys.users[user].ServiceOptions(user)
	if s.bus != nil {
		return serve.Connect(s.natsURL, subject.Micro(user), s.log, append(opts, nats.InProcessServer(s.bus))...)
	}
	security, err := s.flags.NATSOptions(s.natsURL)
	if err != nil {
		return nil, err
	}
	return serve.Connect(s.natsURL, subject.Micro(user), s.log, append(opts, security...)...)
}

// startEngine starts the ClickHouse engine unless there is another ClickHouse, and creates the tables.
func (s *system) startEngine(ctx context.Context) error {
	if s.flags.ClickHouseDSN == "" {
		var err error
		s.engine, err = chengine.Start(ctx, chengine.Config{
			Dir: filepath.Join(s.flags.Data, "clickhouse"), Host: s.flags.ClickHouseHost, TLS: s.flags.ClickHouseTLS, Plaintext: s.flags.Plaintext, HTTPPort: s.flags.ClickHouseHTTP, TCPPort: s.flags.ClickHouseTCP,
			Library: s.flags.EngineLibrary, Log: s.log,
			Users: s.engineUsers(),
		})
		if errors.Is(err, chengine.ErrPortTaken) {
			return fmt.Errorf("%w: free it, or choose another with --clickhouse-http-port and --clickhouse-tcp-port", err)
		}
		if err != nil {
			return err
		}
	}
	return projector.Migrate(ctx, s.dsn(projector.UserMigration), s.clickHouseFiles(), s.flags.Plaintext)
}

// engineUsers are the users of the engine, with their passwords once the settings are loaded.
func (s *system) engineUsers() []chengine.User {
	return projector.Users(s.flags.Districts, func(name string) string { return s.settings.Passwords[name] })
}

// dsn is the address of ClickHouse for one of its users.
func (s *system) dsn(user string) string {
	if s.engine == nil {
		return s.flags.ClickHouseDSN
	}
	return s.engine.LocalDSN(user)
}

// clickHouseFiles are the TLS files with which the services reach ClickHouse; the engine in this process they reach without.
func (s *system) clickHouseFiles() transport.TLS {
	if s.engine == nil {
		return s.flags.ClickHouseTLS
	}
	return transport.TLS{}
}

// startServices starts every service on a connection of its own and waits until all answer.
func (s *system) startServices(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.services, s.ended = errgroup.WithContext(ctx)
	key := seal.File{Path: s.flags.MasterKey}
	keeps := audit.Config{
		Issuer: s.keys.path(issuerName), SystemCredentials: s.keys.path(access.System), FirstOperator: s.operatorFile(), Denied: s.denied,
	}
	s.run(subject.Audit, func(rt *serve.Runtime) error {
		rt.Clock = clock.Wall{} // who was let in, and when, is never a replay
		return audit.Run(s.ended, rt, keeps)
	})
	s.run(subject.Intake, func(rt *serve.Runtime) error { return intake.Run(s.ended, rt, intake.Config{MasterKey: key}) })
	s.run(subject.HealthCheck, func(rt *serve.Runtime) error { return healthcheck.Run(s.ended, rt, healthcheck.Config{}) })
	s.run(subject.Outreach, func(rt *serve.Runtime) error { return outreach.Run(s.ended, rt, outreach.Config{MasterKey: key}) })
	s.run(subject.Reporting, func(rt *serve.Runtime) error {
		return reporting.Run(s.ended, rt, reporting.Config{DSN: s.dsn(projector.UserReporting), TLS: s.clickHouseFiles(), Baseline: s.flags.Baseline})
	})
	s.run(projector.Name, func(rt *serve.Runtime) error {
		return projector.Serve(s.ended, rt, projector.ServiceConfig{DSN: s.dsn(projector.UserProjector), TLS: s.clickHouseFiles()})
	})
	return s.awaitReady(append(subject.Services(), projector.Name, subject.Audit))
}

func (s *system) run(name string, service func(rt *serve.Runtime) error) {
	s.services.Go(func() error {
		js, err := s.connect(name)
		if err != nil {
			return err
		}
		defer js.Conn().Close()
		err = service(&serve.Runtime{JS: js, Issuer: s.keys.issuer.Public(), Clock: s.clock, Log: s.log.With("service", name), Districts: s.flags.Districts, Plaintext: s.flags.Plaintext, Unsynced: s.flags.Unsynced})
		if err == nil || errors.Is(err, context.Canceled) {
			return context.Canceled
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

// awaitReady waits until every service says that it takes requests.
func (s *system) awaitReady(names []string) error {
	js, err := s.connect(access.Migration)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	deadline := time.After(readyTimeout)
	for _, name := range names {
		for {
			if _, err := js.Conn().Request(subject.Health(name), nil, time.Second); err == nil {
				break
			}
			select {
			case <-s.ended.Done():
				return s.services.Wait()
			case <-deadline:
				return fmt.Errorf("service %s does not answer within %s", name, readyTimeout)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// settled waits until the services have reacted to everything the embedded bus holds for them.
func (s *system) settled(ctx context.Context) error {
	for {
		all, err := s.bus.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Consumer: true, Config: true})
		if err != nil {
			return fmt.Errorf("bus: %w", err)
		}
		waiting := 0
		for _, account := range all.AccountDetails {
			for _, stream := range account.Streams {
				for _, c := range stream.Consumer {
					if c.Config != nil && c.Config.Durable != "" {
						waiting += int(c.NumPending) + c.NumAckPending
					}
				}
			}
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d events are not reacted to: %w", waiting, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// wait blocks until ctx ends, a service fails or the engine ends, and returns why if it was not ctx.
func (s *system) wait(ctx context.Context) error {
	var engineEnded <-chan struct{}
	if s.engine != nil {
		engineEnded = s.engine.Done()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended.Done():
		return s.services.Wait()
	case <-engineEnded:
		return fmt.Errorf("the ClickHouse engine ended: %w", s.engine.Err())
	}
}

// stop ends the services, then the engine, then the bus.
func (s *system) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	s.cancel()
	var failed error
	if s.services != nil {
		if err := s.services.Wait(); !errors.Is(err, context.Canceled) {
			failed = err
		}
	}
	if s.engine != nil {
		failed = errors.Join(failed, s.engine.Stop(ctx))
	}
	if s.bus != nil {
		bus.End(s.bus)
	}
	return failed
}
