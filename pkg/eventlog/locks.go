package eventlog

import (
	"context"
	"sync"
)

// locks holds one lock for each aggregate that somebody works on; its zero value is ready.
type locks struct {
	mu   sync.Mutex
	held map[string]*entry
}

// entry is one aggregate's lock, and how many hold it or wait for it.
type entry struct {
	token chan struct{}
	users int
}

// lock waits for the lock of id, or for ctx to end.
func (l *locks) lock(ctx context.Context, id string) (func(), error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[string]*entry)
	}
	e := l.held[id]
	if e == nil {
		e = &entry{token: make(chan struct{}, 1)}
		l.held[id] = e
	}
	e.users++
	l.mu.Unlock()
	select {
	case e.token <- struct{}{}:
		return func() { <-e.token; l.leave(id, e) }, nil
	case <-ctx.Done():
		l.leave(id, e)
		return nil, ctx.Err()
	}
}

func (l *locks) leave(id string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.held, id)
	}
}
