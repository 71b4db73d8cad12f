# pg_dump and restore: mau's data survive in every format, while the worker is on, and the worker continues.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'mau'
mau.tick_interval = 1
mau.refresh_interval = 1
mau.reap_interval = 1
mau.fold_interval = 1
CONF
$node->start;
my $dir = $node->basedir;

# The original: the worker does not touch it, so that it stays as it is.
$node->safe_psql('postgres', 'ALTER SYSTEM SET mau.databases = plain, custom, parallel, data_only');
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE original');
$node->safe_psql('original', <<'SQL');
CREATE TABLE users (name text, creation_ts bigint, is_guest smallint DEFAULT 0, appservice_id text, user_type text,
                    deactivated smallint DEFAULT 0, admin smallint DEFAULT 0);
CREATE UNIQUE INDEX ON users (name);
CREATE TABLE user_ips (user_id text, access_token text, device_id text, ip text, user_agent text, last_seen bigint);
CREATE INDEX ON user_ips (last_seen);
CREATE TABLE user_threepids (user_id text, medium text, address text, validated_at bigint, added_at bigint);
CREATE TABLE user_daily_visits (user_id text, device_id text, "timestamp" bigint, user_agent text);
CREATE TABLE devices (user_id text, device_id text, last_seen bigint, user_agent text, hidden boolean);
INSERT INTO users (name, creation_ts) SELECT format('@u%s:x', i), 1700000000 FROM generate_series(1, 20) i;
INSERT INTO user_ips SELECT format('@u%s:x', i), 't', 'd', 'ip', 'agent',
    (extract(epoch FROM now()) * 1000)::bigint - i * 100000000 FROM generate_series(1, 20) i;
INSERT INTO users (name, creation_ts) VALUES ('@first:x', 1700000000);
INSERT INTO user_daily_visits SELECT format('@u%s:x', i), 'd', (extract(epoch FROM date_trunc('day', now(), 'UTC')) * 1000)::bigint - d * 86400000::bigint,
    'Element Android' FROM generate_series(1, 20) i, generate_series(1, 90) d WHERE (i * d) % 7 < 3;
INSERT INTO user_threepids VALUES ('@first:x', 'email', 'first@x', 0, 0), ('@u1:x', 'email', 'u1@x', 0, 0);

CREATE EXTENSION mau;
UPDATE mau.settings SET server_name = 'x', limit_usage_by_mau = true, max_mau_value = 1000, admin_contact = 'mailto:a@x',
    last_seen_granularity = '10 min', hs_disabled_message = E'line\nand \\ "quote"', track_appservice_user_ips = true;
INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'First@x'), ('email', 'second@x'), ('msisdn', '44');
DELETE FROM mau.reserved_threepids WHERE address = 'second@x';
INSERT INTO mau.appservices VALUES ('irc', 3, '@irc:x', '{@irc_.*:x}'), ('bare', NULL, NULL, '{}');
SELECT mau.attach('synapse');
SELECT mau.reap(now() - interval '1 year');  -- gives the reserved user a seat, long expired for anybody else
SELECT mau.register_user('@guest:x', now(), is_guest => true);
SELECT mau.register_user('@irc_a:x', now() - interval '1 year', appservice_id => 'irc');
SELECT mau.record_activity(u, now() - interval '20 minutes') FROM unnest('{@guest:x,@irc_a:x,@late:x,@ünïcödé:x}'::text[]) u;
SELECT mau.record_activity('@gone:x', now() - interval '40 days');  -- for the next reap
SELECT mau.forget_user('@late:x');
DELETE FROM user_ips WHERE user_id = '@u20:x';  -- removed by the homeserver, too
DELETE FROM users WHERE name = '@u20:x';
SELECT mau.forget_user('@u20:x');  -- the days stay
UPDATE mau.settings SET history_retention = '60 days', snapshot_retention = '100 years';
SELECT mau.fold();  -- some days are before those that are kept
UPDATE mau.settings SET history_retention = '62 days';  -- a midnight during the test removes no further day
SELECT mau.record_activity(format('@u%s:x', i), now() - i * interval '1 day', 'Mozilla') FROM generate_series(1, 10) i;  -- not folded
SELECT mau.register_user('@deleted:x');
DELETE FROM mau.users WHERE user_id = '@deleted:x';
INSERT INTO mau.snapshots (at, dau, wau, mau, max, by_service, daily_active_users, accounts_by_service) SELECT at, 1, 2, 3, 4, '{"native": 3}', 5, '{"native": 6}' FROM unnest('{2026-01-01 00:00:00.123456Z,2026-02-01Z}'::timestamptz[]) at;
SQL

