package projector

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

// at is half past midnight of 28 January in Jiangmen, and still the 27th in UTC.
var at = time.Date(2020, 1, 27, 16, 30, 0, 0, time.UTC)

const (
	leftBehind = eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND
	orphan     = eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN
)

// common is how every typed row of an event at that time ends.
const common = " credited_org=o1 occurred_at=2020-01-27T16:30:00Z"

func siblings() []*outreachv1.ChildVisited {
	return []*outreachv1.ChildVisited{
		{ChildId: "c1", Category: leftBehind, AdmCode: "440781"},
		{ChildId: "c2", Category: orphan, AdmCode: "440783", Note: &eventv1.Sealed{KeyId: "c2"}},
	}
}

func visited(channel outreachv1.VisitChannel, outcome outreachv1.VisitOutcome) decider.Event {
	return &outreachv1.VisitRecorded{Provenance: provenance(at), VisitId: "v1", VisitedOn: "2020-01-28", Channel: channel, Outcome: outcome, Children: siblings()}
}

func voided(channel outreachv1.VisitChannel, outcome outreachv1.VisitOutcome) decider.Event {
	return &outreachv1.VisitVoided{
		Provenance: provenance(at.AddDate(0, 0, 9)), VisitId: "v1", VisitedOn: "2020-01-28", Channel: channel, Outcome: outcome, Children: siblings(),
		WorkerId: "w7", CreditedOrg: "o7", AdmCode: "440785",
	}
}

// visitLines are the rows of the two siblings' visit.
func visitLines(state, channel, outcome, end string) []string {
	line := "visits state=%s visit_id=v1 visited_on=2020-01-28 channel=%s outcome=%s child_id=%s category=%s adm_code=%s worker_id=%s"
	return []string{
		fmt.Sprintf(line, state, channel, outcome, "c1", "LEFT_BEHIND", "440781", end),
		fmt.Sprintf(line, state, channel, outcome, "c2", "SCATTERED_ORPHAN", "440783", end),
	}
}

func fact(indicator string, value int, rest string) string {
	return fmt.Sprintf("facts indicator=%s definition_version=1 value=%d day=2020-01-28 %s", indicator, value, rest)
}

func lines(parts ...any) []string {
	var out []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, p)
		case []string:
			out = append(out, p...)
		}
	}
	return out
}

func visitCases() map[string]rowCase {
	const (
		phone, online, home = outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, outreachv1.VisitChannel_VISIT_CHANNEL_ONLINE, outreachv1.VisitChannel_VISIT_CHANNEL_HOME_VISIT
		reached, noAnswer   = outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED, outreachv1.VisitOutcome_VISIT_OUTCOME_NO_ANSWER
	)
	recorded, taken := "w1"+common, "w7 credited_org=o7 occurred_at=2020-02-05T16:30:00Z"
	first, second := "adm_code=440781 category=LEFT_BEHIND credited_org=", "adm_code=440783 category=SCATTERED_ORPHAN credited_org="
	call, restated := "adm_code=440703 credited_org=", "adm_code=440785 credited_org=" // a void may come from another district
	return map[string]rowCase{
		"phone visit that reached": {visited(phone, reached), lines(
			fact("phone_attempts", 1, call+"o1"), fact("phone_calls", 1, call+"o1"),
			fact("phone_visits", 1, first+"o1"), fact("phone_visits", 1, second+"o1"), visitLines("RECORDED", "PHONE", "REACHED", recorded),
		)},
		"phone visit that did not": {visited(phone, noAnswer), lines(
			fact("phone_attempts", 1, call+"o1"), visitLines("RECORDED", "PHONE", "NO_ANSWER", recorded),
		)},
		"online visit": {visited(online, reached), lines(
			fact("online_visits", 1, first+"o1"), fact("online_visits", 1, second+"o1"), visitLines("RECORDED", "ONLINE", "REACHED", recorded),
		)},
		"home visit": {visited(home, reached), lines(
			fact("home_visits", 1, first+"o1"), fact("home_visits", 1, second+"o1"), visitLines("RECORDED", "HOME_VISIT", "REACHED", recorded),
		)},
		"home visit that did not reach": {visited(home, noAnswer), lines(visitLines("RECORDED", "HOME_VISIT", "NO_ANSWER", recorded))},
		"void of a phone visit that reached": {voided(phone, reached), lines(
			fact("phone_attempts", -1, restated+"o7"), fact("phone_calls", -1, restated+"o7"),
			fact("phone_visits", -1, first+"o7"), fact("phone_visits", -1, second+"o7"), visitLines("VOIDED", "PHONE", "REACHED", taken),
		)},
		"void of a phone visit that did not": {voided(phone, noAnswer), lines(
			fact("phone_attempts", -1, restated+"o7"), visitLines("VOIDED", "PHONE", "NO_ANSWER", taken),
		)},
		"void of a home visit": {voided(home, reached), lines(
			fact("home_visits", -1, first+"o7"), fact("home_visits", -1, second+"o7"), visitLines("VOIDED", "HOME_VISIT", "REACHED", taken),
		)},
	}
}

