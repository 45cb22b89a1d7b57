package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// RecordsSubject answers auditv1.ListRecords with auditv1.Records.
var RecordsSubject = subject.Query(subject.Audit, "record", "list")

const (
	// recordsPage is how many records one answer holds.
	recordsPage = 1000
	// lookFor is how long one answer looks; what it did not get to is for the next.
	lookFor = 5 * time.Second
)

// china is where a day is a day: China standard time.
var china = time.FixedZone("Asia/Shanghai", 8*60*60)

// records looks through the audit stream in order.
func records(ctx context.Context, js jetstream.JetStream, q *auditv1.ListRecords) (*auditv1.Records, error) {
	from, until, err := day(q.GetRecordedOn())
	if err != nil {
		return nil, err
	}
	info, err := eventlog.Info(ctx, js, subject.Stream(subject.Audit))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)
	}
	out := &auditv1.Records{LookedUpTo: q.GetAfter()}
	end := info.State.LastSeq
	if end <= q.GetAfter() {
		return out, nil
	}
	start := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: q.GetAfter() + 1}
	if q.GetAfter() == 0 && !from.IsZero() {
		start = jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from}
	}
	c, err := js.OrderedConsumer(ctx, subject.Stream(subject.Audit), start)
	if err != nil {
		return nil, fmt.Errorf("audit stream: %w: %w", eventlog.ErrUnavailable, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return nil, fmt.Errorf("audit stream: %w: %w", eventlog.ErrUnavailable, err)
	}
	defer messages.Stop()
	for began := time.Now(); c.CachedInfo().NumPending > 0 && out.GetLookedUpTo() < end; {
		if len(out.GetRecords()) == recordsPage || time.Since(began) > lookFor {
			out.More = true
			break
		}
		m, err := messages.Next(jetstream.NextMaxWait(time.Second))
		if errors.Is(err, nats.ErrTimeout) {
			out.More = true
			break
		}
		if err != nil {
			return nil, fmt.Errorf("audit stream: %w: %w", eventlog.ErrUnavailable, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return nil, fmt.Errorf("audit stream: %w", err)
		}
		out.LookedUpTo = meta.Sequence.Stream
		if !until.IsZero() && !meta.Timestamp.Before(until) {
			break
		}
		if r := record(m, meta); r != nil && wanted(q, r) && !meta.Timestamp.Before(from) {
			out.Records = append(out.Records, r)
		}
	}
	return out, nil
}

// day returns when a day in Asia/Shanghai begins and ends; zero times for no day.
func day(on string) (from, until time.Time, err error) {
	if on == "" {
		return from, until, nil
	}
	from, err = time.ParseInLocation(time.DateOnly, on, china)
	if err != nil {
		return from, until, &serve.BadInput{Field: "recorded_on", Rule: "must be a date, YYYY-MM-DD"}
	}
	return from, from.AddDate(0, 0, 1), nil
}

func wanted(q *auditv1.ListRecords, r *auditv1.Record) bool {
	return (q.GetPerformedBy() == "" || q.GetPerformedBy() == r.GetPerformedBy()) &&
		(q.GetChildId() == "" || q.GetChildId() == r.GetChildId())
}

// record is what one event of the audit stream says; nil if it cannot be read, which the reader of a gap in the sequences sees.
func record(m jetstream.Msg, meta *jetstream.MsgMetadata) *auditv1.Record {
	e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), meta.Sequence.Stream)
	if err != nil {
		return nil
	}
	p := e.Event.GetProvenance()
	r := &auditv1.Record{
		Sequence: e.Sequence, RecordedAt: timestamppb.New(meta.Timestamp), Event: string(e.Event.ProtoReflect().Descriptor().Name()),
		PerformedBy: p.GetPerformedBy(), Reason: p.GetReason(),
	}
	switch e := e.Event.(type) {
	case *auditv1.CallerAdded:
		r.CallerId, r.Reason = e.GetCallerId(), e.GetRole().String()
	case *auditv1.CallerKeyRotated:
		r.CallerId = e.GetCallerId()
	case *auditv1.CallerRevoked:
		r.CallerId = e.GetCallerId()
	case *auditv1.SealOpened:
		r.ChildId, r.Subject = e.GetChildId(), e.GetSubject()
	case *auditv1.AttemptRefused:
		r.Subject, r.LeftOut = e.GetSubject(), e.GetLeftOut()
		r.Reason = e.GetField() + ": " + e.GetRule()
	case *auditv1.DataExported:
		r.Subject = e.GetSubject()
	}
	return r
}
