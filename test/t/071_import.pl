# A homeserver's past: attach takes over its daily visits and the days of its sightings, sync loses none that is overwritten. With the
# database of a real Synapse and its answers where they are present ($MAU_FIXTURES), with ours always.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use MauHistory;
use MauSource;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = source_cluster('import');
my $VISITS_TABLE = q{CREATE TABLE user_daily_visits (user_id text NOT NULL, device_id text, "timestamp" bigint NOT NULL, user_agent text);
	CREATE INDEX user_daily_visits_ts_idx ON user_daily_visits ("timestamp"); };

# A homeserver's database with what takes the history apart.
sub database
{
	my ($name, %params) = @_;
	my $database = new_homeserver($node, name => $name, %params);
	$node->safe_psql($database, $VISITS_SQL . $PLATFORM_OF_SQL);
	$node->safe_psql($database, $VISITS_TABLE) unless $params{empty} || $params{without};
	return $database;
}

# The differences between the history and the homeserver's two tables, up to an instant: there should be none.
sub is_past
{
	my ($database, $ms, $name) = @_;
	return is(
		ask($node, $database, qq{
WITH days AS (SELECT user_id, "timestamp" AS at, user_agent FROM user_daily_visits UNION ALL SELECT user_id, last_seen, user_agent FROM user_ips),
     theirs AS (SELECT DISTINCT user_id, to_timestamp((at / 1000)::float8)::date AS day, coalesce(platform_of(user_agent), 0) AS platform FROM days
                 WHERE at BETWEEN 0 AND $ms + 86400000::bigint AND user_id <> '' AND octet_length(user_id) <= 255),
     ours AS (SELECT u.user_id, v.day, v.platform FROM visits_now() v JOIN mau.users u USING (user_no))
(SELECT 'missing', * FROM (TABLE theirs EXCEPT TABLE ours) m UNION ALL SELECT 'too much', * FROM (TABLE ours EXCEPT TABLE theirs) m
 UNION ALL SELECT 'nothing', NULL, NULL, NULL WHERE NOT EXISTS (TABLE theirs)) LIMIT 5}, extra_params => [ '-c', 'SET timezone = UTC' ]),
		'', $name);
}

sub r30v2
{
	my ($database, $ms) = @_;
	return { map { split /\|/ } split /\n/, scalar ask($node, $database, 'SELECT * FROM mau.r30v2(' . at($ms) . ')') };
}

$node->safe_psql('postgres', q{ALTER SYSTEM SET timezone = 'UTC'});
$node->reload;

SKIP: {
	skip 'no recorded answers of a real Synapse (MAU_FIXTURES)', 1 unless $ENV{MAU_FIXTURES} && -e "$ENV{MAU_FIXTURES}/synapse-small.sql";
	subtest 'a real Synapse' => sub {
		my $answers  = decode_json(slurp_file("$ENV{MAU_FIXTURES}/synapse-small-answers.json"));
		my $database = database('small', empty => 1);
		load_fixture($node, $database, "$ENV{MAU_FIXTURES}/synapse-small.sql");
		my $done = attach($node, $database, $answers->{now_ms});
		is($done->{error}, undef, 'attached');
		is_deeply(r30v2($database, $answers->{now_ms}), $answers->{count_r30v2_users}, 'r30v2 is what Synapse said');
		is_past($database, $answers->{now_ms}, 'all visits, no other');
		is($done->{visits}, ask($node, $database, 'SELECT (SELECT count(*) FROM user_daily_visits) + (SELECT count(*) FROM user_ips)'), 'rows read');
		is($done->{'new visits'}, ask($node, $database, 'SELECT count(*) FROM visits_now()'), 'and what they came to');
		is(ask($node, $database, 'SELECT count(*) FROM mau.visits'), 0, 'in bitmaps at once');
	};
}

