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
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
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

// PublishMsg notes the wrapped key.
func (w *watched) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	key := &eventv1.WrappedKey{}
	if err := proto.Unmarshal(m.Data, key); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.wrapped = append(w.wrapped, key)
	w.mu.Unlock()
	w.at()
	defer w.at()
	return w.JetStream.PublishMsg(ctx, m, opts...)
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
