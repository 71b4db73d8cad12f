-- Every function that reads works in any plan: here in the leader of a parallel one, with the settings to be read anew.
CREATE EXTENSION mau;
CREATE TABLE big AS SELECT n FROM generate_series(1, 20000) n;
ANALYZE big;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
-- The default of some of them is now().
UPDATE mau.settings SET track_appservice_user_ips = true, max_mau_value = 5;
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@example.com');
SELECT count(mau.register_user('@u' || n || ':example.com', '2020-01-01 00:00+00', appservice_id => CASE WHEN n % 5 = 0 THEN 'irc' END)) FROM generate_series(1, 20) n;
SELECT mau.register_user('@vip:example.com', '2019-01-01 00:00+00', medium => 'email', address => 'VIP@example.com');
SELECT * FROM mau.record_activities((SELECT array_agg('@u' || n || ':example.com') FROM generate_series(1, 20) n), (SELECT array_agg('2020-06-30 12:00+00'::timestamptz - n * interval '1 day') FROM generate_series(1, 20) n));
CREATE TABLE calls (call text, answer text);
INSERT INTO calls VALUES
('mau.monthly_active_count($)'), ('mau.monthly_active_count_by_service($)'), ('mau.monthly_active_count_by_host($)'), ('mau.monthly_active_users_by_service()'),
('mau.active_users(''7 days'', $)'), ('mau.active_users(''60 days'', $)'), ('mau.active_users(''30 days'', $, min_days => 2)'), ('mau.active_users(''7 days'', ''2020-06-20 12:00+00'')'),
('mau.active_users_by_host(''7 days'', $)'), ('mau.last_seen(''@u1:example.com'')'), ('mau.registered_reserved_users()'),
('mau.daily_series(''2020-06-01'', ''2020-06-30'')'), ('mau.growth(''2020-06-01'', ''2020-06-30'')'), ('mau.retention(''month'', ''2020-01-01'', ''2020-06-30'', at => $)'),
('mau.days_active($)'), ('mau.r30v2($)'), ('mau.r30v2_series(''2020-06-01'', ''2020-06-30'')'), ('mau.r30($)'), ('mau.billing_months(''2020-06-01'', ''2020-06-30'', at => $)'),
('mau.forecast(100, $)'), ('mau.nodeinfo_usage($)'), ('mau.chart(''dau'', ''2020-06-01'', ''2020-06-30'')'), ('mau.metrics($)'), ('mau.usage_statistics($)'),
('mau.check_auth_blocking(''@u1:example.com'', at => $)'), ('mau.explain(''@u1:example.com'', $)'), ('mau.host_of(''@a:b'')'),
('mau.fold_address(''email'', ''A@B'')'), ('mau.is_regex(''{a}'')');
CREATE FUNCTION query_of(call text) RETURNS text LANGUAGE sql
    AS $$ SELECT 'coalesce((SELECT string_agg(f::text, ''|'' ORDER BY f::text) FROM ' || replace(call, '$', '''2020-06-30 12:00+00''') || ' f), ''none'')' $$;
SELECT format('UPDATE calls SET answer = %s WHERE call = %L', query_of(call), call) FROM calls \gexec
-- There are workers beside the functions.
CREATE FUNCTION plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT count(*) > 0 AS is_parallel FROM plan($$SELECT (SELECT count(*) FROM big), mau.monthly_active_count('2020-06-30 12:00+00')$$) line WHERE line ~ 'Gather';
\pset tuples_only on
\pset format unaligned
SELECT 'UPDATE mau.settings SET max_mau_value = max_mau_value',
       format('SELECT (SELECT count(*) FROM big), %L, %s = (SELECT answer FROM calls WHERE call = %L)', call, query_of(call), call) FROM calls \gexec
SELECT 'SELECT count(*) FROM big, mau.' || f FROM unnest('{health(),describe_seats(),lost_calls(),worker_state(),seen_cache(),status}'::text[]) f \gexec
-- Also in REPEATABLE READ, after a write.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM big;
SELECT mau.record_activity('@u1:example.com', '2020-06-30 12:00+00');
SELECT (SELECT count(*) FROM big), mau.monthly_active_count('2020-06-30 12:00+00'), mau.active_users('30 days', '2020-06-30 12:00+00');
COMMIT;
-- The marks of the functions that a plan may use in its leader, or once for several calls.
SELECT p.proname, p.provolatile, p.proparallel FROM pg_proc p WHERE p.pronamespace = 'mau'::regnamespace AND (p.provolatile, p.proparallel) <> ('v', 'u')
ORDER BY p.provolatile, p.proparallel, p.proname;
