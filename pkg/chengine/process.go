package chengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// script is what the engine's session runs. It opens the interfaces only when
// the parent has opened the gate, see openGate.
const script = "SELECT ignore(file('" + gateName + "')) FORMAT Null; SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP"

// spawn starts the child and the goroutine that waits for its end.
func (e *Engine) spawn(l layout, library string, lock *os.File) error {
	if err := makeGate(l); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	defer func() { _ = r.Close() }()
	master, stdin, err := openTerminal()
	if err != nil {
		_ = w.Close()
		return fmt.Errorf("start the engine: %w", err)
	}
	defer func() { _ = stdin.Close() }()
	e.child = &exec.Cmd{
		Path: "/proc/self/exe", // this very program, even if its file was replaced
		Args: []string{
			"tongan-engine", library,
			"--config-file=" + l.ConfigFile,
			"--path=" + l.DataDir,
			"--listen_host=" + e.host,
			"--tcp_port=" + strconv.Itoa(e.tcpPort),
			"--http_port=" + strconv.Itoa(e.httpPort),
			"--log-level=warning",
			"--interactive", // after the script the session waits at its prompt
			"--history_file=/dev/null", "--disable_suggestion", "--progress=off",
			"--query=" + script,
		},
		// Nothing of the parent's environment: the engine takes some settings and keys of others from it.
		Env:         []string{ChildEnv + "=1", "HOME=" + l.RunDir, "TERM=dumb", "TZ=UTC", "LANG=C.UTF-8", "PATH=/usr/bin:/bin"},
		Dir:         l.WorkDir, // gone before anybody can connect, see makeGate
		Stdin:       stdin,
		Stdout:      e.words,
		Stderr:      e.words,
		ExtraFiles:  []*os.File{r, lock}, // lifelineFD, lockFD
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := e.child.Start(); err != nil {
		_ = w.Close()
		_ = master.Close()
		return fmt.Errorf("start the engine: %w", err)
	}
	e.lifeline, e.terminal = w, master
	go e.wait()
	return nil
}

// openTerminal makes a pseudo-terminal, the engine's standard input. Given a
// terminal, the engine treats an error of a client's connection as a server
// does; without one, every wrong password and every reset connection ends the
// process (ClickHouse issue 115666). And its session waits at a prompt that
// nobody types at.
func openTerminal() (master, stdin *os.File, err error) {
	const (
		unlockPT = 0x40045431 // TIOCSPTLCK
		peerOfPT = 0x5441     // TIOCGPTPEER
	)
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a terminal: %w", err)
	}
	conn, err := master.SyscallConn()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a terminal: %w", err), master.Close())
	}
	var (
		unlock int32
		peer   uintptr
		errno  syscall.Errno
	)
	err = conn.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, unlockPT, uintptr(unsafe.Pointer(&unlock)))
		if errno == 0 {
			peer, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, peerOfPT, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a terminal: %w", err), master.Close())
	}
	return master, os.NewFile(peer, "terminal"), nil
}

// wait waits for the end of the child and says why it ended.
func (e *Engine) wait() {
	err := e.child.Wait()
	_ = e.lifeline.Close()
	_ = e.terminal.Close()
	e.closeFront()
	select {
	case <-e.stopped:
		e.log.Info("engine stopped", "pid", e.Pid())
	default:
		e.err = e.explain(err)
		e.log.Error("engine ended", "pid", e.Pid(), "error", e.err)
	}
	close(e.done)
}

// explain makes one line of the child's end and its last words.
func (e *Engine) explain(err error) error {
	words := e.words.String()
	if strings.Contains(words, "Address already in use") {
		return fmt.Errorf("engine ports %d and %d: %w: %s", e.httpPort, e.tcpPort, ErrPortTaken, words)
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	if words == "" {
		return fmt.Errorf("engine ended: %w", err)
	}
	return fmt.Errorf("engine ended: %w: %s", err, words)
}

// httpClient keeps no connection, so that nothing holds up the engine's end.
var httpClient = &http.Client{
	Timeout:   2 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// query asks the engine as the service user.
func (e *Engine) query(ctx context.Context, sql string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+e.engineAddr(e.httpPort)+"/", strings.NewReader(sql))
	if err != nil {
		return err
	}
	req.SetBasicAuth(e.service.Name, e.service.Password)
	resp, err := httpClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %d: %.200s", resp.StatusCode, bytes.TrimSpace(body))
	}
	return nil
}

// lockDir takes the lock of the data folder; the child inherits it.
func lockDir(ctx context.Context, l layout) (*os.File, error) {
	f, err := os.OpenFile(l.LockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder %s is not writable: %w", l.Dir, err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			_ = f.Close()
			return nil, fmt.Errorf("lock data folder %s: %w", l.Dir, err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w", l.Dir, ErrDirInUse)
		case <-poll.C:
		}
	}
}

// pickPorts checks that given ports are free and chooses those that are 0.
func pickPorts(ctx context.Context, host string, httpPort, tcpPort int) (int, int, error) {
	h, err := listen(ctx, host, httpPort)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = h.Close() }()
	t, err := listen(ctx, host, tcpPort) // while h is open, so that they differ
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = t.Close() }()
	return h.Addr().(*net.TCPAddr).Port, t.Addr().(*net.TCPAddr).Port, nil
}

// listen takes a port, a free one for 0.
func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	network := "tcp6"
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		network = "tcp4" // with "tcp", 0.0.0.0 would mean all addresses of both kinds
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("engine port %d: %w", port, ErrPortTaken)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return l, nil
}
