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
// engine itself that nobody else can have.
package chengine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

const (
	host         = "127.0.0.1"
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
	httpPort int
	tcpPort  int
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
		if !errors.Is(err, ErrPortTaken) || try == portTries || cfg.HTTPPort != 0 && cfg.TCPPort != 0 {
			return e, err
		}
		cfg.Log.DebugContext(ctx, "engine port taken, trying another", "error", err)
	}
}

// startOnce tries it with one choice of ports.
func startOnce(ctx context.Context, cfg Config, l layout, library string, lock *os.File) (*Engine, error) {
	began := time.Now()
	httpPort, tcpPort, err := pickPorts(ctx, cfg.HTTPPort, cfg.TCPPort)
	if err != nil {
		return nil, err
	}
	e := newEngine(cfg, httpPort, tcpPort)
	if err := l.writeConfig(append([]User{e.service}, cfg.Users...)); err != nil {
		return nil, err
	}
	if err := e.spawn(l, library, lock); err != nil {
		return nil, err
	}
	if err := e.open(ctx, l); err != nil {
		e.kill()
		return nil, err
	}
	e.words.close()
	e.log.InfoContext(ctx, "engine started", "pid", e.Pid(), "http", e.HTTPAddr(), "tcp", e.TCPAddr(),
		"took", time.Since(began).Round(time.Millisecond))
	return e, nil
}

// newEngine returns an engine that has not been started.
func newEngine(cfg Config, httpPort, tcpPort int) *Engine {
	e := &Engine{
		users:    make(map[string]User),
		service:  newServiceUser(),
		httpPort: httpPort,
		tcpPort:  tcpPort,
		log:      cfg.Log,
		words:    &words{},
		stopped:  make(chan struct{}),
		done:     make(chan struct{}),
	}
	for _, u := range cfg.Users {
		e.users[u.Name] = u
	}
	return e
}

// HTTPAddr returns host and port of the HTTP interface.
func (e *Engine) HTTPAddr() string { return net.JoinHostPort(host, strconv.Itoa(e.httpPort)) }

// TCPAddr returns host and port of the native interface.
func (e *Engine) TCPAddr() string { return net.JoinHostPort(host, strconv.Itoa(e.tcpPort)) }

// DSN returns the address of the native interface with the user's name and
// password, as clickhouse-go takes it. It names no database: queries name
// theirs. With a user that was not configured, the engine refuses the login.
func (e *Engine) DSN(user string) string {
	u := url.URL{
		Scheme: "clickhouse",
		Host:   e.TCPAddr(),
		User:   url.UserPassword(user, e.users[user].Password),
		Path:   "/",
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
