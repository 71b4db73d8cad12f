-- A last sighting is rewritten only if it is more than last_seen_granularity old (Synapse: 1 hour).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(i interval) RETURNS text LANGUAGE plpgsql AS $$ -- the outcome, and the last sighting after it
DECLARE outcome text := mau.record_activity('@a:example.com', t(i)); BEGIN
    RETURN outcome || ', ' || (mau.last_seen('@a:example.com') - t('0'));
END $$;

SELECT see('0');
SELECT see('59 min');
SELECT see('60 min');
SELECT see('60 min 1 ms');
-- From there on.
SELECT see('119 min');
SELECT see('120 min 1 ms');
SELECT see('120 min 2 ms');
SELECT see('181 min 2 ms');

-- The setting.
UPDATE mau.settings SET last_seen_granularity = '5 min';
SELECT see('186 min 1 ms');
SELECT see('186 min 3 ms');
UPDATE mau.settings SET last_seen_granularity = '0';
SELECT see('186 min 3 ms');
SELECT see('186 min 4 ms');
UPDATE mau.settings SET last_seen_granularity = '1 day';
SELECT see('1 day 186 min 4 ms');
SELECT see('1 day 186 min 5 ms');
-- Microseconds are cut off: 5.9 ms is 5 ms.
UPDATE mau.settings SET last_seen_granularity = '0';
SELECT see('1 day 186 min 5.9 ms');
-- Months are no time for a granularity; a day in hours is.
UPDATE mau.settings SET last_seen_granularity = '24 h';
UPDATE mau.settings SET last_seen_granularity = '1 month';

-- The same granularity for those outside the cohort.
UPDATE mau.settings SET last_seen_granularity = '1 h';
SELECT mau.register_user('@g:example.com', t('0'), is_guest => true);
SELECT mau.record_activity('@g:example.com', t('0')), mau.record_activity('@g:example.com', t('1 h'));
SELECT mau.last_seen('@g:example.com') - t('0');
SELECT mau.record_activity('@g:example.com', t('1 h 1 ms'));
SELECT mau.last_seen('@g:example.com') - t('0');
