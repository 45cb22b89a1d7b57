package chaos

import (
	"crypto/ed25519"
	"time"

	"github.com/nats-io/nkeys"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tongan.dev/pkg/subject"
	auditv1 "tongan.dev/proto/gen/tongan/audit/v1"
	eventv1 "tongan.dev/proto/gen/tongan/event/v1"
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
	intakev1 "tongan.dev/proto/gen/tongan/intake/v1"
	outreachv1 "tongan.dev/proto/gen/tongan/outreach/v1"
	reportingv1 "tongan.dev/proto/gen/tongan/reporting/v1"
)

// Who sends.
const (
	hotline    = auditv1.Role_ROLE_HOTLINE_OPERATOR
	worker     = auditv1.Role_ROLE_SOCIAL_WORKER
	supervisor = auditv1.Role_ROLE_CHILD_SUPERVISOR
	nurse      = auditv1.Role_ROLE_INSTITUTION_NURSE
	warehouse  = auditv1.Role_ROLE_WAREHOUSE
	leader     = auditv1.Role_ROLE_BUREAU_LEADER
	gateway    = auditv1.Role_ROLE_SMS_GATEWAY
	operator   = auditv1.Role_ROLE_OPERATOR
)

// The aggregates that commands are about.
var (
	children     = subject.Aggregate{Service: subject.Intake, Name: "child"}
	contacts     = subject.Aggregate{Service: subject.Intake, Name: "contact"}
	lines        = subject.Aggregate{Service: subject.Intake, Name: "line"}
	cases        = subject.Aggregate{Service: subject.Intake, Name: "case"}
	institutions = subject.Aggregate{Service: subject.HealthCheck, Name: "institution"}
	rounds       = subject.Aggregate{Service: subject.HealthCheck, Name: "round"}
	visits       = subject.Aggregate{Service: subject.Outreach, Name: "visit"}
	reminders    = subject.Aggregate{Service: subject.Outreach, Name: "reminder"}
	deliveries   = subject.Aggregate{Service: subject.Outreach, Name: "delivery"}
	supports     = subject.Aggregate{Service: subject.Outreach, Name: "support"}
	bulletins    = subject.Aggregate{Service: subject.Reporting, Name: "bulletin"}
)

// tales are the kinds of stories. Together they hold every command there is.
var tales = []func(*Story){
	(*Story).child, (*Story).visit, (*Story).contact, (*Story).delivery, (*Story).protection, (*Story).visit, (*Story).round, (*Story).duty,
	(*Story).batch, (*Story).support, (*Story).visit, (*Story).missed, (*Story).bulletin, (*Story).caller, (*Story).forgotten,
}

const inDifficulty = eventv1.PopulationCategory_POPULATION_CATEGORY_IN_DIFFICULTY

func (s *Story) registers(id string) *Command {
	return s.add(worker, children, id, "register", &intakev1.RegisterChild{
		ChildId: id, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, WorkerId: "w1",
		Details: &intakev1.ChildDetails{Name: "某某", BirthDate: "2012-05-01"}, CategoryStartedOn: "2019-09-01",
	}, "ChildRegistered").counts("children_registered", 1)
}

