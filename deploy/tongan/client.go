package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/scenario"
)

// busFlags name the bus of a system that runs.
type busFlags struct {
	NATSURL string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"Address of the bus."`
}

// connect connects to the bus.
func (f busFlags) connect() (*nats.Conn, error) {
	nc, err := nats.Connect(f.NATSURL, nats.Name("tongan-cli"))
	if err != nil {
		return nil, fmt.Errorf("no bus at %s: start one with `tongan standalone`, or name another with --nats-url", f.NATSURL)
	}
	return nc, nil
}

// refusal is a service's answer to a request that it did not carry out.
type refusal struct{ code, text string }

// Error is what the service said.
func (r *refusal) Error() string { return r.text + " (" + r.code + ")" }

// request sends a message and decodes the reply.
func request(ctx context.Context, nc *nats.Conn, subject string, ask, answer proto.Message) error {
	payload, err := proto.Marshal(ask)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	reply, err := nc.RequestWithContext(ctx, subject, payload)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	if code := reply.Header.Get(micro.ErrorCodeHeader); code != "" {
		return fmt.Errorf("%s: %w", subject, &refusal{code, reply.Header.Get(micro.ErrorHeader)})
	}
	if err := proto.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	return nil
}

// insist sends a request again and again while the bus or the service is not available. Commands carry ids, so this is safe.
func insist(ctx context.Context, nc *nats.Conn, subject string, ask, answer proto.Message) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		try, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := request(try, nc, subject, ask, answer)
		cancel()
		var refused *refusal
		if err == nil || ctx.Err() != nil || errors.As(err, &refused) && refused.code != "503" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// senders is how many commands of the scenario are under way at once.
const senders = 32

// sendSteps sends the scenario day by day. Commands for one aggregate go one after the other. Before is called for each command before it
// is sent, after when it is answered; both from several goroutines.
func sendSteps(ctx context.Context, nc *nats.Conn, steps []scenario.Step, before, after func(scenario.Step)) error {
	for len(steps) > 0 {
		n := 1
		for n < len(steps) && steps[n].At.YearDay() == steps[0].At.YearDay() {
			n++
		}
		if err := sendDay(ctx, nc, steps[:n], before, after); err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

func sendDay(ctx context.Context, nc *nats.Conn, steps []scenario.Step, before, after func(scenario.Step)) error {
	var lanes [senders][]scenario.Step
	for _, s := range steps {
		h := fnv.New32a()
		_, _ = h.Write([]byte(s.Key))
		lane := h.Sum32() % senders
		lanes[lane] = append(lanes[lane], s)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, lane := range lanes {
		g.Go(func() error {
			for _, s := range lane {
				before(s)
				if err := insist(ctx, nc, s.Subject, s.Command, newReply()); err != nil {
					return err
				}
				after(s)
			}
			return nil
		})
	}
	return g.Wait()
}
