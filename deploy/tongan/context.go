package main

import (
	"fmt"
	"path/filepath"

	"github.com/nats-io/jsm.go/natscontext"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/serve"
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
	NATSURL     string `name:"nats-url" env:"TONGAN_NATS_URL" default:"nats://127.0.0.1:4222" help:"Address of the bus; of several servers all, with commas between."`
	Select      bool   `help:"Make it the context that is used where none is named."`
	serve.SecurityFlags
}

// Run saves it where the NATS CLI looks for contexts: the key and the inbox it may subscribe; operators find JetStream's interface under a
// prefix. Keys stay in their files.
func (c *contextSaveCmd) Run() error {
	key, err := access.LoadCredentials(c.Credentials)
	if err != nil {
		return err
	}
	if _, err := c.NATSOptions(c.NATSURL); err != nil {
		return err
	}
	path, err := filepath.Abs(c.Credentials)
	if err != nil {
		return fmt.Errorf("credentials %s: %w", c.Credentials, err)
	}
	ctx, err := natscontext.New(c.Name, false, natscontext.WithServerURL(c.NATSURL), natscontext.WithNKey(path),
		natscontext.WithInboxPrefix(subject.Inbox(key.Public())), natscontext.WithJSAPIPrefix(access.APIPrefix),
		natscontext.WithCertificate(c.NATSTLS.Cert), natscontext.WithKey(c.NATSTLS.Key), natscontext.WithCA(c.NATSTLS.CA))
	if err != nil {
		return fmt.Errorf("context %s: %w", c.Name, err)
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
