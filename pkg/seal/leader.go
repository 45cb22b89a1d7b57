package seal

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// message is a message as the leader of its stream gives it.
type message struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Data    []byte `json:"data"`
}

// which names one message of a stream: the last on a subject, the one with a sequence, or the next under a filter from there on.
type which struct {
	Last string `json:"last_by_subj,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
}

// get asks the leader of a stream for a message; nil means that there is none. A follower may still have what was destroyed, may not have yet
// what is to be destroyed, and answers when it is the only one left.
func (b *Box) get(ctx context.Context, stream string, w which) (*message, error) {
	request, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := eventlog.Ask(ctx, b.js.Conn(), subject.API("STREAM.MSG.GET", stream), request)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w: %w", stream, eventlog.ErrUnavailable, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *message            `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	if got.Error != nil && got.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return nil, fmt.Errorf("read stream %s: %w: %w", stream, eventlog.ErrUnavailable, got.Error)
	}
	return got.Message, nil
}

// answerTimeout is how long the leader may take to answer.
const answerTimeout = 10 * time.Second
