package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/scenario"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/projector"
)

// binary is the program under test, built without the race detector as it is shipped.
var binary string

func TestMain(m *testing.M) {
	chengine.ChildMain()
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tongan-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "tongan")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// standalone is a standalone that runs as a process of its own.
type standalone struct {
	dir, natsURL, httpURL, tcpAddr string
	cmd                            *exec.Cmd
	logs                           *natstest.Lines
	ended                          chan error
}

// startStandalone starts one on free ports and waits until it is up; it is killed with the test if it still runs.
func startStandalone(t *testing.T, dir string) *standalone {
	t.Helper()
	s := &standalone{dir: dir, logs: &natstest.Lines{}, ended: make(chan error, 1)}
	s.cmd = exec.Command(binary, "standalone", "--data", dir, "--nats-port", "0", "--nats-http-port", "0",
		"--clickhouse-http-port", "0", "--clickhouse-tcp-port", "0", "--log-level", "debug")
	s.cmd.Stderr = s.logs
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := make(chan bool)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			_, _ = fmt.Fprintln(s.logs, lines.Text())
			f := strings.Fields(lines.Text())
			switch {
			case len(f) == 2 && f[0] == "bus":
				s.natsURL = f[1]
			case len(f) == 3 && f[0] == "ClickHouse":
				s.httpURL, s.tcpAddr = f[1], f[2]
			case len(f) > 0 && f[0] == "curl":
				close(up)
			}
		}
		s.ended <- s.cmd.Wait()
	}()
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	select {
	case <-up:
	case <-time.After(60 * time.Second):
		t.Fatalf("the standalone is not up within a minute:\n%s", s.logs)
	}
	return s
}

// end sends a signal and waits for the end.
func (s *standalone) end(t *testing.T, sig os.Signal, within time.Duration) error {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		return err
	case <-time.After(within):
		t.Fatalf("the standalone has not ended within %s of %s:\n%s", within, sig, s.logs)
		return nil
	}
}

// operator is the way of the first operator to the bus.
func (s *standalone) operator(t *testing.T) *caller {
	t.Helper()
	via, err := callerFlags{NATSURL: s.natsURL, Credentials: s.operatorFile()}.caller()
	if err != nil {
		t.Fatal(err)
	}
	via.opts = append(via.opts, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	return via
}

// as returns a connection of one of the bus's own users.
func (s *standalone) as(t *testing.T, user string) jetstream.JetStream {
	t.Helper()
	keys, err := loadKeys(filepath.Join(s.dir, "credentials", "services"))
	if err != nil {
		t.Fatal(err)
	}
	return natstest.Connect(t, s.natsURL, keys.users[user].ServiceOptions(user)...)
}

// add adds a caller with the program, and returns the file of its credentials.
func (s *standalone) add(t *testing.T, id, role string, more ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), id+".nk")
	s.tongan(t, append([]string{"users", "add", id, "--role", role, "--org", "org-bureau", "--out", path}, more...)...)
	return path
}

// tongan runs the program as the first operator and returns what it prints.
func (s *standalone) tongan(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := run(t, nil, binary, append(args, "--nats-url", s.natsURL, "--credentials", s.operatorFile())...)
	if err != nil {
		t.Fatalf("tongan %v: %v\n%s%s", args, err, out, errs)
	}
	return out
}

// people lets everybody of the scenario in, with new keys.
func people(t *testing.T, via *caller) map[string]*nats.Conn {
	t.Helper()
	conns, err := enrol(t.Context(), via, "440700", scenario.Callers(scenario.Steps(scenario.DefaultSeed)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(conns) })
	return conns
}

