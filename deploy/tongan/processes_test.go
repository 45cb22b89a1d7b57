package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// TestEachServiceIsAProcess runs a nats-server with the configuration of deploy/nats and every service as processes of their own, prepared
// by `tongan users services` and `tongan migrate`, sends the scenario through them, and ends each of them cleanly.
func TestEachServiceIsAProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	public, errs, err := run(t, nil, binary, "users", "services", keys)
	if err != nil {
		t.Fatalf("users services: %v\n%s", err, errs)
	}
	url := startServer(t, dir, strings.Fields(public))
	engine := chtest.Run(t, projector.Users(deploymentDistricts, func(name string) string { return "password-of-" + name })...)
	env := []string{
		"TONGAN_NATS_URL=" + url,
		"TONGAN_MASTER_KEY=" + filepath.Join(dir, "master.key"),
		"TONGAN_PROJECTOR_CLICKHOUSE_DSN=" + engine.DSN(projector.UserProjector),
		"TONGAN_REPORTING_CLICKHOUSE_DSN=" + engine.DSN(projector.UserReporting),
		"TONGAN_ISSUER=" + filepath.Join(keys, "issuer.nk"),
		"TONGAN_SYSTEM_CREDENTIALS=" + filepath.Join(keys, "system.nk"),
		"TONGAN_FIRST_OPERATOR=" + filepath.Join(dir, "operator-1.nk"),
	}
	env = append(env, strings.Fields(public)...) // the services need the issuer's public key
	as := func(user string, more ...string) []string {
		return append(append([]string{"TONGAN_CREDENTIALS=" + filepath.Join(keys, user+".nk")}, env...), more...)
	}
	for range 2 { // the second time there is nothing to do
		out, errs, err := run(t, as(access.Migration, "TONGAN_CLICKHOUSE_DSN="+engine.DSN(projector.UserMigration), "TONGAN_MAX_BYTES=2147483648"), binary, "migrate")
		if err != nil {
			t.Fatalf("migrate: %v\n%s%s", err, out, errs)
		}
	}
	out, errs, err := run(t, as(access.Inspector, "TONGAN_CLICKHOUSE_DSN="+engine.DSN(projector.UserMigration)), binary, "doctor")
	if err != nil || !strings.Contains(out, "all well") {
		t.Errorf("doctor: %v\n%s%s", err, out, errs)
	}
	all := append(subject.Services(), projector.Name, subject.Audit)
	var processes []*exec.Cmd
	for _, name := range all {
		processes = append(processes, startService(t, dir, name, as(name)))
	}
	migration, err := access.LoadCredentials(filepath.Join(keys, access.Migration+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	js := natstest.Connect(t, url, migration.ServiceOptions(access.Migration)...)
	for _, name := range all {
		natstest.Eventually(t, 30*time.Second, name+" answers", func() bool {
			_, err := js.Conn().Request(subject.Health(name), nil, time.Second)
			return err == nil
		})
	}
	via, err := callerFlags{NATSURL: url, Credentials: filepath.Join(dir, "operator-1.nk")}.caller()
	if err != nil {
		t.Fatal(err)
	}
	if err := compare(sendAll(t, people(t, via)), source); err != nil {
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

// startServer runs the nats-server itself with the configuration of deploy/nats, and returns its address.
func startServer(t *testing.T, dir string, env []string) string {
	t.Helper()
	program := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	ports := filepath.Join(dir, "ports")
	if err := os.MkdirAll(ports, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-c", filepath.Join("..", "nats", "nats-server.conf"), "-p", "-1", "-m", "-1", "--ports_file_dir", ports)
	cmd.Env = append(append(os.Environ(), "TONGAN_NATS_STORE="+filepath.Join(dir, "bus"), "TONGAN_NATS_MAX_STORE=4GB"), env...)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var url string
	natstest.Eventually(t, 20*time.Second, "the server listens", func() bool {
		files, _ := filepath.Glob(filepath.Join(ports, "*.ports"))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			if _, rest, ok := strings.Cut(string(text), `"nats://127.0.0.1:`); ok {
				port, _, _ := strings.Cut(rest, `"`)
				url = "nats://127.0.0.1:" + port
			}
		}
		return url != ""
	})
	return url
}

// deploymentDistricts are the districts that the flags have by default.
var deploymentDistricts = []string{"440700", "440703", "440704", "440705", "440781", "440783", "440784", "440785"}

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
