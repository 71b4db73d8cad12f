-- The settings: one row, checked, replaced by INSERT, effective at commit.
CREATE EXTENSION mau;
\x
SELECT * FROM mau.settings; -- the defaults of the design
\x
\set VERBOSITY terse
-- Constraints.
UPDATE mau.settings SET max_mau_value = -1;
UPDATE mau.settings SET mau_trial_days = -1;
UPDATE mau.settings SET mau_trial_days = 36501;
UPDATE mau.settings SET limit_warning_percent = 0;
UPDATE mau.settings SET limit_warning_percent = 101;
UPDATE mau.settings SET server_name = '@alice:example.com';
UPDATE mau.settings SET server_name = 'example.com ';
UPDATE mau.settings SET server_name = '';
UPDATE mau.settings SET last_seen_granularity = '-1 second';
UPDATE mau.settings SET last_seen_granularity = '1 day 1 second';
UPDATE mau.settings SET history_retention = '23 hours';
UPDATE mau.settings SET snapshot_retention = '0';
UPDATE mau.settings SET source_time_zone = 'Mars/Phobos';
UPDATE mau.settings SET limit_usage_by_mau = NULL;
UPDATE mau.settings SET singleton = false;
\set VERBOSITY default
-- The edges are allowed.
BEGIN;
UPDATE mau.settings SET max_mau_value = 2147483647, mau_trial_days = 36500, server_name = 'example.com:8448',
    last_seen_granularity = '1 day', history_retention = '1 day', snapshot_retention = '1 day';
UPDATE mau.settings SET max_mau_value = 0, mau_trial_days = 0, server_name = NULL, last_seen_granularity = '0';
ROLLBACK;

-- A row inserted takes the place of the one that is there (a dump restored); of several the last stays.
UPDATE mau.settings SET max_mau_value = 5;
INSERT INTO mau.settings (admin_contact) VALUES ('mailto:admin@example.com');
SELECT max_mau_value, admin_contact FROM mau.settings;
INSERT INTO mau.settings (max_mau_value) VALUES (1), (2), (3);
SELECT max_mau_value, admin_contact FROM mau.settings;
COPY mau.settings (max_mau_value) FROM stdin;
8
9
\.
SELECT max_mau_value FROM mau.settings;

-- Effective in the very next statement, with the transaction, the savepoint, or not at all.
CREATE FUNCTION outcome() RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@a:example.com', '2026-11-21 12:00+00') $$;
SELECT outcome();
UPDATE mau.settings SET mau_stats_only = false;
SELECT outcome();
UPDATE mau.settings SET mau_stats_only = true;
SELECT outcome();
BEGIN;
UPDATE mau.settings SET mau_stats_only = false;
SELECT outcome();
ROLLBACK;
SELECT outcome();
BEGIN;
SAVEPOINT s;
UPDATE mau.settings SET mau_stats_only = false;
SELECT outcome();
ROLLBACK TO s;
SELECT outcome();
COMMIT;
DO $$
BEGIN
    RAISE NOTICE 'before: %', outcome();
    UPDATE mau.settings SET mau_stats_only = false;
    RAISE NOTICE 'in the same function: %', outcome();
    BEGIN
        UPDATE mau.settings SET mau_stats_only = true;
        RAISE NOTICE 'in a block: %', outcome();
        RAISE EXCEPTION USING ERRCODE = 'UE000';
    EXCEPTION WHEN SQLSTATE 'UE000' THEN
        RAISE NOTICE 'after the block failed: %', outcome();
    END;
END $$;
SELECT outcome();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome();
UPDATE mau.settings SET mau_stats_only = true;
SELECT outcome();
COMMIT;
SELECT outcome();

-- Without the row: the defaults. TRUNCATE and INSERT work as well.
UPDATE mau.settings SET mau_stats_only = false;
DELETE FROM mau.settings;
SELECT outcome();
INSERT INTO mau.settings (mau_stats_only) VALUES (false);
SELECT outcome();
TRUNCATE mau.settings;
SELECT outcome();
INSERT INTO mau.settings DEFAULT VALUES;
SELECT outcome();

-- The same holds for the other tables of the configuration: a reserved threepid and an appservice count from the next statement on.
UPDATE mau.settings SET limit_usage_by_mau = true;
SELECT mau.check_auth_blocking(medium => 'email', address => 'a@example.com') IS NULL AS open;
INSERT INTO mau.reserved_threepids VALUES ('email', 'a@example.com');
SELECT mau.check_auth_blocking(medium => 'email', address => 'a@example.com') IS NULL AS open;
UPDATE mau.reserved_threepids SET address = 'b@example.com';
SELECT mau.check_auth_blocking(medium => 'email', address => 'a@example.com') IS NULL AS open;
DELETE FROM mau.reserved_threepids;
SELECT mau.check_auth_blocking(medium => 'email', address => 'b@example.com') IS NULL AS open;
SELECT mau.check_auth_blocking('@irc_a:example.com') IS NULL AS open;
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_}');
SELECT mau.check_auth_blocking('@irc_a:example.com') IS NULL AS open;
TRUNCATE mau.appservices;
SELECT mau.check_auth_blocking('@irc_a:example.com') IS NULL AS open;
-- Also where triggers are off, as for a load of data.
SET session_replication_role = replica;
INSERT INTO mau.reserved_threepids VALUES ('email', 'c@example.com');
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_}');
SELECT mau.check_auth_blocking(medium => 'email', address => 'c@example.com') IS NULL AS open, mau.check_auth_blocking('@irc_a:example.com') IS NULL AS open;
UPDATE mau.settings SET hs_disabled = true;
SELECT mau.check_auth_blocking('@a:example.com') IS NULL AS open;
UPDATE mau.settings SET hs_disabled = false;
RESET session_replication_role;
TRUNCATE mau.appservices, mau.reserved_threepids;
-- A user who is seen while the server is disabled is refused the next time, too.
UPDATE mau.settings SET hs_disabled = true, mau_stats_only = true, limit_usage_by_mau = false;
SELECT mau.record_activity('@d:example.com', '2026-11-21 12:00+00');
SELECT mau.check_auth_blocking('@d:example.com', at => '2026-11-21 12:01+00') IS NULL AS open;
UPDATE mau.settings SET hs_disabled = false;

\set VERBOSITY terse
-- Constraints of the other tables.
INSERT INTO mau.reserved_threepids VALUES ('', 'a@example.com');
INSERT INTO mau.reserved_threepids VALUES ('email', '');
INSERT INTO mau.appservices (id) VALUES ('');
INSERT INTO mau.appservices (id) VALUES ('native');
INSERT INTO mau.appservices (id, trial_days) VALUES ('irc', -1);
INSERT INTO mau.appservices (id, sender) VALUES ('irc', '');
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_(}');
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_,NULL}');

\set VERBOSITY default
-- Installed again, the session knows the new tables.
DROP EXTENSION mau;
CREATE EXTENSION mau;
SELECT outcome();
-- Kept for ever, in every notation, also beyond the range of a timestamp.
UPDATE mau.settings SET history_retention = '20000 years', snapshot_retention = '20000 years';
SELECT what, rows FROM mau.fold() WHERE what = 'purged' UNION ALL SELECT what, rows FROM mau.refresh() WHERE what = 'purged';
