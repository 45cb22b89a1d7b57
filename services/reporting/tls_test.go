package reporting_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/tlstest"
	"tongan.dev/pkg/transport"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/projector"
	"tongan.dev/services/reporting"
)

// Migration, projector and reporting reach a ClickHouse by TLS that lets nobody in without a certificate.
func TestClickHouseByTLS(t *testing.T) {
	t.Parallel()
	ca := tlstest.New(t)
	client := ca.Issue(t, "client")
	e := chtest.Start(t, chengine.Config{Dir: t.TempDir(), TLS: ca.Issue(t, "clickhouse"), Users: projector.Users([]string{"440700"}, password)})
	dsn := e.DSN(projector.UserMigration)
	for _, tt := range []struct {
		name, dsn string
		files     transport.TLS
		says      string
	}{
		{"without files", dsn, transport.TLS{}, "unknown authority"},
		{"without CA", dsn, transport.TLS{Cert: client.Cert, Key: client.Key}, "unknown authority"},
		{"with the CA of somebody else", dsn, transport.TLS{Cert: client.Cert, Key: client.Key, CA: tlstest.New(t).File}, "unknown authority"},
		{"without certificate", dsn, transport.TLS{CA: ca.File}, "certificate required"},
		{"without key", dsn, transport.TLS{Cert: client.Cert, CA: ca.File}, "--clickhouse-tls-key is missing"},
		{"under another name", dsn + "&tls_server_name=somebody", client, "somebody"},
		{"without TLS", strings.ReplaceAll(dsn, "secure=true", ""), transport.TLS{}, ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := projector.Migrate(ctx, tt.dsn, tt.files, false)
		refused(t, "migration "+tt.name, err, tt.says)
		as := strings.NewReplacer(projector.UserMigration, projector.UserReporting)
		err = reporting.Run(ctx, &serve.Runtime{}, reporting.Config{DSN: as.Replace(tt.dsn), TLS: tt.files, Baseline: baseline})
		refused(t, "reporting "+tt.name, err, tt.says)
		cancel()
	}
	d := deployOn(t, e, client)
	d.publish(t, call("2020-02-04", "440703"))
	got := values(d.figures(t, &reportingv1.GetFigures{AsOf: "2020-02-04"}))
	if len(got) == 0 {
		t.Error("nothing of the event arrives")
	}
}

// refused fails the test unless an error says so, in one line and without the password.
func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "password") {
		t.Errorf("%s: %v, want %q", what, err, says)
	}
}

// Each of the three that reach ClickHouse goes without TLS to loopback only, unless more is permitted.
func TestClickHouseInClear(t *testing.T) {
	t.Parallel()
	const elsewhere, plain = "clickhouse://u:password@0.0.0.0:1", `--clickhouse-dsn: "0.0.0.0" is not loopback`
	for _, plaintext := range []bool{false, true} {
		rt := &serve.Runtime{Plaintext: plaintext}
		says := plain
		if plaintext {
			says = "connection refused"
		}
		refused(t, "migration", projector.Migrate(t.Context(), elsewhere, transport.TLS{}, plaintext), says)
		refused(t, "reporting", reporting.Run(t.Context(), rt, reporting.Config{DSN: elsewhere, Baseline: baseline}), says)
	}
	refused(t, "projector", projector.Serve(t.Context(), &serve.Runtime{}, projector.ServiceConfig{DSN: elsewhere}), plain)
	half := projector.ServiceConfig{DSN: elsewhere, TLS: transport.TLS{Cert: "c"}}
	refused(t, "projector with half of the files", projector.Serve(t.Context(), &serve.Runtime{}, half), "--clickhouse-tls-key is missing")
	// A projector waits for its ClickHouse, so it is one that has ended already.
	ended, end := context.WithCancel(t.Context())
	end()
	rt := &serve.Runtime{JS: natstest.Bus(t), Plaintext: true}
	if err := projector.Serve(ended, rt, projector.ServiceConfig{DSN: elsewhere}); err != nil && !strings.Contains(err.Error(), "canceled") {
		t.Errorf("a projector that may: %v", err)
	}
}
