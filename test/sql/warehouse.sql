-- The aggregates of the warehouse: any order of rows, arguments, errors. test/t/400_warehouse.pl compares their figures.
CREATE EXTENSION mau;
SET jit = off;
CREATE TABLE active (chunk int, day date, users bytea);
INSERT INTO active SELECT n / 65536, day, mau.bitmap_agg(n) FROM (VALUES (date '2024-01-01', '{1,2,3,65537}'::int8[]), ('2024-01-01', '{2,4}'),
    ('2024-01-03', '{1,5}'), ('2024-01-31', '{65537}'), ('-infinity', '{5}'), ('2024-02-05', '{1}')) v(day, users), unnest(users) n GROUP BY 1, 2, v.users;
SELECT chunk, day, users FROM active ORDER BY 1, 2, 3;
-- Any order of rows.
SELECT o, chunk, series, growth FROM unnest('{1,-1}'::int[]) o, LATERAL (SELECT chunk, mau.series('2024-01-01', '2024-01-05', 2, day, users, NULL ORDER BY o * length(users), o * (day - date '2024-01-01')) AS series,
    mau.series_growth('2024-01-03', '2024-01-05', 2, day, users, NULL ORDER BY o * length(users), users) AS growth FROM active WHERE day > '-infinity' GROUP BY chunk) a ORDER BY chunk, o;
SELECT mau.add(series) FROM (SELECT mau.series('2024-01-01', '2024-01-05', 30, day, users, NULL) AS series FROM active GROUP BY chunk) c;
-- User 5 is not new.
SELECT mau.series_growth('2024-01-03', '2024-01-03', 1, day, users, NULL) FROM active WHERE chunk = 0;
SELECT mau.series_r30v2('2024-01-31', '2024-02-05', day, users, NULL) FROM active GROUP BY chunk ORDER BY chunk;
-- Users 1 to 4 registered in January, user 9 in February; user 3 is left out.
SELECT mau.series_retention('month', '2024-01-15', '2024-02-15', day, users, registered, left_out) FROM (SELECT day, users, NULL::bytea AS registered, NULL::bytea AS left_out FROM active WHERE chunk = 0
    UNION ALL SELECT '2024-01-02', NULL, mau.bitmap_agg(n), mau.bitmap_agg(n) FILTER (WHERE n = 3) FROM generate_series(1::int8, 4) n UNION ALL SELECT '2024-02-02', NULL, mau.bitmap_agg(9), NULL) r;
-- Masks of several rows are united; large ones, too.
SELECT mau.series('2024-01-01', '2024-01-01', 1, day, users, left_out) FROM active, LATERAL (SELECT mau.bitmap_agg(n) FROM unnest('{2,3}'::int8[]) n GROUP BY n) m(left_out) WHERE chunk = 0;
CREATE TABLE large AS SELECT mau.bitmap_agg(n) AS left_out FROM generate_series(3::int8, 65535) n;
SELECT mau.series('2024-01-01', '2024-01-03', 1, day, users, left_out), max(length(left_out)) FROM active, large WHERE chunk = 0;
-- Groups without rows, rows without a day or a bitmap.
SELECT mau.series('2024-01-01', '2024-01-02', 1, day, users, NULL) IS NULL, mau.add(NULL) IS NULL, mau.bitmap_agg(NULL) IS NULL FROM active WHERE false;
SELECT mau.series('2024-01-01', '2024-01-02', NULL, NULL, users, NULL), mau.series_growth('2024-01-01', '2024-01-02', 1, day, NULL, NULL),
    mau.series_retention('week', '2024-01-01', '2024-01-02', day, NULL, NULL, NULL), mau.series_r30v2('2024-01-01', '2024-01-02', day, NULL, NULL) FROM active;
