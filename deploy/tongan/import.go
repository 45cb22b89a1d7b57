package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// importCmd enters what is in files.
type importCmd struct {
	Children importChildrenCmd `cmd:"" help:"Register the children of a file: CSV in UTF-8 or GB18030, or the first sheet of an XLSX workbook."`
}

// importChildrenCmd registers children.
type importChildrenCmd struct {
	callerFlags
	File          string `arg:"" type:"path" help:"The file; its first line names the columns, in Chinese or English, in any order: ${childColumns}. A cell stands on one line."`
	On            string `help:"Day of the registration, YYYY-MM-DD, in Asia/Shanghai; default: today. A file that is sent again on a later day needs the day of the first time: with another day, its children are refused as there with other content."`
	DryRun        bool   `help:"Send nothing; check columns, codes, dates and lengths. What only the service knows it checks when the file is sent: check character of identity numbers, age, districts served, who is there already."`
	Refused       string `type:"path" help:"File for the refused rows, CSV: line, column, rule. It must not exist."`
	WithRows      bool   `help:"With --refused: with the rows' own cells, so that they can be corrected there and the file imported. The file holds personal data, mode 0600."`
	IgnoreUnknown bool   `help:"Pass over columns that are not known instead of refusing the file."`
}

// registerChild is where the rows go.
var registerChild = subject.Aggregate{Service: subject.Intake, Name: "child"}.Command("register")

// Run imports the file, says how it went, and fails if a row was refused.
func (c *importChildrenCmd) Run(ctx context.Context) (err error) {
	if c.WithRows && c.Refused == "" {
		return errors.New("--with-rows needs --refused")
	}
	f, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	send := checkRow
	if !c.DryRun {
		nc, err := c.connect()
		if err != nil {
			return err
		}
		defer nc.Close()
		var end context.CancelCauseFunc
		ctx, end = context.WithCancelCause(ctx)
		defer end(nil)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) { // otherwise every row would wait for ever
				end(errors.New("the caller's role may not register children"))
			}
		})
		send = sendRow(nc)
	}
	bar := progressbar.NewOptions(f.table.lines, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("rows"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(os.Stderr) }))
	_ = bar.Add(1) // the header
	var sum tally
	err = f.each(ctx, send, func(r *importRow) error {
		_ = bar.Add(1)
		return sum.add(r, f.refused)
	})
	_ = bar.Finish()
	sum.print(os.Stdout, c.DryRun)
	if c.Refused == "" {
		sum.printRefused(os.Stderr)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s: ended after %d rows: %w; import it again to go on", c.File, sum.read, err)
	case sum.refused > 0:
		return fmt.Errorf("%s: %d of %d rows were refused", c.File, sum.refused, sum.read)
	}
	return nil
}

// importFile is a file of children that is open, and where its refused rows go.
type importFile struct {
	table   *table
	header  *header
	at      time.Time
	refused *refusedFile
}

// open opens everything that the import needs but the bus.
func (c *importChildrenCmd) open() (f *importFile, err error) {
	f = &importFile{}
	if c.On == "" {
		c.On = decider.Day(time.Now())
	}
	if f.at, err = time.Parse(time.RFC3339, c.On+"T00:00:00+08:00"); err != nil {
		return nil, errors.New("--on must be a date, YYYY-MM-DD")
	}
	if f.table, err = openTable(c.File); err != nil {
		return nil, err
	}
	cells, _, err := f.table.next()
	if err == nil {
		f.header, err = newHeader(trimmed(cells), c.IgnoreUnknown)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.File, err), f.table.close())
	}
	if f.refused, err = newRefusedFile(c.Refused, c.WithRows, f.header); err != nil {
		return nil, errors.Join(err, f.table.close())
	}
	return f, nil
}

// trimmed is a header without space around its cells, and without empty cells at its end.
func trimmed(cells []string) []string {
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1]
	}
	return cells
}

func (f *importFile) close() error { return errors.Join(f.table.close(), f.refused.close()) }

const (
	// importers is how many rows are under way at once.
	importers = 64
	// importAhead is how many rows are in memory at most.
	importAhead = 1024
)

// importRow is a row on its way.
type importRow struct {
	line     int
	cells    []string
	command  *intakev1.RegisterChild
	faults   []fault
	same     []string // ids of children that may be the same
	before   bool     // registered before, with the same content
	answered chan struct{}
}

// sendFunc sends a row, or checks it; it fills in what the answer says. An error ends the import.
type sendFunc func(ctx context.Context, h *header, r *importRow) error

