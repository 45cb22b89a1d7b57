// Package intake is the child registry, the 24-hour hotline and protection cases.
package intake

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/intake/internal/child"
	"tongan.dev/services/intake/internal/duty"
	"tongan.dev/services/intake/internal/hotline"
	"tongan.dev/services/intake/internal/protection"
	"tongan.dev/services/intake/internal/rules"
)

// Config is what the service is told beside serve.Config.
type Config struct {
	MasterKey seal.File `embed:""`
	// Rules is a file of rule sets, see loadRules; empty means those of the project.
	Rules string `env:"TONGAN_INTAKE_RULES" type:"path" help:"File of the rules for deadlines, as JSON of tongan.intake.v1.RuleSets; empty: those of the project."`
}

// Folds say how the aggregates of the service's stream are folded.
func Folds() eventlog.Folds {
	return eventlog.Folds{
		child.Aggregate: child.Decider.Begin, protection.Aggregate: protection.New(rules.Rules{}).Begin,
		hotline.Aggregate: hotline.Decider.Begin, duty.Aggregate: duty.Decider.Begin,
	}
}

// Run offers the service's commands and queries, and reacts, until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, cfg Config) error {
	if err := serve.Ready(ctx, rt, subject.Intake); err != nil {
		return err
	}
	box, err := cfg.MasterKey.Box(ctx, rt.JS)
	if err != nil {
		return err
	}
	numbers, err := newNumbers(ctx, box)
	if err != nil {
		return err
	}
	by, err := loadRules(cfg.Rules)
	if err != nil {
		return err
	}
	contacts, err := newContacts(ctx, rt, box)
	if err != nil {
		return err
	}
	cases := &caseLog{eventlog.New(rt.JS, protection.Aggregate, rt.Log), protection.New(by)}
	clocks := newDeadlines(rt, cases, contacts)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return destroyKeys(ctx, rt, box, numbers, contacts) })
	g.Go(func() error { return noteServices(ctx, rt, cases) })
	g.Go(func() error { return clocks.set(ctx) })
	g.Go(func() error { return clocks.timers.Run(ctx, "intake-timers") })
	g.Go(func() error {
		return serve.Run(ctx, rt, subject.Intake, "child registry, hotline and protection cases",
			slices.Concat(registry(rt, box, numbers), hotlineEndpoints(rt, contacts), cases.endpoints(rt, box)))
	})
	return g.Wait()
}
