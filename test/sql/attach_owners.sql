-- The homeserver's tables are read with the rights of their one owner, or of the role that attached. Everything that is read counts, and no
-- code runs with more rights than its owner has. planted.note() writes down whose rights it has.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE ROLE regress_mau_hs;
CREATE ROLE regress_mau_planter;
CREATE ROLE regress_mau_reader;
CREATE EXTENSION mau;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
-- Errors are shown without their place in the source.
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    message text; detail text; hint text; state text;
BEGIN
    EXECUTE statement;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, state = RETURNED_SQLSTATE;
    RETURN concat_ws(E'\n', state || ': ' || message, nullif(detail, ''), nullif(hint, ''));
END $$;

CREATE SCHEMA planted AUTHORIZATION regress_mau_planter;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
SET SESSION AUTHORIZATION regress_mau_planter;
CREATE TABLE planted.diary (who text);
GRANT ALL ON planted.diary TO PUBLIC;
CREATE FUNCTION planted.note() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO planted.diary VALUES (current_user); RETURN true; END $$;
RESET SESSION AUTHORIZATION;
CREATE SCHEMA hs AUTHORIZATION regress_mau_hs;
GRANT USAGE, CREATE ON SCHEMA hs TO regress_mau_planter;
SET SESSION AUTHORIZATION regress_mau_hs;
CREATE TABLE hs.users (name text, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text, deactivated smallint NOT NULL DEFAULT 0);
CREATE TABLE hs.user_ips (user_id text NOT NULL, user_agent text NOT NULL DEFAULT '', last_seen bigint NOT NULL);
CREATE INDEX ON hs.user_ips (last_seen);
CREATE TABLE hs.user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL);
INSERT INTO hs.users (name, creation_ts) VALUES ('@a:x', 1700000000);
INSERT INTO hs.user_ips VALUES ('@a:x', '', extract(epoch FROM t() - interval '1 hour') * 1000);
RESET SESSION AUTHORIZATION;

