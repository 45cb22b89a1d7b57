package decider

import "time"

// shanghai is the time of the whole country; it has known no daylight saving since 1991, so the fixed offset is exact.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// Midnight returns the end of the day of an instant in Asia/Shanghai, which is the first instant of the next.
func Midnight(t time.Time) time.Time {
	y, m, d := t.In(shanghai).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, shanghai).UTC()
}

// AddMonths returns the instant n months later by the calendar of Asia/Shanghai.
func AddMonths(t time.Time, n int) time.Time { return t.In(shanghai).AddDate(0, n, 0).UTC() }

// Day returns the day of an instant in Asia/Shanghai as YYYY-MM-DD: the day by which everything is counted.
func Day(t time.Time) string { return t.In(shanghai).Format(time.DateOnly) }
