package eventlog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/subject"
)

// StreamOptions say how large and how replicated the streams are.
type StreamOptions struct {
	// MaxBytes is what all streams together may hold; the server reserves it when they are created. Required.
	MaxBytes int64
	// Replicas is the number of servers that hold each stream; 0 means 1 for a stream that is made, and as many as it has for one that is there.
	Replicas int
}

// shares of MaxBytes, in hundredths.
const (
	shareIntake      = 20
	shareHealthCheck = 38
	shareOutreach    = 29
	shareReporting   = 2
	shareAudit       = 4
	shareDead        = 2
	shareKeys        = 4
	shareIndex       = 1
)

// Streams returns the declaration of every stream.
func Streams(o StreamOptions) []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		eventStream(o, subject.Intake, shareIntake),
		eventStream(o, subject.HealthCheck, shareHealthCheck),
		eventStream(o, subject.Outreach, shareOutreach),
		eventStream(o, subject.Reporting, shareReporting),
		eventStream(o, subject.Audit, shareAudit),
		deadStream(o),
		keyStream(o),
		erasableStream(o, subject.StreamIndex, subject.AllIndex, shareIndex),
		timerStream(o),
	}
}

func stream(o StreamOptions, name, filter string, share int64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        name,
		Subjects:    []string{filter},
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    o.MaxBytes / 100 * share,
		MaxMsgs:     -1,
		Replicas:    max(o.Replicas, 1),
		AllowDirect: true,
		DenyDelete:  true,
		DenyPurge:   true,
	}
}

func eventStream(o StreamOptions, service string, share int64) jetstream.StreamConfig {
	s := stream(o, subject.Stream(service), subject.Events(service), share)
	s.AllowAtomicPublish = true
	return s
}

// deadStream holds references to messages; many at a time share one sync of the disk.
func deadStream(o StreamOptions) jetstream.StreamConfig {
	s := stream(o, subject.StreamDead, subject.AllDead, shareDead)
	s.AllowAtomicPublish = true
	return s
}

// erasableStream holds what must be possible to destroy, wrapped keys and blind indexes; from other streams nothing can be removed.
func erasableStream(o StreamOptions, name, filter string, share int64) jetstream.StreamConfig {
	s := stream(o, name, filter, share)
	s.DenyDelete = false
	s.MaxMsgsPerSubject = 1
	return s
}

// timerStream holds schedules, which the server takes out when their time has come, and messages that expire. Neither is a fact: both follow
// from events and can be made again. The server lets such a stream discard old messages only, so it has no bound of its own that could make
// it forget a timer: when the store is full, setting one is refused.
func timerStream(o StreamOptions) jetstream.StreamConfig {
	s := stream(o, subject.StreamTimer, subject.AllTimers, 0)
	s.Discard, s.MaxBytes = jetstream.DiscardOld, -1
	s.DenyPurge = false // schedules imply it, and rollups
	s.MaxMsgsPerSubject = 1
	s.AllowMsgSchedules, s.AllowMsgTTL, s.AllowRollup = true, true, true
	return s
}

// keyStream holds a key twice while it is wrapped again: what is replaced must still be there to be overwritten.
func keyStream(o StreamOptions) jetstream.StreamConfig {
	s := erasableStream(o, subject.StreamKeys, subject.AllKeys, shareKeys)
	s.MaxMsgsPerSubject = 2
	return s
}

// Migrate creates the streams that do not exist yet. One that exists with other properties than declared is an error that names them;
// its size is left as it is. A stream of an earlier release, which differs in one property, is given that one.
func Migrate(ctx context.Context, js jetstream.JetStream, o StreamOptions) error {
	for _, want := range Streams(o) {
		have, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = js.CreateStream(ctx, want)
		} else if err == nil {
			if o.Replicas == 0 {
				want.Replicas = have.CachedInfo().Config.Replicas
			}
			err = agree(ctx, js, want, have.CachedInfo().Config)
		}
		if err != nil {
			return Unavailable(want.Name, err)
		}
	}
	return nil
}

// ErrNoAnswer is returned when nobody leads a stream, or the bus.
var ErrNoAnswer = errors.New("the bus does not answer: of several servers more than half must run and reach each other; try again")

// Unavailable is an error of JetStream's interface about a stream, and what to do. That nobody leads is ErrNoAnswer.
func Unavailable(stream string, err error) error {
	api, is := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %s does not exist: run `tongan migrate` first (%w)", stream, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrNoResponders), is && api.Code == http.StatusServiceUnavailable:
		return fmt.Errorf("stream %s: %w (%w)", stream, ErrNoAnswer, err)
	}
	return fmt.Errorf("stream %s: %w", stream, err)
}

