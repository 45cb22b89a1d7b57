package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Tally is what a figure is for.
type Tally struct{ Indicator, AdmCode string }

// Made is what a command leads to at one aggregate: the types of its events, in order.
type Made struct {
	Key   string
	Types []string
}

// Command is one command of the load, and what the model says of it. What it leads to and counts is written down here by hand: neither the
// deciders nor the projector are asked.
type Command struct {
	Subject string
	Body    decider.Event
	ID      string
	Role    auditv1.Role
	Makes   []Made
	Counts  map[Tally]int64
	// Refused says that it has to be refused by a rule.
	Refused bool
	// Seen is the command whose revision this one was decided on, nil for none.
	Seen *Command
	// Patience is how often it is sent before its caller gives up on the rest of the story; 0 means until it is answered.
	Patience int
	// Outcome is what the caller was told.
	Outcome Outcome
}

// State is what a caller knows of a command.
type State string

// What a caller may know of a command.
const (
	Unsent  State = ""
	Done    State = "done"
	Refused State = "refused"
	Unknown State = "unknown"
)

// Outcome is what became of a command as its caller knows it.
type Outcome struct {
	State    State
	EventIDs []string
	Revision uint64
	// Tries is how often it was sent.
	Tries int
	// Why is the text of a refusal.
	Why string
}

// key names the command in the report.
func (c *Command) String() string { return c.Subject + " " + c.ID }

// Story is commands that one caller after the other sends about things that no other story is about.
type Story struct {
	Commands []*Command

	rng *rand.Rand
	id  string
	adm string
	at  time.Time
	now time.Time
}

// Districts in which the stories happen.
var places = []string{"440703", "440704", "440705", "440781"}

// NewStory returns the n-th story of a seed. Now is when it is told: what lies ahead in it, such as a call back that was promised, is then.
func NewStory(seed uint64, n int, now time.Time) *Story {
	s := &Story{rng: rand.New(rand.NewPCG(seed, uint64(n)+1000)), id: fmt.Sprint("s", n), now: now}
	s.adm = places[s.rng.IntN(len(places))]
	s.at = time.Date(2020, 1, 24, 1, 0, 0, 0, time.UTC).AddDate(0, 0, s.rng.IntN(200))
	tales[n%len(tales)](s)
	for _, c := range s.Commands {
		if s.rng.IntN(8) == 0 {
			c.Patience = 1 + s.rng.IntN(3)
		}
	}
	return s
}

// name returns an id of this story.
func (s *Story) name(what string) string { return s.id + "-" + what }

// add adds a command for one aggregate, with the types of the events it leads to; with none, it has to be answered and lead to nothing.
func (s *Story) add(role auditv1.Role, kind subject.Aggregate, id, verb string, body decider.Event, types ...string) *Command {
	s.at = s.at.Add(time.Minute)
	c := &Command{Subject: kind.Command(verb), Body: body, ID: fmt.Sprintf("%s-k%d", s.id, len(s.Commands)), Role: role, Counts: map[Tally]int64{}}
	c.Makes = []Made{{Key: kind.Key(id), Types: types}}
	p := &eventv1.Provenance{
		CommandId: c.ID, OccurredAt: timestamppb.New(s.at), AdmCode: s.adm, SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SCENARIO,
	}
	m := body.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("provenance"), protoreflect.ValueOfMessage(p.ProtoReflect()))
	s.Commands = append(s.Commands, c)
	return c
}

// counts says what a command counts for, in the district of its story.
func (c *Command) counts(indicator string, n int64) *Command {
	c.Counts[Tally{indicator, c.Body.GetProvenance().GetAdmCode()}] += n
	return c
}

// refused says that a rule is against it.
func (c *Command) refused() { c.Refused = true }

// seen says on which command's revision it is decided.
func (c *Command) seen(before *Command) *Command {
	c.Seen = before
	return c
}

// complete fills in what only the answers to earlier commands tell.
func (c *Command) complete() {
	if c.Seen != nil {
		m := c.Body.ProtoReflect()
		m.Set(m.Descriptor().Fields().ByName("seen_revision"), protoreflect.ValueOfUint64(c.Seen.Outcome.Revision))
	}
}
