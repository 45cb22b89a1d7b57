package bus

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// lookEvery is how often it is looked whether a server stores.
	lookEvery = 2 * time.Second
	// roomToGoOn is what must be free before one goes on that could not write: a few of the largest batches. With less it would soon stand
	// again.
	roomToGoOn = 16 << 20
)

// heal looks after a server's storage until the server ends. A stream that could not be written once, as when the disk is full, takes
// nothing more, however much room there is afterwards, and says nothing to those who publish. So the storage is started again as soon as there
// is room: within the server, which cuts no connection.
func heal(s *server.Server, cfg server.JetStreamConfig, dir string, log *slog.Logger) {
	cfg.StoreDir = dir // the server names its own folder in it, and will again
	ended := make(chan struct{})
	go func() {
		s.WaitForShutdown()
		close(ended)
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ill := false; ; {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		wrong := ailment(s)
		if !s.Running() { // it is being ended, and has no storage any more
			return
		}
		if wrong != "" && !ill {
			log.Error("the bus does not store", "error", wrong)
		}
		if ill = wrong != ""; !ill || free(dir) < roomToGoOn {
			continue
		}
		if err := startAgain(s, cfg, dir); err != nil {
			log.Error("storage of the bus does not start", "error", err)
			continue
		}
		if ill = ailment(s) != ""; !ill {
			log.Warn("the bus stores again")
		}
	}
}

// startAgain starts the storage of a server again, with what it holds.
func startAgain(s *server.Server, cfg server.JetStreamConfig, dir string) error {
	stop := func() {
		if err := s.ShutdownJetStream(); err != nil {
			s.Errorf("Storage does not stop: %v", err)
		}
	}
	stop()
	return guarded(dir, func() error { return s.EnableJetStream(&cfg) }, stop)
}

// free is how many bytes the disk of a folder has left; 0 if that cannot be known.
func free(dir string) int64 {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0
	}
	return int64(fs.Bavail) * fs.Bsize
}

// ailment is what a server says is wrong with its storage; empty if nothing is. Only the page for monitoring says it.
func ailment(s *server.Server) string {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "/healthz?details=true", nil)
	if err != nil {
		return ""
	}
	p := &page{header: http.Header{}}
	s.HandleHealthz(p, r)
	var status server.HealthStatus
	if err := json.Unmarshal(p.Bytes(), &status); err != nil {
		return ""
	}
	for _, e := range status.Errors {
		switch e.Type {
		case server.HealthzErrorJetStream, server.HealthzErrorStream, server.HealthzErrorConsumer:
			return e.Error
		}
	}
	return ""
}

// page keeps what a page for monitoring says.
type page struct {
	bytes.Buffer
	header http.Header
}

// Header is that of the answer.
func (p *page) Header() http.Header { return p.header }

// WriteHeader does nothing: what is wrong stands in the text.
func (p *page) WriteHeader(int) {}
