-- active_users, last_seen and monthly_active_users_by_service answer as plain SQL over the last sightings does, to the millisecond. Beyond
-- 30 days active_users counts whole UTC days of the history.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
-- One user for each of many ages, some of them appservice users; the brute-force answer beside ours.
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT mau.register_user('@u' || n || ':example.com', t('-1000 days'), appservice_id => CASE WHEN n % 5 = 0 THEN 'irc' END) FROM generate_series(0, 59) n \g /dev/null
CREATE TABLE sightings AS SELECT '@u' || n || ':example.com' AS user_id, t(n * interval '-12 h') AS at, CASE WHEN n % 5 = 0 THEN 'irc' ELSE 'native' END AS service FROM generate_series(0, 59) n;
SELECT outcome, users FROM mau.record_activities((SELECT array_agg(user_id ORDER BY user_id) FROM sightings), (SELECT array_agg(at ORDER BY user_id) FROM sightings));
SELECT period, service, mau.active_users(period, t('0'), service) AS ours,
       (SELECT count(*) FROM sightings s WHERE s.at >= t('0') - period AND (v.service IS NULL OR s.service = v.service)) AS counted
FROM unnest('{12 hours,1 day,23:59:59.999,7 days,29 days 12 hours,30 days}'::interval[]) period, unnest('{native,irc,NULL}'::text[]) v(service)
ORDER BY service, period;
SELECT mau.active_users(at => t('0')) AS monthly, mau.monthly_active_count(t('0')) AS count, mau.active_users('1 month', t('0')) AS a_month_is_30_days;
-- A reserved user whose last sighting is old holds a seat, but was not seen.
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 100;
SELECT mau.register_user('@vip:example.com', t('-1000 h'), medium => 'email', address => 'vip@example.com');
SELECT mau.active_users(at => t('0')) AS seen, mau.monthly_active_count(t('0')) AS count;
-- Beyond 30 days: the whole UTC days of the history, before the reap and after it; a registration is no visit.
SELECT see('x1', '-40 days'), see('x2', '-50 days'), see('x3', '-60 days'), see('x4', '-60 days -1 ms');
SELECT mau.active_users('60 days', t('0')), mau.active_users('45 days', t('0')), mau.active_users('100 days', t('0'));
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
SELECT mau.active_users('60 days', t('0')), mau.active_users('45 days', t('0')), mau.active_users('100 days', t('0'));
-- A user who came back is one user.
SELECT see('x1', '-1 h');
SELECT mau.active_users('60 days', t('0')), mau.active_users('30 days', t('0'));
-- Guests and support users are no former members, appservice users are those of their service.
SELECT mau.register_user('@guest:example.com', t('-1000 days'), is_guest => true), mau.register_user('@help:example.com', t('-1000 days'), 'support'),
       mau.register_user('@irc_old:example.com', t('-1000 days'), appservice_id => 'irc') \g /dev/null
SELECT see('guest', '-40 days'), see('help', '-40 days'), see('irc_old', '-40 days');
SELECT mau.active_users('60 days', t('0')) AS natives, mau.active_users('60 days', t('0'), 'irc') AS irc, mau.active_users('60 days', t('0'), NULL) AS everybody;
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
SELECT mau.active_users('60 days', t('0')) AS natives, mau.active_users('60 days', t('0'), 'irc') AS irc, mau.active_users('60 days', t('0'), NULL) AS everybody;
-- Seen when: members, others, nobody.
SELECT mau.last_seen('@u3:example.com') - t('0') AS member, mau.last_seen('@guest:example.com') - t('0') AS guest,
       mau.last_seen('@x2:example.com') - t('0') AS former, mau.last_seen('@nobody:example.com') AS nobody;
-- The list: ordered, both ends included, exact to the millisecond.
SELECT service, user_id, last_seen - t('0') AS seen FROM mau.monthly_active_users_by_service(t('-24 h'), t('0'));
SELECT count(*) FROM mau.monthly_active_users_by_service(t('-24 h 1 ms'), t('-1 ms'));
SELECT count(*) FROM mau.monthly_active_users_by_service() l JOIN sightings s USING (user_id) WHERE l.last_seen = s.at AND l.service = s.service;
-- Wrong questions.
SELECT mau.active_users('0');
SELECT mau.active_users('-1 day');
SELECT mau.active_users(NULL);
SELECT mau.active_users('1 day', 'infinity');
