# Bad input of the program mau: very long arguments and files, folders in the place of files, read-only databases. Each time it prints one short
# line with the fault and a hint, and ends with the exit status of the command.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauClient;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('input');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION mau');
my $folder = PostgreSQL::Test::Utils::tempdir();

sub file
{
	my ($name, $text) = @_;
	open my $file, '>', "$folder/$name" or die "$folder/$name: $!";
	print $file $text;
	close $file;
	return "$folder/$name";
}

sub is_problem
{
	my ($arguments, $exit, $line, $hint, $name, $on) = @_;
	my ($status, $out, $err) = mau($on // $node, $arguments);
	is($status, $exit, "$name: exit status");
	like($err, qr/\Amau: [^\n]*$line[^\n]*\nHINT: [^\n]*$hint[^\n]*\n\z/, "$name: a line and a hint");
	cmp_ok(length $err, '<', 3000, "$name: which is short");
	return;
}

# Linux takes arguments of up to 128 kB.
my $long = 'x' x 120_000;
is_problem([ 'report', '--output', $long ], 1, 'File name too long', '--output', 'a long name of a file');
is_problem([ 'status', '-d', $long ], 3, '', 'psql', 'a long name of a database');
is_problem([ 'bill', '2026-10', '-d', "dbname=$long" ], 1, '', 'psql', 'a long conninfo');
is_problem([ 'bill', '2026-10', '-d', "dbname=a $long" ], 2, 'missing "=" after', 'key=value', 'a long conninfo that is wrong');
is_problem([ 'bill', $long ], 2, 'is no month', '2026-10', 'a long month');
is_problem([ 'report', '--output', '-', '--at', $long ], 2, 'invalid input syntax', '--at', 'a long time');
is_problem([ 'serve', '--listen', $long ], 2, 'is no address', '--listen', 'a long address');
is_problem([ 'serve', '--listen', "$long:9188" ], 1, 'cannot listen at', '--listen', 'a long host');
is_problem([ 'import', $long ], 2, 'File name too long', 'homeserver\.yaml', 'a long name of a configuration');
is_problem([ 'bill', '2026-10', '--targets', $long ], 2, 'File name too long', 'the file of --targets', 'a long name of a targets file');
is_problem([ "--$long" ], 2, '', '--help', 'a long option');
# A character of several bytes stays whole where a line is shortened.
my (undef, undef, $err) = mau($node, [ 'bill', 'a' . "\xc3\xa4" x 2000 ]);
ok(utf8::decode($err), 'a line is valid UTF-8');

# 1 MB in a file.
my $huge = 'x' x 1_000_000;
is_problem([ 'bill', '2026-10', '--targets', file('targets.yaml', "- dbname=$huge\n") ], 1, '', 'psql', 'a target of 1 MB');
is_problem([ 'bill', '2026-10', '--targets', file('targets.yaml', "- {$huge: a}\n") ], 2, '', 'conninfo', 'a key of 1 MB in targets');
is_problem([ 'bill', '2026-10', '--targets', $folder ], 2, 'Is a directory', 'the file of --targets', 'a folder of targets');
for my $case ([ "mau_$huge: 1\n", 'not YAML' ], [ "mau_trial_days: $huge\n", 'mau_trial_days' ], [ 'mau_trial_days: ' . '9' x 1_000_000 . "\n", 'mau_trial_days' ],
	[ "limit_usage_by_mau: \"$huge\n", 'quote' ], [ "server_name: $huge\n", 'server_name must be' ])
{
	my ($yaml, $line) = @$case;
	my ($status, undef, $err) = mau($node, [ 'import', '--dry-run', file('homeserver.yaml', "max_mau_value: 5\n$yaml") ]);
	is($status, 2, "1 MB in $line: exit status");
	like($err, qr/\Amau: [^\n]*homeserver\.yaml:[^\n]*$line/, 'the line is named');
	cmp_ok(length $err, '<', 3000, 'in short');
}
# Larger than a configuration can be, and without an end.
is_problem([ 'import', '--dry-run', $_ ], 2, 'larger than 4 MB', 'some kB', $_ eq '/dev/zero' ? 'no end' : '5 MB') for file('homeserver.yaml', $huge x 5), '/dev/zero';
is_problem([ 'bill', '2026-10', '--targets', $_ ], 2, 'larger than 4 MB', 'the file of --targets', $_ eq '/dev/zero' ? 'targets without an end' : '5 MB of targets') for file('targets.yaml', "- dbname=a\n# $huge" . $huge x 4), '/dev/zero';
my ($status, $out) = mau($node, [ 'import', '--dry-run', '--format', 'csv', file('homeserver.yaml', "max_mau_value: 5\nlimit_usage_by_mau: true\nmacaroon_secret_key: $huge\n") ]);
is($status, 0, '1 MB in a key that is not read');
like($out, qr/^max_mau_value,[^,]*,5\r$/m, 'do no harm');

# Databases that take no writes.
my $yaml = file('homeserver.yaml', "max_mau_value: 77\nlimit_usage_by_mau: true\n");
my $limit = sub { return $node->safe_psql('postgres', 'SELECT max_mau_value FROM mau.settings') };
my $before = $limit->();
for my $where ('ALTER DATABASE postgres', 'ALTER ROLE CURRENT_USER')
{
	$node->safe_psql('postgres', "$where SET default_transaction_read_only = on");
	my ($status, $out, $err) = mau($node, [ 'import', '--yes', $yaml ]);
	is($status, 1, "read-only by $where: exit status");
	like($out, qr/^max_mau_value .* 77$/m, 'the difference is shown');
	like($err, qr/\Amau: nothing was applied: database postgres is read-only by default_transaction_read_only\nHINT: [^\n]*PGOPTIONS[^\n]*\n\z/, 'a line and a hint');
	is($limit->(), $before, 'and nothing has changed');
	is((mau($node, [ 'import', '--dry-run', $yaml ]))[0], 0, 'it can be looked at');
	$node->safe_psql('postgres', "SET default_transaction_read_only = off; $where RESET default_transaction_read_only");
}
$node->safe_psql('postgres', 'ALTER DATABASE postgres SET default_transaction_read_only = on');
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off';
	is((mau($node, [ 'import', '--yes', $yaml ]))[0], 0, 'what the hint says');
}
$node->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER DATABASE postgres RESET default_transaction_read_only; UPDATE mau.settings SET max_mau_value = 5');
$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
is_problem([ 'import', '--yes', $yaml ], 1, 'nothing was applied: \S+ is a standby server', 'primary', 'a standby', $standby);
is((mau($standby, [ 'import', '--dry-run', $yaml ]))[0], 0, 'a standby can be looked at');

$standby->stop;
$node->stop;
done_testing();
