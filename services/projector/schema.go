package projector

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/pressly/goose/v3"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/transport"
)

// Databases of this generation.
const (
	// BaseDatabase holds the tables the projector fills.
	BaseDatabase = "tongan_g1"
	// ViewDatabase holds the views that readers see.
	ViewDatabase = "tongan"
)

// versionTable is where goose keeps which migrations have run.
const versionTable = BaseDatabase + ".goose_db_version"

//go:embed migrations/*.sql
var migrations embed.FS

// bootstrap makes what must be there before the first migration. The version table is goose's own but for the settings by which
// it survives a loss of power.
var bootstrap = []string{
	"CREATE DATABASE IF NOT EXISTS " + BaseDatabase + " ENGINE = Atomic",
	"CREATE DATABASE IF NOT EXISTS " + ViewDatabase + " ENGINE = Atomic",
	"CREATE TABLE IF NOT EXISTS " + versionTable + ` (version_id Int64, is_applied UInt8, date Date DEFAULT now(), tstamp DateTime DEFAULT now())
		ENGINE = MergeTree ORDER BY version_id SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`,
}

// Migrate brings databases, tables and views up to this build, forward only. The user of the DSN must be UserMigration: the views
// run in its name. Files and plaintext are as chclient.Options has them. It may be called again, and again after it was interrupted.
func Migrate(ctx context.Context, dsn string, files transport.TLS, plaintext bool) (err error) {
	opts, err := chclient.Options(dsn, files, plaintext)
	if err != nil {
		return err
	}
	db := clickhouse.OpenDB(opts)
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, statement := range bootstrap {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	return up(ctx, db)
}

func up(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectClickHouse, db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
