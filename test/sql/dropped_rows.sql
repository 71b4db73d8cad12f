-- Triggers of an administrator that drop the rows which mau writes (BEFORE … RETURN NULL): nothing is acknowledged and lost. A call is
-- deferred and carried out once the trigger is gone; where that is not possible, it raises or is counted as lost.
CREATE EXTENSION mau;
CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION drops(relation text, what text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE format('CREATE TRIGGER drops BEFORE %s ON mau.%I FOR EACH ROW EXECUTE FUNCTION drop_row()', what, relation); END $$;
CREATE FUNCTION see(who text, at timestamptz DEFAULT '2026-06-01 12:00Z') RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@' || who || ':x', at) $$;
CREATE FUNCTION fold() RETURNS TABLE (what text, rows bigint) LANGUAGE sql AS $$ SELECT * FROM mau.fold('2026-06-01 13:00Z') $$;
CREATE VIEW kept AS SELECT function, user_id FROM mau.deferred_calls ORDER BY called_at;
SELECT see('m'), see('old', '2026-05-30 12:00Z');
-- Visits: the user's row may say already that they are in the history, so the call raises.
SELECT drops('visits', 'INSERT');
SELECT see('m', '2026-06-02 12:00Z');
\echo :LAST_ERROR_SQLSTATE
SELECT see('new');
DROP TRIGGER drops ON mau.visits;
SELECT see('m', '2026-06-02 12:00Z'), see('new');
SELECT day, count(*) FROM mau.visits GROUP BY 1 ORDER BY 1;
-- The cohort: new rows, and rows that move on.
SELECT drops('monthly_active_users', 'INSERT OR UPDATE');
SELECT see('q'), see('old'), mau.last_seen('@q:x'), mau.last_seen('@old:x') AT TIME ZONE 'UTC' AS old;
TABLE kept;
SELECT * FROM fold();
DROP TRIGGER drops ON mau.monthly_active_users;
TABLE kept;
SELECT see('q'), see('old');
SELECT * FROM fold();
TABLE kept;
SELECT user_id, to_timestamp("timestamp" / 1000) AT TIME ZONE 'UTC' AS at FROM mau.monthly_active_users ORDER BY 1;
-- Accounts and threepids.
SELECT drops('users', 'INSERT OR UPDATE'), drops('user_threepids', 'INSERT');
SELECT mau.register_user('@r:x', '2026-06-01 12:00Z'), mau.register_user('@m:x', '2026-05-01 12:00Z'), mau.add_threepid('@m:x', 'email', 'm@x');
UPDATE mau.settings SET mau_trial_days = 3650;
SELECT see('r');
TABLE kept;
SELECT * FROM fold();
DROP TRIGGER drops ON mau.users;
DROP TRIGGER drops ON mau.user_threepids;
SELECT what, rows FROM fold() WHERE what = 'calls';
TABLE kept;
SELECT user_id, is_registered FROM mau.users WHERE user_id IN ('@r:x', '@m:x') ORDER BY 1;
SELECT user_id, address FROM mau.user_threepids;
UPDATE mau.settings SET mau_trial_days = 0;
-- A deactivation that is not written is deferred, too; of a user who is not known there is nothing to write.
SELECT drops('users', 'UPDATE');
SELECT mau.deactivate_user('@r:x') AS known, mau.deactivate_user('@nobody:x') AS unknown;
TABLE kept;
DROP TRIGGER drops ON mau.users;
SELECT what, rows FROM fold() WHERE what = 'calls';
SELECT is_deactivated FROM mau.users WHERE user_id = '@r:x';
-- Where the rows of mau.deferred_calls are dropped, too, the call is lost, and the caller gets a warning.
SELECT drops('monthly_active_users', 'INSERT'), drops('deferred_calls', 'INSERT');
SELECT see('lost');
DROP TRIGGER drops ON mau.monthly_active_users;
DROP TRIGGER drops ON mau.deferred_calls;
-- A task raises: nothing was read for good.
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-01 12:00+00'
\i :tables
INSERT INTO users (name, creation_ts) VALUES ('@s:x', 1600000000);
INSERT INTO user_ips (user_id, last_seen) VALUES ('@s:x', ago('1 hour'));
SELECT drops('monthly_active_users', 'INSERT');
SELECT count(*) FROM mau.attach('synapse', 'public', t());
DROP TRIGGER drops ON mau.monthly_active_users;
SELECT drops('users', 'INSERT');
SELECT count(*) FROM mau.attach('synapse', 'public', t());
DROP TRIGGER drops ON mau.users;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
-- Calls from before the clock was set back, or with a time that was written by hand, are carried out.
INSERT INTO mau.deferred_calls (called_at, function, user_id, at, platform)
SELECT at, 'record_activity', '@' || n || ':x', ago('0'), 0 FROM unnest(ARRAY['infinity', now() + interval '1 year', '-infinity']::timestamptz[]) WITH ORDINALITY a(at, n);
SELECT what, rows FROM fold() WHERE what = 'calls';
TABLE kept;
