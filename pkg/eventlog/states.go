package eventlog

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// maxStates is how many bytes of aggregates a log keeps.
const maxStates = 32 << 20

// states keep what became of aggregates, those used last, in a bounded number of bytes.
type states struct {
	mu           sync.Mutex
	kept         *simplelru.LRU[string, kept]
	bytes, limit int
	hits, misses atomic.Uint64
}

type kept struct {
	value any
	size  int
}

func newStates(limit int) *states {
	s := &states{limit: limit}
	s.kept, _ = simplelru.NewLRU(math.MaxInt, func(_ string, k kept) { s.bytes -= k.size }) // only a size below 1 is an error
	return s
}

// Take returns what was kept of an aggregate and keeps it no longer.
func (l *Log) Take(id string) (any, bool) {
	s := l.states
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept.Peek(id)
	if !ok {
		s.misses.Add(1)
		return nil, false
	}
	s.kept.Remove(id)
	s.hits.Add(1)
	return k.value, true
}

// Keep keeps a value of about so many bytes for an aggregate. What was not used for longest makes room.
func (l *Log) Keep(id string, value any, size int) {
	s := l.states
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.Remove(id)
	s.kept.Add(id, kept{value, size})
	for s.bytes += size; s.bytes > s.limit; {
		s.kept.RemoveOldest()
	}
}

// Stats tell how often what became of an aggregate was at hand when a command came, how often not, and how many bytes are kept.
func (l *Log) Stats() map[string]uint64 {
	l.states.mu.Lock()
	defer l.states.mu.Unlock()
	return map[string]uint64{
		"states_hit": l.states.hits.Load(), "states_missed": l.states.misses.Load(), "states_bytes": uint64(l.states.bytes),
	}
}
