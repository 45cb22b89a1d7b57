package projector

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// insertTimeout bounds one insert; one that takes longer is tried again.
const insertTimeout = time.Minute

// insertContext sets how inserts are done: an insert is answered when its part is on disk, and none is taken for a repetition of another. Exactness comes
// from rows that are the same when inserted again.
func insertContext(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "deduplicate_insert": "disable"}))
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
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	if err := t.send(insertContext(ctx), conn); err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", t.rows.Len(), t.name, err)
	}
	return nil
}

func (t table) send(ctx context.Context, conn driver.Conn) error {
	row := t.rows.Type().Elem()
	names := columns(row)
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+BaseDatabase+"."+t.name+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }() // after Send it does nothing
	i := 0
	for _, f := range reflect.VisibleFields(row) {
		if f.Tag.Get("ch") == "" {
			continue
		}
		if err := batch.Column(i).Append(t.column(f)); err != nil {
			return fmt.Errorf("column %s: %w", names[i], err)
		}
		i++
	}
	return batch.Send()
}

// column returns the values of one field of all rows as a slice of the field's type.
func (t table) column(f reflect.StructField) any {
	values := reflect.MakeSlice(reflect.SliceOf(f.Type), t.rows.Len(), t.rows.Len())
	for i := range t.rows.Len() {
		values.Index(i).Set(t.rows.Index(i).FieldByIndex(f.Index))
	}
	return values.Interface()
}
