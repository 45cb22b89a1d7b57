package bus_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
)

// A stream that could not be written once takes nothing more. The bus says so, and goes on by itself when it can: with all that it
// acknowledged, and without cutting a connection.
func TestABusThatCouldNotWriteGoesOnByItself(t *testing.T) {
	t.Parallel()
	dir, logged := t.TempDir(), &natstest.Lines{}
	s := start(t, bus.Config{Dir: dir, MonitorPort: -1, Log: slog.New(slog.NewTextHandler(logged, nil))})
	js := natstest.Connect(t, s.ClientURL(), nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
		if err != nil {
			t.Errorf("the connection was cut: %v", err)
		}
	}))
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	read, err := consumer.Messages(jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer read.Stop()
	// Where the second file of the stream will be, there is a folder: as good as a disk that is full.
	taken := filepath.Join(s.JetStreamConfig().StoreDir, "$G", "streams", "S", "msgs", "2.blk")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for publish(t, js) == nil {
		stored++
	}
	natstest.Eventually(t, 10*time.Second, "it says so", func() bool { return strings.Contains(logged.String(), `level=ERROR msg="the bus does not store"`) })
	natstest.Eventually(t, 30*time.Second, "it stores again", func() bool {
		_ = os.Remove(taken) // again, since a start that fails puts back what was there
		return publish(t, js) == nil
	})
	stored++
	for i := range stored {
		if _, err := read.Next(jetstream.NextMaxWait(20 * time.Second)); err != nil {
			t.Fatalf("a reader that was there before has %d of %d: %v", i, stored, err)
		}
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != uint64(stored) {
		t.Errorf("it holds %d messages, %v; acknowledged were %d", info.State.Msgs, err, stored)
	}
	if !s.JetStreamConfig().SyncAlways {
		t.Error("it does not sync every message any more")
	}
	if !strings.Contains(logged.String(), "the bus stores again") {
		t.Errorf("it does not say that it does:\n%s", logged)
	}
}

func publish(t *testing.T, js jetstream.JetStream) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := js.Publish(ctx, "s", make([]byte, 100_000), jetstream.WithRetryAttempts(0))
	return err
}

// A server that cannot use the folder of a stream while it starts would remove it.
func TestAStreamThatDoesNotComeUpIsNotLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := bus.Config{Dir: dir, MonitorPort: -1, MaxStore: natstest.MaxStore}
	s, err := bus.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	js := natstest.Connect(t, s.ClientURL())
	for _, name := range []string{"S", "other"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		if err := publish(t, js); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(s.JetStreamConfig().StoreDir, "$G", "streams", "S", "obs")
	s.Shutdown()
	s.WaitForShutdown()
	if err := errors.Join(os.Remove(folder), os.WriteFile(folder, nil, 0o600)); err != nil { // a file where it wants a folder
		t.Fatal(err)
	}
	for range 2 {
		if _, err := bus.Start(cfg); !errors.Is(err, bus.ErrNotRecovered) || !strings.Contains(err.Error(), "streams/S") || strings.Contains(err.Error(), "other") {
			t.Fatalf("it starts: %v", err)
		}
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	js = natstest.Connect(t, start(t, cfg).ClientURL())
	stream, err := js.Stream(t.Context(), "S")
	if err != nil || stream.CachedInfo().State.Msgs != 10 {
		t.Fatalf("it is not as it was: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "kept")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("second names of the files stay: %v", err)
	}
}
