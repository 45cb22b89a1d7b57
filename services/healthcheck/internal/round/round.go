// Package round is one round of temperature checks: an institution, a day and a time of day (测温轮次). Readings are entries of it.
//
// Commands: OpenCheckRound, RecordHealthChecks, CloseCheckRound.
// Events: CheckRoundOpened, HealthCheckRecorded (one for each reading), CheckRoundClosed.
//
// Rules:
//   - The day of a round is a calendar date.
//   - A round is opened once; again with the same expected number is silent, with another it is refused.
//   - Readings are recorded all or none, while the round is open, each check_id once.
//   - The band of a reading follows the table of the rule version that its event names.
//   - A round is closed once, again is silent. The closing states how many persons were expected, how many different persons were
//     checked, and how many of them had any reading above the normal band.
package round

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
)

// Aggregate is the round; ID makes its id.
var Aggregate = subject.Aggregate{Service: subject.HealthCheck, Name: "round"}

// ErrNotADate is returned when checked_on has the form of a date but is none.
var ErrNotADate = decider.Refuse("checked_on", "must be a date, YYYY-MM-DD")

// ErrOtherExpected is returned when a round that was opened is opened again with another expected number.
var ErrOtherExpected = decider.Refuse("expected", "differs from the one the round was opened with")

// ErrNotOpened is returned when readings or the closing come for a round that was never opened.
var ErrNotOpened = decider.Refuse("checked_on", "the round of this day and slot was never opened")

// ErrClosed is returned when readings come for a closed round.
var ErrClosed = decider.Refuse("checked_on", "the round of this day and slot is closed")

// The rules of refusals that name one reading, as readings[i].check_id.
const (
	// RuleRecorded is violated when a reading has been recorded in the round before by another command.
	RuleRecorded = "was recorded in this round already"
	// RuleRepeated is violated when a command names a reading twice.
	RuleRepeated = "is in the command twice"
)

// State is what decisions about a round need to know.
type State struct {
	opened, closed bool
	expected       int32
	admCode        string
	// checks holds the ids of the readings.
	checks map[string]bool
	// persons tells for each person checked whether any reading was above the normal band.
	persons map[string]bool
}

// Decider decides about one round.
var Decider = decider.Decider[State]{Decide: decide, Evolve: evolve, Fork: fork}

// ID returns the id of the round of an institution on a day (YYYY-MM-DD) at a time of day, for example i1_20200204_morning.
func ID(institutionID, checkedOn string, slot healthcheckv1.CheckSlot) string {
	part := strings.ToLower(strings.TrimPrefix(slot.String(), "CHECK_SLOT_"))
	return institutionID + "_" + strings.ReplaceAll(checkedOn, "-", "") + "_" + part
}

// ruleVersion names the table of bands.
const ruleVersion = "2020-01"

// bands are the bands above normal, highest first, each with the temperature in tenths of a degree Celsius it begins at.
var bands = []struct {
	from int32
	band healthcheckv1.TemperatureBand
}{
	{380, healthcheckv1.TemperatureBand_TEMPERATURE_BAND_FEVER},
	{373, healthcheckv1.TemperatureBand_TEMPERATURE_BAND_ELEVATED},
}

func bandOf(decicelsius int32) healthcheckv1.TemperatureBand {
	for _, b := range bands {
		if decicelsius >= b.from {
			return b.band
		}
	}
	return healthcheckv1.TemperatureBand_TEMPERATURE_BAND_NORMAL
}

func decide(s State, cmd decider.Command) ([]decider.Event, error) {
	switch c := cmd.Body.(type) {
	case *healthcheckv1.OpenCheckRound:
		return openRound(s, cmd, c)
	case *healthcheckv1.RecordHealthChecks:
		return record(s, cmd, c)
	case *healthcheckv1.CloseCheckRound:
		return closeRound(s, cmd, c)
	default:
		return nil, fmt.Errorf("check round: unexpected command %T", cmd.Body)
	}
}

