# Replays traces of a homeserver with its clock under control, and compares every answer: those of a real Synapse in
# $MAU_FIXTURES/traces where they are present, and a small one of ours, which covers what those do not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauTrace;
use PostgreSQL::Test::Utils;
use Test::More;

my $node   = truth_cluster('traces');
my @traces = ("$FindBin::RealBin/../fixtures/trace-small.jsonl");
if (defined $ENV{MAU_FIXTURES})
{
	my @real = sort glob "$ENV{MAU_FIXTURES}/traces/*.jsonl.gz";
	ok(@real, 'MAU_FIXTURES has traces');
	push @traces, @real;
}
else
{
	note 'MAU_FIXTURES is not set: the traces of a real Synapse are not replayed';
}

my $number = 0;
for my $side (sides($node))
{
	my $all = 0;
	for my $trace (@traces)
	{
		my ($name) = $trace =~ m{([^/]+?)(?:\.jsonl(?:\.gz)?)$};
		my $database = 'trace' . ++$number;
		new_database($node, $side, $database);
		my ($answers, $differences) = replay($node, $database, $side->{schema}, $trace);
		$all += $answers;
		cmp_ok($answers, '>', 100, "$side->{name}: $name has answers to compare");
		is(join("\n", @$differences), '', "$side->{name}: $name: $answers answers, no difference");
	}
	note "$side->{name}: $all answers";
}

$node->stop;
done_testing();
