-- Two homeservers whose tables were merged into one database, as by logical replication: the figures add them up, and mau.health says so.
CREATE EXTENSION mau;
\getenv folder PG_ABS_SRCDIR
\set tables :folder '/fixtures/synapse-tables.sql'
\set now '2024-06-30 12:00+00'
\i :tables
CREATE FUNCTION add_account(user_id text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO users (name, creation_ts) VALUES (user_id, 1600000000);
    INSERT INTO user_ips (user_id, last_seen) VALUES (user_id, ago('1 day'));
$$;
CREATE VIEW answer AS
SELECT h.server_name, h.other_server_name, v.health = 'failing' AND v.reason ~ 'accounts of two homeservers' AS complains
FROM mau.source h, mau.health() v;

-- One homeserver: a user, a bridge's user, a guest, and a user id without a server name.
SELECT FROM unnest('{@a:one.example,@_irc_b:one.example,@1:one.example,c}'::text[]) u, add_account(u);
SELECT FROM mau.attach('synapse', 'public', t());
TABLE answer;

-- Accounts of a second one arrive.
SELECT FROM add_account('@b:two.example');
SELECT * FROM mau.sync(t()) WHERE what = 'users';
TABLE answer;
SELECT health, reason FROM mau.health();
-- It stays so when a sync reads none of them.
SELECT * FROM mau.sync(t()) WHERE what = 'users';
TABLE answer;

-- The users of one of them can be counted.
UPDATE mau.settings SET server_name = 'one.example';
TABLE answer;
UPDATE mau.settings SET server_name = NULL;
TABLE answer;

-- Both are there at attach.
SELECT * FROM mau.detach();
SELECT FROM mau.attach('synapse', 'public', t());
TABLE answer;

-- One is left.
SELECT * FROM mau.detach();
DELETE FROM users WHERE name = '@b:two.example';
SELECT FROM mau.attach('synapse', 'public', t());
TABLE answer;
DROP VIEW answer;
DROP EXTENSION mau;
