package projector

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// insertTimeout bounds one insert; one that takes longer is tried again.
const insertTimeout = time.Minute

// insertSettings are how inserts are done: an insert is answered when its part is on disk, and none is taken for a repetition of another.
// Exactness comes from rows that are the same when inserted again. Columns LowCardinality are sent as plain ones: to make their dictionaries
// took the client more than all the rest of an insert. A block has each key once, so nothing in it is looked for to be replaced.
var insertSettings = clickhouse.Settings{
	"async_insert": 0, "deduplicate_insert": "disable", "low_cardinality_allow_in_native_format": 0, "optimize_on_insert": 0,
}

func insertContext(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings))
}

// table is the rows for one table: a slice of one of the row types.
type table struct {
	name string
	rows reflect.Value
}

// inserts returns the rows by table, in the order they must be written: the journal last, since it says that the others are there.
func (r *rows) inserts() []table {
	v := reflect.ValueOf(r).Elem()
	tables := make([]table, v.NumField())
	for i := range tables {
		tables[i] = table{name: v.Type().Field(i).Tag.Get("table"), rows: v.Field(i)}
	}
	return tables
}

// columns returns the names of a row type's columns.
func columns(row reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(row) {
		if c := f.Tag.Get("ch"); c != "" {
			names = append(names, c)
		}
	}
	return names
}

// insert writes the rows of a table as one block, which becomes one part: all of it or nothing.
func (t table) insert(ctx context.Context, conn driver.Conn) error {
	types, err := t.types(ctx, conn)
	if err != nil {
		return err
	}
	p, err := newPack(t, types)
	if err != nil {
		return err
	}
	if err := p.add(t.rows); err != nil {
		return err
	}
	return p.insert(ctx, conn)
}

// prepare begins an insert.
func (t table) prepare(ctx context.Context, conn driver.Conn) (driver.Batch, error) {
	names := strings.Join(columns(t.rows.Type().Elem()), ", ")
	return conn.PrepareBatch(insertContext(ctx), "INSERT INTO "+BaseDatabase+"."+t.name+" ("+names+")")
}

// types returns the types in which the engine takes the columns of a table.
func (t table) types(ctx context.Context, conn driver.Conn) ([]column.Type, error) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	batch, err := t.prepare(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("columns of %s: %w", t.name, err)
	}
	var types []column.Type
	for _, c := range batch.Columns() {
		types = append(types, c.Type())
	}
	return types, batch.Close()
}

// pack is rows of one table as they are sent: column by column, without an object for each row or value. It can be emptied and filled again.
type pack struct {
	table   // of no rows
	fields  []reflect.StructField
	columns []column.Interface
	len     int
}

func newPack(t table, types []column.Type) (*pack, error) {
	row := t.rows.Type().Elem()
	p := &pack{table: table{t.name, reflect.Zero(t.rows.Type())}}
	for _, f := range reflect.VisibleFields(row) {
		name := f.Tag.Get("ch")
		if name == "" {
			continue
		}
		c, err := types[len(p.columns)].Column(name, &column.ServerContext{Timezone: time.UTC})
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", name, t.name, err)
		}
		p.fields, p.columns = append(p.fields, f), append(p.columns, c)
	}
	return p, nil
}

// add adds rows of the table.
func (p *pack) add(rows reflect.Value) error {
	for i, c := range p.columns {
		if err := appendField(c, rows, p.fields[i]); err != nil {
			return fmt.Errorf("column %s of %s: %w", c.Name(), p.name, err)
		}
	}
	p.len += rows.Len()
	return nil
}

// empty takes the rows out and keeps their memory.
func (p *pack) empty() {
	for _, c := range p.columns {
		c.Reset()
	}
	p.len = 0
}

// insert writes the rows as one block, which becomes one part: all of it or nothing.
func (p *pack) insert(ctx context.Context, conn driver.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	if err := p.send(ctx, conn); err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", p.len, p.name, err)
	}
	return nil
}

func (p *pack) send(ctx context.Context, conn driver.Conn) error {
	batch, err := p.prepare(ctx, conn)
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }() // after Send it does nothing
	for i, c := range batch.Columns() {
		to, from := reflect.ValueOf(c).Elem(), reflect.ValueOf(p.columns[i]).Elem()
		if to.Type() != from.Type() {
			return fmt.Errorf("column %s has another type now", c.Name())
		}
		to.Set(from) // the client has no other way to send columns made before
	}
	return batch.Send()
}

// appendField appends one field of all rows to a column: what it takes is pointers to fields, so that no object is made of a value.
func appendField(c column.Interface, rows reflect.Value, f reflect.StructField) error {
	switch f.Type {
	case reflect.TypeFor[string]():
		return appendAll(c, rows, f, pointer[string])
	case reflect.TypeFor[uint16]():
		return appendAll(c, rows, f, pointer[uint16])
	case reflect.TypeFor[uint32]():
		return appendAll(c, rows, f, pointer[uint32])
	case reflect.TypeFor[uint64]():
		return appendAll(c, rows, f, pointer[uint64])
	case reflect.TypeFor[int32]():
		return appendAll(c, rows, f, pointer[int32])
	case reflect.TypeFor[int64]():
		return appendAll(c, rows, f, pointer[int64])
	case reflect.TypeFor[bool]():
		return appendAll(c, rows, f, pointer[bool])
	case reflect.TypeFor[time.Time]():
		return appendAll(c, rows, f, pointer[time.Time])
	case reflect.TypeFor[*time.Time]():
		return appendAll(c, rows, f, func(at unsafe.Pointer) any { return *(**time.Time)(at) })
	case reflect.TypeFor[[]string]():
		return appendAll(c, rows, f, func(at unsafe.Pointer) any { return *(*[]string)(at) })
	default:
		return fmt.Errorf("field %s is of type %s, which no column takes", f.Name, f.Type)
	}
}

func pointer[T any](at unsafe.Pointer) any { return (*T)(at) }

// appendAll walks the rows by hand: to find a field with reflect takes ten times as long as to append it.
func appendAll(c column.Interface, rows reflect.Value, f reflect.StructField, value func(unsafe.Pointer) any) error {
	size, offset := rows.Type().Elem().Size(), offsetOf(rows.Type().Elem(), f.Index)
	for i := range uintptr(rows.Len()) {
		if err := c.AppendRow(value(unsafe.Add(rows.UnsafePointer(), i*size+offset))); err != nil {
			return err
		}
	}
	return nil
}

// offsetOf returns where in a row a field is, which may be one of an embedded struct.
func offsetOf(row reflect.Type, index []int) (offset uintptr) {
	for _, i := range index {
		f := row.Field(i)
		row, offset = f.Type, offset+f.Offset
	}
	return offset
}
