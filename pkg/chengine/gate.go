package chengine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Running as a local program, the engine lets every user read every file with
// the function file('path'), without any grant. But that function asks for the
// working directory first, and always fails when there is none. The engine
// needs one to start, though. So its session first reads from a pipe in its
// working directory, the gate; that blocks until the parent opens the other
// end, by when the engine has started and nobody can connect yet. Then the
// parent removes the directory and closes the pipe, and the session goes on.

// gateName is the name of the pipe in the working directory.
const gateName = "gate"

// makeGate makes the child's working directory with the pipe in it.
func makeGate(l layout) error {
	if err := os.RemoveAll(l.WorkDir); err != nil {
		return fmt.Errorf("remove the working directory: %w", err)
	}
	if err := os.Mkdir(l.WorkDir, 0o700); err != nil {
		return fmt.Errorf("make the working directory: %w", err)
	}
	if err := syscall.Mkfifo(filepath.Join(l.WorkDir, gateName), 0o600); err != nil {
		return fmt.Errorf("make the gate: %w", err)
	}
	return nil
}

// openGate lets the child's session open its interfaces, without a working directory.
func (e *Engine) openGate(ctx context.Context, l layout) error {
	var gate *os.File
	err := e.poll(ctx, func() error {
		var err error
		gate, err = os.OpenFile(filepath.Join(l.WorkDir, gateName), os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails until somebody reads
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(l.WorkDir), gate.Close())
}

// checkGate makes sure that there is no way to the files: for that reason and
// no other. Another version of the engine that refuses otherwise is looked at first.
func (e *Engine) checkGate(ctx context.Context) error {
	err := e.query(ctx, "SELECT ignore(file('/dev/null'))")
	if err == nil {
		return errors.New("start the engine: it lets every user read files")
	}
	if !strings.Contains(err.Error(), "getcwd failed") {
		return fmt.Errorf("start the engine: whether it keeps users from files is not known: %w", err)
	}
	return nil
}

// poll asks until ok has no error, the child ends or fails, or ctx ends.
func (e *Engine) poll(ctx context.Context, ok func() error) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		last := ok()
		if last == nil {
			return nil
		}
		// The session goes on to its prompt when the script fails.
		if e.words.failed() {
			return e.explain(errors.New("its session failed"))
		}
		select {
		case <-e.done:
			return e.err
		case <-ctx.Done():
			return fmt.Errorf("start the engine: %w (last: %w)", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}
