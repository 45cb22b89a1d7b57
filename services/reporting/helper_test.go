package reporting_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

func TestMain(m *testing.M) { chtest.Main(m) }

const baseline = "2020-01-23"

var (
	visits     = subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	reminders  = subject.Aggregate{Service: subject.Outreach, Name: "reminder"}
	deliveries = subject.Aggregate{Service: subject.Outreach, Name: "delivery"}
	supports   = subject.Aggregate{Service: subject.Outreach, Name: "support"}
	cases      = subject.Aggregate{Service: subject.Intake, Name: "case"}
)

// password is that of a user of the engine.
func password(user string) string { return "password of " + user }

// deployment is a bus, an engine, a projector and the service.
type deployment struct {
	*servetest.Client
	conn driver.Conn
	logs map[subject.Aggregate]*eventlog.Log
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	return deployOn(t, chtest.Run(t, projector.Users([]string{"440700"}, password)...), transport.TLS{})
}

// deployOn uses an engine that runs already, whose clients have the files.
func deployOn(t *testing.T, e *chengine.Engine, files transport.TLS) *deployment {
	t.Helper()
	if err := projector.Migrate(t.Context(), e.DSN(projector.UserMigration), files, false); err != nil {
		t.Fatal(err)
	}
	js := natstest.Bus(t)
	servetest.RunOn(t, js, projector.Name, projector.Serve, projector.ServiceConfig{DSN: e.DSN(projector.UserProjector), TLS: files})
	return &deployment{
		Client: servetest.RunOn(t, js, subject.Reporting, reporting.Run,
			reporting.Config{DSN: e.DSN(projector.UserReporting), TLS: files, Baseline: baseline}),
		conn: chtest.Conn(t, e, projector.UserProjector),
		logs: make(map[subject.Aggregate]*eventlog.Log),
	}
}

// stored is an event with the aggregate it belongs to.
type stored struct {
	aggregate subject.Aggregate
	id        string
	event     decider.Event
}

// publish appends events as services do, and waits until they are projected.
func (d *deployment) publish(t *testing.T, events ...stored) {
	t.Helper()
	for _, s := range events {
		log := d.logs[s.aggregate]
		if log == nil {
			log = eventlog.New(d.JS, s.aggregate, slog.New(slog.DiscardHandler))
			d.logs[s.aggregate] = log
		}
		_, last, err := log.Load(t.Context(), s.id)
		if err != nil {
			t.Fatal(err)
		}
		command := fmt.Sprint("k", last)
		recorded := decider.Recorded{Event: s.event, ID: decider.EventID(log.Key(s.id), command, 0), Cause: command}
		if _, err := log.Append(t.Context(), s.id, last, []decider.Recorded{recorded}); err != nil {
			t.Fatal(err)
		}
	}
	targets := make(map[string]uint64)
	for _, service := range subject.Services() {
		targets[subject.Stream(service)] = d.Events(t, service)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := projector.WaitFor(ctx, d.conn, targets); err != nil {
		t.Fatal(err)
	}
}

// ask asks for figures and returns the reply as it came.
func (d *deployment) ask(t *testing.T, q *reportingv1.GetFigures) servetest.Reply {
	t.Helper()
	b, err := proto.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return d.Ask(t, reporting.FiguresSubject, b)
}

// figures asks for figures; a refusal fails the test.
func (d *deployment) figures(t *testing.T, q *reportingv1.GetFigures) *reportingv1.Figures {
	t.Helper()
	r := d.ask(t, q)
	if r.Code != "" {
		t.Fatalf("refused: %s %s", r.Code, r.Error)
	}
	f := &reportingv1.Figures{}
	if err := proto.Unmarshal(r.Data, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// values are the figures that are not 0, by indicator and district.
func values(f *reportingv1.Figures) map[string]int64 {
	out := make(map[string]int64)
	for _, fig := range f.GetFigures() {
		if fig.GetValue() == 0 {
			continue
		}
		name := fig.GetIndicator()
		if fig.GetAdmCode() != "" {
			name += " " + fig.GetAdmCode()
		}
		out[name] = fig.GetValue()
	}
	return out
}

// at is the provenance of what happened at a time in 440703.
func at(clock string) *eventv1.Provenance {
	t, err := time.Parse(time.RFC3339, clock)
	if err != nil {
		panic(err)
	}
	return &eventv1.Provenance{OccurredAt: timestamppb.New(t), PerformedBy: "w1", AdmCode: "440703", CreditedOrg: "org1"}
}

// call is a phone call in 440703 at ten in the morning of a day that reached the families of children in the districts given.
func call(day string, districts ...string) stored {
	e := &outreachv1.VisitRecorded{
		Provenance: at(day + "T02:00:00Z"), VisitId: "v1", VisitedOn: day,
		Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
	}
	for i, d := range districts {
		e.Children = append(e.Children, &outreachv1.ChildVisited{ChildId: fmt.Sprint("ch", i), AdmCode: d})
	}
	return stored{visits, "w1_" + day, e}
}

// special is the event by which a special case counts, from a day that may lie before the event's own.
func special(id, countsOn, district string) stored {
	return stored{cases, id, &intakev1.FollowUpRecorded{
		Provenance: at("2020-02-05T04:00:00Z"), CaseId: id, FollowUpId: "f-" + id, AdmCode: district, CountsSpecial: true, CountsOn: countsOn,
		Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE,
	}}
}
