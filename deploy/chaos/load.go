package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// org is the organisation of all callers.
const org = "org-chaos"

// callerID is the id of the caller with a role.
func callerID(role auditv1.Role) string {
	if role == operator {
		return "operator-1"
	}
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}

// load sends stories.
type load struct {
	seed   uint64
	conns  map[auditv1.Role]*nats.Conn
	pace   *time.Ticker // each command waits for a tick
	next   atomic.Int64 // the next story
	ending atomic.Bool  // nothing new is begun

	mu       sync.Mutex
	told     []*Story
	enrolled []*Command
	done     int
	gaps     map[string]*gap           // by service, and of all under the empty name
	used     map[string]subject.Parsed // by service, an event that was just stored
	inner    int                       // answers that speak of an internal error
}

// gap is the longest time in which no command was carried out.
type gap struct {
	last    time.Time
	longest time.Duration
}

func (l *load) carried(at time.Time, name string) {
	g := l.gaps[name]
	if g == nil {
		g = &gap{last: at}
		l.gaps[name] = g
	}
	g.longest, g.last = max(g.longest, at.Sub(g.last)), at
}

// newLoad connects callers, one for each role.
func newLoad(ctx context.Context, f *fleet, seed uint64, perSecond int) (*load, error) {
	l := &load{seed: seed, conns: make(map[auditv1.Role]*nats.Conn), pace: time.NewTicker(time.Second / time.Duration(perSecond)), used: make(map[string]subject.Parsed), gaps: make(map[string]*gap)}
	key, err := access.LoadCredentials(f.path("operator-1.nk"))
	if err != nil {
		return nil, err
	}
	if err := l.connect(f, operator, key); err != nil {
		return nil, err
	}
	for _, role := range []auditv1.Role{hotline, worker, supervisor, nurse, warehouse, leader, gateway} {
		key, err := access.NewCredentials()
		if err != nil {
			return nil, err
		}
		c := &Command{Subject: subject.Caller.Command("add"), ID: uuid.NewString(), Role: operator}
		c.Makes = []Made{{Key: subject.Caller.Key(callerID(role)), Types: []string{"CallerAdded"}}}
		c.Body = &auditv1.AddCaller{
			Provenance: &eventv1.Provenance{CommandId: c.ID, OccurredAt: timestamppb.Now(), AdmCode: "440700", SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM},
			CallerId:   callerID(role), Nkey: key.Public(), Role: role, OrgId: org,
		}
		l.enrolled = append(l.enrolled, c)
		if l.send(ctx, c); c.Outcome.State != Done {
			return nil, fmt.Errorf("add caller %s: %s %s", callerID(role), c.Outcome.State, c.Outcome.Why)
		}
		if err := l.connect(f, role, key); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *load) connect(f *fleet, role auditv1.Role, key *access.Credentials) error {
	js, err := dial("nats://"+f.doors[Callers].addr(), key.CallerOptions()...)
	if err == nil {
		l.conns[role] = js.Conn()
	}
	return err
}

func (l *load) close() {
	for _, nc := range l.conns {
		nc.Close()
	}
	l.pace.Stop()
}

// run tells stories, so many at once, until it is to end.
func (l *load) run(ctx context.Context, atOnce int) {
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for !l.ending.Load() && ctx.Err() == nil {
				s := NewStory(l.seed, int(l.next.Add(1)-1), time.Now())
				l.mu.Lock()
				l.told = append(l.told, s)
				l.mu.Unlock()
				l.tell(ctx, s)
			}
		})
	}
	wg.Wait()
}

// tell sends the commands of a story one after the other. It ends early where the caller gives up.
func (l *load) tell(ctx context.Context, s *Story) {
	for _, c := range s.Commands {
		if l.ending.Load() || ctx.Err() != nil {
			return
		}
		<-l.pace.C
		c.complete()
		if l.send(ctx, c); c.Outcome.State == Unknown {
			return
		}
	}
}

// tryFor is how long an answer is waited for before the same command is sent again.
const tryFor = 3 * time.Second

