# The warehouse: the histories of twenty homeservers, copied into one database by share/warehouse/copy, give each server's own figures.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $share = "$FindBin::RealBin/../../share/warehouse";
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "autovacuum = off\nfsync = off");
$node->start;
sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql) }

# A homeserver's users and 150 days of visits, the same in every run. One user in 11 is a guest, in 13 a support user, in 17 one of a
# bridge, in 19 a bot. They register over 100 days, and come on `often` days of 100. `gap` is the distance of their numbers.
sub population
{
	my ($users, $gap, $often) = @_;
	return <<"SQL";
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered, is_guest, user_type, appservice_id)
    SELECT n * $gap, '\@u' || n || ':x', (20000 + n * 100 / $users) * 86400000::int8 + n, n % 23 <> 0, n % 11 = 0,
           CASE WHEN n % 13 = 0 THEN 'support' WHEN n % 19 = 0 THEN 'bot' END, CASE WHEN n % 17 = 0 THEN 'irc' END
    FROM generate_series(1::int8, $users) n;
INSERT INTO mau.visits SELECT n * $gap, date '1970-01-01' + 20000 + d, (n * 7 + d) % 5, CASE WHEN n % 17 = 0 THEN 'irc' ELSE 'native' END
    FROM generate_series(1::int8, $users) n, generate_series(0, 149) d
    WHERE d >= n * 100 / $users AND (n % 5 <> 0 OR d % 60 < 20) AND abs(hashint8(n * 1000 + d)) % 100 < $often;
SELECT mau.fold();
SQL
}

# users, gap, often: none, few, several chunks, chunks that are stored as bitsets, chunks that nobody is in.
my @sizes = ([ 0, 1, 0 ], [ 1, 1, 90 ], [ 5, 1, 50 ], [ 12, 40000, 30 ], [ 20, 65536, 20 ], [ 30, 1, 3 ], [ 40, 5000, 10 ], [ 60, 3, 15 ],
	[ 80, 1, 70 ], [ 100, 2000, 5 ], [ 150, 1, 20 ], [ 200, 700, 20 ], [ 300, 1, 10 ], [ 400, 1, 40 ], [ 500, 400, 4 ], [ 700, 1, 9 ],
	[ 1000, 131, 5 ], [ 1500, 1, 12 ], [ 3000, 50, 3 ], [ 70000, 1, 2 ]);
sql('postgres', 'CREATE DATABASE empty');
sql('empty', q{CREATE EXTENSION mau; UPDATE mau.settings SET history_retention = '100 years'});
my @servers;
for my $i (1 .. @sizes)
{
	my $name = "hs$i";
	sql('postgres', "CREATE DATABASE $name TEMPLATE empty");
	sql($name, population(@{ $sizes[ $i - 1 ] }));
	push @servers, { db => $name, server => $name };
}
# A day on which most users of the largest server came: its bitmaps are bitsets.
sql('hs20', q{INSERT INTO mau.visits SELECT n, '2024-12-01', 1, 'native' FROM generate_series(1, 70000) n WHERE n % 17 > 0; SELECT mau.fold()});
# Some say their name.
for my $server (@servers[ 2, 9, 19 ])
{
	$server->{server} = "matrix.$server->{db}.example";
	sql($server->{db}, "UPDATE mau.settings SET server_name = '$server->{server}'");
}

sql('postgres', 'CREATE DATABASE warehouse');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('warehouse'), '-f', "$share/warehouse.sql" ], 'the tables');
sub refused
{
	my ($db, $reason, $what) = @_;
	my ($out, $err);
	isnt(IPC::Run::run([ "$share/copy", $node->connstr($db), $node->connstr('warehouse') ], '>', \$out, '2>', \$err), 1, "refused: $what");
	return like($err, $reason, 'and says why');
}
sub copy { my ($db, @options) = @_; return run_log([ "$share/copy", @options, $node->connstr($db), $node->connstr('warehouse') ]) }

