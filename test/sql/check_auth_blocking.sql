-- When a request is blocked: the reference's table, row by row, the first match decides.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION answer(body jsonb) RETURNS text LANGUAGE sql AS $$ SELECT coalesce('blocked: ' || (body->>'limit_type'), 'allowed') $$;
CREATE FUNCTION asks(who text, appservice text DEFAULT NULL, user_type text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT answer(mau.check_auth_blocking('@' || who || ':example.com', appservice_id => appservice, user_type => user_type, at => t('0'))) $$;
CREATE FUNCTION registers(medium text DEFAULT NULL, address text DEFAULT NULL, user_type text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
    SELECT answer(mau.check_auth_blocking(medium => medium, address => address, user_type => user_type, at => t('0'))) $$;
SELECT mau.register_user('@' || name || ':example.com', t('-100 days')) FROM unnest('{member,expired,stranger,notices}'::text[]) name \g /dev/null
SELECT mau.register_user('@help:example.com', t('-100 days'), user_type => 'support'), mau.register_user('@robot:example.com', t('-100 days'), user_type => 'bot'),
       mau.register_user('@guest:example.com', t('-100 days'), is_guest => true), mau.register_user('@bridged:example.com', t('-100 days'), appservice_id => 'irc'),
       mau.register_user('@trial:example.com', t('-6 days -23:59:59.999')), mau.register_user('@tried:example.com', t('-7 days')) \g /dev/null
SELECT mau.record_activity('@member:example.com', t('-720 h')), mau.record_activity('@expired:example.com', t('-720 h -1 ms'));
INSERT INTO mau.reserved_threepids VALUES ('email', 'reserved@example.com');

CREATE VIEW answers AS SELECT
    asks('stranger', appservice => 'irc') AS appservice, asks('bridged') AS bridged, asks('notices') AS notices, asks('help') AS support,
    asks('member') AS member, asks('expired') AS expired, asks('trial') AS trial, asks('tried') AS tried,
    asks('stranger') AS stranger, asks('unknown') AS unknown, asks('robot') AS bot, asks('guest') AS guest,
    asks('stranger', user_type => 'support') AS stranger_as_support,
    registers() AS registers, registers('email', 'reserved@example.com') AS reserved, registers('email', 'other@example.com') AS other_threepid,
    registers(user_type => 'support') AS new_support, registers(user_type => 'bot') AS new_bot,
    registers('email', 'other@example.com', 'support') AS new_support_with_threepid;
\x
UPDATE mau.settings SET mau_trial_days = 7, server_notices_mxid = '@notices:example.com', max_mau_value = 1;
-- limit_usage_by_mau off
SELECT * FROM answers;
-- On, and full: 1 of 1.
UPDATE mau.settings SET limit_usage_by_mau = true;
SELECT * FROM answers;
-- On, and one seat free.
UPDATE mau.settings SET max_mau_value = 2;
SELECT * FROM answers;
-- Disabled: stronger than all but the first two rows.
UPDATE mau.settings SET hs_disabled = true;
SELECT * FROM answers;
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT * FROM answers;
-- Appservices tracked.
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT asks('stranger', appservice => 'irc'), asks('bridged');
UPDATE mau.settings SET hs_disabled = false, limit_usage_by_mau = true, max_mau_value = 1;
SELECT asks('stranger', appservice => 'irc'), asks('bridged');
UPDATE mau.settings SET max_mau_value = 2;
SELECT asks('stranger', appservice => 'irc'), asks('bridged');
\x
-- The bodies: exactly four keys.
UPDATE mau.settings SET max_mau_value = 0;
SELECT mau.check_auth_blocking('@stranger:example.com', at => t('0'));
UPDATE mau.settings SET admin_contact = 'mailto:admin@example.com';
SELECT mau.check_auth_blocking('@stranger:example.com', at => t('0'))
    = '{"errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "Monthly Active User Limit Exceeded",
        "admin_contact": "mailto:admin@example.com", "limit_type": "monthly_active_user"}'::jsonb AS the_references_body;
UPDATE mau.settings SET hs_disabled = true, hs_disabled_message = E'closed, "really": \\ \n\t\u0001 – für immer 🙂', admin_contact = E'a"b\\c';
SELECT b->>'error' = hs_disabled_message AS message, b->>'admin_contact' = s.admin_contact AS contact, b->>'errcode' AS errcode, b->>'limit_type' AS limit_type,
       (SELECT count(*) FROM jsonb_object_keys(b)) AS keys
FROM mau.settings s, mau.check_auth_blocking('@stranger:example.com', at => t('0')) b;
UPDATE mau.settings SET hs_disabled_message = NULL, admin_contact = NULL;
SELECT mau.check_auth_blocking('@stranger:example.com', at => t('0'));
-- Asking changes nothing.
SELECT count(*) FROM mau.monthly_active_users;
SELECT count(*) FROM mau.users WHERE user_id = '@unknown:example.com';
-- Wrong questions.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT mau.check_auth_blocking('@a:example.com', 'email', 'a@example.com');
SELECT mau.check_auth_blocking(medium => 'email');
SELECT mau.check_auth_blocking(address => 'a@example.com');
SELECT mau.check_auth_blocking('');
SELECT mau.check_auth_blocking('@a:example.com', at => NULL);
