# Random operations on mau and on the model of the reference's rules alike: the same answers, the same counts, the same table.
#
#     MAU_SEED         the seed, to see a difference again (it is printed); else one by the clock
#     MAU_OPERATIONS   how many in each of the two worlds (10000)
#     MAU_VERBOSE      shows each operation before it is done

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauTrace;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed       = $ENV{MAU_SEED} || 1 + time % 1_000_000;
my $operations = $ENV{MAU_OPERATIONS} || 10_000;
note "MAU_SEED=$seed";

# In one world only @...:example.com is ours, and deactivated users are not counted; in the other all users are.
my %worlds = (strict => 'true', open => 'false');

my $node  = truth_cluster('differential');
my @sides = grep { $_->{schema} eq 'mau' } sides($node);
@sides = ({ name => 'the model, as mau', schema => 'mau', is_model => 1 }) unless @sides;

my $number = 0;
for my $side (@sides)
{
	my %times;
	for my $world (sort keys %worlds)
	{
		my $database = 'differential' . ++$number;
		new_database($node, $side, $database);
		load_model($node, $database, 'model');
		my ($done, $difference, $coverage) = differential($node, $database, $operations, $seed + $number, $worlds{$world});
		is($difference, '', "$side->{name}, $world world: $done operations, no difference")
		  or diag "again with MAU_SEED=$seed";
		is($done, $operations, "$side->{name}, $world world: all operations done");
		$times{$_} += $coverage->{$_} for keys %$coverage;
	}

	# The test is worth what it met.
	next if $operations < 10_000;
	my @expected = map { "record_activity $_" }
	  qw(joined refreshed unchanged guest trial support appservice deactivated remote full off);
	push @expected, 'register_user joined', 'check_auth_blocking NULL', 'admit admitted',
	  map { ("check_auth_blocking $_", "admit $_") } qw(monthly_active_user hs_disabled);
	push @expected, map { "$_ at lies in the past" } qw(monthly_active_count monthly_active_count_by_service);
	my @rare = grep { ($times{$_} // 0) < 3 } @expected;
	is("@rare", '', "$side->{name}: every answer came up") or diag "MAU_SEED=$seed";
	note join "\n", map { "$_: $times{$_}" } sort keys %times;
}

$node->stop;
done_testing();
