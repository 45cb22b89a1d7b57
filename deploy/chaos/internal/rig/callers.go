package rig

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	"tongan.dev/services/audit"
)

// Refusal is a service's answer to a command that it did not carry out.
type Refusal struct {
	// Code of the micro error; 503 is that the service may carry it out later.
	Code string
	text string
}

// Error is what the service said.
func (r *Refusal) Error() string { return r.text + " (" + r.Code + ")" }

// Caller adds a caller of a role and connects as it.
func (r *Rig) Caller(ctx context.Context, role auditv1.Role) (*nats.Conn, error) {
	operator, err := access.LoadCredentials(filepath.Join(r.dir, audit.FirstOperatorID+".nk"))
	if err != nil {
		return nil, err
	}
	nc, err := r.connect(operator.CallerOptions())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	return Join(ctx, nc, role)
}

// Join adds a caller of a role, over the connection of an operator, and connects to the same bus as it.
func Join(ctx context.Context, operator *nats.Conn, role auditv1.Role) (*nats.Conn, error) {
	key, err := access.NewCredentials()
	if err != nil {
		return nil, err
	}
	id := strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
	err = Insist(ctx, operator, subject.Caller.Command("add"), &auditv1.AddCaller{
		Provenance: Provenance("add-" + id), CallerId: id, Nkey: key.Public(), Role: role, OrgId: "bureau",
	})
	if err != nil {
		return nil, err
	}
	return connect(operator.ConnectedUrl(), key.CallerOptions())
}

// Provenance is that of a command of now.
func Provenance(command string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: command, OccurredAt: timestamppb.Now(), AdmCode: "440703", SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_DESK,
	}
}

// Send sends a command once, and returns nil if it was carried out. Whether it was is not known after any error but a *Refusal.
func Send(ctx context.Context, nc *nats.Conn, to string, command proto.Message) error {
	payload, err := proto.Marshal(command)
	if err != nil {
		return err
	}
	reply, err := nc.RequestWithContext(ctx, to, payload)
	if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		return fmt.Errorf("%s: %w", to, &Refusal{code, reply.Header.Get(micro.ErrorHeader)})
	}
	return nil
}

// Insist sends a command until it is carried out or refused for good.
func Insist(ctx context.Context, nc *nats.Conn, to string, command proto.Message) error {
	for {
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := Send(try, nc, to, command)
		cancel()
		if refused, is := errors.AsType[*Refusal](err); err == nil || ctx.Err() != nil || is && refused.Code != "503" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
