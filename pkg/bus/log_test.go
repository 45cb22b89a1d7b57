package bus_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
)

// marker stands where a client writes something.
const marker = "1f2e3d"

// watched is a bus that remembers what it denied and what it logged.
type watched struct {
	*server.Server
	caller, victim *access.Credentials

	mu     sync.Mutex
	denied []bus.Denial
	log    bytes.Buffer
}

// Write adds to the log.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *watched) deny(d bus.Denial) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.denied = append(w.denied, d)
}

// told is what was denied, and logged, since it was asked for the last time.
func (w *watched) told() ([]bus.Denial, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	denied, logged := w.denied, w.log.String()
	w.denied = nil
	w.log.Reset()
	return denied, logged
}

func credentials(t *testing.T) *access.Credentials {
	t.Helper()
	c, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// watch starts a bus where caller and victim may publish and subscribe a little.
func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{caller: credentials(t), victim: credentials(t)}
	users := ""
	for _, c := range []*access.Credentials{w.caller, w.victim} {
		users += fmt.Sprintf("{nkey: %s, permissions: {publish: {allow: [\"may.>\"]}, subscribe: {allow: [\"_INBOX.>\"]}}}\n", c.Public())
	}
	w.Server = start(t, bus.Config{
		Dir: t.TempDir(), MonitorPort: -1, Access: "accounts { CALLERS { users: [" + users + "] } }",
		Denied: w.deny, Log: slog.New(slog.NewTextHandler(w, nil)),
	})
	return w
}

// line is what a client of the library speaks over; what is written to it goes to the server as it is.
type line struct{ net.Conn }

// Dial connects.
func (l *line) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	l.Conn = c
	return c, err
}

