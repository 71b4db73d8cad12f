-- mau works under any search_path (rule R10). Here a schema before pg_catalog has operators and functions with the names of
-- pg_catalog's, which raise, and types and tables with the names of others.
CREATE SCHEMA evil;
DO $$
DECLARE
    r record;
    types regtype[] := '{text,bigint,integer,smallint,boolean,timestamptz,interval,double precision,numeric,name,"char",text[],bigint[],jsonb,date,timestamp}';
BEGIN
    FOR r IN SELECT DISTINCT oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result FROM pg_operator
             WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprleft = ANY (types) AND oprright = ANY (types) LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', 'boom_' || r.result, r.l, r.r, r.result,
            format('BEGIN RAISE EXCEPTION ''evil operator of (%s, %s) called''; END', r.l, r.r));
    END LOOP;
    FOR r IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, oprresult::regtype AS result FROM pg_operator
             WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b' AND oprleft = ANY (types) AND oprright = ANY (types) LOOP
        EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)', r.oprname, r.l, r.r, 'boom_' || r.result);
    END LOOP;
    FOR r IN SELECT proname, pg_get_function_identity_arguments(oid) AS args, prorettype::regtype AS result FROM pg_proc
             WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND prorettype = ANY (types) AND provariadic = 0
               AND proargtypes::oid[] <@ types::oid[] AND proargmodes IS NULL LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', r.proname, r.args, r.result, format('BEGIN RAISE EXCEPTION ''evil %s called''; END', r.proname));
    END LOOP;
