// Command chaos breaks a running system on purpose, by a plan that one seed gives, and checks that nothing was lost, doubled or torn.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tongan.dev/deploy/chaos"
	"tongan.dev/pkg/chengine"
)

func main() {
	chengine.ChildMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg := chaos.Config{Say: func(s string) { fmt.Println(s) }}
	flag.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of the plan and of the commands")
	flag.IntVar(&cfg.Kills, "kills", 1000, "how many processes are killed")
	flag.IntVar(&cfg.Nodes, "nodes", 1, "nodes of the bus, 1 or 3")
	flag.BoolVar(&cfg.Leaders, "leaders", false, "kill the leader only, with 3 nodes")
	flag.IntVar(&cfg.AtOnce, "callers", 16, "callers that send at once")
	flag.IntVar(&cfg.PerSecond, "rate", 200, "commands a second, at most")
	flag.StringVar(&cfg.Dir, "dir", "", "empty folder for everything; it stays. Default: one that is removed, unless something is wrong")
	plan := flag.Bool("plan", false, "print the plan and do nothing")
	flag.Parse()
	if *plan {
		for n, f := range chaos.Plan(cfg.PlanConfig) {
			fmt.Printf("%4d %s\n", n+1, f)
		}
		return nil
	}
	remove := cfg.Dir == ""
	if remove {
		var err error
		if cfg.Dir, err = os.MkdirTemp("", "tongan-chaos-"); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	fmt.Printf("seed %d, in %s\n", cfg.Seed, cfg.Dir)
	r, err := chaos.Run(ctx, cfg)
	if err != nil {
		return err
	}
	r.Write(os.Stdout)
	if len(r.Violations) > 0 {
		return fmt.Errorf("%d violations; all is left in %s", len(r.Violations), cfg.Dir)
	}
	if remove {
		return os.RemoveAll(cfg.Dir)
	}
	return nil
}
