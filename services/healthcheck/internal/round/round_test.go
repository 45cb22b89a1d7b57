package round_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	"tongan.dev/services/healthcheck/internal/round"
)

const (
	morning  = healthcheckv1.CheckSlot_CHECK_SLOT_MORNING
	normal   = healthcheckv1.TemperatureBand_TEMPERATURE_BAND_NORMAL
	elevated = healthcheckv1.TemperatureBand_TEMPERATURE_BAND_ELEVATED
	fever    = healthcheckv1.TemperatureBand_TEMPERATURE_BAND_FEVER
	day      = "2020-02-04"
	now      = "2020-02-03T23:30:00Z" // 07:30 of that day in Asia/Shanghai
)

// What the rows are given; the round was opened in 440705, while commands come from 440703.
var (
	opened = &healthcheckv1.CheckRoundOpened{
		Provenance: &eventv1.Provenance{AdmCode: "440705"}, InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3,
	}
	closed = &healthcheckv1.CheckRoundClosed{InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3}
)

func reading(check, person string, decicelsius int32) *healthcheckv1.Reading {
	return &healthcheckv1.Reading{
		CheckId: check, PersonId: person, TempDecicelsius: decicelsius,
		Method: healthcheckv1.MeasuringMethod_MEASURING_METHOD_FOREHEAD,
	}
}

func recorded(r *healthcheckv1.Reading, band healthcheckv1.TemperatureBand) *healthcheckv1.HealthCheckRecorded {
	return &healthcheckv1.HealthCheckRecorded{
		InstitutionId: "i1", CheckedOn: day, Slot: morning, Reading: r, Band: band, AdmCode: "440705",
	}
}

func record(readings ...*healthcheckv1.Reading) *healthcheckv1.RecordHealthChecks {
	return &healthcheckv1.RecordHealthChecks{InstitutionId: "i1", CheckedOn: day, Slot: morning, Readings: readings}
}

func TestOpening(t *testing.T) {
	t.Parallel()
	open := func(day string, expected int32) decider.Command {
		return decidertest.Command(now, "k1", &healthcheckv1.OpenCheckRound{
			InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: expected,
		})
	}
	decidertest.Run(t, round.Decider, []decidertest.Row{
		{
			Name: "a round is opened",
			When: open(day, 3),
			Then: []decider.Event{&healthcheckv1.CheckRoundOpened{
				Provenance: open(day, 3).Provenance(), InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3,
			}},
		},
		{Name: "opening again with the same number is silent", Given: []decider.Event{opened}, When: open(day, 3)},
		{Name: "opening a closed round again with the same number is silent", Given: []decider.Event{opened, closed}, When: open(day, 3)},
		{Name: "opening again with another number is refused", Given: []decider.Event{opened}, When: open(day, 4), Err: round.ErrOtherExpected},
		{Name: "the day of a round is a date", When: open("2020-02-30", 3), Err: round.ErrNotADate},
		{Name: "the day of a round is a date in a common year", When: open("2019-02-29", 3), Err: round.ErrNotADate},
		{
			Name: "the day of a round may be a leap day",
			When: open("2020-02-29", 3),
			Then: []decider.Event{&healthcheckv1.CheckRoundOpened{InstitutionId: "i1", CheckedOn: "2020-02-29", Slot: morning, Expected: 3}},
		},
	})
}

func TestRecording(t *testing.T) {
	t.Parallel()
	when := decidertest.Command(now, "k2", record(
		reading("h1", "p1", 350), reading("h2", "p2", 372), reading("h3", "p3", 373),
		reading("h4", "p4", 379), reading("h5", "p5", 380), reading("h6", "p6", 440),
	))
	then := []decider.Event{
		recorded(reading("h1", "p1", 350), normal), recorded(reading("h2", "p2", 372), normal),
		recorded(reading("h3", "p3", 373), elevated), recorded(reading("h4", "p4", 379), elevated),
		recorded(reading("h5", "p5", 380), fever), recorded(reading("h6", "p6", 440), fever),
	}
	for _, e := range then {
		e.(*healthcheckv1.HealthCheckRecorded).Provenance = when.Provenance()
		e.GetProvenance().RuleVersion = "2020-01"
	}
	one := decidertest.Command(now, "k2", record(reading("h1", "p1", 366)))
	noDate := record(reading("h1", "p1", 366))
	noDate.CheckedOn = "2020-13-01"
	decidertest.Run(t, round.Decider, []decidertest.Row{
		{Name: "each reading is an event with its band and rule version", Given: []decider.Event{opened}, When: when, Then: then},
		{
			Name:  "a person may be checked again under another id",
			Given: []decider.Event{opened, recorded(reading("h0", "p1", 366), normal)},
			When:  one,
			Then:  []decider.Event{recorded(reading("h1", "p1", 366), normal)},
		},
		{Name: "a round never opened takes no readings", When: one, Err: round.ErrNotOpened},
		{Name: "a closed round takes no readings", Given: []decider.Event{opened, closed}, When: one, Err: round.ErrClosed},
		{Name: "readings are of a date", When: decidertest.Command(now, "k2", noDate), Err: round.ErrNotADate},
	})
}

