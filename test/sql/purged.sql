-- Days that were purged: every answer is the one from before the purge, or NULL, or a refusal.
CREATE EXTENSION mau;
SET timezone = 'UTC';
SET datestyle = 'ISO';
UPDATE mau.settings SET history_retention = '100 years', track_appservice_user_ips = true;
-- User n comes every n % 40 + 1 days; the last day is 2020-06-30. Some come once.
CREATE TABLE raw AS
    SELECT '@u' || n || ':x' AS user_id, timestamptz '2020-06-30 12:00Z' - d * interval '1 day' AS at
    FROM generate_series(0, 59) n, LATERAL generate_series(n % 23, 250 + n, n % 40 + 1) d
    UNION ALL SELECT '@once' || n || ':x', timestamptz '2020-06-30 12:00Z' - n * interval '9 days' FROM generate_series(0, 30) n;
SELECT mau.register_user(user_id, min(at) - interval '1 day', appservice_id => CASE WHEN user_id LIKE '@once1%' THEN 'irc' END) FROM raw GROUP BY user_id \g /dev/null
SELECT * FROM mau.record_activities((SELECT array_agg(user_id ORDER BY at, user_id) FROM raw), (SELECT array_agg(at ORDER BY at, user_id) FROM raw), (SELECT array_agg('curl'::text ORDER BY at, user_id) FROM raw)) \g /dev/null

