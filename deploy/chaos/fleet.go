package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// fleet is a system of real processes: the nodes of the bus, the services, and the engine.
type fleet struct {
	dir, bin string
	nodes    int
	keys     string   // folder of the credentials
	env      []string // what every service is told
	ports    []int    // of the nodes, for clients
	engineAt [2]int   // ports of the engine: HTTP, native
	users    []chengine.User
	dsn      func(user string) string // as who connects to the engine itself

	ctx       context.Context
	cancel    context.CancelFunc
	processes map[string]*process
	doors     map[string]*door // by who goes through; of the engine by "engine"
	routes    map[string]*door // between nodes, by the node that is connected to
	wg        sync.WaitGroup
}

const password = "not-a-secret"

var districts = []string{"440700", "440703", "440704", "440705", "440781", "440783", "440784", "440785"}

// newFleet builds the programs, and starts everything.
func newFleet(ctx context.Context, dir string, nodes int) (*fleet, error) {
	f := &fleet{
		dir: dir, bin: filepath.Join(dir, "bin"), nodes: nodes, keys: filepath.Join(dir, "keys"),
		processes: make(map[string]*process), doors: make(map[string]*door), routes: make(map[string]*door),
		users: projector.Users(districts, func(string) string { return password }),
	}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	steps := []func(context.Context) error{f.build, f.makeKeys, f.startBus, f.startEngine, f.migrate, f.startServices}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			f.stop()
			return nil, err
		}
	}
	return f, nil
}

// stop kills whatever runs.
func (f *fleet) stop() {
	f.cancel()
	for _, p := range f.processes {
		_ = p.signal(syscall.SIGCONT)
		<-p.done
	}
	f.wg.Wait()
	for _, d := range f.doors {
		d.close()
	}
	for _, d := range f.routes {
		d.close()
	}
}

// root is the folder of the repository.
func root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOWORK: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// build builds every program as it is shipped, but for the clock of the services, which can be stepped; see clock.go.
func (f *fleet) build(ctx context.Context) error {
	at, err := root(ctx)
	if err != nil {
		return err
	}
	for _, d := range []string{f.bin, f.path("log"), f.path("clock")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	overlay, err := f.overlay(at)
	if err != nil {
		return err
	}
	args := []string{"build", "-overlay", overlay, "-o", f.bin + "/", "tongan.dev/deploy/tongan", "github.com/nats-io/nats-server/v2"}
	for _, s := range services() {
		args = append(args, fmt.Sprintf("tongan.dev/services/%s/cmd/%s", s, s))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = at
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

func (f *fleet) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

// tongan runs the program to its end.
func (f *fleet) tongan(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, "tongan"), args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + f.dir}, env...)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("tongan %s: %w: %s%s", args[0], err, out, words.String())
	}
	return string(out), nil
}

func (f *fleet) makeKeys(ctx context.Context) error {
	public, err := f.tongan(ctx, nil, "users", "services", f.keys)
	f.env = append(strings.Fields(public), "TONGAN_MASTER_KEY="+f.path("master.key"))
	return err
}

func (f *fleet) startServices(ctx context.Context) error {
	f.env = append(f.env,
		"TONGAN_PROJECTOR_CLICKHOUSE_DSN="+f.through(Engine, projector.UserProjector),
		"TONGAN_REPORTING_CLICKHOUSE_DSN="+f.through(Engine, projector.UserReporting),
		"TONGAN_ISSUER="+filepath.Join(f.keys, "issuer.nk"),
		"TONGAN_SYSTEM_CREDENTIALS="+filepath.Join(f.keys, "system.nk"),
		"TONGAN_FIRST_OPERATOR="+f.path("operator-1.nk"),
		"TONGAN_DISTRICTS="+strings.Join(districts, ","),
	)
	for _, name := range services() {
		d, err := newDoor(f.busAddrs()...)
		if err != nil {
			return err
		}
		f.doors[name] = d
		f.supervise(name, f.service(name))
	}
	var err error
	if f.doors[Callers], err = newDoor(f.busAddrs()...); err != nil {
		return err
	}
	return f.healthy(ctx)
}

// service returns how to start a service.
func (f *fleet) service(name string) func(context.Context) (running, error) {
	env := append([]string{
		"TONGAN_CREDENTIALS=" + filepath.Join(f.keys, name+".nk"), "TONGAN_NATS_URL=nats://" + f.doors[name].addr(), clockEnv + "=" + f.clockFile(name),
	}, f.env...)
	return program(filepath.Join(f.bin, name), f.path("log", name), env)
}

