package projector

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// insertTimeout bounds one insert; one that takes longer is tried again.
const insertTimeout = time.Minute

// insertSettings are how inserts are done: an insert is answered when its part is on disk, and none is taken for a repetition of another.
// Exactness comes from rows that are the same when inserted again. Columns LowCardinality are sent as plain ones: the engine makes their
// dictionaries several times as fast as the client does.
var insertSettings = clickhouse.Settings{"async_insert": 0, "deduplicate_insert": "disable", "low_cardinality_allow_in_native_format": 0}

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
func (t table) insert(ctx context.Context, conn driver.Conn, keep buffers) error {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	if err := t.send(insertContext(ctx), conn, keep); err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", t.rows.Len(), t.name, err)
	}
	return nil
}

// buffers are the memory of the text columns of one table, kept from one insert to the next. They grow to the size of the largest.
type buffers map[string]column.String

func (t table) send(ctx context.Context, conn driver.Conn, keep buffers) error {
	row := t.rows.Type().Elem()
	names := columns(row)
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+BaseDatabase+"."+t.name+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }() // after Send it does nothing
	fields := slices.DeleteFunc(reflect.VisibleFields(row), func(f reflect.StructField) bool { return f.Tag.Get("ch") == "" })
	for i, c := range batch.Columns() {
		text, isText := c.(*column.String)
		if kept, ok := keep[names[i]]; ok && isText {
			kept.Reset()
			*text = kept
		}
		for from := 0; from < t.rows.Len(); from += appendRows {
			if _, err := c.Append(values(t.rows.Slice(from, min(from+appendRows, t.rows.Len())), fields[i])); err != nil {
				return fmt.Errorf("column %s: %w", names[i], err)
			}
		}
		if isText {
			keep[names[i]] = *text
		}
	}
	return batch.Send()
}

// appendRows is how many rows at a time go from a field to a column: so many that the slice between stays in the processor's cache.
const appendRows = 1024

// values returns the values of one field of rows as a slice of the field's type.
func values(rows reflect.Value, f reflect.StructField) any {
	switch reflect.Zero(f.Type).Interface().(type) {
	case string:
		return valuesOf[string](rows, f.Index)
	case uint16:
		return valuesOf[uint16](rows, f.Index)
	case uint32:
		return valuesOf[uint32](rows, f.Index)
	case uint64:
		return valuesOf[uint64](rows, f.Index)
	case int32:
		return valuesOf[int32](rows, f.Index)
	case int64:
		return valuesOf[int64](rows, f.Index)
	case bool:
		return valuesOf[bool](rows, f.Index)
	case time.Time:
		return valuesOf[time.Time](rows, f.Index)
	case *time.Time:
		return valuesOf[*time.Time](rows, f.Index)
	default:
		return valuesOf[[]string](rows, f.Index)
	}
}

// valuesOf takes the values without making an object of each.
func valuesOf[T any](rows reflect.Value, index []int) []T {
	out := make([]T, rows.Len())
	for i := range out {
		out[i], _ = reflect.TypeAssert[T](rows.Index(i).FieldByIndex(index))
	}
	return out
}
