package chaos

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that repeats every line.
func echo(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return l.Addr().String()
}

type line struct {
	net.Conn
	r *bufio.Reader
}

func through(t *testing.T, d *door) line {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", d.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return line{c, bufio.NewReader(c)}
}

// says sends a line and returns what came back in time.
func (l line) says(within time.Duration) (string, error) {
	if _, err := l.Write([]byte("x\n")); err != nil {
		return "", err
	}
	_ = l.SetReadDeadline(time.Now().Add(within))
	return l.r.ReadString('\n')
}

func TestADoorPassesDelaysHoldsUpAndCuts(t *testing.T) {
	t.Parallel()
	d, err := newDoor("127.0.0.1:1", echo(t)) // nobody listens at the first
	if err != nil {
		t.Fatal(err)
	}
	l := through(t, d)
	if got, err := l.says(10 * time.Second); got != "x\n" {
		t.Fatalf("it answers %q, %v", got, err)
	}
	d.slow(50 * time.Millisecond)
	begun := time.Now()
	if got, err := l.says(10 * time.Second); got != "x\n" || time.Since(begun) < 100*time.Millisecond {
		t.Errorf("slowed down it answers %q, %v after %s", got, err, time.Since(begun))
	}
	d.slow(0)
	open := d.shut()
	if got, err := l.says(50 * time.Millisecond); err == nil {
		t.Errorf("shut it answers %q", got)
	}
	again := d.shut() // somebody else's opens nothing
	again()
	open()
	_ = l.SetReadDeadline(time.Now().Add(10 * time.Second))
	if got, err := l.r.ReadString('\n'); got != "x\n" {
		t.Errorf("what was held up comes as %q, %v", got, err)
	}
	d.cut()
	if got, err := l.says(10 * time.Second); err == nil {
		t.Errorf("cut it answers %q", got)
	}
	if got, err := through(t, d).says(10 * time.Second); got != "x\n" {
		t.Errorf("after that it answers %q, %v", got, err)
	}
	d.close()
	if _, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", d.addr()); err == nil {
		t.Error("a closed door can be gone through")
	}
}
