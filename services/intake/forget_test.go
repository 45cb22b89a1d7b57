package intake_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
	"tongan.dev/services/intake/internal/child"
)

const forgetChild = childCommand + "forget"

func forgetting(id string) *intakev1.ForgetChild {
	return &intakev1.ForgetChild{Provenance: provenance("forget-" + id), ChildId: id, Basis: "RETENTION_ENDED"}
}

// stored are the messages of the service's stream, each with its subject.
func stored(t *testing.T, js jetstream.JetStream) (out []string) {
	t.Helper()
	natstest.Each(t, js, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		out = append(out, fmt.Sprintf("%s %x", m.Subject(), m.Data()))
	})
	return out
}

// about are the kinds of events about a child, in order.
func about(t *testing.T, js jetstream.JetStream, id string) (kinds []string) {
	t.Helper()
	natstest.Each(t, js, subject.Stream(subject.Intake), func(m jetstream.Msg) {
		p, err := subject.ParseEvent(m.Subject())
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject() == child.Aggregate.Event(id, p.Message().Name()) {
			kinds = append(kinds, string(p.Message().Name()))
		}
	})
	return kinds
}

// settled waits until the reaction has nothing left to do. What was handed to a service that ended comes to the next one after 30 s.
func settled(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	natstest.Eventually(t, time.Minute, "every forgotten child's key is destroyed", func() bool {
		c, err := js.Consumer(t.Context(), subject.Stream(subject.Intake), "intake-forget")
		if err != nil {
			return false
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Consumer > 0
	})
}

// Of a forgotten child nothing personal can be opened or entered any more, whatever it is about; its events stay as they are.
func TestAForgottenChildIsKnownToNobodyAndItsEventsStay(t *testing.T) {
	t.Parallel()
	key := servetest.MasterKey(t)
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: key})
	registered := event(t, c, c.Send(t, registerChild, withNumber("ch1", number)).GetRevision()).(*intakev1.ChildRegistered)
	c.Send(t, registerChild, withNumber("ch2", otherNumber))
	guardian := &intakev1.RecordGuardian{
		Provenance: provenance("k1"), ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05",
		Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e"},
	}
	recorded := event(t, c, c.Send(t, childCommand+"record-guardian", guardian).GetRevision()).(*intakev1.GuardianRecorded)
	note := &intakev1.CaseNote{Text: "标识-5c6d7e"}
	opened := event(t, c, c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1", Note: note}).GetRevision()).(*intakev1.CaseOpened)
	looking := c.As(t, worker("w1", "440703"))
	asks(t, looking, "ch1", "FOLLOW_UP").Refused(t, "")

	before := stored(t, c.JS)
	c.Send(t, forgetChild, forgetting("ch1"))
	asks(t, looking, "ch1", "FOLLOW_UP").Refused(t, "409", "child_id: is forgotten")
	settled(t, c.JS)
	if diff := cmp.Diff([]string{"ChildRegistered", "GuardianRecorded", "ChildForgotten", "ChildKeyDestroyed"}, about(t, c.JS, "ch1")); diff != "" {
		t.Errorf("about the child is stored: %s", diff)
	}
	after := stored(t, c.JS)
	if !slices.Equal(before, after[:len(before)]) || len(after) != len(before)+2 {
		t.Errorf("of %d events %d are left, or others", len(before), len(after))
	}

	r := asks(t, looking, "ch1", "FOLLOW_UP")
	if r.Refused(t, "409", "child_id: is forgotten"); len(r.Data) > 0 {
		t.Errorf("beside the refusal there are %d bytes", len(r.Data))
	}
	if n := len(trail(t, c)); n != 1 {
		t.Errorf("%d openings are on the trail, want the one before", n)
	}
	box, err := key.Box(t.Context(), c.JS)
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"the details":  box.Open(t.Context(), child.Aggregate.Key("ch1"), "details", registered.GetDetails(), &intakev1.ChildDetails{}),
		"the guardian": box.Open(t.Context(), child.Aggregate.Key("ch1"), "details", recorded.GetDetails(), &intakev1.GuardianDetails{}),
		"the note":     box.Open(t.Context(), "intake.case.c1", "note", opened.GetNote(), &intakev1.CaseNote{}),
	} {
		if !errors.Is(err, seal.ErrDestroyed) {
			t.Errorf("%s opens with %v, want %v", name, err, seal.ErrDestroyed)
		}
	}
	if asks(t, looking, "ch2", "FOLLOW_UP").Refused(t, ""); len(about(t, c.JS, "ch2")) != 1 {
		t.Errorf("another child has %v", about(t, c.JS, "ch2"))
	}
}

