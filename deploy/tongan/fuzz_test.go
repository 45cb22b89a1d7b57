package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzTable holds that no file ends an import otherwise than by saying what is wrong: rows come one after the other, each from a later line than
// the one before, and there is an end.
func FuzzTable(f *testing.F) {
	for _, text := range []string{
		"child_id,name\nch1,张三\n", "\xef\xbb\xbfchild_id;name\r\nch1;\"a\"\"b\"\r\n", "child_id\tname\nch1\t\"open", "\xd5\xc5\xc8\xfd,a\nb,c\n", "", "\n\n\n", "PK\x03\x04", "\xff\xfea\x00",
		"a,b\n\"c\nd\",e\n", "\"",
	} {
		f.Add("children.csv", []byte(text))
	}
	f.Add("children.xlsx", []byte("PK\x03\x04\x14\x00"))
	f.Add("children", []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		path := filepath.Join(t.TempDir(), "f"+filepath.Ext(filepath.Base(name)))
		if os.WriteFile(path, content, 0o600) != nil {
			return // not a name that a file can have
		}
		in, err := openTable(path)
		if err != nil {
			return
		}
		before := 0
		for rows := 0; ; rows++ {
			if rows > len(content)+1 {
				t.Fatalf("%d bytes have %d rows", len(content), rows)
			}
			cells, line, err := in.next()
			var row errRow
			if err != nil && !errors.As(err, &row) {
				if !errors.Is(err, io.EOF) && err.Error() == "" {
					t.Error("an error without a text")
				}
				break
			}
			if line <= before || err == nil && len(cells) == 0 {
				t.Fatalf("line %d with %d cells comes after line %d", line, len(cells), before)
			}
			before = line
		}
		if err := in.close(); err != nil {
			t.Error(err)
		}
	})
}
