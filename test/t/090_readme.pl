# README.md is what it says: its SQL, in order, on the demo's database, with and without the library preloaded; and the figures it shows.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root   = "$FindBin::RealBin/../..";
my $readme = slurp_file("$root/README.md");
my @blocks = $readme =~ /^```sql\n(.*?)^```/msg;
cmp_ok(scalar @blocks, '>=', 10, 'README.md has SQL');

for my $preload ('', 'mau')
{
	my $node = PostgreSQL::Test::Cluster->new('readme' . $preload);
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\nautovacuum = off\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE homeserver');
	$node->safe_psql('homeserver', slurp_file("$root/test/fixtures/homeserver.sql"));

	my $block = 0;
	for my $sql (@blocks)
	{
		$block++;
		my $err;
		is($node->psql('homeserver', $sql, stderr => \$err, on_error_stop => 1), 0, "SQL block $block runs ('$preload' preloaded)") or diag $err;
		next unless $block == 1;
		# The first screen.
		my ($figure) = $readme =~ /^=# SELECT mau\.monthly_active_count\(\);\n +(\d+)$/m;
		is($node->safe_psql('homeserver', 'SELECT mau.monthly_active_count()'), $figure, 'the figure it shows');
		my ($query, $three) = $readme =~ /^=# (SELECT mau\.active_users\('1 day'\).*;)\n +(.*)$/m;
		is($node->safe_psql('homeserver', $query), $three =~ s/\s*\|\s*/|/gr, 'DAU, WAU and MAU');
		($query, my $answer) = $readme =~ /^=# (SELECT rule, detail [^\n]*;)\n(.*?)\n\n/ms;
		is($node->safe_psql('homeserver', $query), join("\n", map { s/^\s+|\s+$//gr =~ s/\s*\|\s*/|/r } split /\n/, $answer), 'why');
		my ($update) = $readme =~ /^=# BEGIN; (UPDATE mau\.settings .*;)$/m;
		my ($error)  = $readme =~ /^=# SELECT mau\.check_auth_blocking\(\);[^\n]*\n(.*?)\n=# ROLLBACK;\n/ms;
		is($node->safe_psql('homeserver', "BEGIN; $update SELECT mau.check_auth_blocking(); ROLLBACK"), $error =~ s/^\s+//r =~ s/\n\s+/ /r,
			'what a newcomer is told');
	}
	$node->stop;
}

done_testing();
