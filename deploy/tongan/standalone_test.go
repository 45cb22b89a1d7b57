package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/projector"
)

// TestStandalone sends the scenario to a standalone and then looks at it as each of its users would. The steps share what was sent.
func TestStandalone(t *testing.T) {
	t.Parallel()
	s := startStandalone(t, t.TempDir())
	outside := newOutsider(t, s)
	conns := people(t, s.operator(t))
	if err := compare(sendAll(t, conns), source); err != nil {
		t.Fatal(err)
	}
	ok := t.Run("an outside reader sees events and nothing else", func(t *testing.T) { outside.check(t, s) }) &&
		t.Run("sent again nothing changes", func(t *testing.T) { sentAgain(t, s, conns) }) &&
		t.Run("analyst over HTTP and TCP", func(t *testing.T) { analyst(t, s) }) &&
		t.Run("report", func(t *testing.T) { report(t, s, conns) }) &&
		t.Run("NATS CLI", func(t *testing.T) { natsCLI(t, s) }) &&
		t.Run("what a caller may not", func(t *testing.T) { refusals(t, s, conns) }) &&
		t.Run("a child's details", func(t *testing.T) { childDetails(t, s, conns) }) &&
		t.Run("a child is forgotten", func(t *testing.T) { forgotten(t, s, conns) }) &&
		t.Run("a caller is revoked", func(t *testing.T) { revoked(t, s, conns) }) &&
		t.Run("an operator changes its key", func(t *testing.T) { rotated(t, s) }) &&
		t.Run("poison", func(t *testing.T) { poison(t, s) }) &&
		t.Run("personal details in payloads", func(t *testing.T) { payloads(t, s) }) &&
		t.Run("personal details in tables", func(t *testing.T) { tables(t, s) })
	if err := s.end(t, syscall.SIGTERM, 20*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	if ok {
		t.Run("personal details in files and logs", func(t *testing.T) { files(t, s) })
	}
}

func sizes(t *testing.T, s *standalone) map[string]uint64 {
	t.Helper()
	js, out := s.as(t, access.Migration), make(map[string]uint64)
	for _, service := range subject.Services() {
		st, err := js.Stream(t.Context(), subject.Stream(service))
		if err != nil {
			t.Fatal(err)
		}
		out[service] = st.CachedInfo().State.LastSeq
	}
	return out
}

func sentAgain(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	before := sizes(t, s)
	if err := compare(sendAll(t, conns), source); err != nil {
		t.Error(err)
	}
	if after := sizes(t, s); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the streams hold %v, before %v", after, before)
	}
}

