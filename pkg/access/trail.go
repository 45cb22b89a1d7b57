package access

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
)

// Record writes an event to the audit trail of who (a caller's id, or a public NKey where none is known) and returns once it is stored.
func Record(ctx context.Context, js jetstream.JetStream, who string, e decider.Event) error {
	m, err := eventlog.Encode(subject.Trail, who, decider.Recorded{Event: e, ID: uuid.NewString()})
	if err == nil {
		_, err = eventlog.Publish(ctx, js, m)
	}
	if err != nil {
		return fmt.Errorf("audit trail: %w: %w", eventlog.ErrUnavailable, err)
	}
	return nil
}

// Provenance says that a caller did something now, and why, as a code.
func Provenance(c Caller, now time.Time, reason string) *eventv1.Provenance {
	return &eventv1.Provenance{
		OccurredAt: timestamppb.New(now), PerformedBy: c.ID, RecordedBy: c.ID, AdmCode: c.AdmCode, Reason: reason,
		SourceChannel: eventv1.SourceChannel_SOURCE_CHANNEL_SYSTEM,
	}
}

// Attempt is something that was refused.
type Attempt struct {
	// Caller who tried it; its ID is empty where the key is nobody's.
	Caller  Caller
	Key     string
	Action  auditv1.BusAction
	Subject string
	Denied  Denied
}

// Limits of what is written of refused attempts.
const (
	// attemptEvery is how often attempts of one kind are written.
	attemptEvery = time.Minute
	// attemptKinds is how many kinds are told apart; what is more counts as one.
	attemptKinds = 1000
	// rest is the kind of what is more; what was left out of kinds that are forgotten is told with it.
	rest = ""
)

// Attempts writes refused attempts to the audit trail, at most one a minute of a kind; how many were left out stands in the next one. Its
// methods may be called from several goroutines.
type Attempts struct {
	js    jetstream.JetStream
	mu    sync.Mutex
	kinds map[string]*window
}

type window struct {
	ends    time.Time
	leftOut uint64
}

// NewAttempts returns a writer.
func NewAttempts(js jetstream.JetStream) *Attempts {
	return &Attempts{js: js, kinds: map[string]*window{rest: {}}}
}

// Refused writes an attempt unless one of its kind was written within a minute. All attempts of keys that are nobody's are of one kind: a new
// key costs nothing, and the trail must not be filled with them.
func (a *Attempts) Refused(ctx context.Context, now time.Time, t Attempt) error {
	who := t.Caller.ID
	if !subject.ValidID(who) {
		who = "unknown"
	}
	named := Named(t.Subject)
	leftOut, write := a.count(strings.Join([]string{who, t.Action.String(), named, t.Denied.Error()}, " "), now)
	if !write {
		return nil
	}
	return Record(ctx, a.js, who, &auditv1.AttemptRefused{
		Provenance: Provenance(t.Caller, now, ""), Action: t.Action, Nkey: t.Key, Subject: named,
		Field: t.Denied.Field, Rule: t.Denied.Rule, LeftOut: leftOut,
	})
}

// count counts an attempt, and says whether it is to be written and how many before it were not.
func (a *Attempts) count(kind string, now time.Time) (leftOut uint64, write bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.kinds[kind]; !known && len(a.kinds) >= attemptKinds {
		for k, w := range a.kinds {
			if k != rest && now.After(w.ends) {
				a.kinds[rest].leftOut += w.leftOut
				delete(a.kinds, k)
			}
		}
		if len(a.kinds) >= attemptKinds {
			kind = rest
		}
	}
	w := a.kinds[kind]
	if w == nil {
		w = &window{}
		a.kinds[kind] = w
	}
	if now.Before(w.ends) {
		w.leftOut++
		return 0, false
	}
	leftOut = w.leftOut
	*w = window{ends: now.Add(attemptEvery)}
	return leftOut, true
}

// vocabulary are the tokens that subjects of rights are made of.
var vocabulary = sync.OnceValue(func() map[string]bool {
	known := make(map[string]bool)
	add := func(subjects []string) {
		for _, s := range subjects {
			for t := range strings.SplitSeq(s, ".") {
				known[t] = true
			}
		}
	}
	for _, u := range Users() {
		add(u.Publish)
		add(u.Subscribe)
	}
	for _, r := range Roles() {
		add(Of(r).Send)
	}
	add([]string{subject.AllEvents, subject.AllKeys, subject.AllDead, "tongan.cmd.*", "tongan.qry.*", "$SYS.>"})
	return known
})

// Named returns a subject with '?' for every token that is not one of this system's names: it may hold anything, even a child's name. More
// than ten tokens are cut off.
func Named(subj string) string {
	tokens := strings.SplitN(subj, ".", 11)
	for i, t := range tokens {
		if t != "" && !vocabulary()[t] {
			tokens[i] = "?"
		}
	}
	return strings.Join(tokens, ".")
}
