package access

import (
	"slices"

	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
)

// User is a service's user of the bus: what its connection may publish and subscribe, and nothing else. Its inbox is [subject.Inbox] of
// its name.
type User struct {
	Name string
	// Publish and Subscribe are subject filters; the inbox is one of Subscribe.
	Publish, Subscribe []string
	// Replies says that it may answer the requests it receives, once each.
	Replies bool
}

// Names of users that are no service.
const (
	// Migration creates the streams; no other user may create, change or delete one.
	Migration = "migration"
	// Keykeeper wraps the keys of children under another version of the master key.
	Keykeeper = "keykeeper"
	// Inspector looks at servers, streams and events, and changes nothing.
	Inspector = "inspector"
	// System is the audit service's user in the system account, see [SystemUser].
	System = "system"
	// Projector is the service that copies events into ClickHouse; it owns no stream.
	Projector = "projector"
)

// Users returns the users of the services' account.
func Users() []User {
	return []User{
		decides(subject.Intake, []string{
			subject.Trail.Event("*", "SealOpened"),
		}, slices.Concat(seals(), reacts(subject.Stream(subject.Intake), "intake-forget",
			subject.Aggregate{Service: subject.Intake, Name: "child"}.Event("*", "ChildForgotten")),
			reacts(subject.Stream(subject.Intake), "intake-deadlines"),
			reacts(subject.StreamTimer, "intake-timers", subject.AllTimersDue(subject.Intake)),
			reacts(subject.Stream(subject.Outreach), "intake-supports", subject.Aggregate{Service: subject.Outreach, Name: "support"}.Filter("*")), []string{
				subject.AllTimersSet(subject.Intake),
				subject.API("STREAM.MSG.DELETE", subject.StreamKeys), // to forget a child
				subject.API("STREAM.MSG.DELETE", subject.StreamIndex),
				subject.API("STREAM.INFO", subject.StreamIndex), subject.API("STREAM.MSG.GET", subject.StreamIndex), subject.Index("identity", "*", "*"), subject.Index("contact", "*", "*"),
			})),
		decides(subject.HealthCheck, nil, nil),
		decides(subject.Outreach, nil, slices.Concat(seals(), reacts(subject.Stream(subject.Outreach), "outreach-gateway",
			subject.Aggregate{Service: subject.Outreach, Name: "reminder"}.Event("*", "RemindersQueued")))),
		decides(subject.Reporting, []string{
			subject.Trail.Event("*", "DataExported"),
		}, infos(subject.Intake, subject.HealthCheck, subject.Outreach)),
		{
			Name:      Projector,
			Publish:   slices.Concat(offers(), infos(subject.Services()...), follows(subject.Services()...), []string{subject.AllDeadOf(Projector, "*")}),
			Subscribe: slices.Concat(answers(Projector), []string{subject.Health(Projector)}),
			Replies:   true,
		},
		door(decides(subject.Audit, nil, []string{
			subject.API("CONSUMER.CREATE", subject.Stream(subject.Audit), "*"), // to read the trail; it reads on as it does about callers
		})),
		{
			Name: Migration,
			Publish: []string{
				subject.API("STREAM.INFO", "*"), subject.API("STREAM.CREATE", "*"), subject.Health("*"),
				subject.API("STREAM.UPDATE", subject.StreamKeys), subject.API("STREAM.UPDATE", subject.StreamDead), // those of an earlier release
			},
			Subscribe: []string{subject.Inbox(Migration) + ".>"},
		},
		{
			Name: Keykeeper,
			Publish: []string{
				subject.Key("*"), subject.API("STREAM.INFO", subject.StreamKeys), subject.API("STREAM.MSG.GET", subject.StreamKeys),
				subject.API("STREAM.MSG.DELETE", subject.StreamKeys),
			},
			Subscribe: []string{subject.Inbox(Keykeeper) + ".>"},
		},
		{
			Name:      Inspector,
			Publish:   slices.Concat([]string{subject.Storage, subject.API("STREAM.INFO", "*")}, reads(append(subject.Services(), subject.Audit)...)),
			Subscribe: []string{subject.Inbox(Inspector) + ".>"},
		},
	}
}

// SystemUser is the user of the system account: it finds and ends connections of callers that were revoked.
func SystemUser() User {
	return User{Name: System, Publish: []string{subject.Connections, subject.Kick("*")}, Subscribe: []string{subject.Inbox(System) + ".>"}}
}

// door adds what it takes to answer the bus whom to let in.
func door(u User) User {
	u.Subscribe = append(u.Subscribe, subject.Callout)
	return u
}

