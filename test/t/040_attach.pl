# Attaching to Synapse: from its tables to the same figures as its own. With the database of a real Synapse, the answers it gave, and a
# generated population where they are present ($MAU_FIXTURES); with databases of ours, whose answers are in their comments, always.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use MauSource;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = source_cluster('attach');

my %usage = map { $_ => 1 }
  qw(daily_active_users monthly_active_users total_users total_nonbridged_users daily_user_type_native daily_user_type_guest daily_user_type_bridged);

sub usage_statistics
{
	my ($database, $ms) = @_;
	my $figures = decode_json(ask($node, $database, 'SELECT mau.usage_statistics(' . at($ms) . ')'));
	is_deeply([ grep { !/^r30/ } sort keys %$figures ], [ sort keys %usage ], "$database: the usage statistics have Synapse's keys");
	return $figures;
}

sub by_service
{
	my ($database, $ms) = @_;
	return { map { split /\|/ } split /\n/, scalar ask($node, $database, 'SELECT * FROM mau.monthly_active_count_by_service(' . at($ms) . ')') };
}

sub count_at
{
	my ($database, $ms) = @_;
	return scalar ask($node, $database, 'SELECT mau.monthly_active_count(' . at($ms) . ')');
}

# Everything that attach leaves against the brute-force statements, row by row.
sub is_brute
{
	my ($database, $ms, %params) = @_;
	my $name = "$database: the members, their services and times, and the figures are those found by brute force"
	  . join '', map { ", $_ = $params{$_}" } sort keys %params;
	my $set  = join '', map { "\\set $_ $params{$_}\n" } sort keys %params;
	my $file = fixture('synapse-brute.sql');
	my $differences = ask($node, $database, qq{
\\set now_ms $ms
$set\\o /dev/null
\\i $file
\\o
CREATE TEMP VIEW current_members AS SELECT * FROM mau.monthly_active_users WHERE "timestamp" >= $ms - 30::bigint * 86400000;
(SELECT 'not in mau: ' || m::text FROM (SELECT user_id, service, last_seen FROM brute_members EXCEPT ALL SELECT user_id, service, "timestamp" FROM current_members) m
 UNION ALL
 SELECT 'in mau only: ' || m::text FROM (SELECT user_id, service, "timestamp" FROM current_members EXCEPT ALL SELECT user_id, service, last_seen FROM brute_members) m
 UNION ALL
 SELECT 'count: ' || b::text || ' ' || m::text FROM brute_counts b FULL JOIN mau.monthly_active_count_by_service(@{[at($ms)]}) m USING (service)
  WHERE coalesce(b.users, 0) <> coalesce(m.users, 0)
 UNION ALL
 SELECT 'usage: ' || name FROM brute_usage WHERE value <> (mau.usage_statistics(@{[at($ms)]}) ->> name)::bigint
 UNION ALL
 SELECT 'nothing to compare' WHERE NOT EXISTS (SELECT FROM brute_members) AND '@{[$params{may_be_empty} // 0]}' = '0')
LIMIT 10;});
	return is($differences, '', $name);
}

# --- The database of a real Synapse -----------------------------------------------------------------------------

