package reporting_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting"
)

const byDistrict = reportingv1.Grouping_GROUPING_DISTRICT

// week is what happened, most of it up to the end of 4 February in Asia/Shanghai.
func week() []stored {
	voided := call("2020-01-30", "440705")
	taken := voided.event.(*outreachv1.VisitRecorded)
	accepted := func(id, clock, district string) stored {
		return stored{reminders, "b1", &outreachv1.ReminderAccepted{Provenance: at(clock), BatchId: "b1", MessageId: id, AdmCode: district, Segments: 2}}
	}
	return []stored{
		call("2020-01-22", "440703"), // before the baseline
		call("2020-01-23", "440703", "440704"),
		call("2020-02-04", "440704"),
		call("2020-02-05", "440785"),
		voided,
		{visits, voided.id, &outreachv1.VisitVoided{
			Provenance: at("2020-02-05T09:00:00Z"), VisitId: "v1", VisitedOn: taken.GetVisitedOn(), Channel: taken.GetChannel(),
			Outcome: taken.GetOutcome(), Children: taken.GetChildren(), WorkerId: "w1", AdmCode: "440703",
		}},
		accepted("m1", "2020-02-04T15:59:59Z", "440703"),
		accepted("m2", "2020-02-04T16:00:00Z", "440704"), // the fifth in Asia/Shanghai
		{deliveries, "d1", &outreachv1.DeliveryReceiptConfirmed{
			Provenance: at("2020-02-03T04:00:00Z"), DeliveryId: "d1", Item: outreachv1.ProtectiveItem_PROTECTIVE_ITEM_MASK, Units: 30, AdmCode: "440704",
		}},
		{supports, "s1", &outreachv1.ServiceSupportBegun{
			Provenance: at("2020-02-01T04:00:00Z"), SupportId: "s1", Kind: outreachv1.SupportKind_SUPPORT_KIND_MEALS, AdmCode: "440781",
		}},
		special("c1", "2020-02-02", "440783"),
	}
}

func TestFiguresAsOfADay(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	empty := d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-04", Grouping: byDistrict})
	if len(empty.GetFigures()) != 18 || len(values(empty)) != 0 || len(empty.GetCuts()) != 4 {
		t.Errorf("with nothing projected they are %v", empty)
	}
	d.publish(t, week()...)
	for _, tt := range []struct {
		name, asOf string
		want       map[string]int64
	}{
		{"the first day", "2020-01-23", map[string]int64{"phone_attempts": 1, "phone_calls": 1, "phone_visits": 2}},
		{"the day of the bulletin", "2020-02-04", map[string]int64{
			"phone_attempts": 2, "phone_calls": 2, "phone_visits": 3, "sms_reminders": 1, "protective_items": 30, "service_supports": 1, "special_cases": 1,
		}},
		{"the day after", "2020-02-05", map[string]int64{
			"phone_attempts": 3, "phone_calls": 3, "phone_visits": 4, "sms_reminders": 2, "protective_items": 30, "service_supports": 1, "special_cases": 1,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := d.figures(t, &reportingv1.GetFigures{AsOf: tt.asOf})
			if diff := cmp.Diff(tt.want, values(f)); diff != "" {
				t.Error(diff)
			}
			if f.GetAsOf() != tt.asOf || f.GetBaselineOn() != baseline || len(f.GetFigures()) != 18 {
				t.Errorf("they are %d from %s to %s", len(f.GetFigures()), f.GetBaselineOn(), f.GetAsOf())
			}
		})
	}
	t.Run("by district", d.testByDistrict)
	t.Run("what cannot be asked", d.testRefusals)
}

