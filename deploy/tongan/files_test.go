package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"tongan.dev/pkg/access"
)

var update = flag.Bool("update", false, "write the files for servers of one's own")

// The file for a nats-server of one's own says what the embedded one is told; TestEachServiceIsAProcess runs a server with it.
func TestAccessFileIsWhatTheDataSay(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "nats", "access.conf")
	want := "# Who may do what on the bus. Made from pkg/access: go test ./deploy/tongan -run TestAccessFile -args -update\n" +
		access.Conf(access.Users(), func(user string) string { return "$" + keyVariable(user) }, "$"+keyVariable(issuerName))
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // it holds no secret
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is not what pkg/access says (%v): write it with -update", path, err)
	}
}
