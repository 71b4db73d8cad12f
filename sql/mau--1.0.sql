/* mau 1.0: monthly active users of a chat server.
 *
 * The install script. doc/reference.md describes every object, in this order. From the first release on it does not
 * change; later versions are a chain of upgrade scripts. Statements inside functions run with search_path = pg_catalog, pg_temp. */

\echo Use "CREATE EXTENSION mau" to load this file. \quit

-- Names and operators below are PostgreSQL's own, even if the schema mau contains others.
SET LOCAL search_path = pg_catalog, pg_temp;

-- CREATE EXTENSION uses an existing schema. Objects that other roles can create in it would be used by mau.
DO $$
DECLARE
    schema CONSTANT oid := (SELECT oid FROM pg_namespace WHERE nspname = 'mau');
    object text;
    owner text := (SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.oid = schema AND NOT r.rolsuper);
    creator text := (SELECT string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, ', ')
                     FROM pg_namespace n, aclexplode(n.nspacl) a
                     WHERE n.oid = schema AND a.privilege_type = 'CREATE'
                       AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.grantee AND r.rolsuper));
BEGIN
    SELECT pg_describe_object(d.classid, d.objid, d.objsubid) INTO object FROM pg_depend d
    WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = schema
      AND NOT (d.classid = 'pg_extension'::regclass AND d.objid = (SELECT e.oid FROM pg_extension e WHERE e.extname = 'mau'))
    ORDER BY d.classid, d.objid LIMIT 1;
    IF owner IS NOT NULL OR creator IS NOT NULL OR object IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'schema mau exists and is not safe to install into',
            DETAIL = CASE WHEN owner IS NOT NULL THEN format('It belongs to role %s, which is no superuser.', owner)
                          WHEN creator IS NOT NULL THEN format('%s may create objects in it.', creator)
                          ELSE format('It holds %s.', object) END,
            HINT = 'Look at what is in schema mau, drop or rename the schema, and run CREATE EXTENSION mau again; it makes the schema.';
    END IF;
END
$$;

