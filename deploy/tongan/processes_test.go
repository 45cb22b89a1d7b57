package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	d := deploy(t, "1", func(d *deployment) {
		d.buses = []*busProcess{{conf: "nats-server.conf", url: "nats://" + freeAddress(t)}}
	})
	if err := compare(sendAll(t, people(t, d.caller(t))), source); err != nil {
		t.Error(err)
	}
	d.end(t)
}

// deployment is servers and services as processes of their own.
type deployment struct {
	dir, keys string
	// env is what every process is told, public the public parts of the keys.
	env, public []string
	buses       []*busProcess
	services    map[string]*exec.Cmd
	// health is where intake says how it is.
	health string
}

// busProcess is a nats-server with a configuration of deploy/nats.
type busProcess struct {
	conf, url, name string
	env             []string
	cmd             *exec.Cmd
}

// deploy prepares and starts what plan says, with so many replicas of each stream.
func deploy(t *testing.T, replicas string, plan func(*deployment)) *deployment {
	t.Helper()
	d := &deployment{dir: t.TempDir(), services: make(map[string]*exec.Cmd), health: freeAddress(t)}
	d.keys = filepath.Join(d.dir, "keys")
	public, errs, err := run(t, nil, binary, "users", "services", d.keys)
	if err != nil {
		t.Fatalf("users services: %v\n%s", err, errs)
	}
	d.public = strings.Fields(public)
	plan(d)
	if err := buildProcesses(); err != nil {
		t.Fatal(err)
	}
	for _, b := range d.buses {
		d.startBus(t, b)
	}
	engine := chtest.Run(t, projector.Users(deploymentDistricts, func(name string) string { return "password-of-" + name })...)
	d.env = append(d.public, // the services need the issuer's public key
		"TONGAN_NATS_URL="+d.addresses(),
		"TONGAN_MASTER_KEY="+filepath.Join(d.dir, "master.key"),
		"TONGAN_PROJECTOR_CLICKHOUSE_DSN="+engine.DSN(projector.UserProjector),
		"TONGAN_REPORTING_CLICKHOUSE_DSN="+engine.DSN(projector.UserReporting),
		"TONGAN_ISSUER="+filepath.Join(d.keys, "issuer.nk"),
		"TONGAN_SYSTEM_CREDENTIALS="+filepath.Join(d.keys, "system.nk"),
		"TONGAN_FIRST_OPERATOR="+filepath.Join(d.dir, "operator-1.nk"),
	)
	dsn := "TONGAN_CLICKHOUSE_DSN=" + engine.DSN(projector.UserMigration)
	js := d.connect(t)
	natstest.Eventually(t, time.Minute, "the servers have found each other", func() bool {
		_, err := js.Stream(t.Context(), subject.StreamDead)
		return errors.Is(err, jetstream.ErrStreamNotFound)
	})
	for range 2 { // the second time there is nothing to do
		out, errs, err := run(t, d.as(access.Migration, dsn, "TONGAN_MAX_BYTES=2147483648"), binary, "migrate", "--replicas", replicas)
		if err != nil {
			t.Fatalf("migrate: %v\n%s%s", err, out, errs)
		}
	}
	out, errs, err := run(t, d.as(access.Inspector, dsn), binary, "doctor", "--replicas", replicas)
	if err != nil || !strings.Contains(out, "all well") {
		t.Errorf("doctor: %v\n%s%s", err, out, errs)
	}
	for _, name := range processes() {
		d.startService(t, name)
	}
	for name := range d.services {
		natstest.Eventually(t, 30*time.Second, name+" answers", func() bool {
			_, err := js.Conn().Request(subject.Health(name), nil, time.Second)
			return err == nil
		})
	}
	return d
}

// as is the environment of a process that is a user of the bus.
func (d *deployment) as(user string, more ...string) []string {
	return slices.Concat(d.env, more, []string{"TONGAN_CREDENTIALS=" + filepath.Join(d.keys, user+".nk")})
}

// addresses are those of the bus, as flags take them.
func (d *deployment) addresses() string {
	var urls []string
	for _, b := range d.buses {
		urls = append(urls, b.url)
	}
	return strings.Join(urls, ",")
}

// connect connects as the user migration.
func (d *deployment) connect(t *testing.T) jetstream.JetStream {
	t.Helper()
	migration, err := access.LoadCredentials(filepath.Join(d.keys, access.Migration+".nk"))
	if err != nil {
		t.Fatal(err)
	}
	return natstest.Connect(t, d.addresses(), append(migration.ServiceOptions(access.Migration), nats.MaxReconnects(-1))...)
}

// caller is the first operator.
func (d *deployment) caller(t *testing.T) *caller {
	t.Helper()
	via, err := callerFlags{NATSURL: d.addresses(), Credentials: filepath.Join(d.dir, "operator-1.nk")}.caller()
	if err != nil {
		t.Fatal(err)
	}
	return via
}

// processes are the names of the services.
func processes() []string { return append(subject.Services(), projector.Name, subject.Audit) }

// buildProcesses builds the nats-server and every service beside the binary under test.
var buildProcesses = sync.OnceValue(func() error {
	args := []string{"build", "-o", filepath.Dir(binary) + "/", "github.com/nats-io/nats-server/v2"}
	for _, name := range processes() {
		args = append(args, fmt.Sprintf("tongan.dev/services/%s/cmd/%s", name, name))
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
})

// startBus starts a server, again where it ran before.
func (d *deployment) startBus(t *testing.T, b *busProcess) {
	t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(b.url, "nats://"), ":")
	b.cmd = exec.Command(filepath.Join(filepath.Dir(binary), "nats-server"), "-c", filepath.Join("..", "nats", b.conf), "-p", port, "-m", "-1")
	b.cmd.Env = slices.Concat(os.Environ(), d.public, b.env, []string{"TONGAN_NATS_STORE=" + filepath.Join(d.dir, "bus"+b.name), "TONGAN_NATS_MAX_STORE=4GB"})
	b.cmd.Stderr = t.Output()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := b.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	natstest.Eventually(t, 20*time.Second, "the server listens", func() bool {
		nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
}

// startService starts a service's command.
func (d *deployment) startService(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(filepath.Dir(binary), name))
	cmd.Env = append(os.Environ(), d.as(name)...)
	if name == subject.Intake {
		cmd.Env = append(cmd.Env, "TONGAN_HEALTH_ADDR="+d.health)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	d.services[name] = cmd
}

// end ends every service, and checks that it ran until then and ends cleanly.
func (d *deployment) end(t *testing.T) {
	t.Helper()
	for name, p := range d.services {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
}

// freeAddress is an address nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// deploymentDistricts are the districts that the flags have by default.
var deploymentDistricts = []string{"440700", "440703", "440704", "440705", "440781", "440783", "440784", "440785"}
