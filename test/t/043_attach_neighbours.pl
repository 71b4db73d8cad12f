# While mau is attached the homeserver's migrations go through at any time, and a sync that cannot read reports it and loses nothing. Other
# sessions sync, attach, detach, reap and record at the same time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauSource;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use Test::More;

my $node = source_cluster('neighbours', conf => "deadlock_timeout = 100ms\n");

sub sql { my ($database, $sql) = @_; $node->safe_psql($database, $sql); return; }
sub one { my ($database, $sql) = @_; return scalar ask($node, $database, $sql); }

sub homeserver
{
	my ($name) = @_;
	my $d = new_homeserver($node, name => $name);
	sql($d, join '', map { add_user("\@u$_:x") . see("\@u$_:x", $NOW - 60000 * $_) } 0 .. 9);
	sql($d, q{INSERT INTO user_threepids VALUES ('@u1:x', 'email', 'boss@x', 0, 0); INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'boss@x')});
	set_settings($node, $d, 'max_mau_value = 1');
	is(attach($node, $d, $NOW)->{joined}, 10, "$d: attached");
	return $d;
}

sub state_of { my ($d) = @_; return join "\n", map { one($d, "SELECT * FROM mau.$_ ORDER BY 1") } qw(users monthly_active_users user_threepids source_tables); }

# --- Migrations -------------------------------------------------------------------------------------------------