subtest 'ours' => sub {
	my $database = database('ours', without => 1);
	load_fixture($node, $database, 'synapse-visits.sql');
	$node->safe_psql($database, see('@v1:example.com', $NOW - $_ * $DAY, token => "t$_")) for 0, 7, 27;
	my $rows = ask($node, $database, 'SELECT (SELECT count(*) FROM user_daily_visits) + 3 - 5');
	my $done = attach($node, $database, $NOW);
	is($done->{error}, undef, 'attached');
	is($done->{visits}, $rows, 'every row that makes sense');
	is($done->{skipped}, 5, 'those that make none are counted');
	is( ask($node, $database, q{SELECT reason, left(row_key, 3) FROM mau.source_skipped WHERE table_name = 'user_daily_visits' ORDER BY 1, 2}),
		"no user id, or one that is too long or not UTF-8|\nno user id, or one that is too long or not UTF-8|\@vv\n"
		  . "timestamp is in the future|\@v1\ntimestamp is in the future|\@v2\ntimestamp is negative|\@v1", 'and shown');
	is_past($database, $NOW, 'all visits, no other');
	is( ask($node, $database, q{SELECT service, count(DISTINCT user_id) FROM visits_now() v JOIN mau.users u USING (user_no) GROUP BY 1 ORDER BY 1}),
		"irc-bridge|2\nnative|38", 'under their services, with a number for the one without an account');
	my $before = ask($node, $database, 'SELECT * FROM mau.active_days ORDER BY 1, 2, 3, 4');
	$node->safe_psql($database, 'SELECT mau.detach()');
	$done = attach($node, $database, $NOW);
	is($done->{'new visits'}, 0, 'attached again: nothing is new');
	is(ask($node, $database, 'SELECT * FROM mau.active_days ORDER BY 1, 2, 3, 4'), $before, 'and nothing changes');
	# Synapse's own statement is what usage_statistics runs. In its table there are neither bridged users nor guests, days are midnights,
	# and what is seen gets there before long.
	$node->safe_psql($database, q{DELETE FROM user_daily_visits WHERE user_id ~ '@v(18|19|38):';
		INSERT INTO user_daily_visits SELECT user_id, device_id, last_seen, user_agent FROM user_ips;
		UPDATE user_daily_visits SET "timestamp" = "timestamp" - "timestamp" % 86400000});
	# Without later sightings of ours none of these days is in the past.
	$node->safe_psql($database, 'DELETE FROM mau.monthly_active_users; UPDATE mau.users SET last_seen = NULL');
	for my $days (0, 1, 13, 40, 60, 89)
	{
		my $at    = $NOW - $days * $DAY;
		my $usage = decode_json(ask($node, $database, 'SELECT mau.usage_statistics(' . at($at) . ')'));
		my %said  = map { $_ => $usage->{"r30v2_users_$_"} } qw(all android electron ios web);
		is_deeply(r30v2($database, $at), \%said, "r30v2 $days days ago as Synapse's statement says: $said{all}, $said{android} android");
	}
};

subtest 'at the edges' => sub {
	my $database = database('edge', empty => 1);
	load_fixture($node, $database, 'synapse-edge.sql');
	set_settings($node, $database, "history_retention = '100 years'");
	attach($node, $database, $NOW);
	is( ask($node, $database, q{SELECT user_id, day, platform FROM visits_now() v JOIN mau.users u USING (user_no) WHERE day BETWEEN '2026-11-01' AND '2026-11-19' ORDER BY 1, 2, 3}),
		"\@ghost:example.com|2026-11-19|0\n\@plain:example.com|2026-11-17|0\n\@plain:example.com|2026-11-18|3\n\@plain:example.com|2026-11-19|3",
		'visits as the fixture says');
	is_past($database, $NOW, 'and no other');
	is(ask($node, $database, q{SELECT count(*) FROM mau.source_skipped WHERE table_name = 'user_daily_visits'}), 4, 'what makes no sense is shown');
	set_settings($node, $database, "server_name = 'elsewhere.example', history_retention = '3 days'");
	$node->safe_psql($database, 'SELECT mau.detach(); TRUNCATE mau.active_days');
	attach($node, $database, $NOW);
	is( ask($node, $database, 'SELECT user_id, day FROM visits_now() v JOIN mau.users u USING (user_no) ORDER BY 1, 2'),
		'@remote:elsewhere.example|2026-11-20', 'users of other servers have no history here');
	set_settings($node, $database, 'server_name = NULL, mau_stats_only = false');
	$node->safe_psql($database, 'SELECT mau.detach(); TRUNCATE mau.active_days');
	attach($node, $database, $NOW);
	is(ask($node, $database, 'SELECT count(*) FROM mau.active_days'), 0, 'with recording off nothing is recorded');
};

