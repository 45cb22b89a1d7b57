package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting"
	"tongan.dev/services/reporting/bulletin"
)

// reportCmd prints a bulletin.
type reportCmd struct {
	callerFlags
	serve.DistrictFlags
	AsOf   string `required:"" help:"Last day that counts, YYYY-MM-DD in Asia/Shanghai."`
	By     string `enum:"whole,district" default:"whole" help:"How to break the figures down: whole or district."`
	Lang   string `enum:"zh,en" default:"zh" help:"Language of the text: zh or en."`
	Format string `enum:"text,json,csv" default:"text" help:"text, json or csv."`
	Draft  bool   `help:"Only print: publish nothing."`
}

// Run asks for the figures, publishes them unless they are a draft, and prints them.
func (c *reportCmd) Run(ctx context.Context) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ask, err := upToNow(ctx, nc, c.AsOf)
	if err != nil {
		return err
	}
	if c.By == "district" {
		ask.Grouping = reportingv1.Grouping_GROUPING_DISTRICT
	}
	var figures *reportingv1.Figures
	if c.Draft {
		figures, err = getFigures(ctx, nc, ask)
	} else {
		figures, err = issue(ctx, nc, time.Now(), c.Districts[0], ask)
	}
	if err != nil {
		return err
	}
	switch c.Format {
	case "json":
		return bulletin.WriteJSON(os.Stdout, figures)
	case "csv":
		return bulletin.WriteCSV(os.Stdout, figures)
	default:
		return bulletin.WriteText(os.Stdout, figures, bulletin.Lang(c.Lang), c.Draft)
	}
}

// upToNow asks for the figures as of a day of all that was recorded by now: reporting answers once all of it is projected.
func upToNow(ctx context.Context, nc *nats.Conn, asOf string) (*reportingv1.GetFigures, error) {
	end := &reportingv1.End{}
	if err := insist(ctx, nc, reporting.EndSubject, &reportingv1.GetEnd{}, end); err != nil {
		return nil, err
	}
	return &reportingv1.GetFigures{AsOf: asOf, Cuts: end.GetCuts()}, nil
}

func getFigures(ctx context.Context, nc *nats.Conn, ask *reportingv1.GetFigures) (*reportingv1.Figures, error) {
	figures := &reportingv1.Figures{}
	return figures, insist(ctx, nc, reporting.FiguresSubject, ask, figures)
}

// issue publishes the figures that are asked for as a bulletin of the place admCode, and returns them. The bulletin's id follows from what it
// says and the cut it was computed from, so that the same figures are published once. Reporting's own stream is left out of that: it grows
// with each bulletin.
func issue(ctx context.Context, nc *nats.Conn, now time.Time, admCode string, ask *reportingv1.GetFigures) (*reportingv1.Figures, error) {
	figures, err := getFigures(ctx, nc, ask)
	if err != nil {
		return nil, err
	}
	counted := proto.CloneOf(figures)
	counted.Cuts = nil
	for _, cut := range figures.GetCuts() {
		if cut.GetStream() != subject.Stream(subject.Reporting) {
			counted.Cuts = append(counted.Cuts, cut)
		}
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(counted)
	if err != nil {
		return nil, fmt.Errorf("bulletin: %w", err)
	}
	sum := sha256.Sum256(content)
	id := strings.ReplaceAll(figures.GetAsOf(), "-", "") + "-" + hex.EncodeToString(sum[:8])
	command := &reportingv1.IssueBulletin{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(now), AdmCode: admCode,
			SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
		},
		BulletinId: id, AsOf: figures.GetAsOf(), Grouping: figures.GetGrouping(), Cuts: counted.GetCuts(),
	}
	err = insist(ctx, nc, reporting.IssueSubject, command, newReply())
	if refused, is := errors.AsType[*refusal](err); is && refused.code == "409" {
		return figures, nil // these very figures were published before
	}
	return figures, err
}
