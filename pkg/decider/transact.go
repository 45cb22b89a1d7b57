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
// that was carried out before is answered as the first time, with Again, and appends nothing; on ErrConflict it loads and decides again.
func Transact[S any](ctx context.Context, log Log, d Decider[S], id string, cmd Command) (*eventv1.CommandReply, error) {
	unlock, err := log.Lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	cmd.Aggregate = log.Key(id)
	f, stale, kept := take[S](log, id)
	switch {
	case !kept:
		f, err = Load(ctx, log, d, id)
	case stale:
		err = f.catchUp(ctx, log, d, id)
	}
	if err != nil {
		return nil, err
	}
	confirmed := stale || !kept
	for range tries {
		a := f.decide(d, cmd)
		switch {
		case len(a.events) > 0:
			reply, err := f.append(ctx, log, d, id, cmd, a.events)
			if !errors.Is(err, ErrConflict) {
				return reply, err
			}
		case confirmed:
			keep(log, id, f)
			return a.reply, a.err
		}
		// What appends nothing meets no expectation: its answer rests on what the leader has now. So does the next try after a conflict.
		if err := f.catchUp(ctx, log, d, id); err != nil {
			return nil, err
		}
		confirmed = true
	}
	return nil, fmt.Errorf("%s: %w", cmd.Aggregate, ErrConflict)
}

// append stores what a command leads to, and folds it in. The aggregate was taken from its keeper and is kept again only when it is known to
// be what the log holds; so after any failure the next command loads.
func (f *Folded[S]) append(ctx context.Context, log Log, d Decider[S], id string, cmd Command, events []Event) (*eventv1.CommandReply, error) {
	reply := &eventv1.CommandReply{Happened: true}
	batch := make([]Recorded, len(events))
	for i, e := range events {
		batch[i] = Recorded{Event: e, ID: EventID(cmd.Aggregate, cmd.ID, i), Cause: cmp.Or(cmd.Cause, cmd.ID), Size: proto.Size(e)}
		reply.EventIds = append(reply.EventIds, batch[i].ID)
	}
	last, err := log.Append(ctx, id, f.last, batch)
	if err != nil {
		return nil, err
	}
	reply.Revision = last
	for i, e := range batch {
		e.Sequence = last - uint64(len(batch)-1-i)
		e.Event = proto.Clone(e.Event).(Event) // the state may hold on to it, and it may share messages with the command
		if f.add(d, e) != nil {                // evolve does not know what decide returns: the next command loads, and says so
			return reply, nil
		}
	}
	keep(log, id, *f)
	return reply, nil
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
		if !bytes.Equal(r.digest, cmd.Digest) {
			return answer{err: ErrCommandReused}
		}
		return answer{reply: &eventv1.CommandReply{Revision: r.last, EventIds: slices.Clone(r.ids), Happened: true, Again: true}}
	}
	cmd.Changed = f.changed
	events, err := d.Decide(f.State, cmd)
	if err != nil {
		return answer{err: err}
	}
	return answer{events: events, reply: &eventv1.CommandReply{Revision: f.last}}
}
