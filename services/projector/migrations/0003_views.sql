-- +goose NO TRANSACTION
-- +goose Up

-- Views for readers. They run as the user migration, so that a reader needs no right to a base table.

CREATE OR REPLACE VIEW tongan.tallies DEFINER = migration SQL SECURITY DEFINER AS
SELECT f.indicator AS indicator, i.unit AS unit, f.day AS day, f.adm_code AS adm_code, f.category AS category,
    f.credited_org AS credited_org, f.value AS value, f.definition_version AS definition_version
FROM
(
    SELECT indicator, definition_version, day, adm_code, category, credited_org, sum(value) AS value
    FROM tongan_g1.facts FINAL
    GROUP BY indicator, definition_version, day, adm_code, category, credited_org
) AS f
LEFT JOIN (SELECT indicator, definition_version, unit FROM tongan_g1.indicators FINAL) AS i
    ON i.indicator = f.indicator AND i.definition_version = f.definition_version
COMMENT 'indicators by day (Asia/Shanghai), district, category and organisation (指标统计)';

CREATE OR REPLACE VIEW tongan.indicators DEFINER = migration SQL SECURITY DEFINER AS
SELECT indicator, definition_version, unit, title_zh, title_en, definition
FROM tongan_g1.indicators FINAL
COMMENT 'definitions of the indicators (指标口径)';

CREATE OR REPLACE VIEW tongan.visits DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, visit_id, visited_on, channel, outcome, child_id, category, adm_code, worker_id,
    credited_org, occurred_at, recorded_at
FROM tongan_g1.visits FINAL
COMMENT 'visits, a row for every child spoken about; a void is a row of its own (探访)';

CREATE OR REPLACE VIEW tongan.reminders DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, batch_id, message_id, child_id, category, adm_code, segments, failure,
    credited_org, occurred_at, recorded_at
FROM tongan_g1.reminders FINAL
COMMENT 'text messages, a row for every step of every message (短信提醒)';

CREATE OR REPLACE VIEW tongan.deliveries DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, delivery_id, item, units, child_id, category, institution, adm_code,
    credited_org, occurred_at, recorded_at
FROM tongan_g1.deliveries FINAL
COMMENT 'protective items, a row for every step of every delivery (防护物资)';

CREATE OR REPLACE VIEW tongan.supports DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, support_id, kind, child_id, category, case_id, provider_org, adm_code, due_at,
    credited_org, occurred_at, recorded_at
FROM tongan_g1.supports FINAL
COMMENT 'service supports, a row for every step (服务支援)';

CREATE OR REPLACE VIEW tongan.cases DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, case_id, child_id, category, adm_code, gap_cause, contact_id, follow_up_id,
    channel, close_reason, counts_special, special, worker_id, credited_org, occurred_at, recorded_at
FROM tongan_g1.cases FINAL
COMMENT 'protection cases, a row for every event (个案)';

CREATE OR REPLACE VIEW tongan.check_rounds DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, institution, checked_on, slot, expected, checked, abnormal, adm_code,
    credited_org, occurred_at, recorded_at
FROM tongan_g1.check_rounds FINAL
COMMENT 'rounds of checks, a row at the beginning and one at the end (检查轮次)';

CREATE OR REPLACE VIEW tongan.health_checks DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, institution, checked_on, slot, check_id, person_id, temp_decicelsius, method, band,
    rule_version, adm_code, credited_org, occurred_at, recorded_at
FROM tongan_g1.health_checks FINAL
COMMENT 'readings of body temperature (测温)';

CREATE OR REPLACE VIEW tongan.journal DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, kind, event_id, type, aggregate, aggregate_id, command_id, cause, recorded_at,
    occurred_at, performed_by, recorded_by, credited_org, adm_code, source_channel, reason, correction_of,
    rule_version, size, poison
FROM tongan_g1.journal FINAL
COMMENT 'one row for every sequence of every stream, written last (流水)';
