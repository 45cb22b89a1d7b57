-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE IF NOT EXISTS tongan_g1.indicators
(
    indicator          LowCardinality(String) COMMENT 'name (指标)',
    definition_version UInt16                 COMMENT 'version of its definition (口径版本)',
    unit               LowCardinality(String) COMMENT 'what is counted (单位)',
    title_zh           String                 COMMENT 'title in Chinese (中文名称)',
    title_en           String                 COMMENT 'title in English (英文名称)',
    definition         String                 COMMENT 'how it is counted (口径说明)'
)
ENGINE = ReplacingMergeTree ORDER BY (indicator, definition_version)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'definitions of the indicators (指标口径)';

INSERT INTO tongan_g1.indicators (indicator, definition_version, unit, title_zh, title_en, definition) VALUES
('phone_visits', 1, '人次', '电话探访', 'Phone visits', 'One per child spoken about in a phone visit that reached somebody, registered or not, on the day of the visit; less those voided.'),
('phone_calls', 1, '次', '电话通话', 'Phone calls', 'One per phone visit that reached somebody, however many children it was about; less those voided.'),
('phone_attempts', 1, '次', '电话拨打', 'Phone attempts', 'One per phone visit whatever came of it; less those voided.'),
('online_visits', 1, '人次', '线上问候', 'Online visits', 'One per child in an online visit that reached somebody; less those voided.'),
('home_visits', 1, '人次', '入户走访', 'Home visits', 'One per child in a home visit that reached somebody; less those voided.'),
('sms_reminders', 1, '条次', '短信提醒', 'SMS reminders', 'One per recipient whose message the carrier accepted, however many segments.'),
('sms_delivered', 1, '条次', '短信送达', 'SMS reminders delivered', 'One per message that arrived.'),
('sms_failed', 1, '条次', '短信失败', 'SMS reminders failed', 'One per message that did not arrive.'),
('protective_items', 1, '件', '防护物资', 'Protective items', 'Units whose receipt was confirmed.'),
('protective_items_dispatched', 1, '件', '防护物资发出', 'Protective items dispatched', 'Units that left the store, received or not.'),
('service_supports', 1, '宗', '服务支援', 'Service supports', 'One per service that began to be delivered.'),
('special_cases', 1, '个', '跟进特殊个案', 'Special cases followed up', 'One per special case with at least one follow-up, on the day it first was both.'),
('cases_opened', 1, '个', '个案开立', 'Cases opened', 'One per protection case opened.'),
('hotline_contacts', 1, '次', '热线来电', 'Hotline contacts', 'One per contact by or about a child.'),
('hotline_non_counselling', 1, '次', '热线无效来电', 'Hotline contacts, non-counselling', 'One per contact that is neither by nor about a child.'),
('children_registered', 1, '人', '儿童登记', 'Children registered', 'One per child entered in the registry.'),
('health_checks', 1, '人次', '测温', 'Health checks', 'One per reading, on the day of the round.'),
('abnormal_temperatures', 1, '人次', '体温异常', 'Abnormal temperatures', 'One per reading above the normal band, on the day of the round.');
