package healthcheck_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	"tongan.dev/services/healthcheck"
)

const (
	register     = "tongan.cmd.healthcheck.institution.register"
	startClosure = "tongan.cmd.healthcheck.institution.start-closure-regime"
	openRound    = "tongan.cmd.healthcheck.round.open"
	record       = "tongan.cmd.healthcheck.round.record"
	closeRound   = "tongan.cmd.healthcheck.round.close"

	day     = "2020-02-04"
	morning = healthcheckv1.CheckSlot_CHECK_SLOT_MORNING
)

func run(t *testing.T) *servetest.Client {
	t.Helper()
	return servetest.Run(t, subject.HealthCheck, healthcheck.Run, healthcheck.Config{})
}

func provenance(command string) *eventv1.Provenance {
	return &eventv1.Provenance{
		CommandId: command, OccurredAt: timestamppb.New(time.Date(2020, 2, 3, 23, 30, 0, 0, time.UTC)), PerformedBy: "w1", AdmCode: "440703",
	}
}

func registering(id string) *healthcheckv1.RegisterInstitution {
	return &healthcheckv1.RegisterInstitution{Provenance: provenance(""), InstitutionId: id, Beds: 120}
}

func opening(command string, expected int32) *healthcheckv1.OpenCheckRound {
	return &healthcheckv1.OpenCheckRound{Provenance: provenance(command), InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: expected}
}

func recording(command string, readings ...*healthcheckv1.Reading) *healthcheckv1.RecordHealthChecks {
	return &healthcheckv1.RecordHealthChecks{Provenance: provenance(command), InstitutionId: "i1", CheckedOn: day, Slot: morning, Readings: readings}
}

func closing(command string) *healthcheckv1.CloseCheckRound {
	return &healthcheckv1.CloseCheckRound{Provenance: provenance(command), InstitutionId: "i1", CheckedOn: day, Slot: morning}
}

func reading(check, person string, decicelsius int32) *healthcheckv1.Reading {
	return &healthcheckv1.Reading{
		CheckId: check, PersonId: person, TempDecicelsius: decicelsius, Method: healthcheckv1.MeasuringMethod_MEASURING_METHOD_FOREHEAD,
	}
}

// stored is the event at a sequence of the stream.
func stored(t *testing.T, c *servetest.Client, sequence uint64) eventlog.Envelope {
	t.Helper()
	s, err := c.JS.Stream(t.Context(), subject.Stream(subject.HealthCheck))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), sequence)
	if err != nil {
		t.Fatal(err)
	}
	e, err := eventlog.Decode(m.Subject, m.Header, m.Data, m.Sequence)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAnInstitutionAndARoundFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	c := run(t)
	c.Send(t, register, registering("i1"))
	c.Send(t, startClosure, &healthcheckv1.StartClosureRegime{Provenance: provenance("k1"), InstitutionId: "i1"})
	again := c.Send(t, startClosure, &healthcheckv1.StartClosureRegime{Provenance: provenance("k2"), InstitutionId: "i1"})
	if again.GetHappened() || again.GetRevision() != 2 {
		t.Errorf("closing again is answered %v", again)
	}
	opened := c.Send(t, openRound, opening("k3", 3))
	c.Send(t, record, recording("k4", reading("x1", "p1", 367), reading("x2", "p2", 373)))
	c.Send(t, record, recording("k5", reading("x3", "p2", 366), reading("x4", "p3", 380)))
	closed := c.Send(t, closeRound, closing("k6"))
	if n := c.Events(t, subject.HealthCheck); n != 8 || closed.GetRevision() != 8 {
		t.Errorf("%d events are stored, the closing at %d", n, closed.GetRevision())
	}
	if e := stored(t, c, opened.GetRevision()); e.Subject.ID != "i1_20200204_morning" || e.Subject.Event != "check-round-opened" {
		t.Errorf("the opening stands under %v", e.Subject)
	}
	want := &healthcheckv1.CheckRoundClosed{
		InstitutionId: "i1", CheckedOn: day, Slot: morning, Expected: 3, Checked: 3, Abnormal: 2, AdmCode: "440703",
	}
	if diff := cmp.Diff(want, stored(t, c, 8).Event, protocmp.Transform(), protocmp.IgnoreFields(want, "provenance")); diff != "" {
		t.Error(diff)
	}
	if got := c.Send(t, closeRound, closing("k7")); got.GetHappened() || got.GetRevision() != 8 {
		t.Errorf("closing again is answered %v", got)
	}
}

