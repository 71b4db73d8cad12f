-- attach takes its members from Synapse's table monthly_active_users: users whose rows in user_ips were pruned are members, users whom
-- Synapse's reaper removed are not.
SET client_min_messages = warning;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-30 12:00+00'
\i :tables
CREATE TABLE monthly_active_users (user_id text NOT NULL UNIQUE, "timestamp" bigint NOT NULL);
INSERT INTO users (name, creation_ts) SELECT '@' || n || ':x', 1700000000 FROM unnest('{both,pruned,late,out,just_out,new,gone}'::text[]) n;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@both:x', ago('2 days')), ('@late:x', ago('3 h')), ('@out:x', ago('10 days')), ('@just_out:x', ago('61 min')), ('@new:x', ago('59 min'));
-- Renewed when it is older than an hour; put out are two; one is newer than anything in the table; one expired, and was not reaped yet.
INSERT INTO monthly_active_users VALUES ('@both:x', ago('2 days 30 min')), ('@pruned:x', ago('29 days')), ('@late:x', ago('2 h')), ('@gone:x', ago('31 days'));
CREATE EXTENSION mau;
SELECT * FROM mau.attach('synapse', 'public', t());
SELECT user_id, (ago('0') - "timestamp") / 60000 AS minutes_ago FROM mau.monthly_active_users WHERE "timestamp" >= ago('30 days') ORDER BY "timestamp";
SELECT mau.monthly_active_count(t()), mau.last_seen('@out:x') = t() - interval '10 days' AS out_is_kept, mau.last_seen('@gone:x') = t() - interval '31 days' AS gone_is_kept;
-- It stays so: within the overlap, and when all is compared.
SELECT * FROM mau.sync(t());
SELECT what, rows FROM mau.reconcile(t());
SELECT mau.monthly_active_count(t());
-- Seen again, they are judged again.
INSERT INTO user_ips (user_id, last_seen) VALUES ('@out:x', ago('0')), ('@just_out:x', ago('0'));
SELECT what, rows FROM mau.sync(t()) WHERE what = 'joined';
-- Pruned members have their day in the history.
SELECT mau.active_users('1 day', t() - interval '29 days' + interval '1 h') AS that_day;
-- A table that Synapse keeps no longer says nothing.
DROP EXTENSION mau;
UPDATE monthly_active_users SET "timestamp" = "timestamp" - 86400000 * 2::bigint;
CREATE EXTENSION mau;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
SELECT mau.monthly_active_count(t());
-- Nor does one that cannot be read.
DROP EXTENSION mau;
ALTER TABLE monthly_active_users RENAME TO members;
CREATE VIEW monthly_active_users AS SELECT user_id, "timestamp" / (length(user_id) - length(user_id)) AS "timestamp" FROM members;
CREATE EXTENSION mau;
SELECT * FROM mau.attach('synapse', 'public', t());
SELECT mau.monthly_active_count(t());
-- Without the table, the members are those of user_ips, and attach says so.
DROP EXTENSION mau;
DROP VIEW monthly_active_users;
CREATE EXTENSION mau;
SELECT * FROM mau.attach('synapse', 'public', t());
SELECT mau.monthly_active_count(t());
