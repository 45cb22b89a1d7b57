// Command tongan is all of Tongan in one binary: the services with an embedded bus and a ClickHouse engine, a demonstration, and the
// tools that speak to a system that runs.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/serve"
)

// cli is the command line. Every flag can be given in the environment too.
type cli struct {
	Standalone standaloneCmd `cmd:"" help:"Run everything on this machine: all services, the bus, the ClickHouse engine."`
	Demo       demoCmd       `cmd:"" help:"Replay 23 January to 4 February 2020 in a fresh folder and print the bulletin."`
	Send       sendCmd       `cmd:"" help:"Send the demonstration's commands to a system that runs; sending them again changes nothing."`
	Import     importCmd     `cmd:"" help:"Enter what is in files; importing a file again changes nothing."`
	Report     reportCmd     `cmd:"" help:"Print the figures as of a day and publish them as a bulletin."`
	Context    contextCmd    `cmd:"" help:"Keep ways to connect."`
	Users      usersCmd      `cmd:"" help:"Keep who may call."`
	Audit      auditCmd      `cmd:"" help:"List who did what: users changed, details shown, data exported, attempts refused."`
	Migrate    migrateCmd    `cmd:"" help:"Create the streams and the tables on servers of one's own."`
	Doctor     doctorCmd     `cmd:"" help:"Check the bus and the tables, and say what to do about what is wrong."`
	Verify     verifyCmd     `cmd:"" help:"Read all events, check them, and compare the tables with them."`
	Keys       keysCmd       `cmd:"" help:"Keep the keys that personal details are sealed under."`
	Supervise  superviseCmd  `cmd:"" help:"Run a nats-server of one's own, and start it again when it ended or does not store."`
	Decode     decodeCmd     `cmd:"" help:"Turn a message on standard input into JSON: nats sub 'tongan.evt.>' --translate 'tongan decode {{Subject}}'."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

func main() {
	chengine.ChildMain()
	serve.CollectRarely()
	var c cli
	k := kong.Parse(&c, kong.Name("tongan"), kong.Description("Tongan (童安): child protection in an emergency, as events."),
		kong.UsageOnError(), kong.Vars{"roles": roleNames(), "childColumns": childColumnNames()})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	k.BindTo(ctx, (*context.Context)(nil))
	err := k.Run()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "tongan: %v\n", err)
		os.Exit(1)
	}
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error {
	_, err := fmt.Println("tongan", serve.Version)
	return err
}

// logFlags choose what is logged.
type logFlags struct {
	LogLevel slog.Level `env:"TONGAN_LOG_LEVEL" default:"warn" help:"Least level that is logged: debug, info, warn, error."`
}
