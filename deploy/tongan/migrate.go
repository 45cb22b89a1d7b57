package main

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/pkg/transport"
	"tongan.dev/services/projector"
)

// busFlags say where the bus is, for what is done there as a user of the services' account.
type busFlags struct {
	logFlags
	serve.SecurityFlags
	NATSURL string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"Address of the bus; of several servers all, with commas between."`
}

// as connects as a user whose seed is in a file.
func (f *busFlags) as(user, path string) (jetstream.JetStream, error) {
	credentials, err := access.LoadCredentials(path)
	if err != nil {
		return nil, err
	}
	security, err := f.NATSOptions(f.NATSURL)
	if err != nil {
		return nil, err
	}
	return serve.Connect(f.NATSURL, subject.Micro(user), serve.NewLog(f.LogLevel), append(security, credentials.ServiceOptions(user)...)...)
}

// migrateCmd prepares servers of one's own; the standalone prepares its own by itself.
type migrateCmd struct {
	busFlags
	Credentials   string        `env:"TONGAN_CREDENTIALS" required:"" type:"path" help:"File with the seed of the user migration, mode 0600."`
	ClickHouseDSN string        `name:"clickhouse-dsn" env:"TONGAN_CLICKHOUSE_DSN" required:"" help:"ClickHouse as user migration, clickhouse://user:password@host:port."`
	ClickHouseTLS transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
	MaxBytes      int64         `env:"TONGAN_MAX_BYTES" required:"" help:"What all streams together may hold, in bytes; the bus reserves it."`
	MasterKey     string        `env:"TONGAN_MASTER_KEY" type:"path" help:"Create this master key file too, if it does not exist."`
	Replicas      int           `env:"TONGAN_REPLICAS" default:"1" help:"How many servers hold each stream."`
}

// Run creates the streams and the tables that do not exist yet.
func (c *migrateCmd) Run(ctx context.Context) error {
	if c.MasterKey != "" {
		if _, err := seal.CreateMaster(c.MasterKey); err != nil {
			return err
		}
	}
	js, err := c.as(access.Migration, c.Credentials)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := eventlog.Migrate(ctx, js, eventlog.StreamOptions{MaxBytes: c.MaxBytes, Replicas: c.Replicas}); err != nil {
		return err
	}
	return projector.Migrate(ctx, c.ClickHouseDSN, c.ClickHouseTLS, c.Plaintext)
}
