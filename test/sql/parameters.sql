-- The defaults and the limits of the parameters, as doc/operating.md has them. (mau.seen_cache_size is there only in a preloaded library.)
CREATE EXTENSION mau;
SELECT name, boot_val, unit, min_val, max_val FROM pg_settings WHERE name LIKE 'mau.%' AND name <> 'mau.seen_cache_size' ORDER BY name COLLATE "C";
SHOW mau.max_workers;
SHOW mau.tick_timeout;
DROP EXTENSION mau;
