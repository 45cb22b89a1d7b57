package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	"tongan.dev/services/audit"
	"tongan.dev/services/healthcheck"
	"tongan.dev/services/intake"
	"tongan.dev/services/outreach"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// folds say how the aggregates of each stream are folded.
func folds() map[string]eventlog.Folds {
	return map[string]eventlog.Folds{
		subject.Intake: intake.Folds(), subject.HealthCheck: healthcheck.Folds(), subject.Outreach: outreach.Folds(),
		subject.Reporting: reporting.Folds(), subject.Audit: audit.Folds(),
	}
}

// settled waits until every reaction has acknowledged all there is for it.
func (f *fleet) settled(ctx context.Context) error {
	key, err := access.LoadCredentials(f.path("operator-1.nk"))
	if err != nil {
		return err
	}
	nc, err := dial("nats://"+f.doors[Callers].addr(), key.CallerOptions()...)
	if err != nil {
		return err
	}
	defer nc.Conn().Close()
	js, err := jetstream.NewWithAPIPrefix(nc.Conn(), access.APIPrefix)
	if err != nil {
		return fmt.Errorf("consumers: %w", err)
	}
	return eventually(ctx, "all reactions are done", func() bool {
		for _, stream := range []string{subject.Stream(subject.Intake), subject.Stream(subject.Outreach), subject.StreamTimer} {
			ask, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			s, err := js.Stream(ask, stream)
			if err != nil {
				return false
			}
			consumers := s.ListConsumers(ask)
			for c := range consumers.Info() {
				if c.Config.Durable != "" && c.NumPending+uint64(c.NumAckPending) > 0 {
					return false
				}
			}
			if consumers.Err() != nil {
				return false
			}
		}
		return true
	})
}

// look reads all streams whole, waits for the projector, reads the figures, and has every stream and every table verified. Poison is what must
// be unreadable, by stream.
func (f *fleet) look(ctx context.Context, poison map[string][]uint64) (World, []Violation, error) {
	w := World{Tallies: make(map[Tally]int64), Now: time.Now()}
	js, err := f.connect(access.Inspector)
	if err != nil {
		return w, nil, err
	}
	defer js.Conn().Close()
	conn, err := f.tables()
	if err != nil {
		return w, nil, err
	}
	defer func() { _ = conn.Close() }()
	var found []Violation
	for service, fold := range folds() {
		v, err := verify(ctx, js, service, fold, poison[subject.Stream(service)])
		if err == nil {
			err = w.read(ctx, js, service)
		}
		if err != nil {
			return w, nil, err
		}
		found = append(found, v...)
	}
	compared, err := projector.Verify(ctx, js, conn, projector.VerifyConfig{Settle: 2 * time.Minute})
	if err != nil {
		return w, nil, fmt.Errorf("verify tables: %w", err)
	}
	for _, c := range compared {
		for _, d := range c.Differences {
			class := Wrong
			if d.Missing > 0 {
				class = Lost
			}
			found = append(found, Violation{class, "table " + d.Table, fmt.Sprintf("%s/%d to %d: %d rows missing, %d that no event gives, %d altered", d.Stream, d.From, d.To, d.Missing, d.Extra, d.Different)})
		}
		if c.Stopped != nil {
			found = append(found, Violation{Wrong, "tables of " + c.Stream, c.Stopped.Error()})
		}
	}
	return w, found, f.figures(ctx, conn, poison, &w, &found)
}

// tables connects to the engine.
func (f *fleet) tables() (driver.Conn, error) {
	opts, err := chclient.Options(f.dsn(projector.UserMigration), transport.TLS{}, false)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("clickhouse: %w", err)
	}
	return conn, nil
}

// verify has a stream verified; poison is what must be unreadable.
func verify(ctx context.Context, js jetstream.JetStream, service string, fold eventlog.Folds, poison []uint64) ([]Violation, error) {
	stream := subject.Stream(service)
	verified, err := eventlog.Verify(ctx, js, service, fold)
	if err != nil {
		return nil, fmt.Errorf("verify %s: %w", stream, err)
	}
	var found []Violation
	for _, v := range verified.Findings {
		for s := v.From; s <= v.To; s++ {
			if !slices.Contains(poison, s) {
				found = append(found, Violation{Wrong, fmt.Sprintf("%s/%d", stream, s), v.What})
			}
		}
	}
	return found, nil
}

// read reads a whole stream.
func (w *World) read(ctx context.Context, js jetstream.JetStream, service string) error {
	stream := subject.Stream(service)
	end, err := eventlog.LastSequence(ctx, js, stream, subject.Events(service))
	if err != nil {
		return fmt.Errorf("end of %s: %w", stream, err)
	}
	err = eventlog.Scan(ctx, js, stream, 1, end, func(sequence uint64, m *jetstream.RawStreamMsg) error {
		if m == nil {
			w.Missing = append(w.Missing, fmt.Sprintf("%s/%d", stream, sequence))
			return nil
		}
		e, err := eventlog.Decode(m.Subject, m.Header, m.Data, sequence)
		if err != nil || e.Subject.Aggregate == subject.Trail {
			return nil // what cannot be read is said by Verify; of the trail no command is the cause
		}
		w.Events = append(w.Events, Stored{
			Stream: stream, Sequence: sequence, Key: e.Subject.Key(e.Subject.ID), Type: string(e.Event.ProtoReflect().Descriptor().Name()),
			ID: e.ID, Command: e.Command, Event: e.Event,
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	return nil
}

// figures reads what the view tallies says, and how many messages the projector could not read.
func (f *fleet) figures(ctx context.Context, conn driver.Conn, poison map[string][]uint64, w *World, found *[]Violation) (err error) {
	rows, err := conn.Query(ctx, "SELECT toString(indicator), toString(adm_code), sum(value) FROM tongan.tallies GROUP BY ALL")
	if err != nil {
		return fmt.Errorf("read tallies: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var t Tally
		var n int64
		if err := rows.Scan(&t.Indicator, &t.AdmCode, &n); err != nil {
			return fmt.Errorf("read tallies: %w", err)
		}
		w.Tallies[t] = n
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read tallies: %w", err)
	}
	want := uint64(0)
	for _, s := range subject.Services() {
		want += uint64(len(poison[subject.Stream(s)]))
	}
	var got uint64
	if err := conn.QueryRow(ctx, "SELECT count(), version() FROM tongan_g1.journal FINAL WHERE kind = 'poison'").Scan(&got, &w.Engine); err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	if got != want {
		*found = append(*found, Violation{Wrong, "journal", fmt.Sprintf("%d messages could not be read, must be %d", got, want)})
	}
	return nil
}
