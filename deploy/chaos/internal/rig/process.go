package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs, and can be started again as it was.
type Process struct {
	name string
	args []string
	env  []string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
}

// start starts the program. What it writes to standard error goes to the end of its log file.
func (p *Process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.Background(), p.args[0], p.args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), p.env...), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive the run
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return nil
}

// Name is the name of the program.
func (p *Process) Name() string { return p.name }

// Log is the file of what it wrote to standard error.
func (p *Process) Log() string { return p.log }

// Pid is the process id.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Ended is closed when the process that runs now has ended.
func (p *Process) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Kill ends it by SIGKILL and waits for its end.
func (p *Process) Kill() error {
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	select {
	case <-p.Ended():
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("kill %s: it does not end", p.name)
	}
}

// Restart starts it again once it has ended.
func (p *Process) Restart() error {
	<-p.Ended()
	return p.start()
}

func (r *Rig) process(name string, env []string, args ...string) (*Process, error) {
	p := &Process{name: name, args: args, env: env, log: filepath.Join(r.dir, name+".log")}
	return p, p.start()
}
