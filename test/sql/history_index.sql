-- A question about the history reads the users who do not count through the index users_not_counted, not all of mau.users.
CREATE EXTENSION mau;
INSERT INTO mau.users (user_id, is_registered, is_guest, user_type)
    SELECT '@' || n || ':x', true, n % 1000 = 0, CASE WHEN n % 1000 = 1 THEN 'support' END FROM generate_series(1, 20000) n;
ANALYZE mau.users;
INSERT INTO mau.visits SELECT n, '2026-06-15', 1, 'native' FROM generate_series(1, 2000) n;
SELECT rows FROM mau.fold('2026-06-16 00:00+00') WHERE what = 'visits';
CREATE FUNCTION scans() RETURNS bigint LANGUAGE sql AS $$ SELECT pg_stat_get_xact_numscans('mau.users_not_counted'::regclass) $$;
BEGIN;
SELECT day, dau FROM mau.daily_series('2026-06-15', '2026-06-15');
SELECT scans() > 0 AS through_the_index;
SELECT scans() AS before \gset
SELECT day, dau FROM mau.daily_series('2026-06-15', '2026-06-15', kind => 'support');
SELECT scans() > :before AS through_the_index;
COMMIT;
DROP FUNCTION scans;
DROP EXTENSION mau;
