package seal_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

func newIndex(t *testing.T, box *seal.Box, name string) *seal.Index {
	t.Helper()
	x, err := box.NewIndex(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// What has the same value is found without the value being anywhere; what left, or was forgotten, is not.
func TestAnIndexFindsWhatHasTheSameValue(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	x := newIndex(t, newBox(t, js, 1), "identity")
	enter := func(value, id string, want bool) {
		t.Helper()
		if isNew, err := x.Enter(t.Context(), value, id); err != nil || isNew != want {
			t.Errorf("entering %s is new: %v, %v", id, isNew, err)
		}
	}
	find := func(value string, want ...string) {
		t.Helper()
		if got, err := x.Find(t.Context(), value); err != nil || !slices.Equal(got, want) {
			t.Errorf("found are %v, want %v (%v)", got, want, err)
		}
	}
	find("one")
	enter("one", "c1", true)
	enter("one", "c1", false)
	enter("one", "c2", true)
	enter("two", "c2", true)
	find("one", "c1", "c2")
	find("two", "c2")
	if err := x.Only(t.Context(), "two", "c2"); err != nil {
		t.Error(err)
	}
	find("one", "c1")
	find("two", "c2")
	if err := x.Only(t.Context(), "", "c2"); err != nil {
		t.Error(err)
	}
	find("two")
	enter("one", "c2", true)
	enter("two", "c2", true)
	if err := x.Leave(t.Context(), "one", "c1"); err != nil {
		t.Error(err)
	}
	find("one", "c2")
	if err := x.Forget(t.Context(), "c2"); err != nil {
		t.Error(err)
	}
	find("one")
	find("two")
	enter("one", "c1", true)
	find("one", "c1")
	var at sync.WaitGroup
	for range 8 {
		at.Go(func() {
			if err := x.Forget(t.Context(), "c1"); err != nil {
				t.Errorf("of several who forget at once one fails: %v", err)
			}
		})
	}
	at.Wait()
	find("one")
}

// The same value has another hash in another index, and under another master key.
func TestHashesAreOfOneIndexOnly(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	for _, name := range []string{"identity", "phone"} {
		if _, err := newIndex(t, box, name).Enter(t.Context(), "one", "c1"); err != nil {
			t.Fatal(err)
		}
	}
	var hashes []string
	natstest.Each(t, js, subject.StreamIndex, func(m jetstream.Msg) {
		hashes = append(hashes, m.Subject()[len(m.Subject())-67:])
	})
	if len(hashes) != 2 || hashes[0] == hashes[1] {
		t.Errorf("the entries are %v", hashes)
	}
}

// What was forgotten is nowhere in the stream's files.
func TestAForgottenEntryIsGoneFromTheFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := bus.Start(bus.Config{Dir: dir, MaxStore: natstest.MaxStore, MonitorPort: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	js := natstest.Connect(t, s.ClientURL())
	natstest.Migrate(t, js, 1)
	x := newIndex(t, newBox(t, js, 1), "identity")
	if _, err := x.Enter(t.Context(), "one", "child-to-forget"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Enter(t.Context(), "one", "child-to-stay"); err != nil {
		t.Fatal(err)
	}
	if err := x.Forget(t.Context(), "child-to-forget"); err != nil {
		t.Fatal(err)
	}
	if n := inBlocks(t, dir, subject.StreamIndex, "child-to-stay"); n == 0 {
		t.Error("what stays is not found: the search finds nothing")
	}
	if n := inBlocks(t, dir, subject.StreamIndex, "child-to-forget"); n > 0 {
		t.Errorf("the forgotten entry stands in the files %d times", n)
	}
}

// inBlocks counts a text in the files of a stream's messages.
func inBlocks(t *testing.T, dir, stream, text string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".blk" || filepath.Base(filepath.Dir(filepath.Dir(path))) != stream {
			return err
		}
		content, err := os.ReadFile(path)
		n += bytes.Count(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A follower that is the only one left would answer from what it has.
func TestWithTwoNodesLostNothingIsFoundAndNothingOpens(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	box := newBox(t, js, 1)
	sealed := mustSeal(t, box)
	x := newIndex(t, box, "identity")
	if _, err := x.Enter(t.Context(), "value", "c1"); err != nil {
		t.Fatal(err)
	}
	find := func() ([]string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return x.Find(ctx, "value")
	}
	open := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		return box.Open(ctx, "intake.child.c1", "details", sealed, &intakev1.ChildDetails{})
	}
	for _, s := range servers[1:] { // the first is connected
		s.Shutdown()
		s.WaitForShutdown()
	}
	natstest.Eventually(t, time.Minute, "it is said that nothing can be known", func() bool {
		_, err := find()
		return errors.Is(err, eventlog.ErrUnavailable) && errors.Is(open(), eventlog.ErrUnavailable)
	})
	for _, s := range servers[1:] {
		natstest.Again(t, s)
	}
	natstest.Eventually(t, time.Minute, "all is there again", func() bool {
		ids, err := find()
		return err == nil && slices.Equal(ids, []string{"c1"}) && open() == nil
	})
}

// A bus that goes away in the middle answers nothing, and that is not the answer that there is nothing: what is to be forgotten is still there.
func TestABusThatDoesNotAnswerIsNoEmptyIndex(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t)
	js := natstest.Connect(t, s.ClientURL())
	natstest.Migrate(t, js, 1)
	x := newIndex(t, newBox(t, js, 1), "identity")
	if _, err := x.Enter(t.Context(), "one", "c1"); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := x.Forget(ctx, "c1"); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("it is forgotten: %v", err)
	}
}
