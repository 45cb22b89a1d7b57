package main

import (
	"maps"
	"testing"
)

// trace is what strace writes about three threads: calls that end at once, calls that are cut in two, one that fails, and others.
const trace = `11 pwrite64(9</data/bus/1.blk>, ""..., 300, 0) = 300
12 write(4<socket:[77]>, ""..., 10) = 10
11 fsync(9</data/bus/1.blk> <unfinished ...>
12 write(2</var/log/bus.log>, ""..., 80) = 80
13 renameat(AT_FDCWD</>, "/data/bus/o.tmp", AT_FDCWD</>, "/data/bus/o.dat" <unfinished ...>
11 <... fsync resumed>) = 0 (DELAYED)
13 <... renameat resumed>) = 0
12 write(7</data/bus/2.blk>, ""..., 5) = -1 ENOSPC (No space left on device) (DELAYED)
11 +++ killed by SIGKILL +++
12 fsync(7</data/bus/2.blk> <unfinished ...>
12 <... fsync resumed>) = ?
`

func count(k kind, m moment, in int) *counter {
	c := newCounter(k, "/data/bus", m)
	for text := trace; text != ""; {
		n := min(in, len(text))
		c.feed([]byte(text[:n]), func() {})
		text = text[n:]
	}
	return c
}

// Calls are counted over all threads, at their begin and at their end, however the output comes in pieces.
func TestCallsAreCountedOverAllThreads(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind   kind
		moment moment
		want   map[string]int
	}{
		{files, before, map[string]int{"pwrite64": 1, "fsync": 2, "renameat": 1, "write": 1}},
		{files, after, map[string]int{"pwrite64": 1, "fsync": 1, "renameat": 1, "write": 1}}, // the last never ended
		{network, before, map[string]int{"write": 1}},
		{network, after, map[string]int{"write": 1}},
	} {
		for _, in := range []int{1, 7, 64, len(trace)} {
			if c := count(tt.kind, tt.moment, in); !maps.Equal(c.names, tt.want) {
				t.Errorf("kind %d, %s, in pieces of %d: %v, want %v", tt.kind, tt.moment, in, c.names, tt.want)
			}
		}
	}
}

// The process is held in the middle of a line: its call counts before the line ends.
func TestACallThatIsHeldCounts(t *testing.T) {
	t.Parallel()
	at := []string{}
	c := newCounter(files, "/data/bus", before)
	seen := func() { at = append(at, c.last) }
	c.feed([]byte(`11 pwrite64(9</data/bus/1.blk>, ""..., 300, 0`), seen)
	if len(at) != 1 || at[0] != "pwrite64" {
		t.Fatalf("counted are %v", at)
	}
	c.feed([]byte(") = 300\n11 fsync(9</data/bus/1.blk>"), seen)
	if len(at) != 2 || at[1] != "fsync" {
		t.Errorf("counted are %v", at)
	}
	c = newCounter(files, "/data/bus", after)
	c.feed([]byte(`11 pwrite64(9</data/bus/1.blk>, ""..., 300, 0`), func() { t.Error("it has not ended") })
}
