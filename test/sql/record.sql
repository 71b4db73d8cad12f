-- Every outcome of record_activity, and what each one writes (rule R5: one sighting, one write).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
CREATE VIEW cohort AS -- the members, and how long before noon they were last seen
    SELECT user_id, service, justify_hours((extract(epoch FROM t('0')) * 1000 - "timestamp")::bigint * interval '1 ms') AS ago
    FROM mau.monthly_active_users ORDER BY user_id;
CREATE VIEW outside AS -- last sightings that are not the cohort's
    SELECT user_id, justify_hours((extract(epoch FROM t('0')) * 1000 - last_seen)::bigint * interval '1 ms') AS ago
    FROM mau.users WHERE last_seen IS NOT NULL ORDER BY user_id;

-- joined, then unchanged, then refreshed.
SELECT see('alice', '-3 h'), see('alice', '-2 h'), see('alice', '-1 h');
TABLE cohort;
TABLE outside;
-- Everybody seen has a number, registered or not.
SELECT user_no, user_id, registered_at, is_registered FROM mau.users;

-- off
UPDATE mau.settings SET mau_stats_only = false;
SELECT see('bob'), see('alice', '24 h');
UPDATE mau.settings SET mau_stats_only = true;
-- remote
UPDATE mau.settings SET server_name = 'example.com';
SELECT mau.record_activity('@bob:elsewhere.org', t('0')), see('alice', '-1 h');
UPDATE mau.settings SET server_name = NULL;
-- Neither leaves a trace.
TABLE cohort;
TABLE outside;
SELECT count(*) AS known FROM mau.users;

-- appservice
SELECT mau.register_user('@irc_bob:example.com', t('-100 days'), appservice_id => 'irc');
SELECT see('irc_bob', '-2 h');
-- guest
SELECT mau.register_user('@1:example.com', t('-100 days'), is_guest => true);
SELECT see('1', '-2 h');
-- trial
UPDATE mau.settings SET mau_trial_days = 10;
SELECT mau.register_user('@newcomer:example.com', t('-9 days'));
SELECT see('newcomer', '-2 h');
-- support
SELECT mau.register_user('@help:example.com', t('-100 days'), user_type => 'support');
SELECT see('help', '-2 h');
-- deactivated
SELECT mau.register_user('@gone:example.com', t('-100 days')), mau.deactivate_user('@gone:example.com', t('-5 h'));
UPDATE mau.settings SET count_deactivated_users = false;
SELECT see('gone', '-2 h');
-- full
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
SELECT see('late', '-2 h');
TABLE cohort;
TABLE outside;
-- A bot counts.
UPDATE mau.settings SET max_mau_value = 2;
SELECT mau.register_user('@robot:example.com', t('-100 days'), user_type => 'bot');
SELECT see('robot', '-2 h');

-- Outside, too, only news is written, and time never goes back.
SELECT see('1', '-61 min');
SELECT ago FROM outside WHERE user_id = '@1:example.com';
SELECT see('1', '-59 min');
SELECT ago FROM outside WHERE user_id = '@1:example.com';
SELECT see('1', '-50 h');
SELECT ago FROM outside WHERE user_id = '@1:example.com';

-- A user outside joins the cohort: the trial is over a day later.
SELECT see('newcomer', '24 h'), see('newcomer', '25 h');
UPDATE mau.settings SET max_mau_value = 3;
SELECT see('newcomer', '25 h');
SELECT ago FROM cohort WHERE user_id = '@newcomer:example.com';
-- And back: a member who becomes a support user is not refreshed, and is seen nevertheless.
SELECT mau.register_user('@robot:example.com', t('-100 days'), user_type => 'support');
SELECT see('robot', '24 h');
SELECT ago FROM cohort WHERE user_id = '@robot:example.com';
SELECT ago FROM outside WHERE user_id = '@robot:example.com';

-- A last sighting never moves back in the cohort either.
SELECT see('alice', '-100 h'), see('alice', '-3 h -1 ms');
SELECT ago FROM cohort WHERE user_id = '@alice:example.com';

-- The user agent is not stored anywhere.
SELECT mau.record_activity('@agent:example.com', t('0'), 'secret-agent/1.0');
SELECT count(*) FROM mau.users u WHERE u::text LIKE '%secret%';
SELECT count(*) FROM mau.monthly_active_users m WHERE m::text LIKE '%secret%';

-- now() is the default.
UPDATE mau.settings SET limit_usage_by_mau = false;
BEGIN;
SELECT mau.record_activity('@now:example.com');
SELECT mau.last_seen('@now:example.com') = date_trunc('milliseconds', now()) AS is_now;
COMMIT;
-- Nothing can be written where nothing may be.
BEGIN READ ONLY;
SELECT mau.record_activity('@now:example.com', now()); -- nothing to write
SELECT mau.record_activity('@never:example.com', now());
ROLLBACK;
-- A sighting that is rolled back changes nothing.
BEGIN;
SELECT mau.record_activity('@never:example.com', t('0'));
ROLLBACK;
SELECT mau.last_seen('@never:example.com');
SELECT mau.record_activity('@never:example.com', t('0'));
