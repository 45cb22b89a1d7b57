// Program crashpoints kills a process of a running deployment at each system call by which one operation reaches the disk, or another
// process, starts it again, and compares the streams and the tables with a model: what was answered is there, once, and so is what was sent
// again; nothing else is. It needs strace and the right to attach it.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"tongan.dev/pkg/chengine"
)

func main() {
	chengine.ChildMain()
	only := flag.String("only", "", "only those whose operation, process and moment begin so, for example \"insert engine before\"")
	most := flag.Int("most", math.MaxInt, "crash points of each operation, process and moment, at most; spread evenly over its calls")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *only, *most)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crashpoints:", err)
		os.Exit(1)
	}
}

// plan is what is cut short, and whose process is killed at which of its calls.
type plan struct {
	name   string
	victim victim
	kind   kind
	make   func(run int) operation
}

// batchOf is how many visits go out at once: a few alone, the others as batches; visitsOf how many the tables take together.
const (
	batchOf  = 32
	visitsOf = 8
)

var plans = []plan{
	{"append", server, files, func(run int) operation { return newVisits(run, 1) }},
	{"batch", server, files, func(run int) operation { return newVisits(run, batchOf) }},
	{"insert", engine, files, func(run int) operation { return insertion{newVisits(run, visitsOf)} }},
	{"insert", writer, network, func(run int) operation { return insertion{newVisits(run, visitsOf)} }},
	{"erasure", server, files, func(run int) operation { return newErasure(run) }},
	{"erasure", eraser, network, func(run int) operation { return newErasure(run) }},
}

func run(ctx context.Context, only string, most int) (err error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return errNoStrace
	}
	dir, err := os.MkdirTemp("", "crashpoints")
	if err != nil {
		return err
	}
	d, err := deploy(ctx, dir)
	if err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	r := &report{w: os.Stdout}
	for _, p := range plans {
		for _, at := range []moment{before, after} {
			if !strings.HasPrefix(fmt.Sprintf("%s %s %s", p.name, p.victim, at), only) {
				continue
			}
			s, err := d.series(ctx, p, at, most, &r.runs)
			if err != nil {
				return fmt.Errorf("%s, %s killed: %w (logs are in %s)", p.name, p.victim, err, dir)
			}
			r.add(s)
		}
	}
	if err := d.end(); err != nil {
		return err
	}
	if err := r.print(); err != nil {
		return fmt.Errorf("%w (logs and data are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}

// series is the crash points of an operation, process and moment.
type series struct {
	plan    plan
	moment  moment
	calls   int            // how many calls it makes when nothing happens
	points  int            // at how many it was killed
	crashed map[string]int // how many of those were at calls of a name
	exact   int            // after how many of those everything was as it must be
	wrong   []string
}

// undone is an operation that was cut short and is looked at again in the end.
type undone struct {
	op operation
	at int
}

// series finds out how many calls the operation makes, and runs it once for each of them, or for as many as it may be.
func (d *deployment) series(ctx context.Context, p plan, at moment, most int, runs *int) (*series, error) {
	s := &series{plan: p, moment: at, crashed: make(map[string]int)}
	var left []undone
	for n, step := 0, 1; ; n += step {
		*runs++
		op := p.make(*runs)
		call, calls, wrong, err := d.point(ctx, p, at, n, op)
		if err != nil {
			return nil, fmt.Errorf("call %d: %w", n, err)
		}
		left = append(left, undone{op, n})
		if n == 0 { // nobody was killed
			s.calls = calls.n
			step = max(1, s.calls/most)
			s.note(0, wrong)
			fmt.Fprintf(os.Stderr, "%s %s %s: %d calls %v\n", p.name, p.victim, at, calls.n, calls.names)
			continue
		}
		if call == "" {
			s.note(n, wrong)
			break // it makes no more calls
		}
		s.points++
		s.crashed[call]++
		if s.note(n, wrong) {
			s.exact++
		}
		if s.points == 2*s.calls || s.points == most {
			break
		}
	}
	for _, u := range left {
		wrong, err := u.op.settled(ctx, d)
		if err != nil {
			return nil, err
		}
		if !s.note(u.at, wrong) {
			s.exact--
		}
	}
	wrong, err := d.check(ctx)
	s.note(0, wrong)
	return s, err
}

// note keeps what is wrong after the n-th call, and reports whether nothing is.
func (s *series) note(n int, wrong []string) bool {
	for _, w := range wrong {
		s.wrong = append(s.wrong, fmt.Sprintf("%s, %s killed %s call %d: %s", s.plan.name, s.plan.victim, s.moment, n, w))
	}
	return len(wrong) == 0
}

// point runs an operation, kills the process at the n-th call, starts it again, does what is left to do, and compares.
func (d *deployment) point(ctx context.Context, p plan, at moment, n int, op operation) (call string, c *counter, wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := op.prepare(ctx, d); err != nil {
		return "", nil, nil, fmt.Errorf("prepare: %w", err)
	}
	c = newCounter(p.kind, d.folder(p.victim), at)
	t, err := watch(ctx, d.pid(p.victim), n, c)
	if err != nil {
		return "", nil, nil, err
	}
	call, wrong, err = d.cutShort(ctx, p.victim, op, t.killed, t.stop)
	return call, c, wrong, err
}

// cutShort runs an operation, during which the process may be killed, starts that again, does what is left to do, and compares. Stop lets the
// process go if it was not killed, and returns the name of the call at which it was, or nothing.
func (d *deployment) cutShort(ctx context.Context, v victim, op operation, killed <-chan struct{}, stop func() (string, error)) (call string, wrong []string, err error) {
	once, cut := context.WithTimeout(ctx, 20*time.Second)
	defer cut()
	done := make(chan struct{})
	go func() {
		op.run(once, d)
		close(done)
	}()
	select {
	case <-done:
	case <-killed:
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond): // answers that are under way
			cut()
			<-done
		}
	}
	if call, err = stop(); err != nil {
		return "", nil, err
	}
	if call != "" {
		if err := d.restart(ctx, v); err != nil {
			return "", nil, fmt.Errorf("start again: %w", err)
		}
		if wrong, err = d.model.Streams(ctx, d.inspector); err != nil {
			return "", nil, fmt.Errorf("look: %w", err)
		}
	}
	if err := op.again(ctx, d); err != nil {
		return "", nil, fmt.Errorf("again: %w", err)
	}
	more, err := d.check(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("check: %w", err)
	}
	return call, append(wrong, more...), nil
}

// report is the table of all series.
type report struct {
	w      *os.File
	runs   int
	series []*series
}

func (r *report) add(s *series) { r.series = append(r.series, s) }

// print prints it, and returns an error if something was not as it must be.
func (r *report) print() error {
	w := tabwriter.NewWriter(r.w, 0, 4, 1, ' ', 0)
	fmt.Fprintln(w, "| Operation\t| Killed\t| At call\t| Calls\t| Crashed\t| Exact\t| Where\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	var points, exact int
	var wrong []string
	for _, s := range r.series {
		fmt.Fprintf(w, "| %s\t| %s\t| %s\t| %d\t| %d\t| %d\t| %s\t|\n", s.plan.name, s.plan.victim, s.moment, s.calls, s.points, s.exact, where(s.crashed))
		points, exact, wrong = points+s.points, exact+s.exact, append(wrong, s.wrong...)
	}
	fmt.Fprintf(w, "| all\t| \t| \t| \t| %d\t| %d\t| \t|\n", points, exact)
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range wrong {
		fmt.Fprintln(r.w, "WRONG", text)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%d findings", len(wrong))
	}
	return nil
}
