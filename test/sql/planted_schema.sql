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

-- Operators of views are PostgreSQL's under any search_path.
CREATE SCHEMA planted;
CREATE FUNCTION planted.mul(numeric, bigint) RETURNS numeric LANGUAGE sql AS 'SELECT 0.0';
CREATE OPERATOR planted.* (FUNCTION = planted.mul, LEFTARG = numeric, RIGHTARG = bigint);
SET search_path = planted, pg_catalog;
CREATE EXTENSION mau;
SELECT pg_catalog.current_setting('search_path');
SELECT DISTINCT o.oprnamespace::pg_catalog.regnamespace FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) d.refobjid
WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass;