// rowCase is an event and the rows it must give beside its journal row.
type rowCase struct {
	event decider.Event
	want  []string
}

func outreachCases() map[string]rowCase {
	p := provenance(at)
	child := "child_id=c1 category=LEFT_BEHIND adm_code=440781"
	one := "adm_code=440781 category=LEFT_BEHIND credited_org=o1"
	return map[string]rowCase{
		"reminders queued": {&outreachv1.RemindersQueued{Provenance: p, BatchId: "b1", Messages: []*outreachv1.ReminderMessage{
			{MessageId: "m1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", Segments: 2},
			{MessageId: "m2", ChildId: "c2", Category: orphan, AdmCode: "440783", Segments: 1},
		}}, lines("reminders state=QUEUED batch_id=b1 message_id=m1 "+child+" segments=2"+common,
			"reminders state=QUEUED batch_id=b1 message_id=m2 child_id=c2 category=SCATTERED_ORPHAN adm_code=440783 segments=1"+common)},
		"reminder accepted": {
			&outreachv1.ReminderAccepted{Provenance: p, BatchId: "b1", MessageId: "m1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", Segments: 2},
			lines(fact("sms_reminders", 1, one), "reminders state=ACCEPTED batch_id=b1 message_id=m1 "+child+" segments=2"+common),
		},
		"reminder delivered": {
			&outreachv1.ReminderDelivered{Provenance: p, BatchId: "b1", MessageId: "m1", ChildId: "c1", Category: leftBehind, AdmCode: "440781"},
			lines(fact("sms_delivered", 1, one), "reminders state=DELIVERED batch_id=b1 message_id=m1 "+child+common),
		},
		"reminder failed": {
			&outreachv1.ReminderFailed{Provenance: p, BatchId: "b1", MessageId: "m1", ChildId: "c1", Category: leftBehind, AdmCode: "440781", Failure: 2},
			lines(fact("sms_failed", 1, one), "reminders state=FAILED batch_id=b1 message_id=m1 "+child+" failure=UNKNOWN_NUMBER"+common),
		},
		"delivery requested": {
			&outreachv1.DeliveryRequested{Provenance: p, DeliveryId: "d1", Item: 1, Units: 20, ChildId: "c1", Category: leftBehind, AdmCode: "440781"},
			lines("deliveries state=REQUESTED delivery_id=d1 item=MASK units=20 " + child + common),
		},
		"delivery dispatched": {
			&outreachv1.DeliveryDispatched{Provenance: p, DeliveryId: "d1", Item: 1, Units: 20, ChildId: "c1", Category: leftBehind, AdmCode: "440781"},
			lines(fact("protective_items_dispatched", 20, one), "deliveries state=DISPATCHED delivery_id=d1 item=MASK units=20 "+child+common),
		},
		"receipt confirmed": {
			&outreachv1.DeliveryReceiptConfirmed{Provenance: p, DeliveryId: "d1", Item: 2, Units: 3, InstitutionId: "i1", AdmCode: "440704"},
			lines(fact("protective_items", 3, "adm_code=440704 category=UNSPECIFIED institution=i1 credited_org=o1"),
				"deliveries state=RECEIVED delivery_id=d1 item=THERMOMETER units=3 category=UNSPECIFIED institution=i1 adm_code=440704"+common),
		},
		"support requested": {
			&outreachv1.ServiceSupportRequested{Provenance: p, SupportId: "s1", Kind: 1, ChildId: "c1", Category: leftBehind, CaseId: "x1", ProviderOrg: "o5", AdmCode: "440781", DueAt: timestamppb.New(at)},
			lines("supports state=REQUESTED support_id=s1 kind=MEALS " + "child_id=c1 category=LEFT_BEHIND case_id=x1 provider_org=o5 adm_code=440781 due_at=2020-01-27T16:30:00Z" + common),
		},
		"support begun": {
			&outreachv1.ServiceSupportBegun{Provenance: p, SupportId: "s1", Kind: 1, ChildId: "c1", Category: leftBehind, CaseId: "x1", ProviderOrg: "o5", AdmCode: "440781"},
			lines(fact("service_supports", 1, one), "supports state=BEGUN support_id=s1 kind=MEALS child_id=c1 category=LEFT_BEHIND case_id=x1 provider_org=o5 adm_code=440781"+common),
		},
		"support ended": {
			&outreachv1.ServiceSupportEnded{Provenance: p, SupportId: "s1", Kind: 1, ChildId: "c1", Category: leftBehind, CaseId: "x1", ProviderOrg: "o5", AdmCode: "440781"},
			lines("supports state=ENDED support_id=s1 kind=MEALS child_id=c1 category=LEFT_BEHIND case_id=x1 provider_org=o5 adm_code=440781" + common),
		},
	}
}

