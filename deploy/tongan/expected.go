package main

import (
	"fmt"
	"strings"

	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
	"tongan.dev/services/reporting/bulletin"
)

// source is what the notice of the civil affairs bureau of Jiangmen of February 2020 says, condensed: as of 4 February the districts
// made 2633 phone visits (电话巡访2633人次) and sent 1684 SMS reminders (短信提醒1684条次), handed out 626 protective items (626件), gave 3
// service supports (3宗) and followed up 64 special cases (64个).
var source = map[string]int64{
	"phone_visits":     2633,
	"sms_reminders":    1684,
	"protective_items": 626,
	"service_supports": 3,
	"special_cases":    64,
}

// The days from and up to which the source counts.
const (
	sourceBaseline = "2020-01-23"
	sourceAsOf     = "2020-02-04"
)

// compare says which figures differ from what is expected; nil means none.
func compare(f *reportingv1.Figures, expected map[string]int64) error {
	got := bulletin.Whole(f)
	var wrong []string
	for _, name := range bulletin.Published {
		if value, there := got[name]; !there || value != expected[name] {
			wrong = append(wrong, fmt.Sprintf("%s is %d, the source says %d", name, value, expected[name]))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("figures differ from the source: %s", strings.Join(wrong, "; "))
	}
	return nil
}