sub migrations
{
	my $ours_on_theirs = q{SELECT count(*) FROM pg_depend d WHERE d.refobjid IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)
		AND (d.classid, d.objid) IN (SELECT classid, objid FROM pg_depend e JOIN pg_extension x ON x.oid = e.refobjid AND x.extname = 'mau')};
	my $objects = q{SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)),
		(SELECT count(*) FROM pg_rewrite WHERE ev_class IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)),
		(SELECT count(*) FROM pg_constraint WHERE confrelid IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)),
		(SELECT count(*) FROM pg_depend WHERE refobjid IN ('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)),
		(SELECT count(*) FROM pg_statistic_ext) + (SELECT count(*) FROM pg_publication)};
	my $plain = new_homeserver($node, name => 'plain');
	my $before = one($plain, $objects);
	attach($node, $plain, $NOW);
	is(one($plain, $ours_on_theirs), 0, 'migrations: nothing of ours depends on their tables');
	is(one($plain, $objects), $before, 'migrations: attach leaves no trigger, rule, constraint or dependency on them');

	# [what, does it prevent reading, the message, how to undo it]
	for my $case (
		[ 'another type', 'ALTER TABLE users ALTER user_type TYPE varchar' ],
		[ 'another type, rewritten', 'ALTER TABLE users ALTER creation_ts TYPE integer, ALTER is_guest DROP DEFAULT, ALTER is_guest TYPE boolean USING is_guest <> 0, ALTER is_guest SET DEFAULT false' ],
		[ 'a column more', 'ALTER TABLE users ADD approved boolean DEFAULT true' ],
		[ 'a column less that nobody reads', 'ALTER TABLE user_ips DROP COLUMN device_id; ALTER TABLE users DROP COLUMN password_hash' ],
		[ 'the index on last_seen', 'DROP INDEX user_ips_last_seen_only' ],
		[ 'a column', 'ALTER TABLE users DROP COLUMN deactivated', '42703', qr/deactivated/, 'ALTER TABLE users ADD deactivated smallint DEFAULT 0 NOT NULL' ],
		[ 'a column renamed', 'ALTER TABLE user_ips RENAME last_seen TO seen', '42703', qr/last_seen/, 'ALTER TABLE user_ips RENAME seen TO last_seen' ],
		[ 'user_ips dropped', 'CREATE TABLE kept AS TABLE user_ips; DROP TABLE user_ips', '42P01', qr/user_ips/,
			'CREATE TABLE user_ips AS TABLE kept; CREATE INDEX ON user_ips (last_seen); CREATE UNIQUE INDEX ON user_ips (user_id, access_token, ip)' ],
		[ 'users renamed', 'ALTER TABLE users RENAME TO accounts', '42P01', qr/users/, 'ALTER TABLE accounts RENAME TO users' ],
		[ 'threepids moved', 'CREATE SCHEMA elsewhere; ALTER TABLE user_threepids SET SCHEMA elsewhere', '42P01', qr/user_threepids/,
			'ALTER TABLE elsewhere.user_threepids SET SCHEMA public' ],
		[ 'the schema renamed', 'ALTER SCHEMA public RENAME TO synapse', '3F000', qr/public/, 'ALTER SCHEMA synapse RENAME TO public' ])
	{
		my ($name, $migration, $state, $pattern, $back) = @$case;
		(my $d = "migrate_$name") =~ s/\W+/_/g;
		homeserver($d);
		my ($out, $err) = ask($node, $d, $migration);
		is($err, '', "$d: the migration goes through");
		if ($state)
		{
			my $before = state_of($d);
			my $since  = one($d, 'SELECT now()');
			my $done   = sync($node, $d, $NOW + 1);
			is_deeply([ @$done{qw(trouble error)} ], [ 1, undef ], "$d: a row says that there is trouble");
			like($done->{warning}, $pattern, "$d: so does a warning, with what is wrong");
			is(state_of($d), $before, "$d: nothing is lost");
			is(one($d, qq{SELECT trouble_sqlstate, trouble_at BETWEEN '$since' AND now() FROM mau.source}), "$state|t", "$d: mau.source has its SQLSTATE");
			like(one($d, 'SELECT trouble FROM mau.source'), $pattern, "$d: and its message");
			is(one($d, q{SELECT last_error_sqlstate, failures, failures_in_a_row, runs FROM mau.tasks WHERE task = 'sync'}), "$state|1|1|0", "$d: mau.tasks counts it");
			my $at = one($d, 'SELECT trouble_at FROM mau.source');
			sync($node, $d, $NOW + 1);
			is(one($d, 'SELECT trouble_at FROM mau.source'), $at, "$d: mau.source says since when");
			is(one($d, q{SELECT failures_in_a_row FROM mau.tasks WHERE task = 'sync'}), 2, "$d: mau.tasks counts on");
			($out, $err) = ask($node, $d, 'SELECT mau.usage_statistics()');
			like($err, $pattern, "$d: usage statistics say so, too") unless $name =~ /threepids|deactivated|^a column$/;
			is(one($d, "SELECT mau.monthly_active_count(@{[at($NOW)]}), mau.record_activity('\@u0:x', @{[at($NOW + 1)]})"), '10|unchanged', "$d: mau itself works on");
			sql($d, $back);
		}
		sql($d, add_user('@new:x') . see('@new:x', $NOW + 2));
		my $done = sync($node, $d, $NOW + 7200000);
		is_deeply([ @$done{qw(trouble warning error)} ], [ undef, undef, undef ], "$d: " . ($state ? 'put back, it goes on' : 'and the next sync works'));
		is(one($d, q{SELECT trouble IS NULL AND trouble_sqlstate IS NULL AND trouble_at IS NULL FROM mau.source}), 't', "$d: without trouble");
		is_deeply([ @$done{qw(users joined)} ], [ 1, 1 ], "$d: and finds what is new") if $name !~ /^another type|^a column|dropped/;
		is(one($d, q{SELECT count(*) FROM mau.users u JOIN mau.monthly_active_users USING (user_id) WHERE user_id = '@new:x' AND is_registered}),
			1, "$d: who is new since is a user and a member");
		is(one($d, 'SELECT count(*) FROM mau.monthly_active_users'), 11, "$d: nobody else is");
		is(one($d, q{SELECT failures_in_a_row, runs FROM mau.tasks WHERE task = 'sync'}), '0|1', "$d: counted as well done");
	}
	return;
}

