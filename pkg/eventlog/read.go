package eventlog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/subject"
)

// stored is a message as the stream's leader returns it.
type stored struct {
	Subject string `json:"subject"`
	Seq     uint64 `json:"seq"`
	Hdrs    []byte `json:"hdrs"`
	Data    []byte `json:"data"`
	header  nats.Header
}

// which names one message of a stream: the last under a subject filter, the one with a sequence, or the next under a filter from there on.
type which struct {
	Last string `json:"last_by_subj,omitempty"`
	Seq  uint64 `json:"seq,omitempty"`
	Next string `json:"next_by_subj,omitempty"`
}

// get asks a stream's leader, not a follower, for a message; nil means there is none.
func get(ctx context.Context, js jetstream.JetStream, stream string, w which) (*stored, error) {
	request, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	answer, err := Ask(ctx, js.Conn(), subject.API("STREAM.MSG.GET", stream), request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("message of %s: %w", stream, err)
	}
	if got.Error != nil && got.Error.ErrorCode != jetstream.JSErrCodeMessageNotFound {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, got.Error)
	}
	if got.Message != nil && len(got.Message.Hdrs) > 0 {
		// Headers that cannot be read are missing, which makes the message a damaged one.
		got.Message.header, _ = nats.DecodeHeadersMsg(got.Message.Hdrs)
	}
	return got.Message, nil
}

// askedFor is how long an answer is waited for: a server that ended with the request in hand gives none, though the connection to another
// one is not cut.
const askedFor = 2 * time.Second

// Ask sends a request that changes nothing, again whenever the connection is cut or nobody answers.
func Ask(ctx context.Context, nc *nats.Conn, subj string, request []byte) (*nats.Msg, error) {
	for {
		uncut, end := untilCut(ctx, nc)
		try, cancel := context.WithTimeout(uncut, askedFor)
		answer, err := nc.RequestWithContext(try, subj, request)
		again := try.Err() != nil && ctx.Err() == nil
		cancel()
		end()
		if err == nil || !again {
			return answer, err
		}
	}
}

// untilCut returns a context that ends when the connection is cut, too: an answer that was under way does not come over the next one. Its
// end must be called.
func untilCut(ctx context.Context, nc *nats.Conn) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	cut := nc.StatusChanged(nats.RECONNECTING)
	go func() {
		if _, ok := <-cut; ok {
			cancel()
		}
	}()
	return ctx, func() {
		nc.RemoveStatusListener(cut) // closes it
		cancel()
	}
}

// LastSequence asks a stream's leader, not a follower, for the sequence of the last message under a subject filter; 0 means there is
// none.
func LastSequence(ctx context.Context, js jetstream.JetStream, stream, filter string) (uint64, error) {
	m, err := get(ctx, js, stream, which{Last: filter})
	if err != nil || m == nil {
		return 0, err
	}
	return m.Seq, nil
}

// read returns the envelopes of an aggregate after a sequence, and the sequence of the last message as the leader knows it. It goes back from
// the last message, from each to the one before it, so that it costs what the aggregate has, however long the stream is. (A search forwards
// makes the server look at all that lies between the aggregate's messages and after them.)
func (l *Log) read(ctx context.Context, id string, after uint64) ([]Envelope, uint64, error) {
	m, err := get(ctx, l.js, l.agg.Stream(), which{Last: l.agg.Filter(id)})
	if err != nil || m == nil {
		return nil, 0, err
	}
	last := m.Seq
	var back []Envelope
	for m.Seq > after {
		if e, ok := l.decode(m); ok {
			back = append(back, e)
		}
		before, known := m.before(l.agg.Filter(id))
		if known && before <= after {
			break
		}
		until := m.Seq
		if known {
			if m, err = get(ctx, l.js, l.agg.Stream(), which{Seq: before}); err != nil {
				return nil, 0, err
			}
		}
		if !known || m == nil || !strings.HasPrefix(m.Subject, strings.TrimSuffix(l.agg.Filter(id), "*")) {
			slices.Reverse(back)
			rest, err := l.search(ctx, id, after, until)
			return append(rest, back...), last, err
		}
	}
	slices.Reverse(back)
	return back, last, nil
}

// before returns the sequence of the message of the aggregate before this one: what this one was stored on, or its neighbour where it is a
// later event of a command. A message that was not appended by a Log may not tell.
func (m *stored) before(filter string) (uint64, bool) {
	if m.header.Get(jetstream.ExpectedLastSubjSeqSubjHeader) == filter {
		seq, err := strconv.ParseUint(m.header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
		return seq, err == nil && seq < m.Seq
	}
	n, err := strconv.Atoi(m.header.Get(jetstreamext.BatchSeqHeader))
	return m.Seq - 1, err == nil && n > 1
}

// search returns the envelopes of an aggregate between two sequences, looking forwards.
func (l *Log) search(ctx context.Context, id string, after, until uint64) ([]Envelope, error) {
	var out []Envelope
	for {
		m, err := get(ctx, l.js, l.agg.Stream(), which{Seq: after + 1, Next: l.agg.Filter(id)})
		if err != nil || m == nil || m.Seq >= until {
			return out, err
		}
		if e, ok := l.decode(m); ok {
			out = append(out, e)
		}
		after = m.Seq
	}
}
