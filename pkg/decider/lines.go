package decider

import (
	"context"
	"reflect"
	"slices"
	"sync"
)

// Limits of what is appended at once.
const (
	// maxTogether is how many events commands that wait for one aggregate lead to in one append; a command that leads to more has one for itself.
	maxTogether = 100
	// maxShared is how many bytes an event may have that shares an append: one that is too large for the bus must not keep others from it.
	maxShared = 64 << 10
)

// Lines is where commands wait for each other: one line for each aggregate that somebody works on. Whoever finds none works for all that
// join meanwhile. Its zero value is ready.
type Lines struct {
	mu sync.Mutex
	of map[line][]any
}

// line names a line: an aggregate, and the kind of state that it is folded into.
type line struct {
	id    string
	state reflect.Type
}

// join puts a command into a line, and reports whether it is the first and so has to be worked on by who brought it.
func (l *Lines) join(at line, w any) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, busy := l.of[at]
	if l.of == nil {
		l.of = make(map[line][]any)
	}
	if busy {
		waiting = append(waiting, w)
	}
	l.of[at] = waiting
	return !busy
}

// leave takes a command out of its line, and reports whether it was still there.
func (l *Lines) leave(at line, w any) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.of[at], w)
	if i < 0 {
		return false
	}
	l.of[at] = slices.Delete(l.of[at], i, i+1)
	return true
}

// next returns all that wait in a line; if nobody does, there is no line any more.
func (l *Lines) next(at line) []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.of[at]
	if len(waiting) == 0 {
		delete(l.of, at)
		return nil
	}
	l.of[at] = nil
	return waiting
}

// whileAny returns a context that ends when all of the given ones have. Its end must be called.
func whileAny(all []context.Context) (ctx context.Context, end func()) {
	if len(all) == 1 {
		return all[0], func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(all[0]))
	var mu sync.Mutex
	left := len(all)
	stops := make([]func() bool, len(all))
	for i, one := range all {
		stops[i] = context.AfterFunc(one, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
