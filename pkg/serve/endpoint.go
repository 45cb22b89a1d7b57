package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Endpoint is one row of a service's table: a subject and what answers it.
type Endpoint struct {
	subject string
	request protoreflect.FullName
	invalid error                    // why it must not be offered
	exports bool                     // whether its answers are put on the audit trail
	orders  bool                     // whether it is a command that waits while the stream is nearly full
	states  func() map[string]uint64 // what the log of a command says of the states it keeps; nil for a query
	answer  func(ctx context.Context, rt *Runtime, req micro.Request) (proto.Message, error)
}

// Option changes how a command is admitted.
type Option[C decider.Event] func(*admission[C])

type admission[C decider.Event] struct {
	creates func(C) string
	check   func(C) error
	prepare func(C)
	credits bool
	box     *seal.Box
	keyOf   func(parent proto.Message) string
}

// Creates says which id the command names for what it creates; it serves as command id where none is given.
func Creates[C decider.Event](id func(C) string) Option[C] {
	return func(a *admission[C]) { a.creates = id }
}

// Checks has a command checked by a rule that the contract cannot say, while its personal fields can still be read. The error is a
// *BadInput: it names the field and repeats no value.
func Checks[C decider.Event](rule func(C) error) Option[C] {
	return func(a *admission[C]) { a.check = rule }
}

// Prepare lets the service fill in what it knows better than the caller, before the personal fields are sealed.
func Prepare[C decider.Event](fill func(C)) Option[C] {
	return func(a *admission[C]) { a.prepare = fill }
}

// Credits has the command credited to the caller's organisation where it names none.
func Credits[C decider.Event]() Option[C] {
	return func(a *admission[C]) { a.credits = true }
}

// Seals has the personal fields of the command sealed before it is decided. KeyOf returns the id of the key for a field, given the
// message the field stands in.
func Seals[C decider.Event](box *seal.Box, keyOf func(parent proto.Message) string) Option[C] {
	return func(a *admission[C]) { a.box, a.keyOf = box, keyOf }
}

// Command is the endpoint of a command that a decider decides: id names the aggregate it is for.
func Command[S any, C decider.Event](log *eventlog.Log, d decider.Decider[S], verb string, id func(C) string, opts ...Option[C]) Endpoint {
	return Handle(log, verb, id, func(ctx context.Context, _ *Runtime, id string, cmd decider.Command, _ C) (*eventv1.CommandReply, error) {
		return decider.Transact(ctx, log, d, id, cmd)
	}, opts...)
}

// Handle is the endpoint of a command for which the service does more than decide. The handler gets the admitted command, its personal
// fields sealed.
func Handle[C decider.Event](log *eventlog.Log, verb string, id func(C) string,
	handle func(ctx context.Context, rt *Runtime, id string, cmd decider.Command, body C) (*eventv1.CommandReply, error), opts ...Option[C],
) Endpoint {
	var a admission[C]
	for _, o := range opts {
		o(&a)
	}
	return Endpoint{
		subject: log.Aggregate().Command(verb),
		request: nameOf[C](),
		orders:  true,
		states:  log.Stats,
		invalid: checkPersonal(newMessage[C]().ProtoReflect().Descriptor(), a.box != nil, make(map[protoreflect.FullName]bool)),
		answer: func(ctx context.Context, rt *Runtime, req micro.Request) (proto.Message, error) {
			body := newMessage[C]()
			if err := decode(req, body); err != nil {
				return nil, err
			}
			cmd, err := a.admit(ctx, rt, body)
			if err != nil {
				return nil, err
			}
			aggregate := id(body)
			if err := a.seal(ctx, log.Key(aggregate), &cmd); err != nil {
				return nil, err
			}
			return handle(ctx, rt, aggregate, cmd, body)
		},
	}
}

// WhenFull has a command taken although the stream is nearly full: one that corrects or erases, or takes rights away.
func (e Endpoint) WhenFull() Endpoint {
	e.orders = false
	return e
}

// Exports has the answers of a query put on the audit trail, as data about many given to somebody.
func (e Endpoint) Exports() Endpoint {
	e.exports = true
	return e
}

// Query is the endpoint of a query. An answer that names a place the caller is not bound to is not given.
func Query[Q, A proto.Message](subject string, answer func(ctx context.Context, q Q) (A, error)) Endpoint {
	return Endpoint{
		subject: subject,
		request: nameOf[Q](),
		answer: func(ctx context.Context, _ *Runtime, req micro.Request) (proto.Message, error) {
			q := newMessage[Q]()
			if err := decode(req, q); err != nil {
				return nil, err
			}
			if err := validate(q); err != nil {
				return nil, err
			}
			a, err := answer(ctx, q)
			if err != nil {
				return nil, err
			}
			return a, checkPlaces(CallerOf(ctx), a.ProtoReflect(), false)
		},
	}
}

func newMessage[M proto.Message]() M {
	var m M
	return m.ProtoReflect().New().Interface().(M)
}

