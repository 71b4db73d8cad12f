-- An index of mau that was dropped, or made again without being unique: calls are kept, and health says so.
CREATE EXTENSION mau;
UPDATE mau.settings SET mau_stats_only = true;
SELECT mau.record_activity('@a:x');
DROP INDEX mau.users_user_id;
CREATE INDEX users_user_id ON mau.users (user_id);
SELECT mau.record_activity('@b:x'), mau.register_user('@c:x');
SELECT user_id, function FROM mau.deferred_calls ORDER BY user_id;
SELECT count(*) FROM mau.fold();
SELECT user_id, function FROM mau.deferred_calls ORDER BY user_id;
SELECT count(*) FROM mau.refresh(); SELECT count(*) FROM mau.reap();
UPDATE mau.deferred_calls SET called_at = called_at - interval '2 hours';
SELECT health, substring(reason FROM 'calls in.*') ~ 'calls in mau.deferred_calls have not been carried out since .*: .* or a unique index of mau is missing' AS calls FROM mau.health();
DROP INDEX mau.users_user_id;
CREATE UNIQUE INDEX users_user_id ON mau.users (user_id);
SELECT count(*) FROM mau.fold();
SELECT user_id, is_registered FROM mau.users ORDER BY user_id;
SELECT count(*) FROM mau.deferred_calls;
-- Unique indexes of an administrator where mau has none: a call would wait at them for another transaction, and health says so. An index on a
-- column that is not mau's is not reported.
CREATE FUNCTION says() RETURNS TABLE (health text, indexes text) LANGUAGE sql AS $$ SELECT health, substring(reason FROM 'not mau''s: (.*); drop it') FROM mau.health() $$;
TABLE mau.visits LIMIT 0;
TABLE mau.deferred_calls LIMIT 0;
CREATE INDEX by_day ON mau.visits (day);
ALTER TABLE mau.visits ADD COLUMN id bigserial PRIMARY KEY;
SELECT indexes FROM says();
CREATE UNIQUE INDEX visits_once ON mau.visits (user_no, day, platform) INCLUDE (id);
CREATE UNIQUE INDEX once ON mau.deferred_calls (user_id) WHERE function = 'record_activity';
ALTER TABLE mau.visits ADD EXCLUDE ((user_no + 1) WITH =);
SELECT * FROM says();
ALTER TABLE mau.visits DROP CONSTRAINT visits_expr_excl;
DROP INDEX mau.visits_once;
DROP EXTENSION mau;
