package projector

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/natstest"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// protection is an engine that holds the stories of cases, contacts, duty and children that left.
type protection struct {
	engine   *chengine.Engine
	inAnHour time.Time
}

func TestCasesAndHotline(t *testing.T) {
	t.Parallel()
	e, js := engine(t), natstest.Bus(t)
	conn := chtest.Conn(t, e, UserProjector)
	run(t, js, conn, Config{})
	now := time.Now().UTC().Truncate(time.Second)
	s := protection{e, now.Add(time.Hour)}
	publish(t, js, firstCase()...)
	publish(t, js, otherCases(s.inAnHour)...)
	publish(t, js, hotlineStory()...)
	publish(t, js, dutyStory()...)
	publish(t, js, leavers(now.AddDate(0, 0, -1).Format(time.DateOnly))...)
	wait(t, js, conn)
	t.Run("cases are as they stand", s.testCases)
	t.Run("a caseload is answered for any day", s.testCaseload)
	t.Run("deadlines are met in time or late, and overdue while they are not", s.testDeadlines)
	t.Run("contacts are as they stand, and count for what they are about at last", s.testContacts)
	t.Run("how contacts were answered does not mix what is no counselling", s.testLevels)
	t.Run("shifts are whole, and a gap that was none is none", s.testDuty)
	t.Run("columns are of the types they say", func(t *testing.T) {
		testTypesOf(t, chtest.Conn(t, e, UserAnalystCity), "case_events", "cases", "open_cases", "contact_events", "contacts", "deadlines", "overdue", "case_owners",
			"caseload", "shifts", "cover_gaps", "hotline_levels", "retention_proposals")
	})
	t.Run("whom to forget is proposed by the rule of the day the child left", s.testRetention)
	publish(t, js, inAggregate("case", "x5", &intakev1.CaseClosed{
		Provenance: on("2020-03-01", "440704"), CaseId: "x5", ChildId: "gone-with-case", Category: orphan, AdmCode: "440704", CloseReason: 1, WorkerId: "w4",
	})...)
	publish(t, js, inAggregate("child", "long-gone", &intakev1.ChildForgotten{Provenance: on("2020-04-01", "440704"), ChildId: "long-gone", KeyId: "k", Basis: "X"})...)
	wait(t, js, conn)
	t.Run("an open case keeps a child, and who is forgotten is proposed no longer", func(t *testing.T) {
		s.reads(t, "retention_proposals", "child_id", "440703 duplicate", "440704 gone-with-case")
	})
}

// reads checks the rows of a view, which may be narrowed by a condition: district and columns, as the city's analyst and as those of districts.
func (s protection) reads(t *testing.T, view, columns string, want ...string) {
	t.Helper()
	var parts []string
	for column := range strings.SplitSeq("adm_code, "+columns, ", ") {
		parts = append(parts, "ifNull(toString("+column+"), '-')")
	}
	sql := "SELECT replaceAll(concatWithSeparator(' ', " + strings.Join(parts, ", ") + "), '.000000000', '') AS line FROM tongan." + view + " ORDER BY line"
	for _, admCode := range []string{"", "440703", "440704", "440705"} {
		user := UserAnalystCity
		if admCode != "" {
			user = UserAnalyst(admCode)
		}
		var wanted []string
		for _, line := range want {
			if strings.HasPrefix(line, admCode) {
				wanted = append(wanted, line)
			}
		}
		if diff := cmp.Diff(wanted, strs(t, chtest.Conn(t, s.engine, user), sql)); diff != "" {
			t.Errorf("%s reads of %s: %s", user, view, diff)
		}
	}
}

func (s protection) testCases(t *testing.T) {
	soon := s.inAnHour.Format(time.DateTime)
	one := "440703 x1 c1 LEFT_BEHIND CONTACT QUARANTINED h1 2020-01-25 04:00:00 HIGH 2020-01-26 04:00:00 w3 true 3 2020-01-31 04:00:00 2020-01-29 04:00:00 true -  1 2020-02-16 04:00:00"
	two := "440704 x2 c2 SCATTERED_ORPHAN UNSPECIFIED UNSPECIFIED  2020-02-01 04:00:00 LOW 2020-02-05 04:00:00 w1 false 0 - - true -  0 2020-02-02 04:00:00"
	three := "440704 x3 c3 SCATTERED_ORPHAN POLICE UNSPECIFIED  2020-02-02 04:00:00 UNSPECIFIED - w1 false 0 - - false 2020-02-02 04:00:00 UNFOUNDED 0 -"
	four := "440703 x4 c4 SCATTERED_ORPHAN UNSPECIFIED UNSPECIFIED  2020-02-04 04:00:00 UNSPECIFIED - w3 false 0 - - true -  0 -"
	five := "440704 x5 gone-with-case SCATTERED_ORPHAN UNSPECIFIED UNSPECIFIED  2020-02-09 04:00:00 UNSPECIFIED - w4 false 0 - - true -  0 -"
	const columns = "case_id, child_id, category, case_source, gap_cause, contact_id, opened_at, risk_level, assessed_at, owner_id, special, follow_ups, " +
		"last_followed_up_at, last_reached_at, open, closed_at, close_reason, reopened, next_due_at"
	s.reads(t, "cases", columns, one, four, two, three, five)
	s.reads(t, "open_cases", columns, one, four, two, five)
	s.reads(t, "deadlines WHERE state = 'OPEN' AND kind = 'REVIEW'", "object_id, due_at", "440704 x2 "+soon)
	s.reads(t, "case_events WHERE case_id = 'x4'", "state, owner_id, worker_id", "440703 OPENED w1 w1", "440703 WORKER_ASSIGNED w2 w1", "440703 WORKER_ASSIGNED w3 w1")
}

