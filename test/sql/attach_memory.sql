-- The rows that attach and reconcile read and write do not stay in memory: while the last row of 20 000 is read, SPI's memory, which lives as long as the
-- statement, holds few of them, and subtransactions that are over have left none. Rows that attach updates after it has inserted them need few
-- combo command ids, of which a transaction keeps all.
SET client_min_messages = warning;
CREATE EXTENSION mau;
CREATE ROLE regress_mau_owner;
GRANT pg_read_all_stats TO regress_mau_owner;
CREATE SCHEMA theirs AUTHORIZATION regress_mau_owner;
SET ROLE regress_mau_owner;
CREATE TABLE theirs.users (name text UNIQUE, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text, deactivated smallint NOT NULL DEFAULT 0);
CREATE TABLE theirs.rows (user_id text NOT NULL, user_agent text NOT NULL DEFAULT '', last_seen bigint NOT NULL);
CREATE TABLE theirs.user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL);
CREATE SEQUENCE theirs.peak MINVALUE 0;
CREATE SEQUENCE theirs.subtransactions MINVALUE 0;
CREATE FUNCTION theirs.look(n int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF n % 1000 = 0 THEN
        PERFORM setval('theirs.peak', greatest((SELECT last_value FROM theirs.peak), (SELECT sum(used_bytes)::bigint FROM pg_backend_memory_contexts WHERE name ~ '^SPI')));
        PERFORM setval('theirs.subtransactions', greatest((SELECT last_value FROM theirs.subtransactions), (SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'CurTransactionContext')));
    END IF;
    RETURN '';
END $$;
INSERT INTO theirs.users (name, creation_ts) SELECT '@' || i || repeat('x', 100) || ':x', 1700000000 FROM generate_series(1, 20000) i;
CREATE VIEW theirs.user_ips AS SELECT name || theirs.look(substring(name FROM '\d+')::int) AS user_id, ''::text AS user_agent, 1782734400000 + 1000 * substring(name FROM '\d+')::bigint AS last_seen FROM theirs.users;
RESET ROLE;
-- All of them guests, whose sightings are in mau.users.
BEGIN;
UPDATE theirs.users SET is_guest = 1;
SELECT what, rows FROM mau.attach('synapse', 'theirs', '2026-06-30 13:00+00') WHERE what IN ('users', 'guest');
SELECT sum(used_bytes) < 100000 AS is_small FROM pg_backend_memory_contexts WHERE name = 'Combo CIDs';
ROLLBACK;
-- All of them members.
SELECT what, rows FROM mau.attach('synapse', 'theirs', '2026-06-30 13:00+00') WHERE what IN ('users', 'joined');
SELECT last_value > 0 AS was_looked_at, last_value < 2500000 AS is_small FROM theirs.peak;
TRUNCATE mau.monthly_active_users;
SELECT rows > 19000 AS most_differed FROM mau.reconcile('2026-06-30 13:00+00') WHERE what = 'differed';
SELECT last_value < 2500000 AS is_small FROM theirs.peak;
SELECT last_value < 5 AS are_few FROM theirs.subtransactions;
DROP EXTENSION mau;
DROP SCHEMA theirs CASCADE;
DROP ROLE regress_mau_owner;
