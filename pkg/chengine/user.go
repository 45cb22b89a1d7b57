package chengine

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// User is an account of the engine. It can do what Grants say and nothing else.
type User struct {
	// Name is lower case letters, digits and underscores.
	Name string
	// Password must not be empty; the engine is told its hash only.
	Password string
	// Readonly gives the reader's profile: no writes whatever the grants say,
	// and limits of time, memory and result size that can only be lowered.
	Readonly bool
	// Grants are SQL without GRANT and TO, for example "SELECT ON tongan.*".
	// Creating a table needs its engine too: "TABLE ENGINE ON ReplacingMergeTree".
	Grants []string
	// Filters take rows out of what a Readonly user may read; they grant nothing.
	Filters []Filter
	// Quotas bound what the user uses, one for each span of time.
	Quotas []Quota
}

// Filter lets a user see those rows of a table or a view alone that have the
// value in the column. Of a view it filters what the view gives, in whosever
// name the view runs. It is not SQL, so that nothing else can stand in it.
// Two things remain visible: how many rows are read in all, and, by an error of
// a condition, whether a LowCardinality column has a certain value anywhere.
type Filter struct {
	Table  string // with its database: tongan.visits
	Column string // of type String or LowCardinality(String)
	Value  string // letters, digits, underscores, dots and hyphens
}

// Quota bounds what a user uses within a span of time; what is above is refused
// until the span is over. Spans are counted from the clock, not from the first
// query, and anew after a restart. A bound of 0 is none.
type Quota struct {
	Every         time.Duration // whole seconds
	Queries       int64         // statements that read a table
	Errors        int64         // those of them that failed
	ReadRows      int64         // rows read from base tables, whoever may see them
	ExecutionTime time.Duration // sum of the queries' durations, in whole seconds
}

var (
	identifier  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	grant       = regexp.MustCompile(`^[^;<>\n]+ ON [^;<>\n]+$`) // without ON it would be a role, and ignored
	filterTable = regexp.MustCompile(`^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$`)
	filterValue = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
)

// validateUsers says what is wrong with users.
func validateUsers(users []User) error {
	seen := map[string]bool{"default": true, serviceUser: true}
	for _, u := range users {
		switch {
		case !identifier.MatchString(u.Name):
			return fmt.Errorf("engine user %q: the name is not lower case letters, digits and underscores", u.Name)
		case seen[u.Name]:
			return fmt.Errorf("engine user %s: the name is taken", u.Name)
		}
		seen[u.Name] = true
		if err := u.validate(); err != nil {
			return fmt.Errorf("engine user %s: %w", u.Name, err)
		}
	}
	return nil
}

// validate says what is wrong with what u may do.
func (u User) validate() error {
	for _, g := range u.Grants {
		if !grant.MatchString(g) {
			return fmt.Errorf("grant %q is not of the form SELECT ON tongan.*", g)
		}
	}
	if len(u.Filters) > 0 && !u.Readonly {
		return errors.New("filters: only a reader has some, others could see past them by settings")
	}
	filtered := make(map[string]bool)
	for _, f := range u.Filters {
		switch {
		case !filterTable.MatchString(f.Table):
			return fmt.Errorf("filter: table %q is not of the form tongan.visits", f.Table)
		case !identifier.MatchString(f.Column):
			return fmt.Errorf("filter of %s: column %q is not lower case letters, digits and underscores", f.Table, f.Column)
		case !filterValue.MatchString(f.Value):
			return fmt.Errorf("filter of %s: value %q is not letters, digits, underscores, dots and hyphens", f.Table, f.Value)
		case filtered[f.Table]:
			return fmt.Errorf("filter of %s: given twice", f.Table)
		}
		filtered[f.Table] = true
	}
	spans := make(map[time.Duration]bool)
	for _, q := range u.Quotas {
		switch {
		case q.Every <= 0 || q.Every%time.Second != 0:
			return fmt.Errorf("quota: span of %s is not whole seconds", q.Every)
		case spans[q.Every]:
			return fmt.Errorf("quota: span of %s given twice", q.Every)
		case min(q.Queries, q.Errors, q.ReadRows, int64(q.ExecutionTime)) < 0 || q.ExecutionTime%time.Second != 0:
			return fmt.Errorf("quota for %s: a bound is below 0, or no whole seconds", q.Every)
		case q == Quota{Every: q.Every}:
			return fmt.Errorf("quota for %s: no bound given", q.Every)
		}
		spans[q.Every] = true
	}
	return nil
}
