package decider

import "time"

// shanghai is the time of the whole country; it has known no daylight saving since 1991, so the fixed offset is exact.
var shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// Day returns the day of an instant in Asia/Shanghai as YYYY-MM-DD: the day by which everything is counted.
func Day(t time.Time) string { return t.In(shanghai).Format(time.DateOnly) }
