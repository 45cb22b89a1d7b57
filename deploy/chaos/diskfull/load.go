package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/deploy/chaos/internal/model"
	"tongan.dev/deploy/chaos/internal/rig"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

const record = "tongan.cmd.outreach.visit.record"

// senders is how many commands are under way at once.
const senders = 16

// load sends visits until it is stopped.
type load struct {
	model *model.Model
	nc    *nats.Conn
	stop  context.CancelFunc
	wg    sync.WaitGroup
	acked atomic.Int64
	// lastSent is when the last command was sent that was acknowledged, firstBad the first that was not after it was armed.
	mu       sync.Mutex
	armed    bool
	firstBad time.Time
	lastGood time.Time // when an acknowledgement came last
	left     []*outreachv1.RecordVisit
}

func begin(ctx context.Context, nc *nats.Conn, m *model.Model) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{model: m, nc: nc, stop: stop}
	for sender := range senders {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.send(ctx, visit(sender, i))
			}
		})
	}
	return l
}

// visit is a phone visit on a day that only this sender has.
func visit(sender, i int) *outreachv1.RecordVisit {
	id := fmt.Sprintf("v%d-%d", sender, i)
	v := &outreachv1.RecordVisit{
		Provenance: rig.Provenance(""), VisitId: id,
		Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
		Children: []*outreachv1.ChildSpokenAbout{{ChildId: "c-" + id, AdmCode: "440703"}},
	}
	v.Provenance.OccurredAt = timestamppb.New(time.Now().AddDate(0, 0, -sender-senders*(i/100)%3000))
	return v
}

func (l *load) send(ctx context.Context, v *outreachv1.RecordVisit) {
	l.model.Sent(model.VisitFact(v.GetVisitId()))
	sent := time.Now()
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), 12*time.Second)
	defer cancel()
	err := rig.Send(try, l.nc, record, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.model.Visited(v.GetVisitId())
		l.acked.Add(1)
		l.lastGood = time.Now()
		return
	}
	l.left = append(l.left, v)
	if l.armed && (l.firstBad.IsZero() || sent.Before(l.firstBad)) {
		l.firstBad = sent
	}
}

// arm has it note when the first command is sent that is not acknowledged.
func (l *load) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = true
}

// bad is when the first command was sent that was not acknowledged; zero if there was none.
func (l *load) bad() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.firstBad
}

// good is when an acknowledgement came last.
func (l *load) good() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastGood
}

// end stops sending, and sends again what was not acknowledged.
func (l *load) end(ctx context.Context) error {
	l.stop()
	l.wg.Wait()
	for _, v := range l.left {
		if err := rig.Insist(ctx, l.nc, record, v); err != nil {
			return err
		}
		l.model.Visited(v.GetVisitId())
	}
	return nil
}
