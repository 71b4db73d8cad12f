-- Twelve years in one question: more days than the reader holds at once, and as ever the obvious SQL's answers.
SET jit = off;
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
SELECT setseed(0.7) \g /dev/null
-- Three chunks of users; visits lie years apart, and some sit at the seams of blocks of 1200 days.
CREATE TABLE people AS
    SELECT n, (n % 3) * 65536 + n * 100 AS user_no, extract(epoch FROM date '2010-03-05' + (random() * 4000)::int)::bigint * 1000 + n AS registered_at
    FROM generate_series(1, 30) n;
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered) SELECT user_no, '@u' || n || ':x', registered_at, true FROM people;
CREATE TABLE v AS
    SELECT DISTINCT p.user_no::bigint, date '2010-03-05' + (random() * 4380)::int AS day, 1 + (random() * 3)::int::smallint AS platform
    FROM people p, generate_series(1, 40) i;
INSERT INTO v SELECT p.user_no, date '2010-03-05' + seam + shift, 1 FROM people p, unnest(ARRAY[1170, 1200, 1229, 1259, 1260, 2370, 2399, 2400, 2430, 2459]) seam, generate_series(-1, 1) shift
    WHERE random() < 0.2 ON CONFLICT DO NOTHING;
INSERT INTO v VALUES (100 + 65536, '2010-03-05', 1), (200 + 2 * 65536, '2022-03-04', 1);
INSERT INTO mau.visits SELECT user_no, day, platform, 'native' FROM v WHERE random() < 0.7;
SELECT rows > 0 AS folded FROM mau.fold() WHERE what = 'bitmaps';
INSERT INTO mau.visits SELECT user_no, day, platform, 'native' FROM v;
SELECT max(day) - min(day) AS days, count(DISTINCT user_no >> 16) AS chunks FROM v;

CREATE TABLE difference (what text, row text);
CREATE TABLE asked (from_day date, to_day date, min_days int, window_days int);
INSERT INTO asked VALUES ('2010-01-01', '2022-06-01', 1, 30), ('2014-01-01', '2022-06-01', 1, 1000), ('2010-03-05', '2022-03-04', 2, 400);
CREATE FUNCTION active_on(d date, days int, at_least int) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (SELECT FROM v WHERE day BETWEEN d - days + 1 AND d GROUP BY user_no HAVING count(DISTINCT day) >= at_least) u $$;
CREATE INDEX ON v (day, user_no);
CREATE TABLE days AS SELECT a.ctid AS q, a.*, g::date AS day FROM asked a, generate_series(a.from_day, a.to_day, '1 day') g;
CREATE TABLE firsts AS SELECT min(day) AS day FROM v GROUP BY user_no;
WITH ours AS (SELECT a.ctid::text, (s.day, s.dau, s.wau, s.mau, s.new_users)::text FROM asked a, mau.daily_series(a.from_day, a.to_day, 'native', NULL, a.min_days, 'counted', a.window_days) s),
     theirs AS (SELECT q::text, (day, active_on(day, 1, 1), active_on(day, 7, min_days), active_on(day, window_days, min_days), (SELECT count(*) FROM firsts f WHERE f.day = d.day))::text FROM days d)
INSERT INTO difference SELECT 'daily_series', * FROM (SELECT d::text FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d) x;
-- The parts of growth that daily_series does not have: users who are new in a window, and users who left it.
CREATE TABLE grown AS SELECT a.ctid AS q, a.min_days, a.window_days, s.* FROM asked a, mau.growth(a.from_day, a.to_day, 'native', NULL, a.min_days, 'counted', a.window_days) s;
SELECT count(*) FROM grown WHERE mau <> mau_before + new_users + resurrected - churned OR mau <> new_users + retained + resurrected;
INSERT INTO difference SELECT 'growth', g::text FROM grown g WHERE (g.day - date '2010-01-01') % 9 = 0 AND (g.mau_before <> active_on(g.day - g.window_days, g.window_days, g.min_days) OR g.mau <> active_on(g.day, g.window_days, g.min_days)
    OR g.retained <> (SELECT count(*) FROM (SELECT FROM v WHERE v.day > g.day - 2 * g.window_days AND v.day <= g.day GROUP BY user_no
                      HAVING count(DISTINCT v.day) FILTER (WHERE v.day > g.day - g.window_days) >= g.min_days AND count(DISTINCT v.day) FILTER (WHERE v.day <= g.day - g.window_days) >= g.min_days) u)
    OR g.new_users <> (SELECT count(*) FROM (SELECT FROM v WHERE v.day <= g.day GROUP BY user_no
                       HAVING min(v.day) > g.day - g.window_days AND count(DISTINCT v.day) >= g.min_days) u));
