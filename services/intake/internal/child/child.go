// Package child is the entry of one child in the registry (儿童登记).
//
// Commands: RegisterChild, CorrectChild, MoveChild, DeregisterChild, StartCategory, EndCategory, RecordGuardian, EndGuardian, ArrangeCare,
// JoinHousehold, AssignWorker, MergeChild, ForgetChild. Events: one for each, in the past tense, and ChildKeyDestroyed.
//
// Rules:
//   - A child is registered once, under 18; everything else comes after that, and nothing but the forgetting after its end: deregistered or
//     merged, each once.
//   - A category is a membership with a first and, once it ends, a last day; of one category there is at most one on any day. Left-behind
//     is who is under 16 on the first day.
//   - No end lies before its start, and nothing starts before it could: a membership, guardian or arrangement may lie before the
//     registration, since it was so before it was known.
//   - Of care arrangements one holds at a time: the next one ends the one before, the day before.
//   - Who is responsible is contested: the change names the revision it was decided on, and a stale one is told who changed it and when.
//   - Forgetting comes once and ends everything that would need the key: details are corrected and guardians recorded no more.
package child

import (
	"fmt"
	"maps"
	"slices"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Aggregate is the child; its id is child_id.
var Aggregate = subject.Aggregate{Service: subject.Intake, Name: "child"}

var (
	// ErrNotRegistered is returned when a child that was never registered is asked for or changed.
	ErrNotRegistered = decider.Refuse("child_id", "is not registered")
	// ErrRegistered is returned when the child has been registered before by another command.
	ErrRegistered = decider.Refuse("child_id", "is registered already")
	// ErrEnded is returned when an entry that was deregistered or merged is to be changed.
	ErrEnded = decider.Refuse("child_id", "is deregistered or merged")
	// ErrForgotten is returned when personal details of a forgotten child are asked for or would be sealed.
	ErrForgotten = decider.Refuse("child_id", "is forgotten")
	// ErrNotForgotten is returned when a key is said to be destroyed that should not be.
	ErrNotForgotten = decider.Refuse("child_id", "is not forgotten")
	// ErrOfAge is returned when somebody of 18 or more would be registered.
	ErrOfAge = decider.Refuse("details", "say 18 years or more: a child is under 18")
	// ErrTooOld is returned when the category does not fit the age on its first day.
	ErrTooOld = decider.Refuse("category", "left-behind is under 16 on the first day (国发〔2016〕13号)")
	// ErrInCategory is returned when a membership would overlap another one of the same category.
	ErrInCategory = decider.Refuse("started_on", "lies in another membership of this category, or before one")
	// ErrNotInCategory is returned when a membership that is not open would be ended.
	ErrNotInCategory = decider.Refuse("category", "is not one the child is in")
	// ErrEndBeforeStart is returned when something would end before it started.
	ErrEndBeforeStart = decider.Refuse("ended_on", "must not lie before the first day")
	// ErrGuardianRecorded is returned when the guardian has been recorded before by another command.
	ErrGuardianRecorded = decider.Refuse("guardian_id", "is recorded already")
	// ErrNoGuardian is returned when somebody is named who is not the child's guardian now.
	ErrNoGuardian = decider.Refuse("guardian_id", "is not a guardian of this child now")
	// ErrArranged is returned when the arrangement has been made before by another command.
	ErrArranged = decider.Refuse("arrangement_id", "is made already")
	// ErrArrangedBefore is returned when an arrangement would start on or before the first day of the one it ends.
	ErrArrangedBefore = decider.Refuse("started_on", "must lie after the first day of the arrangement before")
	// ErrSameDistrict is returned when a child would move to where it lives.
	ErrSameDistrict = decider.Refuse("to_adm_code", "is the district the child lives in")
	// ErrIntoItself is returned when an entry would be merged into itself.
	ErrIntoItself = decider.Refuse("into_child_id", "is the entry itself")
)

// membership is the time somebody is in a category; an empty last day says that it goes on.
type membership struct {
	category eventv1.PopulationCategory
	from, to string
}

// State is what decisions and queries about a child need to know.
type State struct {
	registered, ended       bool
	forgotten, keyDestroyed bool
	category                eventv1.PopulationCategory // at registration
	admCode, workerID       string
	ageBand                 intakev1.AgeBand
	details                 *eventv1.Sealed
	memberships             []membership
	guardians               map[string]membership // by id; category is not used
	careID, careFrom        string
	careIDs                 map[string]bool
	householdID             string
}

// View is the child as queries answer it, without personal details.
func (s State) View(id string, revision uint64) *intakev1.Child {
	return &intakev1.Child{ChildId: id, Revision: revision, Category: s.category, AdmCode: s.admCode, WorkerId: s.workerID}
}

// Details are the child's personal details as they were sealed, in the event's field details.
func (s State) Details() *eventv1.Sealed { return s.details }

// Forgotten reports whether the child's details may not be opened any more.
func (s State) Forgotten() bool { return s.forgotten }

// Worker is the contested field of who is responsible.
const Worker = "worker_id"

// Decider decides about one child.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve, Fork: fork, Contested: func(e decider.Event) string {
	switch e.(type) {
	case *intakev1.ChildRegistered, *intakev1.WorkerAssigned:
		return Worker
	default:
		return ""
	}
}}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *intakev1.RegisterChild:
		return register(s, cmd, c)
	case *intakev1.ForgetChild:
		return forget(s, cmd, c)
	case *intakev1.ConfirmKeyDestruction:
		return confirmDestruction(s, cmd, c)
	}
	switch {
	case !s.registered:
		return nil, ErrNotRegistered
	case s.ended:
		return again(s, cmd)
	}
	switch c := cmd.Body.(type) {
	case *intakev1.CorrectChild:
		return correct(s, cmd, c)
	case *intakev1.MoveChild:
		return move(s, cmd, c)
	case *intakev1.DeregisterChild:
		return one(&intakev1.ChildDeregistered{
			Provenance: cmd.Provenance(), ChildId: c.GetChildId(), DeregistrationReason: c.GetDeregistrationReason(), EndedOn: c.GetEndedOn(),
		})
	case *intakev1.StartCategory:
		return startCategory(s, cmd, c)
	case *intakev1.EndCategory:
		return endCategory(s, cmd, c)
	case *intakev1.RecordGuardian:
		return recordGuardian(s, cmd, c)
	case *intakev1.EndGuardian:
		return endGuardian(s, cmd, c)
	case *intakev1.ArrangeCare:
		return arrangeCare(s, cmd, c)
	case *intakev1.JoinHousehold:
		if s.householdID == c.GetHouseholdId() {
			return nil, nil
		}
		return one(&intakev1.HouseholdJoined{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), HouseholdId: c.GetHouseholdId()})
	case *intakev1.AssignWorker:
		return assignWorker(s, cmd, c)
	case *intakev1.MergeChild:
		if c.GetIntoChildId() == c.GetChildId() {
			return nil, ErrIntoItself
		}
		return one(&intakev1.ChildMerged{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), IntoChildId: c.GetIntoChildId()})
	default:
		return nil, fmt.Errorf("child: unexpected command %T", cmd.Body)
	}
}

