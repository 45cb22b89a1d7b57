package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

const (
	// deadlinesSet fall due one after the other within dueWithin, the first of them after dueAfter; a tenth is met before. Those of the two
	// seconds before a kill fall due together, and it comes in the middle of them.
	deadlinesSet        = 1000
	dueAfter, dueWithin = 10 * time.Second, 60 * time.Second
	// aroundKill is how long after a start lateness is put down to the kill before it.
	aroundKill = 12 * time.Second
)

// kills are when it is time for a kill, after the first deadline.
var kills = []time.Duration{12 * time.Second, 28 * time.Second, 44 * time.Second}

// dueOf is when a deadline falls due, after the first one.
func dueOf(i int) time.Duration {
	due := dueWithin * time.Duration(i) / deadlinesSet
	for _, k := range kills {
		if due > k-2*time.Second && due < k {
			return k
		}
	}
	return due
}

// owed is a deadline of a contact or of a case.
type owed struct {
	id  string
	due time.Time
	met bool
}

// TestDeadlinesFallDueWhileTheStandaloneIsKilled kills the whole standalone three times while 1000 deadlines fall due, and starts it again
// at once: each that was not met is missed once, and none of the others is. How late that is said is logged; it decides nothing here.
func TestDeadlinesFallDueWhileTheStandaloneIsKilled(t *testing.T) {
	dir := t.TempDir()
	s := startStandalone(t, dir)
	conns, err := enrol(t.Context(), s.operator(t), "440700", []access.Caller{{ID: "hotline-1", Role: auditv1.Role_ROLE_HOTLINE_OPERATOR, Org: "org-bureau"}})
	if err != nil {
		t.Fatal(err)
	}
	all, first := setDeadlines(t, conns["hotline-1"])
	closeAll(conns)
	var killed, up []time.Time
	for n, k := range kills {
		awaitMissed(t, s, first.Add(k), 10)
		killed = append(killed, time.Now())
		if err := s.end(t, syscall.SIGKILL, 20*time.Second); err == nil {
			t.Fatal("the standalone ended by itself")
		}
		s = startStandalone(t, dir)
		up = append(up, time.Now())
		t.Logf("killed %.1f s after the first deadline, up again %.1f s later", killed[n].Sub(first).Seconds(), up[n].Sub(killed[n]).Seconds())
	}
	natstest.Eventually(t, 3*time.Minute, "no timer is left to go off", func() bool {
		return time.Now().After(all[len(all)-1].due) && timersAreDone(t, s)
	})
	missed := missedDeadlines(t, s)
	var around, normal []time.Duration
	for _, o := range all {
		said := missed[o.id]
		delete(missed, o.id)
		if want := map[bool]int{true: 0, false: 1}[o.met]; len(said) != want {
			t.Errorf("that %s was missed is said %d times, want %d", o.id, len(said), want)
		}
		if len(said) == 0 {
			continue
		}
		if late := said[0].Sub(o.due); isAround(o.due, killed, up) {
			around = append(around, late)
		} else {
			normal = append(normal, late)
		}
	}
	if len(missed) > 0 || len(around) == 0 || len(normal) == 0 {
		t.Errorf("%d other deadlines were missed; %d fell due around kills, %d in normal running", len(missed), len(around), len(normal))
	}
	t.Logf("in normal running %s", lateness(normal))
	t.Logf("around kills %s", lateness(around))
}

