package child_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/child"
)

const (
	leftBehind   = eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND
	inDifficulty = eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY
)

// registered is a left-behind child since 1 January 2020, of worker w7.
func registered() *intakev1.ChildRegistered {
	return &intakev1.ChildRegistered{
		Provenance: &eventv1.Provenance{
			OccurredAt: timestamppb.New(decidertest.Command("2020-02-01T01:00:00Z", "", &intakev1.RegisterChild{}).At), PerformedBy: "w7", RecordedBy: "k7", AdmCode: "440703",
		},
		ChildId: "ch1", Category: leftBehind, WorkerId: "w7", CategoryStartedOn: "2020-01-01", AgeBand: intakev1.AgeBand_AGE_BAND_6_13,
		Details: &eventv1.Sealed{KeyId: "child-ch1", Ciphertext: []byte("x")},
	}
}

func sealed(c decider.Command) decider.Command {
	c.Sealed = map[string]*eventv1.Sealed{"details": {KeyId: "child-ch1", Ciphertext: []byte("y")}}
	return c
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	register := func(change func(*intakev1.RegisterChild)) decider.Command {
		c := &intakev1.RegisterChild{ChildId: "ch1", Category: leftBehind, WorkerId: "w7", AgeBand: intakev1.AgeBand_AGE_BAND_14_15}
		change(c)
		return sealed(decidertest.Command("2020-02-01T17:00:00Z", "ch1", c))
	}
	event := func(from string) []decider.Event {
		return []decider.Event{&intakev1.ChildRegistered{
			ChildId: "ch1", Category: leftBehind, WorkerId: "w7", CategoryStartedOn: from, AgeBand: intakev1.AgeBand_AGE_BAND_14_15,
			Details: &eventv1.Sealed{KeyId: "child-ch1", Ciphertext: []byte("y")},
		}}
	}
	decidertest.Run(t, child.Decider, []decidertest.Row{
		{
			Name: "a child is registered with sealed details, in its category from the day of registration",
			When: register(func(*intakev1.RegisterChild) {}), Then: event("2020-02-02"), // the day in Asia/Shanghai
		},
		{
			Name: "a child is in its category from the day that is given",
			When: register(func(c *intakev1.RegisterChild) { c.CategoryStartedOn = "2019-09-01" }), Then: event("2019-09-01"),
		},
		{Name: "a child is registered once", Given: []decider.Event{registered()}, When: register(func(*intakev1.RegisterChild) {}), Err: child.ErrRegistered},
		{
			Name: "nobody of 18 is registered",
			When: register(func(c *intakev1.RegisterChild) { c.AgeBand = intakev1.AgeBand_AGE_BAND_OF_AGE }), Err: child.ErrOfAge,
		},
		{
			Name: "nobody of 16 is left behind",
			When: register(func(c *intakev1.RegisterChild) { c.CategoryAgeBand = intakev1.AgeBand_AGE_BAND_16_17 }), Err: child.ErrTooOld,
		},
	})
}

func TestCategories(t *testing.T) {
	t.Parallel()
	start := func(c eventv1.PopulationCategory, on string) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.StartCategory{ChildId: "ch1", Category: c, StartedOn: on, AgeBand: intakev1.AgeBand_AGE_BAND_6_13})
	}
	end := func(c eventv1.PopulationCategory, on string) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.EndCategory{ChildId: "ch1", Category: c, EndedOn: on})
	}
	ended := &intakev1.CategoryEnded{ChildId: "ch1", Category: leftBehind, StartedOn: "2020-01-01", EndedOn: "2020-02-10"}
	one := []decider.Event{registered()}
	decidertest.Run(t, child.Decider, []decidertest.Row{
		{
			Name: "a child may be in several categories", Given: one, When: start(inDifficulty, "2020-02-05"),
			Then: []decider.Event{&intakev1.CategoryStarted{ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-02-05"}},
		},
		{Name: "to start what goes on since then is silent", Given: one, When: start(leftBehind, "2020-01-01")},
		{Name: "a membership overlaps no other of its category", Given: one, When: start(leftBehind, "2020-02-05"), Err: child.ErrInCategory},
		{Name: "a membership does not end before it starts", Given: one, When: end(leftBehind, "2019-12-31"), Err: child.ErrEndBeforeStart},
		{
			Name: "a membership ends, and the event restates its start", Given: one, When: end(leftBehind, "2020-02-10"),
			Then: []decider.Event{ended},
		},
		{Name: "to end what ended then is silent", Given: append(one, ended), When: end(leftBehind, "2020-02-10")},
		{Name: "what ended is not ended on another day", Given: append(one, ended), When: end(leftBehind, "2020-02-11"), Err: child.ErrNotInCategory},
		{Name: "nobody leaves a category they are not in", Given: one, When: end(inDifficulty, "2020-02-10"), Err: child.ErrNotInCategory},
		{Name: "a new membership begins after the one before", Given: append(one, ended), When: start(leftBehind, "2020-02-10"), Err: child.ErrInCategory},
		{
			Name: "a category may begin again", Given: append(one, ended), When: start(leftBehind, "2020-02-11"),
			Then: []decider.Event{&intakev1.CategoryStarted{ChildId: "ch1", Category: leftBehind, StartedOn: "2020-02-11"}},
		},
		{
			Name: "nobody of 16 becomes left behind", Given: append(one, ended), Err: child.ErrTooOld,
			When: decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.StartCategory{
				ChildId: "ch1", Category: leftBehind, StartedOn: "2020-02-11", AgeBand: intakev1.AgeBand_AGE_BAND_16_17,
			}),
		},
	})
}

