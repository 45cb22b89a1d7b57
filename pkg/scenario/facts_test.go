package scenario_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"tongan.dev/pkg/scenario"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// of returns the steps whose command is a C, with the command.
func of[C any](steps []scenario.Step) (commands []C, found []scenario.Step) {
	for _, s := range steps {
		if c, ok := s.Command.(C); ok {
			commands, found = append(commands, c), append(found, s)
		}
	}
	return commands, found
}

// tally counts by name what must be there, and fails the test where a count is not within its bounds.
type tally map[string]int

func (n tally) within(t *testing.T, name string, low, high int) {
	t.Helper()
	if n[name] < low || n[name] > high {
		t.Errorf("%s: %d, want %d to %d", name, n[name], low, high)
	}
}

func TestInstitutions(t *testing.T) {
	t.Parallel()
	steps := scenario.Steps(scenario.DefaultSeed)
	n := tally{}
	_, registered := of[*healthcheckv1.RegisterInstitution](steps)
	for _, s := range registered {
		n["registered "+dayOf(occurred(s))]++
	}
	n.within(t, "registered 2020-01-23", 6, 6)
	_, closed := of[*healthcheckv1.StartClosureRegime](steps)
	for _, s := range closed {
		n["closed "+dayOf(occurred(s))]++
	}
	n.within(t, "closed 2020-01-26", 6, 6)
	rounds, opened := of[*healthcheckv1.OpenCheckRound](steps)
	missing := 0
	for i, r := range rounds {
		n[r.GetCheckedOn()+" "+r.GetSlot().String()]++
		missing += int(r.GetExpected())
		if r.GetExpected() < 8 || r.GetExpected() > 20 {
			t.Errorf("%s: %d children", opened[i].Key, r.GetExpected())
		}
	}
	for d := time.Date(2020, 1, 26, 0, 0, 0, 0, time.UTC); d.Before(time.Date(2020, 2, 5, 0, 0, 0, 0, time.UTC)); d = d.AddDate(0, 0, 1) {
		n.within(t, d.Format(time.DateOnly)+" CHECK_SLOT_MORNING", 6, 6)
		n.within(t, d.Format(time.DateOnly)+" CHECK_SLOT_NOON", 6, 6)
	}
	records, _ := of[*healthcheckv1.RecordHealthChecks](steps)
	for _, r := range records {
		for _, reading := range r.GetReadings() {
			missing--
			if reading.GetTempDecicelsius() >= 373 {
				n["abnormal"]++
			}
		}
	}
	n.within(t, "abnormal", 3, 3)
	if missing != 1 || len(records) <= len(rounds) {
		t.Errorf("%d readings missing, %d commands for %d rounds", missing, len(records), len(rounds))
	}
}

func TestHotline(t *testing.T) {
	t.Parallel()
	contacts, steps := of[*intakev1.ReceiveHotlineContact](scenario.Steps(scenario.DefaultSeed))
	n := tally{}
	for i, c := range contacts {
		n[dayOf(occurred(steps[i]))]++
		n[c.GetProvenance().GetCreditedOrg()]++
		n[c.GetContactType().String()]++
	}
	for d := time.Date(2020, 1, 23, 0, 0, 0, 0, time.UTC); d.Before(time.Date(2020, 2, 5, 0, 0, 0, 0, time.UTC)); d = d.AddDate(0, 0, 1) {
		n.within(t, d.Format(time.DateOnly), 1, 30)
	}
	for _, name := range []string{
		"org-bureau", "org-rescue", "org-pingantong", "CONTACT_TYPE_CHILD", "CONTACT_TYPE_ABOUT_CHILD", "CONTACT_TYPE_NON_COUNSELLING",
	} {
		n.within(t, name, 15, 120)
	}
}

func TestCaseOf1February(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		steps := scenario.Steps(seed)
		n, order := tally{}, []string{}
		for _, s := range steps {
			mine := strings.HasSuffix(s.Key, scenario.AloneCaseID) || strings.HasSuffix(s.Key, scenario.AloneContactID) ||
				strings.HasSuffix(s.Key, scenario.AloneSupportID) || strings.HasSuffix(s.Key, scenario.AloneChildID)
			if !mine {
				continue
			}
			if s.Command.GetProvenance().GetAdmCode() != "440703" {
				t.Errorf("%s is not in Pengjiang", s.Key)
			}
			if f, ok := s.Command.(*intakev1.RecordFollowUp); ok {
				n[f.GetChannel().String()]++
			} else if dayOf(s.At) == "2020-02-01" {
				order = append(order, strings.TrimPrefix(s.Subject, "tongan.cmd."))
			} else {
				t.Errorf("%s on %s", s.Subject, dayOf(s.At))
			}
		}
		want := "intake.contact.receive intake.child.register intake.case.open intake.case.flag-special outreach.support.request outreach.support.begin"
		if got := strings.Join(order, " "); got != want {
			t.Errorf("seed %d: %s", seed, got)
		}
		n.within(t, "FOLLOW_UP_CHANNEL_ONLINE", 5, 10)
		n.within(t, "FOLLOW_UP_CHANNEL_HOME_VISIT", 1, 3)
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	children, _ := of[*intakev1.RegisterChild](scenario.Steps(scenario.DefaultSeed))
	n := tally{}
	for _, c := range children {
		n[c.GetCategory().String()]++
		n[c.GetProvenance().GetAdmCode()]++
	}
	for value, name := range eventv1.PopulationCategory_name {
		if value != 0 {
			n.within(t, name, 10, 200)
		}
	}
	for _, adm := range []string{"440703", "440704", "440705", "440781", "440783", "440784", "440785"} {
		n.within(t, adm, 20, 130)
	}
	if len(children) < 380 || len(children) > 480 {
		t.Errorf("%d children", len(children))
	}
}

