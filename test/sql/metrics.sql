-- mau.metrics(): Synapse's gauges, by Synapse's definitions, beside the brute-force answer. Figures that take a scan are those of the last
-- snapshot, whose age is a gauge.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
\pset format unaligned
\pset tuples_only
-- Without a snapshot, its figures are left out.
SELECT mau.metrics(t('0'));
-- With one of an empty server, the series of the natives are there.
SELECT rows FROM mau.refresh(t('-10 s')) WHERE what = 'snapshot';
SELECT mau.metrics(t('0'));
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
SELECT lines(t('0'), 'by_service|daily|non_deactivated|age'); -- of the empty server still
SELECT rows FROM mau.refresh(t('0')) WHERE what = 'snapshot';
SELECT lines(t('0'), 'by_service|daily|non_deactivated|age');
SELECT count(*) FILTER (WHERE distance > '-24:00:00') + 2 AS "with @stranger and @late; registering is no visit" FROM accounts;
SELECT service, count(*) FROM (SELECT coalesce(nullif(appservice, ''), 'native') AS service FROM accounts WHERE NOT deactivated
                               UNION ALL VALUES ('native'), ('native')) a GROUP BY 1 ORDER BY 1; -- with @vip and @late
SELECT service, users FROM mau.monthly_active_count_by_service(t('0')) ORDER BY 1;
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
