# The history has every visit after folds by the worker and by hand, crashes, recording at the same time, and late sightings. Damaged
# bitmaps are reported; standbys, rights and any search_path of the caller are handled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauHistory;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = PostgreSQL::Test::Cluster->new('history');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'mau'
restart_after_crash = on
autovacuum_naptime = 1s
mau.tick_interval = 1
mau.fold_interval = 1
mau.databases = 'worker, crash'
CONF
$node->start;

sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql) }

# A database with mau and what takes the history apart.
sub make_database
{
	my ($db) = @_;
	sql('postgres', "CREATE DATABASE $db");
	sql($db, "CREATE EXTENSION mau; UPDATE mau.settings SET history_retention = '100 years'; $VISITS_SQL");
	return $db;
}

# The SQLSTATE and the text of the error of a statement; empty where there is none.
sub error_of
{
	my ($db, $sql, %params) = @_;
	my ($out, $err);
	($params{node} // $node)->psql($db, "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 0);
	return $err =~ /ERROR:  (\w{5}): (.*)/s ? ($1, $2) : ('', '');
}

my $FIGURES = "SELECT * FROM mau.daily_series('2026-06-01', '2026-07-31'); SELECT * FROM mau.growth('2026-06-20', '2026-07-31');"
  . " SELECT * FROM mau.days_active('2026-07-01Z', '60 days'); SELECT * FROM mau.retention('week', '2026-05-01', '2026-07-31', at => '2026-08-10Z');"
  . " SELECT * FROM mau.billing_months('2026-06-01', '2026-07-31', at => '2026-08-01Z');";

# Sightings of 2026-06-01 to 2026-07-10 by 50 users.
my $SIGHTINGS = q{SELECT count(mau.record_activity('@u' || n || ':x', timestamptz '2026-06-01 12:00Z' + d * interval '1 day',
	(ARRAY['Element (iOS)', 'Mozilla', 'curl'])[1 + (n + d) % 3])) FROM generate_series(0, 39) d, generate_series(1, 50) n WHERE (n * 7 + d * 3) % 10 < 4};

subtest 'the worker folds' => sub {
	my $db = make_database('worker');
	sql($db, $SIGHTINGS);
	ok($node->poll_query_until($db, q{SELECT NOT EXISTS (SELECT FROM mau.visits) AND EXISTS (SELECT FROM mau.active_days)}), 'visits become bitmaps');
	is(sql($db, 'SELECT count(*) FROM visits_now()'),
		sql($db, 'SELECT count(*) FROM generate_series(0, 39) d, generate_series(1, 50) n WHERE (n * 7 + d * 3) % 10 < 4'), 'all of them');
	ok($node->poll_query_until($db, q{SELECT runs > 1 AND failures = 0 AND last_finished > last_started FROM mau.tasks WHERE task = 'fold'}),
		'mau.tasks tells');
	is(sql($db, 'SELECT health FROM mau.health()'), 'ok', 'health is well');
	is(sql($db, q{SELECT next_tick <= date_trunc('day', last_tick_started, 'UTC') + interval '1 day' - interval '5 s'
		OR last_tick_started >= date_trunc('day', last_tick_started, 'UTC') + interval '1 day' - interval '5 s' FROM mau.worker_state()}), 't',
		'no tick is put off beyond five seconds before midnight');
	sql('postgres', 'ALTER SYSTEM SET mau.batch_size = 100');
	$node->reload;
	sql($db, q{INSERT INTO mau.visits SELECT n, date '2026-07-20' + n % 7, 0, 'native' FROM generate_series(1, 5000) n});
	ok($node->poll_query_until($db, 'SELECT NOT EXISTS (SELECT FROM mau.visits)'), 'a long queue, in batches');
	ok($node->poll_query_until($db, q{SELECT last_finished > last_started AND next_run > last_finished FROM mau.tasks WHERE task = 'fold'}),
		'to its end');
	is(sql($db, q{SELECT count(*) FROM visits_now() WHERE day >= '2026-07-20'}), 5000, 'nothing is lost');
	sql('postgres', 'ALTER SYSTEM RESET mau.batch_size');
	sql('postgres', 'ALTER SYSTEM SET mau.fold_interval = 600');
	$node->reload;
	like(sql($db, q{SELECT health || ': ' || reason FROM mau.health(now() + interval '30 min')}), qr/^late: .*fold has not run for .*, it is due every 00:10:00/,
		'health says that fold is late');
	sql('postgres', 'ALTER SYSTEM RESET mau.fold_interval');
	sql('postgres', 'ALTER SYSTEM SET mau.fold_interval = 1');
	$node->reload;
};

subtest 'nothing is lost or doubled by a crash' => sub {
	my $db = make_database('crash');
	sql($db, 'CREATE TABLE seen (name text, day date, platform int)');
	# Each client has users of its own: a user recorded by two at once is recorded by one.
	my $script = $node->basedir . '/sightings.sql';
	append_to_file($script, <<'SQL');
\set n random(1, 200)
\set d random(0, 20)
\set p random(0, 3)
BEGIN;
SELECT mau.record_activity('@' || :client_id || '-' || :n || ':x', timestamptz '2026-06-01 12:00Z' + :d * interval '1 day',
    (ARRAY['curl', 'Mozilla', 'Element Electron', 'Element Android'])[:p + 1]);
INSERT INTO seen VALUES ('@' || :client_id || '-' || :n || ':x', date '2026-06-01' + :d, :p);
COMMIT;
SQL
	my $wrong = q{SELECT 'lost', count(*) FROM (SELECT name, day, platform FROM seen EXCEPT SELECT u.user_id, v.day, v.platform FROM visits_now() v JOIN mau.users u USING (user_no)) s
		UNION ALL SELECT 'invented', count(*) FROM (SELECT u.user_id, v.day, v.platform FROM visits_now() v JOIN mau.users u USING (user_no) EXCEPT SELECT name, day, platform FROM seen) s
		UNION ALL SELECT 'numbers', count(*) - count(DISTINCT user_id) FROM mau.users
		UNION ALL SELECT 'nobody', count(*) FROM visits_now() v WHERE NOT EXISTS (SELECT FROM mau.users u WHERE u.user_no = v.user_no)};
	my $bitmaps = 0;
	for my $round (1 .. 8)
	{
		my @started = map {
			my ($in, $out, $err) = ('', '', '');
			my $run = IPC::Run::start($_, '<', \$in, '>', \$out, '2>', \$err);
			$run
		} [ 'pgbench', '-n', '-c', '4', '-T', '30', '-f', $script, $node->connstr($db) ],
		  [ 'psql', '-XAtq', '-d', $node->connstr($db), '-c', 'DO $$ BEGIN LOOP PERFORM mau.fold(now(), 200); COMMIT; END LOOP; END $$' ];
		sleep(0.3 + $round * 0.11);
		if ($round % 2)
		{
			$node->stop('immediate');
			$node->start;
		}
		else
		{
			my $pid = sql($db, q{SELECT pid FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN LOOP PERFORM mau.fold%' AND datname = current_database()});
			kill 9, $pid if $pid;
			sleep 0.2;
		}
		$_->kill_kill, eval { $_->finish } for @started;
		$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no server';
		$node->poll_query_until('postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '$db' AND application_name = 'pgbench')})
		  or die 'clients stay';
		is(sql($db, $wrong), "lost|0\ninvented|0\nnumbers|0\nnobody|0", "round $round");
	}
	cmp_ok(sql($db, 'SELECT count(*) FROM seen'), '>', 500, 'sightings were recorded');
	sql($db, 'SELECT mau.fold()');
	is(sql($db, $wrong), "lost|0\ninvented|0\nnumbers|0\nnobody|0", 'all folded');
	is(sql($db, q{SELECT day, dau FROM mau.daily_series('2026-06-01', '2026-06-21')}),
		sql($db, q{SELECT d::date, count(DISTINCT name) FROM generate_series(timestamp '2026-06-01', '2026-06-21', '1 day') d LEFT JOIN seen ON day = d GROUP BY 1 ORDER BY 1}),
		'and the figures are those by brute force');
	ok($node->poll_query_until($db, q{SELECT health = 'ok' FROM mau.health()}), 'health is well');
};

subtest 'two at once' => sub {
	my $db = make_database('two');
	sql($db, $SIGHTINGS);
	my $before = sql($db, $FIGURES);
	isnt($before, '', 'there are figures');
	my $first = $node->background_psql($db);
	$first->query_until(qr/visits\|\d+/, "BEGIN;\nSELECT * FROM mau.fold();\n");
	is(sql($db, 'SELECT * FROM mau.fold()'), 'busy|0', 'the second leaves at once');
	is(sql($db, $FIGURES), $before, 'figures are the same to others while it is open');
	is(sql($db, q{SET statement_timeout = '5s'; SELECT mau.record_activity('@new:x', '2026-06-15 12:00Z', 'curl')}), 'joined', 'recording goes on');
	is(sql($db, q{SET statement_timeout = '5s'; SELECT mau.record_activity('@u1:x', '2026-07-20 12:00Z', 'curl')}), 'refreshed', 'also of those who are folded');
	my $meanwhile = sql($db, $FIGURES);
	isnt($meanwhile, $before, 'and is seen');
	$first->query_until(qr/done/, "COMMIT;\n\\echo done\n");
	$first->quit;
	is(sql($db, $FIGURES), $meanwhile, 'figures are the same after it');
	is(sql($db, q{SELECT rows FROM mau.fold() WHERE what = 'visits'}), 2, 'the next takes the rest');
	is(sql($db, $FIGURES), $meanwhile, 'and they are the same');
	is(sql($db, q{BEGIN; SELECT count(mau.record_activity('@new:x', '2026-06-16 12:00Z', 'curl')); SELECT sum(rows) FROM mau.fold() WHERE what = 'visits'; ROLLBACK;
		SELECT count(*) FROM mau.visits}), "1\n1\n0", 'a fold that is rolled back leaves what was');
	is(sql($db, $FIGURES), $meanwhile, 'as the figures say');
	is((error_of($db, 'SELECT mau.fold(max_rows => 0)'))[0], '22023', 'max_rows is positive');
	is((error_of($db, 'BEGIN READ ONLY; SELECT mau.fold()'))[0], '25006', 'not in a read-only transaction');
};

subtest 'REPEATABLE READ' => sub {
	my $db = make_database('rr');
	sql($db, $SIGHTINGS);
	sql($db, 'SELECT mau.fold()');
	my $before = sql($db, $FIGURES);
	my $old = $node->background_psql($db, on_error_stop => 1);
	$old->query_until(qr/begun/, "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 'begun' FROM mau.users LIMIT 1;\n");
	sql($db, q{SELECT mau.record_activity('@u' || n || ':x', '2026-07-25 12:00Z', 'curl') FROM generate_series(1, 50) n});
	sql($db, 'SELECT mau.fold()');
	my $file = $node->basedir . '/rr.out';
	$old->query_until(qr/written/, "\\o $file\n$FIGURES\n\\o\n\\echo written\n");
	(my $seen = slurp_file($file)) =~ s/\n+/\n/g;
	chomp $seen;
	is($seen, $before, 'a transaction sees what was there when it began');
	my $said = $old->query_until(qr/end/,
		q{SELECT DISTINCT 'recorded: ' || mau.record_activity('@u' || n || ':x', timestamptz '2026-07-26 12:00Z', 'curl') FROM generate_series(1, 50) n;} . "\n\\echo end\n");
	like($said, qr/recorded: refreshed/, 'it records who was folded meanwhile');
	sql($db, q{SELECT mau.record_activity('@other:x', '2026-07-26 12:00Z', 'curl')});
	sql($db, 'SELECT mau.fold()');
	$old->query_until(qr/committed/, "COMMIT;\n\\echo committed\n");
	$old->quit;
	is(sql($db, q{SELECT dau FROM mau.daily_series('2026-07-24', '2026-07-26')}), "0\n50\n51", 'and nothing is lost');
	# A fold within such a transaction.
	is(sql($db, q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM mau.visits; SELECT rows FROM mau.fold() WHERE what = 'visits'; COMMIT}), "50\n50", 'which may fold, too');
	is(sql($db, q{SELECT dau FROM mau.daily_series('2026-07-24', '2026-07-26')}), "0\n50\n51", 'with the same figures');
};

subtest 'late sightings' => sub {
	my $db = make_database('late');
	sql($db, $SIGHTINGS);
	sql($db, 'SELECT mau.fold()');
	my $day = q{SELECT dau FROM mau.daily_series('2026-06-03', '2026-06-03')};
	my $dau = sql($db, $day);
	sql($db, q{SELECT mau.record_activity('@late' || n || ':x', '2026-06-03 23:59:59.999Z', 'curl') FROM generate_series(1, 3) n});
	is(sql($db, $day), $dau + 3, 'to a day that is folded');
	is(sql($db, q{SELECT mau.record_activity('@u1:x', '2026-06-04 00:00Z', 'a client of its own')}), 'unchanged', 'of a member seen later');
	sql($db, 'SELECT mau.fold()');
	is(sql($db, $day), $dau + 3, 'and it stays there');
	is(sql($db, q{SELECT count(*) FROM visits_now() v JOIN mau.users u USING (user_no) WHERE user_id = '@u1:x' AND day = '2026-06-04' AND platform = 0}), 1, 'as does that of the member');

	# The days that are not kept are one: before.
	my $kept = q{SELECT day, dau FROM mau.daily_series('2026-06-20', '2026-07-10')};
	my $series = sql($db, $kept);
	my $fresh = q{SELECT day, new_users FROM mau.daily_series('2026-06-20', '2026-07-20')};
	my $new = sql($db, $fresh);
	sql($db, q{UPDATE mau.settings SET history_retention = (now() AT TIME ZONE 'UTC')::date - timestamp '2026-06-20'});
	my $ever = sql($db, 'SELECT count(DISTINCT user_no) FROM visits_now()');
	cmp_ok(sql($db, q{SELECT rows FROM mau.fold() WHERE what = 'purged'}), '>', 30, 'old days are purged');
	is(sql($db, 'SELECT min(day) FROM mau.active_days WHERE isfinite(day)'), '2026-06-20', 'those before the first that is kept');
	is(sql($db, $kept), $series, 'the other days are as they were');
	is(sql($db, $fresh), $new, 'nobody is new who was there before');
	is(sql($db, 'SELECT count(DISTINCT user_no) FROM visits_now()'), $ever, 'who was ever there is known');
	sql($db, q{SELECT mau.record_activity('@ancient:x', '2026-06-05 12:00Z', 'curl')});
	is(sql($db, q{SELECT what, rows FROM mau.fold()}), "visits|1\nbitmaps|1\npurged|0", 'a sighting of such a day');
	is(sql($db, q{SELECT day FROM visits_now() v JOIN mau.users u USING (user_no) WHERE user_id = '@ancient:x'}), '-infinity', 'is one before');
	sql($db, q{SELECT mau.record_activity('@ancient:x', '2026-07-20 12:00Z', 'curl')});
	is(sql($db, $fresh), $new, 'so that its user is not new later');
	is(sql($db, q{SELECT dau, new_users FROM mau.daily_series('2026-07-20', '2026-07-20')}), '1|0', 'but there');
	is(sql($db, q{SELECT sum(rows) FROM mau.fold('2090-01-01Z') WHERE what = 'purged'}), 0, 'a fold for a time to come purges nothing of today');
};

subtest 'who is forgotten' => sub {
	my $db = make_database('forgotten');
	sql($db, q{SELECT mau.register_user('@u' || n || ':x', '2026-05-01 10:00Z') FROM generate_series(1, 50) n});
	sql($db, $SIGHTINGS);
	sql($db, q{SELECT mau.fold(max_rows => 300)});
	my $before = sql($db, $FIGURES);
	my $last = sql($db, 'SELECT max(user_no) FROM mau.users');
	is(sql($db, q{SELECT count(*) FROM generate_series(41, 50) n WHERE mau.forget_user('@u' || n || ':x')}), 10, 'ten are forgotten');
	is(sql($db, $FIGURES), $before, 'past totals are the same');
	is(sql($db, q{SELECT count(*) FROM mau.visits v JOIN mau.users u USING (user_no) WHERE user_id IS NULL}) > 0, 1, 'also those of visits that are not folded');
	sql($db, 'SELECT mau.fold()');
	is(sql($db, $FIGURES), $before, 'and after a fold');
	sql($db, q{SELECT mau.record_activity('@u50:x', '2026-07-30 12:00Z', 'curl'), mau.register_user('@other:x')});
	is(sql($db, q{SELECT bool_and(user_no > } . $last . q{) FROM mau.users WHERE user_id IN ('@u50:x', '@other:x')}), 't', 'who comes back has a new number');
	is(sql($db, q{SELECT new_users FROM mau.daily_series('2026-07-30', '2026-07-30')}), 1, 'and is somebody new');
	is(sql($db, q{SELECT count(*) FROM mau.users u WHERE u::text ~ '@u4[1-9]'}), 0, 'nothing says who they were');
	is(sql($db, q{SELECT mau.deactivate_user('@u1:x')}), 't', 'deactivated');
	is(sql($db, q{SELECT sum(dau) FROM mau.daily_series('2026-06-01', '2026-07-10')}),
		sql($db, q{SELECT count(DISTINCT (user_no, day)) FROM visits_now() WHERE day <= '2026-07-10'}), 'a deactivated user counts as before');
};

subtest 'a bitmap that is damaged' => sub {
	my $db = make_database('damaged');
	sql($db, $SIGHTINGS);
	sql($db, 'SELECT mau.fold()');
	my %questions = (
		daily_series   => q{SELECT * FROM mau.daily_series('2026-06-01', '2026-06-30')},
		growth         => q{SELECT * FROM mau.growth('2026-06-20', '2026-06-30')},
		retention      => q{SELECT * FROM mau.retention('week', '2026-06-01', '2026-06-30', at => '2026-08-01Z')},
		days_active    => q{SELECT * FROM mau.days_active('2026-06-20Z', '30 days')},
		active_users   => q{SELECT mau.active_users('30 days', '2026-06-20Z', min_days => 2)},
		r30v2          => q{SELECT * FROM mau.r30v2('2026-06-20Z')},
		r30v2_series   => q{SELECT * FROM mau.r30v2_series('2026-06-10', '2026-06-20')},
		billing_months => q{SELECT * FROM mau.billing_months('2026-06-01', '2026-06-30', at => '2026-08-01Z')},
		forecast       => q{SELECT * FROM mau.forecast(10000, '2026-07-20Z', 20)},
		chart          => q{SELECT * FROM mau.chart('mau', '2026-06-01', '2026-06-30')},
	);
	sql($db, q{SELECT mau.register_user('@u' || n || ':x', '2026-06-01 10:00Z') FROM generate_series(1, 50) n});
	is((error_of($db, $questions{$_}))[0], '', "$_ has an answer") for sort keys %questions;
	my %damage = ('a byte' => q{'\x00'}, 'nothing' => q{''}, 'cut off' => 'substr(users, 1, length(users) - 1)', 'too long' => q{users || '\x0000'},
		'out of order' => q{overlay(users placing '\xffff' from 17)}, 'another key' => q{overlay(users placing '\x01' from 9)});
	for my $kind (sort keys %damage)
	{
		my $undo = sql($db, q{SELECT users FROM mau.active_days WHERE day = '2026-06-10' AND platform = 4});
		sql($db, qq{UPDATE mau.active_days SET users = $damage{$kind} WHERE day = '2026-06-10' AND platform = 4});
		for my $question ($kind eq 'a byte' ? sort keys %questions : 'daily_series')
		{
			my ($state, $text) = error_of($db, $questions{$question});
			is($state, 'XX001', "$kind: $question");
			like($text, qr/Service native, platform ios, day 2026-06-10, chunk 0: /, "$kind: $question names the row");
		}
		sql($db, qq{UPDATE mau.active_days SET users = '$undo' WHERE day = '2026-06-10' AND platform = 4});
	}
	sql($db, q{UPDATE mau.active_days SET users = '\x00' WHERE day = '2026-06-10' AND platform = 4});
	is((error_of($db, q{SELECT * FROM mau.daily_series('2026-06-01', '2026-06-30', platform => 'web')}))[0], '', 'other clients have their figures');
	is(sql($db, q{SELECT mau.record_activity('@u1:x', '2026-06-10 12:00Z', 'Element (iOS)'), mau.record_activity('@fresh:x', '2026-06-10 12:00Z', 'Element (iOS)')}),
		'unchanged|joined', 'recording goes on');
	my ($state, $text) = error_of($db, 'SELECT * FROM mau.fold()');
	is($state, 'XX001', 'fold stops');
	like($text, qr/platform ios, day 2026-06-10, chunk 0: .*HINT:/s, 'and names the row');
	cmp_ok(sql($db, 'SELECT count(*) FROM mau.visits'), '>', 0, 'it leaves the visits');
	($state, $text) = error_of($db, q{UPDATE mau.settings SET history_retention = (now() AT TIME ZONE 'UTC')::date - timestamp '2026-06-20'; SELECT * FROM mau.fold()});
	is($state, 'XX001', 'so does a purge');
	sql($db, q{UPDATE mau.settings SET history_retention = '100 years'});
	sql('postgres', "ALTER SYSTEM SET mau.databases = $db");
	$node->reload;
	ok($node->poll_query_until($db, q{SELECT health = 'failing' FROM mau.health()}), 'health says that it fails');
	like(sql($db, 'SELECT reason FROM mau.health()'), qr/fold failed .* day 2026-06-10, chunk 0: .* \(SQLSTATE XX001\)/, 'where');
	sql($db, q{DELETE FROM mau.active_days WHERE day = '2026-06-10' AND platform = 4});
	sql($db, 'SELECT mau.wake_worker()');
	ok($node->poll_query_until($db, q{SELECT health = 'ok' FROM mau.health()}), 'once the row is gone all is well');
	is(sql($db, 'SELECT count(*) FROM mau.visits'), 0, 'and what waited is folded');
	sql('postgres', q{ALTER SYSTEM SET mau.databases = ''});
	$node->reload;
};

subtest 'rows by hand' => sub {
	my $db = make_database('by_hand');
	# The table's constraints refuse them.
	sql($db, "ALTER TABLE mau.visits DROP CONSTRAINT $_") for qw(user_no_is_in_range day_is_in_range platform_is_known);
	sql($db, q{INSERT INTO mau.visits VALUES (1, '2026-06-01', 1, 'native'), (-1, '2026-06-01', 1, 'native'), (9223372036854775807, '2026-06-01', 1, 'native'),
		(2, 'infinity', 1, 'native'), (2, '-infinity', 1, 'native'), (3, '2026-06-01', 99, 'native'), (70368744177663, '2026-06-01', 4, 'native')});
	is(sql($db, q{SELECT rows FROM mau.fold() WHERE what = 'visits'}), 7, 'what says nothing is taken away');
	is(sql($db, 'SELECT user_no, day, platform FROM visits_now() ORDER BY 1'), "1|2026-06-01|1\n70368744177663|2026-06-01|4", 'and is nowhere');
	my $dml = $node->background_psql($db);
	sql($db, q{INSERT INTO mau.visits SELECT n, '2026-06-02', 1, 'native' FROM generate_series(1, 10) n});
	$dml->query_until(qr/deleted/, "BEGIN;\nDELETE FROM mau.visits WHERE user_no <= 3;\n\\echo deleted\n");
	is(sql($db, q{SET statement_timeout = '5s'; SELECT rows FROM mau.fold() WHERE what = 'visits'}), 7, q{a fold does not wait for somebody's DELETE});
	$dml->query_until(qr/back/, "ROLLBACK;\n\\echo back\n");
	$dml->quit;
	is(sql($db, q{SELECT dau FROM mau.daily_series('2026-06-02', '2026-06-02', kind => 'everybody')}), 10, 'nor does it lose what that leaves');
};

subtest 'a queue that was long' => sub {
	my $db = make_database('long');
	sql($db, q{INSERT INTO mau.visits SELECT n, date '2026-06-01' + n % 3, n % 5, 'native' FROM generate_series(1, 200000) n});
	is(sql($db, q{SELECT rows FROM mau.fold() WHERE what = 'visits'}), 200000, 'is folded at once');
	is(sql($db, 'SELECT dau FROM mau.daily_series(\'2026-06-01\', \'2026-06-03\', kind => \'everybody\')'), "66666\n66667\n66667", 'with all that was in it');
	sql($db, 'VACUUM mau.visits');
	cmp_ok(sql($db, q{SELECT pg_relation_size('mau.visits') / 8192}), '>', 1024, 'its pages stay: giving them back would lock out sightings');
	sql($db, q{INSERT INTO mau.visits SELECT n * 1000, '2026-06-04', n % 5, 'native' FROM generate_series(1, 300) n});
	is(sql($db, q{SELECT rows FROM mau.fold(max_rows => 100) WHERE what = 'visits'}), 100, 'the next visits are found among them');
	is(sql($db, q{SELECT rows FROM mau.fold() WHERE what = 'visits'}), 200, 'to the last');
	is(sql($db, q{SELECT count(*), sum(user_no) FROM visits_now() WHERE day = '2026-06-04'}), '300|45150000', 'as they were');
	is(sql($db, 'SELECT count(*) FROM mau.visits'), 0, 'none is left');
};

subtest 'rights' => sub {
	my $db = make_database('rights');
	sql($db, 'CREATE ROLE homeserver LOGIN; CREATE ROLE monitoring LOGIN; CREATE ROLE stranger LOGIN');
	sql($db, q{SELECT mau.grant_to('homeserver'), mau.grant_to('monitoring', 'monitoring')});
	my $as = sub { my ($role, $sql) = @_; return (error_of($db, "SET ROLE $role; $sql"))[0] };
	is($as->('homeserver', q{SELECT mau.record_activity('@a:x', '2026-06-01 12:00Z')}), '', 'the homeserver records');
	is($as->('homeserver', q{SELECT * FROM mau.record_activities('{@a:x,@b:x}', '{2026-06-02 12:00Z,2026-06-02 12:00Z}')}), '', 'in batches');
	is(sql($db, 'SELECT count(*) FROM mau.visits'), 3, 'and its visits are there');
	is($as->('homeserver', 'SELECT mau.fold()'), '42501', 'it cannot fold');
	is($as->('homeserver', 'DELETE FROM mau.visits'), '42501', 'nor take visits away');
	is($as->('homeserver', 'DELETE FROM mau.active_days'), '42501', 'or days');
	for my $role (qw(homeserver monitoring))
	{
		is($as->($role, q{SELECT * FROM mau.daily_series('2026-06-01', '2026-06-02')}), '', "$role reads");
	}
	is($as->('monitoring', q{SELECT mau.record_activity('@a:x')}), '42501', 'monitoring records nothing');
	is($as->('monitoring', 'SELECT mau.fold()'), '42501', 'and folds nothing');
	is($as->('stranger', 'SELECT mau.fold()'), '42501', 'nobody else folds');
	is($as->('stranger', q{SELECT * FROM mau.daily_series('2026-06-01', '2026-06-02')}), '42501', 'or reads');
	sql($db, 'GRANT USAGE ON SCHEMA mau TO stranger; GRANT EXECUTE ON FUNCTION mau.fold TO stranger');
	is($as->('stranger', 'SELECT mau.fold()'), '42501', 'the right to call it is not enough');
	is(sql($db, 'SELECT count(*) FROM mau.visits'), 3, 'nothing was folded');
};

subtest 'a search_path with traps' => sub {
	my $db = make_database('traps');
	my $traps = slurp_file("$FindBin::RealBin/../sql/search_path.sql");
	$traps =~ s/^SET search_path.*//ms;
	sql($db, 'DROP EXTENSION mau');
	sql($db, $traps);
	my $set = 'SET search_path = evil, pg_catalog;';
	is((error_of($db, "$set SELECT lower('A'::pg_catalog.text);"))[0], 'P0001', 'they are traps');
	sql($db, "$set CREATE EXTENSION mau;");
	sql($db, qq{$set SELECT mau.record_activity('\@a:x', '2026-06-01 12:00Z', 'Element'); SELECT mau.record_activity('\@b:x', '2020-06-02 12:00Z', 'Element');});
	is((error_of($db, "$set SELECT * FROM mau.$_;"))[0], '', $_)
	  for "fold()", "daily_series('2026-06-01', '2026-06-02')", 'fold()', 'days_active()', 'health()';
	is(sql($db, q{SELECT day FROM mau.active_days ORDER BY 1}), "-infinity\n2026-06-01", 'days are where they belong');
};

subtest 'a standby reads' => sub {
	my $db = make_database('standby');
	sql($db, $SIGHTINGS);
	sql($db, 'SELECT mau.fold(max_rows => 300)');
	$node->backup('backup');
	my $standby = PostgreSQL::Test::Cluster->new('standby');
	$standby->init_from_backup($node, 'backup', has_streaming => 1);
	$standby->start;
	is($standby->safe_psql($db, $FIGURES), sql($db, $FIGURES), 'the same figures');
	sql($db, 'SELECT mau.fold()');
	$node->wait_for_catchup($standby);
	is($standby->safe_psql($db, $FIGURES), sql($db, $FIGURES), 'and after a fold');
	my ($state, $text) = error_of($db, 'SELECT mau.fold()', node => $standby);
	is($state, '25006', 'it does not fold there');
	$standby->promote;
	is($standby->safe_psql($db, q{SELECT sum(rows) FROM mau.fold() WHERE what = 'visits'}), 0, 'once promoted it does');
	$standby->stop;
};

my @complaints = grep { /TRAP|PANIC|WARNING:  (?!terminating)|still active|not closed|reference leak/ } split /\n/, slurp_file($node->logfile);
is(join("\n", @complaints), '', 'the log has nothing to say of leaks');
$node->stop;
done_testing();
