CREATE VIEW tongan.cases
(
    `stream` LowCardinality(String),
    `seq` UInt64,
    `n` UInt32,
    `state` LowCardinality(String),
    `case_id` String,
    `child_id` String,
    `category` LowCardinality(String),
    `adm_code` LowCardinality(String),
    `gap_cause` LowCardinality(String),
    `contact_id` String,
    `follow_up_id` String,
    `channel` LowCardinality(String),
    `close_reason` LowCardinality(String),
    `counts_special` Bool,
    `special` Bool,
    `worker_id` String,
    `credited_org` LowCardinality(String),
    `occurred_at` DateTime64(9, 'UTC'),
    `recorded_at` DateTime64(9, 'UTC')
)
DEFINER = migration SQL SECURITY DEFINER
COMMENT 'protection cases, a row for every event (个案)'
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
    worker_id,
    credited_org,
    occurred_at,
    recorded_at
FROM tongan_g1.cases
FINAL;

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
    `state` LowCardinality(String) COMMENT 'OPENED, FLAGGED_SPECIAL, FOLLOWED_UP or CLOSED (已开立、列为特殊、已跟进、已结案)',
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
    `special` Bool COMMENT 'a closed case was special (结案时为特殊个案)',
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

