CREATE VIEW tongan.case_events
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'what happened (事项)',
    `case_id` String COMMENT 'opaque id of the case (个案编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, GB/T 2260 (行政区划代码)',
    `gap_cause` LowCardinality(String) COMMENT 'why nobody looks after the child (监护缺失原因)',
    `contact_id` String COMMENT 'opaque id of the hotline contact it came from (来电编号)',
    `follow_up_id` String COMMENT 'opaque id of the follow-up (跟进编号)',
    `channel` LowCardinality(String) COMMENT 'how it was followed up (跟进方式)',
    `close_reason` LowCardinality(String) COMMENT 'why it ended (结案原因)',
    `counts_special` Bool COMMENT 'the one event by which it counts as special (计入特殊个案)',
    `special` Bool COMMENT 'a case that is closed or opened again is special (结案或重新开案时为特殊个案)',
    `case_source` LowCardinality(String) COMMENT 'where it comes from (个案来源)',
    `visit_id` String COMMENT 'opaque id of the visit it came from (探访编号)',
    `owner_id` String COMMENT 'opaque id of who owns the case after the event; empty where it does not say (个案责任人)',
    `from_owner_id` String COMMENT 'opaque id of who owned it before a hand-over (原个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk after the event; empty where it does not say (风险等级)',
    `previous_risk_level` LowCardinality(String) COMMENT 'risk before an assessment (原风险等级)',
    `risk_reason` LowCardinality(String) COMMENT 'code: what an assessment rests on (风险依据)',
    `assessment_id` String COMMENT 'opaque id of the assessment (评估编号)',
    `plan_id` String COMMENT 'opaque id of the plan (方案编号)',
    `plan_services` Array(LowCardinality(String)) COMMENT 'services a plan needs (方案所需服务)',
    `agreed_by` String COMMENT 'opaque id of who agreed to a plan or an end (同意人)',
    `follow_up_outcome` LowCardinality(String) COMMENT 'what came of a follow-up; UNSPECIFIED counts as reached (跟进结果)',
    `support_id` String COMMENT 'opaque id of the service support (服务支援编号)',
    `support_kind` LowCardinality(String) COMMENT 'what kind of service is noted or referred for (服务支援类别)',
    `service_step` LowCardinality(String) COMMENT 'how far the service is (服务进度)',
    `referral_id` String COMMENT 'opaque id of the referral (转介编号)',
    `referral_state` LowCardinality(String) COMMENT 'how far the referral is (转介状态)',
    `to_org` LowCardinality(String) COMMENT 'opaque id of the organisation asked (转介单位)',
    `arrangement_id` String COMMENT 'opaque id of the care for a time (临时照料编号)',
    `care_provider` LowCardinality(String) COMMENT 'who cares for a time (临时照料责任方)',
    `review_id` String COMMENT 'opaque id of the review (复核编号)',
    `reopen_reason` LowCardinality(String) COMMENT 'code: why it was opened again (重新开案原因)',
    `worker_id` String COMMENT 'opaque id of who did it (经办人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'protection cases, a row for every event (个案事件)'
AS SELECT
    stream,
    seq,
    n,
    state,
    case_id,
    child_id,
    category,
    adm_code,
    gap_cause,
    contact_id,
    follow_up_id,
    channel,
    close_reason,
    counts_special,
    special,
    case_source,
    visit_id,
    owner_id,
    from_owner_id,
    risk_level,
    previous_risk_level,
    risk_reason,
    assessment_id,
    plan_id,
    plan_services,
    agreed_by,
    follow_up_outcome,
    support_id,
    support_kind,
    service_step,
    referral_id,
    referral_state,
    to_org,
    arrangement_id,
    care_provider,
    review_id,
    reopen_reason,
    worker_id,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.cases
FINAL;

