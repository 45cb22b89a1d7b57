package projector

import (
	"time"

	"tongan.dev/pkg/eventlog"
)

// message is one sequence of a stream: an event, or the error that says why it is none.
type message struct {
	stream   string
	sequence uint64
	recorded time.Time
	size     int
	envelope eventlog.Envelope
	err      error // one of eventlog.Decode, or errGap
}

// rows is what messages give in every table. A field's tag is the name of its table.
type rows struct {
	Facts         []factRow         `table:"facts"`
	Visits        []visitRow        `table:"visits"`
	Reminders     []reminderRow     `table:"reminders"`
	Deliveries    []deliveryRow     `table:"deliveries"`
	Supports      []supportRow      `table:"supports"`
	Cases         []caseRow         `table:"cases"`
	CheckRounds   []checkRoundRow   `table:"check_rounds"`
	HealthChecks  []healthCheckRow  `table:"health_checks"`
	ChildEvents   []childEventRow   `table:"child_events"`
	ContactEvents []contactEventRow `table:"contact_events"`
	Shifts        []shiftRow        `table:"shifts"`
	Deadlines     []deadlineRow     `table:"deadlines"`
	Journal       []journalRow      `table:"journal"` // last: see inserts
}

// place is what the rows of all tables but the journal begin with.
type place struct {
	Stream string `ch:"stream"`
	Seq    uint64 `ch:"seq"`
	N      uint32 `ch:"n"`
}

// times are when an event happened and when the stream took it.
type times struct {
	OccurredAt time.Time `ch:"occurred_at"`
	RecordedAt time.Time `ch:"recorded_at"`
}

type journalRow struct {
	Stream            string     `ch:"stream"`
	Seq               uint64     `ch:"seq"`
	Kind              string     `ch:"kind"`
	EventID           string     `ch:"event_id"`
	Type              string     `ch:"type"`
	Aggregate         string     `ch:"aggregate"`
	AggregateID       string     `ch:"aggregate_id"`
	CommandID         string     `ch:"command_id"`
	Cause             string     `ch:"cause"`
	RecordedAt        *time.Time `ch:"recorded_at"`
	OccurredAt        *time.Time `ch:"occurred_at"`
	PerformedBy       string     `ch:"performed_by"`
	RecordedBy        string     `ch:"recorded_by"`
	CreditedOrg       string     `ch:"credited_org"`
	AdmCode           string     `ch:"adm_code"`
	SourceChannel     string     `ch:"source_channel"`
	Reason            string     `ch:"reason"`
	CorrectionOf      string     `ch:"correction_of"`
	RuleVersion       string     `ch:"rule_version"`
	Size              uint32     `ch:"size"`
	Poison            string     `ch:"poison"`
	FactsRows         uint32     `ch:"facts_rows"`
	VisitsRows        uint32     `ch:"visits_rows"`
	RemindersRows     uint32     `ch:"reminders_rows"`
	DeliveriesRows    uint32     `ch:"deliveries_rows"`
	SupportsRows      uint32     `ch:"supports_rows"`
	CasesRows         uint32     `ch:"cases_rows"`
	CheckRoundsRows   uint32     `ch:"check_rounds_rows"`
	HealthChecksRows  uint32     `ch:"health_checks_rows"`
	ChildEventsRows   uint32     `ch:"child_events_rows"`
	ContactEventsRows uint32     `ch:"contact_events_rows"`
	ShiftsRows        uint32     `ch:"shifts_rows"`
	DeadlinesRows     uint32     `ch:"deadlines_rows"`
	Version           uint32     `ch:"projection_version"`
}

type factRow struct {
	place
	Indicator         string    `ch:"indicator"`
	DefinitionVersion uint16    `ch:"definition_version"`
	Value             int64     `ch:"value"`
	Day               time.Time `ch:"day"`
	AdmCode           string    `ch:"adm_code"`
	Category          string    `ch:"category"`
	Institution       string    `ch:"institution"`
	CreditedOrg       string    `ch:"credited_org"`
	RecordedAt        time.Time `ch:"recorded_at"`
}

