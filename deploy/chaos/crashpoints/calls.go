package main

import (
	"bytes"
	"regexp"
	"strings"
)

// kind says which calls of a process are crash points.
type kind int

const (
	// files are the calls that change files of a folder.
	files kind = iota
	// network are the calls that write to sockets.
	network
)

// calls are the system calls of a kind, as strace takes them. A file that is opened to be made is not among them: what is written to it is.
func (k kind) calls() string {
	if k == network {
		return "write,writev,sendto,sendmsg"
	}
	return "write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,ftruncate,fallocate,copy_file_range,sendfile," +
		"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir"
}

// moment is when the process is killed: as a call begins, before the kernel does anything, or when it has done it and the process does not
// know yet.
type moment string

const (
	before moment = "before"
	after  moment = "after"
)

// counter reads what strace writes, and counts the calls of a process that are crash points, over all of its threads.
type counter struct {
	kind   kind
	folder string // of whose files the calls count
	moment moment
	n      int
	// last is the name of the call that was counted last.
	last string
	// names is how many of each were counted.
	names map[string]int

	line    []byte
	counted bool            // the beginning of the line at hand was
	open    map[string]bool // by thread, whether the call it is in counts
}

func newCounter(k kind, folder string, m moment) *counter {
	return &counter{kind: k, folder: folder, moment: m, names: make(map[string]int), open: make(map[string]bool)}
}

// Lines of strace -f: a thread and a call, whole or cut in two where another thread's comes in between.
var (
	begins = regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)$`)
	goesOn = regexp.MustCompile(`^(\d+) +<\.\.\. ([a-z0-9_]+) resumed>`)
	result = regexp.MustCompile(`\) += -?\d`)
)

// feed takes more of the output, which may end in the middle of a line: the process is held there. It calls reached for each call counted.
func (c *counter) feed(more []byte, reached func()) {
	for {
		part, rest, whole := bytes.Cut(more, []byte{'\n'})
		c.line = append(c.line, part...)
		c.look(string(c.line), whole, reached)
		if !whole {
			return
		}
		more, c.line, c.counted = rest, c.line[:0], false
	}
}

func (c *counter) look(line string, whole bool, reached func()) {
	if c.moment == before {
		if m := begins.FindStringSubmatch(line); m != nil && !c.counted && c.counts(m[2], m[3]) {
			c.counted = true
			c.count(m[2], reached)
		}
		return
	}
	if !whole {
		return
	}
	if m := begins.FindStringSubmatch(line); m != nil {
		switch {
		case strings.HasSuffix(line, "<unfinished ...>"):
			c.open[m[1]] = c.counts(m[2], m[3])
		case result.MatchString(m[3]) && c.counts(m[2], m[3]):
			c.count(m[2], reached)
		}
		return
	}
	if m := goesOn.FindStringSubmatch(line); m != nil && c.open[m[1]] {
		delete(c.open, m[1])
		if result.MatchString(line) {
			c.count(m[2], reached)
		}
	}
}

func (c *counter) count(name string, reached func()) {
	c.n, c.last = c.n+1, name
	c.names[name]++
	reached()
}

// counts reports whether a call with these arguments is a crash point.
func (c *counter) counts(_, args string) bool {
	if c.kind == network {
		fd, _, _ := strings.Cut(args, ",")
		return strings.Contains(fd, "<socket:") || strings.Contains(fd, "<TCP")
	}
	return strings.Contains(args, c.folder)
}
