// Package chclient says how a ClickHouse is reached: by TLS, or without it on this machine only, unless more is permitted.
package chclient

import (
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"

	"tongan.dev/pkg/transport"
)

// sendBytes is what a connection gathers of an insert before it sends. The library's own 10 MB stay with each connection for good.
const sendBytes = 1 << 20

// Options are the options of connections to the ClickHouse at a DSN, clickhouse://user:password@host:port: with TLS where files are named
// or the DSN says secure=true, otherwise to loopback only, unless plaintext permits more. Errors begin with the flag and repeat nothing of
// the DSN but a host.
func Options(dsn string, files transport.TLS, plaintext bool) (*clickhouse.Options, error) {
	opts, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("--clickhouse-dsn: %w", err)
	}
	cfg, err := files.Client()
	if err != nil {
		return nil, fmt.Errorf("--clickhouse-%w", err)
	}
	if cfg != nil {
		if opts.TLS != nil {
			cfg.ServerName = opts.TLS.ServerName
		}
		opts.TLS = cfg
	}
	opts.MaxCompressionBuffer = sendBytes
	if opts.TLS != nil {
		return opts, nil
	}
	for _, addr := range opts.Addr {
		if err := transport.Plain(addr, plaintext); err != nil {
			return nil, fmt.Errorf("--clickhouse-dsn: %w", err)
		}
	}
	return opts, nil
}

// parse reads a DSN and refuses what would not be as safe as it looks.
func parse(dsn string) (*clickhouse.Options, error) {
	opts, err := clickhouse.ParseDSN(dsn)
	switch {
	case err != nil: // what it says may hold a part of the password
		return nil, errors.New("not an address of ClickHouse, clickhouse://user:password@host:port, or with a parameter that is none")
	case opts.Protocol != clickhouse.Native: // with http:// the client goes without TLS, whatever files are named
		return nil, errors.New("only the native protocol is supported, clickhouse://")
	case opts.Auth.Username == "": // where a password has a / of its own, it is user and password that stand for the host
		return nil, errors.New("it names no user: clickhouse://user:password@host:port, with what is special in the password percent-encoded")
	case opts.TLS != nil && opts.TLS.InsecureSkipVerify:
		return nil, errors.New("skip_verify would trust anybody: name the CA of the server with --clickhouse-tls-ca instead")
	}
	return opts, nil
}
