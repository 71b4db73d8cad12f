-- Only native users are counted in shared memory: many services, or one with a long name, make no admission read the
-- table.
\pset null -
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3, track_appservice_user_ips = true;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2020-11-21 12:00:00Z' $$;
SELECT mau.register_user('@ghost' || i || ':x', t(), appservice_id => CASE i WHEN 7 THEN repeat('long', 20) ELSE 'bridge' || i END) AS said, count(*)
FROM generate_series(1, 20) i GROUP BY 1;
SELECT mau.record_activity('@ghost' || i || ':x', t()) AS said, count(*) FROM generate_series(1, 20) i GROUP BY 1;
SELECT mau.record_activity('@a:x', t());

-- Somebody's statement: the counters are taken from the table once more, and once only.
DELETE FROM mau.monthly_active_users WHERE user_id = '@ghost20:x';
SELECT mau.record_activity('@b:x', t());
SELECT substring(mau.describe_seats() FROM 'counted (\d+) times') AS counted \gset
SELECT mau.monthly_active_count(t());
SELECT mau.record_activity('@c:x', t());
SELECT mau.record_activity('@d:x', t());
SELECT mau.record_activity('@ghost20:x', t());
SELECT substring(mau.describe_seats() FROM 'counted (\d+) times') = :'counted' AS not_counted_again;

-- Neither a count nor a question reads the table.
BEGIN;
SELECT seq_tup_read AS seq, idx_tup_fetch AS idx FROM pg_stat_xact_user_tables WHERE relname = 'monthly_active_users' \gset
SELECT mau.monthly_active_count(t());
SELECT mau.check_auth_blocking('@d:x', at => t())->>'limit_type' AS check, mau.check_auth_blocking(medium => 'email', address => 'd@x', at => t())->>'limit_type' AS check_new;
SELECT seq_tup_read - :seq AS by_scan, idx_tup_fetch - :idx AS by_index FROM pg_stat_xact_user_tables WHERE relname = 'monthly_active_users';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT seq_tup_read AS seq, idx_tup_fetch AS idx FROM pg_stat_xact_user_tables WHERE relname = 'monthly_active_users' \gset
SELECT mau.check_auth_blocking('@d:x', at => t())->>'limit_type' AS check;
SELECT seq_tup_read - :seq AS by_scan, idx_tup_fetch - :idx AS by_index FROM pg_stat_xact_user_tables WHERE relname = 'monthly_active_users';
COMMIT;

-- A figure by service is exact all the same.
SELECT count(*), sum(users) FILTER (WHERE service <> 'native') AS bridged, sum(users) FILTER (WHERE service = 'native') AS native
FROM mau.monthly_active_count_by_service(t());
SELECT mau.monthly_active_count(t() + '31 days'), mau.record_activity('@d:x', t() + '31 days');
SELECT users FROM mau.reap(t() + '31 days') WHERE what = 'expired';
SELECT * FROM mau.monthly_active_count_by_service(t() + '31 days');

DROP FUNCTION t;
DROP EXTENSION mau;