func one(e decider.Event) ([]decider.Event, error) { return []decider.Event{e}, nil }

// again answers what comes after the end: to end once more is silent, everything else is refused.
func again(_ State, cmd decider.Command) ([]decider.Event, error) {
	switch cmd.Body.(type) {
	case *intakev1.DeregisterChild, *intakev1.MergeChild:
		return nil, nil
	default:
		return nil, ErrEnded
	}
}

func register(s State, cmd decider.Command, c *intakev1.RegisterChild) ([]decider.Event, error) {
	from := c.GetCategoryStartedOn()
	if from == "" {
		from = decider.Day(c.GetProvenance().GetOccurredAt().AsTime())
	}
	switch {
	case s.registered:
		return nil, ErrRegistered
	case c.GetAgeBand() == intakev1.AgeBand_AGE_BAND_OF_AGE:
		return nil, ErrOfAge
	case tooOld(c.GetCategory(), c.GetCategoryAgeBand()):
		return nil, ErrTooOld
	}
	return one(&intakev1.ChildRegistered{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), Category: c.GetCategory(), WorkerId: c.GetWorkerId(), Details: cmd.Sealed["details"],
		CategoryStartedOn: from, CategoryRule: c.GetCategoryRule(), AgeBand: c.GetAgeBand(),
	})
}