// In which categories a child is, is answered for any day.
func TestCategoriesOfADay(t *testing.T) {
	t.Parallel()
	log := &decidertest.Log{}
	log.Seed(registered(),
		&intakev1.CategoryStarted{ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-02-05"},
		&intakev1.CategoryEnded{ChildId: "ch1", Category: leftBehind, StartedOn: "2020-01-01", EndedOn: "2020-02-10"},
		&intakev1.CategoryStarted{ChildId: "ch1", Category: leftBehind, StartedOn: "2020-03-01"})
	stored, _, err := log.Load(t.Context(), "ch1")
	if err != nil {
		t.Fatal(err)
	}
	f, err := child.Decider.Fold(stored)
	if err != nil {
		t.Fatal(err)
	}
	for day, want := range map[string]string{
		"2019-12-31": "[]", "2020-01-01": "[LEFT_BEHIND]", "2020-02-05": "[LEFT_BEHIND IN_DIFFICULTY]", "2020-02-10": "[LEFT_BEHIND IN_DIFFICULTY]",
		"2020-02-11": "[IN_DIFFICULTY]", "2020-03-01": "[IN_DIFFICULTY LEFT_BEHIND]",
	} {
		got := strings.ReplaceAll(fmt.Sprint(f.State.In(day)), "POPULATION_CATEGORY_", "")
		if got != want {
			t.Errorf("on %s the child is in %s, want %s", day, got, want)
		}
	}
}

func TestGuardiansAndCare(t *testing.T) {
	t.Parallel()
	one := []decider.Event{registered()}
	guardian := &intakev1.GuardianRecorded{ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_GRANDPARENT, StartedOn: "2020-01-05"}
	gone := &intakev1.GuardianEnded{ChildId: "ch1", GuardianId: "g1", EndedOn: "2020-02-01"}
	record := sealed(decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.RecordGuardian{
		ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_GRANDPARENT, StartedOn: "2020-01-05",
	}))
	end := func(on string) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.EndGuardian{ChildId: "ch1", GuardianId: "g1", EndedOn: on})
	}
	arrange := func(id, guardian, on string) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", "k1", &intakev1.ArrangeCare{
			ChildId: "ch1", ArrangementId: id, CareType: intakev1.CareType_CARE_TYPE_RELATIVES, StartedOn: on, GuardianId: guardian,
		})
	}
	care := &intakev1.CareArranged{ChildId: "ch1", ArrangementId: "a1", CareType: intakev1.CareType_CARE_TYPE_PARENTS, StartedOn: "2020-01-05"}
	decidertest.Run(t, child.Decider, []decidertest.Row{
		{Name: "a guardian is recorded, sealed", Given: one, When: record, Then: []decider.Event{&intakev1.GuardianRecorded{
			ChildId: "ch1", GuardianId: "g1", Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_GRANDPARENT, StartedOn: "2020-01-05",
			Details: &eventv1.Sealed{KeyId: "child-ch1", Ciphertext: []byte("y")},
		}}},
		{Name: "a guardian is recorded once", Given: append(one, guardian), When: record, Err: child.ErrGuardianRecorded},
		{Name: "guardianship ends", Given: append(one, guardian), When: end("2020-02-01"), Then: []decider.Event{gone}},
		{Name: "to end it then again is silent", Given: append(one, guardian, gone), When: end("2020-02-01")},
		{Name: "what ended does not end on another day", Given: append(one, guardian, gone), When: end("2020-02-02"), Err: child.ErrNoGuardian},
		{Name: "guardianship does not end before it starts", Given: append(one, guardian), When: end("2020-01-04"), Err: child.ErrEndBeforeStart},
		{Name: "only a guardian's guardianship ends", Given: one, When: end("2020-02-01"), Err: child.ErrNoGuardian},
		{
			Name: "an arrangement ends the one before", Given: append(one, guardian, care), When: arrange("a2", "g1", "2020-02-02"),
			Then: []decider.Event{&intakev1.CareArranged{
				ChildId: "ch1", ArrangementId: "a2", CareType: intakev1.CareType_CARE_TYPE_RELATIVES, StartedOn: "2020-02-02", GuardianId: "g1", EndedArrangementId: "a1",
			}},
		},
		{Name: "an arrangement is made once", Given: append(one, care), When: arrange("a1", "", "2020-02-02"), Err: child.ErrArranged},
		{Name: "an arrangement starts after the one before", Given: append(one, care), When: arrange("a2", "", "2020-01-05"), Err: child.ErrArrangedBefore},
		{Name: "only a guardian now cares as guardian", Given: append(one, guardian, gone), When: arrange("a2", "g1", "2020-02-02"), Err: child.ErrNoGuardian},
	})
}