// The districts of an indicator add up to the whole.
func (d *deployment) testByDistrict(t *testing.T) {
	whole := d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-05"})
	f := d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-05", Grouping: byDistrict})
	sums, last := make(map[string]int64), ""
	for _, fig := range f.GetFigures() {
		if fig.GetAdmCode() != "" {
			sums[fig.GetIndicator()] += fig.GetValue()
		}
		if name := fig.GetIndicator() + " " + fig.GetAdmCode(); name <= last {
			t.Errorf("%q comes after %q", name, last)
		} else {
			last = name
		}
	}
	for name, v := range sums {
		if v == 0 {
			delete(sums, name)
		}
	}
	if diff := cmp.Diff(values(whole), sums); diff != "" {
		t.Error(diff)
	}
	want := map[string]int64{
		"phone_visits": 4, "phone_visits 440703": 1, "phone_visits 440704": 2, "phone_visits 440785": 1,
		"phone_calls": 3, "phone_calls 440703": 3, "phone_attempts": 3, "phone_attempts 440703": 3,
		"sms_reminders": 2, "sms_reminders 440703": 1, "sms_reminders 440704": 1, "protective_items": 30, "protective_items 440704": 30,
		"service_supports": 1, "service_supports 440781": 1, "special_cases": 1, "special_cases 440783": 1,
	}
	if diff := cmp.Diff(want, values(f)); diff != "" {
		t.Error(diff)
	}
	for _, fig := range f.GetFigures() {
		if fig.GetIndicator() == "phone_visits" && (fig.GetUnit() != "人次" || fig.GetDefinitionVersion() != 1) {
			t.Errorf("a figure is %v", fig)
		}
	}
}

func (d *deployment) testRefusals(t *testing.T) {
	cut := func(stream string, sequence uint64) []*reportingv1.Cut {
		return []*reportingv1.Cut{{Stream: "TONGAN_INTAKE"}, {Stream: stream, Sequence: sequence}}
	}
	events := d.Events(t, subject.Outreach)
	for _, tt := range []struct {
		name string
		ask  *reportingv1.GetFigures
		code string
		says []string
	}{
		{"no day", &reportingv1.GetFigures{}, "400", []string{"as_of"}},
		{"a day without hyphens", &reportingv1.GetFigures{AsOf: "20200204"}, "400", []string{"as_of"}},
		{"a day that does not exist", &reportingv1.GetFigures{AsOf: "2020-02-30"}, "400", []string{"as_of", "must be a date"}},
		{"a day before the baseline", &reportingv1.GetFigures{AsOf: "2020-01-22"}, "400", []string{"as_of", "baseline 2020-01-23"}},
		{"another grouping", &reportingv1.GetFigures{AsOf: "2020-02-04", Grouping: 9}, "400", []string{"grouping"}},
		{"a stream of nobody", &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("TONGAN_ONE", 1)}, "400", []string{"cuts[1].stream", "not the stream of a service"}},
		{"a stream of no events", &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("TONGAN_KEYS", 1)}, "400", []string{"cuts[1].stream"}},
		{"a stream that is none", &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("x', 'y", 1)}, "400", []string{"cuts[1].stream"}},
		{"a cut that is not reached", &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("TONGAN_OUTREACH", events+1)}, "503", []string{"not there yet", "cuts[1] is not projected"}},
		{"a cut of an empty stream", &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("TONGAN_HEALTHCHECK", 1)}, "503", []string{"cuts[1] is not projected"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d.ask(t, tt.ask).Refused(t, tt.code, tt.says...)
			if tt.code != "400" {
				return
			}
			b, err := proto.Marshal(&reportingv1.IssueBulletin{
				Provenance: at("2020-02-05T01:00:00Z"), BulletinId: "b9", AsOf: tt.ask.GetAsOf(), Grouping: tt.ask.GetGrouping(), Cuts: tt.ask.GetCuts(),
			})
			if err != nil {
				t.Fatal(err)
			}
			d.Ask(t, reporting.IssueSubject, b).Refused(t, tt.code, tt.says...)
		})
	}
	if n := d.Events(t, subject.Reporting); n != 0 {
		t.Errorf("%d bulletins were published", n)
	}
	d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: cut("TONGAN_OUTREACH", events)})
}

