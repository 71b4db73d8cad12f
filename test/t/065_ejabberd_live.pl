# A real ejabberd (Debian's) with its users in a throw-away cluster, real sessions by a real client (slixmpp): attached to its tables, in its time
# zone, and called by doc/examples/mod_mau.erl. Everything is on 127.0.0.1 and in the test's folder; ejabberd is a process of
# ours, not the package's service.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use MauXmpp;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my ($ebin) = glob '/usr/lib/*/ejabberd-*/ebin';
my $schema = '/usr/share/ejabberd/sql/pg.new.sql';

# The missing programs, or ''.
sub missing
{
	return 'ejabberd'         unless defined $ebin && -e "$ebin/ejabberd_sql.beam" && -e $schema;
	return 'erlang-p1-pgsql'  unless glob '/usr/lib/erlang/lib/p1_pgsql-*';
	return 'erlc'             unless grep { -x "$_/erlc" } split /:/, $ENV{PATH};
	return 'python3-slixmpp'  unless has_xmpp_client();
	return '';
}

my $missing = missing();
plan skip_all => "no real ejabberd here: $missing is missing (test/setup homeservers installs it from Debian's packages)" if $missing;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $node   = PostgreSQL::Test::Cluster->new('ejabberd_live');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
# ejabberd connects by TCP.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\nlisten_addresses = '127.0.0.1'\nlog_statement = all\ntimezone = 'UTC'\n");
$node->append_conf('pg_hba.conf', "host all all 127.0.0.1/32 trust\n");
$node->start;
$node->safe_psql('postgres', q{CREATE ROLE ejabberd LOGIN; CREATE DATABASE ejabberd OWNER ejabberd; ALTER ROLE ejabberd SET timezone = 'Asia/Tokyo'});
$node->safe_psql('ejabberd', 'SET ROLE ejabberd; ' . slurp_file($schema));

my $c2s    = PostgreSQL::Test::Cluster::get_free_port();
my $pgport = $node->port;

# ejabberd's configuration, with mod_mau and its options or without. slixmpp says in SCRAM that it supports channel binding, which ejabberd
# refuses without TLS from 24 on ("Invalid channel binding"): PLAIN is left.
sub configure
{
	my ($options) = @_;
	my $more = defined $options ? "\n  mod_mau: {$options}" : '';
	open my $file, '>', "$folder/ejabberd.yml" or die $!;
	print $file <<"END";
hosts: [example.com, other.example]
loglevel: info
auth_method: [sql]
disable_sasl_mechanisms: [DIGEST-MD5, SCRAM-SHA-1, SCRAM-SHA-256, SCRAM-SHA-512, SCRAM-SHA-1-PLUS, SCRAM-SHA-256-PLUS, SCRAM-SHA-512-PLUS]
default_db: sql
new_sql_schema: true
sql_type: pgsql
sql_server: 127.0.0.1
sql_port: $pgport
sql_database: ejabberd
sql_username: ejabberd
sql_password: ""
sql_pool_size: 2
registration_timeout: infinity
listen:
  - {port: $c2s, ip: "127.0.0.1", module: ejabberd_c2s}
modules:
  mod_last: {}
  mod_private: {}
  mod_register: {}
  mod_roster: {}$more
END
	close $file;
	return;
}

sub start_ejabberd
{
	my %env = (HOME => $folder, EJABBERD_CONFIG_PATH => "$folder/ejabberd.yml", EJABBERD_LOG_PATH => "$folder/ejabberd.log");
	return start_xmpp_server(port => $c2s, log => "$folder/ejabberd.out", env => \%env,
		command => [ 'erl', '-noinput', '-pa', $ebin, $folder, '-mnesia', 'dir', "\"$folder/mnesia\"", '-s', 'ejabberd' ]);
}

sub login { return xmpp_login($c2s, @_) }

sub sql { return $node->safe_psql('ejabberd', $_[0]) }

# How often the module records a sighting while something happens. A session ends a little after its client has gone.
sub calls_during
{
	my ($run) = @_;
	my $offset = -s $node->logfile;
	$run->();
	my $calls = 0;
	for (1 .. 50)
	{
		$calls = () = slurp_file($node->logfile, $offset) =~ /SELECT mau\.record_activity/g;
		last if $calls;
		sleep 0.1;
	}
	return $calls;
}

sub logs { return join "\n", map { -e $_ ? slurp_file($_) : () } "$folder/ejabberd.out", "$folder/ejabberd.log" }

configure();
ok(start_ejabberd(), 'ejabberd runs, its users are in the cluster') or do
{
	diag logs();
	done_testing();
	exit;
};

