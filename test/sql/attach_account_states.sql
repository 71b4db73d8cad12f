-- Synapse's locked, suspended, shadow-banned, not approved and erased users: they count until they expire, locked users by a setting, and explain
-- says how Synapse answers them. Members without an account are reported, because an appservice's sender has none.
SET client_min_messages = warning;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-30 12:00+00'
\i :tables
\set VERBOSITY default
CREATE EXTENSION mau;
INSERT INTO users (name, creation_ts) SELECT '@' || n || ':x', 1700000000 FROM unnest('{a,locked,suspended,shadow,waiting,erased,gone}'::text[]) n;
UPDATE users SET deactivated = 1 WHERE name = '@gone:x';
INSERT INTO user_ips (user_id, last_seen) SELECT name, ago('2 h') FROM users;
-- An older Synapse has none of the columns.
SELECT mau.attach('synapse', 'public', t());
SELECT step, rule, holds, detail FROM mau.explain('@gone:x', t()) WHERE rule LIKE '%Synapse%' OR rule = 'verdict';
-- Its upgrade adds them.
ALTER TABLE users ADD locked boolean NOT NULL DEFAULT false, ADD suspended boolean NOT NULL DEFAULT false, ADD shadow_banned boolean, ADD approved boolean;
CREATE TABLE erased_users (user_id text NOT NULL UNIQUE);
UPDATE users SET locked = true WHERE name = '@locked:x';
UPDATE users SET suspended = true WHERE name = '@suspended:x';
UPDATE users SET shadow_banned = true WHERE name = '@shadow:x';
UPDATE users SET approved = name <> '@waiting:x' WHERE name <> '@a:x';
INSERT INTO erased_users VALUES ('@erased:x');
SELECT * FROM mau.sync(t());
SELECT mau.monthly_active_count(t());
SELECT step, rule, holds, detail FROM mau.explain('@a:x', t()) WHERE rule LIKE '%Synapse%' OR rule LIKE 'locked%';
SELECT name, rule, detail FROM users, mau.explain(name, t()) WHERE rule LIKE '%Synapse%' AND holds ORDER BY name, step;
SELECT rule, holds, detail FROM mau.explain('@unknown:x', t()) WHERE rule LIKE '%Synapse%';
SELECT user_id FROM mau.users WHERE is_locked;
-- Locked users leave by a setting, and come back with the next activity after the end of the lock.
UPDATE mau.settings SET count_locked_users = false;
SELECT rule, holds, detail FROM mau.explain('@locked:x', t()) WHERE rule IN ('locked user', 'verdict');
SELECT what, rows FROM mau.sync(t());
SELECT mau.monthly_active_count(t()), mau.last_seen('@locked:x') = t() - interval '2 h' AS last_seen_is_kept;
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t());
INSERT INTO user_ips (user_id, last_seen) VALUES ('@locked:x', ago('30 min'));
SELECT what, rows FROM mau.sync(t()) WHERE what NOT IN ('users', 'threepids');
SELECT mau.record_activity('@locked:x', t()), mau.reconcile(t());
UPDATE users SET locked = false WHERE name = '@locked:x';
INSERT INTO user_ips (user_id, last_seen) VALUES ('@locked:x', ago('0'));
SELECT what, rows FROM mau.sync(t() + interval '2 h') WHERE what <> 'threepids';
-- Reap removes them, too; a reserved seat is not given to them.
UPDATE mau.settings SET count_locked_users = true;
UPDATE users SET locked = true WHERE name IN ('@locked:x', '@a:x');
SELECT what, rows FROM mau.sync(t()) WHERE what = 'users';
UPDATE mau.settings SET count_locked_users = false;
SELECT what, users FROM mau.reap(t() + interval '2 h') WHERE what = 'deactivated';
INSERT INTO mau.reserved_threepids VALUES ('email', 'a@x');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
SELECT mau.add_threepid('@a:x', 'email', 'a@x');
SELECT what, users FROM mau.reap(t()) WHERE what = 'seated';
UPDATE mau.settings SET count_locked_users = true;
SELECT what, users FROM mau.reap(t()) WHERE what = 'seated';
UPDATE mau.settings SET limit_usage_by_mau = false;

-- A role that may read what counting needs is told what it may not read.
CREATE ROLE regress_mau_states;
SELECT mau.grant_to('regress_mau_states', 'monitoring');
GRANT EXECUTE ON FUNCTION mau.explain TO regress_mau_states;
SET ROLE regress_mau_states;
SELECT step, holds, detail FROM mau.explain('@locked:x', t() + interval '2 h') WHERE step = 1 OR rule = 'verdict';
RESET ROLE;
DROP OWNED BY regress_mau_states;
DROP ROLE regress_mau_states;

-- Members without an account.
SELECT mau.detach();
INSERT INTO user_ips (user_id, last_seen) SELECT '@ghost' || to_char(n, 'FM00') || ':x', ago('1 h') FROM generate_series(1, 11) n;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@ircbot:x', ago('1 h')), ('@_irc_a:x', ago('1 h'));
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@_irc_.*}');
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what LIKE 'members%';
-- What the hint says.
DELETE FROM user_ips WHERE user_id LIKE '@ghost%';
DELETE FROM mau.monthly_active_users WHERE user_id LIKE '@ghost%';
UPDATE mau.appservices SET sender = '@ircbot:x';
DELETE FROM mau.monthly_active_users WHERE user_id = '@ircbot:x';
SELECT mau.sync(t()), mau.reconcile(t());
SELECT count(*) FROM mau.monthly_active_users WHERE user_id LIKE '@irc%';
SELECT mau.detach();
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what LIKE 'members%';