sub real_synapse
{
	my ($mode)  = @_;
	my $small   = "$ENV{MAU_FIXTURES}/synapse-small.sql";
	my $answers = decode_json(slurp_file("$ENV{MAU_FIXTURES}/synapse-small-answers.json"));
	my $now     = $answers->{now_ms};
	my $real    = sub {
		my ($name, $settings) = @_;
		my $database = new_homeserver($node, name => "${name}_$mode", empty => 1);
		load_fixture($node, $database, $small);
		set_settings($node, $database, $settings) if $settings;
		my $done = attach($node, $database, $now);
		is($done->{error}, undef, "$database: attached");
		is($done->{users}, $answers->{count_all_users}, "$database: all users imported");
		return $database;
	};

	my $tracking = $real->('tracking', 'track_appservice_user_ips = true');
	is(count_at($tracking, $now), $answers->{get_monthly_active_count}, "$tracking: count as Synapse's");
	is_deeply(by_service($tracking, $now), $answers->{get_monthly_active_count_by_service}, "$tracking: by service as Synapse's");
	is( ask($node, $tracking, 'SELECT service, user_id FROM mau.monthly_active_users_by_service() ORDER BY service COLLATE "C", user_id COLLATE "C"'),
		join("\n", map { "$_->[0]|$_->[1]" } @{ $answers->{get_monthly_active_users_by_service} }),
		"$tracking: the members are Synapse's");
	is( ask($node, $tracking,
			'SELECT m.user_id FROM mau.monthly_active_users m FULL JOIN public.monthly_active_users s USING (user_id)'
			. ' WHERE m.user_id IS NULL OR s.user_id IS NULL OR abs(m."timestamp" - s."timestamp") > 1000'),
		'', "$tracking: last seen within a second of Synapse's own table");
	my $figures = usage_statistics($tracking, $now);
	is($figures->{daily_active_users},     $answers->{count_daily_users},     "$tracking: daily active users");
	is($figures->{monthly_active_users},   $answers->{count_monthly_users},   "$tracking: monthly active users of the usage statistics");
	is($figures->{total_users},            $answers->{count_all_users},       "$tracking: total users");
	is($figures->{total_nonbridged_users}, $answers->{count_nonbridged_users}, "$tracking: non-bridged users");
	is($figures->{"r30_users_$_"}, $answers->{count_r30_users}{$_} // 0, "$tracking: r30 of $_") for qw(all android ios electron web);
	is($figures->{"r30v2_users_$_"}, $answers->{count_r30v2_users}{$_}, "$tracking: r30v2 of $_") for qw(all android ios electron web);
	is($figures->{"daily_user_type_$_"}, $answers->{count_daily_user_type}{$_}, "$tracking: $_ users created in a day")
	  for qw(native guest bridged);
	is_brute($tracking, $now, track => 1);
	is_settled($node, $tracking, $now, "$tracking: a sync changes nothing");

	my $plain = $real->('plain', '');
	is_deeply(by_service($plain, $now), { native => 14 }, "$plain: without track_appservice_user_ips natives only");
	is_brute($plain, $now, track => 0);

	# The limit, after the fact.
	my $check = sub { scalar ask($node, $tracking, "SELECT mau.check_auth_blocking($_[0], at => @{[at($now)]})") };
	my $body = {
		errcode       => 'M_RESOURCE_LIMIT_EXCEEDED',
		error         => 'Monthly Active User Limit Exceeded',
		admin_contact => 'mailto:admin@example.com',
		limit_type    => 'monthly_active_user'
	};
	set_settings($node, $tracking, "limit_usage_by_mau = true, max_mau_value = 14, admin_contact = 'mailto:admin\@example.com'");
	$node->safe_psql($tracking, "INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'Reserved\@Example.com')");
	is_deeply(decode_json($check->("'\@t2:example.com'") || '{}'), $body, "$tracking: a full server blocks one who is not a member");
	is_deeply(decode_json($check->("NULL") || '{}'), $body, "$tracking: and a registration");
	is($check->("'\@u1:example.com'"), '', "$tracking: a member goes in");
	is($check->("medium => 'email', address => '$_'"), '', "$tracking: the reserved e-mail registers, as $_")
	  for qw(reserved@example.com RESERVED@EXAMPLE.COM Reserved@example.Com);
	is_deeply(decode_json($check->("medium => 'email', address => 'someone\@example.com'") || '{}'),
		$body, "$tracking: another e-mail does not");
	set_settings($node, $tracking, 'max_mau_value = 15');
	is($check->("'\@t2:example.com'"), '', "$tracking: with a seat free one who is not a member goes in");
	is($check->("NULL"), '', "$tracking: and a registration");

	# Trials: every account is younger than 50 days.
	my $trial = $real->('trial', 'mau_trial_days = 50');
	is_deeply(by_service($trial, $now), {}, "$trial: nobody is a member");
	is(count_at($trial, $now), 0, "$trial: the count is 0");
	is( ask($node, $trial, "SELECT count(*) > 0 FROM mau.users WHERE last_seen IS NOT NULL"), 't', "$trial: they were seen all the same");
	is_brute($trial, $now, trial_days => 50, may_be_empty => 1);
	set_settings($node, $plain, 'mau_trial_days = 50');
	sync($node, $plain, $now);
	ask($node, $plain, 'SELECT mau.reap(' . at($now) . ')');
	is(count_at($plain, $now), 14, "$plain: a trial that comes later makes nobody leave");

	# Attached under a limit: the newest.
	for my $max (0, 1, 5, 13)
	{
		my $full = $real->("max$max", "limit_usage_by_mau = true, max_mau_value = $max, track_appservice_user_ips = true");
		is(count_at($full, $now), $max, "$full: as many members as there are seats");
		is(by_service($full, $now)->{'irc-bridge'}, 2, "$full: bridged users take none");
		is( ask($node, $full, q{SELECT user_id FROM mau.monthly_active_users WHERE service = 'native' ORDER BY "timestamp" DESC}),
			ask($node, $full, qq{SELECT user_id FROM (SELECT i.user_id, max(i.last_seen) AS seen FROM user_ips i JOIN users u ON u.name = i.user_id
				WHERE u.is_guest = 0 AND u.user_type IS DISTINCT FROM 'support' AND u.appservice_id IS NULL
				GROUP BY 1 HAVING max(i.last_seen) >= $now - 30::bigint * 86400000 ORDER BY 2 DESC LIMIT $max) s}),
			"$full: the newest");
	}
	return;
}

# --- A generated population -------------------------------------------------------------------------------------

sub population
{
	my $database = new_homeserver($node, name => 'population', empty => 1);
	load_fixture($node, $database, "$ENV{MAU_FIXTURES}/synapse-small.sql");
	load_fixture($node, $database, "$ENV{MAU_FIXTURES}/synapse-scale.sql", n => 100000);
	set_settings($node, $database, 'track_appservice_user_ips = true');
	is(attach($node, $database, $NOW)->{users}, 100000, 'population: attached');
	is(count_at($database, $NOW), 26468, 'population: 26 468 natives');
	my $services = by_service($database, $NOW);
	my $bridged  = 0;
	$bridged += $services->{$_} for grep { $_ ne 'native' } keys %$services;
	is($bridged, 5093, 'population: 5 093 appservice users');
	is_brute($database, $NOW, track => 1);
	is( ask($node, $database, q{SELECT count(*) FROM (SELECT user_id, max(last_seen) AS seen FROM user_ips GROUP BY 1) i
			LEFT JOIN mau.monthly_active_users m USING (user_id) LEFT JOIN mau.users u USING (user_id)
			WHERE i.seen IS DISTINCT FROM coalesce(m."timestamp", u.last_seen)}),
		0, 'population: whoever was seen at all was seen last when the homeserver says');
	is( ask($node, $database, q{SELECT count(*) FROM (SELECT registered_at < lag(registered_at) OVER (ORDER BY user_no) AS back
			FROM mau.users WHERE is_registered) u WHERE back}),
		0, 'population: users are numbered in order of registration');
	is( ask($node, $database, q{SELECT count(*) FROM users u FULL JOIN mau.users m ON m.user_id = u.name AND m.is_registered
			WHERE m.is_registered IS NOT FALSE AND (m.registered_at, m.user_type, m.appservice_id, m.is_guest, m.is_deactivated)
			IS DISTINCT FROM (u.creation_ts * 1000, u.user_type, u.appservice_id, u.is_guest = 1, u.deactivated = 1)}),
		0, 'population: every account is known as it is');
	is( ask($node, $database, q{SELECT count(*) FROM user_threepids t FULL JOIN mau.user_threepids m USING (user_id, medium, address)
			WHERE t.added_at IS NULL OR m.user_id IS NULL}),
		0, 'population: and every threepid');
	is_settled($node, $database, $NOW, 'population: a sync changes nothing');
	my $plans = plans_of_sync($node, $database, $NOW);
	unlike($plans, qr/Seq Scan on (?:public\.)?(?:users|user_ips|user_threepids)\b(?! u)/, 'population: a sync with nothing new scans no table');
	like($plans, qr/Index Scan using user_ips_last_seen_only/, 'population: it reads the index range');
	my $overlap = ask($node, $database, "SELECT count(*) FROM user_ips WHERE last_seen BETWEEN (SELECT max(last_seen) FROM user_ips) - 300000 AND $NOW");
	my @read = $plans =~ /on (?:public\.)?user_ips.*actual rows=(\d+)/g;
	my $read = 0;
	$read += $_ for @read;
	cmp_ok($read, '<=', $overlap, "population: no more rows than those of the overlap ($overlap)");
	cmp_ok($read, '>', 0, 'population: and these');

	# Under a limit: exactly so many, the newest.
	$node->safe_psql($database, 'SELECT mau.detach(); DROP EXTENSION mau; CREATE EXTENSION mau');
	my $owner = ask($node, $database, q{SELECT user_id FROM user_threepids WHERE address = 'reserved@example.com'});
	$node->safe_psql($database, q{INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'RESERVED@example.com'), ('email', 'user7@example.com')});
	set_settings($node, $database, 'limit_usage_by_mau = true, max_mau_value = 10000');
	is(attach($node, $database, $NOW)->{users}, 100000, 'population, limited: attached');
	is(count_at($database, $NOW), 10000, 'population, limited: exactly as many members as there are seats');
	is( ask($node, $database, qq{
\\set now_ms $NOW
\\o /dev/null
\\i @{[fixture('synapse-brute.sql')]}
\\o
WITH reserved AS (SELECT user_id FROM user_threepids WHERE address IN ('reserved\@example.com', 'user7\@example.com')),
expected AS (SELECT user_id FROM reserved UNION ALL
 (SELECT user_id FROM brute_members WHERE user_id NOT IN (SELECT user_id FROM reserved) ORDER BY last_seen DESC
  LIMIT 10000 - (SELECT count(*) FROM reserved)))
SELECT count(*) || ' differ' FROM expected e FULL JOIN mau.monthly_active_users m USING (user_id)
WHERE e.user_id IS NULL OR m.user_id IS NULL}), '0 differ', 'population, limited: the reserved ones, and the newest of the others');
	is(last_seen($node, $database, $owner), ask($node, $database, "SELECT max(last_seen) FROM user_ips WHERE user_id = '$owner'"),
		'population, limited: a reserved user who was seen has that time');
	is( ask($node, $database, 'SELECT sum(users) FROM mau.reap(' . at($NOW) . ')'), 0, 'population, limited: reap finds nothing to do');
	return;
}