func (s protection) testCaseload(t *testing.T) {
	s.reads(t, "case_owners", "case_id, owner_id, risk_level, started_on, ended_on",
		"440703 x1 w1 HIGH 2020-01-26 2020-02-02", "440703 x1 w1 UNSPECIFIED 2020-01-25 2020-01-25", "440703 x1 w2 HIGH 2020-02-03 2020-02-09",
		"440703 x1 w3 HIGH 2020-02-15 -", "440703 x4 w1 UNSPECIFIED 2020-02-04 2020-02-07", "440703 x4 w3 UNSPECIFIED 2020-02-08 -",
		"440704 x2 w1 LOW 2020-02-05 -", "440704 x2 w1 MEDIUM 2020-02-01 2020-02-04", "440704 x5 w4 UNSPECIFIED 2020-02-09 -",
	)
	for day, want := range map[string][]string{
		"2020-01-24": nil,
		"2020-01-25": {"440703 w1 1"},
		"2020-02-02": {"440703 w1 1", "440704 w1 1"}, // x3 is closed again
		"2020-02-03": {"440703 w2 1", "440704 w1 1"}, // the day of the hand-over is the new owner's
		"2020-02-04": {"440703 w1 1", "440703 w2 1", "440704 w1 1"},
		"2020-02-09": {"440703 w2 1", "440703 w3 1", "440704 w1 1", "440704 w4 1"},
		"2020-02-10": {"440703 w3 1", "440704 w1 1", "440704 w4 1"}, // closed that day
		"2020-02-15": {"440703 w3 2", "440704 w1 1", "440704 w4 1"}, // opened again that day
		"2100-01-01": {"440703 w3 2", "440704 w1 1", "440704 w4 1"},
	} {
		s.reads(t, "case_owners WHERE started_on <= '"+day+"' AND (ended_on IS NULL OR ended_on >= '"+day+"') GROUP BY adm_code, owner_id", "owner_id, uniqExact(case_id)", want...)
	}
	s.reads(t, "caseload", "owner_id, open_cases, high, medium, low, no_risk, not_assessed, special",
		"440703 w3 2 1 0 0 0 1 1", "440704 w1 1 0 0 1 0 0 0", "440704 w4 1 0 0 0 0 1 0")
}

func (s protection) testDeadlines(t *testing.T) {
	soon := s.inAnHour.Format(time.DateTime)
	s.reads(t, "deadlines", "object, object_id, deadline_id, state, due_at, met_at, on_time, missed, armed, owner_id, risk_level",
		"440703 CASE x1 first-contact-1 MET 2020-01-26 04:00:00 2020-01-27 04:00:00 false true true w1 HIGH",
		"440703 CASE x1 follow-up-1 MET 2020-01-30 04:00:00 2020-01-29 04:00:00 true true true w1 HIGH",
		"440703 CASE x1 follow-up-2 OPEN 2020-02-16 04:00:00 - - true true w3 HIGH",
		"440703 CASE x1 review-1 WITHDRAWN 2020-04-26 04:00:00 - - false true w2 HIGH",
		"440703 CONTACT h1 call-back-1 MET 2020-01-25 04:00:00 2020-01-25 04:00:00 true false true  ",
		"440704 CASE x2 follow-up-1 OPEN 2020-02-02 04:00:00 - - false false w1 LOW",
		"440704 CASE x2 review-1 OPEN "+soon+" - - false true w1 LOW",
		"440704 CONTACT h2 call-back-1 OPEN 2020-02-02 04:00:00 - - true true  ",
	)
	s.reads(t, "overdue WHERE overdue_seconds > 0", "object, object_id, deadline_id, kind, child_id, category, due_at, armed, owner_id, risk_level, org",
		"440703 CASE x1 follow-up-2 FOLLOW_UP c1 LEFT_BEHIND 2020-02-16 04:00:00 true w3 HIGH ",
		"440704 CASE x2 follow-up-1 FOLLOW_UP c2 SCATTERED_ORPHAN 2020-02-02 04:00:00 false w1 LOW ",
		"440704 CONTACT h2 call-back-1 CALL_BACK   2020-02-02 04:00:00 true   o1",
	)
}

