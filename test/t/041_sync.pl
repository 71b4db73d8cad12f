# sync finds new, changed and deleted rows of Synapse's tables, in any order and however late they are committed. It can be cut short,
# killed or run twice with the same result. Uses small tables in Synapse's layout.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauSource;
use PostgreSQL::Test::Utils;
use Test::More;

# A rewrite of a table leaves no trace in the WAL: only its file shows it.
my $node = source_cluster('sync', conf => "max_prepared_transactions = 2\nwal_level = minimal\nmax_wal_senders = 0\nwal_skip_threshold = 0\n");

sub sql { my ($database, $sql) = @_; $node->safe_psql($database, $sql); return; }
sub one { my ($database, $sql) = @_; return scalar ask($node, $database, $sql); }

# A user as mau knows it: appservice, type, guest, deactivated, registered (ms).
sub known
{
	my ($database, $user) = @_;
	return one($database, "SELECT coalesce(appservice_id, '-'), coalesce(user_type, '-'), is_guest, is_deactivated, registered_at
		FROM mau.users WHERE user_id = '$user' AND is_registered");
}

sub source { my ($database, $column) = @_; return one($database, "SELECT $column FROM mau.source"); }
sub since_epoch { my ($column) = @_; return "round(extract(epoch FROM $column) * 1000)"; }

my $born = $NOW - $DAY;

# --- What is new, and what has changed --------------------------------------------------------------------------

sub news
{
	my $d = new_homeserver($node, name => 'news');
	set_settings($node, $d, 'track_appservice_user_ips = true');
	sql($d, add_user('@a:x') . see('@a:x', $NOW) . add_user('@guest:x', is_guest => 1) . see('@guest:x', $NOW) . see('@early:x', $NOW));
	is_deeply(
		attach($node, $d, $NOW),
		{ users => 2, threepids => 0, sightings => 3, joined => 2, guest => 1, visits => 3, 'new visits' => 3, 'members without an account' => 1,
			'there is no monthly_active_users; members are those of user_ips' => 0, 'there is no user_daily_visits to read the past from' => 0 },
		'news: attached');
	is_deeply(sync($node, $d, $NOW), { users => 0, threepids => 0, sightings => 3, unchanged => 2, guest => 1 }, 'news: nothing new');

	# New activity: known and unknown users.
	my $t = $NOW + 2 * 3600000;
	sql($d, add_user('@b:x', born => $t) . see('@b:x', $t) . see('@a:x', $t) . see('@nobody:x', $t));
	my $done = sync($node, $d, $t);
	is_deeply([ @$done{qw(users joined refreshed)} ], [ 1, 2, 1 ], 'news: a new user, two who join, one who was seen again');
	is(members($node, $d), join("\n", "\@a:x|native|$t", "\@b:x|native|$t", "\@early:x|native|$NOW", "\@nobody:x|native|$t"), 'news: the cohort');
	is(known($d, '@b:x'), "-|-|f|f|" . int($t / 1000) * 1000, 'news: the new user is known');
	is(source($d, 'activity_until'), $t, 'news: the source says how far activity was read');
	is(source($d, since_epoch('synced_at')), $t, 'news: and when');
	is_settled($node, $d, $t, 'news: a second sync changes nothing');

	# A sighting less than an hour later is read and not written (as in Synapse); after more than an hour it is.
	sql($d, see('@b:x', $t + 3600000));
	is(sync($node, $d, $t + 3600000)->{refreshed}, undef, 'news: within the hour nothing is written');
	sql($d, see('@b:x', $t + 3600001));
	is(sync($node, $d, $t + 3600001)->{refreshed}, 1, 'news: after it there is');
	is(last_seen($node, $d, '@b:x'), $t + 3600001, 'news: last seen then');

	# Activity that is later than the sync's time waits for its time.
	sql($d, see('@later:x', $t + 5 * 3600000));
	is(sync($node, $d, $t + 4 * 3600000)->{joined}, undef, 'news: what is in the future waits');
	is(sync($node, $d, $t + 5 * 3600000)->{joined}, 1, 'news: until then');
	is(sync($node, $d, $NOW)->{error}, undef, 'news: a sync in the past does no harm');
	is(source($d, 'activity_until'), $t + 5 * 3600000, 'news: and does not go back');

	# Changes to accounts, each alone, on whatever page they are.
	for my $change (
		[ "user_type = 'bot'",            '-|bot|f|f' ],
		[ "user_type = 'support'",        '-|support|f|f' ],
		[ "user_type = NULL",             '-|-|f|f' ],
		[ "appservice_id = 'irc-bridge'", 'irc-bridge|-|f|f' ],
		[ "appservice_id = ''",           '-|-|f|f' ],
		[ "deactivated = 1",              '-|-|f|t' ],
		[ "deactivated = 0",              '-|-|f|f' ])
	{
		sql($d, "UPDATE users SET $change->[0] WHERE name = '\@a:x'");
		is(sync($node, $d, $t)->{users}, 1, "news: $change->[0]: one user has changed");
		like(known($d, '@a:x'), qr/^\Q$change->[1]\E/, "news: $change->[0]: is known");
		is(one($d, q{SELECT service FROM mau.monthly_active_users WHERE user_id = '@a:x'}),
			$change->[0] =~ /irc/ ? 'irc-bridge' : 'native', "news: $change->[0]: service");
	}
	sql($d, "UPDATE users SET creation_ts = 1700000000 WHERE name = '\@a:x'");
	sync($node, $d, $t);
	is(known($d, '@a:x'), '-|-|f|f|1700000000000', 'news: the registration time, too');

	# A guest becomes a user and is seen again.
	my $later = $t + 6 * 3600000;
	is(one($d, q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id = '@guest:x'}), 0, 'news: a guest is no member');
	sql($d, "UPDATE users SET is_guest = 0 WHERE name = '\@guest:x';" . see('@guest:x', $later));
	is(sync($node, $d, $later)->{joined}, 1, 'news: an upgraded guest joins with the next sighting');

	# A user who was seen before the account was known as a bridge's moves to the bridge.
	sql($d, add_user('@early:x', appservice_id => 'slack-bridge'));
	sync($node, $d, $later);
	is(one($d, q{SELECT service FROM mau.monthly_active_users WHERE user_id = '@early:x'}), 'slack-bridge', 'news: seen first and registered then: moves to the bridge');
	is(one($d, q{SELECT count(*) FROM mau.users WHERE user_id = '@early:x'}), 1, 'news: and is one user');
	is_settled($node, $d, $later, 'news: and nothing more to do');
	return;
}

