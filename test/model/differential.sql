-- Applies random operations to schema mau and to schema model alike and compares every answer.
--
--     \i differential.sql
--     CALL pg_temp.differential(operations => 10000, seed => 1, strict => true);      outside a transaction: it commits
--     TABLE pg_temp.done;             how far it came, and the first difference with what led to it
--     TABLE pg_temp.coverage;         which answers there were, and how many of each
--
-- What is done is decided from the seed and the state of the model alone, so a seed gives the same operations whatever mau answers, up
-- to the first difference, where it stops. SET truth.show = on shows each operation before it is done.
--
-- Which of two equally old rows reap takes is nobody's business: two operations never have the same ms, and where one reap has
-- seated two people who have lost their seats since, none is asked to choose. For the same reason these do not occur: guests, bridged
-- users, or deactivated users with a threepid; a registration that takes back what was known; one that makes a native of a member whose
-- id lies in a bridge's namespace, since whether there is a seat for it is decided by the server's clock; changes of server_name,
-- count_deactivated_users or an appservice's namespace while people are there ("strict" says which of the two worlds it is).

CREATE TEMP TABLE done (operations int, difference text);
CREATE TEMP TABLE coverage (answer text PRIMARY KEY, times int);

CREATE FUNCTION pg_temp.instant(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT 'epoch'::timestamptz + ms * interval '1 millisecond' $$;

-- A number from 0 to n - 1, and whether something happens that has the chance p.
CREATE FUNCTION pg_temp.below(n int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(random() * n)::int $$;
CREATE FUNCTION pg_temp.chance(p float8) RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT random() < p $$;

CREATE FUNCTION pg_temp.one_of(VARIADIC choices text[]) RETURNS text LANGUAGE plpgsql VOLATILE AS
$$ BEGIN RETURN choices[1 + pg_temp.below(cardinality(choices))]; END $$;

-- Somebody: natives to be, bridged ones, senders, people nobody ever registers, and ids that are not ours. As time goes by, others come.
-- Often it is the one to whom something has just happened.
CREATE FUNCTION pg_temp.somebody() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    r float8 := random();
    generation int := current_setting('truth.generation');
    focus text := current_setting('truth.focus');
BEGIN
    IF focus <> '' AND pg_temp.chance(0.3) THEN
        RETURN focus;
    END IF;
    RETURN CASE WHEN r < 0.62 THEN '@u' || generation + pg_temp.below(25)
                WHEN r < 0.74 THEN '@_irc_' || generation / 4 + pg_temp.below(8)
                WHEN r < 0.81 THEN '@slack_' || pg_temp.below(6)
                WHEN r < 0.84 THEN '@ircbot'
                WHEN r < 0.95 THEN '@ghost' || pg_temp.below(8)
                WHEN r < 0.97 THEN '@x_irc_' || pg_temp.below(2)
                WHEN r < 0.98 THEN 'u' || pg_temp.below(2)
                ELSE '@far' || pg_temp.below(3) || ':elsewhere.example:' END
           || CASE WHEN r < 0.98 THEN ':example.com' ELSE '8448' END;
END $$;

-- A pair of those that may be reserved (or not); an e-mail address now in capitals, now not.
CREATE FUNCTION pg_temp.some_threepid() RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    i int := pg_temp.below(21);
BEGIN
    IF i % 3 = 0 THEN
        RETURN ARRAY['msisdn', '4477009000' || i];
    END IF;
    RETURN ARRAY['email', CASE WHEN pg_temp.chance(0.5) THEN 'Pair' || i || '@Example.COM' ELSE 'pair' || i || '@example.com' END];
END $$;

-- Something has just happened to this one.
CREATE FUNCTION pg_temp.focus_on(whom text) RETURNS void LANGUAGE plpgsql AS
$$ BEGIN PERFORM set_config('truth.focus', coalesce(whom, ''), false); END $$;

CREATE FUNCTION pg_temp.show(op text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('truth.show', true) = 'on' THEN
        RAISE NOTICE '%', op;
    END IF;
END $$;

-- Moves the clock on: a little, or some hours or days, or to where something is just about to change, or just has.
CREATE FUNCTION pg_temp.later(now_ms bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    r float8 := random();
    edge bigint;
    whom text;
BEGIN
    IF r < 0.35 THEN
        RETURN now_ms + pg_temp.below(300000);
    ELSIF r < 0.55 THEN
        SELECT member, last_seen + 2592000000 INTO whom, edge
        FROM model.members WHERE last_seen + 2592000000 > now_ms + 1 ORDER BY 2, 1 LIMIT 1;
    ELSIF r < 0.70 THEN
        SELECT member, last_seen + extract(epoch FROM s.last_seen_granularity)::bigint * 1000 AS at INTO whom, edge
        FROM model.members, model.settings s
        WHERE last_seen + extract(epoch FROM s.last_seen_granularity)::bigint * 1000 > now_ms + 1 ORDER BY 2, 1 LIMIT 1;
    ELSIF r < 0.80 THEN
        SELECT u.name, u.registered_ms + coalesce(a.trial_days, s.mau_trial_days) * 86400000::bigint INTO whom, edge
        FROM model.users u CROSS JOIN model.settings s LEFT JOIN model.appservices a ON a.id = u.appservice_id
        WHERE u.registered_ms + coalesce(a.trial_days, s.mau_trial_days) * 86400000::bigint > now_ms + 1 ORDER BY 2, 1 LIMIT 1;
    ELSIF r < 0.99 THEN
        RETURN now_ms + pg_temp.below(18000000);
    ELSE
        RETURN now_ms + pg_temp.below(10 * 86400000);
    END IF;
    -- the next operation is 1 ms early, in time, or 1 ms late
    PERFORM pg_temp.focus_on(whom);
    RETURN greatest(now_ms, coalesce(edge, now_ms) - 1 + pg_temp.below(3));
END $$;

-- Changes one thing about the world, on both sides.
CREATE FUNCTION pg_temp.change_settings() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    what text := pg_temp.one_of('max', 'max', 'max', 'limit', 'limit', 'stats', 'trial', 'trial', 'track', 'disabled', 'service trial',
                                'reserved', 'reserved', 'granularity', 'contact');
    set_to text;
    side text;
    pairs text[][] := '{}';
    i int;
BEGIN
    IF what = 'reserved' THEN
        FOR i IN 0..20 LOOP
            IF pg_temp.chance(0.4) THEN
                -- each pair at most once
                pairs := pairs || ARRAY[ARRAY[CASE WHEN i % 3 = 0 THEN 'msisdn' ELSE 'email' END,
                                              CASE WHEN i % 3 = 0 THEN '4477009000' || i
                                                   WHEN pg_temp.chance(0.5) THEN 'PAIR' || i || '@example.com'
                                                   ELSE 'pair' || i || '@example.com' END]];
            END IF;
        END LOOP;
        IF pg_temp.chance(0.5) THEN
            pairs := (SELECT array_agg(ARRAY[pairs[j][1], pairs[j][2]] ORDER BY j DESC) FROM generate_subscripts(pairs, 1) j);
        END IF;
        FOREACH side IN ARRAY ARRAY['mau', 'model'] LOOP
            EXECUTE format('DELETE FROM %I.reserved_threepids', side);
            FOR i IN 1..coalesce(array_length(pairs, 1), 0) LOOP
                EXECUTE format('INSERT INTO %I.reserved_threepids (medium, address) VALUES ($1, $2)', side) USING pairs[i][1], pairs[i][2];
            END LOOP;
        END LOOP;
        RETURN 'reserved := ' || pairs::text;
    END IF;

    set_to := CASE what
        WHEN 'max' THEN 'settings SET max_mau_value = ' || pg_temp.below(16)
        WHEN 'limit' THEN 'settings SET limit_usage_by_mau = ' || pg_temp.chance(0.85)
        WHEN 'stats' THEN 'settings SET mau_stats_only = ' || pg_temp.chance(0.6)
        WHEN 'trial' THEN 'settings SET mau_trial_days = ' || pg_temp.one_of('0', '1', '3', '10')
        WHEN 'track' THEN 'settings SET track_appservice_user_ips = ' || pg_temp.chance(0.6)
        WHEN 'disabled' THEN 'settings SET hs_disabled = ' || pg_temp.chance(0.2)
        WHEN 'granularity' THEN 'settings SET last_seen_granularity = ' || pg_temp.one_of('''1 hour''', '''1 hour''', '''10 minutes''')
        WHEN 'contact' THEN 'settings SET admin_contact = ' || pg_temp.one_of('NULL', '''mailto:admin@example.com''')
        ELSE 'appservices SET trial_days = ' || pg_temp.one_of('NULL', '0', '2') || ' WHERE id = ''' || pg_temp.one_of('irc', 'slack') || ''''
        END;
    FOREACH side IN ARRAY ARRAY['mau', 'model'] LOOP
        EXECUTE format('UPDATE %I.%s', side, set_to);
    END LOOP;
    RETURN set_to;
END $$;

-- Registers a user, or reports more about a registered one; at the next full second, as a homeserver notes it.
CREATE FUNCTION pg_temp.register(INOUT now_ms bigint, OUT op text, OUT mau text, OUT model text) LANGUAGE plpgsql AS $$
DECLARE
    whom text := pg_temp.somebody();
    known model.users;
    owner boolean;
    since bigint;
    type text := CASE WHEN pg_temp.chance(0.10) THEN pg_temp.one_of('support', 'bot') END;
    service text := CASE WHEN pg_temp.chance(0.5) THEN '' END;
    guest boolean := false;
    pair text[] := '{}';
BEGIN
    now_ms := 1000 * (now_ms / 1000 + 1);
    since := now_ms;
    IF whom NOT LIKE '@%:example.com' OR whom LIKE '@ghost%' OR whom = '@ircbot:example.com' THEN
        whom := '@u' || current_setting('truth.generation')::int + pg_temp.below(25) || ':example.com';
    END IF;
    SELECT * INTO known FROM model.users WHERE name = whom;
    owner := EXISTS (SELECT FROM model.threepids t WHERE t.owner = whom);

    IF known.deactivated THEN
        op := 'nothing';
        RETURN;
    ELSIF known.name IS NULL THEN
        IF whom LIKE '@\_irc%' AND (pg_temp.chance(0.85) OR EXISTS (SELECT FROM model.members WHERE member = whom)) THEN
            service := 'irc';
        ELSIF whom LIKE '@slack%' THEN
            service := 'slack';
        ELSIF pg_temp.chance(0.1) THEN
            guest := true;
        ELSIF pg_temp.chance(0.6) AND NOT EXISTS (SELECT FROM model.members WHERE member = whom) THEN
            pair := pg_temp.some_threepid();
            IF EXISTS (SELECT FROM model.threepids t WHERE t.medium = pair[1] AND t.address = lower(pair[2])) THEN
                pair := '{}';
            END IF;
        END IF;
        IF pair = '{}' AND pg_temp.chance(0.3) THEN
            since := since - pg_temp.below(10 * 86400) * 1000::bigint;
        END IF;
    ELSE
        since := known.registered_ms;
        type := coalesce(known.user_type, type);
        guest := known.is_guest AND pg_temp.chance(0.5);
        IF coalesce(known.appservice_id, '') <> '' THEN
            service := known.appservice_id;
        ELSIF NOT owner AND NOT guest AND pg_temp.chance(0.1) THEN
            service := pg_temp.one_of('irc', 'unheard-of');
        END IF;
    END IF;

    op := format('register_user(%L, %s, %L, %L, %s, %L, %L)', whom, since, type, service, guest, pair[1], pair[2]);
    PERFORM pg_temp.show(op);
    PERFORM pg_temp.focus_on(whom);
    mau := mau.register_user(whom, pg_temp.instant(since), type, service, guest, pair[1], pair[2]);
    model := model.register_user(whom, pg_temp.instant(since), type, service, guest, pair[1], pair[2]);
END $$;

-- Gives a threepid to a user, who may have one, takes it from its owner, or removes one.
CREATE FUNCTION pg_temp.move_threepid(OUT op text) LANGUAGE plpgsql AS $$
DECLARE
    pair text[] := pg_temp.some_threepid();
    salt text := random();
    had text := (SELECT t.owner FROM model.threepids t WHERE t.medium = pair[1] AND t.address = lower(pair[2]));
    gets text := (SELECT name FROM model.users WHERE NOT is_guest AND NOT deactivated AND coalesce(appservice_id, '') = ''
                  ORDER BY md5(name || salt) LIMIT 1);
BEGIN
    op := format('threepid %s from %L to %L', pair, had, gets);
    PERFORM pg_temp.show(op);
    PERFORM pg_temp.focus_on(gets);
    IF had IS NOT NULL THEN
        PERFORM mau.remove_threepid(had, pair[1], pair[2]);
        PERFORM model.remove_threepid(had, pair[1], pair[2]);
    END IF;
    IF gets IS NOT NULL AND (had IS NULL OR pg_temp.chance(0.6)) THEN
        PERFORM mau.add_threepid(gets, pair[1], pair[2]);
        PERFORM model.add_threepid(gets, pair[1], pair[2]);
    END IF;
END $$;

CREATE FUNCTION pg_temp.deactivate(now_ms bigint, OUT op text) LANGUAGE plpgsql AS $$
DECLARE
    salt text := random();
    whom text := (SELECT name FROM model.users ORDER BY md5(name || salt) LIMIT 1);
    pair record;
BEGIN
    op := format('deactivate_user(%L)', whom);
    PERFORM pg_temp.show(op);
    PERFORM pg_temp.focus_on(whom);
    IF whom IS NULL THEN
        RETURN;
    END IF;
    FOR pair IN SELECT medium, address FROM model.threepids t WHERE t.owner = whom LOOP
        PERFORM mau.remove_threepid(whom, pair.medium, pair.address);
        PERFORM model.remove_threepid(whom, pair.medium, pair.address);
    END LOOP;
    PERFORM mau.deactivate_user(whom, pg_temp.instant(now_ms));
    PERFORM model.deactivate_user(whom, pg_temp.instant(now_ms));
END $$;

-- Asks whether a request may go ahead.
CREATE FUNCTION pg_temp.check(now_ms bigint, OUT op text, OUT mau text, OUT model text) LANGUAGE plpgsql AS $$
DECLARE
    r float8 := random();
    whom text;
    pair text[] := '{}';
    type text;
    service text;
BEGIN
    IF r < 0.60 THEN
        whom := pg_temp.somebody();
    ELSIF r < 0.78 THEN
        pair := pg_temp.some_threepid();
    ELSIF r < 0.86 THEN
        type := pg_temp.one_of('support', 'bot');
    ELSIF r < 0.92 THEN
        service := pg_temp.one_of('irc', 'unheard-of', '');
    ELSIF r < 0.94 THEN
        whom := '@notices:example.com';
    END IF;
    op := format('check_auth_blocking(%L, %L, %L, %L, %L, %s)', whom, pair[1], pair[2], type, service, now_ms);
    PERFORM pg_temp.show(op);
    mau := mau.check_auth_blocking(whom, pair[1], pair[2], type, service, pg_temp.instant(now_ms));
    model := model.check_auth_blocking(whom, pair[1], pair[2], type, service, pg_temp.instant(now_ms));
END $$;

-- A sighting; now and then one that comes late.
CREATE FUNCTION pg_temp.record(now_ms bigint, OUT op text, OUT mau text, OUT model text) LANGUAGE plpgsql AS $$
DECLARE
    whom text := pg_temp.somebody();
    at_ms bigint := now_ms;
BEGIN
    IF pg_temp.chance(0.06) THEN
        at_ms := now_ms - pg_temp.below(7200000);
    ELSIF pg_temp.chance(0.01) THEN
        at_ms := now_ms - (random() * 40 * 86400000)::bigint;
    END IF;
    IF EXISTS (SELECT FROM model.members WHERE last_seen = at_ms) THEN
        at_ms := now_ms;
    END IF;
    IF pg_temp.chance(0.15) THEN
        op := format('admit(%L, %s)', whom, at_ms);
        PERFORM pg_temp.show(op);
        mau := coalesce(mau.admit(whom, pg_temp.instant(at_ms))::text, 'admitted');
        model := coalesce(model.admit(whom, pg_temp.instant(at_ms))::text, 'admitted');
    ELSE
        op := format('record_activity(%L, %s)', whom, at_ms);
        PERFORM pg_temp.show(op);
        mau := mau.record_activity(whom, pg_temp.instant(at_ms));
        model := model.record_activity(whom, pg_temp.instant(at_ms));
    END IF;
END $$;

-- Whether reap might have to choose between equally old rows.
CREATE FUNCTION pg_temp.tied(at timestamptz) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM model.cohort(at) WHERE service = 'native' AND NOT is_reserved GROUP BY last_seen HAVING count(*) > 1)
$$;

-- Takes out of the model those expired rows that mau has taken out: mau keeps an expired row until a reap or an admission
-- needs the seat. All other rows stay in the model, so that they are missed where mau has lost one.
CREATE FUNCTION pg_temp.follow(now_ms bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM model.members m
    WHERE m.last_seen < now_ms - 2592000000 AND m.member NOT IN (SELECT r FROM model.registered_reserved_users() r)
      AND NOT EXISTS (SELECT FROM mau.monthly_active_users WHERE user_id = m.member)
$$;

-- The rows in which the two tables differ.
CREATE FUNCTION pg_temp.table_difference() RETURNS text LANGUAGE sql AS $$
    WITH side AS (
        SELECT 'mau' AS side, user_id, "timestamp", service FROM mau.monthly_active_users
        UNION ALL
        SELECT 'model', user_id, "timestamp", service FROM model.monthly_active_users)
    SELECT string_agg(format('only in %s: %s %s %s', min, user_id, "timestamp", service), '; ' ORDER BY user_id)
    FROM (SELECT min(side), user_id, "timestamp", service FROM side GROUP BY user_id, "timestamp", service HAVING count(*) <> 2) x
$$;

-- The answer to a question: a query for one value, with %I for the schema. A refusal is an answer, too.
CREATE FUNCTION pg_temp.ask(side text, question text, at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format(question, side) INTO answer USING at;
    RETURN answer;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN SQLERRM;
END $$;

-- Does one random operation on both sides; returns the operation and the answers.
CREATE FUNCTION pg_temp.operation(INOUT now_ms bigint, OUT op text, OUT mau text, OUT model text) LANGUAGE plpgsql AS $$
DECLARE
    r float8 := random();
    at timestamptz := pg_temp.instant(now_ms);
    question text;
BEGIN
    IF r < 0.58 THEN
        SELECT * INTO op, mau, model FROM pg_temp.record(now_ms);
    ELSIF r < 0.76 THEN
        SELECT * INTO op, mau, model FROM pg_temp.check(now_ms);
    ELSIF r < 0.84 THEN
        SELECT * INTO now_ms, op, mau, model FROM pg_temp.register(now_ms);
    ELSIF r < 0.88 THEN
        op := pg_temp.move_threepid();
    ELSIF r < 0.885 THEN
        op := pg_temp.deactivate(now_ms);
    ELSIF r < 0.94 AND NOT pg_temp.tied(at) THEN
        op := format('reap(%s)', now_ms);
        PERFORM pg_temp.show(op);
        PERFORM count(*) FROM mau.reap(at);
        PERFORM count(*) FROM model.reap(at);
        mau := coalesce(pg_temp.table_difference(), 'the same');
        model := 'the same';
    ELSE
        -- at present, a few minutes ago (which may be too late to ask), or in the past
        IF pg_temp.chance(0.4) THEN
            at := at - pg_temp.below(pg_temp.one_of('600000', '86400000')::int) * interval '1 millisecond';
        END IF;
        IF r < 0.98 THEN
            op := format('monthly_active_count_by_service(%s)', model.ms(at));
            question := 'SELECT string_agg(service || '' '' || users, '', '' ORDER BY service COLLATE "C")
                         FROM %I.monthly_active_count_by_service($1)';
        ELSE
            op := format('monthly_active_count(%s)', model.ms(at));
            question := 'SELECT %I.monthly_active_count($1)';
        END IF;
        PERFORM pg_temp.show(op);
        mau := pg_temp.ask('mau', question, at);
        model := pg_temp.ask('model', question, at);
    END IF;
END $$;

-- Each side starts in the same empty world.
CREATE FUNCTION pg_temp.begin_world(strict boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    side text;
BEGIN
    FOREACH side IN ARRAY ARRAY['mau', 'model'] LOOP
        EXECUTE format(
            $sql$UPDATE %I.settings SET limit_usage_by_mau = true, max_mau_value = 8, mau_stats_only = false, mau_trial_days = 0,
                 track_appservice_user_ips = true, admin_contact = 'mailto:admin@example.com', hs_disabled_message = 'closed',
                 server_notices_mxid = '@notices:example.com', server_name = CASE WHEN $1 THEN 'example.com' END,
                 count_deactivated_users = NOT $1$sql$, side) USING strict;
        EXECUTE format(
            $sql$INSERT INTO %I.appservices (id, trial_days, sender, exclusive_user_regexes) VALUES
                 ('irc', NULL, '@ircbot:example.com', '{"@_irc_.*"}'), ('slack', 0, NULL, '{"@slack_[0-2]:.*",slack_3}')$sql$, side);
    END LOOP;
END $$;

-- The loop: transactions of one or several operations, some of them rolled back, some operations undone by an exception.
CREATE PROCEDURE pg_temp.differential(operations int, seed int, strict boolean) LANGUAGE plpgsql AS $$
DECLARE
    now_ms bigint := 100000000000;  -- 1973; 10 000 operations take some ten years, and must not get ahead of the server's clock
    r float8;
    op text;
    mau text;
    model text;
    latest text[] := '{}';      -- the last operations
    counted jsonb := '{}';      -- answers, and how many
    answer text;
    difference text;
    i int;
BEGIN
    PERFORM pg_temp.focus_on('');
    PERFORM setseed((seed::bigint * 7919 % 1000003) / 1000003.0);
    PERFORM pg_temp.begin_world(strict);
    COMMIT;

    FOR i IN 1..operations LOOP
        PERFORM set_config('truth.generation', (i / 30)::text, false);
        now_ms := now_ms + 1 + pg_temp.below(5);
        IF pg_temp.chance(0.15) THEN
            now_ms := pg_temp.later(now_ms);
        END IF;

        r := random();
        IF r < 0.04 THEN
            -- settings are effective at commit, so they get a transaction of their own
            COMMIT;
            op := pg_temp.change_settings();
            mau := NULL;
            model := NULL;
            IF pg_temp.chance(0.1) THEN
                ROLLBACK;
                op := op || ' (rolled back)';
            ELSE
                COMMIT;
            END IF;
        ELSIF r < 0.07 THEN
            BEGIN
                SELECT * INTO now_ms, op, mau, model FROM pg_temp.operation(now_ms);
                RAISE EXCEPTION 'undo' USING ERRCODE = 'T0000';
            EXCEPTION WHEN SQLSTATE 'T0000' THEN
                op := op || ' (undone)';
            END;
        ELSE
            SELECT * INTO now_ms, op, mau, model FROM pg_temp.operation(now_ms);
        END IF;
        PERFORM pg_temp.follow(now_ms);
        latest := latest[greatest(1, cardinality(latest) - 14):] || format('%s: %s -> %s', i, op, coalesce(model, 'NULL'));
        answer := substring(op from '^[a-z_]+') || ' '
                  || CASE WHEN model IS NULL THEN 'NULL' WHEN model LIKE '{%' THEN model::jsonb->>'limit_type' ELSE model END;
        IF op !~ '^monthly' OR model LIKE 'at %' THEN
            counted := jsonb_set(counted, ARRAY[answer], to_jsonb(coalesce((counted->>answer)::int, 0) + 1));
        END IF;

        IF mau IS DISTINCT FROM model THEN
            difference := format('%s answered %s', op, coalesce(mau, 'NULL'));
        ELSIF mau.monthly_active_count(pg_temp.instant(now_ms)) <> model.monthly_active_count(pg_temp.instant(now_ms)) THEN
            difference := format('then monthly_active_count(%s) was %s, not %s', now_ms,
                mau.monthly_active_count(pg_temp.instant(now_ms)), model.monthly_active_count(pg_temp.instant(now_ms)));
        ELSIF i % 200 = 0 OR i = operations THEN
            difference := 'then the tables differed: ' || pg_temp.table_difference();
        END IF;
        IF difference IS NOT NULL THEN
            COMMIT;
            INSERT INTO done VALUES (i, concat_ws(E'\n', array_to_string(latest, E'\n'), difference));
            EXIT;
        END IF;

        r := random();
        IF r < 0.60 THEN
            COMMIT;
        ELSIF r < 0.64 THEN
            ROLLBACK;
            latest := latest || '(the transaction was rolled back)'::text;
        END IF;
    END LOOP;

    COMMIT;
    IF difference IS NULL THEN
        INSERT INTO done VALUES (operations, NULL);
    END IF;
    INSERT INTO coverage SELECT key, value::int FROM jsonb_each_text(counted);
    COMMIT;
END $$;
