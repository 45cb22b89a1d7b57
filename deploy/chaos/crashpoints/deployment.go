package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/deploy/chaos/internal/model"
	"tongan.dev/deploy/chaos/internal/rig"
	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/projector"
)

// maxBytes is what the streams may hold; they hold little.
const maxBytes = 1 << 30

// deployment is what is killed, and what looks at it.
type deployment struct {
	*rig.Rig
	model             *model.Model
	worker, leader    *nats.Conn
	inspector, intake jetstream.JetStream
	tables            driver.Conn
	box               *seal.Box
}

func deploy(ctx context.Context, dir string) (*deployment, error) {
	r, err := rig.Start(ctx, rig.Config{Dir: dir, MaxBytes: maxBytes, Services: []string{subject.Intake, subject.Outreach, projector.Name}})
	if err != nil {
		return nil, err
	}
	d := &deployment{Rig: r, model: model.New()}
	for user, to := range map[string]*jetstream.JetStream{access.Inspector: &d.inspector, subject.Intake: &d.intake} {
		if *to, err = r.As(user); err != nil {
			return nil, errors.Join(err, r.Stop())
		}
	}
	for role, to := range map[auditv1.Role]**nats.Conn{auditv1.Role_ROLE_SOCIAL_WORKER: &d.worker, auditv1.Role_ROLE_BUREAU_LEADER: &d.leader} {
		if *to, err = r.Caller(ctx, role); err != nil {
			return nil, errors.Join(err, r.Stop())
		}
	}
	if d.box, err = r.Box(ctx, d.intake); err == nil {
		d.tables, err = r.ClickHouse(projector.UserMigration)
	}
	if err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return d, nil
}

// end ends everything.
func (d *deployment) end() error {
	for _, nc := range []*nats.Conn{d.worker, d.leader, d.inspector.Conn(), d.intake.Conn()} {
		nc.Close()
	}
	return errors.Join(d.tables.Close(), d.Stop())
}

// victim is what may be killed.
type victim string

const (
	server victim = "bus"
	engine victim = "engine"
	writer victim = projector.Name
	eraser victim = subject.Intake
)

// pid is its process.
func (d *deployment) pid(v victim) int {
	switch v {
	case server:
		return d.Bus.Pid()
	case engine:
		return d.Engine.Pid()
	default:
		return d.Services[string(v)].Pid()
	}
}

// folder is where it keeps its files.
func (d *deployment) folder(v victim) string {
	if v == engine {
		return d.EngineDir()
	}
	return d.BusDir()
}

// restart starts it again, and waits until everybody answers.
func (d *deployment) restart(ctx context.Context, v victim) error {
	var err error
	switch v {
	case server:
		<-d.Bus.Ended()
		if _, err = bus.Scrub(d.BusDir()); err == nil { // as who runs it in earnest does, see bus.Supervised
			err = d.Bus.Restart()
		}
		if err == nil {
			err = d.AwaitBus(ctx)
		}
	case engine:
		err = d.RestartEngine(ctx)
	default:
		err = d.Services[string(v)].Restart()
	}
	if err != nil {
		return err
	}
	return d.AwaitServices(ctx)
}

// check compares everything with the model.
func (d *deployment) check(ctx context.Context) ([]string, error) {
	wrong, err := d.model.Streams(ctx, d.inspector)
	if err != nil {
		return nil, err
	}
	more, err := d.model.Tables(ctx, d.inspector, d.tables)
	return append(wrong, more...), err
}

// holding returns the files below a folder that hold some bytes.
func holding(folder, what string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // a file of a moment
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(f)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if strings.Contains(string(text), what) {
			found = append(found, filepath.Base(path))
		}
		return nil
	})
	return found, err
}
