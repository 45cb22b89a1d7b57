package projector

import (
	healthcheckv1 "tongan.dev/proto/gen/tongan/healthcheck/v1"
)

func (b *builder) roundOpened(e *healthcheckv1.CheckRoundOpened) {
	b.round(checkRoundRow{
		State: "OPENED", Institution: e.GetInstitutionId(), CheckedOn: b.day(e.GetCheckedOn()), Slot: b.code(e.GetSlot()),
		Expected: e.GetExpected(), AdmCode: b.p.GetAdmCode(),
	})
}

func (b *builder) roundClosed(e *healthcheckv1.CheckRoundClosed) {
	b.round(checkRoundRow{
		State: "CLOSED", Institution: e.GetInstitutionId(), CheckedOn: b.day(e.GetCheckedOn()), Slot: b.code(e.GetSlot()),
		Expected: e.GetExpected(), Checked: e.GetChecked(), Abnormal: e.GetAbnormal(), AdmCode: e.GetAdmCode(),
	})
}

func (b *builder) round(row checkRoundRow) {
	row.place, row.times, row.CreditedOrg = b.place(len(b.rows.CheckRounds)), b.times(), b.p.GetCreditedOrg()
	b.rows.CheckRounds = append(b.rows.CheckRounds, row)
}

func (b *builder) healthCheck(e *healthcheckv1.HealthCheckRecorded) {
	r := e.GetReading()
	row := healthCheckRow{
		place: b.place(len(b.rows.HealthChecks)), times: b.times(),
		Institution: e.GetInstitutionId(), CheckedOn: b.day(e.GetCheckedOn()), Slot: b.code(e.GetSlot()),
		CheckID: r.GetCheckId(), PersonID: r.GetPersonId(), TempDecicelsius: r.GetTempDecicelsius(),
		Method: b.code(r.GetMethod()), Band: b.code(e.GetBand()),
		RuleVersion: b.p.GetRuleVersion(), AdmCode: e.GetAdmCode(), CreditedOrg: b.p.GetCreditedOrg(),
	}
	b.rows.HealthChecks = append(b.rows.HealthChecks, row)
	d := dims{day: row.CheckedOn, admCode: row.AdmCode, institution: row.Institution, org: row.CreditedOrg}
	b.fact(healthChecks, 1, d)
	switch e.GetBand() {
	case healthcheckv1.TemperatureBand_TEMPERATURE_BAND_ELEVATED, healthcheckv1.TemperatureBand_TEMPERATURE_BAND_FEVER:
		b.fact(abnormalTemperatures, 1, d)
	}
}
