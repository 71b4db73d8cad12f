-- Replays a trace of a homeserver and compares every answer.
--
--     SET search_path = SCHEMA;              the functions to ask: mau's, or the model's
--     \i replay.sql
--     COPY pg_temp.trace (line) FROM ...     one JSON object a line
--     CALL pg_temp.replay();                 outside a transaction: it commits after every operation
--     TABLE pg_temp.answers;                 what was answered: by the homeserver, and by us
--     TABLE pg_temp.differences;             those that are not the same
--
-- The operations, by their member "op" ("t" is the time of each in ms):
--     settings          the row of settings; "reserved" = pairs in their order; "appservice_trial_days", or "appservices" with all columns
--     register          "user", "registered_at" (seconds), "user_type", "appservice", "is_guest"
--     register_reserved registers with "medium" and "address"                         -> "seen"
--     add_threepid, remove_threepid ("user", "medium", "address"), deactivate ("user"), reap
--     activity          of "user"                                                     -> "seen", and "outcome" where it is given
--     admit             of "user"                                                     -> "blocked", "seen"
--     check             "args": user_id, threepid, user_type, appservice              -> "blocked"
--     count                                                                           -> "count", "by_service"
--     end                                                                             -> "members"
-- "seen" is the time in the cohort table, null = no row; "blocked" is null, or [error, limit_type, admin_contact, errcode].

CREATE TEMP TABLE trace (no int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, line text NOT NULL);
CREATE TEMP TABLE answers (no int, question jsonb, expected jsonb, got jsonb);
-- Fields that a line does not have are not compared.
CREATE TEMP VIEW differences AS
    SELECT * FROM answers
    WHERE expected = '{}' OR EXISTS (SELECT FROM jsonb_each(expected) e WHERE got->e.key IS DISTINCT FROM e.value);