END $$;
CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil unnest called'; END $$;
CREATE FUNCTION evil.boom(text[], text) RETURNS text[] LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil aggregate called'; END $$;
CREATE FUNCTION evil.boom(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'evil aggregate called'; END $$;
CREATE AGGREGATE evil.count(*) (SFUNC = evil.boom, STYPE = bigint, INITCOND = '0');
CREATE DOMAIN evil.text AS pg_catalog.int4;
CREATE DOMAIN evil.int8 AS pg_catalog.date;
CREATE DOMAIN evil.float8 AS pg_catalog.date;
CREATE DOMAIN evil.timestamptz AS pg_catalog.date;
CREATE DOMAIN evil.interval AS pg_catalog.date;
CREATE DOMAIN evil.bool AS pg_catalog.date;
CREATE TABLE evil.users ();
CREATE TABLE evil.settings ();
CREATE TABLE evil.monthly_active_users ();
CREATE TABLE evil.tasks ();

SET search_path = evil, pg_catalog;
-- It is evil.
SELECT 'a' OPERATOR(pg_catalog.=) 'a' AS fine;
SELECT 'a'::pg_catalog.text = 'a'::pg_catalog.text;
SELECT lower('A'::pg_catalog.text);
SELECT count(*);
SELECT unnest('{a}'::pg_catalog.text[]);

-- Installed under it, and used under it: every function.
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 4, track_appservice_user_ips = true, server_notices_mxid = '@notices:x', count_deactivated_users = false;
INSERT INTO mau.reserved_threepids VALUES ('email', 'VIP@x'), ('msisdn', '49123'), ('email', 'vip2@x'), ('email', 'vip3@x');
INSERT INTO mau.appservices VALUES ('irc', 7, '@irc:x', '{@irc_.*}');
SELECT mau.register_user('@a:x', '2026-01-01 00:00+00'), mau.register_user('@a:x', '2026-01-01 00:00+00', 'bot');
SELECT mau.register_user('@irc_a:x', '2026-01-01 00:00+00', NULL, 'irc'), mau.register_user('@vip:x', '2026-11-20 00:00+00', medium => 'email', address => 'vip@X');
SELECT mau.register_user('@help:x', '2026-01-01 00:00+00', 'support'), mau.add_threepid('@help:x', 'msisdn', '49123');
SELECT mau.register_user('@vip2:x', '2026-11-20 00:00+00', 'bot', 'irc', medium => 'email', address => 'vip2@X'), mau.register_user('@vip3:x', '2026-11-20 00:00+00', 'bot', 'irc'), mau.add_threepid('@vip3:x', 'email', 'VIP3@x');
SELECT mau.record_activity('@a:x', '2026-11-21 12:00+00'), mau.record_activity('@a:x', '2026-11-21 14:00+00'), mau.record_activity('@help:x', '2026-11-21 12:00+00'), mau.record_activity('@help:x', '2026-11-21 14:00+00');
SELECT mau.record_activity('@irc:x', '2026-11-21 12:00+00'), mau.record_activity('@irc_b:x', '2026-11-21 12:00+00'), mau.record_activity('@irc_a:x', '2026-11-21 12:00+00');
SELECT * FROM mau.record_activities('{@b:x,@c:x,@d:x,@a:x,@help:x,@b:x}', '{2026-11-21 12:00+00,2026-11-21 12:00+00,2026-11-21 12:01+00,2026-11-21 16:00+00,2026-11-21 16:00+00,2026-11-21 12:10+00}', '{Element,NULL,a,b,c,d}');
SELECT * FROM mau.record_activities('{@d:x,@help:x}', '{2026-11-21 18:00+00,2026-11-21 18:00+00}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT mau.record_activity('@a:x', '2026-11-21 20:00+00');
COMMIT;
SELECT mau.check_auth_blocking('@a:x', at => '2026-11-21 20:00+00'), mau.check_auth_blocking('@new:x', at => '2026-11-21 20:00+00'), mau.check_auth_blocking(medium => 'email', address => 'vIp@x', at => '2026-11-21 20:00+00');
SELECT mau.admit('@a:x', '2026-11-21 22:00+00'), mau.admit('@new:x', '2026-11-21 22:00+00');
SELECT * FROM mau.explain('@new:x', '2026-11-21 22:00+00');
SELECT mau.monthly_active_count('2026-11-21 22:00+00');
SELECT * FROM mau.monthly_active_count_by_service('2026-11-21 22:00+00');
SELECT service, user_id, last_seen AT TIME ZONE 'UTC' AS last_seen FROM mau.monthly_active_users_by_service('2026-11-01 00:00+00', '2026-11-30 00:00+00');
SELECT mau.active_users('1 day', '2026-11-21 22:00+00'), mau.active_users('7 days', '2026-11-21 22:00+00', NULL), mau.active_users('60 days', '2026-11-21 22:00+00', 'irc');
SELECT mau.last_seen('@a:x') AT TIME ZONE 'UTC' AS a, mau.last_seen('@help:x') AT TIME ZONE 'UTC' AS help;
SELECT * FROM mau.daily_series('2026-11-20', '2026-11-21', NULL, NULL, 1, 'everybody', 7);
SELECT * FROM mau.fold('2026-11-21 22:00+00');
SELECT * FROM mau.daily_series('2026-11-20', '2026-11-21');
SELECT * FROM mau.growth('2026-11-21', '2026-11-21', platform => 'unknown');
SELECT * FROM mau.retention('month', '2026-11-01', '2026-11-21', at => '2026-12-01 00:00+00');
SELECT * FROM mau.days_active('2026-11-21 22:00+00', '2 days', NULL, NULL, 'support');
SELECT mau.active_users('60 days', '2026-11-21 22:00+00', 'irc', 1), mau.active_users('7 days', '2026-11-21 22:00+00', NULL, 2);
SELECT * FROM mau.r30v2('2026-11-21 22:00+00');
SELECT * FROM mau.r30v2_series('2026-11-21', '2026-11-21', 'web');
SELECT * FROM mau.r30('2026-11-21 22:00+00');
SELECT * FROM mau.billing_months('2026-11-01', '2026-11-21', at => '2026-11-21 22:00+00');
SELECT * FROM mau.forecast(5, '2026-11-21 22:00+00', 14, 'native');
SELECT mau.nodeinfo_usage('2026-11-21 22:00+00');
SELECT mau.chart('dau', '2026-11-20', '2026-11-21', 30, 1);
SELECT mau.usage_statistics('2026-11-21 22:00+00');
SELECT mau.registered_reserved_users();
SELECT mau.remove_threepid('@help:x', 'msisdn', '49123');
SELECT mau.register_user('@d:x', '2026-11-21 00:00+00', 'bot', 'irc'), mau.register_user('@irc_a:x', '2026-11-21 00:00+00', 'bot', 'xmpp');
SELECT mau.deactivate_user('@b:x', '2026-11-21 22:00+00'), mau.forget_user('@c:x');
SELECT * FROM mau.reap('2026-11-21 22:00+00');
UPDATE mau.settings SET max_mau_value = 1;
SELECT * FROM mau.reap('2026-11-21 22:00+00');
SELECT * FROM mau.reap('2027-01-21 22:00+00');
SELECT mau.fold_address('email', 'Ä@X'), mau.is_regex('{a}');
INSERT INTO mau.settings (admin_contact) VALUES ('mailto:admin@x');
DROP EXTENSION mau;
RESET search_path;

-- A schema of temporary objects in front of all does no harm either.
CREATE EXTENSION mau;
CREATE TEMP TABLE users ();
CREATE TEMP TABLE settings ();
SET search_path = pg_temp, evil, pg_catalog;
SELECT mau.record_activity('@a:x', '2026-11-21 12:00+00'), mau.admit('@a:x', '2026-11-21 14:00+00');
SELECT mau.monthly_active_count('2026-11-21 22:00+00');
