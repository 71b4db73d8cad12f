# The recently seen cache has room for what its size says, wherever it begins: lines are taken into use as they are needed, and
# what does not fit is looked up again and answered the same.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('seen');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'mau'\nmau.databases = ''\nmau.seen_cache_size = '1MB'\nautovacuum = off\nmax_prepared_transactions = 1\n");
$node->start;
$node->safe_psql('postgres',
	"CREATE EXTENSION mau; UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1000000000");

# Calls for so many users, by so many in a transaction; answers what was said, and how many were found in the cache.
sub call
{
	my ($users, $batch) = @_;
	my $before = $node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()');
	my $said   = $node->safe_psql(
		'postgres', qq{
		CREATE TEMP TABLE said (outcome text);
		DO \$\$ BEGIN
			FOR n IN 0..$users / $batch - 1 LOOP
				INSERT INTO said SELECT mau.record_activity('\@u' || i || ':x', '2026-06-01 12:00Z')
					FROM generate_series(n * $batch, (n + 1) * $batch - 1) i;
				COMMIT;
			END LOOP;
		END \$\$;
		SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) n FROM said GROUP BY 1) s});
	my $after = $node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()');
	return ($said, $after - $before);
}

is($node->safe_psql('postgres', 'SELECT bytes FROM mau.seen_cache()'), 1024 * 1024, 'it is as large as it was told to be');

# A line of 64 bytes has room for three, so some 48 000 fit in all; the first lines that are used have room for 3 072.
my ($said, $hits) = call(16000, 1000);
is($said, 'joined 16000', 'newcomers join');
for (1 .. 20)    # who was remembered before more lines were taken into use is remembered again
{
	($said, $hits) = call(16000, 1000);
	is($said, 'unchanged 16000', 'all are members');
	last if $hits >= 15000;
}
cmp_ok($hits, '>=', 15000, "most of what fits is remembered: $hits of 16000");

# Sessions hand in their figures every 64 calls, so a few may be missing.
($said, $hits) = call(100000, 1000);
is($said, 'joined 84000, unchanged 16000', 'more than fit: the others join');
($said, $hits) = call(100000, 1000);
is($said, 'unchanged 100000', '… and are members');
cmp_ok($hits, '<', 48600, "most were not remembered: $hits of 100000");
is($node->safe_psql('postgres', q{SELECT mau.monthly_active_count('2026-06-01 12:00Z')}), 100000, '… and counted');


# What fold moves to mau.users on its way says nothing of anybody's account: nobody is forgotten for it.
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z'), mau.record_activity('@gone:x', '2026-04-01 12:00Z')});
is($node->safe_psql('postgres', q{SELECT users FROM mau.reap('2026-06-01 12:00Z') WHERE what = 'expired'}), 1, 'one has expired');
my $before = $node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM mau.fold('2026-06-01 12:00Z') WHERE what = 'settled' AND rows = 1}), 1, '… and is settled');
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z') FROM generate_series(1, 128)});
is($node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()') - $before, 128, 'who was remembered still is');


# What a prepared transaction marks may be undone yet: it is not remembered.
$node->safe_psql('postgres', q{BEGIN; SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z', 'Mozilla/5.0'); PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z', 'Mozilla/5.0')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM mau.visits JOIN mau.users USING (user_no) WHERE user_id = '@u1:x' AND platform = 1}), 1,
	'a visit that was rolled back after PREPARE is marked the next time');

$node->stop;
done_testing();
