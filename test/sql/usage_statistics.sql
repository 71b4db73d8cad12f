-- mau.usage_statistics without a source: Synapse's keys, over all users whom mau has seen, from its own tables.
SET timezone = 'UTC';
CREATE EXTENSION mau;
-- Nobody yet.
SELECT mau.usage_statistics('2026-06-30 12:00+00') = jsonb_object_agg(k, 0) AS all_are_there, count(*) FROM unnest('{daily_active_users,monthly_active_users,total_users,total_nonbridged_users}'::text[]
    || ARRAY(SELECT 'daily_user_type_' || t FROM unnest('{native,guest,bridged}'::text[]) t) || ARRAY(SELECT r || '_users_' || c FROM unnest('{r30,r30v2}'::text[]) r, unnest('{all,android,electron,ios,web}'::text[]) c)) k;
-- Users of all kinds with visits on some of the last 70 days.
CREATE FUNCTION noon(ago int) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT '2026-06-30 12:00+00'::timestamptz - ago * interval '24 h' $$;
CREATE TABLE person AS
    SELECT n, '@u' || n || ':x' AS user_id, noon(CASE WHEN n < 3 THEN 0 ELSE 20 + n END) - interval '3 h' AS registered_at, n % 9 = 1 AS is_guest, CASE n % 8 WHEN 0 THEN 'support' WHEN 3 THEN 'bot' END AS user_type,
           CASE n % 7 WHEN 0 THEN 'irc' END AS appservice_id,
           (ARRAY['Mozilla/5.0', 'Element (Android 14)', 'Element (iOS)', 'Element Electron', 'curl/8', NULL])[n % 6 + 1] AS user_agent, (ARRAY['web', 'android', 'ios', 'electron'])[n % 6 + 1] AS client
    FROM generate_series(1, 40) n;
SELECT count(mau.register_user(user_id, registered_at, user_type, appservice_id, is_guest)) FROM person;
CREATE TABLE visit AS SELECT p.*, ago, noon(ago) AS at FROM person p, generate_series(0, 70) ago WHERE ago % (n % 5 + 3) = n % 3 AND (n % 4 <> 0 OR ago > 31) AND noon(ago) >= p.registered_at;
SELECT sum(users) AS users FROM mau.record_activities((SELECT array_agg(user_id) FROM visit), (SELECT array_agg(at) FROM visit), (SELECT array_agg(user_agent) FROM visit));
CREATE TABLE ours AS SELECT key, value::int FROM jsonb_each_text(mau.usage_statistics(noon(0)));
TABLE ours ORDER BY 1;
-- The same by plain SQL; r30v2 in Synapse's words, r30 by the day.
CREATE VIEW theirs AS
    SELECT 'daily_active_users', (SELECT count(DISTINCT user_id) FROM visit WHERE at > noon(1))
    UNION ALL SELECT 'monthly_active_users', (SELECT count(DISTINCT user_id) FROM visit WHERE at > noon(30))
    UNION ALL SELECT 'total_users', (SELECT count(*) FROM person)
    UNION ALL SELECT 'total_nonbridged_users', (SELECT count(*) FROM person WHERE appservice_id IS NULL)
    UNION ALL SELECT 'daily_user_type_' || t, (SELECT count(*) FROM person WHERE registered_at > noon(1) AND CASE t WHEN 'native' THEN NOT is_guest AND appservice_id IS NULL
        WHEN 'guest' THEN is_guest AND appservice_id IS NULL ELSE NOT is_guest AND appservice_id IS NOT NULL END) FROM unnest('{native,guest,bridged}'::text[]) t
    UNION ALL SELECT 'r30v2_users_' || c, (SELECT count(*) FROM (SELECT FROM visit WHERE NOT is_guest AND appservice_id IS NULL AND (c = 'all' OR client = c)
        AND date_trunc('day', at, 'UTC') > noon(60) AND date_trunc('day', at, 'UTC') < noon(-1) GROUP BY user_id
        HAVING max(date_trunc('day', at, 'UTC')) - min(date_trunc('day', at, 'UTC')) > interval '720 h') s) FROM unnest('{all,android,electron,ios,web}'::text[]) c
    UNION ALL SELECT 'r30_users_' || c, (SELECT count(DISTINCT user_id) FROM visit WHERE NOT is_guest AND appservice_id IS NULL AND (c = 'all' OR client = c)
        AND ago < 30 AND date_trunc('day', at, 'UTC') - date_trunc('day', registered_at, 'UTC') > interval '720 h') FROM unnest('{all,android,electron,ios,web}'::text[]) c;
(TABLE ours EXCEPT TABLE theirs) UNION ALL (TABLE theirs EXCEPT TABLE ours);
-- Once a reap has worked by a later time, the question is about the past. The history still answers.
SELECT users > 0 AS some_leave FROM mau.reap(noon(-40)) WHERE what = 'expired';
SELECT mau.usage_statistics(noon(0));
SELECT mau.active_users('7 days', noon(0)) = count(DISTINCT user_id) AS the_same FROM visit WHERE at > noon(7) + interval '12 h' AND NOT is_guest AND user_type IS DISTINCT FROM 'support' AND appservice_id IS NULL;
-- A forgotten user who comes back is one account, not two.
SELECT mau.forget_user('@u5:x'), mau.register_user('@u5:x', noon(25));
(SELECT * FROM ours WHERE key ~ '^total' EXCEPT SELECT key, value::int FROM jsonb_each_text(mau.usage_statistics(noon(-40))));
SELECT mau.usage_statistics('infinity');
