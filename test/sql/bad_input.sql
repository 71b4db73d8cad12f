-- Bad input: a clear error with SQLSTATE and hint, and nothing changed; never a crash.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION try(sql text) RETURNS text LANGUAGE plpgsql AS $$ -- what a statement returns, or its error in full
DECLARE result text; message text; detail text; hint text; BEGIN
    EXECUTE sql INTO result;
    RETURN 'fine: ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN SQLSTATE || E': ' || message || CASE WHEN detail <> '' THEN E'\n  detail: ' || detail ELSE '' END
        || E'\n  hint: ' || coalesce(nullif(hint, ''), 'MISSING');
END $$;
SET timezone = 'UTC';
\pset format unaligned
\pset tuples_only on

-- User ids, wherever one is taken: NULL, empty, 256 bytes, 256 bytes in 128 characters, 10 MB.
SELECT try(format('SELECT mau.record_activity(%s)', id)) FROM unnest(ARRAY['NULL', '''''', 'repeat(''a'', 256)', 'repeat(''ä'', 128)', '''@'' || repeat(''x'', 10000000)']) id;
SELECT call, count(*) FILTER (WHERE answer LIKE '22023: user_id must not be NULL%hint: Pass%') AS nulls, count(*) FILTER (WHERE answer LIKE '22023: user_id must not be empty%hint: Pass%') AS empty,
       count(*) FILTER (WHERE answer LIKE '22023: user_id is too long%It has 256 bytes%hint: A user%') AS "256", count(*) FILTER (WHERE answer LIKE '22023: user_id is too long%It has 10000001 bytes%hint: A user%') AS "10 MB"
FROM (SELECT call, try(format(call, id)) AS answer
    FROM (VALUES ('SELECT mau.record_activity(%s)'), ('SELECT mau.admit(%s)'), ('SELECT mau.register_user(%s)'), ($$SELECT mau.add_threepid(%s, 'email', 'a@b')$$),
            ($$SELECT mau.remove_threepid(%s, 'email', 'a@b')$$), ('SELECT mau.deactivate_user(%s)'), ('SELECT mau.forget_user(%s)'), ('SELECT mau.explain(%s)'), ('SELECT mau.last_seen(%s)')) c(call),
        (VALUES ('NULL'), (''''''), ('repeat(''a'', 256)'), ('''@'' || repeat(''x'', 10000000)')) i(id)) answers GROUP BY call ORDER BY call;
-- 255 bytes are fine, and whatever characters there are.
SELECT try('SELECT mau.record_activity(repeat(''a'', 255))');
SELECT try('SELECT mau.record_activity(repeat(''ä'', 127) || ''a'')');
SELECT id, mau.record_activity(id, t('0')), mau.last_seen(id) IS NOT NULL FROM unnest(ARRAY[E'@a''b"c\\d:x', E'\t\n', ' ', '🙂', '%s', '{', '$1', 'NULL']) id;
SELECT count(*) FROM mau.monthly_active_users;
SELECT outcome, users FROM mau.record_activities(ARRAY[E'@a''b"c\\d:x', E'\t\n', ' ', '🙂', '%s', '{', '$1', 'NULL'], (SELECT array_agg(t('0')) FROM generate_series(1, 8)));

-- Times: infinite, before 1970, beyond 2999, at the ends of what PostgreSQL has; NULL.
SELECT at, try(format('SELECT mau.record_activity(''@t:x'', %L)', at))
FROM unnest('{infinity,-infinity,1969-12-31 23:59:59.999999+00,3000-01-01 00:00+00,294276-12-31 23:59:59.999999+00,4714-11-24 00:00+00 BC,NULL}'::text[]) at;
SELECT call, count(*) AS wrong, count(*) FILTER (WHERE answer ~ '^22008: (at|registered_at) (must be a finite time|is out of range).*hint: ') AS told
FROM (SELECT call, try(format(call, at)) AS answer
    FROM (VALUES ($$SELECT mau.record_activity('@t:x', %L)$$), ($$SELECT mau.record_activities('{@t:x}', ARRAY[%L]::timestamptz[])$$), ($$SELECT mau.admit('@t:x', %L)$$),
            ($$SELECT mau.check_auth_blocking('@t:x', at => %L)$$), ($$SELECT mau.register_user('@t:x', %L)$$), ($$SELECT mau.deactivate_user('@t:x', %L)$$), ($$SELECT mau.explain('@t:x', %L)$$),
            ('SELECT mau.monthly_active_count(%L)'), ('SELECT mau.monthly_active_count_by_service(%L)'), ($$SELECT mau.active_users('1 day', %L)$$), ('SELECT mau.reap(%L)')) c(call),
        unnest('{infinity,-infinity,1969-12-31 23:59:59.999999+00,3000-01-01 00:00+00,294276-12-31 23:59:59.999999+00,4714-11-24 00:00+00 BC}'::text[]) at) answers GROUP BY call ORDER BY call;
SELECT mau.last_seen('@t:x'); -- nothing was recorded
SELECT at, try(format('SELECT mau.record_activity(''@%s:x'', %L)', at, at)), try(format('SELECT extract(epoch FROM mau.last_seen(''@%s:x''))', at))
FROM unnest('{1970-01-01 00:00:00.001+00,2999-12-31 23:59:59.999999+00}'::text[]) at;
-- A time far in the future does no harm to others, nor a registration there.
SELECT mau.monthly_active_count() > 0, try('SELECT mau.record_activity(''@2999-12-31 23:59:59.999999+00:x'', t(''0''))');

-- Long texts elsewhere: no limit where nothing is stored, a clear one where it is.
SELECT try('SELECT mau.record_activity(''@agent:x'', t(''0''), repeat(''x'', 10000000))');
SELECT try('SELECT mau.register_user(''@long:x'', t(''0''), user_type => repeat(''x'', 10000000))');
SELECT try('SELECT mau.register_user(''@long:x'', t(''0''), appservice_id => repeat(''x'', 10000000))');
SELECT try('SELECT mau.register_user(''@long:x'', t(''0''), appservice_id => repeat(''x'', 255), user_type => repeat(''y'', 255))');
SELECT try('SELECT mau.add_threepid(''@long:x'', ''email'', repeat(''x'', 10000000))');
SELECT try('SELECT mau.add_threepid(''@long:x'', repeat(''x'', 10000000), ''x'')');
SELECT try('SELECT mau.check_auth_blocking(medium => repeat(''x'', 10000000), address => repeat(''x'', 10000000))');
SELECT try('SELECT mau.check_auth_blocking(user_type => repeat(''x'', 10000000), appservice_id => repeat(''x'', 10000000))');
-- Threepids: half, empty, NULL.
SELECT try(c) FROM (VALUES
    ($$SELECT mau.register_user('@a:x', t('0'), medium => 'email')$$),
    ($$SELECT mau.register_user('@a:x', t('0'), address => 'a@b')$$),
    ($$SELECT mau.register_user('@a:x', t('0'), medium => 'email', address => '')$$),
    ($$SELECT mau.add_threepid('@a:x', NULL, 'a@b')$$),
    ($$SELECT mau.add_threepid('@a:x', 'email', NULL)$$),
    ($$SELECT mau.add_threepid('@a:x', '', 'a@b')$$),
    ($$SELECT mau.remove_threepid('@a:x', 'email', NULL)$$),
    ($$SELECT mau.check_auth_blocking('@a:x', 'email', 'a@b')$$),
    ($$SELECT mau.check_auth_blocking(medium => 'email')$$),
    ($$SELECT mau.fold_address(NULL, NULL)$$),
    ($$SELECT mau.fold_address('email', '')$$)) v(c);
SELECT count(*) FROM mau.users WHERE user_id = '@a:x'; -- nothing was registered

-- Arrays.
SELECT try(c) FROM (VALUES
    ($$SELECT mau.record_activities(NULL, ARRAY[now()])$$),
    ($$SELECT mau.record_activities('{@z:x}', NULL)$$),
    ($$SELECT mau.record_activities('{@z:x,@y:x}', ARRAY[now()])$$),
    ($$SELECT mau.record_activities('{@z:x}', ARRAY[now(), now()])$$),
    ($$SELECT mau.record_activities('{@z:x}', ARRAY[now()], '{a,b}')$$),
    ($$SELECT mau.record_activities('{@z:x,NULL}', ARRAY[now(), now()])$$),
    ($$SELECT mau.record_activities('{@z:x,@y:x}', ARRAY[now(), NULL])$$),
    ($$SELECT mau.record_activities('{{@z:x}}', ARRAY[now()])$$),
    ($$SELECT mau.record_activities('{@z:x}', ARRAY[ARRAY[now()]])$$),
    ($$SELECT mau.record_activities('{@z:x}', ARRAY[now()], '{{a}}')$$),
    ($$SELECT mau.record_activities(ARRAY['@z:x', ''], ARRAY[now(), now()])$$)) v(c);

-- The rest.
SELECT try(c) FROM (VALUES
    ($$SELECT mau.active_users(NULL)$$),
    ($$SELECT mau.active_users('0')$$),
    ($$SELECT mau.active_users('-1 month')$$),
    ($$SELECT mau.reap(now(), 0)$$),
    ($$SELECT mau.reap(now(), -1)$$),
    ($$SELECT mau.sync(now(), 0)$$),
    ($$SELECT mau.health(NULL)$$),
    ($$SELECT mau.health('infinity')$$),
    ($$SELECT mau.health('-infinity')$$),
    ($$SELECT mau.monthly_active_count(NULL)$$),
    ($$SELECT mau.is_regex('{a,(}')$$),
    ($$SELECT mau.is_regex('{a,NULL}')$$),
    ($$SELECT mau.is_regex('{{a},{b}}')$$),
    ($$SELECT mau.is_regex(NULL)$$),
    ($$SELECT mau.active_users('178000000 years', t('0')) > 0$$)) v(c);
-- Trigger functions, all there are, are for triggers, on our tables.
SELECT try(format('SELECT mau.%I()', proname)) FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND prorettype = 'trigger'::regtype ORDER BY proname;
SELECT proname, try(format('CREATE TABLE other AS SELECT 1 AS attached_by; CREATE TRIGGER t BEFORE UPDATE ON other FOR EACH ROW EXECUTE FUNCTION mau.%I(); UPDATE other SET attached_by = 2', proname))
FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND prorettype = 'trigger'::regtype ORDER BY proname;
BEGIN;
CREATE TRIGGER t BEFORE UPDATE ON mau.settings FOR EACH ROW EXECUTE FUNCTION mau.replace_settings();
SELECT try('UPDATE mau.settings SET max_mau_value = 1');
ROLLBACK;
SELECT count(*) FROM mau.settings;
-- NULL everywhere, every function there is: nothing but errors about arguments, if any. (What succeeds is rolled back.)
BEGIN;
SELECT proname, answer FROM (
    SELECT proname, try(format('SELECT mau.%I(%s)', proname, (SELECT string_agg('NULL::' || format_type(a, NULL), ', ') FROM unnest(proargtypes) a))) AS answer
    FROM pg_proc WHERE pronamespace = 'mau'::regnamespace AND prorettype <> 'trigger'::regtype AND 'internal'::regtype <> ALL (proargtypes)
          AND proname <> 'fleet') answers -- it needs preload, and takes no argument
WHERE answer !~ '^(fine|22...): ' OR answer ~ 'MISSING' ORDER BY 1;
ROLLBACK;