// analyst reads the tallies over both interfaces and is refused everything else.
func analyst(t *testing.T, s *standalone) {
	t.Helper()
	if got := s.phoneVisits(t); got != "2633" {
		t.Errorf("phone_visits over HTTP: %s", got)
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{s.tcpAddr}, Auth: clickhouse.Auth{Username: projector.UserAnalystCity, Password: s.password(t, projector.UserAnalystCity)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var total int64
	err = conn.QueryRow(t.Context(), "SELECT sum(value) FROM tongan.tallies WHERE indicator = 'sms_reminders' AND day <= '"+sourceAsOf+"'").Scan(&total)
	if err != nil || total != 1684 {
		t.Errorf("sms_reminders over TCP: %d, %v", total, err)
	}
	for _, refused := range []string{
		"SELECT * FROM tongan_g1.facts", "SELECT * FROM tongan_g1.journal", "INSERT INTO tongan_g1.facts (stream) VALUES ('x')",
		"CREATE TABLE tongan.t (a Int8) ENGINE = Memory", "DROP VIEW tongan.tallies", "SELECT * FROM file('/etc/passwd', 'LineAsString')",
		"SELECT file('/etc/passwd')", "SELECT * FROM url('http://127.0.0.1/', 'LineAsString')", "SELECT * FROM system.processes",
		"SELECT * FROM system.users", "SHOW USERS", "SYSTEM SHUTDOWN", "KILL QUERY WHERE 1", "GRANT SELECT ON *.* TO analyst_city",
		"SELECT * FROM tongan.tallies SETTINGS max_execution_time = 100000",
	} {
		if code, body := s.query(t, projector.UserAnalystCity, refused); code == http.StatusOK {
			t.Errorf("allowed: %s: %s", refused, body)
		}
		if err := conn.Exec(t.Context(), refused); err == nil {
			t.Errorf("allowed over TCP: %s", refused)
		}
	}
}

// report prints the figures in every form, publishes them once, and reads them again from the cut.
func report(t *testing.T, s *standalone, conns map[string]*nats.Conn) {
	t.Helper()
	leader := []string{"--nats-url", s.natsURL, "--credentials", s.add(t, "leader-9", "BUREAU_LEADER")}
	before := sizes(t, s)[subject.Reporting]
	for format, want := range map[string]string{
		"text": "电话巡访2633人次", "json": `"indicator":"phone_visits"`, "csv": "phone_visits,1,,2633,人次",
	} {
		for range 2 {
			out, errs, err := run(t, nil, binary, append([]string{"report", "--as-of", sourceAsOf, "--format", format}, leader...)...)
			if err != nil || !strings.Contains(strings.ReplaceAll(out, " ", ""), want) {
				t.Fatalf("%s: %v\n%s%s", format, err, out, errs)
			}
		}
	}
	out, errs, err := run(t, nil, binary, append([]string{"report", "--as-of", sourceAsOf, "--by", "district", "--lang", "en"}, leader...)...)
	if err != nil || !strings.Contains(out, "Pengjiang") || !strings.Contains(out, "2633 phone visits") {
		t.Fatalf("by district: %v\n%s%s", err, out, errs)
	}
	if n := sizes(t, s)[subject.Reporting] - before; n != 2 {
		t.Errorf("%d bulletins were published, want one for the whole and one by district", n)
	}
	was := phoneVisitsReported(t, leader)
	late := &outreachv1.RecordVisit{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(time.Date(2020, 2, 5, 1, 0, 0, 0, time.UTC)), AdmCode: "440703",
		},
		VisitId: "just-now", Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		Children: []*outreachv1.ChildSpokenAbout{{ChildId: "child-1", AdmCode: "440703"}},
	}
	if err := request(t.Context(), conns["w-101"], "tongan.cmd.outreach.visit.record", late, newReply()); err != nil {
		t.Fatal(err)
	}
	if is := phoneVisitsReported(t, leader); is != was+1 { // what was answered counts, projected or not
		t.Errorf("a visit recorded just before the report: %d, before it %d", is, was)
	}
	if _, _, err := run(t, nil, binary, append([]string{"report", "--as-of", "2020-01-22"}, leader...)...); err == nil {
		t.Error("a day before the baseline was reported")
	}
}

// phoneVisitsReported returns the figure as of 5 February as a draft says.
func phoneVisitsReported(t *testing.T, leader []string) int {
	t.Helper()
	out, errs, err := run(t, nil, binary, append([]string{"report", "--draft", "--as-of", "2020-02-05", "--format", "csv"}, leader...)...)
	if err != nil {
		t.Fatalf("report: %v\n%s", err, errs)
	}
	_, rest, _ := strings.Cut(out, ",phone_visits,1,,")
	value, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("no phone_visits in\n%s", out)
	}
	return n
}

