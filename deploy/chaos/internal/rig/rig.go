// Package rig runs a deployment on this machine as it is run on several: a nats-server with the configuration of deploy/nats, a ClickHouse
// engine, and every service as a process of its own, prepared by the same commands. What breaks them is elsewhere.
package rig

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/audit"
	"tongan.dev/services/projector"
)

// District is the one that stands for the whole deployment.
const District = "440700"

// districts are those served.
var districts = []string{District, "440703", "440704"}

// startWithin bounds how long a part of a deployment may take to start.
const startWithin = 60 * time.Second

// Config says where a deployment is. The zero value of a folder means one in Dir.
type Config struct {
	// Dir is the folder of programs, keys and logs.
	Dir string
	// BusDir is the folder of the streams, EngineDir that of the tables.
	BusDir, EngineDir string
	// Services are those that run, beside audit.
	Services []string
	// MaxBytes is what all streams together may hold.
	MaxBytes int64
	// Supervised has the bus run under `tongan supervise`; otherwise who kills it starts it again.
	Supervised bool
}

// Rig is a deployment that runs.
type Rig struct {
	// Bus is the nats-server.
	Bus *Process
	// Services are the services, by name.
	Services map[string]*Process
	// Engine is the ClickHouse engine.
	Engine *chengine.Engine
	// Health is where the bus answers /healthz, HealthOf where a service does.
	Health   string
	HealthOf map[string]string

	cfg    Config
	dir    string
	url    string
	env    []string
	engine chengine.Config
}

// Start builds the programs and starts everything.
func Start(ctx context.Context, cfg Config) (*Rig, error) {
	if cfg.BusDir == "" {
		cfg.BusDir = filepath.Join(cfg.Dir, "bus")
	}
	if cfg.EngineDir == "" {
		cfg.EngineDir = filepath.Join(cfg.Dir, "engine")
	}
	r := &Rig{cfg: cfg, dir: cfg.Dir, Services: make(map[string]*Process), HealthOf: make(map[string]string)}
	for _, step := range []func(context.Context) error{r.build, r.startBus, r.startEngine, r.migrate, r.startServices} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, r.Stop())
		}
	}
	return r, nil
}

// root is the folder of the repository.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "..")
}

func (r *Rig) program(name string) string { return filepath.Join(r.dir, "bin", name) }

func (r *Rig) build(ctx context.Context) error {
	packages := []string{"github.com/nats-io/nats-server/v2", "tongan.dev/deploy/tongan"}
	for _, s := range r.names() {
		packages = append(packages, fmt.Sprintf("tongan.dev/services/%s/cmd/%s", s, s))
	}
	return build(ctx, r.dir, packages...)
}

// Program builds the program tongan into a folder, and returns where it is.
func Program(ctx context.Context, dir string) (string, error) {
	return filepath.Join(dir, "bin", "tongan"), build(ctx, dir, "tongan.dev/deploy/tongan")
}

