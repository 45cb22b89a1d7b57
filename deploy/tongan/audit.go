package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"

	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	"tongan.dev/services/audit"
)

// auditCmd lists the audit trail.
type auditCmd struct {
	callerFlags
	Person string `help:"Only what this person did, by opaque id."`
	Child  string `help:"Only what is about this child, by opaque id."`
	Day    string `help:"Only what was recorded on this day, YYYY-MM-DD in Asia/Shanghai."`
	Format string `enum:"text,json" default:"text" help:"text, or json: a line for each record."`
}

// Run prints a line for each record, oldest first.
func (c *auditCmd) Run(ctx context.Context) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if c.Format == "text" {
		fmt.Fprintln(w, "SEQUENCE\tTIME\tEVENT\tPERSON\tCHILD\tCALLER\tSUBJECT\tREASON\tMORE")
	}
	for q := (&auditv1.ListRecords{PerformedBy: c.Person, ChildId: c.Child, RecordedOn: c.Day}); ; {
		page := &auditv1.Records{}
		if err := request(ctx, nc, audit.RecordsSubject, q, page); err != nil {
			return err
		}
		for _, r := range page.GetRecords() {
			if err := c.print(w, r); err != nil {
				return err
			}
		}
		if q.After = page.GetLookedUpTo(); !page.GetMore() {
			return w.Flush()
		}
	}
}

func (c *auditCmd) print(w *tabwriter.Writer, r *auditv1.Record) error {
	if c.Format == "json" {
		line, err := protojson.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, string(line))
		return err
	}
	more := ""
	if r.GetLeftOut() > 0 {
		more = fmt.Sprint("+", r.GetLeftOut())
	}
	_, err := fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.GetSequence(), r.GetRecordedAt().AsTime().Local().Format("2006-01-02 15:04:05"),
		r.GetEvent(), r.GetPerformedBy(), r.GetChildId(), r.GetCallerId(), r.GetSubject(), r.GetReason(), more)
	return err
}
