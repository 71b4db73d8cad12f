-- The cost of attach, against one plain statement that aggregates the homeserver's rows and inserts the same ones into
-- tables of the same shape; and the cohort alone.
--
--     psql -v n=100000 -f attach.sql      in an empty database, or in one with Synapse's tables in it (as of now_ms) and without mau
--
-- The last table shows how much memory of its own attach takes: 107 MB at 3 million users with 10 rows each, of
-- which 64 MB are the table of remembered users, which does not grow further.
--
-- The two take turns, each time into new tables, in a transaction that is committed; the output has medians. attach
-- does more: it judges every sighting by the rules, looks at rows of transactions in progress, and skips invalid rows.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?n}      \else \set n 100000 \endif
\if :{?now_ms} \else \set now_ms 1795197600000 \endif
\if :{?rounds} \else \set rounds 5 \endif
SET client_min_messages = warning;
SET synchronous_commit = off;
SET check_function_bodies = off; -- the tables of the plain statement are made anew each time

SELECT to_regclass('public.user_ips') IS NULL AS missing \gset
\if :missing
-- Users of all kinds, 40 % of whom were seen within 28 days (older rows are pruned by Synapse), a few from more than one device.
CREATE TABLE users (name text, password_hash text, creation_ts bigint, admin smallint DEFAULT 0 NOT NULL, is_guest smallint DEFAULT 0 NOT NULL,
                    appservice_id text, user_type text, deactivated smallint DEFAULT 0 NOT NULL);
CREATE TABLE user_ips (user_id text NOT NULL, access_token text NOT NULL, device_id text, ip text NOT NULL, user_agent text NOT NULL, last_seen bigint NOT NULL);
CREATE TABLE user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL, validated_at bigint NOT NULL, added_at bigint NOT NULL);
SELECT setseed(0.5) \g /dev/null
INSERT INTO users (name, password_hash, creation_ts, is_guest, appservice_id, user_type)
SELECT CASE WHEN i % 100 < 15 THEN '@_irc_' || md5(i::text) WHEN i % 100 < 20 THEN '@' || i ELSE '@' || md5(i::text) END || ':example.com',
       '$2b$12$' || left(md5(i::text) || md5(i::text), 53), :now_ms / 1000 - 94608000 + 94600000 * i / :n, (i % 100 BETWEEN 15 AND 19)::int,
       CASE WHEN i % 100 < 15 THEN 'irc-bridge' END, CASE WHEN i % 2000 = 21 THEN 'support' END
FROM generate_series(1, :n::bigint) i;
INSERT INTO user_ips
SELECT name, 'token-' || md5(name) || d, 'DEVICE' || d, '198.51.100.' || d, 'Element/1.6.20 (Google Pixel 8; Android 14; MatrixAndroidSdk2 1.6.20)',
       :now_ms - floor(28 * 86400000::bigint * random())
FROM users, generate_series(1, 3) d WHERE abs(hashtext(name)) % 10 < 4 AND (d = 1 OR random() < 0.3);
INSERT INTO user_threepids
SELECT name, 'email', substr(name, 2, 32) || '@example.com', creation_ts * 1000, creation_ts * 1000 FROM users WHERE user_type IS NULL AND random() < 0.5;
CREATE UNIQUE INDEX users_name_key ON users (name);
CREATE INDEX users_creation_ts ON users (creation_ts);
CREATE UNIQUE INDEX user_ips_user_token_ip_unique_index ON user_ips (user_id, access_token, ip);
CREATE INDEX user_ips_last_seen ON user_ips (user_id, last_seen);
CREATE INDEX user_ips_last_seen_only ON user_ips (last_seen);
CREATE UNIQUE INDEX medium_address ON user_threepids (medium, address);
CREATE INDEX user_threepids_user_id ON user_threepids (user_id);
VACUUM (ANALYZE) users, user_ips, user_threepids;
\endif

