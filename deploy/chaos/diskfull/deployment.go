package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"tongan.dev/deploy/chaos/internal/model"
	"tongan.dev/deploy/chaos/internal/rig"
	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/projector"
)

// Sizes of the disks.
const (
	busBytes    = 192 << 20
	engineBytes = 1 << 30
)

// fullFor is how long a disk stays full, runsFor how long the load runs before and after.
const (
	fullFor = 15 * time.Second
	runsFor = 3 * time.Second
)

// deployment is one whose bus or engine is on a disk of its own.
type deployment struct {
	*rig.Rig
	model *model.Model
	load  *load
	disk  *disk
}

func deploy(ctx context.Context, dir string, onDisk func(*rig.Config, string), bytes int) (*deployment, error) {
	at := filepath.Join(dir, "disk")
	m, err := mount(at, bytes)
	if err != nil {
		return nil, err
	}
	cfg := rig.Config{Dir: dir, MaxBytes: 1 << 30, Services: []string{subject.Outreach, projector.Name}, Supervised: true}
	onDisk(&cfg, at)
	d := &deployment{model: model.New(), disk: m}
	if d.Rig, err = rig.Start(ctx, cfg); err != nil {
		return nil, errors.Join(err, m.unmount())
	}
	nc, err := d.Caller(ctx, auditv1.Role_ROLE_SOCIAL_WORKER)
	if err != nil {
		return nil, errors.Join(err, d.end())
	}
	d.load = begin(ctx, nc, d.model)
	return d, nil
}

func (d *deployment) end() error { return errors.Join(d.Stop(), d.disk.unmount()) }

// ill reports whether a service's page for health says that something is wrong.
func (d *deployment) ill(ctx context.Context, name string) bool {
	return unavailable(ctx, "http://"+d.HealthOf[name]+"/healthz")
}

func unavailable(ctx context.Context, page string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusServiceUnavailable
}

// check sends again what is not acknowledged, and compares.
func (d *deployment) check(ctx context.Context, r *result) ([]string, error) {
	r.acked, r.unanswered = int(d.load.acked.Load()), len(d.load.left)
	js, err := d.As(access.Inspector)
	if err != nil {
		return nil, err
	}
	defer js.Conn().Close()
	conn, err := d.ClickHouse(projector.UserMigration)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	wrong, err := d.model.Streams(ctx, js)
	if err != nil {
		return nil, err
	}
	more, err := d.model.Tables(ctx, js, conn)
	wrong = append(wrong, more...)
	r.wrong = len(wrong)
	return wrong, err
}

// fullBus fills the disk of a nats-server that runs under `tongan supervise`.
func fullBus(ctx context.Context, dir string) (r *result, wrong []string, err error) {
	d, err := deploy(ctx, dir, func(c *rig.Config, at string) { c.BusDir = filepath.Join(at, "bus") }, busBytes)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	r = &result{disk: "bus", said: "log (error) and /healthz of the service"}
	time.Sleep(runsFor)
	log := d.Services[subject.Outreach].Log()
	from := size(log)
	d.load.arm()
	if err := d.disk.fill(ctx); err != nil {
		return nil, nil, err
	}
	err = rig.Eventually(ctx, time.Minute, "the service gives the alarm", func() bool {
		return said(log, from, `level=ERROR msg="the bus does not store"`) && d.ill(ctx, subject.Outreach)
	})
	if err != nil {
		return nil, nil, err
	}
	alarm := time.Now()
	time.Sleep(fullFor)
	r.alarm = alarm.Sub(d.load.bad())
	returned := time.Now()
	if err := d.disk.free(); err != nil {
		return nil, nil, err
	}
	err = rig.Eventually(ctx, 2*time.Minute, "a command is acknowledged and the service is well", func() bool {
		return d.load.good().After(returned) && !d.ill(ctx, subject.Outreach)
	})
	if err != nil {
		return nil, nil, err
	}
	r.again = time.Since(returned)
	time.Sleep(runsFor)
	if err := d.load.end(ctx); err != nil {
		return nil, nil, err
	}
	wrong, err = d.check(ctx, r)
	return r, wrong, err
}

// fullEngine fills the disk of the engine. The bus goes on.
func fullEngine(ctx context.Context, dir string) (r *result, wrong []string, err error) {
	d, err := deploy(ctx, dir, func(c *rig.Config, at string) { c.EngineDir = filepath.Join(at, "engine") }, engineBytes)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, d.end()) }()
	r = &result{disk: "engine", said: "log (error) and /healthz of the projector"}
	time.Sleep(runsFor)
	log := d.Services[projector.Name].Log()
	from := size(log)
	if err := d.disk.fill(ctx); err != nil {
		return nil, nil, err
	}
	if err := rig.Eventually(ctx, time.Minute, "an insert is refused", func() bool { return said(log, from, "projection pauses") }); err != nil {
		return nil, nil, err
	}
	full := time.Now()
	err = rig.Eventually(ctx, time.Minute, "the projector gives the alarm", func() bool {
		return said(log, from, `level=ERROR msg="projection stands still"`) && d.ill(ctx, projector.Name)
	})
	if err != nil {
		return nil, nil, err
	}
	r.alarm = time.Since(full)
	time.Sleep(fullFor)
	if since := time.Since(d.load.good()); since > time.Second {
		wrong = append(wrong, fmt.Sprintf("engine: no command is acknowledged for %s while the engine's disk is full", since))
	}
	returned := time.Now()
	if err := d.disk.free(); err != nil {
		return nil, nil, err
	}
	if err := rig.Eventually(ctx, 2*time.Minute, "the projector is well", func() bool { return !d.ill(ctx, projector.Name) }); err != nil {
		return nil, nil, err
	}
	r.again = time.Since(returned)
	time.Sleep(runsFor)
	if err := d.load.end(ctx); err != nil {
		return nil, nil, err
	}
	more, err := d.check(ctx, r)
	return r, append(wrong, more...), err
}
