// Package audit keeps who may call, tells the bus, and answers what was done.
package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	"tongan.dev/services/audit/internal/caller"
)

// Config is what the service is told beside serve.Config.
type Config struct {
	Issuer            string `env:"TONGAN_ISSUER" required:"" type:"path" help:"File with the seed of the key that signs whom the bus lets in, mode 0600."`
	SystemCredentials string `env:"TONGAN_SYSTEM_CREDENTIALS" required:"" type:"path" help:"File with the seed of the user system, which ends connections, mode 0600."`
	FirstOperator     string `env:"TONGAN_FIRST_OPERATOR" type:"path" help:"If there is no operator yet, add one, operator-1, and write the private part of its key to this file, mode 0600."`

	// Denied is what a bus inside this process denied its connections.
	Denied <-chan access.Attempt `kong:"-"`
}

// FirstOperatorID is who may add the others.
const FirstOperatorID = "operator-1"

// Folds say how the aggregates of the service's stream are folded. The trail is no aggregate that anybody decides on.
func Folds() eventlog.Folds {
	return eventlog.Folds{caller.Aggregate: caller.Decider.Begin, subject.Trail: nil}
}

// Run offers the service's commands and queries until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, cfg Config) error {
	if err := serve.Ready(ctx, rt, subject.Audit); err != nil {
		return err
	}
	issuer, err := access.LoadIssuer(cfg.Issuer)
	if err != nil {
		return err
	}
	system, err := connectSystem(rt, cfg.SystemCredentials)
	if err != nil {
		return err
	}
	defer system.Close()
	registry, err := access.Follow(ctx, rt.JS, issuer.Public(), rt.Log)
	if err != nil {
		return err
	}
	rt.Callers = registry
	callers := eventlog.New(rt.JS, caller.Aggregate, rt.Log).Signed(issuer.Sign, issuer.Genuine)
	if cfg.FirstOperator != "" {
		if err := firstOperator(ctx, rt, registry, callers, cfg.FirstOperator); err != nil {
			return err
		}
	}
	attempts := access.NewAttempts(rt.JS)
	door, err := access.Door{Issuer: issuer, Find: registry.ByKey, Refused: func(ctx context.Context, key string) {
		refused(ctx, rt, attempts, access.Attempt{
			Caller: access.Caller{ID: registry.Former(key)}, Key: key, Action: auditv1.BusAction_BUS_ACTION_CONNECT, Denied: access.Denied{Field: "nkey", Rule: "is not known, or no longer"},
		})
	}}.Open(rt.JS.Conn())
	if err != nil {
		return err
	}
	defer func() { _ = door.Unsubscribe() }()
	b := &boundary{system, registry, rt.Log}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.run(ctx) })
	g.Go(func() error { return b.endStrangers(ctx) })
	g.Go(func() error { return recordDenied(ctx, rt, registry, attempts, cfg.Denied) })
	g.Go(func() error {
		return serve.Run(ctx, rt, subject.Audit, "who may call, and what was done", endpoints(rt, registry, callers, b))
	})
	return g.Wait()
}

func endpoints(rt *serve.Runtime, registry *access.Registry, callers *eventlog.Log, b *boundary) []serve.Endpoint {
	// A command about a caller is answered once the key the caller had before opens nothing any more.
	decide := func(ctx context.Context, id string, cmd decider.Command, key string) (*eventv1.CommandReply, error) {
		if err := free(registry, key, id); err != nil {
			return nil, err
		}
		before, err := decider.Load(ctx, callers, caller.Decider, id)
		if err != nil {
			return nil, err
		}
		reply, err := decider.Transact(ctx, callers, caller.Decider, id, cmd)
		if err != nil {
			return nil, err
		}
		if err := registry.Wait(ctx, reply.GetRevision()); err != nil {
			return nil, err
		}
		old := before.State.Key()
		_, valid := registry.Known(old)                         // it is where an old command came again
		if old == "" || valid || id == serve.CallerOf(ctx).ID { // the caller's own connection must carry the reply
			return reply, nil
		}
		return reply, b.end(ctx, old)
	}
	return []serve.Endpoint{
		serve.Handle(callers, "add", (*auditv1.AddCaller).GetCallerId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, c *auditv1.AddCaller) (*eventv1.CommandReply, error) {
				return decide(ctx, id, cmd, c.GetNkey())
			}),
		serve.Handle(callers, "rotate", (*auditv1.RotateCallerKey).GetCallerId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, c *auditv1.RotateCallerKey) (*eventv1.CommandReply, error) {
				return decide(ctx, id, cmd, c.GetNkey())
			}).WhenFull(),
		serve.Handle(callers, "revoke", (*auditv1.RevokeCaller).GetCallerId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, _ *auditv1.RevokeCaller) (*eventv1.CommandReply, error) {
				return decide(ctx, id, cmd, "")
			}).WhenFull(),
		serve.Query(subject.Caller.Query("list"), func(_ context.Context, q *auditv1.ListCallers) (*auditv1.Callers, error) {
			return list(registry, q), nil
		}),
		serve.Query(RecordsSubject, func(ctx context.Context, q *auditv1.ListRecords) (*auditv1.Records, error) {
			return records(ctx, rt.JS, q)
		}).Exports(),
	}
}

