package scenario_test

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"
	"time"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/scenario"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

var shanghai = time.FixedZone("Asia/Shanghai", 8*3600)

// occurred returns when what a step is about happened.
func occurred(s scenario.Step) time.Time { return s.Command.GetProvenance().GetOccurredAt().AsTime() }

// dayOf returns the day of an instant in Asia/Shanghai.
func dayOf(t time.Time) string { return t.In(shanghai).Format(time.DateOnly) }

// seeds are the seeds that the tests try: that of the demonstration and some others.
func seeds() []uint64 { return []uint64{scenario.DefaultSeed, 0, 1 << 63} }

// where describes a step in an error message.
func where(n int, s scenario.Step) string {
	return s.Subject + " " + s.Command.GetProvenance().GetCommandId() + " (step " + strconv.Itoa(n) + ") of " + s.Key
}

func TestEveryCommandIsValid(t *testing.T) {
	t.Parallel()
	v, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range seeds() {
		for n, s := range scenario.Steps(seed) {
			if err := v.Validate(s.Command); err != nil {
				t.Fatalf("%s: %v", where(n, s), err)
			}
		}
	}
}

var token = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func TestStepsAreInOrderAndNeverEnteredBeforeTheyHappened(t *testing.T) {
	t.Parallel()
	known := map[string]bool{
		"440703": true, "440704": true, "440705": true, "440781": true, "440783": true, "440784": true, "440785": true,
	}
	from, to := time.Date(2020, 1, 23, 0, 0, 0, 0, shanghai), time.Date(2020, 2, 6, 0, 0, 0, 0, shanghai)
	for _, seed := range seeds() {
		last := from
		for n, s := range scenario.Steps(seed) {
			p := s.Command.GetProvenance()
			switch {
			case s.At.Before(last):
				t.Fatalf("%s: before the step before it", where(n, s))
			case s.At.Before(occurred(s)):
				t.Fatalf("%s: entered before it happened", where(n, s))
			case occurred(s).Before(from), !s.At.Before(to):
				t.Fatalf("%s: outside the scenario, %s", where(n, s), s.At)
			case s.At.Location() != time.UTC:
				t.Fatalf("%s: not in UTC", where(n, s))
			case !known[p.GetAdmCode()]:
				t.Fatalf("%s: no such district", where(n, s))
			case p.GetSourceChannel() != eventv1.SourceChannel_SOURCE_CHANNEL_SCENARIO:
				t.Fatalf("%s: source channel", where(n, s))
			case p.GetCommandId() == "", p.GetCreditedOrg() == "", p.GetPerformedBy() == "":
				t.Fatalf("%s: incomplete provenance", where(n, s))
			}
			last = s.At
		}
	}
}

// created returns the kinds and ids of what a command creates.
func created(m proto.Message) map[string][]string {
	switch m := m.(type) {
	case *intakev1.RegisterChild:
		return map[string][]string{"child": {m.GetChildId()}}
	case *intakev1.ReceiveHotlineContact:
		return map[string][]string{"contact": {m.GetContactId()}}
	case *intakev1.OpenCase:
		return map[string][]string{"case": {m.GetCaseId()}}
	case *intakev1.RecordFollowUp:
		return map[string][]string{"follow-up": {m.GetFollowUpId()}}
	case *healthcheckv1.RegisterInstitution:
		return map[string][]string{"institution": {m.GetInstitutionId()}}
	case *healthcheckv1.RecordHealthChecks:
		var ids []string
		for _, r := range m.GetReadings() {
			ids = append(ids, r.GetCheckId())
		}
		return map[string][]string{"reading": ids}
	case *outreachv1.RecordVisit:
		return map[string][]string{"visit": {m.GetVisitId()}}
	case *outreachv1.QueueReminders:
		ids := []string{}
		for _, r := range m.GetRecipients() {
			ids = append(ids, r.GetMessageId())
		}
		return map[string][]string{"batch": {m.GetBatchId()}, "message": ids}
	case *outreachv1.RequestDelivery:
		return map[string][]string{"delivery": {m.GetDeliveryId()}}
	case *outreachv1.RequestSupport:
		return map[string][]string{"support": {m.GetSupportId()}}
	}
	return nil
}

func TestIDsAreUniquePerKind(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds() {
		seen := map[string]bool{}
		once := func(kind, id string) {
			if seen[kind+" "+id] {
				t.Errorf("seed %d: %s %s comes twice", seed, kind, id)
			}
			seen[kind+" "+id] = true
			if !token.MatchString(id) {
				t.Errorf("seed %d: %s %s is not one token", seed, kind, id)
			}
		}
		for _, s := range scenario.Steps(seed) {
			once("command", s.Command.GetProvenance().GetCommandId())
			for kind, ids := range created(s.Command) {
				for _, id := range ids {
					once(kind, id)
				}
			}
		}
	}
}

func TestCommandIDIsTheIDOfWhatIsCreated(t *testing.T) {
	t.Parallel()
	for n, s := range scenario.Steps(scenario.DefaultSeed) {
		for kind, ids := range created(s.Command) {
			if kind == "reading" || kind == "message" {
				continue
			}
			if ids[0] != s.Command.GetProvenance().GetCommandId() {
				t.Errorf("%s: creates %s %s", where(n, s), kind, ids[0])
			}
		}
	}
}

// encode returns all steps as bytes.
func encode(t *testing.T, seed uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, s := range scenario.Steps(seed) {
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(s.Command)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(s.At.Format(time.RFC3339Nano) + s.Subject + s.Key)
		b.Write(wire)
	}
	return b.Bytes()
}

func TestSeedDecidesEverything(t *testing.T) {
	t.Parallel()
	if !bytes.Equal(encode(t, scenario.DefaultSeed), encode(t, scenario.DefaultSeed)) {
		t.Error("the same seed gives two lists")
	}
	if bytes.Equal(encode(t, scenario.DefaultSeed), encode(t, scenario.DefaultSeed+1)) {
		t.Error("another seed gives the same list")
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	steps := scenario.Steps(scenario.DefaultSeed)
	for _, s := range steps {
		kinds[s.Subject]++
	}
	t.Logf("%d commands: %v", len(steps), kinds)
	if n := len(steps); n < 6500 || n > 9000 {
		t.Errorf("%d commands", n)
	}
	if len(kinds) != 23 {
		t.Errorf("%d kinds of commands, not all 23", len(kinds))
	}
}

func BenchmarkSteps(b *testing.B) {
	for b.Loop() {
		scenario.Steps(scenario.DefaultSeed)
	}
}
