package audit_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/testing/protocmp"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// trail asks for the whole trail that a question is about, page by page.
func trail(t *testing.T, nc *nats.Conn, q *auditv1.ListRecords) (out []*auditv1.Record) {
	t.Helper()
	for {
		page := got(t, nc, listRecords, q, &auditv1.Records{})
		if len(page.GetRecords()) > 1000 {
			t.Fatalf("a page has %d records", len(page.GetRecords()))
		}
		out = append(out, page.GetRecords()...)
		if !page.GetMore() {
			return out
		}
		if page.GetLookedUpTo() <= q.GetAfter() {
			t.Fatalf("there is more, but not after %d", q.GetAfter())
		}
		q.After = page.GetLookedUpTo()
	}
}

// said are records without sequence and time.
func said(records []*auditv1.Record) (out []*auditv1.Record) {
	for _, r := range records {
		r.Sequence, r.RecordedAt = 0, nil
		out = append(out, r)
	}
	return out
}

// Whoever sees a child's details is on the trail: who, which child, by what question, and why; and who adds, rotates, revokes and lists.
func TestTheTrailSaysWhoDidWhat(t *testing.T) {
	t.Parallel()
	const marker = "标识-4a5b6c"
	d, _ := deploy(t, 1)
	d.intake(t)
	one, two := d.connect(t, d.add(t, "w1", worker)), d.connect(t, d.add(t, "w2", worker))
	for _, id := range []string{"ch1", "ch2"} {
		send(t, one, registerChild, &intakev1.RegisterChild{
			Provenance: d.provenance(""), ChildId: id, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1",
			Details: &intakev1.ChildDetails{Name: marker},
		})
	}
	opens := func(nc *nats.Conn, child, reason string) {
		t.Helper()
		a := got(t, nc, getChild, &intakev1.GetChild{ChildId: child, Reason: reason}, &intakev1.Child{})
		if a.GetDetails().GetName() != marker {
			t.Errorf("the answer is %v", a)
		}
	}
	opens(one, "ch1", "FOLLOW_UP")
	opens(two, "ch1", "VISIT")
	opens(one, "ch2", "FOLLOW_UP")
	next := newKey(t)
	send(t, d.nc, rotate, d.rotating("w2", next.Public()))
	send(t, d.nc, revoke, d.revoking("w2"))

	sealOpened := func(who, child, why string) *auditv1.Record {
		return &auditv1.Record{Event: "SealOpened", PerformedBy: who, ChildId: child, Subject: getChild, Reason: why}
	}
	person := said(trail(t, d.nc, &auditv1.ListRecords{PerformedBy: "w1"}))
	if diff := cmp.Diff([]*auditv1.Record{sealOpened("w1", "ch1", "FOLLOW_UP"), sealOpened("w1", "ch2", "FOLLOW_UP")}, person, protocmp.Transform()); diff != "" {
		t.Errorf("by person: %s", diff)
	}
	child := said(trail(t, d.nc, &auditv1.ListRecords{ChildId: "ch1"}))
	if diff := cmp.Diff([]*auditv1.Record{sealOpened("w1", "ch1", "FOLLOW_UP"), sealOpened("w2", "ch1", "VISIT")}, child, protocmp.Transform()); diff != "" {
		t.Errorf("by child: %s", diff)
	}
	both := said(trail(t, d.nc, &auditv1.ListRecords{PerformedBy: "w2", ChildId: "ch1"}))
	if diff := cmp.Diff([]*auditv1.Record{sealOpened("w2", "ch1", "VISIT")}, both, protocmp.Transform()); diff != "" {
		t.Errorf("by both: %s", diff)
	}
	changes := said(trail(t, d.nc, &auditv1.ListRecords{PerformedBy: "operator-1"}))
	want := []*auditv1.Record{
		{Event: "CallerAdded", PerformedBy: "operator-1", CallerId: "w1", Reason: "ROLE_SOCIAL_WORKER"},
		{Event: "CallerAdded", PerformedBy: "operator-1", CallerId: "w2", Reason: "ROLE_SOCIAL_WORKER"},
		{Event: "CallerKeyRotated", PerformedBy: "operator-1", CallerId: "w2"},
		{Event: "CallerRevoked", PerformedBy: "operator-1", CallerId: "w2"},
		{Event: "DataExported", PerformedBy: "operator-1", Subject: listRecords},
		{Event: "DataExported", PerformedBy: "operator-1", Subject: listRecords},
		{Event: "DataExported", PerformedBy: "operator-1", Subject: listRecords},
	}
	if diff := cmp.Diff(want, changes, protocmp.Transform()); diff != "" {
		t.Errorf("by the operator: %s", diff)
	}
	if n := trail(t, d.nc, &auditv1.ListRecords{ChildId: "ch9"}); len(n) != 0 {
		t.Errorf("of a child nobody saw there is %v", n)
	}
	d.nowhere(t, marker)
}

