package natstest

import (
	"strings"
	"sync"
)

// Lines are what is logged, by several goroutines. Its zero value is empty.
type Lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write appends.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all that was written.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
