# A hot standby: each function answers as on the primary, or raises 25006. A question that the replay of the WAL cancels raises 40001.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use IPC::Run qw(start);
use MauSource;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.worker = off\nautovacuum = off\n");
$node->start;
new_homeserver($node, name => 'synapse');
my $now = $node->safe_psql('synapse', 'SELECT floor(extract(epoch FROM now()) * 1000)');
$node->safe_psql('synapse', add_user('@a:x', born => $now - $DAY) . see('@a:x', $now) . 'CREATE ROLE dashboard');
is(attach($node, 'synapse', $now)->{joined}, 1, 'the primary is attached');
$node->safe_psql('synapse', "SELECT FROM mau.record_activity('\@b:x', now() - interval '5 days'), mau.refresh(), mau.fold()");

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 0\nhot_standby_feedback = off\nwal_receiver_status_interval = 1\n");
$standby->start;
$node->wait_for_catchup($standby);

# (what a statement prints, its SQLSTATE or '')
sub result
{
	my ($where, $sql) = @_;
	my ($out, $err) = ask($where, 'synapse', "\\set VERBOSITY sqlstate\n$sql");
	return ($out, $err =~ /(?:ERROR|FATAL):\s+(\w{5})/ ? $1 : '');
}

# --- Every function ----------------------------------------------------------------------------------------------

my @WRITERS = (
	q{record_activity('@a:x')}, q{record_activities('{@a:x}', ARRAY[now()])}, q{admit('@new:x')}, q{register_user('@new:x')},
	q{deactivate_user('@a:x')}, q{add_threepid('@a:x', 'email', 'a@x')}, q{remove_threepid('@a:x', 'email', 'a@x')},
	q{forget_user('@a:x')}, 'reap()', 'refresh()', 'fold()', q{attach('synapse')}, 'sync()', 'reconcile()', 'keep_comparison()',
	'detach()', 'wake_worker()', 'pause_worker()', 'resume_worker()', q{grant_to('dashboard')});
my $AT   = $node->safe_psql('synapse', q{SELECT quote_literal(date_trunc('day', now(), 'UTC'))});
my $DAYS = $node->safe_psql('synapse', q{SELECT format('%L, %L', d - 20, d - 1) FROM CAST(now() AT TIME ZONE 'UTC' AS date) d});
my @READERS = (
	q{is_regex('{a}')}, q{fold_address('email', 'A@x')}, 'registered_reserved_users()', 'monthly_active_count()',
	'monthly_active_count_by_service()', q{host_of('@a:x')}, 'monthly_active_count_by_host()', 'monthly_active_users_by_service()',
	'active_users()', "active_users('20 days', $AT, min_days => 1)", 'active_users_by_host()', q{last_seen('@a:x')},
	q{check_auth_blocking('@a:x')}, "explain('\@a:x', $AT::timestamptz + interval '2 days')", "daily_series($DAYS)", "growth($DAYS)", "retention('day', $DAYS)",
	"days_active($AT)", "r30v2($AT)", "r30v2_series($DAYS)", "r30($AT)", "billing_months($DAYS)", 'forecast()', 'nodeinfo_usage()',
	"chart('dau', $DAYS)", 'usage_statistics()', 'compare()', 'row_security_off()', 'unsupported_tables()',
	'export_days()', q{add_step('{1}', '{2}')});
# These show the state of each server.
my @STATES = qw(metrics() samples() worker_state() describe_seats() lost_calls() seen_cache() health() fleet());

my %known = map { /^(\w+)/ => 1 } @WRITERS, @READERS, @STATES;
is($node->safe_psql('synapse', q{SELECT string_agg(DISTINCT proname::text, ' ' ORDER BY proname::text) FROM pg_proc
	WHERE pronamespace = 'mau'::regnamespace AND prorettype <> 'trigger'::regtype AND prokind = 'f'
	AND 'internal'::regtype <> ALL (proargtypes)}), join(' ', sort keys %known), 'all functions are listed here');

is((result($standby, "SELECT * FROM mau.$_"))[1], '25006', "$_ is refused") for @WRITERS;
for my $reader (@READERS)
{
	my ($out, $state) = result($standby, "SELECT * FROM mau.$reader");
	is("$state$out", join('', reverse result($node, "SELECT * FROM mau.$reader")), "$reader answers as on the primary");
}
is((result($standby, "SELECT * FROM mau.$_"))[1], '', "$_ answers") for @STATES;
is((result($standby, 'TABLE mau.status'))[1], '', 'mau.status answers');
is((result($node, "BEGIN READ ONLY; SELECT * FROM mau.$_"))[1], '25006', "$_ is refused in a read-only transaction on the primary")
	for grep { !/^(wake_worker|admit)/ } @WRITERS;

# --- A question that is cancelled --------------------------------------------------------------------------------

my $FIGURES = "SELECT string_agg(s::text, ' ' ORDER BY s::text) FROM mau.daily_series($DAYS) s";
# It goes on until it is cancelled; the figures are the same each time.
my @DAYS = split /, /, $DAYS;
my $question = "SELECT 'wrong' FROM generate_series(1, 1000000000) i, LATERAL (SELECT sum(dau) FROM mau.daily_series(date $DAYS[0] + i % 1, $DAYS[1])) s(dau)"
  . " WHERE s.dau <> (SELECT sum(dau) FROM mau.daily_series($DAYS)) LIMIT 1";
my ($out, $err) = ('', '');
my $session = start([ 'psql', '-XAtq', '-d', $standby->connstr('synapse'), '-c', '\set VERBOSITY verbose', '-c', $question ], '<', \undef, '>', \$out, '2>', \$err,
	IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default));
ok($standby->poll_query_until('synapse', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '1000000000' AND pid <> pg_backend_pid() AND state = 'active' AND backend_xmin IS NOT NULL}),
	'a question is under way on the standby');
# A fold rewrites the bitmaps, and VACUUM removes the rows that the question reads.
$node->safe_psql('synapse', q{SELECT FROM mau.record_activities('{@a:x,@b:x}', ARRAY[now() - interval '4 days', now() - interval '5 days'], '{iOS,iOS}'), mau.fold()});
$node->safe_psql('synapse', 'VACUUM mau.active_days, mau.visits');
$session->finish;
is($out, '', 'it answers nothing wrong');
like($err, qr/ERROR:  40001: canceling statement due to conflict with recovery/, 'it is cancelled with 40001');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is((result($standby, $FIGURES))[0], (result($node, $FIGURES))[0], 'asked again, it answers as the primary does');

$standby->stop;
$node->stop;
done_testing();
