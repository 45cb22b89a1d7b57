// Package decider is the kernel of every service: pure functions that decide and evolve one aggregate, and the loop that loads,
// decides and appends. Deciders know no clock, no context, no I/O and no randomness: what they need comes in the command.
package decider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Event is a generated event message; field 1 of each is its provenance.
type Event interface {
	proto.Message
	GetProvenance() *eventv1.Provenance
}

// Decider is the contract of one kind of aggregate: two pure functions. The initial state is the zero S.
type Decider[S any] struct {
	// Decide returns the events a command leads to; none and no error means that it is already so.
	Decide func(S, Command) ([]Event, error)
	// Evolve returns the state after an event. It never fails; false says that the event is not one of this aggregate.
	Evolve func(S, Event) (S, bool)
	// Fork returns a copy of a state which evolving the state leaves as it is; nil means that evolving changes nothing in place.
	Fork func(S) S
	// Contested names the field that an event changes and that several people may want to change, empty for none; nil means no event does.
	// The last change of each such field comes with the command.
	Contested func(Event) string
}

// Change is the last change of a contested field.
type Change struct {
	// Revision is the sequence of the event that changed it.
	Revision uint64
	// By is who entered the change, At when it happened.
	By string
	At time.Time
}

// Stale refuses a command that was decided on an older state of a contested field than the last change left; nil if it was not.
func (c Command) Stale(contested string, seen uint64) error {
	last, changed := c.Changed[contested]
	if !changed || last.Revision <= seen {
		return nil
	}
	return Refuse("seen_revision", fmt.Sprintf("is stale: %s was changed by %s at %s, revision %d", contested, last.By,
		last.At.In(shanghai).Format(time.RFC3339), last.Revision))
}

// Recorded is an event with its id, its cause and its place in the stream; a sequence of 0 means not stored yet.
type Recorded struct {
	Event Event
	// ID is the event id, see EventID.
	ID string
	// Cause is the id of the event or command that led to it.
	Cause    string
	Sequence uint64
	// Size is how many bytes the event has; 0 where nobody needs to know.
	Size int
}

// Log stores the events of one kind of aggregate.
type Log interface {
	// Key names one aggregate uniquely over all services, for example intake.case.c1.
	Key(id string) string
	// Lines is where commands wait for others of the same aggregate in this process.
	Lines() *Lines
	// Together reports whether the events of n commands that wait for one aggregate are to be appended as one. A log that stores several
	// events at a high price says so only when that pays; one that looks at what is stored when it appends, never.
	Together(n int) bool
	// Load returns the aggregate's events in order, and the sequence of its last message as confirmed with the leader.
	Load(ctx context.Context, id string) (events []Recorded, last uint64, err error)
	// Append stores events, all or none and one after the other, if the aggregate's last sequence is still last; otherwise it returns
	// ErrConflict. It returns the sequence of the last event.
	Append(ctx context.Context, id string, last uint64, events []Recorded) (uint64, error)
}

// Keeper is a log that keeps what became of aggregates, so that not every command has to load one.
type Keeper interface {
	Log
	// Take returns what was kept of an aggregate and keeps it no longer: who works on the aggregate has it alone. Stale says that somebody else was
	// heard to append to it since.
	Take(id string) (value any, stale, ok bool)
	// Keep keeps a value of about so many bytes, which is what became of the aggregate up to a sequence. It may be dropped at any time.
	Keep(id string, last uint64, value any, size int)
	// LoadAfter returns the aggregate's events after a sequence in order, and the sequence of its last message as confirmed with the leader.
	LoadAfter(ctx context.Context, id string, after uint64) (events []Recorded, last uint64, err error)
}

// ErrConflict is returned when somebody else appended to the aggregate in the meantime.
var ErrConflict = errors.New("the aggregate has changed in the meantime")

// ErrCommandReused is returned when a command id comes again with other content.
var ErrCommandReused = Refuse("provenance.command_id", "was used before for another command")

// ErrUnknownEvent is returned when a stored event is of a type this build does not know: it must not decide without it.
var ErrUnknownEvent = errors.New("a stored event is of a type this build does not know")

// Refusal is the answer of a decider that turns a command down.
type Refusal struct {
	// Field is the command's field that is at fault, for example case_id.
	Field string
	// Rule is what it violates, without any value of the command.
	Rule string
}

// Refuse returns a refusal; deciders declare theirs once, as variables with a comment that says when they are returned.
func Refuse(field, rule string) *Refusal { return &Refusal{Field: field, Rule: rule} }

// Is reports whether target refuses the same field by the same rule, so that refusals made for one command can be compared.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && *t == *r
}

// Error names the field and the rule.
func (r *Refusal) Error() string { return r.Field + ": " + r.Rule }

// Command is what a decider is asked to decide. Adapters fill it in; deciders only read it.
type Command struct {
	// At is the time by the service's clock.
	At time.Time
	// ID is the command id, the caller's or the id of what the command creates.
	ID string
	// Cause is the id of the event that led to the command; empty where a caller sent it.
	Cause string
	// Digest tells this command from another one under the same id.
	Digest []byte
	// Aggregate is the key of the aggregate that decides, as Log.Key gives it.
	Aggregate string
	// Body is the command message; its personal fields are cleared.
	Body Event
	// Covers refuses a district that the caller may not act in; nil means the caller may act everywhere.
	Covers func(admCode string) error
	// Changed holds the last change of every contested field; Transact fills it in.
	Changed map[string]Change
	// Sealed holds the personal fields by their path in the command, for example details or children[2].note.
	Sealed map[string]*eventv1.Sealed
	// Barred refuses the command, but for one that was carried out before, which is answered as then; nil means nothing bars it.
	Barred error
}

