package chengine_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
)

// parentEnv makes the test binary a program that starts an engine in the named folder and hangs.
const parentEnv = "CHENGINE_TEST_PARENT"

func parentMain() {
	dir := os.Getenv(parentEnv)
	if dir == "" {
		return
	}
	e, err := chengine.Start(context.Background(), chengine.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(e.Pid())
	<-e.Done()
}

func TestEndsWithAParentThatIsKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscan(line, &pid); scanErr != nil {
		t.Fatalf("helper says %q, %v", line, err)
	}
	if !alive(pid) {
		t.Fatalf("engine %d does not run", pid)
	}
	if err := parent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	waitFor(t, 2*time.Second, "end of the engine", func() bool { return !alive(pid) })
	chtest.Start(t, chengine.Config{Dir: dir}) // its folder is free again
}

// alive says whether the process runs; one that has ended but was not waited for does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !strings.HasPrefix(string(rest), "Z") && !strings.HasPrefix(string(rest), "X")
}
