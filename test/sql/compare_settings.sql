-- mau.compare after settings changed: users who did not count, or had no seat, when mau saw them are explained; the next reconcile adds them.
-- Users whom a reap removed too early, and sightings that mau lacks, are not explained.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE VIEW compared AS SELECT mau, server, unexplained, reason FROM mau.compare(t()) WHERE figure = 'monthly active users beside all users seen';
INSERT INTO users (name, creation_ts) SELECT '@u' || n || ':x', extract(epoch FROM t() - interval '30 days') FROM generate_series(1, 9) n;
INSERT INTO user_ips (user_id, last_seen) SELECT '@u' || n || ':x', ago(n * interval '3 days') FROM generate_series(1, 9) n;
-- A limit that keeps users out, is raised, and is switched off.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 4;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('joined', 'full');
TABLE compared;
UPDATE mau.settings SET max_mau_value = 6;
TABLE compared;
SELECT * FROM mau.keep_comparison(t());
SELECT reason ~ 'figures differ' AS says_so FROM mau.health();
SELECT * FROM mau.reconcile(t());
TABLE compared;
UPDATE mau.settings SET limit_usage_by_mau = false;
TABLE compared;
SELECT * FROM mau.reconcile(t());
TABLE compared;
-- Trial days that are shortened.
SELECT mau.forget_user('@u' || n || ':x') FROM generate_series(1, 9) n \g /dev/null
SELECT * FROM mau.detach();
UPDATE mau.settings SET mau_trial_days = 10;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('joined', 'trial');
TABLE compared;
UPDATE mau.settings SET mau_trial_days = 0;
TABLE compared;
SELECT * FROM mau.reconcile(t());
TABLE compared;
-- A seat becomes free because a member goes: nobody takes it before the next reconcile.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 8;
SELECT users FROM mau.reap(t()) WHERE what = 'over limit';
TABLE compared;
SELECT mau.forget_user('@u1:x');
TABLE compared;
-- A sighting that mau lacks, and a member whom a reap has removed with the clock ahead.
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT what, rows FROM mau.reconcile(t()) WHERE what = 'differed';
UPDATE user_ips SET last_seen = ago('2 days') WHERE user_id = '@u2:x';
DELETE FROM mau.monthly_active_users WHERE user_id = '@u2:x';
UPDATE mau.users SET last_seen = ago('6 days') WHERE user_id = '@u2:x';
TABLE compared;
SELECT users FROM mau.reap(t() + interval '10 days') WHERE what = 'expired';
TABLE compared;
