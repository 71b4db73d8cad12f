# The limit holds (rule R4) and no call waits (rule R6): many clients admit newcomers to a server with a limit, in every shape of
# transaction, in READ COMMITTED and REPEATABLE READ, while a watcher counts; also when clients die, the server crashes, an admin
# changes the table and the maximum, and reap runs. test/load/cap_client.cpp does the loading.
# MAU_SEED and MAU_SCENARIO: see test/perl/MauLoad.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauLoad;
use PostgreSQL::Test::Utils;
use Test::More;

# --- The scenarios ----------------------------------------------------------------------------------------------

# 20 % rollbacks, savepoints, exception blocks, batches, reap; and a session that stays in an open transaction.
sub crowd
{
	my ($isolation, $clients, $users, $max) = @_;
	scenario "crowd, $isolation" => sub {
		my ($name) = @_;
		my $database = limited_database($max);
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
		my $database = limited_database($users);
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
		my $database = limited_database($max);
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
		my $database = limited_database($max);
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
		my $database = limited_database($max);
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
		my $database = limited_database(10 * $rows);
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
		my $database = limited_database($max / 2);
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
		is(members($database), $max / 4, "$mode, $name: reap brings it down to the lower maximum");
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
		my $database = limited_database(1);
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

		# The cache of recently seen users is invalidated at COMMIT, not at COMMIT PREPARED.
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
		my $database = limited_database(10);
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

cluster('cap', 1);
crowd('read committed',  16, 10_000, 5_000);
crowd('repeatable read', 16, 10_000, 5_000);
same_user(100);
expiry(2_500, 800);
loss('termination', 5_000, 2_000, '--terminate-every', 20);
loss('kill -9', 6_000, 2_400, '--kill-every', 300);
loss('immediate restart', 3_000, 1_200,
	map { ('--sh-at', $_, restart_at_once()) } 400, 1_000);
admin(3_000, 1_000);
recount(350, 40_000);
maximum(4_000, 1_200);
prepared();
damage();
$node->stop;

cluster('cap', 0);
crowd('read committed',  8, 1_200, 500);
crowd('repeatable read', 8, 1_200, 500);
same_user(20);
expiry(600, 200);
loss('termination', 1_000, 400, '--terminate-every', 40);
admin(800, 250);
maximum(1_600, 320);
$node->stop;

done_testing();
