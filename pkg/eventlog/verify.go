package eventlog

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
)

// Folds say how the aggregates of a stream are folded, each by a function that begins a new one, see decider.Decider.Begin. Nil is for events
// that nobody decides on: they do not fold, and their ids follow from nothing.
type Folds map[subject.Aggregate]func() func(decider.Event) error

// Finding is what is wrong with sequences of a stream. It names what is wrong by words of this system, and holds nothing of a message.
type Finding struct {
	From, To uint64
	What     string
}

// Verified is what was found out about a stream.
type Verified struct {
	Stream string
	// To is the last sequence that was looked at; the first is 1.
	To uint64
	// Events is how many sound events there are, of so many Aggregates.
	Events, Aggregates uint64
	// Findings are the first maxFindings of what is wrong; More is how many there are beside them.
	Findings []Finding
	More     uint64
}

// maxFindings is how many findings are kept.
const maxFindings = 100

// In one pass over a stream so much is kept in memory; what is more takes further passes, each for its share of the aggregates.
const (
	passSubjects = 400_000   // of whose aggregates the states are kept
	passEvents   = 4_000_000 // of whose commands it is kept that they were seen
)

// What is wrong, beside the errors of Decode.
const (
	whatMissing   = "the stream does not hold it"
	whatSubject   = "its subject is not one of the stream"
	whatCommand   = "the command in its header is not the one of its provenance"
	whatID        = "its id does not follow from aggregate, command and place: it was stored twice, or by somebody else"
	whatAggregate = "nobody decides on aggregates of this kind"
)

// Verify reads a service's whole stream and checks of every message that it is there and sound (Decode), that its id follows from its
// aggregate, its command and its place among the command's events, and that every aggregate folds.
func Verify(ctx context.Context, js jetstream.JetStream, service string, folds Folds) (*Verified, error) {
	stream := subject.Stream(service)
	to, err := LastSequence(ctx, js, stream, subject.Events(service))
	if err != nil {
		return nil, fmt.Errorf("end of %s: %w", stream, err)
	}
	info, err := Info(ctx, js, stream)
	if err != nil {
		return nil, err
	}
	passes := max(info.State.NumSubjects/passSubjects, to/passEvents) + 1
	return verify(ctx, js, &Verified{Stream: stream, To: to}, service, folds, passes)
}

func verify(ctx context.Context, js jetstream.JetStream, out *Verified, service string, folds Folds, passes uint64) (*Verified, error) {
	seed := maphash.MakeSeed()
	for n := range passes {
		p := &pass{out: out, service: service, folds: folds, seed: seed, passes: passes, n: n, states: make(map[string]func(decider.Event) error), commands: make(map[uint64]int)}
		if err := Scan(ctx, js, out.Stream, 1, out.To, p.see); err != nil {
			return nil, err
		}
		out.Aggregates += uint64(len(p.states))
	}
	return out, nil
}

// pass looks at the aggregates of one share of a stream.
type pass struct {
	out       *Verified
	service   string
	folds     Folds
	seed      maphash.Seed
	passes, n uint64
	states    map[string]func(decider.Event) error // nil where it does not fold any more, or nobody decides
	commands  map[uint64]int                       // how many events of a command were seen at an aggregate, by a hash of both
}

// see looks at a sequence if it is in the share; what belongs to no aggregate is in the first.
func (p *pass) see(sequence uint64, m *jetstream.RawStreamMsg) error {
	if m == nil {
		if p.n == 0 {
			p.wrong(sequence, whatMissing)
		}
		return nil
	}
	parsed, err := subject.ParseEvent(m.Subject)
	key := parsed.Key(parsed.ID)
	switch {
	case err != nil || parsed.Service != p.service:
		if p.n == 0 {
			p.wrong(sequence, whatSubject)
		}
		return nil
	case maphash.String(p.seed, key)%p.passes != p.n:
		return nil
	}
	e, err := Decode(m.Subject, m.Header, m.Data, sequence)
	if err != nil {
		p.place(key, e.Command) // those after it are in their places
		p.wrong(sequence, reason(err))
		return nil
	}
	p.out.Events++
	p.event(e, key)
	return nil
}

// reason is what is wrong with a message by its class alone: a text may hold a part of it.
func reason(err error) string {
	for _, class := range []error{ErrHeader, ErrChecksum, ErrDecode, ErrUnknownType} {
		if errors.Is(err, class) {
			return class.Error()
		}
	}
	return ErrDecode.Error()
}

// event checks the id of a sound event, and folds it.
func (p *pass) event(e Envelope, key string) {
	begin, known := p.folds[e.Subject.Aggregate]
	if !known {
		p.wrong(e.Sequence, whatAggregate)
		return
	}
	command := e.Event.GetProvenance().GetCommandId()
	if e.Command != command {
		p.wrong(e.Sequence, whatCommand)
	}
	fold, begun := p.states[key]
	if !begun && begin != nil {
		fold = begin()
	}
	p.states[key] = fold
	if begin != nil && e.ID != decider.EventID(key, command, p.place(key, command)) {
		p.wrong(e.Sequence, whatID)
	}
	if fold == nil {
		return
	}
	if err := fold(e.Event); err != nil {
		p.wrong(e.Sequence, "its aggregate does not fold: "+err.Error())
		p.states[key] = nil
	}
}

// place returns the place of the next event of a command among its events.
func (p *pass) place(key, command string) int {
	seen := maphash.String(p.seed, key+"/"+command)
	p.commands[seen]++
	return p.commands[seen] - 1
}

// wrong notes what is wrong with a sequence, and puts it to what is wrong in the same way just before it.
func (p *pass) wrong(sequence uint64, what string) {
	f := p.out.Findings
	if n := len(f); n > 0 && f[n-1].To+1 == sequence && f[n-1].What == what {
		f[n-1].To = sequence
		return
	}
	if len(f) == maxFindings {
		p.out.More++
		return
	}
	p.out.Findings = append(f, Finding{sequence, sequence, what})
}
