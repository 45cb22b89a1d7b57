package serve

import (
	"strconv"

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

// walk calls message for each message directly inside m, which stands at a place, and text, if not nil, for each text field, with their places,
// until one returns an error. A place holds until the call returns.
func walk(at *place, m protoreflect.Message, message func(*place, protoreflect.Message) error, text func(*place, string) error) error {
	var failed error
	here := &place{in: at}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here.field, here.index = fd, -1
		switch {
		case fd.IsList() && fd.Message() != nil:
			for i := 0; i < v.List().Len() && failed == nil; i++ {
				here.index = i
				failed = message(here, v.List().Get(i).Message())
			}
		case fd.IsList() || fd.IsMap():
		case fd.Message() != nil:
			failed = message(here, v.Message())
		case fd.Kind() == protoreflect.StringKind && text != nil:
			failed = text(here, v.String())
		}
		return failed == nil
	})
	return failed
}
