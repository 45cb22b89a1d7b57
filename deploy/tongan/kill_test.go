package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/scenario"
)

// TestKilledInTheMiddle kills the whole standalone while the scenario is being sent, starts it again and sends everything again: the
// figures must be the source's. TONGAN_KILLS says at how many moments, 3 by default.
func TestKilledInTheMiddle(t *testing.T) {
	kills := 3
	if text := os.Getenv("TONGAN_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("TONGAN_KILLS is %q", text)
		}
	}
	steps := scenario.Steps(scenario.DefaultSeed)
	for i := range kills {
		after := int64(len(steps) * (i + 1) / (kills + 1))
		t.Run(fmt.Sprintf("after %d of %d commands", after, len(steps)), func(t *testing.T) { killedAfter(t, steps, after) })
	}
}

func killedAfter(t *testing.T, steps []scenario.Step, after int64) {
	t.Helper()
	dir := t.TempDir()
	s := startStandalone(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var answered atomic.Int64
	err := sendSteps(ctx, people(t, s.operator(t)), steps, func(scenario.Step) {}, func(scenario.Step) {
		if answered.Add(1) == after {
			_ = s.cmd.Process.Signal(syscall.SIGKILL)
			cancel()
		}
	})
	if err == nil {
		t.Fatal("the scenario was sent to its end: nothing was killed")
	}
	if err := <-s.ended; err == nil {
		t.Fatal("the standalone ended by itself")
	}
	s = startStandalone(t, dir)
	if err := compare(sendAll(t, people(t, s.operator(t))), source); err != nil {
		t.Error(err)
	}
	if err := s.end(t, syscall.SIGINT, 20*time.Second); err != nil {
		t.Errorf("ended with %v\n%s", err, s.logs)
	}
}