# Everything that shall survive, in a form that can be compared; snapshots of the worker's own are left out.
my @tables = qw(settings reserved_threepids appservices users user_threepids monthly_active_users visits active_days source);
sub contents {
    my ($db, @which) = @_;
    my %contents = map {
        $_ => $node->safe_psql($db, "SELECT t::text FROM mau.$_ t ORDER BY t::text COLLATE \"C\"")
    } @which;
    $contents{snapshots} = $node->safe_psql($db, q(SELECT s::text FROM mau.snapshots s WHERE at < '2026-03-01' ORDER BY at));
    return \%contents;
}
my $original = contents('original', @tables);
isnt($original->{$_}, '', "there is something in mau.$_") for @tables, 'snapshots';
my $count = $node->safe_psql('original', 'SELECT mau.monthly_active_count()');
my ($last_no, $last_position) = split /[|]/, $node->safe_psql('original',
    'SELECT u.last_value, r.last_value FROM mau.users_user_no_seq u, mau.reserved_threepids_position_seq r');

# Days that are over: the homeserver goes on today.
my $now = $node->safe_psql('original', 'SELECT now()');
my $day = "('$now'::timestamptz AT TIME ZONE 'UTC')::date";
my $figures = qq(SELECT * FROM mau.daily_series($day - 80, $day - 1, kind => 'everybody');
    SELECT * FROM mau.growth($day - 40, $day - 1); SELECT * FROM mau.r30v2('$now'::timestamptz - interval '1 day'););
my $history = $node->safe_psql('original', $figures);
like($node->safe_psql('original', 'SELECT min(day) FROM mau.active_days'), qr/^-infinity$/, 'of days that are not kept it is known who was there');

# Changes by the homeserver's further activity and by the worker's reap are not compared.
sub is_restored {
    my ($db) = @_;
    my @quiet = qw(settings reserved_threepids appservices user_threepids);
    is_deeply(contents($db, @quiet), { map { $_ => $original->{$_} } @quiet, 'snapshots' },
        'settings, reserved threepids, appservices, snapshots are there');
    # (Who was forgotten comes back by the worker's sync, under another number, while the homeserver has the account.)
    my $who = "SELECT user_no, user_id, registered_at, is_guest, appservice_id FROM mau.users WHERE user_no <= $last_no ORDER BY user_no";
    is($node->safe_psql($db, $who), $node->safe_psql('original', $who), 'users, under their numbers');
    is($node->safe_psql($db, 'SELECT mau.monthly_active_count()'), $count, 'the figure');
    my $seen = "SELECT user_id, mau.last_seen(user_id) FROM mau.users WHERE user_id IS NOT NULL AND user_no <= $last_no ORDER BY 1";
    is($node->safe_psql($db, $seen), $node->safe_psql('original', $seen), 'last seen');

    is($node->safe_psql($db, $figures), $history, 'the history');
    ok($node->poll_query_until($db, 'SELECT NOT EXISTS (SELECT FROM mau.visits)'), 'which the worker folds');
    is($node->safe_psql($db, $figures), $history, 'without changing it');

    ok($node->poll_query_until($db, 'SELECT count(*) >= 2 FROM mau.snapshots WHERE at > now() - interval \'1 hour\''),
        'the worker goes on: snapshots');
    ok($node->poll_query_until($db, q(SELECT health = 'ok' OR reason ~ 'in mau only' FROM mau.health())), 'and all is well, but for users whom the homeserver does not have');
    $node->safe_psql($db, q(INSERT INTO users (name, creation_ts) VALUES ('@new:x', 1700000000);
        INSERT INTO user_ips VALUES ('@new:x', 't', 'd', 'ip', 'agent', (extract(epoch FROM now()) * 1000)::bigint)));
    ok($node->poll_query_until($db, 'SELECT mau.monthly_active_count() = ' . ($count + 1)), 'and its sync');
    is($node->safe_psql($db, 'SELECT sum(failures) FROM mau.tasks'), '0', 'nothing failed');
    cmp_ok($node->safe_psql($db, q(SELECT user_no FROM mau.users WHERE user_id = '@new:x')), '>', $last_no,
        'a newcomer gets a number that nobody had');
    cmp_ok($node->safe_psql($db, q(INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'new@x')
        RETURNING position)), '>', $last_position, 'as does a reserved threepid');
    return;
}

