-- With a limit, rows of the homeserver that are ahead of the server's clock count as rows of now, so that they keep a seat no longer than others.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE FUNCTION ms(t timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM t) * 1000)::bigint $$;
INSERT INTO users (name, creation_ts) SELECT '@' || n || ':x', 1600000000 FROM unnest('{ahead,near,later}'::text[]) n;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@ahead:x', ms(now() + interval '20 hours')), ('@near:x', ms(now() + interval '4 minutes'));
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3;
SELECT what, rows FROM mau.attach('synapse') WHERE what = 'joined';
SELECT user_id, "timestamp" > ms(now()) AS ahead FROM mau.monthly_active_users ORDER BY user_id;
-- A sync for a future instant likewise.
INSERT INTO user_ips (user_id, last_seen) VALUES ('@later:x', ms(now() + interval '9 days'));
SELECT what, rows FROM mau.sync(now() + interval '10 days') WHERE what = 'joined';
SELECT user_id, "timestamp" > ms(now() + interval '5 minutes') AS far_ahead FROM mau.monthly_active_users ORDER BY user_id;
DROP EXTENSION mau;
-- For an instant in the past, rows of the present are not malformed.
CREATE EXTENSION mau;
UPDATE user_ips SET last_seen = ms(now() - interval '1 hour');
SELECT what, rows FROM mau.attach('synapse', 'public', now() - interval '40 days') WHERE what IN ('joined', 'skipped');
SELECT what, rows FROM mau.sync(now() - interval '5 days') WHERE what IN ('joined', 'skipped');
SELECT * FROM mau.source_skipped;
SELECT what, rows FROM mau.sync() WHERE what IN ('joined', 'skipped');
