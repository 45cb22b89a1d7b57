-- +goose NO TRANSACTION
-- +goose Up

-- The child registry. Version 2 of the projection gives rows in child_events, also for events that version 1 has seen: what the journal
-- says of version 1 does not count, and the projector writes all rows again, the same as before and those of child_events.

CREATE TABLE IF NOT EXISTS tongan_g1.child_events
(
    stream               LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq                  UInt64                 COMMENT 'its sequence there (序号)',
    n                    UInt32                 COMMENT 'number within the event (事件内行号)',
    state                LowCardinality(String) COMMENT 'what happened: REGISTERED, CORRECTED, MOVED, DEREGISTERED, CATEGORY_STARTED, CATEGORY_ENDED, GUARDIAN_RECORDED, GUARDIAN_ENDED, CARE_ARRANGED, HOUSEHOLD_JOINED, WORKER_ASSIGNED, MERGED, FORGOTTEN or KEY_DESTROYED (登记、更正、迁移、注销、类别认定、类别取消、监护登记、监护终止、照料安排、归户、指定责任人、合并、遗忘、密钥销毁)',
    child_id             String                 COMMENT 'opaque id of the child (儿童编号)',
    adm_code             LowCardinality(String) COMMENT 'district of the event; of a move the new one, GB/T 2260 (行政区划代码)',
    from_adm_code        LowCardinality(String) COMMENT 'district before a move (原行政区划代码)',
    category             LowCardinality(String) COMMENT 'category that starts or ends (儿童类别)',
    category_rule        LowCardinality(String) COMMENT 'what the category rests on (认定依据)',
    started_on           Nullable(Date)         COMMENT 'first day of what starts, and of the membership that ends, Asia/Shanghai (开始日期)',
    ended_on             Nullable(Date)         COMMENT 'last day of what ends, Asia/Shanghai (结束日期)',
    age_band             LowCardinality(String) COMMENT 'age on the day of the event (年龄段)',
    worker_id            String                 COMMENT 'opaque id of the responsible worker (责任人)',
    worker_role          LowCardinality(String) COMMENT 'office of the responsible worker (责任人岗位)',
    guardian_id          String                 COMMENT 'opaque id of the guardian (监护人编号)',
    relation             LowCardinality(String) COMMENT 'who the guardian is to the child (监护关系)',
    arrangement_id       String                 COMMENT 'opaque id of the care arrangement (照料安排编号)',
    ended_arrangement_id String                 COMMENT 'opaque id of the one that ended the day before (被替代的照料安排编号)',
    care_type            LowCardinality(String) COMMENT 'who cares day by day (照料方式)',
    institution          LowCardinality(String) COMMENT 'opaque id of the institution that cares (照料机构)',
    household_id         String                 COMMENT 'opaque id of the household (家庭编号)',
    into_child_id        String                 COMMENT 'opaque id of the entry that stays after a merge (合并后保留的儿童编号)',
    reason               LowCardinality(String) COMMENT 'code: why the child left, or may be forgotten (注销原因、遗忘依据)',
    credited_org         LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at          DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at          DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'child registry, a row for every event (儿童登记)';

ALTER TABLE tongan_g1.journal
    ADD COLUMN IF NOT EXISTS child_events_rows UInt32 COMMENT 'rows it gives in child_events (儿童登记行数)' AFTER health_checks_rows,
    ADD COLUMN IF NOT EXISTS projection_version UInt32 DEFAULT 1 COMMENT 'version of the projection that wrote its rows (投影版本)' AFTER child_events_rows;

CREATE OR REPLACE VIEW tongan.child_events
(
    stream               LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq                  UInt64                 COMMENT 'its sequence there (序号)',
    n                    UInt32                 COMMENT 'number within the event (事件内行号)',
    state                LowCardinality(String) COMMENT 'what happened (事项)',
    child_id             String                 COMMENT 'opaque id of the child (儿童编号)',
    adm_code             LowCardinality(String) COMMENT 'district of the event; of a move the new one, GB/T 2260 (行政区划代码)',
    from_adm_code        LowCardinality(String) COMMENT 'district before a move (原行政区划代码)',
    category             LowCardinality(String) COMMENT 'category that starts or ends (儿童类别)',
    category_rule        LowCardinality(String) COMMENT 'what the category rests on (认定依据)',
    started_on           Nullable(Date)         COMMENT 'first day of what starts, and of the membership that ends, Asia/Shanghai (开始日期)',
    ended_on             Nullable(Date)         COMMENT 'last day of what ends, Asia/Shanghai (结束日期)',
    age_band             LowCardinality(String) COMMENT 'age on the day of the event (年龄段)',
    worker_id            String                 COMMENT 'opaque id of the responsible worker (责任人)',
    worker_role          LowCardinality(String) COMMENT 'office of the responsible worker (责任人岗位)',
    guardian_id          String                 COMMENT 'opaque id of the guardian (监护人编号)',
    relation             LowCardinality(String) COMMENT 'who the guardian is to the child (监护关系)',
    arrangement_id       String                 COMMENT 'opaque id of the care arrangement (照料安排编号)',
    ended_arrangement_id String                 COMMENT 'opaque id of the one that ended the day before (被替代的照料安排编号)',
    care_type            LowCardinality(String) COMMENT 'who cares day by day (照料方式)',
    institution          LowCardinality(String) COMMENT 'opaque id of the institution that cares (照料机构)',
    household_id         String                 COMMENT 'opaque id of the household (家庭编号)',
    into_child_id        String                 COMMENT 'opaque id of the entry that stays after a merge (合并后保留的儿童编号)',
    reason               LowCardinality(String) COMMENT 'code: why the child left, or may be forgotten (注销原因、遗忘依据)',
    credited_org         LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at          DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at          DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
DEFINER = migration SQL SECURITY DEFINER AS
SELECT stream, seq, n, state, child_id, adm_code, from_adm_code, category, category_rule, started_on, ended_on, age_band, worker_id,
    worker_role, guardian_id, relation, arrangement_id, ended_arrangement_id, care_type, institution, household_id, into_child_id,
    reason, credited_org, occurred_at, recorded_at
FROM tongan_g1.child_events FINAL
COMMENT 'child registry, a row for every event (儿童登记)';

-- As it stands is what the event with the highest sequence says.
CREATE OR REPLACE VIEW tongan.children
(
    child_id      String                        COMMENT 'opaque id of the child (儿童编号)',
    adm_code      LowCardinality(String)        COMMENT 'district as it stands, GB/T 2260 (行政区划代码)',
    age_band      LowCardinality(String)        COMMENT 'age on the day age_band_on (年龄段)',
    age_band_on   Date                          COMMENT 'day of which the age is, Asia/Shanghai (年龄段日期)',
    worker_id     String                        COMMENT 'opaque id of the responsible worker (责任人)',
    worker_role   LowCardinality(String)        COMMENT 'office of the responsible worker; empty where not said (责任人岗位)',
    household_id  String                        COMMENT 'opaque id of the household; empty where not known (家庭编号)',
    categories    Array(LowCardinality(String)) COMMENT 'categories that have started and of which no end is recorded; none of a child that has left (现有儿童类别)',
    registered_on Date                          COMMENT 'day of registration, Asia/Shanghai (登记日期)',
    ended_on      Nullable(Date)                COMMENT 'last day in the registry, of a duplicate the day of the merge; NULL while it goes on (注销日期)',
    end_reason    LowCardinality(String)        COMMENT 'why the child left, MERGED for a duplicate; empty while it goes on (注销原因)',
    into_child_id String                        COMMENT 'opaque id of the entry a duplicate was merged into (合并后保留的儿童编号)',
    forgotten     Bool                          COMMENT 'personal details may not be opened any more (已遗忘)',
    key_destroyed Bool                          COMMENT 'the key of the personal details is destroyed (密钥已销毁)'
)
DEFINER = migration SQL SECURITY DEFINER AS
SELECT child_id, adm_code, age_band, age_band_on, worker_id, worker_role, household_id,
    if(ended, [], arraySort(arrayDistinct(arrayMap(m -> m.1, arrayFilter(m -> NOT has(ends, m), starts))))) AS categories,
    registered_on, if(ended, last_day, NULL) AS ended_on, end_reason, into_child_id, forgotten, key_destroyed
FROM
(
    SELECT e.child_id AS child_id,
        argMaxIf(e.adm_code, e.seq, e.state IN ('REGISTERED', 'MOVED')) AS adm_code,
        argMaxIf(e.age_band, e.seq, e.state IN ('REGISTERED', 'CORRECTED')) AS age_band,
        argMaxIf(toDate(e.occurred_at, 'Asia/Shanghai'), e.seq, e.state IN ('REGISTERED', 'CORRECTED')) AS age_band_on,
        argMaxIf(e.worker_id, e.seq, e.state IN ('REGISTERED', 'WORKER_ASSIGNED')) AS worker_id,
        argMaxIf(e.worker_role, e.seq, e.state IN ('REGISTERED', 'WORKER_ASSIGNED')) AS worker_role,
        argMaxIf(e.household_id, e.seq, e.state = 'HOUSEHOLD_JOINED') AS household_id,
        groupArrayIf((e.category, assumeNotNull(e.started_on)), e.state IN ('REGISTERED', 'CATEGORY_STARTED') AND e.category != 'UNSPECIFIED') AS starts,
        groupArrayIf((e.category, assumeNotNull(e.started_on)), e.state = 'CATEGORY_ENDED') AS ends,
        minIf(toDate(e.occurred_at, 'Asia/Shanghai'), e.state = 'REGISTERED') AS registered_on,
        countIf(e.state IN ('DEREGISTERED', 'MERGED')) > 0 AS ended,
        argMaxIf(ifNull(e.ended_on, toDate(e.occurred_at, 'Asia/Shanghai')), e.seq, e.state IN ('DEREGISTERED', 'MERGED')) AS last_day,
        argMaxIf(toLowCardinality(if(e.state = 'MERGED', 'MERGED', toString(e.reason))), e.seq, e.state IN ('DEREGISTERED', 'MERGED')) AS end_reason,
        argMaxIf(e.into_child_id, e.seq, e.state = 'MERGED') AS into_child_id,
        toBool(countIf(e.state = 'FORGOTTEN')) AS forgotten,
        toBool(countIf(e.state = 'KEY_DESTROYED')) AS key_destroyed
    FROM
    (
        SELECT seq, state, child_id, adm_code, category, started_on, ended_on, age_band, worker_id, worker_role, household_id, into_child_id, reason, occurred_at
        FROM tongan_g1.child_events FINAL
    ) AS e
    GROUP BY child_id
    HAVING countIf(e.state = 'REGISTERED') > 0
)
COMMENT 'children of the registry as they stand (儿童)';

-- Derived from the days that the events name, whenever they came. A membership ends with its end event, at the latest with the last day
-- in the registry. A duplicate, once merged, and an entry made by mistake have none: they would count one child twice, or one that never was.
-- A move splits a membership, so that each district has the days that the child lived there.
CREATE OR REPLACE VIEW tongan.category_memberships
(
    child_id     String                 COMMENT 'opaque id of the child (儿童编号)',
    category     LowCardinality(String) COMMENT 'category (儿童类别)',
    rule         LowCardinality(String) COMMENT 'what it rests on (认定依据)',
    adm_code     LowCardinality(String) COMMENT 'district the child lived in on these days, GB/T 2260 (行政区划代码)',
    started_on   Date                   COMMENT 'first day in the category in this district, Asia/Shanghai (开始日期)',
    ended_on     Nullable(Date)         COMMENT 'last day in the category in this district; NULL while it goes on (结束日期)',
    member_since Date                   COMMENT 'first day in the category, in whatever district (类别认定日期)'
)
DEFINER = migration SQL SECURITY DEFINER AS
SELECT child_id, member.1 AS category, member.3 AS rule, stay.3 AS adm_code,
    greatest(member.2, stay.1) AS started_on, nullIf(least(member_to, stay.2, last_day), toDate('2149-06-06')) AS ended_on, member.2 AS member_since
FROM
(
    SELECT child_id, last_day, member, stay,
        arrayMin(arrayPushBack(arrayMap(x -> x.3, arrayFilter(x -> x.1 = member.1 AND x.2 = member.2, ends)), toDate('2149-06-06'))) AS member_to
    FROM
    (
        SELECT child_id, starts, ends, last_day,
            arrayMap((s, i) -> (s.1, if(i < length(moves), moves[i + 1].1 - 1, toDate('2149-06-06')), s.3), moves, arrayEnumerate(moves)) AS stays
        FROM
        (
            SELECT e.child_id AS child_id,
                arrayDistinct(groupArrayIf((e.category, assumeNotNull(e.started_on), e.category_rule),
                    e.state IN ('REGISTERED', 'CATEGORY_STARTED') AND e.category != 'UNSPECIFIED')) AS starts,
                groupArrayIf((e.category, assumeNotNull(e.started_on), assumeNotNull(e.ended_on)), e.state = 'CATEGORY_ENDED') AS ends,
                arraySort(groupArrayIf((if(e.state = 'MOVED', greatest(assumeNotNull(e.started_on), toDate('1970-01-02')), toDate('1970-01-01')), e.seq, e.adm_code),
                    e.state IN ('REGISTERED', 'MOVED'))) AS moves,
                ifNull(minIf(e.ended_on, e.state = 'DEREGISTERED'), toDate('2149-06-06')) AS last_day
            FROM
            (
                SELECT seq, state, child_id, adm_code, category, category_rule, started_on, ended_on, reason
                FROM tongan_g1.child_events FINAL
            ) AS e
            GROUP BY child_id
            HAVING countIf(e.state = 'REGISTERED') > 0 AND countIf(e.state = 'MERGED' OR e.reason = 'ENTERED_BY_MISTAKE') = 0
        )
    )
    ARRAY JOIN starts AS member
    ARRAY JOIN stays AS stay
)
WHERE greatest(member.2, stay.1) <= least(member_to, stay.2, last_day)
COMMENT 'who was in which category from when to when: on day D, where started_on <= D and (ended_on is NULL or ended_on >= D) (类别认定期间)';
