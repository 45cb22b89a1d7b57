package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/deploy/chaos/internal/model"
	"tongan.dev/deploy/chaos/internal/rig"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	"tongan.dev/services/projector"
)

// operation is something that is cut short. Each run of it is of its own commands.
type operation interface {
	// prepare does what has to be there before.
	prepare(ctx context.Context, d *deployment) error
	// run does it, once, and returns when it is done. What is done when it is cut short stands in the model.
	run(ctx context.Context, d *deployment)
	// again does what run may not have done.
	again(ctx context.Context, d *deployment) error
	// settled looks, when all is at rest, whether what the streams and tables do not show is as it should be.
	settled(ctx context.Context, d *deployment) ([]string, error)
}

var children = subject.Aggregate{Service: subject.Intake, Name: "child"}

const visit, register, forget = "tongan.cmd.outreach.visit.record", "tongan.cmd.intake.child.register", "tongan.cmd.intake.child.forget"

// visits are phone visits, all at once, each on a day of its own, and so of an aggregate of its own: nothing keeps their appends apart.
type visits []*outreachv1.RecordVisit

func newVisits(run, n int) visits {
	v := make(visits, n)
	for i := range v {
		id := fmt.Sprintf("v%d-%d", run, i)
		v[i] = &outreachv1.RecordVisit{
			Provenance: rig.Provenance(""), VisitId: id,
			Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
			Children: []*outreachv1.ChildSpokenAbout{{ChildId: "c-" + id, AdmCode: "440703"}},
		}
		v[i].Provenance.OccurredAt = timestamppb.New(time.Now().AddDate(0, 0, -i))
	}
	return v
}

func (v visits) prepare(context.Context, *deployment) error { return nil }

func (v visits) run(ctx context.Context, d *deployment) {
	var wg sync.WaitGroup
	for _, c := range v {
		d.model.Sent(model.VisitFact(c.GetVisitId()))
		wg.Go(func() {
			if rig.Send(ctx, d.worker, visit, c) == nil {
				d.model.Visited(c.GetVisitId())
			}
		})
	}
	wg.Wait()
}

func (v visits) again(ctx context.Context, d *deployment) error {
	for _, c := range v {
		answered := d.model.Knows(model.VisitFact(c.GetVisitId()))
		if err := rig.Insist(ctx, d.worker, visit, c); err != nil {
			return err
		}
		if !answered {
			d.model.Visited(c.GetVisitId())
		}
	}
	return nil
}

func (v visits) settled(context.Context, *deployment) ([]string, error) { return nil, nil }

// insertion is visits until the tables have them.
type insertion struct{ visits }

func (i insertion) run(ctx context.Context, d *deployment) {
	i.visits.run(ctx, d)
	to, err := eventlog.LastSequence(ctx, d.inspector, subject.Stream(subject.Outreach), subject.Events(subject.Outreach))
	if err != nil {
		return
	}
	_ = projector.WaitFor(ctx, d.tables, map[string]uint64{subject.Stream(subject.Outreach): to})
}

// erasure is a child that is forgotten: its key and its entry in the index are destroyed, and then it is said so.
type erasure struct {
	child   string
	number  string
	command *intakev1.ForgetChild
	sealed  *eventv1.Sealed
	key     string // its bytes, wrapped
}

func newErasure(run int) *erasure {
	id := fmt.Sprintf("ch%d", run)
	return &erasure{
		child: id, number: identityNumber(run),
		command: &intakev1.ForgetChild{Provenance: rig.Provenance("forget-" + id), ChildId: id, Basis: "RETENTION_ENDED"},
	}
}

// identityNumber is a sound identity number (GB 11643-1999) of nobody.
func identityNumber(n int) string {
	text := fmt.Sprintf("44070320120101%03d", n%1000)
	sum := 0
	for i, weight := range [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2} {
		sum += weight * int(text[i]-'0')
	}
	return text + string("10X98765432"[sum%11])
}

func (e *erasure) fact(kind string) string { return kind + " " + e.child }

func (e *erasure) prepare(ctx context.Context, d *deployment) error {
	err := rig.Insist(ctx, d.worker, register, &intakev1.RegisterChild{
		Provenance: rig.Provenance(""), ChildId: e.child, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1",
		Details: &intakev1.ChildDetails{Name: "crash point", IdentityNumber: e.number},
	})
	if err != nil {
		return err
	}
	d.model.Answered(e.fact("ChildRegistered"))
	if err := e.look(ctx, d); err != nil {
		return err
	}
	if err := e.opens(ctx, d); err != nil {
		return fmt.Errorf("before anything is destroyed: %w", err)
	}
	files, err := holding(d.BusDir(), e.key)
	if err == nil && len(files) == 0 {
		err = errors.New("the key is in no file: what is looked for is not what is stored")
	}
	return err
}

