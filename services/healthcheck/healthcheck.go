// Package healthcheck is the institutions, their closed regime and the check rounds.
package healthcheck

import (
	"context"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/subject"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	"tongan.dev/services/healthcheck/internal/institution"
	"tongan.dev/services/healthcheck/internal/round"
)

// Config is what the service is told beside serve.Config: nothing so far.
type Config struct{}

// Folds say how the aggregates of the service's stream are folded.
func Folds() eventlog.Folds {
	return eventlog.Folds{institution.Aggregate: institution.Decider.Begin, round.Aggregate: round.Decider.Begin}
}

// Run offers the service's commands until ctx ends.
func Run(ctx context.Context, rt *serve.Runtime, _ Config) error {
	if err := serve.Ready(ctx, rt, subject.HealthCheck); err != nil {
		return err
	}
	return serve.Run(ctx, rt, subject.HealthCheck, "institutions, closed regime and check rounds", endpoints(rt))
}

func endpoints(rt *serve.Runtime) []serve.Endpoint {
	institutions := eventlog.New(rt.JS, institution.Aggregate, rt.Log)
	rounds := eventlog.New(rt.JS, round.Aggregate, rt.Log)
	return []serve.Endpoint{
		serve.Command(institutions, institution.Decider, "register", (*healthcheckv1.RegisterInstitution).GetInstitutionId,
			serve.Creates((*healthcheckv1.RegisterInstitution).GetInstitutionId)),
		serve.Command(institutions, institution.Decider, "start-closure-regime", (*healthcheckv1.StartClosureRegime).GetInstitutionId),
		serve.Command(rounds, round.Decider, "open", roundID[*healthcheckv1.OpenCheckRound]),
		serve.Command(rounds, round.Decider, "record", roundID[*healthcheckv1.RecordHealthChecks]),
		serve.Command(rounds, round.Decider, "close", roundID[*healthcheckv1.CloseCheckRound]),
	}
}

// roundID names the round a command is about.
func roundID[C interface {
	GetInstitutionId() string
	GetCheckedOn() string
	GetSlot() healthcheckv1.CheckSlot
}](c C) string {
	return round.ID(c.GetInstitutionId(), c.GetCheckedOn(), c.GetSlot())
}