// each sends every row, and calls done for each in the order of the file. Rows about one child go one after the other, so that the first
// one counts.
func (f *importFile) each(ctx context.Context, send sendFunc, done func(*importRow) error) error {
	g, gctx := errgroup.WithContext(ctx)
	ordered := make(chan *importRow, importAhead)
	var lanes [importers]chan *importRow
	for i := range lanes {
		lanes[i] = make(chan *importRow, importAhead/importers)
		g.Go(func() error {
			for r := range lanes[i] {
				if err := send(gctx, f.header, r); err != nil {
					return err
				}
				close(r.answered)
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(ordered)
		defer func() {
			for _, lane := range lanes {
				close(lane)
			}
		}()
		return f.read(gctx, ordered, lanes[:])
	})
	g.Go(func() error {
		for r := range ordered {
			select {
			case <-r.answered:
			case <-gctx.Done():
				return gctx.Err()
			}
			if err := done(r); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// read makes commands of the rows and hands them out.
func (f *importFile) read(ctx context.Context, ordered chan<- *importRow, lanes []chan *importRow) error {
	put := func(to chan<- *importRow, r *importRow) error {
		select {
		case to <- r:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		r, err := f.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := put(ordered, r); err != nil {
			return err
		}
		if len(r.faults) > 0 {
			close(r.answered)
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(r.command.GetChildId()))
		if err := put(lanes[h.Sum32()%importers], r); err != nil {
			return err
		}
	}
}

// next reads a row.
func (f *importFile) next() (*importRow, error) {
	cells, line, err := f.table.next()
	r := &importRow{line: line, cells: cells, answered: make(chan struct{})}
	if broken, is := errors.AsType[errRow](err); is {
		r.faults = []fault{{"", broken.Error()}}
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	for f.table.pads && len(r.cells) < len(f.header.cells) {
		r.cells = append(r.cells, "")
	}
	r.command, r.faults = f.header.command(r.cells, &eventv1.Provenance{
		OccurredAt: timestamppb.New(f.at), SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_IMPORT,
	})
	return r, nil
}

// sendRow sends rows over a connection until they are answered.
func sendRow(nc *nats.Conn) sendFunc {
	return func(ctx context.Context, h *header, r *importRow) error {
		reply := newReply()
		err := insist(ctx, nc, registerChild, r.command, reply)
		if refused, is := errors.AsType[*refusal](err); is && isRefused(err) {
			r.faults = h.faults(r.command, refused.text)
			return nil
		}
		r.same, r.before = reply.GetPossibleDuplicates(), reply.GetAgain()
		return err
	}
}

// checkRow checks a row against the contract and sends nothing.
func checkRow(_ context.Context, h *header, r *importRow) error {
	c := proto.CloneOf(r.command)
	c.Provenance.PerformedBy = "caller" // the service puts it there
	err := protovalidate.Validate(c)
	invalid, is := errors.AsType[*protovalidate.ValidationError](err)
	if !is {
		return err
	}
	for _, v := range invalid.Violations {
		r.faults = append(r.faults, h.faults(c, protovalidate.FieldPathString(v.Proto.GetField())+": "+v.Proto.GetMessage())...)
	}
	return nil
}

// shownRefused is how many refused rows are shown where no file takes them.
const shownRefused = 20

// tally counts rows by what became of them. A row whose answer was lost, and which was therefore sent again, counts as there before.
type tally struct {
	read, refused, before, same int
	shown                       []string
}

func (s *tally) add(r *importRow, refused *refusedFile) error {
	s.read++
	if len(r.same) > 0 {
		s.same++
		fmt.Printf("line %d: %s may be the same child as %s\n", r.line, r.command.GetChildId(), strings.Join(r.same, ", "))
	}
	if r.before {
		s.before++
	}
	if len(r.faults) == 0 {
		return nil
	}
	s.refused++
	if len(s.shown) < shownRefused {
		column, rule := joined(r.faults)
		s.shown = append(s.shown, fmt.Sprintf("line %d: %s", r.line, strings.TrimPrefix(column+": "+rule, ": ")))
	}
	return refused.write(r)
}

func (s *tally) print(w io.Writer, dryRun bool) {
	line := func(n int, what string) { fmt.Fprintf(w, "%8d %s\n", n, what) }
	line(s.read, "rows read")
	if dryRun {
		line(s.read-s.refused, "would be sent")
	} else {
		line(s.read-s.refused-s.before, "registered")
		line(s.before, "there before with the same content")
	}
	line(s.refused, "refused")
	line(s.same, "with possible duplicates")
}

func (s *tally) printRefused(w io.Writer) {
	for _, line := range s.shown {
		fmt.Fprintln(w, line)
	}
	if more := s.refused - len(s.shown); more > 0 {
		fmt.Fprintf(w, "and %d more rows were refused: have them written with --refused FILE\n", more)
	}
}

func joined(faults []fault) (columns, rules string) {
	var c, r []string
	for _, f := range faults {
		c, r = append(c, f.column), append(r, f.rule)
	}
	return strings.Join(c, "; "), strings.Join(r, "; ")
}
