-- Each sighting marks its user, day and client once, for every kind of user, and also when the cohort's row is removed.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION agent(client text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT CASE client
    WHEN 'web' THEN 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0'
    WHEN 'ios' THEN 'Element/1.6.8 (iPhone; iOS 17.4; Scale/3.00)'
    WHEN 'android' THEN 'Element/1.6.10 (Google Pixel 7; Android 14; Flavour GooglePlay)'
    WHEN 'electron' THEN 'Mozilla/5.0 (X11; Linux x86_64) Gecko Element/1.11 Chrome/120 Electron/28'
    WHEN 'unknown' THEN 'curl/8.0' END $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0', client text DEFAULT NULL) RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':x', t(i), agent(client)) $$;
CREATE VIEW marks AS -- "rows": 1 for what was marked once
    SELECT coalesce(u.user_id, 'forgotten') AS user_id, day, (ARRAY['unknown', 'web', 'electron', 'android', 'ios'])[platform + 1] AS client, service, count(*) AS rows
    FROM mau.visits LEFT JOIN mau.users u USING (user_no) GROUP BY user_no, u.user_id, day, platform, service ORDER BY user_id COLLATE "C", user_no, day, platform;

-- Once a day, however often.
SELECT see('a'), see('a'), see('a', '10 min');
SELECT see('a', '1 h 1 ms'), see('a', '3 h'), see('a', '5 h'), see('a', '5 h 1 min');
TABLE marks;
-- The first sighting after midnight is the new day's, within the granularity too; the last sighting does not move (Synapse's rule).
SELECT see('a', '11 h 50 min');
SELECT see('a', '12 h 20 min'), mau.last_seen('@a:x') - t('11 h 50 min') AS moved;
SELECT see('a', '12 h 30 min'), see('a', '12 h 40 min'), mau.last_seen('@a:x') - t('11 h 50 min') AS moved;
TABLE marks;
-- A second client on one day; each once.
SELECT see('a', '12 h 41 min', 'ios'), see('a', '12 h 42 min', 'web'), see('a', '12 h 43 min', 'ios'), see('a', '12 h 44 min', 'web');
SELECT see('a', '12 h 45 min', 'ios'), see('a', '14 h', 'ios'), see('a', '14 h 1 min', 'unknown'), see('a', '14 h 2 min');
SELECT * FROM marks WHERE day = '2020-11-22';
SELECT "timestamp" = extract(epoch FROM t('14 h')) * 1000 AS moved, visited >> 5 = date '2020-11-22' - date '1970-01-01' AS day, visited & 31 AS clients FROM mau.monthly_active_users;
TRUNCATE mau.visits;

-- Everybody who is not in the cohort, too.
SELECT mau.register_user('@guest:x', t('-9 days'), is_guest => true), mau.register_user('@support:x', t('-9 days'), 'support'),
    mau.register_user('@bridged:x', t('-9 days'), appservice_id => 'irc'), mau.register_user('@trial:x', t('0'));
UPDATE mau.settings SET mau_trial_days = 5;
SELECT who, see(who), see(who, '1 min'), see(who, '2 h', 'web'), see(who, '2 h 1 min', 'web') FROM unnest('{guest,support,bridged,trial}'::text[]) who;
SELECT who, see(who, '3 min'), see(who, '2 h 2 min', 'web'), see(who, '12 h'), see(who, '12 h 1 min') FROM unnest('{guest,support,bridged,trial}'::text[]) who;
TABLE marks;
TRUNCATE mau.visits;
-- Users who found the server full, who were in trial in the morning, who lost the seat and come back the same day.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1, mau_trial_days = 0;
SELECT see('full'), see('full', '1 min'), see('full', '2 h');
UPDATE mau.settings SET max_mau_value = 10;
SELECT see('full', '3 h'), see('full', '3 h 1 min'), see('trial', '12 h 2 min'), see('trial', '12 h 3 min');
UPDATE mau.settings SET max_mau_value = 0;
SELECT users FROM mau.reap(t('5 h')) WHERE what = 'over limit';
SELECT see('full', '4 h'), see('trial', '12 h 4 min'), see('trial', '12 h 4 min', 'web');
UPDATE mau.settings SET max_mau_value = 10;
SELECT see('full', '5 h'), see('trial', '12 h 5 min');
SELECT * FROM marks WHERE user_id <> '@a:x';
TRUNCATE mau.visits;
-- A member without a row in mau.users; one who is forgotten and comes back as a new user.
INSERT INTO mau.monthly_active_users VALUES ('@hand:x', extract(epoch FROM t('0')) * 1000);
SELECT see('hand', '1 min'), see('hand', '2 min');
SELECT see('gone'), mau.forget_user('@gone:x');
SELECT see('gone'), see('gone');
TABLE marks;
TRUNCATE mau.visits;
-- Nobody where nothing is recorded, nor those of other servers.
UPDATE mau.settings SET limit_usage_by_mau = false, server_name = 'x';
SELECT mau.record_activity('@far:elsewhere', t('0'));
UPDATE mau.settings SET mau_stats_only = false, server_name = NULL;
SELECT see('nobody');
TABLE marks;
UPDATE mau.settings SET mau_stats_only = true;

