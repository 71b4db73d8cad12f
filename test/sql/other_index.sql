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
DROP EXTENSION mau;