CREATE FUNCTION ask(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; hint text;
BEGIN
    EXECUTE question INTO answer;
    RETURN answer;
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN hint LIKE '%history_retention%' THEN 'refused' ELSE SQLERRM END;
END $$;
-- Every question, and the first day that its answer needs.
CREATE VIEW days AS SELECT d::date AS d FROM generate_series(date '2019-12-01', date '2020-06-30', interval '4 days') d;
CREATE VIEW answers AS
SELECT 'active_users ' || p AS what, d AS day, ask(format('SELECT mau.active_users(%L, %L, NULL)', p || ' days', d || ' 12:00Z')) AS answer, d - p + 1 AS needs FROM days, unnest('{1,30,45,180}'::int[]) p WHERE NOT (d = '2020-06-30' AND p <= 30)
UNION ALL SELECT 'min_days', d, ask(format('SELECT mau.active_users(''30 days'', %L, min_days => 3)', d || ' 12:00Z')), d - 29 FROM days
UNION ALL SELECT 'days_active', d, ask(format('SELECT string_agg(d::text, '' '') FROM mau.days_active(%L, ''20 days'') d', d || ' 12:00Z')), d - 19 FROM days
UNION ALL SELECT 'r30v2', d, ask(format('SELECT string_agg(d::text, '' '') FROM mau.r30v2(%L) d', d || ' 12:00Z')), d - 59 FROM days
UNION ALL SELECT 'r30', d, ask(format('SELECT string_agg(d::text, '' '') FROM mau.r30(%L) d', d || ' 12:00Z')), d - 29 FROM days
UNION ALL SELECT 'one day', d, ask(format('SELECT dau FROM mau.daily_series(%L, %1$L)', d)), d FROM days
UNION ALL SELECT 'dau', day, dau::text, day FROM mau.daily_series('2019-12-01', '2020-06-30')
UNION ALL SELECT 'wau', day, wau::text, day - 6 FROM mau.daily_series('2019-12-01', '2020-06-30')
UNION ALL SELECT 'mau', day, concat_ws(' ', mau, stickiness), day - 29 FROM mau.daily_series('2019-12-01', '2020-06-30')
UNION ALL SELECT 'window', day, mau::text, day - 9 FROM mau.daily_series('2019-12-01', '2020-06-30', NULL, min_days => 2, window_days => 10)
UNION ALL SELECT 'new_users', day, new_users::text, day FROM mau.daily_series('2019-12-01', '2020-06-30')
UNION ALL SELECT 'growth', day, concat_ws(' ', mau, new_users), day - 29 FROM mau.growth('2019-12-01', '2020-06-30')
UNION ALL SELECT 'churn', day, concat_ws(' ', mau_before, retained, resurrected, churned, quick_ratio), day - 59 FROM mau.growth('2019-12-01', '2020-06-30')
UNION ALL SELECT 'r30v2_series', day, users::text, day - 59 FROM mau.r30v2_series('2019-12-01', '2020-06-30')
UNION ALL SELECT 'retention ' || cohort_start, period_start, concat_ws(' ', users, share), period_start FROM mau.retention('month', '2019-12-01', '2020-06-30', at => '2020-07-01 12:00Z')
UNION ALL SELECT 'cohort', cohort_start, size::text, '2020-06-30' FROM mau.retention('week', '2019-12-01', '2020-06-30', at => '2020-07-01 12:00Z') WHERE period = 0
UNION ALL SELECT 'bill ' || service_name, month, concat_ws(' ', users, users_over), month FROM mau.billing_months('2019-12-01', '2020-06-30', at => '2020-07-01 12:00Z')
UNION ALL SELECT 'mean ' || service_name, month, concat_ws(' ', highest_mau, mean_mau), month - 29 FROM mau.billing_months('2019-12-01', '2020-06-30', at => '2020-07-01 12:00Z') WHERE partial IS FALSE;
CREATE TABLE before AS SELECT * FROM answers;
CREATE FUNCTION compared(first date) RETURNS TABLE (what text, wrong bigint, missing bigint, answered bigint, unanswered bigint) LANGUAGE sql AS $$
    SELECT split_part(b.what, ' ', 1), count(*) FILTER (WHERE a.answer NOT IN ('', 'refused', b.answer)), count(*) FILTER (WHERE b.needs >= first AND a.answer IS DISTINCT FROM b.answer),
           count(*) FILTER (WHERE a.answer = b.answer AND b.needs >= first), count(*) FILTER (WHERE coalesce(a.answer, '') IN ('', 'refused'))
    FROM before b LEFT JOIN answers a USING (what, day) GROUP BY 1 ORDER BY 1 $$;
SELECT count(*) FILTER (WHERE answer IN ('', 'refused') OR answer IS NULL) AS unanswered FROM before;
-- A fold purges nothing, then the days before 2020-03-22.
SELECT what, rows FROM mau.fold('2020-06-30 13:00Z') WHERE what = 'purged';
SELECT * FROM mau.active_days WHERE purged_until IS NOT NULL;
UPDATE mau.settings SET history_retention = '100 days';
SELECT rows > 0 AS purged FROM mau.fold('2020-06-30 13:00Z', 10) WHERE what = 'purged';
SELECT rows > 0 AS purged FROM mau.fold('2020-06-30 13:00Z') WHERE what = 'purged';
SELECT DISTINCT max(purged_until) FROM mau.active_days;
SELECT * FROM compared('2020-03-22');
SELECT day, dau, wau, mau, new_users FROM mau.daily_series('2020-03-21', '2020-04-20') WHERE day IN ('2020-03-21', '2020-03-22', '2020-03-27', '2020-03-28', '2020-04-19', '2020-04-20');
SELECT month, users IS NULL AS users, highest_mau IS NULL AS highest, partial FROM mau.billing_months('2020-02-01', '2020-06-30', 'native', at => '2020-07-01 12:00Z');
-- The refusals.
SELECT mau.active_users('180 days', '2020-06-30 12:00Z');
SELECT count(*) FROM mau.daily_series('2020-01-01', '2020-03-21');
SELECT * FROM mau.chart('mau', '2020-01-01', '2020-03-21');
SELECT count(*) FROM mau.growth('2020-01-01', '2020-03-21');
SELECT count(*) FROM mau.r30v2_series('2020-01-01', '2020-03-21');
-- A chart leaves a gap; the forecast goes through the days that have 30 days of history.
SELECT mau.chart('mau', '2020-03-20', '2020-06-30', width => 60, height => 3);
SELECT day, mau IS NULL AS unknown, assumption FROM mau.forecast(1000, '2020-07-01 12:00Z');
-- What reaches back too far is left out of NodeInfo's figures and of the usage statistics.
SELECT jsonb_object_keys(mau.nodeinfo_usage('2020-07-01 12:00Z')->'users');
SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys(mau.usage_statistics('2020-07-01 12:00Z')) k WHERE k LIKE 'r30%all';
UPDATE mau.settings SET history_retention = '40 days';
SELECT rows > 0 AS purged FROM mau.fold('2020-06-30 13:00Z') WHERE what = 'purged';
SELECT string_agg(k, ' ' ORDER BY k) FROM jsonb_object_keys(mau.usage_statistics('2020-07-01 12:00Z')) k WHERE k LIKE 'r30%all';
SELECT what, rows FROM mau.refresh('2020-07-01 12:00Z');
SELECT mau.metrics('2020-07-01 12:00Z') ~ 'mau_current' AS metrics;
-- Up to 30 days that end now are counted by last sightings: a purge takes nothing from them.
UPDATE mau.settings SET history_retention = '1 day';
SELECT rows > 0 AS purged FROM mau.fold('2020-07-01 12:00Z') WHERE what = 'purged';
SELECT mau.active_users('30 days', '2020-06-30 12:00Z', NULL) = count(DISTINCT user_id) AS right FROM raw WHERE at >= timestamptz '2020-06-30 12:00Z' - interval '30 days';
SELECT jsonb_object_keys(mau.nodeinfo_usage('2020-07-01 12:00Z')->'users');
SELECT day, mau, assumption FROM mau.forecast(1000, '2020-07-01 12:00Z');
-- With a longer retention again the days stay unknown, also when a late sighting returns to one of them; later days are known.
UPDATE mau.settings SET history_retention = '100 years';
SELECT mau.record_activity('@late:x', '2020-05-01 12:00Z', 'curl'), mau.record_activity('@next:x', '2020-07-20 12:00Z', 'curl');
SELECT what FROM mau.fold('2020-07-01 12:00Z') \g /dev/null
SELECT day, dau, wau FROM mau.daily_series('2020-05-01', '2020-07-20') WHERE day IN ('2020-05-01', '2020-06-29', '2020-06-30', '2020-07-05', '2020-07-06', '2020-07-20');
-- A late sighting of a day that is not kept any more.
UPDATE mau.settings SET history_retention = '1 day';
SELECT mau.record_activity('@later:x', '2020-07-18 12:00Z', 'curl');
SELECT dau FROM mau.daily_series('2020-07-18', '2020-07-18');
SELECT what, rows FROM mau.fold('2020-07-20 13:00Z') WHERE what <> 'bitmaps';
SELECT mau.active_users('3 days', '2020-07-20 13:00Z', min_days => 1) AS now, ask($$SELECT dau FROM mau.daily_series('2020-07-18', '2020-07-18')$$);
-- A user's bit is in the day -infinity already: the day goes with a later visit nevertheless.
SELECT mau.record_activity('@later:x', '2020-07-21 12:00Z', 'curl');
SELECT what FROM mau.fold('2020-07-21 13:00Z') \g /dev/null
SELECT what FROM mau.fold('2020-07-24 13:00Z') \g /dev/null
SELECT ask($$SELECT dau FROM mau.daily_series('2020-07-21', '2020-07-21')$$), ask($$SELECT dau FROM mau.daily_series('2020-07-22', '2020-07-22')$$);
-- Only the day -infinity has a last day.
\set VERBOSITY terse
INSERT INTO mau.active_days (chunk, day, platform, service, users) VALUES (0, '-infinity', 0, 'x', '');
