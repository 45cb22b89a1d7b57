package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"tongan.dev/pkg/clock"
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

// describe prints where everything listens and how to connect.
func (s *system) describe(w io.Writer) {
	fmt.Fprintf(w, "Tongan is up. Data: %s\n", s.flags.Data)
	fmt.Fprintf(w, "  bus         %s\n", s.natsURL)
	if s.bus != nil {
		fmt.Fprintf(w, "  monitoring  http://%s/healthz\n", s.bus.MonitorAddr())
	}
	fmt.Fprintf(w, "    nats -s %s micro ls\n    nats -s %s sub 'tongan.evt.>' --translate 'tongan decode {{Subject}}'\n", s.natsURL, s.natsURL)
	if s.engine == nil {
		return
	}
	password := s.settings.Passwords[projector.UserAnalyst]
	fmt.Fprintf(w, "  ClickHouse  http://%s  %s\n", s.engine.HTTPAddr(), s.engine.TCPAddr())
	fmt.Fprintf(w, "    curl 'http://%s/?user=%s&password=%s' -d 'SELECT * FROM tongan.tallies LIMIT 10 FORMAT PrettyCompact'\n",
		s.engine.HTTPAddr(), projector.UserAnalyst, password)
}
