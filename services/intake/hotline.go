package intake

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
	"tongan.dev/services/intake/internal/duty"
	"tongan.dev/services/intake/internal/hotline"
)

// ContactSubject answers intakev1.GetContact with intakev1.Contact.
var ContactSubject = hotline.Aggregate.Query("get")

// hotlineEndpoints is the endpoints about contacts and lines.
func hotlineEndpoints(rt *serve.Runtime, contacts *contacts) []serve.Endpoint {
	lines := eventlog.New(rt.JS, duty.Aggregate, rt.Log)
	return []serve.Endpoint{
		contactCommand(contacts, "receive", (*intakev1.ReceiveHotlineContact).GetContactId,
			serve.Creates((*intakev1.ReceiveHotlineContact).GetContactId), serve.Seals[*intakev1.ReceiveHotlineContact](contacts.box, sealsContact)),
		contactCommand(contacts, "classify", (*intakev1.ClassifyHotlineContact).GetContactId),
		contactCommand(contacts, "link", (*intakev1.LinkHotlineContact).GetContactId),
		contactCommand(contacts, "act", (*intakev1.RecordContactAction).GetContactId),
		contactCommand(contacts, "promise-call-back", (*intakev1.PromiseCallBack).GetContactId),
		contactCommand(contacts, "call-back", (*intakev1.RecordCallBack).GetContactId),
		contactCommand(contacts, "hand-over", (*intakev1.HandOverContact).GetContactId),
		contactCommand(contacts, "close", (*intakev1.CloseHotlineContact).GetContactId),
		serve.Query(ContactSubject, func(ctx context.Context, q *intakev1.GetContact) (*intakev1.Contact, error) {
			return getContact(ctx, rt, contacts, q)
		}),
		serve.Command(lines, duty.Decider, "start-shift", (*intakev1.StartShift).GetLineId,
			serve.Creates((*intakev1.StartShift).GetShiftId), serve.Credits[*intakev1.StartShift]()),
		serve.Command(lines, duty.Decider, "end-shift", (*intakev1.EndShift).GetLineId, serve.Credits[*intakev1.EndShift]()),
		serve.Query(duty.Aggregate.Query("get"), func(ctx context.Context, q *intakev1.GetLine) (*intakev1.Line, error) {
			return getLine(ctx, lines, q)
		}),
	}
}

// contactCommand is the endpoint of a command about a contact, credited to the caller's organisation where it names none.
func contactCommand[C decider.Event](contacts *contacts, verb string, id func(C) string, opts ...serve.Option[C]) serve.Endpoint {
	return serve.Handle(contacts.Log, verb, id,
		func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, _ C) (*eventv1.CommandReply, error) {
			return decider.Transact(ctx, contacts, hotline.Decider, id, cmd)
		}, append(opts, serve.Credits[C]())...)
}

// contactKey gives a contact a key of its own: there may be no child yet, or several.
func contactKey(id string) string { return "contact-" + id }

func sealsContact(parent proto.Message) string {
	return contactKey(parent.(*intakev1.ReceiveHotlineContact).GetContactId())
}

// contacts is the log of the hotline's contacts. It notes which children those with personal details are about: when a child is forgotten,
// their keys are destroyed with its own.
type contacts struct {
	*eventlog.Log

	box      *seal.Box
	about    *seal.Index // which contacts a child's id finds
	children *eventlog.Log
}

func newContacts(ctx context.Context, rt *serve.Runtime, box *seal.Box) (*contacts, error) {
	about, err := box.NewIndex(ctx, "contact")
	return &contacts{eventlog.New(rt.JS, hotline.Aggregate, rt.Log), box, about, eventlog.New(rt.JS, child.Aggregate, rt.Log)}, err
}