func TestPlacesPeopleAndTheEnd(t *testing.T) {
	t.Parallel()
	one := []decider.Event{registered()}
	at := func(body decider.Event) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", "k1", body)
	}
	move := at(&intakev1.MoveChild{ChildId: "ch1", ToAdmCode: "440704", MovedOn: "2020-03-01"})
	moved := &intakev1.ChildMoved{ChildId: "ch1", FromAdmCode: "440703", ToAdmCode: "440704", MovedOn: "2020-03-01"}
	join := at(&intakev1.JoinHousehold{ChildId: "ch1", HouseholdId: "h1"})
	joined := &intakev1.HouseholdJoined{ChildId: "ch1", HouseholdId: "h1"}
	leave := at(&intakev1.DeregisterChild{ChildId: "ch1", DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_MOVED_AWAY, EndedOn: "2020-03-01"})
	left := &intakev1.ChildDeregistered{ChildId: "ch1", DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_MOVED_AWAY, EndedOn: "2020-03-01"}
	merge := func(into string) decider.Command { return at(&intakev1.MergeChild{ChildId: "ch1", IntoChildId: into}) }
	correct := sealed(at(&intakev1.CorrectChild{ChildId: "ch1", AgeBand: intakev1.AgeBand_AGE_BAND_14_15}))
	forget := at(&intakev1.ForgetChild{ChildId: "ch1", Basis: "RETENTION_ENDED"})
	forgotten := &intakev1.ChildForgotten{ChildId: "ch1", KeyId: "child-ch1", Basis: "RETENTION_ENDED"}
	confirm := at(&intakev1.ConfirmKeyDestruction{ChildId: "ch1", KeyId: "child-ch1"})
	destroyed := &intakev1.ChildKeyDestroyed{ChildId: "ch1", KeyId: "child-ch1"}
	decidertest.Run(t, child.Decider, []decidertest.Row{
		{Name: "nothing happens to a child that was never registered", When: move, Err: child.ErrNotRegistered},
		{Name: "a child moves", Given: one, When: move, Then: []decider.Event{moved}},
		{Name: "a child does not move to where it lives", Given: append(one, moved), When: move, Err: child.ErrSameDistrict},
		{Name: "a child joins a household", Given: one, When: join, Then: []decider.Event{joined}},
		{Name: "to join it again is silent", Given: append(one, joined), When: join},
		{Name: "details are corrected", Given: one, When: correct, Then: []decider.Event{&intakev1.ChildCorrected{
			ChildId: "ch1", AgeBand: intakev1.AgeBand_AGE_BAND_14_15, Details: &eventv1.Sealed{KeyId: "child-ch1", Ciphertext: []byte("y")},
		}}},
		{Name: "a child is deregistered", Given: one, When: leave, Then: []decider.Event{left}},
		{Name: "to deregister it again is silent", Given: append(one, left), When: leave},
		{Name: "a deregistered child does not move", Given: append(one, left), When: move, Err: child.ErrEnded},
		{Name: "a duplicate is merged", Given: one, When: merge("ch2"), Then: []decider.Event{&intakev1.ChildMerged{ChildId: "ch1", IntoChildId: "ch2"}}},
		{Name: "an entry is not merged into itself", Given: one, When: merge("ch1"), Err: child.ErrIntoItself},
		{Name: "a child is forgotten", Given: one, When: forget, Then: []decider.Event{forgotten}},
		{Name: "a deregistered child may be forgotten", Given: append(one, left), When: forget, Then: []decider.Event{forgotten}},
		{Name: "to forget it again is silent", Given: append(one, forgotten), When: forget},
		{Name: "nobody is forgotten who was never known", When: forget, Err: child.ErrNotRegistered},
		{Name: "a forgotten child's details are not corrected", Given: append(one, forgotten), When: correct, Err: child.ErrForgotten},
		{Name: "the destruction of the key is noted", Given: append(one, forgotten), When: confirm, Then: []decider.Event{destroyed}},
		{Name: "to note it again is silent", Given: append(one, forgotten, destroyed), When: confirm},
		{Name: "no key is destroyed of a child that is not forgotten", Given: one, When: confirm, Err: child.ErrNotForgotten},
	})
}

