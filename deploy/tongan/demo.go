package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/schollz/progressbar/v3"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting/bulletin"
)

// demoCmd replays the scenario on a system of its own, which it removes afterwards.
type demoCmd struct {
	logFlags
	serve.DistrictFlags
	Keep bool `help:"Stay up after the bulletin, until interrupted."`
}

// Run sends the scenario, prints the bulletin and compares its figures with the source's.
func (c *demoCmd) Run(ctx context.Context) (err error) {
	begun := time.Now()
	dir, err := os.MkdirTemp("", "tongan-demo-")
	if err != nil {
		return fmt.Errorf("demonstration: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	replay := &clock.Replay{}
	s, err := start(ctx, systemFlags{logFlags: c.logFlags, Data: dir, DistrictFlags: c.DistrictFlags, Baseline: sourceBaseline}, replay)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := c.play(ctx, s, replay); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%.1f s from start to bulletin\n", time.Since(begun).Seconds())
	if !c.Keep {
		return nil
	}
	s.describe(os.Stdout)
	return s.wait(ctx)
}

// play sends the scenario and prints the bulletin.
func (c *demoCmd) play(ctx context.Context, s *system, replay *clock.Replay) error {
	js, err := s.connect("tongan-demo")
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	steps := scenario.Steps(scenario.DefaultSeed)
	if err := sendWithProgress(ctx, js.Conn(), steps, replay); err != nil {
		return err
	}
	cuts, err := streamEnds(ctx, js)
	if err != nil {
		return err
	}
	figures, err := issue(ctx, js.Conn(), s.clock.Now(), c.Districts[0], &reportingv1.GetFigures{AsOf: sourceAsOf, Cuts: cuts})
	if err != nil {
		return err
	}
	if err := bulletin.WriteText(os.Stdout, figures, bulletin.Chinese, false); err != nil {
		return err
	}
	return compare(figures, source)
}

// sendWithProgress sends the scenario, shows how far it is, and moves the replay clock along, if there is one.
func sendWithProgress(ctx context.Context, nc *nats.Conn, steps []scenario.Step, replay *clock.Replay) error {
	bar := progressbar.NewOptions(len(steps), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("commands"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(os.Stderr) }))
	return sendSteps(ctx, nc, steps, func(step scenario.Step) {
		if replay != nil {
			replay.Advance(step.At)
		}
	}, func(scenario.Step) { _ = bar.Add(1) })
}

// streamEnds returns a cut at the last event of every service.
func streamEnds(ctx context.Context, js jetstream.JetStream) ([]*reportingv1.Cut, error) {
	var cuts []*reportingv1.Cut
	for _, service := range subject.Services() {
		s, err := js.Stream(ctx, subject.Stream(service))
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", subject.Stream(service), err)
		}
		cuts = append(cuts, &reportingv1.Cut{Stream: subject.Stream(service), Sequence: s.CachedInfo().State.LastSeq})
	}
	return cuts, nil
}

func newReply() *eventv1.CommandReply { return &eventv1.CommandReply{} }

// sendCmd sends the scenario to a system that runs.
type sendCmd struct {
	busFlags
	Seed uint64 `default:"20200204" help:"Seed of what the scenario makes up."`
}

// Run sends every command and waits for every reply.
func (c *sendCmd) Run(ctx context.Context) error {
	nc, err := c.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	return sendWithProgress(ctx, nc, scenario.Steps(c.Seed), nil)
}
