package hotline_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/decider"
	"tongan.dev/pkg/decidertest"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	"tongan.dev/services/intake/internal/hotline"
)

const (
	child           = intakev1.ContactType_CONTACT_TYPE_CHILD
	aboutChild      = intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD
	nonCounselling  = intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING
	phone           = intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE
	violence        = intakev1.ContactReason_CONTACT_REASON_VIOLENCE
	basicNeeds      = intakev1.ContactReason_CONTACT_REASON_BASIC_NEEDS
	urgent          = intakev1.Urgency_URGENCY_URGENT
	caseOpened      = intakev1.ContactOutcome_CONTACT_OUTCOME_CASE_OPENED
	answered        = intakev1.ContactOutcome_CONTACT_OUTCOME_ANSWERED
	handedOver      = intakev1.ContactOutcome_CONTACT_OUTCOME_HANDED_OVER
	callBack        = intakev1.DeadlineKind_DEADLINE_KIND_CALL_BACK
	counselled      = intakev1.ContactAction_CONTACT_ACTION_COUNSELLED
	received, later = "2020-01-31T16:30:00Z", "2020-01-31T17:00:00Z" // both on 1 February in Jiangmen
)

func at(s string) *timestamppb.Timestamp {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return timestamppb.New(t)
}

// receipt is what was received, by org-a in 440703.
func receipt() *intakev1.HotlineContactReceived {
	return &intakev1.HotlineContactReceived{
		Provenance: &eventv1.Provenance{OccurredAt: at(received), CreditedOrg: "org-a", AdmCode: "440703"},
		ContactId:  "hc1", Channel: phone, ContactType: aboutChild, ChildId: "ch1",
	}
}

// due is a call back that is owed.
func due(name, when string) []*intakev1.Deadline {
	return []*intakev1.Deadline{{DeadlineId: name, Kind: callBack, DueAt: at(when), Armed: true}}
}

func promised() *intakev1.CallBackPromised {
	return &intakev1.CallBackPromised{
		Provenance: &eventv1.Provenance{OccurredAt: at(later)}, ContactId: "hc1", DeadlinesSet: due("call-back-1", "2020-01-31T19:00:00Z"),
	}
}

func closed(outcome intakev1.ContactOutcome, caseID string, withdrawn ...*intakev1.Deadline) *intakev1.HotlineContactClosed {
	return &intakev1.HotlineContactClosed{ContactId: "hc1", ContactOutcome: outcome, CaseId: caseID, DeadlinesWithdrawn: withdrawn}
}

