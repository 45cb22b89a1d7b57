package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Two services make, open and destroy keys while the master key is rotated, several times. What was sealed opens after it, what was
// destroyed stays so, and neither service needs a restart.
func TestTheMasterKeyIsRotatedWhileServicesGoOn(t *testing.T) {
	t.Parallel()
	v := alone(t)
	boxes := []*seal.Box{v.box(t), v.box(t)}
	var mu sync.Mutex
	sealed, destroyed := make(map[string]*eventv1.Sealed), make(map[string]bool)
	one := func() *eventv1.Sealed {
		mu.Lock()
		defer mu.Unlock()
		for id, s := range sealed {
			if !destroyed[id] {
				return s
			}
		}
		return nil
	}
	turns := make(chan int)
	var wg sync.WaitGroup
	for i, box := range boxes {
		for range 3 {
			wg.Go(func() {
				for n := range turns {
					s, err := sealFor(t.Context(), box, fmt.Sprintf("c%d", n))
					if err != nil {
						t.Errorf("sealed with %v", err)
						continue
					}
					if err := openFor(t.Context(), boxes[1-i], s); err != nil {
						t.Errorf("the other service opens it with %v", err)
					}
					if other := one(); other != nil {
						if err := openFor(t.Context(), box, other); err != nil {
							t.Errorf("another one opens with %v", err)
						}
					}
					if n%3 == 0 {
						if err := box.Destroy(t.Context(), s.GetKeyId()); err != nil {
							t.Errorf("destroyed with %v", err)
						}
					}
					mu.Lock()
					sealed[s.GetKeyId()], destroyed[s.GetKeyId()] = s, n%3 == 0
					mu.Unlock()
				}
			})
		}
	}
	n, looked := 0, 0
	for ; n < 40; n++ {
		turns <- n
	}
	for range 3 {
		r := &seal.Rotation{Progress: func(int, int) {
			if looked++; looked%4 != 0 {
				return // more would be made than looked at
			}
			select {
			case turns <- n:
				n++
			default:
			}
		}}
		if err := v.file.Rotate(t.Context(), v, r); err != nil || !r.Begun || r.Wrapped == 0 {
			t.Errorf("%v: begun is %v, %d keys were wrapped again", err, r.Begun, r.Wrapped)
		}
	}
	close(turns)
	wg.Wait()
	r := v.mustRotate(t) // with nothing beside, so that all that is left is of before
	for id, s := range sealed {
		want := error(nil)
		if destroyed[id] {
			want = seal.ErrDestroyed
		}
		for _, box := range append(boxes, v.box(t)) {
			if err := openFor(t.Context(), box, s); !errors.Is(err, want) {
				t.Errorf("%s opens with %v, want %v", id, err, want)
			}
		}
	}
	if r.Wrapped+r.Destroyed != len(sealed) {
		t.Errorf("%d keys were wrapped again and %d passed over, of %d", r.Wrapped, r.Destroyed, len(sealed))
	}
	v.check(t, 5)
	t.Logf("%d keys, 40 of them before", len(sealed))
}

// A rotation that is ended at any point is finished by the next one, which adds no other version; a key destroyed in between stays so.
func TestARotationThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	v := alone(t)
	box := v.box(t)
	var sealed []*eventv1.Sealed
	destroyed := make(map[string]bool)
	destroy := func(s *eventv1.Sealed) {
		if err := box.Destroy(t.Context(), s.GetKeyId()); err != nil {
			t.Fatal(err)
		}
		destroyed[s.GetKeyId()] = true
	}
	check := func(when string) {
		for _, s := range sealed {
			want := error(nil)
			if destroyed[s.GetKeyId()] {
				want = seal.ErrDestroyed
			}
			if err := openFor(t.Context(), box, s); !errors.Is(err, want) {
				t.Fatalf("%s: %s opens with %v, want %v", when, s.GetKeyId(), err, want)
			}
		}
	}
	mustSealFor := func(child string) *eventv1.Sealed {
		s, err := sealFor(t.Context(), box, child)
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, s)
		return s
	}
	for i := range 3 {
		mustSealFor(fmt.Sprintf("c%d", i))
	}
	for n := 1; ; n++ {
		var between *eventv1.Sealed
		if n%8 == 0 { // seldom: of each a mark is left, which is one more to look at
			between = mustSealFor(fmt.Sprintf("between%d", n))
		}
		ctx, cut := context.WithCancel(t.Context())
		var count atomic.Int64
		at := func() {
			if count.Add(1) == int64(n) {
				cut()
			}
		}
		v.at = at
		r := &seal.Rotation{Progress: func(int, int) { at() }}
		err := v.file.Rotate(ctx, v, r)
		v.at = func() {}
		if err == nil {
			cut()
			t.Logf("%d points", n-1)
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		check(fmt.Sprintf("cut at %d", n))
		if between != nil {
			destroy(between)
		}
		again := v.mustRotate(t)
		if begun := len(r.After) == 1; again.Begun != begun || again.After[0] != again.Before[0]+1 {
			t.Errorf("cut at %d, the file had %v, %v: begun anew is %v", n, r.Before, r.After, again.Begun)
		}
		v.check(t, again.After[0])
		check(fmt.Sprintf("finished after %d", n))
	}
}

