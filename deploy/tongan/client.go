package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"os"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/scenario"
	"tongan.dev/pkg/serve"
	"tongan.dev/pkg/transport"
)

// callerFlags say as whom to speak to a system that runs.
type callerFlags struct {
	Context     string `env:"TONGAN_CONTEXT" help:"NATS context, as tongan context save makes it; default: the selected one."`
	NATSURL     string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"With --credentials: address of the bus; of several servers all, with commas between."`
	Credentials string `env:"TONGAN_CALLER_CREDENTIALS" type:"path" help:"Instead of a context: file with the seed of the caller's NKey, mode 0600."`
	serve.SecurityFlags
}

// caller is a caller's way to the bus.
type caller struct {
	url string
	key *access.Credentials
	// opts are the options of every connection, whoever's it is.
	opts []nats.Option
}

// caller finds out as whom to connect, and where.
func (f callerFlags) caller() (*caller, error) {
	url, credentials, security := f.NATSURL, f.Credentials, f.SecurityFlags
	if credentials == "" {
		ctx, err := natscontext.New(f.Context, true)
		if err != nil {
			return nil, fmt.Errorf("no NATS context %s (%w): make one with `tongan context save`, or name --credentials", f.Context, err)
		}
		url, credentials = ctx.ServerURL(), ctx.NKey()
		security.NATSTLS = transport.TLS{Cert: ctx.Certificate(), Key: ctx.Key(), CA: ctx.CA()}
	}
	key, err := access.LoadCredentials(credentials)
	if err != nil {
		return nil, err
	}
	opts, err := security.NATSOptions(url)
	return &caller{url: url, key: key, opts: opts}, err
}

// connect connects as the caller.
func (f callerFlags) connect() (*nats.Conn, error) {
	c, err := f.caller()
	if err != nil {
		return nil, err
	}
	return c.connect()
}

func (c *caller) connect() (*nats.Conn, error) { return c.as(c.key) }

// as connects to the same bus as somebody else.
func (c *caller) as(who *access.Credentials) (*nats.Conn, error) {
	return dial(c.url, append(append(who.CallerOptions(), nats.Name("tongan-cli")), c.opts...))
}

func dial(url string, opts []nats.Option) (*nats.Conn, error) {
	// While the audit service is away the bus lets nobody in, and may say that it does not know them: that is no reason to give up.
	opts = append(opts, nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrPermissionViolation) { // otherwise it shows as a time-out only
			fmt.Fprintln(os.Stderr, "tongan:", err)
		}
	}))
	nc, err := nats.Connect(url, opts...)
	switch {
	case errors.Is(err, nats.ErrAuthorization):
		return nil, fmt.Errorf("the bus at %s does not know this key, or no longer: ask an operator", url)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("the bus at %s does not let anybody in now: its audit service does not answer; try again", url)
	case err != nil:
		return nil, fmt.Errorf("no bus at %s (%w): start one with `tongan standalone`, or name another", url, err)
	}
	return nc, nil
}

// refusal is a service's answer to a request that it did not carry out.
type refusal struct{ code, text string }

// Error is what the service said.
func (r *refusal) Error() string { return r.text + " (" + r.code + ")" }

// isRefused reports whether a service said no, as against not having answered.
func isRefused(err error) bool {
	refused, is := errors.AsType[*refusal](err)
	return is && refused.code != "503"
}

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

// Limits of how long an answer is waited for before the same is sent again. A server that is lost takes requests and answers with it, so the
// first is short; some queries take longer.
const (
	firstTry = 4 * time.Second
	longTry  = 16 * time.Second
)

// insist sends a request again and again while the bus or the service is not available. Commands carry ids, so this is safe.
func insist(ctx context.Context, nc *nats.Conn, subject string, ask, answer proto.Message) error {
	within := firstTry
	for wait := 10 * time.Millisecond; ; wait, within = min(2*wait, time.Second), min(2*within, longTry) {
		try, cancel := context.WithTimeout(ctx, within)
		err := request(try, nc, subject, ask, answer)
		cancel()
		if err == nil || ctx.Err() != nil || isRefused(err) {
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

// sendSteps sends the scenario day by day, each command over the connection of who enters it. Commands for one aggregate go one after the
// other. Before is called for each command before it is sent, after when it is answered; both from several goroutines.
func sendSteps(ctx context.Context, conns map[string]*nats.Conn, steps []scenario.Step, before, after func(scenario.Step)) error {
	for day := range days(steps) {
		if err := sendDay(ctx, conns, day, before, after); err != nil {
			return err
		}
	}
	return nil
}

// days are the steps of each day.
func days(steps []scenario.Step) iter.Seq[[]scenario.Step] {
	return func(yield func([]scenario.Step) bool) {
		for len(steps) > 0 {
			n := 1
			for n < len(steps) && steps[n].At.YearDay() == steps[0].At.YearDay() {
				n++
			}
			if !yield(steps[:n]) {
				return
			}
			steps = steps[n:]
		}
	}
}

func sendDay(ctx context.Context, conns map[string]*nats.Conn, steps []scenario.Step, before, after func(scenario.Step)) error {
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
				if err := insist(ctx, conns[scenario.EnteredBy(s)], s.Subject, s.Command, newReply()); err != nil {
					return err
				}
				after(s)
			}
			return nil
		})
	}
	return g.Wait()
}