// child is a child from registration to its end, and a second entry of it that is merged.
func (s *Story) child() {
	id, other := s.name("ch"), s.name("ch2")
	registered := s.registers(id)
	s.registers(other)
	s.add(worker, children, id, "register", &intakev1.RegisterChild{
		ChildId: id, Category: inDifficulty, WorkerId: "w1", Details: &intakev1.ChildDetails{Name: "某某"},
	}).refused()
	s.add(worker, children, id, "correct", &intakev1.CorrectChild{ChildId: id, Details: &intakev1.ChildDetails{Name: "某", BirthDate: "2012-05-02"}}, "ChildCorrected")
	s.add(worker, children, id, "start-category", &intakev1.StartCategory{ChildId: id, Category: inDifficulty, StartedOn: "2020-01-05"}, "CategoryStarted")
	s.add(worker, children, id, "end-category", &intakev1.EndCategory{
		ChildId: id, Category: eventv1.PopulationCategory_POPULATION_CATEGORY_LEFT_BEHIND, EndedOn: "2020-01-10",
	}, "CategoryEnded")
	s.add(worker, children, id, "record-guardian", &intakev1.RecordGuardian{
		ChildId: id, GuardianId: "g1", Relation: 1, StartedOn: "2020-01-05", Details: &intakev1.GuardianDetails{Name: "某某"},
	}, "GuardianRecorded")
	s.add(worker, children, id, "arrange-care", &intakev1.ArrangeCare{
		ChildId: id, ArrangementId: "a1", CareType: intakev1.CareType_CARE_TYPE_RELATIVES, StartedOn: "2020-01-05", GuardianId: "g1",
	}, "CareArranged")
	s.add(worker, children, id, "end-guardian", &intakev1.EndGuardian{ChildId: id, GuardianId: "g1", EndedOn: "2020-01-20"}, "GuardianEnded")
	s.add(worker, children, id, "join-household", &intakev1.JoinHousehold{ChildId: id, HouseholdId: s.name("hh")}, "HouseholdJoined")
	s.add(supervisor, children, id, "assign-worker", &intakev1.AssignWorker{
		ChildId: id, WorkerId: "w2", WorkerRole: intakev1.WorkerRole_WORKER_ROLE_CHILD_DIRECTOR, StartedOn: "2020-01-22",
	}, "WorkerAssigned").seen(registered)
	s.add(worker, children, id, "move", &intakev1.MoveChild{ChildId: id, ToAdmCode: "440785", MovedOn: "2020-01-23"}, "ChildMoved")
	s.add(supervisor, children, other, "merge", &intakev1.MergeChild{ChildId: other, IntoChildId: id}, "ChildMerged")
	s.add(supervisor, children, id, "deregister", &intakev1.DeregisterChild{
		ChildId: id, DeregistrationReason: intakev1.DeregistrationReason_DEREGISTRATION_REASON_MOVED_AWAY, EndedOn: "2020-01-24",
	}, "ChildDeregistered")
}

// forgotten is a child that is registered and forgotten.
func (s *Story) forgotten() {
	id := s.name("ch")
	s.registers(id)
	s.add(leader, children, id, "forget", &intakev1.ForgetChild{ChildId: id, Basis: "GUARDIAN_ASKED"}, "ChildForgotten")
}

func (s *Story) receives(id string) {
	s.add(hotline, contacts, id, "receive", &intakev1.ReceiveHotlineContact{
		ContactId: id, Channel: intakev1.HotlineChannel_HOTLINE_CHANNEL_PHONE, ContactType: intakev1.ContactType_CONTACT_TYPE_ABOUT_CHILD,
		Details: &intakev1.ContactDetails{Narrative: "独自在家"},
	}, "HotlineContactReceived").counts("hotline_contacts", 1)
}

// contact is a contact at the hotline from receipt to closing.
func (s *Story) contact() {
	id := s.name("ct")
	s.receives(id)
	s.add(hotline, contacts, id, "classify", &intakev1.ClassifyHotlineContact{
		ContactId: id, ContactType: intakev1.ContactType_CONTACT_TYPE_NON_COUNSELLING,
	}, "HotlineContactClassified").counts("hotline_contacts", -1).counts("hotline_non_counselling", 1)
	s.add(hotline, contacts, id, "classify", &intakev1.ClassifyHotlineContact{
		ContactId: id, ContactType: intakev1.ContactType_CONTACT_TYPE_CHILD, Reasons: []intakev1.ContactReason{1},
	}, "HotlineContactClassified").counts("hotline_contacts", 1).counts("hotline_non_counselling", -1)
	s.add(hotline, contacts, id, "link", &intakev1.LinkHotlineContact{ContactId: id, ChildIds: []string{s.name("ch")}}, "HotlineContactLinked")
	s.add(hotline, contacts, id, "link", &intakev1.LinkHotlineContact{ContactId: id, ChildIds: []string{s.name("ch")}})
	s.add(hotline, contacts, id, "act", &intakev1.RecordContactAction{ContactId: id, ContactAction: intakev1.ContactAction_CONTACT_ACTION_COUNSELLED}, "ContactActionRecorded")
	s.add(hotline, contacts, id, "promise-call-back", &intakev1.PromiseCallBack{ContactId: id, DueAt: timestamppb.New(s.now.Add(time.Hour))}, "CallBackPromised")
	s.add(hotline, contacts, id, "call-back", &intakev1.RecordCallBack{ContactId: id, Reached: true}, "CallBackRecorded")
	s.add(hotline, contacts, id, "hand-over", &intakev1.HandOverContact{ContactId: id, ToOrg: "org-bureau"}, "HotlineContactHandedOver")
	s.add(hotline, contacts, id, "close", &intakev1.CloseHotlineContact{
		ContactId: id, ContactOutcome: intakev1.ContactOutcome_CONTACT_OUTCOME_CASE_OPENED, CaseId: s.name("cs"),
	}, "HotlineContactClosed")
	s.add(hotline, contacts, id, "act", &intakev1.RecordContactAction{ContactId: id, ContactAction: intakev1.ContactAction_CONTACT_ACTION_COUNSELLED}).refused()
}

