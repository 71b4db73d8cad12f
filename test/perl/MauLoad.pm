package MauLoad;

# Servers with a limit, and clients that admit newcomers to them during failures (test/load/cap_client.cpp), for the tests of the limit.
#
#     MAU_SEED        the seed of who does what (it is printed); else one by the clock
#     MAU_SCENARIO    a pattern: only scenarios whose name with the mode, as in "plain crowd", matches

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw($node $mode cluster limited_database members load held counters_right scenario restart_at_once);

my $seed = $ENV{MAU_SEED} || 1 + time % 1_000_000;
note "MAU_SEED=$seed";
my $which = $ENV{MAU_SCENARIO} // '.';

my $root   = "$FindBin::RealBin/../..";
my $client = "$root/build/test/cap_client";
{
	local %ENV = %ENV;
	delete @ENV{qw(MAKEFLAGS MAKELEVEL)};
	my $made = `make -s -C "$root" PG_CONFIG="$ENV{PG_CONFIG}" test-clients 2>&1`;
	BAIL_OUT("the client does not build: $made") if $? || !-x $client;
}

my $number = 0;
our $node;
our $mode;
my $log_begin = 0;    # where the scenario's log begins

sub cluster
{
	my ($name, $preload, $conf) = @_;
	$mode = $preload ? 'preload' : 'plain';
	$node = PostgreSQL::Test::Cluster->new("${name}_$mode");
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "max_connections = 40\nmax_prepared_transactions = 4\nlog_statement = none\n");
	$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n") if $preload;
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->start;
	return;
}

# A new database of a server that takes so many members.
sub limited_database
{
	my ($max) = @_;
	my $database = 'limited' . ++$number;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql(
		$database, qq{
		CREATE EXTENSION mau;
		UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = $max;
		CREATE SCHEMA load;
		-- Admissions in exception blocks of which some fail afterwards.
		CREATE FUNCTION load.in_blocks(users text[], fail boolean[], at bigint[] DEFAULT '{}') RETURNS text[] LANGUAGE plpgsql AS \$\$
		DECLARE answers text[] := '{}'; answer text;
		BEGIN
			FOR i IN 1 .. cardinality(users) LOOP
				BEGIN
					answer := mau.record_activity(users[i], coalesce(to_timestamp(at[i] / 1000.0), now()));
					IF fail[i] THEN RAISE EXCEPTION 'no'; END IF;
				EXCEPTION WHEN raise_exception THEN answer := 'undone';
				END;
				answers := answers || answer;
			END LOOP;
			RETURN answers;
		END \$\$;});
	return $database;
}

# The native members at this instant.
sub members
{
	my ($database) = @_;
	return $node->safe_psql(
		$database, q{SELECT count(*) FROM mau.monthly_active_users WHERE service = 'native'
		AND "timestamp" >= floor(extract(epoch FROM clock_timestamp()) * 1000) - 30 * 86400000::bigint});
}

# Runs the clients; returns the results.
sub load
{
	my ($database, @options) = @_;
	my ($out, $err) = ('', '');
	my @command = ($client, '--conninfo', $node->connstr($database), '--seed', $seed + $number, @options);
	IPC::Run::run(\@command, '<', \undef, '>', \$out, '2>', \$err) or diag('cap_client failed');
	my %result = map { /^(\S+) (.*)$/ ? ($1 => $2) : () } split /\n/, $out;
	diag $err if $err;
	note "$mode $database: " . join ', ', map { "$_ $result{$_}" } grep { $_ ne 'first_error' } sort keys %result;
	return \%result;
}

# The properties of every run.
sub held
{
	my ($name, $result, $max) = @_;
	is($result->{errors}, 0, "$mode, $name: no client had an error") or diag $result->{first_error};
	cmp_ok($result->{most}, '<=', $max, "$mode, $name: never more than $max in $result->{samples} looks");
	is($result->{waits},        0, "$mode, $name: no client was seen waiting for another's transaction");
	is($result->{unexplained},  0, "$mode, $name: no row that nobody admitted");
	is($result->{missing},      0, "$mode, $name: a row for everybody who was admitted");
	is($result->{admin_errors}, 0, "$mode, $name: nothing else went wrong") or diag $result->{first_error};
	return;
}

# A reap finds the counters right: nothing in the log about corrected counters.
sub counters_right
{
	my ($name, $database) = @_;
	$node->safe_psql($database, 'SELECT * FROM mau.reap()');
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $log_begin);
	unlike($log, qr/corrected its counters/, "$mode, $name: the counters were right");
	my ($count, $table) = split /\|/, $node->safe_psql(
		$database, q{SELECT mau.monthly_active_count(), count(*) FROM mau.monthly_active_users WHERE service = 'native'});
	is($count, $table, "$mode, $name: and the count is the table's");
	return;
}

sub scenario
{
	my ($name, $code) = @_;
	return if "$mode $name" !~ /$which/;
	my $start = time;
	$log_begin = -s $node->logfile;
	$code->($name);
	note "$mode, $name: " . (time - $start) . ' s';
	return;
}

# The command that restarts the server without a checkpoint.
sub restart_at_once
{
	return "pg_ctl -s -w -D '" . $node->data_dir . "' -l '" . $node->logfile . "' -m immediate restart >/dev/null";
}

1;
