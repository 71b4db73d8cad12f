-- The limit (rule R4): counted members never exceed max_mau_value through admission.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2;
SELECT see('a'), see('b'), see('c');
-- Members go on, and are refreshed.
SELECT see('a', '2 h'), see('b', '2 h'), see('c', '2 h');
-- Raised by one: one more. (The maximum is that of the moment.)
UPDATE mau.settings SET max_mau_value = 3;
SELECT see('c'), see('d');
-- Lowered: members stay until the next reap, newcomers find the server full.
UPDATE mau.settings SET max_mau_value = 1;
SELECT see('a', '4 h'), see('d', '4 h'), mau.monthly_active_count(t('4 h'));
-- A limit without a maximum is a limit of 0.
UPDATE mau.settings SET max_mau_value = DEFAULT;
SELECT see('d', '4 h'), see('a', '6 h');
-- A seat that is given up is free: forgotten, deactivated (where that matters), deleted by hand, rolled back.
UPDATE mau.settings SET max_mau_value = 3, count_deactivated_users = false;
SELECT see('d'), mau.forget_user('@c:example.com'), see('d'), see('e');
SELECT mau.deactivate_user('@d:example.com', t('0')), see('e'), see('f');
DELETE FROM mau.monthly_active_users WHERE user_id = '@e:example.com';
SELECT see('f'), see('g');
TRUNCATE mau.monthly_active_users;
SELECT see('a'), see('b'), see('c'), see('d');
TRUNCATE mau.monthly_active_users;
BEGIN;
SELECT see('a'), see('b'), see('c'), see('d');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT see('e'), see('f'), see('g'), see('h');
ROLLBACK TO s;
SELECT see('a'), see('b');
SAVEPOINT s;
SELECT see('c'), see('d');
RELEASE s;
COMMIT;
SELECT user_id FROM mau.monthly_active_users ORDER BY 1;
-- A statement that fails gives back what it took.
TRUNCATE mau.monthly_active_users;
SELECT see('a'), 1 / (see('b') = 'nothing')::int;
SELECT see('c'), see('d'), see('e'), see('f');
-- Appservice users take no seat, tracked or not, and find one on a full server.
UPDATE mau.settings SET track_appservice_user_ips = true;
SELECT mau.register_user('@irc_a:example.com', t('-100 days'), appservice_id => 'irc');
SELECT see('irc_a'), mau.monthly_active_count(t('0'));
SELECT * FROM mau.monthly_active_count_by_service(t('0'));
-- Expired members leave their seats by themselves.
SELECT see('g', '720 h'), see('g', '720 h 1 ms'), see('h', '720 h 1 ms'), see('i', '720 h 1 ms'), see('j', '720 h 1 ms');
SELECT mau.monthly_active_count(t('720 h 1 ms'));
-- In REPEATABLE READ and SERIALIZABLE as well.
UPDATE mau.settings SET max_mau_value = 4;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT see('j', '720 h 1 ms'), see('k', '720 h 1 ms'), see('j', '724 h'), see('k', '724 h');
COMMIT;
UPDATE mau.settings SET max_mau_value = 5;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT see('k', '724 h'), see('l', '724 h');
COMMIT;
SELECT mau.monthly_active_count(t('724 h'));
-- Many at once: as many as there are seats.
TRUNCATE mau.monthly_active_users;
UPDATE mau.settings SET max_mau_value = 300;
SELECT outcome, count(*) FROM (SELECT see('u' || n) FROM generate_series(1, 1000) n) s(outcome) GROUP BY 1 ORDER BY 1;
-- A sighting that comes late: by the clock its row has expired, and its seat may be another's.
UPDATE mau.settings SET max_mau_value = 1;
TRUNCATE mau.monthly_active_users;
SELECT mau.record_activity('@old:example.com', now() - interval '30 days 12 hours'), mau.record_activity('@new:example.com', now());
SELECT mau.record_activity('@old:example.com', now() - interval '2 days'), mau.record_activity('@old:example.com', now() - interval '29 days');
SELECT mau.monthly_active_count();
-- Where nobody has it, it is refreshed.
UPDATE mau.settings SET max_mau_value = 2;
SELECT mau.record_activity('@old:example.com', now() - interval '2 days');
SELECT mau.monthly_active_count();
