# The examples of the documents are right: the SQL of README.md, doc/operating.md and doc/monitoring.md runs in this order on the demo's
# database, with and without the library preloaded, and gives the answers that they show. Every example of doc/history.md gives the answer
# shown.

use strict;
use warnings;

use Encode qw(decode);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root   = "$FindBin::RealBin/../..";
my $readme = slurp_file("$root/README.md");
my $operating = slurp_file("$root/doc/operating.md");
my $monitoring = slurp_file("$root/doc/monitoring.md");
my @blocks = map { /^```sql\n(.*?)^```/msg } $readme, $operating, $monitoring;
cmp_ok(scalar @blocks, '>=', 9, 'the documents have SQL');
my $history = decode('UTF-8', slurp_file("$root/doc/history.md"));
# Statements, and the answer where one is shown.
my @recipes = $history =~ /^```sql\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?/msg;
cmp_ok(scalar(grep { defined } @recipes), '>=', 30, 'doc/history.md has SQL');

for my $preload ('', 'mau')
{
	my $node = PostgreSQL::Test::Cluster->new('readme' . $preload);
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\nautovacuum = off\nmau.databases = 'homeserver'\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE homeserver');
	$node->safe_psql('postgres', 'CREATE ROLE synapse');    # the homeserver's role
	$node->safe_psql('homeserver', slurp_file("$root/test/fixtures/homeserver.sql"));

	my $block = 0;
	for my $sql (@blocks)
	{
		$block++;
		my $err;
		is($node->psql('homeserver', $sql, stderr => \$err, on_error_stop => 1), 0, "SQL block $block runs ('$preload' preloaded)") or diag $err;
		next unless $block == 1;
		# The answers of the README's first screen.
		my ($figure) = $readme =~ /^=# SELECT mau\.monthly_active_count\(\);\n +(\d+)$/m;
		is($node->safe_psql('homeserver', 'SELECT mau.monthly_active_count()'), $figure, 'the figure it shows');
		my ($query, $three) = $readme =~ /^=# (SELECT mau\.active_users\('1 day'\).*;)\n +(.*)$/m;
		is($node->safe_psql('homeserver', $query), $three =~ s/\s*\|\s*/|/gr, 'DAU, WAU and MAU');
		($query, my $answer) = $readme =~ /^=# (SELECT rule, detail [^\n]*;)\n(.*?)\n\n/ms;
		is($node->safe_psql('homeserver', $query), join("\n", map { s/^\s+|\s+$//gr =~ s/\s*\|\s*/|/r } split /\n/, $answer), 'why');
		my ($update) = $readme =~ /^=# BEGIN; (UPDATE mau\.settings .*;)$/m;
		my ($error)  = $readme =~ /^=# SELECT mau\.check_auth_blocking\(\);[^\n]*\n(.*?)\n=# ROLLBACK;\n/ms;
		is($node->safe_psql('homeserver', "BEGIN; $update SELECT mau.check_auth_blocking(); ROLLBACK"), $error =~ s/^\s+//r =~ s/\n\s+/ /r,
			'the error of a full server');
		# The trouble that doc/operating.md shows: a table of the homeserver was renamed.
		my ($away, $warning, $row, $state, $reason) = $operating =~
		  /^=# (ALTER TABLE [^\n]*;)\n=# SELECT \* FROM mau\.sync\(\);\n(WARNING: .*?)^ (trouble \| +1)\n\n=# SELECT \* FROM mau\.health\(\);\n (failing) \| ([^\n]*)/ms;
		my ($out, $err);
		$node->psql('homeserver', "$away SELECT * FROM mau.sync(); SELECT * FROM mau.health()", stdout => \$out, stderr => \$err);
		is($err =~ s/^psql:<stdin>:\d+: //mgr, $warning =~ s/\n\z//r, 'a table that is away: the warning');
		is($out, ($row =~ s/ *\| */|/r) . "\n$state|$reason", 'a table that is away: sync and health');
		$node->safe_psql('homeserver', 'ALTER TABLE user_ips_away RENAME TO user_ips; SELECT * FROM mau.sync()');
	}

	# The series in doc/monitoring.md, and its sample of mau.metrics().
	my $metrics = $node->safe_psql('homeserver',
		'UPDATE mau.settings SET limit_usage_by_mau = true; DO $$BEGIN PERFORM mau.reconcile(), mau.refresh(); END$$; SELECT mau.metrics()');
	my ($sample) = $monitoring =~ /^```text\n(# HELP .*?)^```/ms;
	my @names = $sample =~ /^# HELP (\w+)/mg;
	# Rows of the tables; those with a note have figures of shared memory.
	while ($monitoring =~ /^\| ((?:`\w+`,? )+)\|(.*)\|$/mg)
	{
		my ($names, $meaning) = ($1, $2);
		push @names, $names =~ /`((?:mau|synapse)_\w+)`/g if $preload || $meaning !~ /\N{U+b9}|\xc2\xb9/;
	}
	cmp_ok(scalar @names, '>=', 15, 'doc/monitoring.md has series');
	# The demo's history is too short for a forecast; test/sql/metrics_samples.sql has one.
	like($metrics, qr/^# TYPE $_ (?:gauge|counter)$/m, "mau.metrics() has $_") for grep { $_ ne 'mau_limit_reached_timestamp_seconds' } @names;

	# In a database to which the worker does not come, so that it does not fold before the page does.
	$node->safe_psql('postgres', 'CREATE DATABASE history');
	$node->safe_psql('history', 'CREATE EXTENSION mau');
	for (my $i = 0; $i < @recipes; $i += 2)
	{
		my ($sql, $shown) = @recipes[ $i, $i + 1 ];
		my ($out, $err);
		is($node->psql('history', "\\pset format aligned\n\\pset tuples_only off\n\\pset footer off\n$sql",
				stdout => \$out, stderr => \$err, on_error_stop => 1),
			0, "recipe $i runs ('$preload' preloaded)") or diag $err;
		$out = decode('UTF-8', $out) =~ s/ +$//mgr;
		is($out =~ s/\n+\z//r, $shown =~ s/\n+\z//r, "recipe $i: as shown") if defined $shown;
	}
	# The corrupt row, and how to get rid of it.
	my ($message) = $history =~ /^```text\n(ERROR: .*?)^```/ms;
	my ($delete)  = $history =~ /`(DELETE FROM mau\.active_days [^`]*)`/;
	my ($where)   = $delete =~ /(WHERE .*)/s;
	$node->safe_psql('history', "UPDATE mau.active_days SET users = substring(users FOR octet_length(users) - 1) $where");
	my ($out, $err);
	my $question = "SELECT count(*) FROM mau.daily_series('2025-03-01', '2025-03-31')";
	is($node->psql('history', $question, stderr => \$err), 3, 'a corrupt row is an error');
	is($err =~ s/^psql:<stdin>:\d+: //mgr, $message =~ s/\n\z//r, 'as shown');
	$node->safe_psql('history', $delete);
	is($node->safe_psql('history', $question), 31, 'and without the row it is none');
	$node->stop;
}

done_testing();
