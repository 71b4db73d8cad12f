# Shared memory has room for 1024 databases. In a database beyond them the limit holds by counting rows, and status and health say so; the
# worker leaves out the databases beyond its 1024, and says so there. mau identifies a database by its OID and the file that CREATE DATABASE
# made: the test changes the time of that file, which is cheaper than a thousand databases.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('many');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\nautovacuum = off\n");
$node->start;
my $ask = sub { return $node->safe_psql('postgres', $_[0]) };
$ask->('CREATE EXTENSION mau; UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2');
my $seats = 'SELECT mau.describe_seats()';
my $file  = $node->data_dir . '/base/' . $ask->(q(SELECT oid FROM pg_database WHERE datname = 'postgres')) . '/PG_VERSION';

like($ask->($seats), qr/^counters/, 'the first database has counters');
my $others = join '', map { "\\! touch -d \@$_ '$file'\n\\connect\n$seats \\g /dev/null\n" } 1_000_000_001 .. 1_000_001_022;
$ask->($others);
$ask->("\\! touch -d \@1000002000 '$file'\n\\connect\n$seats \\g /dev/null\n");
like($ask->($seats), qr/^counters/, 'and so has the 1024th');
utime 1_000_003_000, 1_000_003_000, $file;
like($ask->($seats), qr/^by lock and count \(more than 1024 databases have used mau since the server started\)/, 'the next one has none');
is($ask->('SELECT preloaded, worker FROM mau.status'), 't|not in mau.databases', 'status says that mau is preloaded');
unlike($ask->('SELECT seen_cache FROM mau.status'), qr/shared_preload_libraries/, 'also of the cache');
unlike($ask->('SELECT reason FROM mau.health()'), qr/shared_preload_libraries/, 'and health, too');
is($ask->(q(SELECT string_agg(mau.record_activity('@' || i || ':x'), ' ') FROM generate_series(1, 3) i)), 'joined joined full', 'the limit holds');
is($ask->(q(SELECT mau.record_activity('@1:x'), mau.monthly_active_count())), 'unchanged|2', 'and what is known is not recorded twice');
$node->stop;

# Databases without the extension take no room: here rows of the catalog without a folder, which ticks cannot connect to.
my $fake = sub {
	my ($name, $count, $first_oid) = @_;
	$ask->(qq(SET allow_system_table_mods = on;
		INSERT INTO pg_database
			SELECT (jsonb_populate_record(d, jsonb_build_object('oid', $first_oid + i, 'datname', '$name' || i))).*
			FROM pg_database d, generate_series(1, $count) i WHERE datname = 'postgres'));
};
$node = PostgreSQL::Test::Cluster->new('left_out');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nautovacuum = off\n");
$node->start;
$fake->('without', 1100, 1_000_000);
$ask->('CREATE DATABASE served');
$node->safe_psql('served', 'CREATE EXTENSION mau');
ok($node->poll_query_until('served', q(SELECT last_tick IS NOT NULL FROM mau.status)), 'a database behind 1100 without the extension is served');
is($node->safe_psql('served', 'SELECT string_agg(database, $$,$$) FROM mau.fleet()'), 'served', 'only this one has a slot');
$ask->('SET allow_system_table_mods = on; DELETE FROM pg_database WHERE oid > 1000000; DROP DATABASE served');

# More databases with the extension. Their folders are links to that of one database; each asks for a tick, which gives it a slot.
$node->append_conf('postgresql.conf', "mau.worker = off\n");
$node->reload;
$ask->('CREATE DATABASE last');
$ask->('CREATE EXTENSION mau; CHECKPOINT');
$fake->('full', 1024, 2_000_000);
my $base = $node->data_dir . '/base';
my $postgres = $ask->(q(SELECT oid FROM pg_database WHERE datname = 'postgres'));
symlink($postgres, "$base/$_") or die "no link: $!" for 2_000_001 .. 2_001_024;
$ask->(join '', map { "\\connect full$_\nSELECT mau.wake_worker() \\g /dev/null\n" } 1 .. 1024);
$node->safe_psql('last', 'CREATE EXTENSION mau');
$node->append_conf('postgresql.conf', "mau.worker = on\n");
$node->reload;
ok($node->poll_query_until('last', q(SELECT worker = 'left out' FROM mau.status)), 'status of the last says that it is left out')
    or diag($node->safe_psql('last', 'SELECT worker FROM mau.status'));
like($node->safe_psql('last', 'SELECT reason FROM mau.health()'),
    qr/more databases than the worker serves.*mau\.databases/, 'and health what to do about it');
is($node->safe_psql('last', q(SELECT health, reason FROM mau.fleet() WHERE database = 'last')), 'off|1024 other databases have mau, as many as the worker serves', 'and mau.fleet, too');
$node->stop('immediate');

done_testing();
