package intake_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
)

// Sound numbers of two who do not exist; the second way to write the first is the same number.
const (
	number, otherNumber = "99999920100101018X", "999999201001010016"
	lowerCase           = "99999920100101018x"
)

func withNumber(id, number string) *intakev1.RegisterChild {
	return &intakev1.RegisterChild{
		Provenance: provenance(""), ChildId: id, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1",
		Details: &intakev1.ChildDetails{Name: "标识-5c6d7e", IdentityNumber: number},
	}
}

// Who registers a child is told which others have its identity number, and nothing is merged; the number stands nowhere.
func TestPossibleDuplicatesAreTold(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	told := func(command *intakev1.RegisterChild, want ...string) {
		t.Helper()
		if got := c.Send(t, registerChild, command).GetPossibleDuplicates(); !slices.Equal(got, want) {
			t.Errorf("told of %s are %v, want %v", command.GetChildId(), got, want)
		}
	}
	told(withNumber("ch1", number))
	told(withNumber("ch2", otherNumber))
	told(withNumber("ch3", ""))
	told(withNumber("ch4", ""))
	told(withNumber("ch5", lowerCase), "ch1")
	told(withNumber("ch5", lowerCase), "ch1")     // again
	told(withNumber("ch2", number), "ch1", "ch5") // again, with another number: what is stored stays, and so does the index
	told(withNumber("ch6", otherNumber), "ch2")
	corrected := c.Send(t, "tongan.cmd.intake.child.correct", &intakev1.CorrectChild{
		Provenance: provenance("k1"), ChildId: "ch3", Details: &intakev1.ChildDetails{Name: "标识-5c6d7e", IdentityNumber: number},
	})
	if got := corrected.GetPossibleDuplicates(); !slices.Equal(got, []string{"ch1", "ch5"}) {
		t.Errorf("told of a correction are %v", got)
	}
	if n := c.Events(t, subject.Intake); n != 7 {
		t.Errorf("%d events are stored, want 7", n)
	}
	for _, stream := range []string{subject.Stream(subject.Intake), subject.StreamIndex, subject.StreamKeys} {
		natstest.Each(t, c.JS, stream, func(m jetstream.Msg) {
			all := bytes.Join([][]byte{[]byte(m.Subject()), m.Data(), fmt.Append(nil, m.Headers())}, nil)
			if bytes.Contains(all, []byte(number[:17])) || bytes.Contains(all, []byte("5c6d7e")) {
				t.Errorf("stream %s holds an identity number or a name", stream)
			}
		})
	}
}

// A refused registration leaves no entry, and a forgotten child has none.
func TestWhoIsNotThereIsNobodysDuplicate(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	c.Send(t, registerChild, withNumber("ch1", number))
	again := withNumber("ch1", otherNumber)
	again.Provenance.CommandId = "another"
	payload, err := proto.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	c.Ask(t, registerChild, payload).Refused(t, "409", "child_id", "is registered already")
	if got := c.Send(t, registerChild, withNumber("ch2", otherNumber)).GetPossibleDuplicates(); len(got) > 0 {
		t.Errorf("a number that was refused is that of %v", got)
	}
	c.Send(t, "tongan.cmd.intake.child.forget", &intakev1.ForgetChild{Provenance: provenance("k1"), ChildId: "ch1", Basis: "RETENTION_ENDED"})
	natstest.Eventually(t, 10*time.Second, "the key is destroyed", func() bool { return c.Events(t, subject.Intake) == 4 })
	if got := c.Send(t, registerChild, withNumber("ch3", number)).GetPossibleDuplicates(); len(got) > 0 {
		t.Errorf("a forgotten child's number is still that of %v", got)
	}
}
