package natstest

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// Lossy opens a way to a server on which the first that the server sends with a text in it is lost while the connection stays, as when one
// between two servers breaks. It ends with the test, which fails if nothing was lost.
func Lossy(tb testing.TB, url, text string) (way string) {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var lost atomic.Bool
	tb.Cleanup(func() {
		_ = listener.Close()
		if !lost.Load() {
			tb.Errorf("nothing with %q was lost", text)
		}
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", strings.TrimPrefix(url, "nats://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(&leak{client, []byte(text), &lost}, server); _ = client.Close() }()
		}
	}()
	return "nats://" + listener.Addr().String()
}

// leak passes on what is written but for the first that has the text in it.
type leak struct {
	to   io.Writer
	text []byte
	lost *atomic.Bool
}

func (l *leak) Write(p []byte) (int, error) {
	if bytes.Contains(p, l.text) && l.lost.CompareAndSwap(false, true) {
		return len(p), nil
	}
	return l.to.Write(p)
}
