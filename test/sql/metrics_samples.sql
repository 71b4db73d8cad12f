-- mau.samples(): the lines of mau.metrics() as rows; health and forecast as series.
CREATE EXTENSION mau;
\pset format unaligned
\pset tuples_only
-- Names of services that text formats escape.
INSERT INTO mau.snapshots (at, dau, wau, mau, by_service, daily_active_users, accounts_by_service)
    VALUES (now(), 0, 0, 0, jsonb_build_object('native', 1, E'a"b\\c\nd\te', 2), 0, '{}');
UPDATE mau.settings SET server_name = 'x.org';
SELECT labels->>'service' = E'a"b\\c\nd\te', labels->>'server_name', labels->>'period', value FROM mau.samples() WHERE name = 'mau_active_users' AND labels->>'service' <> 'native';
-- Each line of the text is a row, in the same order.
SELECT count(*) > 20, count(*) FILTER (WHERE t.name = s.name AND (t.value = s.value::text OR t.name ~ 'age_seconds')) = count(*)
FROM (SELECT substring(l FROM '^\w+') AS name, substring(l FROM '\S+$') AS value, row_number() OVER () AS n
      FROM regexp_split_to_table(mau.metrics(), '\n') WITH ORDINALITY x(l, o) WHERE l ~ '^[a-z]') t
     FULL JOIN (SELECT *, row_number() OVER () AS n FROM mau.samples()) s USING (n);
-- Health: one series of nine is 1.
SELECT count(*), sum(value), max(labels->>'state') FILTER (WHERE value = 1) = (SELECT health FROM mau.health()) FROM mau.samples() WHERE name = 'mau_health';
SELECT what FROM mau.fold();
SELECT count(*), sum(value), max(labels->>'state') FILTER (WHERE value = 1) = (SELECT health FROM mau.health()) FROM mau.samples() WHERE name = 'mau_health';
-- mau.health does not know how it was before the last tasks.
SELECT count(*) FILTER (WHERE name = 'mau_health'), count(*) > 3 FROM mau.samples(now() - interval '1 hour');
-- The label database, on each sample.
UPDATE mau.settings SET metrics_database_label = true;
SELECT count(*) FILTER (WHERE labels->>'database' = current_database() AND labels->>'server_name' = 'x.org') = count(*) FROM mau.samples();
SELECT l LIKE format('synapse%%{database="%s",server_name="x.org"} _', current_database()) FROM regexp_split_to_table(mau.metrics(), '\n') l WHERE l LIKE 'synapse_admin_mau_current{%';
UPDATE mau.settings SET metrics_database_label = false;
SELECT count(labels->>'database') FROM mau.samples();
SELECT mau.samples(NULL);
DROP EXTENSION mau;

-- The forecast: kept once an hour, while there is a limit. One more user each day.
CREATE EXTENSION mau;
CREATE FUNCTION refresh(at timestamptz) RETURNS text LANGUAGE sql AS $$
    SELECT mau.refresh(at);
    SELECT coalesce(s.forecast->>'reaches', 'none kept') || ', ' ||
           coalesce((SELECT to_timestamp(m.value) AT TIME ZONE 'UTC' FROM mau.samples(at) m WHERE m.name = 'mau_limit_reached_timestamp_seconds')::text, 'no series')
    FROM mau.snapshots s WHERE s.at = refresh.at $$;
INSERT INTO mau.users (user_no, user_id, is_registered) SELECT n, '@' || n || ':x', true FROM generate_series(1, 80) n;
INSERT INTO mau.visits (user_no, day, platform, service)
    SELECT n, date '2026-05-01' + d, 1, 'native' FROM generate_series(1, 80) n, generate_series(0, 91) d WHERE d >= n;
SELECT refresh('2026-08-01 12:00Z');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 100;
SELECT day, mau, target_mau, reaches, days_left FROM mau.forecast(at => '2026-08-01 12:01Z');
SELECT refresh('2026-08-01 12:01Z');
SELECT refresh('2026-08-01 12:06Z');
SELECT refresh('2026-08-01 13:02Z');
-- Another limit has another answer at once.
UPDATE mau.settings SET max_mau_value = 110;
SELECT name FROM mau.samples('2026-08-01 13:03Z') WHERE name ~ 'limit_reached';
SELECT refresh('2026-08-01 13:07Z');
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT refresh('2026-08-01 15:00Z');
-- It is reached; a day later nothing is known.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 50;
SELECT refresh('2026-08-01 16:00Z');
SELECT name FROM mau.samples('2026-08-02 16:00:01Z') WHERE name ~ 'limit_reached';
-- Where the history cannot be read, the other figures are recorded.
INSERT INTO mau.active_days (chunk, day, platform, service, users) VALUES (0, '2026-07-01', 2, 'native', '\x00');
SELECT refresh('2026-08-03 12:00Z');
DROP EXTENSION mau;
