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

# --- The figure comes from the counters where they equal what the statement sees -------------------------------

# The figure, and how many rows of the cohort were read for it.
my $figure = sub {
    return $ask->(q(BEGIN; SELECT mau.monthly_active_count();
        SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_all_tables WHERE relid = 'mau.monthly_active_users'::regclass; COMMIT));
};
$ask->($_) for 'CREATE DATABASE neighbour', 'UPDATE mau.settings SET max_mau_value = 1000', q(SELECT mau.record_activity('@other:x'));
is($figure->(), "3\n0", 'the figure is read from the counters');
my $neighbour = $node->background_psql('neighbour');
$neighbour->query_safe('BEGIN; CREATE TABLE writes ()');
is($ask->(q(SELECT mau.record_activity('@fourth:x'))), 'joined', 'a newcomer while another database has a transaction');
is($figure->(), "4\n0", 'which makes no difference');

my $writer = $node->background_psql('postgres');
my $reader = $node->background_psql('postgres');
$writer->query_safe(q(BEGIN; SELECT mau.record_activity('@fifth:x')));
$reader->query_safe('CREATE FUNCTION waits() RETURNS bigint LANGUAGE plpgsql STABLE AS '
      . q('BEGIN PERFORM pg_advisory_lock(1); RETURN mau.monthly_active_count(); END'));
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(1)');
$reader->query_until(qr/asking/, "\\echo asking\nSELECT 'as of its start: ' || waits();\n");
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)), 'a statement is in the middle');
$writer->query_safe('COMMIT');
$gate->query_safe('SELECT pg_advisory_unlock(1)');
like($reader->query_safe(q(SELECT 'done')), qr/as of its start: 4\b/, 'what commits during a statement is not in its figure');
is($figure->(), "5\n0", 'but in that of the next');
$_->quit for $neighbour, $writer, $reader, $gate;
$node->stop;

done_testing();
