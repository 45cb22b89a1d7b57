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

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// sealOne seals something of child c1.
func sealOne(ctx context.Context, box *seal.Box) (*eventv1.Sealed, error) {
	return box.Seal(ctx, "child-c1", "intake.child.c1", "details", &intakev1.ChildDetails{Name: "n"})
}

func mustSeal(t *testing.T, box *seal.Box) *eventv1.Sealed {
	t.Helper()
	s, err := sealOne(t.Context(), box)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, box *seal.Box, s *eventv1.Sealed) error {
	t.Helper()
	return box.Open(t.Context(), "intake.child.c1", "details", s, &intakev1.ChildDetails{})
}

// stored is what stands in the place of the key of child c1, and its sequence.
func stored(t *testing.T, js jetstream.JetStream) (*eventv1.WrappedKey, uint64) {
	t.Helper()
	keys, err := js.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := keys.GetLastMsgForSubject(t.Context(), subject.Key("child-c1"))
	if err != nil {
		t.Fatal(err)
	}
	w := &eventv1.WrappedKey{}
	if err := proto.Unmarshal(m.Data, w); err != nil {
		t.Fatal(err)
	}
	return w, m.Sequence
}

// remove removes the key of child c1 and puts no mark in its place, as a destruction does that is cut short there.
func remove(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	_, sequence := stored(t, js)
	keys, err := js.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.SecureDeleteMsg(t.Context(), sequence); err != nil {
		t.Fatal(err)
	}
}

// checkDestroyed checks that what was sealed opens no more, that nothing is sealed in its place, and that one mark stands for the key.
func checkDestroyed(t *testing.T, js jetstream.JetStream, box *seal.Box, sealed ...*eventv1.Sealed) {
	t.Helper()
	for _, s := range sealed {
		natstest.Eventually(t, 10*time.Second, "what was sealed opens no more on any replica", func() bool {
			return errors.Is(open(t, box, s), seal.ErrDestroyed)
		})
	}
	if s, err := sealOne(t.Context(), box); !errors.Is(err, seal.ErrDestroyed) || s != nil {
		t.Errorf("something is sealed again: %v, want %v", err, seal.ErrDestroyed)
	}
	if mark, _ := stored(t, js); len(mark.GetCiphertext()) != 0 || len(mark.GetNonce()) != 0 || mark.GetKeyId() != "child-c1" {
		t.Errorf("in the place of the key stand %d bytes of %s", len(mark.GetCiphertext()), mark.GetKeyId())
	}
	keys, err := js.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	if n := keys.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("the stream holds %d messages", n)
	}
}

// What a destroyed key sealed opens no more, in any process, and no other key is made under its name.
func TestNothingIsOpenedOrSealedUnderADestroyedKey(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box, other := newBox(t, js, 1), newBox(t, js, 1)
	s := mustSeal(t, box)
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	checkDestroyed(t, js, box, s)
	checkDestroyed(t, js, other, s)
}

func TestToDestroyAKeyAgainIsSilent(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	s := mustSeal(t, box)
	var first uint64
	for i := range 3 {
		if err := box.Destroy(t.Context(), "child-c1"); err != nil {
			t.Fatal(err)
		}
		_, sequence := stored(t, js)
		if i == 0 {
			first = sequence
		}
		if sequence != first {
			t.Errorf("the mark is made anew, at %d after %d", sequence, first)
		}
	}
	checkDestroyed(t, js, box, s)
}

// A key may be destroyed before it was made: then it never is.
func TestAKeyThatIsDestroyedBeforeItIsMadeIsNeverMade(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	checkDestroyed(t, js, box)
}

func TestOtherKeysAreNotDestroyed(t *testing.T) {
	t.Parallel()
	box := newBox(t, natstest.Bus(t), 1)
	s, err := box.Seal(t.Context(), "child-c11", "intake.child.c1", "details", &intakev1.ChildDetails{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	mustSeal(t, box)
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, box, s); err != nil {
		t.Errorf("under another key it opens with %v", err)
	}
}

// Who was ended after the key was removed and before the mark was made is followed by one who makes the mark.
func TestADestructionThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	s := mustSeal(t, box)
	remove(t, js)
	if err := open(t, box, s); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("in between it opens with %v, want %v", err, seal.ErrNoKey)
	}
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	checkDestroyed(t, js, box, s)
}

