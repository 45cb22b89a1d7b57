package access_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/bus"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/subject"
)

// keys gives every user of the bus a key.
func keys(t *testing.T) func(user string) string {
	t.Helper()
	known := make(map[string]string)
	return func(user string) string {
		if known[user] == "" {
			known[user] = newCredentials(t).Public()
		}
		return known[user]
	}
}

func newIssuer(t *testing.T) *access.Issuer {
	t.Helper()
	i, err := access.NewIssuer()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func parse(t *testing.T, conf string) *server.Options {
	t.Helper()
	o := &server.Options{}
	if err := o.ProcessConfigString(conf); err != nil {
		t.Fatal(err)
	}
	return o
}

// rights are what the server holds of one user, as text.
func rights(account string, p *server.Permissions) string {
	text := account
	for _, part := range []struct {
		name string
		of   *server.SubjectPermission
	}{{"publish", p.Publish}, {"subscribe", p.Subscribe}} {
		if part.of != nil {
			text += fmt.Sprintf("\n%s allow %q deny %q", part.name, part.of.Allow, part.of.Deny)
		}
	}
	if p.Response != nil {
		text += fmt.Sprintf("\nresponses %d", p.Response.MaxMsgs)
	}
	return text
}

// The server takes the configuration, and holds of each user exactly what the data say: nobody else, no other account, no other right.
// Callers are not in it: who is none of the users is asked about, and may get into the accounts of callers only.
func TestTheServerHoldsToTheDataAndToNothingElse(t *testing.T) {
	t.Parallel()
	key, issuer := keys(t), newIssuer(t)
	o := parse(t, access.Conf(access.Users(), key, issuer.Public()))
	var accounts []string
	for _, a := range o.Accounts {
		accounts = append(accounts, a.Name)
	}
	slices.Sort(accounts)
	if diff := cmp.Diff([]string{"CALLERS", "READERS", "SYS", "TONGAN"}, accounts); diff != "" || o.SystemAccount != "SYS" {
		t.Errorf("the system's account is %s: %s", o.SystemAccount, diff)
	}
	if len(o.Users) != 0 || o.NoAuthUser != "" || o.Username != "" || o.Authorization != "" {
		t.Errorf("there are users with passwords: %d, and %q needs none", len(o.Users), o.NoAuthUser)
	}
	callout := &server.AuthCallout{
		Issuer: issuer.Public(), Account: "TONGAN", AuthUsers: []string{key(subject.Audit)}, AllowedAccounts: []string{"CALLERS", "READERS"},
	}
	if diff := cmp.Diff(callout, o.AuthCallout); diff != "" {
		t.Errorf("whom to let in is asked otherwise: %s", diff)
	}
	none, want := []string(nil), make(map[string]string)
	for account, users := range map[string][]access.User{"TONGAN": access.Users(), "SYS": {access.SystemUser()}} {
		for _, u := range users {
			text := fmt.Sprintf("%s\npublish allow %q deny %q\nsubscribe allow %q deny %q", account, u.Publish, none, u.Subscribe, none)
			if u.Replies {
				text += "\nresponses 1"
			}
			want[key(u.Name)] = text
		}
	}
	got := make(map[string]string)
	for _, u := range o.Nkeys {
		got[u.Nkey] = u.Account.Name
		if u.Permissions != nil {
			got[u.Nkey] = rights(u.Account.Name, u.Permissions)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What goes from one account to another is listed here in full: a line more is a way in that nobody meant.
func TestWhatGoesFromOneAccountToAnother(t *testing.T) {
	t.Parallel()
	s, err := bus.Start(bus.Config{
		Dir: t.TempDir(), MaxStore: natstest.MaxStore, MonitorPort: -1, Access: access.Conf(access.Users(), keys(t), newIssuer(t).Public()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.End(s) })
	events := func(form string) (out []string) {
		for _, service := range []string{"healthcheck", "intake", "outreach", "reporting"} {
			out = append(out, fmt.Sprintf(form, service))
		}
		return out
	}
	operations := []string{
		"CONSUMER.INFO.*.*", "CONSUMER.LIST.*", "CONSUMER.NAMES.*", "INFO", "STREAM.INFO.*", "STREAM.LIST", "STREAM.MSG.GET.TONGAN_DEAD",
		"STREAM.MSG.GET.TONGAN_HEALTHCHECK", "STREAM.MSG.GET.TONGAN_INTAKE", "STREAM.MSG.GET.TONGAN_OUTREACH", "STREAM.MSG.GET.TONGAN_REPORTING", "STREAM.NAMES",
	}
	exports := append(events("stream tongan.evt.%s.> for CALLERS READERS"), "service $SRV.> for CALLERS", "service tongan.cmd.> for CALLERS", "service tongan.qry.> for CALLERS")
	imports := append(events("stream TONGAN tongan.evt.%s.> share false"),
		"service TONGAN $SRV.> share false", "service TONGAN tongan.cmd.> share true", "service TONGAN tongan.qry.> share true")
	for _, op := range operations {
		exports = append(exports, "service $JS.API."+op+" for CALLERS")
		imports = append(imports, "service TONGAN $JS.API."+op+" as TONGAN.API."+op+" share false")
	}
	for account, want := range map[string]struct{ exports, imports []string }{
		"TONGAN":  {exports, []string{"service SYS $SYS.REQ.SERVER.PING.JSZ share false"}},
		"CALLERS": {nil, imports},
		"READERS": {nil, events("stream TONGAN tongan.evt.%s.> share false")},
	} {
		a, err := s.Accountz(&server.AccountzOptions{Account: account})
		if err != nil {
			t.Fatal(err)
		}
		var gotExports, gotImports []string
		for _, e := range a.Account.Exports {
			if len(e.ApprovedAccounts) == 0 {
				t.Errorf("%s exports %s to everybody", account, e.Subject)
			}
			slices.Sort(e.ApprovedAccounts)
			gotExports = append(gotExports, fmt.Sprintf("%s %s for %s", e.Type, e.Subject, strings.Join(e.ApprovedAccounts, " ")))
		}
		for _, i := range a.Account.Imports {
			// JetStream's own, which the server gives every account that has it, and what it tells every account of itself.
			own := i.Account == "SYS" && string(i.Subject) != subject.Storage
			if i.Account == "$SYS" || own || i.Account == account {
				continue
			}
			text := fmt.Sprintf("%s %s %s", i.Type, i.Account, i.Subject)
			if to := string(i.LocalSubject); to != "" && to != string(i.Subject) {
				text += " as " + to
			}
			gotImports = append(gotImports, fmt.Sprintf("%s share %v", text, i.Share))
			if i.Invalid {
				t.Errorf("%s: the import of %s is not valid", account, i.Subject)
			}
		}
		for _, lists := range [][]string{gotExports, gotImports, want.exports, want.imports} {
			slices.Sort(lists)
		}
		if diff := cmp.Diff(want.exports, gotExports); diff != "" {
			t.Errorf("exports of %s: %s", account, diff)
		}
		if diff := cmp.Diff(want.imports, gotImports); diff != "" {
			t.Errorf("imports of %s: %s", account, diff)
		}
	}
}

// changes are the operations of JetStream's interface that create, change or remove a stream or a message of it.
func changes(stream string) []string {
	var out []string
	for _, op := range []string{
		"STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "STREAM.MSG.DELETE", "STREAM.SNAPSHOT", "STREAM.RESTORE", "STREAM.PEER.REMOVE", "STREAM.LEADER.STEPDOWN",
	} {
		out = append(out, subject.API(op, stream))
	}
	return out
}

// TestNobodyChangesAStream looks at what can be reached, by wildcards too: migration creates streams and mends that of the keys, intake removes
// keys and entries of an index to forget a child, the keykeeper removes what it wrapped again, and nobody does anything else to them.
func TestNobodyChangesAStream(t *testing.T) {
	t.Parallel()
	streams := []string{"TONGAN_NEW"}
	for _, s := range eventlog.Streams(eventlog.StreamOptions{MaxBytes: 1 << 30}) {
		streams = append(streams, s.Name)
	}
	forgets := []string{subject.API("STREAM.MSG.DELETE", subject.StreamKeys), subject.API("STREAM.MSG.DELETE", subject.StreamIndex)}
	for _, stream := range streams {
		for _, change := range changes(stream) {
			for _, u := range access.Users() {
				may := u.Name == access.Migration && change == subject.API("STREAM.CREATE", stream) ||
					u.Name == access.Migration && (change == subject.API("STREAM.UPDATE", subject.StreamKeys) || change == subject.API("STREAM.UPDATE", subject.StreamDead)) ||
					u.Name == access.Keykeeper && change == forgets[0] || u.Name == subject.Intake && slices.Contains(forgets, change)
				for _, right := range u.Publish {
					if server.SubjectsCollide(right, change) && !may {
						t.Errorf("%s may publish %s, by %s", u.Name, change, right)
					}
				}
			}
			for _, role := range access.Roles() {
				for _, right := range access.Of(role).Send {
					if server.SubjectsCollide(right, change) || server.SubjectsCollide(right, strings.Replace(change, "$JS.API", access.APIPrefix, 1)) {
						t.Errorf("%v may send %s, by %s", role, change, right)
					}
				}
			}
		}
	}
}

// Requests in the services' account would come from nobody; so nobody there may send one, but for the question whether a service is there.
func TestNoServiceSendsCommandsOrQueries(t *testing.T) {
	t.Parallel()
	for _, u := range access.Users() {
		for _, right := range u.Publish {
			if u.Name == access.Migration && right == "tongan.qry.*.health.get" {
				continue
			}
			for _, requests := range []string{"tongan.cmd.>", "tongan.qry.>", "$SRV.>", "_INBOX.>", "_R_.>"} {
				if server.SubjectsCollide(right, requests) {
					t.Errorf("%s may publish %s", u.Name, right)
				}
			}
		}
	}
}

// Each event has one writer. The trail is written by all who have something to record there, and each kind of it is named.
func TestNoTwoServicesWriteTheSameEvents(t *testing.T) {
	t.Parallel()
	events := func(u access.User) (out []string) {
		for _, right := range u.Publish {
			if server.SubjectsCollide(right, subject.AllEvents) {
				out = append(out, right)
			}
		}
		return out
	}
	users := access.Users()
	for i, one := range users {
		for _, other := range users[:i] {
			for _, a := range events(one) {
				for _, b := range events(other) {
					trail := func(s string) bool { return subject.Matches("tongan.evt.audit.trail.*.*", s) }
					if server.SubjectsCollide(a, b) && !trail(a) && !trail(b) {
						t.Errorf("%s (%s) and %s (%s) write the same events", one.Name, a, other.Name, b)
					}
				}
			}
		}
	}
	for name, want := range map[string][]string{
		subject.Intake:      {"tongan.evt.audit.trail.*.attempt-refused", "tongan.evt.audit.trail.*.seal-opened", "tongan.evt.intake.>"},
		subject.HealthCheck: {"tongan.evt.audit.trail.*.attempt-refused", "tongan.evt.healthcheck.>"},
		subject.Outreach:    {"tongan.evt.audit.trail.*.attempt-refused", "tongan.evt.outreach.>"},
		subject.Reporting:   {"tongan.evt.audit.trail.*.attempt-refused", "tongan.evt.audit.trail.*.data-exported", "tongan.evt.reporting.>"},
		subject.Audit:       {"tongan.evt.audit.>"},
		access.Projector:    nil,
		access.Migration:    nil,
		access.Keykeeper:    nil,
	} {
		for _, u := range users {
			if u.Name == name {
				got := events(u)
				slices.Sort(got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s", name, diff)
				}
			}
		}
	}
}

// No user of the services' account receives the answers to another one, nor may two be asked the same.
func TestNobodyHearsWhatIsForAnother(t *testing.T) {
	t.Parallel()
	users := access.Users()
	for i, one := range users {
		for _, other := range users[:i] {
			for _, a := range one.Subscribe {
				for _, b := range other.Subscribe {
					if server.SubjectsCollide(a, b) && !strings.HasPrefix(a, "$SRV.") {
						t.Errorf("%s hears %s, %s hears %s", one.Name, a, other.Name, b)
					}
				}
			}
		}
	}
}

// For the server an empty list allows everything; a user without rights is denied everything.
func TestAUserWithoutRightsMayDoNothing(t *testing.T) {
	t.Parallel()
	o := &server.Options{}
	if err := o.ProcessConfigString(access.Conf([]access.User{{Name: "nobody"}}, keys(t), newIssuer(t).Public())); err != nil {
		t.Fatal(err)
	}
	for _, u := range o.Nkeys {
		if u.Account.Name != access.AccountServices {
			continue
		}
		if p := u.Permissions; p == nil || !slices.Equal(p.Publish.Deny, []string{">"}) || !slices.Equal(p.Subscribe.Deny, []string{">"}) {
			t.Errorf("it may do %+v", p)
		}
		return
	}
	t.Error("the user is not there")
}