// tooOld reports whether a category cannot be, by the age on its first day.
func tooOld(category eventv1.PopulationCategory, band intakev1.AgeBand) bool {
	return category == eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND &&
		(band == intakev1.AgeBand_AGE_BAND_16_17 || band == intakev1.AgeBand_AGE_BAND_OF_AGE)
}

func correct(s State, cmd decider.Command, c *intakev1.CorrectChild) ([]decider.Event, error) {
	if s.forgotten {
		return nil, ErrForgotten
	}
	return one(&intakev1.ChildCorrected{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), Details: cmd.Sealed["details"], AgeBand: c.GetAgeBand()})
}

func move(s State, cmd decider.Command, c *intakev1.MoveChild) ([]decider.Event, error) {
	if c.GetToAdmCode() == s.admCode {
		return nil, ErrSameDistrict
	}
	return one(&intakev1.ChildMoved{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), FromAdmCode: s.admCode, ToAdmCode: c.GetToAdmCode(), MovedOn: c.GetMovedOn(),
	})
}

func startCategory(s State, cmd decider.Command, c *intakev1.StartCategory) ([]decider.Event, error) {
	for _, m := range s.memberships {
		switch {
		case m.category != c.GetCategory():
		case m.from == c.GetStartedOn() && m.to == "":
			return nil, nil // it is so
		case m.to == "" || m.to >= c.GetStartedOn():
			return nil, ErrInCategory
		}
	}
	if tooOld(c.GetCategory(), c.GetAgeBand()) {
		return nil, ErrTooOld
	}
	return one(&intakev1.CategoryStarted{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), Category: c.GetCategory(), StartedOn: c.GetStartedOn(), CategoryRule: c.GetCategoryRule(),
	})
}

func endCategory(s State, cmd decider.Command, c *intakev1.EndCategory) ([]decider.Event, error) {
	for _, m := range s.memberships {
		switch {
		case m.category != c.GetCategory():
		case m.to == c.GetEndedOn():
			return nil, nil // it is so
		case m.to == "" && c.GetEndedOn() < m.from:
			return nil, ErrEndBeforeStart
		case m.to == "":
			return one(&intakev1.CategoryEnded{
				Provenance: cmd.Provenance(), ChildId: c.GetChildId(), Category: c.GetCategory(), StartedOn: m.from, EndedOn: c.GetEndedOn(),
			})
		}
	}
	return nil, ErrNotInCategory
}

func recordGuardian(s State, cmd decider.Command, c *intakev1.RecordGuardian) ([]decider.Event, error) {
	if s.forgotten {
		return nil, ErrForgotten
	}
	if _, there := s.guardians[c.GetGuardianId()]; there {
		return nil, ErrGuardianRecorded
	}
	return one(&intakev1.GuardianRecorded{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), GuardianId: c.GetGuardianId(), Relation: c.GetRelation(), StartedOn: c.GetStartedOn(),
		Details: cmd.Sealed["details"],
	})
}

func endGuardian(s State, cmd decider.Command, c *intakev1.EndGuardian) ([]decider.Event, error) {
	g, there := s.guardians[c.GetGuardianId()]
	switch {
	case there && g.to == c.GetEndedOn():
		return nil, nil
	case !there || g.to != "":
		return nil, ErrNoGuardian
	case c.GetEndedOn() < g.from:
		return nil, ErrEndBeforeStart
	}
	return one(&intakev1.GuardianEnded{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), GuardianId: c.GetGuardianId(), EndedOn: c.GetEndedOn()})
}

func arrangeCare(s State, cmd decider.Command, c *intakev1.ArrangeCare) ([]decider.Event, error) {
	switch {
	case s.careIDs[c.GetArrangementId()]:
		return nil, ErrArranged
	case s.careID != "" && c.GetStartedOn() <= s.careFrom:
		return nil, ErrArrangedBefore
	}
	if id := c.GetGuardianId(); id != "" {
		if g, there := s.guardians[id]; !there || g.to != "" {
			return nil, ErrNoGuardian
		}
	}
	return one(&intakev1.CareArranged{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), ArrangementId: c.GetArrangementId(), CareType: c.GetCareType(), StartedOn: c.GetStartedOn(),
		GuardianId: c.GetGuardianId(), CareInstitution: c.GetCareInstitution(), EndedArrangementId: s.careID,
	})
}

