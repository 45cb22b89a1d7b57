package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// table is a file of rows: text with a delimiter, or the first sheet of a workbook. Its rows are read one after the other.
type table struct {
	// lines is how many lines the file has; -1 if that is not known before it is read.
	lines int
	// next returns the cells of the next row that is not empty and its line, from 1; io.EOF after the last. An errRow says what is wrong
	// with this row only.
	next func() (cells []string, line int, err error)
	// pads says that a row may have fewer cells than the header: a workbook does not store empty cells at the end.
	pads  bool
	close func() error
}

// errRow is returned when a single row cannot be read; the ones after it can.
type errRow string

// Error is the rule that the row breaks.
func (e errRow) Error() string { return string(e) }

// maxLine is the longest line of a text file in bytes, and bounds the memory that a file can take.
const maxLine = 64 << 10

// maxUnzipped is how large a workbook may be unpacked, so that a small file cannot fill the disk.
const maxUnzipped = 2 << 30

// openTable opens a file by what it holds, and says so where its name says something else.
func openTable(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	first := make([]byte, 8)
	n, err := io.ReadFull(f, first)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	var t *table
	ext := strings.ToLower(filepath.Ext(path))
	workbook := slices.Contains([]string{".xlsx", ".xlsm", ".xls"}, ext)
	switch first = first[:n]; {
	case n == 0:
		err = errors.New("is empty")
	case bytes.HasPrefix(first, []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")):
		err = errors.New("is an old workbook (.xls) or one with a password: save it as .xlsx without password")
	case bytes.HasPrefix(first, []byte("PK\x03\x04")) && !workbook && ext != "":
		err = fmt.Errorf("is not the text that %s says, but a workbook or another zip archive: name a workbook .xlsx", ext)
	case bytes.HasPrefix(first, []byte("PK\x03\x04")):
		t, err = openWorkbook(path)
	case bytes.HasPrefix(first, []byte("\xff\xfe")), bytes.HasPrefix(first, []byte("\xfe\xff")):
		err = errors.New("is UTF-16: save it as UTF-8, GB18030 or .xlsx")
	case workbook:
		err = fmt.Errorf("is not the workbook that %s says: save it as one, or name text .csv", ext)
	default:
		if t, err = openText(f); err == nil {
			t.close = f.Close
			return t, nil
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return t, errors.Join(err, f.Close())
}

// openWorkbook opens the first sheet. A large sheet is unpacked into a folder that only this user can read, and that is removed again.
// What the library says may hold cells, so it is not passed on.
func openWorkbook(path string) (*table, error) {
	dir, err := os.MkdirTemp("", "tongan-import-")
	if err != nil {
		return nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	book, err := excelize.OpenFile(path, excelize.Options{TmpDir: dir, UnzipSizeLimit: maxUnzipped, ShortDatePattern: "yyyy-mm-dd"})
	if err != nil {
		return nil, errors.Join(errors.New("is a zip archive, but no workbook (.xlsx) that can be read"), remove())
	}
	closeBook := func() error { return errors.Join(book.Close(), remove()) }
	rows, err := book.Rows(cmp.Or(book.GetSheetName(0), "?"))
	if err != nil {
		return nil, errors.Join(errors.New("has no sheet that can be read"), closeBook())
	}
	line := 0
	return &table{
		lines: -1, pads: true,
		next: func() ([]string, int, error) {
			for rows.Next() {
				line++
				cells, err := rows.Columns()
				if err != nil {
					return nil, line, errRow("cannot be read")
				}
				if !blank(cells) {
					return cells, line, nil
				}
			}
			if rows.Error() != nil {
				return nil, line, fmt.Errorf("line %d: the sheet cannot be read on", line+1)
			}
			return nil, line, io.EOF
		},
		close: func() error { return errors.Join(rows.Close(), closeBook()) },
	}, nil
}

func blank(cells []string) bool {
	return !slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) != "" })
}

// openText reads the file through once to know its encoding, and starts again.
func openText(f io.ReadSeeker) (*table, error) {
	isUTF8, lines, err := examine(f)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var r io.Reader = f
	if !isUTF8 {
		r = transform.NewReader(f, simplifiedchinese.GB18030.NewDecoder())
	}
	in := bufio.NewReaderSize(r, maxLine)
	if bom, _ := in.Peek(3); string(bom) == "\ufeff" {
		_, _ = in.Discard(3)
	}
	return &table{lines: lines, next: textRows(in, delimiter(in))}, nil
}

// examine finds out whether text is UTF-8 or GB18030, and how many lines it has. Text in UTF-8 with a broken place is not taken for GB18030,
// in which nearly everything can be read: characters of three bytes in UTF-8 are rare in GB18030.
func examine(f io.ReadSeeker) (isUTF8 bool, lines int, err error) {
	var wide, broken, brokenLine int
	lines, err = eachRune(f, func(r rune, size, line int) error {
		switch {
		case r < ' ' && r != '\t' && r != '\r' && r != '\n', r == 0x7f:
			return errors.New("is neither text nor a workbook")
		case r == utf8.RuneError && size == 1:
			broken++
			brokenLine = cmp.Or(brokenLine, line)
		case size >= 3:
			wide++
		}
		return nil
	})
	switch {
	case err != nil:
		return false, 0, err
	case broken == 0:
		return true, lines, nil
	case wide > broken:
		return false, 0, fmt.Errorf("line %d: is not UTF-8, as the rest of the file is", brokenLine)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, 0, err
	}
	lines, err = eachRune(transform.NewReader(f, simplifiedchinese.GB18030.NewDecoder()), func(r rune, _, line int) error {
		if r == utf8.RuneError {
			return fmt.Errorf("line %d: is neither UTF-8 nor GB18030", line)
		}
		return nil
	})
	return false, lines, err
}

// eachRune calls see for each character with its size and line, and returns how many lines there are.
func eachRune(f io.Reader, see func(r rune, size, line int) error) (lines int, err error) {
	if s, ok := f.(io.Seeker); ok {
		if _, err := s.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
	}
	in, line, last := bufio.NewReaderSize(f, maxLine), 1, '\n'
	for {
		r, size, err := in.ReadRune()
		if errors.Is(err, io.EOF) {
			if last == '\n' {
				line--
			}
			return line, nil
		}
		if err != nil {
			return 0, err
		}
		if err := see(r, size, line); err != nil {
			return 0, err
		}
		if last = r; r == '\n' {
			line++
		}
	}
}

// delimiter is the one by which the first line names most columns.
func delimiter(in *bufio.Reader) byte {
	ahead, _ := in.Peek(maxLine)
	line, _, _ := bytes.Cut(ahead, []byte("\n"))
	best, most := byte(','), 0
	for _, d := range []byte{',', ';', '\t'} {
		cells, _ := split(strings.TrimRight(string(line), "\r"), d)
		if n := known(cells); n > most {
			best, most = d, n
		}
	}
	return best
}

// textRows reads a row from each line. A cell must not hold a line break: with one quotation mark missing, the rest of the file would be one cell.
func textRows(in *bufio.Reader, d byte) func() ([]string, int, error) {
	line := 0
	return func() ([]string, int, error) {
		for {
			text, err := in.ReadSlice('\n')
			line++
			if errors.Is(err, bufio.ErrBufferFull) {
				for errors.Is(err, bufio.ErrBufferFull) {
					_, err = in.ReadSlice('\n')
				}
				return nil, line, errRow(fmt.Sprintf("is longer than %d bytes", maxLine))
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, line, err
			}
			if len(text) == 0 {
				return nil, line, io.EOF
			}
			cells, rule := split(strings.TrimRight(string(text), "\r\n"), d)
			if rule != nil {
				return cells, line, rule
			}
			if !blank(cells) {
				return cells, line, nil
			}
		}
	}
}

// split splits a line into cells (RFC 4180). What it could split it returns with the error too.
func split(line string, d byte) (cells []string, err error) {
	for {
		if !strings.HasPrefix(line, `"`) {
			cell, rest, more := strings.Cut(line, string(d))
			cells = append(cells, cell)
			if !more {
				return cells, err
			}
			line = rest
			continue
		}
		cell, rest, closed := unquote(line[1:])
		cells = append(cells, cell)
		switch {
		case !closed:
			return cells, errRow("has a quotation mark that is not closed on its line")
		case rest == "":
			return cells, err
		case rest[0] != d:
			err = errRow("has text behind a closing quotation mark")
			_, rest, closed = strings.Cut(rest, string(d))
			if !closed {
				return cells, err
			}
			line = rest
		default:
			line = rest[1:]
		}
	}
}

// unquote returns a cell up to its closing quotation mark, and what stands behind it.
func unquote(s string) (cell, rest string, closed bool) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '"')
		if i < 0 {
			return b.String() + s, "", false
		}
		b.WriteString(s[:i])
		if !strings.HasPrefix(s[i+1:], `"`) {
			return b.String(), s[i+1:], true
		}
		b.WriteByte('"')
		s = s[i+2:]
	}
}
