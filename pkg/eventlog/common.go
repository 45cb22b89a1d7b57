package eventlog

import (
	"maps"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// common is what the logs of a connection, which are a service's, have in common.
type common struct {
	stall  stall
	states *states

	mu sync.Mutex
	// writers are by stream: however many logs there are of one, their appends meet in one place.
	writers map[string]*writer
}

// commons are those of this process.
var commons = struct {
	sync.Mutex
	of map[*nats.Conn]*common
}{of: make(map[*nats.Conn]*common)}

func commonOf(nc *nats.Conn) *common {
	commons.Lock()
	defer commons.Unlock()
	maps.DeleteFunc(commons.of, func(nc *nats.Conn, _ *common) bool { return nc.IsClosed() })
	if commons.of[nc] == nil {
		commons.of[nc] = &common{states: newStates(maxStates), writers: make(map[string]*writer)}
	}
	return commons.of[nc]
}

func (c *common) writer(js jetstream.JetStream, stream string) *writer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writers[stream] == nil {
		c.writers[stream] = newWriter(js, stream, few)
	}
	return c.writers[stream]
}
