package caller_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	"tongan.dev/services/audit/internal/caller"
)

// Public NKeys, by their beginning.
const k1, k2 = "UA1", "UA2"

func adding(key string, role auditv1.Role) *auditv1.AddCaller {
	return &auditv1.AddCaller{CallerId: "u1", Nkey: key, Role: role, OrgId: "o1"}
}

func added(key string) *auditv1.CallerAdded {
	return &auditv1.CallerAdded{CallerId: "u1", Nkey: key, Role: auditv1.Role_ROLE_SOCIAL_WORKER, OrgId: "o1"}
}

// by is the provenance of what a caller entered.
func by(id string) *eventv1.Provenance {
	return &eventv1.Provenance{PerformedBy: id, RecordedBy: id, AdmCode: "440703"}
}

// send is a command of the caller op1 on a day in February.
func send(body decider.Event) decider.Command { return sendAs("op1", body) }

func sendAs(id string, body decider.Event) decider.Command {
	switch body := body.(type) {
	case *auditv1.AddCaller:
		body.Provenance = by(id)
	case *auditv1.RotateCallerKey:
		body.Provenance = by(id)
	case *auditv1.RevokeCaller:
		body.Provenance = by(id)
	}
	return decidertest.Command("2020-02-01T09:00:00Z", "k9", body)
}

func TestAdding(t *testing.T) {
	t.Parallel()
	full := send(&auditv1.AddCaller{
		CallerId: "u1", Nkey: k1, Role: auditv1.Role_ROLE_INSTITUTION_NURSE, OrgId: "o1", AdmCode: "440703", InstitutionId: "i1",
	})
	revoked := []decider.Event{added(k1), &auditv1.CallerRevoked{CallerId: "u1"}}
	rows := []decidertest.Row{
		{
			Name: "a caller is added with key, role, organisation and what it is bound to",
			When: full,
			Then: []decider.Event{&auditv1.CallerAdded{
				Provenance: full.Provenance(), CallerId: "u1", Nkey: k1, Role: auditv1.Role_ROLE_INSTITUTION_NURSE, OrgId: "o1",
				AdmCode: "440703", InstitutionId: "i1",
			}},
		},
		{
			Name: "a person whose work others enter needs no key",
			When: send(adding("", auditv1.Role_ROLE_SOCIAL_WORKER)),
			Then: []decider.Event{added("")},
		},
		{
			Name:  "a caller is added once",
			Given: []decider.Event{added(k1)},
			When:  send(adding(k2, auditv1.Role_ROLE_ANALYST)),
			Err:   caller.ErrAdded,
		},
		{
			Name:  "a caller is added once, also without a key",
			Given: []decider.Event{added("")},
			When:  send(adding("", auditv1.Role_ROLE_SOCIAL_WORKER)),
			Err:   caller.ErrAdded,
		},
		{
			Name:  "who was revoked is added again, in another role",
			Given: revoked,
			When:  send(adding(k2, auditv1.Role_ROLE_ANALYST)),
			Then:  []decider.Event{&auditv1.CallerAdded{CallerId: "u1", Nkey: k2, Role: auditv1.Role_ROLE_ANALYST, OrgId: "o1"}},
		},
		{
			Name:  "who was revoked and added again is added once",
			Given: append(revoked[:2:2], added(k2)),
			When:  send(adding(k1, auditv1.Role_ROLE_SOCIAL_WORKER)),
			Err:   caller.ErrAdded,
		},
	}
	for _, role := range []auditv1.Role{auditv1.Role_ROLE_EVENT_READER, auditv1.Role_ROLE_SMS_GATEWAY, auditv1.Role_ROLE_OPERATOR} {
		rows = append(rows, decidertest.Row{Name: fmt.Sprintf("%v needs a key", role), When: send(adding("", role)), Err: caller.ErrNoKey})
	}
	for _, role := range []auditv1.Role{auditv1.Role_ROLE_EVENT_READER, auditv1.Role_ROLE_OPERATOR} {
		district, institution := adding(k1, role), adding(k1, role)
		district.AdmCode, institution.InstitutionId = "440703", "i1"
		rows = append(rows,
			decidertest.Row{Name: fmt.Sprintf("%v is bound to no district", role), When: send(district), Err: caller.ErrBound},
			decidertest.Row{Name: fmt.Sprintf("%v is bound to no institution", role), When: send(institution), Err: caller.ErrBound})
	}
	decidertest.Run(t, caller.Decider, rows)
}

func TestRotating(t *testing.T) {
	t.Parallel()
	rotate := send(&auditv1.RotateCallerKey{CallerId: "u1", Nkey: k2})
	then := []decider.Event{&auditv1.CallerKeyRotated{Provenance: rotate.Provenance(), CallerId: "u1", Nkey: k2}}
	revoked := &auditv1.CallerRevoked{CallerId: "u1"}
	decidertest.Run(t, caller.Decider, []decidertest.Row{
		{Name: "a caller gets another key", Given: []decider.Event{added(k1)}, When: rotate, Then: then},
		{Name: "who had no key gets one", Given: []decider.Event{added("")}, When: rotate, Then: then},
		{Name: "a caller gives itself another key", Given: []decider.Event{added(k1)}, When: sendAs("u1", &auditv1.RotateCallerKey{CallerId: "u1", Nkey: k2}), Then: []decider.Event{
			&auditv1.CallerKeyRotated{CallerId: "u1", Nkey: k2},
		}},
		{Name: "the key one has already is silent", Given: []decider.Event{added(k2)}, When: rotate},
		{
			Name:  "the key one got last is silent",
			Given: []decider.Event{added(k1), &auditv1.CallerKeyRotated{CallerId: "u1", Nkey: k2}},
			When:  rotate,
		},
		{Name: "who was never added gets no key", When: rotate, Err: caller.ErrNotAdded},
		{Name: "who was revoked gets no key", Given: []decider.Event{added(k1), revoked}, When: rotate, Err: caller.ErrNotAdded},
		{
			Name:  "who was added again gets another key",
			Given: []decider.Event{added(k1), revoked, added(k1)},
			When:  rotate,
			Then:  then,
		},
	})
}

