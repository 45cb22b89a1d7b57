package projector

import (
	"strings"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// childCases are the events of the child registry and the rows they give.
func childCases() map[string]rowCase {
	p := provenance(at)
	here := fact("children_registered", 1, "adm_code=440703 category=LEFT_BEHIND credited_org=o1")
	row := func(what string) []string {
		state, rest, _ := strings.Cut(what, " ")
		if rest != "" {
			rest = " " + rest
		}
		return lines("child_events state=" + state + " child_id=c1 adm_code=440703" + rest + common)
	}
	details := &eventv1.Sealed{KeyId: secret, Ciphertext: []byte(secret)}
	return map[string]rowCase{
		"child registered": {
			&intakev1.ChildRegistered{Provenance: p, ChildId: "c1", Category: leftBehind, WorkerId: "w5", CategoryStartedOn: "2019-09-01", CategoryRule: 1, AgeBand: 3, Details: details},
			lines(here, row("REGISTERED category=LEFT_BEHIND category_rule=GF_2016_13 started_on=2019-09-01 age_band=6_13 worker_id=w5")),
		},
		"child registered before there were memberships": {
			&intakev1.ChildRegistered{Provenance: p, ChildId: "c1", Category: leftBehind},
			lines(here, row("REGISTERED category=LEFT_BEHIND category_rule=UNSPECIFIED started_on=2020-01-28 age_band=UNSPECIFIED")),
		},
		"child corrected": {&intakev1.ChildCorrected{Provenance: p, ChildId: "c1", AgeBand: 4, Details: details}, row("CORRECTED age_band=14_15")},
		"child moved": {
			&intakev1.ChildMoved{Provenance: p, ChildId: "c1", FromAdmCode: "440703", ToAdmCode: "440781", MovedOn: "2020-01-20"},
			lines("child_events state=MOVED child_id=c1 adm_code=440781 from_adm_code=440703 started_on=2020-01-20" + common),
		},
		"child deregistered": {&intakev1.ChildDeregistered{Provenance: p, ChildId: "c1", DeregistrationReason: 2, EndedOn: "2020-01-20"}, row("DEREGISTERED ended_on=2020-01-20 reason=MOVED_AWAY")},
		"category started": {
			&intakev1.CategoryStarted{Provenance: p, ChildId: "c1", Category: orphan, CategoryRule: 2, StartedOn: "2020-01-20"},
			row("CATEGORY_STARTED category=SCATTERED_ORPHAN category_rule=GF_2016_36 started_on=2020-01-20"),
		},
		"category ended": {
			&intakev1.CategoryEnded{Provenance: p, ChildId: "c1", Category: orphan, StartedOn: "2020-01-20", EndedOn: "2020-01-27"},
			row("CATEGORY_ENDED category=SCATTERED_ORPHAN started_on=2020-01-20 ended_on=2020-01-27"),
		},
		"guardian recorded": {
			&intakev1.GuardianRecorded{Provenance: p, ChildId: "c1", GuardianId: "g1", Relation: 2, StartedOn: "2020-01-20", Details: details},
			row("GUARDIAN_RECORDED started_on=2020-01-20 guardian_id=g1 relation=GRANDPARENT"),
		},
		"guardian ended": {&intakev1.GuardianEnded{Provenance: p, ChildId: "c1", GuardianId: "g1", EndedOn: "2020-01-27"}, row("GUARDIAN_ENDED ended_on=2020-01-27 guardian_id=g1")},
		"care arranged": {
			&intakev1.CareArranged{Provenance: p, ChildId: "c1", ArrangementId: "a2", CareType: 5, StartedOn: "2020-01-20", GuardianId: "g1", CareInstitution: "i1", EndedArrangementId: "a1"},
			row("CARE_ARRANGED started_on=2020-01-20 guardian_id=g1 arrangement_id=a2 ended_arrangement_id=a1 care_type=INSTITUTION institution=i1"),
		},
		"household joined": {&intakev1.HouseholdJoined{Provenance: p, ChildId: "c1", HouseholdId: "h1"}, row("HOUSEHOLD_JOINED household_id=h1")},
		"worker assigned": {
			&intakev1.WorkerAssigned{Provenance: p, ChildId: "c1", WorkerId: "w8", WorkerRole: 3, StartedOn: "2020-01-20"},
			row("WORKER_ASSIGNED started_on=2020-01-20 worker_id=w8 worker_role=SOCIAL_WORKER"),
		},
		"child merged":        {&intakev1.ChildMerged{Provenance: p, ChildId: "c1", IntoChildId: "c2"}, row("MERGED into_child_id=c2")},
		"child forgotten":     {&intakev1.ChildForgotten{Provenance: p, ChildId: "c1", KeyId: secret, Basis: "RETENTION_ENDED"}, row("FORGOTTEN reason=RETENTION_ENDED")},
		"child key destroyed": {&intakev1.ChildKeyDestroyed{Provenance: p, ChildId: "c1", KeyId: secret}, row("KEY_DESTROYED")},
	}
}
