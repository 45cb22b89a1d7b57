package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// injector carries out a plan.
type injector struct {
	f    *fleet
	load *load

	mu     sync.Mutex
	counts map[string]int // by kind and target
	kills  int
	poison map[string][]uint64 // sequences of messages that cannot be read, by stream
}

// How long is waited at most for the commands that are to come before a fault. It comes also where nothing gets through; but the leader is
// killed when it leads.
const (
	patience       = 4 * time.Second
	leaderPatience = 30 * time.Second
)

// run carries out faults, one after the other; one may begin while others last. It returns when all are over.
func (i *injector) run(ctx context.Context, plan []Fault, say func(string)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for n, fault := range plan {
		within := patience
		if fault.Target == Leader {
			within = leaderPatience
		}
		i.load.more(ctx, max(fault.After, 1), within)
		if ctx.Err() != nil {
			return fmt.Errorf("after %d of %d faults: %w", n, len(plan), ctx.Err())
		}
		say(fmt.Sprintf("%4d %s", n+1, fault))
		wg.Go(func() { i.inject(ctx, fault) })
	}
	return nil
}

func (i *injector) count(f Fault, target string, kills int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.counts[string(f.Kind)+" "+target]++
	i.kills += kills
}

func (i *injector) inject(ctx context.Context, fault Fault) {
	targets := []string{fault.Target}
	switch fault.Target {
	case Bus:
		targets = nil
		for n := range i.f.nodes {
			targets = append(targets, Node(n+1))
		}
	case Leader:
		targets[0] = i.leader(ctx)
	}
	switch fault.Kind {
	case Kill:
		killed := 0
		for _, t := range targets {
			if i.f.processes[t].kill(ctx, fault.For) {
				killed++
			}
		}
		i.count(fault, fault.Target, killed)
		return
	case Pause:
		for _, t := range targets {
			_ = i.f.processes[t].signal(syscall.SIGSTOP) // one that does not run cannot be paused
		}
		wait(ctx, fault.For)
		for _, t := range targets {
			_ = i.f.processes[t].signal(syscall.SIGCONT)
		}
	case Overlap:
		i.overlap(ctx, fault)
		return
	case Cut:
		i.f.doors[fault.Target].cut()
	case Slow:
		d := i.f.doors[fault.Target]
		d.slow(time.Duration(5+fault.Way*20) * time.Millisecond)
		wait(ctx, fault.For)
		d.slow(0)
	case HalfOpen:
		d := i.f.doors[fault.Target]
		open := d.shut()
		wait(ctx, fault.For)
		d.cut()
		open()
	case Step:
		_ = i.f.step(fault.Target, []time.Duration{10 * time.Minute, -10 * time.Minute, 24 * time.Hour}[fault.Way])
		wait(ctx, fault.For)
		_ = i.f.step(fault.Target, 0)
	case Poison:
		i.poisons(ctx, fault)
	case Partition:
		i.partition(ctx, targets[0], fault)
	}
	i.count(fault, fault.Target, 0)
}

// overlap lets two copies of a service run: the first is paused and goes on where it was while the second works already.
func (i *injector) overlap(ctx context.Context, fault Fault) {
	p := i.f.processes[fault.Target]
	_ = p.signal(syscall.SIGSTOP)
	second, err := i.f.service(fault.Target)(ctx)
	wait(ctx, fault.For)
	_ = p.signal(syscall.SIGCONT)
	if err != nil {
		return
	}
	wait(ctx, fault.For)
	ended := make(chan struct{})
	go func() { second.wait(); close(ended) }()
	kills := 1
	if fault.Way == 0 { // the second is left; the first comes back beside it
		p.kill(ctx, fault.For)
		kills++
		wait(ctx, fault.For)
	}
	_ = syscall.Kill(second.pid(), syscall.SIGKILL)
	<-ended
	i.count(fault, fault.Target, kills)
}

// leader returns the node that leads most streams of services; the first where nobody knows.
func (i *injector) leader(ctx context.Context) string {
	js, err := i.f.connect(access.Inspector)
	if err != nil {
		return Node(1)
	}
	defer js.Conn().Close()
	leads := make(map[string]int)
	for _, s := range append(subject.Services(), subject.Audit) {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		if stream, err := js.Stream(ask, subject.Stream(s)); err == nil && stream.CachedInfo().Cluster != nil {
			leads[stream.CachedInfo().Cluster.Leader]++
		}
		cancel()
	}
	delete(leads, "")
	if len(leads) == 0 {
		return Node(1)
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(leads)), func(a, b string) int { return leads[a] - leads[b] })
}

// partition lets nothing pass between a node and the others.
func (i *injector) partition(ctx context.Context, node string, fault Fault) {
	var open []func()
	for between, d := range i.f.routes {
		if slices.Contains(strings.Fields(between), node) {
			open = append(open, d.shut())
		}
	}
	wait(ctx, fault.For)
	for between, d := range i.f.routes {
		if slices.Contains(strings.Fields(between), node) {
			d.cut()
		}
	}
	for _, o := range open {
		o()
	}
}

// poisons puts messages that cannot be read into the stream of a service, as the service's own user: one among the events of an aggregate that
// was just in use, and one for an aggregate of its own.
func (i *injector) poisons(ctx context.Context, fault Fault) {
	js, err := i.f.connect(fault.Target)
	if err != nil {
		return
	}
	defer js.Conn().Close()
	stream := subject.Stream(fault.Target)
	used, there := i.load.justUsed(fault.Target)
	if !there {
		return
	}
	for n, id := range []string{used.ID, fmt.Sprint("poison-", time.Now().UnixNano())} {
		typ := used.Message()
		m := nats.NewMsg(used.Aggregate.Event(id, typ.Name()))
		m.Data = []byte("\xff\xff not a message")
		m.Header.Set(eventlog.HeaderID, fmt.Sprintf("poison-%d-%d", time.Now().UnixNano(), n))
		m.Header.Set(eventlog.HeaderType, string(typ))
		switch fault.Way {
		case 0:
			m.Header.Set(eventlog.HeaderCRC, eventlog.Checksum(string(typ), m.Data))
		case 1:
			m.Header.Set(eventlog.HeaderCRC, "00000000")
		}
		for ctx.Err() == nil { // the same id again: it is stored once
			try, cancel := context.WithTimeout(ctx, 3*time.Second)
			ack, err := js.PublishMsg(try, m, jetstream.WithExpectStream(stream))
			cancel()
			if err == nil {
				i.mu.Lock()
				i.poison[stream] = append(i.poison[stream], ack.Sequence)
				i.mu.Unlock()
				break
			}
			wait(ctx, 50*time.Millisecond)
		}
	}
}