// Append stores events of a contact. Which children they make it about is noted first, when all is decided: a process that ends in between
// leaves a note too many, never one too few.
func (c *contacts) Append(ctx context.Context, id string, last uint64, events []decider.Recorded) (uint64, error) {
	for _, e := range events {
		var err error
		switch e := e.Event.(type) {
		case *intakev1.HotlineContactReceived:
			if e.GetDetails() != nil && e.GetChildId() != "" {
				err = c.note(ctx, id, []string{e.GetChildId()}, hotline.ErrAboutForgotten)
			}
		case *intakev1.HotlineContactLinked:
			var f decider.Folded[hotline.State]
			if f, err = decider.Load(ctx, c.Log, hotline.Decider, id); err == nil && f.State.Details() != nil {
				err = c.note(ctx, id, e.GetChildIds(), hotline.ErrLinkForgotten)
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return c.Log.Append(ctx, id, last, events)
}

// Together says that each command is appended by itself: Append looks at what is stored, and may refuse.
func (*contacts) Together(int) bool { return false }

// note notes that a contact is about children, and returns the refusal if one of them is forgotten. It looks before, to leave no note about
// who is forgotten, and again after: a child that is forgotten later than that is forgotten with the note in its place.
func (c *contacts) note(ctx context.Context, id string, childIDs []string, refusal error) error {
	if err := c.known(ctx, childIDs, refusal); err != nil {
		return err
	}
	for _, childID := range childIDs {
		if _, err := c.about.Enter(ctx, childID, id); err != nil {
			return err
		}
	}
	return c.known(ctx, childIDs, refusal)
}

// known returns the refusal if one of the children is forgotten.
func (c *contacts) known(ctx context.Context, childIDs []string, refusal error) error {
	for _, id := range childIDs {
		f, err := decider.Load(ctx, c.children, child.Decider, id)
		if err != nil {
			return err
		}
		if f.State.Forgotten() {
			return refusal
		}
	}
	return nil
}

// destroyKeys destroys the keys of all contacts that are about a child, and removes the notes of it.
func (c *contacts) destroyKeys(ctx context.Context, childID string) error {
	ids, err := c.about.Find(ctx, childID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.box.Destroy(ctx, contactKey(id)); err != nil {
			return err
		}
		if err := c.about.Leave(ctx, childID, id); err != nil {
			return err
		}
	}
	return nil
}

// getContact opens the seal for a caller who may act in the contact's district. That it was opened is on the audit trail before it is.
func getContact(ctx context.Context, rt *serve.Runtime, contacts *contacts, q *intakev1.GetContact) (*intakev1.Contact, error) {
	f, err := decider.Load(ctx, contacts, hotline.Decider, q.GetContactId())
	if err != nil {
		return nil, err
	}
	caller, view := serve.CallerOf(ctx), f.State.View(q.GetContactId(), f.Revision)
	switch err := caller.Covers(view.GetAdmCode(), ""); {
	case f.Revision == 0:
		return nil, hotline.ErrNotReceived
	case err != nil:
		return nil, err
	case f.State.Details() == nil:
		return view, nil
	}
	opened := &auditv1.SealOpened{ContactId: q.GetContactId(), Subject: ContactSubject}
	if ids := view.GetChildIds(); len(ids) > 0 {
		opened.ChildId = ids[0]
	}
	if err := looks(ctx, rt, q.GetReason(), opened); err != nil {
		return nil, err
	}
	view.Details = &intakev1.ContactDetails{}
	err = contacts.box.Open(ctx, contacts.Key(q.GetContactId()), "details", f.State.Details(), view.GetDetails())
	switch {
	case errors.Is(err, seal.ErrDestroyed):
		return nil, hotline.ErrForgotten
	case errors.Is(err, seal.ErrNoKey): // it is being destroyed right now
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)
	}
	return view, err
}

func getLine(ctx context.Context, lines *eventlog.Log, q *intakev1.GetLine) (*intakev1.Line, error) {
	f, err := decider.Load(ctx, lines, duty.Decider, q.GetLineId())
	if err != nil {
		return nil, err
	}
	if f.Revision == 0 {
		return nil, duty.ErrNoShift
	}
	return f.State.View(q.GetLineId(), f.Revision), nil
}
