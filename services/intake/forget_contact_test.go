package intake_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"tongan.dev/pkg/access"
	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/eventlog"
	"tongan.dev/pkg/natstest"
	"tongan.dev/pkg/seal"
	"tongan.dev/pkg/servetest"
	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake"
	"tongan.dev/services/intake/internal/child"
)

// notes is how many contacts are noted as being about some child.
func notes(t *testing.T, js jetstream.JetStream) (n int) {
	t.Helper()
	natstest.Each(t, js, subject.StreamIndex, func(m jetstream.Msg) {
		if subject.Matches(subject.Index("contact", "*", "*"), m.Subject()) {
			n++
		}
	})
	return n
}

// With a child its contacts are forgotten: those received and those linked, also before it was registered. Others stay, and nothing
// personal about it is entered any more.
func TestWithAChildItsContactsAreForgotten(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	nc := c.As(t, operator("h1", natstest.Org, ""))
	link := func(id, contact string, children ...string) *intakev1.LinkHotlineContact {
		return &intakev1.LinkHotlineContact{Provenance: byOperator(id), ContactId: contact, ChildIds: children}
	}
	c.Send(t, receiveContact, receiving("received", "ch1", said()))
	c.Send(t, registerChild, withNumber("ch1", number))
	c.Send(t, receiveContact, receiving("linked", "ch2", said()))
	sends(t, nc, contactCommand+"link", link("k1", "linked", "ch1")).Refused(t, "")
	c.Send(t, receiveContact, receiving("another", "ch2", said()))
	c.Send(t, receiveContact, receiving("bare", "ch1", nil))
	c.Send(t, forgetChild, forgetting("ch1"))
	settled(t, c.JS)
	for _, id := range []string{"received", "linked"} {
		asksContact(t, nc, id).Refused(t, "409", "contact_id: its personal details are forgotten")
	}
	for _, id := range []string{"another", "bare"} {
		asksContact(t, nc, id).Refused(t, "")
	}
	if n := notes(t, c.JS); n != 2 { // of the other child
		t.Errorf("%d notes are left", n)
	}

	before := stored(t, c.JS)
	r := sends(t, nc, receiveContact, receiving("late", "ch1", said()))
	if r.Refused(t, "409", "details: cannot be kept: the child is forgotten"); strings.Contains(r.Error, "5c6d7e") {
		t.Error("the refusal repeats what was said")
	}
	sends(t, nc, contactCommand+"link", link("k2", "another", "ch3", "ch1")).Refused(t, "409", "child_ids: name a forgotten child")
	if after := stored(t, c.JS); len(after) != len(before) || notes(t, c.JS) != 2 {
		t.Errorf("%d events are stored, and there are %d notes", len(after)-len(before), notes(t, c.JS))
	}
	asksContact(t, nc, "another").Refused(t, "")
	// What holds nothing personal goes on.
	sends(t, nc, receiveContact, receiving("empty", "ch1", nil)).Refused(t, "")
	c.Send(t, receiveContact, receiving("nobody", "", nil))
	sends(t, nc, contactCommand+"link", link("k3", "nobody", "ch1")).Refused(t, "")
}

// Of contacts that become about a child while it is being forgotten none can be opened afterwards. A link names other children too: it takes
// long, and the child may be forgotten at every moment of it.
func TestAContactThatTurnsOutToBeAboutAChildBeingForgottenIsForgottenToo(t *testing.T) {
	t.Parallel()
	c := servetest.Run(t, subject.Intake, intake.Run, intake.Config{MasterKey: servetest.MasterKey(t)})
	nc := c.As(t, access.Caller{ID: "w1", Role: auditv1.Role_ROLE_HOTLINE_OPERATOR, Org: natstest.Org})
	const children, each = 10, 8
	others := make([]string, 19)
	for i := range others {
		others[i] = fmt.Sprintf("other-%d", i)
	}
	var about sync.Map // contacts that are about a child
	for i := range children {
		id := fmt.Sprintf("ch%d", i)
		c.Send(t, registerChild, withNumber(id, ""))
		for j := range each {
			c.Send(t, receiveContact, receiving(fmt.Sprintf("linked-%d-%d", i, j), "", said()))
		}
		var wg sync.WaitGroup
		for j := range each {
			received, linked := fmt.Sprintf("received-%d-%d", i, j), fmt.Sprintf("linked-%d-%d", i, j)
			link := &intakev1.LinkHotlineContact{Provenance: provenance("k-" + linked), ContactId: linked, ChildIds: append([]string{id}, others...)}
			for contact, send := range map[string]func() servetest.Reply{
				received: func() servetest.Reply { return sends(t, nc, receiveContact, receiving(received, id, said())) },
				linked:   func() servetest.Reply { return sends(t, nc, contactCommand+"link", link) },
			} {
				wg.Go(func() {
					if r := send(); r.Code == "" {
						about.Store(contact, true)
					} else {
						r.Refused(t, "409", "forgotten")
					}
				})
			}
			if j == each/2 {
				wg.Go(func() { c.Send(t, forgetChild, forgetting(id)) })
			}
		}
		wg.Wait()
	}
	settled(t, c.JS)
	about.Range(func(contact, _ any) bool {
		asksContact(t, nc, contact.(string)).Refused(t, "409", "contact_id: its personal details are forgotten")
		return true
	})
}

// A service that ends between the keys of two contacts leaves the rest to the next one.
func TestAForgettingOfContactsThatWasCutShortIsFinished(t *testing.T) {
	t.Parallel()
	js, cfg := natstest.Bus(t), intake.Config{MasterKey: servetest.MasterKey(t)}
	t.Run("cut short", func(t *testing.T) { // not at once: the next one starts when this one has ended
		c := servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
		c.Send(t, registerChild, withNumber("ch1", ""))
		for _, id := range []string{"hc1", "hc2"} {
			c.Send(t, receiveContact, receiving(id, "ch1", said()))
		}
	})
	children := eventlog.New(js, child.Aggregate, slog.New(slog.DiscardHandler))
	if _, err := decider.Transact(t.Context(), children, child.Decider, "ch1", decider.Command{At: servetest.Now, ID: "forget", Body: forgetting("ch1")}); err != nil {
		t.Fatal(err)
	}
	box, err := cfg.MasterKey.Box(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if err := box.Destroy(t.Context(), "contact-hc1"); err != nil {
		t.Fatal(err)
	}
	servetest.RunOn(t, js, subject.Intake, intake.Run, cfg)
	settled(t, js)
	checkForgotten(t, js, cfg, "ch1")
	for _, id := range []string{"hc1", "hc2"} {
		if _, err := box.Seal(t.Context(), "contact-"+id, "intake.contact."+id, "details", said()); !errors.Is(err, seal.ErrDestroyed) {
			t.Errorf("under the key of %s is sealed with %v, want %v", id, err, seal.ErrDestroyed)
		}
	}
	if n := notes(t, js); n != 0 {
		t.Errorf("%d notes are left", n)
	}
}
