package intake_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

const (
	leftBehind   = eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND
	inDifficulty = eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY
	childCommand = "tongan.cmd.intake.child."
)

// sends sends a command or query over a connection and returns the reply.
func sends(t *testing.T, nc *nats.Conn, subj string, command proto.Message) servetest.Reply {
	t.Helper()
	payload, err := proto.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(subj, payload, 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return servetest.Reply{Data: m.Data, Code: m.Header.Get(micro.ErrorCodeHeader), Error: m.Header.Get(micro.ErrorHeader)}
}

// refused checks that a command is refused, by whom what a refusal says, and that nothing is stored and no value repeated.
func refused(t *testing.T, c *servetest.Client, verb string, command proto.Message, code string, says ...string) {
	t.Helper()
	payload, err := proto.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Events(t, subject.Intake)
	r := c.Ask(t, childCommand+verb, payload)
	r.Refused(t, code, says...)
	for _, value := range []string{"5c6d7e", "999999", "0101018", "2002-0", "2004-0", "2010-0", "2011-0", "1990000"} {
		if strings.Contains(r.Error, value) {
			t.Errorf("the refusal of %s repeats what was sent", verb)
		}
	}
	if after := c.Events(t, subject.Intake); after != before {
		t.Errorf("%d events are stored", after-before)
	}
}

// born is a registration of somebody by date of birth.
func born(id, on string, category eventv1.PopulationCategory) *intakev1.RegisterChild {
	return &intakev1.RegisterChild{
		Provenance: provenance(""), ChildId: id, Category: category, WorkerId: "w1", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e", BirthDate: on},
	}
}

// Every command about a child leads to its event, and sent again to nothing more. What is personal is sealed under the child's key, and the
// age band is what the details say, whatever the caller says.
func TestEveryCommandAboutAChildIsStored(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch2", ""))
	first := withNumber("ch1", number)
	first.CategoryStartedOn, first.CategoryRule, first.AgeBand = "2019-09-01", intakev1.CategoryRule_CATEGORY_RULE_GF_2016_13, intakev1.AgeBand_AGE_BAND_OF_AGE
	registered := c.Send(t, registerChild, first).GetRevision()
	key := &eventv1.Sealed{KeyId: "child-ch1"}
	for _, tt := range []struct {
		verb    string
		command proto.Message
		want    proto.Message
	}{
		{"register", first, &intakev1.ChildRegistered{
			ChildId: "ch1", Category: leftBehind, WorkerId: "w1", CategoryStartedOn: "2019-09-01",
			CategoryRule: intakev1.CategoryRule_CATEGORY_RULE_GF_2016_13, AgeBand: intakev1.AgeBand_AGE_BAND_6_13, Details: key,
		}},
		{"correct", &intakev1.CorrectChild{
			ChildId: "ch1", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e", BirthDate: "2005-01-01"}, AgeBand: intakev1.AgeBand_AGE_BAND_OF_AGE,
		}, &intakev1.ChildCorrected{ChildId: "ch1", AgeBand: intakev1.AgeBand_AGE_BAND_14_15, Details: key}},
		{"start-category", &intakev1.StartCategory{
			ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-01-05", CategoryRule: intakev1.CategoryRule_CATEGORY_RULE_GF_2016_36,
		}, &intakev1.CategoryStarted{
			ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-01-05", CategoryRule: intakev1.CategoryRule_CATEGORY_RULE_GF_2016_36,
		}},
		{
			"end-category", &intakev1.EndCategory{ChildId: "ch1", Category: leftBehind, EndedOn: "2020-01-10"},
			&intakev1.CategoryEnded{ChildId: "ch1", Category: leftBehind, StartedOn: "2019-09-01", EndedOn: "2020-01-10"},
		},
		{"record-guardian", &intakev1.RecordGuardian{
			ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_GRANDPARENT, StartedOn: "2020-01-05",
			Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e", IdentityNumber: otherNumber},
		}, &intakev1.GuardianRecorded{
			ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_GRANDPARENT, StartedOn: "2020-01-05", Details: key,
		}},
		{
			"arrange-care", &intakev1.ArrangeCare{
				ChildId: "ch1", ArrangementId: "a1", CareType: intakev1.CareType_CARE_TYPE_RELATIVES, StartedOn: "2020-01-05", GuardianId: "g1",
			},
			&intakev1.CareArranged{ChildId: "ch1", ArrangementId: "a1", CareType: intakev1.CareType_CARE_TYPE_RELATIVES, StartedOn: "2020-01-05", GuardianId: "g1"},
		},
		{
			"end-guardian", &intakev1.EndGuardian{ChildId: "ch1", GuardianId: "g1", EndedOn: "2020-01-20"},
			&intakev1.GuardianEnded{ChildId: "ch1", GuardianId: "g1", EndedOn: "2020-01-20"},
		},
		{
			"join-household", &intakev1.JoinHousehold{ChildId: "ch1", HouseholdId: "hh1"},
			&intakev1.HouseholdJoined{ChildId: "ch1", HouseholdId: "hh1"},
		},
		{
			"assign-worker", &intakev1.AssignWorker{
				ChildId: "ch1", WorkerId: "w2", WorkerRole: intakev1.WorkerRole_WORKER_ROLE_CHILD_DIRECTOR, StartedOn: "2020-02-01", SeenRevision: registered,
			},
			&intakev1.WorkerAssigned{ChildId: "ch1", WorkerId: "w2", WorkerRole: intakev1.WorkerRole_WORKER_ROLE_CHILD_DIRECTOR, StartedOn: "2020-02-01"},
		},
		{
			"move", &intakev1.MoveChild{ChildId: "ch1", ToAdmCode: "440704", MovedOn: "2020-02-01"},
			&intakev1.ChildMoved{ChildId: "ch1", FromAdmCode: "440703", ToAdmCode: "440704", MovedOn: "2020-02-01"},
		},
		{
			"deregister", &intakev1.DeregisterChild{
				ChildId: "ch1", DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_MOVED_AWAY, EndedOn: "2020-02-01",
			},
			&intakev1.ChildDeregistered{
				ChildId: "ch1", DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_MOVED_AWAY, EndedOn: "2020-02-01",
			},
		},
		{"merge", &intakev1.MergeChild{ChildId: "ch2", IntoChildId: "ch1"}, &intakev1.ChildMerged{ChildId: "ch2", IntoChildId: "ch1"}},
	} {
		if p := tt.command.ProtoReflect(); tt.verb != "register" {
			p.Set(p.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfMessage(provenance("k-"+tt.verb).ProtoReflect()))
		}
		reply := c.Send(t, childCommand+tt.verb, tt.command)
		got := event(t, c, reply.GetRevision())
		if diff := cmp.Diff(tt.want, got, protocmp.Transform(), protocmp.IgnoreMessages(&eventv1.Provenance{}),
			protocmp.IgnoreFields(&eventv1.Sealed{}, "algorithm", "nonce", "ciphertext", "content")); diff != "" {
			t.Errorf("%s stores: %s", tt.verb, diff)
		}
		stored := c.Events(t, subject.Intake)
		if again := c.Send(t, childCommand+tt.verb, tt.command); again.GetRevision() != reply.GetRevision() || c.Events(t, subject.Intake) != stored {
			t.Errorf("%s sent again is answered with revision %d after %d", tt.verb, again.GetRevision(), reply.GetRevision())
		}
	}
}

// Of identity numbers and dates of birth what cannot be is refused, with field and rule and without the value.
func TestNumbersAndDatesOfBirthThatCannotBe(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", number))
	for _, tt := range []struct{ number, birth, says string }{
		{"999999201001010181", "", "details.identity_number: has a wrong check character (GB 11643-1999)"},
		{"99999920100101018", "", "details.identity_number: must have 18 characters"},
		{"99999920100101O18X", "", "details.identity_number: must have 17 digits and a check character"},
		{"999999201013010187", "", "details.identity_number: holds no date of birth"},
		{number, "2011-01-01", "details.birth_date: contradicts the identity number"},
		{"", "2010-02-30", "details.birth_date: must be a date"},
		{"", "2020-02-02", "details.birth_date: lies after the day of the command"},
		{"999999202002020181", "", "details.identity_number: holds a date of birth after the day of the command"},
	} {
		details := &intakev1.ChildDetails{Name: "标识-5c6d7e", IdentityNumber: tt.number, BirthDate: tt.birth}
		refused(t, c, "register", &intakev1.RegisterChild{Provenance: provenance(""), ChildId: "ch2", Category: leftBehind, WorkerId: "w1", Details: details}, "400", tt.says)
		refused(t, c, "correct", &intakev1.CorrectChild{Provenance: provenance("k1"), ChildId: "ch1", Details: details}, "400", tt.says)
	}
	refused(t, c, "record-guardian", &intakev1.RecordGuardian{
		Provenance: provenance("k1"), ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05",
		Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e", IdentityNumber: "999999201001010181"},
	}, "400", "details.identity_number: has a wrong check character")
	if keys, err := c.JS.Stream(t.Context(), subject.StreamKeys); err != nil || keys.CachedInfo().State.Msgs != 2 { // of ch1, and of the index
		t.Errorf("for what was refused a key was made (%v)", err)
	}
}

// The age is that of the sealed details, on the day it matters: at registration that day, in a category its first.
func TestAgesAreThoseOfTheSealedDetails(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	tooOld := []string{"category: left-behind is under 16"}
	refused(t, c, "register", born("ch1", "2002-02-01", inDifficulty), "409", "details: say 18 years or more")
	refused(t, c, "register", born("ch1", "2004-02-01", leftBehind), "409", tooOld...)
	c.Send(t, registerChild, born("ch1", "2002-02-02", inDifficulty)) // 17 until tomorrow
	c.Send(t, registerChild, born("ch2", "2004-02-02", leftBehind))   // 15 until tomorrow
	start := func(command, child, on string) *intakev1.StartCategory {
		return &intakev1.StartCategory{
			Provenance: provenance(command), ChildId: child, Category: leftBehind, StartedOn: on, AgeBand: intakev1.AgeBand_AGE_BAND_6_13,
		}
	}
	refused(t, c, "start-category", start("k1", "ch1", "2020-02-01"), "409", tooOld...)
	refused(t, c, "start-category", start("k1", "ch1", "2018-02-02"), "409", tooOld...)
	c.Send(t, childCommand+"start-category", start("k1", "ch1", "2018-02-01")) // 15 then
	c.Send(t, childCommand+"end-category", &intakev1.EndCategory{Provenance: provenance("k2"), ChildId: "ch2", Category: leftBehind, EndedOn: "2020-02-01"})
	refused(t, c, "start-category", start("k3", "ch2", "2020-02-02"), "409", tooOld...)
	c.Send(t, childCommand+"correct", &intakev1.CorrectChild{
		Provenance: provenance("k4"), ChildId: "ch2", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e", BirthDate: "2004-02-03"},
	})
	c.Send(t, childCommand+"start-category", start("k5", "ch2", "2020-02-02"))
}

// What cannot be of times, places and children is refused, with field and rule.
func TestBadInputAboutAChild(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", ""))
	c.Send(t, childCommand+"record-guardian", &intakev1.RecordGuardian{
		Provenance: provenance("k0"), ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05",
		Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e"},
	})
	p := provenance("k1")
	refused(t, c, "end-category", &intakev1.EndCategory{Provenance: p, ChildId: "ch1", Category: leftBehind, EndedOn: "2020-01-31"}, "409", "ended_on: must not lie before the first day")
	refused(t, c, "end-category", &intakev1.EndCategory{Provenance: p, ChildId: "ch1", Category: leftBehind, EndedOn: "2020-02-30"}, "400", "ended_on: must be a date")
	refused(t, c, "end-category", &intakev1.EndCategory{Provenance: p, ChildId: "ch1", Category: inDifficulty, EndedOn: "2020-02-02"}, "409", "category: is not one the child is in")
	refused(t, c, "start-category", &intakev1.StartCategory{Provenance: p, ChildId: "ch1", StartedOn: "2020-02-02"}, "400", "category")
	refused(t, c, "end-guardian", &intakev1.EndGuardian{Provenance: p, ChildId: "ch1", GuardianId: "g1", EndedOn: "2020-01-04"}, "409", "ended_on: must not lie before the first day")
	refused(t, c, "end-guardian", &intakev1.EndGuardian{Provenance: p, ChildId: "ch1", GuardianId: "g2", EndedOn: "2020-02-01"}, "409", "guardian_id: is not a guardian")
	refused(t, c, "move", &intakev1.MoveChild{Provenance: p, ChildId: "ch1", ToAdmCode: "440703", MovedOn: "2020-02-01"}, "409", "to_adm_code: is the district")
	refused(t, c, "move", &intakev1.MoveChild{Provenance: p, ChildId: "ch1", ToAdmCode: "440111", MovedOn: "2020-02-01"}, "400", "to_adm_code: is not a district served here")
	refused(t, c, "merge", &intakev1.MergeChild{Provenance: p, ChildId: "ch1", IntoChildId: "ch1"}, "409", "into_child_id: is the entry itself")
	refused(t, c, "move", &intakev1.MoveChild{Provenance: provenance(""), ChildId: "ch1", ToAdmCode: "440704", MovedOn: "2020-02-01"}, "400", "provenance.command_id: is required")
	for verb, command := range map[string]proto.Message{
		"correct":         &intakev1.CorrectChild{Provenance: p, ChildId: "ch9", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e"}},
		"move":            &intakev1.MoveChild{Provenance: p, ChildId: "ch9", ToAdmCode: "440704", MovedOn: "2020-02-01"},
		"start-category":  &intakev1.StartCategory{Provenance: p, ChildId: "ch9", Category: leftBehind, StartedOn: "2020-02-01"},
		"end-category":    &intakev1.EndCategory{Provenance: p, ChildId: "ch9", Category: leftBehind, EndedOn: "2020-02-01"},
		"join-household":  &intakev1.JoinHousehold{Provenance: p, ChildId: "ch9", HouseholdId: "hh1"},
		"merge":           &intakev1.MergeChild{Provenance: p, ChildId: "ch9", IntoChildId: "ch1"},
		"forget":          &intakev1.ForgetChild{Provenance: p, ChildId: "ch9", Basis: "RETENTION_ENDED"},
		"end-guardian":    &intakev1.EndGuardian{Provenance: p, ChildId: "ch9", GuardianId: "g1", EndedOn: "2020-02-01"},
		"deregister":      &intakev1.DeregisterChild{Provenance: p, ChildId: "ch9", DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_DIED, EndedOn: "2020-02-01"},
		"arrange-care":    &intakev1.ArrangeCare{Provenance: p, ChildId: "ch9", ArrangementId: "a1", CareType: intakev1.CareType_CARE_TYPE_FOSTER, StartedOn: "2020-02-01"},
		"assign-worker":   &intakev1.AssignWorker{Provenance: p, ChildId: "ch9", WorkerId: "w2", WorkerRole: intakev1.WorkerRole_WORKER_ROLE_SOCIAL_WORKER, StartedOn: "2020-02-01", SeenRevision: 1},
		"record-guardian": &intakev1.RecordGuardian{Provenance: p, ChildId: "ch9", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05", Details: &intakev1.GuardianDetails{Name: "监护人-5c6d7e"}},
	} {
		refused(t, c, verb, command, "409", "child_id: is not registered")
	}
}

// Who decides on what was changed since is told who changed it and when, and nothing is changed.
func TestAStaleAssignmentIsRefused(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	seen := c.Send(t, registerChild, withNumber("ch1", "")).GetRevision()
	assign := func(by, worker string) *intakev1.AssignWorker {
		p := provenance("k-" + by)
		p.PerformedBy = by
		return &intakev1.AssignWorker{
			Provenance: p, ChildId: "ch1", WorkerId: worker, WorkerRole: intakev1.WorkerRole_WORKER_ROLE_SOCIAL_WORKER, StartedOn: "2020-02-01", SeenRevision: seen,
		}
	}
	c.Send(t, childCommand+"start-category", &intakev1.StartCategory{Provenance: provenance("k1"), ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-01-05"})
	c.Send(t, childCommand+"assign-worker", assign("s1", "w2"))
	refused(t, c, "assign-worker", assign("s2", "w3"), "409", "seen_revision: is stale: worker_id was changed by s1 at 2020-02-01T17:00:00+08:00, revision 3")
	never := assign("s2", "w3")
	never.SeenRevision = 0
	refused(t, c, "assign-worker", never, "400", "seen_revision")
}

// A child that moved is that of its new district: there somebody may act and look, and in the old one nobody any more.
func TestAChildThatMovedIsThatOfItsNewDistrict(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", ""))
	before, after := c.As(t, worker("w3", "440703")), c.As(t, worker("w4", "440704"))
	join := func(caller, district, household string) *intakev1.JoinHousehold {
		p := provenance("k-" + caller + household)
		p.PerformedBy, p.AdmCode = caller, district
		return &intakev1.JoinHousehold{Provenance: p, ChildId: "ch1", HouseholdId: household}
	}
	sends(t, after, childCommand+"join-household", join("w4", "440704", "hh1")).Refused(t, "403", "caller", "bound to another district")
	sends(t, before, childCommand+"join-household", join("w3", "440703", "hh2")).Refused(t, "")
	move := &intakev1.MoveChild{Provenance: provenance("k1"), ChildId: "ch1", ToAdmCode: "440704", MovedOn: "2020-02-01"}
	move.Provenance.PerformedBy = "w3"
	sends(t, before, childCommand+"move", move).Refused(t, "")
	sends(t, before, childCommand+"join-household", join("w3", "440703", "hh3")).Refused(t, "403", "caller", "bound to another district")
	sends(t, before, childCommand+"join-household", join("w3", "440703", "hh2")).Refused(t, "403", "caller", "bound to another district") // again
	asks(t, before, "ch1", "FOLLOW_UP").Refused(t, "403", "caller", "bound to another district")
	sends(t, after, childCommand+"join-household", join("w4", "440704", "hh4")).Refused(t, "")
	r := asks(t, after, "ch1", "FOLLOW_UP")
	r.Refused(t, "")
	got := &intakev1.Child{}
	if err := proto.Unmarshal(r.Data, got); err != nil || got.GetAdmCode() != "440704" || got.GetDetails().GetName() == "" {
		t.Errorf("in the new district it lies in %s (%v)", got.GetAdmCode(), err)
	}
}
