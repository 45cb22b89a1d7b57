package rules_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/rules"
)

const high = intakev1.RiskLevel_RISK_LEVEL_HIGH

func version(name, from string, contact time.Duration) *intakev1.RuleSet {
	return &intakev1.RuleSet{Version: name, ValidFrom: from, Care: []*intakev1.CareRules{{RiskLevel: high, FirstContact: durationpb.New(contact)}}}
}

// By the days of Shanghai, and by nothing before the first.
func TestTheRulesOfADayAreThoseOfTheLastVersionThatHolds(t *testing.T) {
	t.Parallel()
	r, err := rules.New(&intakev1.RuleSets{RuleSets: []*intakev1.RuleSet{version("b", "2020-03-14", time.Minute), version("a", "2020-01-23", time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at, version string
		contact     time.Duration
	}{
		{"2020-01-22T15:59:59Z", "", 0},
		{"2020-01-22T16:00:00Z", "a", time.Hour},
		{"2020-03-13T15:59:59Z", "a", time.Hour},
		{"2020-03-13T16:00:00Z", "b", time.Minute},
		{"2099-01-01T00:00:00Z", "b", time.Minute},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		care, version := r.Of(high, at)
		if version != tt.version || care.GetFirstContact().AsDuration() != tt.contact {
			t.Errorf("at %s holds %q, contact within %s", tt.at, version, care.GetFirstContact().AsDuration())
		}
		if care, again := r.Of(intakev1.RiskLevel_RISK_LEVEL_NONE, at); care != nil || again != version {
			t.Errorf("at %s no risk demands %v by %q", tt.at, care, again)
		}
	}
}

func TestRulesThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	twice := version("a", "2020-01-23", time.Hour)
	twice.Care = append(twice.Care, twice.GetCare()...)
	for says, sets := range map[string][]*intakev1.RuleSet{
		"rule set a: valid_from: must be a date":         {version("a", "2020-02-30", time.Hour)},
		"rule sets a and b: valid_from: no two may hold": {version("b", "2020-01-23", time.Hour), version("a", "2020-01-23", time.Hour)},
		"rule set a: care: names a risk level twice":     {twice},
		"rule set a: care: a time must not be negative":  {version("a", "2020-01-23", -time.Hour)},
	} {
		if _, err := rules.New(&intakev1.RuleSets{RuleSets: sets}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("answered with %v, want %q", err, says)
		}
	}
}

// The numbers are those that the design names: an hour and midnight, a day, three days; two calls a week, a fortnight, a month; three months.
func TestTheRulesOfTheProject(t *testing.T) {
	t.Parallel()
	r, err := rules.New(rules.Project())
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, tt := range []struct {
		risk            intakev1.RiskLevel
		contact, follow time.Duration
		midnight        bool
	}{
		{high, time.Hour, 3 * day, true},
		{intakev1.RiskLevel_RISK_LEVEL_MEDIUM, day, 14 * day, false},
		{intakev1.RiskLevel_RISK_LEVEL_LOW, 3 * day, 30 * day, false},
	} {
		care, version := r.Of(tt.risk, time.Date(2020, 2, 1, 9, 0, 0, 0, time.UTC))
		if care.GetFirstContact().AsDuration() != tt.contact || care.GetFollowUp().AsDuration() != tt.follow ||
			care.GetServiceBeforeMidnight() != tt.midnight || care.GetReviewMonths() != 3 || version != "tongan-2020.1" {
			t.Errorf("%s demands %v by %s", tt.risk, care, version)
		}
	}
}
