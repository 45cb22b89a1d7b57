package projector

import (
	"context"

	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/serve"
)

// Name under which the service is discovered; it owns no stream.
const Name = "projector"

// ServiceConfig is what the service is told beside serve.Config.
type ServiceConfig struct {
	DSN string `name:"clickhouse-dsn" env:"TONGAN_PROJECTOR_CLICKHOUSE_DSN" required:"" help:"ClickHouse as user projector, clickhouse://user:password@host:port."`
}

// Serve runs a projector as a service that can be discovered, until ctx ends.
func Serve(ctx context.Context, rt *serve.Runtime, cfg ServiceConfig) error {
	conn, err := Open(cfg.DSN)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p, err := New(rt.JS, conn, Config{Log: rt.Log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Run(ctx) })
	g.Go(func() error { return serve.Run(ctx, rt, Name, "copies events into ClickHouse", nil) })
	return g.Wait()
}