type visitRow struct {
	place
	State       string    `ch:"state"`
	VisitID     string    `ch:"visit_id"`
	VisitedOn   time.Time `ch:"visited_on"`
	Channel     string    `ch:"channel"`
	Outcome     string    `ch:"outcome"`
	ChildID     string    `ch:"child_id"`
	Category    string    `ch:"category"`
	AdmCode     string    `ch:"adm_code"`
	WorkerID    string    `ch:"worker_id"`
	CreditedOrg string    `ch:"credited_org"`
	times
}

type reminderRow struct {
	place
	State       string `ch:"state"`
	BatchID     string `ch:"batch_id"`
	MessageID   string `ch:"message_id"`
	ChildID     string `ch:"child_id"`
	Category    string `ch:"category"`
	AdmCode     string `ch:"adm_code"`
	Segments    int32  `ch:"segments"`
	Failure     string `ch:"failure"`
	CreditedOrg string `ch:"credited_org"`
	times
}

type deliveryRow struct {
	place
	State       string `ch:"state"`
	DeliveryID  string `ch:"delivery_id"`
	Item        string `ch:"item"`
	Units       int32  `ch:"units"`
	ChildID     string `ch:"child_id"`
	Category    string `ch:"category"`
	Institution string `ch:"institution"`
	AdmCode     string `ch:"adm_code"`
	CreditedOrg string `ch:"credited_org"`
	times
}

type supportRow struct {
	place
	State       string     `ch:"state"`
	SupportID   string     `ch:"support_id"`
	Kind        string     `ch:"kind"`
	ChildID     string     `ch:"child_id"`
	Category    string     `ch:"category"`
	CaseID      string     `ch:"case_id"`
	ProviderOrg string     `ch:"provider_org"`
	AdmCode     string     `ch:"adm_code"`
	DueAt       *time.Time `ch:"due_at"`
	CreditedOrg string     `ch:"credited_org"`
	times
}

type caseRow struct {
	place
	State             string   `ch:"state"`
	CaseID            string   `ch:"case_id"`
	ChildID           string   `ch:"child_id"`
	Category          string   `ch:"category"`
	AdmCode           string   `ch:"adm_code"`
	GapCause          string   `ch:"gap_cause"`
	ContactID         string   `ch:"contact_id"`
	FollowUpID        string   `ch:"follow_up_id"`
	Channel           string   `ch:"channel"`
	CloseReason       string   `ch:"close_reason"`
	CountsSpecial     bool     `ch:"counts_special"`
	Special           bool     `ch:"special"`
	CaseSource        string   `ch:"case_source"`
	VisitID           string   `ch:"visit_id"`
	OwnerID           string   `ch:"owner_id"`
	FromOwnerID       string   `ch:"from_owner_id"`
	RiskLevel         string   `ch:"risk_level"`
	PreviousRiskLevel string   `ch:"previous_risk_level"`
	RiskReason        string   `ch:"risk_reason"`
	AssessmentID      string   `ch:"assessment_id"`
	PlanID            string   `ch:"plan_id"`
	PlanServices      []string `ch:"plan_services"`
	AgreedBy          string   `ch:"agreed_by"`
	FollowUpOutcome   string   `ch:"follow_up_outcome"`
	SupportID         string   `ch:"support_id"`
	SupportKind       string   `ch:"support_kind"`
	ServiceStep       string   `ch:"service_step"`
	ReferralID        string   `ch:"referral_id"`
	ReferralState     string   `ch:"referral_state"`
	ToOrg             string   `ch:"to_org"`
	ArrangementID     string   `ch:"arrangement_id"`
	CareProvider      string   `ch:"care_provider"`
	ReviewID          string   `ch:"review_id"`
	ReopenReason      string   `ch:"reopen_reason"`
	WorkerID          string   `ch:"worker_id"`
	CreditedOrg       string   `ch:"credited_org"`
	times
}

type checkRoundRow struct {
	place
	State       string    `ch:"state"`
	Institution string    `ch:"institution"`
	CheckedOn   time.Time `ch:"checked_on"`
	Slot        string    `ch:"slot"`
	Expected    int32     `ch:"expected"`
	Checked     int32     `ch:"checked"`
	Abnormal    int32     `ch:"abnormal"`
	AdmCode     string    `ch:"adm_code"`
	CreditedOrg string    `ch:"credited_org"`
	times
}

