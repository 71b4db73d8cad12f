package MauPopulation;

# A made-up homeserver for tests of reports: users and a history of a year up to today, written into mau's tables.

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(min max);

our @EXPORT = qw(population_sql);

my $CHUNK = 65536;

# One container of the portable Roaring format: an array of up to 4096 users, else a bitset.
sub bitmap
{
	my ($bits, $key) = @_;
	my $users = unpack '%32b*', $bits;
	my $places = $users > 4096 ? $bits . "\0" x ($CHUNK / 8 - length $bits) : pack 'v*', grep { vec $bits, $_, 1 } 0 .. 8 * length($bits) - 1;
	return pack('VVvvV', 12346, 1, $key, $users - 1, 16) . $places;
}

# SQL for psql that fills an empty extension with $users users: natives and, one in twenty, users of irc-bridge. They register
# evenly over 13 months, in the order of their numbers; they come on 60, 20, 5 or 2 days in 100, and a third leaves for good.
# The same for every run, apart from the day that is today. Nobody's 30 days end within the next hours.
sub population_sql
{
	my ($users, $days) = @_;
	my (%bits, @last);
	srand 1;
	for my $n (0 .. $users - 1)
	{
		my $from = max(0, int(($days + 35) * $n / $users) - 35);
		my $to = $n % 3 ? $days : min($days, $from + int(rand 300));
		my $log_of_none = log(1 - (0.6, 0.2, 0.05, 0.02)[ $n % 4 ]);
		my $row = ($n % 20 ? 'native' : 'irc-bridge') . "\t" . (3, 1, 1, 3, 4, 2, 3)[ $n % 7 ] . "\t" . int($n / $CHUNK);
		for (my $day = $from; ($day += int(log(1 - rand) / $log_of_none)) < $to; ++$day)
		{
			vec($bits{"$day\t$row"}, $n % $CHUNK, 1) = 1;
			$last[$n] = $day;
		}
	}
	my $sql = <<"SQL";
CREATE TEMP TABLE first AS SELECT (now() AT TIME ZONE 'UTC')::date - $days + 1 AS day;
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered, appservice_id)
    SELECT n, '\@user' || n || ':example.com', 1000 * extract(epoch FROM f.day + greatest(0, ($days + 35) * n / $users - 35)::int)::int8,
           true, CASE WHEN n % 20 = 0 THEN 'irc-bridge' END FROM first f, generate_series(0::int8, $users - 1) n;
SELECT setval('mau.users_user_no_seq', $users);
CREATE TEMP TABLE last (n bigint, day int);
COPY last FROM STDIN;
SQL
	$sql .= join '', map { defined $last[$_] ? "$_\t$last[$_]\n" : () } 0 .. $users - 1;
	$sql .= <<'SQL';
\.
INSERT INTO mau.monthly_active_users (user_id, "timestamp", service)
    SELECT u.user_id, 1000 * extract(epoch FROM least(f.day + l.day + time '12:00', now() AT TIME ZONE 'UTC' - interval '1 hour'))::int8,
           coalesce(u.appservice_id, 'native')
    FROM first f, last l JOIN mau.users u ON u.user_no = l.n WHERE f.day + l.day > now() AT TIME ZONE 'UTC' - interval '29 days';
CREATE TEMP TABLE days (day int, service text, platform int, chunk int, users bytea);
COPY days FROM STDIN;
SQL
	$sql .= join '', map { my ($chunk) = /(\d+)$/; "$_\t\\\\x" . unpack('H*', bitmap($bits{$_}, $chunk)) . "\n" } sort keys %bits;
	$sql .= <<'SQL';
\.
INSERT INTO mau.active_days (chunk, day, platform, service, users) SELECT d.chunk, f.day + d.day, d.platform, d.service, d.users FROM first f, days d;
ANALYZE;
SQL
	return $sql;
}

1;
