package scenario

// This file holds how much of what falls on which day and district. The source gives one sum per kind of work for the whole city
// and the whole time; how it spreads over days and districts is made up.

// lastDay is 4 February 2020, days counted from 23 January as 0.
const lastDay = 12

// The dated facts of the source, as days counted from 23 January.
const (
	closureDay = 3 // 26 January
	coldDay    = 6 // 29 January
	aloneDay   = 9 // 1 February
)

// pengjiang is where districts holds the district of the case of 1 February.
const pengjiang = 0

// byDay is an amount for each day from 23 January to 4 February.
type byDay [lastDay + 1]int

// district is one of the seven districts of Jiangmen (GB/T 2260) with its made-up share of the work.
type district struct {
	adm     string
	weight  int // in hundredths
	workers int
}

var districts = [...]district{
	{adm: "440703", weight: 22, workers: 8},
	{adm: "440704", weight: 8, workers: 3},
	{adm: "440705", weight: 20, workers: 7},
	{adm: "440781", weight: 18, workers: 7},
	{adm: "440783", weight: 14, workers: 5},
	{adm: "440784", weight: 9, workers: 4},
	{adm: "440785", weight: 9, workers: 4},
}

// What counts in the five figures; the days stand in the order
// 23 24 25 26 27 28 29 30 31 January, 1 2 3 4 February.
var (
	// phoneContacts are children spoken about in calls that reached somebody and are not voided.
	phoneContacts = byDay{62, 48, 35, 118, 172, 205, 238, 251, 262, 287, 301, 322, 332}
	// acceptedMessages are text messages that the carrier accepts.
	acceptedMessages = byDay{0, 120, 0, 160, 180, 120, 240, 120, 130, 150, 150, 160, 154}
	// receivedUnits are protective items whose receipt is confirmed.
	receivedUnits = byDay{0, 0, 0, 20, 36, 48, 60, 66, 72, 80, 84, 92, 68}
	// specialCases are cases that are special and have a follow-up from this day on; one on 1 February is that of the source.
	specialCases = byDay{2, 1, 1, 4, 5, 5, 6, 6, 6, 8, 7, 7, 6}
)

// What must not count, or counts no differently.
var (
	// voidedVisits are visits beyond those above that are taken back later.
	voidedVisits = byDay{1, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 1}
	// lateVisits are calls among those above that are entered a day late or later.
	lateVisits = byDay{3, 2, 1, 3, 3, 3, 4, 4, 4, 4, 5, 4, 0}
	// ordinaryCases are cases that are followed up and never flagged.
	ordinaryCases = byDay{1, 1, 0, 1, 2, 1, 2, 1, 2, 2, 2, 2, 1}
	// silentCases are special cases that nobody follows up.
	silentCases = byDay{0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1}
	// contacts are hotline contacts beside those that lead to a case.
	contacts = byDay{6, 5, 5, 8, 9, 9, 10, 11, 12, 14, 13, 14, 14}
	// undelivered are deliveries that are dispatched and not confirmed.
	undelivered = byDay{0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 2, 3}
	// unmet are deliveries that are only requested.
	unmet = byDay{0, 0, 0, 1, 1, 1, 1, 2, 1, 2, 2, 2, 3}
)

// apportion spreads an amount per day over the districts by their weights: unit by unit, each to the district that is furthest
// behind its share of all units so far, the earlier in the list where two are equal. So each day and each stretch of days is near
// the weights, and the sums per day are kept exactly.
func (q byDay) apportion() (shares [lastDay + 1][len(districts)]int) {
	var given [len(districts)]int
	total := 0
	for d, amount := range q {
		for range amount {
			total++
			next := furthestBehind(given, total)
			given[next]++
			shares[d][next]++
		}
	}
	return shares
}

// furthestBehind returns the district whose share of total exceeds what it was given by most.
func furthestBehind(given [len(districts)]int, total int) int {
	best := 0
	for i := range districts {
		if lag(given, total, i) > lag(given, total, best) {
			best = i
		}
	}
	return best
}

// lag is by how many hundredths of a unit district i is behind its share of total.
func lag(given [len(districts)]int, total, i int) int {
	return districts[i].weight*total - 100*given[i]
}