// Who is responsible is contested: a change decided on an older state is refused, and told who changed it and when.
func TestAStaleAssignmentIsToldWhoChangedIt(t *testing.T) {
	t.Parallel()
	assign := func(id, worker string, seen uint64) decider.Command {
		return decidertest.Command("2020-03-01T01:00:00Z", id, &intakev1.AssignWorker{
			ChildId: "ch1", WorkerId: worker, WorkerRole: intakev1.WorkerRole_WORKER_ROLE_SOCIAL_WORKER, StartedOn: "2020-03-01", SeenRevision: seen,
		})
	}
	other := &intakev1.CategoryStarted{ChildId: "ch1", Category: inDifficulty, StartedOn: "2020-02-05"}
	log := &decidertest.Log{}
	log.Seed(registered(), other)
	if _, err := decider.Transact(t.Context(), log, child.Decider, "ch1", assign("k1", "w8", 1)); err != nil {
		t.Errorf("seen before something else changed: %v", err)
	}
	_, err := decider.Transact(t.Context(), log, child.Decider, "ch1", assign("k2", "w9", 1))
	var refused *decider.Refusal
	if !errors.As(err, &refused) || refused.Field != "seen_revision" || refused.Rule != "is stale: worker_id was changed by w1 at 2020-03-01T09:00:00+08:00, revision 3" {
		t.Errorf("a stale assignment is answered %v", err)
	}
	if reply, err := decider.Transact(t.Context(), log, child.Decider, "ch1", assign("k3", "w8", 1)); err != nil || reply.GetHappened() {
		t.Errorf("to assign who is responsible is answered %v, %v", reply, err)
	}
}