func TestContact(t *testing.T) {
	t.Parallel()
	receive := decidertest.Command("2020-02-01T09:00:00Z", "hc1", &intakev1.ReceiveHotlineContact{
		ContactId: "hc1", Channel: phone, ContactType: aboutChild, ChildId: "ch1", Speaker: intakev1.Speaker_SPEAKER_SCHOOL,
		RangAt: at("2020-02-01T08:59:00Z"), AnsweredAt: at("2020-02-01T08:59:20Z"),
	})
	receive.Sealed = map[string]*eventv1.Sealed{"details": {KeyId: "hc1"}}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name: "a contact is received with sealed details",
			When: receive,
			Then: []decider.Event{&intakev1.HotlineContactReceived{
				Provenance: receive.Provenance(), ContactId: "hc1", Channel: phone, ContactType: aboutChild, ChildId: "ch1",
				Details: &eventv1.Sealed{KeyId: "hc1"}, Speaker: intakev1.Speaker_SPEAKER_SCHOOL,
				RangAt: at("2020-02-01T08:59:00Z"), AnsweredAt: at("2020-02-01T08:59:20Z"),
			}},
		},
		{
			Name: "a contact may be about no known child and without details",
			When: decidertest.Command("2020-02-01T09:00:00Z", "hc2", &intakev1.ReceiveHotlineContact{
				ContactId: "hc2", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_SMS, ContactType: nonCounselling,
			}),
			Then: []decider.Event{&intakev1.HotlineContactReceived{
				ContactId: "hc2", Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_SMS, ContactType: nonCounselling,
			}},
		},
		{
			Name: "nobody has to have answered, and what it is about may be said later",
			When: decidertest.Command("2020-02-01T09:00:00Z", "hc1", &intakev1.ReceiveHotlineContact{
				ContactId: "hc1", Channel: phone, RangAt: at("2020-02-01T09:00:00Z"),
			}),
			Then: []decider.Event{&intakev1.HotlineContactReceived{ContactId: "hc1", Channel: phone, RangAt: at("2020-02-01T09:00:00Z")}},
		},
		{
			Name:  "a contact is received once",
			Given: []decider.Event{&intakev1.HotlineContactReceived{ContactId: "hc1"}},
			When:  decidertest.Command("2020-02-01T10:00:00Z", "k2", &intakev1.ReceiveHotlineContact{ContactId: "hc1"}),
			Err:   hotline.ErrReceived,
		},
		{
			Name: "a contact is not received before it rang",
			When: decidertest.Command("2020-02-01T09:00:00Z", "hc1", &intakev1.ReceiveHotlineContact{ContactId: "hc1", RangAt: at("2020-02-01T09:00:01Z")}),
			Err:  hotline.ErrBeforeRinging,
		},
		{
			Name: "a contact is not answered in the future",
			When: decidertest.Command("2020-02-01T09:00:00Z", "hc1", &intakev1.ReceiveHotlineContact{
				ContactId: "hc1", RangAt: at("2020-02-01T09:00:00Z"), AnsweredAt: at("2020-02-01T09:05:01Z"),
			}),
			Err: hotline.ErrAnsweredAhead,
		},
		{
			Name:  "nothing happens before the contact was received",
			Given: []decider.Event{receipt()},
			When:  decidertest.Command("2020-01-31T16:29:59Z", "k1", &intakev1.RecordContactAction{ContactId: "hc1", ContactAction: counselled}),
			Err:   hotline.ErrBeforeReceipt,
		},
		{
			Name: "something happens while it lasts, from when it rang",
			Given: []decider.Event{&intakev1.HotlineContactReceived{
				Provenance: &eventv1.Provenance{OccurredAt: at(later)}, ContactId: "hc1", RangAt: at(received),
			}},
			When: decidertest.Command(received, "k1", &intakev1.RecordContactAction{ContactId: "hc1", ContactAction: counselled}),
			Then: []decider.Event{&intakev1.ContactActionRecorded{ContactId: "hc1", ContactAction: counselled}},
		},
	})
}

// Everything that comes after the receipt is refused before it, and after closing what would change the contact.
func TestNothingComesBeforeTheReceiptOrChangesAClosedContact(t *testing.T) {
	t.Parallel()
	var rows []decidertest.Row
	row := func(name string, err error, body decider.Event, given ...decider.Event) {
		rows = append(rows, decidertest.Row{Name: name, Given: given, When: decidertest.Command("2020-02-01T09:00:00Z", "k9", body), Err: err})
	}
	for _, body := range []decider.Event{
		&intakev1.ClassifyHotlineContact{ContactId: "hc1", ContactType: child, Reasons: []intakev1.ContactReason{violence}},
		&intakev1.LinkHotlineContact{ContactId: "hc1", ChildIds: []string{"ch2"}},
		&intakev1.RecordContactAction{ContactId: "hc1", ContactAction: counselled},
		&intakev1.PromiseCallBack{ContactId: "hc1", DueAt: at("2020-02-02T09:00:00Z")},
		&intakev1.RecordCallBack{ContactId: "hc1", Reached: true},
		&intakev1.HandOverContact{ContactId: "hc1", ToOrg: "org-b"},
		&intakev1.CloseHotlineContact{ContactId: "hc1", ContactOutcome: answered},
	} {
		name := string(body.ProtoReflect().Descriptor().Name())
		row(name+" needs a contact that was received", hotline.ErrNotReceived, body)
		row(name+" is refused when it was closed otherwise", hotline.ErrClosed, proto.Clone(body).(decider.Event), receipt(), closed(handedOver, ""))
	}
	decidertest.Run(t, hotline.Decider, rows)
}

