-- The lazy index on time: renewed is never after "timestamp", and a question through the index has the same answer as the table.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION ms(i interval) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT floor(extract(epoch FROM t(i)) * 1000)::bigint $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql AS $$ SELECT mau.record_activity('@' || who, t(i)) $$;
CREATE VIEW cohort AS
    SELECT user_id, justify_hours(("timestamp" - ms('0')) * interval '1 ms') AS seen, justify_hours((renewed - ms('0')) * interval '1 ms') AS renewed
    FROM mau.monthly_active_users ORDER BY user_id;
-- The index is on nothing that a refresh changes.
SELECT indexrelid::regclass, (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute a WHERE a.attrelid = i.indexrelid) FROM pg_index i
WHERE indrelid = 'mau.monthly_active_users'::regclass ORDER BY 1;

-- A refresh leaves it behind, for up to 15 days.
SELECT see('a'), see('a', '2 h'), see('a', '10 days'), see('a', '15 days');
TABLE cohort;
SELECT see('a', '15 days 1 h 1 ms');
TABLE cohort;
-- A user who comes back begins anew.
SELECT see('a', '60 days');
TABLE cohort;
-- So in a batch.
SELECT * FROM mau.record_activities('{@a,@b,@c}', ARRAY[t('70 days'), t('70 days'), t('70 days')]);
SELECT * FROM mau.record_activities('{@a,@b,@c}', ARRAY[t('76 days'), t('84 days'), t('86 days')]);
TABLE cohort;

-- Rows written by hand, which need not know of it.
INSERT INTO mau.monthly_active_users VALUES ('@h1', ms('0'));
INSERT INTO mau.monthly_active_users (user_id, "timestamp", renewed) VALUES ('@h2', ms('0'), ms('1 h')), ('@h3', ms('0'), ms('-1 h'));
INSERT INTO mau.monthly_active_users (user_id, "timestamp") VALUES ('@h1', ms('1 day')), ('@h4', ms('0'))
    ON CONFLICT (user_id) DO UPDATE SET "timestamp" = EXCLUDED."timestamp"; -- as Synapse writes
COPY mau.monthly_active_users (user_id, "timestamp") FROM STDIN;
@h5	1795262400080
\.
SELECT * FROM cohort WHERE user_id LIKE '@h%';
UPDATE mau.monthly_active_users SET "timestamp" = ms('-3 days') WHERE user_id LIKE '@h%';
SELECT * FROM cohort WHERE user_id LIKE '@h%';
SET session_replication_role = replica; -- as a subscription writes
INSERT INTO mau.monthly_active_users VALUES ('@h6', ms('0'));
RESET session_replication_role;
SELECT * FROM cohort WHERE user_id = '@h6';
INSERT INTO mau.monthly_active_users VALUES ('@h7', NULL);
TRUNCATE mau.monthly_active_users, mau.users;

-- Rows that the index calls expired, and that were seen since, hold their seats; those that expired do not.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 4;
INSERT INTO mau.monthly_active_users (user_id, "timestamp", renewed) VALUES
    ('@seen1', ms('-1 day'), ms('-40 days')), ('@seen2', ms('-30 days'), ms('-35 days')), ('@old1', ms('-30 days') - 1, ms('-31 days')), ('@new', ms('0'), ms('0'));
SELECT mau.monthly_active_count(t('0')), see('x1'), see('x2'), mau.monthly_active_count(t('0'));
-- Reap removes the one, and moves renewed forward for the others.
SELECT * FROM mau.reap(t('0'));
TABLE cohort;
SELECT mau.monthly_active_count(t('1 ms')), see('x2', '1 ms');

-- Over the limit the oldest by "timestamp" go, not by the index.
TRUNCATE mau.monthly_active_users, mau.users;
UPDATE mau.settings SET max_mau_value = 3000;
SELECT setseed(0.3) \g /dev/null
INSERT INTO mau.monthly_active_users (user_id, "timestamp", renewed)
    SELECT '@' || i, seen, seen - (random() * 1296000000)::bigint FROM (SELECT i, ms('0') - i * 1000 - (random() * 2500000000)::bigint AS seen FROM generate_series(1, 8000) i) x;
ANALYZE mau.monthly_active_users;
CREATE TABLE stay AS SELECT user_id FROM mau.monthly_active_users ORDER BY "timestamp" DESC LIMIT 3000;
SELECT * FROM mau.reap(t('0'), 1) WHERE what = 'over limit';
SELECT min("timestamp") = (SELECT min("timestamp") FROM mau.monthly_active_users) AS the_oldest_went FROM mau.monthly_active_users
WHERE user_id NOT IN (SELECT user_id FROM mau.users WHERE last_seen IS NOT NULL);
SELECT * FROM mau.reap(t('0'), 700) WHERE what = 'over limit';
SELECT max(u.last_seen) < min(m."timestamp") AS the_oldest_went, count(DISTINCT u.user_id) FROM mau.users u, mau.monthly_active_users m WHERE u.last_seen IS NOT NULL AND m.service = 'native';
SELECT * FROM mau.reap(t('0')) WHERE what = 'over limit';
SELECT count(*) FROM mau.monthly_active_users FULL JOIN stay s USING (user_id) WHERE s.user_id IS NULL OR "timestamp" IS NULL;

-- Nearly every refresh is a HOT update. (Those of the statistics that count are sent at the end of a transaction.)
TRUNCATE mau.monthly_active_users, mau.users;
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT count(see('u' || i)) FROM generate_series(1, 1000) i;
SELECT mau.register_user('@guest', t('0'), is_guest => true);
SELECT pg_stat_force_next_flush();
SELECT pg_stat_reset_single_table_counters('mau.monthly_active_users'::regclass), pg_stat_reset_single_table_counters('mau.users'::regclass) \g /dev/null
DO $$ BEGIN
    FOR i IN 1..3000 LOOP
        PERFORM see('u' || 1 + i * 7 % 1000, i / 1000 * interval '2 h' + interval '2 h');
        IF i % 10 = 0 THEN
            PERFORM see('guest', i * interval '2 h');
        END IF;
        COMMIT;
    END LOOP;
END $$;
SELECT pg_stat_force_next_flush();
CREATE PROCEDURE told(relation regclass, updates bigint) LANGUAGE plpgsql AS $$ BEGIN -- waits until the statistics have them
    FOR i IN 1..200 LOOP
        EXIT WHEN pg_stat_get_tuples_updated(relation) >= updates;
        PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
    END LOOP;
END $$;
CALL told('mau.monthly_active_users', 3000);
CALL told('mau.users', 300);
SELECT relname, pg_stat_get_tuples_updated(oid) AS updates, pg_stat_get_tuples_hot_updated(oid) >= 0.97 * pg_stat_get_tuples_updated(oid) AS hot
FROM pg_class WHERE oid IN ('mau.monthly_active_users'::regclass, 'mau.users'::regclass) ORDER BY 1;
-- An admin's index that only summarizes goes along: from 16 on an update is HOT in spite of it, and makes no entry in the others.
CREATE INDEX ON mau.monthly_active_users USING brin ("timestamp");
TRUNCATE mau.monthly_active_users, mau.users;
SELECT see('b'), see('b', '2 h'), see('b', '4 h');
SET enable_seqscan = off;
SELECT count(*) FROM mau.monthly_active_users WHERE "timestamp" = ms('4 h');
SELECT count(*) FROM mau.monthly_active_users WHERE user_id = '@b';
RESET enable_seqscan;
