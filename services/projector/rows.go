package projector

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/consume"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// ErrUndecided is returned when a sound message cannot become rows because this build does not know its type, or a value of one
// of its enums, or has made no decision about it. Its stream stops there until a build that knows it is started.
var ErrUndecided = errors.New("this build does not know what rows the message gives")

// errGap stands for a sequence that the stream does not hold.
var errGap = errors.New("the stream does not hold this sequence")

// definitionVersion is the version of the definitions that the facts of this projection follow.
const definitionVersion = 1

// The instants and days that fit the columns: after 1970 (a Date begins there) and before 2149 (where it ends).
const firstYear, lastYear = 1970, 2148

// rowsOf returns the rows a message gives: always one journal row, the rest as decide says. It is a pure function of the message;
// the same message gives the same rows in every process at every time. The only error is ErrUndecided.
func rowsOf(m message) (rows, error) { return new(builder).rowsOf(m) }

// rowsOf is rowsOf into the builder's memory: the rows are good until it is called again.
func (b *builder) rowsOf(m message) (rows, error) {
	switch {
	case errors.Is(m.err, eventlog.ErrUnknownType):
		return rows{}, undecided(m)
	case errors.Is(m.err, errGap):
		return rows{Journal: []journalRow{{Stream: m.stream, Seq: m.sequence, Kind: "gap", Version: Version}}}, nil
	case m.err != nil:
		return poison(m, m.err), nil
	}
	*b = builder{m: m, p: m.envelope.Event.GetProvenance(), rows: b.rows, known: b.known}
	b.rows.empty()
	b.occurred = b.instant(b.p.GetOccurredAt())
	journal := b.journal()
	if !b.decide(m.envelope.Event) || b.unknown {
		return rows{}, undecided(m)
	}
	if b.damage != nil {
		return poison(m, b.damage), nil
	}
	b.rows.Journal = append(b.rows.Journal, b.rows.counted(journal))
	return b.rows, nil
}

func undecided(m message) error {
	return fmt.Errorf("stream %s, sequence %d, type %s: %w", m.stream, m.sequence, m.envelope.Type, ErrUndecided)
}

// poison returns the row of a message that cannot be read. Nothing that the message claims is in it: that may be anything.
func poison(m message, cause error) rows {
	recorded := m.recorded
	return rows{Journal: []journalRow{{
		Stream: m.stream, Seq: m.sequence, Kind: "poison", RecordedAt: &recorded, Size: uint32(m.size),
		Poison: name(consume.Class(cause)), Version: Version,
	}}}
}

// counted returns the journal row with the number of rows in every other table.
func (r *rows) counted(j journalRow) journalRow {
	j.FactsRows = uint32(len(r.Facts))
	j.VisitsRows = uint32(len(r.Visits))
	j.RemindersRows = uint32(len(r.Reminders))
	j.DeliveriesRows = uint32(len(r.Deliveries))
	j.SupportsRows = uint32(len(r.Supports))
	j.CasesRows = uint32(len(r.Cases))
	j.CheckRoundsRows = uint32(len(r.CheckRounds))
	j.HealthChecksRows = uint32(len(r.HealthChecks))
	j.ChildEventsRows = uint32(len(r.ChildEvents))
	j.ContactEventsRows = uint32(len(r.ContactEvents))
	j.ShiftsRows = uint32(len(r.Shifts))
	j.DeadlinesRows = uint32(len(r.Deadlines))
	return j
}

// add appends the rows of other.
func (r *rows) add(other rows) {
	r.Facts = append(r.Facts, other.Facts...)
	r.Visits = append(r.Visits, other.Visits...)
	r.Reminders = append(r.Reminders, other.Reminders...)
	r.Deliveries = append(r.Deliveries, other.Deliveries...)
	r.Supports = append(r.Supports, other.Supports...)
	r.Cases = append(r.Cases, other.Cases...)
	r.CheckRounds = append(r.CheckRounds, other.CheckRounds...)
	r.HealthChecks = append(r.HealthChecks, other.HealthChecks...)
	r.ChildEvents = append(r.ChildEvents, other.ChildEvents...)
	r.ContactEvents = append(r.ContactEvents, other.ContactEvents...)
	r.Shifts = append(r.Shifts, other.Shifts...)
	r.Deadlines = append(r.Deadlines, other.Deadlines...)
	r.Journal = append(r.Journal, other.Journal...)
}

// total returns the number of rows in all tables.
func (r *rows) total() int {
	return len(r.Facts) + len(r.Visits) + len(r.Reminders) + len(r.Deliveries) + len(r.Supports) + len(r.Cases) +
		len(r.CheckRounds) + len(r.HealthChecks) + len(r.ChildEvents) + len(r.ContactEvents) + len(r.Shifts) + len(r.Deadlines) + len(r.Journal)
}

// empty takes all rows out and keeps their memory; what they held is let go.
func (r *rows) empty() {
	r.Facts = emptied(r.Facts)
	r.Visits = emptied(r.Visits)
	r.Reminders = emptied(r.Reminders)
	r.Deliveries = emptied(r.Deliveries)
	r.Supports = emptied(r.Supports)
	r.Cases = emptied(r.Cases)
	r.CheckRounds = emptied(r.CheckRounds)
	r.HealthChecks = emptied(r.HealthChecks)
	r.ChildEvents = emptied(r.ChildEvents)
	r.ContactEvents = emptied(r.ContactEvents)
	r.Shifts = emptied(r.Shifts)
	r.Deadlines = emptied(r.Deadlines)
	r.Journal = emptied(r.Journal)
}