// What was answered is answered again for ever when its cuts are named, however much happened since and in which stream.
func TestTheSameCutsAreAnsweredTheSame(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.publish(t, call("2020-01-24", "440703", "440704"), call("2020-01-25", "440705"))
	for _, grouping := range []reportingv1.Grouping{0, byDistrict} {
		q := &reportingv1.GetFigures{AsOf: "2020-02-04", Grouping: grouping}
		first := d.ask(t, q)
		then := d.figures(t, q)
		want := []*reportingv1.Cut{
			{Stream: "TONGAN_INTAKE", Sequence: d.Events(t, subject.Intake)},
			{Stream: "TONGAN_HEALTHCHECK"},
			{Stream: "TONGAN_OUTREACH", Sequence: d.Events(t, subject.Outreach)},
			{Stream: "TONGAN_REPORTING"},
		}
		if diff := cmp.Diff(want, then.GetCuts(), protocmp.Transform()); diff != "" {
			t.Errorf("the cuts are: %s", diff)
		}
		// A late entry, and the first event of a stream that was empty.
		id := "c" + grouping.String()
		d.publish(t, call("2020-01-26", "440781"), special(id, "2020-01-26", "440783"))
		q.Cuts = then.GetCuts()
		if again := d.ask(t, q); !bytes.Equal(again.Data, first.Data) {
			t.Errorf("with the cuts it is answered %v", cmp.Diff(then, d.figures(t, q), protocmp.Transform()))
		}
		q.Cuts = nil
		now := values(d.figures(t, q))
		if was := values(then); now["phone_visits"] != was["phone_visits"]+1 || now["special_cases"] != was["special_cases"]+1 {
			t.Errorf("without the cuts it is answered %v", now)
		}
	}
}

func TestABulletinPublishesTheFigures(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	d.publish(t, week()...)
	f := d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-04", Grouping: byDistrict})
	issue := &reportingv1.IssueBulletin{
		Provenance: at("2020-02-05T01:00:00Z"), BulletinId: "b1", AsOf: "2020-02-04", Grouping: byDistrict, Cuts: f.GetCuts(),
	}
	// What happens between asking and issuing is not in the bulletin.
	d.publish(t, call("2020-01-31", "440704"), special("c2", "2020-01-31", "440703"))
	first := d.Send(t, reporting.IssueSubject, issue)
	d.publish(t)
	first.Again = true
	if again := d.Send(t, reporting.IssueSubject, issue); !proto.Equal(first, again) || !again.GetHappened() {
		t.Errorf("the same command again is answered %v, the first time %v", again, first)
	}
	if n := d.Events(t, subject.Reporting); n != 1 {
		t.Errorf("%d bulletins are stored, want 1", n)
	}
	s, err := d.JS.Stream(t.Context(), subject.Stream(subject.Reporting))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), first.GetRevision())
	if err != nil {
		t.Fatal(err)
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	want := &reportingv1.FigurePublished{
		BulletinId: "b1", BaselineOn: f.GetBaselineOn(), AsOf: f.GetAsOf(), Grouping: f.GetGrouping(), Cuts: f.GetCuts(), Figures: f.GetFigures(),
	}
	if diff := cmp.Diff(want, e.Event, protocmp.Transform(), protocmp.IgnoreFields(want, "provenance")); diff != "" {
		t.Error(diff)
	}
	if m.Subject != "tongan.evt.reporting.bulletin.b1.figure-published" {
		t.Errorf("stored on %s", m.Subject)
	}
	// The same bulletin under another command, and another one under a cut that is not there yet.
	other := proto.CloneOf(issue)
	other.Provenance.CommandId = "k2"
	b, _ := proto.Marshal(other)
	d.Ask(t, reporting.IssueSubject, b).Refused(t, "409", "bulletin_id", "issued already")
	other.BulletinId, other.Cuts = "b2", []*reportingv1.Cut{{Stream: "TONGAN_OUTREACH", Sequence: 1 << 40}}
	b, _ = proto.Marshal(other)
	d.Ask(t, reporting.IssueSubject, b).Refused(t, "503", "cuts[0] is not projected")
}

