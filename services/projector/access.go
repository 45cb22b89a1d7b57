package projector

import (
	"time"

	"tongan.dev/pkg/chengine"
)

// Users of the ClickHouse.
const (
	// UserMigration makes and changes databases, tables and views; the views run in its name.
	UserMigration = "migration"
	// UserProjector writes the base tables and reads them back.
	UserProjector = "projector"
	// UserReporting computes figures from base tables and views.
	UserReporting = "reporting"
	// UserAnalystCity reads the views, all districts, and nothing else.
	UserAnalystCity = "analyst_city"
)

// UserAnalyst returns the name of the user that reads of the views what concerns one district; admCode is its code in GB/T 2260.
func UserAnalyst(admCode string) string { return "analyst_" + admCode }

// Views a district's analyst may read. A view that is in neither list is refused to it until somebody has decided what it may see there.
var (
	// districtViews show a district's analyst the rows that have its code in districtColumn.
	districtViews = []string{
		"tallies", "visits", "reminders", "deliveries", "supports", "cases", "check_rounds", "health_checks", "child_events",
		"children", "category_memberships", "journal", "case_events", "open_cases", "contact_events", "contacts", "deadlines", "overdue",
		"case_owners", "caseload", "shifts", "cover_gaps", "hotline_levels", "retention_proposals",
	}
	// commonViews show everybody all there is: no row of them is about a district.
	commonViews = []string{"indicators"}
)

// districtColumn is the column of the districtViews that says which district a row is about.
const districtColumn = "adm_code"

// analystQuotas bound what each analyst uses: far above what people and their tables of figures need, and far below what keeps the
// others waiting. The reader's profile bounds the single query. Errors are few so that they cannot be used to try things out.
var analystQuotas = []chengine.Quota{
	{Every: time.Minute, Queries: 600, Errors: 60},
	{Every: time.Hour, ReadRows: 20_000_000_000, ExecutionTime: time.Hour},
}

// Users returns the users with what each of them may do; password is asked for the password of every name. The first district stands
// for the whole city, whose analyst is UserAnalystCity; each other one has an analyst of its own, UserAnalyst.
func Users(districts []string, password func(name string) string) []chengine.User {
	const base, views = " ON " + BaseDatabase + ".*", " ON " + ViewDatabase + ".*"
	users := []chengine.User{
		{Name: UserMigration, Grants: []string{
			"CREATE DATABASE, CREATE TABLE, ALTER TABLE, DROP TABLE, SHOW, SELECT, INSERT" + base,
			"CREATE DATABASE, CREATE VIEW, DROP VIEW, SHOW, SELECT" + views,
			"CREATE TABLE, DROP TABLE, INSERT" + views, // replacing a view makes another and exchanges the two
			"TABLE ENGINE ON Atomic", "TABLE ENGINE ON ReplacingMergeTree", "TABLE ENGINE ON MergeTree",
		}},
		{Name: UserProjector, Grants: []string{"SELECT, INSERT" + base}},
		{Name: UserReporting, Grants: []string{"SELECT" + base, "SELECT" + views}},
		{Name: UserAnalystCity, Readonly: true, Quotas: analystQuotas, Grants: []string{"SELECT" + views}},
	}
	for i, d := range districts {
		if i > 0 {
			users = append(users, districtAnalyst(d))
		}
	}
	for i := range users {
		users[i].Password = password(users[i].Name)
	}
	return users
}

// districtAnalyst is the user that reads of the views what concerns the district.
func districtAnalyst(admCode string) chengine.User {
	u := chengine.User{Name: UserAnalyst(admCode), Readonly: true, Quotas: analystQuotas}
	for _, view := range districtViews {
		name := ViewDatabase + "." + view
		u.Grants = append(u.Grants, "SELECT ON "+name)
		u.Filters = append(u.Filters, chengine.Filter{Table: name, Column: districtColumn, Value: admCode})
	}
	for _, view := range commonViews {
		u.Grants = append(u.Grants, "SELECT ON "+ViewDatabase+"."+view)
	}
	return u
}