CREATE SCHEMA bench;
CREATE TABLE bench.times (what text, seconds float8);

-- Users, threepids, members, and the last sightings of those who are not, in one statement.
CREATE FUNCTION bench.plain(now_ms bigint) RETURNS void LANGUAGE sql AS $$
WITH seen AS MATERIALIZED (
    SELECT i.user_id, max(i.last_seen) AS at FROM public.user_ips i WHERE i.last_seen BETWEEN 0 AND now_ms + 86400000 GROUP BY i.user_id
), judged AS MATERIALIZED (
    SELECT coalesce(u.name, s.user_id) AS user_id, u.name, u.creation_ts, u.user_type, u.appservice_id, u.is_guest, u.deactivated, s.at,
           coalesce(s.at >= now_ms - 2592000000 AND coalesce(u.is_guest, 0) = 0 AND u.user_type IS DISTINCT FROM 'support', false) AS member
    FROM public.users u FULL JOIN seen s ON s.user_id = u.name
), members AS (
    INSERT INTO plain.monthly_active_users (user_id, "timestamp", service, renewed)
    SELECT user_id, at, coalesce(nullif(appservice_id, ''), 'native'), at FROM judged WHERE member
), threepids AS (
    INSERT INTO plain.user_threepids (user_id, medium, address)
    SELECT user_id, medium, CASE medium WHEN 'email' THEN lower(address) ELSE address END FROM public.user_threepids
)
INSERT INTO plain.users (user_id, registered_at, last_seen, appservice_id, user_type, is_registered, is_guest, is_deactivated)
SELECT user_id, creation_ts * 1000, CASE WHEN NOT member THEN at END, appservice_id, user_type, name IS NOT NULL, coalesce(is_guest, 0) = 1,
       coalesce(deactivated, 0) = 1
FROM judged ORDER BY creation_ts NULLS LAST
$$;

-- The members alone.
CREATE FUNCTION bench.cohort(now_ms bigint) RETURNS void LANGUAGE sql AS $$
INSERT INTO plain.monthly_active_users (user_id, "timestamp", service, renewed)
SELECT s.user_id, s.at, coalesce(nullif(u.appservice_id, ''), 'native'), s.at
FROM (SELECT i.user_id, max(i.last_seen) AS at FROM public.user_ips i WHERE i.last_seen <= now_ms + 86400000 GROUP BY i.user_id) s
LEFT JOIN public.users u ON u.name = s.user_id
WHERE s.at >= now_ms - 2592000000 AND coalesce(u.is_guest, 0) = 0 AND u.user_type IS DISTINCT FROM 'support'
$$;

CREATE PROCEDURE bench.run(what text, statement text, now_ms bigint) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
BEGIN
    DROP SCHEMA IF EXISTS plain CASCADE;
    DROP EXTENSION IF EXISTS mau;
    CREATE EXTENSION mau;
    UPDATE mau.settings SET track_appservice_user_ips = true;
    CREATE SCHEMA plain;
    CREATE TABLE plain.users (LIKE mau.users INCLUDING ALL);
    CREATE TABLE plain.user_threepids (LIKE mau.user_threepids INCLUDING ALL);
    CREATE TABLE plain.monthly_active_users (LIKE mau.monthly_active_users INCLUDING ALL);
    COMMIT;
    began := clock_timestamp();
    EXECUTE statement USING now_ms;
    COMMIT;
    INSERT INTO bench.times VALUES (what, extract(epoch FROM clock_timestamp() - began));
END
$$;

