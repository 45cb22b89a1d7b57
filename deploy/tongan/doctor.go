package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/checkup"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// doctorCmd looks at a bus and a ClickHouse and changes nothing.
type doctorCmd struct {
	inspectFlags
	Replicas int `env:"TONGAN_REPLICAS" default:"1" help:"How many servers are to hold each stream."`
}

// errUnwell is returned when something is wrong; what, was printed.
var errUnwell = errors.New("not all is as it should be")

// Run checks everything and prints a line for each, and what to do.
func (c *doctorCmd) Run(ctx context.Context) error {
	js, conn, err := c.open()
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	defer func() { _ = conn.Close() }()
	results, err := diagnose(ctx, js, conn, c.Replicas, time.Now)
	if err != nil {
		return err
	}
	if c.Data != "" {
		disk, err := diskRoom(ctx, js, c.Data)
		if err != nil {
			return err
		}
		results = append(results, disk)
	}
	return prescribe(os.Stdout, results)
}

// diagnose checks the streams, the servers that hold them, and whether the tables are those of the streams.
func diagnose(ctx context.Context, js jetstream.JetStream, conn driver.Conn, replicas int, now func() time.Time) ([]checkup.Result, error) {
	var results []checkup.Result
	var infos []*jetstream.StreamInfo
	for _, s := range eventlog.Streams(eventlog.StreamOptions{}) {
		stream, info, err := checkup.Stream(ctx, js, s.Name, replicas)
		if err != nil {
			return nil, err
		}
		if results = append(results, stream...); info != nil {
			infos = append(infos, info)
		}
	}
	servers, err := checkup.Bus(ctx, js.Conn(), now, infos...)
	if err != nil {
		return nil, err
	}
	return append(append(servers, results...), projected(ctx, js, conn)...), nil
}

// projected checks of each stream whether the tables hold it and not another of its name.
func projected(ctx context.Context, js jetstream.JetStream, conn driver.Conn) []checkup.Result {
	if err := conn.Ping(ctx); err != nil {
		return []checkup.Result{{About: "ClickHouse", Wrong: err.Error(), Do: "start it, or name another with --clickhouse-dsn"}}
	}
	var out []checkup.Result
	for _, service := range subject.Services() {
		r := checkup.Result{About: "tables of stream " + subject.Stream(service)}
		switch err := projector.Identity(ctx, js, conn, service); {
		case errors.Is(err, projector.ErrGeneration):
			r.Wrong, r.Do = err.Error(), "the projector does not go on before"
		case err != nil:
			r.Wrong, r.Do = err.Error(), "run `tongan migrate` if the tables were never made"
		}
		out = append(out, r)
	}
	return out
}

// diskRoom checks that the disk of a data folder still has what the bus in it may take.
func diskRoom(ctx context.Context, js jetstream.JetStream, dir string) (checkup.Result, error) {
	s, err := readSettings(dir)
	if err != nil {
		return checkup.Result{}, err
	}
	free, err := freeBytes(dir)
	if err != nil {
		return checkup.Result{}, err
	}
	var used int64
	for _, declared := range eventlog.Streams(eventlog.StreamOptions{}) {
		if stream, err := js.Stream(ctx, declared.Name); err == nil { // one that does not exist was told of
			used += int64(stream.CachedInfo().State.Bytes)
		}
	}
	return room(dir, free, s.MaxStore-used), nil
}

// room says whether a disk has what may still be written.
func room(dir string, free, wanted int64) checkup.Result {
	r := checkup.Result{About: "disk of " + dir}
	if free < wanted {
		r.Wrong = fmt.Sprintf("%d bytes are free, and the bus may still write %d: a disk that is full stops it without a word", free, wanted)
		r.Do = "remove what else is on it, or move the folder to a larger one"
	}
	return r
}

// prescribe prints what was found out, and what to do about what is wrong.
func prescribe(w io.Writer, results []checkup.Result) error {
	var wrong int
	for _, r := range results {
		if r.Wrong == "" {
			fmt.Fprintf(w, "ok     %s\n", r.About)
			continue
		}
		wrong++
		fmt.Fprintf(w, "WRONG  %s: %s\n       to do: %s\n", r.About, r.Wrong, r.Do)
	}
	if wrong > 0 {
		return fmt.Errorf("%w: %d of %d", errUnwell, wrong, len(results))
	}
	_, err := fmt.Fprintf(w, "%d checks, all well\n", len(results))
	return err
}
