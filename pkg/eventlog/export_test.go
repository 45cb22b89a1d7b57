package eventlog

import "math"

// Verify's work with a number of passes that the test chooses.
var VerifyInPasses = verify

// MaxWaiting is how many appends may wait.
const MaxWaiting = maxWaiting

// Alone has the appends of a log sent one by one, each with an fsync of its own: what it was before there were batches.
func (l *Log) Alone() *Log {
	l.writer = newWriter(l.js, l.agg.Stream(), math.MaxInt)
	return l
}

// Hold has the appends of a log wait until release is called.
func (l *Log) Hold() (release func()) {
	const many = few + 1
	w := l.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rounds += many
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.rounds -= many
		w.dispatch()
	}
}

// Waiting is how many appends wait.
func (l *Log) Waiting() int {
	l.writer.mu.Lock()
	defer l.writer.mu.Unlock()
	return len(l.writer.waiting)
}

// Keeping has a log keep at most so many bytes.
func (l *Log) Keeping(bytes int) *Log {
	l.states = newStates(bytes)
	return l
}

// Stale reports whether what is kept of an aggregate is known to be stale.
func (l *Log) Stale(id string) bool {
	l.states.mu.Lock()
	defer l.states.mu.Unlock()
	k, ok := l.states.kept.Peek(stateOf{l, id})
	return ok && k.stale()
}

// Suspected reports whether somebody else was heard to append to an aggregate to which an append is under way.
func (l *Log) Suspected(id string) bool {
	l.writer.mu.Lock()
	defer l.writer.mu.Unlock()
	p := l.writer.open[l.agg.Filter(id)]
	return p != nil && p.suspect.Load()
}
