package serve

import (
	"strconv"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// place is where in a message something stands; nil is the message itself. Its text is made only where something is wrong there.
type place struct {
	in    *place
	field protoreflect.FieldDescriptor
	index int // in a list; -1 where the field is none
}

// String names the place, for example children[2].note.
func (p *place) String() string {
	if p == nil {
		return ""
	}
	s := string(p.field.Name())
	if p.in != nil {
		s = p.in.String() + "." + s
	}
	if p.index >= 0 {
		s += "[" + strconv.Itoa(p.index) + "]"
	}
	return s
}

// fields are those that a check is about, wherever they stand in a message. Maps, and lists of anything but messages, are passed over. Where to
// look is found out once for each type of message, so that a check costs what it is about and not the size of a message.
type fields struct {
	about func(protoreflect.FieldDescriptor) bool
	steps sync.Map // by protoreflect.MessageDescriptor: []step
}

// step is a field that a check is about, or in which such a field may stand.
type step struct {
	field protoreflect.FieldDescriptor
	about bool
}

// walk calls see for each of the fields that is set in a message, and in a list for each element, with its place and the message it stands in,
// until one returns an error. It does not look into what it showed. A place holds until the call returns.
func (f *fields) walk(at *place, m protoreflect.Message, see func(at *place, in protoreflect.Message, v protoreflect.Value) error) error {
	for _, s := range f.stepsOf(m.Descriptor()) {
		if !m.Has(s.field) {
			continue
		}
		visit := func(here *place, v protoreflect.Value) error {
			if s.about {
				return see(here, m, v)
			}
			return f.walk(here, v.Message(), see)
		}
		v, here := m.Get(s.field), &place{at, s.field, -1}
		if !s.field.IsList() {
			if err := visit(here, v); err != nil {
				return err
			}
			continue
		}
		for here.index = 0; here.index < v.List().Len(); here.index++ {
			if err := visit(here, v.List().Get(here.index)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fields) stepsOf(d protoreflect.MessageDescriptor) []step {
	if known, ok := f.steps.Load(d); ok {
		return known.([]step)
	}
	var steps []step
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); f.leads(fd, make(map[protoreflect.MessageDescriptor]bool)) {
			steps = append(steps, step{fd, f.about(fd)})
		}
	}
	f.steps.Store(d, steps)
	return steps
}

// leads reports whether a field is one of the fields, or one of them may stand in it, other than in messages that were seen.
func (f *fields) leads(fd protoreflect.FieldDescriptor, seen map[protoreflect.MessageDescriptor]bool) bool {
	d := fd.Message()
	if fd.IsMap() || fd.IsList() && d == nil {
		return false
	}
	if f.about(fd) {
		return true
	}
	if d == nil || seen[d] {
		return false
	}
	seen[d] = true
	for i := range d.Fields().Len() {
		if f.leads(d.Fields().Get(i), seen) {
			return true
		}
	}
	return false
}
