package decider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime/debug"
	"slices"

	"google.golang.org/protobuf/proto"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// tries is how often commands are decided again after a conflict. Conflicts come only from other processes.
const tries = 8

// Transact decides a command and appends what it leads to, on what a Keeper kept of the aggregate or else on what the log loads. A command
// that was carried out before is answered as the first time, with Again, and appends nothing; on ErrConflict it loads and decides again.
//
// One command of an aggregate is worked on at a time in this process. Those that come meanwhile wait, and are then decided one after the
// other, each on what those before it lead to, and appended together.
func Transact[S any](ctx context.Context, log Log, d Decider[S], id string, cmd Command) (*eventv1.CommandReply, error) {
	cmd.Aggregate = log.Key(id)
	w := &waiting[S]{ctx: ctx, d: d, cmd: cmd, done: make(chan struct{})}
	at := line{id, reflect.TypeFor[S]()}
	if log.Lines().join(at, w) {
		work(log, id, []*waiting[S]{w})
		if next := nextIn[S](log, at); next != nil {
			go func() {
				for ; next != nil; next = nextIn[S](log, at) {
					work(log, id, next)
				}
			}()
		}
	}
	select {
	case <-w.done:
		return w.reply, w.err
	case <-ctx.Done():
	}
	if log.Lines().leave(at, w) {
		return nil, fmt.Errorf("%s: nothing was stored: %w", cmd.Aggregate, ctx.Err())
	}
	return nil, fmt.Errorf("%s: it is not known whether events were stored: %w", cmd.Aggregate, ctx.Err())
}

// waiting is a command that waits for its answer.
type waiting[S any] struct {
	ctx   context.Context
	d     Decider[S]
	cmd   Command
	reply *eventv1.CommandReply
	err   error
	done  chan struct{} // closed when it is answered
}

func (w *waiting[S]) answer(reply *eventv1.CommandReply, err error) {
	w.reply, w.err = reply, err
	close(w.done)
}

func nextIn[S any](log Log, at line) []*waiting[S] {
	var out []*waiting[S]
	for _, w := range log.Lines().next(at) {
		out = append(out, w.(*waiting[S])) // the line is of this state
	}
	return out
}

// errPanic is the answer to a command on which deciding or folding panics.
var errPanic = errors.New("deciding it panics")

// work answers commands of one aggregate. One on which deciding panics does not keep the others from their answers; of the panic only the stack
// is told, since its text may hold values.
func work[S any](log Log, id string, all []*waiting[S]) {
	job := &job[S]{log: log, id: id, left: all}
	defer func() {
		if recover() == nil {
			return
		}
		if len(job.left) == 1 {
			job.left[0].answer(nil, fmt.Errorf("%w\n%s", errPanic, debug.Stack()))
			return
		}
		for _, w := range job.left {
			work(log, id, []*waiting[S]{w})
		}
	}()
	contexts := make([]context.Context, len(all))
	for i, w := range all {
		contexts[i] = w.ctx
	}
	ctx, end := whileAny(contexts)
	defer end()
	job.run(ctx)
}

// job is work on commands of one aggregate.
type job[S any] struct {
	log  Log
	id   string
	left []*waiting[S] // in the order in which they came
	f    Folded[S]
	// known says that f is what the log holds as far as this process knows; confirmed that the leader said so since the commands came.
	known, confirmed bool
	// ahead is of how many commands the events are folded in although they are not stored yet, and base what f was before; spoiled says that
	// folding them failed.
	ahead   int
	base    Folded[S]
	spoiled bool
}

func (j *job[S]) run(ctx context.Context) {
	stale := false
	j.f, stale, j.known = take[S](j.log, j.id)
	conflicts := 0
	for len(j.left) > 0 {
		if err := j.prepare(ctx, stale); err != nil {
			j.answer(len(j.left), err)
			return
		}
		stale = false
		groups := j.decide()
		if len(groups) == 0 {
			stale = !j.confirmed && len(j.left) > 0 // what appends nothing meets no expectation: its answer rests on what the leader has now
			continue
		}
		err := j.append(ctx, groups)
		switch {
		case err == nil:
			conflicts = 0
		case !errors.Is(err, ErrConflict):
			j.answer(len(groups), err)
		default:
			if conflicts++; conflicts == tries {
				j.answer(len(groups), fmt.Errorf("%s: %w", j.log.Key(j.id), ErrConflict))
			}
			stale = j.known
		}
	}
	if j.known {
		keep(j.log, j.id, j.f)
	}
}

// answer gives the first n commands an error.
func (j *job[S]) answer(n int, err error) {
	for _, w := range j.left[:n] {
		w.answer(nil, err)
	}
	j.left = j.left[n:]
}

// prepare has the aggregate known, and what is known of it confirmed where it may be stale.
func (j *job[S]) prepare(ctx context.Context, stale bool) (err error) {
	switch d := j.left[0].d; {
	case !j.known:
		j.f, err = Load(ctx, j.log, d, j.id)
	case stale:
		err = j.f.catchUp(ctx, j.log, d, j.id)
	default:
		return nil
	}
	j.known, j.confirmed, j.spoiled = err == nil, true, false
	return err
}