func nameOf[M proto.Message]() protoreflect.FullName {
	var m M
	return m.ProtoReflect().Descriptor().FullName()
}

// admit checks a command against the contract and the rules that all services share.
func (a admission[C]) admit(ctx context.Context, rt *Runtime, body C) (decider.Command, error) {
	p, caller := body.GetProvenance(), CallerOf(ctx)
	if p != nil && p.GetPerformedBy() == "" {
		p.PerformedBy = caller.ID
	}
	if err := validate(body); err != nil {
		return decider.Command{}, err
	}
	if p.GetCommandId() == "" {
		if a.creates == nil {
			return decider.Command{}, &BadInput{"provenance.command_id", "is required: the command does not name what it creates"}
		}
		p.CommandId = a.creates(body)
	}
	if err := checkTimes(body.ProtoReflect()); err != nil {
		return decider.Command{}, err
	}
	now := rt.Clock.Now()
	if err := checkTime(body, now); err != nil {
		return decider.Command{}, err
	}
	if err := checkDistricts(body.ProtoReflect(), rt.Districts); err != nil {
		return decider.Command{}, err
	}
	if err := checkPlaces(caller, body.ProtoReflect(), true); err != nil {
		return decider.Command{}, err
	}
	if err := caller.Enters(p, func(id string) (access.Caller, bool) { return rt.Callers.ByID(ctx, id) }); err != nil {
		return decider.Command{}, err
	}
	p.RecordedBy = caller.ID
	if a.check != nil {
		if err := a.check(body); err != nil {
			return decider.Command{}, err
		}
	}
	sum, err := digest(body, a.box != nil) // of what the caller said; what is filled in may come out otherwise another time
	if err != nil {
		return decider.Command{}, err
	}
	if a.credits && p.GetCreditedOrg() == "" {
		p.CreditedOrg = caller.Org
	}
	if a.prepare != nil {
		a.prepare(body)
	}
	return decider.Command{
		At: now, ID: p.GetCommandId(), Digest: sum, Body: body, Covers: func(admCode string) error { return caller.Covers(admCode, "") },
	}, nil
}

// seal moves the personal fields of the command out of its body, sealed. One whose key was destroyed bars the command, which may have been carried
// out before that. A command type without Seals has none, see checkPersonal.
func (a admission[C]) seal(ctx context.Context, aggregate string, cmd *decider.Command) error {
	if a.box == nil {
		return nil
	}
	cmd.Sealed = make(map[string]*eventv1.Sealed)
	return sealable.walk(nil, cmd.Body.ProtoReflect(), func(at *place, in protoreflect.Message, v protoreflect.Value) error {
		s, err := a.box.Seal(ctx, a.keyOf(in.Interface()), aggregate, string(at.field.Name()), v.Message().Interface())
		switch {
		case errors.Is(err, seal.ErrDestroyed):
			cmd.Barred = decider.Refuse(at.String(), "cannot be kept: the child is forgotten")
		case err != nil:
			return err
		default:
			cmd.Sealed[at.String()] = s
		}
		in.Clear(at.field)
		return nil
	})
}

// encode makes the payload of a reply, in JSON where the request was.
func encode(req micro.Request, m proto.Message) ([]byte, string, error) {
	if isJSON(req) {
		b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
		return b, contentJSON, err
	}
	b, err := proto.Marshal(m)
	return b, "application/protobuf", err
}

// status returns the micro error code for an error, and whether its text may be told to the caller.
func status(err error) (code string, tell bool) {
	var bad *BadInput
	var refused *decider.Refusal
	var denied *access.Denied
	switch {
	case errors.As(err, &denied):
		return "403", true
	case errors.Is(err, errTooLarge):
		return "413", true
	case errors.As(err, &bad):
		return "400", true
	case errors.As(err, &refused):
		return "409", true
	case errors.Is(err, ErrNotYet), errors.Is(err, ErrNearlyFull):
		return "503", true
	case errors.Is(err, decider.ErrConflict), errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, eventlog.ErrUnclear),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, ErrBackend):
		return "503", false
	default:
		return "500", false
	}
}

var (
	// ErrNotYet is returned by a query whose answer is not there yet; the caller is told what is missing and may ask again.
	ErrNotYet = errors.New("not there yet")
	// ErrNearlyFull is returned when the stream keeps what room it has for commands that must not wait, see [Endpoint.WhenFull].
	ErrNearlyFull = errors.New("only what corrects, erases or takes rights away is taken until it has more room; send the same command again then")
	// ErrBackend is returned when something that a service needs, such as ClickHouse, does not answer; the caller is told to try again.
	ErrBackend = errors.New("does not answer now")
)

// describe is the text of an error for the caller: one line, no value of the request.
func describe(err error) string {
	code, tell := status(err)
	switch {
	case tell:
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	case code == "503":
		return "not available now: send the same command again"
	default:
		return "internal error: see the service's log"
	}
}

// String names the endpoint.
func (e Endpoint) String() string { return fmt.Sprintf("%s %s", e.subject, e.request) }