// missed is a call back that is promised and not made.
func (s *Story) missed() {
	id := s.name("ct")
	s.receives(id)
	s.add(hotline, contacts, id, "promise-call-back", &intakev1.PromiseCallBack{
		ContactId: id, DueAt: timestamppb.New(s.now.Add(time.Duration(1+s.rng.IntN(10)) * time.Second)),
	}, "CallBackPromised")
}

// duty is two shifts at a line with nobody between them.
func (s *Story) duty() {
	id := s.name("ln")
	start := func(shift string, types ...string) *Command {
		return s.add(hotline, lines, id, "start-shift", &intakev1.StartShift{LineId: id, ShiftId: s.name(shift)}, types...)
	}
	end := func(shift string, types ...string) {
		s.add(hotline, lines, id, "end-shift", &intakev1.EndShift{LineId: id, ShiftId: s.name(shift)}, types...)
	}
	start("sh1", "ShiftStarted")
	start("sh9").refused()
	end("sh1", "ShiftEnded", "CoverGapBegan")
	start("sh2", "ShiftStarted", "CoverGapEnded")
	end("sh2", "ShiftEnded", "CoverGapBegan")
	end("sh2")
}

// protection is a case from opening to reopening, another one that is handed over with it, and a service for it.
func (s *Story) protection() {
	id, other, child := s.name("cs"), s.name("cs2"), s.name("ch")
	note := &intakev1.CaseNote{Text: "孩子独自在家"}
	opened := s.add(supervisor, cases, id, "open", &intakev1.OpenCase{CaseId: id, ChildId: child, Category: inDifficulty, WorkerId: "w5", Note: note}, "CaseOpened").counts("cases_opened", 1)
	s.add(supervisor, cases, other, "open", &intakev1.OpenCase{CaseId: other, ChildId: child, WorkerId: "w6"}, "CaseOpened").counts("cases_opened", 1)
	s.add(supervisor, cases, id, "assess", &intakev1.AssessCase{
		CaseId: id, AssessmentId: s.name("as"), RiskLevel: 1, RiskReason: "ALONE_AT_HOME", ChildId: child, Note: note,
	}, "AssessmentCompleted").seen(opened)
	s.add(supervisor, cases, id, "assess", &intakev1.AssessCase{
		CaseId: id, AssessmentId: s.name("as2"), RiskLevel: 2, RiskReason: "ALONE_AT_HOME",
	}).seen(opened).refused()
	s.add(supervisor, cases, id, "approve-plan", &intakev1.ApproveCasePlan{CaseId: id, PlanId: s.name("pl"), AgreedBy: "w9", Services: []outreachv1.SupportKind{1}}, "CasePlanApproved")
	s.add(supervisor, cases, id, "assign-worker", &intakev1.AssignCaseWorker{CaseId: id, WorkerId: "w6"}, "CaseWorkerAssigned").seen(opened)
	s.add(supervisor, cases, id, "hand-over", &intakev1.HandOverCases{CaseIds: []string{id, other}, FromWorkerId: "w6", WorkerId: "w7"}, "CaseWorkerAssigned").also(cases.Key(other), "CaseWorkerAssigned")
	s.supported(id, child)
	s.add(supervisor, cases, id, "propose-referral", &intakev1.ProposeReferral{CaseId: id, ReferralId: s.name("rf"), ToOrg: "o2", SupportKind: 1}, "ReferralProposed")
	s.add(supervisor, cases, id, "answer-referral", &intakev1.AnswerReferral{CaseId: id, ReferralId: s.name("rf"), ReferralState: 2}, "ReferralAnswered")
	s.add(supervisor, cases, id, "arrange-care", &intakev1.ArrangeTemporaryCare{CaseId: id, ArrangementId: s.name("ar"), CareProvider: 4}, "TemporaryCareArranged")
	s.add(supervisor, cases, id, "flag-special", &intakev1.FlagCaseSpecial{CaseId: id}, "CaseFlaggedSpecial")
	s.add(supervisor, cases, id, "follow-up", &intakev1.RecordFollowUp{CaseId: id, FollowUpId: s.name("fu"), Channel: 1}, "FollowUpRecorded").counts("special_cases", 1) // flagged and followed up
	s.add(supervisor, cases, id, "review", &intakev1.ReviewCase{CaseId: id, ReviewId: s.name("rv")}, "CaseReviewed")
	s.add(supervisor, cases, id, "close", &intakev1.CloseCase{CaseId: id, CloseReason: 1, AgreedBy: "w9"}, "CaseClosed")
	s.add(supervisor, cases, id, "follow-up", &intakev1.RecordFollowUp{CaseId: id, FollowUpId: s.name("fu2"), Channel: 1}).refused()
	s.add(supervisor, cases, id, "reopen", &intakev1.ReopenCase{CaseId: id, ReopenReason: "ILL_AGAIN"}, "CaseReopened")
}

