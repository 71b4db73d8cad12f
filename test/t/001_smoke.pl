use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'");
$node->start;
is($node->safe_psql('postgres', 'CREATE EXTENSION mau; SELECT mau.monthly_active_count()'), '0', 'installed');
SKIP: {
    skip 'no fixtures of real homeservers', 1 unless $ENV{MAU_FIXTURES};
    ok(-s "$ENV{MAU_FIXTURES}/traces/stats_trial.jsonl", 'the traces are unpacked');
}
$node->stop;
done_testing();
