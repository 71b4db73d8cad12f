-- Row security hides rows, so no figure is made of the rest: reading raises, and health says so.
\set SHOW_CONTEXT never
CREATE ROLE regress_mau_hs;
CREATE ROLE regress_mau_reader;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
-- An event trigger that switches it on for every new table is common.
CREATE FUNCTION auto_rls() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE c record; BEGIN
FOR c IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE command_tag = 'CREATE TABLE' AND object_identity ~ 'monthly_active_users|settings' LOOP
EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.object_identity); END LOOP; END $$;
CREATE EVENT TRIGGER regress_mau_rls ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION auto_rls();
CREATE EXTENSION mau;
DROP EVENT TRIGGER regress_mau_rls;
SELECT mau.grant_to('regress_mau_hs');
SELECT mau.record_activity('@u1:x', t()), mau.record_activity('@u2:x', t());
SELECT mau.monthly_active_count(t()), mau.active_users('1 day', t());
SELECT health, reason FROM mau.health();
SET ROLE regress_mau_hs;
SELECT health, reason FROM mau.health();
SELECT mau.monthly_active_count(t());
SELECT mau.active_users('1 day', t());
SELECT mau.last_seen('@u1:x');
SELECT * FROM mau.monthly_active_count_by_service(t());
SELECT * FROM mau.monthly_active_users_by_service();
SELECT mau.metrics(t());
SELECT mau.record_activity('@u3:x', t());
SELECT mau.admit('@u3:x', t());
RESET ROLE;
-- A later one hides other tables from the same session, which has the settings.
SELECT mau.row_security_off() \gexec
SELECT mau.row_security_off() IS NULL AS off;
SET ROLE regress_mau_hs;
SELECT mau.record_activity('@u3:x', t()), mau.monthly_active_count(t()), mau.active_users('1 day', t());
RESET ROLE;
ALTER TABLE mau.visits ENABLE ROW LEVEL SECURITY;
ALTER TABLE mau.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SET ROLE regress_mau_hs;
SELECT mau.days_active(t());
SELECT mau.record_activity('@u4:x', t());
RESET ROLE;
SELECT mau.grant_to('regress_mau_hs', 'monitoring');
SELECT mau.row_security_off();
SELECT mau.row_security_off() \gexec
SELECT mau.row_security_off() IS NULL AS off;
-- On each of the tables that are left.
INSERT INTO mau.reserved_threepids VALUES ('email', 'a@x');
ALTER TABLE mau.active_days ENABLE ROW LEVEL SECURITY;
SET ROLE regress_mau_hs;
SELECT health, reason FROM mau.health();
SELECT mau.days_active(t());
RESET ROLE;
ALTER TABLE mau.active_days DISABLE ROW LEVEL SECURITY;
ALTER TABLE mau.deferred_calls ENABLE ROW LEVEL SECURITY;
SET ROLE regress_mau_hs;
SELECT health, reason FROM mau.health();
SELECT mau.register_user('@u5:x');
RESET ROLE;
ALTER TABLE mau.deferred_calls DISABLE ROW LEVEL SECURITY;
ALTER TABLE mau.tasks ENABLE ROW LEVEL SECURITY;
SET ROLE regress_mau_hs;
SELECT health, reason FROM mau.health();
SELECT mau.monthly_active_count(t());
RESET ROLE;
ALTER TABLE mau.tasks DISABLE ROW LEVEL SECURITY;
ALTER TABLE mau.user_threepids ENABLE ROW LEVEL SECURITY;
SET ROLE regress_mau_hs;
SELECT health, reason FROM mau.health();
SELECT * FROM mau.registered_reserved_users();
RESET ROLE;
ALTER TABLE mau.user_threepids DISABLE ROW LEVEL SECURITY;
DELETE FROM mau.reserved_threepids;
REVOKE ALL ON ALL TABLES IN SCHEMA mau FROM regress_mau_hs;

-- The homeserver's own tables.
CREATE TABLE users (name text UNIQUE, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text, deactivated smallint NOT NULL DEFAULT 0);
CREATE TABLE user_ips (user_id text NOT NULL, user_agent text NOT NULL DEFAULT '', last_seen bigint NOT NULL);
CREATE INDEX ON user_ips (last_seen);
CREATE TABLE user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL);
INSERT INTO users (name, creation_ts) SELECT '@h' || i || ':x', 1700000000 FROM generate_series(1, 20) i;
INSERT INTO user_ips (user_id, last_seen) SELECT '@h' || i || ':x', floor(extract(epoch FROM t() - i * interval '1 hour') * 1000) FROM generate_series(1, 20) i;
ALTER TABLE users OWNER TO regress_mau_hs;
ALTER TABLE user_ips OWNER TO regress_mau_hs;
ALTER TABLE user_threepids OWNER TO regress_mau_hs;
TRUNCATE mau.monthly_active_users;
ALTER TABLE user_ips ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY one ON user_ips FOR SELECT USING (user_id = '@h1:x');
SELECT * FROM mau.attach('synapse', at => t());
ALTER TABLE user_ips NO FORCE ROW LEVEL SECURITY;
SELECT what, rows FROM mau.attach('synapse', at => t()) WHERE what IN ('users', 'joined');
ALTER TABLE user_ips FORCE ROW LEVEL SECURITY;
SELECT * FROM mau.sync(t());
SELECT health, reason FROM mau.health();
ALTER TABLE user_ips NO FORCE ROW LEVEL SECURITY;
SELECT count(*) FROM mau.sync(t()) WHERE what = 'trouble';
SELECT * FROM mau.detach();
-- A role that may read them, and from which the policy hides rows.
GRANT SELECT ON users, user_ips, user_threepids TO regress_mau_reader;
GRANT USAGE ON SCHEMA mau TO regress_mau_reader;
GRANT ALL ON ALL TABLES IN SCHEMA mau TO regress_mau_reader;
GRANT ALL ON ALL SEQUENCES IN SCHEMA mau TO regress_mau_reader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO regress_mau_reader;
SET SESSION AUTHORIZATION regress_mau_reader;
SELECT * FROM mau.attach('synapse', at => t());
SHOW row_security;
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_mau_reader BYPASSRLS;
SET SESSION AUTHORIZATION regress_mau_reader;
SELECT what, rows FROM mau.attach('synapse', at => t()) WHERE what IN ('users', 'sightings');
RESET SESSION AUTHORIZATION;
DROP OWNED BY regress_mau_hs, regress_mau_reader CASCADE;
DROP ROLE regress_mau_hs, regress_mau_reader;