func (c *Command) also(key string, types ...string) *Command {
	c.Makes = append(c.Makes, Made{Key: key, Types: types})
	return c
}

func (s *Story) support() { s.supported("", s.name("ch")) }

// supported is a service support from request to end.
func (s *Story) supported(caseID, child string) {
	id := s.name("sp")
	s.add(worker, supports, id, "request", &outreachv1.RequestSupport{
		SupportId: id, Kind: 1, ChildId: child, Category: inDifficulty, CaseId: caseID, ProviderOrg: "org-canteen",
	}, "ServiceSupportRequested")
	s.add(worker, supports, id, "begin", &outreachv1.BeginSupport{SupportId: id}, "ServiceSupportBegun").counts("service_supports", 1)
	s.add(worker, supports, id, "end", &outreachv1.EndSupport{SupportId: id}, "ServiceSupportEnded")
}

// round is an institution with a round of checks.
func (s *Story) round() {
	id, day := s.name("in"), s.at.Format(time.DateOnly)
	round := id + "_" + s.at.Format("20060102") + "_morning"
	s.add(leader, institutions, id, "register", &healthcheckv1.RegisterInstitution{InstitutionId: id, Beds: 40}, "InstitutionRegistered")
	s.add(leader, institutions, id, "start-closure-regime", &healthcheckv1.StartClosureRegime{InstitutionId: id}, "ClosureRegimeStarted")
	s.add(nurse, rounds, round, "open", &healthcheckv1.OpenCheckRound{InstitutionId: id, CheckedOn: day, Slot: 1, Expected: 9}, "CheckRoundOpened")
	record := &healthcheckv1.RecordHealthChecks{InstitutionId: id, CheckedOn: day, Slot: 1}
	var types []string
	for i := range int32(9) {
		record.Readings = append(record.Readings, &healthcheckv1.Reading{
			CheckId: s.name("hc" + string('0'+i)), PersonId: s.name("p" + string('0'+i)), TempDecicelsius: 365 + 4*(i/7), Method: 2,
		})
		types = append(types, "HealthCheckRecorded")
	}
	record.Readings[0].TempDecicelsius = 381
	s.add(nurse, rounds, round, "record", record, types...).counts("health_checks", 9).counts("abnormal_temperatures", 1)
	s.add(nurse, rounds, round, "close", &healthcheckv1.CloseCheckRound{InstitutionId: id, CheckedOn: day, Slot: 1}, "CheckRoundClosed")
	s.add(nurse, rounds, round, "record", &healthcheckv1.RecordHealthChecks{
		InstitutionId: id, CheckedOn: day, Slot: 1, Readings: []*healthcheckv1.Reading{{CheckId: "x", PersonId: "p", TempDecicelsius: 366, Method: 2}},
	}).refused()
}

// visit is calls to two children, one of which is taken back; they stand in the log of all that the caller did that day.
func (s *Story) visit() {
	day := s.at.In(china).Format(time.DateOnly)
	log := callerID(worker) + "_" + s.at.In(china).Format("20060102")
	call := func(id string, types ...string) *Command {
		return s.add(worker, visits, log, "record", &outreachv1.RecordVisit{
			VisitId: id, Channel: outreachv1.VisitChannel_VISIT_CHANNEL_PHONE, Outcome: outreachv1.VisitOutcome_VISIT_OUTCOME_REACHED,
			Children: []*outreachv1.ChildSpokenAbout{{ChildId: s.name("c1"), Category: inDifficulty, AdmCode: s.adm}, {ChildId: s.name("c2"), AdmCode: s.adm}},
		}, types...)
	}
	for _, id := range []string{"v1", "v2", "v3"} {
		call(s.name(id), "VisitRecorded").counts("phone_attempts", 1).counts("phone_calls", 1).counts("phone_visits", 2)
	}
	call(s.name("v1")).refused()
	void := func(types ...string) *Command {
		c := s.add(worker, visits, log, "void", &outreachv1.VoidVisit{VisitId: s.name("v2"), WorkerId: callerID(worker), VisitedOn: day}, types...)
		c.Body.GetProvenance().Reason = "ENTERED_BY_MISTAKE"
		return c
	}
	void("VisitVoided").counts("phone_attempts", -1).counts("phone_calls", -1).counts("phone_visits", -2)
	void()
}

