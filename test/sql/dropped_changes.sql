-- Triggers of an administrator that drop what mau deletes and updates (BEFORE … RETURN NULL): nothing is lost, and nothing is acknowledged that
-- was not done. A report is deferred; tasks and functions raise, and change nothing.
CREATE EXTENSION mau;
SET client_min_messages = warning;
CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION drops(relation text, what text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN EXECUTE format('CREATE TRIGGER drops BEFORE %s ON mau.%I FOR EACH ROW EXECUTE FUNCTION drop_row()', what, relation); END $$;
CREATE FUNCTION ends(relation text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('DROP TRIGGER drops ON mau.%I', relation); END $$;
CREATE FUNCTION see(who text, at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@' || who || ':x', at) $$;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    EXECUTE statement INTO answer;
    RETURN answer;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
CREATE VIEW kept AS SELECT function, user_id, address FROM mau.deferred_calls ORDER BY called_at;
-- The last sighting of a member who leaves: by reap, for another one's seat, and by a deactivation.
SELECT see('old', '2026-04-01 12:00Z'), see('m', '2026-06-01 12:00Z');
SELECT drops('users', 'UPDATE');
SELECT try($$SELECT users FROM mau.reap('2026-06-01 12:00Z') WHERE what = 'expired'$$);
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2;
SELECT see('new', '2026-06-01 12:00Z');
TABLE kept;
SELECT mau.admit('@next:x', '2026-06-01 12:00Z') IS NULL AS let_in;
TABLE kept;
SELECT mau.last_seen('@old:x') = '2026-04-01 12:00Z' AS known;
SELECT ends('users');
SELECT what, rows FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
SELECT user_id FROM mau.monthly_active_users ORDER BY 1;
SELECT mau.last_seen('@old:x') = '2026-04-01 12:00Z' AS known;
UPDATE mau.settings SET limit_usage_by_mau = false, count_deactivated_users = false;
SELECT drops('monthly_active_users', 'DELETE');
SELECT mau.deactivate_user('@m:x');
TABLE kept;
SELECT ends('monthly_active_users');
SELECT what, rows FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
SELECT user_id, is_deactivated FROM mau.users WHERE user_id = '@m:x' AND NOT EXISTS (SELECT FROM mau.monthly_active_users m WHERE m.user_id = '@m:x');
-- A member who changes to the service of a bridge.
SELECT drops('monthly_active_users', 'UPDATE');
SELECT mau.register_user('@new:x', '2026-06-01 12:00Z', appservice_id => 'irc');
TABLE kept;
SELECT ends('monthly_active_users');
SELECT what, rows FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
SELECT service FROM mau.monthly_active_users WHERE user_id = '@new:x';
-- A threepid that is removed.
SELECT mau.add_threepid('@new:x', 'email', 'a@x');
SELECT drops('user_threepids', 'DELETE');
SELECT mau.remove_threepid('@new:x', 'email', 'a@x'), mau.remove_threepid('@new:x', 'email', 'other@x') AS other;
TABLE kept;
SELECT mau.deactivate_user('@new:x');
SELECT is_deactivated FROM mau.users WHERE user_id = '@new:x';
-- A user who is forgotten, wholly or not at all.
INSERT INTO mau.source_skipped (table_name, reason, row_key) VALUES ('t', 'r', '@new:x');
SELECT try($$SELECT mau.forget_user('@new:x')$$);
SELECT ends('user_threepids'), drops('monthly_active_users', 'DELETE');
SELECT try($$SELECT mau.forget_user('@new:x')$$);
SELECT ends('monthly_active_users'), drops('users', 'UPDATE');
SELECT try($$SELECT mau.forget_user('@new:x')$$);
SELECT ends('users'), drops('deferred_calls', 'DELETE');
SELECT try($$SELECT mau.forget_user('@new:x')$$);
SELECT ends('deferred_calls'), drops('source_skipped', 'DELETE');
SELECT try($$SELECT mau.forget_user('@new:x')$$);
SELECT ends('source_skipped');
SELECT (SELECT count(*) FROM mau.users WHERE user_id = '@new:x') AS users, (SELECT count(*) FROM mau.user_threepids) AS threepids, (SELECT count(*) FROM kept) AS kept;
SELECT mau.forget_user('@new:x'), mau.forget_user('@new:x') AS again;
SELECT (SELECT count(*) FROM mau.users WHERE user_id = '@new:x') AS users, (SELECT count(*) FROM mau.user_threepids) AS threepids, (SELECT count(*) FROM kept) AS kept;
-- The tasks: their own rows, a snapshot, purged days.
SELECT see('m', '2026-06-02 12:00Z');
SELECT drops('tasks', 'UPDATE');
SELECT try($$SELECT users FROM mau.reap('2026-06-01 12:00Z')$$), try($$SELECT rows FROM mau.fold('2026-06-01 13:00Z')$$);
SELECT ends('tasks'), drops('snapshots', 'INSERT');
SELECT try($$SELECT rows FROM mau.refresh('2026-06-03 12:00Z')$$);
SELECT ends('snapshots'), drops('active_days', 'DELETE');
SELECT rows > 0 AS folded FROM mau.fold('2026-06-03 13:00Z') WHERE what = 'visits';
UPDATE mau.settings SET history_retention = '1 day';
SELECT try($$SELECT rows FROM mau.fold('2026-06-03 13:00Z') WHERE what = 'purged'$$);
SELECT ends('active_days');
SELECT rows > 0 AS purged FROM mau.fold('2026-06-03 13:00Z') WHERE what = 'purged';
SELECT drops('worker_pause', 'INSERT');
SELECT try('SELECT mau.pause_worker()');
SELECT ends('worker_pause');
SELECT mau.pause_worker(), drops('worker_pause', 'DELETE');
SELECT try('SELECT mau.resume_worker()');
SELECT ends('worker_pause'), mau.resume_worker();
-- The source: its position, its comparison, its end.
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-03 12:00+00'
\i :tables
INSERT INTO users (name, creation_ts) VALUES ('@s:x', 1600000000);
INSERT INTO user_ips (user_id, last_seen) VALUES ('@s:x', ago('1 hour'));
INSERT INTO user_threepids (user_id, medium, address) VALUES ('@s:x', 'email', 's@x');
SELECT drops('source', 'INSERT');
SELECT try($$SELECT count(*) FROM mau.attach('synapse', 'public', t())$$);
SELECT ends('source'), drops('user_threepids', 'INSERT');
SELECT try($$SELECT count(*) FROM mau.attach('synapse', 'public', t())$$);
SELECT ends('user_threepids');
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('joined', 'threepids');
SELECT drops('source', 'UPDATE');
SELECT try($$SELECT what FROM mau.sync(t())$$);
SELECT ends('source'), drops('comparison', 'INSERT');
SELECT try($$SELECT what FROM mau.keep_comparison(t())$$);
SELECT ends('comparison'), drops('source', 'DELETE');
SELECT try('SELECT rows FROM mau.detach()');
SELECT ends('source');
SELECT what, rows FROM mau.detach();
