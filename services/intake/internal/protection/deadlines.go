package protection

import (
	"slices"
	"time"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// Kinds of a case's deadlines.
const (
	firstContact = intakev1.DeadlineKind_DEADLINE_KIND_FIRST_CONTACT
	service      = intakev1.DeadlineKind_DEADLINE_KIND_SERVICE
	followUp     = intakev1.DeadlineKind_DEADLINE_KIND_FOLLOW_UP
	review       = intakev1.DeadlineKind_DEADLINE_KIND_REVIEW
)

// change is what an event does to the deadlines of a case.
type change struct{ set, met, withdrawn []*intakev1.Deadline }

// demanded are the deadlines that a risk sets from an instant on, by the rules of that day, and the version of those rules:
//   - first contact, until somebody was reached since the case was opened or reopened;
//   - the service, before midnight, until one began or care for a time was arranged;
//   - the next follow-up, once somebody was reached: before, the first contact is due;
//   - the review.
func (d decisions) demanded(s State, risk intakev1.RiskLevel, at, now time.Time) (set []*intakev1.Deadline, version string) {
	care, version := d.rules.Of(risk, at)
	want := func(is bool, kind intakev1.DeadlineKind, due time.Time) {
		if is {
			set = append(set, s.deadlines.Next(kind, due, now))
		}
	}
	want(!s.reached && care.GetFirstContact() != nil, firstContact, at.Add(care.GetFirstContact().AsDuration()))
	want(!s.served && care.GetServiceBeforeMidnight(), service, decider.Midnight(at))
	want(s.reached && care.GetFollowUp() != nil, followUp, at.Add(care.GetFollowUp().AsDuration()))
	want(care.GetReviewMonths() > 0, review, decider.AddMonths(at, int(care.GetReviewMonths())))
	return set, version
}

// assessed is what an assessment does: another risk sets its deadlines in place of those that wait, the same risk those that are lacking.
// What was missed stays open until it is done. An assessment is a review too.
func (d decisions) assessed(s State, risk intakev1.RiskLevel, at, now time.Time) (c change, version string) {
	c.met = s.deadlines.OpenSince(review, at)
	c.set, version = d.demanded(s, risk, at, now)
	if risk == s.risk {
		c.set = slices.DeleteFunc(c.set, func(n *intakev1.Deadline) bool {
			return n.GetKind() != review && len(s.deadlines.Waiting(n.GetKind())) > 0
		})
	} else {
		c.withdrawn = slices.Concat(s.deadlines.Waiting(firstContact), s.deadlines.Waiting(service), s.deadlines.Waiting(followUp))
	}
	if len(c.met) < len(s.deadlines.Open(review)) { // there is a later one that goes on
		c.set = slices.DeleteFunc(c.set, func(n *intakev1.Deadline) bool { return n.GetKind() == review })
	}
	return c, version
}

// followedUp is what a follow-up does. One that reached somebody meets the first contact, and the follow-up that was due when it happened;
// the latest of them sets the next one. One that reached nobody changes something only where it says when the next one is due.
func (d decisions) followedUp(s State, c *intakev1.RecordFollowUp, now time.Time) (ch change, version string) {
	at, next := occurredAt(c), c.GetNextDueAt()
	if s.closed || at.Before(s.takenUpAt) {
		return change{}, ""
	}
	if reaches(c.GetFollowUpOutcome()) {
		ch.met = append(s.deadlines.Open(firstContact), s.deadlines.OpenSince(followUp, at)...)
		care, v := d.rules.Of(s.risk, at)
		switch {
		case at.Before(s.lastReached):
		case next != nil:
			ch.set = append(ch.set, s.deadlines.Next(followUp, next.AsTime(), now))
		case care.GetFollowUp() != nil:
			ch.set, version = append(ch.set, s.deadlines.Next(followUp, at.Add(care.GetFollowUp().AsDuration()), now)), v
		}
		return ch, version
	}
	if next != nil {
		ch.withdrawn = s.deadlines.Waiting(followUp)
		ch.set = append(ch.set, s.deadlines.Next(followUp, next.AsTime(), now))
	}
	return ch, ""
}

// reviewed is what a review does: it meets the one that was due and sets the next.
func (d decisions) reviewed(s State, at, now time.Time) (c change, version string) {
	c.met = s.deadlines.OpenSince(review, at)
	care, version := d.rules.Of(s.risk, at)
	if care.GetReviewMonths() > 0 && len(c.met) == len(s.deadlines.Open(review)) {
		c.set = append(c.set, s.deadlines.Next(review, decider.AddMonths(at, int(care.GetReviewMonths())), now))
	}
	return c, version
}