// send sends a command until it is answered, its caller loses patience, or ctx ends.
func (l *load) send(ctx context.Context, c *Command) {
	for c.Outcome.State = Unknown; c.Outcome.State == Unknown && ctx.Err() == nil; wait(ctx, 20*time.Millisecond) {
		if c.Patience > 0 && c.Outcome.Tries >= c.Patience {
			return
		}
		c.Outcome.Tries++
		out, err := ask(ctx, l.conns[c.Role], c)
		l.note(c, out, err)
	}
}

// refusal is a service's answer to a command that it did not carry out.
type refusal struct{ code, text string }

// Error is what the service said.
func (r *refusal) Error() string { return r.text + " (" + r.code + ")" }

// ask sends a command once.
func ask(ctx context.Context, nc *nats.Conn, c *Command) (*eventv1.CommandReply, error) {
	payload, err := proto.Marshal(c.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, c.Subject, payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		return nil, &refusal{code, m.Header.Get(micro.ErrorHeader)}
	}
	reply := &eventv1.CommandReply{}
	return reply, proto.Unmarshal(m.Data, reply)
}

// note notes what a command was answered. What is not available now, or failed inside, may have been stored all the same.
func (l *load) note(c *Command, reply *eventv1.CommandReply, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused, is := errors.AsType[*refusal](err); is {
		if refused.code == "500" {
			l.inner++
		}
		if refused.code != "500" && refused.code != "503" {
			c.Outcome.State, c.Outcome.Why = Refused, refused.Error()
		}
		return
	}
	if err != nil {
		return
	}
	c.Outcome.State, c.Outcome.EventIDs, c.Outcome.Revision = Done, reply.GetEventIds(), reply.GetRevision()
	if len(reply.GetEventIds()) == 0 {
		return
	}
	l.done++
	now := time.Now()
	l.carried(now, "")
	l.carried(now, strings.Split(c.Subject, ".")[2])
	made := c.Makes[0]
	if len(made.Types) == 0 {
		return // it must not have led to anything: the checker will say so
	}
	if e, err := subject.ParseEvent("tongan.evt." + made.Key + "." + subject.Kebab(made.Types[0])); err == nil {
		l.used[e.Service] = e
	}
}

// justUsed returns an event that a service has just stored.
func (l *load) justUsed(service string) (subject.Parsed, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, there := l.used[service]
	return e, there
}

// more waits until so many more commands are carried out, at most so long.
func (l *load) more(ctx context.Context, n int, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for until := l.carriedOut() + n; l.carriedOut() < until && ctx.Err() == nil; {
		wait(ctx, 2*time.Millisecond)
	}
}

func (l *load) carriedOut() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done
}

// commands returns every command that was sent.
func (l *load) commands() []*Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.enrolled)
	for _, s := range l.told {
		for _, c := range s.Commands {
			if c.Outcome.State != Unsent {
				out = append(out, c)
			}
		}
	}
	return out
}

// repeat sends commands again after the faults: half of those of which it is not known what became of them, and some of those that were
// carried out, which have to be answered as the first time. It returns what was answered otherwise.
func (l *load) repeat(ctx context.Context) []Violation {
	rng := rand.New(rand.NewPCG(l.seed, 2))
	var out []Violation
	for _, c := range l.commands() {
		switch {
		case c.Outcome.State == Unknown && rng.IntN(2) == 0:
			c.Patience = 0
			l.send(ctx, c)
		case c.Outcome.State == Done && len(c.Outcome.EventIDs) > 0 && rng.IntN(20) == 0:
			again := *c
			again.Patience = 0
			if l.send(ctx, &again); again.Outcome.State != Done || again.Outcome.Revision != c.Outcome.Revision || !slices.Equal(again.Outcome.EventIDs, c.Outcome.EventIDs) {
				out = append(out, Violation{Double, c.String(), "sent again it is answered otherwise: " + string(again.Outcome.State) + " " + again.Outcome.Why})
			}
		}
	}
	return out
}
