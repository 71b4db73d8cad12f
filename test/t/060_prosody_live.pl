# A real Prosody (Debian's) with its storage in a throw-away cluster, real logins by a real client (slixmpp), and what Prosody
# counts compared with what mau does: attached to its tables, by hand and by the worker, and called by doc/examples/mod_mau.lua.
# Everything is on 127.0.0.1 and in the test's folder; Prosody is a process of ours, not the package's service.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use JSON::PP;
use MauXmpp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The missing programs, or ''.
sub missing
{
	my ($prosody) = grep { -x "$_/prosody" } split /:/, $ENV{PATH};
	return 'prosody'         unless $prosody;
	return 'prosody-modules' unless -e '/usr/lib/prosody/modules/mod_measure_active_users/mod_measure_active_users.lua';
	return 'lua-dbi-postgresql' unless glob '/usr/lib/*/lua/5.*/dbd/postgresql.so';
	return 'lua-sec'            unless glob '/usr/share/lua/5.*/ssl.lua';
	return 'python3-slixmpp'    unless has_xmpp_client();
	return '';
}

my $missing = missing();
plan skip_all => "no real Prosody here: $missing is missing (test/setup homeservers installs it from Debian's packages)" if $missing;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $data   = "$folder/data";
mkdir $data or die $!;

my $node = PostgreSQL::Test::Cluster->new('prosody_live');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\n");
$node->start;
my $has_worker = $node->safe_psql('postgres', q{SELECT count(*) FROM pg_settings WHERE name = 'mau.worker'});
$node->append_conf('postgresql.conf', "mau.worker = off\nmau.tick_interval = 1\n") if $has_worker;
$node->reload;
$node->safe_psql('postgres', 'CREATE DATABASE prosody');

my ($c2s, $http) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
my $host = $node->host;
my $port = $node->port;
my $user = $node->safe_psql('postgres', 'SELECT current_user');

# Prosody's configuration, with mod_mau or without.
sub configure
{
	my ($with_mau) = @_;
	my $more = $with_mau ? '"mau",' : '';
	open my $file, '>', "$folder/prosody.cfg.lua" or die $!;
	print $file <<"END";
pidfile = "$folder/prosody.pid"
data_path = "$data"
certificates = "$folder"
plugin_paths = { "$FindBin::RealBin/../../doc/examples" }
interfaces = { "127.0.0.1" }
c2s_ports = { $c2s }
s2s_ports = {}
http_interfaces = { "127.0.0.1" }
http_ports = { $http }
https_ports = {}
modules_enabled = { $more "saslauth", "roster", "disco", "register_ibr", "lastlog2", "measure_active_users", "admin_shell", "http_openmetrics" }
modules_disabled = { "s2s", "tls" }
allow_registration = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
statistics = "internal"
statistics_interval = "manual"
storage = "sql"
sql = { driver = "PostgreSQL", database = "prosody", username = "$user", host = "$host", port = $port }
log = { debug = "$folder/prosody.log" }
VirtualHost "example.com"
VirtualHost "other.example"
END
	close $file;
	return;
}

sub start_prosody
{
	return start_xmpp_server(port => $c2s, log => "$folder/prosody.out", command => [ 'prosody', '--config', "$folder/prosody.cfg.lua", '-F' ],
		is_ready => sub { -S "$data/prosody.sock" });
}

sub output_of
{
	my (@command) = @_;
	open my $pipe, '-|', @command or die $!;
	local $/ = undef;
	my $out = <$pipe> // '';
	close $pipe;
	return $out;
}

sub login { return xmpp_login($c2s, @_) }

sub ctl { return output_of('sh', '-c', 'exec prosodyctl --config "$@" 2>&1', 'sh', "$folder/prosody.cfg.lua", @_) }

sub sql
{
	my ($query) = @_;
	return $node->safe_psql('prosody', $query);
}

