# The program mau: status as a screen, as rows and as a monitoring plugin; bills over several databases; and what it says about servers that
# cannot be asked: one line, a hint and the exit status.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use Cwd;
use File::Basename;
use IO::Socket::INET;
use JSON::PP;
use MauClient;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('client');
$node->init;
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
my $ask = sub { return $node->safe_psql($_[1] // 'postgres', $_[0]) };

sub is_problem
{
	my ($arguments, $exit, $line, $hint, $name) = @_;
	my ($status, $out, $err) = mau($node, $arguments);
	is($status, $exit, "$name: exit status");
	is($out, '', "$name: nothing on standard output");
	like($err, qr/\Amau: [^\n]*$line[^\n]*\n/, "$name: one line");
	like($err, qr/\n\QHINT: \E[^\n]*$hint[^\n]*\n\z/, "$name: a hint");
	return;
}

# Without the extension.
is_problem(['status'], 3, 'does not have the extension mau', 'CREATE EXTENSION mau', 'no extension');
is_problem(['bill', '2026-10'], 1, 'does not have the extension mau', 'CREATE EXTENSION mau', 'no extension for a bill');
is_problem(['status', '--all'], 3, 'no database of this server has the extension mau', 'CREATE EXTENSION mau', 'no database with it');
is_problem(['status', '-d', 'nosuch'], 3, 'database "nosuch" does not exist', 'psql', 'no such database');

# A server with a limit and five members, each of whom was seen yesterday, too.
$ask->('CREATE EXTENSION mau');
$ask->(q(SELECT count(mau.record_activity('@' || i || ':x', now() - d * interval '1 day')) FROM generate_series(1, 5) i, unnest('{1,0}'::int[]) d));
$ask->(q(UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 10));
$ask->($_) for 'SELECT mau.fold()', 'SELECT mau.reap()', 'SELECT mau.refresh()';
my ($status, $out, $err) = mau($node, ['status']);
is($status, 0, 'status exits with 0 where all is well') or diag($err);
is($err, '', 'without a word on standard error');
like($out, qr/^postgres at \S+: ok\n/, 'its first line names the database and the health');
like($out, qr/^daily active users +5 +- *\n^weekly active users +5 +- *\n^monthly active users +5 +- *\n/m, 'the figures, without those of a week ago');
like($out, qr/^limit +5 of 10 users \(50\.0 %\), 5 free$/m, 'the limit');
like($out, qr/^reap +\d{4}-/m, 'the tasks');

$ask->(q(INSERT INTO mau.snapshots (at, dau, wau, mau, by_service, daily_active_users, accounts_by_service)
    SELECT now() - interval '7 days 1 minute', 1, 2, 7, '{}', 1, '{}'));
($status, $out) = mau($node, ['status']);
like($out, qr/^daily active users +5 +1 +\+4\n^weekly active users +5 +2 +\+3\n^monthly active users +5 +7 +-2$/m, 'and with their change');

# As rows.
($status, $out) = mau($node, [ 'status', '--format', 'json' ]);
my $rows = decode_json($out);
is(scalar @$rows, 1, 'JSON is a list of one');
is_deeply([ @{ $rows->[0] }{qw(database health dau wau mau limit percent mau_week_ago)} ], [ 'postgres', 'ok', 5, 5, 5, 10, 50.0, 7 ], 'with figures as numbers');
($status, $out) = mau($node, [ 'status', '--format', 'csv' ]);
like($out, qr/\Adatabase,health,reason,dau,wau,mau,limit,.*\r\npostgres,ok,"?[^\r]*,5,5,5,10,50.0,1,2,7,/, 'CSV has a header');

# As a monitoring plugin.
is((mau($node, [ 'status', '--warning', '50' ]))[0], 1, 'a warning');
is((mau($node, [ 'status', '--critical', '50' ]))[0], 2, 'critical');
$ask->('UPDATE mau.settings SET max_mau_value = 5');
is((mau($node, ['status']))[0], 2, 'a full server is critical');
$ask->('UPDATE mau.settings SET max_mau_value = 9');
($status, $out) = mau($node, [ 'status', '--critical', '55.6' ]);
is($status, 0, '5 of 9 are less than 55.6 %');
like($out, qr/5 of 9 users \(55\.5 %\)/, 'and are shown as less');
$ask->('UPDATE mau.settings SET max_mau_value = 10');
is((mau($node, [ 'status', '--no-such-option' ]))[0], 3, 'wrong arguments of status: unknown');
is((mau($node, [ '-d', 'postgres', 'status', '--no-such-option' ]))[0], 3, 'also with options before the command');
is((mau($node, ['no-such-command']))[0], 2, 'of the program');

# Several databases: one that is late, one without the extension, and one that the role may not read.
$ask->('CREATE DATABASE late');
$ask->('CREATE DATABASE without');
$ask->(q(CREATE EXTENSION mau; SELECT mau.register_user('@a:x')), 'late');
($status, $out, $err) = mau($node, [ 'status', '--all' ]);
is($status, 1, 'the exit status is that of the worst');
like($out, qr/\Adatabase +health +dau +wau +mau +limit +percent +lag +reason\nlate +off .*\npostgres +ok +5 +5 +5 +10 +50\.0 /, 'a row for each database that has the extension');
unlike($out, qr/without/, 'and for no other');
$ask->('CREATE ROLE reader LOGIN');
is_problem([ 'status', '-U', 'reader' ], 3, 'permission denied.*SQLSTATE 42501', q{mau\.grant_to\('reader', 'monitoring'\)}, 'a role without rights');
$ask->(q(SELECT mau.grant_to('reader', 'monitoring')));
is((mau($node, [ 'status', '-U', 'reader' ]))[0], 0, 'monitoring has the rights');
($status, $out, $err) = mau($node, [ 'status', '-U', 'reader', '--all', '--format', 'json' ]);
is($status, 3, 'a database that cannot be asked makes it unknown');
is_deeply([ map { "$_->{database} $_->{health}" } @{ decode_json($out) } ], [ 'late unknown', 'postgres ok' ], 'and has a row all the same');
like($err, qr/\Amau: late: .*permission denied/, 'and a line');

# Bills.
my $month = $ask->(q(SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')));
($status, $out, $err) = mau($node, [ 'bill', $month, '--all', '--format', 'json' ]);
is($status, 0, 'a bill of all databases') or diag($err);
is_deeply([ map { [ @$_{qw(database month service users partial)} ] } grep { $_->{users} } @{ decode_json($out) } ], [ [ 'postgres', $month, 'native', 5, 'yes' ] ],
    'has the users of the month, and says that it is not over');
($status, $out) = mau($node, [ 'bill', $month, '--format', 'csv' ]);
like($out, qr/\Adatabase,month,service,users,users_over,highest_mau,mean_mau,partial\r\npostgres,$month,native,5,/, 'as CSV');
for my $wrong (qw(2026-13 2026-1 october 2026-10-01))
{
	is_problem([ 'bill', $wrong ], 2, "$wrong is no month", '2026-10', "month $wrong");
}

# Targets.
my $file = PostgreSQL::Test::Utils::tempdir() . '/targets.yaml';
my $write = sub { open my $f, '>', $file or die $!; print $f $_[0]; close $f; return };
$write->("- dbname=postgres\n- conninfo: dbname=nosuch\n  name: gone\n- databases: all\n  name: here\n");
($status, $out, $err) = mau($node, [ 'bill', $month, '--targets', $file, '--format', 'json' ]);
is($status, 1, 'a bill that lacks a database exits with 1');
like($err, qr/\Amau: gone: .*"nosuch" does not exist/, 'which is named');
is_deeply([ sort map { $_->{database} } grep { $_->{users} } @{ decode_json($out) } ], [ 'here/postgres', 'postgres' ], 'the others are there');
for my $case ([ "- databases: some\n", 1, 'unknown: databases: some' ], [ "- a\n- [b]\n", 2, 'a target is' ], [ "- a\n- {b: [}\n", 2, '' ], [ "[]\n", 1, 'no targets' ])
{
	my ($yaml, $line, $what) = @$case;
	$write->($yaml);
	is_problem([ 'bill', $month, '--targets', $file ], 2, "targets.yaml:$line: $what", 'conninfo', "targets $what");
}
like((mau($node, [ 'bill', $month, '--targets', "$file.not" ]))[2], qr/\Amau: \S*targets\.yaml\.not: cannot read it: No such file or directory\nHINT: .*the file of --targets/, 'no targets file');

# Servers that hang, and that ask for a password.
my $hung = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
my $port = $hung->sockport;
is_problem([ 'status', '-d', "host=127.0.0.1 port=$port dbname=x", '--timeout', '0.5' ], 3, 'no connection within 0.5 s', '--timeout', 'a server that does not answer');
$write->("- host=127.0.0.1 port=$port dbname=hung\n- dbname=postgres\n");
($status, $out, $err) = mau($node, [ 'status', '--targets', $file, '--timeout', '6', '--format', 'json' ]);
is_deeply([ map { "$_->{database} $_->{health}" } @{ decode_json($out) } ], [ 'hung@127.0.0.1 unknown', 'postgres ok' ], 'it delays no other');
$ask->(q(CREATE ROLE locked_out LOGIN PASSWORD 'right'));
my $hba = slurp_file($node->data_dir . '/pg_hba.conf');
open my $f, '>', $node->data_dir . '/pg_hba.conf' or die $!;
print $f "local all locked_out scram-sha-256\n$hba";
close $f;
$node->reload;
{
	local $ENV{PGPASSFILE} = '/nonexistent';
	is_problem([ 'status', '-U', 'locked_out' ], 3, 'password', 'PGPASSWORD', 'no password');
	local $ENV{PGPASSWORD} = 'wrong';
	is_problem([ 'status', '-U', 'locked_out' ], 3, 'password authentication failed', 'check the user and the password', 'a wrong password');
}

# An old extension; the row of the catalog stands for one.
$ask->(q(UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'mau'));
is_problem(['status'], 3, 'has mau 0\.9, and this program needs 1\.0 or later', 'ALTER EXTENSION mau UPDATE', 'an old extension');
$ask->(q(UPDATE pg_extension SET extversion = '1.0' WHERE extname = 'mau'));

# watch. One that is told to begin with the present state, and that runs a command; one whose connection is lost meanwhile.
$ask->('UPDATE mau.settings SET max_mau_value = 6; DELETE FROM mau.limit_state');
$ask->('SELECT mau.refresh()');
my %env = (PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
my ($told, $errors) = ('', '');
my $watch;
{
	local %ENV = (%ENV, %env);
	delete $ENV{PGAPPNAME};
	$watch = IPC::Run::start([ mau_program(), 'watch', '--exec', 'echo "$MAU_STATE $MAU_BEFORE $MAU_USERS $MAU_LIMIT $MAU_DATABASE"; cat', '--count', '2' ],
		'>', \$told, '2>', \$errors, IPC::Run::timeout(180));
}
my $listening = q(SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'mau' AND query ~ 'limit_state');
ok($node->poll_query_until('postgres', $listening), 'watch listens');
$ask->(q(NOTIFY mau_limit, 'no JSON'; NOTIFY mau_limit, '{"state":"other"}'));
$ask->(q(SELECT mau.record_activity('@6:x')));
$watch->pump until $told =~ /\}\n/;
like($told, qr/\Afull (free|nearly_full) 6 6 postgres\n\{"state":"full".*\}\n\z/, 'a change runs the command, once');
$ask->(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mau'; UPDATE mau.limit_state SET state = 'free', users = 3));
ok($watch->finish, 'watch ends after as many changes as it was told');
like($told, qr/\nfree full 3 6 postgres\n\{"state":"free","before":"full".*\}\n\z/, 'what changed while there was no connection is told after it');
like($errors, qr/\Amau: .*(?:terminating connection|closed the connection)/, 'the lost connection is reported');
($status, $out) = mau($node, [ 'watch', '--now', '--count', '0', '--timeout', '1', '-d', 'nosuch' ]);
is($status, 1, 'watch ends where it cannot connect at first');
$ask->(q(UPDATE mau.limit_state SET state = 'full'));
($status, $out) = mau($node, [ 'watch', '--now', '--count', '1' ]);
like($out, qr/\A\{"state":"full","before":"free","users":3,"limit":6,"at":".*Z","database":"postgres"\}\n\z/, 'the present state as a line of JSON');

# The man page has every command and option of the help and no others, and bash completes them.
my $root = "$FindBin::RealBin/../..";
my $man = slurp_file("$root/doc/mau.1");
$man =~ s/\\?-/-/g;
my %documented = map { $_ => 1 } $man =~ /(?:Fl|,) -+(?:Ns Cm )?([a-z-]{2,})/g;
# CLI11 2.5 and later prints headings in capitals, and options in columns.
my $options_of = sub { return [ sort((mau($node, [ @_, '--help' ]))[1] =~ /^ +(?:-.,\s*)?--([a-z-]+)/mg) ] };
# The words that bash offers after some words.
my $folder_of_program = dirname(mau_program());
my $completed = sub {
	local $ENV{PATH} = "$folder_of_program:$ENV{PATH}";
	my $out = '';
	IPC::Run::run([ 'bash', '-c', 'source "$0"; COMP_WORDS=(mau "$@"); COMP_CWORD=$#; _mau; printf "%s\n" "${COMPREPLY[@]}"', "$root/share/bash-completion/mau", @_ ], '>', \$out);
	my %completed = map { $_ => 1 } split /\n/, $out;
	return [ sort keys %completed ];
};
my ($help) = (mau($node, ['--help']))[1];
my @commands = ($help =~ /^Subcommands:\n(.*)/msi)[0] =~ /^  ([a-z]+)/mg;
cmp_ok(scalar @commands, '>=', 3, 'the help lists commands');
is_deeply($completed->(''), [ sort @commands ], 'bash completes them');
my %known = map { $_ => 1 } @{ $options_of->() };
for my $command (@commands)
{
	like($man, qr/^\.Ss mau $command\b/m, "the man page has $command");
	my $options = $options_of->($command);
	$known{$_} = 1 for @$options;
	my %all = map { ("--$_" => 1) } @$options, @{ $options_of->() };
	is_deeply($completed->($command, '--'), [ sort keys %all ], 'bash completes its options');
}
# Names of databases are taken as they are: nothing in them is run, and the shell gets them quoted.
{
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $here = getcwd();
	chdir $folder or die $!;
	$node->safe_psql('postgres', q{CREATE DATABASE "x$(touch ran)"});
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
	is_deeply($completed->('status', '-d', 'x'), [ 'x\\$\\(touch\\ ran\\)' ], 'bash completes the name of a database');
	ok(!-e 'ran', 'and runs nothing');
	$node->safe_psql('postgres', q{DROP DATABASE "x$(touch ran)"});
	chdir $here or die $!;
}
# So it does with either form of the help.
for my $form ([ '-h,--help                   Show', 'Subcommands' ], [ '-h,     --help              Show', 'SUBCOMMANDS' ])
{
	my ($option, $heading) = @$form;
	$folder_of_program = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$folder_of_program/mau", "#!/bin/sh\ncat <<'END'\nmau\n\nOptions:\n  $option\n  --all      All -- of --them\n\n$heading:\n  status     Show\n  bill       Show\nEND\n");
	chmod 0755, "$folder_of_program/mau";
	is(join(' ', @{ $completed->('') }), 'bill status', "bash completes the commands below $heading");
	is(join(' ', @{ $completed->('--') }), '--all --help', 'and the options');
}
is_deeply([ sort keys %documented ], [ sort keys %known ], 'the man page has the options of all');

# A full disk.
{
	my ($out, $err);
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
	IPC::Run::run([ mau_program(), 'status', '-d', 'postgres' ], '>', '/dev/full', '2>', \$err);
	like($err, qr/\Amau: cannot write to standard output: No space left on device/, 'a full disk is reported');
	isnt($? >> 8, 0, 'and is no success');
}
$node->stop;
done_testing();