// A key whose maker looked into the file before a rotation and stores it after is wrapped again by its maker.
func TestAKeyStoredAfterARotationIsWrappedUnderItsVersion(t *testing.T) {
	t.Parallel()
	v := alone(t)
	box := v.box(t)
	var once sync.Once
	v.at = func() { once.Do(func() { v.mustRotate(t) }) }
	s, err := sealFor(t.Context(), box, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := openFor(t.Context(), v.box(t), s); err != nil {
		t.Errorf("it opens with %v", err)
	}
	if w, _ := stored(t, v); w.GetMasterVersion() != 2 {
		t.Errorf("it is wrapped under version %d", w.GetMasterVersion())
	}
	v.mustRotate(t)
	v.check(t, 3)
}

// For files that are copied to other machines the version is added first: it wraps at once, and nothing is removed.
func TestAVersionThatIsOnlyAddedWrapsNewKeys(t *testing.T) {
	t.Parallel()
	v := alone(t)
	box := v.box(t)
	before, err := sealFor(t.Context(), box, "c0")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to add
		r := &seal.Rotation{AddOnly: true, Progress: func(int, int) {}}
		if err := v.file.Rotate(t.Context(), v, r); err != nil || !slices.Equal(r.After, []uint32{1, 2}) {
			t.Fatalf("the file has %v, %v", r.After, err)
		}
	}
	after := mustSeal(t, box)
	if w, _ := stored(t, v); w.GetMasterVersion() != 2 {
		t.Errorf("a new key is wrapped under version %d", w.GetMasterVersion())
	}
	if r := v.mustRotate(t); r.Begun || r.Wrapped != 1 {
		t.Errorf("begun is %v, %d keys were wrapped again", r.Begun, r.Wrapped)
	}
	if err := errors.Join(open(t, box, after), openFor(t.Context(), box, before)); err != nil {
		t.Error(err)
	}
	v.check(t, 2)
}

