-- The history's questions check their arguments, and answer rightly for an empty, a damaged and a purged history.
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$ -- what a statement returns, or its error in full
DECLARE result text; message text; detail text; hint text; BEGIN
    EXECUTE sql INTO result;
    RETURN 'fine: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || E': ' || message || CASE WHEN detail <> '' THEN E'\n  detail: ' || detail ELSE '' END
        || E'\n  hint: ' || coalesce(nullif(hint, ''), 'MISSING');
END $$;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
-- Nothing is known: rows of zeros, and no error.
SELECT * FROM mau.daily_series('2024-02-28', '2024-03-01');
SELECT * FROM mau.growth('2024-02-29', '2024-02-29');
SELECT * FROM mau.r30v2_series('2024-02-29', '2024-02-29');
SELECT * FROM mau.days_active('2024-02-29', '2 days');
SELECT * FROM mau.r30v2('2024-02-29'), mau.r30('2024-02-29') r30 WHERE r30.client = r30v2.client;
SELECT * FROM mau.retention('month', '2024-02-29', '2024-03-01', at => '2024-04-01');
SELECT count(*) FROM mau.billing_months('2024-02-29', '2024-03-01');
SELECT mau.active_users('90 days', '2024-02-29'), mau.active_users('30 days', '2024-02-29', NULL, 2);
-- Defaults: 30 days up to today, 30 days, 12 weeks and 12 months, 30 days active; and the days of the calendar's ends.
SELECT count(*), max(day) - (now() AT TIME ZONE 'UTC')::date AS today FROM mau.daily_series();
SELECT count(*), max(day) - (now() AT TIME ZONE 'UTC')::date AS today FROM mau.growth();
SELECT count(*), max(day) - (now() AT TIME ZONE 'UTC')::date AS today FROM mau.r30v2_series();
SELECT count(DISTINCT cohort_start) AS days FROM mau.retention('day');
SELECT count(DISTINCT cohort_start) AS weeks, bool_and(extract(isodow FROM cohort_start) = 1) AS mondays FROM mau.retention('week');
SELECT count(DISTINCT cohort_start) AS months FROM mau.retention();
SELECT count(*), sum(users) FROM mau.days_active();
SELECT count(*) FROM mau.daily_series('1970-01-01', '1970-01-01');
SELECT count(*) FROM mau.daily_series('2999-12-31', '2999-12-31', window_days => 1000);
SELECT count(*) FROM mau.daily_series(NULL, '1970-01-05');
SELECT cohort_start, period_start FROM mau.retention('week', '1970-01-01', '1970-01-01');
SELECT cohort_start, period_start FROM mau.retention('month', '2999-12-31', '2999-12-31');
SELECT cohort_start, period_start FROM mau.retention('day', '2999-12-31', '2999-12-31');
SELECT count(*) FROM mau.days_active('1970-01-01 00:00:00.001Z', '1 second');
SELECT count(*) FROM mau.days_active('2999-12-31 23:59:59Z', '1 mon 1 second');
\pset format unaligned
\pset tuples_only on
-- NULL means the default, where there is one.
SELECT try($$SELECT count(*) FROM mau.daily_series(NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$);
SELECT try($$SELECT count(*) FROM mau.growth(NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$);
SELECT try($$SELECT count(*) FROM mau.r30v2_series(NULL, NULL, NULL)$$);
SELECT try($$SELECT mau.active_users('60 days', now(), NULL, NULL)$$);
SELECT try($$SELECT count(*) FROM mau.days_active(NULL)$$);
SELECT try($$SELECT count(*) FROM mau.days_active(now(), NULL)$$);
SELECT try($$SELECT count(*) FROM mau.r30v2(NULL)$$);
SELECT try($$SELECT count(*) FROM mau.r30(NULL)$$);
SELECT try($$SELECT count(*) FROM mau.retention(NULL)$$);
SELECT try($$SELECT count(*) FROM mau.retention('week', at => NULL)$$);
SELECT try($$SELECT count(*) FROM mau.billing_months(at => NULL)$$);
SELECT try($$SELECT mau.active_users(NULL, now(), 'native', 2)$$);
-- Ranges that are reversed, infinite, out of the calendar or too long.
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-03-01', '2024-02-29')$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('-infinity', '2024-02-29')$$);
SELECT try($$SELECT count(*) FROM mau.growth('2024-02-29', 'infinity')$$);
SELECT try($$SELECT count(*) FROM mau.r30v2_series('1969-12-31', '2024-02-29')$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-02-29', '3000-01-01')$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('5874897-12-31', '5874897-12-31')$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('4714-11-24 BC', '2024-02-29')$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('1970-01-01', '2070-01-01')$$);
SELECT try($$SELECT count(*) FROM mau.retention('day', '2020-01-01', '2024-01-01')$$);
SELECT try($$SELECT count(*) FROM mau.billing_months('2024-03-01', '2024-02-29')$$);
SELECT try($$SELECT count(*) FROM mau.r30v2('infinity')$$);
SELECT try($$SELECT count(*) FROM mau.r30('-infinity')$$);
SELECT try($$SELECT count(*) FROM mau.days_active('3000-01-01')$$);
SELECT try($$SELECT count(*) FROM mau.days_active('2024-02-29', '0')$$);
SELECT try($$SELECT count(*) FROM mau.days_active('2024-02-29', '-1 day')$$);
SELECT try($$SELECT count(*) FROM mau.days_active('2024-02-29', '178000000 years')$$);
SELECT try($$SELECT mau.active_users('0', '2024-02-29', 'native', 2)$$);
-- Numbers.
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-02-29', '2024-02-29', min_days => 0)$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-02-29', '2024-02-29', min_days => 31)$$);
SELECT try($$SELECT count(*) FROM mau.growth('2024-02-29', '2024-02-29', min_days => 8, window_days => 7)$$);
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-02-29', '2024-02-29', window_days => 0)$$);
SELECT try($$SELECT count(*) FROM mau.growth('2024-02-29', '2024-02-29', window_days => 1001)$$);
SELECT try($$SELECT mau.active_users('30 days', '2024-02-29', 'native', 31)$$);
SELECT try($$SELECT mau.active_users('12 hours', '2024-02-29', 'native', 2)$$);
SELECT try($$SELECT mau.active_users('30 days', '2024-02-29', 'native', 0)$$);
SELECT try($$SELECT mau.active_users('30 days', '2024-02-29', 'native', -1)$$);
SELECT try($$SELECT count(*) FROM mau.billing_months('2024-02-29', '2024-02-29', more_than_days => -1)$$);
SELECT try($$SELECT count(*) FROM mau.billing_months('2024-02-29', '2024-02-29', more_than_days => 32)$$);
-- Names. A service is whatever has a history; one without has zeros.
SELECT try($$SELECT count(*) FROM mau.daily_series('2024-02-29', '2024-02-29', kind => 'humans')$$);
SELECT try($$SELECT count(*) FROM mau.growth('2024-02-29', '2024-02-29', kind => 'not_guest')$$);
SELECT try($$SELECT count(*) FROM mau.retention('week', '2024-02-29', '2024-02-29', kind => '')$$);
SELECT try($$SELECT count(*) FROM mau.days_active('2024-02-29', '1 day', platform => 'windows')$$);
SELECT try($$SELECT count(*) FROM mau.r30v2_series('2024-02-29', '2024-02-29', 'Web')$$);
SELECT try($$SELECT count(*) FROM mau.retention('year', '2024-02-29', '2024-02-29')$$);
SELECT try($$SELECT dau, mau FROM mau.daily_series('2024-02-29', '2024-02-29', 'nobody heard of it')$$);
-- A bitmap that is damaged is named by the questions that meet it, and by no others.
INSERT INTO mau.users (user_no, user_id) VALUES (5, '@five:x');
INSERT INTO mau.visits SELECT 5, date '2024-02-27' + d, 1, s FROM generate_series(0, 3) d, unnest('{native,irc}'::text[]) s;
SELECT what FROM mau.fold() WHERE what = 'bitmaps';
UPDATE mau.active_days SET users = set_byte(users, 8, 7) WHERE day = '2024-02-28' AND service = 'irc';
SELECT try($$SELECT dau, mau FROM mau.daily_series('2024-02-29', '2024-02-29')$$);
SELECT try($$SELECT dau, mau FROM mau.daily_series('2024-02-28', '2024-02-28', 'irc')$$);
SELECT try($$SELECT dau, mau FROM mau.daily_series('2024-02-29', '2024-02-29', NULL)$$);
SELECT try($$SELECT dau, mau FROM mau.daily_series('2024-02-28', '2024-02-28', 'irc', 'ios')$$);
SELECT try($$SELECT mau FROM mau.growth('2024-02-29', '2024-02-29', 'irc')$$);
SELECT try($$SELECT users FROM mau.days_active('2024-02-29', '2 days', 'irc')$$);
SELECT try($$SELECT mau.active_users('2 days', '2024-02-29', 'irc', 2)$$);
SELECT try($$SELECT users FROM mau.billing_months('2024-02-29', '2024-02-29', 'irc')$$);
UPDATE mau.users SET registered_at = 1709000000000, is_registered = true, appservice_id = 'irc';
SELECT try($$SELECT users FROM mau.retention('week', '2024-02-29', '2024-02-29', 'irc')$$);
UPDATE mau.active_days SET users = '\x', day = '-infinity', purged_until = day WHERE day = '2024-02-28' AND service = 'irc';
SELECT try($$SELECT new_users FROM mau.daily_series('2024-02-29', '2024-02-29', 'irc')$$);
-- A role that may not read the history may not ask either.
CREATE ROLE history_nobody;
GRANT USAGE ON SCHEMA mau TO history_nobody;
SET ROLE history_nobody;
SELECT try($$SELECT dau FROM mau.daily_series('2024-02-29', '2024-02-29')$$);
RESET ROLE;
DROP OWNED BY history_nobody;
DROP ROLE history_nobody;
