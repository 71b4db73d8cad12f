-- Triggers of an administrator that refuse or drop what mau writes: nothing that was acknowledged is lost, no user is held up because of
-- another's row, and a call that cannot be carried out keeps its age, by which health finds it.
CREATE EXTENSION mau;
CREATE FUNCTION see(who text) RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@' || who || ':x', '2026-06-01 12:00Z') $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', NEW.user_id USING ERRCODE = TG_ARGV[0]; END $$;
CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE VIEW deferred AS SELECT user_id, now() - called_at > '1 hour' AS is_old FROM mau.deferred_calls ORDER BY 1;
-- Refused by a lock: deferred. By another error at the fold: only the one user stays, as old as before.
CREATE TRIGGER refuse BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION refuse('55P03');
SELECT see('a'), see('bad'), see('bad'), see('z');
UPDATE mau.deferred_calls SET called_at = called_at - interval '1 day';
DROP TRIGGER refuse ON mau.monthly_active_users;
CREATE TRIGGER refuse BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW WHEN (NEW.user_id = '@bad:x') EXECUTE FUNCTION refuse('P0001');
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
TABLE deferred;
SELECT user_id FROM mau.monthly_active_users ORDER BY 1;
-- Refused by a lock again at the fold.
DROP TRIGGER refuse ON mau.monthly_active_users;
CREATE TRIGGER refuse BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION refuse('55P03');
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
TABLE deferred;
-- A time that was written by hand and is out of range does not keep fold from its work.
UPDATE mau.deferred_calls SET called_at = '-infinity';
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
TABLE deferred;
DROP TRIGGER refuse ON mau.monthly_active_users;
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
TABLE deferred;
-- A new user's row that is dropped takes the visit with it, and the call is kept.
CREATE TRIGGER drop_row BEFORE INSERT ON mau.users FOR EACH ROW EXECUTE FUNCTION drop_row();
SELECT see('new');
TABLE deferred;
DROP TRIGGER drop_row ON mau.users;
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'calls';
-- Bitmaps that are not written leave the visits.
CREATE TRIGGER drop_row BEFORE INSERT ON mau.active_days FOR EACH ROW EXECUTE FUNCTION drop_row();
SELECT see('late');
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT * FROM mau.fold('2026-06-01 13:00Z');
\set VERBOSITY default
DROP TRIGGER drop_row ON mau.active_days;
SELECT rows AS visits FROM mau.fold('2026-06-01 13:00Z') WHERE what = 'visits';
SELECT dau FROM mau.daily_series('2026-06-01', '2026-06-01');
SELECT count(*) FROM mau.monthly_active_users;
-- Calls that fail hold up no others, also where they fill a batch.
CREATE TRIGGER refuse BEFORE INSERT ON mau.user_threepids FOR EACH ROW EXECUTE FUNCTION refuse('P0001');
CREATE TRIGGER refuse BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW WHEN (NEW.user_id ~ 'bad') EXECUTE FUNCTION refuse('P0001');
INSERT INTO mau.deferred_calls (called_at, function, user_id, medium, address) SELECT '-infinity', 'add_threepid', '@bad:x', 'email', i || '@x' FROM generate_series(1, 2) i;
INSERT INTO mau.deferred_calls (called_at, function, user_id, at, platform) SELECT now() - interval '2 days', 'record_activity', '@bad' || i || ':x', 1780315200000, 0 FROM generate_series(1, 2) i;
INSERT INTO mau.deferred_calls (called_at, function, user_id, at, platform) VALUES (now() - interval '1 day', 'record_activity', '@good:x', 1780315200000, 0);
SELECT rows AS calls FROM mau.fold('2026-06-01 13:00Z', 2) WHERE what = 'calls';
SELECT user_id, function, address FROM mau.deferred_calls ORDER BY user_id, address;
SELECT user_id FROM mau.monthly_active_users WHERE user_id ~ 'good';
DROP VIEW deferred;
DROP EXTENSION mau;