CREATE VIEW tongan.case_owners
(
    `case_id` String COMMENT 'opaque id of the case (个案编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, GB/T 2260 (行政区划代码)',
    `owner_id` String COMMENT 'opaque id of who owns it on these days (个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk on these days, UNSPECIFIED where not assessed (风险等级)',
    `started_on` Date COMMENT 'first day at whose end it is so, Asia/Shanghai (开始日期)',
    `ended_on` Nullable(Date) COMMENT 'last day at whose end it is so; NULL while it goes on (结束日期)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'who owned which case from when to when: at the end of day D, where started_on <= D and (ended_on is NULL or ended_on >= D) (个案责任期间)'
AS SELECT
    case_id,
    child_id,
    adm_code,
    period.1 AS owner_id,
    period.2 AS risk_level,
    period.3 AS started_on,
    if((period.4) = toDate('2149-06-06'), NULL, (period.4) - 1) AS ended_on
FROM
(
    SELECT
        case_id,
        child_id,
        adm_code,
        arrayMap((s, i) -> (s.2, s.3, days[i], if(i < length(days), days[i + 1], toDate('2149-06-06'))), steps, arrayEnumerate(steps)) AS periods
    FROM
    (
        SELECT
            case_id,
            child_id,
            adm_code,
            steps,
            arrayMap(i -> arrayMax(arrayMap(s -> (s.4), arraySlice(steps, 1, i))), arrayEnumerate(steps)) AS days
        FROM
        (
            SELECT
                e.case_id AS case_id,
                argMaxIf(e.child_id, e.seq, e.state = 'OPENED') AS child_id,
                argMaxIf(e.adm_code, e.seq, e.state = 'OPENED') AS adm_code,
                arraySort(groupArrayIf((e.seq, if(e.state = 'CLOSED', '', e.owner_id), e.risk_level, toDate(e.occurred_at, 'Asia/Shanghai')), (e.state IN ('OPENED', 'ASSESSED', 'WORKER_ASSIGNED', 'CLOSED', 'REOPENED')))) AS steps
            FROM
            (
                SELECT
                    seq,
                    state,
                    case_id,
                    child_id,
                    adm_code,
                    owner_id,
                    risk_level,
                    occurred_at
                FROM tongan_g1.cases
                FINAL
            ) AS e
            GROUP BY case_id
            HAVING countIf(e.state = 'OPENED') > 0
        )
    )
)
ARRAY JOIN periods AS period
WHERE ((period.1) != '') AND ((period.3) < (period.4));

CREATE VIEW tongan.caseload
(
    `owner_id` String COMMENT 'opaque id of who owns the cases (个案责任人)',
    `adm_code` LowCardinality(String) COMMENT 'district of the cases, GB/T 2260 (行政区划代码)',
    `open_cases` UInt64 COMMENT 'open cases (未结个案数)',
    `high` UInt64 COMMENT 'of them at high risk (高风险)',
    `medium` UInt64 COMMENT 'of them at medium risk (中风险)',
    `low` UInt64 COMMENT 'of them at low risk (低风险)',
    `no_risk` UInt64 COMMENT 'of them found not to be at risk (无风险)',
    `not_assessed` UInt64 COMMENT 'of them not assessed (未评估)',
    `special` UInt64 COMMENT 'of them special (特殊个案)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'open cases of each owner now, by risk (在手个案)'
AS SELECT
    owner_id,
    adm_code,
    count() AS open_cases,
    countIf(risk_level = 'HIGH') AS high,
    countIf(risk_level = 'MEDIUM') AS medium,
    countIf(risk_level = 'LOW') AS low,
    countIf(risk_level = 'NONE') AS no_risk,
    countIf(risk_level = 'UNSPECIFIED') AS not_assessed,
    countIf(c.special) AS special
FROM tongan.cases AS c
WHERE open
GROUP BY
    owner_id,
    adm_code;

CREATE VIEW tongan.cases
(
    `case_id` String COMMENT 'opaque id of the case (个案编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, GB/T 2260 (行政区划代码)',
    `case_source` LowCardinality(String) COMMENT 'where it comes from (个案来源)',
    `gap_cause` LowCardinality(String) COMMENT 'why nobody looks after the child (监护缺失原因)',
    `contact_id` String COMMENT 'opaque id of the hotline contact it came from (来电编号)',
    `opened_at` DateTime64(9, 'UTC') COMMENT 'when it was opened first (开立时间)',
    `risk_level` LowCardinality(String) COMMENT 'risk as it stands, UNSPECIFIED where not assessed (风险等级)',
    `assessed_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when the risk was assessed last; NULL where not assessed (最近评估时间)',
    `owner_id` String COMMENT 'opaque id of who owns it, or owned it when it was closed (个案责任人)',
    `special` Bool COMMENT 'it is special (特殊个案)',
    `follow_ups` UInt64 COMMENT 'follow-ups, whatever came of them (跟进次数)',
    `last_followed_up_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was followed up last, whatever came of it; NULL while never (最近跟进时间)',
    `last_reached_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when the child or the family was reached last by a follow-up; NULL while never (最近联系到时间)',
    `open` Bool COMMENT 'it is open (未结案)',
    `closed_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was closed last; NULL while it is open (结案时间)',
    `close_reason` LowCardinality(String) COMMENT 'why it was closed last; empty while it is open (结案原因)',
    `reopened` UInt64 COMMENT 'how often it was opened again (重新开案次数)',
    `next_due_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'first of its open deadlines, past or to come; NULL where there is none (下一截止时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'cases as they stand (个案)'
AS SELECT
    c.case_id AS case_id,
    c.child_id AS child_id,
    c.category AS category,
    c.adm_code AS adm_code,
    c.case_source AS case_source,
    c.gap_cause AS gap_cause,
    c.contact_id AS contact_id,
    c.opened_at AS opened_at,
    c.risk_level AS risk_level,
    c.assessed_at AS assessed_at,
    c.owner_id AS owner_id,
    c.special AS special,
    c.follow_ups AS follow_ups,
    c.last_followed_up_at AS last_followed_up_at,
    c.last_reached_at AS last_reached_at,
    toBool(c.last_change != 'CLOSED') AS open,
    if(open, NULL, c.last_changed_at) AS closed_at,
    if(open, '', c.last_close_reason) AS close_reason,
    c.reopened AS reopened,
    d.next_due_at AS next_due_at
FROM
(
    SELECT
        e.case_id AS case_id,
        argMaxIf(e.child_id, e.seq, e.state = 'OPENED') AS child_id,
        argMaxIf(e.category, e.seq, e.state = 'OPENED') AS category,
        argMaxIf(e.adm_code, e.seq, e.state = 'OPENED') AS adm_code,
        argMaxIf(e.case_source, e.seq, e.state = 'OPENED') AS case_source,
        argMaxIf(e.gap_cause, e.seq, e.state = 'OPENED') AS gap_cause,
        argMaxIf(e.contact_id, e.seq, e.state = 'OPENED') AS contact_id,
        minIf(e.occurred_at, e.state = 'OPENED') AS opened_at,
        argMaxIf(e.risk_level, e.seq, (e.state IN ('OPENED', 'ASSESSED', 'REOPENED'))) AS risk_level,
        argMaxIf(toNullable(e.occurred_at), e.seq, e.state = 'ASSESSED') AS assessed_at,
        argMaxIf(e.owner_id, e.seq, (e.state IN ('OPENED', 'WORKER_ASSIGNED', 'REOPENED'))) AS owner_id,
        toBool(countIf(e.state = 'FLAGGED_SPECIAL')) AS special,
        countIf(e.state = 'FOLLOWED_UP') AS follow_ups,
        maxIf(toNullable(e.occurred_at), e.state = 'FOLLOWED_UP') AS last_followed_up_at,
        maxIf(toNullable(e.occurred_at), (e.state = 'FOLLOWED_UP') AND (e.follow_up_outcome IN ('REACHED', 'UNSPECIFIED'))) AS last_reached_at,
        argMaxIf(e.state, e.seq, (e.state IN ('OPENED', 'CLOSED', 'REOPENED'))) AS last_change,
        argMaxIf(e.occurred_at, e.seq, (e.state IN ('OPENED', 'CLOSED', 'REOPENED'))) AS last_changed_at,
        argMaxIf(e.close_reason, e.seq, e.state = 'CLOSED') AS last_close_reason,
        countIf(e.state = 'REOPENED') AS reopened
    FROM
    (
        SELECT
            seq,
            state,
            case_id,
            child_id,
            category,
            adm_code,
            case_source,
            gap_cause,
            contact_id,
            risk_level,
            owner_id,
            follow_up_outcome,
            close_reason,
            occurred_at
        FROM tongan_g1.cases
        FINAL
    ) AS e
    GROUP BY case_id
    HAVING countIf(e.state = 'OPENED') > 0
) AS c
LEFT JOIN
(
    SELECT
        object_id,
        min(toNullable(due_at)) AS next_due_at
    FROM tongan.deadlines
    WHERE (object = 'CASE') AND (state = 'OPEN')
    GROUP BY object_id
) AS d ON d.object_id = c.case_id;

CREATE VIEW tongan.category_memberships
(
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category (儿童类别)',
    `rule` LowCardinality(String) COMMENT 'what it rests on (认定依据)',
    `adm_code` LowCardinality(String) COMMENT 'district the child lived in on these days, GB/T 2260 (行政区划代码)',
    `started_on` Date COMMENT 'first day in the category in this district, Asia/Shanghai (开始日期)',
    `ended_on` Nullable(Date) COMMENT 'last day in the category in this district; NULL while it goes on (结束日期)',
    `member_since` Date COMMENT 'first day in the category, in whatever district (类别认定日期)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'who was in which category from when to when: on day D, where started_on <= D and (ended_on is NULL or ended_on >= D) (类别认定期间)'
AS SELECT
    child_id,
    member.1 AS category,
    member.3 AS rule,
    stay.3 AS adm_code,
    greatest(member.2, stay.1) AS started_on,
    nullIf(least(member_to, stay.2, last_day), toDate('2149-06-06')) AS ended_on,
    member.2 AS member_since
FROM
(
    SELECT
        child_id,
        last_day,
        member,
        stay,
        arrayMin(arrayPushBack(arrayMap(x -> (x.3), arrayFilter(x -> (((x.1) = (member.1)) AND ((x.2) = (member.2))), ends)), toDate('2149-06-06'))) AS member_to
    FROM
    (
        SELECT
            child_id,
            starts,
            ends,
            last_day,
            arrayMap((s, i) -> (s.1, if(i < length(moves), ((moves[i + 1]).1) - 1, toDate('2149-06-06')), s.3), moves, arrayEnumerate(moves)) AS stays
        FROM
        (
            SELECT
                e.child_id AS child_id,
                arrayDistinct(groupArrayIf((e.category, assumeNotNull(e.started_on), e.category_rule), (e.state IN ('REGISTERED', 'CATEGORY_STARTED')) AND (e.category != 'UNSPECIFIED'))) AS starts,
                groupArrayIf((e.category, assumeNotNull(e.started_on), assumeNotNull(e.ended_on)), e.state = 'CATEGORY_ENDED') AS ends,
                arraySort(groupArrayIf((if(e.state = 'MOVED', greatest(assumeNotNull(e.started_on), toDate('1970-01-02')), toDate('1970-01-01')), e.seq, e.adm_code), (e.state IN ('REGISTERED', 'MOVED')))) AS moves,
                ifNull(minIf(e.ended_on, e.state = 'DEREGISTERED'), toDate('2149-06-06')) AS last_day
            FROM
            (
                SELECT
                    seq,
                    state,
                    child_id,
                    adm_code,
                    category,
                    category_rule,
                    started_on,
                    ended_on,
                    reason
                FROM tongan_g1.child_events
                FINAL
            ) AS e
            GROUP BY child_id
            HAVING (countIf(e.state = 'REGISTERED') > 0) AND (countIf((e.state = 'MERGED') OR (e.reason = 'ENTERED_BY_MISTAKE')) = 0)
        )
    )
    ARRAY JOIN starts AS member
    ARRAY JOIN stays AS stay
)
WHERE greatest(member.2, stay.1) <= least(member_to, stay.2, last_day);

CREATE VIEW tongan.check_rounds
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `institution` LowCardinality(String),
    `checked_on` Date,
    `slot` LowCardinality(String),
    `expected` Int32,
    `checked` Int32,
    `abnormal` Int32,
    `adm_code` LowCardinality(String),
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'rounds of checks, a row at the beginning and one at the end (检查轮次)'
AS SELECT
    stream,
    seq,
    n,
    state,
    institution,
    checked_on,
    slot,
    expected,
    checked,
    abnormal,
    adm_code,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.check_rounds
FINAL;

CREATE VIEW tongan.child_events
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'what happened (事项)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `adm_code` LowCardinality(String) COMMENT 'district of the event; of a move the new one, GB/T 2260 (行政区划代码)',
    `from_adm_code` LowCardinality(String) COMMENT 'district before a move (原行政区划代码)',
    `category` LowCardinality(String) COMMENT 'category that starts or ends (儿童类别)',
    `category_rule` LowCardinality(String) COMMENT 'what the category rests on (认定依据)',
    `started_on` Nullable(Date) COMMENT 'first day of what starts, and of the membership that ends, Asia/Shanghai (开始日期)',
    `ended_on` Nullable(Date) COMMENT 'last day of what ends, Asia/Shanghai (结束日期)',
    `age_band` LowCardinality(String) COMMENT 'age on the day of the event (年龄段)',
    `worker_id` String COMMENT 'opaque id of the responsible worker (责任人)',
    `worker_role` LowCardinality(String) COMMENT 'office of the responsible worker (责任人岗位)',
    `guardian_id` String COMMENT 'opaque id of the guardian (监护人编号)',
    `relation` LowCardinality(String) COMMENT 'who the guardian is to the child (监护关系)',
    `arrangement_id` String COMMENT 'opaque id of the care arrangement (照料安排编号)',
    `ended_arrangement_id` String COMMENT 'opaque id of the one that ended the day before (被替代的照料安排编号)',
    `care_type` LowCardinality(String) COMMENT 'who cares day by day (照料方式)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution that cares (照料机构)',
    `household_id` String COMMENT 'opaque id of the household (家庭编号)',
    `into_child_id` String COMMENT 'opaque id of the entry that stays after a merge (合并后保留的儿童编号)',
    `reason` LowCardinality(String) COMMENT 'code: why the child left, or may be forgotten (注销原因、遗忘依据)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'child registry, a row for every event (儿童登记)'
AS SELECT
    stream,
    seq,
    n,
    state,
    child_id,
    adm_code,
    from_adm_code,
    category,
    category_rule,
    started_on,
    ended_on,
    age_band,
    worker_id,
    worker_role,
    guardian_id,
    relation,
    arrangement_id,
    ended_arrangement_id,
    care_type,
    institution,
    household_id,
    into_child_id,
    reason,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.child_events
FINAL;

CREATE VIEW tongan.children
(
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `adm_code` LowCardinality(String) COMMENT 'district as it stands, GB/T 2260 (行政区划代码)',
    `age_band` LowCardinality(String) COMMENT 'age on the day age_band_on (年龄段)',
    `age_band_on` Date COMMENT 'day of which the age is, Asia/Shanghai (年龄段日期)',
    `worker_id` String COMMENT 'opaque id of the responsible worker (责任人)',
    `worker_role` LowCardinality(String) COMMENT 'office of the responsible worker; empty where not said (责任人岗位)',
    `household_id` String COMMENT 'opaque id of the household; empty where not known (家庭编号)',
    `categories` Array(LowCardinality(String)) COMMENT 'categories that have started and of which no end is recorded; none of a child that has left (现有儿童类别)',
    `registered_on` Date COMMENT 'day of registration, Asia/Shanghai (登记日期)',
    `ended_on` Nullable(Date) COMMENT 'last day in the registry, of a duplicate the day of the merge; NULL while it goes on (注销日期)',
    `end_reason` LowCardinality(String) COMMENT 'why the child left, MERGED for a duplicate; empty while it goes on (注销原因)',
    `into_child_id` String COMMENT 'opaque id of the entry a duplicate was merged into (合并后保留的儿童编号)',
    `forgotten` Bool COMMENT 'personal details may not be opened any more (已遗忘)',
    `key_destroyed` Bool COMMENT 'the key of the personal details is destroyed (密钥已销毁)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'children of the registry as they stand (儿童)'
AS SELECT
    child_id,
    adm_code,
    age_band,
    age_band_on,
    worker_id,
    worker_role,
    household_id,
    if(ended, [], arraySort(arrayDistinct(arrayMap(m -> (m.1), arrayFilter(m -> (NOT has(ends, m)), starts))))) AS categories,
    registered_on,
    if(ended, last_day, NULL) AS ended_on,
    end_reason,
    into_child_id,
    forgotten,
    key_destroyed
FROM
(
    SELECT
        e.child_id AS child_id,
        argMaxIf(e.adm_code, e.seq, (e.state IN ('REGISTERED', 'MOVED'))) AS adm_code,
        argMaxIf(e.age_band, e.seq, (e.state IN ('REGISTERED', 'CORRECTED'))) AS age_band,
        argMaxIf(toDate(e.occurred_at, 'Asia/Shanghai'), e.seq, (e.state IN ('REGISTERED', 'CORRECTED'))) AS age_band_on,
        argMaxIf(e.worker_id, e.seq, (e.state IN ('REGISTERED', 'WORKER_ASSIGNED'))) AS worker_id,
        argMaxIf(e.worker_role, e.seq, (e.state IN ('REGISTERED', 'WORKER_ASSIGNED'))) AS worker_role,
        argMaxIf(e.household_id, e.seq, e.state = 'HOUSEHOLD_JOINED') AS household_id,
        groupArrayIf((e.category, assumeNotNull(e.started_on)), (e.state IN ('REGISTERED', 'CATEGORY_STARTED')) AND (e.category != 'UNSPECIFIED')) AS starts,
        groupArrayIf((e.category, assumeNotNull(e.started_on)), e.state = 'CATEGORY_ENDED') AS ends,
        minIf(toDate(e.occurred_at, 'Asia/Shanghai'), e.state = 'REGISTERED') AS registered_on,
        countIf(e.state IN ('DEREGISTERED', 'MERGED')) > 0 AS ended,
        argMaxIf(ifNull(e.ended_on, toDate(e.occurred_at, 'Asia/Shanghai')), e.seq, (e.state IN ('DEREGISTERED', 'MERGED'))) AS last_day,
        argMaxIf(toLowCardinality(if(e.state = 'MERGED', 'MERGED', toString(e.reason))), e.seq, (e.state IN ('DEREGISTERED', 'MERGED'))) AS end_reason,
        argMaxIf(e.into_child_id, e.seq, e.state = 'MERGED') AS into_child_id,
        toBool(countIf(e.state = 'FORGOTTEN')) AS forgotten,
        toBool(countIf(e.state = 'KEY_DESTROYED')) AS key_destroyed
    FROM
    (
        SELECT
            seq,
            state,
            child_id,
            adm_code,
            category,
            started_on,
            ended_on,
            age_band,
            worker_id,
            worker_role,
            household_id,
            into_child_id,
            reason,
            occurred_at
        FROM tongan_g1.child_events
        FINAL
    ) AS e
    GROUP BY child_id
    HAVING countIf(e.state = 'REGISTERED') > 0
);

CREATE VIEW tongan.contact_events
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'what happened: RECEIVED, CLASSIFIED, LINKED, ACTED, CALL_BACK_PROMISED, CALLED_BACK, HANDED_OVER or CLOSED (已接、已分类、已关联儿童、已处理、已约定回电、已回电、已移交、已办结)',
    `contact_id` String COMMENT 'opaque id of the contact (来电编号)',
    `adm_code` LowCardinality(String) COMMENT 'district of the event; of a classification that of the contact, GB/T 2260 (行政区划代码)',
    `channel` LowCardinality(String) COMMENT 'how it came (来电渠道)',
    `speaker` LowCardinality(String) COMMENT 'who speaks (来电人)',
    `contact_type` LowCardinality(String) COMMENT 'what it is about as known after the event (来电类型)',
    `previous_contact_type` LowCardinality(String) COMMENT 'what it was said to be about before a classification (原来电类型)',
    `reasons` Array(LowCardinality(String)) COMMENT 'why, all that hold (来电诉求)',
    `urgency` LowCardinality(String) COMMENT 'how soon it needs an answer (紧急程度)',
    `rang_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it rang or came in; NULL where not recorded (振铃时间)',
    `answered_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was answered; NULL where nobody did or not recorded (接听时间)',
    `child_ids` Array(String) COMMENT 'opaque ids of the children it is found to be about (儿童编号)',
    `contact_action` LowCardinality(String) COMMENT 'what was done (处理方式)',
    `helping_org` LowCardinality(String) COMMENT 'opaque id of the organisation that helps (协助单位)',
    `reached` Bool COMMENT 'a call back reached somebody (回电已接通)',
    `from_org` LowCardinality(String) COMMENT 'opaque id of who had it before a hand-over (移交单位)',
    `to_org` LowCardinality(String) COMMENT 'opaque id of who has it after a hand-over (接收单位)',
    `contact_outcome` LowCardinality(String) COMMENT 'how it ended (办结方式)',
    `case_id` String COMMENT 'opaque id of the case that was opened (个案编号)',
    `worker_id` String COMMENT 'opaque id of who did it (经办人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'hotline contacts, a row for every event (热线来电事件)'
AS SELECT
    stream,
    seq,
    n,
    state,
    contact_id,
    adm_code,
    channel,
    speaker,
    contact_type,
    previous_contact_type,
    reasons,
    urgency,
    rang_at,
    answered_at,
    child_ids,
    contact_action,
    helping_org,
    reached,
    from_org,
    to_org,
    contact_outcome,
    case_id,
    worker_id,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.contact_events
FINAL;

CREATE VIEW tongan.contacts
(
    `contact_id` String COMMENT 'opaque id of the contact (来电编号)',
    `adm_code` LowCardinality(String) COMMENT 'district it came to, GB/T 2260 (行政区划代码)',
    `channel` LowCardinality(String) COMMENT 'how it came (来电渠道)',
    `speaker` LowCardinality(String) COMMENT 'who speaks (来电人)',
    `contact_type` LowCardinality(String) COMMENT 'what it is about, UNSPECIFIED where not classified (来电类型)',
    `reasons` Array(LowCardinality(String)) COMMENT 'why, all that hold (来电诉求)',
    `urgency` LowCardinality(String) COMMENT 'how soon it needs an answer; empty where not classified (紧急程度)',
    `received_at` DateTime64(9, 'UTC') COMMENT 'when it happened (来电时间)',
    `rang_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it rang or came in; NULL where not recorded (振铃时间)',
    `answered_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was answered; NULL where nobody did or not recorded (接听时间)',
    `answer_seconds` Nullable(Float64) COMMENT 'seconds from ringing to answer; NULL where not both are recorded (应答秒数)',
    `taken_org` LowCardinality(String) COMMENT 'opaque id of the organisation that took it (接听单位)',
    `org` LowCardinality(String) COMMENT 'opaque id of the organisation that has it now (现负责单位)',
    `child_ids` Array(String) COMMENT 'opaque ids of the children it is about (儿童编号)',
    `actions` Array(LowCardinality(String)) COMMENT 'what was done about it (处理方式)',
    `call_back_due_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'first promised call back that is still due, past or to come; NULL where there is none (回电截止时间)',
    `closed` Bool COMMENT 'it has ended (已办结)',
    `closed_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it ended; NULL while it has not (办结时间)',
    `contact_outcome` LowCardinality(String) COMMENT 'how it ended; empty while it has not (办结方式)',
    `case_id` String COMMENT 'opaque id of the case that was opened; empty where none was (个案编号)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'hotline contacts as they stand (热线来电)'
AS SELECT
    c.contact_id AS contact_id,
    c.adm_code AS adm_code,
    c.channel AS channel,
    c.speaker AS speaker,
    c.contact_type AS contact_type,
    c.reasons AS reasons,
    c.urgency AS urgency,
    c.received_at AS received_at,
    c.rang_at AS rang_at,
    c.answered_at AS answered_at,
    (toUnixTimestamp64Nano(c.answered_at) - toUnixTimestamp64Nano(c.rang_at)) / 1000000000. AS answer_seconds,
    c.taken_org AS taken_org,
    c.org AS org,
    c.child_ids AS child_ids,
    c.actions AS actions,
    d.call_back_due_at AS call_back_due_at,
    toBool(c.closed_at IS NOT NULL) AS closed,
    c.closed_at AS closed_at,
    c.contact_outcome AS contact_outcome,
    c.case_id AS case_id
FROM
(
    SELECT
        e.contact_id AS contact_id,
        argMaxIf(e.adm_code, e.seq, e.state = 'RECEIVED') AS adm_code,
        argMaxIf(e.channel, e.seq, e.state = 'RECEIVED') AS channel,
        argMaxIf(e.speaker, e.seq, e.state = 'RECEIVED') AS speaker,
        argMaxIf(e.contact_type, e.seq, (e.state IN ('RECEIVED', 'CLASSIFIED'))) AS contact_type,
        argMaxIf(e.reasons, e.seq, e.state = 'CLASSIFIED') AS reasons,
        argMaxIf(e.urgency, e.seq, e.state = 'CLASSIFIED') AS urgency,
        minIf(e.occurred_at, e.state = 'RECEIVED') AS received_at,
        minIf(e.rang_at, e.state = 'RECEIVED') AS rang_at,
        minIf(e.answered_at, e.state = 'RECEIVED') AS answered_at,
        argMaxIf(e.credited_org, e.seq, e.state = 'RECEIVED') AS taken_org,
        argMaxIf(if(e.state = 'RECEIVED', e.credited_org, e.to_org), e.seq, (e.state IN ('RECEIVED', 'HANDED_OVER'))) AS org,
        arraySort(groupUniqArrayArray(e.child_ids)) AS child_ids,
        arraySort(groupUniqArrayIf(e.contact_action, e.state = 'ACTED')) AS actions,
        argMaxIf(toNullable(e.occurred_at), e.seq, e.state = 'CLOSED') AS closed_at,
        argMaxIf(e.contact_outcome, e.seq, e.state = 'CLOSED') AS contact_outcome,
        argMaxIf(e.case_id, e.seq, e.state = 'CLOSED') AS case_id
    FROM
    (
        SELECT
            seq,
            state,
            contact_id,
            adm_code,
            channel,
            speaker,
            contact_type,
            reasons,
            urgency,
            rang_at,
            answered_at,
            child_ids,
            contact_action,
            to_org,
            contact_outcome,
            case_id,
            credited_org,
            occurred_at
        FROM tongan_g1.contact_events
        FINAL
    ) AS e
    GROUP BY contact_id
    HAVING countIf(e.state = 'RECEIVED') > 0
) AS c
LEFT JOIN
(
    SELECT
        object_id,
        min(toNullable(due_at)) AS call_back_due_at
    FROM tongan.deadlines
    WHERE (object = 'CONTACT') AND (kind = 'CALL_BACK') AND (state = 'OPEN')
    GROUP BY object_id
) AS d ON d.object_id = c.contact_id;

CREATE VIEW tongan.cover_gaps
(
    `line_id` LowCardinality(String) COMMENT 'opaque id of the line (线路编号)',
    `gap_number` UInt32 COMMENT 'its number, from 1 for each line (空岗序号)',
    `adm_code` LowCardinality(String) COMMENT 'district where it was recorded that it began, GB/T 2260 (行政区划代码)',
    `began_at` DateTime64(9, 'UTC') COMMENT 'since when nobody was on duty (开始时间)',
    `ended_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'until when; NULL while it goes on (结束时间)',
    `seconds` Nullable(Float64) COMMENT 'how long; NULL while it goes on (空岗秒数)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'when nobody was on duty at a line, without gaps that turned out to be none (空岗)'
AS SELECT
    s.line_id AS line_id,
    s.gap_number AS gap_number,
    argMin(s.adm_code, s.seq) AS adm_code,
    argMax(s.began_at, s.seq) AS began_at,
    argMax(s.ended_at, s.seq) AS ended_at,
    (toUnixTimestamp64Nano(ended_at) - toUnixTimestamp64Nano(began_at)) / 1000000000. AS seconds
FROM
(
    SELECT
        seq,
        line_id,
        gap_number,
        began_at,
        ended_at,
        adm_code
    FROM tongan_g1.shifts
    FINAL
    WHERE state IN ('GAP_BEGAN', 'GAP_ENDED')
) AS s
GROUP BY
    line_id,
    gap_number
HAVING (ended_at IS NULL) OR (ended_at != began_at);

CREATE VIEW tongan.deadlines
(
    `object` LowCardinality(String) COMMENT 'CASE or CONTACT (个案、来电)',
    `object_id` String COMMENT 'opaque id of the case or contact (对象编号)',
    `deadline_id` String COMMENT 'name of the deadline within its object (时限编号)',
    `kind` LowCardinality(String) COMMENT 'what has to be done (时限类别)',
    `state` LowCardinality(String) COMMENT 'OPEN, MET or WITHDRAWN (未完成、已完成、已撤销)',
    `child_id` String COMMENT 'opaque id of the child of the case; empty for a contact (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened; empty for a contact (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, or where the contact came to, GB/T 2260 (行政区划代码)',
    `owner_id` String COMMENT 'opaque id of who owned the case when the deadline was last spoken of; empty for a contact (个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk of the case when the deadline was last spoken of; empty for a contact (风险等级)',
    `armed` Bool COMMENT 'it is said when it is missed; false where it had passed when it was set (是否计时)',
    `set_at` DateTime64(9, 'UTC') COMMENT 'when what set it happened (设定时间)',
    `due_at` DateTime64(9, 'UTC') COMMENT 'by when (截止时间)',
    `met_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when what had to be done happened; NULL while it has not (完成时间)',
    `on_time` Nullable(Bool) COMMENT 'it was met by then, whenever that was recorded; NULL while it is not met (是否按时)',
    `missed` Bool COMMENT 'it was not recorded as met by then (是否超时)',
    `missed_recorded_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was recorded that it was missed; NULL where it was not (超时记录时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'deadlines of cases and contacts as they stand (时限)'
AS SELECT
    s.object AS object,
    s.object_id AS object_id,
    s.deadline_id AS deadline_id,
    s.kind AS kind,
    toLowCardinality(if(s.met > 0, 'MET', if(s.withdrawn > 0, 'WITHDRAWN', 'OPEN'))) AS state,
    s.child_id AS child_id,
    s.category AS category,
    if(c.adm_code != '', c.adm_code, s.set_in) AS adm_code,
    s.owner_id AS owner_id,
    s.risk_level AS risk_level,
    s.armed AS armed,
    s.set_at AS set_at,
    s.due_at AS due_at,
    s.met_at AS met_at,
    if(s.met > 0, toNullable(toBool(assumeNotNull(s.met_at) <= s.due_at)), NULL) AS on_time,
    toBool(s.missed_recorded_at IS NOT NULL) AS missed,
    s.missed_recorded_at AS missed_recorded_at
FROM
(
    SELECT
        d.object AS object,
        d.object_id AS object_id,
        d.deadline_id AS deadline_id,
        argMin(d.kind, (d.seq, d.n)) AS kind,
        argMin(d.child_id, (d.seq, d.n)) AS child_id,
        argMin(d.category, (d.seq, d.n)) AS category,
        argMin(d.adm_code, (d.seq, d.n)) AS set_in,
        argMax(d.owner_id, (d.seq, d.n)) AS owner_id,
        argMax(d.risk_level, (d.seq, d.n)) AS risk_level,
        argMin(d.armed, (d.seq, d.n)) AS armed,
        argMin(d.occurred_at, (d.seq, d.n)) AS set_at,
        argMin(d.due_at, (d.seq, d.n)) AS due_at,
        countIf(d.state = 'MET') AS met,
        countIf(d.state = 'WITHDRAWN') AS withdrawn,
        minIf(toNullable(d.occurred_at), d.state = 'MET') AS met_at,
        minIf(toNullable(d.recorded_at), d.state = 'MISSED') AS missed_recorded_at
    FROM
    (
        SELECT
            seq,
            n,
            state,
            object,
            object_id,
            deadline_id,
            kind,
            due_at,
            armed,
            child_id,
            category,
            adm_code,
            owner_id,
            risk_level,
            occurred_at,
            recorded_at
        FROM tongan_g1.deadlines
        FINAL
    ) AS d
    GROUP BY
        object,
        object_id,
        deadline_id
) AS s
LEFT JOIN
(
    SELECT
        'CONTACT' AS object,
        e.contact_id AS contact_id,
        any(e.adm_code) AS adm_code
    FROM
    (
        SELECT
            contact_id,
            adm_code
        FROM tongan_g1.contact_events
        FINAL
        WHERE state = 'RECEIVED'
    ) AS e
    GROUP BY contact_id
) AS c ON (c.object = s.object) AND (c.contact_id = s.object_id);

CREATE VIEW tongan.deliveries
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `delivery_id` String,
    `item` LowCardinality(String),
    `units` Int32,
    `child_id` String,
    `category` LowCardinality(String),
    `institution` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'protective items, a row for every step of every delivery (防护物资)'
AS SELECT
    stream,
    seq,
    n,
    state,
    delivery_id,
    item,
    units,
    child_id,
    category,
    institution,
    adm_code,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.deliveries
FINAL;

CREATE VIEW tongan.health_checks
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `institution` LowCardinality(String),
    `checked_on` Date,
    `slot` LowCardinality(String),
    `check_id` String,
    `person_id` String,
    `temp_decicelsius` Int32,
    `method` LowCardinality(String),
    `band` LowCardinality(String),
    `rule_version` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'readings of body temperature (测温)'
AS SELECT
    stream,
    seq,
    n,
    institution,
    checked_on,
    slot,
    check_id,
    person_id,
    temp_decicelsius,
    method,
    band,
    rule_version,
    adm_code,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.health_checks
FINAL;

CREATE VIEW tongan.hotline_levels
(
    `day` Date COMMENT 'day on which it rang or came in, Asia/Shanghai (日期)',
    `adm_code` LowCardinality(String) COMMENT 'district it came to, GB/T 2260 (行政区划代码)',
    `org` LowCardinality(String) COMMENT 'opaque id of the organisation that took it (接听单位)',
    `phone_offered` UInt64 COMMENT 'telephone calls, without those that are non-counselling (电话来电)',
    `phone_answered` UInt64 COMMENT 'of them answered (电话接听)',
    `phone_answered_within_15s` UInt64 COMMENT 'of them answered within 15 seconds (十五秒内接听)',
    `phone_connect_rate` Nullable(Float64) COMMENT 'answered of those offered; NULL where none was (电话接通率)',
    `phone_within_15s_rate` Nullable(Float64) COMMENT 'answered within 15 seconds of those offered; NULL where none was (十五秒内接听率)',
    `other_offered` UInt64 COMMENT 'contacts by other channels, without those that are non-counselling (其他渠道来访)',
    `other_answered` UInt64 COMMENT 'of them answered (其他渠道应答)',
    `other_answered_within_3min` UInt64 COMMENT 'of them answered within 3 minutes (三分钟内应答)',
    `other_connect_rate` Nullable(Float64) COMMENT 'answered of those offered; NULL where none was (其他渠道应答率)',
    `other_within_3min_rate` Nullable(Float64) COMMENT 'answered within 3 minutes of those offered; NULL where none was (三分钟内应答率)',
    `non_counselling` UInt64 COMMENT 'contacts by any channel that are neither by nor about a child, in no other column (无效来电)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'how contacts were answered, by day; those without a recorded time of ringing are in none of it (热线接通)'
AS SELECT
    day,
    adm_code,
    org,
    countIf(phone) AS phone_offered,
    countIf(phone AND answered) AS phone_answered,
    countIf(phone AND (answer_seconds <= 15)) AS phone_answered_within_15s,
    if(phone_offered = 0, NULL, phone_answered / phone_offered) AS phone_connect_rate,
    if(phone_offered = 0, NULL, phone_answered_within_15s / phone_offered) AS phone_within_15s_rate,
    countIf(other) AS other_offered,
    countIf(other AND answered) AS other_answered,
    countIf(other AND (answer_seconds <= 180)) AS other_answered_within_3min,
    if(other_offered = 0, NULL, other_answered / other_offered) AS other_connect_rate,
    if(other_offered = 0, NULL, other_answered_within_3min / other_offered) AS other_within_3min_rate,
    countIf((NOT phone) AND (NOT other)) AS non_counselling
FROM
(
    SELECT
        toDate(assumeNotNull(rang_at), 'Asia/Shanghai') AS day,
        adm_code,
        taken_org AS org,
        answer_seconds,
        answered_at IS NOT NULL AS answered,
        (contact_type != 'NON_COUNSELLING') AND (channel = 'PHONE') AS phone,
        (contact_type != 'NON_COUNSELLING') AND (channel != 'PHONE') AS other
    FROM tongan.contacts
    WHERE rang_at IS NOT NULL
)
GROUP BY
    day,
    adm_code,
    org;

CREATE VIEW tongan.indicators
(
    `indicator` LowCardinality(String),
    `definition_version` UInt16,
    `unit` LowCardinality(String),
    `title_zh` String,
    `title_en` String,
    `definition` String
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'definitions of the indicators (指标口径)'
AS SELECT
    indicator,
    definition_version,
    unit,
    title_zh,
    title_en,
    definition
FROM tongan_g1.indicators
FINAL;

CREATE VIEW tongan.journal
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `kind` Enum8('event' = 1, 'poison' = 2, 'gap' = 3),
    `event_id` String,
    `type` LowCardinality(String),
    `aggregate` LowCardinality(String),
    `aggregate_id` String,
    `command_id` String,
    `cause` String,
    `recorded_at` Nullable(DateTime64(9, 'UTC')),
    `occurred_at` Nullable(DateTime64(9, 'UTC')),
    `performed_by` String,
    `recorded_by` String,
    `credited_org` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `source_channel` LowCardinality(String),
    `reason` LowCardinality(String),
    `correction_of` String,
    `rule_version` LowCardinality(String),
    `size` UInt32,
    `poison` LowCardinality(String)
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'one row for every sequence of every stream, written last (流水)'
AS SELECT
    stream,
    seq,
    kind,
    event_id,
    type,
    aggregate,
    aggregate_id,
    command_id,
    cause,
    recorded_at,
    occurred_at,
    performed_by,
    recorded_by,
    credited_org,
    adm_code,
    source_channel,
    reason,
    correction_of,
    rule_version,
    size,
    poison
FROM tongan_g1.journal
FINAL;

CREATE VIEW tongan.open_cases
(
    `case_id` String COMMENT 'opaque id of the case (个案编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, GB/T 2260 (行政区划代码)',
    `case_source` LowCardinality(String) COMMENT 'where it comes from (个案来源)',
    `gap_cause` LowCardinality(String) COMMENT 'why nobody looks after the child (监护缺失原因)',
    `contact_id` String COMMENT 'opaque id of the hotline contact it came from (来电编号)',
    `opened_at` DateTime64(9, 'UTC') COMMENT 'when it was opened first (开立时间)',
    `risk_level` LowCardinality(String) COMMENT 'risk as it stands, UNSPECIFIED where not assessed (风险等级)',
    `assessed_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when the risk was assessed last; NULL where not assessed (最近评估时间)',
    `owner_id` String COMMENT 'opaque id of who owns it, or owned it when it was closed (个案责任人)',
    `special` Bool COMMENT 'it is special (特殊个案)',
    `follow_ups` UInt64 COMMENT 'follow-ups, whatever came of them (跟进次数)',
    `last_followed_up_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was followed up last, whatever came of it; NULL while never (最近跟进时间)',
    `last_reached_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when the child or the family was reached last by a follow-up; NULL while never (最近联系到时间)',
    `open` Bool COMMENT 'it is open (未结案)',
    `closed_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was closed last; NULL while it is open (结案时间)',
    `close_reason` LowCardinality(String) COMMENT 'why it was closed last; empty while it is open (结案原因)',
    `reopened` UInt64 COMMENT 'how often it was opened again (重新开案次数)',
    `next_due_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'first of its open deadlines, past or to come; NULL where there is none (下一截止时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'cases that are open (未结个案)'
AS SELECT
    case_id,
    child_id,
    category,
    adm_code,
    case_source,
    gap_cause,
    contact_id,
    opened_at,
    risk_level,
    assessed_at,
    owner_id,
    special,
    follow_ups,
    last_followed_up_at,
    last_reached_at,
    open,
    closed_at,
    close_reason,
    reopened,
    next_due_at
FROM tongan.cases
WHERE open;

CREATE VIEW tongan.overdue
(
    `object` LowCardinality(String) COMMENT 'CASE or CONTACT (个案、来电)',
    `object_id` String COMMENT 'opaque id of the case or contact (对象编号)',
    `deadline_id` String COMMENT 'name of the deadline within its object (时限编号)',
    `kind` LowCardinality(String) COMMENT 'what has to be done (时限类别)',
    `child_id` String COMMENT 'opaque id of the child of the case; empty for a contact (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened; empty for a contact (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case, or where the contact came to, GB/T 2260 (行政区划代码)',
    `armed` Bool COMMENT 'it is said when it is missed; false where it had passed when it was set (是否计时)',
    `due_at` DateTime64(9, 'UTC') COMMENT 'by when (截止时间)',
    `overdue_seconds` Int64 COMMENT 'seconds since then (已超时秒数)',
    `owner_id` String COMMENT 'opaque id of who owns the case now; empty for a contact (个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk of the case now; empty for a contact (风险等级)',
    `org` LowCardinality(String) COMMENT 'opaque id of the organisation that has the contact now; empty for a case (现负责单位)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'deadlines that have passed and are neither met nor withdrawn, armed or not (已超时未完成)'
AS SELECT
    d.object AS object,
    d.object_id AS object_id,
    d.deadline_id AS deadline_id,
    d.kind AS kind,
    d.child_id AS child_id,
    d.category AS category,
    d.adm_code AS adm_code,
    d.armed AS armed,
    d.due_at AS due_at,
    dateDiff('second', d.due_at, now64(9, 'UTC')) AS overdue_seconds,
    c.owner_id AS owner_id,
    c.risk_level AS risk_level,
    k.org AS org
FROM tongan.deadlines AS d
LEFT JOIN
(
    SELECT
        'CASE' AS object,
        case_id,
        owner_id,
        risk_level
    FROM tongan.cases
) AS c ON (c.object = d.object) AND (c.case_id = d.object_id)
LEFT JOIN
(
    SELECT
        'CONTACT' AS object,
        contact_id,
        org
    FROM tongan.contacts
) AS k ON (k.object = d.object) AND (k.contact_id = d.object_id)
WHERE (d.state = 'OPEN') AND (d.due_at < now64(9, 'UTC'));

CREATE VIEW tongan.reminders
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `batch_id` String,
    `message_id` String,
    `child_id` String,
    `category` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `segments` Int32,
    `failure` LowCardinality(String),
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'text messages, a row for every step of every message (短信提醒)'
AS SELECT
    stream,
    seq,
    n,
    state,
    batch_id,
    message_id,
    child_id,
    category,
    adm_code,
    segments,
    failure,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.reminders
FINAL;

CREATE VIEW tongan.retention_proposals
(
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `adm_code` LowCardinality(String) COMMENT 'district as it stands, GB/T 2260 (行政区划代码)',
    `end_reason` LowCardinality(String) COMMENT 'why the child left, MERGED for a duplicate (注销原因)',
    `ended_on` Date COMMENT 'last day in the registry, of a duplicate the day of the merge (注销日期)',
    `keep_days` UInt32 COMMENT 'days of the rule that was valid on that day (保存天数)',
    `keep_until` Date32 COMMENT 'last day on which its details are kept (保存期满日)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'children whose details need not be kept any longer; a person decides whom to forget (拟遗忘名单)'
AS SELECT
    c.child_id AS child_id,
    c.adm_code AS adm_code,
    c.end_reason AS end_reason,
    c.ended_on AS ended_on,
    r.keep_days AS keep_days,
    toDate32(c.ended_on) + r.keep_days AS keep_until
FROM
(
    SELECT
        child_id,
        adm_code,
        toString(end_reason) AS end_reason,
        assumeNotNull(ended_on) AS ended_on
    FROM tongan.children
    WHERE (NOT forgotten) AND (ended_on IS NOT NULL) AND (child_id NOT IN (
        SELECT child_id
        FROM tongan.open_cases
    ))
) AS c
ASOF INNER JOIN
(
    SELECT
        toString(end_reason) AS end_reason,
        keep_days,
        valid_from
    FROM tongan_g1.retention_rules
    FINAL
) AS r ON (r.end_reason = c.end_reason) AND (r.valid_from <= c.ended_on)
WHERE keep_until < toDate32(now(), 'Asia/Shanghai');

CREATE VIEW tongan.shifts
(
    `shift_id` String COMMENT 'opaque id of the shift (班次编号)',
    `line_id` LowCardinality(String) COMMENT 'opaque id of the line (线路编号)',
    `operator_id` String COMMENT 'opaque id of who is on duty (值班员)',
    `org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `adm_code` LowCardinality(String) COMMENT 'district where it was recorded that it began, GB/T 2260 (行政区划代码)',
    `started_at` DateTime64(9, 'UTC') COMMENT 'when it began (上岗时间)',
    `ended_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it ended; NULL while it goes on (下岗时间)'
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'shifts as they stand (班次)'
AS SELECT
    s.shift_id AS shift_id,
    s.line_id AS line_id,
    argMin(s.operator_id, s.seq) AS operator_id,
    argMin(s.credited_org, s.seq) AS org,
    argMin(s.adm_code, s.seq) AS adm_code,
    argMin(s.began_at, s.seq) AS started_at,
    max(s.ended_at) AS ended_at
FROM
(
    SELECT
        seq,
        line_id,
        shift_id,
        operator_id,
        began_at,
        ended_at,
        adm_code,
        credited_org
    FROM tongan_g1.shifts
    FINAL
    WHERE state IN ('STARTED', 'ENDED')
) AS s
GROUP BY
    line_id,
    shift_id;

CREATE VIEW tongan.supports
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `support_id` String,
    `kind` LowCardinality(String),
    `child_id` String,
    `category` LowCardinality(String),
    `case_id` String,
    `provider_org` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `due_at` Nullable(DateTime64(9, 'UTC')),
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'service supports, a row for every step (服务支援)'
AS SELECT
    stream,
    seq,
    n,
    state,
    support_id,
    kind,
    child_id,
    category,
    case_id,
    provider_org,
    adm_code,
    due_at,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.supports
FINAL;

CREATE VIEW tongan.tallies
(
    `indicator` LowCardinality(String),
    `unit` LowCardinality(String),
    `day` Date,
    `adm_code` LowCardinality(String),
    `category` LowCardinality(String),
    `credited_org` LowCardinality(String),
    `value` Int64,
    `definition_version` UInt16
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'indicators by day (Asia/Shanghai), district, category and organisation (指标统计)'
AS SELECT
    f.indicator AS indicator,
    i.unit AS unit,
    f.day AS day,
    f.adm_code AS adm_code,
    f.category AS category,
    f.credited_org AS credited_org,
    f.value AS value,
    f.definition_version AS definition_version
FROM
(
    SELECT
        indicator,
        definition_version,
        day,
        adm_code,
        category,
        credited_org,
        sum(value) AS value
    FROM tongan_g1.facts
    FINAL
    GROUP BY
        indicator,
        definition_version,
        day,
        adm_code,
        category,
        credited_org
) AS f
LEFT JOIN
(
    SELECT
        indicator,
        definition_version,
        unit
    FROM tongan_g1.indicators
    FINAL
) AS i ON (i.indicator = f.indicator) AND (i.definition_version = f.definition_version);

CREATE VIEW tongan.visits
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `visit_id` String,
    `visited_on` Date,
    `channel` LowCardinality(String),
    `outcome` LowCardinality(String),
    `child_id` String,
    `category` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `worker_id` String,
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'visits, a row for every child spoken about; a void is a row of its own (探访)'
AS SELECT
    stream,
    seq,
    n,
    state,
    visit_id,
    visited_on,
    channel,
    outcome,
    child_id,
    category,
    adm_code,
    worker_id,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.visits
FINAL;

CREATE TABLE tongan_g1.cases
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'OPENED, FLAGGED_SPECIAL, ASSESSED, PLAN_APPROVED, WORKER_ASSIGNED, SERVICE_NOTED, REFERRAL_PROPOSED, REFERRAL_ANSWERED, CARE_ARRANGED, FOLLOWED_UP, REVIEWED, CLOSED or REOPENED (已开立、列为特殊、已评估、方案已确定、已指定责任人、服务进度、已提出转介、转介已答复、临时照料已安排、已跟进、已复核、已结案、已重新开案)',
    `case_id` String COMMENT 'opaque id of the case (个案编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case (行政区划代码)',
    `gap_cause` LowCardinality(String) COMMENT 'why nobody looks after the child (监护缺失原因)',
    `contact_id` String COMMENT 'opaque id of the hotline contact it came from (来电编号)',
    `follow_up_id` String COMMENT 'opaque id of the follow-up (跟进编号)',
    `channel` LowCardinality(String) COMMENT 'how it was followed up (跟进方式)',
    `close_reason` LowCardinality(String) COMMENT 'why it ended (结案原因)',
    `counts_special` Bool COMMENT 'the one event by which it counts as special (计入特殊个案)',
    `special` Bool COMMENT 'a case that is closed or opened again is special (结案或重新开案时为特殊个案)',
    `case_source` LowCardinality(String) COMMENT 'where it comes from (个案来源)',
    `visit_id` String COMMENT 'opaque id of the visit it came from (探访编号)',
    `owner_id` String COMMENT 'opaque id of who owns the case after the event; empty where it does not say (个案责任人)',
    `from_owner_id` String COMMENT 'opaque id of who owned it before a hand-over (原个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk after the event; empty where it does not say (风险等级)',
    `previous_risk_level` LowCardinality(String) COMMENT 'risk before an assessment (原风险等级)',
    `risk_reason` LowCardinality(String) COMMENT 'code: what an assessment rests on (风险依据)',
    `assessment_id` String COMMENT 'opaque id of the assessment (评估编号)',
    `plan_id` String COMMENT 'opaque id of the plan (方案编号)',
    `plan_services` Array(LowCardinality(String)) COMMENT 'services a plan needs (方案所需服务)',
    `agreed_by` String COMMENT 'opaque id of who agreed to a plan or an end (同意人)',
    `follow_up_outcome` LowCardinality(String) COMMENT 'what came of a follow-up; UNSPECIFIED counts as reached (跟进结果)',
    `support_id` String COMMENT 'opaque id of the service support (服务支援编号)',
    `support_kind` LowCardinality(String) COMMENT 'what kind of service is noted or referred for (服务支援类别)',
    `service_step` LowCardinality(String) COMMENT 'how far the service is (服务进度)',
    `referral_id` String COMMENT 'opaque id of the referral (转介编号)',
    `referral_state` LowCardinality(String) COMMENT 'how far the referral is (转介状态)',
    `to_org` LowCardinality(String) COMMENT 'opaque id of the organisation asked (转介单位)',
    `arrangement_id` String COMMENT 'opaque id of the care for a time (临时照料编号)',
    `care_provider` LowCardinality(String) COMMENT 'who cares for a time (临时照料责任方)',
    `review_id` String COMMENT 'opaque id of the review (复核编号)',
    `reopen_reason` LowCardinality(String) COMMENT 'code: why it was opened again (重新开案原因)',
    `worker_id` String COMMENT 'opaque id of who did it (经办人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'protection cases, a row for every event (个案)';

CREATE TABLE tongan_g1.check_rounds
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'OPENED or CLOSED (已开始、已结束)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution (机构)',
    `checked_on` Date COMMENT 'day of the round, Asia/Shanghai (检查日期)',
    `slot` LowCardinality(String) COMMENT 'time of day (检查时段)',
    `expected` Int32 COMMENT 'children to be checked (应检人数)',
    `checked` Int32 COMMENT 'children checked; 0 while the round is open (实检人数)',
    `abnormal` Int32 COMMENT 'of them above the normal band (异常人数)',
    `adm_code` LowCardinality(String) COMMENT 'district of the institution (行政区划代码)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'rounds of checks, a row at the beginning and one at the end (检查轮次)';

CREATE TABLE tongan_g1.child_events
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'what happened: REGISTERED, CORRECTED, MOVED, DEREGISTERED, CATEGORY_STARTED, CATEGORY_ENDED, GUARDIAN_RECORDED, GUARDIAN_ENDED, CARE_ARRANGED, HOUSEHOLD_JOINED, WORKER_ASSIGNED, MERGED, FORGOTTEN or KEY_DESTROYED (登记、更正、迁移、注销、类别认定、类别取消、监护登记、监护终止、照料安排、归户、指定责任人、合并、遗忘、密钥销毁)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `adm_code` LowCardinality(String) COMMENT 'district of the event; of a move the new one, GB/T 2260 (行政区划代码)',
    `from_adm_code` LowCardinality(String) COMMENT 'district before a move (原行政区划代码)',
    `category` LowCardinality(String) COMMENT 'category that starts or ends (儿童类别)',
    `category_rule` LowCardinality(String) COMMENT 'what the category rests on (认定依据)',
    `started_on` Nullable(Date) COMMENT 'first day of what starts, and of the membership that ends, Asia/Shanghai (开始日期)',
    `ended_on` Nullable(Date) COMMENT 'last day of what ends, Asia/Shanghai (结束日期)',
    `age_band` LowCardinality(String) COMMENT 'age on the day of the event (年龄段)',
    `worker_id` String COMMENT 'opaque id of the responsible worker (责任人)',
    `worker_role` LowCardinality(String) COMMENT 'office of the responsible worker (责任人岗位)',
    `guardian_id` String COMMENT 'opaque id of the guardian (监护人编号)',
    `relation` LowCardinality(String) COMMENT 'who the guardian is to the child (监护关系)',
    `arrangement_id` String COMMENT 'opaque id of the care arrangement (照料安排编号)',
    `ended_arrangement_id` String COMMENT 'opaque id of the one that ended the day before (被替代的照料安排编号)',
    `care_type` LowCardinality(String) COMMENT 'who cares day by day (照料方式)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution that cares (照料机构)',
    `household_id` String COMMENT 'opaque id of the household (家庭编号)',
    `into_child_id` String COMMENT 'opaque id of the entry that stays after a merge (合并后保留的儿童编号)',
    `reason` LowCardinality(String) COMMENT 'code: why the child left, or may be forgotten (注销原因、遗忘依据)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'child registry, a row for every event (儿童登记)';

CREATE TABLE tongan_g1.contact_events
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'what happened: RECEIVED, CLASSIFIED, LINKED, ACTED, CALL_BACK_PROMISED, CALLED_BACK, HANDED_OVER or CLOSED (已接、已分类、已关联儿童、已处理、已约定回电、已回电、已移交、已办结)',
    `contact_id` String COMMENT 'opaque id of the contact (来电编号)',
    `adm_code` LowCardinality(String) COMMENT 'district of the event; of a classification that of the contact, GB/T 2260 (行政区划代码)',
    `channel` LowCardinality(String) COMMENT 'how it came (来电渠道)',
    `speaker` LowCardinality(String) COMMENT 'who speaks (来电人)',
    `contact_type` LowCardinality(String) COMMENT 'what it is about as known after the event (来电类型)',
    `previous_contact_type` LowCardinality(String) COMMENT 'what it was said to be about before a classification (原来电类型)',
    `reasons` Array(LowCardinality(String)) COMMENT 'why, all that hold (来电诉求)',
    `urgency` LowCardinality(String) COMMENT 'how soon it needs an answer (紧急程度)',
    `rang_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it rang or came in; NULL where not recorded (振铃时间)',
    `answered_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it was answered; NULL where nobody did or not recorded (接听时间)',
    `child_ids` Array(String) COMMENT 'opaque ids of the children it is found to be about (儿童编号)',
    `contact_action` LowCardinality(String) COMMENT 'what was done (处理方式)',
    `helping_org` LowCardinality(String) COMMENT 'opaque id of the organisation that helps (协助单位)',
    `reached` Bool COMMENT 'a call back reached somebody (回电已接通)',
    `from_org` LowCardinality(String) COMMENT 'opaque id of who had it before a hand-over (移交单位)',
    `to_org` LowCardinality(String) COMMENT 'opaque id of who has it after a hand-over (接收单位)',
    `contact_outcome` LowCardinality(String) COMMENT 'how it ended (办结方式)',
    `case_id` String COMMENT 'opaque id of the case that was opened (个案编号)',
    `worker_id` String COMMENT 'opaque id of who did it (经办人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'hotline contacts, a row for every event (热线来电)';

CREATE TABLE tongan_g1.deadlines
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'SET, MET, WITHDRAWN or MISSED (已设定、已完成、已撤销、已超时)',
    `object` LowCardinality(String) COMMENT 'CASE or CONTACT (个案、来电)',
    `object_id` String COMMENT 'opaque id of the case or contact (对象编号)',
    `deadline_id` String COMMENT 'name of the deadline within its object (时限编号)',
    `kind` LowCardinality(String) COMMENT 'what has to be done (时限类别)',
    `due_at` DateTime64(9, 'UTC') COMMENT 'by when (截止时间)',
    `armed` Bool COMMENT 'it is said when it is missed (是否计时)',
    `child_id` String COMMENT 'opaque id of the child of the case; empty for a contact (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child when the case was opened; empty for a contact (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the case; of a contact as the event says it, GB/T 2260 (行政区划代码)',
    `owner_id` String COMMENT 'opaque id of who owns the case after the event; empty for a contact (个案责任人)',
    `risk_level` LowCardinality(String) COMMENT 'risk of the case after the event; empty for a contact (风险等级)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'deadlines of cases and contacts, a row for every step (时限)';

CREATE TABLE tongan_g1.deliveries
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'REQUESTED, DISPATCHED or RECEIVED (已申领、已发出、已签收)',
    `delivery_id` String COMMENT 'opaque id of the delivery (配送编号)',
    `item` LowCardinality(String) COMMENT 'what (物资)',
    `units` Int32 COMMENT 'how many units (件数)',
    `child_id` String COMMENT 'opaque id of the child; empty where none is meant (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution; empty where none is meant (机构)',
    `adm_code` LowCardinality(String) COMMENT 'district that gets them (行政区划代码)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'protective items, a row for every step of every delivery (防护物资)';

CREATE TABLE tongan_g1.facts
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `indicator` LowCardinality(String) COMMENT 'what is counted (指标)',
    `definition_version` UInt16 COMMENT 'version of its definition (口径版本)',
    `value` Int64 COMMENT 'how much; negative takes back (数值)',
    `day` Date COMMENT 'day it counts for, Asia/Shanghai (日期)',
    `adm_code` LowCardinality(String) COMMENT 'district it counts for, GB/T 2260 (行政区划代码)',
    `category` LowCardinality(String) COMMENT 'category of the child; empty where none is meant (儿童类别)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution; empty where none is meant (机构)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'what counts: an indicator is the sum of its values (指标事实)';

CREATE TABLE tongan_g1.goose_db_version
(
    `version_id` Int64,
    `is_applied` UInt8,
    `date` Date DEFAULT now(),
    `tstamp` DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY version_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192;

CREATE TABLE tongan_g1.health_checks
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `institution` LowCardinality(String) COMMENT 'opaque id of the institution (机构)',
    `checked_on` Date COMMENT 'day of the round, Asia/Shanghai (检查日期)',
    `slot` LowCardinality(String) COMMENT 'time of day (检查时段)',
    `check_id` String COMMENT 'opaque id of the reading (测温编号)',
    `person_id` String COMMENT 'opaque id of the person (人员编号)',
    `temp_decicelsius` Int32 COMMENT 'tenths of a degree Celsius (体温，十分之一摄氏度)',
    `method` LowCardinality(String) COMMENT 'how it was taken (测温方式)',
    `band` LowCardinality(String) COMMENT 'what it means under the rule version (体温分级)',
    `rule_version` LowCardinality(String) COMMENT 'rule set that was followed (规则版本)',
    `adm_code` LowCardinality(String) COMMENT 'district of the institution (行政区划代码)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it was taken (测温时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'readings of body temperature (测温)';

CREATE TABLE tongan_g1.indicators
(
    `indicator` LowCardinality(String) COMMENT 'name (指标)',
    `definition_version` UInt16 COMMENT 'version of its definition (口径版本)',
    `unit` LowCardinality(String) COMMENT 'what is counted (单位)',
    `title_zh` String COMMENT 'title in Chinese (中文名称)',
    `title_en` String COMMENT 'title in English (英文名称)',
    `definition` String COMMENT 'how it is counted (口径说明)'
)
ENGINE = ReplacingMergeTree
ORDER BY (indicator, definition_version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'definitions of the indicators (指标口径)';

CREATE TABLE tongan_g1.journal
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `kind` Enum8('event' = 1, 'poison' = 2, 'gap' = 3) COMMENT 'event, message that cannot be read, or missing sequence (事件、坏消息、缺号)',
    `event_id` String COMMENT 'event id (事件编号)',
    `type` LowCardinality(String) COMMENT 'full name of the message (事件类型)',
    `aggregate` LowCardinality(String) COMMENT 'kind of aggregate (聚合类型)',
    `aggregate_id` String COMMENT 'opaque id of the aggregate (聚合编号)',
    `command_id` String COMMENT 'command that led to it (命令编号)',
    `cause` String COMMENT 'event or command that led to it (起因编号)',
    `recorded_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when the stream took it; NULL for a gap (录入时间)',
    `occurred_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it happened; NULL where that cannot be read (发生时间)',
    `performed_by` String COMMENT 'opaque id of who did it (经办人)',
    `recorded_by` String COMMENT 'opaque id of who entered it (录入人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `adm_code` LowCardinality(String) COMMENT 'district where it happened, GB/T 2260 (行政区划代码)',
    `source_channel` LowCardinality(String) COMMENT 'how it came in (来源渠道)',
    `reason` LowCardinality(String) COMMENT 'reason code (原因代码)',
    `correction_of` String COMMENT 'event that this one corrects (更正对象)',
    `rule_version` LowCardinality(String) COMMENT 'rule set that was followed (规则版本)',
    `size` UInt32 COMMENT 'payload in bytes (字节数)',
    `poison` LowCardinality(String) COMMENT 'what is wrong with a poison message (坏消息类别)',
    `facts_rows` UInt32 COMMENT 'rows it gives in facts (指标行数)',
    `visits_rows` UInt32 COMMENT 'rows it gives in visits (探访行数)',
    `reminders_rows` UInt32 COMMENT 'rows it gives in reminders (短信行数)',
    `deliveries_rows` UInt32 COMMENT 'rows it gives in deliveries (物资行数)',
    `supports_rows` UInt32 COMMENT 'rows it gives in supports (服务支援行数)',
    `cases_rows` UInt32 COMMENT 'rows it gives in cases (个案行数)',
    `check_rounds_rows` UInt32 COMMENT 'rows it gives in check_rounds (检查轮次行数)',
    `health_checks_rows` UInt32 COMMENT 'rows it gives in health_checks (测温行数)',
    `child_events_rows` UInt32 COMMENT 'rows it gives in child_events (儿童登记行数)',
    `contact_events_rows` UInt32 COMMENT 'rows it gives in contact_events (热线来电行数)',
    `shifts_rows` UInt32 COMMENT 'rows it gives in shifts (值班行数)',
    `deadlines_rows` UInt32 COMMENT 'rows it gives in deadlines (时限行数)',
    `projection_version` UInt32 DEFAULT 1 COMMENT 'version of the projection that wrote its rows (投影版本)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'one row for every sequence of every stream, written last (流水)';

CREATE TABLE tongan_g1.projection
(
    `stream` LowCardinality(String) COMMENT 'stream that is projected (事件流)',
    `projection_version` UInt32 COMMENT 'version of the projection that fills these tables (投影版本)',
    `stream_created` Int64 COMMENT 'when the stream was created, nanoseconds since 1970 (事件流创建时间，纳秒)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, projection_version, stream_created)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'which projection of which streams this generation holds (投影)';

CREATE TABLE tongan_g1.reminders
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'QUEUED, ACCEPTED, DELIVERED or FAILED (待发、已受理、已送达、失败)',
    `batch_id` String COMMENT 'opaque id of the batch (批次编号)',
    `message_id` String COMMENT 'opaque id of the message (短信编号)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the child as known then (行政区划代码)',
    `segments` Int32 COMMENT 'segments of the text; 0 where the event does not say (短信段数)',
    `failure` LowCardinality(String) COMMENT 'why it did not arrive (失败原因)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'text messages, a row for every step of every message (短信提醒)';

CREATE TABLE tongan_g1.retention_rules
(
    `end_reason` LowCardinality(String) COMMENT 'why the child left, MERGED for a duplicate (注销原因)',
    `keep_days` UInt32 COMMENT 'days its details are kept after the last day in the registry (保存天数)',
    `valid_from` Date COMMENT 'first day on which a child has to have left for it, Asia/Shanghai (生效日期)',
    `note` String COMMENT 'what it rests on (依据)'
)
ENGINE = ReplacingMergeTree
ORDER BY (end_reason, valid_from)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'how long details are kept after a child left; proposals only, a person decides (保存期限)';

CREATE TABLE tongan_g1.shifts
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'STARTED, ENDED, GAP_BEGAN or GAP_ENDED (上岗、下岗、开始无人值守、恢复值守)',
    `line_id` LowCardinality(String) COMMENT 'opaque id of the line (线路编号)',
    `shift_id` String COMMENT 'opaque id of the shift; empty for a gap (班次编号)',
    `operator_id` String COMMENT 'opaque id of who is on duty; empty for a gap (值班员)',
    `gap_number` UInt32 COMMENT 'number of the gap, from 1 for each line; 0 for a shift (空岗序号)',
    `began_at` DateTime64(9, 'UTC') COMMENT 'when shift or gap began (开始时间)',
    `ended_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it ended; NULL where the event is its beginning (结束时间)',
    `adm_code` LowCardinality(String) COMMENT 'district of the event, GB/T 2260 (行政区划代码)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'duty at the lines, a row for every event of shifts and of gaps (值班)';

CREATE TABLE tongan_g1.supports
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'REQUESTED, BEGUN or ENDED (已申请、已开始、已结束)',
    `support_id` String COMMENT 'opaque id of the support (服务支援编号)',
    `kind` LowCardinality(String) COMMENT 'what (服务支援类别)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    `case_id` String COMMENT 'opaque id of the case it belongs to (个案编号)',
    `provider_org` LowCardinality(String) COMMENT 'opaque id of who provides it (服务提供单位)',
    `adm_code` LowCardinality(String) COMMENT 'district of the child (行政区划代码)',
    `due_at` Nullable(DateTime64(9, 'UTC')) COMMENT 'when it is needed; NULL where that is not known (需求时间)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'service supports, a row for every step (服务支援)';

CREATE TABLE tongan_g1.visits
(
    `stream` LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    `seq` UInt64 COMMENT 'its sequence there (序号)',
    `n` UInt32 COMMENT 'number within the event (事件内行号)',
    `state` LowCardinality(String) COMMENT 'RECORDED or VOIDED (已记录、已作废)',
    `visit_id` String COMMENT 'opaque id of the visit (探访编号)',
    `visited_on` Date COMMENT 'day of the visit, Asia/Shanghai (探访日期)',
    `channel` LowCardinality(String) COMMENT 'how (探访方式)',
    `outcome` LowCardinality(String) COMMENT 'what came of it (探访结果)',
    `child_id` String COMMENT 'opaque id of the child (儿童编号)',
    `category` LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    `adm_code` LowCardinality(String) COMMENT 'district of the child as known then (行政区划代码)',
    `worker_id` String COMMENT 'opaque id of who called or went (探访人)',
    `credited_org` LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    `occurred_at` DateTime64(9, 'UTC') COMMENT 'when it happened, or was taken back (发生时间)',
    `recorded_at` DateTime64(9, 'UTC') COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree
ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, index_granularity = 8192
COMMENT 'visits, a row for every child spoken about; a void is a row of its own (探访)';

