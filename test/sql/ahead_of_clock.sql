-- A sighting ahead of the server's clock takes no member's seat, and keeps its own no longer than one of now would.
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1;
SELECT mau.record_activity('@member', now() - interval '1 day');
SELECT mau.record_activity('@ahead', now() + interval '31 days'), mau.admit('@ahead', now() + interval '31 days')->>'limit_type' AS admit;
SELECT * FROM mau.record_activities('{@ahead,@later}', ARRAY[now() + interval '40 days', now() + interval '80 days']);
-- Within the time that clocks may differ it is taken as it is.
UPDATE mau.settings SET max_mau_value = 3;
SELECT mau.record_activity('@near', now() + interval '4 minutes');
SELECT mau.last_seen('@near') > now() AS ahead;
SELECT mau.record_activity('@ahead', now() + interval '31 days');
SELECT mau.last_seen('@ahead') < now() + interval '1 minute' AS held_back, mau.monthly_active_count();
SELECT mau.record_activity('@later', now());
-- Without a limit nobody's seat is at stake.
UPDATE mau.settings SET limit_usage_by_mau = false;
SELECT mau.record_activity('@later', now() + interval '31 days');
SELECT mau.last_seen('@later') > now() + interval '30 days' AS as_it_is;
DROP EXTENSION mau;
