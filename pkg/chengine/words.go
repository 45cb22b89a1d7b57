package chengine

import (
	"regexp"
	"strings"
	"sync"
)

const (
	wordsSize  = 16 << 10
	wordsLines = 5
)

var (
	control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]|\r")
	// What is no reason: stack traces and what the session says while all is well.
	noise = regexp.MustCompile(`^(\d+\. .*|Logging .*|ClickHouse local .*|SYSTEM START .*|Query id: .*|Ok\.|0 rows in set.*|\(version .*\)|Cannot print extra info .*|)$`)
	// What the engine logs about itself, as against what its session says.
	logged = regexp.MustCompile(`^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d`)
)

// words are what the child says while it starts: the reason if it does not.
// Later ones are not kept, since they may be about somebody's query.
type words struct {
	mu     sync.Mutex
	buf    []byte
	closed bool
}

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.buf = append(w.buf, p...)
		if extra := len(w.buf) - wordsSize; extra > 0 {
			w.buf = append(w.buf[:0], w.buf[extra:]...)
		}
	}
	return len(p), nil
}

// close forgets the words and those to come.
func (w *words) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf, w.closed = nil, true
}

// failed says whether the session has failed. That the engine logs an error is no failure: of a part that is broken, for example, which it
// puts aside.
func (w *words) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(control.ReplaceAllString(string(w.buf), "")) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "Exception") && !noise.MatchString(line) && !logged.MatchString(line) {
			return true
		}
	}
	return false
}

// String returns the last lines as one, without what is no reason.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var kept []string
	for line := range strings.Lines(control.ReplaceAllString(string(w.buf), "")) {
		if line = strings.TrimSpace(line); !noise.MatchString(line) {
			kept = append(kept, line)
		}
	}
	if len(kept) > wordsLines {
		kept = kept[len(kept)-wordsLines:]
	}
	return strings.Join(kept, " | ")
}