# Prosody's own count, made anew: host => { 1d =>, 7d =>, 30d => }.
sub prosody_counts
{
	for my $vhost ('example.com', 'other.example')
	{
		ctl('shell', "> prosody.hosts['$vhost'].modules.measure_active_users.update_calculations()");
	}
	my $answer = HTTP::Tiny->new(proxy => undef, http_proxy => undef)->get("http://127.0.0.1:$http/metrics");
	die "no metrics: $answer->{status} $answer->{content}" unless $answer->{success};
	my %counts;
	while ($answer->{content} =~ /^prosody_mod_measure_active_users__active_users_(\d+d)\{host="([^"]+)"\} ([0-9.]+)/mg)
	{
		$counts{$2}{$1} = int $3;
	}
	return \%counts;
}

sub same_as_prosody
{
	my ($what) = @_;
	my $theirs = prosody_counts();
	my $ours   = decode_json(sql('SELECT mau.usage_statistics()'))->{hosts};
	is_deeply($ours, $theirs, "$what: usage_statistics is what Prosody counts, per host") or diag explain $ours, $theirs;
	return $theirs;
}

# Activity of some time ago, as Prosody would have written it then; from 13 on in a store of its core too, which its newer
# mod_measure_active_users reads.
sub age
{
	my ($name, $vhost, $seconds) = @_;
	my $at = time - $seconds;
	sql(qq{UPDATE prosody SET value = CASE store WHEN 'lastlog2' THEN '{"timestamp":$at}' ELSE '$at' END
		WHERE host = '$vhost' AND "user" = '$name' AND store IN ('lastlog2', 'account_activity')});
	return;
}

configure(0);
ok(start_prosody(), 'Prosody runs, its storage is in the cluster') or do
{
	diag slurp_file("$folder/prosody.out");
	done_testing();
	exit;
};

ctl('register', $_->@*, 'secret')
  for (map { [ "u$_", 'example.com' ] } 1 .. 5), (map { [ "o$_", 'other.example' ] } 1 .. 2);
is(login("u$_\@example.com"), 'online', "u$_ logs in") for 1 .. 4;
is(login('o1@other.example'), 'online', 'o1 logs in on the other host');
like(ctl('shell', '> 1+1'), qr/2/, 'the admin shell answers');

sql('CREATE EXTENSION mau');
sql(q{SELECT mau.attach('prosody')});
is(sql('SELECT host, users FROM mau.monthly_active_count_by_host()'), "example.com|4\nother.example|1", 'attached: who logged in');
my $counts = same_as_prosody('after logins');
is($counts->{'example.com'}{'30d'}, 4, 'and that is 4');

age('u1', 'example.com', 2 * 86400);
age('u2', 'example.com', 10 * 86400);
age('u3', 'example.com', 40 * 86400);
age('o1', 'other.example', 8 * 86400);
is_deeply(
	same_as_prosody('with older lastlogs'),
	{ 'example.com' => { '1d' => 1, '7d' => 2, '30d' => 3 }, 'other.example' => { '1d' => 0, '7d' => 0, '30d' => 1 } },
	'and Prosody has seen the edits');

# Live: people come back, one registers over the wire; sync finds the pages that changed.
is(login('u2@example.com'), 'online', 'u2 comes back');
is(login('new@example.com', 'register'), 'online', 'somebody registers over the wire');
is(login('o2@other.example'), 'online', 'o2 comes for the first time');
sql('SELECT mau.sync()');
is(sql(q{SELECT mau.last_seen('new@example.com') > now() - interval '1 hour'}), 't', 'sync has seen the new one');
is(sql('SELECT host, users FROM mau.monthly_active_count_by_host()'), "example.com|5\nother.example|2", 'and o2');
same_as_prosody('live');

SKIP:
{
	skip 'this mau has no worker', 3 unless $has_worker;
	$node->append_conf('postgresql.conf', "mau.worker = on\n");
	$node->reload;
	is(login('u5@example.com'), 'online', 'u5 logs in while the worker works');
	ok($node->poll_query_until('prosody', q{SELECT mau.last_seen('u5@example.com') > now() - interval '1 hour'}),
		'the worker has seen u5');
	$counts = same_as_prosody('with the worker');
	is(sql('SELECT sum(users) FROM mau.monthly_active_count_by_host()'), sql('SELECT mau.monthly_active_count()'), 'the total is the sum of the hosts');
	$node->append_conf('postgresql.conf', "mau.worker = off\n");
	$node->reload;
}