// No command brings a forgotten child's key back: what would be sealed under it is refused, and nothing is stored.
func TestAForgottenChildsKeyNeverComesBack(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", number))
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1"})
	c.Send(t, forgetChild, forgetting("ch1"))
	settled(t, c.JS)
	before := stored(t, c.JS)
	again := withNumber("ch1", number)
	again.Provenance.CommandId = "another"
	note := &intakev1.CaseNote{Text: "标识-5c6d7e"}
	for subj, command := range map[string]proto.Message{
		registerChild:            again,
		childCommand + "correct": &intakev1.CorrectChild{Provenance: provenance("k1"), ChildId: "ch1", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e"}},
		childCommand + "record-guardian": &intakev1.RecordGuardian{
			Provenance: provenance("k2"), ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05",
			Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e"},
		},
		openCase: &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c2", ChildId: "ch1", Note: note},
		followUp: &intakev1.RecordFollowUp{
			Provenance: provenance(""), CaseId: "c1", FollowUpId: "f1", ChildId: "ch1", Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE, Note: note,
		},
	} {
		payload, err := proto.Marshal(command)
		if err != nil {
			t.Fatal(err)
		}
		r := c.Ask(t, subj, payload)
		if r.Refused(t, "409", "cannot be kept: the child is forgotten"); strings.Contains(r.Error, "5c6d7e") || strings.Contains(r.Error, number) {
			t.Errorf("the refusal of %s repeats what was sent", subj)
		}
	}
	if after := stored(t, c.JS); !slices.Equal(before, after) {
		t.Errorf("%d events are stored", len(after)-len(before))
	}
	// What is about the child and holds nothing personal goes on.
	c.Send(t, openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c3", ChildId: "ch1"})
	c.Send(t, childCommand+"start-category", &intakev1.StartCategory{Provenance: provenance("k3"), ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-01-05"})
	keys, err := c.JS.Stream(t.Context(), subject.StreamKeys)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := keys.GetLastMsgForSubject(t.Context(), subject.Key("child-ch1")); err != nil || len(m.Data) > 16 {
		t.Errorf("a key stands there again (%v)", err)
	}
}

// Only who leads the bureau has a child forgotten; the bus holds up everybody else.
// What was carried out before the child was forgotten is answered as then when it comes again, although its details cannot be sealed any more.
func TestWhatWasSentBeforeAChildWasForgottenIsAnsweredAsThen(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	commands := []struct {
		subject string
		command proto.Message
	}{
		{registerChild, withNumber("ch1", number)},
		{childCommand + "correct", &intakev1.CorrectChild{Provenance: provenance("k1"), ChildId: "ch1", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e"}}},
		{openCase, &intakev1.OpenCase{Provenance: provenance(""), CaseId: "c1", ChildId: "ch1", Note: &intakev1.CaseNote{Text: "标识-5c6d7e"}}},
		{receiveContact, receiving("ct1", "ch1", said())},
	}
	first := make([]*eventv1.CommandReply, len(commands))
	for i, s := range commands {
		first[i] = c.Send(t, s.subject, s.command)
	}
	c.Send(t, forgetChild, forgetting("ch1"))
	settled(t, c.JS)
	before := stored(t, c.JS)
	for i, s := range commands {
		again := c.Send(t, s.subject, s.command)
		if !again.GetAgain() || again.GetRevision() != first[i].GetRevision() || !slices.Equal(again.GetEventIds(), first[i].GetEventIds()) {
			t.Errorf("%s is answered %v, at first %v", s.subject, again, first[i])
		}
	}
	if after := stored(t, c.JS); !slices.Equal(before, after) {
		t.Errorf("%d events are stored", len(after)-len(before))
	}
}

func TestOnlyALeaderHasAChildForgotten(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", ""))
	command := forgetting("ch1")
	command.Provenance.PerformedBy = "x1"
	payload, err := proto.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range access.Roles() {
		if role == auditv1.Role_ROLE_BUREAU_LEADER || access.Of(role).Outside {
			continue
		}
		nc := c.As(t, access.Caller{ID: "x1", Role: role, Org: natstest.Org})
		denied := make(chan error, 1)
		nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err })
		if m, err := nc.Request(forgetChild, payload, 100*time.Millisecond); err == nil {
			t.Errorf("%v is answered %q", role, m.Data)
		}
		if err := <-denied; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%v: the bus says %v", role, err)
		}
	}
	elsewhere := c.As(t, access.Caller{ID: "x1", Role: auditv1.Role_ROLE_BUREAU_LEADER, Org: natstest.Org, AdmCode: "440704"})
	sends(t, elsewhere, forgetChild, command).Refused(t, "403", "caller", "bound to another district")
	if n := c.Events(t, subject.Intake); n != 1 {
		t.Errorf("%d events are stored", n)
	}
	sends(t, c.As(t, access.Caller{ID: "x1", Role: auditv1.Role_ROLE_BUREAU_LEADER, Org: natstest.Org}), forgetChild, command).Refused(t, "")
}

// Who looks at a child while it is being forgotten sees it or is told that it is forgotten, and nothing else.
func TestWhoLooksWhileAChildIsForgottenSeesItOrIsTold(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	looking := c.As(t, worker("w1", "440703"))
	for i := range 10 {
		id := fmt.Sprintf("ch%d", i)
		c.Send(t, registerChild, withNumber(id, ""))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for asks(t, looking, id, "FOLLOW_UP").Code == "" {
				}
				asks(t, looking, id, "FOLLOW_UP").Refused(t, "409", "child_id: is forgotten")
			})
		}
		c.Send(t, forgetChild, forgetting(id))
		wg.Wait()
	}
	settled(t, c.JS)
}

