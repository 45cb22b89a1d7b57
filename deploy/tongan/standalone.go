package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/clock"
	"tongan.dev/services/audit"
	"tongan.dev/services/projector"
)

// standaloneCmd runs a system until it is interrupted.
type standaloneCmd struct{ systemFlags }

// Run starts everything, says where it listens, and waits.
func (c *standaloneCmd) Run(ctx context.Context) (err error) {
	s, err := start(ctx, c.systemFlags, clock.Wall{})
	if err != nil {
		return err
	}
	s.describe(os.Stdout)
	err = s.wait(ctx)
	fmt.Println("stopping")
	if stopped := s.stop(); err == nil {
		err = stopped
	}
	return err
}

// operator saves a context for the first operator, and returns the way to the bus that it gives.
func (s *system) operator(name string) (*caller, error) {
	save := contextSaveCmd{Name: name, Credentials: s.operatorFile(), NATSURL: s.natsURL, Select: true}
	if err := save.Run(); err != nil {
		return nil, err
	}
	via, err := callerFlags{Context: name}.caller()
	if err == nil && s.bus != nil {
		via.opts = []nats.Option{nats.InProcessServer(s.bus)}
	}
	return via, err
}

func (s *system) operatorFile() string { return s.credentials(audit.FirstOperatorID + ".nk") }

// describe prints where everything listens and how to connect.
func (s *system) describe(w io.Writer) {
	fmt.Fprintf(w, "Tongan is up. Data: %s\n", s.flags.Data)
	fmt.Fprintf(w, "  bus         %s\n", s.natsURL)
	if s.bus != nil {
		fmt.Fprintf(w, "  monitoring  http://%s/healthz\n", s.bus.MonitorAddr())
	}
	fmt.Fprintf(w, "    tongan context save tongan --select --nats-url %s --credentials %s\n", s.natsURL, s.operatorFile())
	fmt.Fprint(w, "    nats micro ls\n    nats sub 'tongan.evt.>' --translate 'tongan decode {{Subject}}'\n")
	if s.engine == nil {
		return
	}
	scheme := "http"
	if s.flags.ClickHouseTLS.Enabled() {
		scheme = "https"
	}
	password := s.settings.Passwords[projector.UserAnalystCity]
	fmt.Fprintf(w, "  ClickHouse  %s://%s  %s\n", scheme, s.engine.HTTPAddr(), s.engine.TCPAddr())
	fmt.Fprintf(w, "    curl '%s://%s/?user=%s&password=%s' -d 'SELECT * FROM tongan.tallies LIMIT 10 FORMAT PrettyCompact'\n",
		scheme, s.engine.HTTPAddr(), projector.UserAnalystCity, password)
}
