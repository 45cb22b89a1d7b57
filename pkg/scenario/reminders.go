package scenario

import (
	"time"

	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// perBatch is how many messages a batch holds, at most.
const perBatch = 10

// fate is what becomes of a message.
type fate int

const (
	fateDelivered     fate = iota // accepted, and it arrives
	fateAccepted                  // accepted, and nothing more is heard of it
	fateLost                      // accepted, and it does not arrive: it counts all the same
	fateRefused                   // not accepted: it does not count
	fateQueued                    // not even tried by 4 February: it does not count
	fateAfterMidnight             // queued on 4 February, accepted on the 5th: it does not count as of the 4th
)

// message is a reminder to the family of one child.
type message struct {
	child *child
	fate  fate
}

// carrier is the interface to the carrier, which reports what became of a message.
var carrier = actor{by: "sys-carrier", org: orgBureau}

// The texts go to families after a greeting; with it a short one takes one segment and a long one two.
const coldText = "气温骤降，请注意孩子保暖，取暖时防火防煤气中毒。"

var (
	shortTexts = [...]string{
		"春节期间请少出门、不聚集，外出戴口罩，有困难请拨24小时热线。",
		"请让孩子勤洗手、多通风、戴口罩，发热咳嗽请告知儿童主任。",
	}
	longTexts = [...]string{
		"请每日为孩子测量体温并做好记录，如体温达到37.3度以上请立即报告村（居）儿童主任并尽快就医，不要自行乘坐公共交通工具。",
		"疫情期间请不要带孩子走亲访友、参加聚会，家长如需隔离或住院，请提前告知村（居）委会，我们将安排人员照料孩子。",
	}
)

// reminders queues text messages in batches on every day of the quota; districts are mixed within a batch.
func (g *gen) reminders() {
	accepted := acceptedMessages.apportion()
	for d := range acceptedMessages {
		var all []message
		for i := range districts {
			all = append(all, g.messages(i, accepted[d][i])...)
		}
		g.rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
		for n := 0; n < len(all); n += perBatch {
			g.batch(g.at(d, 9, 17), all[n:min(n+perBatch, len(all))], g.text(d))
		}
		if d == lastDay {
			g.batch(day(d, 23*60+50), g.lastMessages(), g.text(d))
		}
	}
}

// text returns the text of a batch; on the day of the cold spell it is about that. Few are long.
func (g *gen) text(d int) string {
	switch {
	case d == coldDay:
		return coldText
	case g.chance(20):
		return pick(g, longTexts[:]...)
	default:
		return pick(g, shortTexts[:]...)
	}
}

// messages returns so many messages of a district that are accepted, and some more that are not; each child gets one a day.
func (g *gen) messages(district, accepted int) []message {
	children := g.shuffledChildren(district)
	var all []message
	for accepted > 0 {
		m := message{child: children[len(all)%len(children)]}
		switch n := g.rng.IntN(100); {
		case n < 30:
			m.fate = fateDelivered
		case n < 93:
			m.fate = fateAccepted
		case n < 96:
			m.fate = fateLost
		case n < 98:
			m.fate = fateRefused
		default:
			m.fate = fateQueued
		}
		if m.fate <= fateLost {
			accepted--
		}
		all = append(all, m)
	}
	return all
}

// lastMessages returns a message to one child of each district that is queued so late that the carrier takes it after midnight.
func (g *gen) lastMessages() []message {
	var all []message
	for i := range districts {
		all = append(all, message{child: g.shuffledChildren(i)[0], fate: fateAfterMidnight})
	}
	return all
}

// batch queues messages with the same text and reports what becomes of each.
func (g *gen) batch(at time.Time, all []message, text string) {
	id := g.id("b")
	command := &outreachv1.QueueReminders{
		Provenance: actor{by: "b-2", org: orgBureau}.provenance(id, at, districts[pengjiang].adm),
		BatchId:    id,
	}
	queued := at.Add(g.minutes(0, 1))
	g.add(reminderAggregate, id, "queue", queued, command)
	for _, m := range all {
		r := &outreachv1.ReminderRecipient{
			MessageId: g.id("m"), ChildId: m.child.id, Category: m.child.category, AdmCode: m.child.adm(),
			Content: &outreachv1.ReminderContent{
				Phone: m.child.details.GetPhone(),
				Text:  "【民政】" + m.child.details.GetGuardianName() + "您好：" + text,
			},
		}
		command.Recipients = append(command.Recipients, r)
		g.send(id, r.GetMessageId(), m, queued.Add(g.minutes(1, 8)))
	}
}

// send reports what becomes of a message that the carrier gets at an instant.
func (g *gen) send(batch, id string, m message, at time.Time) {
	switch m.fate {
	case fateDelivered:
		g.accept(batch, id, m.child.adm(), at)
		g.deliver(batch, id, m.child.adm(), at.Add(g.minutes(1, 20)))
	case fateAccepted:
		g.accept(batch, id, m.child.adm(), at)
	case fateLost:
		g.accept(batch, id, m.child.adm(), at)
		g.fail(batch, id, m.child.adm(), at.Add(g.minutes(60, 120)),
			pick(g, outreachv1.ReminderFailure_REMINDER_FAILURE_EXPIRED, outreachv1.ReminderFailure_REMINDER_FAILURE_UNKNOWN_NUMBER))
	case fateRefused:
		g.fail(batch, id, m.child.adm(), at,
			pick(g, outreachv1.ReminderFailure_REMINDER_FAILURE_REJECTED, outreachv1.ReminderFailure_REMINDER_FAILURE_UNKNOWN_NUMBER))
	case fateAfterMidnight:
		g.queued = append(g.queued, pending{id: batch, message: id, district: m.child.district})
	case fateQueued:
	}
}

// accept reports that the carrier took a message.
func (g *gen) accept(batch, id, adm string, at time.Time) {
	g.add(reminderAggregate, batch, "accept", at, &outreachv1.AcceptReminder{
		Provenance: carrier.provenance(g.id("ra"), at, adm), BatchId: batch, MessageId: id,
	})
}

// deliver reports that a message arrived.
func (g *gen) deliver(batch, id, adm string, at time.Time) {
	g.add(reminderAggregate, batch, "confirm-delivery", at, &outreachv1.ConfirmReminderDelivery{
		Provenance: carrier.provenance(g.id("rd"), at, adm), BatchId: batch, MessageId: id,
	})
}

// fail reports that a message did not arrive.
func (g *gen) fail(batch, id, adm string, at time.Time, why outreachv1.ReminderFailure) {
	g.add(reminderAggregate, batch, "fail", at, &outreachv1.FailReminder{
		Provenance: carrier.provenance(g.id("rf"), at, adm), BatchId: batch, MessageId: id, Failure: why,
	})
}
