# Citus with two workers: mau is installed on all of its nodes; tables of mau that Citus distributes, or stores in columns, are refused;
# a homeserver's tables that it distributes are read completely; the warehouse gives the homeservers' figures.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub server
{
	my ($name, $libraries) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', <<"CONF");
listen_addresses = '127.0.0.1'
shared_preload_libraries = '$libraries'
max_prepared_transactions = 20
wal_level = logical
CONF
	$node->append_conf('postgresql.conf', "mau.databases = ''") if $libraries =~ /mau/;
	$node->start;
	return $node;
}

my $probe = server('probe', '');
if ($probe->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'citus'") == 0)
{
	plan skip_all => 'Citus is not installed';
}
$probe->stop;

my $AT = q{timestamptz '2026-11-21 12:00:00Z'};
my %node = map { $_ => server($_, 'citus,mau') } qw(coordinator first second);
$_->safe_psql('postgres', 'CREATE EXTENSION citus') for values %node;
my $coordinator = $node{coordinator};

sub sql { return $coordinator->safe_psql('postgres', $_[0]) }

# The error of statements, with its hint; '' where there is none.
sub fails
{
	my ($sql, $node) = @_;
	my ($status, undef, $err) = ($node // $coordinator)->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $status == 0 ? '' : $err;
}

# What the hint says: dumps mau, drops it on all nodes, and loads the dump.
sub restore
{
	my ($node) = @_;
	my $dump = $node->basedir . '/mau.sql';
	command_ok([ 'pg_dump', '--extension=mau', "--file=$dump", $node->connstr('postgres') ], 'mau is dumped');
	$node->safe_psql('postgres', 'SET client_min_messages = error; DROP SCHEMA mau CASCADE');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $dump, '-d', $node->connstr('postgres') ], 'and loaded');
	return;
}

note(sql('SELECT citus_version()'));
sql("SELECT citus_set_coordinator_host('127.0.0.1', " . $coordinator->port . ')');
sql("SELECT citus_add_node('127.0.0.1', " . $_->port . ')') for @node{qw(first second)};

