package intake

import (
	"cmp"
	"context"
	"errors"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
	"tongan.dev/services/intake/internal/identity"
)

// ChildSubject answers intakev1.GetChild with intakev1.Child.
var ChildSubject = child.Aggregate.Query("get")

// registry is the endpoints about children.
func registry(rt *serve.Runtime, box *seal.Box, numbers *numbers) []serve.Endpoint {
	children := eventlog.New(rt.JS, child.Aggregate, rt.Log)
	return []serve.Endpoint{
		serve.Handle(children, "register", (*intakev1.RegisterChild).GetChildId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, _ *intakev1.RegisterChild) (*eventv1.CommandReply, error) {
				return numbers.transact(ctx, children, id, cmd)
			}, serve.Creates((*intakev1.RegisterChild).GetChildId), serve.Seals[*intakev1.RegisterChild](box, seal.ChildKey),
			serve.Checks(func(c *intakev1.RegisterChild) error { return checkDetails(c.GetDetails(), dayOf(c)) }),
			serve.Prepare(func(c *intakev1.RegisterChild) {
				c.AgeBand = band(c.GetDetails(), dayOf(c))
				c.CategoryAgeBand = band(c.GetDetails(), cmp.Or(c.GetCategoryStartedOn(), dayOf(c)))
			})),
		serve.Handle(children, "correct", (*intakev1.CorrectChild).GetChildId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, _ *intakev1.CorrectChild) (*eventv1.CommandReply, error) {
				return numbers.transact(ctx, children, id, cmd)
			}, serve.Seals[*intakev1.CorrectChild](box, seal.ChildKey),
			serve.Checks(func(c *intakev1.CorrectChild) error { return checkDetails(c.GetDetails(), dayOf(c)) }),
			serve.Prepare(func(c *intakev1.CorrectChild) { c.AgeBand = band(c.GetDetails(), dayOf(c)) })).WhenFull(),
		serve.Handle(children, "start-category", (*intakev1.StartCategory).GetChildId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, c *intakev1.StartCategory) (*eventv1.CommandReply, error) {
				var err error
				if c.AgeBand, err = ageBand(ctx, children, box, id, c.GetStartedOn()); err != nil {
					return nil, err
				}
				return decider.Transact(ctx, children, child.Decider, id, cmd)
			}),
		serve.Command(children, child.Decider, "end-category", (*intakev1.EndCategory).GetChildId),
		serve.Command(children, child.Decider, "move", (*intakev1.MoveChild).GetChildId),
		serve.Command(children, child.Decider, "deregister", (*intakev1.DeregisterChild).GetChildId),
		serve.Command(children, child.Decider, "record-guardian", (*intakev1.RecordGuardian).GetChildId,
			serve.Seals[*intakev1.RecordGuardian](box, seal.ChildKey),
			serve.Checks(func(c *intakev1.RecordGuardian) error {
				return checkNumber("details.identity_number", c.GetDetails().GetIdentityNumber())
			})),
		serve.Command(children, child.Decider, "end-guardian", (*intakev1.EndGuardian).GetChildId),
		serve.Command(children, child.Decider, "arrange-care", (*intakev1.ArrangeCare).GetChildId),
		serve.Command(children, child.Decider, "join-household", (*intakev1.JoinHousehold).GetChildId),
		serve.Command(children, child.Decider, "assign-worker", (*intakev1.AssignWorker).GetChildId),
		serve.Command(children, child.Decider, "merge", (*intakev1.MergeChild).GetChildId).WhenFull(),
		serve.Command(children, child.Decider, "forget", (*intakev1.ForgetChild).GetChildId).WhenFull(),
		serve.Query(ChildSubject, func(ctx context.Context, q *intakev1.GetChild) (*intakev1.Child, error) {
			return getChild(ctx, rt, children, box, q)
		}),
	}
}

