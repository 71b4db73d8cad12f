-- mau.forecast: against PostgreSQL's own regression over the plain count of distinct users; mau.nodeinfo_usage.
CREATE EXTENSION mau;
-- Services whose users come so that the figure is known for each of 150 days.
CREATE TABLE raw (user_no int, n int, service text);
INSERT INTO raw -- rises by one a day: a user of day x comes again every 20 days
    SELECT 1000 + x, n, 'rising' FROM generate_series(0, 149) x, generate_series(x, 149, 20) n
    UNION ALL -- falls by one a day
    SELECT 2000 + x, n, 'falling' FROM generate_series(0, 149) x, generate_series(x, 0, -20) n
    UNION ALL SELECT 3000 + x, n, 'level' FROM generate_series(1, 10) x, generate_series(0, 149) n
    UNION ALL -- comes and goes
    SELECT 4000 + x, n, 'restless' FROM generate_series(1, 40) x, unnest('{0,70,130}'::int[]) n WHERE x <= 30 OR n = 130
    UNION ALL -- one more in 60 days
    SELECT 5000 + x, n, 'slow' FROM generate_series(1, 3) x, generate_series(0, 149) n WHERE x < 3 OR n > 90;
CREATE FUNCTION d(n int) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT date '2025-06-01' + n $$;
CREATE FUNCTION noon(n int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT (timestamp '2025-06-01 12:00' + n * interval '1 day') AT TIME ZONE 'UTC' $$;
INSERT INTO mau.visits SELECT user_no, d(n), 1, service FROM raw;
CREATE FUNCTION forecast(target bigint, at timestamptz, service text, days int DEFAULT 90)
    RETURNS TABLE (day date, mau bigint, target_mau bigint, per_day numeric, r_squared numeric, reaches date, days_left int, assumption text) LANGUAGE sql
    AS $$ SELECT day, mau, target_mau, round(per_day::numeric, 6), round(r_squared::numeric, 6), reaches, days_left, assumption FROM mau.forecast(target, at, days, service) $$;
-- The answers: rising, falling, level, without a trend, for ever, reached, just reached; today (day 150) is not over.
SELECT f.* FROM forecast(200, noon(150), 'rising') f;
SELECT f.* FROM forecast(200, noon(150), 'falling') f;
SELECT f.* FROM forecast(200, noon(150), 'level') f;
SELECT f.* FROM forecast(200, noon(150), 'restless', 60) f;
SELECT f.* FROM forecast(1000000, noon(98), 'slow', 14) f;
SELECT f.* FROM forecast(150, noon(150), 'rising') f;
SELECT f.* FROM forecast(3, noon(150), 'rising') f;
SELECT f.reaches, f.days_left FROM mau.forecast(151, noon(150), service => 'rising') f;
-- The line and the day, by the definition.
CREATE VIEW figures AS
    SELECT s.service, d.n, (SELECT count(DISTINCT r.user_no) FROM raw r WHERE r.service = s.service AND r.n BETWEEN d.n - 29 AND d.n) AS mau
    FROM (SELECT DISTINCT service FROM raw) s, generate_series(29, 149) d(n);
SELECT count(*) AS asked, count(*) FILTER (WHERE abs(f.per_day - b.slope) < 1e-9 AND abs(f.r_squared - b.r2) < 1e-9 AND f.mau = b.mau AND f.day = d(t.n - 1) AND f.target_mau = g
    AND f.reaches IS NOT DISTINCT FROM CASE WHEN b.mau >= g THEN d(t.n - 1) WHEN b.slope > 0 AND b.r2 >= 0.5 AND (g - b.mau) / b.slope < 36000
        THEN d(greatest(ceil((g - b.base) / b.slope - 1e-9)::int, t.n)) END
    AND f.days_left IS NOT DISTINCT FROM f.reaches - least(f.reaches, d(t.n))) AS same
FROM unnest('{43,44,60,100,131,150}'::int[]) t(n), unnest('{14,30,90}'::int[]) days, (SELECT DISTINCT service FROM raw) s, unnest('{5,120,160,1000}'::int[]) g,
    mau.forecast(g, noon(t.n), days, s.service) f,
    LATERAL (SELECT regr_slope(mau, n) AS slope, regr_intercept(mau, n) AS base, coalesce(nullif(regr_r2(mau, n), 'NaN') * (variance(mau) > 0)::int, 0) AS r2,
                    (array_agg(mau ORDER BY n DESC))[1] AS mau
             FROM figures f WHERE f.service = s.service AND f.n BETWEEN greatest(t.n - days, 29) AND t.n - 1) b;
-- Less than 14 days with a whole window behind them.
SELECT f.* FROM forecast(200, noon(42), 'rising') f;
SELECT f.* FROM forecast(200, noon(43), 'rising') f;
-- Without a target: max_mau_value, whether or not it is enforced; 0 is none.
SELECT target_mau, reaches, assumption FROM mau.forecast(at => noon(150), service => 'rising');
UPDATE mau.settings SET max_mau_value = 170;
SELECT target_mau, reaches, assumption FROM mau.forecast(at => noon(150), service => 'rising');
SELECT target_mau, reaches, assumption FROM mau.forecast(0, noon(150), service => 'rising');
-- No history at all, and no such service.
SELECT * FROM mau.forecast(5, '2001-01-01 00:00+00');
SELECT day, mau, per_day, r_squared, reaches, assumption FROM mau.forecast(5, noon(150), service => 'nobody');
SELECT mau.forecast(-1);
SELECT mau.forecast(days => 13);
SELECT mau.forecast(days => 1001);
SELECT mau.forecast(at => NULL);

-- NodeInfo: the windows are 30 and 180 UTC days, the accounts are those of people who can log in.
DELETE FROM mau.visits;
CREATE TABLE person AS SELECT row_number() OVER () AS no, v.* FROM (VALUES
    ('today', 0, NULL, NULL, false, false, true), ('d29', 29, NULL, NULL, false, false, true), ('d30', 30, NULL, NULL, false, false, true),
    ('d179', 179, NULL, NULL, false, false, true), ('d180', 180, NULL, NULL, false, false, true), ('never', NULL, NULL, NULL, false, false, true),
    ('guest', 1, NULL, NULL, true, false, true), ('help', 1, 'support', NULL, false, false, true), ('bot', 1, 'bot', NULL, false, false, true),
    ('irc', 1, NULL, 'irc', false, false, true), ('gone', 100, NULL, NULL, false, true, true), ('seen', 1, NULL, NULL, false, false, false),
    ('tomorrow', -1, NULL, NULL, false, false, true)) v(name, ago, user_type, appservice_id, is_guest, is_deactivated, is_registered);
INSERT INTO mau.users (user_no, user_id, user_type, appservice_id, is_guest, is_deactivated, is_registered)
    SELECT no, '@' || name || ':x', user_type, appservice_id, is_guest, is_deactivated, is_registered FROM person;
INSERT INTO mau.visits SELECT no, d(200 - ago), 1, coalesce(appservice_id, 'native') FROM person WHERE ago IS NOT NULL;
-- total: all but the guest, the support user, the bridged, the deactivated and the one who was only seen: 8 of 13. Month: today, d29, bot, seen. Half a year: d30, d179 and gone too.
SELECT mau.nodeinfo_usage(noon(200));
SELECT mau.nodeinfo_usage(noon(200)) = jsonb_build_object('users', jsonb_build_object(
    'total', (SELECT count(*) FROM person WHERE is_registered AND NOT is_guest AND NOT is_deactivated AND appservice_id IS NULL AND user_type IS DISTINCT FROM 'support'),
    'activeMonth', (SELECT count(*) FROM person WHERE ago BETWEEN 0 AND 29 AND NOT is_guest AND appservice_id IS NULL AND user_type IS DISTINCT FROM 'support'),
    'activeHalfyear', (SELECT count(*) FROM person WHERE ago BETWEEN 0 AND 179 AND NOT is_guest AND appservice_id IS NULL AND user_type IS DISTINCT FROM 'support'))) AS same;
-- The first millisecond of the next day has another window, and the last of this one has not.
SELECT mau.nodeinfo_usage('2025-12-18 23:59:59.999+00') = mau.nodeinfo_usage(noon(200)) AS last_of_the_day, mau.nodeinfo_usage('2025-12-19 00:00+00');
SELECT mau.nodeinfo_usage('2001-01-01 00:00+00');
SELECT mau.nodeinfo_usage(NULL);
