-- The server's clock is ahead for a while, and a reap removes members too early: mau.compare misses them, mau.health is not ok, and
-- mau.reconcile makes them members again, under a limit as long as seats are free.
SET client_min_messages = warning;
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE FUNCTION compared() RETURNS TABLE (figure text, mau bigint, server bigint, unexplained bigint, reason text) LANGUAGE sql AS
$$ SELECT * FROM mau.compare(t()) c WHERE c.figure <> 'users seen within 1 day' $$;
CREATE FUNCTION members() RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(user_id || ' ' || (ago('0') - "timestamp") / 86400000, ', ' ORDER BY user_id) FROM mau.monthly_active_users $$;
INSERT INTO users (name, creation_ts, is_guest) SELECT '@' || n || ':x', 1600000000, (n = 'guest')::int FROM unnest('{u1,u2,u3,guest,edge,pruned}'::text[]) n;
INSERT INTO user_ips (user_id, last_seen) VALUES ('@u1:x', ago('1 day')), ('@u2:x', ago('2 days')), ('@u3:x', ago('3 days')), ('@guest:x', ago('1 day')),
    ('@edge:x', ago('30 days 10 min'));
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what IN ('joined', 'guest');
-- Seen again within the granularity, which is why mau has this user outside the window.
UPDATE user_ips SET last_seen = ago('30 days -10 min') WHERE user_id = '@edge:x';
SELECT * FROM compared();
SELECT users FROM mau.reap(t() + interval '31 days') WHERE what = 'expired';
SELECT * FROM compared();
SELECT * FROM mau.keep_comparison(t());
SELECT health, reason ~ '3 who are missing in mau' AS says_so FROM mau.health();
-- The newest user's row is within the overlap, and was read.
SELECT * FROM mau.reconcile(t());
SELECT members();
SELECT * FROM mau.reconcile(t());
SELECT * FROM compared();
SELECT * FROM mau.keep_comparison(t());
SELECT reason ~ 'figures differ' AS says_so FROM mau.health();

-- For an instant before the latest reap the cohort cannot answer.
UPDATE mau.tasks SET latest_at = now() + interval '40 days' WHERE task = 'reap';
SELECT health, reason ~ 'ahead of the clock.*latest_at = NULL' AS says_so FROM mau.health();
UPDATE mau.tasks SET latest_at = NULL WHERE task = 'reap';
SELECT reason ~ 'ahead of the clock' AS says_so FROM mau.health();

-- A limit explains a missing member only while all seats are taken.
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2;
SELECT users FROM mau.reap(t() + interval '31 days') WHERE what = 'expired';
SELECT * FROM compared();
SELECT * FROM mau.reconcile(t());
SELECT members();
SELECT * FROM compared();
SELECT * FROM mau.reconcile(t());
UPDATE mau.settings SET max_mau_value = 3;
SELECT * FROM compared();
SELECT * FROM mau.reconcile(t());
SELECT members();

-- Where Synapse keeps a list of its members, users whom it leaves out stay out, and members whose activity was pruned come back.
DROP EXTENSION mau;
CREATE TABLE monthly_active_users (user_id text NOT NULL UNIQUE, "timestamp" bigint NOT NULL);
INSERT INTO monthly_active_users VALUES ('@u1:x', ago('1 day')), ('@pruned:x', ago('29 days 23 hours 55 min'));
CREATE EXTENSION mau;
SELECT what, rows FROM mau.attach('synapse', 'public', t()) WHERE what = 'joined';
SELECT * FROM compared();
SELECT users FROM mau.reap(t() + interval '31 days') WHERE what = 'expired';
SELECT * FROM compared();
SELECT * FROM mau.reconcile(t());
SELECT members();
SELECT * FROM compared();