sub deactivated
{
	my $d = new_homeserver($node, name => 'deactivated');
	sql($d, join '', map { add_user("\@$_:x") . see("\@$_:x", $NOW) } qw(a b c));
	attach($node, $d, $NOW);
	sql($d, "UPDATE users SET deactivated = 1 WHERE name = '\@a:x'");
	sync($node, $d, $NOW);
	is(one($d, "SELECT mau.monthly_active_count(@{[at($NOW)]})"), 3, 'deactivated: counts until it expires, as in Synapse');
	set_settings($node, $d, 'count_deactivated_users = false');
	sync($node, $d, $NOW);
	is(one($d, "SELECT mau.monthly_active_count(@{[at($NOW)]})"), 2, 'deactivated: with count_deactivated_users off leaves with the next sync');
	is(last_seen($node, $d, '@a:x'), $NOW, 'deactivated: and keeps the last sighting');
	sql($d, "UPDATE users SET deactivated = 1 WHERE name = '\@b:x';" . see('@a:x', $NOW + 7200000) . see('@b:x', $NOW + 7200000));
	is(sync($node, $d, $NOW + 7200000)->{deactivated}, 2, 'deactivated: and does not come back');
	is(members($node, $d), "\@c:x|native|$NOW", 'deactivated: one is left');
	sql($d, "UPDATE users SET deactivated = 0 WHERE name = '\@a:x';" . see('@a:x', $NOW + 10800001));
	is(sync($node, $d, $NOW + 10800001)->{joined}, 1, 'deactivated: reactivated, the next sighting counts');
	is_settled($node, $d, $NOW + 10800001, 'deactivated: and nothing more to do');
	return;
}

