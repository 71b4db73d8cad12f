# The cache of recently seen users has as many entries as its size allows; other users are looked up again, with the same answers. A change
# is effective as soon as its transaction has committed.

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

# Calls for so many users, by so many in a transaction; returns the answers, and the number of hits in the cache.
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

# Another session is about to change users who are remembered.
$node->safe_psql('postgres', 'CREATE DATABASE other');
my $seen = q{SELECT string_agg(DISTINCT mau.record_activity('@g' || i || ':x', '2026-06-01 12:00Z'), ', ') FROM generate_series(1, 300) i};
is($node->safe_psql('other', "CREATE EXTENSION mau; $seen"), 'joined', 'members of another database');
my $changing = $node->background_psql('other');
$changing->query_safe(q{BEGIN; SELECT count(mau.register_user('@g' || i || ':x', '2026-01-01', is_guest => true)) FROM generate_series(1, 300) i});

# A set of 128 bytes has room for seven, so some 57 000 fit in all.
my ($said, $hits) = call(16000, 1000);
is($said, 'joined 16000', 'newcomers join');
($said, $hits) = call(16000, 1000);
is($said, 'unchanged 16000', 'all are members');
cmp_ok($hits, '>=', 15000, "most of what fits is remembered: $hits of 16000");

is($node->safe_psql('other', "$seen; $seen"), "unchanged\nunchanged", 'what is not committed yet changes nothing');
$changing->query_safe('COMMIT');
$changing->quit;
is($node->safe_psql('other', $seen), 'guest', '… and what is, does, for all');

# Sessions hand in their figures every 64 calls, so a few may be missing.
($said, $hits) = call(100000, 1000);
is($said, 'joined 84000, unchanged 16000', 'more than fit: the others join');
($said, $hits) = call(100000, 1000);
is($said, 'unchanged 100000', '… and are members');
cmp_ok($hits, '<', 57000, "most were not remembered: $hits of 100000");
is($node->safe_psql('postgres', q{SELECT mau.monthly_active_count('2026-06-01 12:00Z')}), 100000, '… and counted');


# A reap moves last sightings to mau.users, which says nothing of anybody's account: nobody is forgotten for it.
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z'), mau.record_activity('@gone:x', '2026-04-01 12:00Z')});
my $before = $node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()');
is($node->safe_psql('postgres', q{SELECT users FROM mau.reap('2026-06-01 12:00Z') WHERE what = 'expired'}), 1, 'one has expired');
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z') FROM generate_series(1, 128)});
# The first call of a session loads the settings.
cmp_ok($node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()') - $before, '>=', 127, 'who was remembered still is');


# A prepared transaction may still be rolled back: its sightings are not cached.
$node->safe_psql('postgres', q{BEGIN; SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z', 'Mozilla/5.0'); PREPARE TRANSACTION 'p'});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'p'});
$node->safe_psql('postgres', q{SELECT mau.record_activity('@u1:x', '2026-06-01 12:00Z', 'Mozilla/5.0')});
is($node->safe_psql('postgres', q{SELECT count(*) FROM mau.visits JOIN mau.users USING (user_no) WHERE user_id = '@u1:x' AND platform = 1}), 1,
	'a visit that was rolled back after PREPARE is marked the next time');

# More of them in one transaction than are invalidated one by one.
my $first = q{SELECT string_agg(DISTINCT mau.record_activity('@u' || i || ':x', '2026-06-01 12:00Z'), ', ') FROM generate_series(1, 2500) i};
$node->safe_psql('postgres', $first);
$node->safe_psql('postgres', q{SELECT count(mau.register_user('@u' || i || ':x', '2026-01-01', is_guest => true)) FROM generate_series(1, 2500) i});
is($node->safe_psql('postgres', $first), 'guest', 'all of many changes of one transaction are heeded');

# A change of the settings that was undone in the middle of a transaction keeps nobody from remembering.
my $session = $node->background_psql('postgres');
my $again   = q{SELECT mau.record_activity('@u90000:x', '2026-06-01 12:00Z')};
$session->query_safe($again);
$node->safe_psql('postgres', 'BEGIN; SAVEPOINT s; UPDATE mau.settings SET max_mau_value = 1; ROLLBACK TO s; COMMIT');
$before = $node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()');
$session->query_safe($again);
$session->query_safe("$again FROM generate_series(1, 128)");
$session->quit;
cmp_ok($node->safe_psql('postgres', 'SELECT hits FROM mau.seen_cache()') - $before, '>=', 128, 'members are remembered after it');

# CREATE EXTENSION may be prepared, as Citus does on its workers. Nothing that was remembered before it is used after it.
$session = $node->background_psql('postgres');
$session->query_safe("$again FROM generate_series(1, 2)");
$node->safe_psql('postgres', q{BEGIN; DROP EXTENSION mau; CREATE EXTENSION mau; PREPARE TRANSACTION 'e'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'e'});
is($session->query_safe($again), 'joined', 'an extension that was created anew by a prepared transaction knows nobody');
$session->quit;

$node->stop;
done_testing();
