-- Reap: expired rows go, then the oldest counted rows above the limit; reserved users never.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE VIEW cohort AS -- the members, and how long before noon they were last seen
    SELECT user_id, service, justify_hours((extract(epoch FROM t('0')) * 1000 - "timestamp")::bigint * interval '1 ms') AS ago
    FROM mau.monthly_active_users ORDER BY user_id;
-- Expired: older than 30 days, to the millisecond.
INSERT INTO mau.monthly_active_users
SELECT '@' || who || ':example.com', extract(epoch FROM t(i)) * 1000, service FROM (VALUES
    ('new', interval '0', 'native'), ('exactly', '-720 h', 'native'), ('old', '-720 h -1 ms', 'native'),
    ('older', '-1000 h', 'native'), ('bridged_old', '-721 h', 'irc'), ('bridged', '-719 h', 'irc')) v(who, i, service);
SELECT * FROM mau.reap(t('0'));
TABLE cohort;
-- The last sighting moves to mau.users with the row.
SELECT user_id, mau.last_seen(user_id) - t('0') AS seen FROM mau.users WHERE last_seen IS NOT NULL ORDER BY user_id;
-- Again: nothing left to do.
SELECT * FROM mau.reap(t('0'));
-- mau.tasks has the result.
SELECT task, last_rows, runs, failures, last_started <= last_finished AS in_order FROM mau.tasks WHERE task = 'reap';

-- A last sighting outside that is newer than the row stays.
TRUNCATE mau.monthly_active_users, mau.users;
INSERT INTO mau.monthly_active_users VALUES ('@a:example.com', extract(epoch FROM t('-1000 h')) * 1000);
INSERT INTO mau.users (user_id, last_seen) VALUES ('@a:example.com', extract(epoch FROM t('-2 h')) * 1000);
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
SELECT mau.last_seen('@a:example.com') - t('0') AS seen;

-- At most max_rows a call; the oldest first.
TRUNCATE mau.monthly_active_users, mau.users;
INSERT INTO mau.monthly_active_users
SELECT '@u' || n || ':example.com', extract(epoch FROM t('-800 h')) * 1000 - n FROM generate_series(1, 5) n;
SELECT users FROM mau.reap(t('0'), 2) WHERE what = 'expired';
SELECT user_id FROM cohort;
SELECT users FROM mau.reap(t('0'), 2) WHERE what = 'expired';
SELECT users FROM mau.reap(t('0'), 2) WHERE what = 'expired';
SELECT users FROM mau.reap(t('0'), 2) WHERE what = 'expired';

-- Over the limit: the oldest go first. Without the limit nobody goes.
INSERT INTO mau.monthly_active_users
SELECT '@u' || n || ':example.com', extract(epoch FROM t('0')) * 1000 - n * 3600000 FROM generate_series(1, 5) n;
UPDATE mau.settings SET max_mau_value = 3;
SELECT users FROM mau.reap(t('0')) WHERE what = 'over limit';
UPDATE mau.settings SET limit_usage_by_mau = true;
SELECT users FROM mau.reap(t('0'), 1) WHERE what = 'over limit';
TABLE cohort;
SELECT users FROM mau.reap(t('0')) WHERE what = 'over limit';
TABLE cohort;
SELECT mau.last_seen('@u5:example.com') - t('0') AS seen;
-- The same instant: as many stay as there are seats.
UPDATE mau.monthly_active_users SET "timestamp" = extract(epoch FROM t('0')) * 1000;
UPDATE mau.settings SET max_mau_value = 2;
SELECT users FROM mau.reap(t('0')) WHERE what = 'over limit';
SELECT mau.monthly_active_count(t('0'));
-- A maximum of 0.
UPDATE mau.settings SET max_mau_value = 0;
SELECT users FROM mau.reap(t('0')) WHERE what = 'over limit';
SELECT count(*) FROM cohort;

-- Rows of appservices take no seat: they neither push natives out nor go in their place, however old.
INSERT INTO mau.monthly_active_users
SELECT '@u' || n || ':example.com', extract(epoch FROM t('0')) * 1000 - n * 3600000 FROM generate_series(1, 3) n;
INSERT INTO mau.monthly_active_users
SELECT '@irc_' || n || ':example.com', extract(epoch FROM t('-600 h')) * 1000, 'irc' FROM generate_series(1, 5) n;
INSERT INTO mau.monthly_active_users
SELECT '@xmpp_' || n || ':example.com', extract(epoch FROM t('0')) * 1000, 'xmpp' FROM generate_series(1, 5) n;
UPDATE mau.settings SET max_mau_value = 2;
SELECT users FROM mau.reap(t('0')) WHERE what = 'over limit';
SELECT service, count(*), min(user_id), max(user_id) FROM cohort GROUP BY service ORDER BY service;

-- Expired rows do not count against the limit: both go, and nobody else.
TRUNCATE mau.monthly_active_users;
INSERT INTO mau.monthly_active_users
SELECT '@u' || n || ':example.com', extract(epoch FROM t('0')) * 1000 - n * 3600000 FROM generate_series(1, 2) n;
INSERT INTO mau.monthly_active_users
SELECT '@old' || n || ':example.com', extract(epoch FROM t('-1000 h')) * 1000 FROM generate_series(1, 2) n;
SELECT * FROM mau.reap(t('0'));
SELECT user_id FROM cohort;

