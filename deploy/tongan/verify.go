package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/audit"
	"tongan.dev/services/healthcheck"
	"tongan.dev/services/intake"
	"tongan.dev/services/outreach"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// verifyCmd reads all events and compares the tables with them.
type verifyCmd struct {
	inspectFlags
	Repair bool `help:"Insert rows that are missing or altered, and remove those that no event gives. Streams are never changed."`
}

// errUnsound is returned when something was found that was not mended; what, was printed.
var errUnsound = errors.New("not all is as the events say, or the events are not sound")

// Run verifies the streams, then the tables, and prints what was checked and found.
func (c *verifyCmd) Run(ctx context.Context) error {
	js, conn, err := c.open()
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	defer func() { _ = conn.Close() }()
	r := &verifyReport{w: os.Stdout, repaired: c.Repair}
	for _, s := range []struct {
		service string
		folds   eventlog.Folds
	}{
		{subject.Intake, intake.Folds()},
		{subject.HealthCheck, healthcheck.Folds()},
		{subject.Outreach, outreach.Folds()},
		{subject.Reporting, reporting.Folds()},
		{subject.Audit, audit.Folds()},
	} {
		v, err := eventlog.Verify(ctx, js, s.service, s.folds)
		if err != nil {
			return err
		}
		r.stream(v)
	}
	compared, err := projector.Verify(ctx, js, conn, projector.VerifyConfig{Repair: c.Repair})
	if err != nil {
		return err
	}
	for _, t := range compared {
		r.tables(t)
	}
	return r.end()
}

// verifyReport prints what was checked and found: names, sequences and counts, and nothing of an event or row.
type verifyReport struct {
	w        io.Writer
	repaired bool
	events   uint64
	rows     uint64
	open     uint64 // findings that were not mended
	mended   uint64
}

// stream prints what was found out about a stream.
func (r *verifyReport) stream(v *eventlog.Verified) {
	fmt.Fprintf(r.w, "stream %s: %d sequences, %d sound events of %d aggregates\n", v.Stream, v.To, v.Events, v.Aggregates)
	for _, f := range v.Findings {
		fmt.Fprintf(r.w, "  WRONG  %s: %s\n", span(f.From, f.To), f.What)
	}
	if v.More > 0 {
		fmt.Fprintf(r.w, "  WRONG  %d more\n", v.More)
	}
	r.events += v.Events
	r.open += uint64(len(v.Findings)) + v.More
}

// tables prints how the tables compare with a stream.
func (r *verifyReport) tables(c *projector.Compared) {
	if c.Stream != "" {
		fmt.Fprintf(r.w, "tables of %s: %d sequences, %d rows\n", c.Stream, c.To, c.Rows)
	}
	for _, d := range c.Differences {
		outcome := ""
		if r.repaired {
			outcome = ": mended"
			r.mended++
		} else {
			r.open++
		}
		where := "of " + span(d.From, d.To)
		if d.Stream == "" {
			where = "of streams that there are not"
		}
		fmt.Fprintf(r.w, "  WRONG  table %s: %d rows missing, %d that no event gives, %d altered, %s%s\n", d.Table, d.Missing, d.Extra, d.Different, where, outcome)
	}
	if c.Stopped != nil {
		fmt.Fprintf(r.w, "  WRONG  not compared further: %v\n", c.Stopped)
		r.open++
	}
	r.rows += c.Rows
}

func span(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("sequence %d", from)
	}
	return fmt.Sprintf("sequences %d to %d", from, to)
}

// end says what was checked.
func (r *verifyReport) end() error {
	fmt.Fprintf(r.w, `checked of %d events: that they are there, checksum, header and type, that the id follows from aggregate and command, that aggregates fold
checked of %d rows: that each is there, once, as its event gives it, and that there is no other
not checked: what is sealed, keys, blind indexes, timers, references to messages put aside
`, r.events, r.rows)
	switch {
	case r.open > 0:
		fmt.Fprint(r.w, "rows come right with --repair; an event that is wrong stays so: restore the bus from a copy, or leave it, services pass it over\n")
		return fmt.Errorf("%w: %d findings, %d mended", errUnsound, r.open+r.mended, r.mended)
	case r.mended > 0:
		fmt.Fprintf(r.w, "%d findings, all mended\n", r.mended)
	default:
		fmt.Fprintln(r.w, "nothing is wrong")
	}
	return nil
}
