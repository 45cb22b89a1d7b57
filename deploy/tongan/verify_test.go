package main

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/chtest"
)

// verify runs `tongan verify` at what runs.
func (s *standalone) verify(t *testing.T, more ...string) (out, errs string, err error) {
	t.Helper()
	return run(t, nil, binary, append([]string{"verify", "--nats-url", s.natsURL, "--data", s.dir, "--clickhouse-dsn", s.dsn(t)}, more...)...)
}

func TestHarmToTheTablesIsNamedAndMended(t *testing.T) {
	t.Parallel()
	s := startStandalone(t, t.TempDir())
	sendAll(t, people(t, s.operator(t)))
	clean := regexp.MustCompile(`(?s)^stream TONGAN_INTAKE: [1-9]\d+ sequences, [1-9]\d+ sound events of [1-9]\d+ aggregates\n.*stream TONGAN_AUDIT: .*` +
		`tables of TONGAN_OUTREACH: [1-9]\d+ sequences, [1-9]\d+ rows\n.*checked of .*nothing is wrong\n$`)
	if out, errs, err := s.verify(t); err != nil || !clean.MatchString(out) || strings.Contains(out, "WRONG") {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	opts, err := clickhouse.ParseDSN(s.dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	chtest.Exec(t, conn, "ALTER TABLE tongan_g1.facts DELETE WHERE stream = 'TONGAN_OUTREACH' AND seq BETWEEN 100 AND 199 SETTINGS mutations_sync = 2",
		"INSERT INTO tongan_g1.visits (stream, seq, n) VALUES ('TONGAN_OUTREACH', 1, 99)")
	out, errs, err := s.verify(t)
	if err == nil || strings.Count(out, "WRONG") != 2 || !strings.Contains(errs, "2 findings, 0 mended") {
		t.Errorf("harm: %v\n%s%s", err, out, errs)
	}
	for _, line := range []string{`WRONG  table facts: \d+ rows missing, 0 that no event gives, 0 altered, of sequences 0 to \d+\n`, `WRONG  table visits: 0 rows missing, 1 that no event gives, 0 altered, of`} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("it does not say %s:\n%s", line, out)
		}
	}
	if out, errs, err = s.verify(t, "--repair"); err != nil || !strings.HasSuffix(out, "2 findings, all mended\n") {
		t.Errorf("repaired: %v\n%s%s", err, out, errs)
	}
	if out, errs, err = s.verify(t); err != nil || !clean.MatchString(out) {
		t.Errorf("afterwards: %v\n%s%s", err, out, errs)
	}
	if strings.Contains(out+errs, "child-") {
		t.Error("what is printed names a child")
	}
	if err := s.end(t, syscall.SIGTERM, 20*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
}