// plainCases are the events that give their journal row only.
func plainCases() map[string]rowCase {
	p := provenance(at)
	return map[string]rowCase{
		"bulletin published":     {&reportingv1.FigurePublished{Provenance: p}, nil},
		"institution registered": {&healthcheckv1.InstitutionRegistered{Provenance: p}, nil},
		"closure regime started": {&healthcheckv1.ClosureRegimeStarted{Provenance: p}, nil},
	}
}

func healthCheckCases() map[string]rowCase {
	p := provenance(at)
	p.RuleVersion = "2020-1"
	reading := &healthcheckv1.Reading{CheckId: "r1", PersonId: "c1", TempDecicelsius: 376, Method: 2}
	check := func(band healthcheckv1.TemperatureBand) decider.Event {
		return &healthcheckv1.HealthCheckRecorded{Provenance: p, InstitutionId: "i1", CheckedOn: "2020-01-28", Slot: 1, Reading: reading, Band: band, AdmCode: "440704"}
	}
	row := "health_checks institution=i1 checked_on=2020-01-28 slot=MORNING check_id=r1 person_id=c1 temp_decicelsius=376 method=FOREHEAD band=%s rule_version=2020-1 adm_code=440704" + common
	there := "adm_code=440704 institution=i1 credited_org=o1"
	return map[string]rowCase{
		"normal reading":   {check(1), lines(fact("health_checks", 1, there), fmt.Sprintf(row, "NORMAL"))},
		"elevated reading": {check(2), lines(fact("health_checks", 1, there), fact("abnormal_temperatures", 1, there), fmt.Sprintf(row, "ELEVATED"))},
		"fever":            {check(3), lines(fact("health_checks", 1, there), fact("abnormal_temperatures", 1, there), fmt.Sprintf(row, "FEVER"))},
		"round opened": {
			&healthcheckv1.CheckRoundOpened{Provenance: p, InstitutionId: "i1", CheckedOn: "2020-01-28", Slot: 2, Expected: 20},
			lines("check_rounds state=OPENED institution=i1 checked_on=2020-01-28 slot=NOON expected=20 adm_code=440703" + common),
		},
		"round closed": {
			&healthcheckv1.CheckRoundClosed{Provenance: p, InstitutionId: "i1", CheckedOn: "2020-01-28", Slot: 2, Expected: 20, Checked: 19, Abnormal: 1, AdmCode: "440704"},
			lines("check_rounds state=CLOSED institution=i1 checked_on=2020-01-28 slot=NOON expected=20 checked=19 abnormal=1 adm_code=440704" + common),
		},
	}
}

func TestRowsOfEveryEvent(t *testing.T) {
	t.Parallel()
	tested := make(map[protoreflect.FullName]bool)
	for _, cases := range []map[string]rowCase{plainCases(), caseCases(), contactCases(), shiftCases(), childCases(), healthCheckCases(), outreachCases(), visitCases()} {
		for name, c := range cases {
			typeName := c.event.ProtoReflect().Descriptor().FullName()
			tested[typeName] = true
			t.Run(name, func(t *testing.T) {
				got, err := rowsOf(messageOf(stored{subject.Aggregate{Service: "s", Name: "agg"}, "a1", c.event}))
				if err != nil {
					t.Fatal(err)
				}
				all := render(got)
				if diff := cmp.Diff(strings.Join(c.want, "\n"), strings.Join(all[:len(all)-1], "\n")); diff != "" {
					t.Error(diff)
				}
				testJournalRow(t, got, string(typeName))
			})
		}
	}
	for _, m := range eventMessages(t) {
		if !tested[m.Descriptor().FullName()] {
			t.Errorf("no row of the table tests %s", m.Descriptor().FullName())
		}
	}
}

// testJournalRow checks that there is one journal row that counts the others, and that each row knows its place.
func testJournalRow(t *testing.T, r rows, typeName string) {
	t.Helper()
	if len(r.Journal) != 1 {
		t.Fatalf("%d journal rows", len(r.Journal))
	}
	j := r.Journal[0]
	if j.Stream != "TONGAN_S" || j.Seq != 7 || j.Kind != "event" || j.EventID != "e1" || j.Cause != "k0" || j.CommandID != "k1" ||
		j.Aggregate != "agg" || j.AggregateID != "a1" || j.Type != typeName || j.PerformedBy != "w1" || j.SourceChannel != "DESK" || j.Size == 0 || j.Version != Version {
		t.Errorf("journal row %+v", j)
	}
	counts := []uint32{
		j.FactsRows, j.VisitsRows, j.RemindersRows, j.DeliveriesRows, j.SupportsRows, j.CasesRows, j.CheckRoundsRows, j.HealthChecksRows, j.ChildEventsRows,
		j.ContactEventsRows, j.ShiftsRows, j.DeadlinesRows, 1,
	}
	for i, table := range r.inserts() {
		if int(counts[i]) != table.rows.Len() {
			t.Errorf("the journal says %d rows of %s, there are %d", counts[i], table.name, table.rows.Len())
		}
		if table.name == "journal" {
			continue
		}
		for n := range table.rows.Len() {
			row := table.rows.Index(n)
			if at := (place{row.FieldByName("Stream").String(), row.FieldByName("Seq").Uint(), uint32(row.FieldByName("N").Uint())}); at != (place{"TONGAN_S", 7, uint32(n)}) {
				t.Errorf("row %d of %s is at %+v", n, table.name, at)
			}
		}
	}
}

