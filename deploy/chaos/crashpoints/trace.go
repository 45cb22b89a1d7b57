package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hold is how long strace holds the process at each call: the time there is to kill it.
const hold = 15 * time.Millisecond

// attachWithin bounds how long strace may take to hold all threads.
const attachWithin = 10 * time.Second

// tracer watches a process through strace, and kills it at a call.
type tracer struct {
	cmd    *exec.Cmd
	output *os.File
	pid    int
	at     int // the call at which to kill; 0 is never
	count  *counter
	call   string // the name of the call at which it was killed
	killed chan struct{}
	ended  chan struct{}
}

// errNoStrace is returned where strace is not installed.
var errNoStrace = errors.New("strace is not installed: apt-get install strace")

// watch attaches strace to a process and kills it at the call with this number. It is held at each call that strace knows, for as long as
// this takes: strace counts for each thread, and a crash point is one of the process.
func watch(ctx context.Context, pid, at int, c *counter) (*tracer, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }()
	when := "delay_enter"
	if c.moment == after {
		when = "delay_exit"
	}
	t := &tracer{output: r, pid: pid, at: at, count: c, killed: make(chan struct{}), ended: make(chan struct{})}
	t.cmd = exec.CommandContext(ctx, "strace", "-f", "-y", "-s", "0", "-e", "signal=none", "-e", "trace="+c.kind.calls(),
		"-e", fmt.Sprintf("inject=%s:%s=%d", c.kind.calls(), when, hold.Microseconds()), "-o", "/dev/fd/3", "-p", strconv.Itoa(pid))
	t.cmd.ExtraFiles = []*os.File{w}
	said, err := t.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, errNoStrace
		}
		return nil, err
	}
	attached := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(said)
		var text strings.Builder
		for lines.Scan() {
			if text.WriteString(lines.Text() + "\n"); strings.Contains(lines.Text(), "attached") {
				attached <- nil
				_, _ = io.Copy(io.Discard, said)
				return
			}
		}
		attached <- fmt.Errorf("strace does not attach: %s", text.String())
	}()
	go t.read()
	select {
	case err := <-attached:
		return t, err
	case <-time.After(attachWithin):
		return nil, errors.Join(errors.New("strace does not attach"), t.cmd.Process.Kill())
	}
}

// read counts calls until the process, or strace, has ended.
func (t *tracer) read() {
	defer close(t.ended)
	defer func() { _ = t.output.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := t.output.Read(buf)
		t.count.feed(buf[:n], func() {
			if t.count.n == t.at {
				_ = syscall.Kill(t.pid, syscall.SIGKILL)
				t.call = t.count.last
				close(t.killed)
			}
		})
		if err != nil {
			_ = t.cmd.Wait()
			return
		}
	}
}

// stop lets the process go, if it was not killed, and returns the name of the call at which it was.
func (t *tracer) stop() (string, error) {
	select {
	case <-t.killed:
	default:
		if err := t.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return "", err
		}
	}
	select {
	case <-t.ended:
	case <-time.After(attachWithin):
		return "", errors.Join(errors.New("strace does not end"), t.cmd.Process.Kill())
	}
	return t.call, nil
}