// nowhere checks that the audit stream, and what is answered of it, do not hold a text.
func (d *deployment) nowhere(t *testing.T, marker string) {
	t.Helper()
	n := 0
	natstest.Each(t, d.js, subject.Stream(subject.Audit), func(m jetstream.Msg) {
		n++
		if bytes.Contains(m.Data(), []byte(marker)) || bytes.Contains(fmt.Append(nil, m.Subject(), m.Headers()), []byte(marker)) {
			t.Errorf("%q can be read on %s", marker, m.Subject())
		}
	})
	if r := ask(t, d.nc, listRecords, &auditv1.ListRecords{}); n == 0 || r.Code != "" || bytes.Contains(r.Data, []byte(marker)) {
		t.Errorf("%q is in the answer, or there is none: %s", marker, r.Error)
	}
}

// Data about many is on the trail with its size before it is given to somebody.
func TestAnExportIsOnTheTrail(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	nc := d.connect(t, d.add(t, "b1", leader))
	r := ask(t, nc, listRecords, &auditv1.ListRecords{})
	if r.Code != "" {
		t.Fatal(r.Error)
	}
	s, err := d.js.Stream(t.Context(), subject.Stream(subject.Audit))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), subject.Trail.Event("b1", "DataExported"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := e.Event.(*auditv1.DataExported)
	if !ok || got.GetSubject() != listRecords || got.GetSizeBytes() != uint64(len(r.Data)) || got.GetProvenance().GetPerformedBy() != "b1" {
		t.Errorf("it says %v of an answer of %d bytes", e.Event, len(r.Data))
	}
}