subtest 'what cannot be read' => sub {
	my $database = database('without', without => 1);
	$node->safe_psql($database, add_user('@a:example.com') . see('@a:example.com', $NOW));
	my $done = attach($node, $database, $NOW);
	is($done->{error}, undef, 'without the table: attached');
	ok(exists $done->{'there is no user_daily_visits to read the past from'}, 'which says so');
	is(ask($node, $database, 'SELECT day FROM visits_now()'), '2026-11-20', 'the history begins with what was seen');
	is(sync($node, $database, $NOW + $DAY)->{warning}, undef, 'sync does without');

	$database = database('forbidden');
	$node->safe_psql($database, add_user('@a:example.com') . see('@a:example.com', $NOW) . q{
		INSERT INTO user_daily_visits VALUES ('@a:example.com', NULL, 1795046400000, 'Mozilla'), ('@a:example.com', NULL, 1795132800000 + 86400000, 'Mozilla');
		CREATE ROLE reader; GRANT CREATE ON SCHEMA public TO reader; GRANT ALL ON SCHEMA mau TO reader; GRANT ALL ON ALL TABLES IN SCHEMA mau TO reader;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA mau TO reader; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO reader; GRANT SELECT ON users, user_ips, user_threepids TO reader});
	my $as = { extra_params => [ '-c', 'SET ROLE reader' ] };
	my ($out, $err) = ask($node, $database, "SET ROLE reader; SELECT * FROM mau.attach('synapse', 'public', " . at($NOW) . ')');
	unlike($err, qr/ERROR/, 'without the right: attached');
	like($out, qr/mau cannot read user_daily_visits/, 'which says so');
	like($err, qr/WARNING:.*HINT:  GRANT SELECT ON public.user_daily_visits TO reader; /s, 'with the remedy');
	is(ask($node, $database, 'SELECT day FROM visits_now()'), '2026-11-20', 'the history begins with what was seen');
	my $sync = sub { ask($node, $database, 'SET ROLE reader; SELECT what, rows FROM mau.sync(' . at($NOW + 2 * $DAY) . q{) WHERE what ~ 'visits|more|trouble'}) };
	is($sync->(), '', 'sync does without');
	$node->safe_psql($database, 'GRANT SELECT ON user_daily_visits TO reader');
	is($sync->(), "visits|1\nnew visits|1", 'and with it, once it may, from the day before on');

	# Of another shape than we know: that must not keep activity from being read.
	$database = database('reshaped');
	my $as_text = 'ALTER TABLE user_daily_visits ALTER COLUMN "timestamp" TYPE text';
	$node->safe_psql($database, add_user('@a:example.com') . see('@a:example.com', $NOW) . $as_text);
	($out, $err) = ask($node, $database, q{SELECT * FROM mau.attach('synapse', 'public', } . at($NOW) . ')');
	like($err, qr/WARNING:.*mau cannot read user_daily_visits.*DETAIL:  It is: operator does not exist/s, 'of another shape: attach says so');
	like($out, qr/sightings\|1/, 'and goes on');
	$node->safe_psql($database, 'SELECT mau.detach(); ALTER TABLE user_daily_visits ALTER COLUMN "timestamp" TYPE bigint USING "timestamp"::bigint');
	attach($node, $database, $NOW);
	$node->safe_psql($database, see('@a:example.com', $NOW + $DAY) . $as_text);
	is(sync($node, $database, $NOW + $DAY)->{refreshed}, 1, 'of another shape since: activity is read');
	is(ask($node, $database, q{SELECT table_name, reason FROM mau.source_skipped}),
		'user_daily_visits|cannot be read: operator does not exist: text >= bigint', 'and what is wrong can be seen');
	$node->safe_psql($database, 'ALTER TABLE user_daily_visits ALTER COLUMN "timestamp" TYPE bigint USING "timestamp"::bigint;'
		. q{INSERT INTO user_daily_visits VALUES ('@a:example.com', NULL, } . ($NOW - $NOW % $DAY) . q{, 'Mozilla')});
	is(sync($node, $database, $NOW + $DAY)->{visits}, 1, 'when it is mended, the day is read');
	is(ask($node, $database, 'SELECT count(*) FROM mau.source_skipped'), 0, 'and nothing is amiss any more');
};

