package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
	"tongan.dev/services/projector"
)

const (
	// syntheticChildren are imported; every eachLooked-th of them has a guardian, a contact and a case too, and is looked at; every second
	// of these is forgotten.
	syntheticChildren, eachLooked = 10_000, 50
	looked                        = syntheticChildren / eachLooked
	// secret begins every marker: what holds none of it holds no marker.
	secret = "zz9f4c-"
)

// marked is a text of one person that occurs nowhere else.
func marked(what string, i int) string { return "标识" + secret + what + "-" + strconv.Itoa(i) }

func childID(i int) string { return "kid-" + strconv.Itoa(i) }

// syntheticRow is a child with a marker in every personal cell; its identity number and phone number are nobody else's.
func syntheticRow(i int) []string {
	r := importRowOf("kid-", i)
	r[0], r[8], r[9], r[10] = marked("name", i), marked("address", i), marked("guardian", i), marked("school", i)
	return r
}

// TestTenThousandChildrenStandNowhereInClear imports 10 000 children, looks for every personal detail of them wherever something is written,
// and has a hundred of them forgotten. The steps share what was imported.
func TestTenThousandChildrenStandNowhereInClear(t *testing.T) {
	t.Parallel()
	p := personal{standalone: startStandalone(t, t.TempDir()), secrets: newSecrets()}
	var err error
	p.conns, err = enrol(t.Context(), p.operator(t), "440700", []access.Caller{
		{ID: "hotline-1", Role: auditv1.Role_ROLE_HOTLINE_OPERATOR, Org: "org-bureau"},
		{ID: "director-1", Role: auditv1.Role_ROLE_CHILD_DIRECTOR, Org: "org-village", AdmCode: "440703"},
		{ID: "leader-1", Role: auditv1.Role_ROLE_BUREAU_LEADER, Org: "org-bureau"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(p.conns) })
	ok := t.Run("imported", p.imported) &&
		t.Run("with guardians, contacts and cases", p.withMore) &&
		t.Run("shown to who may see them", func(t *testing.T) { p.shown(t, false) }) &&
		t.Run("in no table", p.tables) &&
		t.Run("in no file while it runs", func(t *testing.T) { p.files(t) }) &&
		t.Run("a hundred are forgotten", p.forgotten) &&
		t.Run("the others are shown as before", func(t *testing.T) { p.shown(t, true) }) &&
		t.Run("in no table and not on the audit trail", func(t *testing.T) {
			p.tables(t)
			p.none(t, "the audit trail", []byte(p.tongan(t, "audit", "--format", "json")))
		})
	if err := p.end(t, syscall.SIGTERM, 20*time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
	if ok {
		t.Run("in no file and no log", func(t *testing.T) { p.files(t); p.none(t, "the log", []byte(p.logs.String())) })
		t.Run("in no message of any stream", p.streams)
	}
}

// personal is a standalone with the synthetic children.
type personal struct {
	*standalone
	secrets

	conns map[string]*nats.Conn
}

// imported imports the children, and some rows that are refused: what is said about those holds nothing of them either.
func (p personal) imported(t *testing.T) {
	rows := make([][]string, syntheticChildren)
	for i := range rows {
		rows[i] = syntheticRow(i)
	}
	dir := t.TempDir()
	file := writeCSV(t, filepath.Join(dir, "children.csv"), "", ',', slices.Insert(rows, 0, chineseHeader))
	content, err := os.ReadFile(file)
	if n := p.count(content); err != nil || n != 6*syntheticChildren {
		t.Fatalf("in the file itself %d personal details are found (%v)", n, err)
	}
	key := p.add(t, "supervisor-1", "CHILD_SUPERVISOR")
	imports := func(file string) (string, error) {
		out, errs, err := run(t, nil, binary, "import", "children", file, "--on", "2020-02-01", "--nats-url", p.natsURL, "--credentials", key)
		p.none(t, "what is printed", []byte(out+errs))
		return out, err
	}
	if out, err := imports(file); err != nil || counted(t, out, "registered") != syntheticChildren {
		t.Fatalf("import: %v\n%s", err, out)
	}
	for n := range wrong {
		rows[n] = wrong[n].spoil(syntheticRow(n))
		if len(rows[n]) > 1 {
			rows[n][1] = "other-" + strconv.Itoa(n)
		}
	}
	if out, err := imports(writeCSV(t, filepath.Join(dir, "broken.csv"), "", ',', slices.Insert(rows[:len(wrong)], 0, chineseHeader))); err == nil {
		t.Errorf("broken rows are imported:\n%s", out)
	}
}

// each sends something for each child that is looked at.
func (p personal) each(t *testing.T, send func(ctx context.Context, i int) error) {
	t.Helper()
	sendEach(t, looked, func(ctx context.Context, n int) error { return send(ctx, n*eachLooked) })
}

// isForgotten says which of the children that are looked at are forgotten.
func isForgotten(i int) bool { return i/eachLooked%2 == 0 }

// withMore enters a guardian, a contact and a case for each child that is looked at.
func (p personal) withMore(t *testing.T) {
	at := func(command string) *eventv1.Provenance {
		return &eventv1.Provenance{CommandId: command, OccurredAt: timestamppb.New(time.Date(2020, 2, 2, 1, 0, 0, 0, time.UTC)), AdmCode: "440703"}
	}
	p.each(t, func(ctx context.Context, i int) error {
		child, n := childID(i), strconv.Itoa(i)
		for _, c := range []struct {
			caller, subj string
			command      proto.Message
		}{
			{"director-1", "tongan.cmd.intake.child.record-guardian", &intakev1.RecordGuardian{
				Provenance: at("guardian-" + n), ChildId: child, GuardianId: "g-" + n, Relation: intakev1.GuardianRelation_GUARDIAN_RELATION_PARENT, StartedOn: "2020-01-05",
				Details: &intakev1.GuardianDetails{Name: marked("parent", i), Phone: syntheticRow(i)[7], Whereabouts: marked("whereabouts", i)},
			}},
			{"hotline-1", "tongan.cmd.intake.contact.receive", &intakev1.ReceiveHotlineContact{
				Provenance: at(""), ContactId: "contact-" + n, Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE, ChildId: child,
				ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD,
				Details:     &intakev1.ContactDetails{CallerName: marked("caller", i), Phone: syntheticRow(i)[7], Narrative: marked("said", i)},
			}},
			{"director-1", "tongan.cmd.intake.case.open", &intakev1.OpenCase{
				Provenance: at(""), CaseId: "case-" + n, ChildId: child, ContactId: "contact-" + n, Note: &intakev1.CaseNote{Text: marked("opening", i)},
			}},
			{"director-1", "tongan.cmd.intake.case.follow-up", &intakev1.RecordFollowUp{
				Provenance: at(""), CaseId: "case-" + n, FollowUpId: "follow-up-" + n, Channel: intakev1.FollowUpChannel_FOLLOW_UP_CHANNEL_PHONE,
				ChildId: child, Note: &intakev1.CaseNote{Text: marked("follow-up", i)},
			}},
		} {
			if err := insist(ctx, p.conns[c.caller], c.subj, c.command, newReply()); err != nil {
				return err
			}
		}
		return nil
	})
}

// shown asks for each child that is looked at, its contact and its case: who is allowed is shown everything, and nothing of the forgotten.
func (p personal) shown(t *testing.T, afterwards bool) {
	t.Helper()
	p.each(t, func(ctx context.Context, i int) error {
		n, r := strconv.Itoa(i), syntheticRow(i)
		child, contact, opened := &intakev1.Child{}, &intakev1.Contact{}, &intakev1.Case{}
		errChild := request(ctx, p.conns["director-1"], intake.ChildSubject, &intakev1.GetChild{ChildId: childID(i), Reason: "FOLLOW_UP"}, child)
		errContact := request(ctx, p.conns["hotline-1"], intake.ContactSubject, &intakev1.GetContact{ContactId: "contact-" + n, Reason: "FOLLOW_UP"}, contact)
		err := request(ctx, p.conns["director-1"], intake.CaseSubject, &intakev1.GetCase{CaseId: "case-" + n, Reason: "FOLLOW_UP"}, opened)
		if afterwards && isForgotten(i) {
			var refused, refusedContact *refusal
			switch {
			case !errors.As(errChild, &refused) || refused.text != "child_id: is forgotten":
				return fmt.Errorf("%s is forgotten and answered with %w", childID(i), errChild)
			case !errors.As(errContact, &refusedContact) || refusedContact.text != "contact_id: its personal details are forgotten":
				return fmt.Errorf("contact-%s is forgotten and answered with %w", n, errContact)
			case err != nil || len(opened.GetNotes()) > 0:
				return fmt.Errorf("case-%s is forgotten and shown with %d notes (%w)", n, len(opened.GetNotes()), err)
			}
			return nil
		}
		want := &intakev1.ChildDetails{Name: r[0], IdentityNumber: r[2], Phone: r[7], Address: r[8], GuardianName: r[9], School: r[10]}
		switch {
		case errors.Join(errChild, errContact, err) != nil:
			return errors.Join(errChild, errContact, err)
		case !proto.Equal(child.GetDetails(), want):
			return fmt.Errorf("%s is shown with other details", childID(i))
		case contact.GetDetails().GetCallerName() != marked("caller", i) || contact.GetDetails().GetNarrative() != marked("said", i):
			return fmt.Errorf("contact-%s is shown with other details", n)
		case len(opened.GetNotes()) != 2 || opened.GetNotes()[1].GetNote().GetText() != marked("follow-up", i):
			return fmt.Errorf("case-%s is shown with %d notes, or others", n, len(opened.GetNotes()))
		}
		return nil
	})
}

// forgotten has a hundred children forgotten. Nothing is counted otherwise, and of their keys no bytes are left.
func (p personal) forgotten(t *testing.T) {
	gone, kept := p.keys(t, isForgotten), p.keys(t, func(i int) bool { return !isForgotten(i) })
	if n := p.inFiles(t, gone); n != len(gone) {
		t.Fatalf("of %d pieces of keys %d are found in the files", len(gone), n)
	}
	before := p.counts(t)
	p.each(t, func(ctx context.Context, i int) error {
		if !isForgotten(i) {
			return nil
		}
		forget := &intakev1.ForgetChild{Provenance: provenance("440703"), ChildId: childID(i), Basis: "RETENTION_ENDED"}
		return insist(ctx, p.conns["leader-1"], "tongan.cmd.intake.child.forget", forget, newReply())
	})
	p.projected(t, "children WHERE forgotten AND key_destroyed", looked/2)
	if after := p.counts(t); after != before {
		t.Errorf("counted is\n%s\nbefore\n%s", after, before)
	}
	if n := p.inFiles(t, gone); n > 0 {
		t.Errorf("of %d pieces of destroyed keys %d are left in the files", len(gone), n)
	}
	if n := p.inFiles(t, kept); n != len(kept) {
		t.Errorf("of %d pieces of the other keys %d are left in the files", len(kept), n)
	}
}

// pieceOfKey is so many bytes of a wrapped key.
const pieceOfKey = 8

// keys are the wrapped keys of children and of the contacts about them, in pieces.
func (p personal) keys(t *testing.T, which func(i int) bool) map[[pieceOfKey]byte]bool {
	t.Helper()
	nc := p.as(t, subject.Intake).Conn()
	pieces := make(map[[pieceOfKey]byte]bool)
	for i := 0; i < syntheticChildren; i += eachLooked {
		if !which(i) {
			continue
		}
		for _, id := range []string{"child-" + childID(i), "contact-contact-" + strconv.Itoa(i)} {
			m, err := nc.Request(subject.API("STREAM.MSG.GET", subject.StreamKeys), []byte(`{"last_by_subj":"`+subject.Key(id)+`"}`), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Message struct{ Data []byte } }
			key := &eventv1.WrappedKey{}
			if json.Unmarshal(m.Data, &got) != nil || proto.Unmarshal(got.Message.Data, key) != nil || len(key.GetCiphertext()) < 32 {
				t.Fatalf("key %s cannot be read", id)
			}
			for piece := range slices.Chunk(key.GetCiphertext(), pieceOfKey) {
				if len(piece) == pieceOfKey {
					pieces[[pieceOfKey]byte(piece)] = true
				}
			}
		}
	}
	return pieces
}

// inFiles counts the pieces that stand in some file of the bus.
func (p personal) inFiles(t *testing.T, pieces map[[pieceOfKey]byte]bool) int {
	t.Helper()
	found := make(map[[pieceOfKey]byte]bool)
	p.eachFile(t, "bus", func(_ string, content []byte) {
		for at := 0; at+pieceOfKey <= len(content); at++ {
			if piece := [pieceOfKey]byte(content[at : at+pieceOfKey]); pieces[piece] {
				found[piece] = true
			}
		}
	})
	return len(found)
}

// counts is everything that is counted.
func (p personal) counts(t *testing.T) string {
	t.Helper()
	var out []string
	for _, sql := range []string{
		"SELECT indicator, sum(value) FROM tongan.tallies GROUP BY indicator ORDER BY indicator",
		"SELECT adm_code, age_band, categories, count() FROM tongan.children GROUP BY ALL ORDER BY ALL",
		"SELECT adm_code, category, rule, started_on, ended_on, count() FROM tongan.category_memberships GROUP BY ALL ORDER BY ALL",
		"SELECT category, uniqExact(case_id) FROM tongan.cases GROUP BY ALL ORDER BY ALL",
		"SELECT type, count(), uniqExact(aggregate_id) FROM tongan.journal WHERE aggregate IN ('contact', 'case') GROUP BY ALL ORDER BY ALL",
	} {
		code, body := p.query(t, projector.UserAnalystCity, sql)
		if code != http.StatusOK || body == "" {
			t.Fatalf("%s: %d %s", sql, code, body)
		}
		out = append(out, body)
	}
	return strings.Join(out, "\n\n")
}
