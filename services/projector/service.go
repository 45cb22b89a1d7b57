package projector

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
)

// Name under which the service is discovered; it owns no stream.
const Name = "projector"

// ServiceConfig is what the service is told beside serve.Config.
type ServiceConfig struct {
	DSN string        `name:"clickhouse-dsn" env:"TONGAN_PROJECTOR_CLICKHOUSE_DSN" required:"" help:"ClickHouse as user projector, clickhouse://user:password@host:port."`
	TLS transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
}

// Serve runs a projector as a service that can be discovered, until ctx ends.
func Serve(ctx context.Context, rt *serve.Runtime, cfg ServiceConfig) error {
	opts, err := chclient.Options(cfg.DSN, cfg.TLS, rt.Plaintext)
	if err != nil {
		return err
	}
	if err := serve.Ready(ctx, rt, subject.Services()...); err != nil {
		return err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return fmt.Errorf("clickhouse: %w", err)
	}
	defer func() { _ = conn.Close() }()
	p, err := New(rt.JS, conn, Config{Log: rt.Log, Still: func(stream string, still bool) {
		if rt.Trouble.Set("projection of "+stream+" stands still", still) && still {
			rt.Log.Error("projection stands still", "stream", stream)
		}
	}})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Run(ctx) })
	g.Go(func() error { return serve.Run(ctx, rt, Name, "copies events into ClickHouse", nil) })
	return g.Wait()
}
