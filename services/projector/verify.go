package projector

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// VerifyConfig says how tables are compared with the streams. The zero value is useful.
type VerifyConfig struct {
	// Repair inserts the rows that are missing or other than the events give, and removes those that no event gives. The user needs ALTER DELETE.
	Repair bool
	// Settle is how long a projector that runs may take to catch up first; 0 means 10 s.
	Settle time.Duration
	// ChunkRows is about how many rows, of all tables together, are held and compared at once; 0 means 50 000.
	ChunkRows int
}

// Difference is that a table does not hold, in a range of sequences, what the events there give.
type Difference struct {
	// Table, and the stream; empty means one that no service owns.
	Table, Stream string
	From, To      uint64
	// Rows that are missing, that no event gives, and that are other than the event gives.
	Missing, Extra, Different int
}

// Compared is what came of comparing the tables with one stream.
type Compared struct {
	Stream string
	// To is the last sequence that was looked at; the first is 1.
	To uint64
	// Rows is how many rows the events up to there give, in all tables.
	Rows        uint64
	Differences []Difference
	// Stopped is why it was not gone on with after To; it wraps ErrUndecided, or is nil.
	Stopped error
}

// Verify reads the whole stream of every service and compares each row of each table with what the event there gives: that it is there, once,
// and as it must be, and that no other is. The first of what it returns is about rows of streams that there are not.
func Verify(ctx context.Context, js jetstream.JetStream, conn driver.Conn, cfg VerifyConfig) ([]*Compared, error) {
	if cfg.Settle == 0 {
		cfg.Settle = 10 * time.Second
	}
	if cfg.ChunkRows == 0 {
		cfg.ChunkRows = 50_000
	}
	foreign := &Compared{}
	out, targets := []*Compared{foreign}, make(map[string]uint64)
	v := &verifier{VerifyConfig: cfg, conn: conn, out: foreign}
	if err := v.foreign(ctx); err != nil {
		return nil, err
	}
	for _, service := range subject.Services() {
		c := &Compared{Stream: subject.Stream(service)}
		if err := Identity(ctx, js, conn, service); err != nil && !errors.Is(err, errAhead) {
			return nil, err
		}
		v := &verifier{VerifyConfig: cfg, conn: conn, out: c}
		var err error
		if c.To, err = v.ahead(ctx, js, service); err != nil {
			return nil, err
		}
		targets[c.Stream], out = c.To, append(out, c)
	}
	if err := settle(ctx, conn, targets, cfg.Settle); err != nil {
		return nil, err
	}
	for _, c := range out[1:] {
		v := &verifier{VerifyConfig: cfg, conn: conn, out: c}
		if err := v.compare(ctx, js); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// settle waits until a projector that runs has caught up. If none runs, what is missing will be found.
func settle(ctx context.Context, conn driver.Conn, targets map[string]uint64, within time.Duration) error {
	for end := time.Now().Add(within); ; {
		marks, err := Watermarks(ctx, conn)
		if err != nil || reached(marks, targets) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// verifier compares the tables with one stream.
type verifier struct {
	VerifyConfig
	conn driver.Conn
	out  *Compared
	rows rows   // what the sequences from the next to compare on give
	next uint64 // the next to compare
}

// foreign finds rows of streams that no service owns.
func (v *verifier) foreign(ctx context.Context) error {
	var streams []string
	for _, service := range subject.Services() {
		streams = append(streams, "'"+subject.Stream(service)+"'")
	}
	where := "stream NOT IN (" + strings.Join(streams, ", ") + ")"
	for _, t := range v.rows.inserts() {
		if err := v.remove(ctx, t.name, where, Difference{Table: t.name}); err != nil {
			return err
		}
	}
	return nil
}

// ahead finds rows of sequences that the stream has not reached, and returns how far it reaches after that.
func (v *verifier) ahead(ctx context.Context, js jetstream.JetStream, service string) (uint64, error) {
	for _, t := range v.rows.inserts() {
		var most uint64
		if err := v.conn.QueryRow(ctx, "SELECT max(seq) FROM "+BaseDatabase+"."+t.name+" WHERE stream = $1", v.out.Stream).Scan(&most); err != nil {
			return 0, fmt.Errorf("read %s: %w", t.name, err)
		}
		end, err := eventlog.LastSequence(ctx, js, v.out.Stream, subject.Events(service)) // afterwards: what is beyond it now was never in the stream
		if err != nil {
			return 0, fmt.Errorf("end of %s: %w", v.out.Stream, err)
		}
		if most <= end {
			continue
		}
		where := fmt.Sprintf("stream = '%s' AND seq BETWEEN %d AND %d", v.out.Stream, end+1, most)
		if err := v.remove(ctx, t.name, where, Difference{Table: t.name, Stream: v.out.Stream, From: end + 1, To: most}); err != nil {
			return 0, err
		}
	}
	// What came meanwhile under the sequences that were removed is compared, and inserted again, with the rest.
	return eventlog.LastSequence(ctx, js, v.out.Stream, subject.Events(service))
}

// remove notes the rows that a condition meets as rows that no event gives, and removes them where it repairs.
func (v *verifier) remove(ctx context.Context, table, where string, d Difference) error {
	var n uint64
	if err := v.conn.QueryRow(ctx, "SELECT count() FROM "+BaseDatabase+"."+table+" FINAL WHERE "+where).Scan(&n); err != nil {
		return fmt.Errorf("read %s: %w", table, err)
	}
	if n == 0 {
		return nil
	}
	d.Extra = int(n)
	v.out.Differences = append(v.out.Differences, d)
	return v.delete(ctx, table, where)
}

// delete removes rows and waits until that is done.
func (v *verifier) delete(ctx context.Context, table, where string) error {
	if !v.Repair {
		return nil
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"mutations_sync": 1}))
	if err := v.conn.Exec(ctx, "ALTER TABLE "+BaseDatabase+"."+table+" DELETE WHERE "+where); err != nil {
		return fmt.Errorf("remove rows of %s: %w", table, err)
	}
	return nil
}

// compare reads the stream, and compares a chunk after the other.
func (v *verifier) compare(ctx context.Context, js jetstream.JetStream) error {
	var last uint64
	err := eventlog.Scan(ctx, js, v.out.Stream, 1, v.out.To, func(sequence uint64, m *jetstream.RawStreamMsg) error {
		r, err := rowsOf(v.message(sequence, m))
		if err != nil {
			return err
		}
		v.rows.add(r)
		if last = sequence; v.rows.total() < v.ChunkRows {
			return nil
		}
		return v.chunk(ctx, sequence)
	})
	if errors.Is(err, ErrUndecided) {
		v.out.To, v.out.Stopped, err = last, err, nil
	}
	if err != nil {
		return err
	}
	return v.chunk(ctx, v.out.To)
}

// message is what a scan gives as the projector reads it.
func (v *verifier) message(sequence uint64, stored *jetstream.RawStreamMsg) message {
	m := message{stream: v.out.Stream, sequence: sequence, err: errGap}
	if stored != nil {
		m.recorded, m.size = stored.Time.UTC(), len(stored.Data)
		m.envelope, m.err = eventlog.Decode(stored.Subject, stored.Header, stored.Data, sequence)
	}
	return m
}

// chunk compares the tables with the rows at hand, up to a sequence, in the order in which they are written. The first begins at 0, which is
// no sequence.
func (v *verifier) chunk(ctx context.Context, to uint64) error {
	for _, t := range v.rows.inserts() {
		v.out.Rows += uint64(t.rows.Len())
		d := Difference{Table: t.name, Stream: v.out.Stream, From: v.next, To: to}
		wrong, extra, err := t.differs(ctx, v.conn, &d)
		if err != nil {
			return fmt.Errorf("compare %s: %w", t.name, err)
		}
		if d.Missing+d.Extra+d.Different == 0 {
			continue
		}
		v.out.Differences = append(v.out.Differences, d)
		if len(extra) > 0 {
			where := fmt.Sprintf("stream = '%s' AND seq BETWEEN %d AND %d AND (%s) IN (%s)", v.out.Stream, d.From, d.To, layoutOf(t.rows.Type().Elem()).key, strings.Join(extra, ", "))
			if err := v.delete(ctx, t.name, where); err != nil {
				return err
			}
		}
		if v.Repair && wrong.rows.Len() > 0 {
			if err := wrong.insert(ctx, v.conn); err != nil {
				return err
			}
		}
	}
	v.rows, v.next = rows{}, to+1
	return nil
}

// maxRemoved is how many rows one statement removes of a chunk; it names each. What is more is found again by the next run.
const maxRemoved = 10_000

// differs compares the rows with those that the table holds in the range of d, and counts there. It returns the rows that the table lacks or
// has otherwise, and the keys of those that it should not have.
func (t table) differs(ctx context.Context, conn driver.Conn, d *Difference) (wrong table, extra []string, err error) {
	row := t.rows.Type().Elem()
	l := layoutOf(row)
	held, err := conn.Query(ctx, "SELECT "+strings.Join(columns(row), ", ")+" FROM "+BaseDatabase+"."+t.name+
		" FINAL WHERE stream = $1 AND seq BETWEEN $2 AND $3 ORDER BY "+l.key, d.Stream, d.From, d.To)
	if err != nil {
		return wrong, nil, err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	wrong = table{t.name, reflect.MakeSlice(t.rows.Type(), 0, 0)}
	want := 0
	lacks := func(n *int) {
		wrong.rows = reflect.Append(wrong.rows, t.rows.Index(want))
		*n, want = *n+1, want+1
	}
	has := reflect.New(row).Elem()
	into := l.pointers(has)
	for held.Next() {
		has.SetZero()
		if err := held.Scan(into...); err != nil {
			return wrong, nil, err
		}
		at := l.place(has)
		for want < t.rows.Len() && l.place(t.rows.Index(want)).before(at) {
			lacks(&d.Missing)
		}
		switch {
		case want == t.rows.Len() || l.place(t.rows.Index(want)) != at:
			if d.Extra++; d.Extra <= maxRemoved {
				extra = append(extra, at.sql(l.key))
			}
		case !l.same(t.rows.Index(want), has):
			lacks(&d.Different)
		default:
			want++
		}
	}
	for want < t.rows.Len() {
		lacks(&d.Missing)
	}
	return wrong, extra, held.Err()
}

// layout is where a row type has its columns, and what tells rows of one stream apart: seq, n, or seq alone.
type layout struct {
	columns [][]int
	seq, n  []int
	key     string
}

func layoutOf(row reflect.Type) layout {
	var l layout
	for _, f := range reflect.VisibleFields(row) {
		switch f.Tag.Get("ch") {
		case "":
			continue
		case "seq":
			l.seq, l.key = f.Index, "seq"
		case "n":
			l.n, l.key = f.Index, "seq, n"
		}
		l.columns = append(l.columns, f.Index)
	}
	return l
}

// pointers returns pointers to a row's columns.
func (l layout) pointers(row reflect.Value) []any {
	out := make([]any, len(l.columns))
	for i, at := range l.columns {
		out[i] = row.FieldByIndex(at).Addr().Interface()
	}
	return out
}

// rowPlace is the place of a row in its stream.
type rowPlace struct{ seq, n uint64 }

func (l layout) place(row reflect.Value) rowPlace {
	p := rowPlace{seq: row.FieldByIndex(l.seq).Uint()}
	if l.n != nil {
		p.n = row.FieldByIndex(l.n).Uint()
	}
	return p
}

func (p rowPlace) before(q rowPlace) bool { return p.seq < q.seq || p.seq == q.seq && p.n < q.n }

// sql is the place as a value of a key.
func (p rowPlace) sql(key string) string {
	if key == "seq" {
		return fmt.Sprint(p.seq)
	}
	return fmt.Sprintf("(%d, %d)", p.seq, p.n)
}

// same reports whether two rows are the same to ClickHouse, which knows no difference between an empty array and none.
func (l layout) same(a, b reflect.Value) bool {
	for _, at := range l.columns {
		if !sameValue(a.FieldByIndex(at), b.FieldByIndex(at)) {
			return false
		}
	}
	return true
}

func sameValue(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.String:
		return a.String() == b.String()
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return a.Uint() == b.Uint()
	case reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	}
	switch a := a.Interface().(type) {
	case time.Time:
		return a.Equal(b.Interface().(time.Time))
	case *time.Time:
		b := b.Interface().(*time.Time)
		return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
	case []string:
		return slices.Equal(a, b.Interface().([]string))
	default:
		return a == b.Interface()
	}
}
