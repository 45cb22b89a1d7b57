package eventlog

import "math"

// Verify's work with a number of passes that the test chooses.
var VerifyInPasses = verify

// MaxWaiting is how many appends may wait.
const MaxWaiting = maxWaiting

// Alone has the appends of a log sent one by one, each with an fsync of its own, and nothing kept: what it was before there were batches.
func (l *Log) Alone() *Log {
	l.writer = &writer{js: l.js, stream: l.agg.Stream(), few: math.MaxInt}
	l.states = newStates(0)
	return l
}

// Hold has the appends of a log wait until release is called.
func (l *Log) Hold() (release func()) {
	const many = few + maxRounds
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
