-- Reading never stands still unnoticed: rows behind the reading position, a table that was reloaded or lost its newest rows, a position ahead
-- of the clock; and what mau.reconcile must not do.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-30 12:00+00'
\i :tables
CREATE FUNCTION ms(t timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM t) * 1000)::bigint $$;
CREATE PROCEDURE seen(first int, last int, ago interval DEFAULT NULL) LANGUAGE sql AS
$$ INSERT INTO user_ips (user_id, last_seen) SELECT '@u' || i || ':x', ms(t() - coalesce(ago, i * interval '1 day' - interval '1 hour')) FROM generate_series(first, last) i $$;
INSERT INTO users (name, creation_ts) SELECT '@u' || i || ':x', 1700000000 FROM generate_series(1, 40) i;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('users', 'joined');
-- Rows behind the position: the newest came first.
CALL seen(1, 10);
SELECT what, rows FROM mau.sync(t()) WHERE what = 'joined';
CALL seen(11, 20);
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT * FROM mau.reconcile(t());
SELECT mau.monthly_active_count(t());
SELECT last_rows, runs, failures FROM mau.tasks WHERE task = 'reconcile';
SELECT reconcile_differences FROM mau.status;
SELECT line FROM regexp_split_to_table(mau.metrics(t()), '\n') line WHERE line ~ '^mau_reconcile';
SELECT * FROM mau.reconcile(t());
-- It leaves alone the rows that sync has yet to read.
CALL seen(30, 30, '10 minutes');
SELECT * FROM mau.reconcile(t());
SELECT what, rows FROM mau.sync(t()) WHERE what = 'joined';
-- It takes ACCESS SHARE at most, and can be undone and run again.
INSERT INTO user_ips (user_id, last_seen) VALUES ('@u21:x', ms(t() - interval '20 days'));
BEGIN;
SELECT * FROM mau.reconcile(t());
SELECT DISTINCT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass) ORDER BY 1;
ROLLBACK;
SELECT * FROM mau.reconcile(t());
-- The table is loaded again, from a backup with more in it: another file.
BEGIN; TRUNCATE user_ips; CALL seen(1, 25); COMMIT;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT mau.monthly_active_count(t());
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
-- The newest rows are gone, in the same file: the position goes back.
DELETE FROM user_ips WHERE last_seen > ms(t() - interval '3 days');
CALL seen(26, 28, '10 days');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT mau.monthly_active_count(t());
SELECT activity_until = max(last_seen) AS is_the_newest FROM mau.source, user_ips GROUP BY activity_until;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
-- The clock was ahead once: the position lies in the future.
UPDATE mau.source SET activity_until = ms('2900-01-01'), synced_at = '2900-01-01', pass_from = ms('2900-01-01');
SELECT health, reason ~ 'ahead of the clock' AS says_so FROM mau.health();
CALL seen(29, 29, '1 hour');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT activity_until = ms(t() - interval '1 hour') AS is_the_newest, synced_at = t() AS synced, pass_from FROM mau.source;
SELECT reason ~ 'ahead of the clock' AS says_so FROM mau.health();
-- Nor does a sync by hand for a future instant move it there; its rows wait.
INSERT INTO user_ips (user_id, last_seen) VALUES ('@u31:x', ms('2899-12-31'));
SELECT count(*) > 0 AS synced FROM mau.sync('2900-01-01');
SELECT activity_until = ms(t() - interval '1 hour') AS stays, synced_at <= clock_timestamp() AS synced_by_now FROM mau.source;
DELETE FROM user_ips WHERE user_id = '@u31:x';
-- A guest's row differs once.
UPDATE users SET is_guest = 1 WHERE name = '@u32:x';
CALL seen(32, 32, '5 days');
SELECT what, rows FROM mau.sync(t()) WHERE what = 'users';
SELECT * FROM mau.reconcile(t());
SELECT * FROM mau.reconcile(t());
-- A forgotten user does not come back.
SELECT mau.forget_user('@u5:x');
SELECT * FROM mau.reconcile(t());
SELECT mau.last_seen('@u5:x');
-- Under a limit nobody gets a seat while none is free.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
CALL seen(33, 33, '6 days');
SELECT * FROM mau.reconcile(t());
UPDATE mau.settings SET max_mau_value = 100;
SELECT * FROM mau.reconcile(t());
SELECT mau.last_seen('@u33:x') = t() - interval '6 days' AS is_kept;
-- A source without users of its own, and none at all.
SELECT * FROM mau.detach();
SELECT * FROM mau.reconcile(t());
CREATE TABLE seen AS SELECT '@c' || i || ':x' AS user_id, ms(t() - i * interval '1 day') AS last_seen FROM generate_series(1, 3) i;
INSERT INTO mau.custom_source VALUES ('activity', 'SELECT user_id, last_seen FROM {schema}.seen');
SELECT what, rows FROM mau.attach('custom', 'public', t()) WHERE what = 'joined';
INSERT INTO seen SELECT '@c' || i || ':x', ms(t() - i * interval '1 day') FROM generate_series(4, 6) i;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT * FROM mau.reconcile(t());
DELETE FROM seen WHERE last_seen > ms(t() - interval '3 days');
INSERT INTO seen SELECT '@c7:x', ms(t() - interval '7 days');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'differed');
SELECT mau.reconcile(NULL);