-------------------------------------------------------------------------------------------------------------
-- configuration: settings, reserved threepids, appservices, users
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.settings (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    limit_usage_by_mau boolean NOT NULL DEFAULT false,
    max_mau_value integer NOT NULL DEFAULT 0
        CONSTRAINT max_mau_value_is_not_negative CHECK (max_mau_value >= 0),
    mau_stats_only boolean NOT NULL DEFAULT true,
    mau_trial_days integer NOT NULL DEFAULT 0
        CONSTRAINT mau_trial_days_is_not_negative CHECK (mau_trial_days BETWEEN 0 AND 36500),
    mau_limit_alerting boolean NOT NULL DEFAULT true,
    limit_warning_percent integer NOT NULL DEFAULT 90
        CONSTRAINT limit_warning_percent_is_a_percentage CHECK (limit_warning_percent BETWEEN 1 AND 100),
    track_appservice_user_ips boolean NOT NULL DEFAULT false,
    admin_contact text,
    hs_disabled boolean NOT NULL DEFAULT false,
    hs_disabled_message text DEFAULT '',
    server_notices_mxid text,
    server_name text
        CONSTRAINT server_name_is_a_host CHECK (server_name !~ '[@[:space:]]' AND server_name <> ''),
    count_deactivated_users boolean NOT NULL DEFAULT true,
    count_locked_users boolean NOT NULL DEFAULT true,
    last_seen_granularity interval NOT NULL DEFAULT '1 hour'
        CONSTRAINT last_seen_granularity_is_up_to_a_day
        CHECK (last_seen_granularity >= interval '0' AND last_seen_granularity <= interval '1 day'),
    history_retention interval NOT NULL DEFAULT '2 years'
        CONSTRAINT history_retention_is_at_least_a_day CHECK (history_retention >= interval '1 day'),
    snapshot_retention interval NOT NULL DEFAULT '2 years'
        CONSTRAINT snapshot_retention_is_at_least_a_day CHECK (snapshot_retention >= interval '1 day'),
    source_time_zone text
        CONSTRAINT source_time_zone_is_a_time_zone CHECK (isfinite(timezone(source_time_zone, timestamp 'epoch'))),
    usage_metrics boolean NOT NULL DEFAULT false,
    metrics_database_label boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE mau.settings IS
'The settings, one row, with Synapse''s names. Change them with UPDATE; a change is effective at commit, in every session.';
COMMENT ON COLUMN mau.settings.singleton IS 'Keeps the table at one row; inserting a row replaces it.';
COMMENT ON COLUMN mau.settings.limit_usage_by_mau IS 'Whether the number of monthly active users is limited to max_mau_value.';
COMMENT ON COLUMN mau.settings.max_mau_value IS 'The highest number of monthly active users (natives) with limit_usage_by_mau; also how many of the reserved threepids hold a seat.';
COMMENT ON COLUMN mau.settings.mau_stats_only IS 'Whether activity is recorded without a limit. With this and limit_usage_by_mau off nothing is recorded.';
COMMENT ON COLUMN mau.settings.mau_trial_days IS 'Days after registration in which a user does not count; 0 = no trial.';
COMMENT ON COLUMN mau.settings.mau_limit_alerting IS 'Whether the homeserver informs members when the server becomes full or is no longer full, and mau sends NOTIFY mau_limit when mau.limit_state changes.';
COMMENT ON COLUMN mau.settings.limit_warning_percent IS 'The percentage of max_mau_value at which the server counts as nearly full; 100 = never.';
COMMENT ON COLUMN mau.settings.track_appservice_user_ips IS 'Whether users of appservices (bridges) are recorded. They get rows of their own service and take no seat.';
COMMENT ON COLUMN mau.settings.admin_contact IS 'The contact of the administrator, a URI such as mailto:admin@example.com; part of the error body.';
COMMENT ON COLUMN mau.settings.hs_disabled IS 'Whether the server is closed. Support users, the user of server notices and users of bridges that are not tracked still come in.';
COMMENT ON COLUMN mau.settings.hs_disabled_message IS 'The error message while hs_disabled is on.';
COMMENT ON COLUMN mau.settings.server_notices_mxid IS 'The user that sends server notices; never blocked.';
COMMENT ON COLUMN mau.settings.server_name IS 'The homeserver''s name; when set, only @…:server_name and the JIDs …@server_name are local. NULL where one database serves several hosts.';
COMMENT ON COLUMN mau.settings.count_deactivated_users IS 'Whether deactivated users count until they expire, as in Synapse; off: they leave at once.';
COMMENT ON COLUMN mau.settings.count_locked_users IS 'Whether locked users count until they expire, as in Synapse; off: they leave at once.';
COMMENT ON COLUMN mau.settings.last_seen_granularity IS 'How old a last sighting must be before it is written again (more than this). Up to 1 day.';
COMMENT ON COLUMN mau.settings.history_retention IS 'How long daily history is kept; of older days fold keeps only which users were active at all.';
COMMENT ON COLUMN mau.settings.snapshot_retention IS 'How long mau.snapshots are kept.';
COMMENT ON COLUMN mau.settings.source_time_zone IS 'The time zone of times that the source stores without one (users.created_at of ejabberd); NULL = the setting TimeZone of the role that writes them.';
COMMENT ON COLUMN mau.settings.usage_metrics IS 'Whether a snapshot an hour keeps mau.usage_statistics, and mau.metrics shows it as synapse_usage_….';
COMMENT ON COLUMN mau.settings.metrics_database_label IS 'Whether each sample of mau.metrics has the label database. Off: Synapse''s gauges have the labels of Synapse only.';

CREATE TABLE mau.reserved_threepids (
    medium text NOT NULL CONSTRAINT medium_is_given CHECK (medium <> ''),
    address text NOT NULL CONSTRAINT address_is_given CHECK (address <> ''),
    position bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
    PRIMARY KEY (medium, address)
);
CREATE INDEX reserved_threepids_position ON mau.reserved_threepids (position);
COMMENT ON TABLE mau.reserved_threepids IS
'Third-party ids whose owners may register on a full server. The owners of the first max_mau_value of them, by position, hold a seat permanently while there is a limit.';
COMMENT ON COLUMN mau.reserved_threepids.medium IS 'email or msisdn.';
COMMENT ON COLUMN mau.reserved_threepids.address IS 'The e-mail address or phone number.';
COMMENT ON COLUMN mau.reserved_threepids.position IS 'The place in the list; a new row gets the next one.';

CREATE FUNCTION mau.is_regex(patterns text[]) RETURNS boolean
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_is_regex';
COMMENT ON FUNCTION mau.is_regex(text[]) IS
'Returns true if every element is a regular expression; otherwise raises an error with the element. Used by a constraint. Errors: 2201B.';

CREATE TABLE mau.appservices (
    id text NOT NULL PRIMARY KEY CONSTRAINT id_is_given CHECK (id <> '' AND id <> 'native')
        CONSTRAINT id_is_not_too_long CHECK (octet_length(id) <= 255),
    trial_days integer CONSTRAINT trial_days_is_not_negative CHECK (trial_days BETWEEN 0 AND 36500),
    sender text CONSTRAINT sender_is_given CHECK (sender <> ''),
    exclusive_user_regexes text[] NOT NULL DEFAULT '{}'
        CONSTRAINT exclusive_user_regexes_are_regexes CHECK (mau.is_regex(exclusive_user_regexes))
);
COMMENT ON TABLE mau.appservices IS
'Settings of application services (bridges and bots). An appservice needs no row here if the homeserver registers its users.';
COMMENT ON COLUMN mau.appservices.id IS 'The id in the appservice''s registration, as in Synapse''s users.appservice_id.';
COMMENT ON COLUMN mau.appservices.trial_days IS 'Trial days of its users (mau_appservice_trial_days); NULL = mau_trial_days.';
COMMENT ON COLUMN mau.appservices.sender IS 'The full user id of the appservice''s own user, which has no registration.';
COMMENT ON COLUMN mau.appservices.exclusive_user_regexes IS 'Exclusive namespaces: a user without a registration belongs to the appservice if its id matches one of them from the first character on.';

CREATE TABLE mau.users (
    user_no bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY
        CONSTRAINT user_no_is_in_range CHECK (user_no BETWEEN 0 AND 70368744177663),
    user_id text COLLATE "C"
        CONSTRAINT user_id_is_not_too_long CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    registered_at bigint
        CONSTRAINT registered_at_is_a_time CHECK (registered_at BETWEEN 0 AND 32503680000000),
    last_seen bigint
        CONSTRAINT last_seen_is_a_time CHECK (last_seen BETWEEN 0 AND 32503680000000),
    appservice_id text
        CONSTRAINT appservice_id_is_not_too_long CHECK (octet_length(appservice_id) <= 255)
        CONSTRAINT appservice_id_is_not_native CHECK (appservice_id <> 'native'),
    user_type text
        CONSTRAINT user_type_is_not_too_long CHECK (octet_length(user_type) <= 255),
    is_registered boolean NOT NULL DEFAULT false,
    is_guest boolean NOT NULL DEFAULT false,
    is_deactivated boolean NOT NULL DEFAULT false,
    visited integer NOT NULL DEFAULT 0
        CONSTRAINT visited_is_not_negative CHECK (visited >= 0),
    is_locked boolean NOT NULL DEFAULT false
) WITH (fillfactor = 80);
-- No index on last_seen: it would make every sighting of a non-member, and every row that leaves the cohort, three
-- times as expensive (no HOT updates).
CREATE UNIQUE INDEX users_user_id ON mau.users (user_id);
CREATE INDEX users_registered_at ON mau.users (registered_at) INCLUDE (user_no) WHERE is_registered;
CREATE INDEX users_deactivated ON mau.users (user_id) WHERE is_deactivated OR is_locked;
CREATE INDEX users_not_counted ON mau.users (user_no) WHERE is_guest OR (user_type = 'support') IS TRUE;
CREATE INDEX users_of_services ON mau.users (user_no) WHERE appservice_id <> '';
COMMENT ON TABLE mau.users IS
'All users who were registered or seen: a number that is never reused, the registration, the kind of account. Written by mau''s functions.';
COMMENT ON COLUMN mau.users.user_no IS 'The user''s number, in order of registration or first sight; never reused.';
COMMENT ON COLUMN mau.users.user_id IS 'The user''s id in the server''s own form; NULL for a forgotten user.';
COMMENT ON COLUMN mau.users.registered_at IS 'The registration time, epoch milliseconds; NULL = unknown.';
COMMENT ON COLUMN mau.users.last_seen IS 'The last sighting that is not in the cohort, epoch milliseconds: of guests, trial users, support users, untracked appservice users, users blocked by a full server, and former members.';
COMMENT ON COLUMN mau.users.appservice_id IS 'The appservice that registered the user; NULL or empty = native.';
COMMENT ON COLUMN mau.users.user_type IS 'support, bot or another type of the homeserver; NULL = an ordinary user.';
COMMENT ON COLUMN mau.users.is_registered IS 'Whether the homeserver has an account of this id; false for ids that were only seen.';
COMMENT ON COLUMN mau.users.is_guest IS 'Whether the account is a guest''s.';
COMMENT ON COLUMN mau.users.is_deactivated IS 'Whether the account was deactivated.';
COMMENT ON COLUMN mau.users.visited IS 'The marked visits of a user outside the cohort, as in mau.monthly_active_users.visited.';
COMMENT ON COLUMN mau.users.is_locked IS 'Whether the account is locked, as the source says (Synapse).';

CREATE FUNCTION mau.users_changed() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_users_changed';
COMMENT ON FUNCTION mau.users_changed() IS
'Trigger: invalidates the cache of recently seen users after changes to accounts that mau did not make itself.';
CREATE TRIGGER changed BEFORE UPDATE OR DELETE OR TRUNCATE ON mau.users
    FOR EACH STATEMENT EXECUTE FUNCTION mau.users_changed();
ALTER TABLE mau.users ENABLE ALWAYS TRIGGER changed;

CREATE TABLE mau.user_threepids (
    medium text NOT NULL CONSTRAINT medium_is_not_too_long CHECK (octet_length(medium) BETWEEN 1 AND 255),
    address text COLLATE "C" NOT NULL
        CONSTRAINT address_is_not_too_long CHECK (octet_length(address) BETWEEN 1 AND 1024),
    user_id text COLLATE "C" NOT NULL
        CONSTRAINT user_id_is_not_too_long CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    PRIMARY KEY (medium, address)
);
CREATE INDEX user_threepids_user_id ON mau.user_threepids (user_id);
COMMENT ON SEQUENCE mau.users_user_no_seq IS 'Numbers of users.';
COMMENT ON SEQUENCE mau.reserved_threepids_position_seq IS 'Positions of reserved threepids.';
COMMENT ON TABLE mau.user_threepids IS
'The owners of e-mail addresses and phone numbers, for reserved threepids. Written by add_threepid, register_user and sync.';
COMMENT ON COLUMN mau.user_threepids.medium IS 'email or msisdn.';
COMMENT ON COLUMN mau.user_threepids.address IS 'The address; e-mail in lower case.';
COMMENT ON COLUMN mau.user_threepids.user_id IS 'The owner.';

CREATE TABLE mau.deferred_calls (
    called_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    function text NOT NULL,
    user_id text COLLATE "C" NOT NULL
        CONSTRAINT user_id_is_given CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    at bigint CONSTRAINT at_is_from_1970_to_2999 CHECK (at BETWEEN 0 AND 32503679999999),
    platform smallint CONSTRAINT platform_is_known CHECK (platform BETWEEN 0 AND 4),
    user_type text CONSTRAINT user_type_is_short CHECK (octet_length(user_type) <= 255),
    appservice_id text CONSTRAINT appservice_id_is_short CHECK (octet_length(appservice_id) <= 255)
        CONSTRAINT appservice_id_is_not_native CHECK (appservice_id <> 'native'),
    is_guest boolean,
    medium text CONSTRAINT medium_is_short CHECK (octet_length(medium) BETWEEN 1 AND 255),
    address text COLLATE "C" CONSTRAINT address_is_short CHECK (octet_length(address) BETWEEN 1 AND 1024),
    CONSTRAINT arguments_are_complete CHECK (CASE
        WHEN function IN ('record_activity', 'register_user') THEN at IS NOT NULL AND (medium IS NULL) = (address IS NULL)
        WHEN function IN ('add_threepid', 'remove_threepid') THEN medium IS NOT NULL AND address IS NOT NULL
        ELSE function = 'deactivate_user' END)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = off);
CREATE INDEX deferred_calls_user_id ON mau.deferred_calls (user_id);
ALTER TABLE mau.deferred_calls REPLICA IDENTITY FULL;  -- replication must find rows without a key to delete them
COMMENT ON TABLE mau.deferred_calls IS
'Calls that met rows locked by another transaction. mau.fold carries them out; the next report about the same account carries out its earlier ones.';
COMMENT ON COLUMN mau.deferred_calls.called_at IS 'The time of the call.';
COMMENT ON COLUMN mau.deferred_calls.function IS 'record_activity (also for record_activities and admit), register_user, add_threepid, remove_threepid or deactivate_user.';
COMMENT ON COLUMN mau.deferred_calls.user_id IS 'The argument of that name.';
COMMENT ON COLUMN mau.deferred_calls.at IS 'The instant of the sighting or of the registration, epoch milliseconds.';
COMMENT ON COLUMN mau.deferred_calls.platform IS 'The kind of client of a sighting: 0 unknown, 1 web, 2 electron, 3 android, 4 ios.';
COMMENT ON COLUMN mau.deferred_calls.user_type IS 'The argument of that name.';
COMMENT ON COLUMN mau.deferred_calls.appservice_id IS 'The argument of that name.';
COMMENT ON COLUMN mau.deferred_calls.is_guest IS 'The argument of that name.';
COMMENT ON COLUMN mau.deferred_calls.medium IS 'The argument of that name.';
COMMENT ON COLUMN mau.deferred_calls.address IS 'The argument of that name; e-mail in lower case.';

CREATE FUNCTION mau.config_changed() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_config_changed';
COMMENT ON FUNCTION mau.config_changed() IS
'Trigger: informs every session at commit that settings, reserved threepids or appservices changed.';
CREATE FUNCTION mau.replace_settings() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_replace_settings';
COMMENT ON FUNCTION mau.replace_settings() IS
'Trigger: a row inserted into mau.settings replaces the existing row, so that a dump can be restored.';

CREATE TRIGGER replace BEFORE INSERT ON mau.settings
    FOR EACH ROW EXECUTE FUNCTION mau.replace_settings();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mau.settings
    FOR EACH STATEMENT EXECUTE FUNCTION mau.config_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mau.reserved_threepids
    FOR EACH STATEMENT EXECUTE FUNCTION mau.config_changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mau.appservices
    FOR EACH STATEMENT EXECUTE FUNCTION mau.config_changed();
ALTER TABLE mau.settings ENABLE ALWAYS TRIGGER replace, ENABLE ALWAYS TRIGGER changed;
ALTER TABLE mau.reserved_threepids ENABLE ALWAYS TRIGGER changed;
ALTER TABLE mau.appservices ENABLE ALWAYS TRIGGER changed;
-- Replication fires no triggers for statements.
CREATE TRIGGER replicated AFTER INSERT OR UPDATE OR DELETE ON mau.settings
    FOR EACH ROW EXECUTE FUNCTION mau.config_changed();
CREATE TRIGGER replicated AFTER INSERT OR UPDATE OR DELETE ON mau.reserved_threepids
    FOR EACH ROW EXECUTE FUNCTION mau.config_changed();
CREATE TRIGGER replicated AFTER INSERT OR UPDATE OR DELETE ON mau.appservices
    FOR EACH ROW EXECUTE FUNCTION mau.config_changed();
ALTER TABLE mau.settings ENABLE REPLICA TRIGGER replicated;
ALTER TABLE mau.reserved_threepids ENABLE REPLICA TRIGGER replicated;
ALTER TABLE mau.appservices ENABLE REPLICA TRIGGER replicated;

INSERT INTO mau.settings DEFAULT VALUES;

CREATE FUNCTION mau.fold_address(medium text, address text) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_fold_address';
COMMENT ON FUNCTION mau.fold_address(text, text) IS
'Returns the form in which addresses are compared: e-mail in lower case (Unicode), everything else unchanged.';

CREATE FUNCTION mau.registered_reserved_users() RETURNS SETOF text
    LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_registered_reserved_users';
COMMENT ON FUNCTION mau.registered_reserved_users() IS
'Returns the users who own one of the first max_mau_value reserved threepids; they hold a seat permanently. Returns no rows unless limit_usage_by_mau is on.';

-------------------------------------------------------------------------------------------------------------
-- tasks: regular work and its results
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.tasks (
    task text NOT NULL PRIMARY KEY,
    last_started timestamptz,
    last_finished timestamptz,
    last_duration interval,
    last_rows bigint,
    runs bigint NOT NULL DEFAULT 0,
    failures bigint NOT NULL DEFAULT 0,
    failures_in_a_row integer NOT NULL DEFAULT 0,
    last_error text,
    last_error_sqlstate text,
    last_error_at timestamptz,
    next_run timestamptz,
    latest_at timestamptz
);
COMMENT ON TABLE mau.tasks IS
'The last run of sync, refresh, reap, fold, reconcile and compare, by any caller. The worker commits the start before its work and the end after it, so that a crash shows as started and not finished.';
COMMENT ON COLUMN mau.tasks.task IS 'sync, refresh, reap, fold, reconcile or compare.';
COMMENT ON COLUMN mau.tasks.last_started IS 'The start of the last run.';
COMMENT ON COLUMN mau.tasks.last_finished IS 'The end of the last successful run.';
COMMENT ON COLUMN mau.tasks.last_duration IS 'The duration of the last successful run.';
COMMENT ON COLUMN mau.tasks.last_rows IS 'The rows of the last successful run; of reconcile, the users who differed.';
COMMENT ON COLUMN mau.tasks.runs IS 'The number of successful runs.';
COMMENT ON COLUMN mau.tasks.failures IS 'The number of failed runs.';
COMMENT ON COLUMN mau.tasks.failures_in_a_row IS 'The number of failed runs since the last successful one; the worker backs off.';
COMMENT ON COLUMN mau.tasks.last_error IS 'The message of the last failure.';
COMMENT ON COLUMN mau.tasks.last_error_sqlstate IS 'The SQLSTATE of the last failure.';
COMMENT ON COLUMN mau.tasks.last_error_at IS 'The time of the last failure.';
COMMENT ON COLUMN mau.tasks.next_run IS 'The time of the worker''s next run.';
COMMENT ON COLUMN mau.tasks.latest_at IS 'Of reap, the latest instant by which members were removed. The cohort cannot answer for earlier instants.';

CREATE FUNCTION mau.replace_task() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_replace_task';
COMMENT ON FUNCTION mau.replace_task() IS
'Trigger: a row of mau.tasks that arrives by replication replaces the row that CREATE EXTENSION made.';
CREATE TRIGGER replace BEFORE INSERT ON mau.tasks
    FOR EACH ROW EXECUTE FUNCTION mau.replace_task();
ALTER TABLE mau.tasks ENABLE REPLICA TRIGGER replace;

INSERT INTO mau.tasks (task) VALUES ('sync'), ('refresh'), ('reap'), ('fold'), ('reconcile'), ('compare');

-------------------------------------------------------------------------------------------------------------
-- cohort: the monthly active users
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.monthly_active_users (
    user_id text COLLATE "C" NOT NULL PRIMARY KEY
        CONSTRAINT user_id_is_given CHECK (octet_length(user_id) BETWEEN 1 AND 255),
    "timestamp" bigint NOT NULL
        CONSTRAINT timestamp_is_a_time CHECK ("timestamp" BETWEEN 0 AND 32503680000000),
    service text NOT NULL DEFAULT 'native'
        CONSTRAINT service_is_given CHECK (octet_length(service) BETWEEN 1 AND 255),
    renewed bigint NOT NULL DEFAULT 9223372036854775807
        CONSTRAINT renewed_is_a_time CHECK (renewed BETWEEN 0 AND 32503680000000),
    visited integer NOT NULL DEFAULT 0
        CONSTRAINT visited_is_not_negative CHECK (visited >= 0)
) WITH (fillfactor = 70);
-- Not on "timestamp": every refresh would write to both indexes (no HOT updates) and be three times as expensive.
-- renewed is a last sighting, too, never after "timestamp" and at most 15 days before it. A scan of the index up to an
-- instant finds all users who were not seen since, and some who were; the row distinguishes them.
CREATE INDEX monthly_active_users_renewed ON mau.monthly_active_users (renewed);
COMMENT ON TABLE mau.monthly_active_users IS
'The cohort: the active users and their last sighting, as in Synapse, with the service. A row older than 30 days has expired and does not count, whether or not a reap has removed it; rows of registered reserved users do not expire.';
COMMENT ON COLUMN mau.monthly_active_users.user_id IS 'The user''s id.';
COMMENT ON COLUMN mau.monthly_active_users."timestamp" IS 'The last sighting, epoch milliseconds, to within last_seen_granularity; 0 for a reserved user who got a seat and was not seen since.';
COMMENT ON COLUMN mau.monthly_active_users.service IS 'native, or the id of the user''s appservice.';
COMMENT ON COLUMN mau.monthly_active_users.renewed IS 'The last sighting in the index, epoch milliseconds: never after "timestamp" and at most 15 days before it. If missing or too late, it becomes "timestamp".';
COMMENT ON COLUMN mau.monthly_active_users.visited IS 'The marked visits of the newest day: days since 1970, times 32, plus 1 (unknown client), 2 (web), 4 (electron), 8 (android) and 16 (ios); 0 = none. A sighting in it marks no visit.';

CREATE FUNCTION mau.cohort_changed() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_cohort_changed';
COMMENT ON FUNCTION mau.cohort_changed() IS
'Trigger: informs the counters in shared memory of DML on the cohort that mau did not run itself, such as an administrator''s DELETE.';
CREATE TRIGGER changed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON mau.monthly_active_users
    FOR EACH STATEMENT EXECUTE FUNCTION mau.cohort_changed();
ALTER TABLE mau.monthly_active_users ENABLE ALWAYS TRIGGER changed;
-- Replication fires no triggers for statements.
CREATE TRIGGER replicated AFTER INSERT OR UPDATE OR DELETE ON mau.monthly_active_users
    FOR EACH ROW EXECUTE FUNCTION mau.cohort_changed();
ALTER TABLE mau.monthly_active_users ENABLE REPLICA TRIGGER replicated;

CREATE FUNCTION mau.keep_renewed() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_keep_renewed';
COMMENT ON FUNCTION mau.keep_renewed() IS
'Trigger: sets renewed to "timestamp" in rows of the cohort that are written by hand without it, or with an earlier "timestamp".';
CREATE TRIGGER keep_renewed BEFORE INSERT OR UPDATE ON mau.monthly_active_users
    FOR EACH ROW WHEN (NEW.renewed > NEW."timestamp") EXECUTE FUNCTION mau.keep_renewed();
ALTER TABLE mau.monthly_active_users ENABLE ALWAYS TRIGGER keep_renewed;

CREATE TABLE mau.limit_state (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('free', 'nearly_full', 'full')),
    users bigint NOT NULL,
    max bigint NOT NULL,
    at timestamptz NOT NULL
);
COMMENT ON TABLE mau.limit_state IS
'The last state of the limit that NOTIFY mau_limit sent; no row: free, and nothing was sent since mau_limit_alerting was switched on.';
COMMENT ON COLUMN mau.limit_state.singleton IS 'Keeps the table at one row.';
COMMENT ON COLUMN mau.limit_state.state IS 'full: no newcomer is let in; nearly_full: limit_warning_percent of max_mau_value are taken; free.';
COMMENT ON COLUMN mau.limit_state.users IS 'The monthly active users at that time.';
COMMENT ON COLUMN mau.limit_state.max IS 'max_mau_value at that time.';
COMMENT ON COLUMN mau.limit_state.at IS 'The instant of the change.';