// store stores events, and does not wait until they are projected.
func (d *deployment) store(t *testing.T, events ...stored) {
	t.Helper()
	for _, s := range events {
		m, err := eventlog.Encode(s.aggregate, s.id, decider.Recorded{Event: s.event, ID: s.aggregate.Key(s.id)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.JS.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// end asks how far the streams reach.
func (d *deployment) end(t *testing.T) *reportingv1.End {
	t.Helper()
	r := d.Ask(t, reporting.EndSubject, nil)
	if r.Code != "" {
		t.Fatalf("refused: %s %s", r.Code, r.Error)
	}
	e := &reportingv1.End{}
	if err := proto.Unmarshal(r.Data, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// The end is the last sequence of each stream, projected or not; the audit stream is none of them.
func TestTheEndIsHowFarTheStreamsReachNow(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	for _, more := range [][]stored{nil, {call("2020-01-24", "440703")}, {special("c1", "2020-01-26", "440783"), call("2020-01-25", "440705")}} {
		d.store(t, more...)
		var want []*reportingv1.Cut
		for _, service := range []string{subject.Intake, subject.HealthCheck, subject.Outreach, subject.Reporting} {
			want = append(want, &reportingv1.Cut{Stream: subject.Stream(service), Sequence: d.Events(t, service)})
		}
		if diff := cmp.Diff(want, d.end(t).GetCuts(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	d.Ask(t, reporting.EndSubject, []byte(`{"asOf":"2020-02-04"}`)).Refused(t, "400", "unknown field")
}

// Figures asked with the end count everything that was answered before it was asked for, however much more comes: as soon as it is projected.
func TestFiguresUpToTheEndCountWhatWasAnsweredBefore(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	const rounds = 20
	for i := range rounds {
		id := fmt.Sprint("c", i)
		d.store(t, special(id, "2020-01-26", "440783"))
		q := &reportingv1.GetFigures{AsOf: "2020-02-04", Cuts: d.end(t).GetCuts()}
		d.store(t, stored{supports, id, &outreachv1.ServiceSupportBegun{
			Provenance: at("2020-02-01T04:00:00Z"), SupportId: id, Kind: outreachv1.SupportKind_SUPPORT_KIND_MEALS, AdmCode: "440781",
		}})
		var r servetest.Reply
		natstest.Eventually(t, 30*time.Second, "it is projected", func() bool {
			r = d.ask(t, q)
			return r.Code != "503"
		})
		f := &reportingv1.Figures{}
		if err := proto.Unmarshal(r.Data, f); err != nil || r.Code != "" {
			t.Fatalf("%s, %v", r.Error, err)
		}
		got := values(f)
		if got["special_cases"] != int64(i+1) || got["service_supports"] != int64(i) {
			t.Errorf("after %d of each it is %v", i+1, got)
		}
	}
}

// Who was given figures is on the audit trail, with the size of the answer; how far the streams reach is no export, and neither is a refusal.
func TestFiguresAreExports(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	nc := d.As(t, access.Caller{ID: "a1", Role: auditv1.Role_ROLE_ANALYST, Org: natstest.Org})
	ask := func(subj, question string) *nats.Msg {
		t.Helper()
		m, err := nc.Request(subj, []byte(question), 15*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ask(reporting.EndSubject, `{}`)
	if m := ask(reporting.FiguresSubject, `{"asOf":"2020-02-30"}`); m.Header.Get(micro.ErrorCodeHeader) != "400" {
		t.Errorf("refused with %v", m.Header)
	}
	if n := d.Events(t, subject.Audit); n != 0 {
		t.Errorf("there are %d events on the trail", n)
	}
	var sizes []uint64
	for _, q := range []string{`{"asOf":"2020-02-04"}`, `{"asOf":"2020-02-05","grouping":"GROUPING_DISTRICT"}`} {
		sizes = append(sizes, uint64(len(ask(reporting.FiguresSubject, q).Data)))
	}
	var told []uint64
	natstest.Each(t, d.JS, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		e, err := eventlog.Decode(m.Subject(), m.Headers(), m.Data(), 1)
		if err != nil {
			t.Fatal(err)
		}
		x, is := e.Event.(*auditv1.DataExported)
		if !is || e.Subject.ID != "a1" || x.GetSubject() != reporting.FiguresSubject || x.GetProvenance().GetPerformedBy() != "a1" {
			t.Errorf("on the trail is %v of %s", e.Event, e.Subject.ID)
		}
		told = append(told, x.GetSizeBytes())
	})
	if diff := cmp.Diff(sizes, told); diff != "" {
		t.Errorf("the sizes are: %s", diff)
	}
	// Where it cannot be written down, nothing is given.
	if err := d.JS.DeleteStream(t.Context(), subject.Stream(subject.Audit)); err != nil {
		t.Fatal(err)
	}
	if m := ask(reporting.FiguresSubject, `{"asOf":"2020-02-04"}`); m.Header.Get(micro.ErrorCodeHeader) != "503" || len(m.Data) != 0 {
		t.Errorf("without a trail it is answered %v with %d bytes", m.Header, len(m.Data))
	}
}
