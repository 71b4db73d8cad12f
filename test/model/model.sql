-- The model: the rules of a Synapse homeserver about monthly active users, in plain SQL.
--
-- Slow, and obviously right: no cache, no counters, no index that matters. It is written from the description of Synapse, never from
-- mau's code, and has mau's names and arguments, so that a test can ask both the same question. What mau does better than Synapse on
-- purpose, the model does too; each such place says "better".
--
--     psql -f model.sql                    into schema model
--     psql -v schema=other -f model.sql    into another one
--
-- Points that the description leaves open are read like this (each is marked "open" where it is decided):
--   * the appservice of a user stands for a request with that appservice's token;
--   * a registered reserved user goes ahead also while no reap has given the row yet;
--   * a tracked bridged user without a row is blocked when the server is full, though its row would take no seat;
--   * a deactivated user's row goes when the user is deactivated, or else when it expires;
--   * an expired row stays until a reap takes it out (mau may do so earlier: see pg_temp.follow in differential.sql);
--   * registering again replaces what was known.

\set ON_ERROR_STOP on
\if :{?schema} \else \set schema model \endif
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS :"schema" CASCADE;
CREATE SCHEMA :"schema";
SET search_path = :"schema";

---------------------------------------------------------------------------------------------------------------------- the world

CREATE TABLE settings (
    limit_usage_by_mau boolean NOT NULL DEFAULT false,
    max_mau_value int NOT NULL DEFAULT 0,
    mau_stats_only boolean NOT NULL DEFAULT true,
    mau_trial_days int NOT NULL DEFAULT 0,
    mau_limit_alerting boolean NOT NULL DEFAULT true,
    limit_warning_percent int NOT NULL DEFAULT 90,
    track_appservice_user_ips boolean NOT NULL DEFAULT false,
    admin_contact text,
    hs_disabled boolean NOT NULL DEFAULT false,
    hs_disabled_message text,
    server_notices_mxid text,
    server_name text,
    count_deactivated_users boolean NOT NULL DEFAULT true,
    last_seen_granularity interval NOT NULL DEFAULT '1 hour');
INSERT INTO settings DEFAULT VALUES;

-- The order in which pairs were entered is the order of the homeserver's list.
CREATE TABLE reserved_threepids (entered int GENERATED ALWAYS AS IDENTITY, medium text NOT NULL, address text NOT NULL);

CREATE TABLE appservices (id text PRIMARY KEY, trial_days int, sender text, exclusive_user_regexes text[]);

CREATE TABLE users (
    name text PRIMARY KEY,
    registered_ms bigint NOT NULL,
    user_type text,
    appservice_id text,
    is_guest boolean NOT NULL,
    deactivated boolean NOT NULL DEFAULT false);

-- address is in its canonical form: a pair has one owner.
CREATE TABLE threepids (medium text, address text, owner text NOT NULL, PRIMARY KEY (medium, address));

CREATE TABLE members (member text PRIMARY KEY, last_seen bigint NOT NULL);

-- The latest time up to which reap has run.
CREATE TABLE reaped (latest bigint);
INSERT INTO reaped VALUES (NULL);

---------------------------------------------------------------------------------------------------------------------- small words

CREATE FUNCTION ms(at timestamptz) RETURNS bigint LANGUAGE sql STABLE
BEGIN ATOMIC SELECT floor(extract(epoch FROM at) * 1000)::bigint; END;

-- Thirty days of 86 400 000 ms.
CREATE FUNCTION window_ms() RETURNS bigint LANGUAGE sql IMMUTABLE
BEGIN ATOMIC SELECT 30 * 86400000::bigint; END;

-- E-mail addresses compare case-insensitively (better: everywhere).
CREATE FUNCTION canonical(medium text, address text) RETURNS text LANGUAGE sql IMMUTABLE
BEGIN ATOMIC SELECT CASE WHEN medium = 'email' THEN lower(address) ELSE address END; END;

-- Whether anything is recorded at all.
CREATE FUNCTION is_on() RETURNS boolean LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$ BEGIN RETURN limit_usage_by_mau OR mau_stats_only FROM settings; END $$;

-- The appservice of a user who was never registered: the one whose sender it is, or whose exclusive namespace matches from the start of
-- the id; else 'native' (better: Synapse takes all of them for native).
CREATE FUNCTION service_of_ghost(whom text) RETURNS text LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN coalesce(
        (SELECT a.id FROM appservices a WHERE a.sender = whom ORDER BY a.id LIMIT 1),
        (SELECT a.id FROM appservices a, unnest(a.exclusive_user_regexes) r WHERE whom ~ ('^(?:' || r || ')') ORDER BY a.id LIMIT 1),
        'native');
