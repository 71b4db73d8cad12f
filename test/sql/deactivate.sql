-- Deactivated users: they count until they expire (as in Synapse), or leave at once.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
SELECT mau.register_user('@a:example.com', t('-100 days')), mau.register_user('@b:example.com', t('-100 days'));
SELECT see('a'), see('b');
-- Whether the user was known and active.
SELECT mau.deactivate_user('@a:example.com', t('0')), mau.deactivate_user('@a:example.com', t('0')), mau.deactivate_user('@unknown:example.com', t('0'));
-- As in Synapse: the member stays, is refreshed, and expires.
SELECT mau.monthly_active_count(t('720 h')), mau.monthly_active_count(t('720 h 1 ms'));
SELECT see('a', '2 h'), mau.check_auth_blocking('@a:example.com') IS NULL AS open;
-- With count_deactivated_users off a deactivated user leaves at once, and keeps the last sighting.
UPDATE mau.settings SET count_deactivated_users = false;
SELECT mau.deactivate_user('@b:example.com', t('0'));
SELECT user_id FROM mau.monthly_active_users;
SELECT mau.last_seen('@b:example.com') - t('0') AS seen;
SELECT see('b', '2 h'), see('a', '4 h');
SELECT mau.monthly_active_count(t('4 h'));
-- @a was deactivated before: it leaves at the next reap.
SELECT users FROM mau.reap(t('4 h')) WHERE what = 'deactivated';
SELECT mau.monthly_active_count(t('4 h'));
-- Registered again: active again.
SELECT mau.register_user('@a:example.com', t('5 h'));
SELECT see('a', '5 h');
-- The threepids of who is deactivated are nobody's (as in Synapse), so the seat is free.
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
SELECT mau.register_user('@vip:example.com', t('0'), medium => 'email', address => 'vip@example.com');
SELECT mau.registered_reserved_users();
SELECT mau.deactivate_user('@vip:example.com', t('0'));
SELECT mau.registered_reserved_users();
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT user_id FROM mau.monthly_active_users;
-- Somebody who was only seen can be deactivated, too.
SELECT see('seen', '5 h'), mau.deactivate_user('@seen:example.com', t('5 h'));
SELECT see('seen', '7 h');
