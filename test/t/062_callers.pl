# Homeservers that call mau: the Synapse module of doc/examples, called with the documented signatures on a stub of Synapse's API, and
# the statements of doc/calling.md. (mod_mau.lua is tested in a real Prosody, 060_prosody_live.)

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('callers');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE synapse');
$node->safe_psql('synapse', 'CREATE EXTENSION mau');

# doc/calling.md is what it says: every statement in its SQL blocks runs.
my $doc = slurp_file("$FindBin::RealBin/../../doc/calling.md");
my @blocks = $doc =~ /^```sql\n(.*?)^```/msg;
cmp_ok(scalar @blocks, '>=', 3, 'doc/calling.md has examples in SQL');
my $block = 0;
for my $sql (@blocks)
{
	my ($out, $err);
	is($node->psql('synapse', "BEGIN;\n$sql\nROLLBACK;", stdout => \$out, stderr => \$err, on_error_stop => 1), 0, 'SQL block ' . ++$block . ' runs')
	  or diag $err;
}

SKIP:
{
	my $python = '/usr/bin/python3';
	skip "no $python here: the Synapse module is not run", 24 unless -x $python;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;

	# Calls, and what each returns, after the lines about the signatures.
	my @signatures;
	my $call = sub {
		my ($out, $err) = ('', '');
		my $input = join "\n", @_;
		IPC::Run::run [ $python, "$FindBin::RealBin/../synapse/call_module.py", 'synapse' ], '<', \$input, '>', \$out, '2>', \$err
		  or diag $err;
		my @lines = split /\n/, $out;
		@signatures = splice @lines, 0, 7;
		return @lines;
	};
	my $register = '["check_registration_for_spam", null, "new", [["Mozilla", "127.0.0.1"]], null]';
	my $reserved = '["check_registration_for_spam", {"medium": "email", "address": "Boss@example.com"}, "boss", [["Mozilla", "127.0.0.1"]]]';
	my $login    = '["check_login_for_spam", "@%s:example.com", "DEVICE", null, [["Mozilla", "127.0.0.1"]], null]';
	my $request  = '["is_user_expired", "@%s:example.com"]';
	my $members  = q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM mau.monthly_active_users};
	my $refusal  = '{"admin_contact": "mailto:admin@example.com", "errcode": "M_RESOURCE_LIMIT_EXCEEDED", "error": "Monthly Active User '
	  . 'Limit Exceeded", "limit_type": "monthly_active_user", "status": 403}';

	my @answers = $call->($register, sprintf($login, 'alice'), sprintf($login, q{o'hara}),
		'["request", "GET", "/_matrix/client/v3/sync", "sync-v3-proxy-"]', sprintf($request, 'proxied'));
	like($_, qr/^signature of \w+: as documented$/, $_) for @signatures;
	is("@answers", 'ALLOW NOT_SPAM NOT_SPAM None', 'without a limit everybody is let in');
	is($node->safe_psql('synapse', $members), q{@alice:example.com @o'hara:example.com}, 'and was seen, but not through a sliding sync proxy');

	$node->safe_psql('synapse', q{UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3, admin_contact = 'mailto:admin@example.com';
		INSERT INTO mau.reserved_threepids VALUES ('email', 'boss@example.com')});
	@answers = $call->($register, sprintf($login, 'bob'), sprintf($login, 'carol'), sprintf($login, 'alice'), $register, $reserved,
		'["request", "POST", "/_synapse/admin/v1/register"]', $register);
	is($answers[0], 'ALLOW', 'a seat is left: one may register');
	is($answers[1], 'NOT_SPAM', 'and the last one is taken at login');
	is($answers[2], $refusal, 'a full server: a new user does not log in');
	is($answers[3], 'NOT_SPAM', 'a member does');
	is($answers[4], $refusal, 'nobody registers');
	is($answers[5], 'ALLOW', 'but the owner of a reserved address');
	is($answers[6], 'ALLOW', 'an administrator registers a user all the same');

	@answers = $call->(
		sprintf($request, 'carol'), '["request", "GET", "/_matrix/client/v3/sync?timeout=0"]', sprintf($request, 'carol'), sprintf($request, 'alice'),
		'["request", "GET", "/_matrix/client/v3/account/whoami"]', sprintf($request, 'carol'),
		'["request", "PUT", "/_matrix/client/v3/rooms/!r/send/m.room.message/1"]', sprintf($request, 'carol'),
		'["request", "GET", "/_matrix/client/v3/rooms/!r/state"]', sprintf($request, 'carol'),
		'["request", "GET", "/_matrix/client/v3/sync", "sync-v3-proxy-"]', sprintf($request, 'carol'), sprintf($request, 'alice'));
	is("@answers[0, 2, 3, 5, 7]", 'None None None None None', 'let in: outside a request, a member, and what Synapse does not limit');
	is("@answers[1, 4, 6]", "$refusal $refusal $refusal", 'sync and send are refused, and a sliding sync proxy');
	@answers = $call->('["request", "GET", "/sync"]', (map { sprintf $request, $_ } 'alice', 'bob', q{o'hara}, 'alice', 'alice'), '["remembered"]');
	is($answers[-1], 2, 'the users whom the module remembers are bounded in number');

	# As much of Synapse's tables as the module reads.
	$node->safe_psql('synapse', q{
		CREATE TABLE users (name text, creation_ts bigint, user_type text, appservice_id text, is_guest smallint, deactivated smallint);
		INSERT INTO users VALUES ('@helper:example.com', 1500000000, 'support', NULL, 0, 0), ('@boss:example.com', 1500000000, NULL, NULL, 0, 0),
			('@gone:example.com', 1500000000, NULL, NULL, 0, 1), ('@made:example.com', 1500000000, NULL, 'bridge', 1, 0);
		CREATE TABLE user_threepids (user_id text, medium text, address text);
		INSERT INTO user_threepids VALUES ('@boss:example.com', 'email', 'boss@example.com')});
	$call->('["on_user_registration", "@made:example.com"]');
	is($node->safe_psql('synapse', q{SELECT user_id, appservice_id, is_guest FROM mau.users WHERE registered_at IS NOT NULL}),
		'@made:example.com|bridge|t', 'a registered account is reported');
	$call->('["later"]', '["on_user_deactivation_status_changed", "@alice:example.com", true, false]',
		'["on_remove_user_third_party_identifier", "@nobody:example.com", "email", "nobody@example.com"]');
	is($node->safe_psql('synapse', q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM mau.users WHERE is_registered}),
		'@boss:example.com @helper:example.com @made:example.com', 'and the accounts from before');
	like($node->safe_psql('synapse', $members), qr/\@boss/, 'and the owner of a reserved address has a seat');
	is($node->safe_psql('synapse', q{SELECT user_id FROM mau.users WHERE is_deactivated}), '@alice:example.com', 'and a deactivation');

	$node->safe_psql('synapse', 'ALTER SCHEMA mau RENAME TO away');
	@answers = $call->($register, sprintf($login, 'carol'));
	is("@answers", 'ALLOW NOT_SPAM', 'where mau cannot be asked, everybody is let in');
}

$node->stop;
done_testing();
