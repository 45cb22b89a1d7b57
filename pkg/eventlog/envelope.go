package eventlog

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/subject"
)

// Headers of every event.
const (
	// HeaderID is the event id; the server also uses it to recognise duplicates.
	HeaderID = "Nats-Msg-Id"
	// HeaderType is the full name of the message, for example tongan.intake.v1.CaseOpened.
	HeaderType = "Tongan-Type"
	// HeaderCommand is the id of the command that led to the event.
	HeaderCommand = "Tongan-Command"
	// HeaderCause is the id of the event or command that led to it.
	HeaderCause = "Tongan-Cause"
	// HeaderCRC is CRC-32C (Castagnoli, RFC 3720) over type and payload, as 8 hexadecimal digits.
	HeaderCRC = "Tongan-CRC32C"
)

// headers is how many headers an event has on its way, with those of its append: a map that grows to it takes longer.
const headers = 11

var (
	// ErrHeader is returned when a header is missing, or names another type than the subject does.
	ErrHeader = errors.New("a header is missing or does not fit the subject")
	// ErrChecksum is returned when the checksum does not match type and payload.
	ErrChecksum = errors.New("the checksum does not match")
	// ErrDecode is returned when the payload is not a message of its type.
	ErrDecode = errors.New("the payload is not a message of its type")
	// ErrUnknownType is returned when a sound message is of a type that this build does not know.
	ErrUnknownType = errors.New("the message is of a type this build does not know")
)

// Envelope is a message of an event stream taken apart.
type Envelope struct {
	decider.Recorded
	// Subject is the message's subject taken apart.
	Subject subject.Parsed
	// Type is the full name of the message.
	Type string
	// Command is the id of the command that led to the event.
	Command string
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum returns CRC-32C over type and payload as it stands in HeaderCRC.
func Checksum(typeName string, payload []byte) string {
	sum := crc32.Update(crc32.Checksum([]byte(typeName), castagnoli), castagnoli, payload)
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// kind is a type of events that this build knows, and what subjects of its events say.
type kind struct {
	name, service, event string
	message              protoreflect.MessageType
}

// kinds are those met so far, by name: each is looked up once.
var kinds sync.Map

// kindOfEvent returns the type of events with a full name, nil where this build knows none.
func kindOfEvent(name string) *kind {
	if k, ok := kinds.Load(name); ok {
		return k.(*kind)
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	if _, ok := mt.New().Interface().(decider.Event); !ok {
		return nil
	}
	d := mt.Descriptor()
	pkg := strings.Split(string(d.ParentFile().Package()), ".")
	k := &kind{name: string(d.FullName()), message: mt}
	if s := (subject.Parsed{Aggregate: subject.Aggregate{Service: pkg[min(1, len(pkg)-1)]}, Event: subject.Kebab(string(d.Name()))}); string(s.Message()) == k.name {
		k.service, k.event = s.Service, s.Event
	}
	kinds.Store(k.name, k)
	return k
}

// Encode makes the message that stores an event of an aggregate.
func Encode(a subject.Aggregate, id string, e decider.Recorded) (*nats.Msg, error) {
	payload, err := payloadOf(e.Event)
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	name := e.Event.ProtoReflect().Descriptor()
	m := &nats.Msg{Subject: a.Event(id, name.Name()), Data: payload, Header: make(nats.Header, headers)}
	m.Header.Set(HeaderID, e.ID)
	m.Header.Set(HeaderType, string(name.FullName()))
	m.Header.Set(HeaderCommand, e.Event.GetProvenance().GetCommandId())
	m.Header.Set(HeaderCause, e.Cause)
	m.Header.Set(HeaderCRC, Checksum(string(name.FullName()), payload))
	return m, nil
}

// payloadOf makes the same bytes of the same event.
func payloadOf(e decider.Event) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(e)
}

// Decode takes a stored message apart. On ErrHeader, ErrChecksum and ErrDecode the message is damaged; on ErrUnknownType it is
// sound, and the envelope is complete but for the event.
func Decode(subj string, h nats.Header, payload []byte, sequence uint64) (Envelope, error) {
	e := Envelope{Type: h.Get(HeaderType), Command: h.Get(HeaderCommand)}
	e.ID, e.Cause, e.Sequence, e.Size = h.Get(HeaderID), h.Get(HeaderCause), sequence, len(payload)
	var err error
	if e.Subject, err = subject.ParseEvent(subj); err != nil {
		return e, fmt.Errorf("%w: %w", ErrHeader, err)
	}
	k := kindOfEvent(e.Type)
	if k != nil {
		e.Type = k.name // not a piece of the headers, which would stay in memory as long as it does
	}
	if e.ID == "" || k != nil && (k.service != e.Subject.Service || k.event != e.Subject.Event) || k == nil && e.Type != string(e.Subject.Message()) {
		return e, ErrHeader
	}
	if h.Get(HeaderCRC) != Checksum(e.Type, payload) {
		return e, ErrChecksum
	}
	if k == nil {
		return e, ErrUnknownType
	}
	event := k.message.New().Interface().(decider.Event)
	if proto.Unmarshal(payload, event) != nil {
		return e, ErrDecode
	}
	e.Event = event
	return e, nil
}
