package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// watched is a connection to a real bus that tells of what goes to the key stream: at is called before and after each change of it.
type watched struct {
	jetstream.JetStream
	at func()

	mu      sync.Mutex
	wrapped []*eventv1.WrappedKey // all that were ever sent
}

// Publish notes the wrapped key.
func (w *watched) Publish(ctx context.Context, subj string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	key := &eventv1.WrappedKey{}
	if err := proto.Unmarshal(data, key); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.wrapped = append(w.wrapped, key)
	w.mu.Unlock()
	w.at()
	defer w.at()
	return w.JetStream.Publish(ctx, subj, data, opts...)
}

// Stream returns a stream that tells too.
func (w *watched) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := w.JetStream.Stream(ctx, name)
	return &watchedStream{s, w}, err
}

type watchedStream struct {
	jetstream.Stream
	of *watched
}

// SecureDeleteMsg tells of it.
func (s *watchedStream) SecureDeleteMsg(ctx context.Context, sequence uint64) error {
	s.of.at()
	defer s.of.at()
	return s.Stream.SecureDeleteMsg(ctx, sequence)
}

// vault is a bus with a key stream, and a master key file.
type vault struct {
	*watched
	servers []*server.Server
	file    seal.File
}

func newVault(t *testing.T, js jetstream.JetStream, servers ...*server.Server) *vault {
	t.Helper()
	v := &vault{&watched{JetStream: js, at: func() {}}, servers, seal.File{Path: filepath.Join(t.TempDir(), "master.key")}}
	if _, err := seal.CreateMaster(v.file.Path); err != nil {
		t.Fatal(err)
	}
	return v
}

// alone is a vault on one server.
func alone(t *testing.T) *vault {
	t.Helper()
	s := natstest.Run(t)
	js := natstest.Connect(t, s.ClientURL())
	natstest.Migrate(t, js, 1)
	return newVault(t, js, s)
}

// box is what a service has.
func (v *vault) box(t *testing.T) *seal.Box {
	t.Helper()
	box, err := v.file.Box(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func (v *vault) rotate(ctx context.Context) (*seal.Rotation, error) {
	r := &seal.Rotation{Progress: func(int, int) {}}
	return r, v.file.Rotate(ctx, v, r)
}

// mustRotate rotates to the end, and checks that the file has one version only.
func (v *vault) mustRotate(t *testing.T) *seal.Rotation {
	t.Helper()
	r, err := v.rotate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(v.file.Path)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("tongan-master-key:%d:", r.After[0]); len(r.After) != 1 || !bytes.HasPrefix(text, []byte(want)) || bytes.Count(text, []byte("\n")) != 1 {
		t.Errorf("versions %v are left, the file has %d lines", r.After, bytes.Count(text, []byte("\n")))
	}
	files, err := os.ReadDir(filepath.Dir(v.file.Path))
	if info, there := os.Stat(v.file.Path); err != nil || there != nil || len(files) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("in the folder are %v, %v", files, err)
	}
	return r
}

// sealFor seals something of a child.
func sealFor(ctx context.Context, box *seal.Box, child string) (*eventv1.Sealed, error) {
	return box.Seal(ctx, "child-"+child, "intake.child."+child, "details", &intakev1.ChildDetails{Name: child})
}

// openFor opens what sealFor sealed.
func openFor(ctx context.Context, box *seal.Box, s *eventv1.Sealed) error {
	child := strings.TrimPrefix(s.GetKeyId(), "child-")
	details := &intakev1.ChildDetails{}
	err := box.Open(ctx, "intake.child."+child, "details", s, details)
	if err == nil && details.GetName() != child {
		return errors.New("it holds something else")
	}
	return err
}

// check checks that each key stands in the stream once and under this version, and that no byte of what was ever stored beside is in the
// stream's files.
func (v *vault) check(t *testing.T, version uint32) {
	t.Helper()
	stands := make(map[string]*eventv1.WrappedKey)
	natstest.Each(t, v.JetStream, subject.StreamKeys, func(m jetstream.Msg) {
		w := &eventv1.WrappedKey{}
		if err := proto.Unmarshal(m.Data(), w); err != nil {
			t.Fatal(err)
		}
		if stands[w.GetKeyId()] != nil {
			t.Errorf("%s stands there twice", w.GetKeyId())
		}
		if len(w.GetCiphertext()) > 0 && w.GetMasterVersion() != version {
			t.Errorf("%s is wrapped under version %d", w.GetKeyId(), w.GetMasterVersion())
		}
		stands[w.GetKeyId()] = w
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	natstest.Eventually(t, 10*time.Second, "of what was wrapped before nothing is in the files", func() bool {
		files := v.files(t)
		return !slices.ContainsFunc(v.wrapped, func(w *eventv1.WrappedKey) bool {
			if len(w.GetCiphertext()) == 0 || bytes.Equal(stands[w.GetKeyId()].GetCiphertext(), w.GetCiphertext()) {
				return false
			}
			pieces := append(slices.Collect(slices.Chunk(w.GetCiphertext(), 8)), w.GetNonce())
			return slices.ContainsFunc(pieces, func(piece []byte) bool { return bytes.Contains(files, piece) })
		})
	})
	files := v.files(t)
	for id, w := range stands {
		if n := bytes.Count(files, w.GetCiphertext()); len(w.GetCiphertext()) > 0 && n != len(v.servers) {
			t.Errorf("what stands for %s is in the files %d times", id, n)
		}
	}
}

// files is what the files of the key stream hold, on every server.
func (v *vault) files(t *testing.T) []byte {
	t.Helper()
	var all []byte
	for _, s := range v.servers {
		dirs, err := filepath.Glob(filepath.Join(s.StoreDir(), "*", "streams", subject.StreamKeys))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("the folders of the key stream are %v, %v", dirs, err)
		}
		_ = filepath.WalkDir(dirs[0], func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				content, _ := os.ReadFile(path) // a file that is gone in the meantime holds nothing
				all = append(all, content...)
			}
			return nil
		})
	}
	return all
}

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
