-- A member counts for 30 x 86 400 000 ms, to the millisecond, whether or not a reap runs (rules R2, R3).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
SELECT mau.record_activity('@a:example.com', t('0'));
SELECT mau.monthly_active_count(t('720 h')) AS exactly_30_days, mau.monthly_active_count(t('720 h 1 ms')) AS a_millisecond_more,
       mau.monthly_active_count(t('719 h 59 min 59.999 s')) AS a_millisecond_less;
SELECT mau.monthly_active_count(t('720 h 0.9 ms')) AS less_than_a_millisecond_is_none;
SELECT * FROM mau.monthly_active_count_by_service(t('720 h'));
SELECT * FROM mau.monthly_active_count_by_service(t('720 h 1 ms'));
-- The row is still there: nobody reaped.
SELECT count(*) FROM mau.monthly_active_users;
-- Synapse's list shows it until then; with a start it does not.
SELECT user_id FROM mau.monthly_active_users_by_service();
SELECT user_id FROM mau.monthly_active_users_by_service(start_at => t('0'));
SELECT user_id FROM mau.monthly_active_users_by_service(start_at => t('1 ms'));
SELECT user_id FROM mau.monthly_active_users_by_service(end_at => t('0'));
SELECT user_id FROM mau.monthly_active_users_by_service(end_at => t('-1 ms'));

-- An expired member joins anew, a member is refreshed.
BEGIN;
SELECT mau.record_activity('@a:example.com', t('720 h'));
ROLLBACK;
SELECT mau.record_activity('@a:example.com', t('720 h 1 ms'));
SELECT mau.monthly_active_count(t('1440 h 1 ms')), mau.monthly_active_count(t('1440 h 2 ms'));

-- An expired member has no right to be admitted, and its seat is free at once.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
SELECT mau.check_auth_blocking('@a:example.com', at => t('1440 h 1 ms')) IS NULL AS the_member,
       mau.check_auth_blocking('@b:example.com', at => t('1440 h 1 ms')) IS NULL AS another;
SELECT mau.check_auth_blocking('@a:example.com', at => t('1440 h 2 ms')) IS NULL AS the_former_member,
       mau.check_auth_blocking('@b:example.com', at => t('1440 h 2 ms')) IS NULL AS another;
SELECT mau.record_activity('@b:example.com', t('1440 h 1 ms'));
SELECT mau.record_activity('@b:example.com', t('1440 h 2 ms'));
SELECT mau.record_activity('@a:example.com', t('1440 h 2 ms'));
SELECT mau.monthly_active_count(t('1440 h 2 ms'));

-- The figure does not hang on the time zone: 30 days across the end and the beginning of daylight saving time.
UPDATE mau.settings SET limit_usage_by_mau = false;
SET timezone = 'Europe/Berlin';
TRUNCATE mau.monthly_active_users;
SELECT mau.record_activity('@autumn:example.com', '2020-10-20 12:00+00');
SELECT mau.monthly_active_count('2020-11-19 12:00:00+00') AS in_autumn, mau.monthly_active_count('2020-11-19 12:00:00.001+00') AS out;
TRUNCATE mau.monthly_active_users;
SELECT mau.record_activity('@spring:example.com', '2021-03-20 12:00+00');
SELECT mau.monthly_active_count('2021-04-19 12:00:00+00') AS in_spring, mau.monthly_active_count('2021-04-19 12:00:00.001+00') AS out;