func TestClassifying(t *testing.T) {
	t.Parallel()
	classified := &intakev1.HotlineContactClassified{
		ContactId: "hc1", ContactType: child, Reasons: []intakev1.ContactReason{violence, basicNeeds}, Urgency: urgent,
	}
	classify := func(id string, kind intakev1.ContactType, urgency intakev1.Urgency, reasons ...intakev1.ContactReason) decider.Command {
		return decidertest.Command("2020-02-03T09:00:00Z", id, &intakev1.ClassifyHotlineContact{
			Provenance: &eventv1.Provenance{OccurredAt: at("2020-02-03T09:00:00Z"), AdmCode: "440704", CreditedOrg: "org-b"},
			ContactId:  "hc1", ContactType: kind, Reasons: reasons, Urgency: urgency,
		})
	}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name:  "it restates what the contact counts for: its own day, district, channel and organisation",
			Given: []decider.Event{receipt()},
			When:  classify("k1", child, urgent, violence),
			Then: []decider.Event{&intakev1.HotlineContactClassified{
				ContactId: "hc1", ContactType: child, PreviousContactType: aboutChild, Reasons: []intakev1.ContactReason{violence}, Urgency: urgent,
				Channel: phone, AdmCode: "440703", CountsOn: "2020-02-01", ContactOrg: "org-a",
			}},
		},
		{
			Name:  "it may be corrected, also after a hand-over, and says what was said before",
			Given: []decider.Event{receipt(), classified, &intakev1.HotlineContactHandedOver{ContactId: "hc1", FromOrg: "org-a", ToOrg: "org-b"}},
			When:  classify("k2", nonCounselling, 0),
			Then: []decider.Event{&intakev1.HotlineContactClassified{
				ContactId: "hc1", ContactType: nonCounselling, PreviousContactType: child,
				Channel: phone, AdmCode: "440703", CountsOn: "2020-02-01", ContactOrg: "org-a",
			}},
		},
		{
			Name:  "the same classification again is silent, whatever the order of its reasons",
			Given: []decider.Event{receipt(), classified},
			When:  classify("k2", child, urgent, basicNeeds, violence),
		},
		{
			Name:  "another urgency is another classification",
			Given: []decider.Event{receipt(), classified},
			When:  classify("k2", child, 0, violence, basicNeeds),
			Then: []decider.Event{&intakev1.HotlineContactClassified{
				ContactId: "hc1", ContactType: child, PreviousContactType: child, Reasons: []intakev1.ContactReason{violence, basicNeeds},
				Channel: phone, AdmCode: "440703", CountsOn: "2020-02-01", ContactOrg: "org-a",
			}},
		},
	})
}