# A bridge's members become the homeserver's own users: each takes a seat, or leaves where there is none.
sub natives
{
	my ($name) = @_;
	my $d = new_homeserver($node, name => $name);
	set_settings($node, $d, 'limit_usage_by_mau = true, max_mau_value = 2, track_appservice_user_ips = true');
	sql($d, add_user('@a:x') . see('@a:x', $NOW) . join '', map { add_user("\@b$_:x", appservice_id => 'irc') . see("\@b$_:x", $NOW) } 1 .. 3);
	is(attach($node, $d, $NOW)->{joined}, 4, "$name: attached");
	my $becomes_native = sub {
		my ($user) = @_;
		sql($d, "UPDATE users SET appservice_id = NULL WHERE name = '$user'");
		is(sync($node, $d, $NOW)->{users}, 1, "$name: $user: one user has changed");
		like(known($d, $user), qr/^-[|]/, "$name: $user: has no appservice");
		return;
	};
	my $count = "SELECT mau.monthly_active_count(@{[at($NOW)]})";
	is(one($d, $count), 1, "$name: the bridge's members take no seat");
	$becomes_native->('@b1:x');
	is(members($node, $d), join("\n", "\@a:x|native|$NOW", "\@b1:x|native|$NOW", "\@b2:x|irc|$NOW", "\@b3:x|irc|$NOW"), "$name: takes the seat that is free");
	$becomes_native->('@b2:x');
	is(members($node, $d), join("\n", "\@a:x|native|$NOW", "\@b1:x|native|$NOW", "\@b3:x|irc|$NOW"), "$name: where there is none, leaves");
	is(last_seen($node, $d, '@b2:x'), $NOW, "$name: and keeps the last sighting");
	is(one($d, $count), 2, "$name: the limit holds");
	is(one($d, "SELECT mau.record_activity('\@c:x', @{[at($NOW)]})"), 'full', "$name: nobody else comes in");
	is_settled($node, $d, $NOW, "$name: and nothing more to do");
	set_settings($node, $d, 'max_mau_value = 3');
	sql($d, see('@b2:x', $NOW + 7200000));
	is(sync($node, $d, $NOW + 7200000)->{joined}, 1, "$name: comes back when there is room");
	set_settings($node, $d, 'limit_usage_by_mau = false');
	$becomes_native->('@b3:x');
	is(one($d, "SELECT mau.monthly_active_count(@{[at($NOW + 7200000)]})"), 4, "$name: without a limit everybody stays");
	return;
}

sub threepids
{
	my $d = new_homeserver($node, name => 'threepids');
	my $mail = sub {
		my ($user, $address) = @_;
		return "INSERT INTO user_threepids VALUES ('$user', 'email', '$address', $NOW, $NOW);";
	};
	my $reserved = sub { one($d, q{SELECT coalesce(string_agg(u, ' ' ORDER BY u), '') FROM mau.registered_reserved_users() u}) };
	set_settings($node, $d, 'limit_usage_by_mau = true, max_mau_value = 3');
	sql($d, q{INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'Boss@Example.com'), ('email', 'new@example.com'), ('msisdn', '447700900123')});
	sql($d, add_user('@boss:x') . add_user('@b:x') . add_user('@c:x')
		  . $mail->('@boss:x', 'BOSS@example.com') . $mail->('@b:x', 'b@example.com'));
	is(attach($node, $d, $NOW)->{threepids}, 2, 'threepids: imported');
	is($reserved->(), '@boss:x', 'threepids: the owner of a reserved address is known, however either is written');
	is(members($node, $d), '@boss:x|native|0', 'threepids: and has a seat, though never seen');

	is(sync($node, $d, $NOW)->{threepids}, 0, 'threepids: nothing new');
	is($reserved->(), '@boss:x', 'threepids: and still the owner');

	sql($d, $mail->('@b:x', 'new@example.com') . "INSERT INTO user_threepids VALUES ('\@c:x', 'msisdn', '447700900123', $NOW, $NOW);");
	is(sync($node, $d, $NOW)->{threepids}, 2, 'threepids: two were added');
	is($reserved->(), '@b:x @boss:x @c:x', 'threepids: an e-mail and a phone number that are reserved');

	sql($d, "DELETE FROM user_threepids WHERE user_id = '\@c:x'");
	sync($node, $d, $NOW);
	is($reserved->(), '@b:x @boss:x', 'threepids: one was removed');

	sql($d, "DELETE FROM user_threepids WHERE address = 'BOSS\@example.com'");
	sync($node, $d, $NOW);
	is($reserved->(), '@b:x', 'threepids: one that was written in another case was removed');

	sql($d, "DELETE FROM user_threepids WHERE address = 'new\@example.com';" . $mail->('@c:x', 'NEW@example.com'));
	sync($node, $d, $NOW);
	is($reserved->(), '@c:x', 'threepids: one moved to another user');

	sql($d, q{UPDATE user_threepids SET user_id = '@boss:x' WHERE address = 'NEW@example.com'});
	sync($node, $d, $NOW);
	is($reserved->(), '@boss:x', 'threepids: and on to the next');

	# Reserved only after its owner was known; and removed before anybody knew that it mattered.
	set_settings($node, $d, 'max_mau_value = 5');
	sql($d, q{INSERT INTO mau.reserved_threepids (medium, address, position) VALUES ('email', 'b@example.com', 0)});
	is($reserved->(), '@b:x @boss:x', 'threepids: one of those who were known becomes reserved');
	sql($d, $mail->('@a:x', 'gone@example.com'));
	sync($node, $d, $NOW);
	sql($d, "DELETE FROM user_threepids WHERE address = 'gone\@example.com'");
	sync($node, $d, $NOW);
	sql($d, q{INSERT INTO mau.reserved_threepids (medium, address, position) VALUES ('email', 'gone@example.com', -1)});
	sync($node, $d, $NOW);
	is($reserved->(), '@b:x @boss:x', 'threepids: one that was removed before is nobody\'s with the next sync');

	# A row too long for an index must not stop the others.
	sql($d, "INSERT INTO user_threepids SELECT '\@b:x', string_agg(md5(i::text), ''), 'x', 0, 0 FROM generate_series(1, 200) i;"
		  . $mail->('@b:x', 'good@example.com'))
	  if one($d, 'DROP INDEX IF EXISTS none; ALTER TABLE user_threepids DROP CONSTRAINT user_threepids_medium_address_key') || 1;
	my $done = sync($node, $d, $NOW);
	is($done->{error} // $done->{warning}, undef, 'threepids: one that is too long is no trouble');
	is($done->{skipped}, 1, 'threepids: it is skipped');
	is(one($d, "SELECT user_id FROM mau.user_threepids WHERE address = 'good\@example.com'"), '@b:x', 'threepids: and the one beside it is read');
	return;
}

