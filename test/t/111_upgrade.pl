# pg_upgrade: the worker writes nothing during it, and on the new server mau has the same figures as on the old one, and continues.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old, $new) = map {
    my $node = PostgreSQL::Test::Cluster->new($_);
    $node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.tick_interval = 1\n");
    $node;
} qw(old new);

my $work = q(SELECT sum(runs) FROM mau.tasks);
# The figures that do not change with time. (Rows written after attach are older than the granularity, or change nothing.)
my $answers = q(SELECT mau.monthly_active_count(), mau.active_users('60 days'), (SELECT sum(dau + new_users) FROM mau.daily_series()),
    (SELECT string_agg(user_no || coalesce(user_id, '-'), ' ' ORDER BY user_no) FROM mau.users), mau.registered_reserved_users(),
    (SELECT s::text FROM mau.settings s), has_column_privilege('caller', 'mau.users', 'user_id', 'INSERT'));

$old->start;
$old->safe_psql('postgres', 'CREATE ROLE caller; CREATE DATABASE homeserver');
$old->safe_psql('homeserver', slurp_file("$FindBin::RealBin/../fixtures/homeserver.sql"));
$old->safe_psql('homeserver', q(CREATE EXTENSION mau;
    INSERT INTO mau.reserved_threepids (medium, address) SELECT medium, address FROM user_threepids ORDER BY 2 LIMIT 1;
    UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 28;
    SELECT mau.attach('synapse'); SELECT mau.grant_to('caller')));
$old->poll_query_until('homeserver', 'SELECT bool_and(runs > 0) FROM mau.tasks') or die 'the worker does not come';
my $before = $old->safe_psql('homeserver', $answers);
my $runs = $old->safe_psql('homeserver', $work);
$old->stop;

my $bin = $old->config_data('--bindir');
chdir $new->basedir or die;
command_ok([ 'pg_upgrade', '--no-sync', '-r', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir, '-s', $new->host, '-p', $old->port, '-P', $new->port ],
    'pg_upgrade');
my $logs = join '', map { slurp_file($_) } glob $new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log';
like($logs, qr/database system is ready/, 'it started the servers');
unlike($logs, qr/mau (launcher|worker)/, 'the worker kept still');
$new->start;
is($new->safe_psql('homeserver', $answers), $before, 'the same answers');
is($new->safe_psql('homeserver', $work) > $runs || $new->poll_query_until('homeserver', "SELECT ($work) > $runs"), 1, 'the worker goes on');
is($new->safe_psql('homeserver', 'SELECT health FROM mau.health()'), 'ok', 'and all is well');
$new->safe_psql('homeserver', q(INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
    VALUES ('@upgraded:example.com', 't', 'd', '::1', 'Element', floor(extract(epoch FROM now()) * 1000)),
           ('@no_more:example.com', 't', 'd', '::1', 'Element', floor(extract(epoch FROM now()) * 1000))));
ok($new->poll_query_until('homeserver', q(SELECT count(mau.last_seen(u)) = 2 FROM unnest('{@upgraded:example.com,@no_more:example.com}'::text[]) u)),
    'sync reads on');
is($new->safe_psql('homeserver', 'SELECT mau.monthly_active_count()'), '28', 'up to the limit');
$new->stop;

done_testing();
