# The background worker: it starts by itself, works in every database, and stopping it in any way loses nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MauWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'E');
shared_preload_libraries = 'mau'
restart_after_crash = on
mau.tick_interval = 1
mau.refresh_interval = 1
mau.reap_interval = 1
E
$node->start;
work_on($node, 'SELECT s::text FROM mau.status s; SELECT t::text FROM mau.tasks t');

sub set { sql('postgres', @_); $node->reload; return }

# Health becomes that word; under load a task may be late for a while.
sub health_becomes
{
    my ($db, $word, $name) = @_;
    return becomes($db, "SELECT health = '$word' FROM mau.health()", $name);
}

# Runs a statement that needs a database for itself. It waits for 5 seconds only, which may not do on a busy machine.
sub alone
{
    my ($statement) = @_;
    my $err;
    for (1 .. 30) {
        $node->psql('postgres', $statement, stderr => \$err);
        last unless $err =~ /is being accessed by other users/;
    }
    return $err;
}

# Two more good runs of a task from now on.
sub goes_on {
    my ($db, $task, $name) = @_;
    my $runs = sql($db, "SELECT runs FROM mau.tasks WHERE task = '$task'");
    return becomes($db, "SELECT runs >= $runs + 2 FROM mau.tasks WHERE task = '$task'", $name);
}

# A trigger that runs `body` in every refresh.
sub on_refresh {
    my ($db, $body) = @_;
    sql($db, <<"E");
SELECT mau.record_activity('\@alice:example.com'); -- of nothing there is no snapshot
CREATE FUNCTION public.on_refresh() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $body RETURN NEW; END \$\$;
CREATE TRIGGER on_refresh BEFORE INSERT ON mau.snapshots FOR EACH ROW EXECUTE FUNCTION public.on_refresh();
E
    return;
}

# Waits until a tick is in the middle of its refresh there, and answers its process id.
sub sleeping_tick {
    my ($db) = @_;
    my $at_it = "FROM pg_stat_activity WHERE backend_type = 'mau worker' AND datname = '$db'"
      . " AND query LIKE 'mau.refresh%' AND wait_event = 'PgSleep'";
    $node->poll_query_until('postgres', "SELECT count(*) = 1 $at_it") or die 'no tick came to be held';
    return sql('postgres', "SELECT pid $at_it");
}

# While public.hold has a row, a refresh there does not come to its end.
sub make_holdable {
    my ($db) = @_;
    sql($db, 'CREATE TABLE public.hold (held boolean)');
    on_refresh($db, 'WHILE EXISTS (SELECT FROM public.hold) LOOP PERFORM pg_sleep(0.02); END LOOP;');
    return;
}
sub hold_tick {
    my ($db) = @_;
    sql($db, 'INSERT INTO public.hold VALUES (true)');
    return sleeping_tick($db);
}
sub let_go { my ($db) = @_; sql($db, 'DELETE FROM public.hold'); return }

my $refresh = "FROM mau.tasks WHERE task = 'refresh'";