-- Attaches, syncs and asks; returns the messages, and the roles with whose rights code ran.
CREATE FUNCTION attach_and_read(schema name DEFAULT 'hs', kind text DEFAULT 'synapse') RETURNS TABLE (step text, said text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT 'attach', try(format('SELECT mau.attach(%L, %L, t())', kind, schema));
    IF EXISTS (SELECT FROM mau.source) THEN
        PERFORM mau.sync(t());
        RETURN QUERY SELECT 'sync', coalesce((SELECT trouble FROM mau.source), 'done');
        RETURN QUERY SELECT 'usage', try('SELECT mau.usage_statistics(t())');
    END IF;
    PERFORM mau.detach();
    RETURN QUERY SELECT 'code ran as', string_agg(DISTINCT who, ', ') FROM planted.diary;
    TRUNCATE planted.diary;
END $$;
SELECT * FROM attach_and_read();

-- A view by the name of a table that is missing: before attach, and after it.
SET SESSION AUTHORIZATION regress_mau_planter;
CREATE VIEW hs.user_daily_visits AS SELECT '@p:x'::text AS user_id, 0::bigint AS "timestamp", ''::text AS user_agent WHERE planted.note();
GRANT SELECT ON hs.user_daily_visits TO PUBLIC;
RESET SESSION AUTHORIZATION;
SELECT * FROM attach_and_read();
ALTER VIEW hs.user_daily_visits RENAME TO later;
SELECT try($$SELECT mau.attach('synapse', 'hs', t())$$);
ALTER VIEW hs.later RENAME TO user_daily_visits;
SELECT mau.sync(t());
SELECT trouble, trouble_sqlstate FROM mau.source;
SELECT health, reason FROM mau.health();
SELECT try('SELECT mau.usage_statistics(t())');
SELECT * FROM planted.diary;
SELECT mau.detach();
DROP VIEW hs.user_daily_visits;

-- A foreign table, a partition, a child of another owner.
CREATE FOREIGN DATA WRAPPER regress_mau_fdw;
CREATE SERVER regress_mau_server FOREIGN DATA WRAPPER regress_mau_fdw;
CREATE FOREIGN TABLE hs.user_daily_visits (user_id text, "timestamp" bigint, user_agent text) SERVER regress_mau_server;
ALTER FOREIGN TABLE hs.user_daily_visits OWNER TO regress_mau_planter;
SELECT * FROM attach_and_read();
DROP FOREIGN TABLE hs.user_daily_visits;
CREATE TABLE hs.child () INHERITS (hs.user_ips);
ALTER TABLE hs.child OWNER TO regress_mau_planter;
SELECT * FROM attach_and_read();
DROP TABLE hs.child;
CREATE TABLE hs.user_daily_visits (user_id text, "timestamp" bigint, user_agent text) PARTITION BY RANGE ("timestamp");
ALTER TABLE hs.user_daily_visits OWNER TO regress_mau_hs;
CREATE TABLE hs.part PARTITION OF hs.user_daily_visits DEFAULT;
ALTER TABLE hs.part OWNER TO regress_mau_planter;
SELECT * FROM attach_and_read();
ALTER TABLE hs.part OWNER TO regress_mau_hs;
SELECT * FROM attach_and_read();
DROP TABLE hs.user_daily_visits;

-- The owner's view runs the owner's code as the owner, and nobody else's.
SET SESSION AUTHORIZATION regress_mau_hs;
CREATE FUNCTION hs.note() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO planted.diary VALUES (current_user); RETURN true; END $$;
CREATE VIEW hs.user_daily_visits AS SELECT '@a:x'::text AS user_id, 0::bigint AS "timestamp", ''::text AS user_agent WHERE hs.note();
RESET SESSION AUTHORIZATION;
SELECT * FROM attach_and_read();
CREATE OR REPLACE VIEW hs.user_daily_visits AS SELECT '@a:x'::text AS user_id, 0::bigint AS "timestamp", ''::text AS user_agent WHERE planted.note();
SELECT * FROM attach_and_read();
-- So it is with what superusers own, which pg_read_all_data reads.
CREATE SCHEMA super;
CREATE TABLE super.users (LIKE hs.users INCLUDING ALL);
CREATE TABLE super.user_ips (LIKE hs.user_ips INCLUDING ALL);
CREATE TABLE super.user_threepids (LIKE hs.user_threepids INCLUDING ALL);
SELECT * FROM attach_and_read('super');
CREATE VIEW super.user_daily_visits AS SELECT '@a:x'::text AS user_id, 0::bigint AS "timestamp", ''::text AS user_agent FROM hs.user_daily_visits;
SELECT * FROM attach_and_read('super');
DROP SCHEMA super CASCADE;
DROP VIEW hs.user_daily_visits;

-- A cast, a domain, a generated column and an index on an expression.
CREATE TYPE planted.odd AS (agent text);
ALTER TYPE planted.odd OWNER TO regress_mau_planter;
CREATE FUNCTION planted.odd_to_text(odd planted.odd) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM planted.note(); RETURN odd.agent; END $$;
ALTER FUNCTION planted.odd_to_text OWNER TO regress_mau_planter;
CREATE CAST (planted.odd AS text) WITH FUNCTION planted.odd_to_text(planted.odd);
ALTER TABLE hs.user_ips ALTER user_agent DROP DEFAULT, ALTER user_agent TYPE planted.odd USING ROW(user_agent)::planted.odd;
SELECT * FROM attach_and_read();
ALTER TABLE hs.user_ips ALTER user_agent TYPE text USING '';
CREATE FUNCTION planted.fine(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN planted.note(); END $$;
CREATE DOMAIN planted.agent AS text CHECK (planted.fine(VALUE));
ALTER TABLE hs.user_ips ALTER user_agent TYPE planted.agent, ADD made boolean GENERATED ALWAYS AS (planted.fine(user_id)) STORED;
CREATE INDEX ON hs.user_ips (planted.fine(user_id));
TRUNCATE planted.diary;
SELECT * FROM attach_and_read();
DROP DOMAIN planted.agent CASCADE;
ALTER TABLE hs.user_ips DROP COLUMN IF EXISTS user_agent, ADD user_agent text NOT NULL DEFAULT '';

-- Custom queries: the tables and functions that they name have one owner, and so have those in the query for usage.
INSERT INTO mau.custom_source VALUES ('activity', 'SELECT user_id, last_seen FROM {schema}.user_ips');
SELECT * FROM attach_and_read(kind => 'custom');
INSERT INTO mau.custom_source VALUES ('usage', 'SELECT ''{}''::jsonb AS usage WHERE planted.note()');
SELECT * FROM attach_and_read(kind => 'custom');
UPDATE mau.custom_source SET query = 'SELECT ''{}''::jsonb AS usage WHERE hs.note()' WHERE part = 'usage';
SELECT * FROM attach_and_read(kind => 'custom');
DELETE FROM mau.custom_source;

-- The role that attached is no superuser: tables are read with its rights, and no other role's code runs with them.
GRANT USAGE ON SCHEMA hs TO regress_mau_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA hs TO regress_mau_reader;
GRANT USAGE ON SCHEMA mau TO regress_mau_reader;
GRANT ALL ON ALL TABLES IN SCHEMA mau TO regress_mau_reader;
GRANT ALL ON ALL SEQUENCES IN SCHEMA mau TO regress_mau_reader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO regress_mau_reader;
SET SESSION AUTHORIZATION regress_mau_reader;
SELECT try($$SELECT mau.attach('synapse', 'hs', t())$$);
RESET SESSION AUTHORIZATION;
-- Nor does code of an index, of statistics or of a constraint run, which the planner would evaluate.
SET SESSION AUTHORIZATION regress_mau_hs;
CREATE FUNCTION hs.fine(value text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN hs.note(); END $$;
RESET SESSION AUTHORIZATION;
CREATE INDEX planted_index ON hs.user_ips (last_seen) WHERE hs.fine('x'); TRUNCATE planted.diary;
SELECT mau.sync(t());
SELECT trouble, (SELECT string_agg(who, ', ') FROM planted.diary) AS code_ran_as FROM mau.source;
DROP INDEX hs.planted_index;
CREATE STATISTICS hs.planted_statistics ON last_seen, (hs.fine(user_id)) FROM hs.user_ips; TRUNCATE planted.diary;
SELECT mau.sync(t());
SELECT trouble, (SELECT string_agg(who, ', ') FROM planted.diary) AS code_ran_as FROM mau.source;
DROP STATISTICS hs.planted_statistics;
CREATE TABLE hs.planted_child (CHECK (hs.fine('x'))) INHERITS (hs.user_ips); TRUNCATE planted.diary;
SELECT mau.sync(t());
SELECT trouble, (SELECT string_agg(who, ', ') FROM planted.diary) AS code_ran_as FROM mau.source;
DROP TABLE hs.planted_child;
SELECT what FROM mau.sync(t()) WHERE what = 'trouble';
TRUNCATE planted.diary;
SET SESSION AUTHORIZATION regress_mau_planter;
CREATE VIEW hs.user_daily_visits AS SELECT '@p:x'::text AS user_id, 0::bigint AS "timestamp", ''::text AS user_agent WHERE planted.note();
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_mau_reader;
-- It may not be read yet; its owner may grant that at any time.
SELECT try('SELECT mau.usage_statistics(t())');
RESET SESSION AUTHORIZATION;
GRANT SELECT ON hs.user_daily_visits TO regress_mau_reader;
SET SESSION AUTHORIZATION regress_mau_reader;
SELECT try('SELECT mau.usage_statistics(t())');
SELECT mau.sync(t());
RESET SESSION AUTHORIZATION;
SELECT trouble FROM mau.source;
SELECT * FROM planted.diary;
SELECT mau.detach();

DROP OWNED BY regress_mau_hs, regress_mau_planter, regress_mau_reader CASCADE;
DROP ROLE regress_mau_hs, regress_mau_planter, regress_mau_reader;
