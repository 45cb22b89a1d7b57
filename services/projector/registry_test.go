package projector

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"

	"tongan.dev/pkg/chengine"
	"tongan.dev/pkg/chtest"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/natstest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

const inDifficulty = eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY

// on is the provenance of what happened at noon of a day in a district.
func on(day, admCode string) *eventv1.Provenance {
	at, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	p := provenance(at.Add(4 * time.Hour))
	p.AdmCode = admCode
	return p
}

// registryStory is three children, two entries that should not be, and one of whom only the end is there. Several events come late: what
// they say is about days before what was recorded before them.
func registryStory() []stored {
	of := func(id string, event decider.Event) stored { return stored{pchildren, id, event} }
	return []stored{
		// c1 is left behind, later in difficulty as well, and moves in between; the move is recorded after all that.
		of("c1", &intakev1.ChildRegistered{
			Provenance: on("2020-01-10", "440703"), ChildId: "c1", Category: leftBehind, WorkerId: "w1", CategoryStartedOn: "2019-09-01", CategoryRule: 1, AgeBand: 3,
		}),
		of("c1", &intakev1.CategoryStarted{Provenance: on("2020-02-10", "440703"), ChildId: "c1", Category: inDifficulty, StartedOn: "2020-01-20", CategoryRule: 2}),
		of("c1", &intakev1.CategoryEnded{Provenance: on("2020-02-12", "440703"), ChildId: "c1", Category: leftBehind, StartedOn: "2019-09-01", EndedOn: "2020-02-05"}),
		of("c1", &intakev1.ChildMoved{Provenance: on("2020-02-20", "440704"), ChildId: "c1", FromAdmCode: "440703", ToAdmCode: "440704", MovedOn: "2020-02-01"}),
		of("c1", &intakev1.CategoryStarted{Provenance: on("2020-03-02", "440704"), ChildId: "c1", Category: leftBehind, StartedOn: "2020-03-01", CategoryRule: 4}),
		of("c1", &intakev1.WorkerAssigned{Provenance: on("2020-03-02", "440704"), ChildId: "c1", WorkerId: "w7", WorkerRole: 1, StartedOn: "2020-03-01"}),
		of("c1", &intakev1.HouseholdJoined{Provenance: on("2020-03-02", "440704"), ChildId: "c1", HouseholdId: "h1"}),
		of("c1", &intakev1.ChildCorrected{Provenance: on("2020-03-03", "440704"), ChildId: "c1", AgeBand: 4}),
		// c2 is registered by an event of before there were memberships, leaves and is forgotten.
		of("c2", &intakev1.ChildRegistered{Provenance: on("2020-01-15", "440704"), ChildId: "c2", Category: orphan, WorkerId: "w2"}),
		of("c2", &intakev1.ChildDeregistered{Provenance: on("2020-03-01", "440704"), ChildId: "c2", DeregistrationReason: 2, EndedOn: "2020-02-15"}),
		of("c2", &intakev1.ChildForgotten{Provenance: on("2020-04-01", "440704"), ChildId: "c2", KeyId: "k", Basis: "RETENTION_ENDED"}),
		of("c2", &intakev1.ChildKeyDestroyed{Provenance: on("2020-04-01", "440704"), ChildId: "c2", KeyId: "k"}),
		// c3 is c1 once more; c4 was never one.
		of("c3", &intakev1.ChildRegistered{Provenance: on("2020-01-12", "440703"), ChildId: "c3", Category: leftBehind, WorkerId: "w1", CategoryStartedOn: "2019-09-01"}),
		of("c3", &intakev1.ChildMerged{Provenance: on("2020-02-25", "440703"), ChildId: "c3", IntoChildId: "c1"}),
		of("c4", &intakev1.ChildRegistered{Provenance: on("2020-01-12", "440703"), ChildId: "c4", Category: orphan, WorkerId: "w1", CategoryStartedOn: "2020-01-12"}),
		of("c4", &intakev1.ChildDeregistered{Provenance: on("2020-01-14", "440703"), ChildId: "c4", DeregistrationReason: 5, EndedOn: "2020-01-13"}),
	}
}

// registry is an engine that holds the story.
type registry struct{ engine *chengine.Engine }

func TestRegistry(t *testing.T) {
	t.Parallel()
	e, js := engine(t), natstest.Bus(t)
	conn := chtest.Conn(t, e, UserProjector)
	run(t, js, conn, Config{})
	publish(t, js, registryStory()...)
	wait(t, js, conn)
	r := registry{e}
	t.Run("children are as they stand", r.testChildren)
	t.Run("memberships are answered for any day and district", r.testMemberships)
	t.Run("columns are of the types they say", r.testTypes)
	t.Run("memberships are split where a child moved", r.testSplit)
}