// decides is the user of a service that owns a stream: it offers commands and queries and appends to its stream.
func decides(service string, trail, more []string) User {
	stream := subject.Stream(service)
	own := []string{
		subject.Events(service),
		subject.API("STREAM.INFO", stream),
		subject.API("STREAM.MSG.GET", stream),
	}
	if service != subject.Audit { // whose events include the trail
		own = append(own, subject.Trail.Event("*", "AttemptRefused"))
	}
	hears := subject.Events(service) // what another copy of it appends
	if service == subject.Audit {
		hears = subject.AllCallers()
	}
	return User{
		Name:      service,
		Publish:   slices.Concat(own, offers(), trail, more, knowsCallers()),
		Subscribe: append(answers(service), subject.Commands(service), subject.Queries(service), hears),
		Replies:   true,
	}
}

// offers is what every service asks at its start: JetStream, and the servers how they store.
func offers() []string { return []string{subject.API("INFO"), subject.Storage} }

// answers is what every service subscribes: the replies to it, and who asks what there is.
func answers(service string) []string {
	return append([]string{subject.Inbox(service) + ".>"}, subject.Discovery(service)...)
}

// knowsCallers is what it takes to follow who may call.
func knowsCallers() []string {
	stream := subject.Stream(subject.Audit)
	return []string{
		subject.API("CONSUMER.CREATE", stream, "*", subject.AllCallers()),
		subject.API("CONSUMER.MSG.NEXT", stream, "*"),
		subject.API("CONSUMER.DELETE", stream, "*"), // its own, after a lost connection: it goes on with another
	}
}

// seals is what it takes to make and load keys.
func seals() []string {
	return []string{
		subject.Key("*"),
		subject.API("STREAM.INFO", subject.StreamKeys),
		subject.API("STREAM.MSG.GET", subject.StreamKeys),
	}
}

// reacts is what a reaction's durable consumer takes. One with several filters may ask for any: they stand in no subject.
func reacts(stream, durable string, filter ...string) []string {
	return []string{
		subject.API("CONSUMER.CREATE", append([]string{stream, durable}, filter...)...),
		subject.API("CONSUMER.MSG.NEXT", stream, durable),
		subject.Ack(stream, durable),
		subject.AllDeadOf(durable, stream),
	}
}

// infos is what it takes to know how far streams reach.
func infos(services ...string) []string {
	var out []string
	for _, s := range services {
		out = append(out, subject.API("STREAM.INFO", subject.Stream(s)))
	}
	return out
}

// follows is what it takes to read whole streams.
func follows(services ...string) []string {
	var out []string
	for _, s := range services {
		for _, operation := range []string{"CONSUMER.CREATE", "CONSUMER.MSG.NEXT"} {
			out = append(out, subject.API(operation, subject.Stream(s), "*"))
		}
	}
	return out
}

// reads is what it takes to read whole streams without a consumer.
func reads(services ...string) []string {
	var out []string
	for _, s := range services {
		out = append(out, subject.API("STREAM.MSG.GET", subject.Stream(s)), subject.API("DIRECT.GET", subject.Stream(s)))
	}
	return out
}

// Rights are what callers of a role may do.
type Rights struct {
	// Send are the subjects of commands and queries, and of what the bus answers.
	Send []string
	// Read are the subjects the role may subscribe, beside its inbox.
	Read []string
	// ForOthers says that the role may enter what somebody else of its organisation did.
	ForOthers bool
	// Outside puts the role's callers into an account that has events and nothing else.
	Outside bool
}

// APIPrefix stands before the subjects of JetStream's interface in the account of callers, in place of $JS.API.
const APIPrefix = "TONGAN.API"