// A service that ends right after it stored that children are forgotten, or on the way, leaves to the next one to destroy their keys.
func TestAServiceThatEndsWhileForgettingIsFollowedByOneThatFinishes(t *testing.T) {
	t.Parallel()
	js, cfg := natstest.Bus(t), intake.Config{MasterKey: servetest.MasterKey(t)}
	ids := []string{"ch1", "ch2", "ch3", "ch4", "ch5"}
	t.Run("it ends", func(t *testing.T) { // not at once: the next one starts when this one has ended
		c := servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
		for _, id := range ids {
			c.Send(t, registerChild, withNumber(id, ""))
		}
		for _, id := range ids {
			c.Send(t, forgetChild, forgetting(id))
		}
	})
	servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
	settled(t, js)
	for _, id := range ids {
		checkForgotten(t, js, cfg, id)
	}
}

// checkForgotten checks that a child's key is gone, and that this stands in the stream once.
func checkForgotten(t *testing.T, js jetstream.JetStream, cfg intake.Config, id string) {
	t.Helper()
	if diff := cmp.Diff([]string{"ChildRegistered", "ChildForgotten", "ChildKeyDestroyed"}, about(t, js, id)); diff != "" {
		t.Errorf("about %s is stored: %s", id, diff)
	}
	box, err := cfg.MasterKey.Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Seal(t.Context(), "child-"+id, child.Aggregate.Key(id), "details", &intakev1.ChildDetails{Name: "n"}); !errors.Is(err, seal.ErrDestroyed) {
		t.Errorf("under the key of %s is sealed with %v, want %v", id, err, seal.ErrDestroyed)
	}
}

// The same with the end at each step on the way: the reaction goes on where it was, and says once that the key is destroyed.
func TestAForgettingThatWasCutShortIsFinishedOnce(t *testing.T) {
	t.Parallel()
	for name, upTo := range map[string]int{
		"the child is forgotten": 0, "the key is removed": 1, "the mark is made": 2, "it is said, and comes again": 3,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			js, cfg := natstest.Bus(t), intake.Config{MasterKey: servetest.MasterKey(t)}
			t.Run("cut short", func(t *testing.T) { // not at once: the next one starts when this one has ended
				c := servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
				c.Send(t, registerChild, withNumber("ch1", number))
				if upTo == 3 {
					c.Send(t, forgetChild, forgetting("ch1"))
					settled(t, js)
				}
			})
			cutShort(t, js, cfg, upTo)
			servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
			settled(t, js)
			checkForgotten(t, js, cfg, "ch1")
		})
	}
}

// cutShort does the first steps of a forgetting as the service does them, and then what makes the next one begin.
func cutShort(t *testing.T, js jetstream.JetStream, cfg intake.Config, upTo int) {
	t.Helper()
	if upTo == 3 {
		if err := js.DeleteConsumer(t.Context(), subject.Stream(subject.Intake), "intake-forget"); err != nil {
			t.Fatal(err)
		}
		return
	}
	children := eventlog.New(js, child.Aggregate, slog.New(slog.DiscardHandler))
	if _, err := decider.Transact(t.Context(), children, child.Decider, "ch1", decider.Command{At: servetest.Now, ID: "forget", Body: forgetting("ch1")}); err != nil {
		t.Fatal(err)
	}
	switch upTo {
	case 1:
		keys, err := js.Stream(t.Context(), subject.StreamKeys)
		if err != nil {
			t.Fatal(err)
		}
		m, err := keys.GetLastMsgForSubject(t.Context(), subject.Key("child-ch1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.SecureDeleteMsg(t.Context(), m.Sequence); err != nil {
			t.Fatal(err)
		}
	case 2:
		box, err := cfg.MasterKey.Box(t.Context(), js)
		if err != nil {
			t.Fatal(err)
		}
		if err := box.Destroy(t.Context(), "child-ch1"); err != nil {
			t.Fatal(err)
		}
	}
}