func openRound(s State, cmd decider.Command, c *healthcheckv1.OpenCheckRound) ([]decider.Event, error) {
	switch {
	case !isDate(c.GetCheckedOn()):
		return nil, ErrNotADate
	case s.opened && s.expected != c.GetExpected():
		return nil, ErrOtherExpected
	case s.opened:
		return nil, nil
	}
	return []decider.Event{&healthcheckv1.CheckRoundOpened{
		Provenance:    cmd.Provenance(),
		InstitutionId: c.GetInstitutionId(),
		CheckedOn:     c.GetCheckedOn(),
		Slot:          c.GetSlot(),
		Expected:      c.GetExpected(),
	}}, nil
}

func record(s State, cmd decider.Command, c *healthcheckv1.RecordHealthChecks) ([]decider.Event, error) {
	switch {
	case !isDate(c.GetCheckedOn()):
		return nil, ErrNotADate
	case !s.opened:
		return nil, ErrNotOpened
	case s.closed:
		return nil, ErrClosed
	}
	inCommand := make(map[string]bool, len(c.GetReadings()))
	events := make([]decider.Event, 0, len(c.GetReadings()))
	for i, r := range c.GetReadings() {
		if s.checks[r.GetCheckId()] {
			return nil, refuseReading(i, RuleRecorded)
		}
		if inCommand[r.GetCheckId()] {
			return nil, refuseReading(i, RuleRepeated)
		}
		inCommand[r.GetCheckId()] = true
		events = append(events, recorded(s, cmd, c, r))
	}
	return events, nil
}

func refuseReading(i int, rule string) error {
	return decider.Refuse(fmt.Sprintf("readings[%d].check_id", i), rule)
}

func recorded(s State, cmd decider.Command, c *healthcheckv1.RecordHealthChecks, r *healthcheckv1.Reading) decider.Event {
	p := cmd.Provenance()
	p.RuleVersion = ruleVersion
	return &healthcheckv1.HealthCheckRecorded{
		Provenance:    p,
		InstitutionId: c.GetInstitutionId(),
		CheckedOn:     c.GetCheckedOn(),
		Slot:          c.GetSlot(),
		Reading:       r,
		Band:          bandOf(r.GetTempDecicelsius()),
		AdmCode:       s.admCode,
	}
}

func closeRound(s State, cmd decider.Command, c *healthcheckv1.CloseCheckRound) ([]decider.Event, error) {
	switch {
	case !isDate(c.GetCheckedOn()):
		return nil, ErrNotADate
	case !s.opened:
		return nil, ErrNotOpened
	case s.closed:
		return nil, nil
	}
	var abnormal int32
	for _, above := range s.persons {
		if above {
			abnormal++
		}
	}
	return []decider.Event{&healthcheckv1.CheckRoundClosed{
		Provenance:    cmd.Provenance(),
		InstitutionId: c.GetInstitutionId(),
		CheckedOn:     c.GetCheckedOn(),
		Slot:          c.GetSlot(),
		Expected:      s.expected,
		Checked:       int32(len(s.persons)),
		Abnormal:      abnormal,
		AdmCode:       s.admCode,
	}}, nil
}

func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}

func evolve(s State, e decider.Event) (State, bool) {
	switch e := e.(type) {
	case *healthcheckv1.CheckRoundOpened:
		s.opened, s.expected, s.admCode = true, e.GetExpected(), e.GetProvenance().GetAdmCode()
	case *healthcheckv1.HealthCheckRecorded:
		if s.checks == nil {
			s.checks, s.persons = make(map[string]bool), make(map[string]bool)
		}
		person := e.GetReading().GetPersonId()
		s.checks[e.GetReading().GetCheckId()] = true
		s.persons[person] = s.persons[person] || e.GetBand() > healthcheckv1.TemperatureBand_TEMPERATURE_BAND_NORMAL
	case *healthcheckv1.CheckRoundClosed:
		s.closed = true
	default:
		return s, false
	}
	return s, true
}

func fork(s State) State {
	s.checks, s.persons = maps.Clone(s.checks), maps.Clone(s.persons)
	return s
}
