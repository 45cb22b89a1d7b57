package main

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/jsm.go/natscontext"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
)

// contextCmd keeps contexts of the NATS CLI.
type contextCmd struct {
	Save contextSaveCmd `cmd:"" help:"Save how to connect as a NATS context, for this program and the NATS CLI."`
}

// contextSaveCmd saves a context.
type contextSaveCmd struct {
	Name        string `arg:"" help:"Name of the context."`
	Credentials string `required:"" type:"path" help:"File with the seed of the caller's NKey, mode 0600."`
	NATSURL     string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"Address of the bus."`
	Select      bool   `help:"Make it the context that is used where none is named."`
}

// Run saves it where the NATS CLI looks for contexts. The credentials stay in their file.
func (c *contextSaveCmd) Run() error {
	ctx, err := newContext(c.Name, c.NATSURL, c.Credentials)
	if err != nil {
		return err
	}
	if err := ctx.Save(c.Name); err != nil {
		return fmt.Errorf("context %s: %w", c.Name, err)
	}
	if !c.Select {
		return nil
	}
	if err := natscontext.SelectContext(c.Name); err != nil {
		return fmt.Errorf("context %s: %w", c.Name, err)
	}
	return nil
}

// newContext is how a caller connects: with its key and the inbox it may subscribe; operators find JetStream's interface under a prefix.
func newContext(name, url, credentials string) (*natscontext.Context, error) {
	path, err := filepath.Abs(credentials)
	if err != nil {
		return nil, fmt.Errorf("credentials %s: %w", credentials, err)
	}
	key, err := access.LoadCredentials(path)
	if err != nil {
		return nil, err
	}
	ctx, err := natscontext.New(name, false, natscontext.WithServerURL(url), natscontext.WithNKey(path),
		natscontext.WithInboxPrefix(subject.Inbox(key.Public())), natscontext.WithJSAPIPrefix(access.APIPrefix))
	if err != nil {
		return nil, fmt.Errorf("context %s: %w", name, err)
	}
	return ctx, nil
}