// Provenance returns the provenance for an event of this command: the caller's, with command id and digest filled in.
func (c Command) Provenance() *eventv1.Provenance {
	p := &eventv1.Provenance{}
	if given := c.Body.GetProvenance(); given != nil {
		p = proto.CloneOf(given)
	}
	p.CommandId, p.CommandDigest = c.ID, c.Digest
	return p
}

// namespace is the UUID namespace of event ids.
var namespace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://tongan.dev/event"))

// EventID returns the id of the index-th event that a command leads to at an aggregate: a UUIDv5 (RFC 9562), so that a second
// try carries the same ids.
func EventID(aggregate, commandID string, index int) string {
	return uuid.NewSHA1(namespace, []byte(aggregate+"/"+commandID+"/"+strconv.Itoa(index))).String()
}

// receipt is what is known of a command that led to events. There is one for each command that an aggregate ever carried out, so it is small
// and holds no pointer; the ids of the events follow from their number.
type receipt struct {
	last   uint64
	events int32
	digest digest
}

// digest is a command's, of which the contract allows 8 bytes, and how many it has.
type digest struct {
	bytes [8]byte
	n     int8
}

func digestOf(b []byte) (d digest) {
	d.n = int8(copy(d.bytes[:], b))
	return d
}

// Folded is an aggregate as its events make it.
type Folded[S any] struct {
	State S
	// Revision is the sequence of the last event folded in.
	Revision uint64
	// AdmCode is the district the aggregate lies in: the one its first event names, or to which it was moved since.
	AdmCode  string
	changed  map[string]Change
	receipts map[string]receipt
	// last is the sequence of the last message, be it damaged; size about how many bytes the events have.
	last uint64
	size int
}

// Fold builds the state from all events of an aggregate, and remembers which commands led to them.
func (d Decider[S]) Fold(events []Recorded) (Folded[S], error) {
	f := Folded[S]{receipts: make(map[string]receipt), changed: make(map[string]Change)}
	for _, e := range events {
		if err := f.add(d, e); err != nil {
			return f, err
		}
	}
	return f, nil
}

// fork returns a copy that folding in more events leaves as it is.
func (f Folded[S]) fork(d Decider[S]) Folded[S] {
	if d.Fork != nil {
		f.State = d.Fork(f.State)
	}
	f.changed, f.receipts = maps.Clone(f.changed), maps.Clone(f.receipts)
	return f
}

// Begin begins to fold one aggregate for somebody who wants to know only whether its events fold: what it returns takes them one after the
// other, and says of one that it does not. A panic is an error too; its text is left out, since it may hold values.
func (d Decider[S]) Begin() func(Event) error {
	var s S
	return func(e Event) (err error) {
		defer func() {
			if recover() != nil {
				err = errPanics
			}
		}()
		var known bool
		if s, known = d.Evolve(s, e); !known {
			return ErrUnknownEvent
		}
		return nil
	}
}

// errPanics stands for an event on which folding panics.
var errPanics = errors.New("folding it panics")

// Carried reports whether a command with this id has led to events of the aggregate.
func (f Folded[S]) Carried(commandID string) bool {
	_, seen := f.receipts[commandID]
	return seen
}

// perEvent is about what an event takes in memory beside its own bytes: a receipt and its place in a map.
const perEvent = 128

func (f *Folded[S]) add(d Decider[S], e Recorded) error {
	var known bool
	if f.State, known = d.Evolve(f.State, e.Event); !known {
		return fmt.Errorf("%w: %s at sequence %d", ErrUnknownEvent, e.Event.ProtoReflect().Descriptor().FullName(), e.Sequence)
	}
	p := e.Event.GetProvenance()
	if f.Revision == 0 {
		f.AdmCode = p.GetAdmCode()
	}
	if moved, ok := e.Event.(interface{ GetToAdmCode() string }); ok {
		f.AdmCode = moved.GetToAdmCode()
	}
	f.size += perEvent + e.Size
	if id := p.GetCommandId(); id != "" {
		r := f.receipts[id]
		f.receipts[id] = receipt{last: e.Sequence, events: r.events + 1, digest: digestOf(p.GetCommandDigest())}
	}
	f.noted(d, e)
	return nil
}

// place notes the sequence of an event that was folded in before it had one.
func (f *Folded[S]) place(d Decider[S], e Recorded) {
	if r, ok := f.receipts[e.Event.GetProvenance().GetCommandId()]; ok {
		r.last = e.Sequence
		f.receipts[e.Event.GetProvenance().GetCommandId()] = r
	}
	f.noted(d, e)
}

// noted notes the sequence of an event beside its receipt.
func (f *Folded[S]) noted(d Decider[S], e Recorded) {
	f.Revision, f.last = e.Sequence, e.Sequence
	if d.Contested == nil {
		return
	}
	if field := d.Contested(e.Event); field != "" {
		p := e.Event.GetProvenance()
		f.changed[field] = Change{e.Sequence, cmp.Or(p.GetRecordedBy(), p.GetPerformedBy()), p.GetOccurredAt().AsTime()}
	}
}

// Load loads an aggregate and folds it, for a query. An aggregate without events has revision 0.
func Load[S any](ctx context.Context, log Log, d Decider[S], id string) (Folded[S], error) {
	stored, last, err := log.Load(ctx, id)
	if err != nil {
		return Folded[S]{}, err
	}
	f, err := d.Fold(stored)
	if err != nil {
		return f, fmt.Errorf("fold %s: %w", log.Key(id), err)
	}
	f.last = last
	return f, nil
}
