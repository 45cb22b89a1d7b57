package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// TestEachServiceIsAProcess runs every service as a process of its own on servers of one's own, prepared by `tongan migrate`, sends the
// scenario through them, and ends each of them cleanly.
func TestEachServiceIsAProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := bus.Start(bus.Config{Dir: filepath.Join(dir, "bus"), MaxStore: 4 << 30, MonitorPort: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	engine := chtest.Run(t, projector.Users(func(name string) string { return "password-of-" + name })...)
	env := []string{
		"TONGAN_NATS_URL=" + server.ClientURL(),
		"TONGAN_MASTER_KEY=" + filepath.Join(dir, "master.key"),
		"TONGAN_PROJECTOR_CLICKHOUSE_DSN=" + engine.DSN(projector.UserProjector),
		"TONGAN_REPORTING_CLICKHOUSE_DSN=" + engine.DSN(projector.UserReporting),
	}
	migrate := append(env, "TONGAN_CLICKHOUSE_DSN="+engine.DSN(projector.UserMigration), "TONGAN_MAX_BYTES=2147483648")
	for range 2 { // the second time there is nothing to do
		if out, errs, err := run(t, migrate, binary, "migrate"); err != nil {
			t.Fatalf("migrate: %v\n%s%s", err, out, errs)
		}
	}
	var processes []*exec.Cmd
	for _, name := range append(subject.Services(), projector.Name) {
		processes = append(processes, startService(t, dir, name, env))
	}
	js := natstest.Connect(t, server.ClientURL())
	for _, name := range append(subject.Services(), projector.Name) {
		natstest.Eventually(t, 30*time.Second, name+" answers", func() bool {
			_, err := js.Conn().Request(subject.Health(name), nil, time.Second)
			return err == nil
		})
	}
	if err := compare(sendAll(t, js), source); err != nil {
		t.Error(err)
	}
	for _, p := range processes {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%s ended with %v", filepath.Base(p.Path), err)
		}
	}
}

// startService builds a service's command and starts it.
func startService(t *testing.T, dir, name string, env []string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-o", program, fmt.Sprintf("tongan.dev/services/%s/cmd/%s", name, name))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}
