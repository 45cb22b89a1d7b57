package scenario

import (
	"time"

	"tongan.dev/pkg/decider"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// file is a case in the making: everything about it is entered one after the other.
type file struct {
	g       *gen
	id      string
	child   *child
	opened  time.Time
	special bool
	closed  bool
	count   int       // follow-ups
	last    time.Time // when the last step was entered
}

// protection makes all cases but that of 1 February: special ones that are followed up on the day the quota says, ordinary ones,
// and special ones that nobody follows up.
func (g *gen) protection() {
	special, ordinary, silent := specialCases.apportion(), ordinaryCases.apportion(), silentCases.apportion()
	special[aloneDay][pengjiang]-- // the case of the source
	taken := map[string]bool{}
	for d := range special {
		for i := range districts {
			for range special[d][i] {
				g.specialCase(d, g.untaken(i, taken))
			}
			for range ordinary[d][i] {
				g.ordinaryCase(d, g.untaken(i, taken))
			}
			for range silent[d][i] {
				f := g.open(d, g.untaken(i, taken))
				f.flag(f.opened.Add(g.minutes(5, 60)))
			}
		}
	}
}

// untaken returns a registered child of a district that has no case yet.
func (g *gen) untaken(district int, taken map[string]bool) *child {
	for {
		if c := g.someRegistered(district); !taken[c.id] {
			taken[c.id] = true
			return c
		}
	}
}

// specialCase makes a case that is both special and followed up from day d on: in three of four cases it is flagged first, in the
// others it is followed up first. Some end before 4 February.
func (g *gen) specialCase(d int, c *child) {
	f := g.open(max(0, d-pick(g, 0, 0, 1, 2)), c)
	counts := g.at(d, 14, 19)
	if g.chance(75) {
		f.flag(f.opened.Add(g.minutes(5, 60)))
		f.followUp(counts)
	} else {
		f.followUp(f.opened.Add(g.minutes(20, 100)))
		f.flag(counts)
	}
	f.followOn(d+1, 45)
	if d < lastDay-1 && g.chance(25) {
		f.close(f.last.Add(g.minutes(30, 90)))
	}
}

// ordinaryCase makes a case that is followed up and never flagged; some end.
func (g *gen) ordinaryCase(d int, c *child) {
	f := g.open(d, c)
	f.followUp(g.at(d, 14, 19))
	f.followOn(d+1, 25)
	if g.chance(30) {
		f.close(f.last.Add(g.minutes(30, 90)))
	}
}

// open opens a case on day d in the morning, one in four after a hotline contact.
func (g *gen) open(d int, c *child) *file {
	f := &file{g: g, id: g.id("cs"), child: c, opened: g.at(d, 10, 12)}
	command := &intakev1.OpenCase{
		CaseId: f.id, ChildId: c.id, Category: c.category, GapCause: g.gapCause(),
		Note: &intakev1.CaseNote{Text: pick(g, "监护人外出未归", "家中无人照料", "由邻居暂时照看") + "，" + g.marker()},
	}
	if g.chance(25) {
		command.ContactId = g.id("ct")
		g.receive(&intakev1.ReceiveHotlineContact{
			Channel:     intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
			ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD,
			ChildId:     c.id,
			Details:     g.contactDetails("反映孩子无人照料"),
		}, command.GetContactId(), f.opened.Add(-g.minutes(15, 50)), g.operator(), c.adm())
	}
	by := g.anyWorker(c.district)
	command.Provenance = by.provenance(f.id, f.opened, c.adm())
	f.add("open", f.opened, command)
	g.files = append(g.files, f)
	return f
}

// gapCause returns why nobody looks after a child; in half of the cases there is somebody.
func (g *gen) gapCause() intakev1.GuardianshipGapCause {
	if g.chance(50) {
		return intakev1.GuardianshipGapCause_GUARDIANSHIP_GAP_CAUSE_UNSPECIFIED
	}
	return intakev1.GuardianshipGapCause(g.between(1, 5))
}

// add enters a step of the case some minutes after it happened, and in any case after the step before.
func (f *file) add(verb string, occurred time.Time, command decider.Event) {
	f.last = later(occurred.Add(f.g.minutes(1, 10)), f.last.Add(time.Minute))
	f.g.add(caseAggregate, f.id, verb, f.last, command)
}

// flag marks the case as special.
func (f *file) flag(occurred time.Time) {
	f.special = true
	f.add("flag-special", occurred, &intakev1.FlagCaseSpecial{
		Provenance: f.g.anyWorker(f.child.district).provenance(f.g.id("fs"), occurred, f.child.adm()),
		CaseId:     f.id,
	})
}

// followUp records a follow-up by a worker of the district, mostly by telephone or online.
func (f *file) followUp(occurred time.Time) {
	f.followUpBy(f.g.anyWorker(f.child.district), occurred, pick(f.g,
		intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE, intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE,
		intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE, intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE,
		intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE, intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_HOME_VISIT))
}

// followUpBy records a follow-up, more often than not with a note.
func (f *file) followUpBy(by actor, occurred time.Time, channel intakev1.FollowUpChannel) {
	f.count++
	id := f.g.id("fu")
	command := &intakev1.RecordFollowUp{
		Provenance: by.provenance(id, occurred, f.child.adm()),
		CaseId:     f.id, FollowUpId: id, Channel: channel,
	}
	if f.g.chance(60) {
		command.ChildId = f.child.id
		command.Note = &intakev1.CaseNote{Text: pick(f.g, "情况稳定", "三餐有人送", "情绪较好，已作陪伴") + "，" + f.g.marker()}
	}
	f.add("follow-up", occurred, command)
}

// followOn follows the case up once more on some of the days from day d on.
func (f *file) followOn(d, percent int) {
	for ; d <= lastDay; d++ {
		if f.g.chance(percent) {
			f.followUp(f.g.at(d, 9, 19))
		}
	}
}

// close ends the case.
func (f *file) close(occurred time.Time) {
	f.add("close", occurred, &intakev1.CloseCase{
		Provenance: f.g.anyWorker(f.child.district).provenance(f.g.id("cc"), occurred, f.child.adm()),
		CaseId:     f.id, AgreedBy: Leader,
		CloseReason: pick(f.g, intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET,
			intakev1.CaseCloseReason_CASE_CLOSE_REASON_NEED_MET, intakev1.CaseCloseReason_CASE_CLOSE_REASON_REFERRED,
			intakev1.CaseCloseReason_CASE_CLOSE_REASON_UNFOUNDED),
	})
	f.closed = true
}
