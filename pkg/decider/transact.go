package decider

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// tries is how often Transact decides again after a conflict. Conflicts come only from other processes.
const tries = 8

// Transact decides a command and appends what it leads to, on what a Keeper kept of the aggregate or else on what the log loads. A command
// that was carried out before is answered as the first time and appends nothing; on ErrConflict it loads and decides again.
func Transact[S any](ctx context.Context, log Log, d Decider[S], id string, cmd Command) (*eventv1.CommandReply, error) {
	reply, _, err := TransactOnce(ctx, log, d, id, cmd)
	return reply, err
}

// TransactOnce is Transact, and reports whether the command was carried out before.
func TransactOnce[S any](ctx context.Context, log Log, d Decider[S], id string, cmd Command) (reply *eventv1.CommandReply, again bool, err error) {
	unlock, err := log.Lock(ctx, id)
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	cmd.Aggregate = log.Key(id)
	for range tries {
		reply, again, err = attempt(ctx, log, d, id, cmd)
		if !errors.Is(err, ErrConflict) {
			return reply, again, err
		}
	}
	return nil, false, fmt.Errorf("%s: %w", cmd.Aggregate, ErrConflict)
}

// attempt decides once and appends. What was kept is taken, and is kept again only where it is known to be what the log holds; so after any
// failure the next command loads.
func attempt[S any](ctx context.Context, log Log, d Decider[S], id string, cmd Command) (*eventv1.CommandReply, bool, error) {
	f, kept := take[S](log, id)
	a := answer{}
	if kept {
		a = f.decide(d, cmd)
	}
	if len(a.events) == 0 {
		if err := refresh(ctx, log, d, id, &f, kept); err != nil {
			return nil, false, err
		}
		if a = f.decide(d, cmd); len(a.events) == 0 {
			keep(log, id, f)
			return a.reply, a.again, a.err
		}
	}
	reply := &eventv1.CommandReply{Happened: true}
	batch := make([]Recorded, len(a.events))
	for i, e := range a.events {
		batch[i] = Recorded{Event: e, ID: EventID(cmd.Aggregate, cmd.ID, i), Cause: cmp.Or(cmd.Cause, cmd.ID), Size: proto.Size(e)}
		reply.EventIds = append(reply.EventIds, batch[i].ID)
	}
	last, err := log.Append(ctx, id, f.last, batch)
	if err != nil {
		return nil, false, err
	}
	reply.Revision = last
	for i, e := range batch {
		e.Sequence = last - uint64(len(batch)-1-i)
		e.Event = proto.Clone(e.Event).(Event) // the state may hold on to it, and it may share messages with the command
		if f.add(d, e) != nil {                // evolve does not know what decide returns: the next command loads, and says so
			return reply, false, nil
		}
	}
	keep(log, id, f)
	return reply, false, nil
}

// refresh brings an aggregate to what the leader has. An answer that appends nothing meets no expectation, so it rests on this.
func refresh[S any](ctx context.Context, log Log, d Decider[S], id string, f *Folded[S], kept bool) error {
	if kept {
		last, err := log.(Keeper).Last(ctx, id)
		if err != nil || last == f.last {
			return err
		}
	}
	var err error
	*f, err = Load(ctx, log, d, id)
	return err
}

func take[S any](log Log, id string) (Folded[S], bool) {
	if k, ok := log.(Keeper); ok {
		if value, ok := k.Take(id); ok {
			f, ok := value.(Folded[S])
			return f, ok
		}
	}
	return Folded[S]{}, false
}

func keep[S any](log Log, id string, f Folded[S]) {
	if k, ok := log.(Keeper); ok {
		k.Keep(id, f, perEvent+f.size)
	}
}

// answer is what a command comes to on a state: events, or what the caller is told without any.
type answer struct {
	events []Event
	reply  *eventv1.CommandReply
	again  bool
	err    error
}

func (f Folded[S]) decide(d Decider[S], cmd Command) answer {
	if cmd.Covers != nil {
		if err := cmd.Covers(f.AdmCode); err != nil {
			return answer{err: err}
		}
	}
	if r, seen := f.receipts[cmd.ID]; seen {
		if !bytes.Equal(r.digest, cmd.Digest) {
			return answer{err: ErrCommandReused}
		}
		return answer{reply: &eventv1.CommandReply{Revision: r.last, EventIds: slices.Clone(r.ids), Happened: true}, again: true}
	}
	cmd.Changed = f.changed
	events, err := d.Decide(f.State, cmd)
	if err != nil {
		return answer{err: err}
	}
	return answer{events: events, reply: &eventv1.CommandReply{Revision: f.last}}
}
