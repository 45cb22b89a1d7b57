package identity_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/identity"
)

// Numbers of a region that does not exist.
func TestANumberIsSoundOrTheRuleSaysWhyNot(t *testing.T) {
	t.Parallel()
	const (
		length = "must have 18 characters"
		digits = "must have 17 digits and a check character"
		check  = "has a wrong check character (GB 11643-1999)"
		date   = "holds no date of birth"
	)
	for _, tt := range []struct{ name, number, rule string }{
		{"a sound number", "999999201001010016", ""},
		{"a sound number that ends with X", "99999920100101018X", ""},
		{"the X in lower case", "99999920100101018x", ""},
		{"29 February of a leap year", "999999201202290181", ""},
		{"a wrong check digit", "999999201001010017", check},
		{"a digit where X belongs", "999999201001010180", check},
		{"X where a digit belongs", "99999920100101001X", check},
		{"two digits changed about", "999999201001100016", check},
		{"another letter at the end", "99999920100101018Y", check},
		{"the old number of 15 digits", "999999100101018", length},
		{"one character short", "99999920100101018", length},
		{"one character over", "99999920100101018XX", length},
		{"none", "", length},
		{"a letter among the digits", "99999920100101O18X", digits},
		{"X among the digits", "9999992010010101XX", digits},
		{"a space before it", " 9999920100101018X", digits},
		{"full-width digits", "９９９９９９", digits}, // 18 bytes
		{"month 13", "999999201013010187", date},
		{"day 31 of a short month", "999999201004310188", date},
		{"29 February of another year", "999999201102290184", date},
		{"day 0", "999999201001000184", date},
	} {
		if got := identity.Rule(tt.number); got != tt.rule {
			t.Errorf("%s: the rule is %q, want %q", tt.name, got, tt.rule)
		}
	}
	if got := identity.Birth("99999920100101018X"); got != "2010-01-01" {
		t.Errorf("the date of birth is %s", got)
	}
}

// checked completes 17 digits with the one check character that makes them sound.
func checked(t *rapid.T, digits string) string {
	var sound []string
	for _, c := range "0123456789X" {
		if identity.Rule(digits+string(c)) == "" {
			sound = append(sound, digits+string(c))
		}
	}
	if len(sound) != 1 {
		t.Fatalf("%d check characters are right", len(sound))
	}
	return sound[0]
}

// Of every number there is one check character, and one wrong character in a sound number is always found, as are two neighbours changed about.
func TestOneWrongCharacterIsAlwaysFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := checked(t, rapid.StringMatching(`[0-9]{6}(19|20)[0-9]{2}(0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])[0-9]{3}`).Draw(t, "digits"))
		at := rapid.IntRange(0, 17).Draw(t, "at")
		other := rapid.SampledFrom(strings.Split("0123456789X", "")).Draw(t, "other")
		if wrong := number[:at] + other + number[at+1:]; wrong != number && identity.Rule(wrong) == "" {
			t.Errorf("another character at %d is not found", at)
		}
		at = min(at, 16)
		if wrong := number[:at] + string(number[at+1]) + string(number[at]) + number[at+2:]; wrong != number && identity.Rule(wrong) == "" {
			t.Errorf("characters changed about at %d are not found", at)
		}
	})
}

// Whatever is no number is told so, without being repeated.
func TestARuleRepeatsNoNumber(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[0-9X]{17,19}`).Draw(t, "text")
		if rule := identity.Rule(text); strings.Contains(rule, text) {
			t.Errorf("the rule %q repeats it", rule)
		}
	})
}

func TestAYearIsAddedOnTheBirthday(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		birth, on string
		years     int
		ok        bool
	}{
		{"2010-05-06", "2010-05-06", 0, true},
		{"2010-05-06", "2011-05-05", 0, true},
		{"2010-05-06", "2011-05-06", 1, true},
		{"2010-05-06", "2020-01-01", 9, true},
		{"2010-12-31", "2011-01-01", 0, true},
		{"2012-02-29", "2013-02-28", 0, true},
		{"2012-02-29", "2013-03-01", 1, true},
		{"2012-02-29", "2016-02-28", 3, true},
		{"2012-02-29", "2016-02-29", 4, true},
		{"2012-03-01", "2016-02-29", 3, true},
		{"2010-05-06", "2010-05-05", 0, false},
		{"2010-02-30", "2020-01-01", 0, false},
		{"2010-05-06", "2020-13-01", 0, false},
		{"", "2020-01-01", 0, false},
		{"2010-05-06", "", 0, false},
	} {
		if years, ok := identity.Age(tt.birth, tt.on); years != tt.years || ok != tt.ok {
			t.Errorf("born on %s one is %d (%v) on %s", tt.birth, years, ok, tt.on)
		}
	}
}

// A band begins on a birthday and ends the day before one.
func TestABandBeginsOnABirthday(t *testing.T) {
	t.Parallel()
	const birth = "2000-05-06"
	for on, want := range map[string]intakev1.AgeBand{
		"2000-05-05": intakev1.AgeBand_AGE_BAND_UNSPECIFIED,
		"2000-05-06": intakev1.AgeBand_AGE_BAND_0_2,
		"2003-05-05": intakev1.AgeBand_AGE_BAND_0_2,
		"2003-05-06": intakev1.AgeBand_AGE_BAND_3_5,
		"2006-05-05": intakev1.AgeBand_AGE_BAND_3_5,
		"2006-05-06": intakev1.AgeBand_AGE_BAND_6_13,
		"2014-05-05": intakev1.AgeBand_AGE_BAND_6_13,
		"2014-05-06": intakev1.AgeBand_AGE_BAND_14_15,
		"2016-05-05": intakev1.AgeBand_AGE_BAND_14_15,
		"2016-05-06": intakev1.AgeBand_AGE_BAND_16_17,
		"2018-05-05": intakev1.AgeBand_AGE_BAND_16_17,
		"2018-05-06": intakev1.AgeBand_AGE_BAND_OF_AGE,
		"no day":     intakev1.AgeBand_AGE_BAND_UNSPECIFIED,
	} {
		if got := identity.Band(birth, on); got != want {
			t.Errorf("on %s the band is %s, want %s", on, got, want)
		}
	}
}
