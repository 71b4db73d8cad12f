-- register_user records an account or updates what is given of a known one. It makes nobody a member, except with a reserved threepid, also
-- on a full server.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
CREATE VIEW accounts AS SELECT user_no, user_id, to_timestamp(registered_at / 1000.0) - t('0') AS registered, user_type, appservice_id AS service, is_registered AS reg, is_guest AS guest, is_deactivated AS gone
    FROM mau.users ORDER BY user_no;
SELECT mau.register_user('@a:example.com', t('-10 days')), mau.register_user('@b:example.com', t('-10 days'), 'support'),
       mau.register_user('@c:example.com', t('-10 days'), NULL, 'irc'), mau.register_user('@d:example.com', t('-10 days'), is_guest => true);
TABLE accounts;
-- Registration does not mark a user active.
SELECT count(*) FROM mau.monthly_active_users;
SELECT mau.last_seen('@a:example.com');
-- Again: arguments that are given are updated, those that are NULL or left out stay; the earlier registration stays.
SELECT mau.register_user('@a:example.com', t('-5 days'), 'bot'), mau.register_user('@b:example.com', t('-20 days')), mau.register_user('@c:example.com', t('-10 days'), 'bot');
TABLE accounts;
-- '' takes back a type or an appservice.
SELECT mau.register_user('@b:example.com', t('-10 days'), '', ''), mau.register_user('@c:example.com', t('-10 days'), '', '');
SELECT see('b'), see('c');
-- A guest who is upgraded; NULL says nothing about it.
SELECT see('d');
SELECT mau.register_user('@d:example.com', t('-1 day'), is_guest => NULL);
SELECT see('d');
SELECT mau.register_user('@d:example.com', t('-1 day'));
SELECT see('d');
SELECT registered, guest FROM accounts WHERE user_id = '@d:example.com';
-- Seen first, registered then: the same number, and rows move to the service of the account.
SELECT see('e', '-2 h');
SELECT user_no, reg, registered FROM accounts WHERE user_id = '@e:example.com';
SELECT mau.register_user('@e:example.com', t('-1 h'), appservice_id => 'irc');
SELECT user_no, reg, registered FROM accounts WHERE user_id = '@e:example.com';
SELECT service, user_id FROM mau.monthly_active_users_by_service() WHERE user_id = '@e:example.com';
-- Trial begins with the registration that is known, to the second.
UPDATE mau.settings SET mau_trial_days = 7;
SELECT mau.register_user('@f:example.com', t('0'));
SELECT see('f', '167 h 59 min 59 s'), see('f', '168 h'), see('f', '168 h 1 s');
UPDATE mau.settings SET mau_trial_days = 0;
-- With a reserved threepid a newcomer joins, at the time of the registration; with another it does not.
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com'), ('email', 'vip2@example.com'), ('msisdn', '49123');
UPDATE mau.settings SET max_mau_value = 3;
SELECT mau.register_user('@vip:example.com', t('-3 h'), medium => 'email', address => 'VIP@example.com'),
       mau.register_user('@phone:example.com', t('-3 h'), medium => 'msisdn', address => '49123'),
       mau.register_user('@other:example.com', t('-3 h'), medium => 'email', address => 'other@example.com');
SELECT user_id, last_seen - t('0') AS seen FROM mau.monthly_active_users_by_service() WHERE user_id ~ 'vip|phone|other';
BEGIN;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 5;
SELECT mau.registered_reserved_users();
ROLLBACK;
-- Not a support user, and not while nothing is recorded.
SELECT mau.register_user('@vip2:example.com', t('-3 h'), 'support', medium => 'email', address => 'vip2@example.com');
UPDATE mau.settings SET mau_stats_only = false;
SELECT mau.register_user('@vip3:example.com', t('-3 h'), medium => 'email', address => 'vip2@example.com');
SELECT user_id FROM mau.monthly_active_users WHERE user_id ~ 'vip2|vip3';
UPDATE mau.settings SET mau_stats_only = true;
-- Again with the threepid: never back in time.
SELECT see('vip', '2 h'), mau.register_user('@vip:example.com', t('-3 h'), medium => 'email', address => 'vip@example.com');
SELECT mau.last_seen('@vip:example.com') - t('0') AS seen;
-- A full server does not matter (Synapse inserts without asking).
UPDATE mau.settings SET limit_usage_by_mau = true;
SELECT mau.register_user('@vip4:example.com', t('-3 h'), medium => 'email', address => 'vip2@example.com');
-- now() is the default.
BEGIN;
SELECT mau.register_user('@now:example.com');
SELECT registered_at = floor(extract(epoch FROM now()) * 1000) AS is_now FROM mau.users WHERE user_id = '@now:example.com';
COMMIT;
