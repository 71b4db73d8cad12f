# A homeserver's schema may have any name: messages about its tables quote it, for every kind of homeserver.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use MauSource;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = source_cluster('schema_names');

# A keyword; an apostrophe, a space, double quotes, a dot, capitals, a backslash.
my @names = ('select', q{O'B "x".Y\\z});

sub identifier { my ($name) = @_; $name =~ s/"/""/g; return qq{"$name"}; }
sub literal    { my ($name) = @_; $name =~ s/'/''/g; return "'$name'"; }

my $second = $NOW / 1000;
my %hosts  = (hosts => { 'x' => { map { $_ => 1 } qw(1d 7d 30d) } });

# Per kind: its tables with one account that was seen, and with all that is optional; a later sighting of @b:x or b@x; a figure.
my %kinds = (
	synapse => {
		tables => q{CREATE TABLE HERE.users (name text, creation_ts bigint, is_guest smallint, appservice_id text, user_type text, deactivated smallint);
			CREATE TABLE HERE.user_ips (user_id text, user_agent text, last_seen bigint);
			CREATE TABLE HERE.user_threepids (user_id text, medium text, address text);
			CREATE TABLE HERE.user_daily_visits (user_id text, device_id text, "timestamp" bigint, user_agent text);
			INSERT INTO HERE.users VALUES ('@a:x', 1790000000);
			INSERT INTO HERE.user_threepids VALUES ('@a:x', 'email', 'vip@x');
			INSERT INTO HERE.user_ips VALUES ('@a:x', '', NOW);
			INSERT INTO HERE.user_daily_visits VALUES ('@a:x', 'd', NOW - 40 * 86400000::bigint, 'Element Android'), ('@a:x', 'd', NOW, 'Element Android')},
		later   => q{INSERT INTO HERE.user_ips VALUES ('@b:x', '', NOW + 1)},
		members => '@a:x,@b:x',
		usage   => { monthly_active_users => 1, r30v2_users_android => 1 } },
	prosody => {
		tables => q{CREATE TABLE HERE.prosody (host text, "user" text, store text, key text, type text, value text);
			CREATE UNIQUE INDEX ON HERE.prosody (host, "user", store, key);
			INSERT INTO HERE.prosody SELECT 'x', u, 'lastlog2', 'login', 'json', '{"timestamp":SECOND}' FROM unnest('{a,ghost}'::text[]) u;
			INSERT INTO HERE.prosody VALUES ('x', 'a', 'accounts', 'iteration_count', 'number', '10000')},
		later   => q{INSERT INTO HERE.prosody VALUES ('x', 'b', 'lastlog2', 'login', 'json', '{"timestamp":SECOND}')},
		members => 'a@x,b@x,ghost@x',
		usage   => \%hosts },    # the ghost is none for Prosody 13, which the unique index tells
	ejabberd => {
		tables => q{CREATE TABLE HERE.last (username text, server_host text, seconds text, state text);
			CREATE TABLE HERE.users (username text, server_host text, created_at timestamp);
			INSERT INTO HERE.last VALUES ('a', 'x', 'SECOND', ''); INSERT INTO HERE.users VALUES ('a', 'x', '2026-11-01')},
		later   => q{INSERT INTO HERE.last VALUES ('b', 'x', 'SECOND', '')},
		members => 'a@x,b@x',
		usage   => \%hosts },
	dendrite => {
		tables => q{CREATE TABLE HERE.userapi_accounts (localpart text, server_name text, created_ts bigint, appservice_id text, is_deactivated boolean, account_type smallint);
			CREATE TABLE HERE.userapi_devices (localpart text, server_name text, last_seen_ts bigint, user_agent text);
			CREATE TABLE HERE.userapi_threepids (threepid text, medium text, localpart text, server_name text);
			CREATE TABLE HERE.userapi_daily_visits (localpart text, "timestamp" bigint, user_agent text);
			INSERT INTO HERE.userapi_accounts VALUES ('a', 'x', 1790000000000, NULL, false, 1);
			INSERT INTO HERE.userapi_threepids VALUES ('vip@x', 'email', 'a', 'x');
			INSERT INTO HERE.userapi_devices VALUES ('a', 'x', NOW, NULL);
			INSERT INTO HERE.userapi_daily_visits VALUES ('a', NOW - 40 * 86400000::bigint, 'Element iOS'), ('a', NOW, 'Element iOS')},
		later   => q{INSERT INTO HERE.userapi_devices VALUES ('b', 'x', NOW + 1, NULL)},
		members => '@a:x,@b:x',
		usage   => { monthly_active_users => 1, r30v2_users_ios => 1 } },
	custom => {
		tables => q{CREATE TABLE HERE.seen (who text, at bigint); INSERT INTO HERE.seen VALUES ('@a:x', NOW);
			INSERT INTO mau.custom_source VALUES ('activity', 'SELECT who AS user_id, at AS last_seen FROM {schema}.seen'),
				('visits', 'SELECT who AS user_id, at AS day FROM {schema}.seen'),
				('usage', 'SELECT jsonb_build_object(''seen'', count(*)) AS usage FROM {schema}.seen')},
		later   => q{INSERT INTO HERE.seen VALUES ('@b:x', NOW + 1)},
		members => '@a:x,@b:x',
		usage   => { seen => 1 } });

$node->safe_psql('postgres', 'CREATE ROLE reader LOGIN');
for my $kind (sort keys %kinds)
{
	my $database = new_homeserver($node, name => $kind, empty => 1);
	$node->safe_psql($database, q{INSERT INTO mau.reserved_threepids VALUES ('email', 'vip@x'); 
		GRANT USAGE ON SCHEMA mau TO reader; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mau TO reader;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA mau TO reader; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO reader});
	for my $name (@names)
	{
		my $what  = "$kind in $name";
		my ($quoted, $literal) = (identifier($name), literal($name));
		my $said  = sub {
			my ($sql, @role) = @_;
			$sql =~ s/\bHERE\b/$quoted/g;
			$sql =~ s/\bNOW\b/$NOW/g;
			$sql =~ s/\bSECOND\b/$second/g;
			my ($out, $err) = ask($node, $database, "\\set VERBOSITY verbose\n$sql", @role);
			return wantarray ? ($out, $err) : $err eq '' ? $out : $err;
		};
		is($said->("CREATE SCHEMA HERE; $kinds{$kind}{tables}"), '', "$what: its tables");

		# The HINT with the missing rights can be run.
		my @reader = (extra_params => [ '-U', 'reader' ]);
		my $attach = "SELECT FROM mau.attach('$kind', $literal, " . at($NOW) . ')';
		if ($kind ne 'custom')
		{
			for my $try (1 .. 4)
			{
				my (undef, $err) = $said->($attach, @reader);
				my ($hint) = $err =~ /^HINT:  (GRANT .*;)/m or last;
				$hint =~ s/; then call .*//;
				is($said->($hint), '', "$what: a hint can be followed");
			}
			is($node->safe_psql($database, 'SELECT attached_by FROM mau.source'), 'reader', "$what: all hints followed, it is attached");
			is($said->('SELECT FROM mau.detach()', @reader), '', "$what: detached");
			$node->safe_psql($database, 'DELETE FROM mau.monthly_active_users; DELETE FROM mau.active_days; DELETE FROM mau.users');
		}

		is($said->($attach), '', "$what: attached");
		my $usage = decode_json($said->('SELECT mau.usage_statistics(' . at($NOW) . ')') =~ s/^(?!\{).*/{}/sr);
		is_deeply({ map { $_ => $usage->{$_} } keys %{ $kinds{$kind}{usage} } }, $kinds{$kind}{usage}, "$what: its own figures");
		is($said->($kinds{$kind}{later}), '', "$what: news");
		is($said->('SELECT FROM mau.sync(' . at($NOW + 1) . q{) WHERE what = 'trouble'}), '', "$what: are read");
		is($said->(q{SELECT string_agg(user_id, ',' ORDER BY user_id) FROM mau.monthly_active_users}), $kinds{$kind}{members}, "$what: the members");
		is($said->('SELECT source FROM mau.status'), "$kind in schema $name", "$what: its status");
		$node->safe_psql($database, "SELECT mau.detach(); DROP SCHEMA $quoted CASCADE; DELETE FROM mau.monthly_active_users;
			DELETE FROM mau.active_days; DELETE FROM mau.users; DELETE FROM mau.custom_source");
	}
}

$node->stop;
done_testing();
