package chengine

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ChildEnv is the environment variable that marks a process as the engine's child, see ChildMain.
const ChildEnv = "TONGAN_ENGINE_CHILD"

// Descriptors the child is given besides its standard ones.
const (
	lifelineFD = 3 // read end of a pipe; the parent alone has the write end
	lockFD     = 4 // the lock of the data folder, held as long as the child lives
)

// ChildMain runs the engine and never returns if this process was started as
// the engine's child; otherwise it does nothing. Call it first in main, and in
// TestMain of packages that start an engine.
func ChildMain() {
	if os.Getenv(ChildEnv) == "" {
		return
	}
	go endWithParent()
	// A signal for the whole process group or service must not end the engine
	// before its parent has written what it still has to write.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	syscall.Umask(0o077)
	// A core file would hold data, outside of the data folder.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	if err := runLibrary(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// endWithParent kills this process when the lifeline ends, which happens
// however the parent ended. SIGKILL, because the engine's threads may be
// anywhere and its data survive it.
func endWithParent() {
	var b [1]byte
	for {
		_, err := syscall.Read(lifelineFD, b[:])
		if err != syscall.EINTR {
			break
		}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// runLibrary loads the library args[1] and runs its command line with the rest.
func runLibrary(args []string) error {
	if len(args) < 2 {
		return errors.New("start the engine: no library given")
	}
	lib, err := purego.Dlopen(args[1], purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load %s: %w", args[1], err)
	}
	var (
		cmdline func(argc int32, argv unsafe.Pointer) uintptr
		message func(result uintptr) string
	)
	purego.RegisterLibFunc(&cmdline, lib, "chdb_query_cmdline")
	purego.RegisterLibFunc(&message, lib, "chdb_result_error")
	argv := make([]*byte, 0, len(args))
	argv = append(argv, cString("clickhouse"))
	for _, a := range args[2:] {
		argv = append(argv, cString(a))
	}
	argc := int32(len(argv))
	argv = append(argv, nil)
	if result := cmdline(argc, unsafe.Pointer(&argv[0])); result != 0 {
		if m := message(result); m != "" {
			return errors.New(m)
		}
	}
	return nil
}

// cString returns s with the zero byte C wants.
func cString(s string) *byte {
	b := append([]byte(s), 0)
	return &b[0]
}
