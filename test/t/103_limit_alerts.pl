# Alerts: the state of the limit is told by admissions and by the worker, once per change, also over restarts; nothing that a homeserver
# does fails or waits because of it.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'mau'
mau.worker = off
mau.tick_interval = 1
mau.refresh_interval = 1
max_prepared_transactions = 2
CONF
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# '' or the error of statements.
sub fails
{
	my ($sql, $on) = @_;
	my ($status, undef, $err) = ($on // $node)->psql('postgres', "\\set ON_ERROR_STOP 1\n$sql");
	return $status == 0 ? '' : $err;
}

my $listener;

sub listen_again
{
	$listener = $node->background_psql('postgres');
	$listener->set_query_timer_restart(1); # a time limit for each query, not for all of them
	$listener->query('LISTEN mau_limit');
	return;
}

# The changes that were told since it was asked last, such as 'free>full 5/5'.
sub heard
{
	my @told;
	for my $line (split /\n/, $listener->query('SELECT 1'))
	{
		next if $line !~ /Asynchronous notification "mau_limit" with payload "(.*)" received/;
		my $payload = $1;
		push @told, $payload =~ /^\{"state":"(\w+)","before":"(\w+)","users":(\d+),"limit":(\d+),"at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","database":"postgres"\}$/
		  ? "$2>$1 $3/$4" : $payload;
	}
	return join ', ', @told;
}

# What is told within a minute.
sub will_hear
{
	for (1 .. 600)
	{
		my $told = heard();
		return $told if $told ne '';
		select undef, undef, undef, 0.1;
	}
	return '';
}

sub admit { return sql("SELECT string_agg(coalesce(mau.admit('\@' || u || ':x') ->> 'limit_type', 'ok'), ' ') FROM unnest('{$_[0]}'::text[]) u") }

sql(<<'SQL');
CREATE EXTENSION mau;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10;
SQL
listen_again();

subtest 'by admissions, for good' => sub {
	is(admit(join ',', 1 .. 8), join(' ', ('ok') x 8), 'eight of ten');
	is(heard(), '', 'free');
	admit('9');
	is(heard(), 'free>nearly_full 9/10', 'nine');
	$listener->quit;
	$node->restart;
	listen_again();
	admit('1,9');
	is(heard(), '', 'not again after a restart');
	is(admit('10'), 'ok', 'ten');
	is(heard(), 'nearly_full>full 10/10', 'full');
	$listener->quit;
	$node->stop('immediate');
	$node->start;
	listen_again();
	is(admit('11'), 'monthly_active_user', 'refused after a crash');
	sql('SELECT * FROM mau.refresh()');
	is(heard(), '', 'and not told again');
};

subtest 'by the worker' => sub {
	sql("SELECT mau.forget_user('\@10:x'), mau.forget_user('\@9:x'), mau.forget_user('\@8:x')");
	is(heard(), '', 'there is room, which nobody has noticed');
	sql('ALTER SYSTEM SET mau.worker = on');
	$node->reload;
	is(will_hear(), 'full>free 7/10', 'the worker tells it');
	sql('UPDATE mau.settings SET max_mau_value = 7');
	is(will_hear(), 'free>full 7/7', 'and that the limit was lowered');
	sql('UPDATE mau.settings SET mau_limit_alerting = false, max_mau_value = 10');
	ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM mau.limit_state)'), 'switched off, it forgets what it told');
	sql('ALTER SYSTEM SET mau.worker = off');
	$node->reload;
	ok($node->poll_query_until('postgres', q(SELECT NOT running FROM mau.worker_state())), 'the worker is off');
	is(heard(), '', 'in silence');
	sql('UPDATE mau.settings SET mau_limit_alerting = true');
};

# Brings the server to 8 of 10 and the state to free.
sub make_room
{
	sql("SELECT mau.forget_user(user_id) FROM mau.monthly_active_users");
	admit(join ',', 1 .. 8);
	sql('SELECT * FROM mau.refresh()');
	heard();
	return;
}

