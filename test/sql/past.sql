-- Every function that takes an instant, for instants before the newest sightings and after them, beside brute force over
-- the raw visits: the answer is that of the instant, or a refusal (doc/history.md has the table).
CREATE EXTENSION mau;
SET timezone = 'UTC';
UPDATE mau.settings SET last_seen_granularity = '0', track_appservice_user_ips = true;
-- User n registered 8 * n days before the last instant and comes every n % 40 + 1 days for 450 days, at 60 times of the day.
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    AS $$ SELECT (timestamp '2020-06-30 20:00:00' + i) AT TIME ZONE 'UTC' $$;
CREATE TABLE people AS
    SELECT n, '@u' || n || CASE WHEN n % 3 = 0 THEN ':b.example' ELSE ':a.example' END AS user_id,
           CASE WHEN n % 5 = 0 THEN 'irc' ELSE 'native' END AS service, t(n * interval '-8 days') AS registered_at
    FROM generate_series(0, 59) n;
CREATE TABLE raw AS
    SELECT p.user_id, p.service, t(d * interval '-1 day' - n * interval '10 minutes') AS at, (t(d * interval '-1 day' - n * interval '10 minutes') AT TIME ZONE 'UTC')::date AS day
    FROM people p, LATERAL generate_series(p.n % 23, 450, p.n % 40 + 1) d;
SELECT count(mau.register_user(user_id, registered_at, appservice_id => nullif(service, 'native'))) FROM people;
SELECT * FROM mau.record_activities((SELECT array_agg(user_id ORDER BY at, user_id) FROM raw), (SELECT array_agg(at ORDER BY at, user_id) FROM raw));

