package bus_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// start starts a bus in a folder; it ends with the test.
func start(t *testing.T, cfg bus.Config) *server.Server {
	t.Helper()
	cfg.MaxStore = natstest.MaxStore
	s, err := bus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	return s
}

func TestEveryMessageIsOnDiskBeforeItIsAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, bus.Config{Dir: dir, MonitorPort: -1})
	c := s.JetStreamConfig()
	if !c.SyncAlways {
		t.Error("SyncAlways is off")
	}
	if c.MaxStore != natstest.MaxStore || !strings.HasPrefix(c.StoreDir, dir) {
		t.Errorf("it stores %d bytes in %s", c.MaxStore, c.StoreDir)
	}
	v, err := s.Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.Host != "127.0.0.1" || v.MaxPayload != 1<<20 {
		t.Errorf("it listens on %s and takes %d bytes", v.Host, v.MaxPayload)
	}
}

// Each reason not to start is one line that says what to do.
func TestWhatKeepsABusFromStarting(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cfg  bus.Config
		want string
	}{
		{"port taken", bus.Config{Dir: t.TempDir(), Port: taken, MonitorPort: -1}, fmt.Sprintf("NATS port %d is taken: free it or choose another", taken)},
		{"monitoring port taken", bus.Config{Dir: t.TempDir(), MonitorPort: taken}, fmt.Sprintf("NATS monitoring port %d is taken: free it or choose another", taken)},
		{"folder is a file", bus.Config{Dir: file, MonitorPort: -1}, "data folder " + file + " cannot be written: choose another"},
		{"folder inside a file", bus.Config{Dir: filepath.Join(file, "bus"), MonitorPort: -1}, "data folder " + filepath.Join(file, "bus") + " cannot be written: choose another"},
		{"folder of the kernel", bus.Config{Dir: "/proc/self", MonitorPort: -1}, "data folder /proc/self cannot be written: choose another"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := bus.Start(tt.cfg)
			if err == nil {
				s.Shutdown()
				t.Fatal("it starts")
			}
			if err.Error() != tt.want {
				t.Errorf("it says %q, want %q", err, tt.want)
			}
		})
	}
}

// The streams and what they hold are there again after a clean end and a start in the same folder, and nobody else's.
func TestStreamsSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, bus.Config{Dir: dir, MonitorPort: -1})
	js := natstest.Connect(t, s.ClientURL())
	natstest.Migrate(t, js, 1)
	if _, err := js.Publish(t.Context(), "tongan.evt.intake.case.c1.case-opened", []byte("one")); err != nil {
		t.Fatal(err)
	}
	created, err := eventlog.Created(t.Context(), js, subject.Intake)
	if err != nil {
		t.Fatal(err)
	}
	js.Conn().Close()
	s.Shutdown()
	s.WaitForShutdown()

	js = natstest.Connect(t, start(t, bus.Config{Dir: dir, MonitorPort: -1}).ClientURL())
	natstest.Migrate(t, js, 1)
	if again, err := eventlog.Created(t.Context(), js, subject.Intake); err != nil || again != created {
		t.Errorf("the stream was created at %d, before the restart at %d (%v)", again, created, err)
	}
	stream, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "one" {
		t.Errorf("the first message is %v (%v)", m, err)
	}
	ack, err := js.Publish(t.Context(), "tongan.evt.intake.case.c1.case-closed", []byte("two"))
	if err != nil || ack.Sequence != 2 {
		t.Errorf("the next message is stored as %v (%v)", ack, err)
	}
}

func TestLargestMessage(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1}).ClientURL())
	if n := js.Conn().MaxPayload(); n != bus.MaxPayload {
		t.Errorf("clients are told %d bytes", n)
	}
	if err := js.Conn().Publish("one", make([]byte, bus.MaxPayload+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a larger message: %v", err)
	}
	sub, err := js.Conn().SubscribeSync("one")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Publish("one", make([]byte, bus.MaxPayload)); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(10 * time.Second); err != nil || len(m.Data) != bus.MaxPayload {
		t.Errorf("the largest message does not arrive: %v", err)
	}
}

func TestMonitoringPages(t *testing.T) {
	t.Parallel()
	s := start(t, bus.Config{Dir: t.TempDir()})
	r, err := http.Get("http://" + s.MonitorAddr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("health answers %d", r.StatusCode)
	}
	if a := start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1}).MonitorAddr(); a != nil {
		t.Errorf("monitoring that is off answers at %s", a)
	}
}

// Warnings of the server reach the log that is given; what it says otherwise does not.
func TestWarningsAreLogged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	s := start(t, bus.Config{Dir: t.TempDir(), MonitorPort: -1, Log: slog.New(slog.NewTextHandler(&b, nil))})
	s.Warnf("nobody %s", "answers")
	s.Noticef("ready")
	s.Shutdown()
	s.WaitForShutdown()
	if l := b.String(); !strings.Contains(l, "level=WARN") || !strings.Contains(l, "nobody answers") || strings.Contains(l, "ready") || strings.Contains(l, "INFO") {
		t.Errorf("logged is %s", l)
	}
}