WITH ours AS (SELECT s::text FROM mau.r30v2_series('2010-01-01', '2022-06-01') s),
     theirs AS (SELECT (g::date, (SELECT count(*) FROM (SELECT FROM v WHERE v.day BETWEEN g::date - 59 AND g::date + 1 GROUP BY user_no HAVING max(v.day) - min(v.day) > 30) u))::text
                FROM generate_series('2010-01-01', '2022-06-01', interval '1 day') g)
INSERT INTO difference SELECT 'r30v2_series', d::text FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
WITH ours AS (SELECT s::text FROM mau.days_active('2022-03-20', '5000 days') s WHERE s.users > 0),
     theirs AS (SELECT (n, count(*))::text FROM (SELECT count(DISTINCT day) AS n FROM v WHERE day BETWEEN date '2022-03-20' - 4999 AND '2022-03-20' GROUP BY user_no) u GROUP BY n)
INSERT INTO difference SELECT 'days_active', d::text FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
INSERT INTO difference SELECT 'active_users', (n, x)::text FROM unnest(ARRAY[1, 2, 30, 37, 40, 45]) n, LATERAL (SELECT mau.active_users('5000 days', '2022-03-20', 'native', n) AS ours, active_on('2022-03-20', 5000, n) AS theirs) x
    WHERE ours <> theirs;
WITH ours AS (SELECT (s.month, s.users, s.users_over, s.highest_mau, s.partial)::text FROM mau.billing_months('2010-01-01', '2022-06-01', 'native', 1) s),
     theirs AS (SELECT (m::date, active_on(l, l - m::date + 1, 1), active_on(l, l - m::date + 1, 2),
                   (SELECT max(active_on(d::date, 30, 1)) FROM generate_series(greatest(m, timestamp '2010-03-05'), l, interval '1 day') d), m < timestamp '2010-03-05')::text
                FROM generate_series(timestamp '2010-01-01', '2022-06-01', interval '1 month') m, LATERAL (SELECT (m + interval '1 month')::date - 1 AS l) x)
INSERT INTO difference SELECT 'billing_months', d::text FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
WITH ours AS (SELECT (s.cohort_start, s.size, s.period_start, s.users)::text FROM mau.retention('month', '2010-03-01', '2022-03-01') s),
     months AS (SELECT m::date AS begins, (m + interval '1 month')::date AS ends FROM generate_series(timestamp '2010-03-01', '2022-03-01', interval '1 month') m),
     theirs AS (SELECT (c.begins, c.size, p.begins, (SELECT count(DISTINCT v.user_no) FROM v WHERE v.user_no = ANY (c.users) AND v.day >= p.begins AND v.day < p.ends))::text
                FROM (SELECT m.*, count(p.n) AS size, array_agg(p.user_no::bigint) AS users FROM months m LEFT JOIN people p ON to_timestamp(p.registered_at / 1000) AT TIME ZONE 'UTC' >= m.begins
                      AND to_timestamp(p.registered_at / 1000) AT TIME ZONE 'UTC' < m.ends GROUP BY m.begins, m.ends) c JOIN months p ON p.begins >= c.begins)
INSERT INTO difference SELECT 'retention', d::text FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) d;
SELECT what, count(*) FROM difference GROUP BY 1 ORDER BY 1;
SELECT * FROM difference ORDER BY 1, 2 LIMIT 10;
-- A hundred years and no more.
SELECT count(*), sum(dau) > 1000 AS active FROM mau.daily_series('1970-01-01', '2069-12-31');
SELECT count(*) FROM mau.daily_series('1970-01-01', '2170-01-01');