# The figures of the warehouse for each server, and those of the server itself.
my ($first, $last) = ('2024-10-20', '2025-03-10');
my $range = "'$first', '$last'";
my $growth = 'day, new_users, retained, resurrected, churned';
my %questions = (
	(map { ("users of $_ days" => [ "SELECT server, day, users FROM warehouse.daily_series($range, $_)", "SELECT day, mau FROM mau.daily_series($range, window_days => $_)" ]) } 1, 7, 30),
	'users of a bridge, all kinds' => [ "SELECT server, day, users FROM warehouse.daily_series($range, 30, 'irc', NULL)", "SELECT day, mau FROM mau.daily_series($range, 'irc', kind => 'everybody')" ],
	'users of all services' => [ "SELECT server, day, users FROM warehouse.daily_series($range, 30, NULL)", "SELECT day, mau FROM mau.daily_series($range, NULL)" ],
	(map { ("growth of $_ days" => [ "SELECT server, $growth FROM warehouse.growth($range, $_)", "SELECT $growth FROM mau.growth($range, window_days => $_)" ]) } 1, 30),
	(map { ("retention by $_" => [ "SELECT server, cohort_number || ' ' || period, size, users FROM warehouse.retention('$_', $range)",
		"SELECT dense_rank() OVER (ORDER BY cohort_start) || ' ' || period, size, users FROM mau.retention('$_', $range)" ]) } 'week', 'month'),
	'growth of all services' => [ "SELECT server, $growth FROM warehouse.growth($range, 30, NULL)", "SELECT $growth FROM mau.growth($range, NULL)" ],
	'retention of all services' => [ "SELECT server, cohort_number || ' ' || period, size, users FROM warehouse.retention('month', $range, NULL)",
		"SELECT dense_rank() OVER (ORDER BY cohort_start) || ' ' || period, size, users FROM mau.retention('month', $range, NULL)" ],
	'r30v2' => [ "SELECT server, day, users FROM warehouse.r30v2($range)", "SELECT day, users FROM mau.r30v2_series($range)" ]);

