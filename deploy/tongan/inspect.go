package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/transport"
	"tongan.dev/services/projector"
)

// inspectFlags say where the bus and the tables are that are looked at, and as whom.
type inspectFlags struct {
	busFlags
	Data          string        `env:"TONGAN_DATA" type:"path" help:"Data folder of a standalone that runs: credentials and password are taken from there."`
	Credentials   string        `env:"TONGAN_CREDENTIALS" type:"path" help:"File with the seed of the user inspector, mode 0600."`
	ClickHouseDSN string        `name:"clickhouse-dsn" env:"TONGAN_CLICKHOUSE_DSN" help:"ClickHouse as user migration, clickhouse://user:password@host:port."`
	ClickHouseTLS transport.TLS `embed:"" prefix:"clickhouse-" envprefix:"TONGAN_CLICKHOUSE_"`
}

// localClickHouse is where a standalone's engine listens unless it is told otherwise.
const localClickHouse = "127.0.0.1:9000"

// fill takes what is not said from the data folder.
func (f *inspectFlags) fill() error {
	if f.Data != "" {
		f.Credentials = cmp.Or(f.Credentials, filepath.Join(f.Data, "credentials", "services", access.Inspector+".nk"))
		if f.ClickHouseDSN == "" {
			s, err := readSettings(f.Data)
			if err != nil {
				return err
			}
			u := url.URL{Scheme: "clickhouse", User: url.UserPassword(projector.UserMigration, s.Passwords[projector.UserMigration]), Host: localClickHouse}
			f.ClickHouseDSN = u.String()
		}
	}
	if f.Credentials == "" || f.ClickHouseDSN == "" {
		return errors.New("name the data folder with --data, or --credentials and --clickhouse-dsn")
	}
	return nil
}

// open connects to both.
func (f *inspectFlags) open() (js jetstream.JetStream, conn driver.Conn, err error) {
	if err := f.fill(); err != nil {
		return nil, nil, err
	}
	opts, err := chclient.Options(f.ClickHouseDSN, f.ClickHouseTLS, f.Plaintext)
	if err != nil {
		return nil, nil, err
	}
	if conn, err = clickhouse.Open(opts); err != nil {
		return nil, nil, fmt.Errorf("clickhouse: %w", err)
	}
	if js, err = f.as(access.Inspector, f.Credentials); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return js, conn, nil
}