# The locks that a sync holds while it runs, and after it.
sub locks
{
	my $d = homeserver('locks');
	my $their_tables = q{('users'::regclass, 'user_ips'::regclass, 'user_threepids'::regclass)};
	my $locks = sub {
		my ($pid) = @_;
		return one($d, "SELECT string_agg(DISTINCT l.mode, ' ' ORDER BY l.mode) FROM pg_locks l LEFT JOIN pg_index i ON i.indexrelid = l.relation
			WHERE l.pid = $pid AND coalesce(i.indrelid, l.relation) IN $their_tables");
	};
	my $session = $node->background_psql($d);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	sql($d, see('@new:x', $NOW + 1) . add_user('@new:x'));
	$session->query_safe('BEGIN; SELECT * FROM mau.sync(' . at($NOW + 1) . ')');
	is($locks->($pid), 'AccessShareLock', 'locks: a sync under way holds ACCESS SHARE on their tables, no more');
	sql($d, see('@u0:x', $NOW + 2) . "UPDATE users SET user_type = 'x'; DELETE FROM user_threepids; SELECT * FROM users FOR UPDATE");
	pass('locks: they read and write meanwhile');

	# A migration waits for the end of it, and goes through then.
	my $migration = $node->background_psql($d);
	$migration->query_until(qr/begun/, "\\echo begun\nALTER TABLE users DROP COLUMN deactivated;\n");
	ok($node->poll_query_until($d, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"),
		'locks: a migration waits for a sync under way');
	$session->query_safe('COMMIT');
	$migration->query_safe('SELECT 1');
	is(one($d, q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'deactivated'}), 0, 'locks: and goes through after it');
	is($locks->($pid) // '', '', 'locks: nothing is held after it, the session being open');
	is(sync($node, $d, $NOW + 2)->{trouble}, 1, 'locks: the next sync has trouble');
	sql($d, 'ALTER TABLE users ADD deactivated smallint NOT NULL DEFAULT 0');
	like($session->query_safe('SELECT * FROM mau.sync(' . at($NOW + 2) . ')'), qr/^unchanged/m, 'locks: the session from before it goes on with the new table');

	# A migration under way is not waited for, and no deadlock comes of it, whichever table it has first.
	for my $table (qw(users user_ips user_threepids))
	{
		$migration->query_safe("BEGIN; ALTER TABLE $table ADD something int");
		my $begin = time;
		my $done = sync($node, $d, $NOW + 3);
		cmp_ok(time - $begin, '<', 30, "locks: a sync does not wait for a migration of $table");
		like($done->{warning}, qr/altered by another session/, 'locks: but says that it is being altered');
		is(one($d, 'SELECT trouble_sqlstate FROM mau.source'), '55P03', 'locks: lock not available');
		my $reader = $node->background_psql($d, on_error_stop => 0);
		$reader->query_until(qr/begun/, "\\echo begun\nSELECT * FROM mau.sync(@{[at($NOW + 3)]});\n");
		$migration->query_safe("ALTER TABLE $_ ADD something_else int") for qw(user_threepids user_ips users);
		$migration->query_safe('COMMIT');
		my ($out, $err) = $reader->query('SELECT 1');
		$reader->quit;
		sql($d, "ALTER TABLE $_ DROP something_else" . ($_ eq $table ? ', DROP something' : '')) for qw(user_threepids user_ips users);
		is(sync($node, $d, $NOW + 3)->{trouble}, undef, "locks: after the migration of $table it goes on");
	}
	ok(!$node->log_contains('deadlock detected'), 'locks: no deadlock');
	my ($out, $err) = ask($node, $d, "BEGIN; LOCK TABLE users; SELECT * FROM mau.sync(@{[at($NOW + 3)]})");
	unlike($err, qr/WARNING/, 'locks: one\'s own lock is no obstacle');

	# A short one, such as VACUUM takes, is waited for.
	$migration->query_safe('BEGIN; LOCK TABLE users');
	my $reader = $node->background_psql($d);
	$reader->query_until(qr/begun/, "\\echo begun\nSELECT * FROM mau.sync(@{[at($NOW + 3)]});\n");
	$migration->query_safe('SELECT pg_sleep(0.3); COMMIT');
	like($reader->query('SELECT 1'), qr/^unchanged/m, 'locks: a short lock is waited for');
	$_->quit for $session, $migration, $reader;
	return;
}

# --- Two at once ------------------------------------------------------------------------------------------------

sub two_at_once
{
	my $d = homeserver('two');
	my ($one, $two) = map { $node->background_psql($d, on_error_stop => 0) } 1 .. 2;
	sql($d, see('@new:x', $NOW + 1) . add_user('@new:x') . see('@u5:x', $NOW + 7200000) . see('@ghost:x', $NOW + 2) . see('@skipped:x', -5));
	my $t = at($NOW + 7200000);

	# A sync under way: another says busy; recording neither waits nor raises.
	like($one->query("BEGIN; SELECT * FROM mau.sync($t)"), qr/^joined\|2$/m, 'two: a sync is under way');
	sql($d, 'ALTER DATABASE two SET lock_timeout = \'2s\'');
	for my $isolation ('read committed', 'repeatable read')
	{
		my ($out, $err) = ask($node, $d, "BEGIN ISOLATION LEVEL $isolation; SELECT * FROM mau.sync($t); COMMIT");
		is("$out$err", 'busy|0', "two: a second one says busy ($isolation)");
		for my $user ('@new:x', '@u5:x', '@u6:x', '@ghost:x', '@stranger:x')
		{
			($out, $err) = ask($node, $d, "SET statement_timeout = '2s'; BEGIN ISOLATION LEVEL $isolation; SELECT mau.record_activity('$user', @{[at($NOW + 7200001)]});"
				. " SELECT mau.check_auth_blocking('$user', at => $t); ROLLBACK");
			is($err, '', "two: recording $user neither waits nor raises ($isolation)");
			like($out, $user eq '@u6:x' ? qr/^refreshed$/m : $user eq '@stranger:x' ? qr/^joined$/m : qr/^unchanged$/m, "two: and answers ($user)");
		}
		($out, $err) = ask($node, $d, "SET statement_timeout = '2s'; BEGIN ISOLATION LEVEL $isolation; SELECT * FROM mau.reap($t); ROLLBACK");
		is($err, '', "two: a reap neither waits nor raises ($isolation)");
	}
	sql($d, 'ALTER DATABASE two RESET lock_timeout');

	# detach waits for it.
	$two->query_until(qr/begun/, "\\echo begun\nSELECT * FROM mau.detach();\n");
	ok($node->poll_query_until($d, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%detach%' AND pid <> pg_backend_pid()}),
		'two: detach waits for a sync under way');
	$one->query('COMMIT');
	like($two->query('SELECT 1'), qr/1/, 'two: and goes on after it');
	is(one($d, 'SELECT (SELECT count(*) FROM mau.source), (SELECT count(*) FROM mau.source_tables), (SELECT count(*) FROM mau.source_skipped)'), '0|0|0', 'two: nothing of the attachment is left');
	is(one($d, 'SELECT count(*) FROM mau.monthly_active_users'), 12, 'two: but what the sync found');

	# Two attach at once: one does, the other says that it is attached already.
	like($one->query("BEGIN; SELECT * FROM mau.attach('synapse', 'public', $t)"), qr/^users\|0$/m, 'two: one attaches');
	$two->query_until(qr/begun/, "\\set VERBOSITY verbose\n\\echo begun\nSELECT * FROM mau.attach('synapse', 'public', $t);\n");
	ok($node->poll_query_until($d, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%attach%' AND pid <> pg_backend_pid()}), 'two: the other waits');
	is(sync($node, $d, $NOW)->{busy}, 0, 'two: a sync says busy while one attaches');
	$one->query('COMMIT');
	$two->query('SELECT 1');
	like($two->{stderr}, qr/ERROR:  55000: mau is already attached/, 'two: and is told that mau is attached already');
	is(one($d, 'SELECT count(*) FROM mau.source'), 1, 'two: it is, once');

	# One reaps while another syncs, one after the other on the same rows, and nobody is lost.
	my $later = $NOW + 40 * $DAY;
	sql($d, see('@u7:x', $later));
	$one->query("BEGIN; SELECT * FROM mau.reap(@{[at($later)]})");
	my $done = sync($node, $d, $later);
	is_deeply([ @$done{qw(error warning)} ], [ undef, undef ], 'two: a sync while a reap is under way');
	$one->query('COMMIT');
	sync($node, $d, $later);
	like(members($node, $d, $later), qr/\@u7:x\|native\|$later/, 'two: whom the reap took away and the sync saw is a member in the end');
	$_->quit for $one, $two;
	return;
}

migrations();
locks();
two_at_once();

$node->stop;
done_testing();