-- A sighting that is rolled back leaves no mark, and the next call marks.
BEGIN;
SELECT see('r');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT see('r', '1 min'), see('r', '2 min', 'web');
ROLLBACK TO s;
COMMIT;
TABLE marks;
SELECT see('r', '3 min'), see('r', '4 min');
BEGIN;
SELECT see('r', '1 day'), see('r', '1 day 2 h', 'web');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT see('r', '1 day 1 min'), see('r', '1 day 2 min');
SELECT see('r', '1 day 2 h 1 min', 'web'), see('r', '1 day 2 h 2 min', 'web');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT see('r', '1 day 6 h', 'ios'), see('r', '1 day 6 h 1 min', 'ios'), see('r', '1 day 6 h 2 min'), see('r', '1 day 8 h', 'ios');
COMMIT;
SELECT see('r', '1 day 6 h 3 min', 'ios'), see('r', '1 day 3 min', 'web');
TABLE marks;
TRUNCATE mau.visits;
-- A late sighting goes to its day, once more if it comes again; figures do not mind.
SELECT see('r', '-3 days'), see('r', '-3 days'), see('r', '-2 days');
SELECT DISTINCT user_id, day, client FROM marks ORDER BY 2;
SELECT what, rows > 0 AS some FROM mau.fold(t('2 days')) WHERE what <> 'purged';
SELECT day, dau FROM mau.daily_series('2020-11-18', '2020-11-20');
-- After a fold nothing is marked again.
SELECT see('r', '1 day 9 h', 'ios'), see('r', '1 day 9 h 1 min');
TABLE marks;
-- Many at once, with several sightings of one user.
SELECT * FROM mau.record_activities(ARRAY['@b1:x', '@b1:x', '@b1:x', '@b2:x', '@guest:x', '@guest:x', '@b1:x'],
    ARRAY[t('2 days'), t('2 days 1 min'), t('2 days'), t('2 days'), t('2 days'), t('1 day'), t('1 day')], ARRAY[agent('web'), agent('web'), agent('ios'), NULL, NULL, NULL, NULL]);
SELECT * FROM mau.record_activities(ARRAY['@b1:x', '@b1:x', '@b2:x', '@guest:x', '@b2:x'],
    ARRAY[t('2 days'), t('2 days 2 min'), t('2 days 2 h'), t('2 days 2 h'), t('2 days 2 h')], ARRAY[agent('web'), agent('ios'), NULL, NULL, agent('android')]);
TABLE marks;
TRUNCATE mau.visits;

-- Triggers of others on the tables see the rows that are written; the marks are the same.
CREATE TABLE heard (what text);
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.heard VALUES (TG_TABLE_NAME || ' ' || TG_OP); RETURN NULL; END $$;
CREATE TRIGGER hear AFTER INSERT OR UPDATE ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hear AFTER INSERT OR UPDATE ON mau.users FOR EACH ROW EXECUTE FUNCTION hear();
CREATE TRIGGER hear AFTER INSERT ON mau.visits FOR EACH ROW EXECUTE FUNCTION hear();
SELECT see('r', '3 days'), see('r', '3 days 1 min'), see('r', '3 days 2 min', 'web'), see('r', '3 days 3 min', 'web'), see('r', '3 days 2 h', 'web');
SELECT see('guest', '3 days'), see('guest', '3 days 1 min'), see('guest', '3 days 2 min', 'web'), see('guest', '3 days 3 min', 'web'), see('guest', '3 days 2 h', 'web');
SELECT what, count(*) FROM heard GROUP BY 1 ORDER BY 1;
TABLE marks;
SELECT user_id, mau.last_seen(user_id) - t('3 days 2 h') AS moved FROM unnest('{@r:x,@guest:x}'::text[]) user_id;
DROP TRIGGER hear ON mau.monthly_active_users; DROP TRIGGER hear ON mau.users; DROP TRIGGER hear ON mau.visits;
TRUNCATE mau.visits, heard;

-- Random sightings, time going on, each in a transaction of its own, some of which are undone; reap and fold run. Every visit
-- is there, and was written once.
CREATE TABLE expected (user_id text COLLATE "C", day date, platform int);
CREATE TABLE written (rows bigint DEFAULT 0);
INSERT INTO written DEFAULT VALUES;
CREATE TABLE wrong (what text);
SELECT setseed(0.7) \g /dev/null
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 12, mau_trial_days = 2;
SELECT count(mau.register_user('@n' || i || ':x', t('3 days') + i * interval '1 day', CASE WHEN i = 3 THEN 'support' END, CASE WHEN i = 4 THEN 'irc' END, i = 5)) FROM generate_series(1, 20) i;
DO $$
DECLARE
    clock interval := '4 days';
    who text;
    client text;
    undo boolean;
    outcome text;
