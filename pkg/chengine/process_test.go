package chengine

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A port may be taken between the check and the child's start.
func TestPortTakenMeanwhile(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	l, err := makeLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	library, err := FindLibrary()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	e, err := newEngine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.tcpPort = listener.Addr().(*net.TCPAddr).Port
	if err := e.begin(l, library, lock, cfg); err != nil {
		t.Fatal(err)
	}
	defer e.kill()
	err = e.open(t.Context(), l)
	if !errors.Is(err, ErrPortTaken) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error: %v, want %v on one line", err, ErrPortTaken)
	}
}

func TestLibraryIsFoundUpward(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	below := filepath.Join(root, "a", "b")
	want := filepath.Join(root, libraryPath)
	for _, dir := range []string{below, filepath.Dir(want)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if path, err := searchUpward([]string{below}); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("found %q, %v, want %v", path, err, ErrNoLibrary)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if path, err := searchUpward([]string{below}); err != nil || path != want {
		t.Errorf("found %q, %v, want %q", path, err, want)
	}
}

func TestWordsAreOneLineWithoutNoise(t *testing.T) {
	t.Parallel()
	var w words
	_, err := w.Write([]byte("\r\x1b[0JClickHouse local version 26.7.\n\nQuery id: 1\n\nCode: 210. Exception: no\n0. ? @ 0x0\n (version 26.7)\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.String(), "Code: 210. Exception: no"; got != want {
		t.Errorf("words: %q, want %q", got, want)
	}
	w.close()
	if _, err := w.Write([]byte("more")); err != nil || w.String() != "" {
		t.Errorf("words kept after close: %q, %v", w.String(), err)
	}
}
