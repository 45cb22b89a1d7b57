// Package subject builds and parses every subject, stream and consumer name of Tongan. No other package joins names with dots.
package subject

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The services that own a stream, in the order they are listed to people.
const (
	Intake      = "intake"
	HealthCheck = "healthcheck"
	Outreach    = "outreach"
	Reporting   = "reporting"
)

// Audit is the service that keeps who may call and what was done with it. Its stream is no part of [Services]: its events are neither
// projected nor shown to readers of events.
const Audit = "audit"

// Streams beside those of the services.
const (
	// StreamDead holds references to messages that could not be processed.
	StreamDead = "TONGAN_DEAD"
	// StreamKeys holds the wrapped keys of children; messages may be removed from it.
	StreamKeys = "TONGAN_KEYS"
	// StreamIndex holds blind indexes: which children have a number, by a keyed hash of it. Messages may be removed from it too.
	StreamIndex = "TONGAN_INDEX"
	// StreamTimer holds schedules, and what came of them: who set a timer is told when its time has come.
	StreamTimer = "TONGAN_TIMER"
)

// Roots of the subject space.
const (
	// AllEvents matches every event of every service.
	AllEvents = "tongan.evt.>"
	// AllDead matches every reference to a message that could not be processed.
	AllDead = "tongan.dead.>"
	// AllKeys matches every wrapped key.
	AllKeys = "tongan.keys.>"
	// AllIndex matches every entry of every blind index.
	AllIndex = "tongan.index.>"
	// AllTimers matches every timer, set or due.
	AllTimers = "tongan.timer.>"
)

// Services returns the services that own a stream whose events are projected and may be read.
func Services() []string { return []string{Intake, HealthCheck, Outreach, Reporting} }

// ValidID reports whether id can stand as one token of a subject: letters, digits, underscore and hyphen, 1 to 128 of them.
// Ids that callers choose are held to 64 by the contract; ids made of several may be longer.
func ValidID(id string) bool {
	for i := range len(id) { // every id of every message is looked at: a regular expression takes twenty times as long
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxID
}

const maxID = 128

// Stream returns the name of the stream a service owns, for example TONGAN_INTAKE.
func Stream(service string) string { return "TONGAN_" + strings.ToUpper(service) }

// Events returns the subject filter of all events of a service, which is what its stream holds.
func Events(service string) string { return "tongan.evt." + service + ".>" }

// The caller is registered, and what it did is recorded, under these kinds of aggregates of the service audit.
var (
	// Caller is somebody who may call; its id is caller_id.
	Caller = Aggregate{Audit, "caller"}
	// Trail is what a caller did; its id is the caller's, or the public NKey where no caller is known by it.
	Trail = Aggregate{Audit, "trail"}
)

// AllCallers matches every event about a caller.
func AllCallers() string { return "tongan.evt." + Caller.Service + "." + Caller.Name + ".>" }

// Commands returns the subject filter of all commands to a service.
func Commands(service string) string { return "tongan.cmd." + service + ".>" }

// Queries returns the subject filter of all queries to a service.
func Queries(service string) string { return "tongan.qry." + service + ".>" }

// Inbox returns the prefix of the replies to one connection: a service's name or a caller's public NKey.
func Inbox(owner string) string { return "_INBOX." + owner }

// Discovery returns the subjects on which a micro service answers who it is: all of them, those of its name, and its own. The verbs are
// named one by one: a server lets whoever may subscribe $SRV.* subscribe $SRV.> too.
func Discovery(service string) []string {
	var out []string
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		all := "$SRV." + verb
		out = append(out, all, all+"."+Micro(service), all+"."+Micro(service)+".*")
	}
	return out
}

// API returns a subject of JetStream's interface, for example $JS.API.STREAM.INFO.TONGAN_INTAKE.
func API(operation string, of ...string) string {
	return strings.Join(append([]string{"$JS.API", operation}, of...), ".")
}

// Subjects of the server's own interface.
const (
	// Callout is where a server asks whether to let a connection in.
	Callout = "$SYS.REQ.USER.AUTH"
	// Connections is where every server tells its connections.
	Connections = "$SYS.REQ.SERVER.PING.CONNZ"
	// Storage is where every server tells how it stores: whether it syncs, how much it holds, and its time.
	Storage = "$SYS.REQ.SERVER.PING.JSZ"
)

// Kick returns where a server is told to end a connection.
func Kick(serverID string) string { return "$SYS.REQ.SERVER." + serverID + ".KICK" }

// Ack returns the subject filter of acknowledgements to a consumer.
func Ack(stream, consumer string) string { return "$JS.ACK." + stream + "." + consumer + ".>" }

// Micro returns the name under which a service is discovered, for example tongan-intake.
func Micro(service string) string { return "tongan-" + service }

// Query returns the subject of a query, for example tongan.qry.intake.case.get.
func Query(service, object, verb string) string {
	return "tongan.qry." + service + "." + object + "." + verb
}

// Health returns the subject that a service answers, with nothing, once it takes requests.
func Health(service string) string { return Query(service, "health", "get") }

// Key returns the subject under which the wrapped key with this id is kept.
func Key(keyID string) string { return "tongan.keys." + keyID }

// Index returns the subject of an entry of a blind index: that what has this id has the value with this hash. Either may be "*".
func Index(index, hash, id string) string { return "tongan.index." + index + "." + hash + "." + id }

