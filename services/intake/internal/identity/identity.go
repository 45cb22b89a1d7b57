// Package identity knows the resident identity number (公民身份号码, GB 11643-1999) and ages.
package identity

import (
	"strings"
	"time"

	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
)

// weights and checks of GB 11643-1999, 4.2 (ISO 7064, MOD 11-2).
var weights = [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}

const checks = "10X98765432"

// Rule says what is wrong with an identity number, without repeating it; empty if nothing is.
func Rule(number string) string {
	if len(number) != 18 {
		return "must have 18 characters"
	}
	sum := 0
	for i, w := range weights {
		if number[i] < '0' || number[i] > '9' {
			return "must have 17 digits and a check character"
		}
		sum += w * int(number[i]-'0')
	}
	if strings.ToUpper(number[17:]) != checks[sum%11:sum%11+1] {
		return "has a wrong check character (GB 11643-1999)"
	}
	if _, err := time.Parse("20060102", number[6:14]); err != nil {
		return "holds no date of birth"
	}
	return ""
}

// Birth returns the date of birth, YYYY-MM-DD, that a sound identity number holds.
func Birth(number string) string {
	return number[6:10] + "-" + number[10:12] + "-" + number[12:14]
}

// Age returns the full years on a day, both YYYY-MM-DD. Who is born on 29 February has birthday on 1 March in other years.
func Age(birth, on string) (years int, ok bool) {
	b, err1 := time.Parse(time.DateOnly, birth)
	o, err2 := time.Parse(time.DateOnly, on)
	if err1 != nil || err2 != nil || o.Before(b) {
		return 0, false
	}
	years = o.Year() - b.Year()
	if o.Format("0102") < b.Format("0102") {
		years--
	}
	return years, true
}

// Band returns the age band on a day of who was born then; unspecified if either is no day.
func Band(birth, on string) intakev1.AgeBand {
	years, ok := Age(birth, on)
	switch {
	case !ok:
		return intakev1.AgeBand_AGE_BAND_UNSPECIFIED
	case years < 3:
		return intakev1.AgeBand_AGE_BAND_0_2
	case years < 6:
		return intakev1.AgeBand_AGE_BAND_3_5
	case years < 14:
		return intakev1.AgeBand_AGE_BAND_6_13
	case years < 16:
		return intakev1.AgeBand_AGE_BAND_14_15
	case years < 18:
		return intakev1.AgeBand_AGE_BAND_16_17
	default:
		return intakev1.AgeBand_AGE_BAND_OF_AGE
	}
}
