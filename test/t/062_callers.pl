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

# Every statement in the SQL blocks of doc/calling.md runs.
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
	skip "no $python here: the Synapse module is not run", 11 unless -x $python;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;

	# Calls, and what each returns.
	my $call = sub {
		my ($out, $err) = ('', '');
		my $input = join "\n", @_;
		IPC::Run::run [ $python, "$FindBin::RealBin/../synapse/call_module.py", 'synapse' ], '<', \$input, '>', \$out, '2>', \$err
		  or diag $err;
		return split /\n/, $out;
	};
	my $register = '["check_registration_for_spam", null, "new", [["Mozilla", "127.0.0.1"]], null]';
	my $reserved = '["check_registration_for_spam", {"medium": "email", "address": "Boss@example.com"}, "boss", [["Mozilla", "127.0.0.1"]]]';
	my $login    = '["check_login_for_spam", "@%s:example.com", "DEVICE", null, [["Mozilla", "127.0.0.1"]], null]';

	my @answers = $call->($register, sprintf($login, 'alice'), sprintf($login, q{o'hara}));
	is($answers[0], 'signature of check_registration_for_spam: as documented', 'registration: the documented signature');
	is($answers[1], 'signature of check_login_for_spam: as documented',        'login: the documented signature');
	is("@answers[2 .. 4]", 'ALLOW NOT_SPAM NOT_SPAM', 'without a limit every request goes ahead');
	is($node->safe_psql('synapse', 'SELECT string_agg(user_id, \' \' ORDER BY user_id) FROM mau.monthly_active_users'),
		q{@alice:example.com @o'hara:example.com}, 'and was seen');

	$node->safe_psql('synapse', q{UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 3;
		INSERT INTO mau.reserved_threepids VALUES ('email', 'boss@example.com')});
	@answers = $call->($register, sprintf($login, 'bob'), sprintf($login, 'carol'), sprintf($login, 'alice'), $register, $reserved);
	is($answers[2], 'ALLOW', 'a seat is left: one may register');
	is($answers[3], 'NOT_SPAM', 'and the last one is taken at login');
	is($answers[4], 'M_RESOURCE_LIMIT_EXCEEDED', 'a full server: nobody new logs in');
	is($answers[5], 'NOT_SPAM', 'a member does');
	is($answers[6], 'DENY', 'nobody registers');
	is($answers[7], 'ALLOW', 'but the owner of a reserved address');
	$node->safe_psql('synapse', 'ALTER SCHEMA mau RENAME TO away');
	@answers = $call->($register, sprintf($login, 'carol'));
	is("@answers[2, 3]", 'ALLOW NOT_SPAM', 'where mau cannot be asked, every request goes ahead');
}

$node->stop;
done_testing();
