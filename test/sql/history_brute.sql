-- Every question of the history against the obvious SQL over a plain table of visits: 300 users, 400 days.
SET jit = off;
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
SELECT setseed(0.42) \g /dev/null
-- Users numbered across the borders of chunks, of all kinds; some of them before the history begins, some at midnight.
CREATE TABLE people AS
    SELECT n, (ARRAY[1, 65536 - 50, 131072 - 50])[n % 3 + 1] + n / 3 AS user_no, '@u' || n || ':x' AS user_id,
           n % 17 = 0 AS is_guest, CASE WHEN n % 19 = 0 THEN 'support' WHEN n % 23 = 0 THEN 'bot' END AS user_type,
           n % 29 = 0 AS is_deactivated, n % 31 <> 0 AS is_registered, CASE WHEN n % 7 = 0 THEN 'irc' WHEN n % 37 = 0 THEN '' END AS appservice_id,
           CASE WHEN n % 31 <> 0 THEN (19444 + (random() * 460)::bigint) * 86400000 + CASE WHEN n % 5 = 0 THEN 0 ELSE (random() * 86399999)::bigint END END AS registered_at,
           random() ^ 4 AS often, (random() * 350)::int AS begins, (random() * 100)::int AS gap, (random() * 500)::int AS ends
    FROM generate_series(0, 299) n;
INSERT INTO mau.users (user_no, user_id, is_guest, user_type, is_deactivated, is_registered, appservice_id, registered_at)
    SELECT user_no, user_id, is_guest, user_type, is_deactivated, is_registered, appservice_id, registered_at FROM people;
SELECT setval('mau.users_user_no_seq', 200000) \g /dev/null
-- 2023-06-01 to 2024-07-04: a leap day, month ends, days on which nobody came, a single user, duplicates.
CREATE TABLE raw AS
    SELECT p.user_no, date '2023-06-01' + d AS day, (random() * 4)::int::smallint AS platform, coalesce(nullif(p.appservice_id, ''), 'native') COLLATE "C" AS service
    FROM people p, generate_series(0, 399) d
    WHERE random() < p.often AND d >= p.begins AND d % 100 < p.gap + 20 AND d < greatest(p.ends, p.begins + 40) AND d NOT BETWEEN 200 AND 203
      AND (d < 395 OR p.n = 5);
INSERT INTO raw SELECT user_no, day, (random() * 4)::int, service FROM raw WHERE random() < 0.2;
INSERT INTO raw SELECT user_no, date '2024-07-04', 1, 'native' FROM people WHERE n = 5;
-- Some are folded in parts, some again, late ones go to their day, some are not folded.
CREATE TABLE parts AS SELECT *, random() AS part FROM raw;
INSERT INTO mau.visits SELECT user_no, day, platform, service FROM parts WHERE part < 0.3;
SELECT what FROM mau.fold(max_rows => 500) WHERE what = 'more';
SELECT rows > 0 AS folded FROM mau.fold() WHERE what = 'bitmaps';
INSERT INTO mau.visits SELECT user_no, day, platform, service FROM parts WHERE part BETWEEN 0.2 AND 0.8;
SELECT rows > 0 AS folded FROM mau.fold() WHERE what = 'bitmaps';
INSERT INTO mau.visits SELECT user_no, day, platform, service FROM parts WHERE part > 0.7;
-- Folding is idempotent.
INSERT INTO mau.visits SELECT user_no, day, platform, service FROM parts WHERE part < 0.1;
SELECT count(*) > 5000 AS enough, count(DISTINCT user_no >> 16) AS chunks, min(day), max(day) FROM raw;

CREATE VIEW v AS
    SELECT DISTINCT r.user_no, r.day, (ARRAY['unknown', 'web', 'electron', 'android', 'ios'])[r.platform + 1] AS platform, r.service,
           p.is_guest, p.user_type, p.is_deactivated, p.is_registered, p.registered_at
    FROM raw r JOIN people p USING (user_no);