// connect connects the caller under a name, to write what the library would not.
func (w *watched) connect(t *testing.T, name string) (*nats.Conn, *line) {
	t.Helper()
	l := &line{}
	nc, err := nats.Connect(w.ClientURL(), w.caller.Option(), nats.Name(name), nats.SetCustomDialer(l), nats.NoReconnect(),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, l
}

// say writes to the server and waits until it has read that.
func say(t *testing.T, nc *nats.Conn, l *line, text string) {
	t.Helper()
	if _, err := l.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil && !nc.IsClosed() {
		t.Fatal(err)
	}
}

func TestDenialsAreTold(t *testing.T) {
	t.Parallel()
	w := watch(t)
	key := w.caller.Public()
	long := strings.Repeat("long.", 500) + "end"
	for name, tt := range map[string]struct {
		say  string
		want bus.Denial
	}{
		"publish":                        {"PUB hush.x 0\r\n\r\n", bus.Denial{Subject: "hush.x"}},
		"publish with a reply":           {"PUB hush.x _INBOX.1 0\r\n\r\n", bus.Denial{Subject: "hush.x"}},
		"publish with headers":           {"HPUB hush.x 12 12\r\nNATS/1.0\r\n\r\n\r\n", bus.Denial{Subject: "hush.x"}},
		"a reply that is the server's":   {"PUB may.x _R_.1 0\r\n\r\n", bus.Denial{Subject: "_R_.1"}},
		"a reply that is JetStream's":    {"PUB may.x $JS.ACK.S.C.1.1.1.1.1 0\r\n\r\n", bus.Denial{Subject: "$JS.ACK.S.C.1.1.1.1.1"}},
		"subscribe":                      {"SUB hush.* 7\r\n", bus.Denial{Subject: "hush.*", Subscribe: true}},
		"subscribe everything":           {"SUB > 7\r\n", bus.Denial{Subject: ">", Subscribe: true}},
		"subscribe in a queue":           {"SUB hush.x q 7\r\n", bus.Denial{Subject: "hush.x", Subscribe: true}},
		"in Chinese":                     {"PUB 小明.x 0\r\n\r\n", bus.Denial{Subject: "小明.x"}},
		"subscribe in Chinese":           {"SUB 小明.x 7\r\n", bus.Denial{Subject: "小明.x", Subscribe: true}},
		"quotes and backslashes":         {"SUB a\"\\.%s 7\r\n", bus.Denial{Subject: "a\"\\.%s", Subscribe: true}},
		"publish quotes and backslashes": {"PUB a\"\\.%s 0\r\n\r\n", bus.Denial{Subject: "a\"\\.%s"}},
		"what is no text":                {"PUB a\xff\x01b 0\r\n\r\n", bus.Denial{Subject: "a\xff\x01b"}},
		"subscribe what is no text":      {"SUB a\xff\x01b 7\r\n", bus.Denial{Subject: "a\xff\x01b", Subscribe: true}},
		"a long one":                     {"PUB " + long + " 0\r\n\r\n", bus.Denial{Subject: long}},
		"a number that is none":          {"SUB hush.x \x0b\x0c\",%s\r\n", bus.Denial{Subject: "hush.x", Subscribe: true}},
		"a queue that imitates a number": {"SUB hush.x \",SID 7\r\n", bus.Denial{Subject: "hush.x", Subscribe: true}},
	} {
		nc, l := w.connect(t, "a client")
		say(t, nc, l, tt.say)
		tt.want.Key = key
		denied, logged := w.told()
		if diff := cmp.Diff([]bus.Denial{tt.want}, denied); diff != "" || logged != "" {
			t.Errorf("%s: logged is %q, told %s", name, logged, diff)
		}
		nc.Close()
	}
	nc, l := w.connect(t, "a client")
	say(t, nc, l, "PUB may.x 0\r\n\r\nSUB _INBOX.x 7\r\n")
	if denied, logged := w.told(); len(denied) != 0 || logged != "" {
		t.Errorf("of what it may do is told %v, and logged %q", denied, logged)
	}
}

// A connection inside the process has no address; it is told of all the same.
func TestDenialsInsideTheProcessAreTold(t *testing.T) {
	t.Parallel()
	w := watch(t)
	nc, err := nats.Connect("", w.caller.Option(), nats.InProcessServer(w.Server), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := nc.Publish("hush.x", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.SubscribeSync("hush.y"); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	want := []bus.Denial{{Key: w.caller.Public(), Subject: "hush.x"}, {Key: w.caller.Public(), Subject: "hush.y", Subscribe: true}}
	if denied, logged := w.told(); cmp.Diff(want, denied) != "" || logged != "" {
		t.Errorf("told is %v, and logged %q", denied, logged)
	}
}

// Who is not let in is told of by the key that it named; whether it was its own the bus does not say.
func TestWhoIsNotLetInIsTold(t *testing.T) {
	t.Parallel()
	w := watch(t)
	unknown := credentials(t)
	for name, tt := range map[string]struct {
		opt  nats.Option
		want []bus.Denial
	}{
		"an unknown key":                {unknown.Option(), []bus.Denial{{Key: unknown.Public()}}},
		"another one's key":             {nats.Nkey(w.victim.Public(), func([]byte) ([]byte, error) { return []byte("x"), nil }), []bus.Denial{{Key: w.victim.Public()}}},
		"a key that is none":            {nats.Nkey(marker, func([]byte) ([]byte, error) { return []byte("x"), nil }), nil},
		"a key that imitates the line":  {nats.Nkey("x\" - authentication error - Nkey \""+w.victim.Public(), func([]byte) ([]byte, error) { return nil, nil }), nil},
		"a name":                        {nats.UserInfo(marker, marker), nil},
		"a name that imitates the line": {nats.UserInfo(fmt.Sprintf("%s Nkey %q", marker, w.victim.Public()), ""), nil},
		"a token":                       {nats.Token(marker), nil},
		"nothing":                       {nats.Name(marker), nil},
	} {
		nc, err := nats.Connect(w.ClientURL(), tt.opt)
		if err == nil {
			nc.Close()
			t.Fatalf("%s is let in", name)
		}
		var denied []bus.Denial
		var logged string
		natstest.Eventually(t, 10*time.Second, "the server says so", func() bool {
			d, l := w.told()
			denied, logged = append(denied, d...), logged+l
			return len(denied) > 0 || logged != ""
		})
		if diff := cmp.Diff(tt.want, denied); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if strings.Contains(logged, marker) || strings.Contains(logged, w.victim.Public()) {
			t.Errorf("%s: logged is %s", name, logged)
		}
	}
}

// The server puts what a client calls itself, and any error that it sends, into its log, the name even as a format. Whatever a client writes,
// what is told of is its own key and its own subject; and nothing that it wrote is logged.
func TestNothingAClientWritesLooksLikeADenial(t *testing.T) {
	t.Parallel()
	w := watch(t)
	key, victim := w.caller.Public(), w.victim.Public()
	names := []string{
		`" - "CALLERS/nkey:` + victim + `" - Publish Violation - Subject "` + marker,
		"x\" - \"CALLERS/nkey:" + victim + "\" - Subscription Violation - Subject \"" + marker + "\", SID 7\n",
		"CALLERS/nkey:" + victim,
		`%[1]s - Publish Violation - Subject %[1]s ` + marker,
		`%[1]q - Publish Violation - Subject %[1]q ` + marker,
		`%q - Publish Violation - Subject "x"` + marker,
		`%v - %s` + marker,
		"%" + marker,
		"\n127.0.0.1:1 - cid:1 - \"CALLERS/nkey:" + victim + "\" - Publish Violation - Subject %q",
		"\\\" - \"CALLERS/nkey:" + victim + "\" - Publish Violation - Subject \\\"x\\\" " + marker,
		strings.Repeat(marker, 200),
		"陈小明" + marker,
	}
	subjects := []string{
		`CALLERS/nkey:` + victim, `"CALLERS/nkey:` + victim + `"`, marker + `"-"CALLERS/nkey:` + victim + `"-Publish`, marker + ".%s.%q",
	}
	for _, name := range names {
		for _, subj := range subjects {
			for _, form := range []struct {
				say  string
				want bus.Denial
			}{
				{"PUB %s 0\r\n\r\n", bus.Denial{Key: key, Subject: subj}},
				{"PUB may.x _R_.%s 0\r\n\r\n", bus.Denial{Key: key, Subject: "_R_." + subj}},
				{"SUB %s 7\r\n", bus.Denial{Key: key, Subject: subj, Subscribe: true}},
				{"SUB %[1]s %[1]s 7\r\n", bus.Denial{Key: key, Subject: subj, Subscribe: true}},
				{"SUB %[1]s %[1]s\r\n", bus.Denial{Key: key, Subject: subj, Subscribe: true}},
			} {
				nc, l := w.connect(t, name)
				say(t, nc, l, fmt.Sprintf(form.say, subj))
				id, err := nc.GetClientID()
				if err != nil {
					t.Fatal(err)
				}
				denied, logged := w.told()
				if diff := cmp.Diff([]bus.Denial{form.want}, denied); diff != "" || !ofGone(logged, id) {
					t.Errorf("named %q it says %q: logged is %q, told %s", name, form.say, logged, diff)
				}
				nc.Close()
			}
		}
		// Errors that end the connection: the server logs them, we log that there was one.
		for _, said := range []string{
			`-ERR ` + marker + ` "CALLERS/nkey:` + victim + `" - Publish Violation - Subject "x"` + "\r\n",
			`-ERR x - authentication error - Nkey "` + victim + `"` + "\r\n",
			"-ERR " + marker + ": authentication error - Nkey %q\r\n",
			`"CALLERS/nkey:` + victim + `" - Publish Violation - Subject "` + marker + "\"\r\n",
			marker + " %s %d\r\n",
			"PUB " + marker + " x y z\r\n",
			"SUB " + marker + "\r\n",
			"PUB may.x 99999999\r\n",
			"PUB may." + marker + strings.Repeat("x", 5000) + " 0\r\n\r\n",
			"INFO {" + marker + "}\r\n",
			"MSG " + marker + " 1 0\r\n\r\n",
		} {
			nc, l := w.connect(t, name)
			say(t, nc, l, said)
			natstest.Eventually(t, 10*time.Second, "the server has read it", func() bool { return nc.IsClosed() || nc.FlushTimeout(time.Second) == nil })
			nc.Close()
			natstest.Eventually(t, 10*time.Second, "the connection is gone", func() bool { return w.NumClients() == 0 })
			denied, logged := w.told()
			if len(denied) != 0 {
				t.Errorf("named %q it says %q: told is %v", name, said, denied)
			}
			if strings.Contains(logged, marker) || strings.Contains(logged, victim) || strings.Contains(logged, "小明") {
				t.Errorf("named %q it says %q: logged is %s", name, said, logged)
			}
		}
	}
}

// ofGone reports whether all that is logged is about connections before this one, which are gone: the server may log of one after that.
func ofGone(logged string, id uint64) bool {
	for line := range strings.Lines(logged) {
		m := regexp.MustCompile(`^time=\S+ level=ERROR msg=bus connection=(\d+) key=\S* message=(?:"[a-zA-Z ]+"|[a-zA-Z]+)\n$`).FindStringSubmatch(line)
		if m == nil {
			return false
		}
		if of, err := strconv.ParseUint(m[1], 10, 64); err != nil || of >= id {
			return false
		}
	}
	return true
}

// Without anybody to tell, a denial is a line in the log that names the connection and the key, and no subject.
func TestADenialThatNobodyIsToldOfIsLogged(t *testing.T) {
	t.Parallel()
	w := watch(t)
	unwatched := &watched{caller: w.caller, victim: w.victim}
	unwatched.Server = start(t, bus.Config{
		Dir: t.TempDir(), MonitorPort: -1, Log: slog.New(slog.NewTextHandler(unwatched, nil)),
		Access: "accounts { CALLERS { users: [{nkey: " + w.caller.Public() + ", permissions: {publish: {deny: [\">\"]}}}] } }",
	})
	nc, l := unwatched.connect(t, marker)
	say(t, nc, l, "PUB "+marker+" 0\r\n\r\n")
	_, logged := unwatched.told()
	if !strings.Contains(logged, w.caller.Public()) || !strings.Contains(logged, "Publish Violation") || strings.Contains(logged, marker) {
		t.Errorf("logged is %s", logged)
	}
}
