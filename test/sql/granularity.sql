-- A last sighting is rewritten only if it is more than last_seen_granularity old (Synapse: 1 hour).
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(i interval) RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@a:example.com', t(i)) $$;
CREATE FUNCTION seen() RETURNS interval LANGUAGE sql AS $$ SELECT mau.last_seen('@a:example.com') - t('0') $$;

SELECT see('0');
SELECT see('59 min'), seen();
SELECT see('60 min'), seen();
SELECT see('60 min 1 ms'), seen();
-- From there on.
SELECT see('119 min'), seen();
SELECT see('120 min 1 ms'), seen();
SELECT see('120 min 2 ms'), seen();
SELECT see('181 min 2 ms'), seen();

-- The setting.
UPDATE mau.settings SET last_seen_granularity = '5 min';
SELECT see('186 min 1 ms'), seen();
SELECT see('186 min 3 ms'), seen();
UPDATE mau.settings SET last_seen_granularity = '0';
SELECT see('186 min 3 ms'), seen();
SELECT see('186 min 4 ms'), seen();
UPDATE mau.settings SET last_seen_granularity = '1 day';
SELECT see('1 day 186 min 4 ms'), seen();
SELECT see('1 day 186 min 5 ms'), seen();
-- Microseconds are cut off: 5.9 ms is 5 ms.
UPDATE mau.settings SET last_seen_granularity = '0';
SELECT see('1 day 186 min 5.9 ms'), seen();
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
