package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/natstest"
)

// A server that is killed runs again, with all that it holds, and ends with who supervises it.
func TestASupervisedServerRunsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := filepath.Join(dir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", server, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	store, pids, port, monitor := filepath.Join(dir, "store"), filepath.Join(dir, "pid"), freePort(t), freePort(t)
	cmd := exec.Command(binary, "supervise", "--store", store, "--health", fmt.Sprintf("http://127.0.0.1:%d/healthz", monitor), server,
		"--jetstream", "--store_dir", store, "--addr", "127.0.0.1", "--port", fmt.Sprint(port), "--http_port", fmt.Sprint(monitor), "--pid", pids)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	listens := func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	}
	natstest.Eventually(t, 20*time.Second, "the server listens", listens)
	js := natstest.Connect(t, fmt.Sprintf("nats://127.0.0.1:%d", port))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	killed := pidIn(t, pids)
	if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 30*time.Second, "it runs again, with what it held", func() bool {
		s, err := js.Stream(t.Context(), "S")
		return err == nil && s.CachedInfo().State.Msgs == 1 && pidIn(t, pids) != killed
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || listens() {
		t.Errorf("ended with %v; the server listens: %v", err, listens())
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// pidIn is the process id in a file; 0 if there is none.
func pidIn(t *testing.T, file string) (pid int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	_, _ = fmt.Sscan(strings.TrimSpace(string(text)), &pid)
	return pid
}
