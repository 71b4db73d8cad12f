-- Users of application services: rows of their own service, which take no seat.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
SELECT mau.register_user('@irc_a:example.com', t('-100 days'), appservice_id => 'irc'),
       mau.register_user('@irc_b:example.com', t('-100 days'), appservice_id => 'irc'),
       mau.register_user('@xmpp_a:example.com', t('-100 days'), appservice_id => 'xmpp'),
       mau.register_user('@none:example.com', t('-100 days')),
       mau.register_user('@empty:example.com', t('-100 days'), appservice_id => '');
-- Not tracked: natives alone. NULL and '' are native.
SELECT see('irc_a'), see('irc_b'), see('xmpp_a'), see('none'), see('empty'), see('unknown');
SELECT * FROM mau.monthly_active_count_by_service(t('0'));
-- Tracked: by service; the figure stays that of the natives.
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT see('irc_a'), see('irc_b'), see('xmpp_a'), see('none'), see('empty'), see('unknown');
SELECT * FROM mau.monthly_active_count_by_service(t('0'));
SELECT mau.monthly_active_count(t('0'));
SELECT service, user_id, last_seen = t('0') AS at_noon FROM mau.monthly_active_users_by_service();
SELECT mau.active_users(at => t('0')) AS natives, mau.active_users(at => t('0'), service => 'irc') AS irc,
       mau.active_users(at => t('0'), service => NULL) AS everybody, mau.active_users(at => t('0'), service => 'nosuch') AS nobody;
-- Not tracked any longer: an existing row stays until it expires.
UPDATE mau.settings SET track_appservice_user_ips = false;
SELECT see('irc_a', '24 h');
SELECT * FROM mau.monthly_active_count_by_service(t('24 h'));
SELECT mau.last_seen('@irc_a:example.com') - t('0') AS seen;

-- An appservice's sender was never registered, and is the appservice's (Synapse: native).
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT see('bot');
INSERT INTO mau.appservices (id, sender) VALUES ('telegram', '@bot:example.com');
SELECT see('bot', '48 h');
SELECT service FROM mau.monthly_active_users WHERE user_id = '@bot:example.com';
UPDATE mau.settings SET track_appservice_user_ips = false;
SELECT see('bot', '72 h');
-- Unless it is registered: then the registration says whose it is.
SELECT mau.register_user('@bot:example.com', t('0'));
SELECT see('bot', '72 h');
SELECT service FROM mau.monthly_active_users WHERE user_id = '@bot:example.com';

-- Exclusive namespaces assign unregistered users to appservices: they match from the first character on, like Python's re.match.
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES
    ('slack', '{@_slack_.*}'), ('matter', '{"@_matter_[0-9]+:example\\.com","@(one|two)_"}'), ('upper', '{(?i)@UPPER_}'), ('either', '{@left_|@right_}');
CREATE FUNCTION service(who text) RETURNS text LANGUAGE sql AS $$
    SELECT detail FROM mau.explain('@' || who, t('96 h')) WHERE rule = 'registered account' $$;
SELECT who, service(who) FROM unnest('{_slack_a:example.com,_slack_,_slac,x@_slack_a,_matter_1:example.com,_matter_1:exampleXcom,_matter_a:example.com,one_x,two_x,three_x,
    upper_x:example.com,Upper_x:example.com,left_x,right_x,x@right_x}'::text[]) who;
SELECT see('_slack_a'), see('left_x'), see('upper_x');
-- The registration is stronger than the namespace.
SELECT mau.register_user('@_slack_native:example.com', t('0')), see('_slack_native');

-- Trial days of the appservice's own, longer, shorter, none.
UPDATE mau.settings SET mau_trial_days = 10, track_appservice_user_ips = true;
INSERT INTO mau.appservices (id, trial_days) VALUES ('long', 20), ('short', 5), ('zero', 0), ('default', NULL);
SELECT mau.register_user('@' || id || age || ':example.com', t(- age * interval '1 day'), appservice_id => id)
FROM unnest('{long,short,zero,default}'::text[]) id, unnest('{1,7,15,25}'::int[]) age \g /dev/null
SELECT id, see(id || 1) AS "1 day", see(id || 7) AS "7 days", see(id || 15) AS "15 days", see(id || 25) AS "25 days"
FROM unnest('{long,short,zero,default}'::text[]) id;
-- To the second, and to the millisecond.
SELECT mau.register_user('@edge:example.com', t('0'), appservice_id => 'short');
SELECT see('edge', '119 h 59 min 59 s'), see('edge', '119 h 59 min 59.999 s'), see('edge', '120 h');
-- The trial of an appservice is for its registered users: unknown users are on no trial.
SELECT see('_slack_new');

-- With a token of an appservice every request goes ahead while appservices are not tracked.
UPDATE mau.settings SET track_appservice_user_ips = false, limit_usage_by_mau = true, mau_trial_days = 0;
SELECT mau.check_auth_blocking('@new:example.com', appservice_id => 'irc', at => t('0')) IS NULL AS by_token,
       mau.check_auth_blocking('@new:example.com', appservice_id => '', at => t('0')) IS NULL AS by_no_token,
       mau.check_auth_blocking('@irc_a:example.com', at => t('0')) IS NULL AS appservice_user,
       mau.check_auth_blocking('@_slack_other:example.com', at => t('0')) IS NULL AS by_namespace,
       mau.check_auth_blocking(appservice_id => 'irc', at => t('0')) IS NULL AS registration_by_token;
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT mau.check_auth_blocking('@new:example.com', appservice_id => 'irc', at => t('1000 h')) IS NULL AS by_token,
       mau.check_auth_blocking('@irc_a:example.com', at => t('1000 h')) IS NULL AS appservice_user,
       mau.check_auth_blocking(appservice_id => 'irc', at => t('1000 h')) IS NULL AS registration_by_token;

-- An appservice that is no more: its users without a registration are natives from their next sighting on, if there are seats.
UPDATE mau.settings SET max_mau_value = 2 + (SELECT mau.monthly_active_count(t('1000 h')));
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('tg', ARRAY['@tg_.*']);
SELECT see('tg_' || n, '1000 h') AS outcome, count(*) FROM generate_series(1, 5) n GROUP BY 1;
DELETE FROM mau.appservices WHERE id = 'tg';
SELECT outcome, count(*) FROM (SELECT see('tg_' || n, '1002 h') FROM generate_series(1, 5) n) s(outcome) GROUP BY 1 ORDER BY 1;
SELECT s.max_mau_value - mau.monthly_active_count(t('1002 h')) AS seats_left FROM mau.settings s;
SELECT service, users FROM mau.monthly_active_count_by_service(t('1002 h')) WHERE service = 'tg';