-- A trace is replayed twenty years before its time, so that it never lies ahead of the server's clock. (Whole days.)
CREATE FUNCTION pg_temp.shift() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 7305 * 86400000::bigint $$;
CREATE FUNCTION pg_temp.instant(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT 'epoch'::timestamptz + (ms - pg_temp.shift()) * interval '1 millisecond' $$;

-- Makes the world as the trace says.
CREATE FUNCTION pg_temp.configure(d jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE settings SET
        limit_usage_by_mau = (d->>'limit_usage_by_mau')::boolean,
        mau_stats_only = (d->>'mau_stats_only')::boolean,
        max_mau_value = (d->>'max_mau_value')::int,
        mau_trial_days = (d->>'mau_trial_days')::int,
        track_appservice_user_ips = (d->>'track_appservice_user_ips')::boolean,
        hs_disabled = (d->>'hs_disabled')::boolean,
        server_name = d->>'server_name',
        count_deactivated_users = coalesce((d->>'count_deactivated_users')::boolean, true),
        hs_disabled_message = 'closed',
        admin_contact = 'mailto:admin@example.com',
        server_notices_mxid = '@notices:example.com';

    DELETE FROM reserved_threepids;
    INSERT INTO reserved_threepids (medium, address)
    SELECT pair->>0, pair->>1 FROM jsonb_array_elements(d->'reserved') WITH ORDINALITY AS r(pair, place) ORDER BY place;

    DELETE FROM appservices;
    INSERT INTO appservices (id, trial_days)
    SELECT key, value::int FROM jsonb_each_text(d->'appservice_trial_days');
    INSERT INTO appservices (id, trial_days, sender, exclusive_user_regexes)
    SELECT a.id, a.trial_days, a.sender, coalesce(a.exclusive_user_regexes, '{}')
    FROM jsonb_to_recordset(d->'appservices') AS a(id text, trial_days int, sender text, exclusive_user_regexes text[]);
END $$;

CREATE FUNCTION pg_temp.seen(whom text) RETURNS jsonb LANGUAGE sql AS
$$ SELECT coalesce((SELECT to_jsonb(CASE WHEN "timestamp" > 0 THEN "timestamp" + pg_temp.shift() ELSE 0 END) FROM monthly_active_users WHERE user_id = whom), 'null') $$;

-- The error body as a trace writes it; another shape of it is shown as it is.
CREATE FUNCTION pg_temp.blocked(body jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN body IS NULL THEN 'null'
                WHEN body - '{error,limit_type,admin_contact,errcode}'::text[] = '{}'
                    THEN jsonb_build_array(body->'error', body->'limit_type', body->'admin_contact', body->'errcode')
                ELSE body END
$$;

CREATE PROCEDURE pg_temp.replay() LANGUAGE plpgsql AS $$
DECLARE
    l record;
    d jsonb;
    at timestamptz;
    whom text;
    got jsonb;
    answering CONSTANT text[] := '{seen,outcome,blocked,count,by_service,members}';
BEGIN
    FOR l IN SELECT no, line::jsonb AS d FROM trace ORDER BY no LOOP
        d := l.d;
        at := pg_temp.instant((d->>'t')::bigint);
        whom := d->>'user';
        got := '{}';

        CASE d->>'op'
        WHEN 'settings' THEN
            PERFORM pg_temp.configure(d);
        WHEN 'register' THEN
            PERFORM register_user(whom, pg_temp.instant((d->>'registered_at')::bigint * 1000), d->>'user_type', d->>'appservice',
                                  (d->>'is_guest')::boolean);
        WHEN 'register_reserved' THEN
            -- the time of the seat is the time of the request, to the ms
            PERFORM register_user(whom, at, NULL, NULL, false, d->>'medium', d->>'address');
            got := jsonb_build_object('seen', pg_temp.seen(whom));
        WHEN 'add_threepid' THEN
            PERFORM add_threepid(whom, d->>'medium', d->>'address');
        WHEN 'remove_threepid' THEN
            PERFORM remove_threepid(whom, d->>'medium', d->>'address');
        WHEN 'deactivate' THEN
            PERFORM deactivate_user(whom, at);
        WHEN 'reap' THEN
            PERFORM count(*) FROM reap(at);
        WHEN 'activity' THEN
            got := jsonb_build_object('outcome', record_activity(whom, at));
            got := got || jsonb_build_object('seen', pg_temp.seen(whom));
        WHEN 'admit' THEN
            got := jsonb_build_object('blocked', pg_temp.blocked(admit(whom, at)));
            got := got || jsonb_build_object('seen', pg_temp.seen(whom));
        WHEN 'check' THEN
            got := jsonb_build_object('blocked', pg_temp.blocked(check_auth_blocking(
                d->'args'->>'user_id', d->'args'->'threepid'->>'medium', d->'args'->'threepid'->>'address',
                d->'args'->>'user_type', d->'args'->>'appservice', at)));
        WHEN 'count' THEN
            got := jsonb_build_object('count', monthly_active_count(at), 'by_service',
                (SELECT coalesce(jsonb_object_agg(service, users), '{}') FROM monthly_active_count_by_service(at)));
        WHEN 'end' THEN
            -- both in the order of the ids
            d := jsonb_set(d, '{members}',
                (SELECT jsonb_agg(m ORDER BY (m->>0) COLLATE "C") FROM jsonb_array_elements(d->'members') m));
            got := jsonb_build_object('members',
                (SELECT jsonb_agg(jsonb_build_array(user_id, CASE WHEN "timestamp" > 0 THEN "timestamp" + pg_temp.shift() ELSE 0 END) ORDER BY user_id COLLATE "C") FROM monthly_active_users));
        END CASE;

        -- a line is one answer, of one or more parts
        IF got <> '{}' THEN
            INSERT INTO answers VALUES (l.no, d - answering, d - (SELECT array_agg(k) FROM jsonb_object_keys(d - answering) k), got);
        END IF;
        COMMIT;
    END LOOP;
END $$;
