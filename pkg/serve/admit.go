package serve

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"github.com/nats-io/nats.go/micro"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
)

// MaxRequest is the largest command or query, in bytes.
const MaxRequest = 512 << 10

// maxAhead is how far the time of an event may lie ahead of the service's clock.
const maxAhead = 5 * time.Minute

// contentJSON is the content type of requests and replies in JSON.
const contentJSON = "application/json"

// BadInput is the answer to a request that violates the contract. It names the field and the rule and repeats no value.
type BadInput struct{ Field, Rule string }

// Error names the field and the rule.
func (b *BadInput) Error() string { return strings.TrimPrefix(b.Field+": "+b.Rule, ": ") }

// errTooLarge is returned when a request is over MaxRequest.
var errTooLarge = &BadInput{"payload", fmt.Sprintf("is over %d bytes", MaxRequest)}

// isJSON reports whether a request is JSON: by its content type, or by its very first byte, with which no protobuf message begins.
// White space before it is not passed over: a newline begins every command in protobuf.
func isJSON(req micro.Request) bool {
	return req.Headers().Get("Content-Type") == contentJSON || bytes.HasPrefix(req.Data(), []byte("{"))
}

// decode fills a message from a request and checks it against the rules of the contract.
func decode(req micro.Request, into proto.Message) error {
	if len(req.Data()) > MaxRequest {
		return errTooLarge
	}
	name := into.ProtoReflect().Descriptor().FullName()
	if isJSON(req) {
		if err := protojson.Unmarshal(req.Data(), into); err != nil {
			return &BadInput{"payload", jsonRule(name, err)}
		}
		return nil
	}
	if err := proto.Unmarshal(req.Data(), into); err != nil {
		return &BadInput{"payload", fmt.Sprintf("is neither JSON nor a protobuf message %s", name)}
	}
	return unknownFields(nil, into.ProtoReflect())
}

// jsonError matches what may be passed on of an error of protojson: the place, and the name of the field. Values are left out.
var jsonError = regexp.MustCompile(`^proto:[ \x{a0}]\(line (\d+:\d+)\): (?:(unknown field "[A-Za-z0-9_.\[\]]{1,64}")|invalid value for (\w+) (?:type|field (\w+)))`)

func jsonRule(name protoreflect.FullName, err error) string {
	m := jsonError.FindStringSubmatch(err.Error())
	switch {
	case m == nil:
		return fmt.Sprintf("is not JSON for %s", name)
	case m[2] != "":
		return fmt.Sprintf("at %s: %s in %s", m[1], m[2], name)
	default:
		return strings.TrimSpace(fmt.Sprintf("at %s: not a value of type %s %s", m[1], m[3], m[4]))
	}
}

// messages are all that stand in another.
var messages = &fields{about: func(fd protoreflect.FieldDescriptor) bool { return fd.Message() != nil }}

func unknownFields(at *place, m protoreflect.Message) error {
	if len(m.GetUnknown()) > 0 {
		return &BadInput{at.String(), fmt.Sprintf("has a field that %s does not have", m.Descriptor().FullName())}
	}
	return messages.walk(at, m, func(at *place, _ protoreflect.Message, v protoreflect.Value) error {
		return unknownFields(at, v.Message())
	})
}

// validate checks a message against the annotations of the contract.
func validate(m proto.Message) error {
	err := protovalidate.Validate(m)
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	rules := make([]string, len(invalid.Violations))
	for i, v := range invalid.Violations {
		rules[i] = strings.TrimPrefix(protovalidate.FieldPathString(v.Proto.GetField())+": "+v.Proto.GetMessage(), ": ")
	}
	return &BadInput{Rule: strings.Join(rules, "; ")}
}

// districts are the fields that name one.
var districts = &fields{about: func(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.StringKind && (fd.Name() == "adm_code" || strings.HasSuffix(string(fd.Name()), "_adm_code"))
}}

// checkDistricts refuses a district that the deployment does not serve, wherever the message names one.
func checkDistricts(m protoreflect.Message, served []string) error {
	return districts.walk(nil, m, func(at *place, _ protoreflect.Message, v protoreflect.Value) error {
		if !slices.Contains(served, v.String()) {
			return &BadInput{at.String(), "is not a district served here (" + strings.Join(served, ", ") + ")"}
		}
		return nil
	})
}