// Dead returns the subject of a reference to a message that reader could not process; there is one for each message and reader.
func Dead(reader, stream string, sequence uint64) string {
	return "tongan.dead." + reader + "." + stream + "." + strconv.FormatUint(sequence, 10)
}

// AllDeadOf matches the references that a reader makes to messages of a stream; either may be "*".
func AllDeadOf(reader, stream string) string { return "tongan.dead." + reader + "." + stream + ".*" }

// AllTimersSet matches the timers that a service has set.
func AllTimersSet(service string) string { return "tongan.timer.set." + service + ".>" }

// AllTimersDue matches the timers of a service whose time has come.
func AllTimersDue(service string) string { return "tongan.timer.due." + service + ".>" }

// Matches reports whether a subject without wildcards is one that a filter matches.
func Matches(filter, subject string) bool {
	if !strings.ContainsAny(filter, "*>") {
		return filter == subject
	}
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, token := range f {
		if token == ">" {
			return len(s) > i
		}
		if i >= len(s) || token != "*" && token != s[i] {
			return false
		}
	}
	return len(f) == len(s)
}

// Aggregate is a kind of aggregate of one service, for example {intake case}.
type Aggregate struct{ Service, Name string }

// Stream returns the stream that holds the aggregate's events.
func (a Aggregate) Stream() string { return Stream(a.Service) }

// Key returns a name for one aggregate that is unique over all services, for example intake.case.c1.
func (a Aggregate) Key(id string) string { return a.Service + "." + a.Name + "." + id }

// Filter returns the subject filter that matches exactly the events of one aggregate. Every writer names it as what its
// expectation is about: the server tracks appends in flight by this literal text.
func (a Aggregate) Filter(id string) string { return "tongan.evt." + a.Key(id) + ".*" }

// Event returns the subject of one event; name is the message's own name, for example CaseOpened.
func (a Aggregate) Event(id string, name protoreflect.Name) string {
	return "tongan.evt." + a.Key(id) + "." + Kebab(string(name))
}

// Command returns the subject of a command, for example tongan.cmd.intake.case.open.
func (a Aggregate) Command(verb string) string {
	return "tongan.cmd." + a.Service + "." + a.Name + "." + verb
}

// Query returns the subject of a query about one aggregate.
func (a Aggregate) Query(verb string) string { return Query(a.Service, a.Name, verb) }

// Timer is a timer of one aggregate; its name is unique there.
type Timer struct {
	Aggregate
	// ID is the aggregate's id.
	ID, Name string
}

// Set returns the subject under which the timer is set: setting it again replaces it.
func (t Timer) Set() string { return "tongan.timer.set." + t.Key(t.ID) + "." + t.Name }

// Due returns the subject under which it is told that the timer's time has come.
func (t Timer) Due() string { return "tongan.timer.due." + t.Key(t.ID) + "." + t.Name }

// ParseDue takes the subject of a timer whose time has come apart.
func ParseDue(subject string) (Timer, error) {
	t := strings.Split(subject, ".")
	if len(t) != 7 || t[0] != "tongan" || t[1] != "timer" || t[2] != "due" {
		return Timer{}, fmt.Errorf("subject has not the form tongan.timer.due.<service>.<aggregate>.<id>.<name>")
	}
	for _, token := range t[3:] {
		if !ValidID(token) {
			return Timer{}, errToken
		}
	}
	return Timer{Aggregate{t[3], t[4]}, t[5], t[6]}, nil
}

var errToken = errors.New("subject has a token that is not of letters, digits, '_' and '-'")

// Parsed is the subject of an event taken apart.
type Parsed struct {
	Aggregate
	// ID is the aggregate's id.
	ID string
	// Event is the event's token, for example case-opened.
	Event string
}

// ParseEvent takes the subject of an event apart.
func ParseEvent(subject string) (Parsed, error) {
	t := strings.Split(subject, ".")
	if len(t) != 6 || t[0] != "tongan" || t[1] != "evt" {
		return Parsed{}, fmt.Errorf("subject has not the form tongan.evt.<service>.<aggregate>.<id>.<event>")
	}
	for _, token := range t[2:] {
		if !ValidID(token) {
			return Parsed{}, errToken
		}
	}
	if !isKebab(t[5]) { // two subjects must not name one message
		return Parsed{}, fmt.Errorf("subject has an event that is not in kebab case")
	}
	return Parsed{Aggregate: Aggregate{Service: t[2], Name: t[3]}, ID: t[4], Event: t[5]}, nil
}

// Message returns the full name of the message that a subject of this kind carries, for example tongan.intake.v1.CaseOpened.
func (p Parsed) Message() protoreflect.FullName {
	return protoreflect.FullName("tongan." + p.Service + ".v1." + Camel(p.Event))
}

// isKebab reports whether an id is what Kebab makes of a name: Kebab(Camel(id)) == id.
func isKebab(id string) bool {
	for i := range len(id) {
		if 'A' <= id[i] && id[i] <= 'Z' || id[i] == '-' && (i == 0 || i+1 == len(id) || id[i+1] < 'a' || 'z' < id[i+1]) {
			return false
		}
	}
	return true
}

// Kebab turns CaseOpened into case-opened.
func Kebab(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Camel turns case-opened into CaseOpened.
func Camel(kebab string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(kebab, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