# --- Ours -------------------------------------------------------------------------------------------------------

# Rows that should not be.
sub edge
{
	my ($mode) = @_;
	my $database = new_homeserver($node, name => "edge_$mode", empty => 1);
	load_fixture($node, $database, 'synapse-edge.sql');
	set_settings($node, $database, 'track_appservice_user_ips = true');
	my $done = attach($node, $database, $NOW);
	is($done->{error}, undef, "$database: attached");
	is( members($node, $database, $NOW),
		ask($node, $database, 'SELECT user_id, service, last_seen FROM edge_expected ORDER BY user_id COLLATE "C"'),
		"$database: the members are those expected, to the millisecond");
	is(ask($node, $database, 'SELECT string_agg(DISTINCT service, \',\') FROM mau.monthly_active_users'), 'irc-bridge,native', "$database: the services");

	# The head of the fixture says how many of each table.
	is($done->{skipped}, 5 + 9 + 3 + 4, "$database: rows that make no sense are skipped and counted");
	is( ask($node, $database, q{SELECT table_name, count(*) FROM mau.source_skipped WHERE reason NOT LIKE 'registration%' GROUP BY 1 ORDER BY 1}),
		"user_daily_visits|4\nuser_ips|7\nuser_threepids|2\nusers|4", "$database: and shown, once for each table, reason and user");
	is( ask($node, $database, q{SELECT table_name, row_key FROM mau.source_skipped WHERE row_key ~ '^@(twice|only|mixed|absurd|max|negative|bot)' ORDER BY 1, row_key COLLATE "C"}),
		join("\n",
			'user_ips|@mixed:example.com',         'user_ips|@mixed:example.com',
			'user_ips|@only-absurd:example.com',   'user_ips|@only-negative:example.com',
			'user_threepids|@bot:example.com',     'users|@absurd-birth:example.com',
			'users|@max-birth:example.com',        'users|@negative-birth:example.com',
			'users|@twice:example.com'),
		"$database: with the user's id where there is one");
	is( ask($node, $database, q{SELECT count(*) FROM mau.source_skipped WHERE table_name = 'user_ips' AND reason LIKE '%missing%'}),
		1, "$database: a sighting without a time is shown");
	is( ask($node, $database, q{SELECT count(*) FROM mau.source_skipped WHERE row_key LIKE '@aaa%' AND length(row_key) <= 80}),
		2, "$database: an over-long id by its beginning, in users and user_ips");
	is( ask($node, $database, q{SELECT registered_at FROM mau.users WHERE user_id = '@twice:example.com'}),
		1780000000000, "$database: of two rows of a user the first is taken");
	is( ask($node, $database, q{SELECT count(*) FROM mau.users WHERE user_id ~ '^@(null|absurd|max|negative)-birth' AND registered_at IS NULL}),
		4, "$database: a birth that makes no sense is not believed");
	is( ask($node, $database, q{SELECT count(*) FROM mau.user_threepids WHERE (medium, address, user_id) = ('email', 'plain@example.com', '@plain:example.com')}),
		1, "$database: e-mail in lower case");
	is_settled($node, $database, $NOW, "$database: a sync changes nothing");

	# Nobody with a nonsensical birth is in trial.
	my $trial = new_homeserver($node, name => "edge_trial_$mode", empty => 1);
	load_fixture($node, $trial, 'synapse-edge.sql');
	set_settings($node, $trial, 'mau_trial_days = 36500');
	attach($node, $trial, $NOW);
	is( ask($node, $trial, q{SELECT string_agg(user_id, ' ' ORDER BY user_id COLLATE "C") FROM mau.monthly_active_users}),
		'@absurd-birth:example.com @ghost:example.com @max-birth:example.com @negative-birth:example.com @null-birth:example.com @remote:elsewhere.example',
		"$trial: who has no believable birth is not in trial");

	# With the server's name only its own.
	my $named = new_homeserver($node, name => "edge_named_$mode", empty => 1);
	load_fixture($node, $named, 'synapse-edge.sql');
	set_settings($node, $named, "server_name = 'example.com', track_appservice_user_ips = true");
	attach($node, $named, $NOW);
	is( ask($node, $named, q{SELECT string_agg(coalesce(e.user_id, m.user_id), ' ' ORDER BY e.user_id COLLATE "C") FROM edge_expected e
			FULL JOIN (SELECT * FROM mau.monthly_active_users WHERE "timestamp" >= 1792605600000) m USING (user_id)
			WHERE m.user_id IS NULL OR e.user_id IS NULL}),
		'@remote:elsewhere.example sigilless', "$named: those of others are not members");
	return;
}

