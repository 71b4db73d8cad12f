# The cap holds (law L4) and nobody waits (law L6): many clients admit newcomers to a house with a limit, in every shape of
# transaction, in READ COMMITTED and REPEATABLE READ, while a watcher counts; also when clients die, the server crashes, an admin
# changes the table and the maximum, and the reaper is at work. test/load/cap_client.cpp does the loading.
#
#     MAU_SEED        the seed of who does what (it is printed); else one by the clock
#     MAU_SCENARIO    a pattern: only scenarios whose name with the mode, as in "plain crowd", matches

use strict;
use warnings;

use FindBin;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

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
my $node;
my $mode;
my $log_begin = 0;    # where the scenario's log begins

sub cluster
{
	my ($preload) = @_;
	$mode = $preload ? 'preload' : 'plain';
	$node = PostgreSQL::Test::Cluster->new("cap_$mode");
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "max_connections = 40\nmax_prepared_transactions = 4\nlog_statement = none\n");
	$node->append_conf('postgresql.conf', "restart_after_crash = on\n");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n") if $preload;
	$node->start;
	return;
}

# A new database with a house that takes so many.
sub house
{
	my ($max) = @_;
	my $database = 'house' . ++$number;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql(
		$database, qq{
		CREATE EXTENSION mau;
		UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = $max;
		CREATE SCHEMA load;
		-- Admissions in exception blocks of which some fail afterwards.
		CREATE FUNCTION load.in_blocks(users text[], fail boolean[]) RETURNS text[] LANGUAGE plpgsql AS \$\$
		DECLARE answers text[] := '{}'; answer text;
		BEGIN
			FOR i IN 1 .. cardinality(users) LOOP
				BEGIN
					answer := mau.record_activity(users[i]);
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

# Lets the clients loose; what came of it.
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

# What must be true of every run.
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

# A reap finds the counters right: nothing in the log about rows off the table.
sub counters_right
{
	my ($name, $database) = @_;
	$node->safe_psql($database, 'SELECT * FROM mau.reap()');
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile, $log_begin);
	unlike($log, qr/rows off/, "$mode, $name: the counters were right");
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

# --- The scenarios ----------------------------------------------------------------------------------------------

# 20 % rollbacks, savepoints, exception blocks, batches, the reaper; and somebody who sits in an open transaction.
sub crowd
{
	my ($isolation, $clients, $users, $max) = @_;
	scenario "crowd, $isolation" => sub {
		my ($name) = @_;
		my $database = house($max);
		my $result = load(
			$database,     '--isolation', $isolation, '--clients', $clients, '--users', $users, '--hold',
			'--sql-every', 700,           'SELECT * FROM mau.reap()');
		held($name, $result, $max);
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		counters_right($name, $database);
	};
	return;
}

# All clients record the same user at the same time, one user after the other.
sub same_user
{
	my ($users) = @_;
	scenario 'same user' => sub {
		my ($name) = @_;
		my $database = house($users);
		my $result = load($database, '--isolation', 'repeatable read', '--users', $users, '--shape', 'same', '--rollback', 5);
		held($name, $result, $users);
		is(
			$node->safe_psql(
				$database, "SELECT max(n) FROM (SELECT count(*) n FROM mau.monthly_active_users GROUP BY user_id) x"),
			1,
			"$mode, $name: one row");
		counters_right($name, $database);
	};
	return;
}

# Rows that have expired, or do so while clients are at work; their owners come back and compete with newcomers.
sub expiry
{
	my ($users, $max) = @_;
	scenario 'expiry' => sub {
		my ($name) = @_;
		my $database = house($max);
		$node->safe_psql(
			$database, qq{
			INSERT INTO mau.monthly_active_users
			SELECT '\@old' || i, floor(extract(epoch FROM now()) * 1000) - 30 * 86400000::bigint
			       + CASE WHEN i % 2 = 0 THEN -1000 * i ELSE 10 * i END
			FROM generate_series(0, $max - 1) i});
		my $result = load(
			$database, '--users', $users, '--also', "\@old:$max", '--isolation', 'repeatable read', '--clients', 8,
			'--max', $max, '--sql-every', 211, 'SELECT * FROM mau.reap()');
		held($name, $result, $max);
		# The last rows to expire free their seats now.
		$node->safe_psql($database, q{SELECT pg_sleep(greatest(0, (max("timestamp") + 30 * 86400000::bigint
			- extract(epoch FROM clock_timestamp()) * 1000) / 1000.0)) FROM mau.monthly_active_users
			WHERE user_id LIKE '@old%' AND "timestamp" < extract(epoch FROM now()) * 1000 - 86400000});
		$result = load($database, '--users', $max, '--prefix', '@late', '--clients', 4);
		held("$name, the last", $result, $max);
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		counters_right($name, $database);
	};
	return;
}

# Clients are terminated, or killed (the server starts all over), or the server is restarted at once.
sub loss
{
	my ($name, $users, $max, @how) = @_;
	scenario $name => sub {
		my $database = house($max);
		my $result =
		  load($database, '--losses', '--users', $users, '--clients', 8, '--isolation', 'repeatable read', @how);
		held($name, $result, $max);
		cmp_ok($result->{disconnects}, '>', 0, "$mode, $name: clients were cut off");
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		counters_right($name, $database);
	};
	return;
}

# An admin's own statements on the table, while clients are at work.
sub admin
{
	my ($users, $max) = @_;
	scenario 'admin' => sub {
		my ($name)   = @_;
		my $database = house($max);
		my $time     = 'floor(extract(epoch FROM now()) * 1000)';
		my $result   = load(
			$database, '--rows-go', '--users', $users, '--clients', 8,
			'--sql-every', 97, q{DELETE FROM mau.monthly_active_users WHERE user_id IN
				(SELECT user_id FROM mau.monthly_active_users ORDER BY random() LIMIT 20)},
			'--sql-every', 331, qq{INSERT INTO mau.monthly_active_users SELECT '\@admin' || i, $time
				FROM generate_series(1, 20) i ON CONFLICT DO NOTHING},
			'--sql-every', 401, q{BEGIN; SAVEPOINT s; DELETE FROM mau.monthly_active_users; ROLLBACK TO s; COMMIT},
			'--sql-every', 503, q{SELECT * FROM mau.reap()},
			'--sql-at', $users / 3, q{TRUNCATE mau.monthly_active_users});
		held($name, $result, $max + 20);    # an admin's rows come in whether or not there is room
		$node->safe_psql($database, q{DELETE FROM mau.monthly_active_users WHERE user_id LIKE '@admin%'});
		$result = load($database, '--users', 2 * $max, '--prefix', '@late', '--clients', 4);
		held("$name, the last", $result, $max + 20);
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		counters_right($name, $database);
	};
	return;
}

# An admin's statements that commit while somebody takes the counters from a table that is not small: what is counted
# then does not stand.
sub recount
{
	my ($users, $rows) = @_;
	scenario 'recount' => sub {
		my ($name)   = @_;
		my $database = house(10 * $rows);
		my $time     = 'floor(extract(epoch FROM now()) * 1000)';
		$node->safe_psql($database, qq{INSERT INTO mau.monthly_active_users SELECT '\@big' || i, $time FROM generate_series(1, $rows) i});
		my $result = load(
			$database, '--users', $users, '--clients', 2, '--shape', 'plain', '--rows-go',
			'--sql-every', 100, qq{DO \$\$ BEGIN FOR i IN 1 .. 50 LOOP
				INSERT INTO mau.monthly_active_users VALUES ('\@admin' || random(), $time); COMMIT; END LOOP; END \$\$});
		held($name, $result, 10 * $rows);
		counters_right($name, $database);
	};
	return;
}

# The maximum goes up and down while clients are at work.
sub maximum
{
	my ($users, $max) = @_;
	scenario 'maximum' => sub {
		my ($name) = @_;
		my $database = house($max / 2);
		my @set = map { "UPDATE mau.settings SET max_mau_value = $_" } $max, $max / 4, $max;
		my $result = load(
			$database, '--users', $users, '--clients', 8, '--rows-go',
			'--sql-at', $users / 5,     $set[0],
			'--sql-at', 2 * $users / 5, $set[1],
			'--sql-at', 2 * $users / 5 + 200, 'SELECT * FROM mau.reap()',
			'--sql-at', 3 * $users / 5, $set[2]);
		held($name, $result, $max);
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		$node->safe_psql($database, $set[1]);
		$node->safe_psql($database, 'SELECT * FROM mau.reap()');
		is(members($database), $max / 4, "$mode, $name: the reaper brings it down to the lower maximum");
		$result = load($database, '--users', 200, '--prefix', '@late', '--clients', 4);
		held("$name, full", $result, $max / 4);
		counters_right($name, $database);
	};
	return;
}

# A prepared transaction would hold a seat beyond the end of its session: refused, and nothing is left of it.
sub prepared
{
	scenario 'prepared' => sub {
		my ($name) = @_;
		my $database = house(1);
		my ($status, $out, $err) =
		  $node->psql($database, q{BEGIN; SELECT mau.record_activity('@a'); PREPARE TRANSACTION 'it'});
		isnt($status, 0, "$mode, $name: refused");
		like($err, qr/cannot PREPARE a transaction that has written monthly active users/, "$mode, $name: and says why");
		is($node->safe_psql($database, q{SELECT mau.record_activity('@b')}), 'joined', "$mode, $name: its seat is free again");
		is(
			$node->safe_psql(
				$database, q{BEGIN; SELECT mau.check_auth_blocking('@b') IS NULL; PREPARE TRANSACTION 'that'; COMMIT PREPARED 'that'}),
			't',
			"$mode, $name: one that has only asked is not");

		# What the cache of recently seen users has to forget it is told at COMMIT, not at COMMIT PREPARED.
		for my $change ('UPDATE mau.settings SET hs_disabled = true', q{SELECT mau.register_user('@b', user_type => 'support')},
			q{UPDATE mau.users SET is_guest = true}, q{SELECT mau.forget_user('@nobody')})
		{
			($status, $out, $err) = $node->psql($database, "BEGIN; $change; PREPARE TRANSACTION 'change'");
			isnt($status, 0, "$mode, $name: refused after $change");
			like($err, qr/cannot PREPARE a transaction that has changed mau's settings or users/, "$mode, $name: … says why");
		}
	};
	return;
}

# Rows that go while triggers are disabled free their seats at once, not at the next reap.
sub damage
{
	scenario 'damage' => sub {
		my ($name) = @_;
		my $database = house(10);
		my $result = load($database, '--users', 30, '--clients', 2);
		held($name, $result, 10);
		$node->safe_psql(
			$database, q{ALTER TABLE mau.monthly_active_users DISABLE TRIGGER changed;
			DELETE FROM mau.monthly_active_users WHERE user_id IN (SELECT user_id FROM mau.monthly_active_users LIMIT 4);
			ALTER TABLE mau.monthly_active_users ENABLE ALWAYS TRIGGER changed});
		$result = load($database, '--users', 30, '--clients', 2, '--prefix', '@late', '--rollback', 0);
		held("$name, mended", $result, 10);
		is(members($database), 10, "$mode, $name: exactly 10 in the end");
		counters_right($name, $database);
	};
	return;
}

cluster(1);
crowd('read committed',  16, 10_000, 5_000);
crowd('repeatable read', 16, 10_000, 5_000);
same_user(100);
expiry(2_500, 800);
loss('termination', 5_000, 2_000, '--terminate-every', 20);
loss('kill -9', 6_000, 2_400, '--kill-every', 300);
loss('immediate restart', 3_000, 1_200,
	map { ('--sh-at', $_, "pg_ctl -s -w -D '" . $node->data_dir . "' -l '" . $node->logfile . "' -m immediate restart >/dev/null") } 500, 1_500);
admin(3_000, 1_000);
recount(350, 40_000);
maximum(4_000, 1_200);
prepared();
damage();
$node->stop;

cluster(0);
crowd('read committed',  8, 1_200, 500);
crowd('repeatable read', 8, 1_200, 500);
same_user(20);
expiry(600, 200);
loss('termination', 1_000, 400, '--terminate-every', 40);
admin(800, 250);
maximum(1_200, 320);
$node->stop;

done_testing();
