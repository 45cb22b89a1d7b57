package serve_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// ready asks whether a service may start at a bus, and returns what was logged.
func ready(t *testing.T, js jetstream.JetStream, unsynced bool) (string, error) {
	t.Helper()
	log := &text{}
	err := serve.Ready(t.Context(), &serve.Runtime{JS: js, Log: slog.New(slog.NewTextHandler(log, nil)), Unsynced: unsynced}, subject.Intake)
	return log.String(), err
}

func TestAServiceStartsAtABusThatSyncsOnly(t *testing.T) {
	t.Parallel()
	if log, err := ready(t, natstest.Bus(t), false); err != nil || log != "" {
		t.Errorf("%v, %q", err, log)
	}
	js := natstest.Connect(t, natstest.Unsynced(t).ClientURL())
	natstest.Migrate(t, js, 1)
	if _, err := ready(t, js, false); err == nil || !strings.Contains(err.Error(), "sync_interval: always") {
		t.Errorf("at one that does not: %v", err)
	}
	if log, err := ready(t, js, true); err != nil || !strings.Contains(log, "sync_interval: always") {
		t.Errorf("where that is permitted: %v, %q", err, log)
	}
}

func TestAServiceStartsWithAStreamAsDeclaredOnly(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	if _, err := ready(t, js, true); err == nil || !strings.Contains(err.Error(), "run `tongan migrate` first") {
		t.Errorf("without one: %v", err)
	}
	natstest.Migrate(t, js, 1)
	s, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	changed := s.CachedInfo().Config
	changed.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	if _, err := ready(t, js, true); err == nil || !strings.Contains(err.Error(), "stream TONGAN_INTAKE: flags: is not as declared: allow_direct") {
		t.Errorf("with another one: %v", err)
	}
}

func TestAServiceStartsWithANodeLostAndNotWithTwo(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	s, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	first, second := servers[1], servers[2] // the one before them is connected
	if first.Name() == s.CachedInfo().Cluster.Leader {
		first, second = second, first
	}
	first.Shutdown()
	natstest.Eventually(t, 20*time.Second, "a service starts, and the node that is lost is named", func() bool {
		log, err := ready(t, js, false) // until the others have agreed on who leads it fails
		return err == nil && strings.Contains(log, first.Name()+`" wrong="does not answer`)
	})
	second.Shutdown()
	natstest.Eventually(t, time.Minute, "none starts, and it is said why", func() bool {
		_, err := ready(t, js, false)
		return errors.Is(err, eventlog.ErrNoAnswer)
	})
	natstest.Again(t, second)
	natstest.Eventually(t, time.Minute, "one starts again", func() bool {
		_, err := ready(t, js, false)
		return err == nil
	})
}

func TestAStreamThatIsNearlyFullTakesWhatMustNotWaitOnly(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	if err := eventlog.Migrate(t.Context(), js, eventlog.StreamOptions{MaxBytes: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 950<<10) // of 1 MB
	if _, err := js.Publish(t.Context(), "tongan.evt.intake.case.c0.case-opened", part); err != nil {
		t.Fatal(err)
	}
	if log, err := ready(t, js, false); err != nil || !strings.Contains(log, "TONGAN_INTAKE: room") {
		t.Errorf("a service that starts then: %v, %q", err, log)
	}
	replay := &clock.Replay{}
	replay.Advance(time.Date(2020, 2, 6, 0, 0, 0, 0, time.UTC))
	const corrects = "tongan.cmd.intake.case.assess"
	c := servetest.RunBy(t, js, replay, subject.Intake, func(ctx context.Context, rt *serve.Runtime, _ struct{}) error {
		log := eventlog.New(rt.JS, cases, rt.Log)
		return serve.Run(ctx, rt, subject.Intake, "a service under test", []serve.Endpoint{
			serve.Command(log, flagged, "flag-special", (*intakev1.FlagCaseSpecial).GetCaseId),
			serve.Command(log, flagged, "assess", (*intakev1.FlagCaseSpecial).GetCaseId).WhenFull(),
		})
	}, struct{}{})
	payload, err := proto.Marshal(flag("k1"))
	if err != nil {
		t.Fatal(err)
	}
	c.Ask(t, flagCase, payload).Refused(t, "503", "stream TONGAN_INTAKE is full to 92 %", "send the same command again")
	c.Send(t, corrects, flag("k2"))
	s, err := js.Stream(t.Context(), subject.Stream(subject.Intake))
	if err != nil {
		t.Fatal(err)
	}
	larger := s.CachedInfo().Config
	larger.MaxBytes *= 2
	if _, err := js.UpdateStream(t.Context(), larger); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 20*time.Second, "the command is taken once there is room", func() bool {
		return c.Ask(t, flagCase, payload).Code == ""
	})
}