subtest 'in any transaction' => sub {
	make_room();
	is(fails(q(CREATE PROCEDURE admit_two() LANGUAGE plpgsql AS
		'BEGIN PERFORM mau.admit(''@9:x''); COMMIT; PERFORM mau.admit(''@10:x''); COMMIT; END'; CALL admit_two())), '', 'a procedure that commits');
	is(heard(), 'free>nearly_full 9/10, nearly_full>full 10/10', 'tells each');

	make_room();
	is(fails(q(BEGIN; DO $$ BEGIN PERFORM mau.admit('@9:x'); RAISE EXCEPTION 'no'; EXCEPTION WHEN raise_exception THEN NULL; END $$; COMMIT)), '', 'a block that fails');
	is(heard(), '', 'tells nothing');

	is(fails(q(BEGIN READ ONLY; SELECT mau.check_auth_blocking('@9:x'); COMMIT)), '', 'a transaction that only reads');

	is(fails(q(CREATE ROLE caller; CREATE ROLE owner; SELECT mau.grant_to('owner');
		CREATE FUNCTION admit_as_owner(u text) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT mau.admit(u)';
		ALTER FUNCTION admit_as_owner OWNER TO owner; SET ROLE caller; SELECT admit_as_owner('@9:x'))), '', 'a function with the rights of its owner');
	is(heard(), 'free>nearly_full 9/10', 'tells with them');
	is(fails(q(SET ROLE owner; SELECT mau.admit('@10:x'))), '', 'a role with the rights of a homeserver');
	is(heard(), 'nearly_full>full 10/10', 'tells, too');

	make_room();
	sql('REVOKE UPDATE, INSERT ON mau.limit_state FROM owner');
	is(fails(q(SET ROLE owner; SELECT mau.admit('@9:x'); SELECT mau.admit('@10:x'); SELECT mau.admit('@11:x'))), '', 'a role without the right to');
	is(heard(), '', 'tells nothing');
	sql('SELECT * FROM mau.refresh()');
	is(heard(), 'free>full 10/10', 'and a task does');
};

subtest 'a commit waits for no other NOTIFY' => sub {
	make_room();
	# Every transaction with a NOTIFY holds a lock while it commits: this one until a standby that does not exist has its changes.
	sql('CREATE TABLE slow (i int)');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
	$node->reload;
	my $slow = $node->background_psql('postgres');
	$slow->query_until(qr/begun/, "\\echo begun\nSET synchronous_commit = on; WITH w AS (INSERT INTO slow VALUES (1)) SELECT pg_notify('other', '');\n");
	ok($node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = 0 AND granted))), 'a commit is under way');
	is(fails(q(SET synchronous_commit = local; SET statement_timeout = '30s'; SELECT mau.admit('@9:x'), mau.admit('@10:x'))), '', 'an admission goes on');
	is(sql('SELECT count(*) FROM mau.limit_state WHERE state <> \'free\''), '0', 'and tells nothing');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$node->reload;
	$slow->quit;
	sql('SELECT * FROM mau.refresh()');
	is(heard(), 'free>full 10/10', 'which a task does afterwards');
};

# A queue of notifications that is full makes a NOTIFY fail, and with it the commit.
subtest 'a queue of notifications that is full' => sub {
	plan skip_all => 'this PostgreSQL has no max_notify_queue_pages: filling its queue takes 8 GB'
	  if sql(q(SELECT count(*) FROM pg_settings WHERE name = 'max_notify_queue_pages')) == 0;
	$listener->quit;
	$node->append_conf('postgresql.conf', "max_notify_queue_pages = 64\n");
	$node->restart;
	listen_again();
	make_room();
	# A session that listens and is in a transaction reads nothing, so that the queue grows.
	my $busy = $node->background_psql('postgres');
	$busy->query('LISTEN other');
	$busy->query('BEGIN');
	my $notify = q(SELECT pg_notify('other', repeat('x', 7900)));
	my $usage = 'SELECT pg_notification_queue_usage()';
	sql($notify) while sql($usage) < 0.9;
	is(admit('9'), 'ok', 'nearly full: an admission goes on');
	is(heard(), '', 'and tells nothing');
	while (fails($notify) eq '') { }
	like(fails($notify), qr/too many notifications in the NOTIFY queue/, 'full');
	is(admit('10,11'), 'ok monthly_active_user', 'admissions go on');
	is(fails('SELECT * FROM mau.refresh()'), '', 'so do tasks');
	is(sql('SELECT count(*) FROM mau.limit_state WHERE state <> \'free\''), '0', 'and tell nothing');
	$busy->query('COMMIT');
	$busy->quit;
	ok($node->poll_query_until('postgres', "$usage < 0.9"), 'there is room again') or diag(sql($usage));
	sql('SELECT * FROM mau.refresh()');
	is(heard(), 'free>full 10/10', 'and a task tells it');
};