sub compare
{
	my ($when) = @_;
	my (%found, %expected, %different);
	for my $what (keys %questions)
	{
		my $answers = sql('warehouse', "$questions{$what}[0] ORDER BY 1, 2");
		$found{$what}{$1} .= "$2\n" while $answers =~ /^([^|]*)\|(.*)$/mg;
	}
	for my $server (@servers)
	{
		my $answers = sql($server->{db}, join ';', map { "SELECT 'about $_'; $questions{$_}[1] ORDER BY 1" } keys %questions);
		$expected{$1}{ $server->{server} } = $2 while $answers =~ /^about (.*)\n((?:(?!about ).*\n?)*)/mg;
	}
	for my $what (sort keys %questions)
	{
		for my $name (map { $_->{server} } @servers)
		{
			my ($ours, $theirs) = ($found{$what}{$name} // '', $expected{$what}{$name} =~ s/\n*\z/\n/r);
			# A server without rows has no figures in the warehouse; its own are 0.
			$different{$what} .= " $name" if $ours ne $theirs && !($ours eq '' && $theirs !~ /\|[1-9]/);
		}
		is($different{$what}, undef, "$when: $what");
	}
	cmp_ok(scalar(grep { $_ =~ /\|[1-9]/ } map { values %$_ } values %expected), '>=', 100, 'the servers have figures');
}
sub contents { return sql('warehouse', q{SELECT count(*), md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM (SELECT d::text FROM warehouse.days d
	UNION ALL SELECT m::text FROM warehouse.masks m UNION ALL SELECT r::text FROM warehouse.registrations r UNION ALL SELECT s::text FROM warehouse.servers s) t}) }

ok(copy($_->{db}), "copied $_->{db}") for @servers;
is(sql('warehouse', q{SELECT count(DISTINCT server), max(chunk) >= 10, max(length(users)), bool_or(length(users) < 20) FROM warehouse.days}), '19|t|8208|t', 'bitmaps of all kinds');
compare('after the first copy');

my $before = contents();
copy($_->{db}) for @servers[ 0, 3, 19 ];
is(contents(), $before, 'copying again changes nothing');
copy($_->{db}, '--all') for @servers[ 0, 3, 19 ];
is(contents(), $before, 'nor does copying all');

# Late visits go to old days, guests become users, new users register: the next copy has it.
for my $db (qw(hs8 hs12 hs19))
{
	sql($db, q{INSERT INTO mau.visits SELECT user_no, '2024-11-05', 2, 'native' FROM mau.users WHERE user_no % 2 = 1 AND appservice_id IS NULL; SELECT mau.fold();
		UPDATE mau.users SET is_guest = false WHERE user_no % 3 = 0; UPDATE mau.users SET user_type = 'support' WHERE user_no % 29 = 1;
		SELECT mau.forget_user('@u4:x')});
	isnt(sql($db, q{SELECT day, mau FROM mau.daily_series('2024-11-01', '2024-12-31')}), sql('warehouse', qq{SELECT day, users FROM warehouse.daily_series('2024-11-01', '2024-12-31') WHERE server = '$db' ORDER BY 1}), "$db has changed");
	is(sql($db, 'SELECT count(DISTINCT day) FROM mau.export_days((SELECT max(changed_at) FROM mau.active_days))'), 1, "$db: one day is new");
	ok(copy($db), "copied $db");
}
compare('after changes');

# A fold that began before a copy and ends after it.
my $fold = $node->background_psql('hs5');
$fold->query_until(qr/folded/, "BEGIN;\nINSERT INTO mau.visits SELECT user_no, '2024-11-07', 1, 'native' FROM mau.users;\nSELECT count(*) FROM mau.fold();\n\\echo folded\n");
ok(copy('hs5'), 'a copy during a fold');
$fold->query_until(qr/done/, "COMMIT;\n\\echo done\n");
$fold->quit;
ok(copy('hs5'), 'and one after it');
is(sql('warehouse', q{SELECT count(*) > 0 FROM warehouse.days WHERE server = 'hs5' AND day = '2024-11-07' AND platform = 1}), 't', 'has what the fold wrote');
compare('after that fold');

# The warehouse keeps days that the homeserver purges.
my $kept = sql('warehouse', q{SELECT * FROM warehouse.growth('2024-10-20', '2025-03-10') WHERE server = 'hs14' ORDER BY 2});
sql('hs14', q{UPDATE mau.settings SET history_retention = (now() AT TIME ZONE 'UTC')::date - timestamp '2025-01-15'; SELECT mau.fold()});
ok(copy('hs14'), 'a copy after a purge');
is(sql('warehouse', q{SELECT * FROM warehouse.growth('2024-10-20', '2025-03-10') WHERE server = 'hs14' ORDER BY 2}), $kept, 'keeps the figures');
# The first copy is made after a purge: figures that need purged days are NULL.
sql('warehouse', "DELETE FROM warehouse.servers WHERE server = 'hs14'");
ok(copy('hs14'), 'the first copy of what is left');
my %known = map { $_ => sql('warehouse', "SELECT min(day) FILTER (WHERE $_ IS NOT NULL) FROM warehouse.growth('2025-01-01', '2025-04-10') WHERE server = 'hs14'") } qw(new_users churned);
is_deeply(\%known, { new_users => '2025-02-13', churned => '2025-03-15' }, 'growth is known from there on');
is(sql('warehouse', q{SELECT min(day) FILTER (WHERE users IS NOT NULL) FROM warehouse.daily_series('2025-01-01', '2025-02-28', 7) WHERE server = 'hs14'}), '2025-01-21', 'and the days');
is(sql('warehouse', q{SELECT min(day) FILTER (WHERE users IS NOT NULL) FROM warehouse.r30v2('2025-01-01', '2025-04-28') WHERE server = 'hs14'}), '2025-03-15', 'and r30v2');
sub retention { my ($at) = @_; return sql('hs14', qq{SELECT dense_rank() OVER (ORDER BY cohort_start), size, period, users FROM mau.retention('month', '2024-11-01', '2025-03-31', at => '$at') ORDER BY 1, 3}) }
sub retention_copied { my ($at) = @_; return sql('warehouse', qq{SELECT cohort_number, size, period, users FROM warehouse.retention('month', '2024-11-01', '2025-03-31', at => '$at') WHERE server = 'hs14' ORDER BY 1, 3}) }
is(retention_copied('2025-04-10 12:00Z'), retention('2025-04-10 12:00Z'), 'and retention');
like(retention_copied('2025-04-10 12:00Z'), qr/\|\n.*\|[1-9]\d*\n/s, 'which has both');
is(retention_copied('2025-03-31 23:59Z'), retention('2025-03-31 23:59Z'), 'a period that is not over has no figure');
is(retention_copied('2024-12-10 12:00Z'), retention('2024-12-10 12:00Z'), 'later registrations do not count');
like(($node->psql('warehouse', "SELECT * FROM warehouse.retention('quarter', '2024-11-01', '2025-03-31')"))[2], qr/unknown cohort.*It is 'quarter'/s, 'an unknown cohort is refused');
like(($node->psql('warehouse', "SELECT * FROM warehouse.retention('month', '2024-11-01', '2025-03-31', at => NULL)"))[2], qr/at must not be NULL\nHINT: /, 'so is NULL');
# A copy that comes too late.
my ($code, $out, $err) = $node->psql('hs14', q{SELECT * FROM mau.export_days('2025-01-10 12:00Z')});
like($err, qr/days that have changed since then were purged.*since is 2025-01-10 .*Days up to 2025-01-14 were purged, and one of them had changed at/s, 'a gap is refused');
# A homeserver that had its last visit on the day of the last copy, all of which it has purged since: there is no gap.
sql('warehouse', "DELETE FROM warehouse.$_ WHERE server = 'hs13'") for qw(days servers);
sql('hs13', q{UPDATE mau.active_days SET changed_at = day + time '12:05'});
ok(copy('hs13'), 'a copy on the last day');
my $last_day = sql('warehouse', "SELECT max(changed_at)::date FROM warehouse.days WHERE server = 'hs13'");
sql('hs13', q{UPDATE mau.settings SET history_retention = '30 days'; SELECT mau.fold()});
is(sql('hs13', 'SELECT max(purged_until) FROM mau.active_days'), $last_day, 'the day was purged');
ok(copy('hs13'), 'it can still be copied');
is(sql('warehouse', "SELECT count(*) > 0 FROM warehouse.days WHERE server = 'hs13' AND day = '$last_day'"), 't', 'and the warehouse keeps the day');
# Nor is there a gap when a visit of a purged day comes late. There is when a day was purged before its change was copied.
sql('hs13', qq{INSERT INTO mau.visits VALUES (8000, date '$last_day' - 1, 1, 'native'); SELECT mau.fold()});
ok(copy('hs13'), 'after a late visit');
sql('hs13', qq{UPDATE mau.settings SET history_retention = '100 years'; INSERT INTO mau.visits VALUES (8000, date '$last_day' - 1, 1, 'native'); SELECT mau.fold();
	UPDATE mau.settings SET history_retention = '30 days'; SELECT mau.fold()});
refused('hs13', qr/days that have changed since then were purged/, 'a change that was purged before it was copied');
# So is a visit that went into the purged days without a bitmap of its own, because fold had not run for so long.
sql('warehouse', "DELETE FROM warehouse.$_ WHERE server = 'hs13'") for qw(days servers);
ok(copy('hs13'), 'a first copy');
is(sql('hs13', 'SELECT count(*) FROM mau.active_days WHERE changed_at > (SELECT max(changed_at) FROM mau.active_days WHERE day > date \'-infinity\')'), 0, 'which has all');
sql('hs13', q{INSERT INTO mau.visits VALUES (8001, (now() AT TIME ZONE 'UTC')::date - 40, 1, 'native'); UPDATE mau.active_days SET changed_at = now() - interval '50 days';
	SELECT mau.fold()});
sql('warehouse', "UPDATE warehouse.days SET changed_at = now() - interval '50 days' WHERE server = 'hs13'");
refused('hs13', qr/days that have changed since then were purged/, 'a visit that was purged before it was copied');

# One name, one homeserver.
sql('hs7', "UPDATE mau.settings SET server_name = 'hs6'");
my $days = contents();
refused('hs7', qr/the warehouse has another homeserver with the name hs6; this is hs6, with the origin/, 'another homeserver of a known name');
sql('hs7', "UPDATE mau.settings SET server_name = 'new.example'");
refused('hs7', qr/the warehouse has this homeserver under the name hs7; this is new.example/, 'a known homeserver under a new name');
is(contents(), $days, 'and nothing was copied');
sql('warehouse', "UPDATE warehouse.$_ SET server = 'new.example' WHERE server = 'hs7'") for qw(servers days masks registrations);
ok(copy('hs7'), 'unless the warehouse was told its new name');
sql('warehouse', "UPDATE warehouse.servers SET origin = '1/1' WHERE server = 'hs8'");
refused('hs8', qr/another homeserver with the name hs8/, 'a homeserver at a new place');
sql('warehouse', "UPDATE warehouse.servers SET origin = NULL WHERE server = 'hs8'");
ok(copy('hs8'), 'unless the warehouse was told');
is(sql('warehouse', "SELECT count(*) FROM warehouse.servers WHERE server = 'hs8' AND origin <> '1/1'"), 1, 'which notes it');
# A clone has the origin of another.
sql('warehouse', "UPDATE warehouse.servers SET origin = (SELECT s.origin FROM warehouse.servers s WHERE s.server = 'hs9') WHERE server = 'hs1'; DELETE FROM warehouse.servers WHERE server = 'hs9'");
refused('hs9', qr/this homeserver under the name hs1/, 'a clone');
ok(copy('hs9', '--new'), 'unless it is said to be a homeserver of its own');
ok(copy('hs9'), 'the first time');
# Two first copies of one name at the same time.
sql('postgres', 'CREATE DATABASE twin TEMPLATE empty');
sql('twin', population(5, 1, 50));
my $first_copy = $node->background_psql('warehouse');
$first_copy->query_until(qr/inserted/, "BEGIN;\nINSERT INTO warehouse.servers (server, origin) VALUES ('twin', '1/1');\n\\echo inserted\n");
my ($copied, $error) = ('', '');
my $second_copy = IPC::Run::start([ "$share/copy", $node->connstr('twin'), $node->connstr('warehouse') ], '>', \$copied, '2>', \$error);
ok($node->poll_query_until('warehouse', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT INTO warehouse.servers%'}), 'the second waits');
$first_copy->query_until(qr/done/, "COMMIT;\n\\echo done\n");
$first_copy->quit;
ok(!$second_copy->finish, 'and fails');
is(sql('warehouse', "SELECT origin, (SELECT count(*) FROM warehouse.days WHERE server = 'twin') FROM warehouse.servers WHERE server = 'twin'"), '1/1|0', 'so that the two are not mixed');
($code, $out, $err) = $node->psql('warehouse', q{SELECT * FROM warehouse.daily_series('2025-01-01', '2025-02-28', 30, 'native', 'guests')});
like($err, qr/unknown kind of users.*It is 'guests'.*HINT/s, 'an unknown kind of users is refused');

# No user id leaves the homeserver.
unlike(sql('hs3', q{SELECT * FROM mau.export_days()}) . sql('hs3', 'SELECT * FROM mau.masks') . sql('hs3', 'SELECT * FROM mau.registrations'), qr/@/, 'no user ids');
# The rights of monitoring are enough.
sql('hs3', q{CREATE ROLE reader LOGIN; SELECT mau.grant_to('reader', 'monitoring')});
ok(run_log([ "$share/copy", $node->connstr('hs3') . ' user=reader', $node->connstr('warehouse') ]), 'the copy needs no more rights');
is(sql('hs3', q{SET ROLE reader; SELECT (SELECT count(*) FROM mau.export_days()) > 0 AND (SELECT count(*) FROM mau.masks) >= 0 AND (SELECT count(*) FROM mau.registrations) > 0}), 't', 'monitoring can copy');

$node->stop;
done_testing();