subtest 'plain, by psql' => sub {
    $node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", $node->connstr('original') ], 'dump');
    $node->safe_psql('postgres', 'CREATE DATABASE plain');
    $node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", $node->connstr('plain') ], 'restore');
    is_restored('plain');
};

subtest 'custom, by pg_restore' => sub {
    $node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom", $node->connstr('original') ], 'dump');
    $node->safe_psql('postgres', 'CREATE DATABASE custom');
    $node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('custom'), "$dir/custom" ], 'restore');
    is_restored('custom');
};

subtest 'a dump folder, by two jobs at once' => sub {
    $node->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dir/parallel", $node->connstr('original') ], 'dump');
    $node->safe_psql('postgres', 'CREATE DATABASE parallel');
    $node->command_ok([ 'pg_restore', '-j2', '--exit-on-error', '-d', $node->connstr('parallel'), "$dir/parallel" ],
        'restore');
    is_restored('parallel');
};

subtest 'data only, into what is there' => sub {
    $node->safe_psql('postgres', 'CREATE DATABASE data_only');
    $node->command_ok([ 'pg_restore', '--schema-only', '--exit-on-error', '-d', $node->connstr('data_only'), "$dir/custom" ],
        'restore the schema');
    ok($node->poll_query_until('data_only', q(SELECT last_tick_finished IS NOT NULL FROM mau.worker_state())), 'the worker is at it');
    $node->command_ok([ 'pg_dump', '--data-only', '-f', "$dir/data.sql", $node->connstr('original') ], 'dump the data');
    $node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/data.sql", $node->connstr('data_only') ],
        'restore the data');
    is_restored('data_only');
};

subtest 'a restore that takes its time' => sub {
    # Users whom the homeserver does not have would be the first thing in health.
    $node->safe_psql('plain', 'DELETE FROM mau.comparison');
    my $psql = $node->background_psql('plain');
    $psql->query_until(qr/copies/,
        "\\echo copies\nCOPY mau.user_threepids (medium, address, user_id) FROM stdin;\n");
    ok($node->poll_query_until('plain', q(SELECT health = 'waiting' FROM mau.health())),
        'while a COPY is under way the worker waits');
    $psql->query_until(qr/copied/, "\\.\n\\echo copied\n");
    ok($node->poll_query_until('plain', q(SELECT health = 'ok' FROM mau.health())), 'and goes on after it');
    $psql->quit;

    my $last = $node->safe_psql('plain', q(SELECT last_value FROM mau.users_user_no_seq));
    $node->safe_psql('plain', q(SELECT setval('mau.users_user_no_seq', 1, false)));
    ok($node->poll_query_until('plain', q(SELECT health = 'waiting' FROM mau.health())), 'before the sequence is set, too');
    $node->safe_psql('plain', "SELECT setval('mau.users_user_no_seq', $last)");
    ok($node->poll_query_until('plain', q(SELECT health = 'ok' FROM mau.health())), 'not after it');
    $node->safe_psql('plain', 'CREATE TABLE public.kept AS TABLE mau.users; DELETE FROM mau.users');
    ok($node->poll_query_until('plain', q(SELECT health = 'waiting' FROM mau.health())), 'and before the users are there');
    $node->safe_psql('plain', 'INSERT INTO mau.users TABLE public.kept');
    ok($node->poll_query_until('plain', q(SELECT health = 'ok' FROM mau.health())), 'not after that');
};

done_testing();