END $$;

-- The appservice of a registered user is what the users table says (better: NULL and '' are one group, 'native').
CREATE VIEW services AS SELECT name, coalesce(nullif(appservice_id, ''), 'native') AS service FROM users;

CREATE FUNCTION service_of(whom text) RETURNS text LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$ BEGIN RETURN coalesce((SELECT service FROM services WHERE name = whom), service_of_ghost(whom)); END $$;

-- Whether a pair is on the list of reserved ones, anywhere on it.
CREATE FUNCTION is_reserved(medium text, address text) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN EXISTS (SELECT FROM reserved_threepids r
                   WHERE r.medium = is_reserved.medium
                     AND canonical(r.medium, r.address) = canonical(is_reserved.medium, is_reserved.address));
END $$;

-- The users who hold a seat for ever while there is a limit: owners of one of the first max_mau_value reserved pairs (better: msisdn
-- too), not support users.
CREATE FUNCTION registered_reserved_users() RETURNS SETOF text LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT DISTINCT t.owner
    FROM (SELECT r.medium, canonical(r.medium, r.address) AS address
          FROM reserved_threepids r ORDER BY r.entered LIMIT (SELECT CASE WHEN limit_usage_by_mau THEN max_mau_value ELSE 0 END FROM settings)) first
    JOIN threepids t USING (medium, address)
    LEFT JOIN users u ON u.name = t.owner
    WHERE u.user_type IS DISTINCT FROM 'support';
END;

