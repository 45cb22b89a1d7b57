package projector

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// contactCases are the events of hotline contacts and the rows they give.
func contactCases() map[string]rowCase {
	p := provenance(at)
	const here = "adm_code=440703 credited_org=o1"
	row := func(state, rest string) string {
		return "contact_events state=" + state + " contact_id=h1 adm_code=440703" + rest + " worker_id=w1" + common
	}
	deadline := func(state string) string {
		return "deadlines state=" + state + " object=CONTACT object_id=h1 deadline_id=call-back-1 kind=CALL_BACK due_at=2020-01-27T17:30:00Z armed=true adm_code=440703" + common
	}
	received := func(kind intakev1.ContactType) *intakev1.HotlineContactReceived {
		return &intakev1.HotlineContactReceived{
			Provenance: p, ContactId: "h1", Channel: 1, ContactType: kind, Details: &eventv1.Sealed{KeyId: secret, Ciphertext: []byte(secret)},
		}
	}
	answered, lost := received(1), received(0)
	answered.ChildId, answered.Speaker = "c1", 4
	answered.RangAt, answered.AnsweredAt = timestamppb.New(at.Add(-10*time.Second)), timestamppb.New(at)
	lost.RangAt = timestamppb.New(at)
	classified := func(was, is intakev1.ContactType) *intakev1.HotlineContactClassified {
		return &intakev1.HotlineContactClassified{
			Provenance: p, ContactId: "h1", ContactType: is, PreviousContactType: was, Reasons: []intakev1.ContactReason{1, 5}, Urgency: 2,
			Channel: 1, AdmCode: "440704", CountsOn: "2020-01-27", ContactOrg: "o8",
		}
	}
	counts := func(indicator string, value int) string {
		return strings.Replace(fact(indicator, value, "adm_code=440704 credited_org=o8"), "2020-01-28", "2020-01-27", 1)
	}
	reclassified := func(was, is string) string {
		line := row("CLASSIFIED", " channel=PHONE contact_type="+is+" previous_contact_type="+was+" reasons=[GUARDIANSHIP_GAP VIOLENCE] urgency=URGENT")
		return strings.Replace(line, "440703", "440704", 1)
	}
	const plain = " channel=PHONE speaker=UNSPECIFIED contact_type="
	return map[string]rowCase{
		"contact by a child":    {received(1), lines(fact("hotline_contacts", 1, here), row("RECEIVED", plain+"CHILD"))},
		"contact about a child": {received(2), lines(fact("hotline_contacts", 1, here), row("RECEIVED", plain+"ABOUT_CHILD"))},
		"contact, wrong number": {received(3), lines(fact("hotline_non_counselling", 1, here), row("RECEIVED", plain+"NON_COUNSELLING"))},
		"contact with its times": {answered, lines(fact("hotline_contacts", 1, here),
			row("RECEIVED", " channel=PHONE speaker=NEIGHBOUR contact_type=CHILD rang_at=2020-01-27T16:29:50Z answered_at=2020-01-27T16:30:00Z child_ids=[c1]"))},
		"contact nobody answered":         {lost, lines(row("RECEIVED", plain+"UNSPECIFIED rang_at=2020-01-27T16:30:00Z"))},
		"classified first":                {classified(0, 2), lines(counts("hotline_contacts", 1), reclassified("UNSPECIFIED", "ABOUT_CHILD"))},
		"classified as counted":           {classified(2, 1), lines(reclassified("ABOUT_CHILD", "CHILD"))},
		"classified as non-counselling":   {classified(1, 3), lines(counts("hotline_contacts", -1), counts("hotline_non_counselling", 1), reclassified("CHILD", "NON_COUNSELLING"))},
		"classified as a contact at last": {classified(3, 2), lines(counts("hotline_non_counselling", -1), counts("hotline_contacts", 1), reclassified("NON_COUNSELLING", "ABOUT_CHILD"))},
		"contact linked":                  {&intakev1.HotlineContactLinked{Provenance: p, ContactId: "h1", ChildIds: []string{"c1", "c2"}}, lines(row("LINKED", " child_ids=[c1 c2]"))},
		"contact acted upon": {
			&intakev1.ContactActionRecorded{Provenance: p, ContactId: "h1", ContactAction: 4, HelpingOrg: "o5", ContactType: 2},
			lines(row("ACTED", " contact_type=ABOUT_CHILD contact_action=REFERRED helping_org=o5")),
		},
		"call back promised": {
			&intakev1.CallBackPromised{Provenance: p, ContactId: "h1", DeadlinesSet: due("call-back-1", 5), DeadlinesWithdrawn: due("call-back-1", 5)},
			lines(row("CALL_BACK_PROMISED", ""), deadline("SET"), deadline("WITHDRAWN")),
		},
		"called back": {
			&intakev1.CallBackRecorded{Provenance: p, ContactId: "h1", Reached: true, DeadlinesMet: due("call-back-1", 5)},
			lines(row("CALLED_BACK", " reached=true"), deadline("MET")),
		},
		"contact handed over": {
			&intakev1.HotlineContactHandedOver{Provenance: p, ContactId: "h1", FromOrg: "o1", ToOrg: "o5"}, lines(row("HANDED_OVER", " from_org=o1 to_org=o5")),
		},
		"contact closed": {
			&intakev1.HotlineContactClosed{Provenance: p, ContactId: "h1", ContactOutcome: 1, CaseId: "x1", ContactType: 2, DeadlinesWithdrawn: due("call-back-1", 5)},
			lines(row("CLOSED", " contact_type=ABOUT_CHILD contact_outcome=CASE_OPENED case_id=x1"), deadline("WITHDRAWN")),
		},
		"deadline of a contact missed": {&intakev1.DeadlineMissed{Provenance: p, Deadline: due("call-back-1", 5)[0], ContactId: "h1", AdmCode: "440704"}, lines(strings.Replace(deadline("MISSED"), "440703", "440704", 1))},
	}
}

// shiftCases are the events of duty lines and the rows they give.
func shiftCases() map[string]rowCase {
	p := provenance(at)
	began, ended := timestamppb.New(at.Add(-8*time.Hour)), timestamppb.New(at)
	const now, before, end = "2020-01-27T16:30:00Z", "2020-01-27T08:30:00Z", " adm_code=440703" + common
	return map[string]rowCase{
		"shift started": {
			&intakev1.ShiftStarted{Provenance: p, LineId: "l1", ShiftId: "s1", OperatorId: "w5"},
			lines("shifts state=STARTED line_id=l1 shift_id=s1 operator_id=w5 began_at=" + now + end),
		},
		"shift ended": {
			&intakev1.ShiftEnded{Provenance: p, LineId: "l1", ShiftId: "s1", OperatorId: "w5", StartedAt: began},
			lines("shifts state=ENDED line_id=l1 shift_id=s1 operator_id=w5 began_at=" + before + " ended_at=" + now + end),
		},
		"gap began": {
			&intakev1.CoverGapBegan{Provenance: p, LineId: "l1", GapNumber: 2, BeganAt: began},
			lines("shifts state=GAP_BEGAN line_id=l1 gap_number=2 began_at=" + before + end),
		},
		"gap ended": {
			&intakev1.CoverGapEnded{Provenance: p, LineId: "l1", GapNumber: 2, BeganAt: began, EndedAt: ended},
			lines("shifts state=GAP_ENDED line_id=l1 gap_number=2 began_at=" + before + " ended_at=" + now + end),
		},
	}
}