func TestMessagesThatAreNoEvents(t *testing.T) {
	t.Parallel()
	sound := messageOf(stored{subject.Aggregate{Service: subject.Intake, Name: "case"}, "x1", &intakev1.CaseOpened{Provenance: provenance(at)}})
	with := func(change func(m *message)) message {
		m := sound
		change(&m)
		return m
	}
	event := func(e decider.Event) message { return with(func(m *message) { m.envelope.Event = e }) }
	poison := func(class string) string {
		return fmt.Sprintf("journal kind=poison size=%d poison=%s projection_version=3", sound.size, class)
	}
	noDay := visited(1, 1).(*outreachv1.VisitRecorded)
	noDay.VisitedOn = "28.1.2020"
	for name, c := range map[string]struct {
		message message
		want    string
	}{
		"header":      {with(func(m *message) { m.err = fmt.Errorf("%w: x", eventlog.ErrHeader) }), poison("HEADER")},
		"checksum":    {with(func(m *message) { m.err = eventlog.ErrChecksum }), poison("CHECKSUM")},
		"decode":      {with(func(m *message) { m.err = eventlog.ErrDecode }), poison("DECODE")},
		"gap":         {message{stream: "TONGAN_INTAKE", sequence: 7, err: errGap}, "journal kind=gap projection_version=3"},
		"no time":     {event(&intakev1.CaseOpened{Provenance: &eventv1.Provenance{CommandId: "k"}}), poison("DECODE")},
		"year 9999":   {event(&intakev1.CaseOpened{Provenance: provenance(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))}), poison("DECODE")},
		"not a day":   {event(noDay), poison("DECODE")},
		"odd headers": {with(func(m *message) { m.envelope.ID, m.envelope.Cause = "张三", "a b" }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := rowsOf(c.message)
			if err != nil {
				t.Fatal(err)
			}
			text := render(got)
			if c.want != "" && (len(text) != 1 || text[0] != c.want) {
				t.Errorf("got %q, want %q", text, c.want)
			}
			if j := got.Journal[0]; strings.ContainsAny(j.EventID+j.Cause, "张三 ") {
				t.Errorf("a header that is no id is in the journal: %+v", j)
			}
		})
	}
}

func TestWhatThisBuildDoesNotKnowIsUndecided(t *testing.T) {
	t.Parallel()
	unknown := messageOf(stored{subject.Aggregate{Service: subject.Intake, Name: "case"}, "x1", &intakev1.OpenCase{Provenance: provenance(at)}})
	unknown.envelope.Event, unknown.err = nil, eventlog.ErrUnknownType
	newer := provenance(at)
	newer.SourceChannel = 99
	for name, m := range map[string]message{
		"type":            unknown,
		"no decision":     messageOf(stored{subject.Aggregate{}, "x1", &intakev1.OpenCase{Provenance: provenance(at)}}),
		"value of a code": messageOf(stored{subject.Aggregate{}, "x1", visited(99, 1)}),
		"kind of contact": messageOf(stored{subject.Aggregate{}, "x1", &intakev1.HotlineContactReceived{Provenance: provenance(at), ContactType: 99}}),
		"source channel":  messageOf(stored{subject.Aggregate{}, "x1", &intakev1.CaseOpened{Provenance: newer}}),
	} {
		if got, err := rowsOf(m); !errors.Is(err, ErrUndecided) {
			t.Errorf("%s: %v, %v", name, render(got), err)
		}
	}
}

// Emptying names each table by hand, since it is done for every event.
func TestEmptyLeavesNoRowInAnyTable(t *testing.T) {
	t.Parallel()
	var r rows
	for _, table := range reflect.ValueOf(&r).Elem().Fields() {
		table.Set(reflect.MakeSlice(table.Type(), 2, 2))
	}
	r.empty()
	for field, table := range reflect.ValueOf(r).Fields() {
		if table.Len() != 0 {
			t.Errorf("%s is not emptied", field.Name)
		}
	}
}
