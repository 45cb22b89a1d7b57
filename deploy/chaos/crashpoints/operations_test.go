package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/chtest"
)

func TestMain(m *testing.M) { chtest.Main(m) }

// Each operation is carried out once when nobody is killed, and once while its process is killed at some moment, and everything is as the model
// says. At which call of the system that was, strace would tell; here it is what crashpoints itself needs to go on working.
func TestOperationsAreExactWithAndWithoutAKill(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d, err := deploy(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.end(); err != nil {
			t.Error(err)
		}
	}()
	done := make(map[string]operation)
	for i, p := range plans {
		for _, kill := range []bool{false, true} {
			what := fmt.Sprintf("%s, %s killed %v", p.name, p.victim, kill)
			op := p.make(2*i + map[bool]int{false: 1, true: 2}[kill])
			if err := op.prepare(ctx, d); err != nil {
				t.Fatalf("%s: prepare: %v", what, err)
			}
			killed, stop := make(chan struct{}), func() (string, error) { return "", nil }
			if kill {
				pid, after := d.pid(p.victim), time.Duration(rand.IntN(20_000))*time.Microsecond
				what += " after " + after.String()
				time.AfterFunc(after, func() {
					_ = syscall.Kill(pid, syscall.SIGKILL)
					close(killed)
				})
				stop = func() (string, error) {
					<-killed
					return "SIGKILL", nil
				}
			}
			_, wrong, err := d.cutShort(ctx, p.victim, op, killed, stop)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for _, w := range wrong {
				t.Errorf("%s: %s", what, w)
			}
			done[what] = op
		}
	}
	for what, op := range done {
		wrong, err := op.settled(ctx, d)
		if err != nil {
			t.Fatalf("%s: in the end: %v", what, err)
		}
		for _, w := range wrong {
			t.Errorf("%s: in the end: %s", what, w)
		}
	}
}
