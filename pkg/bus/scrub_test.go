package bus_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// What was removed for good, but not overwritten when the server was killed, is overwritten before it starts again; all else is as it was. A
// plain removal leaves a stream as such a kill does.
func TestWhatWasRemovedIsOverwrittenBeforeABusStarts(t *testing.T) {
	t.Parallel()
	const keys, last = 6, 7
	secret := func(i int) []byte { return bytes.Repeat([]byte{byte(i), 0xa5, 0x5a}, 20+i) }
	for _, removed := range [][]uint64{{1}, {3}, {6}, {2, 5}, {1, 2, 3, 4, 5}} {
		t.Run(fmt.Sprint(removed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, js := startIn(t, dir)
			natstest.Migrate(t, js, 1)
			stream, err := js.Stream(t.Context(), subject.StreamKeys)
			if err != nil {
				t.Fatal(err)
			}
			for i := 1; i <= keys; i++ {
				m := &nats.Msg{Subject: subject.Key(fmt.Sprint("k", i)), Data: secret(i), Header: nats.Header{}}
				if i%2 == 0 { // their records have another form
					m.Header.Set("Any", "header")
				}
				if _, err := js.PublishMsg(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			for _, sequence := range removed {
				if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
					t.Fatal(err)
				}
			}
			for again := range 2 { // and again, with a stream that was scrubbed
				s.Shutdown()
				s.WaitForShutdown()
				if n := files(t, dir, secret(int(removed[0]))); again == 0 && n == 0 {
					t.Fatal("what was removed is in no file: the test would show nothing")
				}
				s, js = startIn(t, dir)
				for i := 1; i <= keys; i++ {
					is := files(t, dir, secret(i)) > 0
					if want := !slices.Contains(removed, uint64(i)); is != want {
						t.Errorf("that message %d is in a file is %v", i, is)
					}
				}
				checkKeys(t, js, keys, removed)
			}
			if ack, err := js.Publish(t.Context(), subject.Key("k9"), []byte{1}); err != nil || ack.Sequence != last {
				t.Errorf("the next message is %v, %v", ack, err)
			}
		})
	}
}

func TestScrubCountsWhatItOverwrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if n, err := bus.Scrub(dir); n != 0 || err != nil {
		t.Fatalf("of a bus that never ran: %d, %v", n, err)
	}
	s, js := startIn(t, dir)
	natstest.Migrate(t, js, 1)
	for _, subj := range []string{subject.Key("k1"), subject.Key("k2"), subject.Index("identity", "h", "c1"), subject.Index("identity", "h", "c2")} {
		if _, err := js.Publish(t.Context(), subj, []byte("something")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{subject.StreamKeys, subject.StreamIndex} {
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.DeleteMsg(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	s.Shutdown()
	s.WaitForShutdown()
	for _, want := range []int{2, 0} {
		if n, err := bus.Scrub(dir); n != want || err != nil {
			t.Errorf("%d messages are overwritten, want %d (%v)", n, want, err)
		}
	}
}

func startIn(t *testing.T, dir string) (*server.Server, jetstream.JetStream) {
	t.Helper()
	s := start(t, bus.Config{Dir: dir, MonitorPort: -1})
	return s, natstest.Connect(t, s.ClientURL())
}

// checkKeys checks that the stream holds all messages but those removed.
func checkKeys(t *testing.T, js jetstream.JetStream, keys int, removed []uint64) {
	t.Helper()
	stream, err := js.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	if s := stream.CachedInfo().State; s.Msgs != uint64(keys-len(removed)) || s.LastSeq != uint64(keys) {
		t.Errorf("it holds %d messages up to %d", s.Msgs, s.LastSeq)
	}
	for i := uint64(1); i <= uint64(keys); i++ {
		_, err := stream.GetMsg(t.Context(), i)
		if want := !slices.Contains(removed, i); (err == nil) != want {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

// files is how many files below a folder hold something.
func files(t *testing.T, dir string, what []byte) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, what) {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
