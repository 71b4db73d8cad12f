-- mau.compare: users whom only mau has are explained as pruned by the server only where their last sighting is older than what the server
-- has kept; those of the last minutes because the server writes late; others are not explained, and mau.health says so.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
INSERT INTO users (name, creation_ts) SELECT '@u' || n || ':x', 1600000000 FROM generate_series(1, 9) n;
INSERT INTO user_ips (user_id, last_seen) SELECT '@u' || n || ':x', ago(n * interval '3 days') FROM generate_series(1, 9) n;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@u9:x', ago('2 hours'));
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t());
-- Calls that the server does not write: of a minute ago, and of an hour ago.
SELECT mau.record_activity('@u' || n || ':x', t() - interval '1 min') FROM generate_series(1, 3) n;
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t());
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t() + interval '1 hour');
SELECT health FROM mau.health();
SELECT * FROM mau.keep_comparison(t() + interval '1 hour');
SELECT health, reason ~ 'figures differ' AS says_so FROM mau.health();
-- Pruned: older than the oldest row that is left.
UPDATE mau.monthly_active_users SET "timestamp" = ago('20 days') WHERE user_id IN ('@u1:x', '@u2:x', '@u3:x');
UPDATE mau.users SET last_seen = NULL;
DELETE FROM user_ips WHERE last_seen < ago('17 days') OR user_id IN ('@u1:x', '@u2:x', '@u3:x');
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t());
-- A server that is an hour old: what mau has of later is not pruned.
TRUNCATE user_ips;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@u9:x', ago('2 hours'));
UPDATE mau.monthly_active_users SET "timestamp" = ago('1 hour') WHERE user_id <> '@u9:x';
SELECT figure, mau, server, unexplained, reason FROM mau.compare(t());
-- Ids of other servers, by the rule of mau.record_activity.
UPDATE mau.settings SET server_name = 'x';
TRUNCATE user_ips;
INSERT INTO user_ips (user_id, last_seen) SELECT id, ago('1 hour') FROM unnest('{@a:evil:x,@:x,:x,@x,x,@,@u9:x}'::text[]) id;
SELECT figure, server, unexplained, reason FROM mau.compare(t());
