package access

import (
	"fmt"
	"strings"

	"tongan.dev/pkg/subject"
)

// Accounts of the bus.
const (
	// AccountSystem is the server's own.
	AccountSystem = "SYS"
	// AccountServices holds the streams and the services.
	AccountServices = "TONGAN"
	// AccountCallers holds everybody who sends commands and queries.
	AccountCallers = "CALLERS"
	// AccountReaders holds those who read events and nothing else.
	AccountReaders = "READERS"
)

// Conf returns the part of a nats-server's configuration that says who may do what. Users are those of [Users] and [SystemUser]; key is
// asked for the public NKey of each, and issuer is the public part of the [Issuer]. Callers are not in it: the server asks the audit service
// about them, see [Door], so that adding or revoking one is no change of configuration.
func Conf(users []User, key func(user string) string, issuer string) string {
	var b strings.Builder
	b.WriteString("system_account: " + AccountSystem + "\n")
	fmt.Fprintf(&b, "authorization {\n  auth_callout {\n    issuer: %s\n    account: %s\n    auth_users: [%s]\n    allowed_accounts: [%s, %s]\n  }\n}\n",
		issuer, AccountServices, key(subject.Audit), AccountCallers, AccountReaders)
	fmt.Fprintf(&b, "accounts {\n  %s {\n    users: [\n", AccountSystem)
	writeUser(&b, key(System), SystemUser())
	fmt.Fprintf(&b, "    ]\n    exports: [\n      {service: %q, response_type: stream, accounts: [%s]}\n    ]\n  }\n", subject.Storage, AccountServices)
	fmt.Fprintf(&b, "  %s {\n    jetstream: enabled\n    exports: [\n", AccountServices)
	for _, s := range requests() {
		fmt.Fprintf(&b, "      {service: %q, accounts: [%s]}\n", s, AccountCallers)
	}
	fmt.Fprintf(&b, "      {service: %q, response_type: stream, accounts: [%s]}\n", discovery, AccountCallers)
	for _, op := range operations() {
		fmt.Fprintf(&b, "      {service: %q, accounts: [%s]}\n", subject.API(op), AccountCallers)
	}
	for _, s := range subject.Services() {
		fmt.Fprintf(&b, "      {stream: %q, accounts: [%s, %s]}\n", subject.Events(s), AccountCallers, AccountReaders)
	}
	fmt.Fprintf(&b, "    ]\n    imports: [\n      {service: {account: %s, subject: %q}}\n    ]\n    users: [\n", AccountSystem, subject.Storage)
	for _, u := range users {
		writeUser(&b, key(u.Name), u)
	}
	fmt.Fprintf(&b, "    ]\n  }\n  %s {\n    imports: [\n", AccountCallers)
	for _, s := range requests() {
		fmt.Fprintf(&b, "      {service: {account: %s, subject: %q}, share: true}\n", AccountServices, s)
	}
	fmt.Fprintf(&b, "      {service: {account: %s, subject: %q}}\n", AccountServices, discovery)
	for _, op := range operations() {
		fmt.Fprintf(&b, "      {service: {account: %s, subject: %q}, to: %q}\n", AccountServices, subject.API(op), APIPrefix+"."+op)
	}
	importEvents(&b)
	fmt.Fprintf(&b, "    ]\n  }\n  %s {\n    imports: [\n", AccountReaders)
	importEvents(&b)
	b.WriteString("    ]\n  }\n}\n")
	return b.String()
}

// requests are the subjects that callers reach with who they are.
func requests() []string { return []string{"tongan.cmd.>", "tongan.qry.>"} }

const discovery = "$SRV.>"

func importEvents(b *strings.Builder) {
	for _, s := range subject.Services() {
		fmt.Fprintf(b, "      {stream: {account: %s, subject: %q}}\n", AccountServices, subject.Events(s))
	}
}

func writeUser(b *strings.Builder, key string, u User) {
	fmt.Fprintf(b, "      { # %s\n        nkey: %s\n        permissions: {\n", u.Name, key)
	writeList(b, "publish", u.Publish)
	writeList(b, "subscribe", u.Subscribe)
	if u.Replies {
		b.WriteString("          allow_responses: {max: 1, expires: \"1m\"}\n")
	}
	b.WriteString("        }\n      }\n")
}

// writeList writes what is allowed. For the server an empty list allows everything, so none is denied everything.
func writeList(b *strings.Builder, what string, subjects []string) {
	if len(subjects) == 0 {
		fmt.Fprintf(b, "          %s: {deny: \">\"}\n", what)
		return
	}
	fmt.Fprintf(b, "          %s: [\n", what)
	for _, s := range subjects {
		fmt.Fprintf(b, "            %q\n", s)
	}
	b.WriteString("          ]\n")
}