// Refused attempts are on the trail: of those that are alike one a minute, and how many were left out stands in the next one.
func TestRefusedAttemptsAreOnTheTrail(t *testing.T) {
	t.Parallel()
	const marker = "标识-4a5b6c"
	d, _ := deploy(t, 1)
	key, gone := newKey(t), d.add(t, "u1", worker)
	send(t, d.nc, revoke, d.revoking("u1"))
	for range 4 {
		d.outside(t, key)
	}
	d.outside(t, gone)
	d.clock.Advance(d.clock.Now().Add(time.Minute))
	d.outside(t, key)
	d.outside(t, key)
	d.clock.Advance(d.clock.Now().Add(time.Minute))
	d.outside(t, key)
	refused := func() (out []*auditv1.Record) {
		for _, r := range said(trail(t, d.nc, &auditv1.ListRecords{})) {
			if r.GetEvent() == "AttemptRefused" {
				out = append(out, r)
			}
		}
		return out
	}
	const unknown = "nkey: is not known, or no longer"
	want := []*auditv1.Record{
		{Event: "AttemptRefused", Reason: unknown},
		{Event: "AttemptRefused", Reason: unknown, PerformedBy: "u1"}, // whose key it was
		{Event: "AttemptRefused", Reason: unknown, LeftOut: 3},
		{Event: "AttemptRefused", Reason: unknown, LeftOut: 1},
	}
	if diff := cmp.Diff(want, refused(), protocmp.Transform()); diff != "" {
		t.Errorf("after connecting: %s", diff)
	}
	// What a service refuses: a role, or somebody else's name.
	adding := d.adding("u2", newKey(t).Public(), worker)
	adding.Provenance.PerformedBy = "u9"
	ask(t, d.nc, add, adding).Refused(t, "403", "provenance.performed_by")
	// What the bus denied, as an embedded one tells: the person whose key it is, and nothing of the subject but this system's own words.
	operatorKey := load(t, d.cfg.FirstOperator).Public()
	for _, a := range []access.Attempt{
		{Key: operatorKey, Action: auditv1.BusAction_BUS_ACTION_PUBLISH, Subject: "tongan.cmd.intake.case." + marker, Denied: access.Denied{Field: "subject", Rule: "is not one the connection may publish"}},
		{Key: key.Public(), Action: auditv1.BusAction_BUS_ACTION_SUBSCRIBE, Subject: marker + ".>", Denied: access.Denied{Field: "subject", Rule: "is not one the connection may subscribe"}},
	} {
		d.denied <- a
	}
	want = append(want,
		&auditv1.Record{
			Event: "AttemptRefused", PerformedBy: "operator-1", Subject: add,
			Reason: "provenance.performed_by: is somebody for whom the caller may not enter: another person of the caller's organisation, where the role allows it",
		},
		&auditv1.Record{Event: "AttemptRefused", PerformedBy: "operator-1", Subject: "tongan.cmd.intake.case.?", Reason: "subject: is not one the connection may publish"},
		&auditv1.Record{Event: "AttemptRefused", Subject: "?.>", Reason: "subject: is not one the connection may subscribe"})
	natstest.Eventually(t, 10*time.Second, "all are on the trail", func() bool { return len(refused()) == len(want) })
	if diff := cmp.Diff(want, refused(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	d.nowhere(t, marker)
}

// write puts n records on the trail of a person, as services do.
func (d *deployment) write(t *testing.T, who string, n int) {
	t.Helper()
	for i := range n {
		e := &auditv1.SealOpened{Provenance: access.Provenance(access.Caller{ID: who}, d.clock.Now(), "TEST"), ChildId: fmt.Sprint("ch", i%7), Subject: getChild}
		m, err := eventlog.Encode(subject.Trail, who, decider.Recorded{Event: e, ID: fmt.Sprint(who, "-", i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-d.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the records are not stored")
	}
}

// A long trail comes in pages: all of it, in order, nothing twice, whatever is asked for.
func TestALongTrailComesInPages(t *testing.T) {
	t.Parallel()
	const mine, others = 2100, 900
	d, _ := deploy(t, 1)
	d.write(t, "w1", mine/2)
	d.write(t, "w2", others)
	d.write(t, "w3", mine-mine/2)
	nc := d.connect(t, d.add(t, "b1", leader))
	first := got(t, nc, listRecords, &auditv1.ListRecords{}, &auditv1.Records{})
	if len(first.GetRecords()) != 1000 || !first.GetMore() || first.GetLookedUpTo() != 1000 {
		t.Errorf("the first page has %d, more %v, up to %d", len(first.GetRecords()), first.GetMore(), first.GetLookedUpTo())
	}
	today := first.GetRecords()[0].GetRecordedAt().AsTime().In(shanghai)
	for name, tt := range map[string]struct {
		ask  *auditv1.ListRecords
		want int
	}{
		"everything":           {&auditv1.ListRecords{}, mine + others},
		"a person":             {&auditv1.ListRecords{PerformedBy: "w2"}, others},
		"a child":              {&auditv1.ListRecords{ChildId: "ch0"}, (mine/2+6)/7 + (others+6)/7 + (mine-mine/2+6)/7},
		"a child and a person": {&auditv1.ListRecords{ChildId: "ch0", PerformedBy: "w2"}, (others + 6) / 7},
		"today":                {&auditv1.ListRecords{RecordedOn: today.Format(time.DateOnly)}, mine + others},
		"a person today":       {&auditv1.ListRecords{PerformedBy: "w2", RecordedOn: today.Format(time.DateOnly)}, others},
		"yesterday":            {&auditv1.ListRecords{RecordedOn: today.AddDate(0, 0, -1).Format(time.DateOnly)}, 0},
		"tomorrow":             {&auditv1.ListRecords{RecordedOn: today.AddDate(0, 0, 1).Format(time.DateOnly)}, 0},
		"tomorrow, from there": {&auditv1.ListRecords{RecordedOn: today.AddDate(0, 0, 1).Format(time.DateOnly), After: 1}, 0},
		"today, from there":    {&auditv1.ListRecords{RecordedOn: today.Format(time.DateOnly), After: 100}, mine + others - 99},
		"a day long ago":       {&auditv1.ListRecords{RecordedOn: "2020-02-04"}, 0},
		"after the last":       {&auditv1.ListRecords{After: 1 << 40}, 0},
		"nobody":               {&auditv1.ListRecords{PerformedBy: "w9"}, 0},
	} {
		var n int
		var last uint64
		for _, r := range trail(t, nc, tt.ask) {
			if r.GetSequence() <= last {
				t.Fatalf("%s: %d comes after %d", name, r.GetSequence(), last)
			}
			last = r.GetSequence()
			if r.GetEvent() == "SealOpened" { // beside them the trail holds what was asked here
				n++
			}
		}
		if n != tt.want {
			t.Errorf("%s: %d records, want %d", name, n, tt.want)
		}
	}
}

var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

func TestWhatCannotBeAskedOfTheTrail(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	for _, tt := range []struct {
		name string
		ask  *auditv1.ListRecords
		says []string
	}{
		{"a day that does not exist", &auditv1.ListRecords{RecordedOn: "2020-02-30"}, []string{"recorded_on", "must be a date"}},
		{"a day without hyphens", &auditv1.ListRecords{RecordedOn: "20200204"}, []string{"recorded_on"}},
		{"a person by name", &auditv1.ListRecords{PerformedBy: "标识"}, []string{"performed_by"}},
		{"all children", &auditv1.ListRecords{ChildId: "*"}, []string{"child_id"}},
	} {
		t.Run(tt.name, func(t *testing.T) { ask(t, d.nc, listRecords, tt.ask).Refused(t, "400", tt.says...) })
	}
	// Who has no right to it is held up by the bus already.
	nc := d.connect(t, d.add(t, "w1", worker))
	if _, err := nc.Request(listRecords, nil, 200*time.Millisecond); err == nil {
		t.Error("a social worker may read the trail")
	}
}

// A damaged record is passed over: the gap in the sequences shows it.
func TestADamagedRecordIsPassedOver(t *testing.T) {
	t.Parallel()
	d, _ := deploy(t, 1)
	d.write(t, "w1", 2)
	m, err := eventlog.Encode(subject.Trail, "w1", decider.Recorded{Event: &auditv1.SealOpened{ChildId: "ch1"}, ID: "damaged"})
	if err != nil {
		t.Fatal(err)
	}
	m.Data = append(m.Data, 1)
	ack, err := d.js.PublishMsg(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "w2", 1)
	var sequences []uint64
	for _, r := range trail(t, d.nc, &auditv1.ListRecords{}) {
		sequences = append(sequences, r.GetSequence())
	}
	if diff := cmp.Diff([]uint64{1, 2, 3, ack.Sequence + 1}, sequences); diff != "" {
		t.Error(diff)
	}
}
