# A reap verifies the counters of the limit against the table. A transaction that is committed and visible, and has yet to update the
# counters, is no difference between the two.
use strict;
use warnings;
use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = abs_path('build/test/boundary.so');
die "build/test/boundary.so is not built: make build/test/boundary.so\n" unless $module && -e $module;

my $node = PostgreSQL::Test::Cluster->new('recount');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n");
$node->start;
my $ask = sub { $node->safe_psql('postgres', $_[0]) };
$ask->("CREATE EXTENSION mau; CREATE FUNCTION lingers(text) RETURNS void LANGUAGE C AS '$module', 'test_lingers'");
$ask->(q(UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3));
$ask->(q(SELECT mau.record_activity('@first:x')));
like($ask->('SELECT seats FROM mau.status'), qr/^1 of 3; 1 native rows, 0 admissions in flight; counted 1 times, corrected 0$/, 'the counters are known');

my $go_on = PostgreSQL::Test::Utils::tempdir() . '/go_on';
my $newcomer = $node->background_psql('postgres');
$newcomer->query_until(qr/begun/, qq(BEGIN; SELECT lingers('$go_on'); SELECT mau.record_activity('\@late:x');\n\\echo begun\nCOMMIT;\n));
ok($node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM mau.monthly_active_users'), 'a newcomer is committed');
$ask->('SELECT * FROM mau.reap()');
like($ask->('SELECT seats FROM mau.status'), qr/^2 of 3; 2 native rows, 1 admissions in flight; counted 2 times, corrected 0$/,
    'in between they are counted from the table, the seat is in flight, and nothing was wrong');
is($ask->(q(SELECT mau.record_activity('@other:x'))), 'full', 'on the safe side');
append_to_file($go_on, '');
$newcomer->quit;
$ask->('SELECT * FROM mau.reap()');
like($ask->('SELECT seats FROM mau.status'), qr/^2 of 3; 2 native rows, 0 admissions in flight; counted 3 times, corrected 0$/, 'and afterwards they are right');
is($ask->(q(SELECT mau.record_activity('@other:x'))), 'joined', 'there is room again');
unlike(slurp_file($node->logfile), qr/corrected its counters/, 'the log has nothing to say');
$node->stop;

done_testing();
