# A database that hangs does not delay the others, and PUBLIC cannot stop the worker.
use strict;
use warnings;
use IO::Socket::INET;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MauWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

$ENV{PGOPTIONS} = '-c synchronous_commit=local';
my $node = PostgreSQL::Test::Cluster->new('hang');
$node->init;
$node->append_conf('postgresql.conf', <<'E');
shared_preload_libraries = 'mau'
autovacuum = off
mau.tick_interval = 1
mau.refresh_interval = 1
mau.max_workers = 2
mau.tick_timeout = 1h
E
$node->start;
work_on($node, 'SELECT s::text FROM mau.status s; SELECT t::text FROM mau.tasks t');

sub set { sql('postgres', @_); $node->reload; return }

# Two more good runs of a task from now on.
sub goes_on
{
	my ($db, $task, $name) = @_;
	my $runs = sql($db, "SELECT runs FROM mau.tasks WHERE task = '$task'");
	return becomes($db, "SELECT runs >= $runs + 2 FROM mau.tasks WHERE task = '$task'", $name);
}

# A database that is attached to a view. While public.hold has a row, a query of the view does not come to its end.
sub homeserver
{
	my ($db) = @_;
	sql('postgres', qq(CREATE DATABASE "$db"));
	sql($db, <<'E');
CREATE EXTENSION mau;
GRANT CREATE, USAGE ON SCHEMA public TO hs;
SET ROLE hs;
CREATE TABLE public.seen (who text, at bigint);
CREATE TABLE public.hold (held boolean);
CREATE FUNCTION public.let_through() RETURNS boolean LANGUAGE plpgsql AS
    'BEGIN WHILE EXISTS (SELECT FROM public.hold) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN true; END';
CREATE VIEW public.watched AS SELECT who, at FROM public.seen WHERE (SELECT public.let_through());
RESET ROLE;
INSERT INTO public.seen VALUES ('@alice:x', (extract(epoch FROM now()) * 1000)::bigint);
INSERT INTO mau.custom_source VALUES ('activity', 'SELECT who AS user_id, at AS last_seen FROM public.watched');
SELECT mau.attach('custom');
E
	return;
}
sub hold
{
	my ($db) = @_;
	sql($db, 'INSERT INTO public.hold VALUES (true)');
	my $at_it = "FROM pg_stat_activity WHERE backend_type = 'mau worker' AND datname = '$db' AND wait_event = 'PgSleep'";
	$node->poll_query_until('postgres', "SELECT count(*) = 1 $at_it") or die "no tick came to be held in $db";
	return sql('postgres', "SELECT pid $at_it");
}
sub let_go { my ($db) = @_; sql($db, 'DELETE FROM public.hold'); return }
sub end_tick { my ($db) = @_; sql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'mau worker' AND datname = '$db'"); return }

my $health = q(SELECT health || ': ' || reason FROM mau.health());
my $in_an_hour = q(SELECT health || ': ' || reason FROM mau.health(now() + interval '1 hour'));
my $sync = q(FROM mau.tasks WHERE task = 'sync');

sql('postgres', 'CREATE ROLE hs', 'CREATE ROLE anybody LOGIN');
homeserver($_) for qw(good slow slow2);
goes_on($_, 'sync', "$_: sync runs") for qw(good slow slow2);

subtest 'a view that sleeps' => sub {
	hold('slow');
	goes_on('good', 'sync', 'the other databases go on');
	is(sql('slow', 'SELECT worker FROM mau.status'), 'at work', 'the worker is at work');
	becomes('slow', 'SELECT long_ticks IS NOT NULL FROM mau.worker_state()', 'the tick becomes a long one');
	like(sql('slow', $in_an_hour), qr/^late: .*the worker is at work here since .*; it is ended after 01:00:00 \(mau[.]tick_timeout\)/, 'its health says how long');
	hold('slow2');
	becomes('good', q(SELECT health = 'late' FROM mau.health(now() + interval '1 hour') WHERE (SELECT no_free_worker FROM mau.worker_state())),
		'with as many as mau.max_workers, the others are late');
	like(sql('good', $in_an_hour), qr/mau[.]max_workers allows: in database (?=.*"slow" \(for \d+ s\)).*"slow2" \(for \d+ s\)/, 'and name those that are slow');
	set('ALTER SYSTEM SET mau.max_workers = 3');
	goes_on('good', 'sync', 'mau.max_workers is raised by a reload');
	let_go($_) for qw(slow slow2);
	goes_on($_, 'sync', "$_ goes on when it can") for qw(slow slow2);
	set('ALTER SYSTEM RESET mau.max_workers');
};

subtest 'DROP, RENAME and TEMPLATE' => sub {
	for my $command ('CREATE DATABASE copied TEMPLATE slow2', 'ALTER DATABASE slow2 RENAME TO slow3', 'DROP DATABASE slow3')
	{
		my ($db) = $command =~ /(slow\d)/;
		hold($db);
		my ($rc, $out, $err) = $node->psql('postgres', $command);
		is($err, '', "$command ends a tick that hangs");
	}
	sql('postgres', 'DROP DATABASE copied WITH (FORCE)');
};

subtest 'mau.tick_timeout' => sub {
	set('ALTER SYSTEM SET mau.tick_timeout = 1');
	$node->poll_query_until('good', 'SELECT tick_timeout = 1 FROM mau.worker_state()');
	hold('slow');
	becomes('slow', "SELECT failures_in_a_row > 1 AND last_error_sqlstate = '57014' $sync", 'ends a tick');
	like(sql('slow', $health), qr/^failing: sync failed \d+ times in a row: it took longer than mau[.]tick_timeout \(1 s\) \(SQLSTATE 57014\)/, 'which is a failure');
	goes_on('good', 'sync', 'the other databases go on');
	let_go('slow');
	sql('slow', 'SELECT mau.wake_worker()');
	becomes('slow', "SELECT failures_in_a_row = 0 $sync", 'it goes on when it can');
};

subtest 'a lock on the homeserver\'s table' => sub {
	my $admin = $node->background_psql('slow');
	$admin->query_safe('BEGIN; LOCK TABLE public.seen');
	becomes('slow', "SELECT failures_in_a_row > 0 $sync", 'is a failure');
	goes_on('good', 'sync', 'the other databases go on');
	$admin->query_safe('COMMIT');
	$admin->quit;
	sql('slow', 'SELECT mau.wake_worker()');
	becomes('slow', "SELECT failures_in_a_row = 0 $sync", 'it goes on when it can');
};

subtest 'a synchronous standby that is missing' => sub {
	set(q(ALTER SYSTEM SET synchronous_standby_names = 'missing'));
	is(sql('postgres', 'SHOW synchronous_standby_names'), 'missing', 'it is missing');
	goes_on('good', 'sync', 'the worker does not wait for it');
	set('ALTER SYSTEM RESET synchronous_standby_names');
};

SKIP: {
	skip 'postgres_fdw is not installed', 1
		unless sql('postgres', q(SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'));
	subtest 'a foreign server that does not answer' => sub {
		my $silent = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no socket: $!";
		my $port = $silent->sockport;
		sql('slow', <<"E");
CREATE EXTENSION postgres_fdw;
CREATE SERVER silent FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '$port', dbname 'x');
CREATE USER MAPPING FOR hs SERVER silent OPTIONS (user 'x', password_required 'false');
GRANT USAGE ON FOREIGN SERVER silent TO hs;
SET ROLE hs;
CREATE FOREIGN TABLE public.far (who text, at bigint) SERVER silent;
CREATE OR REPLACE VIEW public.watched AS SELECT who, at FROM public.far;
E
		becomes('slow', "SELECT failures_in_a_row > 0 $sync", 'is a failure');
		goes_on('good', 'sync', 'the other databases go on');
		my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE slow');
		is($err, '', 'the database can be dropped');
		$silent->close;
	};
}
set('ALTER SYSTEM RESET mau.tick_timeout');

subtest 'what a session says of itself stops nothing' => sub {
	my $liar = $node->background_psql('good', extra_params => [ '-U', 'anybody' ]);
	$liar->query(q(SET application_name = 'pg_restore'));
	goes_on('good', 'sync', 'application_name = pg_restore');
	$liar->quit;
	my ($rc, $out, $err) = $node->psql('good', 'SELECT mau.pause_worker()', extra_params => [ '-U', 'anybody' ]);
	like($err, qr/permission denied/, 'mau.pause_worker() is the owner\'s');
};

subtest 'mau.pause_worker' => sub {
	is(sql('good', 'SELECT mau.pause_worker()'), 't', 'pauses');
	is(sql('good', 'SELECT mau.pause_worker()'), 'f', 'once');
	like(sql('good', $health), qr/^paused: mau[.]pause_worker\(\) was called by \S+ at .*SELECT mau[.]resume_worker\(\)/, 'health says so');
	is(sql('good', 'SELECT worker FROM mau.status'), 'paused', 'and status');
	my $runs = sql('good', 'SELECT sum(runs) FROM mau.tasks');
	for (1 .. 2)
	{
		my $tick = sql('good', 'SELECT last_tick FROM mau.status');
		becomes('good', "SELECT last_tick > '$tick' FROM mau.status", 'a tick comes');
	}
	is(sql('good', 'SELECT sum(runs) FROM mau.tasks'), $runs, 'and does nothing');
	$node->restart;
	becomes('good', q(SELECT extension = 'paused' FROM mau.worker_state()), 'it is paused after a restart');
	is(sql('good', 'SELECT mau.resume_worker()'), 't', 'until it is resumed');
	goes_on('good', 'sync', 'then it goes on');
	is(sql('good', 'SELECT mau.resume_worker()'), 'f', 'it was not paused any more');

	hold('good');
	my $pause = $node->background_psql('good');
	$pause->query_until(qr/waits/, "\\echo waits\nSELECT mau.pause_worker();\n");
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT mau.pause%' AND wait_event_type = 'Lock')),
		'it waits for the batch that is under way');
	let_go('good');
	$pause->quit;
	becomes('good', q(SELECT extension = 'paused' FROM mau.worker_state()), 'and pauses then');
	sql('good', 'SELECT mau.resume_worker()');
	goes_on('good', 'sync', 'resumed');
	is(sql('good', q(SELECT sum(failures) FROM mau.tasks)), '0', 'nothing failed');
};

subtest 'a source without users' => sub {
	sql('postgres', 'CREATE DATABASE unused');
	sql('unused', <<'E');
CREATE EXTENSION mau;
CREATE TABLE public.addresses (who text, medium text, address text);
INSERT INTO public.addresses VALUES ('@a:x', 'email', 'a@x');
CREATE TABLE public.seen (who text, at bigint);
INSERT INTO mau.custom_source VALUES ('threepids', 'SELECT who AS user_id, medium, address FROM public.addresses'),
    ('activity', 'SELECT who AS user_id, at AS last_seen FROM public.seen');
SELECT mau.attach('custom');
E
	goes_on('unused', 'sync', 'is read');
	unlike(sql('unused', $health), qr/restore/, 'health sees no restore in it');
	sql('unused', 'UPDATE mau.source SET activity_until = 1');
	goes_on('unused', 'sync', 'with a position, too');
	is(sql('unused', 'SELECT health FROM mau.health()'), 'ok', 'ok');
	sql('postgres', 'DROP DATABASE unused WITH (FORCE)');
};

subtest 'mau.databases' => sub {
	homeserver('My-Prod');
	my $log = -s $node->logfile;
	set(q(ALTER SYSTEM SET mau.databases = 'My-Prod, nowhere, "my-prod"'));
	becomes('good', 'SELECT NOT serves FROM mau.worker_state()', 'reloaded');
	goes_on('My-Prod', 'sync', 'a name is taken as it is written');
	like(sql('My-Prod', $health), qr/^ok: .*mau[.]databases lists databases that do not exist: "nowhere", "my-prod"$/, 'health shows names that are none');
	like(sql('good', $in_an_hour), qr/^off: mau[.]databases does not name this database; it lists databases that do not exist: "nowhere", "my-prod", /, 'where the worker does not come, too');
	my @logged = slurp_file($node->logfile, $log) =~ /mau[.]databases lists databases that do not exist: "nowhere", "my-prod"/g;
	is(scalar @logged, 1, 'it is logged once');
	# A name in another encoding than the database's.
	$node->append_conf('postgresql.conf', "mau.databases = 'good, n\xf6where'");
	set('ALTER SYSTEM RESET mau.databases');
	becomes('good', q(SELECT unknown_databases = '"n?where"' FROM mau.worker_state()), 'a name that is invalid here is readable');
	$node->adjust_conf('postgresql.conf', 'mau.databases', undef);
	$node->reload;
	goes_on('good', 'sync', 'reset');
};

# At a start the launcher has no catalog but those of its own to look names up in.
subtest 'a start with a database that is not there' => sub {
	set(q(ALTER SYSTEM SET mau.databases = 'good, not_yet'));
	$node->stop;
	my $log = -s $node->logfile;
	$node->start;
	goes_on('good', 'sync', 'the database that is there is served');
	like(slurp_file($node->logfile, $log), qr/mau[.]databases lists databases that do not exist: "not_yet"/, 'the other is named in the log');
	homeserver('not_yet');
	goes_on('not_yet', 'sync', 'and served when it is created');
	like(sql('good', $health), qr/^ok: (?!.*lists databases that do not exist)/, 'then health does not name it any more');
	unlike(slurp_file($node->logfile, $log), qr/"mau launcher" \(PID \d+\) exited/, 'the launcher has stayed');
	set('ALTER SYSTEM RESET mau.databases');
};

subtest 'no launcher' => sub {
	$node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0");
	$node->restart;
	like(sql('good', $in_an_hour), qr/^off: max_worker_processes is 0, so that the launcher cannot be started/, 'max_worker_processes = 0');
};

$node->stop;
done_testing();
