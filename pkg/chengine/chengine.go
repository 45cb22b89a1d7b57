// Package chengine runs a real ClickHouse engine without a ClickHouse server:
// the current binary starts itself again as a child process, which loads
// libchdb.so and opens ClickHouse's own HTTP and native interfaces on loopback
// ports. Small deployments and tests then speak to the same engine as large
// ones; with a server of its own a deployment gives a DSN instead.
//
// It is a process of its own because the library takes signals, memory and
// exit for its own, and because a crash of it must not be ours. The child ends
// when its parent does, however the parent ended, and its data survive that.
//
// Everybody on the machine can reach a loopback port, so the configuration
// written here is the protection: passwords, grants, and a session of the
// engine itself that nobody else can have. With TLS others can reach it too.
package chengine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

const (
	loopback     = "127.0.0.1"
	startTimeout = time.Minute     // if the caller's context has none
	lockTimeout  = 2 * time.Second // for the child of a parent just killed to go away
	portTries    = 5               // another process may take a free port before the child does
)

var (
	// ErrPortTaken is returned when a configured port is in use.
	ErrPortTaken = errors.New("port is taken")
	// ErrDirInUse is returned when another engine uses the data folder.
	ErrDirInUse = errors.New("data folder is in use by another engine")
)

// Engine is a running engine. Its methods may be called concurrently.
type Engine struct {
	users    map[string]User
	service  User
	host     string // where the engine itself listens
	httpPort int
	tcpPort  int
	front    *front // nil without TLS
	log      *slog.Logger
	child    *exec.Cmd
	words    *words
	lifeline *os.File // its end ends the child at once
	terminal *os.File // the other end of its standard input

	stop    sync.Once
	stopped chan struct{} // closed when Stop was called
	done    chan struct{}
	err     error // set before done is closed
}

// Start starts an engine and returns when it answers a query. ctx bounds the
// start alone (one minute if it has no deadline); the engine runs until Stop
// or the end of this process.
func Start(ctx context.Context, cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	library, err := findLibrary(cfg.Library)
	if err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	l, err := makeLayout(cfg.Dir)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, l)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // the child has the lock then
	for try := 1; ; try++ {
		e, err := startOnce(ctx, cfg, l, library, lock)
		if !errors.Is(err, ErrPortTaken) || try == portTries || cfg.HTTPPort != 0 && cfg.TCPPort != 0 && !cfg.TLS.Enabled() {
			return e, err
		}
		cfg.Log.DebugContext(ctx, "engine port taken, trying another", "error", err)
	}
}

// startOnce tries it with one choice of ports.
func startOnce(ctx context.Context, cfg Config, l layout, library string, lock *os.File) (*Engine, error) {
	began := time.Now()
	e, err := newEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := e.begin(l, library, lock, cfg); err != nil {
		e.closeFront()
		return nil, err
	}
	if err := e.open(ctx, l); err != nil {
		e.kill()
		return nil, err
	}
	e.words.close()
	if e.front != nil {
		e.front.serve(e.engineAddr(e.httpPort), e.engineAddr(e.tcpPort))
	}
	e.log.InfoContext(ctx, "engine started", "pid", e.Pid(), "http", e.HTTPAddr(), "tcp", e.TCPAddr(), "tls", e.front != nil,
		"took", time.Since(began).Round(time.Millisecond))
	return e, nil
}

// newEngine returns an engine that has not been started, with its ports chosen.
func newEngine(ctx context.Context, cfg Config) (*Engine, error) {
	e := &Engine{
		users:   make(map[string]User),
		service: newServiceUser(),
		host:    cfg.engineHost(),
		log:     cfg.Log,
		words:   &words{},
		stopped: make(chan struct{}),
		done:    make(chan struct{}),
	}
	for _, u := range cfg.Users {
		e.users[u.Name] = u
	}
	var err error
	httpPort, tcpPort := cfg.HTTPPort, cfg.TCPPort
	if cfg.TLS.Enabled() {
		if e.front, err = newFront(ctx, cfg); err != nil {
			return nil, err
		}
		httpPort, tcpPort = 0, 0 // those configured are the front's
	}
	if e.httpPort, e.tcpPort, err = pickPorts(ctx, e.host, httpPort, tcpPort); err != nil {
		e.closeFront()
		return nil, err
	}
	return e, nil
}

