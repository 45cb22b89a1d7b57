package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// running is one life of a process.
type running interface {
	pid() int
	// wait waits for its end.
	wait()
}

// process is a process that is started again whenever it ends, as a supervisor would.
type process struct {
	name  string
	start func(ctx context.Context) (running, error)

	mu     sync.Mutex
	now    running       // nil while it does not run
	pause  time.Duration // before it is started again
	killed bool          // the end of this life was ours
	begun  time.Time
	// alone counts how often it ended by itself, or did not start.
	alone   int
	retired bool
	done    chan struct{}
}

// startPause is how long a supervisor waits before it starts what ended by itself.
const startPause = 200 * time.Millisecond

// supervise keeps a process running until ctx ends; then it is killed.
func supervise(ctx context.Context, name string, start func(ctx context.Context) (running, error)) *process {
	p := &process{name: name, start: start, done: make(chan struct{})}
	go p.run(ctx)
	return p
}

func (p *process) run(ctx context.Context) {
	defer close(p.done)
	for ctx.Err() == nil && !p.over() {
		life, err := p.start(ctx)
		if err == nil {
			p.mu.Lock()
			p.now, p.begun, p.killed, p.pause = life, time.Now(), false, startPause
			p.mu.Unlock()
			stop := context.AfterFunc(ctx, func() { _ = p.signal(syscall.SIGKILL) })
			life.wait()
			stop()
		}
		p.mu.Lock()
		if !p.killed && !p.retired && ctx.Err() == nil {
			p.alone++
		}
		pause := max(p.pause, time.Millisecond)
		p.now = nil
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// retire ends a process in order, for good.
func (p *process) retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	_ = p.signal(syscall.SIGTERM)
	<-p.done
}

func (p *process) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

// signal sends a signal to the life that is, if there is one.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		return fmt.Errorf("%s does not run", p.name)
	}
	return syscall.Kill(p.now.pid(), s)
}

// kill kills it as soon as it runs, and has it started again after a pause. False means that it did not run in time.
func (p *process) kill(ctx context.Context, pause time.Duration) bool {
	for ; ; wait(ctx, 5*time.Millisecond) {
		p.mu.Lock()
		if p.now != nil && !p.killed {
			p.killed, p.pause = true, pause
			err := syscall.Kill(p.now.pid(), syscall.SIGKILL)
			p.mu.Unlock()
			return err == nil
		}
		p.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
	}
}

// child is a program that runs.
type child struct{ cmd *exec.Cmd }

func (c child) pid() int { return c.cmd.Process.Pid }
func (c child) wait()    { _ = c.cmd.Wait() }

// program returns how to start a program whose words go to a file. It is killed when ctx ends, or this process.
func program(path, log string, env []string, args ...string) func(context.Context) (running, error) {
	return func(ctx context.Context) (running, error) {
		words, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("log of %s: %w", path, err)
		}
		defer func() { _ = words.Close() }()
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}, env...)
		cmd.Stdout, cmd.Stderr = words, words
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start %s: %w", path, err)
		}
		return child{cmd}, nil
	}
}

// wait waits, at most until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
