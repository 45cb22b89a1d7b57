package seal_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

func newMaster(t *testing.T, fill byte) *seal.Master {
	t.Helper()
	m, err := seal.NewMaster(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newBox(t *testing.T, js jetstream.JetStream, fill byte) *seal.Box {
	t.Helper()
	box, err := seal.NewBox(t.Context(), js, newMaster(t, fill))
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// What to do is said of a stream that is not there, and another thing of a bus that does not answer.
func TestWithoutItsStreamABoxSaysWhatToDo(t *testing.T) {
	t.Parallel()
	js := natstest.Connect(t, natstest.Run(t).ClientURL())
	if _, err := seal.NewBox(t.Context(), js, newMaster(t, 1)); !errors.Is(err, jetstream.ErrStreamNotFound) || !strings.Contains(err.Error(), "tongan migrate") {
		t.Errorf("without a stream: %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := seal.NewBox(late, js, newMaster(t, 1)); !errors.Is(err, eventlog.ErrNoAnswer) || strings.Contains(err.Error(), "tongan migrate") {
		t.Errorf("without an answer: %v", err)
	}
}

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	details := &intakev1.ChildDetails{Name: "标识-7f3a", Phone: "19900000001"}
	s, err := box.Seal(t.Context(), "child-c1", "intake.child.c1", "details", details)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(s.GetCiphertext(), []byte("7f3a")) {
		t.Fatal("the name can be read in the sealed field")
	}
	got := &intakev1.ChildDetails{}
	if err := box.Open(t.Context(), "intake.child.c1", "details", s, got); err != nil || !proto.Equal(got, details) {
		t.Fatalf("opened with %v", err)
	}
	for name, try := range map[string]func() error{
		"another aggregate": func() error { return box.Open(t.Context(), "intake.child.c2", "details", s, got) },
		"another field":     func() error { return box.Open(t.Context(), "intake.child.c1", "note", s, got) },
		"another master key": func() error {
			return newBox(t, js, 2).Open(t.Context(), "intake.child.c1", "details", s, got)
		},
		"a changed byte": func() error {
			changed := proto.CloneOf(s)
			changed.Ciphertext[0] ^= 1
			return box.Open(t.Context(), "intake.child.c1", "details", changed, got)
		},
		"a short nonce": func() error {
			changed := proto.CloneOf(s)
			changed.Nonce = nil
			return box.Open(t.Context(), "intake.child.c1", "details", changed, got)
		},
	} {
		if err := try(); !errors.Is(err, seal.ErrBroken) {
			t.Errorf("%s: %v, want %v", name, err, seal.ErrBroken)
		}
	}
	if err := box.Open(t.Context(), "intake.child.c1", "details", s, &intakev1.CaseNote{}); err == nil {
		t.Error("opened as another message")
	}
}

// Removing the wrapped key from its stream makes what was sealed unreadable at once.
func TestADestroyedKeyOpensNothing(t *testing.T) {
	t.Parallel()
	js := natstest.Bus(t)
	box := newBox(t, js, 1)
	s, err := box.Seal(t.Context(), "child-c1", "intake.child.c1", "details", &intakev1.ChildDetails{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(t.Context(), subject.Key("child-c1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SecureDeleteMsg(t.Context(), m.Sequence); err != nil {
		t.Fatal(err)
	}
	if err := box.Open(t.Context(), "intake.child.c1", "details", s, &intakev1.ChildDetails{}); !errors.Is(err, seal.ErrNoKey) {
		t.Fatalf("error is %v, want %v", err, seal.ErrNoKey)
	}
}

func TestKeysMadeAtOnceAreOne(t *testing.T) {
	t.Parallel()
	box := newBox(t, natstest.Bus(t), 1)
	sealed := make([]*eventv1.Sealed, 16)
	var wg sync.WaitGroup
	for i := range sealed {
		wg.Go(func() {
			var err error
			if sealed[i], err = box.Seal(t.Context(), "child-c1", "intake.child.c1", "details", &intakev1.ChildDetails{Name: "n"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range sealed {
		if err := box.Open(t.Context(), "intake.child.c1", "details", s, &intakev1.ChildDetails{}); err != nil {
			t.Error(err)
		}
	}
}

func TestMasterKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys", "master.key")
	if _, err := seal.LoadMaster(path); err == nil {
		t.Fatal("a missing file was loaded")
	}
	if _, err := seal.CreateMaster(path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	if _, err := seal.CreateMaster(path); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Fatal("the key was made anew")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.LoadMaster(path); err == nil || !strings.Contains(err.Error(), "must be 600") {
		t.Fatalf("a file that others may read: %v", err)
	}
}

// A file that is not as it must be is refused by its name and the rule; nothing that stands in it is repeated.
func TestWhichMasterKeyFilesAreRefused(t *testing.T) {
	t.Parallel()
	const k1, k2 = "bWFzdGVyLWtleS1maWxlLWZvci10ZXN0cy1udW1iZXI=", "bWFzdGVyLWtleS1maWxlLWZvci10ZXN0cy1udW1iZXM="
	const form = ": is not tongan-master-key:<version>:<32 bytes in base64>"
	path := filepath.Join(t.TempDir(), "master.key")
	for text, rule := range map[string]string{
		"":                                      "line 1" + form,
		"short":                                 "line 1" + form,
		"tongan-master-key:1:" + k1[:20] + "\n": "line 1" + form,
		"tongan-master-key:one:" + k1 + "\n":    "line 1" + form,
		"tongan-master-key:" + k1 + "\n":        "line 1" + form,
		"tongan-master-key:1:" + k1 + "\n" + k2 + "\n":                        "line 2" + form,
		"tongan-master-key:1:" + k1 + "\n\ntongan-master-key:2:" + k2:         "line 2" + form,
		"tongan-master-key:0:" + k1 + "\n":                                    "line 1: the version must be 1 or more",
		"tongan-master-key:2:" + k1 + "\ntongan-master-key:2:" + k2 + "\n":    "line 2: the version must not be there twice",
		"tongan-master-key:4294967297:" + k1 + "\n":                           "line 1" + form,
		"tongan-master-key:1:" + k1 + "\ntongan-master-key:2:" + k2 + "\n":    "",
		"tongan-master-key:12:" + k1 + "\r\ntongan-master-key:7:" + k2 + "\n": "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := seal.LoadMaster(path)
		if rule == "" && err != nil || rule != "" && (err == nil || err.Error() != "master key "+path+": "+rule) {
			t.Errorf("%q: %v, want %q", text, err, rule)
		}
	}
}