func TestChildProperty(t *testing.T) {
	t.Parallel()
	day := rapid.SampledFrom([]string{"2020-01-01", "2020-01-15", "2020-02-01", "2020-02-15"})
	category := rapid.SampledFrom([]eventv1.PopulationCategory{leftBehind, inDifficulty})
	id := rapid.SampledFrom([]string{"x1", "x2"})
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		return rapid.SampledFrom([]decider.Event{
			&intakev1.RegisterChild{ChildId: "ch1", WorkerId: id.Draw(t, "worker"), Category: category.Draw(t, "category"), CategoryStartedOn: day.Draw(t, "day")},
			&intakev1.RegisterChild{ChildId: "ch1", WorkerId: "x1", Category: category.Draw(t, "category"), CategoryStartedOn: day.Draw(t, "day")},
			&intakev1.CorrectChild{ChildId: "ch1"},
			&intakev1.MoveChild{ChildId: "ch1", ToAdmCode: rapid.SampledFrom([]string{"440703", "440704"}).Draw(t, "to"), MovedOn: day.Draw(t, "day")},
			&intakev1.StartCategory{ChildId: "ch1", Category: category.Draw(t, "category"), StartedOn: day.Draw(t, "day")},
			&intakev1.EndCategory{ChildId: "ch1", Category: category.Draw(t, "category"), EndedOn: day.Draw(t, "day")},
			&intakev1.RecordGuardian{ChildId: "ch1", GuardianId: id.Draw(t, "guardian"), StartedOn: day.Draw(t, "day")},
			&intakev1.EndGuardian{ChildId: "ch1", GuardianId: id.Draw(t, "guardian"), EndedOn: day.Draw(t, "day")},
			&intakev1.ArrangeCare{ChildId: "ch1", ArrangementId: id.Draw(t, "arrangement"), StartedOn: day.Draw(t, "day")},
			&intakev1.JoinHousehold{ChildId: "ch1", HouseholdId: id.Draw(t, "household")},
			&intakev1.AssignWorker{ChildId: "ch1", WorkerId: id.Draw(t, "worker"), SeenRevision: 100},
			rapid.SampledFrom([]decider.Event{
				&intakev1.DeregisterChild{ChildId: "ch1", EndedOn: "2020-03-01"}, &intakev1.MergeChild{ChildId: "ch1", IntoChildId: "ch2"},
				&intakev1.ForgetChild{ChildId: "ch1", Basis: "RETENTION_ENDED"}, &intakev1.ConfirmKeyDestruction{ChildId: "ch1", KeyId: "child-ch1"},
				&intakev1.JoinHousehold{ChildId: "ch1", HouseholdId: "x1"}, &intakev1.JoinHousehold{ChildId: "ch1", HouseholdId: "x2"},
			}).Draw(t, "end"),
		}).Draw(t, "command")
	})
	decidertest.Property(t, child.Decider, commands, childInvariant,
		&intakev1.ChildRegistered{}, &intakev1.ChildCorrected{}, &intakev1.ChildMoved{}, &intakev1.ChildDeregistered{}, &intakev1.ChildMerged{},
		&intakev1.CategoryStarted{}, &intakev1.CategoryEnded{}, &intakev1.GuardianRecorded{}, &intakev1.GuardianEnded{}, &intakev1.CareArranged{},
		&intakev1.HouseholdJoined{}, &intakev1.WorkerAssigned{}, &intakev1.ChildForgotten{}, &intakev1.ChildKeyDestroyed{})
}

// childInvariant: the registration is first and once; after the end only forgetting; memberships of one category do not overlap; the key is
// destroyed once, after the child was forgotten, and nothing is sealed after that.
func childInvariant(events []decider.Event) error {
	open := make(map[eventv1.PopulationCategory]string) // category: first day
	last := make(map[eventv1.PopulationCategory]string) // category: last day of the membership before
	var ended, forgotten, destroyed bool
	begin := func(c eventv1.PopulationCategory, from string) error {
		if open[c] != "" || from <= last[c] {
			return fmt.Errorf("two memberships of %s overlap on %s", c, from)
		}
		open[c] = from
		return nil
	}
	for i, e := range events {
		_, isForgotten := e.(*intakev1.ChildForgotten)
		_, isDestroyed := e.(*intakev1.ChildKeyDestroyed)
		if ended && !isForgotten && !isDestroyed {
			return fmt.Errorf("%T after the end", e)
		}
		switch e := e.(type) {
		case *intakev1.ChildRegistered:
			if i != 0 {
				return errors.New("registered twice")
			}
			if err := begin(e.GetCategory(), e.GetCategoryStartedOn()); err != nil {
				return err
			}
		case *intakev1.CategoryStarted:
			if err := begin(e.GetCategory(), e.GetStartedOn()); err != nil {
				return err
			}
		case *intakev1.CategoryEnded:
			if open[e.GetCategory()] != e.GetStartedOn() || e.GetEndedOn() < e.GetStartedOn() {
				return fmt.Errorf("a membership from %s ends on %s", open[e.GetCategory()], e.GetEndedOn())
			}
			last[e.GetCategory()] = e.GetEndedOn()
			delete(open, e.GetCategory())
		case *intakev1.ChildCorrected, *intakev1.GuardianRecorded:
			if forgotten {
				return fmt.Errorf("%T of a forgotten child", e)
			}
		case *intakev1.ChildDeregistered, *intakev1.ChildMerged:
			ended = true
		case *intakev1.ChildForgotten:
			if forgotten {
				return errors.New("forgotten twice")
			}
			forgotten = true
		case *intakev1.ChildKeyDestroyed:
			if !forgotten || destroyed {
				return errors.New("key destroyed twice, or of a child that is not forgotten")
			}
			destroyed = true
		}
		if i == 0 {
			if _, first := e.(*intakev1.ChildRegistered); !first {
				return fmt.Errorf("the first event is %T", e)
			}
		}
	}
	return nil
}
