-- admit: check, then record, in one call; NULL = go ahead.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
CREATE FUNCTION admit(who text, i interval DEFAULT '0') RETURNS text LANGUAGE plpgsql AS $$ -- the answer, and what is known of the user after it
DECLARE body jsonb := mau.admit('@' || who || ':example.com', t(i)); BEGIN
    RETURN concat_ws(', ', coalesce(body->>'limit_type', 'admitted'),
        (SELECT 'member' FROM mau.monthly_active_users WHERE user_id = '@' || who || ':example.com'),
        'seen ' || (mau.last_seen('@' || who || ':example.com') - t('0')));
END $$;
-- Without a limit every user is admitted and recorded.
SELECT admit('a'), admit('a', '59 min'), admit('a', '61 min');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2, server_notices_mxid = '@notices:example.com', mau_trial_days = 7;
-- A newcomer while there are seats, and one while there are none: refused, but seen (a blocked user's request is known).
SELECT admit('b'), admit('c');
-- A member is admitted, also to a full server.
SELECT admit('a', '3 h');
-- Admitted without a seat, and no members then: trial, support, notices, appservice. A guest is refused.
SELECT mau.register_user('@trial:example.com', t('-1 day')), mau.register_user('@help:example.com', t('-100 days'), user_type => 'support'),
       mau.register_user('@irc_a:example.com', t('-100 days'), appservice_id => 'irc'),
       mau.register_user('@guest:example.com', t('-100 days'), is_guest => true) \g /dev/null
SELECT admit('trial'), admit('help'), admit('irc_a');
SELECT mau.admit('@guest:example.com', t('0')) ->> 'limit_type' AS guest;
-- The sender of server notices is never blocked, member or not.
SELECT admit('notices');
-- A reserved user has a seat.
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com');
SELECT mau.add_threepid('@vip:example.com', 'email', 'VIP@example.com');
SELECT admit('vip');
-- A tracked appservice user is blocked by a full server (the reference's table), and joins without a seat else.
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT admit('irc_a', '2 h');
UPDATE mau.settings SET max_mau_value = 4;
SELECT admit('irc_a', '2 h'), mau.monthly_active_count(t('3 h'));
SELECT admit('guest', '2 h'), admit('d', '2 h'), admit('e', '2 h');
-- A member who expired needs a seat again.
SELECT admit('a', '724 h');
SELECT mau.monthly_active_count(t('724 h'));
-- Disabled: nobody but the first two rows; nothing is recorded.
UPDATE mau.settings SET hs_disabled = true, hs_disabled_message = 'closed';
SELECT admit('f', '724 h'), admit('vip', '724 h'), admit('help', '724 h');
SELECT mau.admit('@f:example.com', t('724 h'));
-- A user of another server is never a local user.
UPDATE mau.settings SET hs_disabled = false, server_name = 'example.com', max_mau_value = 100;
SELECT mau.admit('@a:elsewhere.org', t('724 h')), mau.last_seen('@a:elsewhere.org');
UPDATE mau.settings SET server_name = NULL, max_mau_value = 0;
-- The body is that of check_auth_blocking.
SELECT mau.admit('@g:example.com', t('9000 h')) = mau.check_auth_blocking('@g:example.com', at => t('9000 h')) AS same;
-- The limit off, recording off: admitted, not seen.
UPDATE mau.settings SET limit_usage_by_mau = false, mau_stats_only = false;
SELECT admit('h', '724 h');
-- now() is the default.
UPDATE mau.settings SET mau_stats_only = true;
BEGIN;
SELECT mau.admit('@now:example.com', user_agent => 'Element/1.0');
SELECT mau.last_seen('@now:example.com') = date_trunc('milliseconds', now()) AS is_now;
COMMIT;