func assignWorker(s State, cmd decider.Command, c *intakev1.AssignWorker) ([]decider.Event, error) {
	if s.workerID == c.GetWorkerId() {
		return nil, nil
	}
	if err := cmd.Stale(Worker, c.GetSeenRevision()); err != nil {
		return nil, err
	}
	return one(&intakev1.WorkerAssigned{
		Provenance: cmd.Provenance(), ChildId: c.GetChildId(), WorkerId: c.GetWorkerId(), WorkerRole: c.GetWorkerRole(), StartedOn: c.GetStartedOn(),
	})
}

func forget(s State, cmd decider.Command, c *intakev1.ForgetChild) ([]decider.Event, error) {
	switch {
	case !s.registered:
		return nil, ErrNotRegistered
	case s.forgotten:
		return nil, nil
	}
	return one(&intakev1.ChildForgotten{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), KeyId: s.details.GetKeyId(), Basis: c.GetBasis()})
}

func confirmDestruction(s State, cmd decider.Command, c *intakev1.ConfirmKeyDestruction) ([]decider.Event, error) {
	switch {
	case !s.forgotten:
		return nil, ErrNotForgotten
	case s.keyDestroyed:
		return nil, nil
	}
	return one(&intakev1.ChildKeyDestroyed{Provenance: cmd.Provenance(), ChildId: c.GetChildId(), KeyId: c.GetKeyId()})
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *intakev1.ChildRegistered:
		from := e.GetCategoryStartedOn()
		if from == "" {
			from = decider.Day(e.GetProvenance().GetOccurredAt().AsTime())
		}
		s.registered, s.category, s.admCode, s.workerID = true, e.GetCategory(), e.GetProvenance().GetAdmCode(), e.GetWorkerId()
		s.ageBand, s.details = e.GetAgeBand(), e.GetDetails()
		s.memberships = []membership{{category: e.GetCategory(), from: from}}
	case *intakev1.ChildCorrected:
		s.details, s.ageBand = e.GetDetails(), e.GetAgeBand()
	case *intakev1.ChildMoved:
		s.admCode = e.GetToAdmCode()
	case *intakev1.ChildDeregistered, *intakev1.ChildMerged:
		s.ended = true
	case *intakev1.CategoryStarted:
		s.memberships = append(slices.Clone(s.memberships), membership{category: e.GetCategory(), from: e.GetStartedOn()})
	case *intakev1.CategoryEnded:
		s.memberships = slices.Clone(s.memberships)
		for i, m := range s.memberships {
			if m.category == e.GetCategory() && m.to == "" {
				s.memberships[i].to = e.GetEndedOn()
			}
		}
	case *intakev1.GuardianRecorded:
		s.guardians = with(s.guardians, e.GetGuardianId(), membership{from: e.GetStartedOn()})
	case *intakev1.GuardianEnded:
		s.guardians = with(s.guardians, e.GetGuardianId(), membership{from: s.guardians[e.GetGuardianId()].from, to: e.GetEndedOn()})
	case *intakev1.CareArranged:
		s.careID, s.careFrom = e.GetArrangementId(), e.GetStartedOn()
		s.careIDs = with(s.careIDs, e.GetArrangementId(), true)
	case *intakev1.HouseholdJoined:
		s.householdID = e.GetHouseholdId()
	case *intakev1.WorkerAssigned:
		s.workerID = e.GetWorkerId()
	case *intakev1.ChildForgotten:
		s.forgotten, s.details = true, nil
	case *intakev1.ChildKeyDestroyed:
		s.keyDestroyed = true
	default:
		return s, false
	}
	return s, true
}

func fork(s State) State {
	s.guardians, s.careIDs = maps.Clone(s.guardians), maps.Clone(s.careIDs)
	return s
}

// with sets a key of a map, which is made if there is none.
func with[V any](m map[string]V, key string, v V) map[string]V {
	if m == nil {
		m = make(map[string]V)
	}
	m[key] = v
	return m
}

// In returns the categories the child is in on a day, YYYY-MM-DD.
func (s State) In(day string) []eventv1.PopulationCategory {
	var in []eventv1.PopulationCategory
	for _, m := range s.memberships {
		if m.from <= day && (m.to == "" || day <= m.to) {
			in = append(in, m.category)
		}
	}
	return in
}
