-- CREATE EXTENSION enters a schema mau that is there already only where nobody else can have put anything into it.
\set SHOW_CONTEXT never
CREATE ROLE regress_mau_planter;
GRANT CREATE ON DATABASE :DBNAME TO regress_mau_planter;
SET SESSION AUTHORIZATION regress_mau_planter;
CREATE SCHEMA mau;
CREATE FUNCTION mau.joined(numeric, bigint) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted operator called as %', current_user; END $$;
CREATE OPERATOR mau.* (FUNCTION = mau.joined, LEFTARG = numeric, RIGHTARG = bigint);
CREATE FUNCTION mau.joined(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted operator called as %', current_user; END $$;
CREATE OPERATOR mau.|| (FUNCTION = mau.joined, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION mau.nullif(bigint, integer) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted function called as %', current_user; END $$;
CREATE TYPE mau.odd AS (t text);
CREATE FUNCTION mau.odd_to_text(mau.odd) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted cast called as %', current_user; END $$;
CREATE CAST (mau.odd AS text) WITH FUNCTION mau.odd_to_text(mau.odd) AS IMPLICIT;
RESET SESSION AUTHORIZATION;
CREATE EXTENSION mau;
ALTER SCHEMA mau OWNER TO CURRENT_USER;
CREATE EXTENSION mau;
DROP SCHEMA mau CASCADE;

-- Each kind of object alone.
CREATE SCHEMA mau;
CREATE FUNCTION mau.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE EXTENSION mau;
DROP FUNCTION mau.f();
CREATE OPERATOR mau.* (FUNCTION = pg_catalog.numeric_mul, LEFTARG = numeric, RIGHTARG = numeric);
CREATE EXTENSION mau;
DROP OPERATOR mau.* (numeric, numeric);
CREATE DOMAIN mau.text AS integer;
CREATE EXTENSION mau;
DROP DOMAIN mau.text;
CREATE TABLE mau.t ();
CREATE EXTENSION mau;
DROP TABLE mau.t;
CREATE COLLATION mau."C" (locale = 'C');
CREATE EXTENSION mau;
DROP COLLATION mau."C";
-- Or another role may create objects in it while the script runs.
GRANT CREATE ON SCHEMA mau TO regress_mau_planter;
CREATE EXTENSION mau;
REVOKE CREATE ON SCHEMA mau FROM regress_mau_planter;
GRANT CREATE ON SCHEMA mau TO PUBLIC;
CREATE EXTENSION mau;
REVOKE CREATE ON SCHEMA mau FROM PUBLIC;
-- An empty schema of a superuser's is what a restore makes.
CREATE EXTENSION mau;
SELECT health FROM mau.status;
DROP EXTENSION mau;
DROP SCHEMA mau;
DROP OWNED BY regress_mau_planter;
DROP ROLE regress_mau_planter;

-- Operators of views are PostgreSQL's even where another operator comes into schema mau while the script runs, here by an event trigger:
-- the script's own search_path is without mau, which CREATE EXTENSION puts there.
CREATE FUNCTION plant() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'mau.settings') THEN
CREATE FUNCTION mau.mul(numeric, bigint) RETURNS numeric LANGUAGE sql AS 'SELECT 0.0';
CREATE OPERATOR mau.* (FUNCTION = mau.mul, LEFTARG = numeric, RIGHTARG = bigint);
END IF; END $$;
CREATE EVENT TRIGGER regress_mau_plant ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION plant();
CREATE EXTENSION mau;
DROP EVENT TRIGGER regress_mau_plant;
SELECT oid::regoperator FROM pg_operator WHERE oprnamespace = 'mau'::regnamespace;
SELECT DISTINCT o.oprnamespace::regnamespace FROM pg_depend d JOIN pg_operator o ON o.oid = d.refobjid
WHERE d.refclassid = 'pg_operator'::regclass AND d.classid = 'pg_rewrite'::regclass;
