-- A custom source: placeholders, values that mau cannot use, and bridges.
CREATE EXTENSION mau;
CREATE SCHEMA chat;
CREATE TABLE chat.seen (user_id text, last_seen bigint);
CREATE TABLE chat.users (user_id text, registered_at bigint);
CREATE TABLE chat.mails (user_id text, address text, changed bigint);
CREATE FUNCTION ms(i interval) RETURNS bigint LANGUAGE sql AS $$ SELECT floor(extract(epoch FROM now() - i) * 1000) $$;
INSERT INTO chat.users SELECT '@' || u || ':x', ms('40 days') FROM unnest('{boss,upper_native}'::text[]) u;
INSERT INTO chat.mails VALUES ('@boss:x', 'boss@x', ms('2 days'));
INSERT INTO mau.custom_source VALUES
    ('activity', 'SELECT user_id, last_seen FROM chat.seen'),
    ('users', 'SELECT user_id, registered_at FROM chat.users'),
    ('threepids', 'SELECT user_id, ''email'' AS medium, address FROM chat.mails WHERE changed >= {since}'),
    ('usage', 'SELECT ''[1]''::jsonb AS usage');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10;
INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'boss@x');
-- The owner of a reserved address holds the seat although {since} leaves out old rows, until the row is deleted.
SELECT count(*) > 0 AS attached FROM mau.attach('custom', 'chat');
SELECT * FROM mau.registered_reserved_users();
SELECT count(*) AS trouble FROM mau.sync() WHERE what = 'trouble';
SELECT * FROM mau.registered_reserved_users();
DELETE FROM chat.mails;
SELECT count(*) AS trouble FROM mau.sync() WHERE what = 'trouble';
SELECT * FROM mau.registered_reserved_users();
-- An address that case folding makes longer than an index entry may be is skipped; others are read.
INSERT INTO chat.mails VALUES ('@boss:x', repeat(chr(329), 500), ms('0')), ('@boss:x', 'boss@x', ms('0'));
SELECT * FROM mau.sync() WHERE what IN ('trouble', 'threepids', 'skipped');
SELECT reason, row_key FROM mau.source_skipped;
-- A comparison knows users of bridges as admission does: by patterns with options, too, and not if they are registered.
INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('up', '{(?i)@UPPER_}');
INSERT INTO chat.seen SELECT '@' || u || ':x', ms('1 hour') FROM unnest('{upper_1,not_upper_1,upper_native}'::text[]) u;
SELECT * FROM mau.sync() WHERE what IN ('trouble', 'joined');
SELECT user_id FROM mau.monthly_active_users ORDER BY user_id COLLATE "C";
SELECT figure, mau, server, unexplained, reason FROM mau.compare();
DELETE FROM mau.monthly_active_users WHERE user_id = '@upper_native:x';
SELECT figure, mau, server, unexplained, reason FROM mau.compare();
INSERT INTO mau.appservices (id) VALUES (repeat('x', 256));
-- Figures that are no object are an error of the query, and the metrics go on without them; also those that were kept earlier.
UPDATE mau.settings SET usage_metrics = true;
SELECT mau.usage_statistics();
SELECT what FROM mau.refresh();
SELECT m LIKE '%mau_limit_users %' AS series, m LIKE '%synapse_usage_%' AS usage FROM mau.metrics() m;
UPDATE mau.snapshots SET usage = '[1]';
SELECT m LIKE '%mau_limit_users %' AS series, m LIKE '%synapse_usage_%' AS usage FROM mau.metrics() m;
DROP EXTENSION mau;
DROP SCHEMA chat CASCADE;
DROP FUNCTION ms;
