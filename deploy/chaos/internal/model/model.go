// Package model knows what the streams and the tables of a deployment must hold after the commands that were sent to it, and compares.
package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/audit"
	"tongan.dev/services/healthcheck"
	"tongan.dev/services/intake"
	"tongan.dev/services/outreach"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// knowledge is what a caller knows of a command it sent.
type knowledge int

const (
	// unknown: there was no answer, it is there once or not at all.
	unknown knowledge = iota
	// done: it was answered, it is there once.
	done
)

// Model is what the streams must hold, and so the tables: of each fact, such as "VisitRecorded v1", exactly one event, and no other event.
type Model struct {
	mu    sync.Mutex
	facts map[string]knowledge
	// visits is how many phone visits are done: the figure the tallies must give.
	visits int64
}

// New returns an empty model.
func New() *Model { return &Model{facts: make(map[string]knowledge)} }

// Sent notes that a command which leads to a fact goes out.
func (m *Model) Sent(fact string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.facts[fact] = max(m.facts[fact], unknown)
}

// Answered notes that it was carried out.
func (m *Model) Answered(facts ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range facts {
		m.facts[f] = done
	}
}

// Visited notes that a phone visit was recorded.
func (m *Model) Visited(id string) {
	m.Answered(VisitFact(id))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.visits++
}

// Knows reports whether something is done.
func (m *Model) Knows(fact string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.facts[fact] == done
}

// VisitFact is the fact that a visit was recorded.
func VisitFact(id string) string { return "VisitRecorded " + id }

// fact names what an event says.
func fact(e eventlog.Envelope) string {
	name := string(e.Event.ProtoReflect().Descriptor().Name())
	switch e := e.Event.(type) {
	case *outreachv1.VisitRecorded:
		return VisitFact(e.GetVisitId())
	case interface{ GetChildId() string }:
		return name + " " + e.GetChildId()
	default:
		return name
	}
}

// compare says how what was found differs from the model.
func (m *Model) compare(found map[string]int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wrong []string
	for _, f := range slices.Sorted(maps.Keys(m.facts)) {
		switch n := found[f]; {
		case n == 0 && m.facts[f] == done:
			wrong = append(wrong, "lost: "+f)
		case n > 1:
			wrong = append(wrong, fmt.Sprintf("%d times: %s", n, f))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(found)) {
		if _, is := m.facts[f]; !is {
			wrong = append(wrong, "nobody sent: "+f)
		}
	}
	return wrong
}

// settleWithin bounds how long the tables may take to follow the streams.
const settleWithin = 30 * time.Second

// decided are the streams of events about the work itself; what callers do stands in that of the service audit.
var decided = []string{subject.Intake, subject.HealthCheck, subject.Outreach, subject.Reporting}

var folds = map[string]eventlog.Folds{
	subject.Intake: intake.Folds(), subject.HealthCheck: healthcheck.Folds(), subject.Outreach: outreach.Folds(), subject.Reporting: reporting.Folds(),
	subject.Audit: audit.Folds(),
}

// Streams compares the streams with the model, and looks whether they are sound.
func (m *Model) Streams(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	var wrong []string
	for service, f := range folds {
		v, err := eventlog.Verify(ctx, js, service, f)
		if err != nil {
			return nil, err
		}
		for _, finding := range v.Findings {
			wrong = append(wrong, fmt.Sprintf("%s %d to %d: %s", v.Stream, finding.From, finding.To, finding.What))
		}
	}
	found := make(map[string]int)
	for _, service := range decided {
		to, err := eventlog.LastSequence(ctx, js, subject.Stream(service), subject.Events(service))
		if err != nil {
			return nil, err
		}
		err = eventlog.Scan(ctx, js, subject.Stream(service), 1, to, func(sequence uint64, s *jetstream.RawStreamMsg) error {
			if s == nil {
				return nil // Verify has told of it
			}
			e, err := eventlog.Decode(s.Subject, s.Header, s.Data, sequence)
			if err == nil {
				found[fact(e)]++
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return append(wrong, m.compare(found)...), nil
}

// Tables compares every table with the streams, and the figure of visits with the model.
func (m *Model) Tables(ctx context.Context, js jetstream.JetStream, conn driver.Conn) ([]string, error) {
	compared, err := projector.Verify(ctx, js, conn, projector.VerifyConfig{Settle: settleWithin})
	if err != nil {
		return nil, err
	}
	var wrong []string
	for _, c := range compared {
		for _, d := range c.Differences {
			wrong = append(wrong, fmt.Sprintf("table %s: %d rows missing, %d that no event gives, %d altered", d.Table, d.Missing, d.Extra, d.Different))
		}
	}
	var visits int64
	if err := conn.QueryRow(ctx, "SELECT sum(value) FROM "+projector.ViewDatabase+".tallies WHERE indicator = 'phone_visits'").Scan(&visits); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if visits != m.visits {
		wrong = append(wrong, fmt.Sprintf("tallies: %d phone visits, %d are done", visits, m.visits))
	}
	return wrong, nil
}
