package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Supervised is a nats-server that is a process of its own, and stands alone or is one of several.
type Supervised struct {
	// Dir is its folder of streams, store_dir in its configuration.
	Dir string
	// Health is the address of its page /healthz.
	Health string
	// Command starts it.
	Command []string
	// Log takes what happens to it.
	Log *slog.Logger
}

const (
	// startsAgain is how long after its end it is started again.
	startsAgain = time.Second
	// endsWithin is how long it may take to end in order.
	endsWithin = 10 * time.Second
)

// Run starts the server, and again whenever it ended, or does not store although there is room; until ctx ends. Each start is guarded as that of
// the embedded bus is: nothing removed for good comes up again, and no stream is lost that does not come up.
func (s *Supervised) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.once(ctx); err != nil {
			s.Log.Error("the bus does not run", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(startsAgain):
		}
	}
	return nil
}

// once runs it until it has ended.
func (s *Supervised) once(ctx context.Context) error {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.Command[0], s.Command[1:]...) // it is to end in order
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	ended := make(chan struct{})
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(endsWithin):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	err := guarded(s.Dir, func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		if err := s.ready(ctx, ended); err != nil {
			stop()
			return err
		}
		return nil
	}, stop)
	if err != nil {
		return err
	}
	s.Log.Info("the bus runs", "pid", cmd.Process.Pid)
	defer stop()
	return s.watch(ctx, ended)
}

// ready waits until it takes connections, which it does when it has its streams.
func (s *Supervised) ready(ctx context.Context, ended <-chan struct{}) error {
	for {
		if status, err := s.ask(ctx); err == nil && !has(status, server.HealthzErrorConn) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			return errors.New("it ended while it started: see its log")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// watch returns when it has ended, or is to be started again.
func (s *Supervised) watch(ctx context.Context, ended <-chan struct{}) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ill := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return errors.New("it ended")
		case <-tick.C:
		}
		status, err := s.ask(ctx)
		if err != nil {
			continue // busy; if it ended, that is known
		}
		wrong := notWriting(status)
		if wrong != "" && ill == "" {
			s.Log.Error("the bus does not store", "error", wrong)
		}
		if ill = wrong; ill != "" && free(s.Dir) >= roomToGoOn {
			s.Log.Warn("there is room: the bus is started again")
			return nil
		}
	}
}

// ask asks it how it is.
func (s *Supervised) ask(ctx context.Context) (server.HealthStatus, error) {
	var status server.HealthStatus
	ctx, cancel := context.WithTimeout(ctx, lookEvery)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Health+"?details=true", nil)
	if err != nil {
		return status, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return status, err
	}
	defer func() { _ = answer.Body.Close() }()
	if err := json.NewDecoder(answer.Body).Decode(&status); err != nil {
		return status, fmt.Errorf("health: %w", err)
	}
	return status, nil
}

func has(status server.HealthStatus, kind server.HealthZErrorType) bool {
	for _, e := range status.Errors {
		if e.Type == kind {
			return true
		}
	}
	return false
}

// notWriting says what it cannot write; empty is nothing. One of several has streams that are behind, too, which passes; only the text tells
// these apart.
func notWriting(status server.HealthStatus) string {
	for _, e := range status.Errors {
		if e.Type == server.HealthzErrorJetStream || strings.Contains(e.Error, " write error: ") {
			return e.Error
		}
	}
	return ""
}
