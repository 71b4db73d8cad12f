-- Tables of mau that are not ordinary local tables: functions that would read only their own heap raise 55000,
-- and health says so. 400_citus.pl has the tables of Citus.
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
-- The result of a query, or its error.
CREATE FUNCTION answer(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text; detail text; hint text;
BEGIN
    EXECUTE query INTO found;
    RETURN found;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN format('%s: %s. %s %s', SQLSTATE, SQLERRM, detail, hint);
END $$;
CREATE EXTENSION mau;
SELECT mau.record_activity('@u1:x', t()), mau.record_activity('@u2:x', t());
SELECT what, rows FROM mau.fold(t());
SELECT answer('SELECT mau.days_active(t())');
SELECT * FROM mau.unsupported_tables();

-- Children. The same session has read the table before.
CREATE TABLE child () INHERITS (mau.active_days);
SELECT answer('SELECT mau.days_active(t())');
SELECT answer('SELECT mau.fold(t())');
SELECT * FROM mau.health(t());
SELECT health, reason FROM mau.status;
-- It does not concern calls.
SELECT mau.record_activity('@u3:x', t());
DROP TABLE child;
SELECT what, rows FROM mau.fold(t());
SELECT answer('SELECT mau.days_active(t())');
SELECT * FROM mau.unsupported_tables();
CREATE TABLE child () INHERITS (mau.monthly_active_users);
SELECT answer($$SELECT mau.record_activity('@u4:x', t())$$);
SELECT answer($$SELECT mau.admit('@u4:x', t())$$);
SELECT answer('SELECT mau.reap(t())');
DROP TABLE child;
CREATE TABLE child () INHERITS (mau.settings);
SELECT answer($$SELECT mau.record_activity('@u4:x', t())$$);
DROP TABLE child;
SELECT mau.record_activity('@u4:x', t());

-- Another kind of relation in the place of a table.
BEGIN;
ALTER TABLE mau.active_days RENAME TO local_days;
CREATE TABLE mau.active_days (LIKE mau.local_days INCLUDING DEFAULTS) PARTITION BY LIST (service);
CREATE TABLE part PARTITION OF mau.active_days DEFAULT;
INSERT INTO mau.active_days SELECT * FROM mau.local_days;
SELECT answer('SELECT mau.days_active(t())');
SELECT table_name, reason FROM mau.unsupported_tables();
ROLLBACK;
BEGIN;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
ALTER TABLE mau.visits RENAME TO local_visits;
CREATE FOREIGN TABLE mau.visits (user_no bigint, day date, platform smallint, service text) SERVER nowhere;
SELECT answer('SELECT mau.fold(t())');
SELECT table_name, reason FROM mau.unsupported_tables();
ROLLBACK;
BEGIN;
ALTER TABLE mau.user_threepids RENAME TO local_threepids;
CREATE VIEW mau.user_threepids AS SELECT * FROM mau.local_threepids;
SELECT table_name, reason FROM mau.unsupported_tables();
ROLLBACK;
BEGIN;
CREATE TABLE whole (LIKE mau.visits) PARTITION BY RANGE (user_no);
ALTER TABLE whole ATTACH PARTITION mau.visits FOR VALUES FROM (0) TO (1000);
SELECT answer('SELECT mau.fold(t())');
SELECT table_name, reason FROM mau.unsupported_tables();
ROLLBACK;

-- Another name for PostgreSQL's own access method is no other way to store rows.
BEGIN;
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
ALTER TABLE mau.active_days SET ACCESS METHOD heap2;
ALTER TABLE mau.monthly_active_users SET ACCESS METHOD heap2;
SELECT * FROM mau.unsupported_tables();
SELECT mau.record_activity('@u5:x', t()), mau.monthly_active_count(t());
SELECT answer('SELECT mau.days_active(t())');
ROLLBACK;

-- Every table of mau is examined.
DO $$
DECLARE relation regclass;
BEGIN
    FOR relation IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'mau'::regnamespace AND c.relkind = 'r' LOOP
        EXECUTE format('CREATE TABLE child_%s () INHERITS (%s)', relation::oid, relation);
    END LOOP;
END $$;
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'mau'::regnamespace AND c.relkind = 'r'
EXCEPT SELECT split_part(u.table_name, '.', 2) FROM mau.unsupported_tables() u WHERE u.reason = 'has child tables';
SELECT health FROM mau.health(t());