// The readings of one command are stored as one batch: one after the other, in order, under ids that the same command gives again.
func TestReadingsAreStoredAsOneBatch(t *testing.T) {
	t.Parallel()
	c := run(t)
	c.Send(t, openRound, opening("k1", 500))
	var readings []*healthcheckv1.Reading
	for i := range 500 {
		readings = append(readings, reading(fmt.Sprint("x", i), fmt.Sprint("p", i), 350+int32(i%90)))
	}
	// Another round stands between the opening and its readings.
	evening := opening("k2", 1)
	evening.Slot = healthcheckv1.CheckSlot_CHECK_SLOT_EVENING
	c.Send(t, openRound, evening)
	reply := c.Send(t, record, recording("k3", readings...))
	if reply.GetRevision() != 502 || len(reply.GetEventIds()) != 500 {
		t.Fatalf("%d events up to %d", len(reply.GetEventIds()), reply.GetRevision())
	}
	for i, r := range readings {
		e := stored(t, c, uint64(3+i))
		got := e.Event.(*healthcheckv1.HealthCheckRecorded)
		id := decider.EventID("healthcheck.round.i1_20200204_morning", "k3", i)
		if !proto.Equal(got.GetReading(), r) || e.ID != id || reply.GetEventIds()[i] != id || e.Command != "k3" || got.GetProvenance().GetRuleVersion() != "2020-01" {
			t.Fatalf("at %d stands %s of %s: %v", 3+i, e.ID, e.Command, got)
		}
	}
	reply.Again = true
	if again := c.Send(t, record, recording("k3", readings...)); !proto.Equal(again, reply) {
		t.Error("the same command again is answered otherwise")
	}
	if n := c.Events(t, subject.HealthCheck); n != 502 {
		t.Errorf("%d events are stored", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := run(t)
	refused := func(subj string, command proto.Message, code string, says ...string) {
		t.Helper()
		b, err := proto.Marshal(command)
		if err != nil {
			t.Fatal(err)
		}
		c.Ask(t, subj, b).Refused(t, code, says...)
	}
	refused(startClosure, &healthcheckv1.StartClosureRegime{Provenance: provenance("k1"), InstitutionId: "i1"}, "409", "institution_id", "not registered")
	refused(record, recording("k2", reading("x1", "p1", 367)), "409", "checked_on", "never opened")
	refused(closeRound, closing("k3"), "409", "checked_on", "never opened")
	c.Send(t, register, registering("i1"))
	other := registering("i1")
	other.Beds = 80
	refused(register, other, "409", "provenance.command_id", "used before")
	other.Provenance.CommandId = "k4"
	refused(register, other, "409", "institution_id", "registered already")
	refused(openRound, opening("", 3), "400", "provenance.command_id", "required")
	c.Send(t, openRound, opening("k5", 3))
	refused(openRound, opening("k6", 4), "409", "expected", "differs")
	c.Send(t, record, recording("k7", reading("x1", "p1", 367)))
	// One bad reading, and none of the command is recorded.
	refused(record, recording("k8", reading("x2", "p2", 367), reading("x1", "p1", 367)), "409", "readings[1].check_id", "recorded in this round already")
	refused(record, recording("k9", reading("x3", "p3", 367), reading("x3", "p3", 367)), "409", "readings[1].check_id", "in the command twice")
	refused(record, recording("k10", reading("x4", "p4", 367), reading("x5", "p5", 449)), "400", "readings[1].temp_decicelsius", "less than or equal to 440")
	refused(record, recording("k11"), "400", "readings", "1")
	wrong := opening("k12", 3)
	wrong.CheckedOn = "2020-02-30"
	refused(openRound, wrong, "400", "checked_on", "must be a date")
	abroad := opening("k13", 3)
	abroad.Provenance.AdmCode = "440786"
	refused(openRound, abroad, "400", "provenance.adm_code", "not a district")
	c.Send(t, closeRound, closing("k14"))
	refused(record, recording("k15", reading("x6", "p6", 367)), "409", "checked_on", "closed")
	if n := c.Events(t, subject.HealthCheck); n != 4 {
		t.Errorf("%d events are stored, want 4", n)
	}
}