// awaitMissed waits until it is said of n deadlines that fell due at a time, or later, that they were missed.
func awaitMissed(t *testing.T, s *standalone, due time.Time, n int) {
	t.Helper()
	nc, err := s.operator(t).connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(subject.Aggregate{Service: subject.Intake, Name: "*"}.Event("*", "DeadlineMissed"))
	if err != nil {
		t.Fatal(err)
	}
	for n > 0 {
		m, err := sub.NextMsg(time.Minute)
		e := &intakev1.DeadlineMissed{}
		if err == nil {
			err = proto.Unmarshal(m.Data, e)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !e.GetDeadline().GetDueAt().AsTime().Before(due) {
			n--
		}
	}
}

// isAround reports whether a deadline fell due shortly before a kill, or before the standalone had been up again for a while.
func isAround(due time.Time, killed, up []time.Time) bool {
	for i := range killed {
		if due.After(killed[i].Add(-time.Second)) && due.Before(up[i].Add(aroundKill)) {
			return true
		}
	}
	return false
}

// lateness sums up how late it was said that deadlines were missed.
func lateness(late []time.Duration) string {
	if len(late) == 0 {
		return "none fell due"
	}
	slices.Sort(late)
	at := func(share int) time.Duration { return late[(len(late)-1)*share/100].Round(time.Millisecond) }
	return fmt.Sprintf("%d fell due: late by %s (median), %s (99 of 100), %s at most", len(late), at(50), at(99), at(100))
}

// setDeadlines takes up contacts and cases in turns, sets a deadline for each in the order in which they fall due, and meets every tenth.
func setDeadlines(t *testing.T, nc *nats.Conn) (all []owed, first time.Time) {
	t.Helper()
	now := func(command string) *eventv1.Provenance {
		return &eventv1.Provenance{CommandId: command, OccurredAt: timestamppb.Now(), AdmCode: "440703"}
	}
	sendEach(t, deadlinesSet, func(ctx context.Context, i int) error {
		id := owedID(i)
		if isContact(i) {
			return insist(ctx, nc, "tongan.cmd.intake.contact.receive", &intakev1.ReceiveHotlineContact{
				Provenance: now(""), ContactId: id, Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
			}, newReply())
		}
		return insist(ctx, nc, "tongan.cmd.intake.case.open", &intakev1.OpenCase{Provenance: now(""), CaseId: id, ChildId: "child-" + id}, newReply())
	})
	first = time.Now().Add(dueAfter)
	all = make([]owed, deadlinesSet)
	for i := range all {
		all[i] = owed{owedID(i), first.Add(dueOf(i)), i%20 == 4 || i%20 == 15}
	}
	followUp := func(ctx context.Context, id, followUpID string, next *timestamppb.Timestamp) error {
		return insist(ctx, nc, "tongan.cmd.intake.case.follow-up", &intakev1.RecordFollowUp{
			Provenance: now(""), CaseId: id, FollowUpId: followUpID, NextDueAt: next,
			Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE, FollowUpOutcome: intakev1.FollowUpOutcome_FOLLOW_UP_OUTCOME_REACHED,
		}, newReply())
	}
	sendEach(t, deadlinesSet, func(ctx context.Context, i int) error {
		o, due := all[i], timestamppb.New(all[i].due)
		var err error
		if isContact(i) {
			err = insist(ctx, nc, "tongan.cmd.intake.contact.promise-call-back",
				&intakev1.PromiseCallBack{Provenance: now("promise-" + o.id), ContactId: o.id, DueAt: due}, newReply())
		} else {
			err = followUp(ctx, o.id, "first-"+o.id, due)
		}
		switch {
		case err != nil || !o.met:
			return err
		case isContact(i):
			return insist(ctx, nc, "tongan.cmd.intake.contact.call-back",
				&intakev1.RecordCallBack{Provenance: now("call-" + o.id), ContactId: o.id, Reached: true}, newReply())
		default:
			return followUp(ctx, o.id, "next-"+o.id, nil)
		}
	})
	return all, first
}

func owedID(i int) string { return "owed-" + strconv.Itoa(i) }

// isContact says which deadlines are of contacts: every second; the others are of cases.
func isContact(i int) bool { return i%2 == 0 }

// timersAreDone reports whether no timer is set any more, and each that went off was dealt with.
func timersAreDone(t *testing.T, s *standalone) bool {
	t.Helper()
	nc, err := s.operator(t).connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.NewWithAPIPrefix(nc, access.APIPrefix)
	if err != nil {
		t.Fatal(err)
	}
	timers, err := js.Stream(t.Context(), subject.StreamTimer)
	if err != nil {
		t.Fatal(err)
	}
	info, err := timers.Info(t.Context(), jetstream.WithSubjectFilter(subject.AllTimersSet(subject.Intake)))
	if err != nil || len(info.State.Subjects) > 0 {
		return false
	}
	for stream, durable := range map[string]string{subject.StreamTimer: "intake-timers", subject.Stream(subject.Intake): "intake-deadlines"} {
		c, err := js.Consumer(t.Context(), stream, durable)
		if err != nil {
			t.Fatal(err)
		}
		if i := c.CachedInfo(); i.NumPending > 0 || i.NumAckPending > 0 {
			return false
		}
	}
	return true
}

// missedDeadlines is when it was said that deadlines were missed, by the contact or case.
func missedDeadlines(t *testing.T, s *standalone) map[string][]time.Time {
	t.Helper()
	said := make(map[string][]time.Time)
	natstest.Each(t, s.as(t, access.Projector), subject.Stream(subject.Intake), func(m jetstream.Msg) {
		if !strings.HasSuffix(m.Subject(), ".deadline-missed") {
			return
		}
		e, meta := &intakev1.DeadlineMissed{}, &jetstream.MsgMetadata{}
		err := proto.Unmarshal(m.Data(), e)
		if err == nil {
			meta, err = m.Metadata()
		}
		if err != nil {
			t.Fatal(err)
		}
		id := e.GetContactId() + e.GetCaseId() // one of the two
		said[id] = append(said[id], meta.Timestamp)
	})
	return said
}
