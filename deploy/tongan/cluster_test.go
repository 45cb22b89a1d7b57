package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/subject"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting"
)

// planThree plans a bus of three servers with the configuration of deploy/nats.
func planThree(t *testing.T) func(*deployment) {
	t.Helper()
	return func(d *deployment) {
		const password = "p0123456789abcdef"
		var listen []string
		routes := "["
		for range 3 {
			listen = append(listen, freeAddress(t))
			routes += fmt.Sprintf("nats://bus:%s@%s,", password, listen[len(listen)-1])
		}
		for i, at := range listen {
			name := fmt.Sprintf("bus-%d", i+1)
			d.buses = append(d.buses, &busProcess{conf: "cluster.conf", url: "nats://" + freeAddress(t), name: name, env: []string{
				"TONGAN_NATS_NAME=" + name, "TONGAN_NATS_CLUSTER=" + at, "TONGAN_NATS_CLUSTER_PASSWORD=" + password, "TONGAN_NATS_ROUTES=" + routes + "]",
			}})
		}
	}
}

// stranger says how a server answers one that wants to join it without the password.
func (b *busProcess) stranger(t *testing.T) string {
	t.Helper()
	at := strings.TrimPrefix(b.env[slices.IndexFunc(b.env, func(e string) bool { return strings.HasPrefix(e, "TONGAN_NATS_CLUSTER=") })], "TONGAN_NATS_CLUSTER=")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, `CONNECT {"user":"bus","pass":"","name":"stranger","cluster":"tongan"}`+"\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn) // to its end: the server closes it
	if err != nil {
		t.Errorf("a stranger stays connected: %v", err)
	}
	return string(said)
}

// kill kills a server without a word.
func (b *busProcess) kill(t *testing.T) {
	t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = b.cmd.Wait()
}

// leader is the server that leads a stream.
func (d *deployment) leader(t *testing.T, stream string) *busProcess {
	t.Helper()
	s, err := d.connect(t).Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(d.buses, func(b *busProcess) bool { return b.name == s.CachedInfo().Cluster.Leader })
	return d.buses[i]
}

// healthy is what intake says about itself.
func (d *deployment) healthy() bool {
	r, err := http.Get("http://" + d.health + "/healthz")
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// TestAnyOfThreeNodesMayBeLostAndOfTwoNothingIsMadeUp kills the server that leads while the scenario is sent, and starts it again; the figures
// are the source's. Then it kills two: nothing is acknowledged or answered. When they are back all goes on, in the same processes.
func TestAnyOfThreeNodesMayBeLostAndOfTwoNothingIsMadeUp(t *testing.T) {
	t.Parallel()
	d := deploy(t, "3", planThree(t))
	if said := d.buses[0].stranger(t); !strings.Contains(said, "Authorization Violation") {
		t.Errorf("who has no password is told %q", said)
	}
	conns := people(t, d.caller(t))
	steps := scenario.Steps(scenario.DefaultSeed)
	steps, last := steps[:len(steps)-1], steps[len(steps)-1]
	ctx := withTimeout(t, 4*time.Minute)
	var sent atomic.Int64
	third, reached, ended := int64(len(steps)/3), make(chan struct{}, 2), make(chan error, 1)
	lost := d.leader(t, subject.Stream(subject.Outreach))
	go func() {
		ended <- sendSteps(ctx, conns, steps, func(scenario.Step) {
			if n := sent.Add(1); n == third || n == 2*third {
				reached <- struct{}{}
			}
		}, func(scenario.Step) {})
	}()
	for _, act := range []func(){func() { lost.kill(t) }, func() { d.startBus(t, lost) }} {
		select {
		case <-reached:
			act()
		case err := <-ended:
			t.Fatalf("it was sent before a node was killed: %v", err)
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	d.compare(ctx, t, conns)

	for _, b := range d.buses[:2] {
		b.kill(t)
	}
	natstest.Eventually(t, time.Minute, "intake says that it is not ready", func() bool { return !d.healthy() })
	worker, reply := conns[scenario.EnteredBy(last)], newReply()
	if err := request(withTimeout(t, 15*time.Second), worker, last.Subject, last.Command, reply); err == nil || isRefused(err) {
		t.Errorf("a command with two nodes lost: %v, %v", reply, err)
	}
	natstest.Eventually(t, time.Minute, "how far the streams reach is not answered", func() bool { // a server that led them goes on until it notices
		err := request(withTimeout(t, 15*time.Second), conns[scenario.Leader], reporting.EndSubject, &reportingv1.GetEnd{}, &reportingv1.End{})
		return err != nil && !isRefused(err)
	})
	for _, b := range d.buses[:2] {
		d.startBus(t, b)
	}
	if err := insist(ctx, worker, last.Subject, last.Command, reply); err != nil {
		t.Errorf("with all nodes back: %v", err)
	}
	natstest.Eventually(t, time.Minute, "intake says that it is ready", d.healthy)
	d.compare(ctx, t, conns)
	d.end(t)
}

// compare checks the figures, once all is projected.
func (d *deployment) compare(ctx context.Context, t *testing.T, conns map[string]*nats.Conn) {
	t.Helper()
	ask, err := upToNow(ctx, conns[scenario.Leader], sourceAsOf)
	if err != nil {
		t.Fatal(err)
	}
	figures, err := getFigures(ctx, conns[scenario.Leader], ask)
	if err == nil {
		err = compare(figures, source)
	}
	if err != nil {
		t.Error(err)
	}
}