CREATE FUNCTION is_kind(kind text, is_guest bool, user_type text, is_deactivated bool, is_registered bool) RETURNS bool LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind WHEN 'counted' THEN NOT is_guest AND user_type IS DISTINCT FROM 'support' WHEN 'everybody' THEN true WHEN 'guest' THEN is_guest
        WHEN 'support' THEN user_type IS NOT DISTINCT FROM 'support' WHEN 'bot' THEN user_type IS NOT DISTINCT FROM 'bot'
        WHEN 'deactivated' THEN is_deactivated WHEN 'unregistered' THEN NOT is_registered END $$;
CREATE FUNCTION f(s text, p text, k text) RETURNS TABLE (user_no bigint, day date) LANGUAGE sql STABLE AS $$
    SELECT DISTINCT v.user_no::bigint, v.day FROM v WHERE (s IS NULL OR v.service = s) AND (p IS NULL OR v.platform = p)
        AND is_kind(k, is_guest, user_type, is_deactivated, is_registered) $$;
-- The questions: random ranges, and their filters.
CREATE TABLE asked AS
    SELECT q, f.from_day, f.from_day + (random() * 60)::int AS to_day, (ARRAY['native', 'irc', NULL])[1 + q % 3] AS service,
           (ARRAY[NULL, NULL, 'web', 'ios', 'unknown'])[1 + q % 5] AS platform, least((ARRAY[1, 1, 2, 3])[1 + q % 4], (ARRAY[30, 30, 1, 7, 90, 365])[1 + q % 6]) AS min_days,
           (ARRAY['counted', 'counted', 'everybody', 'guest', 'support', 'bot', 'deactivated', 'unregistered'])[1 + q % 8] AS kind,
           (ARRAY[30, 30, 1, 7, 90, 365])[1 + q % 6] AS window_days
    FROM generate_series(1, 24) q, LATERAL (SELECT date '2023-05-01' + (random() * 450)::int + 0 * q AS from_day) f;
INSERT INTO asked VALUES (100, '2024-02-27', '2024-03-31', 'native', NULL, 1, 'counted', 30), (101, '2024-02-29', '2024-02-29', 'native', NULL, 1, 'counted', 30),
    (102, '2023-06-01', '2024-08-31', 'native', NULL, 1, 'counted', 30), (103, '1990-01-01', '1990-02-01', NULL, NULL, 1, 'everybody', 30),
    (104, '2900-01-01', '2900-01-02', NULL, NULL, 1, 'everybody', 30), (105, '2024-07-04', '2024-07-04', 'native', NULL, 1, 'counted', 30);

CREATE TABLE difference (what text, q int, row text);
CREATE FUNCTION brute_series(a asked) RETURNS TABLE (day date, dau bigint, wau bigint, mau bigint, stickiness float8, new_users bigint) LANGUAGE sql STABLE AS $$
    WITH f AS MATERIALIZED (SELECT * FROM f(a.service, a.platform, a.kind))
    SELECT d.day, d.dau, d.wau, d.mau, d.dau::float8 / nullif(d.mau, 0), d.new_users FROM (SELECT g::date AS day,
        (SELECT count(*) FROM f WHERE f.day = g) AS dau,
        (SELECT count(*) FROM (SELECT FROM f WHERE f.day BETWEEN g::date - 6 AND g GROUP BY user_no HAVING count(*) >= a.min_days) s) AS wau,
        (SELECT count(*) FROM (SELECT FROM f WHERE f.day BETWEEN g::date - a.window_days + 1 AND g GROUP BY user_no
                               HAVING count(*) >= CASE WHEN a.window_days = 1 THEN 1 ELSE a.min_days END) s) AS mau,
        (SELECT count(*) FROM (SELECT FROM f GROUP BY user_no HAVING min(f.day) = g) s) AS new_users
    FROM generate_series(a.from_day, a.to_day, interval '1 day') g) d $$;
WITH ours AS (SELECT a.q, s::text FROM asked a, mau.daily_series(a.from_day, a.to_day, a.service, a.platform, a.min_days, a.kind, a.window_days) s),
     theirs AS (SELECT a.q, s::text FROM asked a, brute_series(a) s)
INSERT INTO difference SELECT 'daily_series', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;