func (s protection) testContacts(t *testing.T) {
	s.reads(t, "contacts", "contact_id, channel, speaker, contact_type, reasons, urgency, rang_at, answered_at, answer_seconds, taken_org, org, child_ids, actions, "+
		"call_back_due_at, closed, closed_at, contact_outcome, case_id",
		"440703 h1 PHONE NEIGHBOUR ABOUT_CHILD ['VIOLENCE','GUARDIANSHIP_GAP'] IMMEDIATE 2020-01-24 04:00:00 2020-01-24 04:00:10 10 o1 o5 ['c1','c9'] ['REFERRED'] - "+
			"true 2020-01-25 04:00:00 CASE_OPENED x1",
		"440703 h3 PHONE UNSPECIFIED UNSPECIFIED []  2020-01-24 04:00:00 - - o1 o1 [] [] - false -  ",
		"440703 h4 PHONE UNSPECIFIED NON_COUNSELLING []  2020-01-24 04:00:00 2020-01-24 04:00:05 5 o1 o1 [] [] - false -  ",
		"440703 h5 SMS UNSPECIFIED ABOUT_CHILD []  2020-01-24 04:00:00 2020-01-24 04:02:30 150 o1 o1 [] [] - false -  ",
		"440703 h6 ONLINE UNSPECIFIED CHILD []  2020-01-24 04:00:00 2020-01-24 04:03:01 181 o1 o1 [] [] - false -  ",
		"440703 h7 PHONE UNSPECIFIED CHILD []  - - - o1 o1 [] [] - false -  ",
		"440704 h2 PHONE UNSPECIFIED CHILD []  2020-01-24 04:00:00 2020-01-24 04:00:20 20 o1 o1 [] [] 2020-02-02 04:00:00 false -  ",
	)
	s.reads(t, "tallies WHERE indicator LIKE 'hotline%' AND value != 0", "indicator, day, credited_org, value",
		"440703 hotline_contacts 2020-01-24 o1 4", "440703 hotline_non_counselling 2020-01-24 o1 1", "440704 hotline_contacts 2020-01-24 o1 1")
	s.reads(t, "contact_events WHERE contact_id = 'h2'", "state, contact_type, worker_id", "440704 RECEIVED CHILD w1", "440705 CALL_BACK_PROMISED  w1")
}

func (s protection) testLevels(t *testing.T) {
	s.reads(t, "hotline_levels", "day, org, phone_offered, phone_answered, phone_answered_within_15s, phone_connect_rate, phone_within_15s_rate, other_offered, other_answered, "+
		"other_answered_within_3min, other_connect_rate, other_within_3min_rate, non_counselling",
		"440703 2020-01-24 o1 2 1 1 0.5 0.5 2 2 1 1 0.5 1", "440704 2020-01-24 o1 1 1 0 1 0 0 0 0 - - 0")
}

func (s protection) testDuty(t *testing.T) {
	s.reads(t, "shifts", "line_id, shift_id, operator_id, org, started_at, ended_at",
		"440703 l1 s1 w1 o1 2020-01-24 04:00:00 2020-01-25 04:00:00", "440703 l1 s2 w2 o1 2020-01-26 04:00:00 2020-01-27 04:00:00", "440704 l2 s9 w9 o1 2020-01-24 04:00:00 -")
	s.reads(t, "cover_gaps", "line_id, gap_number, began_at, ended_at, seconds",
		"440703 l1 1 2020-01-25 04:00:00 2020-01-26 04:00:00 86400", "440703 l1 3 2020-01-28 04:00:00 - -")
}

func (s protection) testRetention(t *testing.T) {
	later := "440704 under-the-later-rule MOVED_AWAY 2020-03-10 1095 2023-03-10"
	rows := []string{"440703 duplicate MERGED 2020-02-25 30 2020-03-26", "440704 long-gone MOVED_AWAY 2020-02-10 1095 2023-02-09"}
	const columns = "child_id, end_reason, ended_on, keep_days, keep_until"
	s.reads(t, "retention_proposals", columns, append(rows, later)...)
	chtest.Exec(t, chtest.Conn(t, s.engine, UserMigration), "INSERT INTO "+BaseDatabase+".retention_rules VALUES ('MOVED_AWAY', 36500, '2020-03-01', 'of the deployment')")
	s.reads(t, "retention_proposals", columns, rows...)
}