subtest 'comes after CREATE EXTENSION, to each database that has it' => sub {
    sql('postgres', "CREATE DATABASE $_") for qw(one two without);
    sql($_, 'CREATE EXTENSION mau') for qw(one two);
    for my $db (qw(one two)) {
        goes_on($db, 'reap', "$db: reap runs again and again");
        health_becomes($db, 'idle', "$db: idle while there is nothing to count");
        is(sql($db, 'SELECT count(*) FROM mau.snapshots'), '0', "$db: of which there is no snapshot");
        is(sql($db, q(SELECT mau.record_activity('@alice:example.com'))), 'joined', "$db: somebody is seen");
        becomes($db, 'SELECT count(*) > 0 FROM mau.snapshots', "$db: a snapshot is written");
        is(sql($db, 'SELECT min(mau) FROM mau.snapshots'), '1', "$db: the first has her");
        goes_on($db, 'refresh', "$db: refresh too");
    }
    health_becomes('one', 'ok', 'ok then');
    is(sql('one', 'SELECT preloaded AND launcher_pid IS NOT NULL AND last_tick IS NOT NULL AND next_run IS NOT NULL'
              . ' AND failures = 0 AND last_error IS NULL FROM mau.status'), 't', 'status says so');
    is(sql('without', q(SELECT count(*) FROM pg_namespace WHERE nspname = 'mau')), '0', 'nothing came to the third');
    unlike(slurp_file($node->logfile), qr/ERROR|FATAL|mau's/, 'and the log has nothing to say');
};

subtest 'an extension that comes later, or not at all' => sub {
    sql('without', 'CREATE EXTENSION mau');
    becomes('without', q(SELECT runs > 0 FROM mau.tasks WHERE task = 'reap'), 'CREATE EXTENSION wakes the worker');
    sql('without', 'BEGIN; DROP EXTENSION mau; CREATE EXTENSION mau; ROLLBACK');
    goes_on('without', 'reap', 'one rolled back leaves no trace');
    sql('without', 'DROP EXTENSION mau');
};

# Statements that make refresh run until public.hold is empty.
my @held_refresh = (
    'CREATE TABLE public.hold AS SELECT true AS held',
    q(CREATE FUNCTION public.on_refresh() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN WHILE EXISTS (SELECT FROM public.hold) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NEW; END'),
    'CREATE TRIGGER on_refresh BEFORE INSERT ON mau.snapshots FOR EACH ROW EXECUTE FUNCTION public.on_refresh()');

subtest 'the first tick' => sub {
    sql('postgres', 'CREATE DATABASE new');
    # Its refresh is held, and the tasks before it have run.
    sql('new', join('; ', 'BEGIN', 'CREATE EXTENSION mau', q(SELECT mau.record_activity('@alice:example.com')), @held_refresh, 'COMMIT'));
    sleeping_tick('new');
    is(sql('new', q(SELECT string_agg(task, ' ' ORDER BY task) FROM mau.tasks WHERE last_finished IS NOT NULL)), 'fold', 'is under way');
    my $soon = q(SELECT h.health FROM mau.worker_state() w, mau.health(w.last_tick_started + interval '1 s') h);
    is(sql('new', $soon), 'starting', 'and nothing is late');
    let_go('new');
    becomes('new', q(SELECT health = 'ok' FROM mau.health()), 'ok when it is over');
    # There was no user to make a snapshot of, so refresh has never run; now there is one.
    sql('new', 'DROP EXTENSION mau CASCADE', 'CREATE EXTENSION mau');
    becomes('new', q(SELECT health = 'idle' AND last_tick > (SELECT last_finished FROM mau.tasks WHERE task = 'reap') FROM mau.status),
        'idle with nobody there, after a tick');
    sql('new', q(BEGIN; CREATE TRIGGER on_refresh BEFORE INSERT ON mau.snapshots FOR EACH ROW EXECUTE FUNCTION public.on_refresh();
        INSERT INTO public.hold VALUES (true); SELECT mau.record_activity('@alice:example.com'); COMMIT));
    sleeping_tick('new');
    is(sql('new', "SELECT last_finished $refresh"), '', 'the first refresh is under way');
    is(sql('new', $soon), 'ok', 'which is not late');
    is(sql('new', q(SELECT health FROM mau.health(now() + interval '1 hour'))), 'late', 'but becomes so');
    let_go('new');
    sql('postgres', 'DROP DATABASE new (FORCE)');
};

subtest 'an extension that is created while a tick looks for it' => sub {
    set('ALTER SYSTEM SET mau.databases = one');
    sql('postgres', 'CREATE DATABASE new');
    my $creator = $node->background_psql('new');
    $creator->query_safe($_)
      for 'BEGIN', 'CREATE EXTENSION mau', q(SELECT mau.record_activity('@alice:example.com')), @held_refresh, 'LOCK TABLE pg_extension';
    set('ALTER SYSTEM RESET mau.databases');
    ok($node->poll_query_until('new', q(SELECT count(*) > 0 FROM pg_locks WHERE relation = 'pg_extension'::regclass AND NOT granted)),
        'the tick waits');
    $creator->query_safe('COMMIT');
    $creator->quit;
    sleeping_tick('new');
    # The commit woke the launcher, which would start a tick of this database before these.
    goes_on('one', 'reap', 'other databases have their ticks');
    is(sql('new', q(SELECT h.health FROM mau.worker_state() w, mau.health(w.last_tick_started + interval '1 s') h)), 'starting',
        'no second tick was started');
    let_go('new');
    becomes('new', q(SELECT health = 'ok' FROM mau.health()), 'ok when it is over');
    sql('postgres', 'DROP DATABASE new (FORCE)');
};

subtest 'settings change with a reload' => sub {
    set('ALTER SYSTEM SET mau.worker = off');
    becomes('one', q(SELECT worker = 'off' FROM mau.status), 'mau.worker = off');
    is(sql('one', q(SELECT health FROM mau.health(now() + interval '1 hour'))), 'off', 'which health says, in time');
    my $fresh = q(FROM (SELECT min(last_finished) AS at FROM mau.tasks WHERE task NOT IN ('sync', 'compare')) t, mau.health(t.at + interval '1 s') h);
    is(sql('one', "SELECT h.health $fresh"), 'ok', 'but not while the tasks are fresh');
    like(sql('one', "SELECT h.reason $fresh"), qr/mau[.]worker is off/, 'with the reason');
    set('ALTER SYSTEM RESET mau.worker', 'ALTER SYSTEM SET mau.databases = two');
    becomes('one', q(SELECT worker = 'not in mau.databases' FROM mau.status), 'mau.databases names another');
    goes_on('two', 'refresh', 'which is served');
    set(q(ALTER SYSTEM SET mau.databases = 'one, "two"'));
    goes_on($_, 'refresh', "$_ is served as a member of a list") for qw(one two);
    set('ALTER SYSTEM RESET mau.databases');

    for my $wrong (q(mau.databases = 'one,,two'), q(mau.databases = '"one'), 'mau.tick_interval = 0',
        q(mau.refresh_interval = '2 days'), 'mau.no_such_setting = 1')
    {
        my ($rc, $out, $err) = $node->psql('postgres', "ALTER SYSTEM SET $wrong");
        isnt($rc, 0, "refused: $wrong");
    }
    is(sql('postgres', q{SELECT string_agg(name || ' ' || coalesce(unit, '-'), ', ' ORDER BY name) FROM pg_settings
        WHERE name ~ '^mau[.](worker|databases|batch|(tick|refresh|reap|fold)_interval)'}),
        'mau.batch_size -, mau.databases -, mau.fold_interval s, mau.reap_interval s, mau.refresh_interval s, mau.tick_interval s,'
          . ' mau.worker -', 'units');
};

subtest 'a task that fails' => sub {
    sql('one', 'ALTER TABLE mau.snapshots RENAME TO elsewhere');
    becomes('one', "SELECT failures_in_a_row >= 3 $refresh", 'is tried again');
    is(sql('one', "SELECT last_error_sqlstate || ' ' || last_error $refresh"),
        '42P01 relation "mau.snapshots" does not exist', 'SQLSTATE and message are kept');
    is(sql('one', "SELECT round(extract(epoch FROM next_run - last_error_at)) = 2 ^ (failures_in_a_row - 1) $refresh"),
        't', 'the time to the next try doubles');
    like(sql('one', q(SELECT health || ': ' || reason FROM mau.health())),
        qr/^failing: refresh failed \d+ times in a row: relation .* \(SQLSTATE 42P01\), next try in/, 'health says so');
    like(slurp_file($node->logfile), qr/LOG:  mau's refresh failed in database "one": relation "mau.snapshots" does not exist/,
        'and the log');
    goes_on('one', 'reap', 'the other tasks go on');
    goes_on('two', 'refresh', 'and the other databases');
    my $failed = sql('one', "SELECT failures $refresh");
    sql('one', q(UPDATE mau.tasks SET next_run = next_run + interval '1 day' WHERE task = 'refresh'));
    becomes('one', "SELECT failures > $failed $refresh", 'a clock that is set back by a day does not put it off');
    sql('one', 'ALTER TABLE mau.elsewhere RENAME TO snapshots; SELECT mau.wake_worker()');
    becomes('one', "SELECT failures_in_a_row = 0 $refresh", 'mended, it runs');
    health_becomes('one', 'ok', 'health is well again');
    is(sql('one', 'SELECT last_error_sqlstate FROM mau.status'), '42P01', 'what it was can still be seen');
};

subtest 'invalid visits that a fold deletes' => sub {
    sql('one', 'ALTER TABLE mau.visits DROP CONSTRAINT platform_is_known',
        q(INSERT INTO mau.visits SELECT 1, date '2026-11-21', 9, 'native' FROM generate_series(1, 3)), 'SELECT mau.wake_worker()');
    becomes('one', 'SELECT count(*) = 0 FROM mau.visits WHERE platform = 9', 'are gone');
    like(slurp_file($node->logfile), qr/WARNING:  mau\.fold\(\) deleted 3 invalid rows of mau\.visits in database "one"/, 'the log has their number');
    sql('one', 'ALTER TABLE mau.visits ADD CONSTRAINT platform_is_known CHECK (platform BETWEEN 0 AND 4)');
};

subtest 'a table that somebody has locked' => sub {
    my $admin = $node->background_psql('one');
    $admin->query_safe('BEGIN; LOCK TABLE mau.snapshots');
    becomes('one', "SELECT last_error_sqlstate = '55P03' $refresh", 'is not waited for');
    goes_on('two', 'refresh', 'the other databases go on');
    $admin->query_safe('COMMIT');
    $admin->quit;
    sql('one', 'SELECT mau.wake_worker()');
    becomes('one', "SELECT failures_in_a_row = 0 $refresh", 'then it runs again');
};

subtest 'a homeserver that nobody uses yet' => sub {
    sql('postgres', 'CREATE DATABASE young');
    sql('young', <<'E');
CREATE TABLE users (name text, creation_ts bigint, is_guest smallint DEFAULT 0, appservice_id text, user_type text,
                    deactivated smallint DEFAULT 0);
CREATE TABLE user_ips (user_id text, user_agent text, last_seen bigint);
CREATE INDEX ON user_ips (last_seen);
CREATE TABLE user_threepids (user_id text, medium text, address text);
CREATE EXTENSION mau;
SELECT mau.attach('synapse');
E
    goes_on('young', 'sync', 'is read, and not taken for a restore under way');
    sql('young', q(INSERT INTO users (name, creation_ts) VALUES ('@first:x', extract(epoch FROM now())::bigint);
        INSERT INTO user_ips VALUES ('@first:x', 'agent', (extract(epoch FROM now()) * 1000)::bigint)));
    becomes('young', 'SELECT mau.monthly_active_count() = 1', 'its first user counts');
    health_becomes('young', 'ok', 'health says ok');
    sql('postgres', 'DROP DATABASE young (FORCE)');
};

subtest 'a homeserver, in batches' => sub {
    set('ALTER SYSTEM SET mau.batch_size = 7');
    sql('postgres', 'CREATE DATABASE homeserver');
    sql('homeserver', <<'E');
CREATE TABLE users (name text, creation_ts bigint, is_guest smallint DEFAULT 0, appservice_id text, user_type text,
                    deactivated smallint DEFAULT 0, admin smallint DEFAULT 0);
CREATE UNIQUE INDEX ON users (name);
CREATE TABLE user_ips (user_id text, access_token text, device_id text, ip text, user_agent text, last_seen bigint);
CREATE INDEX ON user_ips (last_seen);
CREATE TABLE user_threepids (user_id text, medium text, address text, validated_at bigint, added_at bigint);
CREATE TABLE user_daily_visits (user_id text, device_id text, "timestamp" bigint, user_agent text);
CREATE TABLE devices (user_id text, device_id text, last_seen bigint, user_agent text, hidden boolean);
CREATE FUNCTION come(first integer, last integer) RETURNS void LANGUAGE sql AS $$
    INSERT INTO users (name, creation_ts) SELECT format('@u%s:x', i), 1700000000 FROM generate_series(first, last) i;
    INSERT INTO user_ips SELECT format('@u%s:x', i), 't', 'd', 'ip', 'agent',
        (extract(epoch FROM now()) * 1000)::bigint - i FROM generate_series(first, last) i
$$;
SELECT come(1, 50);
CREATE EXTENSION mau;
SELECT mau.attach('synapse');
E
    is(sql('homeserver', 'SELECT mau.monthly_active_count()'), '50', 'attached');
    sql('homeserver', 'SELECT come(51, 150)');
    becomes('homeserver', 'SELECT mau.monthly_active_count() = 150', 'who comes is counted without anybody calling');
    becomes('homeserver', q(SELECT health = 'ok' AND lag < '1 minute' AND source = 'synapse in schema public'
        FROM mau.status), 'status says what it is attached to');

    # Once a day it finds rows behind the reading position, and compares the figures.
    my $a_day_later = sub { sql('homeserver', "UPDATE mau.tasks SET runs = 0, last_finished = last_finished - interval '1 day' WHERE task = '$_[0]'") };
    becomes('homeserver', q(SELECT count(*) = 2 FROM mau.tasks WHERE task IN ('reconcile', 'compare') AND runs > 0 AND next_run > now() + interval '23 hours'),
        'reconcile and compare ran, and wait for a day');
    sql('homeserver', q(INSERT INTO users (name, creation_ts) VALUES ('@late:x', 1700000000)),
        q(INSERT INTO user_ips VALUES ('@late:x', 't', 'd', 'ip', 'agent', (extract(epoch FROM now() - interval '10 days') * 1000)::bigint)));
    goes_on('homeserver', 'sync', 'sync does not see a row that old');
    is(sql('homeserver', 'SELECT mau.monthly_active_count()'), '150', 'and does not count it');
    $a_day_later->('reconcile');
    becomes('homeserver', 'SELECT mau.monthly_active_count() = 151', 'a day later reconcile finds it');
    sql('homeserver', 'DELETE FROM mau.comparison');
    $a_day_later->('compare');
    becomes('homeserver', q(SELECT count(*) = 3 AND sum(unexplained) = 0 FROM mau.comparison), 'and compare finds no difference');
    # As if there had been no such user: mau.forget_user would keep a row without an id.
    sql('homeserver', q(DELETE FROM user_ips WHERE user_id = '@late:x'), q(DELETE FROM users WHERE name = '@late:x'),
        q(DELETE FROM mau.monthly_active_users WHERE user_id = '@late:x'), q(DELETE FROM mau.users WHERE user_id = '@late:x'));

    # Not seen any more, or the overlap of the next sync brings them back.
    sql('homeserver', q(DELETE FROM user_ips WHERE user_id LIKE '@u1__:x'));
    goes_on('homeserver', 'sync', 'sync has nothing new');
    sql('homeserver', q(UPDATE mau.monthly_active_users SET "timestamp" = 1700000000000 WHERE user_id LIKE '@u1__:x'));
    becomes('homeserver', 'SELECT count(*) = 99 FROM mau.monthly_active_users', 'a reap larger than a batch');
    is(sql('homeserver', q(SELECT count(*) FROM mau.users WHERE mau.last_seen(user_id) = to_timestamp(1700000000))), '51', 'is complete');

    sql('homeserver', 'ALTER TABLE user_ips RENAME TO elsewhere');
    becomes('homeserver', q(SELECT failures_in_a_row > 1 AND next_run > last_error_at + interval '1.5 s'
        FROM mau.tasks WHERE task = 'sync'), 'trouble with its tables: the time to the next try grows');
    like(sql('homeserver', q(SELECT health || ': ' || reason FROM mau.health())),
        qr/^failing: the homeserver's tables cannot be read: .*user_ips/, 'health says so');
    goes_on('homeserver', 'refresh', 'the other tasks go on');
    sql('homeserver', 'ALTER TABLE elsewhere RENAME TO user_ips', 'SELECT come(151, 160)', 'SELECT mau.wake_worker()');
    becomes('homeserver', 'SELECT mau.monthly_active_count() = 109', 'nothing is lost when they are back');
    health_becomes('homeserver', 'ok', 'and health is well');

    sql('homeserver', 'SELECT mau.detach()');
    becomes('homeserver', 'SELECT lag IS NULL AND source IS NULL AND failures = 0 FROM mau.status', 'detached');
    goes_on('homeserver', 'refresh', 'it goes on with what is left to do');
    is(alone('DROP DATABASE homeserver'), '', 'dropped');
    set('ALTER SYSTEM RESET mau.batch_size');
};

subtest 'stopped in the middle' => sub {
    make_holdable('one');
    my $snapshots = sql('one', 'SELECT count(*) FROM mau.snapshots');

    my $tick = hold_tick('one');
    is(sql('one', 'SELECT worker FROM mau.status'), 'at work', 'a tick is at work');
    is(sql('one', "SELECT last_started > last_finished $refresh"), 't', 'its start is there for all to see');
    sql('postgres', "SELECT pg_cancel_backend($tick)");
    becomes('one', "SELECT last_error_sqlstate = '57014' $refresh", 'pg_cancel_backend is a failure like any other');
    let_go('one');
    goes_on('one', 'refresh', 'after which it goes on');

    $tick = hold_tick('one');
    sql('postgres', "SELECT pg_terminate_backend($tick)");
    let_go('one');
    becomes('one', "SELECT last_error_sqlstate = '57P02' AND failures_in_a_row = 0 $refresh",
        'pg_terminate_backend: the run that was cut off is seen, and done again');

    $tick = hold_tick('one');
    my $failures = sql('one', "SELECT failures $refresh");
    kill 9, $tick;
    $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $tick");
    becomes('one', 'SELECT launcher_pid IS NOT NULL FROM mau.status', 'kill -9: the launcher is back');
    let_go('one');
    becomes('one', "SELECT failures = $failures + 1 AND failures_in_a_row = 0 $refresh",
        'the run that was cut off is seen, and done again');
    goes_on('one', 'refresh', 'it goes on');
    health_becomes('one', 'ok', 'health is well');
    cmp_ok(sql('one', 'SELECT count(*) FROM mau.snapshots'), '>', $snapshots, 'snapshots are there');
    is(sql('one', 'SELECT mau.monthly_active_count()'), '1', 'and the figure is');
};

subtest 'restart' => sub {
    hold_tick('one');
    $node->restart;
    let_go('one');
    goes_on($_, 'refresh', "$_ goes on") for qw(one two);
    sql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'mau launcher'));
    becomes('one', q(SELECT worker = 'not running' FROM mau.status), 'a launcher that was stopped is missed');
    like(sql('one', q(SELECT health || ': ' || reason FROM mau.health(now() + interval '1 hour'))),
        qr/^off: the launcher is not running/, 'by health too');
    is(sql('one', 'SELECT mau.wake_worker()'), 'f', 'there is nobody to wake');
    $node->restart;
    goes_on('one', 'refresh', 'a restart brings it back');
    is(sql('one', 'SELECT mau.wake_worker()'), 't', 'to be woken');
};

subtest 'DROP EXTENSION during a tick' => sub {
    my $before = -s $node->logfile;
    hold_tick('one');
    my $drop = $node->background_psql('one');
    $drop->query_until(qr/waits/, "\\echo waits\nDROP EXTENSION mau CASCADE;\n");
    $node->poll_query_until('postgres',
        q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'DROP EXTENSION%' AND wait_event_type = 'Lock'));
    let_go('one');
    $drop->quit;
    is(sql('one', q(SELECT count(*) FROM pg_extension WHERE extname = 'mau')), '0', 'waits for a batch, and is done');
    goes_on('two', 'refresh', 'the other databases go on');

    my $open = $node->background_psql('two');
    $open->query_safe('BEGIN; DROP EXTENSION mau');
    sql('one', q(DROP FUNCTION public.on_refresh; CREATE EXTENSION mau; SELECT mau.record_activity('@alice:example.com')));
    goes_on('one', 'refresh', 'while an open transaction has dropped it, the others go on');
    $open->query_safe('ROLLBACK');
    $open->quit;
    goes_on('two', 'refresh', 'as it does itself, rolled back');
    unlike(slurp_file($node->logfile, $before), qr/mau's|WARNING|FATAL/, 'nothing failed');
};

subtest 'DROP and RENAME DATABASE during ticks' => sub {
    for my $command ('DROP DATABASE busy', 'ALTER DATABASE busy RENAME TO renamed') {
        sql('postgres', 'CREATE DATABASE busy');
        sql('busy', 'CREATE EXTENSION mau');
        on_refresh('busy', 'PERFORM pg_sleep(1);');
        sleeping_tick('busy');
        is(alone($command), '', "$command waits for the tick, and no longer");
    }
    goes_on('renamed', 'refresh', 'under its new name it is served');
    goes_on('one', 'refresh', 'the other databases go on');
    is(alone('DROP DATABASE renamed'), '', 'dropped');
};

subtest 'with the rights of the owner, and settings of its own' => sub {
    sql('postgres', 'CREATE ROLE installer SUPERUSER LOGIN', 'CREATE DATABASE owned');
    $node->safe_psql('owned', 'CREATE EXTENSION mau', extra_params => [ '-U', 'installer' ]);
    sql('owned', 'CREATE TABLE public.seen (who name, path text); GRANT ALL ON public.seen TO PUBLIC');
    on_refresh('owned', <<'E');
        INSERT INTO public.seen VALUES (current_user, current_setting('search_path'));
        BEGIN
            SET ROLE NONE;
            INSERT INTO public.seen VALUES ('escaped');
        EXCEPTION WHEN insufficient_privilege THEN NULL;
        END;
        PERFORM set_config('search_path', 'evil', false);
E
    sql('owned', <<'E');
CREATE SCHEMA evil;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''evil.now''; END';
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''evil.clock''; END';
GRANT USAGE ON SCHEMA evil TO PUBLIC;
ALTER ROLE installer NOSUPERUSER;
ALTER DATABASE owned SET search_path = evil, pg_catalog;
ALTER DATABASE owned SET statement_timeout = 1;
DO $$ BEGIN IF current_setting('transaction_timeout', true) IS NOT NULL THEN ALTER DATABASE owned SET transaction_timeout = 1; END IF; END $$;
ALTER DATABASE owned SET default_transaction_isolation = serializable;
E
    # Our own sessions are not bound by that: a millisecond is too short for any of them on a busy machine.
    local $ENV{PGOPTIONS} = '-c statement_timeout=0' . ($node->pg_version >= 17 ? ' -c transaction_timeout=0' : '');
    my $options = 'SET statement_timeout = 0; SET search_path = pg_catalog;'
        . ($node->pg_version >= 17 ? 'SET transaction_timeout = 0;' : '');
    sql('owned', "$options DELETE FROM public.seen");
    ok($node->poll_query_until('owned', 'SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 3 FROM public.seen'),
        'refresh runs again and again');
    is(sql('owned', "$options SELECT DISTINCT who || ': ' || path FROM public.seen"), 'installer: pg_catalog, pg_temp',
        'as the owner, who cannot escape from that, with our search_path');
    is(sql('owned', "$options SELECT sum(failures) FROM mau.tasks"), '0', 'without failures');

    sql('postgres', 'ALTER DATABASE owned RESET ALL', 'ALTER DATABASE owned SET default_transaction_read_only = on');
    becomes('owned', q(SELECT health = 'failing' AND reason ~ 'read-only' FROM mau.health()),
        'a database that is read-only is left alone');
    is(alone('DROP DATABASE owned'), '', 'dropped');
    sql('postgres', 'DROP ROLE installer');
};

subtest 'left alone for good reasons' => sub {
    sql('two', q(UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'mau' RETURNING 1));
    becomes('two', q(SELECT health = 'failing' AND reason ~ 'different versions.*ALTER EXTENSION mau UPDATE' FROM mau.health()),
        'an extension of another version');
    sql('two', q(UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'mau'; SELECT mau.wake_worker()));
    goes_on('two', 'refresh', 'it goes on when they agree');

    my $restore = $node->background_psql('two');
    $restore->query_until(qr/copies/, "\\echo copies\nCOPY mau.user_threepids (medium, address, user_id) FROM stdin;\n");
    health_becomes('two', 'waiting', 'a database that is being restored');
    $restore->query_until(qr/copied/, "\\.\n\\echo copied\n");
    $restore->quit;
    goes_on('two', 'refresh', 'it goes on afterwards');
};

subtest 'a source of whom nobody is known yet' => sub {
    for my $case (
        [ 'users of another server', q(UPDATE mau.settings SET server_name = 'example.com'), q('@a:elsewhere.example') ],
        [ 'no ids that can be',      q(SELECT), q(repeat('x', 300)) ],
        [ 'nothing recorded',        q(UPDATE mau.settings SET mau_stats_only = false), q('@a:example.com') ])
    {
        my ($name, $setting, $stranger) = @$case;
        (my $db = $name) =~ s/ /_/g;
        sql('postgres', "CREATE DATABASE $db");
        sql($db, 'CREATE EXTENSION mau; CREATE TABLE public.seen (who text, at timestamptz DEFAULT now())',
            q(INSERT INTO mau.custom_source VALUES ('activity',
                'SELECT who AS user_id, floor(extract(epoch FROM at) * 1000)::bigint AS last_seen FROM public.seen WHERE who IS NOT NULL')),
            $setting, "INSERT INTO public.seen VALUES ($stranger)", q(SELECT mau.attach('custom')));
        becomes($db, q(SELECT coalesce(sum(runs), 0) >= 2 FROM mau.tasks WHERE task = 'sync'), "$name: sync runs");
        my $health = $name eq 'nothing recorded' ? 'off' : 'ok';
        becomes($db, "SELECT health = '$health' FROM mau.health()", "$name: health");
        sql($db, q(UPDATE mau.settings SET mau_stats_only = true),
            q(INSERT INTO public.seen VALUES ('@new:example.com')));
        becomes($db, q(SELECT mau.last_seen('@new:example.com') IS NOT NULL), "$name: the first who is somebody is seen");
        goes_on($db, 'sync', "$name: and so it goes on");
        sql('postgres', "DROP DATABASE $db WITH (FORCE)");
    }
};

subtest 'a hot standby, and its promotion' => sub {
    sql('one', q(SELECT mau.record_activity('@alice:example.com')));
    $node->backup('backup');
    my $standby = PostgreSQL::Test::Cluster->new('standby');
    $standby->init_from_backup($node, 'backup', has_streaming => 1);
    $standby->start;
    set('ALTER SYSTEM SET mau.worker = off');
    becomes('one', q(SELECT worker = 'off' FROM mau.status), q(the primary's worker rests));
    $node->wait_for_catchup($standby);

    is($standby->safe_psql('one', 'SELECT health FROM mau.health()'), 'standby', 'health');
    is($standby->safe_psql('one', 'SELECT worker || coalesce(launcher_pid, 0) FROM mau.status'), 'standby0',
        'there is no worker');
    for my $reader ('mau.monthly_active_count()', q((SELECT string_agg(l, ' ') FROM regexp_split_to_table(mau.metrics(), '\n') l WHERE l ~ '^(synapse|mau_(active|limit))')), q(mau.check_auth_blocking('@new:example.com') IS NULL),
        q((SELECT string_agg(rule || holds, ' ') FROM mau.explain('@alice:example.com'))))
    {
        is($standby->safe_psql('one', "SELECT $reader"), sql('one', "SELECT $reader"), "$reader works as on the primary");
    }
    for my $writer (q(mau.record_activity('@bob:example.com')), 'mau.refresh()', 'mau.reap()',
        q(mau.admit('@bob:example.com')))
    {
        my ($rc, $out, $err) = $standby->psql('one', "\\set VERBOSITY sqlstate\nSELECT $writer");
        like($err, qr/25006/, "$writer is refused");
    }

    my $runs = $standby->safe_psql('one', "SELECT runs $refresh");
    $standby->promote;
    ok($standby->poll_query_until('one', "SELECT runs >= $runs + 2 $refresh"), 'promoted: the worker starts');
    ok($standby->poll_query_until('one', q(SELECT health = 'ok' FROM mau.health())), 'and all is well');
    $standby->stop;
    set('ALTER SYSTEM RESET mau.worker');
};

subtest 'no worker slot is free' => sub {
    $node->append_conf('postgresql.conf', 'max_worker_processes = 1');
    $node->append_conf('postgresql.conf', 'max_logical_replication_workers = 0');
    $node->restart;
    becomes('one', q(SELECT health = 'failing' AND reason ~ 'no background worker slot is free' FROM mau.health()),
        'health says so');
    like(slurp_file($node->logfile), qr/HINT:  Raise max_worker_processes/, 'and the log what to do');
};

$node->stop;

subtest 'not preloaded' => sub {
    $node->append_conf('postgresql.conf', q(shared_preload_libraries = ''));
    $node->start;
    is(sql('one', 'SELECT worker || preloaded FROM mau.status'), 'not preloadedfalse', 'status');
    is(sql('one', q(SELECT health FROM mau.health(now() + interval '1 hour'))), 'off', 'health');
    is(sql('one', 'SELECT mau.wake_worker()'), 'f', 'nobody to wake');
    sql('one', map { "SELECT mau.$_()" } qw(sync refresh reap));
    like(sql('one', q(SELECT health || ': ' || reason FROM mau.health())),
        qr/^ok: tasks are run by hand or by a scheduler/, 'what is run by hand counts');
    sql('postgres', 'CREATE DATABASE fresh');
    is(sql('fresh', 'CREATE EXTENSION mau', q(SELECT health || ': ' || reason FROM mau.health())),
        'off: mau is not in shared_preload_libraries, and nobody else runs the tasks: fold has never run, it is due every 00:05:00;'
          . ' reap has never run, it is due every 00:00:01', 'a new database says what never ran');
    $node->stop;
};

done_testing();
