# Nothing is lost, nobody gets an error and the limit holds (R4, R6) while everything happens at once. Many clients record and admit the same
# users in every shape of transaction, some through a trigger on the homeserver's table, and report accounts. Beside them an administrator
# changes settings, puts triggers on mau's and the homeserver's tables, rebuilds, drops and creates indexes, alters the sequence, adds
# columns, and drops and creates the extension in another database; the worker runs; backends are killed, and the server is restarted at
# once. In the end the history is compared with what the clients know to be committed.
#
#     MAU_STRESS      how many times as many users as in a run of the suite
#
# MAU_SEED and MAU_SCENARIO: see test/perl/MauLoad.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauHistory;
use MauLoad;
use MauSource ();
use PostgreSQL::Test::Utils;
use Test::More;

my $times = $ENV{MAU_STRESS} || 1;

# An index that was being built when the server went down is left behind, invalid.
my $drop_invalid = q{DO $$ DECLARE i regclass; BEGIN FOR i IN SELECT x.indexrelid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid}
  . q{ WHERE NOT x.indisvalid AND c.relname ~ '_cc(new|old)|^users_user_id' LOOP EXECUTE 'DROP INDEX ' || i; END LOOP; END $$};

sub trigger_on
{
	my ($table) = @_;
	return (
		"CREATE OR REPLACE TRIGGER bystander BEFORE INSERT OR UPDATE ON $table FOR EACH ROW EXECUTE FUNCTION load.bystander()",
		"SELECT pg_sleep(0.02)", "DROP TRIGGER IF EXISTS bystander ON $table");
}

# The administrator's statements, each list in a session of its own.
my @on_our_tables = (
	'REINDEX INDEX mau.users_user_id', 'REINDEX TABLE mau.monthly_active_users', trigger_on('mau.monthly_active_users'),
	'REINDEX INDEX CONCURRENTLY mau.users_user_id', 'REINDEX TABLE CONCURRENTLY mau.monthly_active_users', $drop_invalid,
	trigger_on('mau.users'),
	'DROP INDEX IF EXISTS mau.users_user_id', 'CREATE UNIQUE INDEX IF NOT EXISTS users_user_id ON mau.users (user_id)',
	'BEGIN; DROP INDEX IF EXISTS mau.users_registered_at;'
	  . ' CREATE INDEX users_registered_at ON mau.users (registered_at) INCLUDE (user_no) WHERE is_registered; COMMIT',
	'DROP INDEX CONCURRENTLY IF EXISTS mau.users_user_id', 'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS users_user_id ON mau.users (user_id)',
	$drop_invalid, 'CREATE UNIQUE INDEX IF NOT EXISTS users_user_id ON mau.users (user_id)',
	trigger_on('mau.visits'),
	'ALTER SEQUENCE mau.users_user_no_seq CACHE 5', 'ALTER SEQUENCE mau.users_user_no_seq CACHE 1',
	'BEGIN; LOCK TABLE mau.users, mau.visits; ROLLBACK', 'VACUUM mau.users, mau.monthly_active_users');
my @on_their_tables = (
	'ALTER TABLE user_ips ADD COLUMN IF NOT EXISTS note text', q{ALTER TABLE users ADD COLUMN IF NOT EXISTS note text DEFAULT 'none'},
	trigger_on('user_ips'), 'REINDEX TABLE user_ips',
	'DROP INDEX IF EXISTS user_ips_last_seen_only', 'CREATE INDEX IF NOT EXISTS user_ips_last_seen_only ON user_ips (last_seen)',
	'ALTER TABLE user_ips DROP COLUMN IF EXISTS note', 'ALTER TABLE users DROP COLUMN IF EXISTS note');
my @on_settings = (
	q{UPDATE mau.settings SET admin_contact = 'mailto:admin@example.com', last_seen_granularity = '10 min'},
	q{INSERT INTO mau.reserved_threepids VALUES ('email', 'boss@example.com') ON CONFLICT DO NOTHING},
	q{INSERT INTO mau.appservices (id, exclusive_user_regexes) VALUES ('irc', '{@irc_.*}') ON CONFLICT DO NOTHING},
	q{DO $$ BEGIN UPDATE mau.settings SET max_mau_value = 1000000; RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$},
	'UPDATE mau.settings SET track_appservice_user_ips = NOT track_appservice_user_ips',
	'DELETE FROM mau.reserved_threepids', 'DELETE FROM mau.appservices',
	q{UPDATE mau.settings SET admin_contact = NULL, last_seen_granularity = '1 hour'});
my @elsewhere = ('DROP EXTENSION IF EXISTS mau', 'CREATE EXTENSION IF NOT EXISTS mau', q{SELECT mau.record_activity('@a:x')});

sub beside
{
	my ($database, @statements) = @_;
	return ('--beside', $database, join "\n", @statements);
}

# Carries out what was deferred.
sub fold
{
	my ($database) = @_;
	for (1 .. 100)
	{
		$node->safe_psql($database, 'SELECT * FROM mau.fold()');
		last if $node->safe_psql($database, 'SELECT count(*) FROM mau.deferred_calls') == 0;
	}
	return;
}

