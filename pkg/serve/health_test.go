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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"tongan.dev/pkg/eventlog"
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

// A bus that answers but does not store is an alarm: an error in the log, and in both kinds of health, until it stores again.
func TestAServiceGivesTheAlarmWhileTheBusDoesNotStore(t *testing.T) {
	t.Parallel()
	js, logged, addr := natstest.Bus(t), &natstest.Lines{}, free(t)
	rt := &Runtime{JS: js, Log: slog.New(slog.NewTextHandler(logged, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	end, err := serveHealth(ctx, addr, rt)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, rt, subject.Intake, "keeps nothing", nil) }()
	healthy := func() bool {
		m, err := js.Conn().Request(subject.Health(subject.Intake), nil, time.Second)
		return err == nil && m.Header.Get(micro.ErrorCodeHeader) == "" && health(t, addr) == http.StatusOK
	}
	natstest.Eventually(t, 10*time.Second, "it is healthy", healthy)
	had := setRoom(t, js, 1)
	publish := func() error {
		_, err := eventlog.Publish(ctx, js, &nats.Msg{Subject: "tongan.evt.intake.child.c1.child-moved"})
		return err
	}
	if err := publish(); err == nil {
		t.Fatal("a stream without room takes a message")
	}
	natstest.Eventually(t, 5*time.Second, "both say what is wrong", func() bool {
		m, err := js.Conn().Request(subject.Health(subject.Intake), nil, time.Second)
		return err == nil && m.Header.Get(micro.ErrorHeader) == notStored && health(t, addr) == http.StatusServiceUnavailable
	})
	if n := strings.Count(logged.String(), `level=ERROR msg="the bus does not store"`); n != 1 {
		t.Errorf("the alarm is given %d times:\n%s", n, logged)
	}
	setRoom(t, js, had)
	if err := publish(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 5*time.Second, "it is healthy again", healthy)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !strings.Contains(logged.String(), "the bus stores again") {
		t.Errorf("the log is\n%s", logged)
	}
}

// setRoom gives the stream so many bytes of room, and returns how many it had.
func setRoom(t *testing.T, js jetstream.JetStream, bytes int64) int64 {
	t.Helper()
	s, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	had := cfg.MaxBytes
	cfg.MaxBytes = bytes
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	return had
}