CREATE FUNCTION ask(question text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text; hint text;
BEGIN
    EXECUTE question INTO answer;
    RETURN coalesce(answer, 'none');
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN CASE WHEN hint <> '' THEN 'refused' ELSE 'refused without a hint' END;
END $$;
CREATE TABLE questions (n int GENERATED ALWAYS AS IDENTITY, function text, question text, brute text);
-- @at is the instant. Of the cohort: by the millisecond.
INSERT INTO questions (function, question, brute) VALUES
('monthly_active_count', 'SELECT mau.monthly_active_count(@at)',
 $$SELECT count(DISTINCT user_id) FROM raw WHERE service = 'native' AND at BETWEEN @at - interval '30 days' AND @at$$),
('monthly_active_count_by_service', $$SELECT string_agg(service || ' ' || users, ', ' ORDER BY service) FROM mau.monthly_active_count_by_service(@at)$$,
 $$SELECT string_agg(service || ' ' || users, ', ' ORDER BY service) FROM (SELECT service, count(DISTINCT user_id) AS users FROM raw WHERE at BETWEEN @at - interval '30 days' AND @at GROUP BY 1) s$$),
('monthly_active_count_by_host', $$SELECT string_agg(host || ' ' || users, ', ' ORDER BY host) FROM mau.monthly_active_count_by_host(@at)$$,
 $$SELECT string_agg(host || ' ' || users, ', ' ORDER BY host) FROM (SELECT split_part(user_id, ':', 2) AS host, count(DISTINCT user_id) AS users FROM raw WHERE service = 'native' AND at BETWEEN @at - interval '30 days' AND @at GROUP BY 1) s$$),
('active_users_by_host', $$SELECT string_agg(host || ' ' || users, ', ' ORDER BY host) FROM mau.active_users_by_host('7 days', @at)$$,
 $$SELECT string_agg(host || ' ' || users, ', ' ORDER BY host) FROM (SELECT split_part(user_id, ':', 2) AS host, count(DISTINCT user_id) AS users FROM raw WHERE service = 'native' AND at BETWEEN @at - interval '7 days' AND @at GROUP BY 1) s$$),
('metrics', $$SELECT substring(mau.metrics(@at) FROM 'mau_current ([0-9]+)')$$,
 $$SELECT count(DISTINCT user_id) FROM raw WHERE service = 'native' AND at BETWEEN @at - interval '30 days' AND @at$$),
('refresh', $$SELECT sum(rows) FROM mau.refresh(@at) WHERE what = 'snapshot'$$, 'SELECT 1'),
('explain', $$SELECT count(*) > 0 FROM mau.explain('@u1:a.example', @at)$$, 'SELECT true'),
('usage_statistics', $$SELECT mau.usage_statistics(@at)->>'monthly_active_users'$$,
 $$SELECT count(DISTINCT user_id) FROM raw WHERE at > @at - interval '30 days' AND at <= @at$$),
('nodeinfo_usage', $$SELECT mau.nodeinfo_usage(@at)->'users'$$,
 $$SELECT jsonb_build_object('total', (SELECT count(*) FROM people WHERE service = 'native'),
    'activeMonth', count(DISTINCT user_id) FILTER (WHERE day > d - 30), 'activeHalfyear', count(DISTINCT user_id) FILTER (WHERE day > d - 180))
   FROM raw, LATERAL (SELECT (@at AT TIME ZONE 'UTC')::date AS d) t WHERE service = 'native' AND day <= d$$);
-- Of the present by the millisecond, of the past by whole UTC days: `past` says which.
CREATE FUNCTION past(at timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM raw r WHERE r.at > past.at) $$;
INSERT INTO questions (function, question, brute)
SELECT 'active_users ' || days || coalesce(' ' || s, ' all'), format('SELECT mau.active_users(%L, @at, %L)', days || ' days', s),
       format($$SELECT count(DISTINCT user_id) FROM raw WHERE (%2$L IS NULL OR service = %2$L) AND CASE WHEN (SELECT past(@at)) OR %1$s > 30
           THEN day <= (@at AT TIME ZONE 'UTC')::date AND day > (@at AT TIME ZONE 'UTC')::date - %1$s ELSE at BETWEEN @at - %1$s * interval '1 day' AND @at END$$, days, s)
FROM unnest('{1,7,30,90}'::int[]) days, unnest('{native,irc,NULL}'::text[]) s ORDER BY days, s;
-- Of the history: by whole UTC days.
INSERT INTO questions (function, question, brute) VALUES
('active_users 30 native, min_days', $$SELECT mau.active_users('30 days', @at, min_days => 3)$$,
 $$SELECT count(*) FROM (SELECT FROM raw WHERE service = 'native' AND day <= (@at AT TIME ZONE 'UTC')::date AND day > (@at AT TIME ZONE 'UTC')::date - 30 GROUP BY user_id HAVING count(DISTINCT day) >= 3) u$$),
('days_active', $$SELECT string_agg(days || ':' || users, ' ' ORDER BY days) FROM mau.days_active(@at) WHERE users > 0$$,
 $$SELECT string_agg(days || ':' || users, ' ' ORDER BY days) FROM (SELECT days, count(*) AS users FROM (SELECT count(DISTINCT day) AS days FROM raw WHERE service = 'native' AND day <= (@at AT TIME ZONE 'UTC')::date AND day > (@at AT TIME ZONE 'UTC')::date - 30 GROUP BY user_id) u GROUP BY 1) d$$),
('r30v2', $$SELECT users FROM mau.r30v2(@at) WHERE client = 'all'$$,
 $$SELECT count(*) FROM (SELECT FROM raw WHERE service = 'native' AND day <= (@at AT TIME ZONE 'UTC')::date + 1 AND day > (@at AT TIME ZONE 'UTC')::date - 60 GROUP BY user_id HAVING max(day) - min(day) > 30) u$$),
('r30', $$SELECT users FROM mau.r30(@at) WHERE client = 'all'$$,
 $$SELECT count(DISTINCT user_id) FROM raw JOIN people p USING (user_id) WHERE raw.service = 'native' AND day <= (@at AT TIME ZONE 'UTC')::date AND day > (@at AT TIME ZONE 'UTC')::date - 30 AND day > (p.registered_at AT TIME ZONE 'UTC')::date + 30$$),
('forecast', $$SELECT day || ' ' || mau FROM mau.forecast(1000, @at, 14)$$,
 $$SELECT d || ' ' || count(DISTINCT user_id) FROM (SELECT (@at AT TIME ZONE 'UTC')::date - 1 AS d) t LEFT JOIN raw ON service = 'native' AND day <= d AND day > d - 30 GROUP BY d$$),
('retention', $$SELECT string_agg(size || '/' || coalesce(users::text, '-'), ' ' ORDER BY cohort_start, period) FROM mau.retention('month', '2020-05-01', '2020-06-30', at => @at)$$,
 $$SELECT string_agg(size || '/' || CASE WHEN m.p + interval '1 month' > date_trunc('day', @at, 'UTC') AT TIME ZONE 'UTC' THEN '-' ELSE users::text END, ' ' ORDER BY m.c, m.p)
   FROM (VALUES (date '2020-05-01', date '2020-05-01'), ('2020-05-01', '2020-06-01'), ('2020-06-01', '2020-06-01')) m(c, p),
   LATERAL (SELECT count(DISTINCT p.user_id) AS size, count(DISTINCT r.user_id) AS users FROM people p LEFT JOIN raw r ON r.user_id = p.user_id AND r.day >= m.p AND r.day < m.p + interval '1 month'
            WHERE p.service = 'native' AND (p.registered_at AT TIME ZONE 'UTC')::date >= m.c AND (p.registered_at AT TIME ZONE 'UTC')::date < m.c + interval '1 month' AND (p.registered_at AT TIME ZONE 'UTC')::date <= (@at AT TIME ZONE 'UTC')::date) s$$),
('billing_months', $$SELECT string_agg(month || ' ' || users || ' ' || users_over || ' ' || coalesce(highest_mau::text, '-') || CASE WHEN partial THEN ' partial' ELSE '' END, ', ' ORDER BY month) FROM mau.billing_months('2020-05-01', '2020-06-30', 'native', at => @at)$$,
 $$SELECT string_agg(format('%s %s %s %s%s', m, (SELECT count(DISTINCT user_id) FROM raw WHERE service = 'native' AND day >= m AND day < m + interval '1 month' AND day <= d),
        (SELECT count(*) FROM (SELECT FROM raw WHERE service = 'native' AND day >= m AND day < m + interval '1 month' AND day <= d GROUP BY user_id HAVING count(DISTINCT day) > 2) u),
        coalesce((SELECT max((SELECT count(DISTINCT user_id) FROM raw WHERE service = 'native' AND day <= g AND day > g::date - 30))::text FROM generate_series(m, least(d, (m + interval '1 month - 1 day')::date), interval '1 day') g), '-'),
        CASE WHEN m + interval '1 month' > d THEN ' partial' ELSE '' END), ', ' ORDER BY m)
   FROM unnest('{2020-05-01,2020-06-01}'::date[]) m, LATERAL (SELECT (@at AT TIME ZONE 'UTC')::date AS d) t$$);

CREATE VIEW answers AS
SELECT q.n, function, ago, ask(replace(question, '@at', quote_literal(t(ago * interval '-1 day')) || '::timestamptz')) AS ours,
       ask(replace(brute, '@at', quote_literal(t(ago * interval '-1 day')) || '::timestamptz')) AS right
FROM questions q, unnest('{-400,-31,-10,0,1,29,30,31,400}'::int[]) ago;
CREATE FUNCTION wrong() RETURNS TABLE (function text, ago int, ours text, "right" text) LANGUAGE sql
    AS $$ WITH a AS MATERIALIZED (SELECT * FROM answers) SELECT function, ago, ours, "right" FROM a WHERE ours NOT IN ('refused', "right") ORDER BY n, ago $$;
CREATE TABLE first AS SELECT * FROM answers;
-- Every answer that is not refused is right; the refused ones, by the age of the instant in days.
SELECT function, ago, ours, "right" FROM first WHERE ours NOT IN ('refused', "right") ORDER BY n, ago;
SELECT function, string_agg(ago::text, ' ' ORDER BY ago) FILTER (WHERE ours <> 'refused') AS answered, string_agg(ago::text, ' ' ORDER BY ago) FILTER (WHERE ours = 'refused') AS refused
FROM first GROUP BY n, function ORDER BY n;
SELECT function, ago, ours FROM first WHERE function ~ '^(monthly_active_count$|active_users 30 native$)' AND ours <> 'refused' ORDER BY n, ago;
-- Decisions are made for the present whatever the instant: by the members who were seen since 30 days before it.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 46;
SELECT ago, mau.check_auth_blocking('@new:a.example', at => t(ago * interval '-1 day'))->>'limit_type' AS blocked,
       (SELECT count(DISTINCT user_id) >= 46 FROM raw WHERE service = 'native' AND at >= t(ago * interval '-1 day') - interval '30 days') AS is_full
FROM unnest('{-400,-31,-10,0,1,29,30,31,400}'::int[]) ago ORDER BY ago;
UPDATE mau.settings SET limit_usage_by_mau = false, max_mau_value = 0;
-- The same after a fold, and with the members reaped by a later time.
SELECT what FROM mau.fold(t('0'));
SELECT users FROM mau.reap(t('20 days')) WHERE what = 'expired';
SELECT * FROM wrong();
SELECT ago, ours FROM answers WHERE function = 'monthly_active_count' ORDER BY ago;
-- A refusal says what to ask instead.
SELECT mau.monthly_active_count(t('-400 days'));
-- A sighting a few minutes ahead of a caller's clock does not make the present the past.
SELECT mau.record_activity('@ahead:a.example', t('20 days 5 minutes'));
SELECT mau.monthly_active_count(t('20 days')), ask('SELECT mau.monthly_active_count(t(''20 days -1 ms''))');
-- now() is never refused, whatever the homeserver's clock.
SELECT mau.record_activity('@far:a.example', now() + interval '10 years') \g /dev/null
SELECT ask('SELECT mau.monthly_active_count() > 0') AS now, ask('SELECT mau.monthly_active_count(now() - interval ''1 ms'')') AS before;
