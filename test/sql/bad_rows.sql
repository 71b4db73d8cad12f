-- Rows that a homeserver's role writes by hand do not keep the owner's tasks from their work: the tables refuse them, and a task that
-- meets one all the same skips it and says how many it skipped.
\set SHOW_CONTEXT never
CREATE EXTENSION mau;
CREATE ROLE regress_mau_hs;
SELECT mau.grant_to('regress_mau_hs');
GRANT USAGE ON ALL SEQUENCES IN SCHEMA mau TO regress_mau_hs;
CREATE FUNCTION t() RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$ SELECT timestamptz '2026-11-21 12:00:00Z' $$;
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE statement; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
SET ROLE regress_mau_hs;
SELECT mau.register_user('@a:x', '2026-01-01 00:00Z'), mau.record_activity('@a:x', t());
CREATE TEMP TABLE bad (no int GENERATED ALWAYS AS IDENTITY, statement text);
INSERT INTO bad (statement) VALUES
    ($$INSERT INTO mau.visits VALUES (1, '2026-11-21', 0, repeat('s', 3000))$$),
    ($$INSERT INTO mau.visits VALUES (1, '2026-11-21', 0, '')$$),
    ($$INSERT INTO mau.visits VALUES (1, '2026-11-21', 9, 'native')$$),
    ($$INSERT INTO mau.visits VALUES (1, 'infinity', 0, 'native')$$),
    ($$INSERT INTO mau.visits VALUES (1, '4000-01-01 BC', 0, 'native')$$),
    ($$INSERT INTO mau.visits VALUES (-1, '2026-11-21', 0, 'native')$$),
    ($$INSERT INTO mau.visits VALUES (9223372036854775807, '2026-11-21', 0, 'native')$$),
    ($$INSERT INTO mau.monthly_active_users VALUES ('@m:x', -9223372036854775808)$$),
    ($$INSERT INTO mau.monthly_active_users VALUES ('@m:x', 9223372036854775807)$$),
    ($$INSERT INTO mau.monthly_active_users VALUES ('@m:x', 0, 'native', -9223372036854775808)$$),
    ($$INSERT INTO mau.monthly_active_users VALUES ('@m:x', 0, repeat('s', 3000))$$),
    ($$INSERT INTO mau.monthly_active_users VALUES (repeat('u', 2000), 0)$$),
    ($$INSERT INTO mau.monthly_active_users (user_id, "timestamp", visited) VALUES ('@m:x', 0, -1)$$),
    ($$UPDATE mau.users SET registered_at = -9223372036854775808$$),
    ($$UPDATE mau.users SET registered_at = 9223372036854775807$$),
    ($$UPDATE mau.users SET last_seen = -9223372036854775808$$),
    ($$UPDATE mau.users SET user_no = 9223372036854775807$$),
    ($$UPDATE mau.users SET user_type = repeat('t', 3000)$$),
    ($$UPDATE mau.users SET appservice_id = repeat('s', 3000)$$),
    ($$UPDATE mau.users SET visited = -1$$),
    ($$INSERT INTO mau.users (user_id) VALUES (repeat('u', 2000))$$),
    ($$INSERT INTO mau.user_threepids VALUES ('', 'a@x', '@a:x')$$),
    ($$INSERT INTO mau.user_threepids VALUES ('email', repeat('a', 2000), '@a:x')$$),
    ($$INSERT INTO mau.deferred_calls (function, user_id, medium, address) VALUES ('add_threepid', '@x:x', 'email', '')$$),
    ($$INSERT INTO mau.deferred_calls (function, user_id, medium, address) VALUES ('add_threepid', '@x:x', '', 'a@x')$$),
    ($$INSERT INTO mau.deferred_calls (function, user_id, medium, address) VALUES ('remove_threepid', '@x:x', 'email', repeat('a', 1025))$$);
SELECT statement, try(statement) FROM bad ORDER BY no;
RESET ROLE;
-- Constraints of ours do not slow down what mau writes past the planner: no statement is planned for a visit.
SELECT relname, count(*) FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
WHERE contype = 'c' AND relname IN ('users', 'monthly_active_users', 'visits') AND relnamespace = 'mau'::regnamespace GROUP BY 1 ORDER BY 1;

-- Without them each task skips what is bad, and does the rest.
DO $$ DECLARE c record; BEGIN
FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'mau'::regnamespace AND conrelid::regclass::text ~ 'visits' LOOP
EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$;
SET ROLE regress_mau_hs;
SELECT statement, try(statement) FROM bad WHERE statement ~ 'mau.visits' ORDER BY no;
RESET ROLE;
SELECT * FROM mau.fold(t());
SELECT mau.days_active(t());
SELECT * FROM mau.refresh(t());
SELECT * FROM mau.reap(t());
SELECT task, failures, runs FROM mau.tasks ORDER BY task;

-- So many services that their numbers do not fit into 16 bits.
INSERT INTO mau.visits SELECT 1, '2026-11-20', 0, 's' || i FROM generate_series(1, 70000) i;
SELECT * FROM mau.fold(t());
SELECT count(*), count(DISTINCT service) FROM mau.active_days WHERE day = '2026-11-20';
SELECT s, dau FROM unnest('{s1,s4464,s4465,s65536,s65537,s70000}'::text[]) s, mau.daily_series('2026-11-20', '2026-11-20', s);
INSERT INTO mau.monthly_active_users SELECT '@s' || i || ':x', 1795262400000, 's' || i FROM generate_series(1, 70000) i;
SELECT * FROM mau.refresh(t());
SELECT (SELECT count(*) FROM jsonb_object_keys(by_service)) FROM mau.snapshots;
SELECT count(*) FROM mau.monthly_active_count_by_service(t());
SELECT * FROM mau.reap(t() + interval '31 days');
DROP OWNED BY regress_mau_hs;
DROP ROLE regress_mau_hs;