// operations are what of JetStream's interface an operator may ask.
func operations() []string {
	out := []string{"INFO", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.*", "CONSUMER.NAMES.*", "CONSUMER.LIST.*", "CONSUMER.INFO.*.*"}
	for _, s := range subject.Services() {
		out = append(out, "STREAM.MSG.GET."+subject.Stream(s))
	}
	return append(out, "STREAM.MSG.GET."+subject.StreamDead)
}

// Of returns the rights of a role; a role that does not exist has none.
func Of(role auditv1.Role) Rights {
	cmd := func(service, aggregate string, verbs ...string) (out []string) {
		for _, v := range verbs {
			out = append(out, subject.Aggregate{Service: service, Name: aggregate}.Command(v))
		}
		return out
	}
	qry := func(service, object string, verbs ...string) (out []string) {
		for _, v := range verbs {
			out = append(out, subject.Query(service, object, v))
		}
		return out
	}
	var (
		answers = slices.Concat(cmd(subject.Intake, "contact", "receive", "classify", "link", "act", "promise-call-back", "call-back", "hand-over",
			"close"), qry(subject.Intake, "contact", "get"), cmd(subject.Intake, "line", "start-shift", "end-shift"))
		duty      = qry(subject.Intake, "line", "get")
		registers = slices.Concat(cmd(subject.Intake, "child", "register"), qry(subject.Intake, "child", "get"))
		keeps     = cmd(subject.Intake, "child", "correct", "move", "start-category", "end-category", "record-guardian", "end-guardian",
			"arrange-care", "join-household")
		supervises = cmd(subject.Intake, "child", "assign-worker", "merge", "deregister")
		forgets    = cmd(subject.Intake, "child", "forget")
		protects   = slices.Concat(cmd(subject.Intake, "case", "open", "flag-special", "assess", "follow-up", "arrange-care"), qry(subject.Intake, "case", "get"))
		manages    = cmd(subject.Intake, "case", "approve-plan", "propose-referral", "answer-referral", "review", "close", "reopen")
		assigns    = cmd(subject.Intake, "case", "assign-worker")
		handsOver  = cmd(subject.Intake, "case", "hand-over")
		visits     = cmd(subject.Outreach, "visit", "record", "void")
		provides   = cmd(subject.Outreach, "support", "begin", "end")
		supports   = cmd(subject.Outreach, "support", "request")
		receives   = cmd(subject.Outreach, "delivery", "request", "confirm-receipt")
		reminds    = cmd(subject.Outreach, "reminder", "queue")
		figures    = qry(subject.Reporting, "figures", "get")
		end        = qry(subject.Reporting, "end", "get")
		audits     = slices.Concat(qry(subject.Audit, "record", "list"), qry(subject.Audit, "caller", "list"))
	)
	switch role {
	case auditv1.Role_ROLE_HOTLINE_OPERATOR:
		return Rights{ForOthers: true, Send: slices.Concat(answers, duty, registers, protects, assigns, supports)}
	case auditv1.Role_ROLE_SOCIAL_WORKER:
		return Rights{ForOthers: true, Send: slices.Concat(registers, keeps, protects, manages, visits, supports, provides, receives)}
	case auditv1.Role_ROLE_CHILD_DIRECTOR:
		return Rights{Send: slices.Concat(registers, keeps, protects, manages, visits, supports, receives)}
	case auditv1.Role_ROLE_CHILD_SUPERVISOR:
		return Rights{ForOthers: true, Send: slices.Concat(registers, keeps, supervises, protects, manages, assigns, handsOver, visits, supports, receives, reminds, duty)}
	case auditv1.Role_ROLE_INSTITUTION_NURSE:
		return Rights{ForOthers: true, Send: cmd(subject.HealthCheck, "round", "open", "record", "close")}
	case auditv1.Role_ROLE_WAREHOUSE:
		return Rights{ForOthers: true, Send: cmd(subject.Outreach, "delivery", "dispatch")}
	case auditv1.Role_ROLE_BUREAU_LEADER:
		return Rights{Send: slices.Concat(cmd(subject.HealthCheck, "institution", "register", "start-closure-regime"), reminds,
			cmd(subject.Reporting, "bulletin", "issue"), forgets, qry(subject.Intake, "case", "get"), duty, figures, end, audits)}
	case auditv1.Role_ROLE_ANALYST:
		return Rights{Send: slices.Concat(figures, end)}
	case auditv1.Role_ROLE_OPERATOR:
		r := Rights{Send: slices.Concat(cmd(subject.Audit, "caller", "add", "rotate", "revoke"), audits, []string{subject.Health("*"), "$SRV.>"})}
		for _, op := range operations() {
			r.Send = append(r.Send, APIPrefix+"."+op)
		}
		r.Read = events()
		return r
	case auditv1.Role_ROLE_EVENT_READER:
		return Rights{Outside: true, Read: events()}
	case auditv1.Role_ROLE_SMS_GATEWAY:
		return Rights{Send: cmd(subject.Outreach, "reminder", "accept", "confirm-delivery", "fail")}
	default:
		return Rights{}
	}
}

// events are the subjects a reader of events subscribes; what the account does not import, such as the audit trail, does not come.
func events() []string { return []string{subject.AllEvents} }

// Roles returns every role that somebody may have.
func Roles() []auditv1.Role {
	var out []auditv1.Role
	values := auditv1.Role(0).Descriptor().Values()
	for i := range values.Len() {
		if n := values.Get(i).Number(); n != 0 {
			out = append(out, auditv1.Role(n))
		}
	}
	return out
}