func build(ctx context.Context, dir string, packages ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", filepath.Join(dir, "bin") + "/"}, packages...)...)
	cmd.Dir = root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

func (r *Rig) names() []string { return append([]string{subject.Audit}, r.cfg.Services...) }

func (r *Rig) keys(name string) string { return filepath.Join(r.dir, "keys", name+".nk") }

// run runs the program tongan.
func (r *Rig) run(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.program("tongan"), args...)
	cmd.Env = append(append(os.Environ(), r.env...), env...)
	out, err := cmd.Output()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return "", fmt.Errorf("tongan %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return string(out), err
}

// startBus makes the keys and starts the bus, on ports that stay the same.
func (r *Rig) startBus(ctx context.Context) error {
	public, err := r.run(ctx, nil, "users", "services", filepath.Join(r.dir, "keys"))
	if err != nil {
		return err
	}
	ports, err := freePorts(ctx, 2+len(r.names()))
	if err != nil {
		return err
	}
	r.url, r.Health = fmt.Sprintf("nats://127.0.0.1:%d", ports[0]), fmt.Sprintf("http://127.0.0.1:%d/healthz", ports[1])
	for i, name := range r.names() {
		r.HealthOf[name] = fmt.Sprintf("127.0.0.1:%d", ports[2+i])
	}
	r.env = append([]string{
		"TONGAN_NATS_URL=" + r.url,
		"TONGAN_MASTER_KEY=" + r.masterKey(),
		"TONGAN_ISSUER=" + r.keys("issuer"),
		"TONGAN_SYSTEM_CREDENTIALS=" + r.keys(access.System),
		"TONGAN_FIRST_OPERATOR=" + filepath.Join(r.dir, audit.FirstOperatorID+".nk"),
		"TONGAN_DISTRICTS=" + strings.Join(districts, ","),
	}, strings.Fields(public)...)
	store := []string{"TONGAN_NATS_STORE=" + r.cfg.BusDir, fmt.Sprintf("TONGAN_NATS_MAX_STORE=%d", r.cfg.MaxBytes/8*10)}
	command := []string{
		r.program("nats-server"),
		"-c", filepath.Join(root(), "deploy", "nats", "nats-server.conf"), "-p", strconv.Itoa(ports[0]), "-m", strconv.Itoa(ports[1]),
	}
	if r.cfg.Supervised {
		command = append([]string{r.program("tongan"), "supervise", "--health", r.Health}, command...)
	}
	r.Bus, err = r.process("nats-server", append(store, r.env...), command...)
	if err != nil {
		return err
	}
	return r.AwaitBus(ctx)
}

// AwaitBus waits until the bus listens.
func (r *Rig) AwaitBus(ctx context.Context) error {
	return Eventually(ctx, startWithin, "the bus listens", func() bool {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", strings.TrimPrefix(r.url, "nats://"))
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
}

func (r *Rig) masterKey() string { return filepath.Join(r.dir, "master.key") }

// startEngine starts the engine, on ports that stay the same.
func (r *Rig) startEngine(ctx context.Context) error {
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	r.engine = chengine.Config{
		Dir: r.cfg.EngineDir, HTTPPort: ports[0], TCPPort: ports[1], Log: slog.New(slog.NewTextHandler(log, nil)),
		Users: projector.Users(districts, func(name string) string { return "password-of-" + name }),
	}
	return r.RestartEngine(ctx)
}

// RestartEngine starts the engine once it has ended.
func (r *Rig) RestartEngine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if r.Engine != nil {
		<-r.Engine.Done()
	}
	var err error
	r.Engine, err = chengine.Start(ctx, r.engine)
	return err
}

func (r *Rig) migrate(ctx context.Context) error {
	_, err := r.run(ctx, []string{
		"TONGAN_CREDENTIALS=" + r.keys(access.Migration), "TONGAN_CLICKHOUSE_DSN=" + r.Engine.DSN(projector.UserMigration),
		fmt.Sprintf("TONGAN_MAX_BYTES=%d", r.cfg.MaxBytes),
	}, "migrate")
	return err
}

func (r *Rig) startServices(ctx context.Context) error {
	for _, name := range r.names() {
		p, err := r.process(name, append([]string{
			"TONGAN_CREDENTIALS=" + r.keys(name), "TONGAN_HEALTH_ADDR=" + r.HealthOf[name],
			"TONGAN_PROJECTOR_CLICKHOUSE_DSN=" + r.Engine.DSN(projector.UserProjector),
			"TONGAN_REPORTING_CLICKHOUSE_DSN=" + r.Engine.DSN(projector.UserReporting),
		}, r.env...), r.program(name))
		if err != nil {
			return err
		}
		r.Services[name] = p
	}
	return r.AwaitServices(ctx)
}

// AwaitServices waits until every service takes requests.
func (r *Rig) AwaitServices(ctx context.Context) error {
	js, err := r.As(access.Migration)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	for _, name := range r.names() {
		err := Eventually(ctx, startWithin, name+" answers", func() bool {
			_, err := js.Conn().Request(subject.Health(name), nil, time.Second)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// As connects to the bus as one of its users.
func (r *Rig) As(user string) (jetstream.JetStream, error) {
	key, err := access.LoadCredentials(r.keys(user))
	if err != nil {
		return nil, err
	}
	nc, err := r.connect(key.ServiceOptions(user))
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc)
}

func (r *Rig) connect(opts []nats.Option) (*nats.Conn, error) { return connect(r.url, opts) }

func connect(url string, opts []nats.Option) (*nats.Conn, error) {
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // that it is cut now and then is what it is for
	return nats.Connect(url, append(opts, quiet, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.SyncQueueLen(eventlog.ReadQueue))...)
}

// Box opens what is sealed, over a connection as intake.
func (r *Rig) Box(ctx context.Context, js jetstream.JetStream) (*seal.Box, error) {
	return seal.File{Path: r.masterKey()}.Box(ctx, js)
}

// ClickHouse connects to the engine as one of its users.
func (r *Rig) ClickHouse(user string) (driver.Conn, error) {
	opts, err := clickhouse.ParseDSN(r.Engine.LocalDSN(user))
	if err != nil {
		return nil, err
	}
	return clickhouse.Open(opts)
}

// BusDir is the folder of the streams.
func (r *Rig) BusDir() string { return r.cfg.BusDir }

// EngineDir is the folder of the tables.
func (r *Rig) EngineDir() string { return r.cfg.EngineDir }

// Stop kills everything.
func (r *Rig) Stop() error {
	var failed error
	for _, p := range r.Services {
		failed = errors.Join(failed, p.Kill())
	}
	if r.Engine != nil {
		_ = r.Engine.Stop(context.Background()) // one that was killed says so
	}
	if r.Bus != nil {
		failed = errors.Join(failed, r.Bus.Kill())
	}
	return failed
}

// Eventually polls until ok holds.
func Eventually(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); !ok(); {
		select {
		case <-ctx.Done():
			return fmt.Errorf("within %s it did not become true that %s: %w", within, what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

func freePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
