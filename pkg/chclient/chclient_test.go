package chclient_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tongan.dev/pkg/chclient"
	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
)

func TestWhichAddressesAreTaken(t *testing.T) {
	t.Parallel()
	files := tlstest.New(t).Issue(t, "client")
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		plain   = " is not loopback: without TLS, children's names would cross the network in clear; give certificates, or permit it with --plaintext"
		address = "--clickhouse-dsn: not an address of ClickHouse"
		user    = "--clickhouse-dsn: it names no user"
		native  = "--clickhouse-dsn: only the native protocol is supported"
	)
	for _, tt := range []struct {
		dsn       string
		files     transport.TLS
		plaintext bool
		secure    bool
		name      string
		says      string
	}{
		{dsn: "clickhouse://u:secret@127.0.0.1:9000"},
		{dsn: "clickhouse://u:secret@localhost:9000/tongan"},
		{dsn: "clickhouse://u:secret@[::1]:9000,127.0.0.2:9000"},
		{dsn: "clickhouse://127.0.0.1:9000?username=u&password=secret"},
		{dsn: "clickhouse://u:secret@ch:9000", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://u:secret@ch", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://u:secret@0.0.0.0:9000", says: `--clickhouse-dsn: "0.0.0.0"` + plain},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000,192.0.2.1:9000", says: `--clickhouse-dsn: "192.0.2.1"` + plain},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000?hosts=ch:9000", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000?alt_hosts=localhost:1,ch:9000", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://localhost:secret@ch:9000", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://u:secret@ch:9000?secure=false", says: `--clickhouse-dsn: "ch"` + plain},
		{dsn: "clickhouse://u:secret@ch:9000", plaintext: true},
		{dsn: "clickhouse://u:secret@ch:9440?secure=true", secure: true},
		{dsn: "clickhouse://u:secret@ch:9440?secure=true&tls_server_name=one", secure: true, name: "one"},
		{dsn: "clickhouse://u:secret@ch:9440?secure=true", plaintext: true, secure: true},
		{dsn: "clickhouse://u:secret@ch:9440", files: files, secure: true},
		{dsn: "clickhouse://u:secret@ch:9440", files: transport.TLS{CA: files.CA}, plaintext: true, secure: true},
		{dsn: "clickhouse://u:secret@127.0.0.1:9440", files: files, secure: true},
		{dsn: "clickhouse://u:secret@ch:9440?secure=true&tls_server_name=one", files: files, secure: true, name: "one"},
		{dsn: "clickhouse://u:secret@ch:9440?secure=true&skip_verify=true", says: "--clickhouse-dsn: skip_verify would trust anybody"},
		{dsn: "clickhouse://u:secret@127.0.0.1:9440?secure=true&skip_verify=true", files: files, plaintext: true, says: "--clickhouse-dsn: skip_verify"},
		{dsn: "clickhouse://u:secret@ch:9440", files: transport.TLS{Cert: files.Cert}, says: "--clickhouse-tls-key is missing"},
		{dsn: "clickhouse://u:secret@ch:9440", files: transport.TLS{Key: files.Key}, plaintext: true, says: "--clickhouse-tls-cert is missing"},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000", files: transport.TLS{CA: garbage}, says: "--clickhouse-tls-ca: " + garbage + " holds no certificate"},
		{dsn: "http://u:secret@127.0.0.1:8123", says: native},
		{dsn: "http://u:secret@127.0.0.1:8123", files: files, says: native},
		{dsn: "https://u:secret@127.0.0.1:8443?secure=true", says: native},
		{dsn: "", says: address},
		{dsn: "secret", says: address},
		{dsn: "clickhouse:secret", says: address},
		{dsn: "clickhouse://u:secret", says: address},
		{dsn: "clickhouse://u:secret@127.0.0.1:secret", says: address},
		{dsn: "clickhouse://u:sec%zzret@127.0.0.1:9000", says: address},
		{dsn: "clickhouse://u:secret/@127.0.0.1:9000", says: address},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000?secure=secret", says: address},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000?dial_timeout=secret", says: address},
		{dsn: "clickhouse://u:secret@127.0.0.1:9000?tls_server_name=one", says: address},
		{dsn: "clickhouse://127.0.0.1:9000", says: user},
		{dsn: "clickhouse://:secret@127.0.0.1:9000", says: user},
		// These are of a user u with passwords that should have been escaped; the host is u, the port the beginning of the password.
		{dsn: "clickhouse://u:5/ecret@127.0.0.1:9000", plaintext: true, says: user},
		{dsn: "clickhouse://u:5?ecret@127.0.0.1:9000", says: user},
		{dsn: "clickhouse://u:5#ecret@127.0.0.1:9000", says: user},
	} {
		opts, err := chclient.Options(tt.dsn, tt.files, tt.plaintext)
		if tt.says != "" {
			if err == nil || opts != nil || !strings.HasPrefix(err.Error(), tt.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %q", tt.dsn, err, tt.says)
			}
			for _, part := range []string{"secret", "ecret", "u:5"} {
				if err != nil && strings.Contains(err.Error(), part) {
					t.Errorf("%s: a part of the password is told: %v", tt.dsn, err)
				}
			}
			continue
		}
		if err != nil || (opts.TLS != nil) != tt.secure {
			t.Errorf("%s: %+v, %v", tt.dsn, opts, err)
			continue
		}
		if !tt.secure {
			continue
		}
		if opts.TLS.ServerName != tt.name || opts.TLS.InsecureSkipVerify {
			t.Errorf("%s: name %q, unverified %t", tt.dsn, opts.TLS.ServerName, opts.TLS.InsecureSkipVerify)
		}
		if got := opts.TLS; (got.RootCAs != nil) != (tt.files.CA != "") || (len(got.Certificates) == 1) != (tt.files.Cert != "") ||
			tt.files.Enabled() && got.MinVersion != tls.VersionTLS12 {
			t.Errorf("%s: the files are not used: %+v", tt.dsn, got)
		}
	}
}