subtest 'the extension is created on all nodes' => sub {
	is(fails('CREATE EXTENSION mau'), '', 'created');
	is($_->safe_psql('postgres', 'SELECT count(*) FROM mau.settings'), '1', $_->name . ' has its settings') for values %node;
	like(fails('BEGIN; UPDATE mau.settings SET hs_disabled = true; PREPARE TRANSACTION \'p\''),
		qr/cannot PREPARE a transaction that has changed mau's settings/, 'a later change cannot be prepared');
};

subtest 'tables of mau' => sub {
	sql("SELECT mau.record_activity('\@u1:x', $AT), mau.record_activity('\@u2:x', $AT); SELECT mau.fold($AT)");
	my $figure = "SELECT mau.days_active($AT)";
	my $days   = sql($figure);
	like($days, qr/2/, 'two users');
	my $session = $coordinator->background_psql('postgres', on_error_stop => 0);
	is($session->query_safe($figure), $days, 'a session has read the table');
	for ([ active_days => "create_distributed_table('mau.active_days', 'chunk')", $figure ],
		[ active_days => "create_reference_table('mau.active_days')", $figure ],
		[ visits => "create_distributed_table('mau.visits', 'user_no')", "SELECT mau.fold($AT)" ])
	{
		my ($table, $call, $reader) = @$_;
		sql("SET client_min_messages = error; SELECT $call");
		my $error = qr/55000: mau's table mau\.$table is not an ordinary local table.*HINT:[^\n]*pg_dump --extension=mau/s;
		like(fails($reader), $error, "$call: what reads the table raises");
		like(sql('SELECT health, reason FROM mau.health()'), qr/^failing\|mau\.$table .*pg_dump --extension=mau/, "$call: health says so");
		is(sql('SELECT health FROM mau.status'), 'failing', "$call: and so does mau.status");
		if ($reader eq $figure)
		{
			$session->query($figure);
			like($session->{stderr}, qr/is not an ordinary local table/, "$call: the session knows it");
			$session->{stderr} = '';
		}
		is(sql("SELECT mau.record_activity('\@u2:x', $AT)") =~ /^\w+$/, 1, "$call: a call that does not need the table works")
		  if $table eq 'active_days';
		restore($coordinator);
		is(fails($reader), '', "$call: restored from a dump, it is read again");
		is(sql($figure), $days, "$call: with the same figure");
		is(sql('SELECT count(*) FROM mau.unsupported_tables()'), '0', "$call: and health has nothing against it");
	}
	is($session->query_safe($figure), $days, 'the session reads the table again');
	$session->quit;
};

subtest 'tables of mau in columns' => sub {
	my $plain = server('plain', 'citus');
	for my $on ($coordinator, $plain)
	{
		$on->safe_psql('postgres', 'CREATE EXTENSION citus; CREATE EXTENSION mau') if $on == $plain;
		$on->safe_psql('postgres', <<'SQL');
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10;
CREATE EXTENSION IF NOT EXISTS citus_columnar;
SELECT mau.record_activity('@c:x');
ALTER TABLE mau.monthly_active_users DISABLE TRIGGER ALL;
ALTER TABLE mau.monthly_active_users SET ACCESS METHOD columnar;
SQL
		for my $call ("mau.admit('\@new:x')", "mau.record_activity('\@new:x')", 'mau.reap()')
		{
			like(fails("SELECT $call", $on), qr/55000: mau's table mau\.monthly_active_users is not an ordinary local table.*pg_dump --extension=mau/s,
				$on->name . ": $call");
		}
		like($on->safe_psql('postgres', 'SELECT health, reason FROM mau.health()'),
			qr/^failing\|mau\.monthly_active_users has the access method columnar/, $on->name . ': health says so');
		restore($on);
		is($on->safe_psql('postgres', q{SELECT (SELECT count(*) FROM mau.unsupported_tables()), relname, reltoastrelid > 0 FROM pg_class
			WHERE oid = 'mau.monthly_active_users'::regclass}), '0|monthly_active_users|t', $on->name . ': restored from a dump');
		is($on->safe_psql('postgres', q{SELECT count(*) FROM pg_trigger WHERE tgenabled = 'D'}), '0', $on->name . ': with its triggers');
	}
	$plain->stop;
	sql('UPDATE mau.settings SET limit_usage_by_mau = false; TRUNCATE mau.monthly_active_users');
};

my $AT_S = 1795262400;    # $AT in seconds

# Accounts, a guest and a sighting that are new in a schema, and one account that is deactivated there.
sub new_rows
{
	my ($schema, $number) = @_;
	sql(<<"SQL");
INSERT INTO $schema.users (name, creation_ts) SELECT format('\@$schema-$number-%s:x', i), $AT_S - 90 * 86400 FROM generate_series(1, 3) i;
INSERT INTO $schema.users (name, creation_ts, is_guest) VALUES ('\@$schema-$number-guest:x', $AT_S, 1);
INSERT INTO $schema.user_threepids VALUES ('\@$schema-$number-1:x', 'email', '$schema-$number\@x', 0, 0);
INSERT INTO $schema.user_ips VALUES ('\@$schema-$number-1:x', 't', 'd', '::1', 'Element', $AT_S * 1000::bigint - 10);
UPDATE $schema.users SET deactivated = 1 WHERE name = '\@$schema-$number-2:x';
UPDATE $schema.users SET deactivated = 1 WHERE name = '\@$schema-@{[$number - 1]}-3:x';
SQL
	return;
}

# The numbers of accounts, guests, deactivated accounts, threepids and members that mau has of a schema.
sub known
{
	my ($schema) = @_;
	return sql(<<"SQL");
SELECT (SELECT format('%s %s %s', count(*), count(*) FILTER (WHERE is_guest), count(*) FILTER (WHERE is_deactivated))
          FROM mau.users WHERE user_id LIKE '\@$schema-%'),
       (SELECT count(*) FROM mau.user_threepids WHERE user_id LIKE '\@$schema-%'),
       (SELECT count(*) FROM mau.monthly_active_users WHERE user_id LIKE '\@$schema-%')
SQL
}

sub distribute
{
	my ($schema) = @_;
	return sql(<<"SQL");
SET client_min_messages = error;
SELECT create_distributed_table('$schema.users', 'name');
SELECT create_distributed_table('$schema.user_ips', 'user_id');
SELECT create_reference_table('$schema.user_threepids');
SQL
}

subtest 'tables of a homeserver' => sub {
	# sync reads as the tables' owner, who must be able to log in at the workers.
	sql('CREATE ROLE homeserver LOGIN');
	for my $schema (qw(before after))
	{
		sql(<<"SQL");
CREATE SCHEMA $schema AUTHORIZATION homeserver;
SET ROLE homeserver;
CREATE TABLE $schema.users (name text UNIQUE, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text,
    deactivated smallint NOT NULL DEFAULT 0);
CREATE TABLE $schema.user_ips (user_id text NOT NULL, access_token text NOT NULL, device_id text, ip text NOT NULL, user_agent text NOT NULL,
    last_seen bigint NOT NULL);
CREATE INDEX ON $schema.user_ips (last_seen);
CREATE TABLE $schema.user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL, validated_at bigint, added_at bigint,
    UNIQUE (medium, address));
SQL
		new_rows($schema, 1);
		distribute($schema) if $schema eq 'before';
		sql("SELECT mau.attach('synapse', '$schema', $AT)");
		is(known($schema), '4 1 1|1|1', "$schema: attach reads all");
		my $whole = 'time; all rows of users, user_threepids, whose changed pages cannot be used';
		my $way   = 'SELECT finds_new_by FROM mau.source';
		is(sql($way), $schema eq 'before' ? $whole : 'time', "$schema: and says how sync will find new rows");
		distribute($schema) if $schema eq 'after';
		for my $number (2, 3)
		{
			new_rows($schema, $number);
			is(sql("SELECT string_agg(what, ' ') FROM mau.sync($AT) WHERE what = 'trouble'"), '', "$schema: sync $number reads");
			is(known($schema), join('|', 4 * $number . " $number " . (2 * $number - 1), $number, $number), "$schema: and finds the new rows");
			is(sql($way), $whole, "$schema: it says that it reads all rows");
		}
		is(sql("SELECT count(*) FROM mau.sync($AT) WHERE what = 'joined'"), '0', "$schema: nothing is new then");
		if ($schema eq 'after')
		{
			sql("SET client_min_messages = error; SELECT undistribute_table('$schema.$_')") for qw(users user_ips user_threepids);
			for my $number (4, 5)
			{
				new_rows($schema, $number);
				sql("SELECT mau.sync($AT)");
				is(known($schema), join('|', 4 * $number . " $number " . (2 * $number - 1), $number, $number), "$schema: undistributed, sync $number");
				is(sql($way), 'time', "$schema: … by pages again");
			}
		}
		sql('SELECT mau.detach()');
	}
};