CREATE PROCEDURE bench.rounds(rounds int, now_ms bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. rounds LOOP
        CALL bench.run('plain statement', 'SELECT bench.plain($1)', now_ms);
        CALL bench.run('members alone', 'SELECT bench.cohort($1)', now_ms);
        CALL bench.run('attach', $q$SELECT mau.attach('synapse', 'public', to_timestamp($1 / 1000.0))$q$, now_ms);
    END LOOP;
    -- A sync without new rows, right after attach, as most syncs of the worker.
    FOR i IN 1 .. rounds LOOP
        DECLARE
            began timestamptz := clock_timestamp();
        BEGIN
            PERFORM mau.sync(to_timestamp(now_ms / 1000.0));
            INSERT INTO bench.times VALUES ('sync, nothing new', extract(epoch FROM clock_timestamp() - began));
        END;
        COMMIT;
    END LOOP;
END
$$;
CALL bench.rounds(:rounds, :now_ms);

-- With a year of daily visits, 24 a user: the additional cost.
SELECT to_regclass('public.user_daily_visits') IS NULL AS missing \gset
\if :missing
CREATE TABLE user_daily_visits (user_id text NOT NULL, device_id text, "timestamp" bigint NOT NULL, user_agent text);
INSERT INTO user_daily_visits
SELECT u.name, 'DEVICE', (:now_ms / 86400000 - d) * 86400000,
       CASE hashtext(u.name) & 3 WHEN 0 THEN 'Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0' WHEN 1 THEN 'Element/1.11.2 (iPhone15,2; iOS 17.1; Scale/3.00)'
                                 ELSE 'Element/1.6.20 (Google Pixel 8; Android 14; MatrixAndroidSdk2 1.6.20)' END
FROM generate_series(365, 1, -1) d, users u WHERE ((hashtext(u.name) & 1073741823) + d * d * 31) % 15 = 0;
CREATE INDEX user_daily_visits_ts_idx ON user_daily_visits ("timestamp");
CREATE INDEX user_daily_visits_uts_idx ON user_daily_visits (user_id, "timestamp");
VACUUM (ANALYZE) user_daily_visits;
CALL bench.run('attach with visits', $q$SELECT mau.attach('synapse', 'public', to_timestamp($1 / 1000.0))$q$, :now_ms);
SELECT count(*) AS visits, round(count(*) / (SELECT (max(seconds) FILTER (WHERE what = 'attach with visits')
           - percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE what = 'attach'))::numeric FROM bench.times)) AS "taken over a second",
       (SELECT pg_size_pretty(pg_total_relation_size('mau.active_days'))) AS "size of the history"
FROM user_daily_visits;
\endif

SELECT (SELECT count(*) FROM mau.users) AS users, (SELECT count(*) FROM mau.user_threepids) AS threepids,
       (SELECT count(*) FROM mau.monthly_active_users WHERE "timestamp" >= :now_ms - 2592000000) AS members;
WITH medians AS (SELECT what, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS seconds FROM bench.times GROUP BY what)
SELECT what, round(seconds::numeric, 3) AS seconds,
       round((seconds / (SELECT seconds FROM medians WHERE what = 'plain statement'))::numeric, 2) AS "times the plain statement"
FROM medians ORDER BY array_position('{plain statement,members alone,attach,attach with visits,"sync, nothing new"}', what);
-- In a session of its own; less shared memory, mapped files (of PostgreSQL, mau and LLVM), and what a session has anyway.
DROP EXTENSION mau;
CREATE EXTENSION mau;
\c
CREATE TEMP VIEW memory AS
SELECT sum(CASE WHEN line ~ '^VmHWM' THEN 1 ELSE -1 END * substring(line FROM '\d+')::bigint) AS kb
FROM regexp_split_to_table(pg_read_file('/proc/self/status'), '\n') line WHERE line ~ '^(VmHWM|RssShmem|RssFile)';
SELECT kb AS before FROM memory \gset
SELECT mau.attach('synapse', 'public', to_timestamp(:now_ms / 1000.0)) \g /dev/null
SELECT count(*) AS "rows of user_ips", (SELECT round((kb - :before) / 1024.0) FROM memory) AS "MB of attach" FROM user_ips;
DROP SCHEMA bench, plain CASCADE;
