package scenario

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// Ids of the case of 1 February, the same for every seed.
const (
	// AloneChildID is the child who was alone at home.
	AloneChildID = "ch-alone"
	// AloneContactID is the report that Ping'an Tong took.
	AloneContactID = "ct-alone"
	// AloneCaseID is the case, still open on 4 February.
	AloneCaseID = "cs-alone"
	// AloneSupportID is the dinner from the same evening on.
	AloneSupportID = "sp-alone"
)

// Organisations of the case of 1 February.
const (
	orgHomeCare = "org-440703-homecare" // the Pengjiang home-care centre with its community canteen
	orgYouth    = "org-440703-youth"    // the street's youth social workers
)

// aloneAtHome replays the case of 1 February. The order, who did it, and before midnight are from the source; the hours are not.
func (g *gen) aloneAtHome() {
	operator := actor{by: "h-2", org: orgPingAnTong}
	called := day(aloneDay, 16*60+40)
	c := &child{
		id: AloneChildID, district: pengjiang, details: g.childDetails(),
		category: eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY,
	}
	entered := g.receive(&intakev1.ReceiveHotlineContact{
		Channel:     intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE,
		ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD,
		ChildId:     c.id,
		Details:     g.contactDetails("父亲高烧住院，母亲陪同，均被隔离，孩子独自在家"),
	}, AloneContactID, called, operator, c.adm())

	opened := entered.Add(3 * time.Minute)
	g.register(c, opened, operator)
	f := &file{g: g, id: AloneCaseID, child: c, opened: opened.Add(2 * time.Minute)}
	f.add("open", f.opened, &intakev1.OpenCase{
		Provenance: operator.provenance(f.id, f.opened, c.adm()),
		CaseId:     f.id, ChildId: c.id, Category: c.category, ContactId: AloneContactID, CaseSource: intakev1.CaseSource_CASE_SOURCE_CONTACT,
		GapCause: intakev1.GuardianshipGapCause_GUARDIANSHIP_GAP_CAUSE_QUARANTINED,
		Note:     &intakev1.CaseNote{Text: "父母均在医院隔离，孩子独自在家，" + g.marker()},
	})
	f.flag(f.last)
	f.followUpBy(operator, f.last.Add(3*time.Minute), intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE) // within the hour that high risk leaves
	g.dinner(f, operator)
	g.company(f)
	g.files = append(g.files, f)
}

// dinner has the community canteen bring meals from the same evening on; they go on after 4 February.
func (g *gen) dinner(f *file, operator actor) {
	asked := f.last.Add(10 * time.Minute)
	g.add(supportAggregate, AloneSupportID, "request", asked, &outreachv1.RequestSupport{
		Provenance: operator.provenance(AloneSupportID, asked, f.child.adm()),
		SupportId:  AloneSupportID, Kind: outreachv1.SupportKind_SUPPORT_KIND_MEALS,
		ChildId: f.child.id, Category: f.child.category, CaseId: f.id, ProviderOrg: orgHomeCare,
		DueAt: timestamppb.New(day(aloneDay+1, 0)),
	})
	brought := day(aloneDay, 18*60+30)
	g.add(supportAggregate, AloneSupportID, "begin", brought.Add(g.minutes(5, 20)), &outreachv1.BeginSupport{
		Provenance: actor{by: "c-1", org: orgHomeCare}.provenance(g.id("sb"), brought, f.child.adm()),
		SupportId:  AloneSupportID,
	})
}

// company has the youth social workers keep the child company: online, with two home visits.
func (g *gen) company(f *file) {
	const online, home = intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_ONLINE, intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_HOME_VISIT
	for _, v := range []struct {
		day, hour int
		by        string
		channel   intakev1.FollowUpChannel
	}{
		{aloneDay, 20, "y-1", online},
		{aloneDay + 1, 10, "y-2", home},
		{aloneDay + 1, 15, "y-1", online},
		{aloneDay + 1, 20, "y-1", online},
		{aloneDay + 2, 10, "y-2", online},
		{aloneDay + 2, 20, "y-1", online},
		{aloneDay + 3, 10, "y-2", online},
		{aloneDay + 3, 15, "y-2", home},
		{aloneDay + 3, 20, "y-1", online},
	} {
		f.followUpBy(actor{by: v.by, org: orgYouth}, g.at(v.day, v.hour, v.hour+1), v.channel)
	}
}