# The small homeserver of the demo; its head says what there is. Its times are relative to the time of loading.
sub small
{
	my $database = new_homeserver($node, name => 'small', empty => 1);
	load_fixture($node, $database, 'homeserver.sql');
	my $now = ask($node, $database, 'SELECT floor(extract(epoch FROM now()) * 1000)::bigint');
	is(attach($node, $database, $now)->{error}, undef, 'small: attached');
	is_deeply(by_service($database, $now), { native => 27 }, 'small: the natives');
	is_brute($database, $now);
	my $figures = usage_statistics($database, $now);
	is($figures->{daily_active_users},     20, 'small: daily active users');
	is($figures->{monthly_active_users},   35, 'small: monthly active users of the usage statistics');
	is($figures->{total_users},            42, 'small: total users');
	is($figures->{total_nonbridged_users}, 35, 'small: non-bridged users');

	# Detached, the numbers stay; attached again, nothing comes twice.
	my $state = sub { join "\n", members($node, $database), scalar ask($node, $database, 'SELECT * FROM mau.users ORDER BY 1') };
	my $before = $state->();
	is(ask($node, $database, 'SELECT * FROM mau.detach()'), 'detached|1', 'small: detached');
	is(ask($node, $database, 'SELECT * FROM mau.detach()'), 'detached|0', 'small: there is nothing to detach any more');
	is($state->(), $before, 'small: detached, the numbers stay');
	is_deeply(sync($node, $database, $now), { 'not attached' => 0 }, 'small: a sync has nothing to read');
	my $own = usage_statistics($database, $now);
	# r30 is by the second in user_ips and by the day in the history; r30v2 is by the day in both.
	for my $some ($own, $figures) { delete @$some{ grep { /^r30_/ } keys %$some } }
	is_deeply($own, $figures, 'small: without a source the usage statistics are what mau knows, which is the same');
	my $again = attach($node, $database, $now);
	is_deeply([ @$again{qw(users threepids)} ], [ 0, 0 ], 'small: attached again, nothing is new');
	is($state->(), $before, 'small: and nothing is there twice');
	$node->safe_psql($database, see('@victor:example.com', $now - 1000));
	is(sync($node, $database, $now)->{joined}, 1, 'small: and it goes on');
	return;
}