var china = time.FixedZone("Asia/Shanghai", 8*60*60)

// batch is a batch of reminders.
func (s *Story) batch() {
	id := s.name("bt")
	queue := &outreachv1.QueueReminders{BatchId: id}
	for _, m := range []string{"m1", "m2", "m3"} {
		queue.Recipients = append(queue.Recipients, &outreachv1.ReminderRecipient{
			MessageId: s.name(m), ChildId: s.name("c" + m), Category: inDifficulty, AdmCode: s.adm, Content: &outreachv1.ReminderContent{Phone: "19900000001", Text: "请留意"},
		})
	}
	s.add(supervisor, reminders, id, "queue", queue, "RemindersQueued")
	for _, m := range []string{"m1", "m2"} {
		s.add(gateway, reminders, id, "accept", &outreachv1.AcceptReminder{BatchId: id, MessageId: s.name(m)}, "ReminderAccepted").counts("sms_reminders", 1)
	}
	s.add(gateway, reminders, id, "accept", &outreachv1.AcceptReminder{BatchId: id, MessageId: s.name("m1")})
	s.add(gateway, reminders, id, "confirm-delivery", &outreachv1.ConfirmReminderDelivery{BatchId: id, MessageId: s.name("m1")}, "ReminderDelivered").counts("sms_delivered", 1)
	s.add(gateway, reminders, id, "fail", &outreachv1.FailReminder{BatchId: id, MessageId: s.name("m3"), Failure: 1}, "ReminderFailed").counts("sms_failed", 1)
	s.add(gateway, reminders, id, "confirm-delivery", &outreachv1.ConfirmReminderDelivery{BatchId: id, MessageId: s.name("m3")}).refused()
}

// delivery is a delivery in two parts.
func (s *Story) delivery() {
	id := s.name("dl")
	s.add(worker, deliveries, id, "request", &outreachv1.RequestDelivery{DeliveryId: id, Item: 1, Units: 10, ChildId: s.name("ch"), Category: inDifficulty}, "DeliveryRequested")
	dispatch := func(units int32, types ...string) *Command {
		return s.add(warehouse, deliveries, id, "dispatch", &outreachv1.DispatchDelivery{DeliveryId: id, Units: units}, types...)
	}
	confirm := func(units int32, types ...string) *Command {
		return s.add(worker, deliveries, id, "confirm-receipt", &outreachv1.ConfirmDeliveryReceipt{DeliveryId: id, Units: units}, types...)
	}
	dispatch(6, "DeliveryDispatched").counts("protective_items_dispatched", 6)
	confirm(4, "DeliveryReceiptConfirmed").counts("protective_items", 4)
	dispatch(5).refused()
	dispatch(4, "DeliveryDispatched").counts("protective_items_dispatched", 4)
	confirm(6, "DeliveryReceiptConfirmed").counts("protective_items", 6)
	confirm(1).refused()
}

// bulletin is one issued with what there is.
func (s *Story) bulletin() {
	id := s.name("bu")
	s.add(leader, bulletins, id, "issue", &reportingv1.IssueBulletin{BulletinId: id, AsOf: "2020-02-04"}, "FigurePublished")
}

// caller is a caller who is added, given another key, and whose access ends.
func (s *Story) caller() {
	id := s.name("ca")
	key := func() string {
		seed := make([]byte, ed25519.SeedSize)
		for i := range seed {
			seed[i] = byte(s.rng.Uint32())
		}
		pair, err := nkeys.FromRawSeed(nkeys.PrefixByteUser, seed)
		if err != nil {
			panic(err) // a seed of this length is one
		}
		public, err := pair.PublicKey()
		if err != nil {
			panic(err)
		}
		return public
	}
	s.add(operator, subject.Caller, id, "add", &auditv1.AddCaller{CallerId: id, Nkey: key(), Role: auditv1.Role_ROLE_ANALYST, OrgId: org}, "CallerAdded")
	s.add(operator, subject.Caller, id, "rotate", &auditv1.RotateCallerKey{CallerId: id, Nkey: key()}, "CallerKeyRotated")
	s.add(operator, subject.Caller, id, "revoke", &auditv1.RevokeCaller{CallerId: id}, "CallerRevoked")
	s.add(operator, subject.Caller, id, "revoke", &auditv1.RevokeCaller{CallerId: id})
}
