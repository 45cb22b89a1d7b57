package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// refusedFile is where refused rows are written; nil writes nothing.
type refusedFile struct {
	f      *os.File
	w      *csv.Writer
	header *header
	rows   bool
}

// newRefusedFile creates the file. Columns of an earlier file of refused rows are not repeated.
func newRefusedFile(path string, rows bool, h *header) (*refusedFile, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // nil writes nothing
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("file of refused rows: %w", err)
	}
	if _, err := f.WriteString("\ufeff"); err != nil {
		return nil, errors.Join(fmt.Errorf("file of refused rows: %w", err), f.Close())
	}
	out := &refusedFile{f: f, w: csv.NewWriter(f), header: h, rows: rows}
	return out, out.record(refusedColumns, h.cells)
}

func (f *refusedFile) write(r *importRow) error {
	if f == nil {
		return nil
	}
	columns, rules := joined(r.faults)
	return f.record([]string{strconv.Itoa(r.line), columns, rules}, r.cells)
}

// record writes a line: what is said about the row, and its cells as far as they can be imported again.
func (f *refusedFile) record(about, cells []string) error {
	out := slices.Clone(about)
	for i := range max(len(cells), len(f.header.cells)) {
		cell := ""
		if i < len(cells) {
			cell = strings.NewReplacer("\r", " ", "\n", " ").Replace(cells[i])
		}
		if f.rows && (i >= len(f.header.cells) || !f.header.isRefused(i)) {
			out = append(out, cell)
		}
	}
	if err := f.w.Write(out); err != nil {
		return fmt.Errorf("file of refused rows: %w", err)
	}
	return nil
}

func (f *refusedFile) close() error {
	if f == nil {
		return nil
	}
	f.w.Flush()
	if err := errors.Join(f.w.Error(), f.f.Close()); err != nil {
		return fmt.Errorf("file of refused rows: %w", err)
	}
	return nil
}