func (r registry) testChildren(t *testing.T) {
	const all = "SELECT concat(child_id, ' ', adm_code, ' ', age_band, ' ', toString(age_band_on), ' ', worker_id, ' ', worker_role, ' ', household_id, ' ', " +
		"toString(categories), ' ', toString(registered_on), ' ', ifNull(toString(ended_on), '-'), ' ', end_reason, ' ', into_child_id, ' ', " +
		"toString(forgotten), ' ', toString(key_destroyed)) FROM tongan.children ORDER BY child_id"
	one := "c1 440704 14_15 2020-03-03 w7 CHILD_DIRECTOR h1 ['IN_DIFFICULTY','LEFT_BEHIND'] 2020-01-10 -   false false"
	two := "c2 440704 UNSPECIFIED 2020-01-15 w2   [] 2020-01-15 2020-02-15 MOVED_AWAY  true true"
	three := "c3 440703 UNSPECIFIED 2020-01-12 w1   [] 2020-01-12 2020-02-25 MERGED c1 false false"
	four := "c4 440703 UNSPECIFIED 2020-01-12 w1   [] 2020-01-12 2020-01-13 ENTERED_BY_MISTAKE  false false"
	for user, want := range map[string][]string{
		UserAnalystCity: {one, two, three, four}, UserAnalyst("440703"): {three, four}, UserAnalyst("440704"): {one, two}, UserAnalyst("440705"): nil,
	} {
		if diff := cmp.Diff(want, strs(t, chtest.Conn(t, r.engine, user), all)); diff != "" {
			t.Errorf("%s: %s", user, diff)
		}
	}
}

func (r registry) testMemberships(t *testing.T) {
	const asOf = "SELECT concat(child_id, ' ', category) FROM tongan.category_memberships WHERE started_on <= $1 AND (ended_on IS NULL OR ended_on >= $1) ORDER BY ALL"
	left, difficult, alone := "c1 LEFT_BEHIND", "c1 IN_DIFFICULTY", "c2 SCATTERED_ORPHAN"
	for _, c := range []struct {
		day                     string
		city, before, afterMove []string
	}{
		{"2019-08-31", nil, nil, nil},
		{"2019-09-01", []string{left}, []string{left}, nil},
		{"2020-01-12", []string{left}, []string{left}, nil},
		{"2020-01-15", []string{left, alone}, []string{left}, []string{alone}},
		{"2020-01-20", []string{difficult, left, alone}, []string{difficult, left}, []string{alone}},
		{"2020-01-31", []string{difficult, left, alone}, []string{difficult, left}, []string{alone}},
		{"2020-02-01", []string{difficult, left, alone}, nil, []string{difficult, left, alone}},
		{"2020-02-05", []string{difficult, left, alone}, nil, []string{difficult, left, alone}},
		{"2020-02-06", []string{difficult, alone}, nil, []string{difficult, alone}},
		{"2020-02-15", []string{difficult, alone}, nil, []string{difficult, alone}},
		{"2020-02-16", []string{difficult}, nil, []string{difficult}},
		{"2020-03-01", []string{difficult, left}, nil, []string{difficult, left}},
		{"2100-01-01", []string{difficult, left}, nil, []string{difficult, left}},
	} {
		for user, want := range map[string][]string{UserAnalystCity: c.city, UserAnalyst("440703"): c.before, UserAnalyst("440704"): c.afterMove, UserAnalyst("440705"): nil} {
			got := strs(t, chtest.Conn(t, r.engine, user), asOf, c.day)
			if !slices.Equal(got, want) {
				t.Errorf("on %s %s reads %q, want %q", c.day, user, got, want)
			}
		}
	}
}

func (r registry) testSplit(t *testing.T) {
	got := strs(t, chtest.Conn(t, r.engine, UserAnalystCity), "SELECT concat(category, ' ', rule, ' ', adm_code, ' ', toString(started_on), ' ', "+
		"ifNull(toString(ended_on), '-'), ' ', toString(member_since)) FROM tongan.category_memberships WHERE child_id = 'c1' ORDER BY category, started_on")
	want := []string{
		"IN_DIFFICULTY GF_2016_36 440703 2020-01-20 2020-01-31 2020-01-20", "IN_DIFFICULTY GF_2016_36 440704 2020-02-01 - 2020-01-20",
		"LEFT_BEHIND GF_2016_13 440703 2019-09-01 2020-01-31 2019-09-01", "LEFT_BEHIND GF_2016_13 440704 2020-02-01 2020-02-05 2019-09-01",
		"LEFT_BEHIND ON_SITE 440704 2020-03-01 - 2020-03-01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func (r registry) testTypes(t *testing.T) {
	testTypesOf(t, chtest.Conn(t, r.engine, UserAnalystCity), "children", "child_events", "category_memberships")
}

// testTypesOf checks that views give what their columns say they are.
func testTypesOf(t *testing.T, conn driver.Conn, views ...string) {
	t.Helper()
	for _, view := range views {
		want := strs(t, conn, "SELECT concat(name, ' ', type) FROM system.columns WHERE database = 'tongan' AND table = $1 ORDER BY position", view)
		var got []string
		for _, column := range want {
			name, _, _ := strings.Cut(column, " ")
			got = append(got, strs(t, conn, "SELECT concat('"+name+" ', any(toTypeName("+name+"))) FROM tongan."+view)...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", view, diff)
		}
	}
}