# attach refuses these sources, and changes nothing then.
sub refusals
{
	my $database = new_homeserver($node, name => 'refusals');
	$node->safe_psql($database, add_user('@a:example.com') . see('@a:example.com', $NOW));
	my $everything = sub {
		join "\n", map { scalar ask($node, $database, "SELECT * FROM mau.$_ ORDER BY 1") }
		  qw(source source_tables source_skipped users user_threepids monthly_active_users tasks);
	};
	my $refused = sub {
		my ($arguments, $state, $pattern, $name) = @_;
		my $before = $everything->();
		my ($out, $err) = ask($node, $database, "\\set VERBOSITY verbose\nSELECT * FROM mau.attach($arguments)");
		like($err, qr/ERROR:  $state: /, "refused: $name: $state");
		like($err, $pattern, "refused: $name: says what is wrong");
		like($err, qr/HINT:  \S/, "refused: $name: and what to do");
		is($everything->(), $before, "refused: $name: nothing has changed");
		return $err;
	};
	$refused->("'matrix'", '22023', qr/"matrix".*synapse/s, 'unknown kind');
	$refused->("''", '22023', qr/unknown kind/, 'empty kind');
	$refused->("NULL", '22023', qr/kind must not be NULL/, 'no kind');
	$refused->("'synapse', NULL", '22023', qr/schema must not be NULL/, 'no schema');
	$refused->("'synapse', 'public', NULL", '22023', qr/at must not be NULL/, 'no time');
	$refused->("'synapse', 'public', 'infinity'", '22008', qr/at must be a finite time/, 'an infinite time');
	$refused->("'synapse', 'nowhere'", '3F000', qr/schema "nowhere" does not exist/, 'a schema that is not there');
	$refused->("'synapse', 'mau'", '42P01', qr/all that mau reads of synapse: no .*table user_ips/s, 'a schema without these tables');
	$node->safe_psql($database, 'ALTER TABLE users RENAME user_type TO kind; ALTER TABLE users DROP deactivated; ALTER TABLE user_ips RENAME last_seen TO seen');
	my $err = $refused->("'synapse'", '42703', qr/reads of synapse: no column users\.user_type, column users\.deactivated, column user_ips\.last_seen\n/, 'columns that are not there, all of them');
	$node->safe_psql($database, 'DROP TABLE user_threepids');
	$refused->("'synapse'", '42P01', qr/table user_threepids/, 'a table that is not there');
	$node->safe_psql($database,
		'ALTER TABLE users RENAME kind TO user_type; ALTER TABLE users ADD deactivated boolean; ALTER TABLE user_ips RENAME seen TO last_seen;'
		. ' CREATE TABLE user_threepids (user_id text, medium text, address text)');
	is(attach($node, $database, $NOW)->{joined}, 1, 'refused: with all in place it is attached, flags being boolean now');
	$refused->("'synapse'", '55000', qr/already attached.*schema public/s, 'attached already');
	my ($out, $sync_err) = ask($node, $database, 'SELECT * FROM mau.sync(NULL)');
	like($sync_err, qr/at must not be NULL/, 'refused: a sync without a time');
	(undef, $sync_err) = ask($node, $database, 'SELECT * FROM mau.sync(now(), 0)');
	like($sync_err, qr/max_rows must be positive/, 'refused: a sync of no rows');
	return;
}

