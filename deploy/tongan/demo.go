package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"

	"tongan.dev/pkg/clock"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/serve"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
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
	// Where the NATS CLI looks for contexts: the demonstration's is removed with the rest.
	if err := os.Setenv("XDG_CONFIG_HOME", dir); err != nil {
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
	steps := scenario.Steps(scenario.DefaultSeed)
	via, err := s.operator("tongan-demo")
	if err != nil {
		return err
	}
	conns, err := enrol(ctx, via, c.Districts[0], scenario.Callers(steps))
	if err != nil {
		return err
	}
	defer closeAll(conns)
	if err := sendWithProgress(ctx, conns, steps, replay, s.settled); err != nil {
		return err
	}
	leader := conns[scenario.Leader]
	ask, err := upToNow(ctx, leader, sourceAsOf)
	if err != nil {
		return err
	}
	figures, err := issue(ctx, leader, s.clock.Now(), c.Districts[0], ask)
	if err != nil {
		return err
	}
	if err := bulletin.WriteText(os.Stdout, figures, bulletin.Chinese, false); err != nil {
		return err
	}
	return compare(figures, source)
}

// sendWithProgress sends the scenario and shows how far it is. With a replay clock it moves that along, and after each day, when all
// reactions are done, has happen what was due by its end.
func sendWithProgress(ctx context.Context, conns map[string]*nats.Conn, steps []scenario.Step, replay *clock.Replay, settled func(context.Context) error) error {
	bar := progressbar.NewOptions(len(steps), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("commands"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(os.Stderr) }))
	done := func(scenario.Step) { _ = bar.Add(1) }
	if replay == nil {
		return sendSteps(ctx, conns, steps, func(scenario.Step) {}, done)
	}
	for day := range days(steps) {
		if err := sendDay(ctx, conns, day, func(step scenario.Step) { replay.Advance(step.At) }, done); err != nil {
			return err
		}
		if err := settled(ctx); err != nil {
			return err
		}
		if err := replay.Tick(ctx, decider.Midnight(day[0].At)); err != nil {
			return err
		}
	}
	return nil
}

func newReply() *eventv1.CommandReply { return &eventv1.CommandReply{} }

// sendCmd sends the scenario to a system that runs.
type sendCmd struct {
	callerFlags
	serve.DistrictFlags
	Seed uint64 `default:"20200204" help:"Seed of what the scenario makes up."`
}

// Run adds the persons of the scenario as callers with new keys, sends every command as who enters it, and waits for every reply.
func (c *sendCmd) Run(ctx context.Context) error {
	via, err := c.caller()
	if err != nil {
		return err
	}
	steps := scenario.Steps(c.Seed)
	conns, err := enrol(ctx, via, c.Districts[0], scenario.Callers(steps))
	if err != nil {
		return err
	}
	defer closeAll(conns)
	return sendWithProgress(ctx, conns, steps, nil, nil)
}
