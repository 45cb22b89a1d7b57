package seal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	var got struct {
		Message *message `json:"message"`
	}
	err := b.ask(ctx, "STREAM.MSG.GET", stream, w, &got)
	return got.Message, err
}

// subjects asks the leader of a stream for those under a filter that there are messages on.
func (b *Box) subjects(ctx context.Context, stream, filter string) ([]string, error) {
	var got struct {
		Total int `json:"total"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
		Cluster *jetstream.ClusterInfo `json:"cluster"`
	}
	if err := b.ask(ctx, "STREAM.INFO", stream, map[string]string{"subjects_filter": filter}, &got); err != nil {
		return nil, err
	}
	if !eventlog.FromLeader(got.Cluster) {
		return nil, fmt.Errorf("read stream %s: %w: %w", stream, eventlog.ErrUnavailable, eventlog.ErrNoAnswer)
	}
	if got.Total > len(got.State.Subjects) { // a hundred thousand at once
		return nil, fmt.Errorf("read stream %s: %d subjects are too many", stream, got.Total)
	}
	return slices.Collect(maps.Keys(got.State.Subjects)), nil
}

// ask asks the leader of a stream for something that is nothing where no message is found.
func (b *Box) ask(ctx context.Context, operation, stream string, request, answer any) error {
	payload, err := json.Marshal(request)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	reply, err := eventlog.Ask(ctx, b.js.Conn(), subject.API(operation, stream), payload)
	if err != nil {
		return fmt.Errorf("read stream %s: %w: %w", stream, eventlog.ErrUnavailable, err)
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(reply.Data, &failed), json.Unmarshal(reply.Data, answer)); err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	if failed.Error != nil && failed.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return fmt.Errorf("read stream %s: %w: %w", stream, eventlog.ErrUnavailable, failed.Error)
	}
	return nil
}

// answerTimeout is how long the leader may take to answer.
const answerTimeout = 10 * time.Second