CREATE FUNCTION brute_growth(a asked) RETURNS TABLE (day date, mau bigint, mau_before bigint, new_users bigint, retained bigint, resurrected bigint, churned bigint, quick_ratio float8) LANGUAGE sql STABLE AS $$
    WITH f AS MATERIALIZED (SELECT * FROM f(a.service, a.platform, a.kind)), g AS (
        SELECT g::date AS day, u.user_no, g::date - a.window_days AS before,
               count(*) FILTER (WHERE f.day > g::date - a.window_days) >= a.min_days AS now,
               count(*) FILTER (WHERE f.day <= g::date - a.window_days AND f.day > g::date - 2 * a.window_days) >= a.min_days AS earlier,
               bool_or(f.day <= g::date - a.window_days) AS ever
        FROM generate_series(a.from_day, a.to_day, interval '1 day') g, (SELECT DISTINCT user_no FROM f) u JOIN f USING (user_no)
        WHERE f.day <= g GROUP BY g, u.user_no)
    SELECT d::date, coalesce(count(*) FILTER (WHERE now), 0), count(*) FILTER (WHERE earlier), count(*) FILTER (WHERE now AND NOT ever),
           count(*) FILTER (WHERE now AND earlier), count(*) FILTER (WHERE now AND ever AND NOT earlier), count(*) FILTER (WHERE earlier AND NOT now),
           count(*) FILTER (WHERE now AND NOT earlier)::float8 / nullif(count(*) FILTER (WHERE earlier AND NOT now), 0)
    FROM generate_series(a.from_day, a.to_day, interval '1 day') d LEFT JOIN g ON g.day = d GROUP BY d $$;
CREATE TABLE grown AS SELECT a.q, a.window_days, s.* FROM asked a, mau.growth(a.from_day, a.to_day, a.service, a.platform, a.min_days, a.kind, a.window_days) s;
WITH ours AS (SELECT q, (day, mau, mau_before, new_users, retained, resurrected, churned, quick_ratio)::text FROM grown),
     theirs AS (SELECT a.q, (s.*)::text FROM asked a, brute_growth(a) s)
INSERT INTO difference SELECT 'growth', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
-- They add up, and what was before is what is: mau(t) = mau(t - 30) + new + resurrected - churned.
SELECT count(*) FROM grown WHERE mau <> mau_before + new_users + resurrected - churned OR mau <> new_users + retained + resurrected;
SELECT count(*) AS compared, count(*) FILTER (WHERE g.mau_before <> b.mau) AS different FROM grown g JOIN grown b ON b.q = g.q AND b.day = g.day - g.window_days;

CREATE FUNCTION brute_retention(unit text, a asked, at date) RETURNS TABLE (cohort_start date, size bigint, period int, period_start date, users bigint, share float8) LANGUAGE sql STABLE AS $$
    WITH f AS MATERIALIZED (SELECT * FROM f(a.service, a.platform, a.kind)), periods AS (
        SELECT p::date AS starts, (p + ('1 ' || unit)::interval)::date AS ends, row_number() OVER (ORDER BY p)::int AS i
        FROM generate_series(date_trunc(unit, a.from_day::timestamp), date_trunc(unit, a.to_day::timestamp), ('1 ' || unit)::interval) p),
    accounts AS (SELECT user_no, (to_timestamp(registered_at / 1000.0) AT TIME ZONE 'UTC')::date AS day FROM people
        WHERE registered_at IS NOT NULL AND is_kind(a.kind, is_guest, user_type, is_deactivated, is_registered)
          AND (a.service IS NULL OR coalesce(nullif(appservice_id, ''), 'native') = a.service))
    SELECT c.starts, s.size, p.i - c.i, p.starts, CASE WHEN p.ends <= at THEN s.users END, CASE WHEN p.ends <= at THEN s.users::float8 / nullif(s.size, 0) END
    FROM periods c JOIN periods p ON p.i >= c.i, LATERAL (SELECT count(*) AS size,
        count(*) FILTER (WHERE x.user_no IN (SELECT f.user_no FROM f WHERE f.day >= p.starts AND f.day < p.ends)) AS users
        FROM accounts x WHERE x.day >= c.starts AND x.day < c.ends AND x.day <= at) s $$;
