-- A bridge whose id is "native", the word for users without a bridge: its users take no seat, by calls and by reading.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2, track_appservice_user_ips = true;
SELECT mau.register_user('@g' || n || ':x', t, appservice_id => 'native'), mau.record_activity('@g' || n || ':x', t)
FROM generate_series(1, 4) n, (SELECT '2024-06-30 12:00+00'::timestamptz) t(t);
SELECT mau.monthly_active_count('2024-06-30 12:00+00');
SELECT mau.record_activity('@n' || n || ':x', '2024-06-30 12:00+00') FROM generate_series(1, 3) n;
SELECT service, users FROM mau.monthly_active_count_by_service('2024-06-30 12:00+00') ORDER BY 1;
-- Nor can anybody store the word.
UPDATE mau.users SET appservice_id = 'native' WHERE user_id = '@g2:x';
INSERT INTO mau.deferred_calls (called_at, function, user_id, at, appservice_id) VALUES ('2024-06-30', 'register_user', '@d:x', 0, 'native');
DROP EXTENSION mau;
-- Attached, and at a sync.
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1, track_appservice_user_ips = true;
INSERT INTO users (name, creation_ts, appservice_id) SELECT '@g' || n || ':x', 1600000000, 'native' FROM generate_series(1, 3) n;
INSERT INTO user_ips (user_id, last_seen) SELECT '@g' || n || ':x', ago('1 day') FROM generate_series(1, 3) n;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
INSERT INTO users (name, creation_ts) SELECT '@n' || n || ':x', 1600000000 FROM generate_series(1, 2) n;
INSERT INTO user_ips (user_id, last_seen) SELECT '@n' || n || ':x', ago('1 hour') FROM generate_series(1, 2) n;
SELECT what, rows FROM mau.sync(t()) WHERE what IN ('joined', 'full');
SELECT service, users FROM mau.monthly_active_count_by_service(t()) ORDER BY 1;
SELECT figure, mau, server, unexplained FROM mau.compare(t());
