-- forget_user: the person goes, past totals stay right (rule R9).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
SELECT mau.register_user('@a:example.com', t('-100 days'), medium => 'email', address => 'a@example.com'), mau.register_user('@b:example.com', t('-50 days')),
       mau.register_user('@g:example.com', t('-50 days'), is_guest => true);
SELECT see('a'), see('b'), see('g'), see('seen');
SELECT mau.forget_user('@a:example.com'), mau.forget_user('@a:example.com'), mau.forget_user('@unknown:example.com'), mau.forget_user('@g:example.com'), mau.forget_user('@seen:example.com');
-- No row of ours says the name, or the address, or when it was seen.
SELECT count(*) FROM mau.users u WHERE u::text ~ '@(a|g|seen):';
SELECT count(*) FROM mau.monthly_active_users m WHERE m::text ~ '@(a|g|seen):';
SELECT count(*) FROM mau.user_threepids;
SELECT mau.last_seen('@a:example.com'), mau.last_seen('@g:example.com');
-- The number stays, for past totals; the registration is kept to the day (UTC).
SELECT user_no, user_id, last_seen IS NULL AS unseen, to_timestamp(registered_at / 1000.0) AT TIME ZONE 'UTC' AS registered FROM mau.users ORDER BY user_no;
SELECT mau.monthly_active_count(t('0'));
-- A forgotten user who comes back is a new user: the number is not used again.
SELECT see('a', '24 h'), mau.register_user('@seen:example.com', t('24 h'));
SELECT user_no, user_id, is_registered FROM mau.users WHERE user_id IS NOT NULL ORDER BY user_no;
SELECT mau.last_seen('@a:example.com') - t('0') AS seen;
-- Known by the cohort row alone (written by hand).
INSERT INTO mau.monthly_active_users VALUES ('@hand:example.com', 1);
SELECT mau.forget_user('@hand:example.com'), mau.forget_user('@hand:example.com');
SELECT count(*) FROM mau.users u WHERE u::text LIKE '%hand%';
-- Nor does the list of the homeserver's rows that make no sense, which has the first 80 bytes of an id.
INSERT INTO mau.source_skipped (table_name, reason, row_key) SELECT 'user_ips', 'last_seen is negative', k
FROM unnest(ARRAY['@skipped:example.com', '@skipped', '@other:example.com', repeat('x', 80), repeat('ä', 40), 'a' || repeat('ä', 39)]) k;
SELECT mau.forget_user('@skipped:example.com'), mau.forget_user(repeat('x', 100)), mau.forget_user('a' || repeat('ä', 60));
SELECT row_key FROM mau.source_skipped ORDER BY row_key COLLATE "C";