// Years that a time or a day may lie in: what the tables can hold, and no event of the registry's world lies outside.
const (
	firstYear = 1970
	lastYear  = 2148
)

// times are instants and days, which are text: …_on.
var times = &fields{about: func(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && fd.Message().FullName() == "google.protobuf.Timestamp" ||
		fd.Kind() == protoreflect.StringKind && strings.HasSuffix(string(fd.Name()), "_on")
}}

// checkTimes refuses an instant or a day that is none, or that no table could hold, wherever the message has one. (protovalidate could say it of
// instants, but with CEL, which takes longer than all its other rules of a command.)
func checkTimes(m protoreflect.Message) error {
	return times.walk(nil, m, func(at *place, _ protoreflect.Message, v protoreflect.Value) error {
		if at.field.Message() != nil {
			instant, _ := v.Message().Interface().(*timestamppb.Timestamp)
			if !instant.IsValid() || !instant.AsTime().After(time.Unix(0, 0)) || instant.AsTime().Year() > lastYear {
				return &BadInput{at.String(), fmt.Sprintf("must be an instant after %d-01-01T00:00:00Z, until %d", firstYear, lastYear)}
			}
			return nil
		}
		if day, err := time.Parse(time.DateOnly, v.String()); err != nil || day.Year() < firstYear || day.Year() > lastYear {
			return &BadInput{at.String(), fmt.Sprintf("must be a date, YYYY-MM-DD, from %d to %d", firstYear, lastYear)}
		}
		return nil
	})
}

// checkTime refuses what is said to happen in the future of the service's clock.
func checkTime(c decider.Event, now time.Time) error {
	if c.GetProvenance().GetOccurredAt().AsTime().After(now.Add(maxAhead)) {
		return &BadInput{"provenance.occurred_at", "is more than 5 minutes in the future"}
	}
	return nil
}

// personal reports whether a field is marked as personal in the contract.
func personal(fd protoreflect.FieldDescriptor) bool {
	o, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// sealable are the personal fields of a command whose type checkPersonal lets pass.
var sealable = &fields{about: personal}

// checkPersonal says what is wrong with a command type whose personal fields would not be sealed: nothing seals them, or they stand where
// sealing does not look, in a map or as something else than a single message.
func checkPersonal(m protoreflect.MessageDescriptor, sealed bool, seen map[protoreflect.FullName]bool) error {
	if seen[m.FullName()] {
		return nil
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		fd := m.Fields().Get(i)
		switch {
		case personal(fd) && (fd.Message() == nil || fd.IsList() || fd.IsMap() || m.IsMapEntry()):
			return fmt.Errorf("personal field %s is not a single message: it cannot be sealed", fd.FullName())
		case personal(fd) && !sealed:
			return fmt.Errorf("personal field %s is not sealed: the endpoint lacks Seals", fd.FullName())
		case personal(fd) || fd.Message() == nil:
		case fd.IsMap():
			if err := checkPersonal(fd.Message(), false, seen); err != nil {
				return fmt.Errorf("in the map %s: %w", fd.FullName(), err)
			}
		default:
			if err := checkPersonal(fd.Message(), sealed, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// digest is the first 8 bytes of SHA-256 over a command without its personal fields, which only one of a type that is sealed has, and without
// what a service fills in.
func digest(c decider.Event, sealed bool) ([]byte, error) {
	if sealed {
		c = proto.Clone(c).(decider.Event)
		clearPersonal(c.ProtoReflect())
	}
	p := c.GetProvenance()
	by, sum := p.GetRecordedBy(), p.GetCommandDigest()
	p.RecordedBy, p.CommandDigest = "", nil
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	p.RecordedBy, p.CommandDigest = by, sum
	if err != nil {
		return nil, fmt.Errorf("digest: %w", err)
	}
	whole := sha256.Sum256(b)
	return whole[:8], nil
}

// clearPersonal removes every personal field of a message.
func clearPersonal(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case personal(fd):
			m.Clear(fd)
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				clearPersonal(v.List().Get(i).Message())
			}
		case fd.Message() != nil && !fd.IsMap():
			clearPersonal(v.Message())
		}
		return true
	})
}