CREATE TABLE units AS SELECT a.q, u.unit, a.to_day - a.q % 7 AS at FROM asked a, unnest('{day,week,month}'::text[]) u(unit) WHERE a.q < 12 OR a.q IN (100, 101);
WITH ours AS (SELECT a.q, u.unit, s::text FROM units u JOIN asked a USING (q), mau.retention(u.unit, a.from_day, a.to_day, a.service, a.platform, a.kind, u.at::timestamp AT TIME ZONE 'UTC' + interval '13 h') s),
     theirs AS (SELECT a.q, u.unit, s::text FROM units u JOIN asked a USING (q), brute_retention(u.unit, a, u.at) s)
INSERT INTO difference SELECT 'retention', q, unit || s FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;

CREATE TABLE often AS SELECT a.q, count(*) AS days FROM asked a, f(a.service, a.platform, a.kind) f WHERE f.day BETWEEN a.to_day - a.window_days + 1 AND a.to_day GROUP BY a.q, f.user_no;
WITH ours AS (SELECT a.q, s::text FROM asked a, mau.days_active(a.to_day::timestamp AT TIME ZONE 'UTC' + interval '5 h', a.window_days * interval '1 day', a.service, a.platform, a.kind) s),
     theirs AS (SELECT a.q, (n, (SELECT count(*) FROM often o WHERE o.q = a.q AND o.days = n))::text FROM asked a, LATERAL generate_series(1, a.window_days) n)
INSERT INTO difference SELECT 'days_active', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;

-- Every fifth day, and every day while those of the last ones run out.
CREATE TABLE everyday AS SELECT d::date FROM generate_series('2023-05-30', '2024-07-10', interval '5 days') d UNION SELECT d::date FROM generate_series('2024-07-25', '2025-01-05', interval '1 day') d;
CREATE TABLE f_counted AS SELECT * FROM f('native', NULL, 'counted');
INSERT INTO difference SELECT 'nodeinfo', 0, d || t::text FROM everyday e, LATERAL (SELECT mau.nodeinfo_usage(e.d::timestamp AT TIME ZONE 'UTC') AS ours, jsonb_build_object('users', jsonb_build_object(
    'total', (SELECT count(*) FROM people WHERE is_registered AND NOT is_guest AND NOT is_deactivated AND user_type IS DISTINCT FROM 'support' AND coalesce(appservice_id, '') = ''),
    'activeMonth', (SELECT count(DISTINCT user_no) FROM f_counted f WHERE day BETWEEN e.d - 29 AND e.d),
    'activeHalfyear', (SELECT count(DISTINCT user_no) FROM f_counted f WHERE day BETWEEN e.d - 179 AND e.d))) AS theirs) t
WHERE ours <> theirs;

-- A sighting of today makes all these days the past.
SELECT mau.record_activity('@today:x') \g /dev/null
CREATE TABLE often_counted AS SELECT a.q, count(*) AS days FROM asked a, f(a.service, NULL, 'counted') f WHERE f.day BETWEEN a.to_day - a.window_days + 1 AND a.to_day GROUP BY a.q, f.user_no;
INSERT INTO difference SELECT 'active_users', a.q, m || ': ' || ours || ' ' || theirs FROM asked a, generate_series(1, least(4, a.window_days)) m, LATERAL (SELECT
    mau.active_users(a.window_days * interval '1 day', a.to_day::timestamp AT TIME ZONE 'UTC' + interval '23:59:59.999', a.service, m) AS ours,
    (SELECT count(*) FROM often_counted o WHERE o.q = a.q AND o.days >= m) AS theirs OFFSET 0) s
WHERE ours <> theirs;

-- The reference's own words on visits at midnight, at random times and in the first second of a day.
CREATE TABLE instants AS SELECT q, extract(epoch FROM to_day)::bigint * 1000 + CASE q % 3 WHEN 0 THEN (random() * 86399999)::bigint WHEN 1 THEN (random() * 999)::bigint ELSE 1000 END AS ms FROM asked WHERE q < 103 OR q = 105;
CREATE FUNCTION brute_r30v2(ms bigint) RETURNS TABLE (client text, users bigint) LANGUAGE sql STABLE AS $$
    WITH u AS (SELECT user_no, platform, extract(epoch FROM day)::bigint * 1000 AS ts FROM v WHERE NOT is_guest AND service = 'native'),
         w AS (SELECT * FROM u WHERE ts > (ms / 1000 - 5184000) * 1000 AND ts < (ms / 1000 + 86400) * 1000)
    SELECT 'all', count(*) FROM (SELECT FROM w GROUP BY user_no HAVING max(ts) - min(ts) > 2592000000) s
    UNION ALL SELECT c, count(s.user_no) FROM unnest('{android,electron,ios,web}'::text[]) c
        LEFT JOIN (SELECT user_no, platform FROM w GROUP BY 1, 2 HAVING max(ts) - min(ts) > 2592000000) s ON s.platform = c GROUP BY c $$;
