package chengine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"time"
)

const (
	frontConns       = 1024 // at once; more wait, since this process has other uses for its descriptors
	handshakeTimeout = 10 * time.Second
	acceptPause      = 100 * time.Millisecond
)

// front is the way into the engine by TLS. As a local program the engine opens
// no such interface ("SYSTEM START/STOP LISTEN in clickhouse-local supports
// only TCP and HTTP listeners"), so this process takes the connections and
// hands on what they say to the engine's interfaces, which stay on loopback.
type front struct {
	http, tcp net.Listener
	config    *tls.Config
	log       *slog.Logger
	places    chan struct{}
	served    sync.WaitGroup
	closed    chan struct{}

	mu   sync.Mutex
	open map[net.Conn]bool // guarded by mu; nil when closed
}

// newFront takes the ports, without letting anybody in yet.
func newFront(ctx context.Context, cfg Config) (*front, error) {
	config, err := cfg.TLS.Server()
	if err != nil {
		return nil, fmt.Errorf("--clickhouse-%w", err)
	}
	f := &front{config: config, log: cfg.Log, places: make(chan struct{}, frontConns), closed: make(chan struct{}), open: make(map[net.Conn]bool)}
	if f.http, err = listen(ctx, cfg.host(), cfg.HTTPPort); err != nil {
		return nil, err
	}
	if f.tcp, err = listen(ctx, cfg.host(), cfg.TCPPort); err != nil {
		_ = f.http.Close()
		return nil, err
	}
	return f, nil
}

// query is what a DSN says beside the address: that there is TLS, and under which name if the certificate is not for the address.
func (f *front) query(addr string) url.Values {
	q := url.Values{"secure": {"true"}}
	host, _, err := net.SplitHostPort(addr)
	leaf := f.config.Certificates[0].Leaf
	if err == nil && leaf.VerifyHostname(host) != nil && len(leaf.DNSNames) > 0 {
		q.Set("tls_server_name", leaf.DNSNames[0])
	}
	return q
}

// serve lets everybody in who has a connection by TLS, until close.
func (f *front) serve(httpAddr, tcpAddr string) {
	f.served.Go(func() { f.accept(f.http, httpAddr) })
	f.served.Go(func() { f.accept(f.tcp, tcpAddr) })
}

func (f *front) accept(l net.Listener, to string) {
	for {
		f.places <- struct{}{}
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			<-f.places
			return
		}
		if err != nil { // for want of descriptors, say; that passes
			f.log.Warn("engine: accept a connection", "error", err)
			<-f.places
			select {
			case <-f.closed:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		f.served.Go(func() {
			defer func() { <-f.places }()
			f.forward(conn, to)
		})
	}
}

// forward hands on what client and engine say, until both have ended or front is closed.
func (f *front) forward(conn net.Conn, to string) {
	if !f.keep(conn) {
		return
	}
	defer f.drop(conn)
	client := tls.Server(conn, f.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := client.HandshakeContext(ctx); err != nil {
		f.log.Debug("engine: connection refused", "from", conn.RemoteAddr(), "error", err)
		return
	}
	engine, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		f.log.Warn("engine: hand on a connection", "error", err)
		return
	}
	if !f.keep(engine) {
		return
	}
	defer f.drop(engine)
	var asked sync.WaitGroup
	asked.Go(func() {
		_, _ = io.Copy(engine, client)
		_ = engine.(*net.TCPConn).CloseWrite() // the client may still wait for the answer
	})
	_, _ = io.Copy(client, engine)
	_ = client.CloseWrite()
	_ = conn.Close() // when the engine has ended, there is nothing left to ask
	asked.Wait()
}

// keep notes a connection that close must end; it is ended at once if close was called.
func (f *front) keep(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		_ = conn.Close()
		return false
	}
	f.open[conn] = true
	return true
}

// drop ends a connection.
func (f *front) drop(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, conn)
}

// close ends all connections and waits for that.
func (f *front) close() {
	close(f.closed)
	_ = f.http.Close()
	_ = f.tcp.Close()
	f.mu.Lock()
	for conn := range f.open {
		_ = conn.Close()
	}
	f.open = nil
	f.mu.Unlock()
	f.served.Wait()
}
