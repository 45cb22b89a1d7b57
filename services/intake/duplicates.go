package intake

import (
	"context"
	"errors"
	"slices"
	"strings"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
)

// numbers finds children with the same identity number.
type numbers struct {
	box   *seal.Box
	index *seal.Index
}

func newNumbers(ctx context.Context, box *seal.Box) (*numbers, error) {
	index, err := box.NewIndex(ctx, "identity")
	return &numbers{box, index}, err
}

// transact decides a command with a child's details, and answers who else has the identity number. The number is entered first: a process
// that ends in between leaves an entry too many, never one too few.
func (n *numbers) transact(ctx context.Context, children *eventlog.Log, id string, cmd decider.Command) (*eventv1.CommandReply, error) {
	if cmd.Barred != nil { // nothing is sealed, and nothing will be stored
		return decider.Transact(ctx, children, child.Decider, id, cmd)
	}
	details := &intakev1.ChildDetails{}
	if err := n.box.Open(ctx, children.Key(id), "details", cmd.Sealed["details"], details); err != nil {
		return nil, err
	}
	number := strings.ToUpper(details.GetIdentityNumber())
	if number == "" {
		reply, err := decider.Transact(ctx, children, child.Decider, id, cmd)
		if err == nil && !reply.GetAgain() {
			err = n.index.Forget(ctx, id)
		}
		return reply, err
	}
	isNew, err := n.index.Enter(ctx, number, id)
	if err != nil {
		return nil, err
	}
	reply, err := decider.Transact(ctx, children, child.Decider, id, cmd)
	if _, refused := errors.AsType[*decider.Refusal](err); isNew && (refused || reply.GetAgain()) { // what stays stored has another number
		err = errors.Join(err, n.index.Leave(ctx, number, id))
	}
	if err != nil {
		return nil, err
	}
	if !reply.GetAgain() { // a number that was corrected
		if err := n.index.Only(ctx, number, id); err != nil {
			return nil, err
		}
	}
	same, err := n.index.Find(ctx, number)
	if err != nil {
		return nil, err
	}
	reply.PossibleDuplicates = slices.DeleteFunc(same, func(other string) bool { return other == id })
	return reply, nil
}