// As long as keys come up under an earlier version, be it from somebody with a copy of the earlier file, they are wrapped again and the file
// keeps the version.
func TestAVersionStaysUntilNoKeyNeedsIt(t *testing.T) {
	t.Parallel()
	v := alone(t)
	text, err := os.ReadFile(v.file.Path)
	if err != nil {
		t.Fatal(err)
	}
	earlier := seal.File{Path: filepath.Join(t.TempDir(), "copy.key")}
	if err := os.WriteFile(earlier.Path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := earlier.Box(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	first, err := sealFor(t.Context(), elsewhere, "first")
	if err != nil {
		t.Fatal(err)
	}
	sealed := []*eventv1.Sealed{first}
	r := &seal.Rotation{Progress: func(done, _ int) {
		if done > 1 || len(sealed) == 5 {
			return
		}
		s, err := sealFor(t.Context(), elsewhere, fmt.Sprintf("late%d", len(sealed)))
		if err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(v.file.Path); err != nil || !bytes.HasPrefix(now, text) {
			t.Errorf("in pass %d the version is gone", len(sealed))
		}
		sealed = append(sealed, s)
	}}
	if err := v.file.Rotate(t.Context(), v, r); err != nil || r.Wrapped != 5 {
		t.Fatalf("%d keys were wrapped again, %v", r.Wrapped, err)
	}
	for _, s := range sealed {
		if err := openFor(t.Context(), v.box(t), s); err != nil {
			t.Errorf("%s opens with %v", s.GetKeyId(), err)
		}
	}
	v.check(t, 2)
}

// Of a key that is destroyed between the steps of a rotation nothing is left in the files, be it there once or twice.
func TestOfAKeyDestroyedDuringARotationNothingIsLeftInTheFiles(t *testing.T) {
	t.Parallel()
	v := alone(t)
	box := v.box(t)
	s := mustSeal(t, box)
	v.mustRotate(t)
	ctx, cut := context.WithCancel(t.Context())
	var count int
	v.at = func() {
		if count++; count == 2 { // after it is wrapped again, before the earlier one is overwritten
			cut()
		}
	}
	if _, err := v.rotate(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	v.at = func() {}
	keys, err := v.JetStream.Stream(t.Context(), subject.StreamKeys)
	if err != nil || keys.CachedInfo().State.Msgs != 2 {
		t.Fatalf("the key stands there %d times, %v", keys.CachedInfo().State.Msgs, err)
	}
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	checkDestroyed(t, v, box, s)
	v.check(t, 0)
	v.mustRotate(t)
	checkDestroyed(t, v, box, s)
}

func TestTheMasterKeyIsRotatedOnThreeReplicas(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	v := newVault(t, js, servers...)
	box := v.box(t)
	var sealed []*eventv1.Sealed
	for i := range 12 {
		s, err := sealFor(t.Context(), box, fmt.Sprintf("c%d", i))
		if err != nil {
			t.Fatal(err)
		}
		sealed = append(sealed, s)
	}
	if err := box.Destroy(t.Context(), "child-c0"); err != nil {
		t.Fatal(err)
	}
	if r := v.mustRotate(t); r.Wrapped != 11 || r.Destroyed != 1 {
		t.Errorf("%d keys were wrapped again, %d passed over", r.Wrapped, r.Destroyed)
	}
	for _, s := range sealed[1:] {
		if err := openFor(t.Context(), box, s); err != nil {
			t.Errorf("%s opens with %v", s.GetKeyId(), err)
		}
	}
	v.check(t, 2)
}

// With a file that does not open every key nothing is begun.
func TestNothingIsRotatedWhereAKeyDoesNotOpen(t *testing.T) {
	t.Parallel()
	v := alone(t)
	mustSeal(t, v.box(t))
	other := newVault(t, v.JetStream, v.servers...)
	before, _ := os.ReadFile(other.file.Path)
	_, err := other.rotate(t.Context())
	if !errors.Is(err, seal.ErrBroken) || !strings.Contains(err.Error(), "1 keys") || strings.Contains(err.Error(), "c1") {
		t.Errorf("rotated with %v", err)
	}
	if after, _ := os.ReadFile(other.file.Path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
}

func TestOneRotationOfAFileAtATime(t *testing.T) {
	t.Parallel()
	v := alone(t)
	mustSeal(t, v.box(t))
	second := func(int, int) {
		if _, err := v.rotate(t.Context()); err == nil || !strings.Contains(err.Error(), "another rotation") {
			t.Errorf("a second one at once: %v", err)
		}
	}
	if err := v.file.Rotate(t.Context(), v, &seal.Rotation{Progress: second}); err != nil {
		t.Fatal(err)
	}
}

// What a write that was ended left beside the file is in nobody's way, and is gone after the next one.
func TestAnUnfinishedFileIsReplaced(t *testing.T) {
	t.Parallel()
	v := alone(t)
	if err := os.WriteFile(v.file.Path+".new", []byte("tongan-master-key:9:"), 0o644); err != nil { //nolint:gosec // its mode must not be taken over
		t.Fatal(err)
	}
	v.mustRotate(t)
}

// In the key stream of an earlier release what is replaced is dropped, and its bytes stay.
func TestNothingIsRotatedInAKeyStreamOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	v := alone(t)
	mustSeal(t, v.box(t))
	keys, err := v.JetStream.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	earlier := keys.CachedInfo().Config
	earlier.MaxMsgsPerSubject = 1
	if _, err := v.UpdateStream(t.Context(), earlier); err != nil {
		t.Fatal(err)
	}
	if _, err := v.rotate(t.Context()); err == nil || !strings.Contains(err.Error(), "tongan migrate") {
		t.Errorf("rotated with %v", err)
	}
	natstest.Migrate(t, v, 1)
	v.mustRotate(t)
	v.check(t, 2)
}