type healthCheckRow struct {
	place
	Institution     string    `ch:"institution"`
	CheckedOn       time.Time `ch:"checked_on"`
	Slot            string    `ch:"slot"`
	CheckID         string    `ch:"check_id"`
	PersonID        string    `ch:"person_id"`
	TempDecicelsius int32     `ch:"temp_decicelsius"`
	Method          string    `ch:"method"`
	Band            string    `ch:"band"`
	RuleVersion     string    `ch:"rule_version"`
	AdmCode         string    `ch:"adm_code"`
	CreditedOrg     string    `ch:"credited_org"`
	times
}

type childEventRow struct {
	place
	State              string     `ch:"state"`
	ChildID            string     `ch:"child_id"`
	AdmCode            string     `ch:"adm_code"`
	FromAdmCode        string     `ch:"from_adm_code"`
	Category           string     `ch:"category"`
	CategoryRule       string     `ch:"category_rule"`
	StartedOn          *time.Time `ch:"started_on"`
	EndedOn            *time.Time `ch:"ended_on"`
	AgeBand            string     `ch:"age_band"`
	WorkerID           string     `ch:"worker_id"`
	WorkerRole         string     `ch:"worker_role"`
	GuardianID         string     `ch:"guardian_id"`
	Relation           string     `ch:"relation"`
	ArrangementID      string     `ch:"arrangement_id"`
	EndedArrangementID string     `ch:"ended_arrangement_id"`
	CareType           string     `ch:"care_type"`
	Institution        string     `ch:"institution"`
	HouseholdID        string     `ch:"household_id"`
	IntoChildID        string     `ch:"into_child_id"`
	Reason             string     `ch:"reason"`
	CreditedOrg        string     `ch:"credited_org"`
	times
}

type contactEventRow struct {
	place
	State               string     `ch:"state"`
	ContactID           string     `ch:"contact_id"`
	AdmCode             string     `ch:"adm_code"`
	Channel             string     `ch:"channel"`
	Speaker             string     `ch:"speaker"`
	ContactType         string     `ch:"contact_type"`
	PreviousContactType string     `ch:"previous_contact_type"`
	Reasons             []string   `ch:"reasons"`
	Urgency             string     `ch:"urgency"`
	RangAt              *time.Time `ch:"rang_at"`
	AnsweredAt          *time.Time `ch:"answered_at"`
	ChildIDs            []string   `ch:"child_ids"`
	Action              string     `ch:"contact_action"`
	HelpingOrg          string     `ch:"helping_org"`
	Reached             bool       `ch:"reached"`
	FromOrg             string     `ch:"from_org"`
	ToOrg               string     `ch:"to_org"`
	Outcome             string     `ch:"contact_outcome"`
	CaseID              string     `ch:"case_id"`
	WorkerID            string     `ch:"worker_id"`
	CreditedOrg         string     `ch:"credited_org"`
	times
}

type shiftRow struct {
	place
	State       string     `ch:"state"`
	LineID      string     `ch:"line_id"`
	ShiftID     string     `ch:"shift_id"`
	OperatorID  string     `ch:"operator_id"`
	GapNumber   uint32     `ch:"gap_number"`
	BeganAt     time.Time  `ch:"began_at"`
	EndedAt     *time.Time `ch:"ended_at"`
	AdmCode     string     `ch:"adm_code"`
	CreditedOrg string     `ch:"credited_org"`
	times
}

type deadlineRow struct {
	place
	State       string    `ch:"state"`
	Object      string    `ch:"object"`
	ObjectID    string    `ch:"object_id"`
	DeadlineID  string    `ch:"deadline_id"`
	Kind        string    `ch:"kind"`
	DueAt       time.Time `ch:"due_at"`
	Armed       bool      `ch:"armed"`
	ChildID     string    `ch:"child_id"`
	Category    string    `ch:"category"`
	AdmCode     string    `ch:"adm_code"`
	OwnerID     string    `ch:"owner_id"`
	RiskLevel   string    `ch:"risk_level"`
	CreditedOrg string    `ch:"credited_org"`
	times
}