# --- What is committed late -------------------------------------------------------------------------------------

sub late
{
	my $d = new_homeserver($node, name => 'late');
	sql($d, add_user('@a:x') . see('@a:x', $NOW));
	my $homeserver = $node->background_psql($d);
	my $other      = $node->background_psql($d);
	my $third      = $node->background_psql($d);

	# Under way when mau attaches.
	$homeserver->query_safe('BEGIN;' . add_user('@attach:x') . see('@attach:x', $NOW - 1000)
		  . "INSERT INTO user_threepids VALUES ('\@attach:x', 'email', 'attach\@x', 0, 0)");
	attach($node, $d, $NOW);
	is(known($d, '@attach:x'), '', 'late: what is not committed is not read by attach');
	$homeserver->query_safe('COMMIT');
	my $done = sync($node, $d, $NOW);
	is_deeply([ @$done{qw(users threepids joined)} ], [ 1, 1, 1 ], 'late: it is by the next sync: user, threepid and sighting');

	# Sightings within the overlap, of 5 minutes.
	$homeserver->query_safe('BEGIN;' . see('@late:x', $NOW + 1) . see('@much_later:x', $NOW + 2));
	sql($d, see('@ahead:x', $NOW + 300000));
	is(sync($node, $d, $NOW + 300000)->{joined}, 1, 'late: one is ahead');
	$homeserver->query_safe('COMMIT');
	is(sync($node, $d, $NOW + 300000)->{joined}, 2, 'late: those committed after it are found, up to the overlap');
	sql($d, see('@ahead:x', $NOW + 600000));
	sync($node, $d, $NOW + 600000);
	sql($d, see('@too_late:x', $NOW + 299999) . see('@just:x', $NOW + 300000));
	is(sync($node, $d, $NOW + 600000)->{joined}, 1, 'late: no further');
	my ($out) = ask($node, $d, "SET mau.sync_overlap = '10min'; SELECT * FROM mau.sync(" . at($NOW + 600000) . ')');
	like($out, qr/^joined\|1$/m, 'late: unless mau.sync_overlap says so');

	# Rows of users: one transaction after the other under way over several syncs, each page changed by several.
	my @open = ($homeserver, $other, $third);
	my $n    = 0;
	my %expected;
	for my $round (1 .. 9)
	{
		my $session = $open[ $round % 3 ];
		$session->query_safe('COMMIT') if $round > 3;
		$session->query_safe('BEGIN;' . add_user("\@open$round:x") . "INSERT INTO user_threepids VALUES ('\@open$round:x', 'email', 'open$round\@x', 0, 0)");
		sync($node, $d, $NOW + 600000);
		sql($d, add_user("\@quick$round:x"));
		sync($node, $d, $NOW + 600000);
		my $visible = one($d, 'SELECT count(*) FROM users');
		$n += $visible == one($d, 'SELECT count(*) FROM mau.users WHERE is_registered');
	}
	is($n, 9, 'late: with transactions under way all the time, every sync finds what is committed');
	$_->query_safe('COMMIT') for @open;
	sync($node, $d, $NOW + 600000);
	is( one($d, 'SELECT count(*) FROM users u FULL JOIN mau.users m ON m.user_id = u.name WHERE m.is_registered AND u.name IS NULL OR m.user_id IS NULL'),
		0, 'late: and after the last commit one sync finds them all');
	is( one($d, 'SELECT count(*) FROM user_threepids t FULL JOIN mau.user_threepids m USING (address) WHERE m.user_id IS NULL OR t.user_id IS NULL'),
		0, 'late: threepids as well');
	is(one($d, 'SELECT count(pending_xid) FROM mau.source_tables'), 0, 'late: with nobody under way nothing is pending');
	is(sync($node, $d, $NOW + 600000)->{users}, 0, 'late: and nothing is read again');

	# Two subtransactions, a rollback, and a prepared transaction.
	$homeserver->query_safe('BEGIN; SAVEPOINT a;' . add_user('@sub:x') . 'SAVEPOINT b;' . add_user('@undone:x'));
	$other->query_safe('BEGIN;' . add_user('@prepared:x') . "PREPARE TRANSACTION 'p'");
	sync($node, $d, $NOW + 600000) for 1 .. 3;
	$homeserver->query_safe('ROLLBACK TO b; COMMIT');
	sync($node, $d, $NOW + 600000) for 1 .. 2;
	isnt(known($d, '@sub:x'), '', 'late: a subtransaction is found after its commit');
	is(known($d, '@undone:x'), '', 'late: what was undone is not');
	sql($d, "COMMIT PREPARED 'p'");
	sync($node, $d, $NOW + 600000);
	isnt(known($d, '@prepared:x'), '', 'late: a prepared transaction is found after its commit');
	$_->quit for @open;

	# An unrelated transaction of another session, open for long.
	sql($d, 'CREATE TABLE unrelated (i int)');
	my $long = $node->background_psql($d);
	$long->query_safe('BEGIN; INSERT INTO unrelated VALUES (1)');
	for my $round (1 .. 4)
	{
		sql($d, add_user("\@meanwhile$round:x") . "UPDATE users SET user_type = 'r$round' WHERE name = '\@a:x'");
		sync($node, $d, $NOW + 600000);
		is(known($d, '@a:x') . ' ' . (known($d, "\@meanwhile$round:x") ne ''), "-|r$round|f|f|" . int($born / 1000) * 1000 . ' 1', "late: a long transaction of others hides nothing, round $round");
	}
	$long->query_safe('COMMIT');
	$long->quit;
	is_settled($node, $d, $NOW + 600000, 'late: and nothing more to do');
	return;
}