func (s *standalone) password(t *testing.T, user string) string {
	t.Helper()
	set, err := loadSettings(s.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set.Passwords[user]
}

// query asks the engine over HTTP, as curl would, and returns status and body.
func (s *standalone) query(t *testing.T, user, sql string) (int, string) {
	t.Helper()
	at := s.httpURL + "/?" + url.Values{"user": {user}, "password": {s.password(t, user)}}.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// phoneVisits returns the figure up to 4 February as an analyst sees it.
func (s *standalone) phoneVisits(t *testing.T) string {
	t.Helper()
	code, body := s.query(t, projector.UserAnalystCity,
		"SELECT sum(value) FROM tongan.tallies WHERE indicator = 'phone_visits' AND day <= '"+sourceAsOf+"'")
	if code != http.StatusOK {
		t.Fatalf("tallies: %d %s", code, body)
	}
	return body
}

// sendAll sends the scenario and returns the figures once everything is projected.
func sendAll(t *testing.T, conns map[string]*nats.Conn) *reportingv1.Figures {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	nothing := func(scenario.Step) {}
	if err := sendSteps(ctx, conns, scenario.Steps(scenario.DefaultSeed), nothing, nothing); err != nil {
		t.Fatal(err)
	}
	ask, err := upToNow(ctx, conns[scenario.Leader], sourceAsOf)
	if err != nil {
		t.Fatal(err)
	}
	figures, err := getFigures(ctx, conns[scenario.Leader], ask)
	if err != nil {
		t.Fatal(err)
	}
	return figures
}

func run(t *testing.T, env []string, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// sendEach sends n things, several at once, and fails when one is not answered as it should be.
func sendEach(t *testing.T, n int, send func(ctx context.Context, i int) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(withTimeout(t, 2*time.Minute))
	g.SetLimit(senders)
	for i := range n {
		g.Go(func() error { return send(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// withTimeout is the test's context for at most so long.
func withTimeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestDemo runs the demonstration as a newcomer would, and looks whether it leaves anything behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	out, errs, err := run(t, []string{"TMPDIR=" + tmp}, binary, "demo")
	if err != nil {
		t.Fatalf("demo: %v\n%s", err, errs)
	}
	const want = `phone_visits      2633
sms_reminders     1684
protective_items   626
service_supports     3
special_cases       64

截至2月4日，全市累计开展电话巡访2633人次，发送短信提醒1684条次，发放防护物资626件，提供服务支援3宗，跟进特殊个案64个。
`
	if !strings.HasSuffix(out, want) {
		t.Errorf("the bulletin ends differently:\n%s", out)
	}
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	noMarkers(t, "what is printed", []byte(out+errs))
}

func TestCompareNamesTheFigureThatDiffers(t *testing.T) {
	t.Parallel()
	f := &reportingv1.Figures{}
	for name, value := range source {
		f.Figures = append(f.Figures, &reportingv1.Figure{Indicator: name, Value: value})
	}
	if err := compare(f, source); err != nil {
		t.Fatalf("equal figures differ: %v", err)
	}
	f.Figures[0].Value++
	if err := compare(f, source); err == nil || !strings.Contains(err.Error(), f.GetFigures()[0].GetIndicator()) {
		t.Fatalf("a wrong figure is reported as: %v", err)
	}
	f.Figures = f.Figures[1:]
	if err := compare(f, source); err == nil {
		t.Fatal("a missing figure is not reported")
	}
}

// TestCannotStart holds what stops a start: one line that says what to do, exit code 1, nothing half started.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	taken := natstest.Run(t).ClientURL()
	port := taken[strings.LastIndexByte(taken, ':')+1:]
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	free := []string{"--nats-port=0", "--nats-http-port=0", "--clickhouse-http-port=0", "--clickhouse-tcp-port=0"}
	for name, tt := range map[string]struct {
		args []string
		says []string
	}{
		"NATS port taken":          {[]string{"--nats-port=" + port}, []string{"port " + port, "taken"}},
		"engine port taken":        {[]string{"--clickhouse-http-port=" + port}, []string{port}},
		"data folder not writable": {[]string{"--data=" + filepath.Join(file, "data")}, []string{"data folder", "choose another"}},
		"no engine library":        {[]string{"--engine-library=" + filepath.Join(t.TempDir(), "libchdb.so")}, []string{"libchdb.so", "make engine"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			args := append(append([]string{"standalone", "--data=" + dir}, free...), tt.args...)
			out, errs, err := run(t, nil, binary, args...)
			var exit *exec.ExitError
			if exit, _ = err.(*exec.ExitError); exit == nil || exit.ExitCode() != 1 { //nolint:errorlint // what Run returns is not wrapped
				t.Fatalf("ended with %v\n%s%s", err, out, errs)
			}
			if lines := strings.Split(strings.TrimSpace(errs), "\n"); len(lines) != 1 {
				t.Errorf("says %d lines:\n%s", len(lines), errs)
			}
			for _, s := range tt.says {
				if !strings.Contains(errs, s) {
					t.Errorf("%q does not say %q", errs, s)
				}
			}
			if out != "" {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// TestInterruptedEndsCleanly ends a standalone by Ctrl-C.
func TestInterruptedEndsCleanly(t *testing.T) {
	t.Parallel()
	s := startStandalone(t, t.TempDir())
	begun := time.Now()
	if err := s.end(t, syscall.SIGINT, 20*time.Second); err != nil {
		t.Errorf("ended with %v\n%s", err, s.logs)
	}
	t.Logf("ended in %s", time.Since(begun).Round(time.Millisecond))
	if strings.Contains(s.logs.String(), "level=ERROR") {
		t.Errorf("errors were logged:\n%s", s.logs)
	}
}