-- The cohort at a time: rows not older than 30 days (exactly 30 days old is in), and the registered reserved users' rows
-- (better: an expired row is out from the millisecond on, not from the next reap on).
CREATE FUNCTION cohort(at timestamptz) RETURNS TABLE (member text, last_seen bigint, service text, is_reserved boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT c.* FROM (
        SELECT m.member, m.last_seen, coalesce(s.service, service_of_ghost(m.member)),
               m.member IN (SELECT r FROM registered_reserved_users() r) AS is_reserved
        FROM members m LEFT JOIN services s ON s.name = m.member) c
    WHERE c.is_reserved OR c.last_seen >= ms(cohort.at) - window_ms();
END;

-- A user is in trial for some days after registering: the appservice's own number of days, else the server's; 0 = no trial, also for a
-- sighting from before the registration. A user who was never registered is not in trial.
CREATE FUNCTION is_trial(whom text, at timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RETURN coalesce((
        SELECT coalesce(a.trial_days, s.mau_trial_days) > 0
               AND ms(is_trial.at) - u.registered_ms < coalesce(a.trial_days, s.mau_trial_days) * 86400000::bigint
        FROM users u CROSS JOIN settings s LEFT JOIN appservices a ON a.id = u.appservice_id
        WHERE u.name = whom), false);
END $$;

-- Synapse's shape of the table, with mau's column.
CREATE VIEW monthly_active_users AS
    SELECT member AS user_id, last_seen AS "timestamp", service_of(member) AS service FROM members;

---------------------------------------------------------------------------------------------------------------------- the figures

-- The figure that the limit is about: natives.
CREATE FUNCTION natives(at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$ BEGIN RETURN count(*) FROM cohort(natives.at) WHERE service = 'native'; END $$;

-- Better: a question about the past that last sightings cannot answer is refused. An instant lies in the past if there
-- is a sighting or a reap more than five minutes after it.
CREATE FUNCTION refuse_past(at timestamptz) RETURNS void LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF greatest((SELECT max(last_seen) FROM members), (SELECT latest FROM reaped)) > ms(at) + 5 * 60000 THEN
        RAISE EXCEPTION 'at lies in the past' USING ERRCODE = '22023';
    END IF;
END $$;

CREATE FUNCTION monthly_active_count(at timestamptz DEFAULT now()) RETURNS bigint LANGUAGE plpgsql STABLE SET search_path FROM CURRENT
AS $$ BEGIN PERFORM refuse_past(at); RETURN natives(at); END $$;

CREATE FUNCTION monthly_active_count_by_service(at timestamptz DEFAULT now()) RETURNS TABLE (service text, users bigint)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM refuse_past(at);
    RETURN QUERY SELECT c.service, count(*) FROM cohort(at) c GROUP BY c.service;
END $$;

---------------------------------------------------------------------------------------------------------------------- the people

-- Puts a sighting into the table; a time never moves back.
CREATE FUNCTION upsert(whom text, seen bigint) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO members VALUES (whom, seen)
    ON CONFLICT (member) DO UPDATE SET last_seen = greatest(members.last_seen, excluded.last_seen);
END;

CREATE FUNCTION add_threepid(user_id text, medium text, address text) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO threepids VALUES (add_threepid.medium, canonical(add_threepid.medium, add_threepid.address), add_threepid.user_id)
    ON CONFLICT (medium, address) DO UPDATE SET owner = excluded.owner;
END;

CREATE FUNCTION remove_threepid(user_id text, medium text, address text) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    DELETE FROM threepids t
    WHERE t.medium = remove_threepid.medium AND t.owner = remove_threepid.user_id
      AND t.address = canonical(remove_threepid.medium, remove_threepid.address);
END;

-- Registering does not make a user active, except with a reserved threepid: that takes a seat at once, full server or not.
CREATE FUNCTION register_user(user_id text, registered_at timestamptz DEFAULT now(), user_type text DEFAULT NULL,
    appservice_id text DEFAULT NULL, is_guest boolean DEFAULT false, medium text DEFAULT NULL, address text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- open: registering again replaces what was known
    INSERT INTO users AS u VALUES (register_user.user_id, ms(registered_at), register_user.user_type, register_user.appservice_id,
                                   register_user.is_guest)
    ON CONFLICT (name) DO UPDATE SET registered_ms = excluded.registered_ms, user_type = excluded.user_type,
        appservice_id = excluded.appservice_id, is_guest = excluded.is_guest;

    IF medium IS NULL THEN
        RETURN 'registered';
    END IF;
    PERFORM add_threepid(register_user.user_id, medium, address);
    IF is_on() AND is_reserved(medium, address) AND register_user.user_type IS DISTINCT FROM 'support' THEN
        PERFORM upsert(register_user.user_id, ms(registered_at));
        RETURN 'joined';
    END IF;
    RETURN 'registered';
END $$;

-- A deactivated user stays until the row expires, unless deactivated users are not counted: then the row goes at once.
CREATE FUNCTION deactivate_user(user_id text, at timestamptz DEFAULT now()) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE users SET deactivated = true WHERE name = deactivate_user.user_id;
    -- open: the setting is looked at here only
    DELETE FROM members WHERE member = deactivate_user.user_id AND NOT (SELECT count_deactivated_users FROM settings);
END $$;

---------------------------------------------------------------------------------------------------------------------- a sighting

CREATE FUNCTION record_activity(user_id text, at timestamptz DEFAULT now(), user_agent text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    s settings;
    u users;
    row_seen bigint;
BEGIN
    SELECT * INTO s FROM settings;
    SELECT * INTO u FROM users WHERE name = record_activity.user_id;
    -- better: a row that has expired is no row
    SELECT last_seen INTO row_seen FROM cohort(at) WHERE member = record_activity.user_id;

    IF NOT is_on() THEN
        RETURN 'off';
    END IF;
    IF s.server_name IS NOT NULL
       AND (left(user_id, 1) <> '@' OR right(user_id, length(s.server_name) + 1) <> ':' || s.server_name) THEN
        RETURN 'remote';
    END IF;
    -- open: belonging to an appservice stands for using its token
    IF service_of(user_id) <> 'native' AND NOT s.track_appservice_user_ips THEN
        RETURN 'appservice';
    END IF;
    IF u.is_guest THEN
        RETURN 'guest';
    END IF;
    IF is_trial(user_id, at) THEN
        RETURN 'trial';
    END IF;
    IF u.user_type = 'support' THEN
        RETURN 'support';
    END IF;
    IF u.deactivated AND NOT s.count_deactivated_users THEN
        RETURN 'deactivated';
    END IF;

    IF row_seen IS NOT NULL THEN
        -- the time is moved only if it is more than an hour old
        IF ms(at) - row_seen <= extract(epoch FROM s.last_seen_granularity) * 1000 THEN
            RETURN 'unchanged';
        END IF;
        PERFORM upsert(user_id, ms(at));
        RETURN 'refreshed';
    END IF;

    -- better: only who is counted needs a seat, and a registered reserved user has one
    IF s.limit_usage_by_mau AND service_of(user_id) = 'native' AND natives(at) >= s.max_mau_value
       AND user_id NOT IN (SELECT r FROM registered_reserved_users() r) THEN
        RETURN 'full';
    END IF;
    PERFORM upsert(user_id, ms(at));
    RETURN 'joined';
END $$;

---------------------------------------------------------------------------------------------------------------------- the door

CREATE FUNCTION error_body(error text, limit_type text) RETURNS jsonb LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT jsonb_build_object('errcode', 'M_RESOURCE_LIMIT_EXCEEDED', 'error', error_body.error,
                              'admin_contact', s.admin_contact, 'limit_type', error_body.limit_type)
    FROM settings s;
END;

-- NULL = go ahead. The first match decides.
CREATE FUNCTION check_auth_blocking(user_id text DEFAULT NULL, medium text DEFAULT NULL, address text DEFAULT NULL,
    user_type text DEFAULT NULL, appservice_id text DEFAULT NULL, at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    s settings;
BEGIN
    SELECT * INTO s FROM settings;
    IF user_id IS NOT NULL AND medium IS NOT NULL THEN
        RAISE EXCEPTION 'both a user and a threepid' USING ERRCODE = '22023';
    END IF;

    -- open: belonging to an appservice stands for being authenticated by it
    IF (nullif(appservice_id, '') IS NOT NULL OR service_of(user_id) <> 'native') AND NOT s.track_appservice_user_ips THEN
        RETURN NULL;
    END IF;
    IF user_id = s.server_notices_mxid
       OR EXISTS (SELECT FROM users u WHERE u.name = check_auth_blocking.user_id AND u.user_type = 'support') THEN
        RETURN NULL;
    END IF;
    IF s.hs_disabled THEN
        RETURN error_body(s.hs_disabled_message, 'hs_disabled');
    END IF;
    IF NOT s.limit_usage_by_mau THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM cohort(at) WHERE member = check_auth_blocking.user_id) THEN
        RETURN NULL;
    END IF;
    -- open: a seat that is held for ever needs no row (Synapse gives the row when it starts, and asks for it until then)
    IF user_id IN (SELECT r FROM registered_reserved_users() r) THEN
        RETURN NULL;
    END IF;
    IF is_trial(user_id, at) THEN
        RETURN NULL;
    END IF;
    IF user_id IS NULL AND medium IS NOT NULL AND is_reserved(medium, address) THEN
        RETURN NULL;
    END IF;
    IF user_id IS NULL AND medium IS NULL AND user_type = 'support' THEN
        RETURN NULL;
    END IF;
    IF natives(at) >= s.max_mau_value THEN
        RETURN error_body('Monthly Active User Limit Exceeded', 'monthly_active_user');
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION admit(user_id text, at timestamptz DEFAULT now(), user_agent text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    blocked jsonb := check_auth_blocking(user_id => admit.user_id, at => admit.at);
BEGIN
    IF blocked IS NULL THEN
        PERFORM record_activity(user_id, at, user_agent);
    END IF;
    RETURN blocked;
END $$;

---------------------------------------------------------------------------------------------------------------------- reap

-- Registered reserved users get their rows (as Synapse does when it starts); expired rows go; then, with a limit, the oldest rows
-- above it. Better: only rows that are counted take a seat, so only they go, and rows of reserved users outside the count take none.
CREATE FUNCTION reap(at timestamptz DEFAULT now()) RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    s settings;
    before bigint := (SELECT count(*) FROM members);
BEGIN
    SELECT * INTO s FROM settings;
    UPDATE reaped SET latest = greatest(latest, ms(at));
    IF is_on() THEN
        INSERT INTO members
        SELECT r, 0 FROM registered_reserved_users() r  -- better: a seat is no sighting
        WHERE NOT EXISTS (SELECT FROM users u WHERE u.name = r AND u.deactivated AND NOT s.count_deactivated_users)
        ON CONFLICT DO NOTHING;
    END IF;

    DELETE FROM members WHERE member NOT IN (SELECT c.member FROM cohort(at) c);

    IF s.limit_usage_by_mau THEN
        DELETE FROM members WHERE member IN (
            SELECT c.member FROM cohort(at) c
            WHERE c.service = 'native' AND NOT c.is_reserved
            ORDER BY c.last_seen DESC, c.member
            OFFSET greatest(0, s.max_mau_value - (SELECT count(*) FROM cohort(at) c WHERE c.service = 'native' AND c.is_reserved)));
    END IF;
    RETURN before - (SELECT count(*) FROM members);
END $$;

RESET search_path;