// errKeyTaken is returned when two callers would have one key.
var errKeyTaken = decider.Refuse("nkey", "is another caller's")

// free refuses a key that another caller has.
func free(registry *access.Registry, key, id string) error {
	callers, _, _ := registry.Callers()
	for _, c := range callers {
		if key != "" && c.Key == key && c.ID != id {
			return errKeyTaken
		}
	}
	return nil
}

// firstOperator adds an operator if there is none, and writes its credentials.
func firstOperator(ctx context.Context, rt *serve.Runtime, registry *access.Registry, log *eventlog.Log, path string) error {
	callers, _, _ := registry.Callers()
	for _, c := range callers {
		if c.Role == auditv1.Role_ROLE_OPERATOR {
			return nil
		}
	}
	credentials, err := access.Ensure(path)
	if err != nil {
		return err
	}
	add := &auditv1.AddCaller{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(rt.Clock.Now()), PerformedBy: "system", RecordedBy: "system", AdmCode: rt.Districts[0],
			SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
		},
		CallerId: FirstOperatorID, Nkey: credentials.Public(), Role: auditv1.Role_ROLE_OPERATOR, OrgId: "operations",
	}
	_, err = decider.Transact(ctx, log, caller.Decider, FirstOperatorID, decider.Command{At: rt.Clock.Now(), ID: uuid.NewString(), Body: add})
	if errors.Is(err, caller.ErrAdded) { // another copy of the service was faster
		return nil
	}
	return err
}

// callersPage is how many callers one answer holds.
const callersPage = 1000

func list(registry *access.Registry, q *auditv1.ListCallers) *auditv1.Callers {
	out := &auditv1.Callers{}
	callers, _, _ := registry.Callers()
	for _, c := range callers {
		if c.ID <= q.GetAfter() {
			continue
		}
		if len(out.GetCallers()) == callersPage {
			out.More = true
			break
		}
		out.Callers = append(out.Callers, &auditv1.Caller{
			CallerId: c.ID, Nkey: c.Key, Role: c.Role, OrgId: c.Org, AdmCode: c.AdmCode, InstitutionId: c.InstitutionID,
		})
	}
	return out
}

// connectSystem connects to the system account of the same bus.
func connectSystem(rt *serve.Runtime, path string) (*nats.Conn, error) {
	credentials, err := access.LoadCredentials(path)
	if err != nil {
		return nil, err
	}
	opts := rt.JS.Conn().Opts // as the service's own connection, but for who it is
	opts.Name, opts.InboxPrefix = subject.Micro(access.System), ""
	for _, o := range credentials.ServiceOptions(access.System) {
		if err := o(&opts); err != nil {
			return nil, fmt.Errorf("system account: %w", err)
		}
	}
	nc, err := opts.Connect()
	if err != nil {
		return nil, fmt.Errorf("system account: the bus does not let its user in: %w", err)
	}
	return nc, nil
}

// recordDenied puts what the bus denied on the audit trail.
func recordDenied(ctx context.Context, rt *serve.Runtime, registry *access.Registry, attempts *access.Attempts, denied <-chan access.Attempt) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case a := <-denied:
			a.Caller, _ = registry.Known(a.Key)
			refused(ctx, rt, attempts, a)
		}
	}
}

func refused(ctx context.Context, rt *serve.Runtime, attempts *access.Attempts, a access.Attempt) {
	if err := attempts.Refused(ctx, rt.Clock.Now(), a); err != nil && ctx.Err() == nil {
		rt.Log.Error("refused attempt is not on the audit trail", "error", err)
	}
}