func (f *fleet) supervise(name string, start func(context.Context) (running, error)) {
	f.processes[name] = supervise(f.ctx, name, start)
}

// healthy waits until every service answers.
func (f *fleet) healthy(ctx context.Context) error {
	js, err := f.connect(access.Migration)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	for _, name := range services() {
		if err := eventually(ctx, name+" answers", func() bool {
			_, err := js.Conn().Request(subject.Health(name), nil, time.Second)
			return err == nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// connect connects to the bus as one of its own users, past all doors.
func (f *fleet) connect(user string) (jetstream.JetStream, error) {
	credentials, err := access.LoadCredentials(filepath.Join(f.keys, user+".nk"))
	if err != nil {
		return nil, err
	}
	return dial(strings.Join(f.busAddrs(), ","), credentials.ServiceOptions(user)...)
}

// dial connects, and goes on trying for as long as the connection is wanted.
func dial(addr string, opts ...nats.Option) (jetstream.JetStream, error) {
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort(), nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, opts...)
	nc, err := nats.Connect(addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return jetstream.New(nc)
}

// startEngine starts the engine, and a door to it.
func (f *fleet) startEngine(ctx context.Context) error {
	for i := range f.engineAt {
		var err error
		if f.engineAt[i], err = freePort(); err != nil {
			return err
		}
	}
	cfg := chengine.Config{
		Dir: f.path("engine"), HTTPPort: f.engineAt[0], TCPPort: f.engineAt[1], Users: f.users, Log: slog.New(slog.DiscardHandler),
	}
	f.dsn = func(user string) string {
		return fmt.Sprintf("clickhouse://%s:%s@127.0.0.1:%d/", user, password, f.engineAt[1])
	}
	up := make(chan struct{})
	var once sync.Once
	f.supervise(Engine, func(ctx context.Context) (running, error) {
		e, err := chengine.Start(ctx, cfg)
		if err != nil {
			return nil, err
		}
		once.Do(func() { close(up) })
		return life{e}, nil
	})
	select {
	case <-up:
	case <-ctx.Done():
		return fmt.Errorf("the engine does not start: %w", ctx.Err())
	}
	d, err := newDoor(fmt.Sprintf("127.0.0.1:%d", f.engineAt[1]))
	f.doors[Engine] = d
	return err
}

// life is one life of the engine.
type life struct{ *chengine.Engine }

func (l life) pid() int { return l.Pid() }
func (l life) wait()    { <-l.Done() }

// through is the address of the engine behind a door.
func (f *fleet) through(door, user string) string {
	return fmt.Sprintf("clickhouse://%s:%s@%s/", user, password, f.doors[door].addr())
}

// migrate makes streams and tables. A cluster may need some time before it takes streams.
func (f *fleet) migrate(ctx context.Context) error {
	env := append([]string{
		"TONGAN_CREDENTIALS=" + filepath.Join(f.keys, access.Migration+".nk"), "TONGAN_NATS_URL=nats://" + f.busAddrs()[0],
		"TONGAN_CLICKHOUSE_DSN=" + f.dsn(projector.UserMigration), "TONGAN_MAX_BYTES=4294967296", fmt.Sprint("TONGAN_REPLICAS=", f.nodes),
	}, f.env...)
	var last error
	err := eventually(ctx, "streams and tables are made", func() bool {
		_, last = f.tongan(ctx, env, "migrate")
		return last == nil
	})
	return errors.Join(err, last)
}

// freePort returns a port that no connection is given by chance: it must stay free while its server is dead.
func freePort() (int, error) {
	portMu.Lock()
	defer portMu.Unlock()
	for ; nextPort < 32000; nextPort++ {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", nextPort))
		if err != nil {
			continue
		}
		nextPort++
		return nextPort - 1, l.Close()
	}
	return 0, errors.New("no port is free")
}

var (
	portMu sync.Mutex
	// nextPort begins somewhere else in every process, so that two of them seldom want the same.
	nextPort = 20000 + os.Getpid()%1000*11
)

// eventually polls until something holds, or time is up.
func eventually(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			return fmt.Errorf("it does not become true that %s", what)
		}
		wait(ctx, 20*time.Millisecond)
	}
	return nil
}
