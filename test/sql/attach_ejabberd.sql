-- ejabberd: users.created_at is read in the time zone of the role that writes it, whatever this session's is, and attach says if that is not
-- known. A banned account is a deactivated one until the ban ends; a sync sees both.
CREATE ROLE regress_mau_ejabberd;
CREATE ROLE regress_mau_ejabberd_login LOGIN;
CREATE ROLE regress_mau_ejabberd_other LOGIN;
CREATE EXTENSION mau;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
CREATE SCHEMA hs AUTHORIZATION regress_mau_ejabberd;
SET SESSION AUTHORIZATION regress_mau_ejabberd;
CREATE TABLE hs.last (username text, server_host text, seconds text NOT NULL, state text NOT NULL, PRIMARY KEY (server_host, username));
CREATE TABLE hs.users (username text, server_host text, type smallint, created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (server_host, username, type));
CREATE TABLE hs.private_storage (username text, server_host text, namespace text, data text NOT NULL DEFAULT '',
                                 created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (server_host, username, namespace));
INSERT INTO hs.users VALUES ('winter', 'x', 1, '2026-01-10 12:00:00.5'), ('summer', 'x', 1, '2026-07-10 12:00'), ('summer', 'x', 2, '2026-07-10 12:00:01'),
    ('summer', 'y', 1, '2026-07-10 12:00'), ('endless', 'x', 1, 'infinity'), ('late', 'x', 1, '294276-12-31 23:59');
INSERT INTO hs.last SELECT DISTINCT username, server_host, extract(epoch FROM t() - interval '1 hour')::bigint::text, 'away' FROM hs.users;
RESET SESSION AUTHORIZATION;
CREATE VIEW registered AS SELECT user_id, to_timestamp(registered_at / 1000.0) AT TIME ZONE 'UTC' AS registered_utc, is_deactivated AS banned
    FROM mau.users ORDER BY user_id COLLATE "C";
-- Attaches again and returns two registration times.
CREATE FUNCTION times() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM mau.detach();
    PERFORM mau.attach('ejabberd', 'hs', t());
    RETURN (SELECT string_agg(user_id || ' ' || registered_utc, ', ' ORDER BY user_id) FROM registered WHERE user_id IN ('winter@x', 'summer@x'));
END $$;

-- No role, no database has a setting, and this session's client has one of its own, which hides the server's.
\setenv PGTZ Asia/Kathmandu
\c -
SELECT what, rows FROM mau.attach('ejabberd', 'hs', t());
SELECT * FROM registered;
SELECT table_name, reason, row_key FROM mau.source_skipped ORDER BY 2, 3;
SELECT mau.detach();
-- Without that the server's setting is known, whatever the session has set since.
\setenv PGTZ
\c -
SELECT (SELECT count(*) FROM mau.attach('ejabberd', 'hs', t()) WHERE what LIKE '%time zone%') AS unknown, (SELECT count(*) FROM mau.source_skipped WHERE reason LIKE '%time zone%') AS noted;
SELECT registered_at = extract(epoch FROM timestamptz '2026-07-10 12:00') * 1000 AS in_the_servers_zone FROM mau.users WHERE user_id = 'summer@x';
SELECT times() AS before \gset
SET TimeZone = 'Asia/Kathmandu';
SELECT times() = :'before' AS whatever_this_session_sets, current_setting('TimeZone');
RESET TimeZone;