# --- In batches, killed, and run again --------------------------------------------------------------------------

sub batches
{
	my $d = new_homeserver($node, name => 'batches');
	sql($d, add_user('@a:x') . see('@a:x', $NOW));
	attach($node, $d, $NOW);
	my $t = $NOW + $DAY;

	# 40 users, four at each time but for one time with ten.
	sql($d, join '', map { see("\@u$_:x", $t + 1000 * ($_ < 30 ? int($_ / 4) : 20)) } 0 .. 39);
	my $end = $t + 100000;
	my (@calls, $done);
	do
	{
		$done = sync($node, $d, $end, 6);
		push @calls, $done->{sightings} + ($done->{more} ? 0 : 0.5);
		is(source($d, 'pass_from IS NOT NULL'), $done->{more} ? 't' : 'f', 'batches: the source says where the next call goes on, if it does');
		is(source($d, since_epoch('synced_at')), $done->{more} ? $NOW : $end, 'batches: and has synced at the end only');
	} while ($done->{more} && @calls < 30);
	cmp_ok(scalar @calls, '>', 4, 'batches: it took several calls');
	cmp_ok((sort { $b <=> $a } @calls)[0], '<=', 11, 'batches: none read much more than it was asked to');
	is(one($d, 'SELECT count(*) FROM mau.monthly_active_users'), 41, 'batches: together they found all');
	is(one($d, q{SELECT count(*) FROM (SELECT user_id, last_seen FROM user_ips EXCEPT SELECT user_id, "timestamp" FROM mau.monthly_active_users) x}), 0, 'batches: with their times');
	is_settled($node, $d, $end, 'batches: a sync of all changes nothing');

	# Between two calls new rows come in, before and after where the pass stands: none is lost.
	my $s = $t + $DAY;
	sql($d, join '', map { see("\@v$_:x", $s + 1000 * $_) } 0 .. 19);
	$done = sync($node, $d, $s + 100000, 5);
	is($done->{more}, 1, 'batches: a pass is under way');
	sql($d, see('@before:x', $s) . see('@after:x', $s + 50000));
	$done = sync($node, $d, $s + 100000, 5) while $done->{more};
	sync($node, $d, $s + 100000);
	is(one($d, q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id ~ '^@(v|before|after)'}), 22, 'batches: what comes in during a pass is not lost');

	# One call of one row at a time; all rows of one time.
	my $u = $s + $DAY;
	sql($d, join '', map { see("\@w$_:x", $u) } 0 .. 9);
	is(sync($node, $d, $u, 1)->{error}, undef, 'batches: of one row');
	my $calls = 0;
	$done = { more => 1 };
	$done = sync($node, $d, $u, 1) while $done->{more} && ++$calls < 50;
	is(one($d, q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id ~ '^@w'}), 10, 'batches: ten of the same time, asked for one');
	cmp_ok($calls, '<', 50, 'batches: that comes to an end');
	return;
}