func TestAReadingIsRecordedOnce(t *testing.T) {
	t.Parallel()
	given := []decider.Event{opened, recorded(reading("h1", "p1", 366), normal)}
	when := decidertest.Command(now, "k3", record(reading("h2", "p2", 366), reading("h1", "p1", 380)))
	decidertest.Refused(t, round.Decider, given, when, "readings[1].check_id", round.RuleRecorded)
}

func TestAReadingIsInACommandOnce(t *testing.T) {
	t.Parallel()
	when := decidertest.Command(now, "k3", record(reading("h1", "p1", 366), reading("h2", "p2", 366), reading("h1", "p3", 366)))
	decidertest.Refused(t, round.Decider, []decider.Event{opened}, when, "readings[2].check_id", round.RuleRepeated)
}

func TestClosing(t *testing.T) {
	t.Parallel()
	end := func(day string) decider.Command {
		return decidertest.Command(now, "k9", &healthcheckv1.CloseCheckRound{InstitutionId: "i1", CheckedOn: day, Slot: morning})
	}
	decidertest.Run(t, round.Decider, []decidertest.Row{
		{
			Name: "closing counts persons, not readings",
			Given: []decider.Event{
				opened,
				recorded(reading("h1", "p1", 366), normal),
				recorded(reading("h2", "p2", 374), elevated), recorded(reading("h3", "p2", 381), fever),
				recorded(reading("h4", "p3", 382), fever), recorded(reading("h5", "p3", 366), normal),
				recorded(reading("h6", "p4", 366), normal), recorded(reading("h7", "p4", 367), normal),
			},
			When: end(day),
			Then: []decider.Event{&healthcheckv1.CheckRoundClosed{
				Provenance: end(day).Provenance(), InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3, Checked: 4, Abnormal: 2,
				AdmCode: "440705",
			}},
		},
		{
			Name:  "a round without readings can be closed",
			Given: []decider.Event{opened},
			When:  end(day),
			Then: []decider.Event{&healthcheckv1.CheckRoundClosed{
				InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3, AdmCode: "440705",
			}},
		},
		{Name: "closing twice is silent", Given: []decider.Event{opened, closed}, When: end(day)},
		{Name: "a round never opened is not closed", When: end(day), Err: round.ErrNotOpened},
		{Name: "a closing is of a date", When: end("2020-02-00"), Err: round.ErrNotADate},
	})
}

func TestID(t *testing.T) {
	t.Parallel()
	for slot, want := range map[healthcheckv1.CheckSlot]string{
		morning:                                 "i1_20200204_morning",
		healthcheckv1.CheckSlot_CHECK_SLOT_NOON: "i1_20200204_noon",
		healthcheckv1.CheckSlot_CHECK_SLOT_EVENING: "i1_20200204_evening",
	} {
		if got := round.ID("i1", day, slot); got != want {
			t.Errorf("id is %s, want %s: ids of stored rounds must never change", got, want)
		}
	}
}

func TestRoundProperty(t *testing.T) {
	t.Parallel()
	readings := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *healthcheckv1.Reading {
		return reading(
			fmt.Sprintf("h%d", rapid.IntRange(0, 30).Draw(t, "check")),
			rapid.SampledFrom([]string{"p1", "p2", "p3", "p4"}).Draw(t, "person"),
			rapid.Int32Range(365, 385).Draw(t, "temperature"),
		)
	}), 1, 4)
	commands := rapid.Custom(func(t *rapid.T) decider.Event {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0, 1:
			return &healthcheckv1.OpenCheckRound{
				InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: rapid.Int32Range(3, 4).Draw(t, "expected"),
			}
		case 2:
			return &healthcheckv1.CloseCheckRound{InstitutionId: "i1", CheckedOn: day, Slot: morning}
		default:
			return record(readings.Draw(t, "readings")...)
		}
	})
	decidertest.Property(t, round.Decider, commands, closedOnceWithRightCounts,
		&healthcheckv1.CheckRoundOpened{}, &healthcheckv1.HealthCheckRecorded{}, &healthcheckv1.CheckRoundClosed{})
}

// closedOnceWithRightCounts holds if each reading is recorded once, and if the closing comes last and counts right.
func closedOnceWithRightCounts(events []decider.Event) error {
	var expected int32
	checks, persons, abnormal := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, e := range events {
		switch e := e.(type) {
		case *healthcheckv1.CheckRoundOpened:
			expected = e.GetExpected()
			if i != 0 {
				return fmt.Errorf("opened by event %d", i)
			}
		case *healthcheckv1.HealthCheckRecorded:
			r := e.GetReading()
			if checks[r.GetCheckId()] {
				return fmt.Errorf("reading %s is recorded twice", r.GetCheckId())
			}
			checks[r.GetCheckId()], persons[r.GetPersonId()] = true, true
			if r.GetTempDecicelsius() >= 373 {
				abnormal[r.GetPersonId()] = true
			}
		case *healthcheckv1.CheckRoundClosed:
			if i != len(events)-1 {
				return fmt.Errorf("closed by event %d of %d", i, len(events))
			}
			if e.GetExpected() != expected || int(e.GetChecked()) != len(persons) || int(e.GetAbnormal()) != len(abnormal) {
				return fmt.Errorf("closed with %d/%d/%d, want %d/%d/%d",
					e.GetExpected(), e.GetChecked(), e.GetAbnormal(), expected, len(persons), len(abnormal))
			}
		}
	}
	return nil
}