func TestLinkingActingAndHandingOver(t *testing.T) {
	t.Parallel()
	linked := &intakev1.HotlineContactLinked{ContactId: "hc1", ChildIds: []string{"ch2"}}
	acted := &intakev1.ContactActionRecorded{ContactId: "hc1", ContactAction: counselled, HelpingOrg: "org-h", ContactType: aboutChild}
	handed := &intakev1.HotlineContactHandedOver{ContactId: "hc1", FromOrg: "org-a", ToOrg: "org-b"}
	decidertest.Run(t, hotline.Decider, []decidertest.Row{
		{
			Name:  "only children that are new are linked, that of the receipt is not",
			Given: []decider.Event{receipt(), linked},
			When:  decidertest.Command(later, "k1", &intakev1.LinkHotlineContact{ContactId: "hc1", ChildIds: []string{"ch1", "ch2", "ch3"}}),
			Then:  []decider.Event{&intakev1.HotlineContactLinked{ContactId: "hc1", ChildIds: []string{"ch3"}}},
		},
		{
			Name:  "linking known children is silent",
			Given: []decider.Event{receipt(), linked},
			When:  decidertest.Command(later, "k1", &intakev1.LinkHotlineContact{ContactId: "hc1", ChildIds: []string{"ch2", "ch1"}}),
		},
		{
			Name:  "every action is written down, also the same one again",
			Given: []decider.Event{receipt(), acted},
			When:  decidertest.Command(later, "k2", &intakev1.RecordContactAction{ContactId: "hc1", ContactAction: counselled, HelpingOrg: "org-h"}),
			Then:  []decider.Event{acted},
		},
		{
			Name:  "a contact is handed over by who has it",
			Given: []decider.Event{receipt(), handed},
			When:  decidertest.Command(later, "k2", &intakev1.HandOverContact{ContactId: "hc1", ToOrg: "org-a"}),
			Then:  []decider.Event{&intakev1.HotlineContactHandedOver{ContactId: "hc1", FromOrg: "org-b", ToOrg: "org-a"}},
		},
		{
			Name:  "handing over to who has it is silent",
			Given: []decider.Event{receipt()},
			When:  decidertest.Command(later, "k2", &intakev1.HandOverContact{ContactId: "hc1", ToOrg: "org-a"}),
		},
	})
}

func TestView(t *testing.T) {
	t.Parallel()
	first := receipt()
	first.Speaker, first.Details = intakev1.Speaker_SPEAKER_SCHOOL, &eventv1.Sealed{KeyId: "contact-hc1"}
	f, err := hotline.Decider.Fold([]decider.Recorded{
		{Event: first, Sequence: 3},
		{Event: &intakev1.HotlineContactClassified{ContactType: child, Reasons: []intakev1.ContactReason{violence}, Urgency: urgent}, Sequence: 4},
		{Event: &intakev1.HotlineContactLinked{ChildIds: []string{"ch2"}}, Sequence: 5},
		{Event: promised(), Sequence: 6},
		{Event: &intakev1.HotlineContactHandedOver{FromOrg: "org-a", ToOrg: "org-b"}, Sequence: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &intakev1.Contact{
		ContactId: "hc1", Revision: 7, AdmCode: "440703", Channel: phone, Speaker: intakev1.Speaker_SPEAKER_SCHOOL, ContactType: child,
		Reasons: []intakev1.ContactReason{violence}, Urgency: urgent, ChildIds: []string{"ch1", "ch2"}, OrgId: "org-b",
		Deadlines: due("call-back-1", "2020-01-31T19:00:00Z"),
	}
	if got := f.State.View("hc1", f.Revision); !proto.Equal(got, want) {
		t.Errorf("the contact is %v, want %v", got, want)
	}
	ended, _ := hotline.Decider.Evolve(f.State, closed(caseOpened, "c1", due("call-back-1", "2020-01-31T19:00:00Z")...))
	want.Closed, want.ContactOutcome, want.Deadlines = true, caseOpened, nil
	if got := ended.View("hc1", f.Revision); !proto.Equal(got, want) {
		t.Errorf("closed it is %v, want %v", got, want)
	}
	if k := ended.Details().GetKeyId(); k != "contact-hc1" {
		t.Errorf("its details are sealed under %s", k)
	}
}

func TestNoOtherCommandIsDecided(t *testing.T) {
	t.Parallel()
	state, _ := hotline.Decider.Evolve(hotline.State{}, receipt())
	if _, err := hotline.Decider.Decide(state, decidertest.Command(later, "k1", &intakev1.OpenCase{})); err == nil || errors.Is(err, hotline.ErrClosed) {
		t.Errorf("a command of another aggregate comes to %v", err)
	}
}
