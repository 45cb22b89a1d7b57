package scenario

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
)

// never is the day on which something does not happen.
const never = -1

// service is a made-up service: what, where (place in districts), and the days on which it is requested, begins and ends.
type service struct {
	kind                  outreachv1.SupportKind
	district              int
	requested, begun, end int
}

// serviceTable holds the services beside the dinner of 1 February: how many begin is part of the source's sum, all else is made up.
var serviceTable = [...]service{
	{kind: outreachv1.SupportKind_SUPPORT_KIND_PSYCHOSOCIAL, district: 3, requested: 5, begun: 6, end: 10},
	{kind: outreachv1.SupportKind_SUPPORT_KIND_GOODS_DELIVERY, district: 5, requested: 11, begun: 11, end: never},
	{kind: outreachv1.SupportKind_SUPPORT_KIND_LEARNING, district: 4, requested: 7, begun: never, end: never},
	{kind: outreachv1.SupportKind_SUPPORT_KIND_MEDICAL_ESCORT, district: 2, requested: 10, begun: never, end: never},
	{kind: outreachv1.SupportKind_SUPPORT_KIND_TEMPORARY_CARE, district: 6, requested: 12, begun: never, end: never},
}

// services requests the services of the table; some begin, some end, some are still waited for.
func (g *gen) services() {
	for _, s := range serviceTable {
		g.service(s)
	}
}

// service requests one service, in the morning and for a child with a case where there is one, begins and ends it.
func (g *gen) service(s service) {
	id, adm, asked := g.id("sp"), districts[s.district].adm, g.at(s.requested, 9, 11)
	command := &outreachv1.RequestSupport{
		Provenance: g.anyWorker(s.district).provenance(id, asked, adm),
		SupportId:  id, Kind: s.kind, ProviderOrg: "org-" + adm + "-service",
	}
	if f := g.fileBefore(s.district, asked); f != nil {
		command.ChildId, command.Category, command.CaseId = f.child.id, f.child.category, f.id
	} else {
		c := g.someRegistered(s.district)
		command.ChildId, command.Category = c.id, c.category
	}
	if g.chance(60) {
		command.DueAt = timestamppb.New(asked.Add(48 * time.Hour))
	}
	g.add(supportAggregate, id, "request", asked.Add(g.minutes(2, 15)), command)
	if s.begun == never {
		g.unbegun = append(g.unbegun, pending{id: id, district: s.district})
		return
	}
	g.begin(id, s.district, g.at(s.begun, 14, 16))
	if s.end != never {
		at := g.at(s.end, 16, 18)
		g.add(supportAggregate, id, "end", at.Add(g.minutes(2, 15)), &outreachv1.EndSupport{
			Provenance: g.provider(s.district).provenance(g.id("se"), at, adm),
			SupportId:  id,
		})
	}
}

// begin begins a service.
func (g *gen) begin(id string, district int, at time.Time) {
	g.add(supportAggregate, id, "begin", at.Add(g.minutes(2, 15)), &outreachv1.BeginSupport{
		Provenance: g.provider(district).provenance(g.id("sb"), at, districts[district].adm),
		SupportId:  id,
	})
}

// provider returns who delivers services in a district.
func (g *gen) provider(district int) actor {
	adm := districts[district].adm
	return actor{by: "v-" + adm, org: "org-" + adm + "-service"}
}

// fileBefore returns an open case of a district that was opened at least an hour before, or nil.
func (g *gen) fileBefore(district int, at time.Time) *file {
	for _, f := range g.files {
		if f.child.district == district && !f.closed && f.opened.Before(at.Add(-time.Hour)) {
			return f
		}
	}
	return nil
}