subtest 'members who have expired' => sub {
	make_room();
	admit('9');
	is(heard(), 'free>nearly_full 9/10', 'nine');
	sql(q(UPDATE mau.monthly_active_users SET "timestamp" = "timestamp" - 31 * 86400000::bigint WHERE user_id IN ('@1:x', '@2:x', '@3:x')));
	is(admit('10'), 'ok', 'a tenth, beside three who have expired');
	is(heard(), '', 'an admission does not tell that there is room');
	sql('SELECT * FROM mau.refresh()');
	is(heard(), 'nearly_full>free 7/10', 'a task does');
};

subtest 'commits at the same time count each other' => sub {
	make_room();
	sql('UPDATE mau.settings SET max_mau_value = 11');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
	$node->reload;
	my $slow = $node->background_psql('postgres');
	$slow->query_until(qr/begun/, "\\echo begun\nSET synchronous_commit = on; SELECT mau.admit('\@9:x');\n");
	ok($node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'))), 'a commit is under way');
	is(fails(q(SET synchronous_commit = local; SELECT mau.admit('@10:x'))), '', 'another one');
	is(heard(), 'free>nearly_full 10/11', 'knows that it is the tenth');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
	$node->reload;
	$slow->quit;
	sql('SELECT * FROM mau.refresh(); UPDATE mau.settings SET max_mau_value = 10');
	is(heard(), '', 'that was right');
};

subtest 'a standby' => sub {
	$node->backup('copy');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'copy', has_streaming => 1);
	$standby->start;
	is(fails(q(SELECT mau.check_auth_blocking('@11:x')), $standby), '', 'answers');
	is($standby->safe_psql('postgres', q(SELECT mau.admit('@11:x') ->> 'limit_type')), 'monthly_active_user', 'refuses');
	$standby->stop;
};

subtest 'without a preloaded library' => sub {
	$listener->quit;
	$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
	$node->restart;
	listen_again();
	make_room();
	is(fails(q(BEGIN; SELECT mau.admit('@9:x'); PREPARE TRANSACTION 'two'; COMMIT PREPARED 'two')), '', 'an admission may be prepared');
	is(heard(), '', 'and is not told');
	is(admit('10'), 'ok', 'the next one');
	is(heard(), 'free>full 10/10', 'tells');
	admit('11');
	is(heard(), '', 'once');
	make_room();
	my $other = $node->background_psql('postgres');
	$other->query_safe(q(BEGIN; SELECT mau.admit('@9:x')));
	is(fails(q(SET statement_timeout = '30s'; SELECT mau.admit('@10:x'))), '', 'two at the same time');
	is(heard(), 'free>nearly_full 9/10', 'know nothing of each other');
	$other->query_safe('COMMIT');
	$other->quit;
	is(heard(), 'nearly_full>full 10/10', 'until the second commit');
	sql("SELECT mau.forget_user('\@10:x'); SELECT * FROM mau.reap()");
	is(heard(), 'full>nearly_full 9/10', 'a reap tells, too');
};

unlike(slurp_file($node->logfile), qr/could not tell/, 'nothing has gone wrong');
$listener->quit;
$node->stop;
done_testing();
