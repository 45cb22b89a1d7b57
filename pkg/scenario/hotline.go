package scenario

import (
	"fmt"
	"time"

	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// The organisations that run the hotline together.
const (
	orgBureau     = "org-bureau"
	orgRescue     = "org-rescue"
	orgPingAnTong = "org-pingantong"
)

// hotline takes contacts of every kind, by day and night, in all three organisations. Those that lead to a case come with the case.
func (g *gen) hotline() {
	for d, n := range contacts {
		for range n {
			g.contact(d)
		}
	}
}

// operator returns somebody who is on duty at the hotline.
func (g *gen) operator() actor {
	n := g.between(1, 9)
	return actor{by: fmt.Sprintf("h-%d", n), org: [...]string{orgBureau, orgRescue, orgPingAnTong}[n%3]}
}

// contact takes a contact on day d that leads to no case; a quarter have nothing to do with a child.
func (g *gen) contact(d int) {
	at, i := g.at(d, 0, 23), g.rng.IntN(len(districts))
	c := &intakev1.ReceiveHotlineContact{
		ContactType: pick(g, intakev1.ContactType_CONTACT_TYPE_CHILD, intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD,
			intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD, intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING),
		Channel: pick(g, intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE, intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
			intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE, intakev1.HotlineChannel_HOTLINE_CHANNEL_ONLINE,
			intakev1.HotlineChannel_HOTLINE_CHANNEL_SMS, intakev1.HotlineChannel_HOTLINE_CHANNEL_WALK_IN),
	}
	if c.GetContactType() != intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING {
		c.Details = g.contactDetails(pick(g, "询问口罩哪里领取", "询问孩子在家如何防护", "担心孩子情绪", "请求上门看望孩子"))
		if at.After(day(0, 9*60)) && g.chance(40) {
			c.ChildId = g.someRegistered(i).id
		}
	}
	g.receive(c, g.id("ct"), at, g.operator(), districts[i].adm)
}

// receive enters a contact while it lasts or shortly after, and returns when.
func (g *gen) receive(c *intakev1.ReceiveHotlineContact, id string, at time.Time, by actor, adm string) time.Time {
	c.ContactId, c.Provenance = id, by.provenance(id, at, adm)
	entered := at.Add(g.minutes(2, 12))
	g.add(contactAggregate, id, "receive", entered, c)
	return entered
}

// contactDetails makes up who called and what was said.
func (g *gen) contactDetails(narrative string) *intakev1.ContactDetails {
	return &intakev1.ContactDetails{
		CallerName: "来电人" + g.marker(),
		Phone:      g.phone(),
		Narrative:  narrative + "，" + g.marker(),
	}
}
