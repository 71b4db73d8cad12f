-- A homeserver's role and a monitoring role can do what their rights say, and no more.
CREATE EXTENSION mau;
\set SHOW_CONTEXT never
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10;
INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'a@x');
CREATE ROLE "regress_mau's server";
CREATE ROLE regress_mau_monitor;
CREATE FUNCTION public.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN EXECUTE sql; RETURN 'may'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE TABLE calls (no int GENERATED ALWAYS AS IDENTITY, call text);
INSERT INTO calls (call) VALUES
    ($$SELECT mau.register_user('@a:x', medium => 'email', address => 'a@x')$$),
    ($$SELECT mau.record_activity('@a:x', user_agent => 'Element')$$),
    ($$SELECT mau.record_activities('{@a:x,@b:x}', ARRAY[now(), now()])$$),
    ($$SELECT mau.admit('@c:x')$$),
    ($$SELECT mau.check_auth_blocking('@a:x')$$),
    ($$SELECT mau.add_threepid('@b:x', 'email', 'b@x')$$),
    ($$SELECT mau.remove_threepid('@b:x', 'email', 'b@x')$$),
    ($$SELECT mau.deactivate_user('@b:x')$$),
    ($$SELECT mau.forget_user('@b:x')$$),
    ($$SELECT mau.monthly_active_count()$$),
    ($$SELECT mau.monthly_active_count_by_service()$$),
    ($$SELECT mau.monthly_active_users_by_service()$$),
    ($$SELECT mau.active_users('7 days')$$),
    ($$SELECT mau.last_seen('@a:x')$$),
    ($$SELECT mau.registered_reserved_users()$$),
    ($$SELECT mau.explain('@a:x')$$),
    ($$SELECT mau.usage_statistics()$$),
    ($$SELECT mau.daily_series()$$),
    ($$SELECT mau.growth()$$),
    ($$SELECT mau.retention()$$),
    ($$SELECT mau.days_active()$$),
    ($$SELECT mau.active_users('60 days', min_days => 2)$$),
    ($$SELECT mau.r30v2()$$),
    ($$SELECT mau.r30v2_series()$$),
    ($$SELECT mau.r30()$$),
    ($$SELECT mau.billing_months()$$),
    ($$SELECT mau.forecast()$$),
    ($$SELECT mau.nodeinfo_usage()$$),
    ($$SELECT mau.chart()$$),
    ($$SELECT mau.metrics()$$),
    ($$SELECT mau.health()$$),
    ($$SELECT * FROM mau.status$$),
    ($$SELECT * FROM mau.snapshots$$),
    -- reserved to the owner of the extension
    ($$UPDATE mau.settings SET max_mau_value = 1$$),
    ($$DELETE FROM mau.reserved_threepids$$),
    ($$SELECT mau.attach('synapse')$$),
    ($$SELECT mau.detach()$$),
    ($$SELECT mau.sync()$$),
    ($$SELECT mau.refresh()$$),
    ($$SELECT mau.fold()$$),
    ($$SELECT mau.reap()$$),
    ($$SELECT mau.wake_worker()$$),
    ($$SELECT mau.grant_to('regress_mau_monitor')$$);
GRANT SELECT ON calls TO PUBLIC;
SELECT mau.grant_to('"regress_mau''s server"');
SELECT mau.grant_to('regress_mau_monitor', 'monitoring');
SET ROLE "regress_mau's server";
SELECT call, try(call) FROM calls ORDER BY no;
SET ROLE regress_mau_monitor;
SELECT call, try(call) FROM calls ORDER BY no;
RESET ROLE;

-- The homeserver's role cannot choose a user's number: one that the sequence has not given out yet would stop a new user.
SET ROLE "regress_mau's server";
SELECT try($$INSERT INTO mau.users (user_no, user_id) SELECT max(user_no) + 1, '@n:x' FROM mau.users$$) AS insert,
       try($$UPDATE mau.users SET user_no = user_no + 1$$) AS update;
SELECT mau.register_user('@guest:x', is_guest => true);
RESET ROLE;
-- It changes rows of mau.users in place all the same: a statement would fire a trigger.
BEGIN;
SET LOCAL track_functions = 'all';
SET LOCAL ROLE "regress_mau's server";
SELECT mau.record_activity('@guest:x', now() - interval '3 hours'), mau.record_activity('@guest:x');
SELECT count(*) AS fired FROM pg_stat_xact_user_functions WHERE funcname = 'users_changed';
UPDATE mau.users SET visited = visited WHERE false;
SELECT count(*) AS fired FROM pg_stat_xact_user_functions WHERE funcname = 'users_changed';
COMMIT;
SELECT now() - mau.last_seen('@guest:x') < interval '1 hour' AS recorded;

-- A role that may read the settings, but not the history, gets an error from every question of the history.
CREATE ROLE regress_mau_dashboard;
GRANT USAGE ON SCHEMA mau TO regress_mau_dashboard;
GRANT SELECT ON mau.settings, mau.reserved_threepids, mau.appservices, mau.users, mau.snapshots TO regress_mau_dashboard;
SET ROLE regress_mau_dashboard;
SELECT call, try(call) FROM calls WHERE call ~ 'daily_series|growth|retention|days_active|min_days|r30|billing|forecast|nodeinfo|chart|fold' ORDER BY no;
RESET ROLE;
DROP OWNED BY regress_mau_dashboard;
DROP ROLE regress_mau_dashboard;

-- It changes nothing the second time, and cannot be misunderstood.
SELECT mau.grant_to('regress_mau_monitor', 'monitoring');
SELECT mau.grant_to('regress_mau_nobody');
SELECT mau.grant_to('-'), mau.grant_to(NULL);
SELECT mau.grant_to('regress_mau_monitor', 'everything');
SELECT mau.grant_to('regress_mau_monitor', NULL);

-- A role that may execute it, but does not own the extension, grants nothing.
GRANT EXECUTE ON FUNCTION mau.grant_to TO regress_mau_monitor;
SET ROLE regress_mau_monitor;
SELECT mau.grant_to('regress_mau_monitor');
RESET ROLE;
SELECT has_function_privilege('regress_mau_monitor', 'mau.admit(text, timestamptz, text)', 'EXECUTE');

-- Nobody's search_path leads it astray.
CREATE SCHEMA trap;
CREATE FUNCTION trap.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
SET search_path = trap, pg_catalog;
SELECT mau.grant_to('regress_mau_monitor', 'monitoring');
RESET search_path;

-- And all is taken back so.
REVOKE ALL ON ALL TABLES IN SCHEMA mau FROM "regress_mau's server", regress_mau_monitor;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA mau FROM "regress_mau's server", regress_mau_monitor;
REVOKE ALL ON SCHEMA mau FROM "regress_mau's server", regress_mau_monitor;
DROP ROLE "regress_mau's server", regress_mau_monitor;