CREATE FUNCTION mau.monthly_active_count(at timestamptz DEFAULT now()) RETURNS bigint
    LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_monthly_active_count';
COMMENT ON FUNCTION mau.monthly_active_count(timestamptz) IS
'Returns the number of monthly active users that the limit is about: native members seen within 30 days of an instant, and registered reserved users. Errors: 22008, 22023.';

CREATE FUNCTION mau.monthly_active_count_by_service(at timestamptz DEFAULT now())
    RETURNS TABLE (service text, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'mau_monthly_active_count_by_service';
COMMENT ON FUNCTION mau.monthly_active_count_by_service(timestamptz) IS
'Returns the number of members of the cohort by service: native, or the id of an appservice. Errors: 22008, 22023.';

CREATE FUNCTION mau.host_of(user_id text) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_host_of';
COMMENT ON FUNCTION mau.host_of(text) IS
'Returns the host in a user id: of @local:host or local@host/resource the part that is the host; empty without one.';

CREATE FUNCTION mau.monthly_active_count_by_host(at timestamptz DEFAULT now())
    RETURNS TABLE (host text, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'mau_monthly_active_count_by_host';
COMMENT ON FUNCTION mau.monthly_active_count_by_host(timestamptz) IS
'Returns the members that monthly_active_count counts, by virtual host. Errors: 22008, 22023.';

CREATE FUNCTION mau.monthly_active_users_by_service(start_at timestamptz DEFAULT NULL, end_at timestamptz DEFAULT NULL)
    RETURNS TABLE (service text, user_id text, last_seen timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
    SELECT m.service, m.user_id, to_timestamp(nullif(m."timestamp", 0) / 1000.0)
    FROM mau.monthly_active_users m
    WHERE (start_at IS NULL OR m."timestamp" >= floor(extract(epoch FROM start_at) * 1000))
      AND (end_at IS NULL OR m."timestamp" <= floor(extract(epoch FROM end_at) * 1000))
    ORDER BY m.service, m.user_id
    $$;
COMMENT ON FUNCTION mau.monthly_active_users_by_service(timestamptz, timestamptz) IS
'Returns the rows of the cohort last seen in a range of time, by service. Includes expired rows until a reap removes them, as in Synapse.';

CREATE FUNCTION mau.active_users(period interval DEFAULT '30 days', at timestamptz DEFAULT now(),
                                 service text DEFAULT 'native', min_days integer DEFAULT 1) RETURNS bigint
    LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_active_users';
COMMENT ON FUNCTION mau.active_users(interval, timestamptz, text, integer) IS
'Returns how many users who count were active within a period that ends at an instant. Up to 30 days it counts last sightings, else whole UTC days of the history. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.active_users_by_host(period interval DEFAULT '30 days', at timestamptz DEFAULT now(),
                                         service text DEFAULT 'native')
    RETURNS TABLE (host text, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'mau_active_users_by_host';
COMMENT ON FUNCTION mau.active_users_by_host(interval, timestamptz, text) IS
'Returns the users who were last seen within a period that ends at an instant and who count, by virtual host. Errors: 22008, 22023.';

CREATE FUNCTION mau.last_seen(user_id text) RETURNS timestamptz
    LANGUAGE C STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_last_seen';
COMMENT ON FUNCTION mau.last_seen(text) IS
'Returns the last sighting of a user, member or not, to within last_seen_granularity; NULL = never. Errors: 22023.';

CREATE FUNCTION mau.reap(at timestamptz DEFAULT now(), max_rows bigint DEFAULT NULL)
    RETURNS TABLE (what text, users bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 5 AS 'MODULE_PATHNAME', 'mau_reap';
COMMENT ON FUNCTION mau.reap(timestamptz, bigint) IS
'Brings the cohort in order: removes expired rows, deactivated and locked users unless they count, and the oldest rows above the limit; adds registered reserved users. Errors: 22008, 22023, 39P01.';

-------------------------------------------------------------------------------------------------------------
-- registration: reports of homeservers about accounts
-------------------------------------------------------------------------------------------------------------

CREATE FUNCTION mau.register_user(user_id text, registered_at timestamptz DEFAULT now(), user_type text DEFAULT NULL,
                                  appservice_id text DEFAULT NULL, is_guest boolean DEFAULT false,
                                  medium text DEFAULT NULL, address text DEFAULT NULL) RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_register_user';
COMMENT ON FUNCTION mau.register_user(text, timestamptz, text, text, boolean, text, text) IS
'Records an account, or updates what is given of a known one. With a reserved threepid the user becomes active, as in Synapse. Errors: 22008, 22023.';

CREATE FUNCTION mau.add_threepid(user_id text, medium text, address text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_add_threepid';
COMMENT ON FUNCTION mau.add_threepid(text, text, text) IS
'Records that a third-party id belongs to a user; it moves if it belonged to another user. Errors: 22023.';

CREATE FUNCTION mau.remove_threepid(user_id text, medium text, address text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_remove_threepid';
COMMENT ON FUNCTION mau.remove_threepid(text, text, text) IS
'Records that a third-party id no longer belongs to a user; returns whether it did. Errors: 22023.';

CREATE FUNCTION mau.deactivate_user(user_id text, at timestamptz DEFAULT now()) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_deactivate_user';
COMMENT ON FUNCTION mau.deactivate_user(text, timestamptz) IS
'Records that an account was deactivated; returns whether the user was known and active. Errors: 22008, 22023.';

CREATE FUNCTION mau.forget_user(user_id text) RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_forget_user';
COMMENT ON FUNCTION mau.forget_user(text) IS
'Removes a person: cohort row, threepids, deferred calls, skipped rows, and the id behind the user''s number; past totals stay right. Returns whether the user was known. Errors: 22023, 39P01.';

-------------------------------------------------------------------------------------------------------------
-- activity: recording sightings, decisions about requests
-------------------------------------------------------------------------------------------------------------

CREATE FUNCTION mau.record_activity(user_id text, at timestamptz DEFAULT now(), user_agent text DEFAULT NULL)
    RETURNS text
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_record_activity';
COMMENT ON FUNCTION mau.record_activity(text, timestamptz, text) IS
'Records a sighting of a user and returns the outcome. Never waits for another client''s transaction. Errors: 22008, 22023, 25006.';

CREATE FUNCTION mau.record_activities(user_ids text[], at timestamptz[], user_agents text[] DEFAULT NULL)
    RETURNS TABLE (outcome text, users bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 12 AS 'MODULE_PATHNAME', 'mau_record_activities';
COMMENT ON FUNCTION mau.record_activities(text[], timestamptz[], text[]) IS
'Records many sightings with one statement and returns how many users had which outcome. Errors: 22008, 22023, 25006.';

CREATE FUNCTION mau.check_auth_blocking(user_id text DEFAULT NULL, medium text DEFAULT NULL, address text DEFAULT NULL,
                                        user_type text DEFAULT NULL, appservice_id text DEFAULT NULL,
                                        at timestamptz DEFAULT now()) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_check_auth_blocking';
COMMENT ON FUNCTION mau.check_auth_blocking(text, text, text, text, text, timestamptz) IS
'Returns NULL if a request or a registration may go ahead, else the error body for HTTP 403. Waits for no other transaction. Errors: 22008, 22023.';

CREATE FUNCTION mau.admit(user_id text, at timestamptz DEFAULT now(), user_agent text DEFAULT NULL) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_admit';
COMMENT ON FUNCTION mau.admit(text, timestamptz, text) IS
'Checks and records a user''s request in one call: returns NULL if it may go ahead, else the error body for HTTP 403. Errors: 22008, 22023, 25006.';

CREATE FUNCTION mau.explain(user_id text, at timestamptz DEFAULT now())
    RETURNS TABLE (step integer, rule text, holds boolean, detail text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 20 AS 'MODULE_PATHNAME', 'mau_explain';
COMMENT ON FUNCTION mau.explain(text, timestamptz) IS
'Shows why a user counts or does not, and is blocked or not: the attached homeserver''s own answer, each rule in order, and the verdict in the last row. Changes nothing. Errors: 22008, 22023.';

-------------------------------------------------------------------------------------------------------------
-- history: the active users of each day
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.visits (
    user_no bigint NOT NULL
        CONSTRAINT user_no_is_in_range CHECK (user_no BETWEEN 0 AND 70368744177663),
    day date NOT NULL
        CONSTRAINT day_is_in_range CHECK (day BETWEEN '1970-01-01' AND '2999-12-31'),
    platform smallint NOT NULL
        CONSTRAINT platform_is_known CHECK (platform BETWEEN 0 AND 4),
    service text COLLATE "C" NOT NULL
        CONSTRAINT service_is_given CHECK (octet_length(service) BETWEEN 1 AND 255)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
        -- Truncating the file takes a lock for which sightings would not wait.
        vacuum_truncate = off);
CREATE INDEX visits_user_no ON mau.visits (user_no, day, platform);
ALTER TABLE mau.visits REPLICA IDENTITY FULL;  -- replication must find rows without a key to delete them
COMMENT ON TABLE mau.visits IS
'Visits that are not in mau.active_days yet. The first sighting of a day adds one, mau.fold moves it into a bitmap; a visit that is here twice, or in a bitmap too, counts once.';
COMMENT ON COLUMN mau.visits.user_no IS 'The user''s number.';
COMMENT ON COLUMN mau.visits.day IS 'The UTC day.';
COMMENT ON COLUMN mau.visits.platform IS 'The kind of client: 0 unknown, 1 web, 2 electron, 3 android, 4 ios.';
COMMENT ON COLUMN mau.visits.service IS 'native, or the id of the user''s appservice.';

CREATE TABLE mau.active_days (
    chunk integer NOT NULL,
    day date NOT NULL,
    platform smallint NOT NULL,
    service text COLLATE "C" NOT NULL,
    users bytea NOT NULL,
    purged_until date,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (chunk, day, service, platform),
    CONSTRAINT chunk_is_not_negative CHECK (chunk >= 0),
    CONSTRAINT day_is_not_infinity CHECK (day < 'infinity'),
    CONSTRAINT platform_is_known CHECK (platform BETWEEN 0 AND 4),
    CONSTRAINT purged_until_is_of_the_days_before CHECK ((purged_until IS NOT NULL) = (day = '-infinity'))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50,
        autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 1000,
        -- Each fold writes the bitmaps of today again: later folds reuse the space.
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 50,
        vacuum_truncate = off, toast.vacuum_truncate = off);
ALTER TABLE mau.active_days ALTER COLUMN users SET STORAGE EXTERNAL;
CREATE INDEX active_days_purged_until ON mau.active_days (purged_until) WHERE purged_until IS NOT NULL;
COMMENT ON TABLE mau.active_days IS
'Bitmaps of the active users: one for each 65 536 users, day, service and platform. Written by mau.fold and attach; ask the functions of the history.';
COMMENT ON COLUMN mau.active_days.chunk IS 'The users with numbers from chunk * 65536 on.';
COMMENT ON COLUMN mau.active_days.day IS 'The UTC day; -infinity: some day before those that history_retention keeps.';
COMMENT ON COLUMN mau.active_days.platform IS 'The kind of client: 0 unknown, 1 web, 2 electron, 3 android, 4 ios.';
COMMENT ON COLUMN mau.active_days.service IS 'native, or the id of the users'' appservice.';
COMMENT ON COLUMN mau.active_days.users IS 'The numbers modulo 65536 in the portable Roaring format: one container (an array of up to 4096 users, else a bitset) with the key chunk modulo 65536.';
COMMENT ON COLUMN mau.active_days.purged_until IS 'Of the day -infinity: the last day that was united into it; NULL for other days. The history cannot answer about days up to the latest of them.';
COMMENT ON COLUMN mau.active_days.changed_at IS 'The time at which fold last changed the row; mau.export_days returns the rows that changed since a time. Of the day -infinity: the latest change of the days that were united into it.';

CREATE FUNCTION mau.fold(at timestamptz DEFAULT now(), max_rows bigint DEFAULT NULL)
    RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_fold';
COMMENT ON FUNCTION mau.fold(timestamptz, bigint) IS
'Moves visits into the bitmaps of mau.active_days, deletes days older than history_retention, and carries out deferred calls. Errors: 22008, 22023, 39P01, 55P03, XX001.';

CREATE FUNCTION mau.daily_series(from_day date DEFAULT NULL, to_day date DEFAULT NULL, service text DEFAULT 'native',
                                 platform text DEFAULT NULL, min_days integer DEFAULT 1, kind text DEFAULT 'counted',
                                 window_days integer DEFAULT 30)
    RETURNS TABLE (day date, dau bigint, wau bigint, mau bigint, stickiness double precision, new_users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_daily_series';
COMMENT ON FUNCTION mau.daily_series(date, date, text, text, integer, text, integer) IS
'Returns for each UTC day the distinct active users of the day (dau), of 7 days (wau) and of a window (mau), stickiness and new users. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.growth(from_day date DEFAULT NULL, to_day date DEFAULT NULL, service text DEFAULT 'native',
                           platform text DEFAULT NULL, min_days integer DEFAULT 1, kind text DEFAULT 'counted',
                           window_days integer DEFAULT 30)
    RETURNS TABLE (day date, mau bigint, mau_before bigint, new_users bigint, retained bigint, resurrected bigint,
                   churned bigint, quick_ratio double precision)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_growth';
COMMENT ON FUNCTION mau.growth(date, date, text, text, integer, text, integer) IS
'Returns for each UTC day the monthly active users against those of the window before: new, retained, resurrected, churned, and the quick ratio. Errors as daily_series.';

CREATE FUNCTION mau.retention(cohort text DEFAULT 'month', from_day date DEFAULT NULL, to_day date DEFAULT NULL,
                              service text DEFAULT 'native', platform text DEFAULT NULL, kind text DEFAULT 'counted',
                              at timestamptz DEFAULT now())
    RETURNS TABLE (cohort_start date, size bigint, period integer, period_start date, users bigint,
                   share double precision)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 100 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_retention';
COMMENT ON FUNCTION mau.retention(text, date, date, text, text, text, timestamptz) IS
'Returns how many users of each registration cohort were active in each later period, and their share. Errors as daily_series.';

CREATE FUNCTION mau.days_active(at timestamptz DEFAULT now(), period interval DEFAULT '30 days',
                                service text DEFAULT 'native', platform text DEFAULT NULL, kind text DEFAULT 'counted')
    RETURNS TABLE (days integer, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_days_active';
COMMENT ON FUNCTION mau.days_active(timestamptz, interval, text, text, text) IS
'Returns how many users were active on exactly 1, 2, ... days of a period. Errors as daily_series.';

CREATE FUNCTION mau.r30v2(at timestamptz DEFAULT now()) RETURNS TABLE (client text, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 5 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_r30v2';
COMMENT ON FUNCTION mau.r30v2(timestamptz) IS
'Returns Synapse''s r30v2: users with two visits more than 30 days apart within 60 days, all and by client. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.r30v2_series(from_day date DEFAULT NULL, to_day date DEFAULT NULL, platform text DEFAULT NULL)
    RETURNS TABLE (day date, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_r30v2_series';
COMMENT ON FUNCTION mau.r30v2_series(date, date, text) IS
'Returns r30v2 for each UTC day. Errors as daily_series.';

CREATE FUNCTION mau.r30(at timestamptz DEFAULT now()) RETURNS TABLE (client text, users bigint)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 5 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_r30';
COMMENT ON FUNCTION mau.r30(timestamptz) IS
'Returns Synapse''s older r30, which newer versions no longer report: accounts active within 30 UTC days and more than 30 days after their registration, all and by client. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.billing_months(from_day date DEFAULT NULL, to_day date DEFAULT NULL, service text DEFAULT NULL,
                                   more_than_days integer DEFAULT 2, kind text DEFAULT 'counted',
                                   at timestamptz DEFAULT now())
    RETURNS TABLE (month date, service_name text, users bigint, users_over bigint, highest_mau bigint,
                   mean_mau double precision, partial boolean)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 24 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_billing_months';
COMMENT ON FUNCTION mau.billing_months(date, date, text, integer, text, timestamptz) IS
'Returns for each calendar month and service the distinct active users, those above a number of days, and the highest and mean of the monthly active users. Errors as daily_series.';

CREATE FUNCTION mau.forecast(target bigint DEFAULT NULL, at timestamptz DEFAULT now(), days integer DEFAULT 90,
                             service text DEFAULT 'native')
    RETURNS TABLE (day date, mau bigint, target_mau bigint, per_day double precision, r_squared double precision,
                   reaches date, days_left integer, assumption text)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_forecast';
COMMENT ON FUNCTION mau.forecast(bigint, timestamptz, integer, text) IS
'Returns when the monthly active users reach a target along the straight line through the last days. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.nodeinfo_usage(at timestamptz DEFAULT now()) RETURNS jsonb
    LANGUAGE C STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_nodeinfo_usage';
COMMENT ON FUNCTION mau.nodeinfo_usage(timestamptz) IS
'Returns the object usage of a NodeInfo 2 document. Errors: 22008, 22023, XX001.';

CREATE FUNCTION mau.chart(what text DEFAULT 'mau', from_day date DEFAULT NULL, to_day date DEFAULT NULL,
                          width integer DEFAULT 72, height integer DEFAULT 8, service text DEFAULT 'native',
                          platform text DEFAULT NULL, kind text DEFAULT 'counted') RETURNS SETOF text
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_chart';
COMMENT ON FUNCTION mau.chart(text, date, date, integer, integer, text, text, text) IS
'Draws a column of daily_series for a terminal. Errors as daily_series.';

-------------------------------------------------------------------------------------------------------------
-- warehouse: the history of many homeservers in one place
-------------------------------------------------------------------------------------------------------------

CREATE FUNCTION mau.export_days(since timestamptz DEFAULT NULL)
    RETURNS TABLE (server text, chunk integer, day date, service text, platform smallint, users bytea,
                   changed_at timestamptz, purged_until date)
    LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10000 SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
    #variable_conflict use_column
    DECLARE
        last_purged CONSTANT date := (SELECT max(d.purged_until) FROM mau.active_days d WHERE d.purged_until IS NOT NULL);
        purged_change CONSTANT timestamptz := (SELECT max(d.changed_at) FROM mau.active_days d WHERE d.purged_until IS NOT NULL);
    BEGIN
        IF since = 'infinity' THEN
            RAISE datetime_field_overflow USING MESSAGE = 'since must be a finite time', DETAIL = 'It is infinity.',
                HINT = 'Pass the latest changed_at that was copied, or NULL for all rows.';
        ELSIF since > now() + interval '5 min' THEN
            RAISE invalid_parameter_value USING MESSAGE = 'since lies in the future',
                DETAIL = format('It is %s; rows that changed since the server''s clock was set back would not be copied.', since),
                HINT = 'Call mau.export_days() for all rows; share/warehouse/copy does so with --all.';
        ELSIF since < purged_change THEN
            RAISE invalid_parameter_value USING MESSAGE = 'days that have changed since then were purged',
                DETAIL = format('since is %s. Days up to %s were purged, and one of them had changed at %s.', since, last_purged, purged_change),
                HINT = 'Call mau.export_days() for all days that are left. To avoid gaps, copy more often than history_retention.';
        END IF;
        RETURN QUERY
            SELECT coalesce((SELECT s.server_name FROM mau.settings s), current_database()::text),
                   d.chunk, d.day, d.service, d.platform, d.users, d.changed_at, d.purged_until
            FROM mau.active_days d WHERE since IS NULL OR d.changed_at >= since;
    END
    $$;
COMMENT ON FUNCTION mau.export_days(timestamptz) IS
'Returns the bitmaps of the history that fold changed since a time, or all of them, to be copied into a warehouse. Errors: 22008, 22023, 42501.';

CREATE FUNCTION mau.bitmap_step(internal, user_no bigint) RETURNS internal
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_bitmap_step';
COMMENT ON FUNCTION mau.bitmap_step(internal, bigint) IS
'The transition function of mau.bitmap_agg. Errors as there.';
CREATE FUNCTION mau.bitmap_answer(internal) RETURNS bytea
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_bitmap_answer';
COMMENT ON FUNCTION mau.bitmap_answer(internal) IS
'The final function of mau.bitmap_agg. Errors as there.';
CREATE AGGREGATE mau.bitmap_agg(user_no bigint) (
    SFUNC = mau.bitmap_step, STYPE = internal, SSPACE = 8192, FINALFUNC = mau.bitmap_answer, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.bitmap_agg(bigint) IS
'Returns the bitmap of users of one chunk, as mau.active_days has it. Errors: 22023.';

CREATE VIEW mau.masks AS
    SELECT coalesce((SELECT s.server_name FROM mau.settings s), current_database()::text) AS server, m.chunk, m.kind, m.users
    FROM (SELECT (u.user_no >> 16)::integer AS chunk, 'not_counted' AS kind, mau.bitmap_agg(u.user_no) AS users
          FROM mau.users u WHERE u.is_guest OR (u.user_type = 'support') IS TRUE GROUP BY 1
          UNION ALL SELECT (u.user_no >> 16)::integer, 'guest', mau.bitmap_agg(u.user_no)
          FROM mau.users u WHERE u.is_guest GROUP BY 1
          UNION ALL SELECT (u.user_no >> 16)::integer, 'support', mau.bitmap_agg(u.user_no)
          FROM mau.users u WHERE (u.user_type = 'support') IS TRUE GROUP BY 1
          UNION ALL SELECT (u.user_no >> 16)::integer, 'bot', mau.bitmap_agg(u.user_no)
          FROM mau.users u WHERE u.user_type = 'bot' GROUP BY 1
          UNION ALL SELECT (u.user_no >> 16)::integer, 'deactivated', mau.bitmap_agg(u.user_no)
          FROM mau.users u WHERE u.is_deactivated GROUP BY 1
          UNION ALL SELECT (u.user_no >> 16)::integer, 'unregistered', mau.bitmap_agg(u.user_no)
          FROM mau.users u WHERE NOT u.is_registered GROUP BY 1) m;
COMMENT ON VIEW mau.masks IS
'The users of each kind of account as bitmaps, as known now: what a warehouse needs to leave them out.';
COMMENT ON COLUMN mau.masks.server IS 'The homeserver''s name, as mau.export_days has it.';
COMMENT ON COLUMN mau.masks.chunk IS 'The users with numbers from chunk * 65536 on.';
COMMENT ON COLUMN mau.masks.kind IS 'not_counted (guests and support users), guest, support, bot, deactivated or unregistered.';
COMMENT ON COLUMN mau.masks.users IS 'The bitmap, as in mau.active_days.';

CREATE VIEW mau.registrations AS
    SELECT coalesce((SELECT s.server_name FROM mau.settings s), current_database()::text) AS server, r.chunk, r.day, r.service, r.users
    FROM (SELECT (u.user_no >> 16)::integer AS chunk, date '1970-01-01' + (u.registered_at / 86400000)::integer AS day,
                 coalesce(nullif(u.appservice_id, ''), 'native') AS service, mau.bitmap_agg(u.user_no) AS users
          FROM mau.users u WHERE u.is_registered AND u.registered_at < 32503680000000  -- the year 3000: no day of the aggregates
          GROUP BY 1, 2, 3) r;
COMMENT ON VIEW mau.registrations IS
'The users who registered on each UTC day as bitmaps: what a warehouse needs for retention.';
COMMENT ON COLUMN mau.registrations.server IS 'The homeserver''s name, as mau.export_days has it.';
COMMENT ON COLUMN mau.registrations.chunk IS 'The users with numbers from chunk * 65536 on.';
COMMENT ON COLUMN mau.registrations.day IS 'The UTC day of the registration.';
COMMENT ON COLUMN mau.registrations.service IS 'native, or the id of the users'' appservice.';
COMMENT ON COLUMN mau.registrations.users IS 'The bitmap, as in mau.active_days.';

CREATE FUNCTION mau.series_step(internal, from_day date, to_day date, window_days integer, day date, users bytea,
                                left_out bytea) RETURNS internal
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_series_step';
COMMENT ON FUNCTION mau.series_step(internal, date, date, integer, date, bytea, bytea) IS
'The transition function of mau.series. Errors as there.';
CREATE FUNCTION mau.series_growth_step(internal, from_day date, to_day date, window_days integer, day date, users bytea,
                                       left_out bytea) RETURNS internal
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_series_growth_step';
COMMENT ON FUNCTION mau.series_growth_step(internal, date, date, integer, date, bytea, bytea) IS
'The transition function of mau.series_growth. Errors as there.';
CREATE FUNCTION mau.series_retention_step(internal, cohort text, from_day date, to_day date, day date, users bytea,
                                          registered bytea, left_out bytea) RETURNS internal
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_series_retention_step';
COMMENT ON FUNCTION mau.series_retention_step(internal, text, date, date, date, bytea, bytea, bytea) IS
'The transition function of mau.series_retention. Errors as there.';
CREATE FUNCTION mau.series_r30v2_step(internal, from_day date, to_day date, day date, users bytea, left_out bytea)
    RETURNS internal
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_series_r30v2_step';
COMMENT ON FUNCTION mau.series_r30v2_step(internal, date, date, date, bytea, bytea) IS
'The transition function of mau.series_r30v2. Errors as there.';
CREATE FUNCTION mau.series_answer(internal) RETURNS bigint[]
    LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_series_answer';
COMMENT ON FUNCTION mau.series_answer(internal) IS
'The final function of mau.series and its relatives. Errors as mau.series.';

-- SSPACE: a year of a chunk takes 3 MB, so that groups are sorted and not all kept in memory at once.
CREATE AGGREGATE mau.series(from_day date, to_day date, window_days integer, day date, users bytea, left_out bytea) (
    SFUNC = mau.series_step, STYPE = internal, SSPACE = 3000000, FINALFUNC = mau.series_answer,
    FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.series(date, date, integer, date, bytea, bytea) IS
'Returns for each day the users of one chunk who were active within the window that ends with it. Errors: 22008, 22023, XX001.';
CREATE AGGREGATE mau.series_growth(from_day date, to_day date, window_days integer, day date, users bytea, left_out bytea) (
    SFUNC = mau.series_growth_step, STYPE = internal, SSPACE = 3000000, FINALFUNC = mau.series_answer,
    FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.series_growth(date, date, integer, date, bytea, bytea) IS
'Returns for each day the new, retained, resurrected and churned users of one chunk. Errors as mau.series.';
CREATE AGGREGATE mau.series_retention(cohort text, from_day date, to_day date, day date, users bytea, registered bytea,
                                      left_out bytea) (
    SFUNC = mau.series_retention_step, STYPE = internal, SSPACE = 200000, FINALFUNC = mau.series_answer,
    FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.series_retention(text, date, date, date, bytea, bytea, bytea) IS
'Returns for each registration cohort of one chunk its size and its active users in each period. Errors as mau.series.';
CREATE AGGREGATE mau.series_r30v2(from_day date, to_day date, day date, users bytea, left_out bytea) (
    SFUNC = mau.series_r30v2_step, STYPE = internal, SSPACE = 3000000, FINALFUNC = mau.series_answer,
    FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.series_r30v2(date, date, date, bytea, bytea) IS
'Returns Synapse''s r30v2 of one chunk for each day. Errors as mau.series.';

CREATE FUNCTION mau.add_step(sum bigint[], figures bigint[]) RETURNS bigint[]
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'mau_add_step';
COMMENT ON FUNCTION mau.add_step(bigint[], bigint[]) IS
'Adds two arrays of the same size, element by element; the transition function of mau.add. Errors as there.';
CREATE AGGREGATE mau.add(figures bigint[]) (
    SFUNC = mau.add_step, STYPE = bigint[], COMBINEFUNC = mau.add_step, PARALLEL = SAFE);
COMMENT ON AGGREGATE mau.add(bigint[]) IS
'Returns the sum of arrays, element by element: of the figures of chunks, the figures of all users. Errors: 22003, 22023.';

-------------------------------------------------------------------------------------------------------------
-- metrics: snapshots and the exposition text
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.snapshots (
    at timestamptz NOT NULL PRIMARY KEY,
    dau bigint NOT NULL,
    wau bigint NOT NULL,
    mau bigint NOT NULL,
    max bigint,
    by_service jsonb NOT NULL,
    daily_active_users bigint NOT NULL,
    accounts_by_service jsonb NOT NULL,
    daily_by_service jsonb NOT NULL DEFAULT '{}',
    weekly_by_service jsonb NOT NULL DEFAULT '{}',
    usage jsonb,
    forecast jsonb
);
COMMENT ON TABLE mau.snapshots IS
'Figures at past instants: a row for each refresh, kept for snapshot_retention.';
COMMENT ON COLUMN mau.snapshots.at IS 'The instant of the figures.';
COMMENT ON COLUMN mau.snapshots.dau IS 'Native users who count, seen within 1 day.';
COMMENT ON COLUMN mau.snapshots.wau IS 'Native users who count, seen within 7 days.';
COMMENT ON COLUMN mau.snapshots.mau IS 'monthly_active_count: the figure that the limit is about.';
COMMENT ON COLUMN mau.snapshots.max IS 'max_mau_value at that time; NULL without a limit.';
COMMENT ON COLUMN mau.snapshots.by_service IS 'Members by service, such as {"native": 14, "irc-bridge": 2}.';
COMMENT ON COLUMN mau.snapshots.daily_active_users IS 'All users seen within 1 day, guests and users of bridges included.';
COMMENT ON COLUMN mau.snapshots.accounts_by_service IS 'Accounts that are not deactivated, by service.';
COMMENT ON COLUMN mau.snapshots.daily_by_service IS 'Members who were seen within 1 day, by service.';
COMMENT ON COLUMN mau.snapshots.weekly_by_service IS 'Members who were seen within 7 days, by service.';
COMMENT ON COLUMN mau.snapshots.usage IS 'mau.usage_statistics at that time; one snapshot an hour has it with usage_metrics, the others have NULL.';
COMMENT ON COLUMN mau.snapshots.forecast IS 'mau.forecast at that time; one snapshot an hour has it while there is a limit, the others have NULL.';

CREATE FUNCTION mau.refresh(at timestamptz DEFAULT now()) RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 AS 'MODULE_PATHNAME', 'mau_refresh';
COMMENT ON FUNCTION mau.refresh(timestamptz) IS
'Records the figures of an instant in mau.snapshots and deletes snapshots older than snapshot_retention. Errors: 22008, 22023, 39P01.';

CREATE FUNCTION mau.metrics(at timestamptz DEFAULT now()) RETURNS text
    LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_metrics';
COMMENT ON FUNCTION mau.metrics(timestamptz) IS
'Returns the figures in Prometheus''s text format, with the names of Synapse''s gauges and mau''s own. Errors: 22008, 22023.';

CREATE FUNCTION mau.samples(at timestamptz DEFAULT now()) RETURNS TABLE (name text, labels jsonb, value bigint)
    LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 40 AS 'MODULE_PATHNAME', 'mau_samples';
COMMENT ON FUNCTION mau.samples(timestamptz) IS
'Returns the figures of mau.metrics as rows, for exporters that run queries. Errors: 22008, 22023.';

-------------------------------------------------------------------------------------------------------------
-- source: the homeserver that mau is attached to
-------------------------------------------------------------------------------------------------------------

CREATE TABLE mau.source (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    kind text NOT NULL,
    schema_name text NOT NULL,
    attached_by text NOT NULL,
    attached_at timestamptz NOT NULL DEFAULT now(),
    activity_until bigint,
    pass_from bigint,
    visits_until date,
    finds_new_by text,
    queries jsonb,
    synced_at timestamptz,
    server_name text,
    other_server_name text,
    trouble text,
    trouble_sqlstate text,
    trouble_at timestamptz
);
COMMENT ON TABLE mau.source IS
'The homeserver whose tables mau reads, one row or none, and the reading position. Written by attach, sync and detach.';
COMMENT ON COLUMN mau.source.singleton IS 'Keeps the table at one row.';
COMMENT ON COLUMN mau.source.kind IS 'The kind of homeserver, as given to attach.';
COMMENT ON COLUMN mau.source.schema_name IS 'The schema of its tables.';
COMMENT ON COLUMN mau.source.attached_by IS 'The role that attached; sync reads with its rights. For superusers doc/operating.md#attach says whose rights apply.';
COMMENT ON COLUMN mau.source.attached_at IS 'The time of the attachment.';
COMMENT ON COLUMN mau.source.activity_until IS 'The newest activity that was read, epoch milliseconds; never ahead of the server''s clock.';
COMMENT ON COLUMN mau.source.pass_from IS 'Where an unfinished sync continues, epoch milliseconds; NULL between syncs.';
COMMENT ON COLUMN mau.source.visits_until IS 'The last day whose daily visits were read for good; each day is read again once it is over.';
COMMENT ON COLUMN mau.source.finds_new_by IS 'How a sync finds new activity: by time, through an index, or by changed pages, which reads the header of every page of the table; and the tables of which it reads all rows.';
COMMENT ON COLUMN mau.source.queries IS 'The queries of a custom source, as they were at attach.';
COMMENT ON COLUMN mau.source.synced_at IS 'The instant up to which the last complete sync has read.';
COMMENT ON COLUMN mau.source.server_name IS 'The server name of the accounts that were read; NULL for a kind that may have several.';
COMMENT ON COLUMN mau.source.other_server_name IS 'A second server name among these accounts: two homeservers share the tables. NULL = none.';
COMMENT ON COLUMN mau.source.trouble IS 'Why the last sync could not read the homeserver''s tables; NULL = no trouble.';
COMMENT ON COLUMN mau.source.trouble_sqlstate IS 'The SQLSTATE of the trouble.';
COMMENT ON COLUMN mau.source.trouble_at IS 'The time of the trouble.';

CREATE TABLE mau.source_tables (
    table_name text NOT NULL PRIMARY KEY,
    filenode bigint NOT NULL,
    changes_until bigint,
    pending_until bigint,
    pending_xid bigint,
    system_identifier bigint NOT NULL
);
COMMENT ON TABLE mau.source_tables IS
'How far the tables without an index on time were read, as positions in the WAL, and the file of the table of activity.';
COMMENT ON COLUMN mau.source_tables.table_name IS 'The table.';
COMMENT ON COLUMN mau.source_tables.filenode IS 'The file of the table when it was last read; if it differs, the whole table is read again.';
COMMENT ON COLUMN mau.source_tables.changes_until IS 'The position in the WAL up to which all changes were seen; NULL = read the whole table.';
COMMENT ON COLUMN mau.source_tables.pending_until IS 'The next position, once all transactions that were in progress at it have ended.';
COMMENT ON COLUMN mau.source_tables.pending_xid IS 'Transactions with a lower number may have been in progress at pending_until.';
COMMENT ON COLUMN mau.source_tables.system_identifier IS 'The server on which the table was read, as in pg_control_system(); on another server the whole table is read again.';

CREATE TABLE mau.source_skipped (
    table_name text NOT NULL,
    reason text NOT NULL,
    row_key text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, reason, row_key)
);
COMMENT ON TABLE mau.source_skipped IS
'Invalid rows of the homeserver''s tables that were skipped; the first 10 000.';
COMMENT ON COLUMN mau.source_skipped.table_name IS 'The table.';
COMMENT ON COLUMN mau.source_skipped.reason IS 'Why the row is invalid.';
COMMENT ON COLUMN mau.source_skipped.row_key IS 'The beginning of the user id, if there is one; of Prosody with the name of the value, of a time zone the column.';
COMMENT ON COLUMN mau.source_skipped.seen_at IS 'The time of the first encounter.';

CREATE TABLE mau.custom_source (
    part text NOT NULL PRIMARY KEY
        CONSTRAINT part_is_known CHECK (part IN ('users', 'threepids', 'activity', 'visits', 'usage')),
    query text NOT NULL
);
COMMENT ON TABLE mau.custom_source IS
'The queries of a custom source, one for each part. Fill it before mau.attach(''custom''); a change takes a new attach.';
COMMENT ON COLUMN mau.custom_source.part IS 'users, threepids, activity, visits or usage.';
COMMENT ON COLUMN mau.custom_source.query IS 'One SELECT with the columns of the part; doc/sources.md lists them, with their types and units. {schema}, {since} and {at} stand for the schema, the last reading and the instant.';

CREATE FUNCTION mau.check_source() RETURNS trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'mau_check_source';
COMMENT ON FUNCTION mau.check_source() IS
'Trigger: only a superuser may name another role in attached_by, or change an attachment of another role (42501), because the worker reads with its rights.';
CREATE TRIGGER check_source BEFORE INSERT OR UPDATE ON mau.source
    FOR EACH ROW EXECUTE FUNCTION mau.check_source();

CREATE FUNCTION mau.attach(kind text, schema name DEFAULT 'public', at timestamptz DEFAULT now())
    RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 8 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_attach';
COMMENT ON FUNCTION mau.attach(text, name, timestamptz) IS
'Attaches to the homeserver whose tables are in a schema of this database and imports what they have; needs SELECT on them. Errors: 22008, 22023, 3F000, 42P01, 42703, 42804, 42501, 55000, 55P03.';

CREATE FUNCTION mau.sync(at timestamptz DEFAULT now(), max_rows bigint DEFAULT NULL)
    RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 8 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_sync';
COMMENT ON FUNCTION mau.sync(timestamptz, bigint) IS
'Reads new users, threepids, activity and daily visits from the attached homeserver''s tables. Trouble with these tables is a row and a warning, and loses nothing. Errors: 22008, 22023.';

CREATE FUNCTION mau.reconcile(at timestamptz DEFAULT now())
    RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_reconcile';
COMMENT ON FUNCTION mau.reconcile(timestamptz) IS
'Compares the activity of the last 30 days in the homeserver''s tables with what mau knows, and records what mau lacks. Errors: 22008, 22023.';

CREATE FUNCTION mau.detach() RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 2 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_detach';
COMMENT ON FUNCTION mau.detach() IS
'Ends the attachment and keeps the numbers.';

CREATE FUNCTION mau.usage_statistics(at timestamptz DEFAULT now()) RETURNS jsonb
    LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_usage_statistics';
COMMENT ON FUNCTION mau.usage_statistics(timestamptz) IS
'Returns the attached homeserver''s own figures by its own definitions. Errors: 22008, 22023, P0002, XX001.';

CREATE FUNCTION mau.compare(at timestamptz DEFAULT now())
    RETURNS TABLE (figure text, mau bigint, server bigint, unexplained bigint, reason text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 4 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_compare';
COMMENT ON FUNCTION mau.compare(timestamptz) IS
'Compares mau''s figures with the attached homeserver''s, user by user, and says how many users differ for which reason. Errors: 22008, 22023, and those of reading the homeserver''s tables.';

CREATE TABLE mau.comparison (
    figure text NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    mau bigint,
    server bigint,
    unexplained bigint,
    reason text NOT NULL
);
COMMENT ON TABLE mau.comparison IS
'The result of the last mau.keep_comparison; the worker runs it once a day.';
COMMENT ON COLUMN mau.comparison.figure IS 'The name of the figure.';
COMMENT ON COLUMN mau.comparison.at IS 'The instant of the figures.';
COMMENT ON COLUMN mau.comparison.mau IS 'mau''s figure, if it has one.';
COMMENT ON COLUMN mau.comparison.server IS 'The homeserver''s figure; NULL if its table cannot be read.';
COMMENT ON COLUMN mau.comparison.unexplained IS 'The number of users on one side only for no known reason; NULL if the homeserver''s table cannot be read.';
COMMENT ON COLUMN mau.comparison.reason IS 'Why the figures differ, in words.';

CREATE FUNCTION mau.keep_comparison(at timestamptz DEFAULT now()) RETURNS TABLE (what text, rows bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_keep_comparison';
COMMENT ON FUNCTION mau.keep_comparison(timestamptz) IS
'Records the result of mau.compare in mau.comparison, where mau.health reads it. Errors: 22008, 22023, 39P01.';

-------------------------------------------------------------------------------------------------------------
-- worker: the background worker and the state of mau
-------------------------------------------------------------------------------------------------------------

CREATE FUNCTION mau.wake_worker() RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'mau_wake_worker';
COMMENT ON FUNCTION mau.wake_worker() IS
'Asks the background worker to run all tasks in this database as soon as the transaction has committed. Returns whether there is a worker. Errors: 25006.';

CREATE TABLE mau.worker_pause (
    singleton boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (singleton),
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mau.worker_pause IS
'One row while the worker is paused in this database, else none. It survives restarts and is not dumped.';
COMMENT ON COLUMN mau.worker_pause.singleton IS 'Keeps the table at one row.';
COMMENT ON COLUMN mau.worker_pause.paused_by IS 'The role that paused it.';
COMMENT ON COLUMN mau.worker_pause.paused_at IS 'The time of the pause.';

CREATE FUNCTION mau.pause_worker() RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_pause_worker';
COMMENT ON FUNCTION mau.pause_worker() IS
'Pauses the background worker in this database until mau.resume_worker(), also over restarts. Returns false if it was paused already.';

CREATE FUNCTION mau.resume_worker() RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'mau_resume_worker';
COMMENT ON FUNCTION mau.resume_worker() IS
'Lets the background worker work in this database again, at once. Returns whether it was paused.';

CREATE FUNCTION mau.worker_state()
    RETURNS TABLE (preloaded boolean, enabled boolean, serves boolean, launcher_pid integer, running boolean,
                   extension text, last_tick_started timestamptz, last_tick_finished timestamptz,
                   next_tick timestamptz, error text, error_sqlstate text,
                   tick_interval integer, refresh_interval integer, reap_interval integer, fold_interval integer,
                   launched boolean, unknown_databases text, long_ticks text, no_free_worker boolean,
                   tick_timeout integer, left_out boolean)
    LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'mau_worker_state';
COMMENT ON FUNCTION mau.worker_state() IS
'Returns the state of the background worker that is in no table: settings, processes, and the last and next tick in this database. mau.status and mau.health show it.';

CREATE FUNCTION mau.fleet()
    RETURNS TABLE (database text, health text, reason text, last_tick timestamptz, running_since timestamptz,
                   error text, dau bigint, wau bigint, mau bigint, "limit" bigint, blocked boolean, as_of timestamptz)
    LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME', 'mau_fleet';
COMMENT ON FUNCTION mau.fleet() IS
'Returns the state of each database of the server that has mau, from shared memory: health, worker, figures. Other databases need the rights of pg_read_all_stats. Errors: 55000.';

CREATE FUNCTION mau.describe_seats() RETURNS text
    LANGUAGE C VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'mau_describe_seats';
COMMENT ON FUNCTION mau.describe_seats() IS
'Describes the counters of the limit in shared memory.';

CREATE FUNCTION mau.lost_calls() RETURNS TABLE (calls bigint, last_at timestamptz)
    LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'mau_lost_calls';
COMMENT ON FUNCTION mau.lost_calls() IS
'Returns the number of calls that could be neither carried out nor stored in mau.deferred_calls since the server started, and the time of the last.';

CREATE FUNCTION mau.seen_cache() RETURNS TABLE (bytes bigint, hits bigint, misses bigint)
    LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'mau_seen_cache';
COMMENT ON FUNCTION mau.seen_cache() IS
'Returns the size of the cache of recently seen users in bytes, and its hits and misses since the server started, in all databases.';

CREATE FUNCTION mau.row_security_off() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT string_agg(format('ALTER TABLE %s%s DISABLE ROW LEVEL SECURITY;', c.oid::regclass,
                             CASE WHEN c.relforcerowsecurity THEN ' NO FORCE ROW LEVEL SECURITY,' END), ' ' ORDER BY c.relname)
    FROM pg_class c WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'mau') AND c.relrowsecurity
    $$;
COMMENT ON FUNCTION mau.row_security_off() IS
'Returns the statements that switch row security off on mau''s tables; NULL where it is on for none.';

CREATE FUNCTION mau.unsupported_tables() RETURNS TABLE (table_name text, reason text, remedy text)
    LANGUAGE C STABLE PARALLEL RESTRICTED ROWS 1 AS 'MODULE_PATHNAME', 'mau_unsupported_tables';
COMMENT ON FUNCTION mau.unsupported_tables() IS
'Returns the tables of mau that are not ordinary local tables (distributed by Citus, partitioned, foreign, in another access method), why, and what to do.';

CREATE FUNCTION mau.health(at timestamptz DEFAULT now()) RETURNS TABLE (health text, reason text)
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp SET jit = off
    SET plan_cache_mode = force_generic_plan  -- planning takes longer than running it
    AS $$
    BEGIN
    IF at IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'at must not be NULL', HINT = 'Leave the argument out to mean now().';
    ELSIF NOT isfinite(at) THEN
        RAISE datetime_field_overflow USING MESSAGE = 'at must be a finite time', DETAIL = format('It is %s.', at),
            HINT = 'Leave the argument out to mean now().';
    END IF;
    -- Nothing else is read then: statements on such tables may fail.
    RETURN QUERY SELECT 'failing', string_agg(format('%s %s. %s', u.table_name, u.reason, u.remedy), ' ')
                 FROM mau.unsupported_tables() u HAVING count(*) > 0;
    IF FOUND THEN
        RETURN;
    ELSIF at < now() AND at < (SELECT max(t.last_finished) FROM mau.tasks t) - interval '5 min' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'at lies in the past',
            DETAIL = format('It is %s, and tasks have run since.', at), HINT = 'Leave the argument out; what each task did last is in mau.tasks.';
    END IF;
    RETURN QUERY
    WITH state AS (
        SELECT w.*, coalesce(s.limit_usage_by_mau OR s.mau_stats_only, true) AS recording,
               h.kind, h.schema_name, h.server_name,
               -- With mau.settings.server_name the users of one of the two are counted.
               CASE WHEN s.server_name IS NULL THEN h.other_server_name END AS other_server_name, h.trouble, h.trouble_sqlstate, coalesce(h.synced_at, h.attached_at) AS read_until,
               h.attached_at, greatest(h.synced_at, to_timestamp(h.activity_until / 1000.0)) AS position, h.kind IS NULL AND NOT EXISTS (SELECT FROM mau.users) AS idle,
               CASE WHEN NOT w.preloaded THEN 'mau is not in shared_preload_libraries'
                    WHEN NOT w.enabled THEN 'mau.worker is off'
                    WHEN NOT w.serves THEN 'mau.databases does not name this database'
                         || coalesce('; it lists databases that do not exist: ' || w.unknown_databases, '')
                    WHEN w.launcher_pid IS NULL AND current_setting('max_worker_processes') = '0' THEN
                         'max_worker_processes is 0, so that the launcher cannot be started: raise it, and restart the server'
                    WHEN w.launcher_pid IS NULL AND NOT w.launched THEN
                         'the launcher was not started: max_worker_processes may be too low (then the server''s log has "too many background workers" of its start), or the server has only just started'
                    WHEN w.launcher_pid IS NULL THEN 'the launcher is not running; the server starts it again within a minute, and its log says why it ended'
                    WHEN w.left_out THEN 'more databases than the worker serves (1024) have mau, and this one is left out: name the databases to serve in mau.databases'
               END AS no_worker,
               CASE WHEN w.no_free_worker THEN 'the worker is at work elsewhere, as often as mau.max_workers allows: in database ' || w.long_ticks
                    WHEN w.running AND w.long_ticks IS NOT NULL THEN
                        format('the worker is at work here since %s; it is ended after %s (mau.tick_timeout)',
                               date_trunc('second', w.last_tick_started), make_interval(secs => w.tick_timeout))
               END AS busy,
               (SELECT min(d.called_at) FROM mau.deferred_calls d) AS calls_since,
               l.calls AS lost_calls, l.last_at AS lost_at, mau.row_security_off() AS row_security_off,
               -- Unique indexes of others on mau's own columns; a key of other columns, such as a serial number, is no obstacle.
               (SELECT string_agg(format('%s on %s', i.indexrelid::regclass, i.indrelid::regclass), ', ' ORDER BY i.indexrelid::regclass::text)
                FROM (VALUES ('mau.visits'::regclass, 4), ('mau.deferred_calls', 10)) o(relation, columns)
                     JOIN pg_index i ON i.indrelid = o.relation
                WHERE (i.indisunique OR i.indisexclusion) AND o.columns >= ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS others_indexes,
               (SELECT format('mau.pause_worker() was called by %s at %s; end it by SELECT mau.resume_worker()', p.paused_by,
                              date_trunc('second', p.paused_at)) FROM mau.worker_pause p) AS paused
        FROM mau.worker_state() w CROSS JOIN mau.lost_calls() l LEFT JOIN mau.settings s ON true LEFT JOIN mau.source h ON true
    ), tasks AS (
        -- Without a source there is nothing to sync; attach counts as the first sync. Without users there is no snapshot. A task
        -- that never ran under a running worker has only just become due: it is late when the worker is.
        SELECT i.task, t.last_finished, t.last_error, t.last_error_sqlstate, t.next_run, t.latest_at, coalesce(t.failures_in_a_row, 0) AS failures_in_a_row,
               CASE WHEN i.task IN ('sync', 'reconcile') THEN greatest(t.last_finished, w.attached_at)
                         WHEN w.no_worker IS NULL THEN coalesce(t.last_finished, w.last_tick_finished)
                         ELSE t.last_finished END AS finished,
               make_interval(secs => i.seconds) AS every,
               make_interval(secs => 2 * i.seconds + 3 * w.tick_interval + 30) AS patience
        FROM state w CROSS JOIN LATERAL (VALUES ('sync', w.tick_interval), ('refresh', w.refresh_interval),
                                                ('reap', w.reap_interval), ('fold', w.fold_interval),
                                                ('reconcile', 86400), ('compare', 86400)) i(task, seconds)
             LEFT JOIN mau.tasks t ON t.task = i.task
        WHERE (i.task NOT IN ('sync', 'reconcile') OR w.kind IS NOT NULL)
              AND (i.task <> 'compare' OR w.kind IS NOT NULL AND w.no_worker IS NULL) AND (i.task <> 'refresh' OR NOT w.idle)
    ), summary AS (
        SELECT max(t.last_finished) AS last_run,
               string_agg(format('%s failed %s times in a row: %s (SQLSTATE %s)', t.task, t.failures_in_a_row,
                                 t.last_error, t.last_error_sqlstate)
                          || coalesce(format(', next try in %s', date_trunc('second', greatest(t.next_run - at, '0'))),
                                      ''), '; ' ORDER BY t.task)
                   FILTER (WHERE t.failures_in_a_row > 0) AS failing,
               string_agg(format('%s has %s, it is due every %s', t.task,
                                 coalesce('not run for ' || date_trunc('second', at - t.finished), 'never run'), t.every),
                          '; ' ORDER BY t.task)
                   FILTER (WHERE coalesce(at - t.finished > t.patience, true)) AS late,
               bool_or(t.finished IS NULL) AS never,
               max(t.latest_at) AS reaped_until
        FROM tasks t
    )
    SELECT c.health, c.reason
    FROM state w, summary t, LATERAL (VALUES
        (0, w.row_security_off IS NOT NULL, 'failing',
         'row security is on for tables of mau, which hides rows: ' || w.row_security_off),
        (1, pg_is_in_recovery(), 'standby',
         'this server is a standby: readers work here, the worker runs on the primary'),
        (2, w.extension = 'other version', 'failing',
         w.error),
        (2.5, w.no_worker IS NULL AND w.paused IS NOT NULL, 'paused',
         w.paused),
        (3, w.trouble IS NOT NULL, 'failing',
         format('the homeserver''s tables cannot be read: %s (SQLSTATE %s)', w.trouble, w.trouble_sqlstate)),
        (4, t.failing IS NOT NULL, 'failing',
         t.failing),
        (4.1, w.other_server_name IS NOT NULL, 'failing',
         format('the tables have accounts of two homeservers, %s and %s, and the figures add them up: give each homeserver a database of its own, or set mau.settings.server_name to count one of them; then SELECT mau.detach() and attach again',
                w.server_name, w.other_server_name)),
        (4, w.position > greatest(at, clock_timestamp()) + interval '5 min', 'late',
         format('the reading position %s lies ahead of the clock; the next sync compares all activity', w.position)),
        (4.4, w.others_indexes IS NOT NULL, 'failing',
         format('a call of the homeserver that writes a row which another transaction is writing has to wait, and may fail, because of a unique index that is not mau''s: %s; drop it',
                w.others_indexes)),
        (4.5, EXISTS (SELECT FROM mau.comparison c WHERE c.unexplained > 0), 'failing',
         (SELECT format('mau''s figures differ from the homeserver''s for no known reason, as of %s: %s; see mau.comparison and SELECT * FROM mau.compare()',
                        date_trunc('second', max(c.at)), string_agg(c.figure || ': ' || c.reason, '; ' ORDER BY c.figure))
          FROM mau.comparison c WHERE c.unexplained > 0)),
        (4.6, EXISTS (SELECT FROM mau.comparison c WHERE c.unexplained IS NULL), 'failing',
         (SELECT format('users or days may be missing, because tables of the homeserver cannot be read: %s; grant SELECT on them to the role that attached',
                        string_agg(c.figure || ': ' || c.reason, '; ' ORDER BY c.figure))
          FROM mau.comparison c WHERE c.unexplained IS NULL)),
        (4.7, t.reaped_until > greatest(at, clock_timestamp()) + interval '5 min', 'late',
         format('members were removed as of %s, which lies ahead of the clock: correct the clock; then call mau.reconcile(), and UPDATE mau.tasks SET latest_at = NULL WHERE task = ''reap''',
                date_trunc('second', t.reaped_until))),
        (6, w.no_worker IS NOT NULL AND t.late IS NOT NULL, 'off',
         format('%s, and nobody else runs the tasks: %s', w.no_worker, t.late)),
        (7, w.extension = 'restoring', 'waiting',
         'a restore of this database, or a subscription to mau''s tables, is under way, and the worker goes on when it has ended; if there is none, mau.users has numbers that its sequence has not given out (see setval), or has lost its rows'),
        (8, w.error IS NOT NULL, 'failing',
         format('%s (SQLSTATE %s)', w.error, w.error_sqlstate)),
        (8.5, w.busy IS NOT NULL AND CASE WHEN w.last_tick_finished IS NULL
                THEN w.no_free_worker OR at - w.last_tick_started > make_interval(secs => 3 * w.tick_interval + 30)
                ELSE t.late IS NOT NULL END, 'late',
         concat_ws('; ', t.late, w.busy)),
        (9, t.last_run IS NULL OR (t.never AND w.last_tick_finished IS NULL), 'starting',
         'the worker has not done its first tick here yet; it comes within seconds'),
        (9.5, w.calls_since < at - make_interval(secs => 2 * w.fold_interval + 3 * w.tick_interval + 30), 'late',
         concat_ws('; ', t.late, format('calls in mau.deferred_calls have not been carried out since %s: a transaction that is still open holds what they write, or a unique index of mau is missing',
                                        date_trunc('second', w.calls_since)))),
        (9.7, CASE WHEN w.kind IS NULL THEN w.lost_at > at - interval '1 day'
                   ELSE w.lost_at IS NOT NULL AND NOT EXISTS (SELECT FROM mau.tasks r WHERE r.task = 'reconcile'
                        AND r.last_started > w.lost_at AND r.last_finished >= r.last_started) END, 'late',
         concat_ws('; ', t.late, format('%s calls could not be stored since the server started, the last at %s, because mau.deferred_calls was locked: %s',
                                        w.lost_calls, date_trunc('second', w.lost_at),
                                        CASE WHEN w.kind IS NULL THEN 'make them again; this is reported for a day'
                                             ELSE 'run SELECT mau.reconcile()' END))),
        (10, t.late IS NOT NULL, 'late',
         t.late),
        (11, at - w.read_until > make_interval(secs => 5 * w.tick_interval + 30), 'late',
         format('sync is catching up: it has read up to %s', w.read_until)),
        (12, NOT w.recording, 'off',
         'nothing is recorded: limit_usage_by_mau and mau_stats_only are both off'),
        (13, w.idle, 'idle',
         'nothing was recorded yet: SELECT mau.attach(''synapse''), or let the homeserver call mau.record_activity'),
        (14, w.no_worker IS NOT NULL, 'ok',
         format('tasks are run by hand or by a scheduler, last %s ago (%s)',
                date_trunc('second', at - t.last_run), w.no_worker)),
        (15, true, 'ok',
         format('last run %s ago, %s', date_trunc('second', greatest(at - t.last_run, '0')),
                coalesce('attached to ' || w.kind || ' in schema ' || w.schema_name, 'no homeserver attached'))
             || coalesce('; mau.databases lists databases that do not exist: ' || w.unknown_databases, ''))
    ) c(rank, holds, health, reason)
    WHERE c.holds ORDER BY c.rank, c.health LIMIT 1;
    END
    $$;
COMMENT ON FUNCTION mau.health(timestamptz) IS
'Returns one word on whether mau works, and the reason: ok, idle, starting, paused, waiting, late, failing, off or standby. Errors: 22008, 22023.';

CREATE VIEW mau.status AS
    SELECT w.preloaded,
           CASE WHEN pg_is_in_recovery() THEN 'standby'
                WHEN NOT w.preloaded THEN 'not preloaded'
                WHEN NOT w.enabled THEN 'off'
                WHEN NOT w.serves THEN 'not in mau.databases'
                WHEN w.launcher_pid IS NULL THEN 'not running'
                WHEN w.left_out THEN 'left out'
                WHEN EXISTS (SELECT FROM mau.worker_pause) THEN 'paused'
                WHEN w.running THEN 'at work'
                ELSE 'waiting' END AS worker,
           w.launcher_pid,
           w.last_tick_finished AS last_tick,
           w.next_tick,
           t.last_run,
           t.next_run,
           h.kind || ' in schema ' || h.schema_name AS source,
           h.finds_new_by,
           now() - h.synced_at AS lag,
           (SELECT count(*) FROM mau.source_skipped) AS skipped_rows,
           (SELECT d.last_rows FROM mau.tasks d WHERE d.task = 'reconcile') AS reconcile_differences,
           t.failures,
           coalesce(e.message, w.error) AS last_error,
           coalesce(e.sqlstate, w.error_sqlstate) AS last_error_sqlstate,
           e.at AS last_error_at,
           c.users AS monthly_active_users,
           CASE WHEN s.limit_usage_by_mau THEN c.users || ' of ' || s.max_mau_value ELSE c.users || ', no limit' END
               || '; ' || mau.describe_seats() AS seats,
           CASE WHEN r.bytes > 0 THEN pg_size_pretty(r.bytes)
                || coalesce(', hit rate ' || round(100.0 * r.hits / nullif(r.hits + r.misses, 0), 1) || ' %', '')
                ELSE 'none (mau is not in shared_preload_libraries)' END AS seen_cache,
           v.health,
           v.reason
    FROM mau.worker_state() w
         CROSS JOIN mau.monthly_active_count() c(users)
         CROSS JOIN mau.health() v
         CROSS JOIN mau.seen_cache() r
         CROSS JOIN (SELECT max(last_finished) AS last_run, min(next_run) AS next_run,
                            sum(failures_in_a_row) AS failures FROM mau.tasks) t
         LEFT JOIN mau.settings s ON true
         LEFT JOIN mau.source h ON true
         LEFT JOIN (SELECT last_error AS message, last_error_sqlstate AS sqlstate, last_error_at AS at FROM mau.tasks
                    WHERE last_error_at IS NOT NULL ORDER BY last_error_at DESC LIMIT 1) e ON true;
COMMENT ON VIEW mau.status IS
'The state of mau in one row. mau.tasks has each task.';
COMMENT ON COLUMN mau.status.preloaded IS 'Whether mau is in shared_preload_libraries.';
COMMENT ON COLUMN mau.status.worker IS 'The state of the background worker in this database; doc/reference.md lists the states.';
COMMENT ON COLUMN mau.status.launcher_pid IS 'The launcher''s process id.';
COMMENT ON COLUMN mau.status.last_tick IS 'The end of the worker''s last tick in this database; NULL = none since the server started.';
COMMENT ON COLUMN mau.status.next_tick IS 'The time of the next tick.';
COMMENT ON COLUMN mau.status.last_run IS 'The end of the last successful task, by any caller.';
COMMENT ON COLUMN mau.status.next_run IS 'The time of the worker''s next task.';
COMMENT ON COLUMN mau.status.source IS 'The homeserver that mau is attached to; NULL = none.';
COMMENT ON COLUMN mau.status.finds_new_by IS 'How a sync finds new activity: by time, through an index, or by changed pages; and the tables of which it reads all rows.';
COMMENT ON COLUMN mau.status.lag IS 'How far mau is behind the homeserver''s tables.';
COMMENT ON COLUMN mau.status.skipped_rows IS 'Invalid rows of the homeserver''s tables that were skipped; see mau.source_skipped.';
COMMENT ON COLUMN mau.status.reconcile_differences IS 'The number of users whose newer activity the last mau.reconcile recorded; NULL = it has not run.';
COMMENT ON COLUMN mau.status.failures IS 'The number of failures since the last successful run, of all tasks.';
COMMENT ON COLUMN mau.status.last_error IS 'The message of the last failure, also after it is over.';
COMMENT ON COLUMN mau.status.last_error_sqlstate IS 'The SQLSTATE of the last failure.';
COMMENT ON COLUMN mau.status.last_error_at IS 'The time of the last failure.';
COMMENT ON COLUMN mau.status.monthly_active_users IS 'The figure that the limit is about.';
COMMENT ON COLUMN mau.status.seats IS 'The figure against the limit, and the state of the counters.';
COMMENT ON COLUMN mau.status.seen_cache IS 'The size and the hit rate of the cache of recently seen users.';
COMMENT ON COLUMN mau.status.health IS 'mau.health in one word.';
COMMENT ON COLUMN mau.status.reason IS 'The reason for that word.';

-------------------------------------------------------------------------------------------------------------
-- rights and dumps
-------------------------------------------------------------------------------------------------------------

SELECT pg_extension_config_dump('mau.settings', '');
SELECT pg_extension_config_dump('mau.reserved_threepids', '');
SELECT pg_extension_config_dump('mau.reserved_threepids_position_seq', '');
SELECT pg_extension_config_dump('mau.appservices', '');
SELECT pg_extension_config_dump('mau.users', '');
SELECT pg_extension_config_dump('mau.users_user_no_seq', '');
SELECT pg_extension_config_dump('mau.user_threepids', '');
SELECT pg_extension_config_dump('mau.deferred_calls', '');
SELECT pg_extension_config_dump('mau.monthly_active_users', '');
SELECT pg_extension_config_dump('mau.visits', '');
SELECT pg_extension_config_dump('mau.active_days', '');
SELECT pg_extension_config_dump('mau.snapshots', '');
SELECT pg_extension_config_dump('mau.custom_source', '');
SELECT pg_extension_config_dump('mau.source', '');
SELECT pg_extension_config_dump('mau.source_skipped', '');

CREATE FUNCTION mau.grant_to(grantee regrole, rights text DEFAULT 'homeserver') RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS $$
    DECLARE
        to_grantee CONSTANT text := (SELECT format('TO %I', rolname) FROM pg_roles WHERE oid = grantee);
    BEGIN
        IF NOT (SELECT pg_has_role(extowner, 'USAGE') FROM pg_extension WHERE extname = 'mau') THEN
            RAISE insufficient_privilege USING MESSAGE = 'must be owner of extension mau',
                HINT = 'Call it as the role that created the extension, or as a superuser.';
        END IF;
        IF to_grantee IS NULL THEN
            RAISE undefined_object USING MESSAGE = 'no role to grant to', HINT = 'Name an existing role.';
        END IF;
        IF rights IS NULL OR rights NOT IN ('homeserver', 'monitoring') THEN
            RAISE invalid_parameter_value USING MESSAGE = 'unknown set of rights',
                DETAIL = format('It is %L.', rights), HINT = 'Name homeserver or monitoring.';
        END IF;
        EXECUTE 'GRANT USAGE ON SCHEMA mau ' || to_grantee;
        EXECUTE 'GRANT SELECT ON ALL TABLES IN SCHEMA mau ' || to_grantee;
        IF rights = 'homeserver' THEN
            EXECUTE 'GRANT INSERT, UPDATE, DELETE ON mau.monthly_active_users, mau.user_threepids, mau.deferred_calls '
                    || to_grantee;
            -- All columns but user_no: a number that the sequence has not given out yet would stop new users.
            EXECUTE format('GRANT INSERT (%1$s), UPDATE (%1$s), DELETE ON mau.users ',
                           'user_id, registered_at, last_seen, appservice_id, user_type, is_registered, is_guest,'
                           ' is_deactivated, visited, is_locked') || to_grantee;
            EXECUTE 'GRANT INSERT ON mau.visits ' || to_grantee;
            EXECUTE 'GRANT INSERT, UPDATE ON mau.limit_state ' || to_grantee;
            EXECUTE 'GRANT DELETE ON mau.source_skipped ' || to_grantee;
            EXECUTE 'GRANT EXECUTE ON FUNCTION mau.record_activity, mau.record_activities, mau.admit,'
                    ' mau.register_user, mau.add_threepid, mau.remove_threepid, mau.deactivate_user, mau.forget_user '
                    || to_grantee;
        END IF;
        IF mau.row_security_off() IS NOT NULL THEN
            RAISE WARNING USING MESSAGE = 'row security is on for tables of mau',
                DETAIL = 'The role that was granted rights gets errors instead of figures.', HINT = mau.row_security_off();
        END IF;
    END
    $$;
COMMENT ON FUNCTION mau.grant_to(regrole, text) IS
'Grants a role the rights of a homeserver (record activity, report accounts, forget users, read) or of monitoring (read). Errors: 22023, 42501, 42704.';

REVOKE ALL ON FUNCTION
    mau.register_user(text, timestamptz, text, text, boolean, text, text),
    mau.add_threepid(text, text, text),
    mau.remove_threepid(text, text, text),
    mau.deactivate_user(text, timestamptz),
    mau.forget_user(text),
    mau.record_activity(text, timestamptz, text),
    mau.record_activities(text[], timestamptz[], text[]),
    mau.admit(text, timestamptz, text),
    mau.reap(timestamptz, bigint),
    mau.refresh(timestamptz),
    mau.fold(timestamptz, bigint),
    mau.attach(text, name, timestamptz),
    mau.sync(timestamptz, bigint),
    mau.reconcile(timestamptz),
    mau.detach(),
    mau.compare(timestamptz),
    mau.keep_comparison(timestamptz),
    mau.wake_worker(),
    mau.pause_worker(),
    mau.resume_worker(),
    mau.config_changed(),
    mau.cohort_changed(),
    mau.keep_renewed(),
    mau.users_changed(),
    mau.check_source(),
    mau.replace_settings(),
    mau.replace_task(),
    mau.grant_to(regrole, text)
    FROM PUBLIC;

-- An event trigger may have switched row security on for new tables.
DO $$
BEGIN
    IF mau.row_security_off() IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = 'row security is on for tables of mau',
            DETAIL = 'Roles other than the owner get errors instead of figures.', HINT = mau.row_security_off();
    END IF;
END
$$;

-- Wake the worker as soon as CREATE EXTENSION has committed.
SELECT mau.wake_worker();