-- Reserved users: never expired, never over the limit. The others get what seats they leave (at least 0).
TRUNCATE mau.monthly_active_users;
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com'), ('msisdn', '4912345'), ('email', 'nobody@example.com');
SELECT mau.register_user('@vip:example.com', t('-9000 h')), mau.register_user('@phone:example.com', t('-9000 h'));
SELECT mau.add_threepid('@vip:example.com', 'email', 'vip@example.com'), mau.add_threepid('@phone:example.com', 'msisdn', '4912345');
INSERT INTO mau.monthly_active_users VALUES ('@vip:example.com', extract(epoch FROM t('-2000 h')) * 1000);
INSERT INTO mau.monthly_active_users
SELECT '@u' || n || ':example.com', extract(epoch FROM t('0')) * 1000 - n * 3600000 FROM generate_series(1, 3) n;
UPDATE mau.settings SET max_mau_value = 4;
SELECT * FROM mau.reap(t('0')); -- @phone gets a row: 2 reserved, 2 others stay
TABLE cohort;
SELECT mau.monthly_active_count(t('0'));
UPDATE mau.settings SET max_mau_value = 2;
SELECT * FROM mau.reap(t('0'));
TABLE cohort;
UPDATE mau.settings SET max_mau_value = 1; -- the second threepid has no seat any longer: @phone is one of the others
SELECT * FROM mau.reap(t('0'));
TABLE cohort;
-- Reserved no longer: expired at once.
DELETE FROM mau.reserved_threepids;
SELECT mau.monthly_active_count(t('0'));
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
TABLE cohort;

-- Nobody is seated while nothing is recorded, and support users never are.
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com'), ('msisdn', '4912345');
SELECT mau.register_user('@phone:example.com', t('-9000 h'), user_type => 'support');
UPDATE mau.settings SET limit_usage_by_mau = false, mau_stats_only = false, max_mau_value = 10;
SELECT users FROM mau.reap(t('0')) WHERE what = 'seated';
UPDATE mau.settings SET mau_stats_only = true;
SELECT users FROM mau.reap(t('0')) WHERE what = 'seated';
TABLE cohort;

-- Deactivated users go if they do not count.
TRUNCATE mau.monthly_active_users;
DELETE FROM mau.reserved_threepids;
SELECT mau.register_user('@left:example.com', t('-9000 h')), mau.record_activity('@left:example.com', t('0')),
       mau.record_activity('@stays:example.com', t('0')), mau.deactivate_user('@left:example.com', t('0'));
SELECT users FROM mau.reap(t('0')) WHERE what = 'deactivated';
UPDATE mau.settings SET count_deactivated_users = false;
SELECT users FROM mau.reap(t('0')) WHERE what = 'deactivated';
TABLE cohort;

-- More than one batch, ids of any length: the newest last sighting wins, and a forgotten user leaves nothing behind.
TRUNCATE mau.monthly_active_users;
UPDATE mau.settings SET limit_usage_by_mau = false;
CREATE TABLE leaving AS
    SELECT '@' || n || repeat('x', n % 7 * 35) || ':example.com' AS user_id, extract(epoch FROM t('-31 days'))::bigint * 1000 - n AS seen
    FROM generate_series(1, 12000) n;
INSERT INTO mau.monthly_active_users (user_id, "timestamp") SELECT * FROM leaving;
UPDATE mau.users SET last_seen = l.seen + 5000 FROM leaving l WHERE users.user_id = l.user_id;
SELECT users FROM mau.reap(t('0'), 1000) WHERE what = 'expired';
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
SELECT count(*) AS wrong FROM leaving WHERE mau.last_seen(user_id) IS DISTINCT FROM to_timestamp(seen / 1000.0);
SELECT mau.record_activity('@7:example.com', t('-30 days -1 hours')), mau.last_seen('@14:example.com') IS NOT NULL AS known;
SELECT mau.forget_user('@14:example.com'), mau.last_seen('@14:example.com') AT TIME ZONE 'UTC' AS last_seen;
SELECT count(*) AS wrong FROM leaving WHERE mau.last_seen(user_id) IS DISTINCT FROM to_timestamp(seen / 1000.0);
-- Somebody's own trigger is heeded.
CREATE TABLE told (user_id text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (OLD.user_id); RETURN OLD; END $$;
CREATE TRIGGER tell BEFORE DELETE ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION tell();
INSERT INTO mau.monthly_active_users (user_id, "timestamp") SELECT * FROM leaving LIMIT 5;
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
SELECT count(*) AS told FROM told;
DROP TRIGGER tell ON mau.monthly_active_users;
-- A row that this very transaction has locked leaves like any other.
INSERT INTO mau.monthly_active_users (user_id, "timestamp") SELECT * FROM leaving LIMIT 2;
BEGIN;
SELECT count(*) AS locked FROM (SELECT FROM mau.monthly_active_users m JOIN leaving USING (user_id) FOR UPDATE OF m) s;
SAVEPOINT s;
SELECT count(*) AS locked FROM (SELECT FROM mau.monthly_active_users m JOIN leaving USING (user_id) FOR NO KEY UPDATE OF m) s;
SELECT users FROM mau.reap(t('0')) WHERE what = 'expired';
COMMIT;

-- At a future instant a user who was seen a moment ago goes, too, and is admitted again.
SELECT mau.record_activity('@now:example.com', now()), mau.record_activity('@now:example.com', now());
SELECT users FROM mau.reap(now() + interval '31 days') WHERE what = 'expired' AND users > 0;
SELECT mau.record_activity('@now:example.com', now());