func TestRevoking(t *testing.T) {
	t.Parallel()
	revoke := send(&auditv1.RevokeCaller{CallerId: "u1"})
	revoked := &auditv1.CallerRevoked{CallerId: "u1"}
	itself := sendAs("u1", &auditv1.RevokeCaller{CallerId: "u1"})
	forIt := sendAs("u1", &auditv1.RevokeCaller{CallerId: "u1"})
	forIt.Body.GetProvenance().PerformedBy = "op1"
	decidertest.Run(t, caller.Decider, []decidertest.Row{
		{
			Name:  "a caller is revoked",
			Given: []decider.Event{added(k1)},
			When:  revoke,
			Then:  []decider.Event{&auditv1.CallerRevoked{Provenance: revoke.Provenance(), CallerId: "u1"}},
		},
		{Name: "one without a key is revoked", Given: []decider.Event{added("")}, When: revoke, Then: []decider.Event{revoked}},
		{Name: "revoking twice is silent", Given: []decider.Event{added(k1), revoked}, When: revoke},
		{
			Name:  "who was added again is revoked again",
			Given: []decider.Event{added(k1), revoked, added(k1)},
			When:  revoke,
			Then:  []decider.Event{revoked},
		},
		{Name: "who was never added is not revoked", When: revoke, Err: caller.ErrNotAdded},
		{Name: "nobody revokes themself", Given: []decider.Event{added(k1)}, When: itself, Err: caller.ErrSelf},
		{Name: "nobody revokes themself in another's name", Given: []decider.Event{added(k1)}, When: forIt, Err: caller.ErrSelf},
	})
}

func TestCallerProperty(t *testing.T) {
	t.Parallel()
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		key := rapid.SampledFrom([]string{"", k1, k2}).Draw(t, "key")
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			c := adding(key, rapid.SampledFrom([]auditv1.Role{
				auditv1.Role_ROLE_SOCIAL_WORKER, auditv1.Role_ROLE_OPERATOR, auditv1.Role_ROLE_EVENT_READER,
			}).Draw(t, "role"))
			c.AdmCode = rapid.SampledFrom([]string{"", "440703"}).Draw(t, "district")
			return c
		case 1:
			return &auditv1.RotateCallerKey{CallerId: "u1", Nkey: k1 + key}
		case 2:
			return &auditv1.RevokeCaller{CallerId: "u1", Provenance: by("u1")}
		default:
			return &auditv1.RevokeCaller{CallerId: "u1"}
		}
	})
	decidertest.Property(t, caller.Decider, commands, thereAndGone, &auditv1.CallerAdded{}, &auditv1.CallerKeyRotated{}, &auditv1.CallerRevoked{})
}

// thereAndGone says what is wrong with a history: a caller comes and goes in turns, changes its key only while it is there and only to
// another one, is not sent away by itself, and has a key and no binding where the role says so.
func thereAndGone(events []decider.Event) error {
	there, key := false, ""
	for i, e := range events {
		switch e := e.(type) {
		case *auditv1.CallerAdded:
			connects := e.GetRole() != auditv1.Role_ROLE_SOCIAL_WORKER
			if there || connects && (e.GetNkey() == "" || e.GetAdmCode() != "") {
				return fmt.Errorf("event %d: added, was there %v: %v", i, there, e)
			}
			there, key = true, e.GetNkey()
		case *auditv1.CallerKeyRotated:
			if !there || e.GetNkey() == key {
				return fmt.Errorf("event %d: rotated from %q, was there %v: %v", i, key, there, e)
			}
			key = e.GetNkey()
		case *auditv1.CallerRevoked:
			if !there || e.GetProvenance().GetRecordedBy() == "u1" {
				return fmt.Errorf("event %d: revoked, was there %v: %v", i, there, e)
			}
			there = false
		default:
			return fmt.Errorf("event %d is %T", i, e)
		}
	}
	return nil
}

// What the service needs to know of a caller is the key that lets it in now.
func TestTheKeyIsTheOneThatCountsNow(t *testing.T) {
	t.Parallel()
	var s caller.State
	for i, step := range []struct {
		event decider.Event
		want  string
	}{
		{added(k1), k1},
		{&auditv1.CallerKeyRotated{CallerId: "u1", Nkey: k2}, k2},
		{&auditv1.CallerRevoked{CallerId: "u1"}, ""},
		{added(""), ""},
	} {
		if s, _ = caller.Decider.Evolve(s, proto.Clone(step.event).(decider.Event)); s.Key() != step.want {
			t.Errorf("after event %d it is %q, want %q", i, s.Key(), step.want)
		}
	}
}
