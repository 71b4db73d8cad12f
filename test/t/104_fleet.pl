# mau.fleet(): the state of all databases in one query, from shared memory. Figures of other databases are for roles that may see all statistics.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MauWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('fleet');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\nmau.tick_interval = 1\nmau.refresh_interval = 1\n");
$node->start;
work_on($node, 'SELECT f::text FROM mau.fleet() f');

sql('postgres', 'CREATE DATABASE one', 'CREATE DATABASE two', 'CREATE DATABASE without', 'CREATE ROLE anybody LOGIN', 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor');
sql($_, 'CREATE EXTENSION mau; GRANT USAGE ON SCHEMA mau TO anybody, monitor') for qw(one two);
my ($rc, $out, $err) = $node->psql('one', "\\set VERBOSITY verbose\nSELECT * FROM mau.fleet()");
like($err, qr/55000: .*mau is not in shared_preload_libraries.*HINT: /s, 'without preload it is an error');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\n");
$node->restart;
sql('two', q(UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2), q(SELECT mau.record_activities('{@a:x,@b:x}', ARRAY[now(), now() - interval '3 days'])));

becomes('one', q(SELECT string_agg(database, ',' ORDER BY database) = 'one,two' FROM mau.fleet() WHERE as_of IS NOT NULL), 'the databases with mau are listed, without a connection to them');
becomes('one', q(SELECT (dau, wau, mau, "limit", blocked) = (1, 2, 2, 2, true) FROM mau.fleet() WHERE database = 'two'), 'with their figures');
is(sql('one', q(SELECT health, error IS NULL, last_tick > as_of - interval '1 hour', as_of > now() - interval '1 hour' FROM mau.fleet() WHERE database = 'two')), 'ok|t|t|t', 'their health, and when it was read');
is(sql('one', q(SELECT health, "limit", blocked FROM mau.fleet() WHERE database = 'one')), 'idle||f', 'each has its own');
is(sql('one', q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'two' AND backend_type = 'client backend')), '0', 'nobody is connected to the other one');

subtest 'who may see it' => sub {
	my $ask = sub { return $node->safe_psql('one', q(SELECT database, health, mau FROM mau.fleet() ORDER BY database), extra_params => [ '-U', $_[0] ]) };
	is($ask->('anybody'), "one|idle|0\ntwo|<insufficient privilege>|", 'other databases are hidden');
	is($ask->('monitor'), "one|idle|0\ntwo|ok|2", 'but not from pg_monitor');
};

subtest 'states' => sub {
	sql('two', 'SELECT mau.pause_worker()');
	becomes('one', q(SELECT health = 'paused' AND reason LIKE 'mau.pause_worker() was called by %' FROM mau.fleet() WHERE database = 'two'), 'paused');
	sql('two', 'SELECT mau.resume_worker()');
	becomes('one', q(SELECT health = 'ok' FROM mau.fleet() WHERE database = 'two'), 'resumed');

	# A tick that hangs: it waits for a table.
	my $admin = $node->background_psql('two');
	$admin->query_safe('BEGIN; LOCK TABLE mau.settings');
	becomes('one', q(SELECT running_since IS NOT NULL AND mau = 2 FROM mau.fleet() WHERE database = 'two'), 'a tick in progress shows, with the last figures');
	becomes('one', q(SELECT health = 'failing' FROM mau.fleet() WHERE database = 'two'), 'one that fails, too');
	$admin->query_safe('COMMIT');
	$admin->quit;
	sql('two', 'SELECT mau.wake_worker()');
	becomes('one', q(SELECT health = 'ok' FROM mau.fleet() WHERE database = 'two'), 'and when it goes on');

	sql('two', 'ALTER TABLE mau.worker_pause RENAME TO gone');
	becomes('one', q(SELECT health = 'failing' AND error IS NOT NULL FROM mau.fleet() WHERE database = 'two'), 'a tick that cannot work');
	sql('two', 'ALTER TABLE mau.gone RENAME TO worker_pause');
	becomes('one', q(SELECT health = 'ok' AND error IS NULL FROM mau.fleet() WHERE database = 'two'), 'until it can');

	sql('postgres', q(ALTER SYSTEM SET mau.worker = off));
	$node->reload;
	becomes('one', q(SELECT bool_and(health = 'off' AND reason = 'mau.worker is off') FROM mau.fleet()), 'the worker is off');
	sql('postgres', q(ALTER SYSTEM SET mau.databases = 'two'), q(ALTER SYSTEM RESET mau.worker));
	$node->reload;
	becomes('one', q(SELECT health = 'off' AND reason LIKE 'mau.databases does not%' FROM mau.fleet() WHERE database = 'one'), 'a database that is not served has a row for itself');
	becomes('two', q(SELECT count(*) = 1 FROM mau.fleet()), 'and none for others');
	sql('postgres', q(ALTER SYSTEM RESET mau.databases));
	$node->reload;
	becomes('two', q(SELECT health = 'idle' FROM mau.fleet() WHERE database = 'one'), 'served again');

	sql('two', 'DROP EXTENSION mau');
	becomes('one', q(SELECT string_agg(database, ',') = 'one' FROM mau.fleet()), 'an extension that was dropped leaves no row');
	sql('two', 'CREATE EXTENSION mau');
	becomes('one', q(SELECT count(*) = 2 FROM mau.fleet()), 'it is back');
	sql('postgres', 'DROP DATABASE two');
	is(sql('one', q(SELECT string_agg(database, ',') FROM mau.fleet())), 'one', 'nor does a database');
};
$node->stop;
done_testing();
