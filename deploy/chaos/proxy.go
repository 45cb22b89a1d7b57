package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// door is a way to a server that can be slowed down, held up and cut. A connection through it goes to the first of the addresses that answers,
// beginning with another one each time.
type door struct {
	listener net.Listener
	to       []string
	turn     atomic.Uint64
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	delay  time.Duration // for each piece that is passed on
	open   chan struct{} // closed while things pass
}

// newDoor opens a door.
func newDoor(to ...string) (*door, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("door: %w", err)
	}
	d := &door{listener: l, to: to, conns: make(map[net.Conn]bool), open: make(chan struct{})}
	close(d.open)
	d.wg.Go(d.accept)
	return d, nil
}

// addr is where it listens.
func (d *door) addr() string { return d.listener.Addr().String() }

func (d *door) accept() {
	for {
		in, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() { d.serve(in) })
	}
}

func (d *door) serve(in net.Conn) {
	out := d.dial()
	if out == nil {
		_ = in.Close()
		return
	}
	if !d.keep(in, out) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { d.pass(in, out) })
	both.Go(func() { d.pass(out, in) })
	both.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, in)
	delete(d.conns, out)
}

func (d *door) dial() net.Conn {
	first := d.turn.Add(1)
	for i := range d.to {
		to := d.to[(int(first)+i)%len(d.to)]
		if c, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", to); err == nil {
			return c
		}
	}
	return nil
}

// keep notes connections so that they can be cut; a door that was closed cuts them at once.
func (d *door) keep(conns ...net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		if d.closed {
			_ = c.Close()
		} else {
			d.conns[c] = true
		}
	}
	return !d.closed
}

// pass passes bytes on until one side ends; then it ends both.
func (d *door) pass(from, to net.Conn) {
	defer func() { _ = errors.Join(from.Close(), to.Close()) }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			d.mu.Lock()
			open, delay := d.open, d.delay
			d.mu.Unlock()
			<-open
			if delay > 0 {
				time.Sleep(delay)
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut resets all connections.
func (d *door) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// slow delays every piece that is passed on.
func (d *door) slow(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// shut lets nothing pass until the door is opened; connections stay, and new ones are taken. Opening an open door does nothing.
func (d *door) shut() (open func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.open:
	default:
		return func() {} // who shut it opens it
	}
	shut := make(chan struct{})
	d.open = shut
	return func() { close(shut) }
}

// close ends everything.
func (d *door) close() {
	_ = d.listener.Close()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cut()
	d.wg.Wait()
}
