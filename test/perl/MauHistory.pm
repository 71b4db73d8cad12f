package MauHistory;

# Reads the history without mau: decodes the bitmaps' bytes (the portable Roaring format, one container) in SQL.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw($VISITS_SQL $PLATFORM_OF_SQL);

# The table function visits_now(): every visit that is folded or not, once. The bytes: cookie 12346, one container, its key and its
# number of users less one (16 bits each), its offset, then up to 4096 numbers of 16 bits, or 65536 bits; the lowest byte first.
our $VISITS_SQL = <<'SQL';
CREATE FUNCTION u16(b bytea, i int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT get_byte(b, i) + 256 * get_byte(b, i + 1) $$;
CREATE FUNCTION places(b bytea) RETURNS SETOF int LANGUAGE sql IMMUTABLE AS $$
    SELECT u16(b, 16 + 2 * i) FROM generate_series(0, u16(b, 10)) i WHERE u16(b, 10) < 4096
    UNION ALL SELECT i FROM generate_series(0, 65535) i WHERE u16(b, 10) >= 4096 AND get_bit(substr(b, 17), i) = 1 $$;
CREATE FUNCTION visits_now() RETURNS TABLE (user_no bigint, day date, platform int, service text) LANGUAGE sql STABLE AS $$
    SELECT d.chunk::bigint * 65536 + p, d.day, d.platform::int, d.service FROM mau.active_days d, places(d.users) p
    UNION SELECT v.user_no, v.day, v.platform::int, v.service FROM mau.visits v $$;
SQL

# The function platform_of(user_agent): Synapse's CASE of r30v2, as a number.
our $PLATFORM_OF_SQL = <<'SQL';
CREATE FUNCTION platform_of(agent text) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN lower(agent) LIKE '%riot%' OR lower(agent) LIKE '%element%' THEN
                CASE WHEN lower(agent) LIKE '%electron%' THEN 2 WHEN lower(agent) LIKE '%android%' THEN 3 WHEN lower(agent) LIKE '%ios%' THEN 4 ELSE 0 END
                WHEN lower(agent) LIKE '%mozilla%' OR lower(agent) LIKE '%gecko%' THEN 1 ELSE 0 END $$;
SQL

1;
