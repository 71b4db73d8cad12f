-- A user has a number, in order of registration or first sight; nothing but a new user draws one. (History keeps a
-- bitmap for 65 536 numbers: numbers that nobody has would make it long.)
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
CREATE FUNCTION gaps() RETURNS TABLE (users bigint, last bigint) LANGUAGE sql AS $$ SELECT count(*), max(user_no) FROM mau.users $$;
SELECT mau.register_user('@a:example.com', t('-100 days'), is_guest => true), mau.register_user('@b:example.com', t('-100 days')), see('c'), see('d');
SELECT user_no, user_id FROM mau.users ORDER BY user_no;
-- Registered again, seen again outside the cohort and in it, one by one and in batches.
SELECT mau.register_user('@a:example.com', t('-100 days')) FROM generate_series(1, 10) \g /dev/null
SELECT mau.register_user('@a:example.com', t('-100 days'), is_guest => true);
SELECT see('a', n * interval '2 h'), see('b', n * interval '2 h'), see('c', n * interval '2 h') FROM generate_series(1, 10) n \g /dev/null
SELECT mau.register_user('@g' || n || ':example.com', t('-100 days'), is_guest => true) FROM generate_series(1, 300) n \g /dev/null
SELECT * FROM mau.record_activities((SELECT array_agg('@g' || n || ':example.com') FROM generate_series(1, 310) n), (SELECT array_agg(t('0')) FROM generate_series(1, 310) n));
SELECT * FROM mau.record_activities((SELECT array_agg('@g' || n || ':example.com') FROM generate_series(1, 310) n), (SELECT array_agg(t('2 h')) FROM generate_series(1, 310) n));
-- Members who leave: expired, deactivated, over the limit.
SELECT users FROM mau.reap(t('1000 h')) WHERE what = 'expired';
UPDATE mau.settings SET count_deactivated_users = false;
SELECT see('b', '1000 h'), mau.deactivate_user('@b:example.com', t('1000 h'));
SELECT * FROM gaps();
SELECT see('new', '1000 h');
SELECT * FROM gaps();
-- The last sightings are right nevertheless.
SELECT mau.last_seen('@a:example.com') - t('0') AS guest, mau.last_seen('@b:example.com') - t('0') AS deactivated, mau.last_seen('@c:example.com') - t('0') AS expired,
       mau.last_seen('@g7:example.com') - t('0') AS in_a_batch, mau.last_seen('@g307:example.com') - t('0') AS in_a_batch_expired;
-- If a new user's row is rolled back (here because a trigger raises 55P03), no visit is left under its number, and the user, who is recorded
-- later, counts once.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = 'lock_not_available'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT see('later', '1000 h');
SELECT user_id AS deferred FROM mau.deferred_calls;
SELECT count(*) AS visits FROM mau.visits v WHERE NOT EXISTS (SELECT FROM mau.users u WHERE u.user_no = v.user_no);
DROP TRIGGER refuse ON mau.monthly_active_users;
SELECT rows AS calls FROM mau.fold(t('1000 h')) WHERE what = 'calls';
SELECT dau FROM mau.daily_series('2027-01-02', '2027-01-02', kind => 'everybody');
