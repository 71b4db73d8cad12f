-- The position in the homeserver's record of daily visits goes back when the clock was ahead once.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2026-06-30 12:00+00'
\i :tables
CREATE TABLE user_daily_visits (user_id text NOT NULL, "timestamp" bigint NOT NULL, user_agent text);
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