SELECT mau.bitmap_agg(n) FROM unnest('{NULL,7,NULL,7}'::int8[]) n;
-- Sums: NULL adds nothing, arrays of a table are not changed.
CREATE TABLE figures AS SELECT n, ARRAY[n, 10 * n] AS f FROM generate_series(1::int8, 3) n;
SELECT mau.add(f), mau.add(CASE WHEN n <> 2 THEN f END), mau.add(ARRAY[f, f]) FROM figures;
SELECT mau.add_step(a.f, b.f), a.f, b.f FROM figures a, figures b WHERE a.n = 1 AND b.n = 2;
SELECT n, mau.add(f) OVER (ORDER BY n) FROM figures;
SELECT mau.add('{}'::int8[]) FROM figures;
-- The last registration time that mau.users takes is in the year 3000, which the aggregates refuse.
INSERT INTO mau.users (user_id, registered_at, is_registered) VALUES ('@last:x', 32503679999999, true), ('@later:x', 32503680000000, true);
SELECT day FROM mau.registrations;
SELECT mau.series_retention('month', '2024-01-15', '2024-02-15', day, NULL, users, NULL) FROM mau.registrations;
DELETE FROM mau.users;
-- Refused.
\set SHOW_CONTEXT never
SELECT mau.series('2024-01-01', '2024-01-02', 1, day, users, NULL) FROM active;
SELECT mau.series(day, '2024-03-02', 1, day, users, NULL) FROM active WHERE chunk = 1;
SELECT mau.series('2024-01-02', '2024-01-01', 1, day, users, NULL) FROM active;
SELECT mau.series(NULL, '2024-01-01', 1, day, users, NULL) FROM active;
SELECT mau.series('2024-01-02', 'infinity', 1, day, users, NULL) FROM active;
SELECT mau.series('2024-01-02', '2024-01-02', 0, day, users, NULL) FROM active;
SELECT mau.series('2004-01-02', '2024-01-02', 1, day, users, NULL) FROM active;
SELECT mau.series_retention('day', '2022-01-02', '2024-01-02', day, users, NULL, NULL) FROM active;
SELECT mau.series_retention('year', '2022-01-02', '2024-01-02', day, users, NULL, NULL) FROM active;
SELECT mau.series('2024-01-02', '2024-01-02', 1, 'infinity', users, NULL) FROM active;
SELECT mau.series('2024-01-02', '2024-01-02', 1, '1969-12-31', users, NULL) FROM active;
SELECT mau.series('2024-01-02', '2024-01-03', 1, '2024-01-03', '\x00', NULL);
SELECT mau.series_growth('2024-01-02', '2024-01-03', 1, '-infinity', '', NULL);
SELECT mau.series('2024-01-02', '2024-01-03', 1, '2024-01-03', NULL, '\x3a30');
SELECT mau.series('2024-01-02', '2024-01-03', 1, day, users, (SELECT users FROM active WHERE chunk = 1 LIMIT 1)) FROM active WHERE chunk = 0;
SELECT mau.bitmap_agg(n) FROM unnest('{1,65536}'::int8[]) n;
SELECT mau.bitmap_agg(n) FROM unnest('{-1}'::int8[]) n;
SELECT mau.add(f) FROM (VALUES ('{1,2}'::int8[]), ('{1}')) v(f);
SELECT mau.add(f) FROM (VALUES ('{1,2}'::int8[]), ('{1,NULL}')) v(f);
SELECT mau.add(f) FROM (VALUES ('{9223372036854775807}'::int8[]), ('{1}')) v(f);
SELECT mau.series('2024-01-01', '2024-01-02', 1, day, users, NULL) OVER (ORDER BY day) FROM active WHERE chunk = 0;
-- The rows to copy: days that fold changed since the last copy, masks and registrations.
UPDATE mau.settings SET history_retention = '100 years', server_name = 'example.com';
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered, is_guest, user_type, appservice_id, is_deactivated) VALUES
    (1, '@a:x', 1704067200000, true, false, NULL, '', false), (2, '@b:x', 1704067199999, true, true, NULL, NULL, false), (3, '@c:x', NULL, true, false, 'support', NULL, true),
    (65536, '@d:x', 1704067200000, true, false, 'bot', 'irc', false), (65537, '@e:x', NULL, false, false, NULL, NULL, false);
INSERT INTO mau.visits VALUES (1, '2024-01-01', 1, 'native'), (65536, '2024-01-01', 0, 'irc');
SELECT count(*) FROM mau.export_days();
SELECT rows FROM mau.fold() WHERE what = 'visits';
SELECT server, chunk, day, service, platform, users FROM mau.export_days() ORDER BY chunk;
SELECT clock_timestamp() AS since \gset
INSERT INTO mau.visits VALUES (1, '2024-01-01', 1, 'native'), (2, '2023-12-31', 1, 'native');
SELECT rows FROM mau.fold() WHERE what = 'bitmaps';
SELECT chunk, day, service, platform, users FROM mau.export_days(:'since') ORDER BY chunk;
SELECT * FROM mau.masks ORDER BY chunk, kind;
SELECT * FROM mau.registrations ORDER BY chunk, day;
UPDATE mau.settings SET history_retention = (now() AT TIME ZONE 'UTC')::date - timestamp '2024-01-01', server_name = NULL;
UPDATE mau.active_days SET changed_at = (day + time '12:05') AT TIME ZONE 'UTC';
SELECT rows FROM mau.fold() WHERE what = 'purged';
SELECT server = current_database() AS named, day, purged_until, users FROM mau.export_days() ORDER BY chunk, day;
-- There is a gap if a day was purged that had changed since.
SET timezone = 'UTC';
SELECT count(*) FROM mau.export_days('2023-12-31 12:05Z');
SELECT * FROM mau.export_days('2023-12-31 12:04:59.999Z');
SELECT * FROM mau.export_days('-infinity');
SELECT * FROM mau.export_days('infinity');
RESET timezone;
\set VERBOSITY terse
SELECT FROM mau.export_days('2999-01-01');
\set VERBOSITY default