// decide answers the commands that lead to nothing, as far as that is known, and returns the events of those after them. It folds the events of
// a command in, to decide the next.
func (j *job[S]) decide() (groups [][]Recorded) {
	j.ahead = 0
	events, together := 0, j.log.Together(len(j.left))
	for len(groups) < len(j.left) {
		w := j.left[len(groups)]
		if len(groups) == 0 && w.ctx.Err() != nil {
			j.answer(1, w.ctx.Err())
			continue
		}
		if n := len(groups); n > 0 {
			if !together || !shareable(groups[n-1]) || !j.foldIn(j.left[n-1].d, groups[n-1]) {
				return groups
			}
		}
		a := j.f.decide(w.d, w.cmd)
		switch {
		case len(a.events) == 0 && len(groups) > 0:
			return groups
		case len(a.events) == 0 && !j.confirmed:
			return nil
		case len(a.events) == 0:
			w.answer(a.reply, a.err)
			j.left = j.left[1:]
			continue
		}
		group := make([]Recorded, len(a.events))
		for i, e := range a.events {
			group[i] = Recorded{Event: e, ID: EventID(w.cmd.Aggregate, w.cmd.ID, i), Cause: cmp.Or(w.cmd.Cause, w.cmd.ID), Size: proto.Size(e)}
		}
		if events += len(group); len(groups) > 0 && (events > maxTogether || !shareable(group)) {
			return groups
		}
		groups = append(groups, group)
	}
	return groups
}

func shareable(group []Recorded) bool {
	return len(group) <= maxTogether && !slices.ContainsFunc(group, func(e Recorded) bool { return e.Size > maxShared })
}

// unplaced is the sequence of an event that is not stored yet: later than any that somebody has seen.
const unplaced = math.MaxUint64

// foldIn folds in events that are not stored yet. False means that evolve does not know what decide returns.
func (j *job[S]) foldIn(d Decider[S], group []Recorded) bool {
	if j.ahead == 0 {
		j.base = j.f.fork(d)
	}
	defer func() { j.f.last = j.base.last }() // it is what the append expects
	j.ahead++
	for _, e := range group {
		e.Sequence = unplaced
		e.Event = proto.Clone(e.Event).(Event) // the state may hold on to it, and it may share messages with the command
		if j.f.add(d, e) != nil {
			j.spoiled = true
			return false
		}
	}
	return true
}

// append stores the events of commands as one, answers the commands, and folds in what is not folded in yet. After any failure but a conflict the
// next try loads.
func (j *job[S]) append(ctx context.Context, groups [][]Recorded) error {
	all := slices.Concat(groups...)
	last, err := j.log.Append(ctx, j.id, j.f.last, all)
	if err != nil {
		if j.known = errors.Is(err, ErrConflict); j.ahead > 0 {
			j.f = j.base
		}
		return err
	}
	j.known, j.confirmed = !j.spoiled, true
	next := last - uint64(len(all))
	for i, group := range groups {
		w := j.left[0]
		reply := &eventv1.CommandReply{Happened: true}
		for _, e := range group {
			next++
			e.Sequence = next
			reply.EventIds = append(reply.EventIds, e.ID)
			if i < j.ahead {
				j.f.place(w.d, e)
				continue
			}
			e.Event = proto.Clone(e.Event).(Event)
			if j.f.add(w.d, e) != nil { // evolve does not know what decide returns: the next command loads, and says so
				j.known = false
			}
		}
		reply.Revision = next
		w.answer(reply, nil)
		j.left = j.left[1:]
	}
	return nil
}

// catchUp folds in what was appended by others. Where the log ends earlier than it did, as one restored from a copy may, it loads.
func (f *Folded[S]) catchUp(ctx context.Context, log Log, d Decider[S], id string) error {
	if k, ok := log.(Keeper); ok {
		events, last, err := k.LoadAfter(ctx, id, f.last)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := f.add(d, e); err != nil {
				return fmt.Errorf("fold %s: %w", log.Key(id), err)
			}
		}
		if last >= f.last {
			f.last = last
			return nil
		}
	}
	var err error
	*f, err = Load(ctx, log, d, id)
	return err
}

func take[S any](log Log, id string) (f Folded[S], stale, ok bool) {
	if k, keeps := log.(Keeper); keeps {
		var value any
		value, stale, ok = k.Take(id)
		if ok {
			f, ok = value.(Folded[S])
		}
	}
	return f, stale, ok
}

func keep[S any](log Log, id string, f Folded[S]) {
	if k, ok := log.(Keeper); ok {
		k.Keep(id, f.last, f, perEvent+f.size)
	}
}

// answer is what a command comes to on a state: events, or what the caller is told without any.
type answer struct {
	events []Event
	reply  *eventv1.CommandReply
	err    error
}

func (f Folded[S]) decide(d Decider[S], cmd Command) answer {
	if cmd.Covers != nil {
		if err := cmd.Covers(f.AdmCode); err != nil {
			return answer{err: err}
		}
	}
	if r, seen := f.receipts[cmd.ID]; seen {
		if r.digest != digestOf(cmd.Digest) {
			return answer{err: ErrCommandReused}
		}
		reply := &eventv1.CommandReply{Revision: r.last, Happened: true, Again: true}
		for i := range r.events {
			reply.EventIds = append(reply.EventIds, EventID(cmd.Aggregate, cmd.ID, int(i)))
		}
		return answer{reply: reply}
	}
	if cmd.Barred != nil {
		return answer{err: cmd.Barred}
	}
	cmd.Changed = f.changed
	events, err := d.Decide(f.State, cmd)
	if err != nil {
		return answer{err: err}
	}
	return answer{events: events, reply: &eventv1.CommandReply{Revision: f.last}}
}
