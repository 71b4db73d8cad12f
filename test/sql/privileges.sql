-- PUBLIC executes nothing that changes state, and each role can do what its grants allow and no more (rule R10).
CREATE EXTENSION mau;
-- Functions that change nothing, and are volatile because they read shared memory, or decide by what is committed now.
CREATE TABLE readers AS SELECT unnest('{seen_cache,lost_calls,describe_seats,worker_state,fleet,health,explain,check_auth_blocking,usage_statistics,metrics,samples}'::name[]) AS proname;
GRANT SELECT ON readers TO PUBLIC;
-- PUBLIC executes nothing that changes state, and reads no table.
SELECT proname FROM pg_proc p WHERE pronamespace = 'mau'::regnamespace AND provolatile = 'v' AND proname NOT IN (TABLE readers)
    AND EXISTS (SELECT FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0) ORDER BY 1;
SELECT relname FROM pg_class c WHERE relnamespace = 'mau'::regnamespace AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0);
SELECT nspname FROM pg_namespace WHERE nspname = 'mau' AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0);
-- Nothing runs with the rights of its owner.
SELECT proname FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND prosecdef;
-- Functions that change state are volatile and unsafe in parallel; functions that only read tables are not volatile.
SELECT proname, provolatile, proparallel FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND (provolatile = 'v') <> (proparallel = 'u')
    AND proname NOT IN (TABLE readers) ORDER BY 1;
SELECT proname, provolatile, proparallel FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND proname IN ('monthly_active_count', 'monthly_active_count_by_service',
    'monthly_active_users_by_service', 'active_users', 'last_seen', 'explain', 'check_auth_blocking', 'registered_reserved_users', 'fold_address', 'is_regex') AND provolatile = 'v' AND proname NOT IN (TABLE readers);
SELECT proname FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND proname IN ('record_activity', 'record_activities', 'admit', 'register_user', 'add_threepid', 'remove_threepid',
    'deactivate_user', 'forget_user', 'reap', 'config_changed', 'replace_settings') AND provolatile <> 'v';

-- A role without rights gets an error and changes nothing.
CREATE ROLE regress_mau_nobody;
CREATE FUNCTION public.try(sql text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; RETURN 'fine'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE TABLE calls (call text);
INSERT INTO calls VALUES ($$SELECT mau.record_activity('@a:x')$$), ($$SELECT mau.record_activities('{@a:x}', ARRAY[now()])$$), ($$SELECT mau.admit('@a:x')$$), ($$SELECT mau.check_auth_blocking('@a:x')$$),
    ($$SELECT mau.explain('@a:x')$$), ($$SELECT mau.monthly_active_count()$$), ($$SELECT mau.monthly_active_count_by_service()$$), ($$SELECT mau.monthly_active_users_by_service()$$), ($$SELECT mau.active_users()$$),
    ($$SELECT mau.last_seen('@a:x')$$), ($$SELECT mau.registered_reserved_users()$$), ($$SELECT mau.register_user('@a:x')$$), ($$SELECT mau.add_threepid('@a:x', 'email', 'a@x')$$),
    ($$SELECT mau.remove_threepid('@a:x', 'email', 'a@x')$$), ($$SELECT mau.deactivate_user('@b:x')$$), ($$SELECT mau.forget_user('@b:x')$$), ($$SELECT mau.reap()$$), ($$TABLE mau.settings$$), ($$UPDATE mau.settings SET max_mau_value = 1$$);
GRANT SELECT ON calls TO PUBLIC;
SET ROLE regress_mau_nobody;
SELECT DISTINCT try(call) FROM calls;
RESET ROLE;
-- With the schema: functions that read name the table that they may not read; the others may not be called.
GRANT USAGE ON SCHEMA mau TO regress_mau_nobody;
SET ROLE regress_mau_nobody;
SELECT call, try(call) FROM calls ORDER BY 1;
RESET ROLE;
-- With the functions, but not the tables.
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO regress_mau_nobody;
SET ROLE regress_mau_nobody;
SELECT call, try(call) FROM calls ORDER BY 1;
RESET ROLE;
SELECT (SELECT count(*) FROM mau.users), (SELECT count(*) FROM mau.monthly_active_users), (SELECT count(*) FROM mau.user_threepids);

-- A homeserver: everything but changing the configuration.
CREATE ROLE regress_mau_homeserver;
GRANT USAGE ON SCHEMA mau TO regress_mau_homeserver;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO regress_mau_homeserver;
GRANT SELECT ON ALL TABLES IN SCHEMA mau TO regress_mau_homeserver;
GRANT INSERT, UPDATE, DELETE ON mau.users, mau.monthly_active_users, mau.user_threepids, mau.deferred_calls, mau.tasks, mau.visits, mau.source_skipped TO regress_mau_homeserver;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10, mau_trial_days = 1;
INSERT INTO mau.reserved_threepids VALUES ('email', 'a@x');
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_}');
SET ROLE regress_mau_homeserver;
SELECT call, try(call) FROM calls ORDER BY 1;
SELECT mau.record_activity('@new:x'), mau.admit('@new:x');
SELECT mau.monthly_active_count();
-- Read only: a dashboard.
RESET ROLE;
CREATE ROLE regress_mau_reader;
GRANT USAGE ON SCHEMA mau TO regress_mau_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA mau TO regress_mau_reader;
SET ROLE regress_mau_reader;
SELECT call, try(call) FROM calls ORDER BY 1;
RESET ROLE;
DROP OWNED BY regress_mau_nobody, regress_mau_homeserver, regress_mau_reader;
DROP ROLE regress_mau_nobody, regress_mau_homeserver, regress_mau_reader;
