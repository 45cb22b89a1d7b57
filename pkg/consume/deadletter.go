package consume

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// DeadLetter puts a reference to a message aside in TONGAN_DEAD, once for each message and reader however often it is called.
func DeadLetter(ctx context.Context, js jetstream.JetStream, ref *eventv1.DeadLetter) error {
	payload, err := proto.Marshal(ref)
	if err != nil {
		return fmt.Errorf("dead letter: %w", err)
	}
	m := nats.NewMsg(subject.Dead(ref.GetReader(), ref.GetStream(), ref.GetSequence()))
	m.Data = payload
	m.Header.Set(eventlog.HeaderType, string(ref.ProtoReflect().Descriptor().FullName()))
	_, err = js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return nil // it is there already
	}
	if err != nil {
		return fmt.Errorf("dead letter for %s %d: %w", ref.GetStream(), ref.GetSequence(), err)
	}
	return nil
}

// Class returns the class of a decoding error of eventlog.Decode.
func Class(err error) eventv1.DeadLetterClass {
	switch {
	case errors.Is(err, eventlog.ErrHeader):
		return eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HEADER
	case errors.Is(err, eventlog.ErrChecksum):
		return eventv1.DeadLetterClass_DEAD_LETTER_CLASS_CHECKSUM
	case errors.Is(err, eventlog.ErrDecode):
		return eventv1.DeadLetterClass_DEAD_LETTER_CLASS_DECODE
	default:
		return eventv1.DeadLetterClass_DEAD_LETTER_CLASS_HANDLER
	}
}
