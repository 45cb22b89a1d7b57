package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/deploy/chaos/internal/model"
	"tongan.dev/deploy/chaos/internal/rig"
	"tongan.dev/pkg/access"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/audit"
	"tongan.dev/services/projector"
)

// standaloneBytes is the disk of a standalone: bus and engine.
const standaloneBytes = 1 << 30

// standalone is one that runs, with all its data on one disk.
type standalone struct {
	cmd    *exec.Cmd
	data   string
	log    string
	url    string
	health string
	tables string // host and port of the engine
}

// startStandalone builds the program and starts it.
func startStandalone(ctx context.Context, dir, data string) (*standalone, error) {
	program, err := rig.Program(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &standalone{data: data, log: filepath.Join(dir, "standalone.log")}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, "standalone", "--data", data, "--nats-port", "0", "--nats-http-port", "0", "--clickhouse-http-port", "0", "--clickhouse-tcp-port", "0")
	s.cmd.Stderr, s.cmd.SysProcAttr = log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch f := strings.Fields(lines.Text()); {
		case len(f) == 2 && f[0] == "bus":
			s.url = f[1]
		case len(f) == 2 && f[0] == "monitoring":
			s.health = f[1]
		case len(f) == 3 && f[0] == "ClickHouse":
			s.tables = f[2]
		case len(f) > 0 && f[0] == "curl":
			return s, nil // the last it says
		}
	}
	return nil, fmt.Errorf("the standalone does not come up: see %s", s.log)
}

func (s *standalone) end() error {
	err := s.cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, s.cmd.Wait())
}

// ill reports whether its page for health says that something is wrong.
func (s *standalone) ill(ctx context.Context) bool { return unavailable(ctx, s.health) }

// connect connects as a user of its bus.
func (s *standalone) connect(user string, options func(*access.Credentials) []nats.Option) (*nats.Conn, error) {
	key, err := access.LoadCredentials(filepath.Join(s.data, "credentials", user+".nk"))
	if err != nil {
		return nil, err
	}
	return nats.Connect(s.url, append(options(key), nats.MaxReconnects(-1))...)
}

// fullStandalone fills the one disk of bus and engine. It goes on by itself.
func fullStandalone(ctx context.Context, dir string) (r *result, wrong []string, err error) {
	m, err := mount(filepath.Join(dir, "disk"), standaloneBytes)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, m.unmount()) }()
	s, err := startStandalone(ctx, dir, filepath.Join(m.dir, "data"))
	if err != nil {
		return nil, nil, err
	}
	ended := false
	defer func() {
		if !ended {
			err = errors.Join(err, s.end())
		}
	}()
	operator, err := s.connect(audit.FirstOperatorID, (*access.Credentials).CallerOptions)
	if err != nil {
		return nil, nil, err
	}
	defer operator.Close()
	worker, err := rig.Join(ctx, operator, auditv1.Role_ROLE_SOCIAL_WORKER)
	if err != nil {
		return nil, nil, err
	}
	l := begin(ctx, worker, model.New())
	r = &result{disk: "standalone", said: "log (error) and /healthz of its bus"}
	time.Sleep(runsFor)
	l.arm()
	if err := m.fill(ctx); err != nil {
		return nil, nil, err
	}
	err = rig.Eventually(ctx, time.Minute, "it gives the alarm", func() bool {
		return said(s.log, 0, `level=ERROR msg="the bus does not store"`) && s.ill(ctx)
	})
	if err != nil {
		return nil, nil, err
	}
	alarm := time.Now()
	time.Sleep(fullFor)
	r.alarm = alarm.Sub(l.bad())
	returned := time.Now()
	if err := m.free(); err != nil {
		return nil, nil, err
	}
	err = rig.Eventually(ctx, 2*time.Minute, "a command is acknowledged and it is well", func() bool { return l.good().After(returned) && !s.ill(ctx) })
	if err != nil {
		return nil, nil, err
	}
	r.again = time.Since(returned)
	time.Sleep(runsFor)
	if err := l.end(ctx); err != nil {
		return nil, nil, err
	}
	r.acked, r.unanswered = int(l.acked.Load()), len(l.left)
	wrong, err = s.check(ctx, l.model)
	r.wrong, ended = len(wrong), true
	return r, wrong, errors.Join(err, s.end())
}

// check compares its streams and tables with the model.
func (s *standalone) check(ctx context.Context, m *model.Model) ([]string, error) {
	nc, err := s.connect(filepath.Join("services", access.Inspector), func(c *access.Credentials) []nats.Option { return c.ServiceOptions(access.Inspector) })
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(s.data, "settings.json"))
	if err != nil {
		return nil, err
	}
	var settings struct {
		Passwords map[string]string `json:"passwords"`
	}
	if err := json.Unmarshal(text, &settings); err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.tables}, Auth: clickhouse.Auth{Username: projector.UserMigration, Password: settings.Passwords[projector.UserMigration]},
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	wrong, err := m.Streams(ctx, js)
	if err != nil {
		return nil, err
	}
	more, err := m.Tables(ctx, js, conn)
	return append(wrong, more...), err
}
