-- Every object of the extension is in its schema and has a COMMENT.
CREATE EXTENSION mau;
-- Its members that are not in schema mau.
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend d, pg_identify_object(classid, objid, objsubid) o
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mau') AND deptype = 'e'
    AND coalesce(o.schema, 'mau') <> 'mau' ORDER BY 1;
-- Objects of schema mau that are not its members. (Indexes, constraints, triggers and types go with their tables.)
SELECT 'table' AS kind, relname FROM pg_class c WHERE relnamespace = 'mau'::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'p', 'f')
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
UNION ALL SELECT 'function', proname FROM pg_proc p WHERE pronamespace = 'mau'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e');
-- Members without a comment.
SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mau') AND deptype = 'e'
    AND classid <> 'pg_type'::regclass -- the rows' types, which 17 lists too
    AND coalesce(obj_description(objid, classid::regclass::name), '') = '' ORDER BY 1;
-- Columns without a comment.
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'mau'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') AND attnum > 0 AND NOT attisdropped AND coalesce(col_description(attrelid, attnum), '') = '' ORDER BY 1, attnum;
-- The extension itself.
SELECT obj_description(oid, 'pg_extension') <> '' AS described FROM pg_extension WHERE extname = 'mau';
-- The comment of a function consists of sentences.
SELECT pg_describe_object(classid, objid, objsubid), obj_description(objid, classid::regclass::name) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mau') AND deptype = 'e' AND classid = 'pg_proc'::regclass
    AND obj_description(objid, 'pg_proc') !~ '\.$' ORDER BY 1;
-- Functions that take an instant: now() by default.
SELECT proname FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND 'at' = ANY (proargnames[1:pronargs]) AND proargtypes::oid[] @> ARRAY['timestamptz'::regtype::oid]
    AND pg_get_function_arguments(oid) !~ '"?at"? timestamp with time zone DEFAULT now\(\)' ORDER BY 1;
-- Arguments of one name have one type in every function (record_activities has an array of instants), and days are called from_day and to_day, that of a row day.
SELECT name, array_agg(DISTINCT type::regtype::text) FROM pg_proc, unnest(proargnames[1:pronargs], proargtypes::oid[]) a(name, type)
WHERE pronamespace = 'mau'::regnamespace GROUP BY name HAVING count(DISTINCT type) > 1 ORDER BY 1;
SELECT proname, name FROM pg_proc, unnest(proargnames[1:pronargs], proargtypes::oid[]) a(name, type) WHERE pronamespace = 'mau'::regnamespace AND type = 'date'::regtype AND name NOT IN ('from_day', 'to_day', 'day');
-- The comment of a function with arguments says the errors, or whose they are. (These have none.)
SELECT proname FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND pronargs > 0 AND obj_description(oid, 'pg_proc') !~ '(Errors|rrors as|raises)' ORDER BY 1;
-- Statements of functions in SQL or PL/pgSQL are safe whatever the search_path: it is set.
SELECT proname FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND prokind = 'f' AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') AND (proconfig IS NULL OR NOT proconfig::text ~ 'search_path=pg_catalog, pg_temp');
-- Installed and dropped again, it leaves nothing; in another schema it cannot be.
DROP EXTENSION mau;
SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'mau');
SELECT count(*) FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'mau');
CREATE EXTENSION mau SCHEMA public;