// A key that somebody makes between the two steps is destroyed as well, once the destruction is taken up again.
func TestAKeyMadeDuringADestructionIsDestroyedToo(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	before := mustSeal(t, box)
	remove(t, js)
	between := mustSeal(t, box)
	if err := open(t, box, before); !errors.Is(err, seal.ErrBroken) {
		t.Errorf("under the key made in between it opens with %v, want %v", err, seal.ErrBroken)
	}
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	checkDestroyed(t, js, box, before, between)
}

// Several who destroy a key at once, while others seal under it, leave one mark and no key.
func TestAKeyDestroyedBySeveralAtOnceIsDestroyedOnce(t *testing.T) {
	t.Parallel()
	_, three := natstest.Cluster(t, 3)
	for name, js := range map[string]jetstream.JetStream{"one server": natstest.Bus(t), "three replicas": three} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newBox(t, js, 1)
			sealed := []*eventv1.Sealed{mustSeal(t, box)}
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					if err := box.Destroy(t.Context(), "child-c1"); err != nil {
						t.Errorf("destroyed with %v", err)
					}
				})
				wg.Go(func() {
					for {
						s, err := sealOne(t.Context(), box)
						if err != nil {
							if !errors.Is(err, seal.ErrDestroyed) {
								t.Errorf("sealed with %v", err)
							}
							return
						}
						mu.Lock()
						sealed = append(sealed, s)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			checkDestroyed(t, js, box, sealed...)
		})
	}
}

// inFiles returns the files of the key stream that hold some bytes, on every server. The Raft log of a replicated stream is not one of them.
func inFiles(t *testing.T, servers []*server.Server, some []byte) (found []string) {
	t.Helper()
	for _, s := range servers {
		dirs, err := filepath.Glob(filepath.Join(s.StoreDir(), "*", "streams", subject.StreamKeys))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("the folders of the key stream are %v, %v", dirs, err)
		}
		_ = filepath.WalkDir(dirs[0], func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // a file that is gone in the meantime holds nothing
			}
			if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, some) {
				found = append(found, path)
			}
			return nil
		})
	}
	return found
}

// Of a destroyed key no byte is left in the stream's files, on one server.
func TestOfADestroyedKeyNothingIsLeftInTheFiles(t *testing.T) {
	t.Parallel()
	s := natstest.Run(t)
	js := natstest.Connect(t, s.ClientURL())
	natstest.Migrate(t, js, 1)
	checkFiles(t, js, s)
}

// The same on every one of three replicas.
func TestOfADestroyedKeyNothingIsLeftInTheFilesOfThreeReplicas(t *testing.T) {
	t.Parallel()
	servers, js := natstest.Cluster(t, 3)
	checkFiles(t, js, servers...)
}

// checkFiles looks for pieces of a wrapped key in the files, while it is there and when it is destroyed; keys before and after it stay.
func checkFiles(t *testing.T, js jetstream.JetStream, servers ...*server.Server) {
	t.Helper()
	box := newBox(t, js, 1)
	for _, neighbour := range []string{"child-c0", "child-c1", "child-c2"} {
		if _, err := box.Seal(t.Context(), neighbour, "intake.child.c1", "details", &intakev1.ChildDetails{Name: "n"}); err != nil {
			t.Fatal(err)
		}
	}
	key, _ := stored(t, js)
	pieces := [][]byte{key.GetNonce()}
	for piece := range slices.Chunk(key.GetCiphertext(), 8) {
		pieces = append(pieces, piece)
	}
	for _, piece := range pieces {
		natstest.Eventually(t, 10*time.Second, "the key is in the files of every server", func() bool { return len(inFiles(t, servers, piece)) == len(servers) })
	}
	if err := box.Destroy(t.Context(), "child-c1"); err != nil {
		t.Fatal(err)
	}
	for _, piece := range pieces {
		natstest.Eventually(t, 10*time.Second, "the key is in no file", func() bool { return len(inFiles(t, servers, piece)) == 0 })
	}
	for _, neighbour := range []string{"child-c0", "child-c2"} {
		if len(inFiles(t, servers, []byte(neighbour))) != len(servers) {
			t.Errorf("%s is gone too", neighbour)
		}
	}
}
