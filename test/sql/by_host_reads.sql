-- active_users_by_host reads mau.users, which may have millions of rows, only for periods in which users can have left the cohort.
CREATE EXTENSION mau;
SELECT mau.record_activity('@a:x', now() - interval '1 hour'), mau.record_activity('@b:y', now() - interval '40 days');
CREATE FUNCTION scans() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT seq_scan FROM pg_stat_xact_all_tables WHERE relid = 'mau.users'::regclass $$;
BEGIN;
SELECT scans() AS before \gset
SELECT * FROM mau.active_users_by_host();
SELECT * FROM mau.active_users_by_host('1 day');
SELECT * FROM mau.monthly_active_count_by_host();
SELECT scans() > :before AS reads_users;
SELECT * FROM mau.active_users_by_host('60 days');
SELECT scans() > :before AS reads_users;
COMMIT;
-- A user whom a full server refused is no member, and counts for a longer period at once.
UPDATE mau.settings SET limit_usage_by_mau = true;
SELECT mau.record_activity('@refused:z', now());
SELECT * FROM mau.active_users_by_host('30 days');
SELECT * FROM mau.active_users_by_host('60 days');
DROP FUNCTION scans;
DROP EXTENSION mau;
