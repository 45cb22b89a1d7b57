package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// column is a column of a file of children.
type column struct {
	// names are the headers it is known by; the first two are the ones the help names.
	names    []string
	required bool
	// field is the path in the command, as the service names it in a refusal.
	field string
	// set puts a cell that is not empty into the command, and returns the rule that the cell breaks, empty if none.
	set func(c *intakev1.RegisterChild, cell string) (rule string)
}

// childColumns is the one table of the columns of a file of children.
var childColumns = []column{
	{[]string{"儿童编号", "child_id"}, true, "child_id", text(func(c *intakev1.RegisterChild) *string { return &c.ChildId })},
	{[]string{"姓名", "name"}, true, "details.name", text(func(c *intakev1.RegisterChild) *string { return &c.Details.Name })},
	{[]string{"儿童类别", "category"}, true, "category", code(categories, "POPULATION_CATEGORY_", eventv1.PopulationCategory_value, func(c *intakev1.RegisterChild, v eventv1.PopulationCategory) { c.Category = v })},
	{[]string{"行政区划代码", "adm_code", "district"}, true, "provenance.adm_code", text(func(c *intakev1.RegisterChild) *string { return &c.Provenance.AdmCode })},
	{[]string{"责任人", "worker_id", "worker"}, true, "worker_id", text(func(c *intakev1.RegisterChild) *string { return &c.WorkerId })},
	{[]string{"身份证号", "identity_number", "身份证号码"}, false, "details.identity_number", text(func(c *intakev1.RegisterChild) *string { return &c.Details.IdentityNumber })},
	{[]string{"出生日期", "birth_date"}, false, "details.birth_date", day(func(c *intakev1.RegisterChild) *string { return &c.Details.BirthDate })},
	{[]string{"联系电话", "phone"}, false, "details.phone", text(func(c *intakev1.RegisterChild) *string { return &c.Details.Phone })},
	{[]string{"住址", "address"}, false, "details.address", text(func(c *intakev1.RegisterChild) *string { return &c.Details.Address })},
	{[]string{"监护人姓名", "guardian_name"}, false, "details.guardian_name", text(func(c *intakev1.RegisterChild) *string { return &c.Details.GuardianName })},
	{[]string{"就读学校", "school"}, false, "details.school", text(func(c *intakev1.RegisterChild) *string { return &c.Details.School })},
	{[]string{"认定日期", "category_started_on"}, false, "category_started_on", day(func(c *intakev1.RegisterChild) *string { return &c.CategoryStartedOn })},
	{[]string{"认定依据", "category_rule", "rule"}, false, "category_rule", code(categoryRules, "CATEGORY_RULE_", intakev1.CategoryRule_value, func(c *intakev1.RegisterChild, v intakev1.CategoryRule) { c.CategoryRule = v })},
}

// refusedColumns stand before the cells in a file of refused rows; in a file that is read they are passed over.
var refusedColumns = []string{"refused_line", "refused_column", "refused_rule"}

// categories are the Chinese names of the categories, as the contract has them.
var categories = map[string]eventv1.PopulationCategory{
	"社会散居孤儿":   eventv1.PopulationCategory_POPULATION_CATEGORY_SCATTERED_ORPHAN,
	"机构养育儿童":   eventv1.PopulationCategory_POPULATION_CATEGORY_INSTITUTION_RAISED,
	"机构代养儿童":   eventv1.PopulationCategory_POPULATION_CATEGORY_INSTITUTION_FOSTERED,
	"事实无人抚养儿童": eventv1.PopulationCategory_POPULATION_CATEGORY_DE_FACTO_UNATTENDED,
	"农村留守儿童":   eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND,
	"困境儿童":     eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY,
	"民间养育孤儿":   eventv1.PopulationCategory_POPULATION_CATEGORY_PRIVATELY_RAISED_ORPHAN,
}

// categoryRules are the Chinese names of what a category rests on, as the contract has them.
var categoryRules = map[string]intakev1.CategoryRule{
	"国发〔2016〕13号":   intakev1.CategoryRule_CATEGORY_RULE_GF_2016_13,
	"国发〔2016〕36号":   intakev1.CategoryRule_CATEGORY_RULE_GF_2016_36,
	"粤民规字〔2019〕10号": intakev1.CategoryRule_CATEGORY_RULE_YMGZ_2019_10,
	"入户核实":          intakev1.CategoryRule_CATEGORY_RULE_ON_SITE,
}

// brackets are what stands in files for the brackets around the year of a document.
var brackets = strings.NewReplacer("[", "〔", "]", "〕", "(", "〔", ")", "〕", "（", "〔", "）", "〕", "【", "〔", "】", "〕", " ", "")

func text(field func(*intakev1.RegisterChild) *string) func(*intakev1.RegisterChild, string) string {
	return func(c *intakev1.RegisterChild, cell string) string {
		*field(c) = cell
		return ""
	}
}

// dayForms are the ways to write a day that files of spreadsheets have.
var dayForms = []string{time.DateOnly, "2006/1/2", "2006-1-2", "2006.1.2", "2006年1月2日", "20060102"}

func day(field func(*intakev1.RegisterChild) *string) func(*intakev1.RegisterChild, string) string {
	return func(c *intakev1.RegisterChild, cell string) string {
		for _, form := range dayForms {
			if d, err := time.Parse(form, cell); err == nil {
				*field(c) = d.Format(time.DateOnly)
				return ""
			}
		}
		return "must be a date, YYYY-MM-DD"
	}
}