sub interrupted
{
	my $d = new_homeserver($node, name => 'interrupted');
	sql($d, add_user('@a:x') . see('@a:x', $NOW));
	attach($node, $d, $NOW);
	my $t = $NOW + $DAY;
	sql($d, join '', map { add_user("\@u$_:x", born => $t) . see("\@u$_:x", $t + $_) } 0 .. 19);
	my $state = sub { join "\n", map { one($d, "SELECT * FROM mau.$_ ORDER BY 1") } qw(source source_tables users monthly_active_users tasks) };
	my $before = $state->();

	# Terminated after its work, before its commit.
	my $session = $node->background_psql($d, on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	like($session->query('BEGIN; SELECT * FROM mau.sync(' . at($t + 1000) . ')'), qr/joined\|20/, 'interrupted: a sync has read all');
	ask($node, 'postgres', "SELECT pg_terminate_backend($pid, 10000)");
	eval { $session->quit };
	is($state->(), $before, 'interrupted: terminated before its commit, nothing has happened');

	# Terminated in the middle of reading: a view over the table stops it there.
	sql($d, q{ALTER TABLE user_ips RENAME TO user_ips_table;
		CREATE FUNCTION stop(user_id text) RETURNS boolean LANGUAGE plpgsql VOLATILE COST 1000000 SET lock_timeout = 0 AS
		$$BEGIN IF user_id = '@u10:x' THEN PERFORM pg_advisory_lock(4711); END IF; RETURN true; END$$;
		CREATE VIEW user_ips AS SELECT * FROM user_ips_table WHERE stop(user_id)});
	# A table that has replaced the old one is compared in full once.
	ask($node, $d, 'SELECT * FROM mau.sync((SELECT to_timestamp(activity_until / 1000.0) FROM mau.source))');
	my $gate = $node->background_psql($d);
	$gate->query_safe('SELECT pg_advisory_lock(4711)');
	for my $how ("SELECT pg_terminate_backend(%d, 10000)", "SELECT pg_cancel_backend(%d)", 'crash')
	{
		my ($in, $out, $err) = ('', '', '');
		my $reader = $node->background_psql($d, on_error_stop => 0);
		$pid = $reader->query('SELECT pg_backend_pid()');
		$reader->query_until(qr/reading/, "\\echo reading\nSELECT * FROM mau.sync(" . at($t + 1000) . ", 5) \\g /dev/null\nSELECT * FROM mau.sync(" . at($t + 1000) . ");\n");
		ok($node->poll_query_until($d, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted AND pid = $pid"), "interrupted: a sync is in the middle ($how)")
		  or last;
		my $middle = $state->();
		if ($how eq 'crash')
		{
			$node->stop('immediate');
			$node->start;
			eval { $_->quit } for $reader, $gate;
		}
		else
		{
			ask($node, 'postgres', sprintf $how, $pid);
			ok($node->poll_query_until($d, "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"), 'interrupted: it has stopped');
			eval { $reader->quit };
		}
		is($state->(), $middle, "interrupted: what it had not committed has not happened ($how)");
	}
	sql($d, 'DROP VIEW user_ips; ALTER TABLE user_ips_table RENAME TO user_ips');
	my $done = sync($node, $d, $t + 1000);
	is($done->{warning}, undef, 'interrupted: goes on');
	is(one($d, q{SELECT count(*) FROM mau.monthly_active_users}), 21, 'interrupted: all are there in the end');
	is(one($d, q{SELECT count(*) FROM mau.users WHERE is_registered}), 21, 'interrupted: the users as well');
	is_settled($node, $d, $t + 1000, 'interrupted: and nothing more to do');
	return;
}

# --- Their table is moved about ---------------------------------------------------------------------------------

sub moved
{
	my $d = new_homeserver($node, name => 'moved');
	sql($d, join '', map { add_user("\@u$_:x") } 0 .. 999);
	is(attach($node, $d, $NOW)->{users}, 1000, 'moved: attached');
	my $round = 0;
	my $found = sub {
		my ($name) = @_;
		++$round;
		sql($d, "UPDATE users SET user_type = 'r$round' WHERE name IN ('\@u0:x', '\@u500:x');" . add_user("\@new$round:x"));
		sync($node, $d, $NOW);
		is( one($d, q{SELECT count(*) FROM users u FULL JOIN mau.users m ON m.user_id = u.name
				WHERE m.user_id IS NULL OR u.name IS NOT NULL AND m.user_type IS DISTINCT FROM u.user_type}),
			0, "moved: $name: what was changed afterwards is found");
		is(sync($node, $d, $NOW)->{users}, 0, "moved: $name: once");
	};
	$found->('nothing done');
	sql($d, 'DELETE FROM users WHERE name ~ \'^@u[1-4]\'');
	sql($d, 'VACUUM users');
	$found->('VACUUM');
	sql($d, 'VACUUM (FREEZE) users');
	$found->('VACUUM (FREEZE)');
	sql($d, "UPDATE users SET user_type = 'lost' WHERE name = '\@u7:x'");
	sql($d, 'VACUUM FULL users');
	$found->('VACUUM FULL, with a change before it');
	sql($d, "UPDATE users SET user_type = 'again' WHERE name = '\@u7:x'");
	sql($d, 'CLUSTER users USING users_creation_ts');
	$found->('CLUSTER');
	sql($d, "BEGIN; CREATE TABLE kept AS TABLE users; TRUNCATE users; UPDATE kept SET user_type = 'reloaded' WHERE name = '\@u8:x'; INSERT INTO users TABLE kept; COMMIT");
	$found->('TRUNCATE and reload');
	sql($d, "CREATE TABLE new_users (LIKE users INCLUDING ALL); INSERT INTO new_users TABLE users; UPDATE new_users SET user_type = 'swapped' WHERE name = '\@u9:x';"
		  . ' DROP TABLE users; ALTER TABLE new_users RENAME TO users');
	$found->('another table of that name');
	sql($d, "ALTER TABLE users SET UNLOGGED; UPDATE users SET user_type = 'unlogged' WHERE name = '\@u9:x'");
	$found->('an unlogged table, which is read whole');
	$found->('an unlogged table, once more');
	sql($d, 'ALTER TABLE users SET LOGGED');
	$found->('logged again');
	sql($d, 'CREATE TABLE more_users () INHERITS (users); INSERT INTO more_users (name, creation_ts, user_type) VALUES (\'@child:x\', 1, \'child\')');
	$found->('a child table');
	sql($d, "UPDATE more_users SET user_type = 'grown' WHERE name = '\@child:x'");
	$found->('a changed row of it');
	sql($d, 'DROP TABLE more_users');
	$node->restart;
	$found->('a restart');
	sql($d, "UPDATE users SET user_type = 'crashed' WHERE name = '\@u5:x'");
	$node->stop('immediate');
	$node->start;
	$found->('a crash');
	return;
}

# --- Nothing more than is needed is read ------------------------------------------------------------------------

# A sync with its plans: the rows that it reads of each table, the scans, and the plans.
sub reads
{
	my ($d) = @_;
	my $err = plans_of_sync($node, $d, $NOW);
	my %rows = (users => 0, user_ips => 0, user_threepids => 0);
	my @scans;
	# PostgreSQL 18 shows rows with two decimals.
	while ($err =~ /(\w+ ?\w* ?\w* Scan)(?: Backward)?(?: using \w+)? on (?:public\.)?(users|user_ips|user_threepids) .*\(actual rows=(\d+)(?:\.\d+)? loops=(\d+)\)/g)
	{
		$rows{$2} += $3 * $4;
		push @scans, "$1 on $2";
	}
	return (\%rows, \@scans, $err);
}

sub frugal
{
	my $d = new_homeserver($node, name => 'frugal');
	sql($d, qq{
INSERT INTO users (name, creation_ts) SELECT '\@u' || i || ':x', 1700000000 + i FROM generate_series(1, 20000) i;
INSERT INTO user_ips SELECT '\@u' || i || ':x', 'token', 'D', '198.51.100.1', 'agent', $NOW - 20000 * 1000 + i * 1000 FROM generate_series(1, 20000) i;
INSERT INTO user_threepids SELECT '\@u' || i || ':x', 'email', 'u' || i || '\@example.com', 0, 0 FROM generate_series(1, 20000) i;
ANALYZE;
INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'u7\@example.com'), ('email', 'nobody\@example.com')});
	set_settings($node, $d, 'max_mau_value = 10');
	is(attach($node, $d, $NOW)->{joined}, 20000, 'frugal: attached');
	my $read = sub { return reads($d) };
	my ($rows, $scans) = $read->();
	is_deeply([ grep { /Seq Scan/ } @$scans ], [], 'frugal: with nothing new no table is scanned') or diag explain $scans;
	is($rows->{user_ips}, 301, 'frugal: of the activity the rows of the overlap are read, through the index');
	is($rows->{users}, 0, 'frugal: no user');
	cmp_ok($rows->{user_threepids}, '<=', 2, 'frugal: only the reserved threepids');

	sql($d, q{UPDATE users SET user_type = 'bot' WHERE name = '@u10000:x'});
	my ($out, $err);
	($rows, $scans, $err) = $read->();
	is_deeply([ grep { /Seq Scan/ } @$scans ], [], 'frugal: with one change no table is scanned') or diag explain $scans;
	cmp_ok($rows->{users}, '>', 0, 'frugal: with one change users are read');
	cmp_ok($rows->{users}, '<', 300, 'frugal: those of the changed pages');
	is(known($d, '@u10000:x'), '-|bot|f|f|1700010000000', 'frugal: and it was found');
	return;
}

# --- Transactions in progress, here and in another database -----------------------------------------------------

# How many rows of `users` a sync reads.
sub users_read { my ($d) = @_; my ($rows) = reads($d); return $rows->{users}; }

sub in_progress
{
	my $d = new_homeserver($node, name => 'in_progress');
	my $other = new_homeserver($node, name => 'neighbour');
	sql($d, "INSERT INTO users (name, creation_ts) SELECT '\@u' || i || ':x', 1700000000 + i FROM generate_series(1, 20000) i; ANALYZE");
	my $change = sub { my ($user, $type) = @_; return "UPDATE users SET user_type = '$type' WHERE name = '\@u$user:x';" };
	my $type = sub { my ($user) = @_; return one($d, "SELECT user_type FROM mau.users WHERE user_id = '\@u$user:x'"); };

	# Of another database: a session that has written, with savepoints, and a prepared transaction.
	my $neighbour = $node->background_psql($other);
	$neighbour->query_safe("BEGIN; INSERT INTO users (name) VALUES ('\@b:x'); SAVEPOINT s; INSERT INTO users (name) VALUES ('\@c:x')");
	sql($other, "BEGIN; INSERT INTO users (name) VALUES ('\@d:x'); PREPARE TRANSACTION 'neighbour'");
	is(attach($node, $d, $NOW)->{users}, 20000, 'in progress: attached while another database has transactions');
	cmp_ok(users_read($d), '<', 10, 'in progress: elsewhere, nothing is read again');
	sql($d, $change->(100, 'bot'));
	my $read = users_read($d);
	cmp_ok($read, '>', 0, 'in progress: elsewhere, what changes is read');
	cmp_ok($read, '<', 1000, 'in progress: elsewhere, the pages that have changed');
	is($type->(100), 'bot', 'in progress: elsewhere, and it was found');
	cmp_ok(users_read($d), '<', 1000, 'in progress: elsewhere, once');

	# Of this database: what they write is found when they have committed, however often a sync came before that.
	my $here = $node->background_psql($d);
	$here->query_safe('BEGIN;' . $change->(200, 'late') . 'SAVEPOINT s;' . $change->(300, 'later'));
	sql($d, 'BEGIN;' . $change->(400, 'prepared') . "PREPARE TRANSACTION 'here'");
	users_read($d) for 1 .. 3;
	is($type->($_), '', "in progress: here, \@u$_:x is not known yet") for 200, 300, 400;
	$here->query_safe('COMMIT');
	$here->quit;
	users_read($d);
	is($type->(200), 'late', 'in progress: here, found after the commit');
	is($type->(300), 'later', 'in progress: here, likewise of a subtransaction');
	users_read($d) for 1 .. 2;
	sql($d, "COMMIT PREPARED 'here'");
	users_read($d);
	is($type->(400), 'prepared', 'in progress: here, found after COMMIT PREPARED');
	users_read($d) for 1 .. 2;
	cmp_ok(users_read($d), '<', 1000, 'in progress: here, once');

	# A restart keeps prepared transactions.
	$neighbour->query_safe('COMMIT');
	$neighbour->quit;
	sql($d, 'BEGIN;' . $change->(500, 'kept') . "PREPARE TRANSACTION 'here'");
	$node->stop('immediate');
	$node->start;
	users_read($d) for 1 .. 2;
	sql($d, "COMMIT PREPARED 'here'");
	users_read($d);
	is($type->(500), 'kept', 'in progress: here, found after a crash');
	users_read($d);
	cmp_ok(users_read($d), '<', 1000, 'in progress: here, once');
	sql($other, "COMMIT PREPARED 'neighbour'");
	return;
}

news();
deactivated();
threepids();
late();
batches();
interrupted();
moved();
frugal();
in_progress();
natives('by_count');
preload($node);
natives('by_counters');

$node->stop;
done_testing();
