package projector

import "tongan.dev/pkg/chengine"

// Users of the ClickHouse.
const (
	// UserMigration makes and changes databases, tables and views; the views run in its name.
	UserMigration = "migration"
	// UserProjector writes the base tables and reads them back.
	UserProjector = "projector"
	// UserReporting computes figures from base tables and views.
	UserReporting = "reporting"
	// UserAnalyst reads the views and nothing else.
	UserAnalyst = "analyst"
)

// Users returns the users with what each of them may do; password is asked for the password of every name.
func Users(password func(name string) string) []chengine.User {
	const base, views = " ON " + BaseDatabase + ".*", " ON " + ViewDatabase + ".*"
	return []chengine.User{
		{Name: UserMigration, Password: password(UserMigration), Grants: []string{
			"CREATE DATABASE, CREATE TABLE, ALTER TABLE, DROP TABLE, SHOW, SELECT, INSERT" + base,
			"CREATE DATABASE, CREATE VIEW, DROP VIEW, SHOW, SELECT" + views,
			"CREATE TABLE, DROP TABLE, INSERT" + views, // replacing a view makes another and exchanges the two
			"TABLE ENGINE ON Atomic", "TABLE ENGINE ON ReplacingMergeTree", "TABLE ENGINE ON MergeTree",
		}},
		{Name: UserProjector, Password: password(UserProjector), Grants: []string{"SELECT, INSERT" + base}},
		{Name: UserReporting, Password: password(UserReporting), Grants: []string{"SELECT" + base, "SELECT" + views}},
		{Name: UserAnalyst, Password: password(UserAnalyst), Readonly: true, Grants: []string{"SELECT" + views}},
	}
}
