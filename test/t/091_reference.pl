# doc/reference.md describes exactly the objects of the schema mau: every table and view with its columns and their types, every function with
# its arguments, their defaults and its result. Indexes, constraints and triggers go with their tables.

use strict;
use warnings;

use Encode qw(decode);
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $reference = decode('UTF-8', slurp_file("$FindBin::RealBin/../../doc/reference.md"));

my $node = PostgreSQL::Test::Cluster->new('reference');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION mau');

# Lines such as "mau.users: user_no bigint" and "mau.host_of: mau.host_of(user_id text) RETURNS text", of the document ...
my %described;
for my $entry (split /^(?=###? )/m, $reference)
{
	my ($name) = $entry =~ /^### `(mau\.\w+)`\n/ or next;
	my @lines;
	if ($entry =~ /^    (\Q$name\E\(.*\))\n    RETURNS (.*)$/m) { @lines = ("$1 RETURNS $2") }
	elsif ($entry =~ /^View\. /m)                               { @lines = $entry =~ /^\| `(\w+)` \|/mg }
	else                                                        { @lines = map { s/` \|//r } $entry =~ /^\| `(\w+` \| [^|]*?) +\|/mg }
	@lines = 'no signature and no columns' unless @lines;
	$described{"$name: $_"} = 1 for @lines;
}
my ($sequences) = $reference =~ /^## Sequences\n(.*)/ms;
$described{"$_: sequence"} = 1 for $sequences =~ /`(mau\.\w+_seq)`/g;

# ... and of the catalog.
my $rows = $node->safe_psql('postgres', <<'END');
SELECT format('mau.%s: mau.%1$s(%s) RETURNS %s', proname, pg_get_function_arguments(oid), pg_get_function_result(oid))
FROM pg_proc WHERE pronamespace = 'mau'::regnamespace
UNION ALL
SELECT format('mau.%s: %s', relname, CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN attname ELSE format('%s %s', attname, format_type(atttypid, NULL)) END)
FROM pg_class c LEFT JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND relkind <> 'S'
WHERE relnamespace = 'mau'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f', 'S')
END
my %exists;
for (split /\n/, $rows)
{
	s/timestamp with time zone/timestamptz/g;
	s/(DEFAULT (?:'[^']*'|NULL))::[a-z ]+(?:\[\])?/$1/g;
	s/RETURNS TABLE\(/RETURNS TABLE (/;
	$exists{$_} = 1;
}

cmp_ok(scalar keys %exists, '>=', 150, 'the catalog has objects');
is(join("\n", grep { !$described{$_} } sort keys %exists), '', 'everything in the catalog is in doc/reference.md');
is(join("\n", grep { !$exists{$_} } sort keys %described), '', 'everything in doc/reference.md is in the catalog');
$node->stop;

# The links of the documents lead somewhere: to a file, and to a heading of it.
my $root = "$FindBin::RealBin/../..";
my @pages = map { s/^\Q$root\E\///r } glob("$root/*.md"), glob("$root/doc/*.md"), glob("$root/src/*/README.md");
my %headings;
for my $page (@pages)
{
	my $text = decode('UTF-8', slurp_file("$root/$page"));
	$text =~ s/^```.*?^```$//msg;
	$headings{$page}{ lc($_) =~ s/[^\w -]//gr =~ s/ /-/gr } = 1 for $text =~ /^#+ (.*)$/mg;
}
for my $page (@pages)
{
	my $text = decode('UTF-8', slurp_file("$root/$page"));
	my ($folder) = $page =~ m{^(.*/)?}; $folder //= '';
	my @broken;
	for my $link ($text =~ /\]\(([^)\s]+)\)/g)
	{
		next if $link =~ m{^https?://};
		my ($file, $heading) = $link =~ /^([^#]*)#?(.*)$/;
		my $path = $file eq '' ? $page : "$folder$file";
		1 while $path =~ s{[^/]+/\.\./}{};
		push @broken, $link unless -e "$root/$path" and ($heading eq '' or $headings{$path}{$heading});
	}
	is("@broken", '', "the links of $page");
}

done_testing();
