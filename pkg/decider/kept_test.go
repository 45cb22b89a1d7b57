package decider_test

import (
	"context"
	"errors"
	"testing"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// reads counts what is read of a log.
type reads struct {
	decidertest.Log
	whole, rest int
}

func (r *reads) Load(ctx context.Context, id string) ([]decider.Recorded, uint64, error) {
	r.whole++
	return r.Log.Load(ctx, id)
}

func (r *reads) LoadAfter(ctx context.Context, id string, after uint64) ([]decider.Recorded, uint64, error) {
	r.rest++
	return r.Log.LoadAfter(ctx, id, after)
}

func open(id string) decider.Command {
	return decidertest.Command("2020-02-01T09:00:00Z", id, &intakev1.OpenCase{CaseId: "c1"})
}

// The first command loads the aggregate; those after it decide on what is kept, and meet the expectation.
func TestCommandsDecideOnWhatIsKept(t *testing.T) {
	t.Parallel()
	log := &reads{}
	for _, id := range []string{"k1", "k2", "k3"} {
		if _, err := decider.Transact(t.Context(), log, counter, "a1", open(id)); err != nil {
			t.Fatal(err)
		}
	}
	if log.whole != 1 || log.rest != 0 || len(log.Events()) != 6 {
		t.Errorf("the log was read %d times whole and %d times in part, and has %d events", log.whole, log.rest, len(log.Events()))
	}
}

// What others appended is read on the conflict, only that, and the command is decided on it.
func TestAConflictReadsWhatOthersAppended(t *testing.T) {
	t.Parallel()
	log := &reads{}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k1")); err != nil {
		t.Fatal(err)
	}
	log.Seed(&intakev1.CaseClosed{})
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k2")); !errors.Is(err, errClosed) {
		t.Errorf("the command is answered %v, want %v", err, errClosed)
	}
	if log.whole != 1 || log.rest != 1 || len(log.Events()) != 3 {
		t.Errorf("the log was read %d times whole and %d times in part, and has %d events", log.whole, log.rest, len(log.Events()))
	}
}

// An answer that appends nothing meets no expectation: a refusal, silence and a repeated command rest on what the log has now.
func TestWhatAppendsNothingIsAnsweredOnWhatTheLogHasNow(t *testing.T) {
	t.Parallel()
	closeIt := func(id string) decider.Command {
		return decidertest.Command("2020-02-01T09:00:00Z", id, &intakev1.CloseCase{})
	}
	log := &reads{}
	for _, cmd := range []decider.Command{open("k1"), closeIt("k2")} {
		if _, err := decider.Transact(t.Context(), log, counter, "a1", cmd); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k3")); !errors.Is(err, errClosed) || log.rest != 1 {
		t.Errorf("the refusal is %v after %d readings", err, log.rest)
	}
	log.Seed(&intakev1.CaseOpened{})
	reply, err := decider.Transact(t.Context(), log, counter, "a1", closeIt("k4"))
	if err != nil || reply.GetHappened() || reply.GetRevision() != 4 || log.rest != 2 {
		t.Errorf("what is already so is answered %v, %v after %d readings", reply, err, log.rest)
	}
	reply, err = decider.Transact(t.Context(), log, counter, "a1", open("k1"))
	if err != nil || !reply.GetAgain() || reply.GetRevision() != 2 || log.rest != 3 || log.whole != 1 {
		t.Errorf("the repeated command is answered %v, %v after %d readings", reply, err, log.rest)
	}
}

// After an error nothing is kept: the next command loads.
func TestNothingIsKeptAfterAnError(t *testing.T) {
	t.Parallel()
	log := &reads{}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k1")); err != nil {
		t.Fatal(err)
	}
	broken := &failing{reads: log, err: errors.New("no bus")}
	if _, err := decider.Transact(t.Context(), broken, counter, "a1", open("k2")); !errors.Is(err, broken.err) {
		t.Errorf("the command is answered %v", err)
	}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k3")); err != nil || log.whole != 2 {
		t.Errorf("the next is answered %v, and the log was read %d times whole", err, log.whole)
	}
}

type failing struct {
	*reads
	err error
}

func (f *failing) Append(context.Context, string, uint64, []decider.Recorded) (uint64, error) {
	return 0, f.err
}

// Where somebody else was heard to append, what followed is read before the command is decided, and not only on the conflict.
func TestWhatIsHeardIsReadBeforeDeciding(t *testing.T) {
	t.Parallel()
	log := &hearing{reads: &reads{}}
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k1")); err != nil {
		t.Fatal(err)
	}
	log.Seed(&intakev1.CaseClosed{})
	log.stale = true
	if _, err := decider.Transact(t.Context(), log, counter, "a1", open("k2")); !errors.Is(err, errClosed) || log.appended != 1 || log.rest != 1 {
		t.Errorf("the command is answered %v after %d appends and %d readings, want %v after 1 and 1", err, log.appended, log.rest, errClosed)
	}
}

// hearing says that others were heard to append.
type hearing struct {
	*reads
	stale    bool
	appended int
}

func (h *hearing) Take(id string) (any, bool, bool) {
	value, _, ok := h.reads.Take(id)
	return value, h.stale, ok
}

func (h *hearing) Append(ctx context.Context, id string, last uint64, events []decider.Recorded) (uint64, error) {
	h.appended++
	return h.reads.Append(ctx, id, last, events)
}
