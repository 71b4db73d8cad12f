-- The warehouse: the histories of many homeservers in one database. doc/warehouse.md explains it.
--
-- Run it in an empty database with `psql -v ON_ERROR_STOP=1 -f warehouse.sql`; share/warehouse/copy fills the tables. The functions are
-- examples: copy a query from them for other questions. Every query groups by server and chunk, and then adds.

CREATE EXTENSION IF NOT EXISTS mau;
CREATE SCHEMA warehouse;

CREATE TABLE warehouse.servers (
    server text COLLATE "C" PRIMARY KEY,
    complete_from date,  -- the first day that the first copy had whole; NULL: the server had purged nothing
    origin text  -- the database that it is copied from: the server's system identifier, and the database's oid
);
CREATE TABLE warehouse.days (
    server text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    day date NOT NULL,
    service text COLLATE "C" NOT NULL,
    platform smallint NOT NULL,
    users bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    purged_until date,
    PRIMARY KEY (server, chunk, day, service, platform)
);
CREATE TABLE warehouse.masks (
    server text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    kind text COLLATE "C" NOT NULL,
    users bytea NOT NULL,
    PRIMARY KEY (server, chunk, kind)
);
CREATE TABLE warehouse.registrations (
    server text COLLATE "C" NOT NULL,
    chunk integer NOT NULL,
    day date NOT NULL,
    service text COLLATE "C" NOT NULL,
    users bytea NOT NULL,
    PRIMARY KEY (server, chunk, day, service)
);
-- Bitmaps do not shrink by compression.
ALTER TABLE warehouse.days ALTER COLUMN users SET STORAGE EXTERNAL;
ALTER TABLE warehouse.masks ALTER COLUMN users SET STORAGE EXTERNAL;
ALTER TABLE warehouse.registrations ALTER COLUMN users SET STORAGE EXTERNAL;

-- The functions are in PL/pgSQL because Citus does not plan SQL functions with parameters. `of_service` NULL is all services. The last argument is
-- the kind of users who are left out (see mau.masks); NULL leaves nobody out. A figure that needs days before complete_from is NULL.

