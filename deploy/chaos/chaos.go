// Package chaos breaks a running system on purpose, by a plan that one seed gives, and checks afterwards, command by command, that nothing
// was lost, nothing counted twice and nothing torn.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/serve"
)

// Config says what is to be broken.
type Config struct {
	PlanConfig
	// Dir is an empty folder for everything.
	Dir string
	// AtOnce is how many callers send at once; PerSecond how many commands they send at most.
	AtOnce, PerSecond int
	// Say is told of each fault as it begins.
	Say func(string)
}

// Report is what came of it.
type Report struct {
	Config     Config
	Took       time.Duration
	Engine     string // its version
	Kills      int
	Faults     map[string]int // by kind and target
	Alone      map[string]int // by process, how often it ended, or did not start, without having been killed
	AloneSaid  map[string]int // by their last words, how often processes ended by themselves
	Commands   map[State]int
	Kinds      map[string]int // by subject, how many commands were carried out
	Effective  int
	Events     int
	Poison     int
	Longest    map[string]time.Duration // without a command carried out: by a service, and by any under the empty name
	Inner      int
	InnerSaid  []string // what the services logged of those
	Violations []Violation
}

// Run starts a system, sends commands, breaks it by the plan, lets it come to rest, and checks. An error means that the run itself failed.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	return run(ctx, cfg, Plan(cfg.PlanConfig))
}

func run(ctx context.Context, cfg Config, plan []Fault) (r *Report, err error) {
	begun := time.Now()
	f, err := newFleet(ctx, cfg.Dir, max(cfg.Nodes, 1))
	if err != nil {
		return nil, err
	}
	defer f.stop()
	l, err := newLoad(ctx, f, cfg.Seed, cfg.PerSecond)
	if err != nil {
		return nil, err
	}
	defer l.close()
	telling := make(chan struct{})
	sending, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		defer close(telling)
		l.run(sending, cfg.AtOnce)
	}()
	i := &injector{f: f, load: l, counts: make(map[string]int), poison: make(map[string][]uint64)}
	err = i.run(ctx, plan, cfg.Say)
	if err == nil {
		l.more(ctx, 200, time.Minute) // it works again
	}
	l.ending.Store(true)
	time.AfterFunc(time.Minute, giveUp) // what is not answered by then, with everything running, is not known
	<-telling
	if err != nil {
		return nil, err
	}
	resting, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r = &Report{Config: cfg, Faults: i.counts, Kills: i.kills, AloneSaid: make(map[string]int), Longest: make(map[string]time.Duration)}
	for name, g := range l.gaps {
		r.Longest[name] = g.longest
	}
	if err := f.rest(resting, l, r); err != nil {
		return nil, err
	}
	w, found, err := f.look(ctx, i.poison)
	if err != nil {
		return nil, err
	}
	r.Took, r.Engine = time.Since(begun), w.Engine
	r.sum(l, w, i.poison)
	if err := f.logged(func(process, line string) {
		switch {
		case strings.Contains(line, "code=500"):
			r.InnerSaid = append(r.InnerSaid, line)
		case strings.HasPrefix(line, process+": "):
			r.AloneSaid[line]++
		}
	}); err != nil {
		return nil, err
	}
	r.Violations = append(append(r.Violations, found...), Check(w, l.commands())...)
	return r, nil
}

// logged shows the lines of the logs of all processes.
func (f *fleet) logged(see func(process, line string)) error {
	files, err := filepath.Glob(f.path("log", "*"))
	for _, file := range files {
		text, failed := os.ReadFile(file)
		err = errors.Join(err, failed)
		for line := range strings.Lines(string(text)) {
			see(filepath.Base(file), strings.TrimSpace(line))
		}
	}
	return err
}

// rest lets the system come to rest: everything runs, some commands come again, what follows from events has followed, and then the services
// end, so that nothing is on its way any more. The projector stays.
func (f *fleet) rest(ctx context.Context, l *load, r *Report) error {
	if err := f.healthy(ctx); err != nil {
		return err
	}
	r.Violations = l.repeat(ctx)
	if err := f.followed(ctx); err != nil {
		return err
	}
	if err := f.settled(ctx); err != nil {
		return err
	}
	r.Alone = make(map[string]int)
	for name, p := range f.processes {
		p.mu.Lock()
		if p.alone > 0 {
			r.Alone[name] = p.alone
		}
		p.mu.Unlock()
	}
	for _, name := range services() {
		if name != "projector" {
			f.processes[name].retire()
		}
	}
	return nil
}