subtest 'the warehouse' => sub {
	my $share = "$FindBin::RealBin/../../share/warehouse";
	my %every = (hs1 => 3, hs2 => 20);
	for my $hs (sort keys %every)
	{
		sql("CREATE DATABASE $hs");
		$coordinator->safe_psql($hs, <<"SQL");
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered, is_guest)
    SELECT n * 1000, format('\@u%s:x', n), (20000 + n % 100) * 86400000::int8, true, n % 11 = 0 FROM generate_series(1::int8, 300) n;
INSERT INTO mau.visits SELECT n * 1000, date '1970-01-01' + 20000 + d, 1, 'native' FROM generate_series(1::int8, 300) n, generate_series(0, 149) d
    WHERE d >= n % 100 AND (n + d * 7) % $every{$hs} = 0;
SELECT mau.fold();
SQL
	}
	my $warehouse = $coordinator->connstr('postgres');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $warehouse, '-f', "$share/warehouse.sql" ], 'the tables');
	my $range     = "'2024-10-20', '2025-03-10'";
	my $growth    = 'day, new_users, retained, resurrected, churned';
	my @questions = (
		[ "day, users FROM warehouse.daily_series($range)", "day, mau FROM mau.daily_series($range)" ],
		[ "day, users FROM warehouse.daily_series($range, 7, 'native', NULL)", "day, mau FROM mau.daily_series($range, window_days => 7, kind => 'everybody')" ],
		[ "$growth FROM warehouse.growth($range)", "$growth FROM mau.growth($range)" ],
		[ "cohort_number || ' ' || period, size, users FROM warehouse.retention('month', $range)",
			"dense_rank() OVER (ORDER BY cohort_start) || ' ' || period, size, users FROM mau.retention('month', $range)" ],
		[ "day, users FROM warehouse.r30v2($range)", "day, users FROM mau.r30v2_series($range)" ]);
	for my $key (qw(chunk server))
	{
		sql(<<"SQL");
SET client_min_messages = error;
SELECT undistribute_table(logicalrelid) FROM pg_dist_partition WHERE logicalrelid::text LIKE 'warehouse.%';
SELECT create_distributed_table('warehouse.days', '$key', colocate_with => 'none');
SELECT create_distributed_table('warehouse.masks', '$key', colocate_with => 'warehouse.days');
SELECT create_distributed_table('warehouse.registrations', '$key', colocate_with => 'warehouse.days');
SQL
		for my $hs (sort keys %every)
		{
			my $day = $key eq 'chunk' ? '2025-01-05' : '2025-01-15';
			$coordinator->safe_psql($hs, "INSERT INTO mau.visits SELECT user_no, '$day', 2, 'native' FROM mau.users WHERE user_no % 7000 = 0; SELECT mau.fold()");
			command_ok([ "$share/copy", $coordinator->connstr($hs), $warehouse ], "by $key: $hs is copied");
			for (@questions)
			{
				my ($ours, $theirs) = @$_;
				my $figures = $coordinator->safe_psql($hs, "SELECT $theirs ORDER BY 1");
				like($figures, qr/\|[1-9]/, "$hs has figures");
				is(sql("SET client_min_messages = error; SELECT $ours WHERE server = '$hs' ORDER BY 1"), $figures, "by $key: $ours");
			}
		}
		like(sql(<<'SQL'), qr/->  Task\n.*Group Key: d\.server\n.*Group Key: d\.server, d\.chunk\n/s, "by $key: both levels run in the shards");
EXPLAIN (COSTS off) SELECT server, mau.add(figures)
FROM (SELECT d.server, d.chunk, mau.series('2025-01-01', '2025-01-30', 30, d.day, d.users, m.users) AS figures
      FROM warehouse.days d LEFT JOIN warehouse.masks m ON m.server = d.server AND m.chunk = d.chunk AND m.kind = 'not_counted'
      WHERE d.service = 'native' AND d.day BETWEEN date '2025-01-01' - 29 AND '2025-01-30'
      GROUP BY d.server, d.chunk) c
GROUP BY server
SQL
	}
};

done_testing();