BEGIN
    FOR i IN 1..1500 LOOP
        clock := clock + CASE WHEN random() < 0.8 THEN random() * interval '15 min' WHEN random() < 0.99 THEN random() * interval '3 h' ELSE random() * interval '12 days' END;
        who := '@n' || 1 + floor(random() * 25)::int || ':x';
        client := (ARRAY[NULL, 'web', 'web', 'ios', 'android', 'electron'])[1 + floor(random() * 6)::int];
        undo := random() < 0.1;
        IF random() < 0.5 THEN
            outcome := mau.record_activity(who, t(clock), agent(client));
        ELSE
            outcome := 'admitted';
            IF mau.admit(who, t(clock), agent(client)) IS NOT NULL THEN -- a user refused by the count alone was not recorded
                outcome := mau.record_activity(who, t(clock), agent(client));
            END IF;
        END IF;
        IF undo THEN
            ROLLBACK;
        ELSIF outcome NOT IN ('off', 'remote') THEN
            INSERT INTO expected VALUES (who, (t(clock) AT TIME ZONE 'UTC')::date, CASE client WHEN 'web' THEN 1 WHEN 'electron' THEN 2 WHEN 'android' THEN 3 WHEN 'ios' THEN 4 ELSE 0 END);
        END IF;
        COMMIT;
        IF random() < 0.01 THEN
            PERFORM mau.reap(t(clock));
            COMMIT;
        ELSIF random() < 0.02 THEN
            UPDATE written SET rows = rows + (SELECT f.rows FROM mau.fold(t(clock)) f WHERE what = 'visits');
            COMMIT;
        END IF;
        IF random() < 0.05 THEN
            INSERT INTO wrong SELECT 'renewed after timestamp' FROM mau.monthly_active_users WHERE renewed > "timestamp";
            INSERT INTO wrong SELECT format('count %s of %s', mau.monthly_active_count(t(clock)), n)
            FROM (SELECT count(*) AS n FROM mau.monthly_active_users WHERE service = 'native' AND "timestamp" >= floor(extract(epoch FROM t(clock)) * 1000) - 2592000000) x
            WHERE n <> mau.monthly_active_count(t(clock));
        END IF;
        COMMIT;
    END LOOP;
END $$;
TABLE wrong;
UPDATE written SET rows = rows + (SELECT count(*) FROM mau.visits);
SELECT count(*) > 500 AS many, count(*) = (SELECT rows FROM written) AS each_once FROM (SELECT DISTINCT * FROM expected) e;
SELECT rows >= 0 AS folded FROM mau.fold(t('90 days')) WHERE what = 'visits';
-- Day by day and client by client.
SELECT count(*) AS differ FROM
    (SELECT day, p.name, count(DISTINCT user_id) AS n FROM expected CROSS JOIN unnest('{unknown,web,electron,android,ios}'::text[]) WITH ORDINALITY p(name, i)
     WHERE platform = i - 1 GROUP BY 1, 2) e
    FULL JOIN (SELECT s.day, p.name, s.dau AS n FROM unnest('{unknown,web,electron,android,ios}'::text[]) p(name),
                   mau.daily_series('2020-11-25', '2021-12-31', NULL, p.name, kind => 'everybody') s WHERE s.dau > 0) f USING (day, name)
    WHERE e.n IS DISTINCT FROM f.n;

-- An account that changes is judged anew at the next sighting, though the member was seen lately.
TRUNCATE mau.monthly_active_users, mau.users, mau.visits;
UPDATE mau.settings SET limit_usage_by_mau = false, mau_trial_days = 0;
SELECT mau.register_user('@v:x', t('0')), see('v', '1 h'), see('v', '3 h');
SELECT mau.register_user('@v:x', t('0'), 'support'), see('v', '5 h');
SELECT mau.register_user('@w:x', t('0')), see('w', '1 h'), see('w', '3 h');
UPDATE mau.users SET is_guest = true WHERE user_id = '@w:x';
SELECT see('w', '5 h');
SELECT mau.register_user('@y:x', t('0')), see('y', '1 h'), see('y', '3 h');
UPDATE mau.settings SET mau_trial_days = 3;
SELECT see('y', '5 h');
UPDATE mau.settings SET mau_trial_days = 0, track_appservice_user_ips = true;
SELECT see('y', '7 h'), mau.register_user('@y:x', t('0'), appservice_id => 'irc');
SELECT see('y', '9 h'), see('y', '11 h'), (SELECT service FROM mau.monthly_active_users WHERE user_id = '@y:x');
UPDATE mau.settings SET track_appservice_user_ips = false;
SELECT see('y', '11 h 50 min');
-- So is one that was on trial until a moment ago, by what comes in late.
UPDATE mau.settings SET mau_trial_days = 3;
SELECT mau.register_user('@z:x', t('-3 days')), see('z', '-1 h'), see('z', '1 h');
SELECT see('z', '-30 min');
