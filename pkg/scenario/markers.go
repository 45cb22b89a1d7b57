package scenario

import (
	"fmt"
	"regexp"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// markers match what is distinctive in a personal detail: the token in a name, address or narrative, a phone number under the
// country code 999, which nobody has, and an identity number of the area 999999, which does not exist.
var markers = regexp.MustCompile(`zz[0-9a-f]{14}|\+999[0-9]{11}|999999[0-9]{11}[0-9X]`)

// Markers returns what is distinctive in the personal details of the scenario with this seed, in order and without repetition:
// each name, phone number, identity number, address, school, narrative, note and text message holds at least one of them, and
// nothing else of the scenario holds any. They are plain ASCII of 15 to 18 bytes, so that a search byte by byte finds them in UTF-8
// text, in JSON and in protobuf alike; tokens begin with zz, phone numbers with +999, identity numbers with 999999.
func Markers(seed uint64) []string {
	var found []string
	for _, s := range Steps(seed) {
		personal(s.Command.ProtoReflect(), false, func(text string) {
			found = append(found, markers.FindAllString(text, -1)...)
		})
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// personal calls f with each text in a field that the contract marks as personal, or within one.
func personal(m protoreflect.Message, within bool, f func(string)) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := fd.Options().(*descriptorpb.FieldOptions)
		inside := within || options.GetDebugRedact()
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				personal(v.List().Get(i).Message(), inside, f)
			}
		case fd.Message() != nil:
			personal(v.Message(), inside, f)
		case inside && fd.Kind() == protoreflect.StringKind && !fd.IsList():
			f(v.String())
		}
		return true
	})
}

// marker returns a token that occurs nowhere else.
func (g *gen) marker() string { return fmt.Sprintf("标识-zz%014x", g.rng.Uint64()>>8) }

// phone returns a number that nobody else has: numbered, then random.
func (g *gen) phone() string {
	g.count["phone"]++
	return fmt.Sprintf("+999%04d%07d", g.count["phone"], g.rng.IntN(10_000_000))
}

// identityNumber returns one that nobody else has: of somebody born from 2006 to 2017, numbered, with a sound check character.
func (g *gen) identityNumber() string {
	g.count["identity"]++
	r := g.rng.IntN(100_000_000)
	number := fmt.Sprintf("999999%04d%02d%02d%03d", 2006+r%12, 1+r/12%12, 1+r/144%28, g.count["identity"]%1000)
	sum := 0
	for i, weight := range []int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2} { // GB 11643-1999
		sum += weight * int(number[i]-'0')
	}
	return number + "10X98765432"[sum%11:sum%11+1]
}
