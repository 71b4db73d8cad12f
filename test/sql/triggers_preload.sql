-- A trigger of an admin's that catches an error of its own, inside our statements, undoes only its own subtransaction. The
-- counters include all rows that are written, and need not be taken from the table again (rule R7).
\pset null -
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 4;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
CREATE FUNCTION careful() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        RETURN NEW;
    END $$;
CREATE TRIGGER careful BEFORE INSERT OR UPDATE ON mau.monthly_active_users FOR EACH ROW EXECUTE FUNCTION careful();
CREATE TRIGGER careful BEFORE INSERT OR UPDATE ON mau.users FOR EACH ROW EXECUTE FUNCTION careful();
SELECT mau.record_activity('@a:x', t());
SELECT substring(mau.describe_seats() FROM 'counted (\d+) times') AS counted \gset
SELECT mau.describe_seats() LIKE '1 native rows, 0 admissions in flight;%' AS told;

-- One more at a time, two in one transaction, a batch; a member who comes back.
SELECT mau.record_activity('@b:x', t());
BEGIN;
SELECT mau.record_activity('@c:x', t());
SELECT mau.record_activity('@c:x', t() + '2 hours');
COMMIT;
SELECT * FROM mau.record_activities(ARRAY['@a:x', '@d:x', '@e:x'], ARRAY[t() + '2 hours', t(), t()]) ORDER BY 1;
SELECT mau.describe_seats() LIKE '4 native rows, 0 admissions in flight;%' AS told,
       substring(mau.describe_seats() FROM 'counted (\d+) times') = :'counted' AS not_counted_again;
SELECT mau.record_activity('@f:x', t());
SELECT user_id FROM mau.monthly_active_users ORDER BY 1;

-- A trigger that records another user meanwhile: the seat of the user being written is taken.
CREATE FUNCTION companion() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
    BEGIN
        RAISE NOTICE '%', mau.record_activity('@with_' || substr(NEW.user_id, 2), t());
        RETURN NEW;
    END $$;
CREATE TRIGGER companion BEFORE INSERT ON mau.monthly_active_users FOR EACH ROW WHEN (NEW.user_id NOT LIKE '@with%') EXECUTE FUNCTION companion();
UPDATE mau.settings SET max_mau_value = 6;
SELECT mau.record_activity('@g:x', t());
UPDATE mau.settings SET max_mau_value = 7;
SELECT mau.record_activity('@h:x', t());
SELECT count(*) FROM mau.monthly_active_users;

DROP EXTENSION mau;
DROP FUNCTION careful, companion, t;
