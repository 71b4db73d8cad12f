# mau.compare: mau's figures beside the attached server's, user by user, and the reason for each difference.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use MauSource;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = source_cluster('compare');

# The rows of mau.compare as figure => [mau, server, unexplained, reason].
sub compare
{
	my ($d, $ms) = @_;
	my ($out, $err) = ask($node, $d, 'SELECT figure, mau, server, unexplained, reason FROM mau.compare(' . at($ms // $NOW) . ')');
	is($err, '', 'compare says nothing else');
	my %rows = map { my ($figure, @row) = split /\|/; ($figure => \@row) } split /\n/, $out;
	return \%rows;
}
my ($month, $day, $all, $cohort) =
  ('users seen within 30 days', 'users seen within 1 day', 'monthly active users beside all users seen',
	'monthly active users beside monthly_active_users');

subtest 'Synapse: every reason in words' => sub {
	my $d = new_homeserver($node);
	is_deeply(compare($d), {}, 'no rows without a source');
	set_settings($node, $d, 'mau_trial_days = 3, track_appservice_user_ips = true');
	my $ago = sub { $NOW - $_[0] * $DAY };
	$node->safe_psql($d, join '',
		(map { add_user($_, born => $ago->(100)) . see($_, $ago->(5)) } qw(@a:x @b:x @c:x)),
		add_user('@today:x', born => $ago->(100)), see('@today:x', $NOW - 1000),
		add_user('@bridged:x', born => $ago->(100), appservice_id => 'irc'), see('@bridged:x', $ago->(5)),
		add_user('@guest:x', born => $ago->(100), is_guest => 1), see('@guest:x', $ago->(5)),
		add_user('@support:x', born => $ago->(100), user_type => 'support'), see('@support:x', $ago->(5)),
		add_user('@trial:x', born => $ago->(6)), see('@trial:x', $ago->(5)));
	is(attach($node, $d, $NOW)->{error}, undef, 'attached');
	my $rows = compare($d);
	is_deeply($rows->{$month}, [ 8, 8, 0, 'no difference' ], 'everybody seen is known');
	is_deeply($rows->{$day}, [ 1, 1, 0, 'no difference' ], 'today, too');
	is_deeply($rows->{$all}, [ 4, 8, 0, '1 guests; 1 in trial; 1 of bridges, who take no seat; 1 support users' ], 'who does not count, and why');
	ok(!$rows->{$cohort}, 'without a cohort table there is no row of it');
	my ($mau, $usage) = split /\|/, ask($node, $d, 'SELECT mau.monthly_active_count(' . at($NOW) . "), mau.usage_statistics(" . at($NOW) . ")->>'monthly_active_users'");
	is("$mau|$usage", "$rows->{$all}[0]|$rows->{$month}[1]", 'the figures are those of the functions');

	$node->safe_psql($d, see('@new:x', $NOW));
	is_deeply(compare($d)->{$month}, [ 8, 9, 0, '1 not read yet' ], 'what the next sync reads');
	$node->safe_psql($d, q(DELETE FROM user_ips WHERE user_id = '@new:x'));

	$node->safe_psql($d, see('@late:x', $ago->(4)));
	is_deeply(compare($d)->{$month}, [ 8, 9, 1, '1 whom mau does not know; 1 of them for no known reason' ], 'a row behind the position is not explained');
	$node->safe_psql($d, q(DELETE FROM user_ips WHERE user_id = '@late:x'));

	$node->safe_psql($d, q(DELETE FROM user_ips WHERE user_id = '@a:x'; UPDATE mau.monthly_active_users SET "timestamp" = ) . $ago->(29) . q( WHERE user_id = '@a:x'));
	is_deeply(compare($d)->{$month}, [ 8, 7, 0, '1 in mau only, because the server has pruned its rows' ], 'rows that the server has pruned');
	$node->safe_psql($d, q(UPDATE mau.monthly_active_users SET "timestamp" = ) . $ago->(2) . q( WHERE user_id = '@a:x'));
	is_deeply(compare($d)->{$month}, [ 8, 7, 1, '1 in mau only; 1 of them for no known reason' ], 'a sighting that the server never had');
	$node->safe_psql($d, q(SELECT mau.forget_user('@a:x')));
	is_deeply(compare($d)->{$month}, [ 7, 7, 0, 'no difference' ], 'forgotten on both sides');
	$node->safe_psql($d, q(SELECT mau.forget_user('@b:x')));
	is_deeply(compare($d)->{$month}, [ 6, 7, 0, '1 forgotten by mau.forget_user()' ], 'on one');

	$node->safe_psql($d, q(UPDATE mau.settings SET mau_stats_only = false));
	like(compare($d)->{$month}[3], qr/while nothing is recorded/, 'nothing is recorded');
	my ($out, $err) = ask($node, $d, "\\set VERBOSITY sqlstate\nSELECT * FROM mau.compare(" . at($NOW - $DAY) . ')');
	like($err, qr/22023/, 'an instant before the last sync is refused');
};

subtest 'Synapse: its own cohort table' => sub {
	my $d = new_homeserver($node);
	$node->safe_psql($d, 'CREATE TABLE monthly_active_users (user_id text NOT NULL, "timestamp" bigint NOT NULL)');
	set_settings($node, $d, 'limit_usage_by_mau = true, max_mau_value = 2');
	my $ago = sub { $NOW - $_[0] * $DAY };
	$node->safe_psql($d, join '',
		(map { add_user("\@u$_:x", born => $ago->(100)) . see("\@u$_:x", $ago->($_)) } 1 .. 3),
		add_user('@bridged:x', born => $ago->(100), appservice_id => 'irc'));
	attach($node, $d, $NOW);
	is_deeply(compare($d)->{$cohort}, [ 2, 0, 0, 'it is empty: the server does not keep it' ], 'an empty one');
	$node->safe_psql($d, 'INSERT INTO monthly_active_users VALUES ' . join ', ',
		(map { "('\@u$_:x', " . $ago->($_) . ')' } 1 .. 3), "('\@old:x', " . $ago->(31) . ')', "('\@bridged:x', " . $ago->(1) . ')');
	my $rows = compare($d);
	is_deeply($rows->{$cohort}, [ 2, 4, 0, "1 expired, which the server has yet to reap; 1 for whom max_mau_value left no seat" ], 'who is there and not here');
	is_deeply($rows->{$all}, [ 2, 3, 0, '1 for whom max_mau_value left no seat' ], 'the limit');
	$node->safe_psql($d, q(DELETE FROM monthly_active_users WHERE user_id = '@u1:x'));
	like(compare($d)->{$cohort}[3], qr/1 in mau only: the server's own trial, limit or reap left them out/, 'who is here and not there');
	$node->safe_psql($d, q{INSERT INTO monthly_active_users VALUES ('@lost:x', } . $ago->(3) . ')');
	is(compare($d)->{$cohort}[2], 1, 'a member whom mau does not know is not explained');
};

subtest 'kept, for health' => sub {
	my $d = new_homeserver($node);
	$node->safe_psql($d, add_user('@a:x', born => $NOW - 100 * $DAY) . see('@a:x', $NOW - 5 * $DAY));
	attach($node, $d, $NOW);
	my $keep = 'SELECT what, rows FROM mau.keep_comparison(' . at($NOW) . ')';
	is(scalar ask($node, $d, $keep), 'compared|3', 'kept');
	is(scalar ask($node, $d, 'SELECT figure, unexplained FROM mau.comparison ORDER BY 1'), "$all|0\n$day|0\n$month|0", 'in mau.comparison');
	is(scalar ask($node, $d, q(SELECT runs, failures FROM mau.tasks WHERE task = 'compare')), '1|0', 'a task');
	ask($node, $d, "SELECT mau.$_()") for qw(refresh reap fold);
	my $health = 'SELECT health, reason FROM mau.health()';
	unlike(scalar ask($node, $d, $health), qr/^failing/, 'health sees no difference');
	$node->safe_psql($d, see('@late:x', $NOW - 4 * $DAY));
	is(scalar ask($node, $d, $keep), 'compared|3', 'again');
	like(scalar ask($node, $d, $health), qr/^failing\|mau's figures differ from the homeserver's for no known reason, as of .*: .*users seen within 30 days: 1 whom mau does not know/, 'health says what differs');
	$node->safe_psql($d, 'ALTER TABLE user_ips RENAME TO elsewhere');
	is(scalar ask($node, $d, $keep), 'trouble|1', 'trouble');
	is(scalar ask($node, $d, q(SELECT last_error_sqlstate, failures_in_a_row FROM mau.tasks WHERE task = 'compare')), '42P01|1', 'is counted');
	$node->safe_psql($d, 'SELECT mau.detach()');
	is(scalar ask($node, $d, 'SELECT count(*) FROM mau.comparison'), '0', 'detach forgets it');
	is(scalar ask($node, $d, $keep), 'not attached|0', 'nothing to compare then');
};

subtest 'ejabberd, and a query of one\'s own' => sub {
	my $d = new_homeserver($node, empty => 1);
	my $seconds = int($NOW / 1000) - 3600;
	$node->safe_psql($d, qq{CREATE TABLE last (username text, server_host text, seconds text, state text);
		CREATE TABLE users (username text, server_host text, created_at timestamp DEFAULT '2026-01-01');
		INSERT INTO last VALUES ('a', 'x', '$seconds', ''), ('b', 'x', '$seconds', '');
		INSERT INTO users VALUES ('a', 'x'), ('b', 'x')});
	$node->safe_psql($d, "SELECT mau.attach('ejabberd', 'public', " . at($NOW) . ')');
	is_deeply(compare($d)->{$month}, [ 2, 2, 0, 'no difference' ], 'ejabberd');
	$node->safe_psql($d, q(DELETE FROM last WHERE username = 'b'));
	is_deeply(compare($d)->{$month}, [ 2, 1, 0, '1 in mau only: their accounts were removed' ], 'an account that is gone');
	$d = new_homeserver($node, empty => 1);
	$node->safe_psql($d, qq{CREATE TABLE seen (who text, at bigint); INSERT INTO seen VALUES ('\@a:x', $NOW);
		INSERT INTO mau.custom_source VALUES ('activity', 'SELECT who AS user_id, at AS last_seen FROM public.seen');
		SELECT mau.attach('custom', 'public', } . at($NOW) . ')');
	is_deeply(compare($d)->{$day}, [ 1, 1, 0, 'no difference' ], 'custom');
};

$node->stop;
done_testing();
