// Package checkup looks at a bus before something relies on it: whether its servers sync every message, what time they have, how full they
// are, and whether its streams are as declared. It changes nothing.
package checkup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/subject"
)

// MaxSkew is how far the clocks of a server and of who asks it may lie apart.
const MaxSkew = 5 * time.Second

// Result is what was found out about one thing.
type Result struct {
	// About says what was looked at, for example "stream TONGAN_INTAKE: flags".
	About string
	// Wrong says what is wrong with it; empty means nothing.
	Wrong string
	// Do says what to do about it.
	Do string
	// Bearable says that a service goes on with it, and starts: room is short, or one of several servers is away.
	Bearable bool
}

// Error is the result of a thing that is wrong, as one line.
func (r Result) Error() string { return fmt.Sprintf("%s: %s: %s", r.About, r.Wrong, r.Do) }

// answersWithin is how long the servers may take to answer.
const answersWithin = 2 * time.Second

// answer is what a server says about its JetStream, of which there is more.
type answer struct {
	Server struct {
		Name string `json:"name"`
	} `json:"server"`
	Data struct {
		Now      time.Time `json:"now"`
		Disabled bool      `json:"disabled"`
		Storage  int64     `json:"storage"`
		Config   struct {
			SyncAlways bool  `json:"sync_always"`
			MaxStorage int64 `json:"max_storage"`
		} `json:"config"`
	} `json:"data"`
	before, after time.Time // when it was asked and when it answered, by the clock of who asked
}

// Bus asks the servers that hold streams, and says of each how it stands, by the clock now. Of a bus of one server
// no names are known: then whichever answers is it.
func Bus(ctx context.Context, nc *nats.Conn, now func() time.Time, streams ...*jetstream.StreamInfo) ([]Result, error) {
	leaders, others := holders(streams)
	answers, err := ask(ctx, nc, now, slices.Concat(leaders, others))
	if err != nil {
		return nil, fmt.Errorf("servers of the bus: %w", err)
	}
	var out []Result
	for _, a := range answers {
		leaders, others = without(leaders, a.Server.Name), without(others, a.Server.Name)
		if !a.Data.Disabled {
			out = append(out, a.synced(), a.clock(), a.store())
		}
	}
	for _, n := range slices.Concat(leaders, others) {
		out = append(out, Result{
			About: "server " + n, Wrong: "does not answer, though it holds streams", Do: "start it, or look at its log and its way here", Bearable: slices.Contains(others, n),
		})
	}
	return out, nil
}

// holders returns the names of the servers that lead streams, and of those that only hold them.
func holders(streams []*jetstream.StreamInfo) (leaders, others []string) {
	for _, s := range streams {
		if s.Cluster == nil {
			continue
		}
		leaders = append(leaders, s.Cluster.Leader)
		for _, r := range s.Cluster.Replicas {
			others = append(others, r.Name)
		}
	}
	slices.Sort(leaders)
	slices.Sort(others)
	leaders, others = slices.Compact(leaders), slices.Compact(others)
	return leaders, slices.DeleteFunc(others, func(n string) bool { return slices.Contains(leaders, n) })
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}

// ask returns what the servers answer, as soon as all those named did, and any one where none is named.
func ask(ctx context.Context, nc *nats.Conn, now func() time.Time, names []string) ([]answer, error) {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	before := now()
	if err := nc.PublishRequest(subject.Storage, inbox, nil); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	var out []answer
	missing := names
	for len(out) == 0 || len(missing) > 0 {
		m, err := sub.NextMsgWithContext(ctx)
		if errors.Is(err, context.DeadlineExceeded) && len(out) > 0 {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: no answer to who may ask it: %w", subject.Storage, err)
		}
		a := answer{before: before, after: now()}
		if err := json.Unmarshal(m.Data, &a); err != nil {
			return nil, fmt.Errorf("%s: %w", subject.Storage, err)
		}
		missing = without(missing, a.Server.Name)
		out = append(out, a)
	}
	return out, nil
}

func (a answer) about(what string) string { return "server " + a.Server.Name + ": " + what }

func (a answer) synced() Result {
	r := Result{About: a.about("syncs every message")}
	if !a.Data.Config.SyncAlways {
		r.Wrong, r.Do = "it acknowledges before it has synced: what was acknowledged may be lost with the power", "set sync_interval: always in the block jetstream of its configuration and restart it"
	}
	return r
}

func (a answer) clock() Result {
	r := Result{About: a.about("clock")}
	var off time.Duration
	switch at := a.Data.Now; {
	case at.Before(a.before.Add(-MaxSkew)):
		off = at.Sub(a.before)
	case at.After(a.after.Add(MaxSkew)):
		off = at.Sub(a.after)
	default:
		return r
	}
	r.Wrong, r.Do = fmt.Sprintf("it is %s off, at most %s is allowed", off.Round(time.Second), MaxSkew), "set both clocks by NTP; what is late or due is decided by them"
	return r
}

func (a answer) store() Result {
	return space(a.about("room"), a.Data.Storage, a.Data.Config.MaxStorage, "raise max_file_store on a disk that has the room")
}

// space says whether something is nearly full.
func space(about string, used, most int64, do string) Result {
	r := Result{About: about, Bearable: true}
	if percent := eventlog.Percent(used, most); percent >= eventlog.NearlyFull {
		r.Wrong, r.Do = fmt.Sprintf("%d %% of %d bytes are used", percent, most), do
	}
	return r
}

// Stream compares a stream with its declaration; replicas of 0 takes any number of them. Where there is no such stream the info is nil.
func Stream(ctx context.Context, js jetstream.JetStream, name string, replicas int) ([]Result, *jetstream.StreamInfo, error) {
	flags := Result{About: "stream " + name + ": flags"}
	info, err := eventlog.Check(ctx, js, name, replicas)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		flags.Wrong, flags.Do = "it does not exist", "run `tongan migrate` first"
		return []Result{flags}, nil, nil
	case errors.Is(err, eventlog.ErrDrift):
		flags.Wrong, flags.Do = err.Error(), "find out who changed it, and set it back with `nats stream edit`; of a release before this one, run `tongan migrate`"
	case err != nil:
		return nil, nil, err
	}
	room := space("stream "+name+": room", int64(info.State.Bytes), info.Config.MaxBytes, "raise max_bytes with `nats stream edit`; until then only corrections and erasures are taken")
	return []Result{flags, room}, info, nil
}