// begin writes the configuration and starts the child.
func (e *Engine) begin(l layout, library string, lock *os.File, cfg Config) error {
	if err := l.writeConfig(append([]User{e.service}, cfg.Users...), cfg.networks()); err != nil {
		return err
	}
	return e.spawn(l, library, lock)
}

// closeFront ends the connections by TLS, if there may be some.
func (e *Engine) closeFront() {
	if e.front != nil {
		e.front.close()
	}
}

// engineAddr is where this machine reaches a port of the engine itself.
func (e *Engine) engineAddr(port int) string {
	return reachable(net.JoinHostPort(e.host, strconv.Itoa(port)))
}

// reachable returns an address somebody can connect to: one that means all of the machine's becomes that of loopback.
func reachable(addr string) string {
	a, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil || !a.Addr().IsUnspecified():
		return addr
	case a.Addr().Is4():
		return net.JoinHostPort(loopback, strconv.Itoa(int(a.Port())))
	default:
		return net.JoinHostPort("::1", strconv.Itoa(int(a.Port())))
	}
}

// HTTPAddr returns host and port of the HTTP interface, HTTPS if there is TLS.
// If it listens on all addresses of the machine, the host is that of loopback.
func (e *Engine) HTTPAddr() string {
	if e.front != nil {
		return reachable(e.front.http.Addr().String())
	}
	return e.engineAddr(e.httpPort)
}

// TCPAddr returns host and port of the native interface, by TLS if there is
// TLS. If it listens on all addresses, the host is that of loopback.
func (e *Engine) TCPAddr() string {
	if e.front != nil {
		return reachable(e.front.tcp.Addr().String())
	}
	return e.engineAddr(e.tcpPort)
}

// DSN returns the address of the native interface with the user's name and
// password, as clickhouse-go takes it. It names no database: queries name
// theirs. With a user that was not configured, the engine refuses the login.
// With TLS it says secure=true; whom the client trusts, and how it proves who
// it is, no DSN can say: see chclient.Options.
func (e *Engine) DSN(user string) string {
	var query url.Values
	if e.front != nil {
		query = e.front.query(e.TCPAddr())
	}
	return e.dsn(user, e.TCPAddr(), query)
}

// LocalDSN is DSN for processes of this machine: without TLS, by the engine's
// own port on loopback. Without TLS the two are the same.
func (e *Engine) LocalDSN(user string) string {
	return e.dsn(user, e.engineAddr(e.tcpPort), nil)
}

func (e *Engine) dsn(user, addr string, query url.Values) string {
	u := url.URL{
		Scheme:   "clickhouse",
		Host:     addr,
		User:     url.UserPassword(user, e.users[user].Password),
		Path:     "/",
		RawQuery: query.Encode(),
	}
	return u.String()
}

// Pid returns the process id of the child.
func (e *Engine) Pid() int { return e.child.Process.Pid }

// Done is closed when the child has ended.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Err says why the child ended: nil while it runs and after Stop.
func (e *Engine) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// Stop ends the engine and returns when the child is gone, or ctx has ended.
// It ends by SIGKILL, which loses nothing that was answered; an end in order
// would need the working directory back, see makeGate. Further calls do
// nothing but wait. The error is that of an engine that had ended before.
func (e *Engine) Stop(ctx context.Context) error {
	e.stop.Do(func() {
		if e.running() {
			close(e.stopped)
		}
		e.signal()
	})
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("stop the engine: %w", ctx.Err())
	}
}

// open waits until the engine answers a query, and lets nobody in before it is safe to.
func (e *Engine) open(ctx context.Context, l layout) error {
	if err := e.openGate(ctx, l); err != nil {
		return err
	}
	if err := e.poll(ctx, func() error { return e.query(ctx, "SELECT 1") }); err != nil {
		return err
	}
	return e.checkGate(ctx)
}

// kill ends the child of a start that failed, and waits for its end.
func (e *Engine) kill() {
	e.stop.Do(func() { close(e.stopped) })
	e.signal()
	<-e.done
}

// signal ends the child now.
func (e *Engine) signal() {
	if err := e.child.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		e.log.Error("kill the engine", "pid", e.Pid(), "error", err)
	}
}

// running says whether the child has not ended yet.
func (e *Engine) running() bool {
	select {
	case <-e.done:
		return false
	default:
		return true
	}
}