WITH ours AS (SELECT i.q, s::text FROM instants i, mau.r30v2(to_timestamp(i.ms / 1000.0)) s), theirs AS (SELECT i.q, s::text FROM instants i, brute_r30v2(i.ms) s)
INSERT INTO difference SELECT 'r30v2', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
WITH ours AS (SELECT a.q, p, s::text FROM asked a, unnest('{NULL,web,ios}'::text[]) p, mau.r30v2_series(a.from_day, a.to_day, p) s WHERE a.q < 8 OR a.q = 100),
     theirs AS (SELECT a.q, p, (d::date, r.users)::text FROM asked a, unnest('{NULL,web,ios}'::text[]) p, generate_series(a.from_day, a.to_day, interval '1 day') d,
                brute_r30v2(extract(epoch FROM d::date)::bigint * 1000 + 43200000) r WHERE (a.q < 8 OR a.q = 100) AND r.client = coalesce(p, 'all'))
INSERT INTO difference SELECT 'r30v2_series', q, s FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
CREATE FUNCTION brute_r30(ms bigint) RETURNS TABLE (client text, users bigint) LANGUAGE sql STABLE AS $$
    WITH u AS (SELECT user_no, platform, day, (to_timestamp(registered_at / 1000.0) AT TIME ZONE 'UTC')::date AS registered FROM v WHERE NOT is_guest AND service = 'native' AND registered_at IS NOT NULL),
         w AS (SELECT * FROM u WHERE day BETWEEN (to_timestamp(ms / 1000) AT TIME ZONE 'UTC')::date - 29 AND (to_timestamp(ms / 1000) AT TIME ZONE 'UTC')::date AND day - registered > 30)
    SELECT 'all', count(DISTINCT user_no) FROM w
    UNION ALL SELECT c, count(DISTINCT w.user_no) FROM unnest('{android,electron,ios,web}'::text[]) c LEFT JOIN w ON w.platform = c GROUP BY c $$;
WITH ours AS (SELECT i.q, s::text FROM instants i, mau.r30(to_timestamp(i.ms / 1000.0)) s), theirs AS (SELECT i.q, s::text FROM instants i, brute_r30(i.ms) s)
INSERT INTO difference SELECT 'r30', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;

CREATE FUNCTION brute_bill(a asked, more int, today date) RETURNS TABLE (month date, service text, users bigint, users_over bigint, highest_mau bigint, mean_mau numeric, partial bool) LANGUAGE sql STABLE AS $$
    WITH m AS (SELECT m::date AS first, (m + interval '1 month')::date - 1 AS last FROM generate_series(date_trunc('month', a.from_day::timestamp), a.to_day::timestamp, interval '1 month') m),
         s AS (SELECT DISTINCT v.service FROM v WHERE a.service IS NULL OR v.service = a.service),
         f AS MATERIALIZED (SELECT s.service, f.* FROM s, f(s.service, NULL, a.kind) f WHERE f.day <= today),
         b AS (SELECT min(day) AS begins FROM v)
    SELECT m.first, s.service, (SELECT count(DISTINCT user_no) FROM f WHERE f.service = s.service AND f.day BETWEEN m.first AND m.last),
        (SELECT count(*) FROM (SELECT FROM f WHERE f.service = s.service AND f.day BETWEEN m.first AND m.last GROUP BY user_no HAVING count(*) > more) x),
        r.highest, r.mean, m.first < b.begins OR m.last >= today
    FROM m, s, b, LATERAL (SELECT max(c) AS highest, round(avg(c), 6) AS mean FROM
        (SELECT (SELECT count(DISTINCT user_no) FROM f WHERE f.service = s.service AND f.day BETWEEN d::date - 29 AND d) AS c
         FROM generate_series(greatest(m.first, b.begins), least(m.last, today), interval '1 day') d) x) r $$;
