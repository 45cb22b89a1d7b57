package eventlog

import (
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxStates is how many bytes of aggregates the logs of a service keep together. The days of 2 000 workers with 120 visits each fit.
const maxStates = 128 << 20

// states keep what became of aggregates, those used last, in a bounded number of bytes.
type states struct {
	mu           sync.Mutex
	kept         *simplelru.LRU[stateOf, *kept]
	bytes, limit int
}

// stateOf names a state: each log keeps its own of an aggregate.
type stateOf struct {
	log *Log
	id  string
}

type kept struct {
	value any // nil while somebody has taken it
	size  int
	last  uint64 // the sequence up to which it is known
	heard uint64 // the sequence after the latest on which somebody else was heard to append
}

func newStates(limit int) *states {
	s := &states{limit: limit}
	s.kept, _ = simplelru.NewLRU(math.MaxInt, func(_ stateOf, k *kept) { s.bytes -= k.size }) // only a size below 1 is an error
	return s
}

// Take returns what was kept of an aggregate and keeps it no longer. Stale says that somebody else was heard to append to it since.
func (l *Log) Take(id string) (value any, stale, ok bool) {
	s := l.states
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept.Peek(stateOf{l, id})
	if !ok || k.value == nil {
		l.misses.Add(1)
		return nil, false, false
	}
	l.hits.Add(1)
	value, s.bytes = k.value, s.bytes-k.size
	k.value, k.size = nil, 0
	return value, k.stale(), true
}

// stale reports whether somebody else was heard to append what is not known here.
func (k *kept) stale() bool { return k.heard > k.last }

// Keep keeps a value of about so many bytes, which is what became of an aggregate up to a sequence. What was not used for longest makes room.
func (l *Log) Keep(id string, last uint64, value any, size int) {
	s := l.states
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept.Get(stateOf{l, id})
	if !ok {
		k = &kept{}
		s.kept.Add(stateOf{l, id}, k)
	}
	s.bytes += size - k.size
	k.value, k.size, k.last = value, size, last
	for s.bytes > s.limit {
		s.kept.RemoveOldest()
	}
}

// hear marks what is kept of an aggregate as stale when somebody else is about to append to it, and an append that is under way as suspect. It
// is a hint, which saves a conflict: what is heard may not be stored after all, and what is missed shows in the expectation.
func (l *Log) hear(m *nats.Msg) {
	id := strings.Split(m.Subject, ".")[4]
	l.writer.suspect(l.agg.Filter(id))
	s := l.states
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.kept.Peek(stateOf{l, id}); ok {
		on, _ := strconv.ParseUint(m.Header.Get(jetstream.ExpectedLastSubjSeqHeader), 10, 64)
		k.heard = max(k.heard, on+1)
	}
}

// Stats tell how often what became of an aggregate was at hand when a command came, how often not, and how many bytes the logs of the service keep.
func (l *Log) Stats() map[string]uint64 {
	l.states.mu.Lock()
	defer l.states.mu.Unlock()
	return map[string]uint64{
		"states_hit": l.hits.Load(), "states_missed": l.misses.Load(), "states_bytes": uint64(l.states.bytes),
	}
}
