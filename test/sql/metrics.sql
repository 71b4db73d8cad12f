-- mau.metrics(): Synapse's gauges, by Synapse's definitions, beside the brute-force answer. Figures that take a scan are those of the last
-- snapshot, whose age is a gauge.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
\pset format unaligned
\pset tuples_only
-- Left out: the series of shared memory, which metrics_preload tests, and the times of tasks and health, which are of the real clock.
CREATE FUNCTION families(at timestamptz) RETURNS SETOF text LANGUAGE sql
    AS $$ SELECT f FROM regexp_split_to_table(mau.metrics(at), '(?=# HELP)') f
          WHERE f !~ '^# HELP mau_(blocked|seat_|sightings|lost|cache|worker_last_success|health)' $$;
-- Without a snapshot, its figures are left out.
SELECT families(t('0'));
-- With one of an empty server, the series of the natives are there.
SELECT rows FROM mau.refresh(t('-10 s')) WHERE what = 'snapshot';
SELECT families(t('0'));
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 30, server_name = 'x.org';
INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@x.org');
-- Accounts of all kinds, each seen at one distance from 24 hours, or never (n % 7 = 6).
CREATE TABLE accounts AS
    SELECT n, format('@u%s:x.org', n) AS user_id, n % 3 = 1 AS guest, CASE WHEN n % 5 = 0 THEN 'irc' WHEN n % 10 = 7 THEN '' END AS appservice,
           CASE WHEN n % 4 = 3 THEN 'support' WHEN n % 4 = 2 THEN 'bot' END AS user_type, n % 6 = 4 AS deactivated,
           ('{-24:00:00.001,-24:00:00,-23:59:59.999,-1 ms,1 min,-40 days,NULL}'::interval[])[n % 7 + 1] AS distance
    FROM generate_series(1, 84) n;
SELECT count(mau.register_user(user_id, t('-100 days'), user_type, appservice, guest)) FROM accounts;
SELECT count(mau.record_activity(user_id, t(distance))) FROM accounts WHERE distance IS NOT NULL;
SELECT count(mau.deactivate_user(user_id, t('0'))) FROM accounts WHERE deactivated;
SELECT mau.register_user('@vip:x.org', t('-100 days'), medium => 'email', address => 'vip@x.org');
-- Seen without an account; forgotten; a member who was a guest when last seen before: once.
SELECT mau.record_activity('@stranger:x.org', t('-1 h')), mau.record_activity('@gone:x.org', t('-1 h')), mau.forget_user('@gone:x.org');
SELECT mau.register_user('@late:x.org', t('-1 day'), is_guest => true), mau.record_activity('@late:x.org', t('-2 h')),
       mau.register_user('@late:x.org', is_guest => false);
UPDATE mau.settings SET max_mau_value = 100;
SELECT mau.record_activity('@late:x.org', t('-0.5 h'));
CREATE FUNCTION lines(at timestamptz, pattern text) RETURNS SETOF text LANGUAGE sql
    AS $$ SELECT l FROM regexp_split_to_table(mau.metrics(at), '\n') l WHERE l ~ ('^[^#]*(' || pattern || ')') $$;
SELECT lines(t('0'), 'by_service|daily|non_deactivated|age|active_users'); -- of the empty server still
SELECT rows FROM mau.refresh(t('0')) WHERE what = 'snapshot';
SELECT lines(t('0'), 'by_service|daily|non_deactivated|age|active_users');
SELECT count(*) FILTER (WHERE distance > '-24:00:00') + 2 AS "with @stranger and @late; registering is no visit" FROM accounts;
SELECT service, count(*) FROM (SELECT coalesce(nullif(appservice, ''), 'native') AS service FROM accounts WHERE NOT deactivated
                               UNION ALL VALUES ('native'), ('native')) a GROUP BY 1 ORDER BY 1; -- with @vip and @late
