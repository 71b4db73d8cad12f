-- Every way into the counted members asks for a seat, and rows that are written behind mau's back are noticed at once.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval DEFAULT '0') RETURNS timestamptz LANGUAGE sql IMMUTABLE
    AS $$ SELECT (timestamp '2020-11-21 12:00:00' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':x', t(i)) $$;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2, track_appservice_user_ips = true;
SELECT mau.register_user('@ghost' || n || ':x', appservice_id => 'irc') FROM generate_series(1, 3) n;
SELECT mau.record_activity('@' || who || ':x') FROM unnest('{ghost1,ghost2,ghost3,a}'::text[]) who;
-- A bridge's member becomes a native: with a seat stays, without leaves, and keeps the last sighting.
SELECT mau.register_user('@ghost1:x', appservice_id => ''), mau.register_user('@ghost2:x', appservice_id => '');
SELECT user_id, service FROM mau.monthly_active_users ORDER BY user_id;
SELECT mau.monthly_active_count(), mau.last_seen('@ghost2:x') IS NOT NULL AS seen, mau.record_activity('@ghost2:x'), mau.record_activity('@b:x');
-- Without a limit all members stay.
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT mau.register_user('@ghost3:x', appservice_id => '');
SELECT mau.monthly_active_count();
TRUNCATE mau.monthly_active_users;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 5;

-- Rows that are written while triggers are disabled, as pg_restore --disable-triggers does.
SELECT see('a'), see('a2'), see('a3'), see('b');
BEGIN;
ALTER TABLE mau.monthly_active_users DISABLE TRIGGER ALL;
INSERT INTO mau.monthly_active_users (user_id, "timestamp", renewed) SELECT '@c:x', extract(epoch FROM t()) * 1000, extract(epoch FROM t()) * 1000;
ALTER TABLE mau.monthly_active_users ENABLE ALWAYS TRIGGER changed, ENABLE ALWAYS TRIGGER keep_renewed, ENABLE REPLICA TRIGGER replicated;
COMMIT;
SELECT mau.monthly_active_count(t()), see('d'), see('e');
-- While they are disabled, too.
ALTER TABLE mau.monthly_active_users DISABLE TRIGGER changed;
DELETE FROM mau.monthly_active_users WHERE user_id = '@c:x';
SELECT mau.monthly_active_count(t()), see('e'), see('f');
ALTER TABLE mau.monthly_active_users ENABLE ALWAYS TRIGGER changed;
SELECT mau.monthly_active_count(t()), see('f');

-- Somebody's trigger changes the table within a statement of ours.
CREATE FUNCTION put_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM mau.monthly_active_users WHERE user_id = '@b:x'; RETURN NULL; END $$;
UPDATE mau.settings SET max_mau_value = 6;
CREATE TRIGGER put_out AFTER INSERT ON mau.monthly_active_users FOR EACH STATEMENT EXECUTE FUNCTION put_out();
SELECT see('f');
DROP TRIGGER put_out ON mau.monthly_active_users;
SELECT mau.monthly_active_count(t()), see('g');
SELECT mau.monthly_active_count(t()), see('h');

-- A member's row leaves between the look and the write, and another user has the seat: the sighting is judged again later.
CREATE FUNCTION hand_over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM mau.monthly_active_users WHERE user_id = '@a:x';
    INSERT INTO mau.monthly_active_users SELECT '@z:x', NEW."timestamp", 'native', NEW."timestamp" WHERE NOT EXISTS (SELECT FROM mau.monthly_active_users WHERE user_id = '@z:x');
    RETURN NEW;
END $$;
CREATE TRIGGER hand_over BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW WHEN (NEW.user_id = '@a:x') EXECUTE FUNCTION hand_over();
SELECT see('a', '2 hours');
DROP TRIGGER hand_over ON mau.monthly_active_users;
SELECT mau.monthly_active_count(t('2 hours')), (SELECT array_agg(user_id) FROM mau.deferred_calls) AS deferred;

DROP FUNCTION put_out, hand_over, see, t;
DROP EXTENSION mau;
