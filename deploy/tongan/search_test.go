package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	"tongan.dev/services/projector"
)

// secrets finds what is personal about the synthetic children: markers by how they begin, numbers one by one.
type secrets struct{ numbers map[string]bool }

func newSecrets() secrets {
	s := secrets{make(map[string]bool)}
	for i := range syntheticChildren {
		r := syntheticRow(i)
		s.numbers[r[2]], s.numbers[r[7]] = true, true
	}
	return s
}

// count counts the personal details in bytes.
func (s secrets) count(content []byte) int {
	n := bytes.Count(content, []byte(secret))
	for begin, length := range map[string]int{"999999": 18, "+999": 15} {
		for at := 0; ; at++ {
			next := bytes.Index(content[at:], []byte(begin))
			if next < 0 {
				break
			}
			at += next
			if s.numbers[string(content[at:min(at+length, len(content))])] {
				n++
			}
		}
	}
	return n
}

// none fails when a personal detail is found.
func (s secrets) none(t *testing.T, where string, content []byte) {
	t.Helper()
	if n := s.count(content); n > 0 {
		t.Errorf("%s holds %d personal details", where, n)
	}
}

// tables looks into every table and view, once all is projected.
func (p personal) tables(t *testing.T) {
	t.Helper()
	p.projected(t, "child_events WHERE state = 'REGISTERED'", syntheticChildren)
	p.projected(t, "journal WHERE type LIKE '%.FollowUpRecorded'", looked) // what was sent last about each
	_, list := p.query(t, projector.UserReporting, "SELECT database || '.' || name FROM system.tables WHERE database IN ('"+projector.BaseDatabase+"', '"+projector.ViewDatabase+"')")
	names := strings.Fields(list)
	if len(names) < 20 {
		t.Fatalf("tables and views are %v", names)
	}
	for _, name := range names {
		code, rows := p.query(t, projector.UserReporting, "SELECT * FROM "+name+" FORMAT TSV")
		if code != http.StatusOK {
			t.Errorf("%s: %s", name, rows)
		}
		p.none(t, name, []byte(rows))
		if strings.HasSuffix(name, ".child_events") && strings.Count(rows, childID(0)[:4]) < syntheticChildren {
			t.Errorf("%s was not read to its end", name)
		}
	}
	if _, planted := p.query(t, projector.UserReporting, "SELECT concat('"+secret[:3]+"', '"+secret[3:]+"') FORMAT TSV"); p.count([]byte(planted)) != 1 {
		t.Error("what a table holds is not found")
	}
}

func (p personal) projected(t *testing.T, from string, n int) {
	t.Helper()
	natstest.Eventually(t, time.Minute, strconv.Itoa(n)+" rows are in "+from, func() bool {
		_, got := p.query(t, projector.UserAnalystCity, "SELECT count() FROM "+projector.ViewDatabase+"."+from)
		return got == strconv.Itoa(n)
	})
}

// files looks into every file of the data folder. There is no log of the engine's queries among them.
func (p personal) files(t *testing.T) {
	t.Helper()
	size := p.eachFile(t, "", func(path string, content []byte) {
		p.none(t, path, content)
		if strings.HasSuffix(path, "_log.sql") {
			t.Errorf("the engine keeps a log: %s", path)
		}
	})
	if size < 10<<20 {
		t.Errorf("searched %d bytes", size)
	}
}

// eachFile reads every file in a folder of the data folder, and returns how many bytes they hold.
func (p personal) eachFile(t *testing.T, folder string, see func(path string, content []byte)) (size int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(p.dir, folder), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was merged into another one meanwhile
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		size += len(content)
		see(path, content)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return size
}

// streams reads every message of every stream, with a server of its own on the folder that the standalone left and a user who may read all,
// and then finds what is planted there.
func (p personal) streams(t *testing.T) {
	keys, err := loadKeys(filepath.Join(p.dir, "credentials", "services"))
	if err != nil {
		t.Fatal(err)
	}
	set, err := loadSettings(p.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := access.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	users := append(access.Users(), access.User{Name: "reader", Publish: []string{">"}, Subscribe: []string{">"}})
	conf := access.Conf(users, func(user string) string {
		if c := keys.users[user]; c != nil {
			return c.Public()
		}
		return reader.Public()
	}, keys.issuer.Public())
	server, err := bus.Start(bus.Config{Dir: filepath.Join(p.dir, "bus"), MonitorPort: -1, MaxStore: set.MaxStore, Access: conf})
	if err != nil {
		t.Fatal(err)
	}
	defer bus.End(server)
	js := natstest.Connect(t, server.ClientURL(), reader.ServiceOptions("reader")...)
	found, read := p.inStreams(t, js)
	if found > 0 || read < 2*syntheticChildren { // an event and a key for each child
		t.Errorf("in %d messages %d personal details are found", read, found)
	}
	planted := nats.NewMsg("tongan.dead.planted.TONGAN_INTAKE.1")
	planted.Header.Set("Planted", marked("planted", 0))
	planted.Data = []byte(syntheticRow(1)[2])
	if _, err := js.PublishMsg(t.Context(), planted); err != nil {
		t.Fatal(err)
	}
	if found, _ := p.inStreams(t, js); found != 2 {
		t.Errorf("of 2 planted personal details %d are found in the streams", found)
	}
	inFiles := 0
	p.eachFile(t, "", func(_ string, content []byte) { inFiles += p.count(content) })
	if inFiles != 2 {
		t.Errorf("of 2 planted personal details %d are found in the files", inFiles)
	}
}

// inStreams counts personal details in the subjects, headers and payloads of all streams, and the messages.
func (p personal) inStreams(t *testing.T, js jetstream.JetStream) (found, read int) {
	t.Helper()
	listed := js.StreamNames(t.Context())
	var names []string
	for name := range listed.Name() { // first: the list ends after five seconds
		names = append(names, name)
	}
	for _, name := range names {
		natstest.Each(t, js, name, func(m jetstream.Msg) {
			read++
			found += p.count(fmt.Append(nil, m.Subject(), m.Headers())) + p.count(m.Data())
		})
	}
	if err := listed.Err(); err != nil || len(names) < len(subject.Services())+5 {
		t.Errorf("%d streams were read (%v)", len(names), err)
	}
	return found, read
}
