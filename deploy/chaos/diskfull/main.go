// Program diskfull fills real file systems under a load of commands: that of the bus, that of the engine, and that of a standalone. It measures
// how long it takes until somebody gives the alarm, and until all goes on when space returns, and compares the streams and the tables with
// what was acknowledged. It mounts file systems of memory, so it must be root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"tongan.dev/pkg/chengine"
)

func main() {
	chengine.ChildMain()
	only := flag.String("only", "", "only this disk: bus, engine or standalone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "diskfull:", err)
		os.Exit(1)
	}
}

// errNotRoot is returned where file systems cannot be mounted.
var errNotRoot = errors.New("mounts file systems: run it as root")

// Limits of what is measured.
const (
	alarmWithin = 5 * time.Second
	againWithin = 30 * time.Second
)

// result is what was measured of one disk.
type result struct {
	disk string
	// acked is how many commands were acknowledged, lost how many of those are not there afterwards, or otherwise wrong.
	acked, wrong int
	// unanswered is how many were not acknowledged while the disk was full, all of which were sent again afterwards.
	unanswered int
	// alarm is how long after the first that could not be stored, again how long after space returned.
	alarm, again time.Duration
	said         string
}

func run(ctx context.Context, only string) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	var results []*result
	var findings []string
	for _, d := range []struct {
		name string
		try  func(ctx context.Context, dir string) (*result, []string, error)
	}{{"bus", fullBus}, {"engine", fullEngine}, {"standalone", fullStandalone}} {
		if only != "" && only != d.name {
			continue
		}
		dir, err := os.MkdirTemp("", "diskfull")
		if err != nil {
			return err
		}
		r, wrong, err := d.try(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s: %w (logs are in %s)", d.name, err, dir)
		}
		results, findings = append(results, r), append(findings, wrong...)
		if len(wrong) == 0 {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return report(results, findings)
}

// report prints a table, and returns an error if something is wrong or took too long.
func report(results []*result, findings []string) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 1, ' ', 0)
	fmt.Fprintln(w, "| Full disk\t| Acknowledged\t| Lost or wrong\t| Refused or unanswered meanwhile\t| Alarm after\t| By\t| Again after\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range results {
		fmt.Fprintf(w, "| %s\t| %d\t| %d\t| %d\t| %.1f s\t| %s\t| %.1f s\t|\n", r.disk, r.acked, r.wrong, r.unanswered, r.alarm.Seconds(), r.said, r.again.Seconds())
		if r.alarm > alarmWithin {
			findings = append(findings, fmt.Sprintf("%s: the alarm came after %s", r.disk, r.alarm))
		}
		if r.again > againWithin {
			findings = append(findings, fmt.Sprintf("%s: it went on after %s", r.disk, r.again))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		fmt.Println("WRONG", f)
	}
	if len(findings) > 0 {
		return fmt.Errorf("%d findings", len(findings))
	}
	return nil
}

// disk is a file system of memory.
type disk struct {
	dir  string
	stop context.CancelFunc
	done chan error
}

// mount makes one of so many bytes.
func mount(dir string, bytes int) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return &disk{dir: dir}, nil
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// piece is what is written at once, pace how often: 100 MB/s, as a copy of something large does.
const (
	piece = 1 << 20
	pace  = 10 * time.Millisecond
)

// fill writes until nothing is left, and whatever becomes free, until free is called.
func (d *disk) fill(ctx context.Context) error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.done = make(chan error, 1)
	go func() {
		zeros := make([]byte, piece)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			if _, err := f.Write(zeros); err != nil && !errors.Is(err, syscall.ENOSPC) {
				d.done <- errors.Join(err, f.Close())
				return
			}
			select {
			case <-ctx.Done():
				d.done <- f.Close()
				return
			case <-tick.C:
			}
		}
	}()
	return nil
}

// free gives it back.
func (d *disk) free() error {
	d.stop()
	return errors.Join(<-d.done, os.Remove(d.filler()))
}

// unmount removes it with all that is on it.
func (d *disk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }

// said reports whether a log holds some words after an offset.
func said(log string, from int64, words string) bool {
	text, err := os.ReadFile(log)
	return err == nil && int64(len(text)) > from && strings.Contains(string(text[from:]), words)
}

func size(log string) int64 {
	info, err := os.Stat(log)
	if err != nil {
		return 0
	}
	return info.Size()
}
