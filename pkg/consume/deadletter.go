package consume

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// DeadLetter puts a reference to a message aside in TONGAN_DEAD, once for each message and reader however often it is called.
func DeadLetter(ctx context.Context, js jetstream.JetStream, ref *eventv1.DeadLetter) error {
	return DeadLetters(ctx, js, []*eventv1.DeadLetter{ref})
}

// DeadLetters is DeadLetter for many, up to the server's bound for an atomic batch: they share one sync of the disk.
func DeadLetters(ctx context.Context, js jetstream.JetStream, refs []*eventv1.DeadLetter) error {
	msgs := make([]*nats.Msg, len(refs))
	for i, ref := range refs {
		payload, err := proto.Marshal(ref)
		if err != nil {
			return fmt.Errorf("dead letter: %w", err)
		}
		m := nats.NewMsg(subject.Dead(ref.GetReader(), ref.GetStream(), ref.GetSequence()))
		m.Data = payload
		m.Header.Set(eventlog.HeaderType, string(ref.ProtoReflect().Descriptor().FullName()))
		m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		msgs[i] = m
	}
	err := putAside(ctx, js, msgs)
	if err != nil {
		return fmt.Errorf("dead letters for %s from %d on: %w", refs[0].GetStream(), refs[0].GetSequence(), err)
	}
	return nil
}

// putAside stores what is not there yet. Where one of several is, which none tells, it is found by halving them.
func putAside(ctx context.Context, js jetstream.JetStream, msgs []*nats.Msg) error {
	var err error
	if len(msgs) == 1 {
		for _, h := range []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader} {
			msgs[0].Header.Del(h)
		}
		_, err = js.PublishMsg(ctx, msgs[0])
	} else {
		_, err = jetstreamext.PublishMsgBatch(ctx, js, msgs, jetstreamext.BatchFlowControl{AckFirst: false})
	}
	api, _ := errors.AsType[*jetstream.APIError](err)
	there := api != nil && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
	switch {
	case there && len(msgs) == 1:
		return nil
	case there:
		half := len(msgs) / 2
		if err := putAside(ctx, js, msgs[:half]); err != nil {
			return err
		}
		return putAside(ctx, js, msgs[half:])
	default:
		return err
	}
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