func code[E ~int32](names map[string]E, prefix string, values map[string]int32, set func(*intakev1.RegisterChild, E)) func(*intakev1.RegisterChild, string) string {
	known := make([]string, 0, len(names))
	for name := range names {
		known = append(known, name)
	}
	slices.Sort(known)
	rule := "must be one of " + strings.Join(known, ", ") + ", or an English name of the contract"
	return func(c *intakev1.RegisterChild, cell string) string {
		v, ok := names[brackets.Replace(cell)]
		if !ok {
			var n int32
			n, ok = values[prefix+strings.TrimPrefix(strings.ToUpper(cell), prefix)]
			v = E(n)
		}
		if !ok || v == 0 {
			return rule
		}
		set(c, v)
		return ""
	}
}

// header says which column stands where in a file.
type header struct {
	cells []string
	// at are the columns by position; nil where a column is passed over.
	at []*column
}

// known counts the headers that are known.
func known(cells []string) (n int) {
	for _, cell := range cells {
		if columnOf(cell) != nil {
			n++
		}
	}
	return n
}

func columnOf(cell string) *column {
	cell = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(cell)), " ", "_")
	for i, c := range childColumns {
		if slices.Contains(c.names, cell) {
			return &childColumns[i]
		}
	}
	return nil
}

// newHeader finds the columns. Headers are named in errors only where the line is a header: the first line of a file that has none is a
// child.
func newHeader(cells []string, ignoreUnknown bool) (*header, error) {
	if known(cells) < 2 {
		return nil, fmt.Errorf("line 1: names no two columns known: it must be the header, for example %s", columnNames(func(c column) bool { return c.required }))
	}
	h := &header{cells: cells, at: make([]*column, len(cells))}
	var unknown, twice []string
	for i, cell := range cells {
		c := columnOf(cell)
		switch {
		case c != nil && slices.Contains(h.at, c):
			twice = append(twice, cell)
		case c != nil:
			h.at[i] = c
		case cell != "" && !h.isRefused(i):
			unknown = append(unknown, cell)
		}
	}
	missing := columnNames(func(c column) bool {
		return c.required && !slices.ContainsFunc(h.at, func(o *column) bool { return o != nil && o.field == c.field })
	})
	switch {
	case missing != "":
		return nil, fmt.Errorf("line 1: these columns are missing: %s", missing)
	case len(twice) > 0:
		return nil, fmt.Errorf("line 1: these columns are there twice: %s", strings.Join(twice, ", "))
	case len(unknown) > 0 && !ignoreUnknown:
		return nil, fmt.Errorf("line 1: these columns are not known: %s; pass them over with --ignore-unknown, known are %s",
			strings.Join(unknown, ", "), columnNames(func(column) bool { return true }))
	}
	return h, nil
}

// childColumnNames are the columns for the help.
func childColumnNames() string {
	return "required " + columnNames(func(c column) bool { return c.required }) + "; also " + columnNames(func(c column) bool { return !c.required })
}

func columnNames(which func(column) bool) string {
	var names []string
	for _, c := range childColumns {
		if which(c) {
			names = append(names, c.names[0]+"/"+c.names[1])
		}
	}
	return strings.Join(names, ", ")
}

// fault is what is wrong with a row: the column as the file names it, empty for the whole row, and the rule. It repeats no value.
type fault struct{ column, rule string }

// command makes the command of a row. Its id is the child's: the same row again is the same command.
func (h *header) command(cells []string, p *eventv1.Provenance) (*intakev1.RegisterChild, []fault) {
	if len(cells) != len(h.cells) {
		return nil, []fault{{"", fmt.Sprintf("has %d cells, the header has %d", len(cells), len(h.cells))}}
	}
	var faults []fault
	c := &intakev1.RegisterChild{Provenance: p, Details: &intakev1.ChildDetails{}}
	for i, column := range h.at {
		if column == nil {
			continue
		}
		cell, rule := strings.TrimSpace(cells[i]), ""
		switch {
		case cell != "":
			rule = column.set(c, cell)
		case column.required:
			rule = "must not be empty"
		}
		if rule != "" {
			faults = append(faults, fault{h.cells[i], rule})
		}
	}
	return c, faults
}

// faults turns the service's answer into faults of the row: it names fields of the command.
func (h *header) faults(c *intakev1.RegisterChild, answer string) []fault {
	var out []fault
	for part := range strings.SplitSeq(answer, "; ") {
		field, rule, ok := strings.Cut(part, ": ")
		if !ok {
			field, rule = "", part
		}
		switch field {
		case "provenance.command_id":
			field, rule = "child_id", "is there already with other content, or was imported with another --on"
		case "provenance.occurred_at":
			field, rule = "", "--on "+rule
		case "caller":
			field, rule = "provenance.adm_code", "the caller "+rule
		case "details": // what they say together: the age
			field = "details.identity_number"
			if c.GetDetails().GetBirthDate() != "" {
				field = "details.birth_date"
			}
		}
		out = append(out, fault{h.named(field), rule})
	}
	return out
}

// named is how the file names the column of a field; the field itself where the file has no such column.
func (h *header) named(field string) string {
	for i, c := range h.at {
		if c != nil && c.field == field {
			return h.cells[i]
		}
	}
	return field
}

// isRefused reports whether a column says why a row was refused before.
func (h *header) isRefused(i int) bool { return slices.Contains(refusedColumns, h.cells[i]) }