func emptied[T any](table []T) []T {
	clear(table)
	return table[:0]
}

// builder gathers the rows of one event.
type builder struct {
	m        message
	p        *eventv1.Provenance
	occurred time.Time
	rows     rows
	damage   error // the event says something that no sound event says
	unknown  bool  // the event holds a value of an enum that this build does not know
	known    known
}

// known is what was worked out for events before and is asked for again and again.
type known struct {
	codes map[value]string
	text  string // a day as an event says it
	day   time.Time
}

// value is a value of an enum.
type value struct {
	enum   protoreflect.EnumDescriptor
	number protoreflect.EnumNumber
}

func (b *builder) journal() journalRow {
	e, p := b.m.envelope, b.p
	at := b.times() // of its own: the builder goes on
	return journalRow{
		Stream: b.m.stream, Seq: b.m.sequence, Kind: "event",
		EventID: opaque(e.ID), Type: e.Type, Aggregate: e.Subject.Name, AggregateID: e.Subject.ID,
		CommandID: p.GetCommandId(), Cause: opaque(e.Cause),
		RecordedAt: &at.RecordedAt, OccurredAt: &at.OccurredAt,
		PerformedBy: p.GetPerformedBy(), RecordedBy: p.GetRecordedBy(), CreditedOrg: p.GetCreditedOrg(),
		AdmCode: p.GetAdmCode(), SourceChannel: b.code(p.GetSourceChannel()), Reason: p.GetReason(),
		CorrectionOf: p.GetCorrectionOf(), RuleVersion: p.GetRuleVersion(), Size: uint32(b.m.size), Version: Version,
	}
}

// opaque returns id if it is of the form of an id; the checksum does not cover the headers.
func opaque(id string) string {
	if subject.ValidID(id) {
		return id
	}
	return ""
}

// place returns the place of the next row of a table that has n rows.
func (b *builder) place(n int) place {
	return place{Stream: b.m.stream, Seq: b.m.sequence, N: uint32(n)}
}

func (b *builder) times() times { return times{OccurredAt: b.occurred, RecordedAt: b.m.recorded} }

// dims are what a fact is counted by.
type dims struct {
	day                                 time.Time
	admCode, category, institution, org string
}

// dims returns the dimensions of the event itself: the day it happened, its district and the organisation credited.
func (b *builder) dims() dims {
	return dims{day: b.day(decider.Day(b.occurred)), admCode: b.p.GetAdmCode(), org: b.p.GetCreditedOrg()}
}

// of returns the dimensions with the category of a child and a restated district.
func (d dims) of(category, admCode string) dims {
	d.category, d.admCode = category, admCode
	return d
}

func (b *builder) fact(indicator string, value int64, d dims) {
	b.rows.Facts = append(b.rows.Facts, factRow{
		place: b.place(len(b.rows.Facts)), Indicator: indicator, DefinitionVersion: definitionVersion, Value: value,
		Day: d.day, AdmCode: d.admCode, Category: d.category, Institution: d.institution, CreditedOrg: d.org,
		RecordedAt: b.m.recorded,
	})
}

// instant returns a time that fits the columns.
func (b *builder) instant(t *timestamppb.Timestamp) time.Time {
	at := t.AsTime()
	if !t.IsValid() || at.Year() < firstYear || at.Year() > lastYear {
		b.damaged("an instant is missing or out of range")
		return time.Unix(0, 0).UTC()
	}
	return at
}

// instantOf is instant for a column that may be NULL: an event need not say it.
func (b *builder) instantOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := b.instant(t)
	return &at
}

// day returns a day given as YYYY-MM-DD.
func (b *builder) day(s string) time.Time {
	if s == b.known.text && s != "" {
		return b.known.day
	}
	d, err := time.Parse(time.DateOnly, s)
	if err != nil || d.Year() < firstYear || d.Year() > lastYear {
		b.damaged("a day is missing or out of range")
		return d
	}
	b.known.text, b.known.day = s, d
	return d
}

// damaged notes that the event violates its contract: then it is no message of its type.
func (b *builder) damaged(rule string) { b.damage = fmt.Errorf("%w: %s", eventlog.ErrDecode, rule) }

// enum is a generated enum.
type enum interface {
	Descriptor() protoreflect.EnumDescriptor
	Number() protoreflect.EnumNumber
}

// code returns the name of an enum's value without the enum's own, for example HOME_VISIT.
func (b *builder) code(e enum) string {
	v := value{e.Descriptor(), e.Number()}
	code, ok := b.known.codes[v]
	if ok {
		return code
	}
	if v.enum.Values().ByNumber(v.number) == nil {
		b.unknown = true
		return ""
	}
	if b.known.codes == nil {
		b.known.codes = make(map[value]string)
	}
	b.known.codes[v] = name(e)
	return b.known.codes[v]
}

// codes returns the codes of several values of an enum.
func codes[E enum](b *builder, values []E) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = b.code(v)
	}
	return out
}

func name(e enum) string {
	values := e.Descriptor().Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	return strings.TrimPrefix(string(values.ByNumber(e.Number()).Name()), prefix)
}