# Attached: the time zone of its sessions, logouts, bans.
my $before = time;
is(login('u1@example.com', 'register'), 'online', 'u1 registers and logs in');
is(login('o1@other.example', 'register'), 'online', 'so does o1 on the other host');
sql(q{CREATE EXTENSION mau; SELECT mau.attach('ejabberd')});
$node->poll_query_until('ejabberd', q{SELECT sum(users) = 2 FROM mau.sync(), mau.monthly_active_count_by_host() WHERE what = 'users'});
is(sql('SELECT host, users FROM mau.monthly_active_count_by_host()'), "example.com|1\nother.example|1", 'attached: who was there');
is(sql("SELECT bool_and(registered_at / 1000 BETWEEN $before - 1 AND extract(epoch FROM now()) + 1) FROM mau.users"), 't', 'registered now, though ejabberd wrote it in Asia/Tokyo');
is(sql('SELECT count(*) FROM mau.source_skipped'), 0, 'and nothing amiss');
stop_xmpp_server();

# Called.
sql('SELECT mau.detach()');
sql(q{SELECT mau.grant_to('ejabberd')});
is(system('erlc', '-pa', $ebin, '-o', $folder, "$FindBin::RealBin/../../doc/examples/mod_mau.erl"), 0, 'mod_mau.erl compiles');
configure('');
ok(start_ejabberd(), 'ejabberd runs with mod_mau') or diag logs();
sql(q{UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3, last_seen_granularity = '0', admin_contact = 'mailto:admin@example.com'});
my $seen = sql(q{SELECT mau.last_seen('u1@example.com')});
is(login('u1@example.com'), 'online', 'a member comes in');
cmp_ok(sql(q{SELECT mau.last_seen('u1@example.com')}), 'gt', $seen, 'and is seen');
is(login('next@example.com', 'register'), 'online', 'the last seat is taken by somebody who registers');
is(sql(q{SELECT is_registered, registered_at / 1000 >= } . $before . q{ FROM mau.users WHERE user_id = 'next@example.com'}), 't|t', 'who is known as registered');
is(sql('SELECT mau.monthly_active_count()'), 3, 'and has the seat');
like(login('late@example.com', 'register'), qr/^refused: resource-constraint: Monthly Active User Limit Exceeded \(mailto:admin\@example\.com\)/, 'nobody registers on a full server');
is(sql(q{SELECT count(*) FROM users WHERE username = 'late'}), 0, 'and there is no such account');
# The columns of users differ between versions.
sql(q{INSERT INTO users SELECT (json_populate_record(u, '{"username": "byhand"}')).* FROM users u WHERE username = 'u1'});
like(login('byhand@example.com'), qr/^refused: resource-constraint/, 'nobody new opens a session');
is(sql(q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id = 'byhand@example.com'}), 0, 'who is no member');
is(calls_during(sub { is(login('u1@example.com'), 'online', 'a member still does') }), 1, 'and is recorded at the end of the session');
is(sql('SELECT mau.monthly_active_count()'), 3, 'the limit holds');
is(login('next@example.com', 'remove'), 'online', 'somebody removes the account');
ok($node->poll_query_until('ejabberd', q{SELECT is_deactivated FROM mau.users WHERE user_id = 'next@example.com'}), 'which is deactivated');
# A name that means something in SQL is a name.
sql(q{UPDATE mau.settings SET max_mau_value = 10});
is(login(q{o\\27brien\\5cx@example.com}, 'register'), 'online', 'a JID with quotes and backslashes, escaped as XMPP does');
is(sql(q{SELECT user_id FROM mau.monthly_active_users WHERE user_id LIKE 'o%brien%'}), 'o\\27brien\\5cx@example.com', 'is recorded as it is');
sql('ALTER SCHEMA mau RENAME TO away');
is(login('late@example.com', 'register'), 'online', 'where mau cannot be asked, every user is admitted');
sql('ALTER SCHEMA away RENAME TO mau');
like(logs(), qr/mau cannot be asked/, 'and the log says so');
stop_xmpp_server();
configure('interval: 0');
ok(start_ejabberd(), 'ejabberd runs with another interval');
cmp_ok(calls_during(sub { is(login('u1@example.com'), 'online', 'u1 comes back') }), '>=', 3, 'and is recorded with each stanza');
stop_xmpp_server();
unlike(logs(), qr/mod_mau[^\n]*(crash|undef|badmatch|function_clause|badarg)/, 'no error of the module in the log of ejabberd');
$node->stop;
done_testing();