# Rows that make no sense, beside the real ones.
sql(q[INSERT INTO prosody VALUES ('example.com', 'torn', 'lastlog2', 'login', 'json', '{"timestamp":'),
  ('example.com', 'worded', 'lastlog2', 'login', 'json', '{"timestamp":"soon"}'),
  ('conference.example.com', 'room', 'lastlog2', 'conference.example.com', 'string', 'message')]);
is(sql(q{SELECT sum(rows) FROM mau.sync() WHERE what = 'skipped'}), 2, 'two rows are skipped');
is(sql(q{SELECT string_agg(row_key, ', ' ORDER BY row_key) FROM mau.source_skipped}),
	'torn@example.com login, worded@example.com login', 'and shown');
my $before = sql(q{UPDATE mau.settings SET last_seen_granularity = '0'; SELECT mau.last_seen('u1@example.com')});
is(login('u1@example.com'), 'online', 'u1 comes back');
sql('SELECT mau.sync()');
is(sql(qq{SELECT mau.last_seen('u1\@example.com') > '$before'}), 't', 'and is seen in spite of them');
sql(q{DELETE FROM prosody WHERE "user" IN ('torn', 'worded', 'room')});

# With mod_mau, Prosody asks mau before it lets a user in.
sql('SELECT mau.detach()');
stop_xmpp_server();
configure(1);
ok(start_prosody(), 'Prosody runs with mod_mau');
my $members = sql('SELECT mau.monthly_active_count()');
sql("UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = $members + 1, admin_contact = 'mailto:admin\@example.com'");
is(login('u1@example.com'), 'online', 'a member comes in');
is(login('next@example.com', 'register'), 'online', 'the last seat is taken by somebody who registers');
is(sql(q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id = 'next@example.com'}), 1, 'who is in the cohort now');
is(sql(q{SELECT is_registered FROM mau.users WHERE user_id = 'next@example.com'}), 't', 'and known as registered');
like(login('late@example.com', 'register'), qr/^refused: resource-constraint: Monthly Active User Limit Exceeded \(mailto:admin/, 'nobody registers on a full server');
ctl('register', 'byhand', 'example.com', 'secret');
like(login('byhand@example.com'), qr/^refused: resource-constraint/, 'nobody new logs in');
is(login('u1@example.com'), 'online', 'a member still does');
is(sql('SELECT mau.monthly_active_count()'), $members + 1, 'the limit holds');

# Accounts that are disabled, enabled and deleted.
my $usermanager = q{require("core.usermanager")};
SKIP:
{
	skip 'this Prosody does not disable accounts', 2 if ctl('shell', "> $usermanager.disable_user") !~ /function/;
	ctl('shell', qq{> $usermanager.disable_user("next", "example.com")});
	is(sql(q{SELECT is_deactivated FROM mau.users WHERE user_id = 'next@example.com'}), 't', 'a disabled account is deactivated');
	ctl('shell', qq{> $usermanager.enable_user("next", "example.com")});
	is(sql(q{SELECT is_deactivated FROM mau.users WHERE user_id = 'next@example.com'}), 'f', 'and an enabled one no longer');
}
ctl('shell', qq{> $usermanager.delete_user("next", "example.com")});
is(sql(q{SELECT count(*) FROM mau.users WHERE user_id = 'next@example.com'}), 0, 'a deleted account is forgotten');
is(sql('SELECT mau.monthly_active_count()'), $members, 'and gives its seat back');
is(login('byhand@example.com'), 'online', 'to the next user');

# A session that has planned its call goes on with it: Prosody connects anew.
stop_xmpp_server();
sql('ALTER SCHEMA mau RENAME TO away');
ok(start_prosody(), 'Prosody runs again');
is(login('byhand@example.com'), 'online', 'where mau cannot be asked, every user is admitted');
sql('ALTER SCHEMA away RENAME TO mau');

stop_xmpp_server();
unlike(slurp_file("$folder/prosody.log"), qr/error\s+Traceback/, 'no error of a module in the log of Prosody');
$node->stop;
done_testing();
