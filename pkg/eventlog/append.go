package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"tongan.dev/pkg/decider"
)

// publishTimeout bounds one try; what is not answered by then is read back.
const publishTimeout = 5 * time.Second

// Codes of the server for an append that was not stored now but may have been by an earlier try.
const (
	codeWrongLastSequence         jetstream.ErrorCode = 10071
	codeWrongLastSequenceConstant jetstream.ErrorCode = 10164
	codeDuplicateInFlight         jetstream.ErrorCode = 10158
	codeBatchDuplicate            jetstream.ErrorCode = 10201
)

// errDuplicate stands for an acknowledgement that says the server saw the event id before.
var errDuplicate = errors.New("the server saw the event id before")

// batchHeaders are a header for the last message of a batch and for every one.
var batchHeaders = []string{jetstreamext.BatchIDHeader, jetstreamext.BatchSeqHeader, jetstreamext.BatchCommitHeader}

// headerRoom is what the headers of a batch may add to a message.
const headerRoom = 256

// pending is an append that waits, or is under way.
type pending struct {
	ctx  context.Context // the caller's, who may give up while others send for it
	log  *Log
	id   string
	last uint64
	// filter is the aggregate's.
	filter string
	msgs   []*nats.Msg
	size   int
	// unsure says that a try had no answer, so that it may be stored after all.
	unsure bool
	// suspect says that somebody else was heard to append to the aggregate meanwhile.
	suspect atomic.Bool
	// sequence is that of its last event, once it is stored.
	sequence uint64
	done     chan outcome
}

type outcome struct {
	sequence uint64
	err      error
}

// answer tells the caller, who may have given up.
func (p *pending) answer(sequence uint64, err error) {
	if err != nil {
		err = fmt.Errorf("append %s: %w", p.log.Key(p.id), err)
	}
	p.done <- outcome{sequence, err}
}

// refuse tells the caller that it was not stored.
func (p *pending) refuse(err error) {
	if p.unsure {
		p.answer(0, ErrUnclear)
		return
	}
	p.answer(0, fmt.Errorf("%w: %w", ErrUnavailable, err))
}

// Append stores events, all or none and one after the other, if the aggregate's last sequence is still last; otherwise it returns
// decider.ErrConflict. An unclear outcome is read back, and the same bytes are sent again where nothing was stored. Where more waits than
// there is room for, or the bus has none, it returns ErrUnavailable at once.
func (l *Log) Append(ctx context.Context, id string, last uint64, events []decider.Recorded) (uint64, error) {
	p, err := l.prepare(ctx, id, last, events)
	if err != nil {
		return 0, fmt.Errorf("append %s: %w", l.Key(id), err)
	}
	return l.writer.append(p)
}

// prepare makes the messages. The expectation stands on the first: they are stored as a whole or not at all.
func (l *Log) prepare(ctx context.Context, id string, last uint64, events []decider.Recorded) (*pending, error) {
	if len(events) == 0 || len(events) > MaxEvents {
		return nil, fmt.Errorf("%d events, must be 1 to %d", len(events), MaxEvents)
	}
	p := &pending{
		ctx: ctx, log: l, id: id, last: last, filter: l.agg.Filter(id), msgs: make([]*nats.Msg, len(events)), done: make(chan outcome, 1),
	}
	for i, e := range events {
		m, err := Encode(l.agg, id, e)
		if err == nil && l.sign != nil {
			err = l.sign(m)
		}
		if err != nil {
			return nil, err
		}
		if i == 0 {
			m.Header.Set(jetstream.ExpectedStreamHeader, l.agg.Stream())
			m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(last))
			m.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, p.filter)
		}
		size := m.Size()
		if limit := l.js.Conn().MaxPayload(); limit > 0 && int64(size+headerRoom) > limit {
			return nil, fmt.Errorf("event %s: %w", e.ID, nats.ErrMaxPayload)
		}
		p.msgs[i], p.size = m, p.size+size
	}
	return p, nil
}

// publish sends appends once, several as one batch, and sets the sequences of what was stored. A batch is stored in one piece.
func (w *writer) publish(members []*pending) error {
	ctx, cancel := context.WithTimeout(contextOf(members), publishTimeout)
	defer cancel()
	ctx, end := untilCut(ctx, w.js.Conn())
	defer end()
	var msgs []*nats.Msg
	for _, p := range members {
		msgs = append(msgs, p.msgs...)
	}
	if len(msgs) == 1 {
		for _, h := range batchHeaders {
			msgs[0].Header.Del(h)
		}
		ack, err := w.js.PublishMsg(ctx, msgs[0], jetstream.WithRetryAttempts(0))
		if err == nil && ack.Duplicate {
			err = errDuplicate
		}
		if err == nil {
			members[0].sequence = ack.Sequence
		}
		return err
	}
	ack, err := jetstreamext.PublishMsgBatch(ctx, w.js, msgs, jetstreamext.BatchFlowControl{AckFirst: false})
	if err != nil {
		return err
	}
	stored := ack.Sequence - uint64(len(msgs))
	for _, p := range members {
		stored += uint64(len(p.msgs))
		p.sequence = stored
	}
	return nil
}

// failure is a kind of failure of a try.
type failure int

const (
	// unanswered: it may have been stored.
	unanswered failure = iota
	// conflicting: it was not, but an earlier try may have been.
	conflicting
	// refused: it was not; the bus does not take it now.
	refused
)

func kindOf(err error) failure {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch api.ErrorCode {
		case codeWrongLastSequence, codeWrongLastSequenceConstant, codeDuplicateInFlight, codeBatchDuplicate:
			return conflicting
		}
		return refused
	}
	switch {
	case errors.Is(err, errDuplicate):
		return conflicting
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return refused
	default:
		return unanswered
	}
}

// readBack finds out what became of an append whose outcome is unclear: the sequence of its last event if it is stored, 0 if nothing
// followed what it expected, decider.ErrConflict if somebody else's events did. Another process may have carried out the same command, whose
// events have the same ids, on more than was known here or otherwise than it was decided here: that is a conflict too, for who appends goes on
// from what it expected and its own events.
func (p *pending) readBack() (uint64, error) {
	after, leader, err := p.log.read(p.ctx, p.id, p.last)
	if err != nil {
		return 0, errors.Join(ErrUnclear, err)
	}
	if len(after) >= len(p.msgs) && p.wrote(after[:len(p.msgs)]) {
		return after[len(p.msgs)-1].Sequence, nil
	}
	if leader > p.last {
		return 0, decider.ErrConflict
	}
	return 0, nil
}

// wrote reports whether events are those of the append, byte for byte.
func (p *pending) wrote(stored []Envelope) bool {
	for i, e := range stored {
		data, err := payloadOf(e.Event)
		if err != nil || e.ID != p.msgs[i].Header.Get(HeaderID) || !bytes.Equal(data, p.msgs[i].Data) {
			return false
		}
	}
	return true
}
