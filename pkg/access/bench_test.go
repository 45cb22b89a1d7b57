package access_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// BenchmarkRequest times a request to an echo through accounts and imports, with who is calling in its header, and the same request to the
// same echo on a server without accounts, in turns. Metrics: the median of each in microseconds, and their ratio.
func BenchmarkRequest(b *testing.B) {
	const ask = "tongan.qry.intake.case.get"
	echo := func(nc *nats.Conn) {
		s, err := micro.AddService(nc, micro.Config{Name: "echo", Version: "0.1.0"})
		if err == nil {
			err = s.AddEndpoint("get", micro.HandlerFunc(func(r micro.Request) { _ = r.Respond(r.Data()) }), micro.WithEndpointSubject(ask))
		}
		if err == nil {
			err = nc.Flush()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	plain, err := bus.Start(bus.Config{Dir: b.TempDir(), MaxStore: natstest.MaxStore, MonitorPort: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(plain.Shutdown)
	echo(natstest.Connect(b, plain.ClientURL()).Conn())
	service := natstest.Connect(b, natstest.Run(b).ClientURL()).Conn()
	echo(service)
	callers := []*nats.Conn{
		natstest.Connect(b, plain.ClientURL()).Conn(),
		natstest.CallersAt(b, service).LetIn(b, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_SOCIAL_WORKER}),
	}
	payload := make([]byte, 256)
	var took [2][]time.Duration
	for range max(b.N, 2000) {
		for i, nc := range callers {
			begun := time.Now()
			if _, err := nc.Request(ask, payload, 5*time.Second); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds()) / 1000
	}
	without, with := median(took[0]), median(took[1])
	b.ReportMetric(without, "µs/without")
	b.ReportMetric(with, "µs/with")
	b.ReportMetric(with/without, "with/without")
}
