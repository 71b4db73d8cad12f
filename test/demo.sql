-- What `make demo` plays, on a throw-away server with mau preloaded, in a database that holds a homeserver's tables.
-- What looks like a statement in its output is one: psql prints it as it runs it (ECHO queries).
\set ON_ERROR_STOP on
\pset footer off
\pset linestyle ascii
\set QUIET on
SET client_min_messages = warning;

\if :{?dump}
\else
    \set dump 'this database'
\endif

-- In an old dump everybody would have left by now.
SELECT to_regclass('user_ips') IS NOT NULL AND to_regclass('users') IS NOT NULL AS is_synapse \gset
\if :is_synapse
    SELECT newest IS NOT NULL AND now_ms - newest > 86400000 AS is_old, now_ms - newest AS age, now_ms / 86400000 - newest / 86400000 AS days,
           to_regclass('user_daily_visits') IS NOT NULL AS has_visits, to_char(to_timestamp(newest / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') AS newest_at
    FROM (SELECT floor(extract(epoch FROM now()) * 1000)::bigint) n(now_ms),
         LATERAL (SELECT max(last_seen) FROM user_ips WHERE last_seen < now_ms + 86400000) i(newest) \gset
    \if :is_old
        \echo 'The last request in' :dump 'is of' :newest_at 'UTC. In this copy it was just now: all its times are moved.'
        UPDATE user_ips SET last_seen = last_seen + :age WHERE last_seen >= 0;
        UPDATE users SET creation_ts = creation_ts + :age / 1000 WHERE creation_ts >= 0;
        ANALYZE user_ips, users;
        \if :has_visits
            UPDATE user_daily_visits SET "timestamp" = "timestamp" + :days * 86400000 WHERE "timestamp" >= 0;
            ANALYZE user_daily_visits;
        \endif
    \endif
\endif

\echo
\echo '-- 1. ATTACH: who is registered, and who was seen when. (This server counts its bridges, too.)'
\set ECHO queries
CREATE EXTENSION mau;
UPDATE mau.settings SET track_appservice_user_ips = true;
\pset tuples_only on
\pset format unaligned
\pset fieldsep ' '
\pset recordsep ', '
\o | fold -s -w 96
SELECT * FROM mau.attach('synapse');
\o
\set ECHO none
\pset recordsep '\n'
\echo

-- The worker comes every minute; who watches a demo does not want to wait for that.
SELECT set_config('demo.asked', clock_timestamp()::text, false) AS asked, mau.wake_worker() AS is_asked \gset
DO $$
DECLARE
    asked CONSTANT timestamptz := current_setting('demo.asked');
BEGIN
    WHILE EXISTS (SELECT FROM mau.tasks WHERE (last_started >= asked AND last_finished >= last_started) IS NOT TRUE) LOOP
        IF clock_timestamp() > asked + interval '30 seconds' THEN
            RAISE EXCEPTION 'the worker did not come within 30 seconds'
                USING DETAIL = (SELECT format('mau.health() says: %s, %s', health, reason) FROM mau.health()),
                      HINT = 'The log of the server says more; KEEP=1 make demo keeps it.';
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END
$$;
SELECT format('-- 2. The WORKER has come by: sync, fold, refresh and reap took %s ms. It comes every minute.',
              round(1000 * extract(epoch FROM sum(last_duration)), 1)) FROM mau.tasks;

\echo
\echo '-- 3. THE FIGURE: how many users were active within 30 days.'
\pset tuples_only off
\pset format aligned
\set ECHO queries
SELECT mau.monthly_active_count();
SELECT dau, wau, mau, max, by_service FROM mau.snapshots ORDER BY at DESC LIMIT 1;

\set ECHO none
\echo '-- 4. THE HISTORY: who came on which day. What Synapse remembers of it came along with attach.'
\set ECHO queries
SELECT day, dau, wau, mau, new_users FROM mau.daily_series() ORDER BY day DESC LIMIT 3;
\pset tuples_only on
\pset format unaligned
SELECT mau.chart('dau', height => 4);
\pset tuples_only off
\pset format aligned
\set ECHO none
\echo
SELECT mau.monthly_active_count() AS members \gset
\echo '-- 5. THE LIMIT: the server is full. A newcomer is told so, as HTTP 403; members notice nothing.'
\set ECHO queries
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = :members,
    admin_contact = 'mailto:you@example.com';
\pset tuples_only on
SELECT key, value FROM jsonb_each_text(mau.check_auth_blocking());
\set ECHO none

\echo '-- 6. WHY? mau.explain(user) goes through the rules; this is the one that decided, for three users:'
\pset format unaligned
SELECT format(E'%s: %s\n    by the rule "%s": %s', asked.user_id, verdict.detail, decided.rule, decided.detail)
FROM (
    (SELECT 1, m.user_id FROM mau.monthly_active_users m JOIN mau.users u USING (user_id)
     WHERE m.service = 'native' AND u.user_type IS NULL AND u.is_registered ORDER BY m."timestamp" DESC LIMIT 1)
    UNION ALL
    (SELECT 2, user_id FROM mau.users WHERE is_guest OR user_type = 'support' ORDER BY is_guest, last_seen DESC NULLS LAST LIMIT 1)
    UNION ALL
    (SELECT 3, '@newcomer' || coalesce((SELECT substring(min(user_id) FROM ':.*') FROM mau.users WHERE is_registered), ''))
) asked(no, user_id)
CROSS JOIN LATERAL (SELECT rule, detail FROM mau.explain(asked.user_id)
                    WHERE holds AND rule NOT IN ('registered account', 'verdict') ORDER BY step LIMIT 1) decided
CROSS JOIN LATERAL (SELECT detail FROM mau.explain(asked.user_id) WHERE rule = 'verdict') verdict
ORDER BY asked.no;
\echo

\echo '-- 7. IS IT WORKING? One word and the reason; SELECT * FROM mau.status says more.'
\pset fieldsep ': '
\set ECHO queries
SELECT * FROM mau.health();
\set ECHO none

\echo
\echo '-- On your server: sudo make install; shared_preload_libraries = ''mau'' in postgresql.conf; restart;'
\echo '-- in your homeserver''s database: CREATE EXTENSION mau; SELECT * FROM mau.attach(''synapse'');'
