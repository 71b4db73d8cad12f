-- Tables of the homeserver that attach can do without, and that may not be read: mau.health says that users may be missing, and mau.reconcile
-- adds them once the tables may be read.
SET client_min_messages = error;
CREATE ROLE regress_mau_unread;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE TABLE monthly_active_users (user_id text NOT NULL UNIQUE, "timestamp" bigint NOT NULL);
CREATE TABLE user_daily_visits (user_id text NOT NULL, "timestamp" bigint NOT NULL, user_agent text);
INSERT INTO users (name, creation_ts) VALUES ('@a:x', 1600000000), ('@pruned:x', 1600000000);
INSERT INTO user_ips (user_id, last_seen) VALUES ('@a:x', ago('1 day'));
INSERT INTO monthly_active_users VALUES ('@a:x', ago('1 day')), ('@pruned:x', ago('29 days'));
GRANT SELECT ON users, user_ips, user_threepids TO regress_mau_unread;
GRANT USAGE ON SCHEMA mau TO regress_mau_unread;
GRANT ALL ON ALL TABLES IN SCHEMA mau TO regress_mau_unread;
GRANT ALL ON ALL SEQUENCES IN SCHEMA mau TO regress_mau_unread;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO regress_mau_unread;
SET SESSION AUTHORIZATION regress_mau_unread;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
RESET SESSION AUTHORIZATION;
SELECT * FROM mau.keep_comparison(t());
SELECT figure, unexplained, reason FROM mau.comparison WHERE reason ~ 'cannot be read' ORDER BY figure;
SELECT health, reason FROM mau.health();
GRANT SELECT ON monthly_active_users, user_daily_visits TO regress_mau_unread;
SELECT * FROM mau.reconcile(t());
SELECT user_id FROM mau.monthly_active_users ORDER BY user_id;
SELECT * FROM mau.keep_comparison(t());
SELECT count(*) FROM mau.comparison WHERE unexplained > 0;
SELECT reason ~ 'cannot be read' AS says_so FROM mau.health();
DROP EXTENSION mau;
DROP OWNED BY regress_mau_unread;
DROP ROLE regress_mau_unread;