// natsCLI does with the real NATS CLI, with contexts that the program saved, what the README says an operator and a worker can do.
func natsCLI(t *testing.T, s *standalone) {
	t.Helper()
	cli := filepath.Join("..", "..", ".bin", "nats")
	if _, err := os.Stat(cli); err != nil {
		t.Fatalf("the NATS CLI is missing: run `make .bin/nats` (%v)", err)
	}
	env := []string{"XDG_CONFIG_HOME=" + t.TempDir()}
	worker := s.add(t, "worker-1", "SOCIAL_WORKER", "--district", "440703")
	for name, file := range map[string]string{"operator": filepath.Join(s.dir, "credentials", "operator-1.nk"), "worker": worker} {
		if out, errs, err := run(t, env, binary, "context", "save", name, "--nats-url", s.natsURL, "--credentials", file); err != nil {
			t.Fatalf("context save: %v\n%s%s", err, out, errs)
		}
	}
	call := func(context string, args ...string) string {
		out, errs, err := run(t, env, cli, append([]string{"--context", context}, args...)...)
		if err != nil {
			t.Fatalf("nats %v: %v\n%s%s", args, err, out, errs)
		}
		return out + errs
	}
	list := call("operator", "micro", "ls")
	for _, name := range []string{"tongan-intake", "tongan-healthcheck", "tongan-outreach", "tongan-reporting", "tongan-projector", "tongan-audit"} {
		if !strings.Contains(list, name) {
			t.Errorf("micro ls does not show %s:\n%s", name, list)
		}
	}
	for _, want := range []struct {
		says string
		args []string
	}{
		{"tongan.cmd.outreach.visit.record", []string{"micro", "info", "tongan-outreach"}},
		{"tongan-outreach", []string{"micro", "stats", "tongan-outreach"}},
		{"tongan-intake", []string{"micro", "ping", "tongan-intake"}},
		{"TONGAN_OUTREACH", []string{"stream", "ls", "--all"}},
		{"TONGAN_AUDIT", []string{"stream", "report"}},
		{"tongan.evt.outreach.>", []string{"stream", "info", "TONGAN_OUTREACH"}},
		{"Subject: tongan.evt.outreach.", []string{"stream", "get", "TONGAN_OUTREACH", "1"}},
		{"outreach-gateway", []string{"consumer", "ls", "TONGAN_OUTREACH"}},
		{"Acknowledgment", []string{"consumer", "info", "TONGAN_OUTREACH", "outreach-gateway"}},
		{"outreach-gateway", []string{"consumer", "report", "TONGAN_OUTREACH"}},
	} {
		if out := call("operator", want.args...); !strings.Contains(out, want.says) {
			t.Errorf("nats %v does not show %q:\n%s", want.args, want.says, out)
		}
	}
	shown := make(chan string, 1)
	go func() {
		shown <- call("operator", "sub", "tongan.evt.>", "--count", "1", "--translate", binary+" decode {{Subject}}")
	}()
	natstest.Eventually(t, 10*time.Second, "the CLI has subscribed", func() bool { return subscribed(t, s) })
	before := s.phoneVisits(t)
	const command = `{"visitId":"cli-1","channel":"VISIT_CHANNEL_PHONE","outcome":"VISIT_OUTCOME_REACHED",
		"provenance":{"occurredAt":"2020-02-04T02:00:00Z","admCode":"440703"},
		"children":[{"childId":"child-1","category":"POPULATION_CATEGORY_LEFT_BEHIND","admCode":"440703"}]}`
	first := call("worker", "req", "tongan.cmd.outreach.visit.record", command, "--raw")
	natstest.Eventually(t, 2*time.Second, "the figure is one higher", func() bool {
		return fmt.Sprint(s.phoneVisits(t)) == "2634" && before == "2633"
	})
	again := call("worker", "req", "tongan.cmd.outreach.visit.record", command, "--raw")
	if strings.ReplaceAll(again, " ", "") != strings.Replace(strings.ReplaceAll(first, " ", ""), `"again":false`, `"again":true`, 1) {
		t.Errorf("the same request again is answered %s, at first %s", again, first)
	}
	if got := s.phoneVisits(t); got != "2634" {
		t.Errorf("after the same request again the figure is %s", got)
	}
	select {
	case out := <-shown:
		if !strings.Contains(out, `"visitId":"cli-1"`) && !strings.Contains(out, `"visitId": "cli-1"`) {
			t.Errorf("nats sub --translate shows:\n%s", out)
		}
	case <-time.After(20 * time.Second):
		t.Error("nats sub shows nothing")
	}
}

