package natstest

import (
	"context"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/subject"
)

// fleet is the servers of one bus, and who may connect to them.
type fleet struct {
	everything, system *access.Credentials // of who connects without credentials, and of the system account
	issuer             *access.Issuer
	issuerFile         string
	doorless           bool                           // whether callers are let in by somebody else
	users              map[string]*access.Credentials // of the services
	mu                 sync.Mutex
	callers            []access.Caller
	configs            map[string]bus.Config // of the servers, by their addresses
}

// fleets are those that run, by the addresses of their servers.
var fleets sync.Map

func newFleet(tb testing.TB) *fleet {
	tb.Helper()
	issuerFile := filepath.Join(tb.TempDir(), "issuer.nk")
	issuer, err := access.EnsureIssuer(issuerFile)
	if err != nil {
		tb.Fatal(err)
	}
	f := &fleet{
		everything: credentials(tb), system: credentials(tb), issuer: issuer, issuerFile: issuerFile, users: make(map[string]*access.Credentials),
		configs: make(map[string]bus.Config),
	}
	for _, u := range access.Users() {
		f.users[u.Name] = credentials(tb)
	}
	return f
}

func credentials(tb testing.TB) *access.Credentials {
	tb.Helper()
	c, err := access.NewCredentials()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// conf lets who has no credentials do everything in the services' account, beside the users of the services.
func (f *fleet) conf() string {
	nobody := f.everything.Public()
	users := append(access.Users(), access.User{Name: "test", Publish: []string{">"}, Subscribe: []string{">"}})
	key := func(user string) string {
		switch c := f.users[user]; {
		case user == access.System:
			return f.system.Public()
		case c != nil:
			return c.Public()
		default:
			return nobody
		}
	}
	return "no_auth_user: " + nobody + "\n" + access.Conf(users, key, f.issuer.Public())
}

func (f *fleet) start(tb testing.TB, cfg bus.Config) *server.Server {
	tb.Helper()
	cfg.Access = f.conf()
	s := run(tb, cfg)
	if !f.doorless {
		f.open(tb, s)
	}
	f.configs[s.ClientURL()] = cfg
	fleets.Store(s.ClientURL(), f)
	tb.Cleanup(func() { fleets.Delete(s.ClientURL()) })
	return s
}

// run starts a server that ends with the test.
func run(tb testing.TB, cfg bus.Config) *server.Server {
	tb.Helper()
	s, err := bus.Start(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { bus.End(s) })
	return s
}

// Again starts a server that was shut down: with what it stored, at its address.
func Again(tb testing.TB, s *server.Server) *server.Server {
	tb.Helper()
	s.WaitForShutdown()
	at, err := url.Parse(s.ClientURL())
	if err != nil {
		tb.Fatal(err)
	}
	cfg := of(tb, s.ClientURL()).configs[s.ClientURL()]
	if cfg.Port, err = strconv.Atoi(at.Port()); err != nil {
		tb.Fatal(err)
	}
	return run(tb, cfg)
}

// of returns the bus that a server belongs to.
func of(tb testing.TB, url string) *fleet {
	tb.Helper()
	f, ok := fleets.Load(url)
	if !ok {
		tb.Fatalf("%s is no bus of a test", url)
	}
	return f.(*fleet)
}

// reconnect has a connection come back soon, however often its server goes.
var reconnect = []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.IgnoreAuthErrorAbort()}

// open lets callers in at a server.
func (f *fleet) open(tb testing.TB, s *server.Server) {
	tb.Helper()
	nc, err := nats.Connect(s.ClientURL(), append(f.users[subject.Audit].ServiceOptions(subject.Audit), reconnect...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	find := (&Callers{bus: f}).ByKey
	if _, err := (access.Door{Issuer: f.issuer, Find: find}).Open(nc); err != nil {
		tb.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		tb.Fatal(err)
	}
}

// Callers are those let in at a bus. They stand where the registry does in a deployment; who a request comes from is what the bus says,
// as there.
type Callers struct {
	bus *fleet
	url string
}

// CallersAt returns the callers of the bus that nc is connected to.
func CallersAt(tb testing.TB, nc *nats.Conn) *Callers {
	tb.Helper()
	url := nc.ConnectedUrl()
	return &Callers{of(tb, url), url}
}

// ByKey returns a caller that was let in.
func (c *Callers) ByKey(_ context.Context, key string) (access.Caller, bool) {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	for _, caller := range c.bus.callers {
		if caller.Key == key {
			return caller, true
		}
	}
	return access.Caller{}, false
}

// ByID knows everybody, as one of the organisation [Org].
func (*Callers) ByID(_ context.Context, id string) (access.Caller, bool) {
	return access.Caller{ID: id, Org: Org}, true
}

// Org is an organisation to which everybody belongs.
const Org = "org-test"

// LetIn gives a caller a key and returns the caller's connection.
func (c *Callers) LetIn(tb testing.TB, caller access.Caller) *nats.Conn {
	tb.Helper()
	creds := credentials(tb)
	caller.Key = creds.Public()
	c.bus.mu.Lock()
	c.bus.callers = append(c.bus.callers, caller)
	c.bus.mu.Unlock()
	nc, err := nats.Connect(c.url, append(creds.CallerOptions(), reconnect...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Issuer returns the issuer of a bus.
func Issuer(tb testing.TB, url string) *access.Issuer {
	tb.Helper()
	return of(tb, url).issuer
}

// Credentials returns the file of the credentials that a user of [access.Users] has at a bus, or [access.System].
func Credentials(tb testing.TB, url, user string) string {
	tb.Helper()
	f := of(tb, url)
	c := f.users[user]
	if user == access.System {
		c = f.system
	}
	path := filepath.Join(tb.TempDir(), user+".nk")
	if err := c.Save(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Doorless starts n servers with the streams, as [Cluster] does where there are several. They let no caller in: that is for the service
// audit, which needs the file of the issuer's key.
func Doorless(tb testing.TB, n int) (servers []*server.Server, js jetstream.JetStream, issuer string) {
	tb.Helper()
	f := newFleet(tb)
	f.doorless = true
	if n > 1 {
		servers, js = f.cluster(tb, n)
		return servers, js, f.issuerFile
	}
	s := f.start(tb, alone(tb))
	js = Connect(tb, s.ClientURL())
	Migrate(tb, js, 1)
	return []*server.Server{s}, js, f.issuerFile
}
