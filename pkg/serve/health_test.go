package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// free is an address nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// health is the code that /healthz answers; 0 is no answer.
func health(t *testing.T, addr string) int {
	t.Helper()
	r, err := http.Get("http://" + addr + "/healthz")
	if err != nil {
		return 0
	}
	_ = r.Body.Close()
	return r.StatusCode
}

func TestAProcessIsHealthyAsLongAsItsBusIs(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t)
	cfg := Config{
		NATSURL: s.ClientURL(), Credentials: natstest.Credentials(t, s.ClientURL(), subject.Intake), HealthAddr: free(t), LogLevel: slog.LevelError + 1,
	}
	cfg.Districts = []string{"440703"}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	given := make(chan *Runtime, 1)
	go func() {
		ended <- process(ctx, subject.Intake, cfg, func(rt *Runtime) error {
			given <- rt
			<-ctx.Done()
			return fmt.Errorf("one: %w", ctx.Err())
		})
	}()
	rt := <-given
	if len(rt.Districts) != 1 || rt.Clock.Now().Before(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("it runs with districts %v at %s", rt.Districts, rt.Clock.Now())
	}
	natstest.Eventually(t, 10*time.Second, "it is healthy", func() bool { return health(t, cfg.HealthAddr) == http.StatusOK })
	s.Shutdown()
	natstest.Eventually(t, 10*time.Second, "it is not", func() bool { return health(t, cfg.HealthAddr) == http.StatusServiceUnavailable })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("interrupted it ends with %v", err)
	}
	if code := health(t, cfg.HealthAddr); code != 0 {
		t.Errorf("after the end health answers %d", code)
	}
}

func TestAProcessThatCannotStartSaysWhatToDo(t *testing.T) {
	t.Parallel()
	run := func(*Runtime) error { return errors.New("it runs") }
	there, nobody := natstest.Run(t).ClientURL(), "nats://"+free(t)
	credentials := natstest.Credentials(t, there, subject.Intake)
	err := process(t.Context(), subject.Intake, Config{NATSURL: nobody, Credentials: credentials, LogLevel: slog.LevelError + 1}, run)
	if err == nil || !strings.Contains(err.Error(), "no bus at "+nobody) || !strings.Contains(err.Error(), "--nats-url") {
		t.Errorf("without a bus: %v", err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().String()
	err = process(t.Context(), subject.Intake, Config{NATSURL: there, Credentials: credentials, HealthAddr: taken, LogLevel: slog.LevelError + 1}, run)
	if err == nil || !strings.Contains(err.Error(), "health address "+taken) {
		t.Errorf("without a place for health: %v", err)
	}
	if err := os.Chmod(credentials, 0o640); err != nil {
		t.Fatal(err)
	}
	err = process(t.Context(), subject.Intake, Config{NATSURL: there, Credentials: credentials, LogLevel: slog.LevelError + 1}, run)
	if err == nil || !strings.Contains(err.Error(), "others may read the file") {
		t.Errorf("with credentials that others may read: %v", err)
	}
}
