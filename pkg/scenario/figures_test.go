package scenario_test

import (
	"fmt"
	"testing"
	"time"

	"tongan.dev/pkg/scenario"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// figures are the five published ones.
type figures struct{ phoneVisits, smsReminders, protectiveItems, serviceSupports, specialCases int }

// published is what the source gives as of 4 February 2020.
var published = figures{phoneVisits: 2633, smsReminders: 1684, protectiveItems: 626, serviceSupports: 3, specialCases: 64}

// count counts from the commands alone, without knowing how they were made, those that include lets through.
func count(steps []scenario.Step, include func(scenario.Step) bool) (f figures) {
	visits, special, followed := map[string]int{}, map[string]bool{}, map[string]bool{}
	for _, s := range steps {
		if !include(s) {
			continue
		}
		switch c := s.Command.(type) {
		case *outreachv1.RecordVisit:
			if c.GetChannel() == outreachv1.VisitChannel_VISIT_CHANNEL_PHONE && c.GetOutcome() == outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED {
				visits[c.GetVisitId()] = len(c.GetChildren())
			}
		case *outreachv1.VoidVisit:
			delete(visits, c.GetVisitId())
		case *outreachv1.AcceptReminder:
			f.smsReminders++
		case *outreachv1.ConfirmDeliveryReceipt:
			f.protectiveItems += int(c.GetUnits())
		case *outreachv1.BeginSupport:
			f.serviceSupports++
		case *intakev1.FlagCaseSpecial:
			special[c.GetCaseId()] = true
		case *intakev1.RecordFollowUp:
			followed[c.GetCaseId()] = true
		}
	}
	for _, children := range visits {
		f.phoneVisits += children
	}
	for id := range special {
		if followed[id] {
			f.specialCases++
		}
	}
	return f
}

func all(scenario.Step) bool { return true }

func TestFiguresAsOf4February(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			steps := scenario.Steps(seed)
			if got := count(steps, func(s scenario.Step) bool { return dayOf(occurred(s)) <= "2020-02-04" }); got != published {
				t.Errorf("by the day it happened: %+v, want %+v", got, published)
			}
			if got := count(steps, func(s scenario.Step) bool { return dayOf(s.At) <= "2020-02-04" }); got != published {
				t.Errorf("by the day it was entered: %+v, want %+v", got, published)
			}
			if got := count(steps, func(s scenario.Step) bool {
				return dayOf(occurred(s)) >= "2020-01-23" && dayOf(occurred(s)) <= "2020-02-04"
			}); got != published {
				t.Errorf("from the baseline on: %+v, want %+v", got, published)
			}
		})
	}
}

func TestFiguresAreWrongWithoutTheRules(t *testing.T) {
	t.Parallel()
	steps := scenario.Steps(scenario.DefaultSeed)
	total := count(steps, all)
	if total.phoneVisits <= published.phoneVisits || total.smsReminders <= published.smsReminders ||
		total.protectiveItems <= published.protectiveItems || total.serviceSupports <= published.serviceSupports ||
		total.specialCases <= published.specialCases {
		t.Errorf("the day after does not add to each figure: %+v", total)
	}
	inUTC := count(steps, func(s scenario.Step) bool { return occurred(s).Before(time.Date(2020, 2, 5, 0, 0, 0, 0, time.UTC)) })
	if inUTC.phoneVisits == published.phoneVisits || inUTC.smsReminders == published.smsReminders {
		t.Errorf("days in UTC give the same: %+v", inUTC)
	}
	notVoided := count(steps, func(s scenario.Step) bool {
		_, void := s.Command.(*outreachv1.VoidVisit)
		return !void && dayOf(occurred(s)) <= "2020-02-04"
	})
	if notVoided.phoneVisits <= published.phoneVisits {
		t.Errorf("voids change nothing: %+v", notVoided)
	}
}

func TestEveryDistrictHasItsShare(t *testing.T) {
	t.Parallel()
	steps := scenario.Steps(scenario.DefaultSeed)
	sum := 0
	for _, adm := range []string{"440703", "440704", "440705", "440781", "440783", "440784", "440785"} {
		f := count(steps, func(s scenario.Step) bool {
			return dayOf(occurred(s)) <= "2020-02-04" && s.Command.GetProvenance().GetAdmCode() == adm
		})
		if f.phoneVisits < 150 || f.smsReminders < 100 || f.protectiveItems < 30 || f.specialCases < 3 {
			t.Errorf("%s has %+v", adm, f)
		}
		sum += f.phoneVisits
	}
	if sum != published.phoneVisits {
		t.Errorf("the districts' phone visits sum to %d", sum)
	}
}
