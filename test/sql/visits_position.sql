-- The position in the homeserver's record of daily visits goes back when the clock was ahead once.
SET client_min_messages = warning;
CREATE EXTENSION mau;
CREATE TABLE users (name text UNIQUE, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text, deactivated smallint NOT NULL DEFAULT 0);
CREATE TABLE user_ips (user_id text NOT NULL, user_agent text NOT NULL DEFAULT '', last_seen bigint NOT NULL);
CREATE INDEX user_ips_last_seen_only ON user_ips (last_seen);
CREATE TABLE user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL);
CREATE TABLE user_daily_visits (user_id text NOT NULL, "timestamp" bigint NOT NULL, user_agent text);
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-06-30 12:00+00' $$;
INSERT INTO users (name, creation_ts) SELECT '@u' || i || ':x', 1700000000 FROM generate_series(1, 3) i;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('users', 'visits');
SELECT visits_until FROM mau.source;
UPDATE mau.source SET visits_until = '2900-01-01';
INSERT INTO user_daily_visits SELECT '@u' || i || ':x', floor(extract(epoch FROM timestamptz '2026-06-30 00:00+00' - i * interval '1 day') * 1000)::bigint, 'Mozilla' FROM generate_series(1, 3) i;
SELECT what, rows FROM mau.sync(t()) WHERE what = 'more';
DO $$ BEGIN FOR i IN 1 .. 31 LOOP PERFORM mau.sync(t()); END LOOP; END $$;
SELECT visits_until FROM mau.source;
SELECT what, rows FROM mau.sync(t()) WHERE what = 'more';
SELECT count(DISTINCT day) AS days FROM mau.active_days;
-- A sync for a time to come does not put it there.
SELECT count(*) > 0 AS synced FROM mau.sync('2900-01-01');
SELECT visits_until <= current_date AS is_past FROM mau.source;