func TestVisits(t *testing.T) {
	t.Parallel()
	steps := scenario.Steps(scenario.DefaultSeed)
	registered := map[string]bool{}
	children, _ := of[*intakev1.RegisterChild](steps)
	for _, c := range children {
		registered[c.GetChildId()] = true
	}
	visits, found := of[*outreachv1.RecordVisit](steps)
	n, logs := tally{}, map[string]int{}
	for i, v := range visits {
		n[v.GetChannel().String()]++
		n[v.GetOutcome().String()]++
		logs[found[i].Key]++
		late := found[i].At.Sub(occurred(found[i])) >= 24*time.Hour
		if late != (v.GetProvenance().GetReason() == "LATE_ENTRY") {
			t.Errorf("%s: entered at %s, reason %q", found[i].Key, found[i].At, v.GetProvenance().GetReason())
		}
		for name, is := range map[string]bool{
			"late": late, "several": len(v.GetChildren()) > 1, "three": len(v.GetChildren()) > 2,
			"entered by another": v.GetProvenance().GetRecordedBy() != "",
			"registered":         registered[v.GetChildren()[0].GetChildId()], "unregistered": !registered[v.GetChildren()[0].GetChildId()],
			"noted": v.GetChildren()[0].GetNote() != nil,
		} {
			if is {
				n[name]++
			}
		}
	}
	voids, _ := of[*outreachv1.VoidVisit](steps)
	n["voids"] = len(voids)
	for _, name := range []string{
		"VISIT_CHANNEL_ONLINE", "VISIT_CHANNEL_HOME_VISIT", "VISIT_OUTCOME_NO_ANSWER", "VISIT_OUTCOME_WRONG_NUMBER",
		"VISIT_OUTCOME_REFUSED", "VISIT_OUTCOME_CALL_BACK", "several", "three", "registered", "unregistered", "noted", "entered by another",
	} {
		n.within(t, name, 20, 2200)
	}
	n.within(t, "late", 35, 45)
	n.within(t, "voids", 14, 20)
	for key, visits := range logs {
		if visits > 20 {
			t.Errorf("%s holds %d visits", key, visits)
		}
	}
	if mean := len(visits) / len(logs); mean < 5 {
		t.Errorf("%d visits a worker and day", mean)
	}
}

func TestWhatBecameOfEverything(t *testing.T) {
	t.Parallel()
	steps := scenario.Steps(scenario.DefaultSeed)
	n := tally{}
	w := play(t, steps)
	for object, state := range w.state {
		kind, _, _ := strings.Cut(object, " ")
		n[kind+" "+state]++
	}
	n.within(t, "message delivered", 400, 700)
	n.within(t, "message accepted", 900, 1300)
	n.within(t, "message queued", 10, 60)
	n.within(t, "message failed", 60, 150)
	n.within(t, "delivery requested", 5, 30)
	n.within(t, "delivery dispatched", 5, 30)
	n.within(t, "support requested", 2, 2)
	n.within(t, "support begun", 3, 3)
	n.within(t, "support ended", 1, 1)
	n.within(t, "case open", 5, 30)
	n.within(t, "case special", 40, 70)
	n.within(t, "case closed", 5, 30)
	if w.state["case "+scenario.AloneCaseID] != "special" || w.state["support "+scenario.AloneSupportID] != "begun" {
		t.Error("the case of 1 February does not go on")
	}
	batches, _ := of[*outreachv1.QueueReminders](steps)
	for _, b := range batches {
		if len(b.GetRecipients()) > 10 {
			t.Errorf("%s holds %d messages", b.GetBatchId(), len(b.GetRecipients()))
		}
		if len(utf16.Encode([]rune(b.GetRecipients()[0].GetContent().GetText()))) > 70 {
			n["long"]++
		}
	}
	n.within(t, "long", 1, len(batches)/2)
}

func TestHowCasesCameToCount(t *testing.T) {
	t.Parallel()
	n, seen := tally{}, map[string]string{}
	for _, s := range scenario.Steps(scenario.DefaultSeed) {
		switch s.Command.(type) {
		case *intakev1.FlagCaseSpecial:
			seen[s.Key] += "s"
		case *intakev1.RecordFollowUp:
			seen[s.Key] += "f"
		case *intakev1.CloseCase:
			seen[s.Key] += "c"
		}
	}
	for _, story := range seen {
		switch {
		case strings.HasPrefix(story, "sf"):
			n["flagged first"]++
		case strings.HasPrefix(story, "f") && strings.Contains(story, "s"):
			n["followed up first"]++
		case story == "s":
			n["never followed up"]++
		case !strings.Contains(story, "s"):
			n["never flagged"]++
		}
		if strings.Contains(story, "s") && strings.HasSuffix(story, "c") {
			n["special and closed"]++
		}
		if strings.Count(story, "f") > 2 {
			n["several follow-ups"]++
		}
	}
	n.within(t, "flagged first", 30, 64)
	n.within(t, "followed up first", 5, 30)
	n.within(t, "never followed up", 3, 10)
	n.within(t, "never flagged", 10, 30)
	n.within(t, "special and closed", 3, 20)
	n.within(t, "several follow-ups", 10, 80)
}
