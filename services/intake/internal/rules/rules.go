// Package rules is what a risk demands of whoever owns a case (时限规则), by versions of which each holds from a day on. The numbers are
// data: they differ between authorities.
package rules

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

//go:embed rules.json
var project []byte

// Rules are all versions. The zero value demands nothing.
type Rules struct{ sets []*intakev1.RuleSet } // the latest first

// Project returns the rules of the project, which hold where a deployment has none of its own. Sources: first contact and service of a child
// at high risk are the source's case of 1 February 2020 (meals the same evening); follow-up at high risk is at least two calls a week (remote
// guidance of Cox's Bazar), at medium and low risk every fortnight and month (Manitoba); review every three months (inter-agency guidelines
// 2014). First contact within 24 and 72 hours is a synthesis of national manuals.
func Project() *intakev1.RuleSets {
	sets := &intakev1.RuleSets{}
	if err := protojson.Unmarshal(project, sets); err != nil {
		panic(fmt.Sprintf("rules.json: %v", err)) // it is part of the build, and a test reads it
	}
	return sets
}

// New returns the rules of these versions. An error names the version at fault and the rule it violates.
func New(all *intakev1.RuleSets) (Rules, error) {
	sets := slices.Clone(all.GetRuleSets())
	slices.SortFunc(sets, func(a, b *intakev1.RuleSet) int { return strings.Compare(b.GetValidFrom(), a.GetValidFrom()) })
	for i, s := range sets {
		if _, err := time.Parse(time.DateOnly, s.GetValidFrom()); err != nil {
			return Rules{}, fmt.Errorf("rule set %s: valid_from: must be a date, YYYY-MM-DD", s.GetVersion())
		}
		if i > 0 && sets[i-1].GetValidFrom() == s.GetValidFrom() {
			return Rules{}, fmt.Errorf("rule sets %s and %s: valid_from: no two may hold from the same day", s.GetVersion(), sets[i-1].GetVersion())
		}
		seen := make(map[intakev1.RiskLevel]bool)
		for _, c := range s.GetCare() {
			if seen[c.GetRiskLevel()] {
				return Rules{}, fmt.Errorf("rule set %s: care: names a risk level twice", s.GetVersion())
			}
			seen[c.GetRiskLevel()] = true
			if c.GetFirstContact().AsDuration() < 0 || c.GetFollowUp().AsDuration() < 0 {
				return Rules{}, fmt.Errorf("rule set %s: care: a time must not be negative", s.GetVersion())
			}
		}
	}
	return Rules{sets}, nil
}

// Of returns what a risk demands by the rules of the day of an instant, and their version. Before the first version there are none: the
// version is empty, and nothing is demanded.
func (r Rules) Of(risk intakev1.RiskLevel, at time.Time) (demands *intakev1.CareRules, version string) {
	day := decider.Day(at)
	for _, s := range r.sets {
		if s.GetValidFrom() > day {
			continue
		}
		for _, c := range s.GetCare() {
			if c.GetRiskLevel() == risk {
				return c, s.GetVersion()
			}
		}
		return nil, s.GetVersion()
	}
	return nil, ""
}
