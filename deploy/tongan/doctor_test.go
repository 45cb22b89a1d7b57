package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/checkup"
	"tongan.dev/services/projector"
)

// doctor runs `tongan doctor` at what runs.
func (s *standalone) doctor(t *testing.T, more ...string) (out, errs string, err error) {
	t.Helper()
	return run(t, nil, binary, append([]string{"doctor", "--nats-url", s.natsURL, "--data", s.dir, "--clickhouse-dsn", s.dsn(t)}, more...)...)
}

// dsn is the address of the engine as migration.
func (s *standalone) dsn(t *testing.T) string {
	t.Helper()
	return "clickhouse://" + projector.UserMigration + ":" + s.password(t, projector.UserMigration) + "@" + s.tcpAddr
}

func TestTheDoctorSaysThatAllIsWellOrWhatToDo(t *testing.T) {
	t.Parallel()
	s := startStandalone(t, t.TempDir())
	out, errs, err := s.doctor(t)
	if err != nil || !strings.HasSuffix(out, " checks, all well\n") || strings.Contains(out, "WRONG") {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	for _, about := range []string{": syncs every message\n", ": clock\n", "stream TONGAN_KEYS: flags\n", "stream TONGAN_AUDIT: room\n", "tables of stream TONGAN_OUTREACH\n", "disk of "} {
		if !strings.Contains(out, about) {
			t.Errorf("it says nothing about %q:\n%s", about, out)
		}
	}
	if out, errs, err = s.doctor(t, "--replicas", "3"); err == nil || strings.Count(out, "num_replicas") != 9 || !strings.Contains(errs, "not all is as it should be: 9 of ") {
		t.Errorf("other replicas: %v\n%s%s", err, out, errs)
	}
	if out, errs, err = s.doctor(t, "--clickhouse-dsn", "clickhouse://migration:x@127.0.0.1:1"); err == nil || !strings.Contains(out, "WRONG  ClickHouse: ") || strings.Count(out, "WRONG") != 1 {
		t.Errorf("without ClickHouse: %v\n%s%s", err, out, errs)
	}
	if _, errs, err = run(t, nil, binary, "doctor", "--nats-url", s.natsURL); err == nil || !strings.Contains(errs, "name the data folder with --data, or --credentials and --clickhouse-dsn") {
		t.Errorf("without credentials: %v\n%s", err, errs)
	}
	if _, errs, err = run(t, nil, binary, "doctor", "--nats-url", s.natsURL, "--data", t.TempDir()); err == nil || !strings.Contains(errs, "cannot be read") {
		t.Errorf("a folder where nothing ran: %v\n%s", err, errs)
	}
	if err := s.end(t, syscall.SIGTERM, 20*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestTheDoctorLooksAtTheDiskForWhatTheBusMayStillTake(t *testing.T) {
	t.Parallel()
	if r := room("here", 100, 100); r.Wrong != "" {
		t.Errorf("as much as is wanted: %s", r.Wrong)
	}
	if r := room("here", 99, 100); !strings.Contains(r.Wrong, "99 bytes are free, and the bus may still write 100") || r.Do == "" {
		t.Errorf("less: %+v", r)
	}
}

func TestWhatIsWrongIsPrintedWithWhatToDo(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := prescribe(&b, []checkup.Result{{About: "this"}, {About: "that", Wrong: "is broken", Do: "mend it"}})
	if want := "ok     this\nWRONG  that: is broken\n       to do: mend it\n"; b.String() != want || err == nil {
		t.Errorf("%q, %v", b.String(), err)
	}
}