# The visits that the clients have kept against those of the history, read without mau.
sub visits_kept
{
	my ($name, $database, $file) = @_;
	$node->safe_psql($database, $VISITS_SQL . qq{
		CREATE TABLE load.acknowledged (user_id text COLLATE "C", day int, platform int);
		CREATE TABLE load.possible (LIKE load.acknowledged);
		COPY load.acknowledged FROM '$file';
		COPY load.possible FROM '$file.possible';
		CREATE TABLE load.kept AS SELECT u.user_id, v.day - '1970-01-01'::date AS day, v.platform FROM visits_now() v JOIN mau.users u USING (user_no)});
	my $lost = q{SELECT * FROM load.acknowledged EXCEPT SELECT * FROM load.kept};
	my $made = q{SELECT * FROM load.kept EXCEPT SELECT * FROM load.acknowledged EXCEPT SELECT * FROM load.possible};
	is($node->safe_psql($database, "SELECT count(*) FROM ($lost) x"), 0, "$mode, $name: no acknowledged visit is lost")
	  or diag $node->safe_psql($database, "$lost LIMIT 10");
	is($node->safe_psql($database, "SELECT count(*) FROM ($made) x"), 0, "$mode, $name: no visit that nobody reported")
	  or diag $node->safe_psql($database, "$made LIMIT 10");
	return;
}

# Everything at once.
sub everything
{
	my ($users, $max) = @_;
	scenario 'everything' => sub {
		my ($name) = @_;
		my $database = limited_database($max / 2);
		$node->safe_psql('postgres', "CREATE DATABASE elsewhere_$mode");
		$node->safe_psql(
			$database, MauSource::layout('public') . qq{
			INSERT INTO users (name, creation_ts) SELECT '\@new' || i, 1700000000 FROM generate_series(0, 49) i;
			CREATE FUNCTION load.bystander() RETURNS trigger LANGUAGE plpgsql AS
				\$\$ BEGIN PERFORM mau.check_auth_blocking('\@bystander:x'); RETURN NEW; END \$\$;
			CREATE FUNCTION load.record() RETURNS trigger LANGUAGE plpgsql AS
				\$\$ BEGIN PERFORM mau.record_activity(NEW.user_id, to_timestamp(NEW.last_seen / 1000.0), NEW.user_agent); RETURN NEW; END \$\$;
			-- A task fails while an index is dropped, and is run again.
			CREATE FUNCTION load.run(task text) RETURNS void LANGUAGE plpgsql AS
				\$\$ BEGIN EXECUTE format('SELECT * FROM mau.%I()', task);
				EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_column_reference OR lock_not_available THEN NULL; END \$\$;
			CREATE TRIGGER record AFTER INSERT ON user_ips FOR EACH ROW EXECUTE FUNCTION load.record();
			SELECT mau.attach('synapse')});
		my $file   = $node->basedir . "/visits_$mode";
		my $work   = $users / 2;                         # transactions, about
		my $result = load(
			$database, '--losses', '--isolation', 'both', '--users', $users, '--clients', 8, '--again', 40, '--days', 9, '--homeserver', '--visits-to', $file,
			'--max', 'setting', '--lock-timeout', '120s', '--beside-every', 50,
			'--sql-at', int($users / 3),     'UPDATE mau.settings SET max_mau_value = ' . 3 * $max / 4,
			'--sql-at', int($users * 2 / 3), "UPDATE mau.settings SET max_mau_value = $max",
			beside('', map { "SELECT load.run('$_')" } qw(sync fold reap)), beside('', @on_our_tables), beside('', @on_their_tables), beside('', @on_settings), beside("elsewhere_$mode", @elsewhere),
			'--kill-every', int($work / 6 / $times), '--sh-at', int($users / 4), restart_at_once(), '--sh-at', int($users / 2), restart_at_once());
		held($name, $result, $max);
		is($result->{over},     0, "$mode, $name: never more than the maximum of that instant");
		is($result->{warnings}, 0, "$mode, $name: every call could be kept");
		cmp_ok($result->{visits},      '>', 0, "$mode, $name: visits were acknowledged");
		cmp_ok($result->{disconnects}, '>', 0, "$mode, $name: clients were cut off");
		cmp_ok($result->{beside},      '>', @on_our_tables + @on_their_tables + @on_settings + @elsewhere, "$mode, $name: the administrator was at work");
		fold($database);
		is($node->safe_psql($database, 'SELECT count(*) FROM mau.deferred_calls'), 0, "$mode, $name: no call is left over");
		is(members($database), $max, "$mode, $name: exactly $max in the end");
		visits_kept($name, $database, $file);
		counters_right($name, $database);
	};
	return;
}

# The extension is dropped and created while clients are at work: they find that it is not there, and nobody is in a deadlock.
sub drops
{
	my ($users, $max) = @_;
	scenario 'drops' => sub {
		my ($name) = @_;
		my $database = limited_database($max);
		my $result = load(
			$database, '--extension-goes', '--rows-go', '--isolation', 'both', '--users', $users, '--clients', 8, '--max', $max, '--days', 9,
			'--beside-every', 30,
			beside('', 'DROP EXTENSION mau', "CREATE EXTENSION mau; UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = $max"));
		held($name, $result, $max);
		cmp_ok($result->{beside}, '>=', 10, "$mode, $name: it was dropped $result->{beside} / 2 times; $result->{gone} calls did not find it");
	};
	return;
}

cluster('stress', 1, "mau.databases = 'limited1, limited2, elsewhere_preload'\nmau.tick_interval = 1\nmau.refresh_interval = 2\nmau.fold_interval = 1\nmau.reap_interval = 2\n");
everything(8_000 * $times, 3_200 * $times);
drops(4_000 * $times, 1_000 * $times);
$node->stop;

cluster('stress', 0);
everything(2_000 * $times, 800 * $times);
drops(2_000 * $times, 600 * $times);
$node->stop;

done_testing();