-- The database's setting, that of the role, and that of the role in this database, each before the one before.
SELECT current_database() AS db \gset
ALTER DATABASE :"db" SET TimeZone = 'Asia/Tokyo';
SELECT times();
ALTER ROLE regress_mau_ejabberd SET timezone TO 'Europe/Berlin';
SELECT times();
ALTER ROLE regress_mau_ejabberd IN DATABASE :"db" SET TIME ZONE '-3';
SELECT times();
ALTER ROLE regress_mau_ejabberd IN DATABASE postgres SET timezone = 'Asia/Kathmandu';
SELECT times();
-- A role that may log in and insert is the one that writes; two that differ leave it open, unless mau is told.
GRANT USAGE ON SCHEMA hs TO regress_mau_ejabberd_login, regress_mau_ejabberd_other;
GRANT INSERT ON hs.users TO regress_mau_ejabberd_login;
GRANT SELECT ON hs.users TO regress_mau_ejabberd_other;
ALTER ROLE regress_mau_ejabberd_login SET timezone = 'Europe/Paris';
ALTER ROLE regress_mau_ejabberd_other SET timezone = 'America/New_York';
SELECT times();
GRANT INSERT ON hs.users TO regress_mau_ejabberd_other;
SELECT times();
UPDATE mau.settings SET source_time_zone = 'Mars/Phobos';
UPDATE mau.settings SET source_time_zone = 'America/New_York';
SELECT times();
-- A sync uses it, too.
INSERT INTO hs.users VALUES ('new', 'x', 1, '2026-07-10 12:00');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble');
SELECT * FROM registered;

-- Bans: found by a sync although the row of users does not change, as is their end.
UPDATE mau.settings SET count_deactivated_users = false;
SELECT mau.monthly_active_count(t());
INSERT INTO hs.private_storage (username, server_host, namespace) VALUES ('winter', 'x', 'storage:bookmarks'), ('summer', 'x', 'jabber:ejabberd:banned'),
    ('nobody', 'x', 'jabber:ejabberd:banned');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble');
SELECT user_id FROM registered WHERE banned;
SELECT mau.monthly_active_count(t());
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble'); -- nothing changed
UPDATE hs.users SET type = 3 WHERE username = 'summer' AND type = 2; -- another password
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble');
DELETE FROM hs.private_storage WHERE username = 'summer';
UPDATE hs.last SET seconds = extract(epoch FROM t())::bigint::text WHERE username = 'summer' AND server_host = 'x';
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'joined', 'trouble');
SELECT user_id FROM registered WHERE banned;
SELECT mau.monthly_active_count(t());
-- A table that was rewritten is read again; a ban from before attach is seen by attach.
INSERT INTO hs.private_storage (username, server_host, namespace) VALUES ('endless', 'x', 'jabber:ejabberd:banned');
VACUUM FULL hs.private_storage;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble');
SELECT mau.detach();
TRUNCATE mau.users, mau.monthly_active_users, mau.visits;
SELECT what, rows FROM mau.attach('ejabberd', 'hs', t()) WHERE what IN ('users', 'deactivated');
SELECT user_id FROM registered WHERE banned;

-- The older schema names no host.
SELECT mau.detach();
TRUNCATE mau.users, mau.monthly_active_users, mau.visits;
CREATE SCHEMA old;
CREATE TABLE old.last (username text PRIMARY KEY, seconds text NOT NULL, state text NOT NULL);
CREATE TABLE old.users (username text PRIMARY KEY, password text NOT NULL DEFAULT '', created_at timestamp NOT NULL DEFAULT now());
CREATE TABLE old.private_storage (username text, namespace text, data text NOT NULL DEFAULT '', PRIMARY KEY (username, namespace));
INSERT INTO old.users (username) VALUES ('a'), ('b');
INSERT INTO old.private_storage VALUES ('a', 'jabber:ejabberd:banned'), ('b', 'storage:bookmarks');
SELECT what, rows FROM mau.attach('ejabberd', 'old', t()) WHERE what IN ('users', 'deactivated');
SELECT user_id FROM registered WHERE banned;
DELETE FROM old.private_storage WHERE username = 'a';
INSERT INTO old.private_storage VALUES ('b', 'jabber:ejabberd:banned');
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('users', 'trouble');
SELECT user_id FROM registered WHERE banned;

SET client_min_messages = warning;
DROP SCHEMA hs, old CASCADE;
ALTER DATABASE :"db" RESET TimeZone;
DROP ROLE regress_mau_ejabberd, regress_mau_ejabberd_login, regress_mau_ejabberd_other;
DROP VIEW registered;
