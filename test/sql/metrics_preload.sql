-- mau.metrics(): the series that come from shared memory.
CREATE EXTENSION mau;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
CREATE FUNCTION lines(pattern text, at timestamptz DEFAULT t()) RETURNS SETOF text LANGUAGE sql
    AS $$ SELECT l FROM regexp_split_to_table(mau.metrics(at), '\n') l WHERE l ~ pattern $$;
\pset tuples_only
\pset format unaligned
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2;
SELECT lines('^mau_(limit|seats_free|blocked|lost|sightings)');
SELECT mau.admit('@' || n || ':x', t()) IS NULL FROM generate_series(1, 4) n;
SELECT mau.check_auth_blocking(at => t()) IS NULL, mau.check_auth_blocking('@9:x', at => t()) IS NULL;
-- A question about a rule is no request, and a sighting is none either.
SELECT count(*) > 0 FROM mau.explain('@9:x', t());
SELECT mau.record_activity('@9:x', t());
SELECT lines('^mau_(limit|seats_free|blocked)');
UPDATE mau.settings SET hs_disabled = true;
SELECT mau.admit('@1:x', t()) IS NULL;
SELECT lines('^mau_blocked');
UPDATE mau.settings SET hs_disabled = false, max_mau_value = 1;
SELECT lines('^mau_(limit|seats_free)');
-- The cache of all databases. Each family is there once, with its type.
SELECT regexp_replace(l, '[0-9]+$', 'N') FROM lines('^mau_(cache|seat_)') l;
SELECT count(*) = count(DISTINCT l) AS once FROM lines('^# TYPE mau_') l;
SELECT l FROM lines('^# TYPE .*counter') l;
-- A sighting ahead of the clock.
SELECT mau.record_activity('@1:x', now() + interval '1 day') IN ('joined', 'refreshed');
SELECT lines('^mau_sightings_ahead', now());
