-- mau.billing_months: a leap February, months that are not whole at both ends, several services; against plain SQL.
CREATE EXTENSION mau;
-- The history begins on 2023-12-20. The 17th user of a kind comes every 17th day, the 1st every day; those of irc from February on.
CREATE TABLE raw AS
    SELECT s.first_no + n AS user_no, s.service, d::date AS day
    FROM (VALUES ('native', 0, date '2023-12-20', 20), ('irc', 100, date '2024-02-01', 7), ('slack', 200, date '2024-02-29', 3)) s(service, first_no, begins, users),
         LATERAL generate_series(1, s.users) n, LATERAL generate_series(s.begins, timestamp '2024-04-10', n * interval '1 day') d;
INSERT INTO mau.users (user_no, user_id, is_guest, user_type) SELECT DISTINCT user_no, '@u' || user_no || ':x', user_no = 3, CASE user_no WHEN 4 THEN 'support' WHEN 5 THEN 'bot' END FROM raw;
INSERT INTO mau.visits SELECT user_no, day, 1, service FROM raw;
CREATE VIEW v AS SELECT * FROM raw WHERE user_no NOT IN (3, 4); -- no guest, no support user
CREATE FUNCTION brute(from_day date, to_day date, more int, which text, today date) RETURNS TABLE (month date, service text, users bigint, users_over bigint, highest bigint, mean numeric, partial bool)
LANGUAGE sql STABLE AS $$
    SELECT m.first, s.service,
           (SELECT count(DISTINCT user_no) FROM v WHERE v.service = s.service AND v.day BETWEEN m.first AND least(m.last, today)),
           (SELECT count(*) FROM (SELECT FROM v WHERE v.service = s.service AND v.day BETWEEN m.first AND least(m.last, today) GROUP BY user_no HAVING count(DISTINCT day) > more) o),
           max(f.mau), round(avg(f.mau), 9), m.first < '2023-12-20' OR m.last >= today
    FROM (SELECT g::date AS first, (g + interval '1 month - 1 day')::date AS last
          FROM generate_series(date_trunc('month', from_day::timestamp), to_day::timestamp, interval '1 month') g) m
    CROSS JOIN (SELECT DISTINCT service FROM raw WHERE which IS NULL OR service = which) s
    LEFT JOIN LATERAL (SELECT (SELECT count(DISTINCT user_no) FROM v WHERE v.service = s.service AND v.day BETWEEN d::date - 29 AND d) AS mau
                       FROM generate_series(greatest(m.first, '2023-12-20'), least(m.last, today), interval '1 day') d) f ON true
    GROUP BY 1, 2, 3, 4, 7 $$;
-- Today is the 10th of April, a day of which all is known, and of the month a third.
SELECT month, service_name, users, users_over, highest_mau, round(mean_mau::numeric, 4) AS mean_mau, partial
FROM mau.billing_months('2023-12-01', '2024-04-30', at => '2024-04-10 23:00+00') ORDER BY 1, 2;
CREATE FUNCTION differences(from_day date, to_day date, more int, which text, at timestamptz, today date) RETURNS bigint LANGUAGE sql STABLE AS $$
    WITH ours AS (SELECT month, service_name, users, users_over, highest_mau, round(mean_mau::numeric, 9), partial FROM mau.billing_months(from_day, to_day, which, more, at => at)),
         theirs AS (SELECT * FROM brute(from_day, to_day, more, which, today))
    SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) x $$;
SELECT more, which, t.at::date AS today, differences(f, l, more, which, t.at::timestamp AT TIME ZONE 'UTC', t.at::date)
FROM unnest('{0,1,2,28,29,31}'::int[]) more, unnest('{NULL,irc}'::text[]) which,
     (VALUES (date '2023-12-01', date '2024-04-30', timestamp '2024-04-10 23:00'), ('2024-02-29', '2024-02-29', '2024-02-29 00:00'), ('2024-02-29', '2024-03-01', '2024-03-01 00:00'),
             ('2023-10-31', '2024-01-01', '2024-01-31 23:59:59.999'), ('2024-01-01', '2024-06-30', '2024-06-30 12:00')) t(f, l, at)
WHERE differences(f, l, more, which, t.at::timestamp AT TIME ZONE 'UTC', t.at::date) <> 0;
-- February has 29 days: on each of them is more than 28, and nobody comes on more than 29.
SELECT more, users, users_over FROM unnest('{0,27,28,29}'::int[]) more, mau.billing_months('2024-02-01', '2024-02-01', 'native', more, at => '2024-04-10 12:00+00');
-- February is whole from the first millisecond of March on.
SELECT at AT TIME ZONE 'UTC' AS at, partial FROM unnest('{2024-02-29 23:59:59.999+00,2024-03-01 00:00+00}'::timestamptz[]) at, mau.billing_months('2024-02-10', '2024-02-10', 'native', at => at);
-- Counted users: guests on their own; a month before all history; by default the 12 months up to now, or to to_day, of all services.
SELECT users FROM mau.billing_months('2024-01-01', '2024-01-01', 'native', kind => 'guest', at => '2024-04-10 12:00+00');
SELECT * FROM mau.billing_months('2020-02-01', '2020-02-01', 'native', at => '2024-04-10 12:00+00');
SELECT service_name, count(*), min(month), max(month) FROM mau.billing_months(at => '2024-04-10 12:00+00') GROUP BY 1 ORDER BY 1;
SELECT count(*), min(month), max(month) FROM mau.billing_months(NULL, '2024-02-29', 'irc', at => '2024-04-10 12:00+00');
SELECT count(*), min(month), max(month) FROM mau.billing_months(NULL, '1970-03-01', 'irc');
SELECT mau.billing_months(more_than_days => -1);
SELECT mau.billing_months(more_than_days => 32);
SELECT mau.billing_months('2024-02-02', '2024-02-01');
SELECT mau.billing_months(at => 'infinity');
SELECT mau.billing_months('1969-12-31');