// checkDetails refuses an identity number and a date of birth that cannot be, by themselves, together, or on the day of the command.
func checkDetails(d *intakev1.ChildDetails, day string) error {
	if err := checkNumber("details.identity_number", d.GetIdentityNumber()); err != nil {
		return err
	}
	if number, birth := d.GetIdentityNumber(), d.GetBirthDate(); birth == "" && number != "" {
		if identity.Birth(number) > day {
			return &serve.BadInput{Field: "details.identity_number", Rule: "holds a date of birth after the day of the command"}
		}
	} else if birth != "" {
		_, isDate := identity.Age(birth, "9999-12-31")
		switch {
		case !isDate:
			return &serve.BadInput{Field: "details.birth_date", Rule: "must be a date, YYYY-MM-DD"}
		case number != "" && birth != identity.Birth(number):
			return &serve.BadInput{Field: "details.birth_date", Rule: "contradicts the identity number"}
		case birth > day:
			return &serve.BadInput{Field: "details.birth_date", Rule: "lies after the day of the command"}
		}
	}
	return nil
}

func checkNumber(field, number string) error {
	if number == "" {
		return nil
	}
	if rule := identity.Rule(number); rule != "" {
		return &serve.BadInput{Field: field, Rule: rule}
	}
	return nil
}

// band is the age band on a day by the details.
func band(d *intakev1.ChildDetails, day string) intakev1.AgeBand {
	birth := d.GetBirthDate()
	if birth == "" && d.GetIdentityNumber() != "" {
		birth = identity.Birth(d.GetIdentityNumber())
	}
	return identity.Band(birth, day)
}

func dayOf(c decider.Event) string { return decider.Day(c.GetProvenance().GetOccurredAt().AsTime()) }

// ageBand opens the child's details to know the age on a day; nothing of them leaves this function but the band. A forgotten child's age
// is not known.
func ageBand(ctx context.Context, children *eventlog.Log, box *seal.Box, id, day string) (intakev1.AgeBand, error) {
	f, err := decider.Load(ctx, children, child.Decider, id)
	if err != nil || f.State.Details() == nil {
		return intakev1.AgeBand_AGE_BAND_UNSPECIFIED, err
	}
	details, err := open(ctx, children, box, id, f.State.Details())
	if errors.Is(err, child.ErrForgotten) {
		return intakev1.AgeBand_AGE_BAND_UNSPECIFIED, nil
	}
	if err != nil {
		return intakev1.AgeBand_AGE_BAND_UNSPECIFIED, err
	}
	return band(details, day), nil
}

// getChild opens the seal for a caller who may act in the child's district. That it was opened is on the audit trail before it is.
func getChild(ctx context.Context, rt *serve.Runtime, children *eventlog.Log, box *seal.Box, q *intakev1.GetChild) (*intakev1.Child, error) {
	f, err := decider.Load(ctx, children, child.Decider, q.GetChildId())
	if err != nil {
		return nil, err
	}
	caller, view := serve.CallerOf(ctx), f.State.View(q.GetChildId(), f.Revision)
	switch err := caller.Covers(view.GetAdmCode(), ""); {
	case f.Revision == 0:
		return nil, child.ErrNotRegistered
	case err != nil:
		return nil, err
	case f.State.Forgotten():
		return nil, child.ErrForgotten
	}
	if err := looks(ctx, rt, q.GetReason(), &auditv1.SealOpened{ChildId: q.GetChildId(), Subject: ChildSubject}); err != nil {
		return nil, err
	}
	view.Details, err = open(ctx, children, box, q.GetChildId(), f.State.Details())
	return view, err
}

// looks writes down that the caller is going to see what is sealed, and why.
func looks(ctx context.Context, rt *serve.Runtime, reason string, at *auditv1.SealOpened) error {
	caller := serve.CallerOf(ctx)
	at.Provenance = access.Provenance(caller, rt.Clock.Now(), reason)
	return access.Record(ctx, rt.JS, caller.ID, at)
}

// open opens a child's details. Where the key is gone because the child was forgotten in the meantime, it says so.
func open(ctx context.Context, children *eventlog.Log, box *seal.Box, id string, sealed *eventv1.Sealed) (*intakev1.ChildDetails, error) {
	details := &intakev1.ChildDetails{}
	err := box.Open(ctx, children.Key(id), "details", sealed, details)
	if err == nil {
		return details, nil
	}
	if f, failed := decider.Load(ctx, children, child.Decider, id); failed == nil && f.State.Forgotten() {
		return nil, child.ErrForgotten
	}
	return nil, err
}