subtest 'names that are too long' => sub {
	my $database = database('long');
	set_settings($node, $database, 'track_appservice_user_ips = true');
	my $long = 'ä' x 200;    # 400 bytes; ours have at most 255
	$node->safe_psql($database, add_user('@a:example.com', appservice_id => $long) . see('@a:example.com', $NOW)
		. add_user('@b:example.com', user_type => $long) . see('@b:example.com', $NOW));
	is(attach($node, $database, $NOW)->{error}, undef, 'attached');
	is(ask($node, $database, q{SELECT user_id, length(service) FROM mau.monthly_active_users ORDER BY 1}),
		"\@a:example.com|127\n\@b:example.com|6", 'the id of an appservice is cut off');
	is(ask($node, $database, q{SELECT length(user_type) FROM mau.users WHERE user_type <> ''}), 127, 'the type of a user, too');
	is(ask($node, $database, q{SELECT string_agg(row_key, ',' ORDER BY row_key) FROM mau.source_skipped WHERE reason ~ 'too long'}),
		'@a:example.com,@b:example.com', 'which can be seen');
	is(ask($node, $database, q{SELECT sum(users) FROM mau.monthly_active_count_by_service(} . at($NOW) . ')'), 2, 'both count');
};

subtest 'a sighting that is overwritten after midnight' => sub {
	my $database = database('midnight');
	my $midnight = 1795219200000;    # 2026-11-21
	my $days = sub { ask($node, $database, q{SELECT user_id, day FROM visits_now() v JOIN mau.users u USING (user_no) ORDER BY 1, 2}) };
	my $daily = sub { my ($user, $day) = @_; return "INSERT INTO user_daily_visits VALUES ('$user', 'D', $day, 'Element/1.6 (Android 14)');\n" };
	$node->safe_psql($database, add_user($_)) for '@a:example.com', '@b:example.com';
	attach($node, $database, $midnight - 3600000);
	# Seen at half past eleven; Synapse notes the visit, and overwrites the sighting before a sync runs.
	$node->safe_psql($database, see('@a:example.com', $midnight - 1800000) . $daily->('@a:example.com', $midnight - $DAY));
	$node->safe_psql($database, see('@a:example.com', $midnight + 60000));
	my $done = sync($node, $database, $midnight + 120000);
	is($done->{visits}, undef, 'right after midnight Synapse may not be done with the day');
	is($days->(), '@a:example.com|2026-11-21', 'and we see the new day only');
	$done = sync($node, $database, $midnight + 660000);
	is("$done->{visits} $done->{'new visits'}", '1 1', 'ten minutes later the day is read');
	is($days->(), "\@a:example.com|2026-11-20\n\@a:example.com|2026-11-21", 'and nothing is lost');
	$done = sync($node, $database, $midnight + 720000);
	is($done->{visits}, undef, 'it is read once');
	is(ask($node, $database, 'SELECT visits_until FROM mau.source'), '2026-11-20', 'as is noted');

	# No sync runs for days.
	$node->safe_psql($database, $daily->('@b:example.com', $midnight + $_ * $DAY)) for 0, 2, 3;
	$done = sync($node, $database, $midnight + 4 * $DAY + 700000);
	ok($done->{more}, 'more days than one: a day a call');
	my $calls = 1;
	while ($done->{more} && $calls++ < 10) { $done = sync($node, $database, $midnight + 4 * $DAY + 700000) }
	is($calls, 4, 'in as many calls');
	is($days->(), join("\n", map { "\@$_" } 'a:example.com|2026-11-20', 'a:example.com|2026-11-21', map { "b:example.com|2026-11-$_" } 21, 23, 24), 'no day is left out');

	# A bitmap that is damaged keeps the day from being read, and nothing else from going on.
	$node->safe_psql($database, $daily->('@a:example.com', $midnight + 3 * $DAY) . see('@a:example.com', $midnight + 4 * $DAY + 60000));
	$node->safe_psql($database, q{UPDATE mau.source SET visits_until = '2026-11-23'; CREATE TEMP TABLE undo AS SELECT * FROM mau.active_days WHERE day = '2026-11-24';
		UPDATE mau.active_days SET users = '\x00' WHERE day = '2026-11-24'});
	$done = sync($node, $database, $midnight + 4 * $DAY + 800000);
	is("$done->{sightings} " . ($done->{visits} // '-') . ($done->{warning} // ''), '1 -', 'a damaged bitmap does not hold up sightings');
	is(ask($node, $database, 'SELECT visits_until FROM mau.source'), '2026-11-23', 'the day is not done with');
	$node->safe_psql($database, q{DELETE FROM mau.active_days WHERE day = '2026-11-24'});
	$done = sync($node, $database, $midnight + 4 * $DAY + 810000);
	is($done->{'new visits'}, 2, 'it is read when the bitmap is out of the way');
	$node->safe_psql($database, q{DELETE FROM user_ips; DELETE FROM mau.visits; DELETE FROM mau.active_days WHERE day > '2026-11-24'; UPDATE mau.source SET visits_until = '2026-11-24'});

	# While another session folds; forgotten users.
	$node->safe_psql($database, $daily->('@a:example.com', $midnight + 4 * $DAY) . $daily->('@b:example.com', $midnight + 4 * $DAY));
	$node->safe_psql($database, q{SELECT mau.forget_user('@b:example.com')});
	my $folding = $node->background_psql($database);
	$folding->query_until(qr/folded/, "BEGIN;\nSELECT mau.fold();\n\\echo folded\n");
	$done = sync($node, $database, $midnight + 5 * $DAY + 700000);
	is($done->{visits}, undef, 'while somebody folds it waits for the next time');
	$folding->query_until(qr/over/, "COMMIT;\n\\echo over\n");
	$folding->quit;
	$done = sync($node, $database, $midnight + 5 * $DAY + 700000);
	is($done->{'new visits'}, 1, 'which takes the day');
	is(ask($node, $database, q{SELECT count(*) FROM mau.users WHERE user_id = '@b:example.com'}), 0, 'who was forgotten does not come back by it');
	like(ask($node, $database, "EXPLAIN SELECT user_id FROM user_daily_visits WHERE \"timestamp\" BETWEEN 1 AND 2"), qr/Index|Seq/, 'there is an index');
};

subtest 'a homeserver of the admin' => sub {
	my $database = database('custom', empty => 1);
	$node->safe_psql($database, q{
		CREATE SCHEMA chat; CREATE TABLE chat.logins (name text, at_ms bigint); CREATE TABLE chat.days (who text, on_day date, browser text);
		INSERT INTO chat.logins VALUES ('a@x', 1795190000000);
		INSERT INTO chat.days SELECT 'b@x', date '2026-11-01' + n, 'Mozilla' FROM generate_series(0, 9) n;
		INSERT INTO chat.days VALUES (NULL, '2026-11-01', 'Mozilla'), ('b@x', NULL, NULL), ('b@x', '1969-12-31', NULL), ('b@x', '2026-12-31', NULL);
		INSERT INTO mau.custom_source VALUES ('activity', 'SELECT name AS user_id, at_ms AS last_seen FROM {schema}.logins'),
			('visits', 'SELECT who AS user_id, floor(extract(epoch FROM on_day) * 1000)::bigint AS when_seen, browser AS user_agent FROM {schema}.days')});
	my ($out, $err) = ask($node, $database, "\\set VERBOSITY verbose\nSELECT * FROM mau.attach('custom', 'chat', " . at($NOW) . ')');
	like($err, qr/ERROR:  42703: .*DETAIL:  visits: column day is missing; visits: column when_seen is not one of the contract's/s, 'its columns are checked');
	$node->safe_psql($database, q{UPDATE mau.custom_source SET query = replace(query, 'when_seen', 'day') WHERE part = 'visits'});
	$out = ask($node, $database, "SELECT * FROM mau.attach('custom', 'chat', " . at($NOW) . ')');
	like($out, qr/^visits\|11\nnew visits\|11\nskipped\|4$/m, 'visits are taken over, what makes no sense is counted');
	is( ask($node, $database, 'SELECT user_id, min(day), max(day), count(*), max(platform) FROM visits_now() v JOIN mau.users u USING (user_no) GROUP BY 1 ORDER BY 1'),
		"a\@x|2026-11-20|2026-11-20|1|0\nb\@x|2026-11-01|2026-11-10|10|1", 'on their days');
	$node->safe_psql($database, q{INSERT INTO chat.days VALUES ('b@x', '2026-11-21', 'Element Android')});
	ask($node, $database, 'SELECT mau.sync(' . at($NOW + $_ * $DAY) . ')') for 1, 2;
	is(ask($node, $database, q{SELECT day, platform FROM visits_now() WHERE day > '2026-11-20'}), '2026-11-21|3', 'and a day that is over');
};

$node->stop;
done_testing();