// look finds what is sealed of the child, and the bytes of the key it is sealed under.
func (e *erasure) look(ctx context.Context, d *deployment) error {
	at, err := eventlog.LastSequence(ctx, d.inspector, subject.Stream(subject.Intake), children.Event(e.child, "ChildRegistered"))
	if err != nil {
		return err
	}
	err = eventlog.Scan(ctx, d.inspector, subject.Stream(subject.Intake), at, at, func(sequence uint64, m *jetstream.RawStreamMsg) error {
		registered, err := eventlog.Decode(m.Subject, m.Header, m.Data, sequence)
		if err == nil {
			e.sealed = registered.Event.(*intakev1.ChildRegistered).GetDetails()
		}
		return err
	})
	if err != nil {
		return err
	}
	// As intake itself does: it may ask the leader only.
	last := fmt.Appendf(nil, `{"last_by_subj":%q}`, subject.Key(e.sealed.GetKeyId()))
	answer, err := eventlog.Ask(ctx, d.intake.Conn(), subject.API("STREAM.MSG.GET", subject.StreamKeys), last)
	if err != nil {
		return err
	}
	var got struct {
		Message struct {
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return err
	}
	wrapped := &eventv1.WrappedKey{}
	err = proto.Unmarshal(got.Message.Data, wrapped)
	e.key = string(wrapped.GetCiphertext())
	return err
}

// indexed reports whether the index knows the child.
func (e *erasure) indexed(ctx context.Context, d *deployment) (bool, error) {
	s, err := d.intake.Stream(ctx, subject.StreamIndex)
	if err != nil {
		return false, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject.Index("identity", "*", e.child)))
	if err != nil {
		return false, err
	}
	return len(info.State.Subjects) > 0, nil
}

func (e *erasure) opens(ctx context.Context, d *deployment) error {
	return d.box.Open(ctx, "intake.child."+e.child, "details", e.sealed, &intakev1.ChildDetails{})
}

func (e *erasure) run(ctx context.Context, d *deployment) {
	d.model.Sent(e.fact("ChildForgotten"))
	d.model.Sent(e.fact("ChildKeyDestroyed"))
	if rig.Send(ctx, d.leader, forget, e.command) != nil {
		return
	}
	d.model.Answered(e.fact("ChildForgotten"))
	_ = e.confirmed(ctx, d)
}

// confirmed waits until the stream says that the key is destroyed.
func (e *erasure) confirmed(ctx context.Context, d *deployment) error {
	said := children.Event(e.child, "ChildKeyDestroyed")
	return rig.Eventually(ctx, redeliveredWithin, "the key of "+e.child+" is said to be destroyed", func() bool {
		to, err := eventlog.LastSequence(ctx, d.inspector, subject.Stream(subject.Intake), said)
		if err == nil && to > 0 {
			d.model.Answered(e.fact("ChildKeyDestroyed"))
		}
		return err == nil && to > 0
	})
}

// redeliveredWithin is how long a reaction that was cut short may take to be done: the bus hands it out again after 30 s.
const redeliveredWithin = 90 * time.Second

func (e *erasure) again(ctx context.Context, d *deployment) error {
	if err := rig.Insist(ctx, d.leader, forget, e.command); err != nil {
		return err
	}
	d.model.Answered(e.fact("ChildForgotten"))
	return nil
}

func (e *erasure) settled(ctx context.Context, d *deployment) ([]string, error) {
	if err := e.confirmed(ctx, d); err != nil {
		return []string{err.Error()}, nil
	}
	var wrong []string
	if err := e.opens(ctx, d); !errors.Is(err, seal.ErrDestroyed) {
		wrong = append(wrong, fmt.Sprintf("what the key of %s sealed: %v, want %v", e.child, err, seal.ErrDestroyed))
	}
	files, err := holding(d.BusDir(), e.key)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		wrong = append(wrong, fmt.Sprintf("the key of %s is still in file %s", e.child, f))
	}
	indexed, err := e.indexed(ctx, d)
	if err != nil {
		return nil, err
	}
	if indexed {
		wrong = append(wrong, e.child+" is still in the index")
	}
	return wrong, nil
}
