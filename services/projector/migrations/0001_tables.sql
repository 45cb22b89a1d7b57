-- +goose NO TRANSACTION
-- +goose Up

-- Every statement may run again: a migration that was interrupted is run from its start.

CREATE TABLE IF NOT EXISTS tongan_g1.journal
(
    stream             LowCardinality(String)        COMMENT 'stream that holds the event (事件流)',
    seq                UInt64                        COMMENT 'its sequence there (序号)',
    kind               Enum8('event' = 1, 'poison' = 2, 'gap' = 3) COMMENT 'event, message that cannot be read, or missing sequence (事件、坏消息、缺号)',
    event_id           String                        COMMENT 'event id (事件编号)',
    type               LowCardinality(String)        COMMENT 'full name of the message (事件类型)',
    aggregate          LowCardinality(String)        COMMENT 'kind of aggregate (聚合类型)',
    aggregate_id       String                        COMMENT 'opaque id of the aggregate (聚合编号)',
    command_id         String                        COMMENT 'command that led to it (命令编号)',
    cause              String                        COMMENT 'event or command that led to it (起因编号)',
    recorded_at        Nullable(DateTime64(9, 'UTC')) COMMENT 'when the stream took it; NULL for a gap (录入时间)',
    occurred_at        Nullable(DateTime64(9, 'UTC')) COMMENT 'when it happened; NULL where that cannot be read (发生时间)',
    performed_by       String                        COMMENT 'opaque id of who did it (经办人)',
    recorded_by        String                        COMMENT 'opaque id of who entered it (录入人)',
    credited_org       LowCardinality(String)        COMMENT 'opaque id of the organisation credited (归属单位)',
    adm_code           LowCardinality(String)        COMMENT 'district where it happened, GB/T 2260 (行政区划代码)',
    source_channel     LowCardinality(String)        COMMENT 'how it came in (来源渠道)',
    reason             LowCardinality(String)        COMMENT 'reason code (原因代码)',
    correction_of      String                        COMMENT 'event that this one corrects (更正对象)',
    rule_version       LowCardinality(String)        COMMENT 'rule set that was followed (规则版本)',
    size               UInt32                        COMMENT 'payload in bytes (字节数)',
    poison             LowCardinality(String)        COMMENT 'what is wrong with a poison message (坏消息类别)',
    facts_rows         UInt32                        COMMENT 'rows it gives in facts (指标行数)',
    visits_rows        UInt32                        COMMENT 'rows it gives in visits (探访行数)',
    reminders_rows     UInt32                        COMMENT 'rows it gives in reminders (短信行数)',
    deliveries_rows    UInt32                        COMMENT 'rows it gives in deliveries (物资行数)',
    supports_rows      UInt32                        COMMENT 'rows it gives in supports (服务支援行数)',
    cases_rows         UInt32                        COMMENT 'rows it gives in cases (个案行数)',
    check_rounds_rows  UInt32                        COMMENT 'rows it gives in check_rounds (检查轮次行数)',
    health_checks_rows UInt32                        COMMENT 'rows it gives in health_checks (测温行数)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'one row for every sequence of every stream, written last (流水)';

CREATE TABLE IF NOT EXISTS tongan_g1.facts
(
    stream             LowCardinality(String)        COMMENT 'stream that holds the event (事件流)',
    seq                UInt64                        COMMENT 'its sequence there (序号)',
    n                  UInt32                        COMMENT 'number within the event (事件内行号)',
    indicator          LowCardinality(String)        COMMENT 'what is counted (指标)',
    definition_version UInt16                        COMMENT 'version of its definition (口径版本)',
    value              Int64                         COMMENT 'how much; negative takes back (数值)',
    day                Date                          COMMENT 'day it counts for, Asia/Shanghai (日期)',
    adm_code           LowCardinality(String)        COMMENT 'district it counts for, GB/T 2260 (行政区划代码)',
    category           LowCardinality(String)        COMMENT 'category of the child; empty where none is meant (儿童类别)',
    institution        LowCardinality(String)        COMMENT 'opaque id of the institution; empty where none is meant (机构)',
    credited_org       LowCardinality(String)        COMMENT 'opaque id of the organisation credited (归属单位)',
    recorded_at        DateTime64(9, 'UTC')          COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'what counts: an indicator is the sum of its values (指标事实)';

CREATE TABLE IF NOT EXISTS tongan_g1.visits
(
    stream       LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq          UInt64                 COMMENT 'its sequence there (序号)',
    n            UInt32                 COMMENT 'number within the event (事件内行号)',
    state        LowCardinality(String) COMMENT 'RECORDED or VOIDED (已记录、已作废)',
    visit_id     String                 COMMENT 'opaque id of the visit (探访编号)',
    visited_on   Date                   COMMENT 'day of the visit, Asia/Shanghai (探访日期)',
    channel      LowCardinality(String) COMMENT 'how (探访方式)',
    outcome      LowCardinality(String) COMMENT 'what came of it (探访结果)',
    child_id     String                 COMMENT 'opaque id of the child (儿童编号)',
    category     LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    adm_code     LowCardinality(String) COMMENT 'district of the child as known then (行政区划代码)',
    worker_id    String                 COMMENT 'opaque id of who called or went (探访人)',
    credited_org LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at  DateTime64(9, 'UTC')   COMMENT 'when it happened, or was taken back (发生时间)',
    recorded_at  DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'visits, a row for every child spoken about; a void is a row of its own (探访)';

CREATE TABLE IF NOT EXISTS tongan_g1.reminders
(
    stream       LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq          UInt64                 COMMENT 'its sequence there (序号)',
    n            UInt32                 COMMENT 'number within the event (事件内行号)',
    state        LowCardinality(String) COMMENT 'QUEUED, ACCEPTED, DELIVERED or FAILED (待发、已受理、已送达、失败)',
    batch_id     String                 COMMENT 'opaque id of the batch (批次编号)',
    message_id   String                 COMMENT 'opaque id of the message (短信编号)',
    child_id     String                 COMMENT 'opaque id of the child (儿童编号)',
    category     LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    adm_code     LowCardinality(String) COMMENT 'district of the child as known then (行政区划代码)',
    segments     Int32                  COMMENT 'segments of the text; 0 where the event does not say (短信段数)',
    failure      LowCardinality(String) COMMENT 'why it did not arrive (失败原因)',
    credited_org LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at  DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at  DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'text messages, a row for every step of every message (短信提醒)';

CREATE TABLE IF NOT EXISTS tongan_g1.deliveries
(
    stream       LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq          UInt64                 COMMENT 'its sequence there (序号)',
    n            UInt32                 COMMENT 'number within the event (事件内行号)',
    state        LowCardinality(String) COMMENT 'REQUESTED, DISPATCHED or RECEIVED (已申领、已发出、已签收)',
    delivery_id  String                 COMMENT 'opaque id of the delivery (配送编号)',
    item         LowCardinality(String) COMMENT 'what (物资)',
    units        Int32                  COMMENT 'how many units (件数)',
    child_id     String                 COMMENT 'opaque id of the child; empty where none is meant (儿童编号)',
    category     LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    institution  LowCardinality(String) COMMENT 'opaque id of the institution; empty where none is meant (机构)',
    adm_code     LowCardinality(String) COMMENT 'district that gets them (行政区划代码)',
    credited_org LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at  DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at  DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'protective items, a row for every step of every delivery (防护物资)';

CREATE TABLE IF NOT EXISTS tongan_g1.supports
(
    stream       LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq          UInt64                 COMMENT 'its sequence there (序号)',
    n            UInt32                 COMMENT 'number within the event (事件内行号)',
    state        LowCardinality(String) COMMENT 'REQUESTED, BEGUN or ENDED (已申请、已开始、已结束)',
    support_id   String                 COMMENT 'opaque id of the support (服务支援编号)',
    kind         LowCardinality(String) COMMENT 'what (服务支援类别)',
    child_id     String                 COMMENT 'opaque id of the child (儿童编号)',
    category     LowCardinality(String) COMMENT 'category of the child as known then (儿童类别)',
    case_id      String                 COMMENT 'opaque id of the case it belongs to (个案编号)',
    provider_org LowCardinality(String) COMMENT 'opaque id of who provides it (服务提供单位)',
    adm_code     LowCardinality(String) COMMENT 'district of the child (行政区划代码)',
    due_at       Nullable(DateTime64(9, 'UTC')) COMMENT 'when it is needed; NULL where that is not known (需求时间)',
    credited_org LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at  DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at  DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'service supports, a row for every step (服务支援)';

CREATE TABLE IF NOT EXISTS tongan_g1.cases
(
    stream         LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq            UInt64                 COMMENT 'its sequence there (序号)',
    n              UInt32                 COMMENT 'number within the event (事件内行号)',
    state          LowCardinality(String) COMMENT 'OPENED, FLAGGED_SPECIAL, FOLLOWED_UP or CLOSED (已开立、列为特殊、已跟进、已结案)',
    case_id        String                 COMMENT 'opaque id of the case (个案编号)',
    child_id       String                 COMMENT 'opaque id of the child (儿童编号)',
    category       LowCardinality(String) COMMENT 'category of the child when the case was opened (儿童类别)',
    adm_code       LowCardinality(String) COMMENT 'district of the case (行政区划代码)',
    gap_cause      LowCardinality(String) COMMENT 'why nobody looks after the child (监护缺失原因)',
    contact_id     String                 COMMENT 'opaque id of the hotline contact it came from (来电编号)',
    follow_up_id   String                 COMMENT 'opaque id of the follow-up (跟进编号)',
    channel        LowCardinality(String) COMMENT 'how it was followed up (跟进方式)',
    close_reason   LowCardinality(String) COMMENT 'why it ended (结案原因)',
    counts_special Bool                   COMMENT 'the one event by which it counts as special (计入特殊个案)',
    special        Bool                   COMMENT 'a closed case was special (结案时为特殊个案)',
    worker_id      String                 COMMENT 'opaque id of who did it (经办人)',
    credited_org   LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at    DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at    DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'protection cases, a row for every event (个案)';

CREATE TABLE IF NOT EXISTS tongan_g1.check_rounds
(
    stream       LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq          UInt64                 COMMENT 'its sequence there (序号)',
    n            UInt32                 COMMENT 'number within the event (事件内行号)',
    state        LowCardinality(String) COMMENT 'OPENED or CLOSED (已开始、已结束)',
    institution  LowCardinality(String) COMMENT 'opaque id of the institution (机构)',
    checked_on   Date                   COMMENT 'day of the round, Asia/Shanghai (检查日期)',
    slot         LowCardinality(String) COMMENT 'time of day (检查时段)',
    expected     Int32                  COMMENT 'children to be checked (应检人数)',
    checked      Int32                  COMMENT 'children checked; 0 while the round is open (实检人数)',
    abnormal     Int32                  COMMENT 'of them above the normal band (异常人数)',
    adm_code     LowCardinality(String) COMMENT 'district of the institution (行政区划代码)',
    credited_org LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at  DateTime64(9, 'UTC')   COMMENT 'when it happened (发生时间)',
    recorded_at  DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'rounds of checks, a row at the beginning and one at the end (检查轮次)';

CREATE TABLE IF NOT EXISTS tongan_g1.health_checks
(
    stream           LowCardinality(String) COMMENT 'stream that holds the event (事件流)',
    seq              UInt64                 COMMENT 'its sequence there (序号)',
    n                UInt32                 COMMENT 'number within the event (事件内行号)',
    institution      LowCardinality(String) COMMENT 'opaque id of the institution (机构)',
    checked_on       Date                   COMMENT 'day of the round, Asia/Shanghai (检查日期)',
    slot             LowCardinality(String) COMMENT 'time of day (检查时段)',
    check_id         String                 COMMENT 'opaque id of the reading (测温编号)',
    person_id        String                 COMMENT 'opaque id of the person (人员编号)',
    temp_decicelsius Int32                  COMMENT 'tenths of a degree Celsius (体温，十分之一摄氏度)',
    method           LowCardinality(String) COMMENT 'how it was taken (测温方式)',
    band             LowCardinality(String) COMMENT 'what it means under the rule version (体温分级)',
    rule_version     LowCardinality(String) COMMENT 'rule set that was followed (规则版本)',
    adm_code         LowCardinality(String) COMMENT 'district of the institution (行政区划代码)',
    credited_org     LowCardinality(String) COMMENT 'opaque id of the organisation credited (归属单位)',
    occurred_at      DateTime64(9, 'UTC')   COMMENT 'when it was taken (测温时间)',
    recorded_at      DateTime64(9, 'UTC')   COMMENT 'when the stream took the event (录入时间)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, seq, n)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'readings of body temperature (测温)';

CREATE TABLE IF NOT EXISTS tongan_g1.projection
(
    stream             LowCardinality(String) COMMENT 'stream that is projected (事件流)',
    projection_version UInt32                 COMMENT 'version of the projection that fills these tables (投影版本)',
    stream_created     Int64                  COMMENT 'when the stream was created, nanoseconds since 1970 (事件流创建时间，纳秒)'
)
ENGINE = ReplacingMergeTree ORDER BY (stream, projection_version, stream_created)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'which projection of which streams this generation holds (投影)';