-- Checks the argument left_out, and returns the kind that the queries compare: for NULL '', which is no kind.
CREATE FUNCTION warehouse.kind(left_out text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        IF left_out NOT IN ('not_counted', 'guest', 'support', 'bot', 'deactivated', 'unregistered') THEN
            RAISE invalid_parameter_value USING MESSAGE = 'unknown kind of users', DETAIL = format('It is %L.', left(left_out, 60)),
                HINT = 'Name not_counted, guest, support, bot, deactivated or unregistered, or pass NULL to leave nobody out.';
        END IF;
        RETURN coalesce(left_out, '');
    END
    $$;

CREATE FUNCTION warehouse.daily_series(from_day date, to_day date, window_days integer DEFAULT 30, of_service text DEFAULT 'native',
                                       left_out text DEFAULT 'not_counted')
    RETURNS TABLE (server text, day date, users bigint) LANGUAGE plpgsql STABLE AS $$
    #variable_conflict use_column
    DECLARE
        left_kind CONSTANT text := warehouse.kind(left_out);
    BEGIN
        RETURN QUERY
        SELECT t.server, from_day + i - 1, CASE WHEN w.complete_from > from_day + i - window_days THEN NULL ELSE t.figures[i] END
        FROM (SELECT c.server, mau.add(c.figures) AS figures
              FROM (SELECT d.server, d.chunk, mau.series(from_day, to_day, window_days, d.day, d.users, m.users) AS figures
                    FROM warehouse.days d
                    LEFT JOIN warehouse.masks m ON m.server = d.server AND m.chunk = d.chunk AND m.kind = left_kind
                    WHERE (of_service IS NULL OR d.service = of_service) AND d.day > from_day - window_days AND d.day <= to_day
                    GROUP BY d.server, d.chunk) c
              GROUP BY c.server) t
        LEFT JOIN warehouse.servers w ON w.server = t.server, generate_series(1, to_day - from_day + 1) i;
    END
    $$;

CREATE FUNCTION warehouse.growth(from_day date, to_day date, window_days integer DEFAULT 30, of_service text DEFAULT 'native',
                                 left_out text DEFAULT 'not_counted')
    RETURNS TABLE (server text, day date, new_users bigint, retained bigint, resurrected bigint, churned bigint)
    LANGUAGE plpgsql STABLE AS $$
    #variable_conflict use_column
    DECLARE
        left_kind CONSTANT text := warehouse.kind(left_out);
    BEGIN
        RETURN QUERY
        SELECT t.server, from_day + i - 1, CASE WHEN w.complete_from <= from_day + i - window_days IS NOT FALSE THEN t.figures[i][1] END,
               CASE WHEN k.known THEN t.figures[i][2] END, CASE WHEN k.known THEN t.figures[i][3] END,
               CASE WHEN k.known THEN t.figures[i][4] END
        FROM (SELECT c.server, mau.add(c.figures) AS figures
              FROM (SELECT d.server, d.chunk, mau.series_growth(from_day, to_day, window_days, d.day, d.users, m.users) AS figures
                    FROM warehouse.days d
                    LEFT JOIN warehouse.masks m ON m.server = d.server AND m.chunk = d.chunk AND m.kind = left_kind
                    WHERE (of_service IS NULL OR d.service = of_service) AND d.day <= to_day  -- all earlier days, because they tell who is new
                    GROUP BY d.server, d.chunk) c
              GROUP BY c.server) t
        LEFT JOIN warehouse.servers w ON w.server = t.server, generate_series(1, to_day - from_day + 1) i,
        LATERAL (SELECT w.complete_from <= from_day + i - 2 * window_days IS NOT FALSE AS known) k;
    END
    $$;

CREATE FUNCTION warehouse.retention(cohort text, from_day date, to_day date, of_service text DEFAULT 'native',
                                    left_out text DEFAULT 'not_counted', at timestamptz DEFAULT now())
    RETURNS TABLE (server text, cohort_number integer, size bigint, period integer, users bigint) LANGUAGE plpgsql STABLE AS $$
    #variable_conflict use_column
    DECLARE
        left_kind CONSTANT text := warehouse.kind(left_out);
        last_day CONSTANT date := at AT TIME ZONE 'UTC';  -- later visits and registrations do not count
        one interval;
        first_day timestamp;
    BEGIN
        IF cohort IS NULL OR cohort NOT IN ('day', 'week', 'month') THEN
            RAISE invalid_parameter_value USING MESSAGE = 'unknown cohort', DETAIL = format('It is %L.', left(cohort, 60)),
                HINT = 'Pass day, week or month.';
        ELSIF at IS NULL THEN
            RAISE invalid_parameter_value USING MESSAGE = 'at must not be NULL', HINT = 'Leave the argument out to mean now().';
        END IF;
        one := '1 ' || cohort;
        first_day := date_trunc(cohort, from_day::timestamp);
        RETURN QUERY
        SELECT t.server, c, t.figures[c][1], p - c,
               -- The period is over, and begins at or after complete_from.
               CASE WHEN first_day + p * one <= at AT TIME ZONE 'UTC' AND w.complete_from <= first_day + (p - 1) * one IS NOT FALSE
                    THEN t.figures[c][1 + p] END
        FROM (SELECT c.server, mau.add(c.figures) AS figures
              FROM (SELECT d.server, d.chunk, mau.series_retention(cohort, from_day, to_day, d.day, d.active, d.registered, m.users) AS figures
                    FROM (SELECT a.server, a.chunk, a.day, a.users AS active, NULL::bytea AS registered
                          FROM warehouse.days a WHERE (of_service IS NULL OR a.service = of_service) AND a.day <= last_day
                          UNION ALL SELECT r.server, r.chunk, r.day, NULL, r.users
                          FROM warehouse.registrations r WHERE (of_service IS NULL OR r.service = of_service) AND r.day <= last_day) d
                    LEFT JOIN warehouse.masks m ON m.server = d.server AND m.chunk = d.chunk AND m.kind = left_kind
                    GROUP BY d.server, d.chunk) c
              GROUP BY c.server) t
        LEFT JOIN warehouse.servers w ON w.server = t.server,
        generate_series(1, array_length(t.figures, 1)) c, generate_series(c, array_length(t.figures, 1)) p;
    END
    $$;

CREATE FUNCTION warehouse.r30v2(from_day date, to_day date) RETURNS TABLE (server text, day date, users bigint)
    LANGUAGE plpgsql STABLE AS $$
    #variable_conflict use_column
    BEGIN
        RETURN QUERY
        SELECT t.server, from_day + i - 1, CASE WHEN w.complete_from > from_day + i - 60 THEN NULL ELSE t.figures[i] END
        FROM (SELECT c.server, mau.add(c.figures) AS figures
              FROM (SELECT d.server, d.chunk, mau.series_r30v2(from_day, to_day, d.day, d.users, m.users) AS figures
                    FROM warehouse.days d
                    LEFT JOIN warehouse.masks m ON m.server = d.server AND m.chunk = d.chunk AND m.kind = 'guest'
                    WHERE d.service = 'native' AND d.day > from_day - 60 AND d.day <= to_day + 1
                    GROUP BY d.server, d.chunk) c
              GROUP BY c.server) t
        LEFT JOIN warehouse.servers w ON w.server = t.server, generate_series(1, to_day - from_day + 1) i;
    END
    $$;
