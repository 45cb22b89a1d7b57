package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/seal"
)

// keysCmd keeps the keys that seal personal details.
type keysCmd struct {
	Rotate keysRotateCmd `cmd:"" help:"Wrap the keys of children under another version of the master key, and remove the earlier one."`
}

// keysRotateCmd rotates the master key while the services go on. Ended at any point, it is run again.
type keysRotateCmd struct {
	busFlags
	Credentials string    `env:"TONGAN_CREDENTIALS" required:"" type:"path" help:"File with the seed of the user keykeeper, mode 0600."`
	MasterKey   seal.File `embed:""`
	AddOnly     bool      `help:"Add the version and stop, to copy the file to other machines; without it the rotation is finished then."`
}

// Run rotates and prints what that did, in numbers.
func (c *keysRotateCmd) Run(ctx context.Context) error {
	js, err := c.as(access.Keykeeper, c.Credentials)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	bar := progressbar.NewOptions(1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("keys looked at"),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond))
	r := &seal.Rotation{AddOnly: c.AddOnly, Progress: func(done, total int) {
		bar.ChangeMax(total)
		_ = bar.Set(done)
	}}
	err = c.MasterKey.Rotate(ctx, js, r)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return err
	}
	printRotation(os.Stdout, r)
	return nil
}

func printRotation(w io.Writer, r *seal.Rotation) {
	what := "a version was added"
	if !r.Begun {
		what = "no version was added: this rotation was begun before"
	}
	if r.AddOnly {
		what += "; it is to be finished without --add-only"
	}
	fmt.Fprintf(w, "%s\n%8d keys wrapped again\n%8d destroyed ones passed over\n", what, r.Wrapped, r.Destroyed)
	fmt.Fprintf(w, "versions of the master key: %s before, %s now\n", joinVersions(r.Before), joinVersions(r.After))
}

func joinVersions(versions []uint32) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(versions), " ", ", "), "[]")
}
