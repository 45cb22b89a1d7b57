package intake

import (
	"context"

	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// supports are the service supports of the service outreach, some of which name a case.
var supports = subject.Aggregate{Service: subject.Outreach, Name: "support"}

// noteServices has each case know how far the services for it are. A support that names a case that is not there, or another child's, is put
// aside in the end: whoever asked for it has to correct it.
func noteServices(ctx context.Context, rt *serve.Runtime, cases *caseLog) error {
	return consume.Run(ctx, rt.JS, consume.Config{
		Stream: subject.Stream(subject.Outreach), Durable: "intake-supports", Filters: []string{supports.Filter("*")}, Log: rt.Log,
	}, func(ctx context.Context, e eventlog.Envelope) error {
		note := onSupport(e.Event)
		if note == nil {
			return nil
		}
		_, err := cases.transact(ctx, note.GetCaseId(), decider.Command{At: rt.Clock.Now(), ID: e.ID, Cause: e.ID, Body: note})
		return err
	})
}

// onSupport translates what happened to a service support into what its case has to note; nil where it belongs to none.
func onSupport(e decider.Event) *intakev1.NoteCaseService {
	var step intakev1.ServiceStep
	switch e.(type) {
	case *outreachv1.ServiceSupportRequested:
		step = intakev1.ServiceStep_SERVICE_STEP_REQUESTED
	case *outreachv1.ServiceSupportBegun:
		step = intakev1.ServiceStep_SERVICE_STEP_BEGUN
	case *outreachv1.ServiceSupportEnded:
		step = intakev1.ServiceStep_SERVICE_STEP_ENDED
	default:
		return nil
	}
	of := e.(interface {
		GetCaseId() string
		GetChildId() string
		GetSupportId() string
		GetKind() outreachv1.SupportKind
	})
	if of.GetCaseId() == "" {
		return nil
	}
	p := proto.CloneOf(e.GetProvenance())
	p.RecordedBy, p.SourceChannel = subject.Micro(subject.Intake), eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM
	p.CorrectionOf, p.RuleVersion = "", ""
	return &intakev1.NoteCaseService{
		Provenance: p, CaseId: of.GetCaseId(), SupportId: of.GetSupportId(), SupportKind: of.GetKind(), ServiceStep: step, ChildId: of.GetChildId(),
	}
}