// subscribed reports whether the NATS CLI subscribes to all events.
func subscribed(t *testing.T, s *standalone) bool {
	t.Helper()
	for line := range strings.SplitSeq(s.logs.String(), "\n") {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "monitoring" {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(f[1], "/healthz", "/connz?subs=1&limit=10000", 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			var connz server.Connz
			if err := json.NewDecoder(resp.Body).Decode(&connz); err != nil {
				return false
			}
			return slices.ContainsFunc(connz.Conns, func(c *server.ConnInfo) bool {
				return strings.HasPrefix(c.Name, "NATS CLI") && slices.Contains(c.Subs, "tongan.evt.>")
			})
		}
	}
	return false
}

// poison puts a message on an event subject that does not decode, beside the command path: it is kept aside, and everything goes on.
func poison(t *testing.T, s *standalone) {
	t.Helper()
	const at = "tongan.evt.intake.case.alone.case-opened"
	ack, err := s.as(t, subject.Intake).Publish(t.Context(), at, []byte("neither this nor that"))
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 10*time.Second, "the message is in the journal as poison", func() bool {
		_, body := s.query(t, projector.UserAnalystCity, fmt.Sprintf("SELECT kind FROM tongan.journal WHERE stream = 'TONGAN_INTAKE' AND seq = %d", ack.Sequence))
		return body == "poison"
	})
	nc, err := s.operator(t).connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := fmt.Sprintf(`{"last_by_subj":%q}`, subject.Dead("projector", "TONGAN_INTAKE", ack.Sequence))
	m, err := nc.Request(access.APIPrefix+".STREAM.MSG.GET."+subject.StreamDead, []byte(ask), 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"message"`) {
		t.Errorf("no reference in the dead-letter stream: %v", err)
	}
}

// payloads looks for personal details in every event, as bytes and decoded. The streams of keys and of dead letters nobody may read; they
// are searched with all other files.
func payloads(t *testing.T, s *standalone) {
	t.Helper()
	for name, user := range map[string]string{
		"TONGAN_INTAKE": access.Projector, "TONGAN_HEALTHCHECK": access.Projector, "TONGAN_OUTREACH": access.Projector,
		"TONGAN_REPORTING": access.Projector, "TONGAN_AUDIT": subject.Audit,
	} {
		natstest.Each(t, s.as(t, user), name, func(m jetstream.Msg) {
			noMarkers(t, m.Subject(), fmt.Append(nil, m.Subject(), m.Headers()))
			noMarkers(t, m.Subject(), m.Data())
			if text, err := decode(m.Subject(), m.Data()); err == nil {
				noMarkers(t, m.Subject(), []byte(text))
			}
		})
	}
}

// tables looks for personal details in every row of every base table.
func tables(t *testing.T, s *standalone) {
	t.Helper()
	_, list := s.query(t, projector.UserReporting, "SELECT name FROM system.tables WHERE database = 'tongan_g1' AND engine LIKE '%MergeTree'")
	names := strings.Fields(list)
	if len(names) < 8 {
		t.Fatalf("tables are %v", names)
	}
	for _, name := range names {
		code, rows := s.query(t, projector.UserReporting, "SELECT * FROM tongan_g1."+name+" FORMAT JSONEachRow")
		if code != http.StatusOK {
			t.Errorf("%s: %s", name, rows)
		}
		noMarkers(t, "table "+name, []byte(rows))
	}
}

// files looks for personal details in every file of the data folder and in the logs, which were written at level debug.
func files(t *testing.T, s *standalone) {
	t.Helper()
	noMarkers(t, "logs", []byte(s.logs.String()))
	var searched int
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		searched += len(content)
		noMarkers(t, path, content)
		return err
	})
	if err != nil || searched < 1<<20 {
		t.Errorf("searched %d bytes, %v", searched, err)
	}
}

// markers are the personal details of the scenario by their first four bytes: looked for one by one in every file they took minutes.
var markers = sync.OnceValue(func() map[[4]byte][]string {
	all := make(map[[4]byte][]string)
	for _, m := range scenario.Markers(scenario.DefaultSeed) {
		all[[4]byte([]byte(m))] = append(all[[4]byte([]byte(m))], m)
	}
	return all
})

// marker returns where a personal detail of the scenario stands, -1 if nowhere.
func marker(content []byte) int {
	all := markers()
	var first [256]bool
	for key := range all {
		first[key[0]] = true
	}
	for i := 0; i+4 <= len(content); i++ {
		if !first[content[i]] {
			continue
		}
		for _, m := range all[[4]byte(content[i:i+4])] {
			if bytes.HasPrefix(content[i:], []byte(m)) {
				return i
			}
		}
	}
	return -1
}

// noMarkers fails when a personal detail of the scenario is found.
func noMarkers(t *testing.T, where string, content []byte) {
	t.Helper()
	if at := marker(content); at >= 0 {
		t.Fatalf("%s holds a personal detail at byte %d", where, at)
	}
}

// The search finds what it looks for, wherever it stands.
func TestMarkersAreFound(t *testing.T) {
	t.Parallel()
	for _, m := range scenario.Markers(scenario.DefaultSeed) {
		for before, content := range []string{m, "x" + m, "+z" + m + "x"} {
			if at := marker([]byte(content)); at != before {
				t.Fatalf("a planted marker is found at %d, not %d", at, before)
			}
		}
	}
}
