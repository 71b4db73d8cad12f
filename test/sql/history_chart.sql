-- mau.chart draws the series of daily_series; chart_test.cpp tests the drawing.
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
-- User n comes on the days from n on, to the 23rd; two of them with a phone, one is a guest.
INSERT INTO mau.users (user_no, user_id, is_guest) SELECT n, '@u' || n || ':x', n = 8 FROM generate_series(1, 8) n;
INSERT INTO mau.visits SELECT n, date '2026-02-01' + d, CASE WHEN n <= 2 THEN 4 ELSE 1 END, 'native' FROM generate_series(1, 8) n, generate_series(n - 1, 22) d;
\pset format unaligned
\pset tuples_only on
SELECT mau.chart('dau', '2026-02-01', '2026-02-28', 60, 4);
SELECT mau.chart('mau', '2026-02-01', '2026-02-28', 60, 4);
SELECT mau.chart('new_users', '2026-02-01', '2026-02-28', 60, 2);
SELECT mau.chart('dau', '2026-02-01', '2026-02-28', 30, 2, platform => 'ios');
SELECT mau.chart('wau', '2026-02-01', '2026-02-28', 30, 2, kind => 'everybody');
SELECT mau.chart('dau', '2026-02-01', '2026-02-28', 30, 1, service => 'irc');
-- Before the first day there are no members of whom a share could come: no value, and nothing drawn.
SELECT mau.chart('stickiness', '2026-01-25', '2026-02-28', 60, 2);
SELECT mau.chart('dau', '2026-02-10', '2026-02-10', height => 1);
-- The highest label is the highest figure where a day has a column; 90 days by default, within 72 columns.
SELECT (SELECT max(dau) FROM mau.daily_series('2026-02-01', '2026-02-28')) = 7 AS is_seven;
SELECT count(*) AS lines, max(length(l)) <= 72 AS fits, bool_and(l !~ ' $') AS trimmed FROM mau.chart() l;
SELECT w, count(*) AS lines, max(length(l)) <= w AS fits FROM unnest('{30,31,72,200,1000}'::int[]) w, mau.chart('mau', '2025-02-01', '2026-03-01', w, 3) l GROUP BY w ORDER BY w;
SELECT h, count(*) = h + 2 AS as_high FROM unnest('{1,20,100}'::int[]) h, mau.chart('mau', '2026-02-01', '2026-03-01', 30, h) l GROUP BY h ORDER BY h;
-- A client that cannot show blocks gets ASCII.
SET client_encoding = 'LATIN1';
SELECT mau.chart('dau', '2026-02-01', '2026-02-28', 60, 4);
RESET client_encoding;
SELECT mau.chart('nobody');
SELECT mau.chart(NULL);
SELECT mau.chart(width => 29);
SELECT mau.chart(width => 1001);
SELECT mau.chart(height => 0);
SELECT mau.chart(height => 101);
SELECT mau.chart(platform => 'windows');
SELECT mau.chart(kind => 'human');
SELECT mau.chart('mau', '2026-02-02', '2026-02-01');
SELECT mau.chart('mau', 'infinity', NULL);