CREATE TABLE bills AS SELECT a.q, (ARRAY[0, 2, 5])[1 + a.q % 3] AS more, CASE q WHEN 100 THEN a.to_day ELSE date '2024-03-17' END AS today FROM asked a WHERE q IN (1, 2, 3, 4, 5, 6, 9, 100, 101, 102);
WITH ours AS (SELECT a.q, (s.month, s.service_name, s.users, s.users_over, s.highest_mau, round(s.mean_mau::numeric, 6), s.partial)::text FROM bills b JOIN asked a USING (q),
                mau.billing_months(a.from_day, a.to_day, a.service, b.more, a.kind, b.today::timestamp AT TIME ZONE 'UTC' + interval '1 h') s),
     theirs AS (SELECT a.q, s::text FROM bills b JOIN asked a USING (q), brute_bill(a, b.more, b.today) s)
INSERT INTO difference SELECT 'billing_months', * FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;

-- The line of the forecast is PostgreSQL's own.
INSERT INTO difference SELECT 'forecast', x.n, (f.*)::text || t FROM generate_series(40, 380, 20) x(n), LATERAL (SELECT date '2023-06-01' + x.n AS today) d,
    mau.forecast(1000000, d.today::timestamp AT TIME ZONE 'UTC', 60) f,
    LATERAL (SELECT regr_slope(s.mau, s.day - date '2023-06-01') AS slope, regr_r2(s.mau, s.day - date '2023-06-01') AS r2, count(*) AS n, (array_agg(s.mau ORDER BY s.day DESC))[1] AS mau
             FROM mau.daily_series(greatest((SELECT min(day) FROM raw) + 29, d.today - 60), d.today - 1) s) t
WHERE CASE WHEN t.n < 14 THEN f.mau IS NOT NULL ELSE abs(f.per_day - t.slope) > 1e-9 OR abs(f.r_squared - t.r2) > 1e-9 OR f.mau <> t.mau OR f.day <> d.today - 1
      OR (f.reaches IS NULL) <> (t.slope <= 0 OR t.r2 < 0.5 OR f.assumption LIKE 'not within%') END;

SELECT what, count(*) FROM difference GROUP BY 1 ORDER BY 1;
SELECT * FROM difference ORDER BY 1, 2 LIMIT 20;
-- The same after all is folded, and after what is old went: nobody becomes new.
CREATE TABLE before AS SELECT s.* FROM mau.daily_series('2024-01-01', '2024-07-10') s;
CREATE TABLE grown_before AS SELECT s.* FROM mau.growth('2024-03-01', '2024-07-10') s;
SELECT rows > 0 AS folded FROM mau.fold() WHERE what = 'visits';
SELECT count(*) AS different FROM (SELECT * FROM before EXCEPT ALL SELECT * FROM mau.daily_series('2024-01-01', '2024-07-10')) d;
UPDATE mau.settings SET history_retention = (now() AT TIME ZONE 'UTC')::date - timestamp '2023-12-01';
SELECT rows > 0 AS purged FROM mau.fold((now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC') WHERE what = 'purged';
SELECT min(day) FILTER (WHERE day > '-infinity'), count(*) FILTER (WHERE day = '-infinity') > 0 AS before FROM mau.active_days;
SELECT count(*) AS different FROM (SELECT * FROM before EXCEPT ALL SELECT * FROM mau.daily_series('2024-01-01', '2024-07-10')) d;
SELECT count(*) AS different FROM (SELECT * FROM grown_before EXCEPT ALL SELECT * FROM mau.growth('2024-03-01', '2024-07-10')) d;
-- A forgotten user stays in past totals.
CREATE TABLE mau_before AS SELECT day, dau, mau FROM before;
SELECT count(*) FROM people, mau.forget_user(people.user_id) f WHERE n % 2 = 0 AND f;
SELECT count(*) AS different FROM (SELECT * FROM mau_before EXCEPT ALL SELECT day, dau, mau FROM mau.daily_series('2024-01-01', '2024-07-10')) d;
