# A subscriber of logical replication takes over from a server that is attached to its homeserver's tables. Positions in the publisher's WAL
# mean nothing there, even where its tables' files have the same numbers. A standby that is promoted continues where the primary was.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauSource;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %node;
for my $name (qw(publisher subscriber)) {
	my $node = $node{$name} = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.worker = off\nautovacuum = off\n");
	$node->start;
	new_homeserver($node, name => 'synapse');
}
my ($publisher, $subscriber) = @node{qw(publisher subscriber)};

sub one { my ($node, $sql) = @_; return scalar ask($node, 'synapse', $sql); }

my $FILES = q{SELECT string_agg(t || pg_relation_filenode(t::regclass), ' ' ORDER BY t) FROM unnest('{users,user_ips,user_threepids}'::text[]) t};
is(one($subscriber, $FILES), one($publisher, $FILES), 'the tables of both servers have the same files');

# The publisher's WAL is far ahead.
one($publisher, q{SELECT pg_logical_emit_message(false, '', 'x'); SELECT pg_switch_wal()}) for 1 .. 8;
$publisher->safe_psql('synapse', add_user('@a:x') . add_user('@late:x') . see('@a:x', $NOW) . 'CREATE PUBLICATION everything FOR ALL TABLES');
is(attach($publisher, 'synapse', $NOW)->{joined}, 1, 'the publisher is attached');
$subscriber->safe_psql('synapse', sprintf(
	q{CREATE SUBSCRIPTION takes_over CONNECTION '%s dbname=synapse' PUBLICATION everything}, $publisher->connstr));
$subscriber->wait_for_subscription_sync($publisher, 'takes_over', 'synapse');
is(sync($publisher, 'synapse', $NOW)->{users}, 0, 'it reads changes only');
$publisher->wait_for_catchup('takes_over');
is(one($subscriber, 'SELECT count(*) FROM mau.source_tables WHERE changes_until > pg_current_wal_lsn() - $$0/0$$::pg_lsn'), 2,
	q(the subscriber has positions in the publisher's WAL));

my $numbers = one($publisher, 'SELECT last_value FROM mau.users_user_no_seq');
$publisher->stop;
$subscriber->safe_psql('synapse', $_) for 'ALTER SUBSCRIPTION takes_over DISABLE', 'ALTER SUBSCRIPTION takes_over SET (slot_name = NONE)',
  'DROP SUBSCRIPTION takes_over', "SELECT setval('mau.users_user_no_seq', $numbers)";

# A user who registers, an address, and an old row that no sync by time would read: sightings of before the takeover may have been lost.
my $later = $NOW + 3600000;
$subscriber->safe_psql('synapse', add_user('@b:x', born => $later, appservice_id => 'irc') . see('@late:x', $NOW - $DAY)
	  . "INSERT INTO user_threepids VALUES ('\@a:x', 'email', 'a\@x', 0, 0)");
my $done = sync($subscriber, 'synapse', $later);
is_deeply([ @$done{qw(users threepids joined)} ], [ 1, 1, 1 ], 'the subscriber reads all');
is(one($subscriber, q{SELECT appservice_id FROM mau.users WHERE user_id = '@b:x'}), 'irc', 'it knows the new account');
is_deeply([ map { $_ // 0 } @{ sync($subscriber, 'synapse', $later) }{qw(users threepids differed)} ], [ 0, 0, 0 ], 'the next sync reads changes only');

# A promoted standby has the same WAL.
$subscriber->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($subscriber, 'copy', has_streaming => 1);
$standby->start;
$subscriber->wait_for_catchup($standby);
$subscriber->stop;
$standby->promote;
$done = sync($standby, 'synapse', $later);
is($done->{differed}, undef, 'a promoted standby compares nothing anew');
$standby->safe_psql('synapse', add_user('@c:x', born => $later));
is(sync($standby, 'synapse', $later)->{users}, 1, 'and finds what is new');
$standby->stop;
done_testing();
