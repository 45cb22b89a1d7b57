package serve

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/clock"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// A value that looks like an error of the decoder is not repeated to the caller.
func TestAValueThatLooksLikeAnErrorIsNotRepeated(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		`{"provenance":"(line 9:9): invalid value for S1f2e3d type"}`,
		`{"visitId":["(line 9:9): invalid value for 1f2e3d type"]}`,
		`{"provenance":{"occurredAt":"(line 9:9): invalid value for 1f2e3d type"}}`,
		`{"children":"(line 9:9): invalid value for 1f2e3d type"}`,
		`{"channel":"(line 9:9): invalid value for 1f2e3d type"}`,
		`{"provenance":{"(line 9:9): invalid value for 1f2e3d type":1}}`,
	} {
		err := decode(asked{data: []byte(p)}, &outreachv1.RecordVisit{})
		if err == nil || strings.Contains(err.Error(), "1f2e3d") {
			t.Errorf("%s is answered: %v", p, err)
		}
	}
}

// What no table can hold is refused here: an event with it would be kept, but never counted.
func TestInstantsAndDaysThatAreNone(t *testing.T) {
	t.Parallel()
	now := &clock.Replay{}
	now.Advance(time.Date(2020, 2, 6, 0, 0, 0, 0, time.UTC))
	rt := &Runtime{Clock: now, Districts: []string{"440703", "440704"}}
	record := admission[*outreachv1.RecordVisit]{creates: (*outreachv1.RecordVisit).GetVisitId}
	request := admission[*outreachv1.RequestSupport]{creates: (*outreachv1.RequestSupport).GetSupportId}
	for _, at := range []*timestamppb.Timestamp{
		{Seconds: math.MaxInt64},
		{Seconds: 1580000000, Nanos: -5},
		{Seconds: 1580000000, Nanos: 2000000000},
		{Seconds: 253402300800},
		{Seconds: 32503680000}, // the year 3000
	} {
		v := visit()
		v.Provenance.OccurredAt = at
		if _, err := record.admit(t.Context(), rt, v); err == nil || !strings.Contains(err.Error(), "provenance.occurred_at") {
			t.Errorf("occurred_at %v: %v", at, err)
		}
		s := &outreachv1.RequestSupport{
			Provenance: visit().GetProvenance(), SupportId: "s1", Kind: outreachv1.SupportKind_SUPPORT_KIND_MEALS, ChildId: "c1", ProviderOrg: "o1", DueAt: at,
		}
		if _, err := request.admit(t.Context(), rt, s); err == nil || !strings.Contains(err.Error(), "due_at") {
			t.Errorf("due_at %v: %v", at, err)
		}
	}
	void := admission[*outreachv1.VoidVisit]{}
	for _, day := range []string{"0001-01-01", "2020-02-30", "2149-01-01", "2020-13-01"} {
		v := &outreachv1.VoidVisit{Provenance: visit().GetProvenance(), VisitId: "v1", WorkerId: "w1", VisitedOn: day}
		v.Provenance.CommandId, v.Provenance.Reason = "k1", "WRONG_CHILD"
		if _, err := void.admit(t.Context(), rt, v); err == nil || !strings.Contains(err.Error(), "visited_on") {
			t.Errorf("visited_on %s: %v", day, err)
		}
	}
}
