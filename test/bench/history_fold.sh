#!/usr/bin/env bash
# The cost of folding: how long a fold of 10 000 active users takes where 1 M users are known, and how large a day of 288 folds makes
# mau.active_days (with TOAST and index) with autovacuum on, against the same rows written once.
#
#     PGHOST=… test/bench/history_fold.sh      psql leads to a server with mau preloaded, as a superuser
#
# The day goes by in some 320 seconds: a fold a second, with autovacuum as often as it can come. In a real day there are five times
# as many chances to clean up between two folds. BENCH_SCALE=small: a quarter of it.
set -euo pipefail
export PGOPTIONS='-c client_min_messages=warning'
ask() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

folds=288
[[ ${BENCH_SCALE:-full} == full ]] || folds=72
naptime=$(ask -c 'SHOW autovacuum_naptime')
autovacuum=$(ask -c 'SHOW autovacuum')
worker=$(ask -c 'SHOW mau.worker')
ask -c "ALTER SYSTEM SET autovacuum_naptime = '1s'" -c 'ALTER SYSTEM SET autovacuum = on' -c 'ALTER SYSTEM SET mau.worker = off' \
    -c 'SELECT pg_reload_conf()' >/dev/null
clean_up() {
    ask -c "ALTER SYSTEM SET autovacuum_naptime = '$naptime'" -c "ALTER SYSTEM SET autovacuum = '$autovacuum'" \
        -c "ALTER SYSTEM SET mau.worker = '$worker'" -c 'SELECT pg_reload_conf()' >/dev/null
    for db in speed light heavy month; do ask -c "DROP DATABASE IF EXISTS bench_fold_$db"; done
}
trap clean_up EXIT

# The functions of the measurement, in a database of its own.
make_database() {
    ask -c "DROP DATABASE IF EXISTS $1" -c "CREATE DATABASE $1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ask -d "$1" <<'SQL'
CREATE EXTENSION mau;
SELECT setseed(0.5) \g /dev/null
-- n visits, by any of 1 M users.
CREATE FUNCTION visit(n int, on_day date) RETURNS void LANGUAGE sql AS $$
    INSERT INTO mau.visits (user_no, day, platform, service)
    SELECT 1 + (random() * 999999)::int, on_day, (random() * 4)::int, 'native' FROM generate_series(1, n) $$;
-- 30 days of 250 000 active users.
SELECT visit(250000, current_date - 1) \g /dev/null
SELECT mau.fold() \g /dev/null
INSERT INTO mau.active_days SELECT chunk, current_date - d, platform, service, users FROM mau.active_days, generate_series(2, 30) d;
VACUUM FULL mau.visits;
VACUUM mau.active_days;
CREATE TABLE sizes (fold int, bytes bigint, ms float8);
SQL
}

# fold_day DATABASE FOLDS VISITS: so many folds, a second apart, each of so many new visits. Statements, not a procedure: a session
# tells autovacuum what it did between two statements.
fold_day() {
    for ((i = 1; i <= $2; i++)); do
        echo "SELECT visit($3, current_date) \\g /dev/null"
        echo "SELECT clock_timestamp() AS began \\gset"
        echo "SELECT mau.fold() \\g /dev/null"
        echo "INSERT INTO sizes VALUES ($i, pg_total_relation_size('mau.active_days'), 1000 * extract(epoch FROM clock_timestamp() - :'began'));"
        echo "SELECT pg_sleep(1.1) \\g /dev/null"
    done | ask -d "$1"
}

make_database bench_fold_speed
ask -d bench_fold_speed <<'SQL'
-- As many today.
SELECT visit(250000, current_date) \g /dev/null
SELECT mau.fold() \g /dev/null
CHECKPOINT;
SQL
fold_day bench_fold_speed 20 10000
ask -d bench_fold_speed <<'SQL'
SELECT format('a fold of 10 000 active users, 1 M known: median %s ms, least %s ms, of %s bitmaps (target: at most 10 ms)',
              round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 1), round(min(ms)::numeric, 1),
              (SELECT count(*) FROM mau.active_days WHERE day = current_date)) FROM sizes;
SQL

# One day: 10 000 users are active, or 250 000; with 30 days before it, or the first.
day() {
    make_database "bench_fold_$1"
    [[ $3 == after ]] || ask -d "bench_fold_$1" -c 'TRUNCATE mau.active_days'
    fold_day "bench_fold_$1" "$folds" "$(($2 / folds))"
    ask -d "bench_fold_$1" -v folds="$folds" -v visits="$2" -v what="$1" -v before="$3" <<'SQL'
CREATE TABLE written_once (LIKE mau.active_days INCLUDING ALL);
INSERT INTO written_once SELECT * FROM mau.active_days ORDER BY chunk, day, service, platform;
SELECT format('a day of %s folds, %s visits (%s, %s): at most %s kB, %s times the %s kB of the same rows written once; %s kB at the end; fold %s ms',
              :folds, :visits, :'what', :'before', max(bytes) / 1024, round(max(bytes)::numeric / pg_total_relation_size('written_once'), 2),
              pg_total_relation_size('written_once') / 1024, pg_total_relation_size('mau.active_days') / 1024,
              round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 1)) FROM sizes;
SQL
}
day light 10000 alone &
jobs=($!)
day heavy 250000 alone &
jobs+=($!)
day month 250000 after
wait "${jobs[@]}"