// agree checks that a stream is as declared. In earlier releases the key stream held one message for each key, and that of references to
// messages took them one by one.
func agree(ctx context.Context, js jetstream.JetStream, want, have jetstream.StreamConfig) error {
	earlier := have
	switch want.Name {
	case subject.StreamKeys:
		if have.MaxMsgsPerSubject == 1 {
			have.MaxMsgsPerSubject = want.MaxMsgsPerSubject
		}
	case subject.StreamDead:
		have.AllowAtomicPublish = want.AllowAtomicPublish
	}
	err := drift(want, have)
	if err == nil && (have.MaxMsgsPerSubject != earlier.MaxMsgsPerSubject || have.AllowAtomicPublish != earlier.AllowAtomicPublish) {
		_, err = js.UpdateStream(ctx, have)
	}
	return err
}

// Info returns what the leader of a stream says of it. Where nobody leads, any server that holds the stream would say what it has; that is
// ErrNoAnswer here.
func Info(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, Unavailable(name, err)
	}
	info := s.CachedInfo()
	if !FromLeader(info.Cluster) {
		return nil, fmt.Errorf("stream %s: %w", name, ErrNoAnswer)
	}
	return info, nil
}

// FromLeader says whether the server that told of a stream leads it: it leaves itself out of the others.
func FromLeader(c *jetstream.ClusterInfo) bool {
	return c == nil || c.Leader != "" && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return p.Name == c.Leader })
}

// Created returns when the stream of a service was created, in nanoseconds since the Unix epoch; it tells a stream from one
// created anew under the same name.
func Created(ctx context.Context, js jetstream.JetStream, service string) (int64, error) {
	info, err := Info(ctx, js, subject.Stream(service))
	if err != nil {
		return 0, err
	}
	return info.Created.UnixNano(), nil
}

// ErrDrift is returned when a stream is not as it is declared; the text names the properties.
var ErrDrift = errors.New("is not as declared")

// Check compares a stream with its declaration and changes nothing: one that differs is ErrDrift, with what is known of it. Replicas of 0
// takes any number of them.
func Check(ctx context.Context, js jetstream.JetStream, name string, replicas int) (*jetstream.StreamInfo, error) {
	info, err := Info(ctx, js, name)
	if err != nil {
		return nil, err
	}
	if replicas == 0 {
		replicas = info.Config.Replicas
	}
	for _, want := range Streams(StreamOptions{Replicas: replicas}) {
		if want.Name == name {
			return info, drift(want, info.Config)
		}
	}
	return info, fmt.Errorf("stream %s: nothing declares it", name)
}

// NearlyFull is how many hundredths of what a stream may hold are for ordinary commands; the rest is kept for corrections, erasures and
// alarms.
const NearlyFull = 90

// Percent returns how many hundredths of most are used; what has no bound is never full.
func Percent(used, most int64) int64 {
	if most <= 0 {
		return 0
	}
	return used * 100 / most
}

func drift(want, have jetstream.StreamConfig) error {
	var wrong []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"subjects", slices.Equal(want.Subjects, have.Subjects)},
		{"storage", want.Storage == have.Storage},
		{"retention", want.Retention == have.Retention},
		{"persist_mode", want.PersistMode == have.PersistMode},
		{"no_ack", want.NoAck == have.NoAck},
		{"sealed", want.Sealed == have.Sealed},
		{"discard", want.Discard == have.Discard},
		{"max_age", want.MaxAge == have.MaxAge},
		{"max_msgs", have.MaxMsgs <= 0},
		{"max_msgs_per_subject", max(want.MaxMsgsPerSubject, 0) == max(have.MaxMsgsPerSubject, 0)},
		{"num_replicas", want.Replicas == have.Replicas},
		{"deny_delete", want.DenyDelete == have.DenyDelete},
		{"deny_purge", want.DenyPurge == have.DenyPurge},
		{"allow_direct", want.AllowDirect == have.AllowDirect},
		{"allow_atomic", want.AllowAtomicPublish == have.AllowAtomicPublish},
		{"allow_msg_schedules", want.AllowMsgSchedules == have.AllowMsgSchedules},
		{"allow_msg_ttl", want.AllowMsgTTL == have.AllowMsgTTL},
	} {
		if !f.same {
			wrong = append(wrong, f.name)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", ErrDrift, strings.Join(wrong, ", "))
	}
	return nil
}