// followed waits until what follows from events has followed, at the latest of all what was promised for the next seconds. What has not by
// the time it gives up will be found.
func (f *fleet) followed(ctx context.Context) error {
	js, err := f.connect(access.Inspector)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	_ = eventually(ctx, "all has followed", func() bool {
		w := World{Now: time.Now().Add(time.Minute)}
		for service := range folds() {
			if err := w.read(ctx, js, service); err != nil {
				return false
			}
		}
		c := newChecker(w)
		c.consequences(w)
		return len(c.found) == 0
	})
	return nil
}

// sum counts.
func (r *Report) sum(l *load, w World, poison map[string][]uint64) {
	r.Commands, r.Kinds, r.Events, r.Inner = make(map[State]int), make(map[string]int), len(w.Events), l.inner
	there := make(map[string]bool)
	for _, e := range w.Events {
		there[e.Key+"/"+e.Command] = true
	}
	for _, c := range l.commands() {
		r.Commands[c.Outcome.State]++
		if c.Outcome.State == Done {
			r.Kinds[c.Subject]++
		}
		if c.Outcome.State == Unknown && there[c.Makes[0].Key+"/"+c.ID] {
			r.Effective++
		}
	}
	for _, p := range poison {
		r.Poison += len(p)
	}
}

// Count returns how many violations of a class there are.
func (r *Report) Count(class Class) int {
	n := 0
	for _, v := range r.Violations {
		if v.Class == class {
			n++
		}
	}
	return n
}

// Write writes the report.
func (r *Report) Write(w io.Writer) {
	fmt.Fprintf(w, "seed %d, %d nodes, tongan %s, nats-server %s, ClickHouse %s, %s, in %s\n", r.Config.Seed, max(r.Config.Nodes, 1), serve.Version, server.VERSION, r.Engine, runtime.Version(), r.Took.Round(time.Second))
	fmt.Fprintf(w, "kills    %d\n", r.Kills)
	byKind := make(map[string][]string)
	for _, k := range slices.Sorted(maps.Keys(r.Faults)) {
		at := strings.LastIndexByte(k, ' ')
		byKind[k[:at]] = append(byKind[k[:at]], fmt.Sprintf("%s %d", k[at+1:], r.Faults[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(byKind)) {
		fmt.Fprintf(w, "  %-10s %s\n", k, strings.Join(byKind[k], ", "))
	}
	if len(r.Alone) > 0 {
		fmt.Fprintf(w, "ended by itself, or did not start: %v\n", r.Alone)
		for _, line := range slices.Sorted(maps.Keys(r.AloneSaid)) {
			fmt.Fprintf(w, "  %d times %s\n", r.AloneSaid[line], line)
		}
	}
	fmt.Fprintf(w, "commands %d done, %d refused, %d unknown, of which %d took effect; of %d kinds; internal errors %d\n",
		r.Commands[Done], r.Commands[Refused], r.Commands[Unknown], r.Effective, len(r.Kinds), r.Inner)
	for _, line := range r.InnerSaid {
		fmt.Fprintln(w, " ", line)
	}
	fmt.Fprintf(w, "events   %d, and %d messages that cannot be read\n", r.Events, r.Poison)
	fmt.Fprintf(w, "longest  %s without any command carried out;", r.Longest[""].Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(r.Longest))[1:] {
		fmt.Fprintf(w, " %s %s", name, r.Longest[name].Round(time.Millisecond))
	}
	fmt.Fprintln(w)
	fmt.Fprintf(w, "result   %d lost, %d double, %d torn, %d invented, %d wrong\n", r.Count(Lost), r.Count(Double), r.Count(Torn), r.Count(Invented), r.Count(Wrong))
	for n, v := range r.Violations {
		if n == 50 {
			fmt.Fprintf(w, "  and %d more\n", len(r.Violations)-n)
			break
		}
		fmt.Fprintf(w, "  %s\n", v)
	}
}
