package projector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/transport"
)

// Where a projector that is measured finds bus and engine; the variables mark its process.
const (
	benchBus    = "TONGAN_BENCH_BUS"
	benchEngine = "TONGAN_BENCH_ENGINE"
)

// projectorMain is a process that does nothing but project, so that what it needs can be told from what bus and benchmark need. It ends with
// its input. In any other process it does nothing.
func projectorMain() {
	if os.Getenv(benchBus) == "" {
		return
	}
	if err := project(os.Getenv(benchBus), os.Getenv(benchEngine)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func project(bus, engine string) error {
	nc, err := nats.Connect(bus, nats.SyncQueueLen(eventlog.ReadQueue))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	conn, err := connect(engine)
	if err != nil {
		return err
	}
	p, err := New(js, conn, Config{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	return p.Run(ctx)
}

// connect makes the connection that the service makes.
func connect(dsn string) (driver.Conn, error) {
	opts, err := chclient.Options(dsn, transport.TLS{}, false)
	if err != nil {
		return nil, err
	}
	return clickhouse.Open(opts)
}

// rebuilt is what it took to fill the tables.
type rebuilt struct {
	took     time.Duration
	computed time.Duration // by the projector's process alone
	mostMB   float64       // that it held
}

// rebuild runs a projector in a process of its own until the tables hold all that the streams hold.
func rebuild(b *testing.B, js jetstream.JetStream, e *chengine.Engine) rebuilt {
	b.Helper()
	goals, conn := targets(b, js), benchConn(b, e)
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe")
	cmd.Env = []string{benchBus + "=" + js.Conn().ConnectedUrl(), benchEngine + "=" + e.DSN(UserProjector)}
	cmd.Stdout, cmd.Stderr = b.Output(), b.Output()
	input, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	var got rebuilt
	looked := begun
	for range time.Tick(100 * time.Millisecond) {
		now, most := resident(b, cmd.Process.Pid)
		got.mostMB = most
		at, err := Watermarks(b.Context(), conn)
		if err != nil {
			b.Fatal(err)
		}
		if reached(at, goals) {
			break
		}
		if time.Since(looked) > 10*time.Second {
			looked = time.Now()
			b.Logf("after %s: %.0f MB resident, at %v", time.Since(begun).Round(time.Second), now, at)
		}
	}
	got.took = time.Since(begun)
	_ = input.Close()
	if err := cmd.Wait(); err != nil {
		b.Fatal(err)
	}
	got.computed = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return got
}

// resident returns how much memory a process holds, and the most that it held, in MB.
func resident(tb testing.TB, pid int) (now, most float64) {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "VmHWM: %f kB", &most)
		_, _ = fmt.Sscanf(line, "VmRSS: %f kB", &now)
	}
	return now / 1024, most / 1024
}

// computing returns how many seconds of a processor this process has used.
func computing(tb testing.TB) float64 {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
