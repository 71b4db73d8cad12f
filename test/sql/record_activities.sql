-- record_activities writes the same rows and returns the same outcomes as one record_activity for the newest sighting of each user. An
-- error records nothing.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE VIEW cohort AS SELECT user_id, service, to_timestamp("timestamp" / 1000.0) - t('0') AS seen FROM mau.monthly_active_users ORDER BY user_id;
-- Every outcome in one batch, counted.
SELECT mau.register_user('@guest:example.com', t('-100 days'), is_guest => true), mau.register_user('@help:example.com', t('-100 days'), 'support'),
       mau.register_user('@irc:example.com', t('-100 days'), appservice_id => 'irc'), mau.register_user('@trial:example.com', t('-1 days')),
       mau.register_user('@gone:example.com', t('-100 days')), mau.deactivate_user('@gone:example.com', t('0')),
       mau.record_activity('@fresh:example.com', t('-10 min')), mau.record_activity('@stale:example.com', t('-10 h')) \g /dev/null
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3, mau_trial_days = 7, count_deactivated_users = false, server_name = 'example.com';
SELECT * FROM mau.record_activities(
    '{@guest:example.com,@help:example.com,@irc:example.com,@trial:example.com,@gone:example.com,@fresh:example.com,@stale:example.com,@late:example.com,@early:example.com,@x:elsewhere.org}',
    ARRAY[t('0'), t('0'), t('0'), t('0'), t('0'), t('0'), t('0'), t('0'), t('-1 s'), t('0')]);
-- The seat went to the one who was seen first, and each was written as record_activity does it.
TABLE cohort;
SELECT user_id, to_timestamp(last_seen / 1000.0) - t('0') AS seen FROM mau.users WHERE last_seen IS NOT NULL ORDER BY user_id;
UPDATE mau.settings SET mau_stats_only = false, limit_usage_by_mau = false;
SELECT * FROM mau.record_activities('{@a:example.com,@b:example.com}', ARRAY[t('0'), t('0')]);
UPDATE mau.settings SET mau_stats_only = true, limit_usage_by_mau = false, server_name = NULL;
-- Of several sightings of one user the newest is taken, wherever it stands; a user is counted once.
SELECT * FROM mau.record_activities('{@d:x,@d:x,@d:x,@e:x}', ARRAY[t('-5 h'), t('-1 h'), t('-3 h'), t('0')]);
SELECT user_id, seen FROM cohort WHERE user_id LIKE '%:x';
-- Nothing, and NULL agents.
SELECT * FROM mau.record_activities('{}', '{}');
SELECT * FROM mau.record_activities('{@f:x,@g:x}', ARRAY[t('0'), t('0')], '{Element,NULL}');
-- Arrays need not begin at 1, and may be long: more than are locked at once.
SELECT * FROM mau.record_activities('[0:1]={@h:x,@i:x}', ('[5:6]={' || quote_literal(t('0')) || ',' || quote_literal(t('0')) || '}')::text::timestamptz[]);
SELECT * FROM mau.record_activities((SELECT array_agg('@many' || n || ':x') FROM generate_series(1, 1000) n), (SELECT array_agg(t('0')) FROM generate_series(1, 1000)));
SELECT * FROM mau.record_activities((SELECT array_agg('@many' || n || ':x') FROM generate_series(501, 1500) n), (SELECT array_agg(t('2 h')) FROM generate_series(1, 1000)));
SELECT seen, count(*) FROM cohort WHERE user_id LIKE '@many%' GROUP BY 1 ORDER BY 1;
-- The same batch as one call for each (brute force): same rows, same outcomes.
CREATE TABLE sightings AS SELECT '@r' || n % 97 || ':x' AS who, t(n % 13 * interval '1 h') AS at FROM generate_series(1, 500) n;
CREATE TABLE newest AS SELECT who, max(at) AS at FROM sightings GROUP BY who;
BEGIN;
SELECT outcome, count(*) FROM (SELECT mau.record_activity(who, at) FROM newest) s(outcome) GROUP BY 1;
CREATE TABLE one_by_one AS TABLE cohort;
DELETE FROM mau.monthly_active_users WHERE user_id LIKE '@r%';
SELECT r.* FROM (SELECT array_agg(who ORDER BY n) AS who, array_agg(at ORDER BY n) AS at FROM (SELECT *, md5(who || at) AS n FROM sightings) s) s, mau.record_activities(who, at) r;
SELECT count(*) FROM ((TABLE cohort EXCEPT TABLE one_by_one) UNION ALL (TABLE one_by_one EXCEPT TABLE cohort)) difference;
COMMIT;
-- An error leaves nothing: not the other users either.
SELECT count(*) FROM mau.monthly_active_users WHERE user_id LIKE '@z%';
SELECT * FROM mau.record_activities('{@z1:x,@z2:x,""}', ARRAY[t('0'), t('0'), t('0')]);
SELECT * FROM mau.record_activities(ARRAY['@z1:x', '@z2:x', repeat('z', 256)], ARRAY[t('0'), t('0'), t('0')]);
SELECT * FROM mau.record_activities('{@z1:x,@z2:x}', ARRAY[t('0'), 'infinity']);
SELECT * FROM mau.record_activities('{@z1:x,@z2:x}', ARRAY[t('0')]);
SELECT * FROM mau.record_activities('{@z1:x,@z2:x}', ARRAY[t('0'), t('0')], '{agent}');
SELECT * FROM mau.record_activities('{@z1:x,NULL}', ARRAY[t('0'), t('0')]);
SELECT * FROM mau.record_activities('{@z1:x,@z2:x}', ARRAY[t('0'), NULL]);
SELECT * FROM mau.record_activities('{{@z1:x},{@z2:x}}', ARRAY[t('0'), t('0')]);
SELECT * FROM mau.record_activities('{@z1:x,@z2:x}', ARRAY[ARRAY[t('0'), t('0')]]);
SELECT * FROM mau.record_activities(NULL, ARRAY[t('0')]);
SELECT * FROM mau.record_activities('{@z1:x}', NULL);
SELECT count(*) FROM mau.monthly_active_users WHERE user_id LIKE '@z%';
-- The backend's memory during a call does not grow with the batch.
CREATE TABLE memory (bytes bigint);
CREATE FUNCTION look_at_memory() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.memory SELECT sum(total_bytes) FROM pg_backend_memory_contexts; RETURN NULL; END $$;
CREATE TRIGGER look AFTER INSERT ON mau.users FOR EACH STATEMENT EXECUTE FUNCTION look_at_memory();
SELECT * FROM mau.record_activities((SELECT array_agg('@large' || n || ':x') FROM generate_series(1, 20000) n), (SELECT array_agg(t('0')) FROM generate_series(1, 20000)));
SELECT count(*) > 10 AS looks, max(bytes) - min(bytes) < 2000000 AS little_more FROM memory;
DROP TRIGGER look ON mau.users;
