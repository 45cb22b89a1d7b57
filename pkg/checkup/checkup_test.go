package checkup_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/checkup"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

var intake = subject.Stream(subject.Intake)

// wrong returns what is wrong, a line each.
func wrong(results []checkup.Result) []string {
	var out []string
	for _, r := range results {
		if r.Wrong != "" {
			out = append(out, r.Error())
		}
	}
	return out
}

// saysOne checks that one thing is wrong, and that it is said with what to do.
func saysOne(t *testing.T, results []checkup.Result, parts ...string) {
	t.Helper()
	lines := wrong(results)
	if len(lines) != 1 {
		t.Fatalf("what is wrong: %q", lines)
	}
	for _, p := range parts {
		if !strings.Contains(lines[0], p) {
			t.Errorf("%q does not say %q", lines[0], p)
		}
	}
}

func stream(t *testing.T, js jetstream.JetStream) ([]checkup.Result, *jetstream.StreamInfo) {
	t.Helper()
	results, info, err := checkup.Stream(t.Context(), js, intake, 1)
	if err != nil {
		t.Fatal(err)
	}
	return results, info
}

func bus(t *testing.T, js jetstream.JetStream, now func() time.Time, streams ...*jetstream.StreamInfo) []checkup.Result {
	t.Helper()
	results, err := checkup.Bus(t.Context(), js.Conn(), now, streams...)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestABusThatIsWellIsSaidToBe(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	results, info := stream(t, js)
	if all := append(results, bus(t, js, time.Now, info)...); len(all) != 5 || len(wrong(all)) > 0 {
		t.Errorf("%d results, wrong: %q", len(all), wrong(all))
	}
}

func TestAServerThatDoesNotSyncIsNamed(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Unsynced(t).ClientURL())
	saysOne(t, bus(t, js, time.Now), "syncs every message", "may be lost", "sync_interval: always")
}

func TestAClockThatIsOffIsNamed(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	for _, off := range []time.Duration{checkup.MaxSkew + time.Minute, -checkup.MaxSkew - time.Minute} {
		saysOne(t, bus(t, js, func() time.Time { return time.Now().Add(off) }), "clock", (-off).String()+" off", "NTP")
	}
	if lines := wrong(bus(t, js, func() time.Time { return time.Now().Add(checkup.MaxSkew / 2) })); len(lines) > 0 {
		t.Errorf("half of what is allowed: %q", lines)
	}
}

func TestAStreamThatDiffersIsNamedWithTheProperty(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	_, info := stream(t, js)
	changed := info.Config
	changed.AllowAtomicPublish, changed.Discard = false, jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	results, _ := stream(t, js)
	saysOne(t, results, intake, "discard, allow_atomic", "nats stream edit")
	replicas, _, err := checkup.Stream(t.Context(), js, subject.StreamDead, 3)
	if err != nil {
		t.Fatal(err)
	}
	saysOne(t, replicas, subject.StreamDead, "num_replicas")
}

func TestAStreamThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	results, info := stream(t, js)
	if saysOne(t, results, intake, "does not exist", "tongan migrate"); info != nil {
		t.Error("there is something known of it")
	}
}

func TestWhatIsNearlyFullIsNamed(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t)
	js := natstest.Connect(t, s.ClientURL())
	if err := eventlog.Migrate(t.Context(), js, eventlog.StreamOptions{MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 20<<10)
	for range 9 { // of 204 KB
		if _, err := js.Publish(t.Context(), "tongan.evt.intake.case.c1.case-opened", part); err != nil {
			t.Fatal(err)
		}
	}
	if results, _ := stream(t, js); len(wrong(results)) > 0 {
		t.Errorf("under nine tenths: %q", wrong(results))
	}
	if _, err := js.Publish(t.Context(), "tongan.evt.intake.case.c1.case-opened", part[:10<<10]); err != nil {
		t.Fatal(err)
	}
	results, _ := stream(t, js)
	saysOne(t, results, intake, "room", "% of 209700 bytes", "raise max_bytes")
}

func TestEveryServerOfAClusterIsAskedAndOneThatIsSilentIsNamed(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	results, info, err := checkup.Stream(t.Context(), js, intake, 3)
	if err != nil {
		t.Fatal(err)
	}
	if all := append(results, bus(t, js, time.Now, info)...); len(all) != 11 || len(wrong(all)) > 0 {
		t.Errorf("%d results, wrong: %q", len(all), wrong(all))
	}
	servers[2].Shutdown()
	saysOne(t, bus(t, js, time.Now, info), "server n3", "does not answer")
}

func TestABusThatDoesNotTellIsNotTakenForGood(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t)
	js := natstest.Connect(t, s.ClientURL())
	s.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if results, err := checkup.Bus(ctx, js.Conn(), time.Now); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", results, err)
	}
}