# Names that want quoting, and columns of other types, as later versions may have them.
sub names
{
	my $schema = '"Weird Schema"';
	my $database = new_homeserver($node, name => 'names', schema => $schema);
	$node->safe_psql($database,
		    "ALTER TABLE $schema.users ALTER is_guest DROP DEFAULT, ALTER is_guest TYPE boolean USING is_guest = 1,"
		  . " ALTER user_type TYPE varchar(20), ALTER name TYPE varchar, ALTER creation_ts TYPE integer;\n"
		  . add_user('@a:example.com', schema => $schema, is_guest => 'f')
		  . add_user('@g:example.com', schema => $schema, is_guest => 't')
		  . see('@a:example.com', $NOW, schema => $schema)
		  . see('@g:example.com', $NOW, schema => $schema));
	is(attach($node, $database, $NOW, 'Weird Schema')->{joined}, 1, 'names: a schema whose name wants quoting');
	is(members($node, $database), "\@a:example.com|native|$NOW", 'names: guests may be boolean');
	$node->safe_psql($database, see('@b:example.com', $NOW + 1, schema => $schema));
	is(sync($node, $database, $NOW + 1)->{joined}, 1, 'names: and sync reads it');
	is(usage_statistics($database, $NOW + 1)->{total_users}, 2, 'names: and the usage statistics');
	is(ask($node, $database, "SELECT count(*) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'mau'
		WHERE d.objid IN (SELECT oid FROM pg_class WHERE relnamespace = '$schema'::regnamespace)"), 0, 'names: nothing of theirs belongs to us');
	return;
}

# Daily visits as an earlier or a later Synapse may have them: where they cannot be read, r30v2 is left out, and all else is there.
sub visits_of_other_shapes
{
	my $database = new_homeserver($node, name => 'shapes');
	$node->safe_psql($database, add_user('@a:x') . see('@a:x', $NOW));
	is(attach($node, $database, $NOW)->{error}, undef, 'shapes: attached');
	my $columns = q{user_id text, "timestamp" bigint, user_agent text};
	my @midnights = map { $NOW - $NOW % $DAY - $_ * $DAY } 40, 0;
	for my $case (
		[ 'none at all', undef ],
		[ 'as it is now', $columns, 1 ],
		[ 'columns of other types', q{user_id varchar(300), "timestamp" numeric, user_agent varchar}, 1 ],
		[ 'no user agent', q{user_id text, device_id text, "timestamp" bigint} ],
		[ 'no user', q{user_name text, "timestamp" bigint, user_agent text} ],
		[ 'no time', q{user_id text, day bigint, user_agent text} ],
		[ 'times that are no numbers', q{user_id text, "timestamp" timestamptz, user_agent text} ],
		[ 'times that are words', q{user_id text, "timestamp" text DEFAULT 'yesterday', user_agent text} ])
	{
		my ($shape, $layout, $read) = @$case;
		$node->safe_psql($database, "DROP TABLE IF EXISTS user_daily_visits" . ($layout ? "; CREATE TABLE user_daily_visits ($layout)" : ''));
		$node->safe_psql($database, "INSERT INTO user_daily_visits VALUES ('\@a:x', $_, 'Element Android')") for $read ? @midnights : ();
		$node->safe_psql($database, q{INSERT INTO user_daily_visits DEFAULT VALUES}) if $layout && !$read;
		my ($out, $err) = ask($node, $database, 'SELECT mau.usage_statistics(' . at($NOW) . ')');
		is($err, '', "shapes: $shape: no error");
		my $figures = decode_json($out || '{}');
		is($figures->{total_users}, 1, "shapes: $shape: the figures that are left");
		is_deeply([ map { $figures->{"r30v2_users_$_"} } qw(all android web) ], $read ? [ 1, 1, 0 ] : [ undef, undef, undef ], "shapes: $shape: r30v2");
	}
	$node->safe_psql($database, q{DROP TABLE user_daily_visits; CREATE VIEW user_daily_visits AS
		SELECT u.name AS user_id, u.creation_ts / u.deactivated AS "timestamp", ''::text AS user_agent FROM users u});
	my ($out, $err) = ask($node, $database, 'SELECT mau.usage_statistics(' . at($NOW) . q{) - 'total_users' ? 'r30v2_users_all'});
	is("$out$err", 'f', 'shapes: a view that cannot compute them: no error, no r30v2');
	return;
}

if (defined $ENV{MAU_FIXTURES})
{
	real_synapse('without_preload');
	population();
}
else
{
	note 'MAU_FIXTURES is not set: the database of a real Synapse is not asked';
}
edge('without_preload');
small();
refusals();
names();
visits_of_other_shapes();

preload($node);
real_synapse('preloaded') if defined $ENV{MAU_FIXTURES};
edge('preloaded');

$node->stop;
done_testing();
