-- When the table of activity was replaced, all days and clients of the window reach the history, not only each user's newest row.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE FUNCTION days() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(to_char(d.day, 'MM-DD') || ' ' || d.platform, ', ' ORDER BY d.day, d.platform)
    FROM (SELECT day, platform FROM mau.active_days UNION SELECT day, platform FROM mau.visits) d $$;
INSERT INTO users (name, creation_ts) SELECT '@' || n || ':x', 1600000000 FROM unnest('{a,b,forgotten}'::text[]) n;
INSERT INTO user_ips VALUES ('@a:x', 'Mozilla/5.0', ago('1 day'));
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
SELECT mau.forget_user('@forgotten:x');
SELECT days();
BEGIN;
TRUNCATE user_ips;
INSERT INTO user_ips VALUES ('@a:x', 'Mozilla/5.0', ago('1 day')), ('@a:x', 'Element/1.6 (Android 14)', ago('5 days')),
    ('@b:x', 'Element/1.11 (iPhone; iOS 17)', ago('2 days')), ('@b:x', 'Mozilla/5.0', ago('4 days')), ('@forgotten:x', 'Mozilla/5.0', ago('3 days'));
COMMIT;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
-- 0 unknown, of the newest row that was missed, 1 web, 3 android, 4 ios.
SELECT days();
SELECT count(*) FROM mau.users WHERE user_id = '@forgotten:x';
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
DROP EXTENSION mau;
