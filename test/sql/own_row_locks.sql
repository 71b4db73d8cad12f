-- A row that the transaction itself has locked is changed at once, in any subtransaction: its own lock makes no call wait, and
-- defers none (KeyedTable::update).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    AS $$ SELECT (timestamp '2020-11-21 12:00:00' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval) RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':x', t(i)) $$;
CREATE VIEW seen AS SELECT mau.last_seen('@member:x') - t('0') AS member, mau.last_seen('@guest:x') - t('0') AS guest,
    (SELECT count(*) FROM mau.deferred_calls) AS deferred;
SELECT mau.register_user('@guest:x', t('-2 days'), is_guest => true);
SELECT see('member', '0 days');
SELECT see('guest', '0 days');
\getenv folder PG_ABS_SRCDIR
\set steps :folder '/fixtures/own-row-locks.sql'
-- A member's row.
\set who member
\set table mau.monthly_active_users
\set strength UPDATE
\set day 1
\i :steps
\set strength 'KEY SHARE'
\set day 4
\i :steps
-- A row of mau.users.
\set who guest
\set table mau.users
\set strength UPDATE
\set day 1
\i :steps
\set strength 'KEY SHARE'
\set day 4
\i :steps
DROP VIEW seen;
DROP FUNCTION t, see;
DROP EXTENSION mau;
