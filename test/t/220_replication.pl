# Logical replication: a server that publishes all tables works on as before, and a subscriber that has mau has
# the same, knows it at once, and can take over.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my %node;
for my $name (qw(publisher subscriber)) {
	my $node = $node{$name} = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'mau'
mau.tick_interval = 1
mau.refresh_interval = 1
mau.reap_interval = 1
mau.fold_interval = 1
CONF
	# The publisher's worker would do what is done by hand here; the subscriber's has to stay away.
	$node->append_conf('postgresql.conf', 'mau.worker = off') if $name eq 'publisher';
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION mau');
}

sub publisher { return $node{publisher}->safe_psql('postgres', $_[0]) }
sub subscriber { return $node{subscriber}->safe_psql('postgres', $_[0]) }

# '' or the SQLSTATE of a statement on the publisher.
sub fails {
	my ($sql) = @_;
	my ($status, undef, $err) = $node{publisher}->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $status == 0 ? '' : $err =~ /ERROR:\s+(\w{5}): (.*)/ ? "$1 $2" : "status $status: $err";
}

my @TABLES = split /\n/, publisher(<<'SQL');
SELECT c.relname FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'r'
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass
   AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'mau') ORDER BY 1
SQL

sub same_tables {
	my ($what) = @_;
	$node{publisher}->wait_for_catchup('mau_sub');
	for my $table (@TABLES) {
		my $content = "SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM mau.$table t";
		my ($expected, $found) = (publisher($content));
		# The subscriber's worker notes the begin of a task, and takes that back when it sees that it is not its turn.
		for (1 .. 300)
		{
			last if ($found = subscriber($content)) eq $expected;
			usleep(100_000);
		}
		is($found, $expected, "$what: $table");
	}
}

publisher(<<'SQL');
CREATE PUBLICATION everything FOR ALL TABLES;
UPDATE mau.settings SET server_name = 'x', admin_contact = 'mailto:a@x';
INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'first@x');
INSERT INTO mau.appservices VALUES ('irc', 3, '@irc:x', '{@irc_.*:x}');
SELECT mau.record_activity(format('@u%s:x', i), now() - i * interval '1 day', 'Element Android') FROM generate_series(1, 40) i;
SQL

is(publisher(<<'SQL'), '', 'every table says which row is changed, or deleted');
SELECT relname FROM pg_class c WHERE relnamespace = 'mau'::regnamespace AND relkind = 'r' AND relreplident <> 'f'
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
SQL

# In this order each has something to change and to delete.
is(fails($_), '', $_)
  for 'SELECT * FROM mau.reap()', "SELECT mau.register_user('\@u33:x')", "SELECT mau.forget_user('\@u34:x')",
  'SELECT * FROM mau.fold()', "SELECT mau.record_activity('\@u35:x')", "SELECT mau.admit('\@u36:x')",
  "SELECT mau.record_activity('\@u1:x', now() + interval '2 hours', 'iOS')",
  "SELECT * FROM mau.record_activities('{\@u2:x,\@u37:x,\@new:x}', array_fill(now() + interval '2 hours', '{3}'))",
  "SELECT mau.deactivate_user('\@u3:x')", "SELECT mau.forget_user('\@u4:x')", 'SELECT * FROM mau.refresh()';

$node{subscriber}->safe_psql('postgres', sprintf(<<'SQL', $node{publisher}->connstr));
CREATE SUBSCRIPTION mau_sub CONNECTION '%s dbname=postgres' PUBLICATION everything
SQL
# A table that cannot be copied is tried again for ever.
my $unready = q{SELECT string_agg(srrelid::regclass::text, ' ') FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')};
for (1 .. 300) {
	last if subscriber($unready) eq '';
	usleep(100_000);
}
is(subscriber($unready), '', 'a subscriber gets all tables');
same_tables('at first');

# Changes that reach the subscriber by the tables only.
is(subscriber('SELECT mau.monthly_active_count()'), publisher('SELECT mau.monthly_active_count()'), 'its count');
publisher(<<'SQL');
SELECT mau.record_activity(format('@v%s:x', i)) FROM generate_series(1, 50) i;
SELECT * FROM mau.reap(now() + interval '10 days');
UPDATE mau.tasks SET latest_at = NULL WHERE task = 'reap'; -- or health would say that the clock was ahead
SELECT mau.record_activity(format('@w%s:x', i), user_agent => 'iOS') FROM generate_series(1, 300) i;
SELECT mau.record_activity('@v1:x', now() + interval '3 hours');
SELECT * FROM mau.fold();
SELECT mau.forget_user('@v2:x');
SQL
same_tables('later');
is(subscriber('SELECT mau.monthly_active_count()'), publisher('SELECT mau.monthly_active_count()'),
	'its count goes along');

my $psql = sprintf "psql -X -q -d '%s dbname=postgres'", $node{publisher}->connstr;
is(subscriber(<<"SQL"), "go\nM_RESOURCE_LIMIT_EXCEEDED", 'an open session knows the new settings');
SELECT coalesce(mau.check_auth_blocking('\@v1:x') ->> 'errcode', 'go');
\\! $psql -c "UPDATE mau.settings SET hs_disabled = true"
DO 'BEGIN FOR i IN 1..600 LOOP EXIT WHEN (SELECT hs_disabled FROM mau.settings); COMMIT; PERFORM pg_sleep(0.1); END LOOP; END';
SELECT mau.check_auth_blocking('\@v1:x') ->> 'errcode';
SQL

# The subscriber's worker knows that it is not its turn, until the subscription is over and the sequences are set.
like(subscriber("SELECT health || ': ' || reason FROM mau.health()"), qr/^waiting: .*subscription.*setval/, 'its worker waits, and says so');
same_tables('in the end');
unlike(slurp_file($node{subscriber}->logfile), qr/ERROR: /, 'nothing has gone wrong there');
my $numbers = publisher('SELECT last_value FROM mau.users_user_no_seq');
my $positions = publisher('SELECT last_value FROM mau.reserved_threepids_position_seq');
$node{publisher}->stop;
subscriber(<<'SQL');
ALTER SUBSCRIPTION mau_sub DISABLE;
ALTER SUBSCRIPTION mau_sub SET (slot_name = NONE);
DROP SUBSCRIPTION mau_sub;
UPDATE mau.settings SET hs_disabled = false;
SQL
subscriber("SELECT setval('mau.users_user_no_seq', $numbers), setval('mau.reserved_threepids_position_seq', $positions)");
is(subscriber(q{SELECT mau.record_activity('@w1:x', now() + interval '2 hours'), mau.record_activity('@after:x'), mau.admit('@after2:x')}),
	'refreshed|joined|', 'it takes over');
is(subscriber(q{SELECT mau.monthly_active_count() = count(*) FROM mau.monthly_active_users}), 't', 'and counts');
ok($node{subscriber}->poll_query_until('postgres', q{SELECT health = 'ok' FROM mau.health()}), 'its worker works');
$node{subscriber}->stop;
done_testing();