SELECT service, users FROM mau.monthly_active_count_by_service(t('0')) ORDER BY 1;
-- mau's own: members by period and service, as a count of the cohort has them.
SELECT p.period, m.service, count(*) FILTER (WHERE m."timestamp" >= extract(epoch FROM t('0') - p.days * interval '1 day') * 1000)
FROM (VALUES ('24h', 1), ('7d', 7), ('30d', 30)) p(period, days), mau.monthly_active_users m
WHERE m."timestamp" >= extract(epoch FROM t('-30 days')) * 1000 GROUP BY 1, 2 ORDER BY min(p.days), m.service <> 'native', 2;
SELECT dau, wau, mau, daily_by_service, weekly_by_service, by_service, usage FROM mau.snapshots ORDER BY at DESC LIMIT 1;
SELECT lines(t('0'), 'limit|free');
-- The count that the limit is about is of now. Everything else is of the last snapshot up to the instant.
SELECT mau.record_activity('@new:x.org', t('1 min'));
SELECT lines(t('1 min 30.9 s'), 'current|daily|age');
SELECT lines(t('0') - interval '1 us', 'daily|age');
SELECT rows FROM mau.refresh(t('1 min')) WHERE what = 'snapshot';
SELECT lines(t('1 min 30.9 s'), 'current|daily|age');
-- A bridge that is called native is not native.
SELECT mau.register_user('@odd:x.org', t('1 min'), appservice_id => 'native');
SELECT rows FROM mau.refresh(t('2 min')) WHERE what = 'snapshot';
SELECT lines(t('2 min'), 'non_deactivated');
-- More services than a hundred: the natives and the largest 99 have series, the others are added up.
INSERT INTO mau.snapshots (at, dau, wau, mau, by_service, daily_active_users, accounts_by_service)
    SELECT t('3 min'), 0, 0, 0, jsonb_object_agg('bridge ' || n, n), 0, '{"other": 1}' FROM generate_series(1, 150) n;
SELECT count(*), sum(substring(l FROM '\d+$')::int), min(substring(l FROM 'bridge (\d+)')::int), max(l) FILTER (WHERE l ~ '"other"')
FROM lines(t('3 min'), 'period="30d"') l;
DROP EXTENSION mau;
-- The homeserver's own figures, by a setting: at most once an hour, and shown for a day.
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-11-21 12:00+00'
DROP FUNCTION t(interval) CASCADE;
\i :tables
CREATE EXTENSION mau;
CREATE FUNCTION usage(i interval) RETURNS SETOF text LANGUAGE sql
    AS $$ SELECT l FROM regexp_split_to_table(mau.metrics(t() + i), '\n') l WHERE l ~ '^synapse_usage_(total|timestamp|daily_active)' $$;
CREATE FUNCTION refresh(i interval) RETURNS SETOF text LANGUAGE sql AS $$ SELECT what FROM mau.refresh(t() + i) $$;
INSERT INTO users (name, creation_ts, appservice_id) VALUES ('@a:x', 1600000000, NULL), ('@b:x', 1600000000, 'irc'), ('@c:x', 1600000000, '');
INSERT INTO user_ips (user_id, last_seen) VALUES ('@a:x', ago('1 hour')), ('@b:x', ago('25 hours'));
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
SELECT refresh('0');
SELECT usage('0');
UPDATE mau.settings SET usage_metrics = true;
SELECT refresh('1 min');
SELECT usage('1 min');
INSERT INTO users (name, creation_ts) VALUES ('@d:x', 1600000000);
SELECT refresh('60 min');
SELECT usage('60 min');
SELECT refresh('62 min');
SELECT usage('62 min');
-- Where the homeserver's tables cannot be read, the other figures are recorded, and the last answer is shown for a day.
ALTER TABLE users RENAME TO elsewhere;
SELECT refresh('3 h');
SELECT usage('3 h');
SELECT usage('25 h 2 min 1 s');
SELECT count(*), count(usage) FROM mau.snapshots;
UPDATE mau.settings SET usage_metrics = false;
SELECT usage('3 h');
-- The lag at an instant before the last sync.
SELECT l FROM regexp_split_to_table(mau.metrics(t()), '\n') l WHERE l ~ '^mau_source_lag';
