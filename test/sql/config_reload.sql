-- A change of the configuration while it is in use: a trigger of an administrator's changes it, and calls mau, in the middle
-- of a call. The outer call goes on with what it has begun with.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    AS $$ SELECT (timestamp '2026-11-21 12:00:00' + i) AT TIME ZONE 'UTC' $$;
UPDATE mau.settings SET track_appservice_user_ips = true, limit_usage_by_mau = true, max_mau_value = 3;
INSERT INTO mau.appservices (id, sender) VALUES ('bridge-with-a-name-of-forty-bytes-length', '@bot:example.com');
INSERT INTO mau.reserved_threepids (medium, address) SELECT 'email', 'someone-who-is-reserved-' || n || '@example.com' FROM generate_series(1, 3) n;
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    UPDATE mau.appservices SET id = 'another-' || substr(id, 9);
    UPDATE mau.settings SET admin_contact = 'mailto:somebody-else-than-before@example.com', hs_disabled_message = repeat('x', 40);
    DELETE FROM mau.reserved_threepids;
    INSERT INTO mau.reserved_threepids (medium, address) SELECT 'email', 'another-who-is-reserved-' || n || '@example.com' FROM generate_series(1, 3) n;
    PERFORM mau.check_auth_blocking('@other:example.com', at => t('0'));
    PERFORM mau.registered_reserved_users();
    RETURN NEW;
END $$;
CREATE TRIGGER change BEFORE INSERT ON mau.users FOR EACH ROW EXECUTE FUNCTION change();
-- The service is that of the configuration in which the call began.
SELECT mau.record_activity('@bot:example.com', t('0'));
SELECT user_id, service FROM mau.monthly_active_users;
SELECT id FROM mau.appservices;
SELECT outcome, users FROM mau.record_activities(ARRAY(SELECT '@' || n || ':example.com' FROM generate_series(1, 5) n), array_fill(t('0'), ARRAY[5])) ORDER BY 1;
SELECT mau.admit('@6:example.com', t('0'))->>'admin_contact' AS admit;
SELECT mau.register_user('@7:example.com', t('0'), medium => 'email', address => 'another-who-is-reserved-1@example.com');
SELECT user_id, service FROM mau.monthly_active_users ORDER BY user_id COLLATE "C";
-- A reap seats the reserved, and takes out who is over the limit, by the list that it began with.
DROP TRIGGER change ON mau.users;
CREATE FUNCTION change_once() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    DELETE FROM mau.reserved_threepids;
    PERFORM mau.check_auth_blocking('@other:example.com', at => t('0')), mau.registered_reserved_users();
    RETURN NULL;
END $$;
CREATE TRIGGER change BEFORE DELETE ON mau.monthly_active_users FOR EACH STATEMENT EXECUTE FUNCTION change_once();
SELECT * FROM mau.reap(t('40 days')) ORDER BY what;
SELECT user_id FROM mau.monthly_active_users ORDER BY user_id COLLATE "C";
DROP TRIGGER change ON mau.monthly_active_users;
DROP FUNCTION change, change_once, t;
DROP EXTENSION mau;
