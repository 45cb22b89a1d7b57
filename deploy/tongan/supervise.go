package main

import (
	"context"
	"os"
	"strconv"

	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/serve"
)

// superviseCmd keeps a nats-server of one's own running. The standalone does the same for the one in it.
type superviseCmd struct {
	logFlags
	Store   string   `env:"TONGAN_NATS_STORE" required:"" type:"path" help:"Folder of the server's streams, store_dir in its configuration."`
	Health  string   `default:"http://127.0.0.1:8222/healthz" help:"The server's page for health."`
	Command []string `arg:"" passthrough:"" help:"How to start it: nats-server -c nats-server.conf."`
}

// Run starts the server, and again whenever it ended or does not store although there is room, until ctx ends.
func (c *superviseCmd) Run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" { // the server is a process of its own
		if err := os.Setenv("GOGC", strconv.Itoa(serve.GCPercent)); err != nil {
			return err
		}
	}
	s := &bus.Supervised{Dir: c.Store, Health: c.Health, Command: c.Command, Log: serve.NewLog(c.LogLevel)}
	return s.Run(ctx)
}
