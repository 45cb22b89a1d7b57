// Package reporting answers questions about figures from ClickHouse and publishes bulletins.
package reporting

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting/internal/publishing"
)

// Config is what the service is told beside serve.Config.
type Config struct {
	DSN      string        `name:"clickhouse-dsn" env:"TONGAN_REPORTING_CLICKHOUSE_DSN" required:"" help:"ClickHouse as user reporting, clickhouse://user:password@host:port."`
	TLS      transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
	Baseline string        `env:"TONGAN_REPORTING_BASELINE" default:"2020-01-23" help:"First day that counts, in Asia/Shanghai."`
}

// Subjects of the service, for those who ask it.
var (
	// FiguresSubject answers reportingv1.GetFigures with reportingv1.Figures.
	FiguresSubject = subject.Query(subject.Reporting, "figures", "get")
	// EndSubject answers reportingv1.GetEnd with reportingv1.End.
	EndSubject = subject.Query(subject.Reporting, "end", "get")
	// IssueSubject takes reportingv1.IssueBulletin.
	IssueSubject = publishing.Aggregate.Command("issue")
)

// Folds say how the aggregates of the service's stream are folded.
func Folds() eventlog.Folds {
	return eventlog.Folds{publishing.Aggregate: publishing.Decider(nil).Begin}
}

// Run offers the service's query and command until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, cfg Config) error {
	if _, err := time.Parse(time.DateOnly, cfg.Baseline); err != nil {
		return fmt.Errorf("baseline must be a date, YYYY-MM-DD")
	}
	opts, err := chclient.Options(cfg.DSN, cfg.TLS, rt.Plaintext)
	if err != nil {
		return err
	}
	db, err := clickhouse.Open(opts)
	if err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Ping(ctx); err != nil {
		return fmt.Errorf("no ClickHouse at %v: %w", opts.Addr, err)
	}
	if err := serve.Ready(ctx, rt, subject.Reporting); err != nil {
		return err
	}
	f := figures{db: db, baseline: cfg.Baseline}
	return serve.Run(ctx, rt, subject.Reporting, "figures as of a date, and bulletins", endpoints(rt, f))
}

func endpoints(rt *serve.Runtime, f figures) []serve.Endpoint {
	bulletins := eventlog.New(rt.JS, publishing.Aggregate, rt.Log)
	return []serve.Endpoint{
		serve.Query(FiguresSubject, f.get).Exports(),
		serve.Query(EndSubject, func(ctx context.Context, _ *reportingv1.GetEnd) (*reportingv1.End, error) { return end(ctx, rt.JS) }),
		serve.Handle(bulletins, "issue", (*reportingv1.IssueBulletin).GetBulletinId,
			func(ctx context.Context, _ *serve.Runtime, id string, cmd decider.Command, body *reportingv1.IssueBulletin) (*eventv1.CommandReply, error) {
				figures, err := f.get(ctx, &reportingv1.GetFigures{AsOf: body.GetAsOf(), Grouping: body.GetGrouping(), Cuts: body.GetCuts()})
				if err != nil {
					return nil, err
				}
				return decider.Transact(ctx, bulletins, publishing.Decider(figures), id, cmd)
			}, serve.Creates((*reportingv1.IssueBulletin).GetBulletinId)),
	}
}

// end returns how far the streams reach now.
func end(ctx context.Context, js jetstream.JetStream) (*reportingv1.End, error) {
	out := &reportingv1.End{}
	for _, service := range subject.Services() {
		info, err := eventlog.Info(ctx, js, subject.Stream(service))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)
		}
		out.Cuts = append(out.Cuts, &reportingv1.Cut{Stream: subject.Stream(service), Sequence: info.State.LastSeq})
	}
	return out, nil
}
