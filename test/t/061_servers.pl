# For every kind of homeserver: attach, sync, detach and usage_statistics return the right users and figures, the homeserver's own writes
# and migrations go through while mau is attached, and no object of mau depends on its tables. Uses dumps of real servers in $MAU_FIXTURES
# where they are present.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $fixtures = "$FindBin::RealBin/../fixtures";

my $node = PostgreSQL::Test::Cluster->new('servers');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\nautovacuum = off\n");
$node->start;
# ejabberd's registration times are those of the role that owns its tables; a setting of all roles comes last.
$node->safe_psql('postgres', q{CREATE ROLE homeserver; CREATE ROLE reader; ALTER ROLE homeserver SET TimeZone = 'UTC'; ALTER ROLE ALL SET TimeZone = 'Asia/Tokyo'});

my $number = 0;
my $database;

# A new database with mau and a homeserver's tables in it, which belong to the role homeserver.
sub load
{
	my ($sql) = @_;
	$database = 'server' . ++$number;
	$node->safe_psql('postgres', "CREATE DATABASE $database; ALTER DATABASE $database OWNER TO homeserver");
	$node->safe_psql($database, $sql);
	$node->safe_psql($database, q{
		CREATE EXTENSION mau;
		DO $$ DECLARE t regclass; BEGIN
			FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' LOOP
				EXECUTE format('ALTER TABLE %s OWNER TO homeserver', t);
			END LOOP;
		END $$;
		GRANT ALL ON SCHEMA public TO homeserver});
	return;
}

sub sql  { return $node->safe_psql($database, $_[0]) }
sub json { return decode_json(sql($_[0])) }

# The SQLSTATE and the whole text of the error that a statement meets.
sub error_of
{
	my ($query) = @_;
	my ($out, $err) = ('', '');
	$node->psql($database, $query, stdout => \$out, stderr => \$err, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	my ($state) = $err =~ /ERROR:\s+([0-9A-Z]{5}):/;
	return ($state // '', $err);
}

sub fixture
{
	my ($name) = @_;
	return defined $ENV{MAU_FIXTURES} && -e "$ENV{MAU_FIXTURES}/$name" ? slurp_file("$ENV{MAU_FIXTURES}/$name") : undef;
}

# A plain dump as psql -f reads it; restoring empties the search_path of the session only.
sub load_dump { my ($dump) = @_; return load("\\o /dev/null\n$dump\n\\o\nRESET search_path;\n") }

# The example of doc/sources.md runs.
load('');
for my $example (slurp_file("$FindBin::RealBin/../../doc/sources.md") =~ /^```sql\n(.*?)^```/msg)
{
	my ($out, $err);
	is($node->psql($database, $example, stdout => \$out, stderr => \$err, on_error_stop => 1), 0, 'the example of doc/sources.md runs') or diag $err;
}

# So does the one that reads a server elsewhere; here that is another database of this one.
SKIP:
{
	skip 'no postgres_fdw here', 6 if $node->safe_psql('postgres', q(SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw')) eq '0';
	my ($example) = slurp_file("$FindBin::RealBin/../../doc/sources.md") =~ /^```text\n(CREATE EXTENSION postgres_fdw.*?)^```/ms;
	my ($host, $port) = ($node->host, $node->port);
	$example =~ s/host '[^']*', dbname '[^']*'/host '$host', port '$port', dbname 'hosted'/;
	$example =~ s/user '[^']*', password '[^']*'/user 'hosted_reader', password_required 'false'/;
	$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(hosted reading);
	$node->safe_psql('hosted', slurp_file("$FindBin::RealBin/../fixtures/homeserver.sql"));
	$node->safe_psql('hosted', 'CREATE ROLE hosted_reader LOGIN; GRANT SELECT ON users, user_ips, user_threepids, user_daily_visits TO hosted_reader');
	my ($out, $err);
	is($node->psql('reading', $example, stdout => \$out, stderr => \$err, on_error_stop => 1), 0, 'elsewhere: the example of doc/sources.md runs') or diag $err;
	is($node->safe_psql('reading', 'SELECT mau.monthly_active_count()'), '27', 'elsewhere: as where the tables are');
	$node->safe_psql('hosted', q(INSERT INTO users (name, creation_ts) VALUES ('@new:example.com', extract(epoch FROM now()));
		INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
		VALUES ('@new:example.com', 't', 'd', '::1', 'Element', floor(extract(epoch FROM now()) * 1000))));
	my $log = -s $node->logfile;
	like($node->safe_psql('reading', 'SELECT * FROM mau.sync()'), qr/^users\|1\n.*^joined\|1$/ms, 'elsewhere: a sync finds who is new');
	is($node->safe_psql('reading', 'SELECT mau.monthly_active_count()'), '28', 'elsewhere: and counts them');
	like(slurp_file($node->logfile, $log), qr/DECLARE c\d+ CURSOR FOR\s+SELECT [^;]* FROM public\.user_ips WHERE \(\([^;]*last_seen >=/, 'elsewhere: by the index there');
	is($node->safe_psql('reading', 'SELECT health FROM mau.health()') =~ /^(ok|off)$/, 1, 'elsewhere: all is well');
	$node->safe_psql('postgres', "DROP DATABASE $_ (FORCE)") for qw(reading hosted);
	$node->safe_psql('postgres', 'DROP ROLE mau_reader; DROP ROLE hosted_reader');
}

# --- What all kinds have in common ---------------------------------------------------------------------------------

# kind: attach by a superuser has happened. write: SQL by which the homeserver stores that `user` was active just now.
# migrations: the homeserver's own changes to its tables; break: a change that makes them unreadable; mend: its reversal.
sub laws
{
	my ($kind, %o) = @_;
	is(sql(q{SELECT count(*) FROM pg_depend d JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
		WHERE d.refobjid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)}), 0,
		"$kind: nothing of ours depends on the homeserver's tables");
	is(sql(q{SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'public'::regnamespace}), 0,
		"$kind: and there is no trigger on them");

	# A writer who commits late is not lost, and does not hold sync up.
	my $writer = $node->background_psql($database);
	$writer->query_safe('SET ROLE homeserver; BEGIN ISOLATION LEVEL REPEATABLE READ');
	$writer->query_safe(sprintf $o{write}, 'late');
	sql('SET lock_timeout = 2000; SELECT mau.sync(); SELECT mau.sync()');
	is(sql(qq{SELECT mau.last_seen('$o{late}') IS NULL}), 't', "$kind: what is not committed is not seen");
	$writer->query_safe('COMMIT');
	sql('SELECT mau.sync()');
	is(sql(qq{SELECT mau.last_seen('$o{late}') > now() - interval '1 hour'}), 't', "$kind: what was committed late is seen then");

	# A sync that is still open holds up no write, and has no lock but ACCESS SHARE.
	$writer->query_safe(sprintf $o{write}, 'between');
	my $sync = $node->background_psql($database);
	$sync->query_safe('BEGIN; SELECT mau.sync()');
	$writer->query_safe('SET lock_timeout = 2000');
	$writer->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; ' . sprintf($o{write}, 'meanwhile') . '; COMMIT');
	pass("$kind: a homeserver writes while a sync is open");
	is(sql(q{SELECT string_agg(DISTINCT l.mode, ',') FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND c.relkind = 'r'
		AND c.relnamespace = 'public'::regnamespace}), 'AccessShareLock', "$kind: which has only ACCESS SHARE on its tables");
	$sync->query_safe('COMMIT');
	$sync->quit;
	sql('SELECT mau.sync()');
	is(sql(qq{SELECT mau.last_seen('$o{meanwhile}') > now() - interval '1 hour'}), 't', "$kind: and the next sync sees it");

	# Their migrations.
	for my $migration (@{ $o{migrations} })
	{
		$writer->query_safe($migration);
		my $trouble = sql(q{SELECT count(*) FROM mau.sync() WHERE what = 'trouble'});
		is($trouble, 0, "$kind: goes through, and sync too: $migration");
	}
	$writer->query_safe($o{break});
	$node->psql($database, 'SELECT what FROM mau.sync()', stdout => \my $what, stderr => \my $err);
	like($what, qr/^trouble$/, "$kind: $o{break}: sync says so");
	like($err, qr/WARNING/, "$kind: with a warning");
	isnt(sql('SELECT trouble FROM mau.source'), '', "$kind: and it is kept");
	$writer->query_safe($o{mend});
	$writer->query_safe(sprintf $o{write}, 'after');
	sql('SELECT mau.sync()');
	is(sql(qq{SELECT mau.last_seen('$o{after}') > now() - interval '1 hour'}), 't', "$kind: nothing is lost by it");
	$writer->quit;

	# Rights: with SELECT on what it reads, and nothing else, it is enough.
	sql('SELECT mau.detach()');
	is(sql('SELECT (SELECT count(*) FROM mau.source) + (SELECT count(*) FROM mau.source_tables)'), 0, "$kind: detached");
	my $count = sql('SELECT mau.monthly_active_count()');
	sql('GRANT USAGE ON SCHEMA mau TO reader; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mau TO reader;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA mau TO reader; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO reader');
	my ($state, $text) = error_of("SET ROLE reader; SELECT mau.attach('$kind')");
	is($state, '42501', "$kind: who may not read is told so") or diag $text;
	sql("GRANT SELECT ON $o{tables} TO reader; SET ROLE reader; SELECT mau.attach('$kind'); SELECT mau.sync()");
	is(sql('SELECT attached_by FROM mau.source'), 'reader', "$kind: SELECT is all that attaching needs");
	is(sql('SELECT mau.monthly_active_count()'), $count, "$kind: attached again, the numbers are the same");
	$writer = $node->background_psql($database);
	$writer->query_safe("SET ROLE homeserver; DROP TABLE $o{tables}");
	pass("$kind: the homeserver drops its tables");
	$writer->quit;
	is(sql('SELECT what FROM mau.detach()'), 'detached', "$kind: and mau can still be detached");
	return;
}

# --- Prosody -------------------------------------------------------------------------------------------------------

my %prosody_laws = (
	write      => q[INSERT INTO prosody VALUES ('edge.example', '%s', 'lastlog2', 'login', 'json', '{"timestamp":' || floor(extract(epoch FROM clock_timestamp()))::bigint || '}')],
	late       => 'late@edge.example',
	meanwhile  => 'meanwhile@edge.example',
	after      => 'after@edge.example',
	tables     => 'prosody',
	migrations => [
		'ALTER TABLE prosody ALTER COLUMN host TYPE varchar(255)',
		'ALTER TABLE prosody ADD COLUMN more text',
		q[DELETE FROM prosody WHERE "user" = 'gooddouble' OR store = 'accounts'],
		'DROP INDEX prosody_index',
		'CREATE UNIQUE INDEX prosody_unique_index ON prosody (host, "user", store, key)',
	],
	break => 'ALTER TABLE prosody RENAME TO prosody_old',
	mend  => 'ALTER TABLE prosody_old RENAME TO prosody');

load(slurp_file("$fixtures/prosody-edge.sql"));
my $at = q{to_timestamp(1795226394)};
my %rows = map { split /\|/ } split /\n/, sql("SELECT what, rows FROM mau.attach('prosody', at => $at)");
is(sql(q{SELECT string_agg(DISTINCT left(user_id, 4), ',') FROM mau.monthly_active_users}), 'good', 'prosody: good rows and no others make members');
is(sql(q{SELECT count(*) FROM mau.monthly_active_users}), sql(q{SELECT count(DISTINCT "user") FROM prosody WHERE "user" LIKE 'good%'}), 'all of them');
is(sql(q{SELECT string_agg(user_id || ' ' || "timestamp", ',') FROM mau.monthly_active_users WHERE "timestamp" <> 1795226002000}),
	'goodhalf@edge.example 1795226002500', 'with their times, to the millisecond');
is($rows{skipped}, sql(q{SELECT count(*) + 2 FROM prosody WHERE "user" LIKE 'bad%'}), 'bad rows are counted');
is(sql(q{SELECT count(*) FROM mau.source_skipped WHERE row_key LIKE 'bad%@edge.example login' OR row_key LIKE 'goodhalfbad@% logout' OR row_key LIKE 'uuu%'}),
	$rows{skipped}, 'and shown');
is_deeply(json("SELECT mau.usage_statistics($at)"),
	{ hosts => { 'edge.example' => { map { $_ => 13 } qw(1d 7d 30d) } } }, 'usage: good rows, the future, an over-long name; no row of a MUC');
is(sql(q{SELECT sum(rows) FROM mau.sync(to_timestamp(1795226394)) WHERE what IN ('users', 'sightings', 'skipped')}), 0, 'nothing changed: nothing is read again');
# Rows later than the instant of the sync are left for a later one, also by changed pages.
sql(q[INSERT INTO prosody VALUES ('edge.example', 'soon', 'lastlog2', 'login', 'json', '{"timestamp":1795227000}')]);
sql("SELECT mau.sync($at)");
is(sql(q{SELECT mau.last_seen('soon@edge.example') IS NULL}), 't', 'prosody: a later login is not seen by an earlier sync');
sql('SELECT mau.sync(to_timestamp(1795227000))');
is(sql(q{SELECT extract(epoch FROM mau.last_seen('soon@edge.example'))::bigint}), 1795227000, 'but by one of then, though the page has not changed');
sql(q[INSERT INTO prosody VALUES ('edge.example', 'long', 'lastlog2', 'login', 'json', '{"timestamp":1795227000,"note":"' || repeat('a', 4096) || '"}')]);
sql('SELECT mau.sync(to_timestamp(1795227000))');
is(sql(q{SELECT coalesce(mau.last_seen('long@edge.example')::text, 'never') || ', ' || reason FROM mau.source_skipped WHERE row_key = 'long@edge.example login'}),
	'never, no usable time in the value', 'prosody: a value longer than 4096 bytes is not fetched, but skipped and shown');
sql(q{SELECT mau.forget_user('long@edge.example')});
is(sql(q{SELECT count(*) FROM mau.source_skipped WHERE row_key LIKE 'long@%'}), 0, 'a forgotten user is in no skipped row');
sql(q{DELETE FROM prosody WHERE "user" = 'long'});
# In the present, a homeserver's clock that is a little ahead keeps no page from being done with.
sql(q[INSERT INTO prosody SELECT 'edge.example', 'ahead', 'lastlog2', 'login', 'json', format('{"timestamp":%s}', floor(extract(epoch FROM now() + interval '4 min')))]);
sql('SELECT mau.sync()');
is(sql(q{SELECT mau.last_seen('ahead@edge.example') > now()}), 't', 'prosody: a clock four minutes ahead is believed');
is(sql(q{SELECT coalesce(sum(rows), 0) FROM mau.sync() WHERE what = 'sightings'}), 0, 'and its page is not read again');
laws('prosody', %prosody_laws);

# 13, recognised by its unique index: deleted and disabled accounts do not count for it.
load(q[CREATE TABLE prosody (host text NOT NULL, "user" text NOT NULL, store text NOT NULL, key text NOT NULL, type text NOT NULL, value text NOT NULL);
	INSERT INTO prosody SELECT 'x.example', u, 'lastlog2', 'login', 'json', '{"timestamp":1795226000}' FROM unnest('{here,ghost,off,on}'::text[]) u;
	INSERT INTO prosody SELECT 'x.example', u, 'accounts', 'iteration_count', 'number', '10000' FROM unnest('{here,off,on,never}'::text[]) u;
	INSERT INTO prosody VALUES ('x.example', 'off', 'accounts', 'disabled', 'boolean', 'true'), ('x.example', 'on', 'accounts', 'disabled', 'boolean', 'false');
	INSERT INTO prosody VALUES ('y.example', 'idle', 'accounts', 'iteration_count', 'number', '10000')]);
sql(q{DELETE FROM prosody WHERE key = 'disabled'});
sql("SELECT mau.attach('prosody', at => $at)");
my %none = map { $_ => 0 } qw(1d 7d 30d);
is_deeply(json("SELECT mau.usage_statistics($at)")->{hosts},
	{ 'x.example' => { map { $_ => 4 } qw(1d 7d 30d) }, 'y.example' => \%none }, 'prosody 0.12 counts ghosts');
sql('CREATE UNIQUE INDEX ON prosody (host, "user", store, key)');
is_deeply(json("SELECT mau.usage_statistics($at)")->{hosts},
	{ 'x.example' => { map { $_ => 3 } qw(1d 7d 30d) }, 'y.example' => \%none }, 'prosody 13 does not');
sql(q[INSERT INTO prosody VALUES ('x.example', 'off', 'accounts', 'disabled', 'boolean', 'true'), ('x.example', 'on', 'accounts', 'disabled', 'boolean', 'false'),
	('x.example', 'here', 'accounts', 'created', 'number', '1790000000'), ('x.example', 'never', 'account_activity', 'timestamp', 'number', '1795226100'),
	('x.example', 'here', 'account_activity', 'timestamp', 'number', 'oops')]);
is_deeply(json("SELECT mau.usage_statistics($at)")->{hosts}{'x.example'}, { map { $_ => 2 } qw(1d 7d 30d) }, 'nor disabled accounts');
sql("SELECT mau.sync($at)");
is(sql(q{SELECT user_id, registered_at, is_deactivated FROM mau.users WHERE registered_at IS NOT NULL OR is_deactivated ORDER BY 1}),
	"here\@x.example|1790000000000|f\noff\@x.example||t", 'what 13 says of accounts');
is(sql(q{SELECT "timestamp" FROM mau.monthly_active_users WHERE user_id = 'never@x.example'}), '1795226100000', 'account_activity is activity to us');
is(sql(q{SELECT row_key FROM mau.source_skipped}), 'here@x.example timestamp', 'and guarded like all else');

SKIP:
{
	my $dump = fixture('prosody-small.sql');
	skip 'no dump of a real Prosody: MAU_FIXTURES', 6 unless defined $dump;
	load_dump($dump);
	sql("SELECT mau.attach('prosody', at => $at)");
	my %reference = (
		1795226393 => [ [ 5, 10, 14 ], [ 0, 1, 2 ], [ 1, 1, 1 ] ],
		1795226394 => [ [ 4, 9, 13 ], [ 0, 1, 2 ], [ 1, 1, 1 ] ],
		1795226395 => [ [ 3, 8, 12 ], [ 0, 1, 2 ], [ 1, 1, 1 ] ],
		1795831194 => [ [ 0, 1, 12 ], [ 0, 0, 2 ], [ 0, 0, 1 ] ]);
	is(sql('SELECT mau.host_of(user_id), count(*) FROM mau.monthly_active_users WHERE "timestamp" >= 1795226394000 - 2592000000 GROUP BY 1 ORDER BY 1'), "anon.example|1\nexample.com|14\nother.example|2", 'the cohort per host');
	# The server's own answers were given one after the other. Without later sightings of ours none of them is about the past.
	sql('DELETE FROM mau.monthly_active_users; UPDATE mau.users SET last_seen = NULL');
	for my $now (sort keys %reference)
	{
		my %hosts;
		@{ $hosts{ ('example.com', 'other.example', 'anon.example')[$_] } }{qw(1d 7d 30d)} = @{ $reference{$now}[$_] } for 0 .. 2;
		is_deeply(json("SELECT mau.usage_statistics(to_timestamp($now))"), { hosts => \%hosts }, "prosody-small.sql at $now: as Prosody counted");
	}
	is(sql(q{SELECT count(*) FROM mau.source_skipped}), 0, 'the row of the MUC is no trouble');
}

# --- ejabberd ------------------------------------------------------------------------------------------------------

for my $new (0, 1)
{
	my ($name, $host, $column, $value) = $new ? ('new', '@example.com', ', server_host text NOT NULL', q{, 'example.com'}) : ('old', '', '', '');
	my $key = $new ? 'server_host, username' : 'username';
	load(qq{CREATE TABLE last (username text NOT NULL$column, seconds text NOT NULL, state text NOT NULL, PRIMARY KEY ($key));
		CREATE TABLE users (username text NOT NULL$column, password text NOT NULL, created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY ($key));
		INSERT INTO last VALUES ('e1'$value, '1795226000', 'away'), ('e2'$value, '1795226001', 'Registered but didn''t login'),
			('e3'$value, 'soon', ''), ('e4'$value, '4102444800', ''), ('e5'$value, '99999999999999999999', ''), ('e6'$value, '1792634394', '');
		INSERT INTO users VALUES ('e1'$value, 'secret', '2026-11-01 12:00:00.5'), ('e2'$value, 'secret', '2026-11-02');
		CREATE TABLE private_storage (username text NOT NULL$column, namespace text NOT NULL, data text NOT NULL DEFAULT '')});
	sql("SELECT mau.attach('ejabberd', at => $at)");
	is(sql(q{SELECT user_id, "timestamp" FROM mau.monthly_active_users ORDER BY 1}), "e1$host|1795226000000\ne6$host|1792634394000",
		"ejabberd, $name schema: last seen is seconds, who never logged in is not active");
	is(sql(q{SELECT user_id, registered_at FROM mau.users WHERE is_registered ORDER BY 1}), "e1$host|1793534400500\ne2$host|1793577600000", 'accounts');
	is(sql(q{SELECT string_agg(row_key, ',' ORDER BY row_key) FROM mau.source_skipped}), "e3$host,e4$host,e5$host", 'rows that make no sense are shown');
	is_deeply(json("SELECT mau.usage_statistics($at)"), { hosts => { ($new ? 'example.com' : '') => { '1d' => 2, '7d' => 2, '30d' => 2 } } },
		'strictly less than 30 days, the future counts');
	laws(
		'ejabberd',
		write      => "INSERT INTO last VALUES ('%s'$value, floor(extract(epoch FROM clock_timestamp()))::bigint::text, 'x')",
		late       => "late$host",
		meanwhile  => "meanwhile$host",
		after      => "after$host",
		tables     => 'last, users, private_storage',
		migrations => [
			'ALTER TABLE last ALTER COLUMN username TYPE varchar(250)', 'ALTER TABLE users ADD COLUMN type smallint',
			'ALTER TABLE users DROP COLUMN type',                     'TRUNCATE users',
			'ALTER TABLE private_storage ADD COLUMN created_at timestamp'
		],
		break => 'ALTER TABLE last RENAME COLUMN seconds TO secs; UPDATE last SET state = state',
		mend  => 'ALTER TABLE last RENAME COLUMN secs TO seconds');
}
load(q{CREATE TABLE last (username text PRIMARY KEY, seconds text NOT NULL, state text NOT NULL); INSERT INTO last VALUES ('e1', '1795226000', '')});
sql("UPDATE mau.settings SET server_name = 'example.com'; SELECT mau.attach('ejabberd', at => $at)");
is(sql('SELECT user_id FROM mau.monthly_active_users'), 'e1@example.com', 'ejabberd, old schema: server_name completes the JIDs');
# 25.03 and later: a row of users for each kind of password.
load(q{CREATE TABLE last (username text PRIMARY KEY, seconds text NOT NULL, state text NOT NULL); INSERT INTO last VALUES ('e1', '1795226000', '');
	CREATE TABLE users (username text NOT NULL, type smallint NOT NULL, created_at timestamp NOT NULL, PRIMARY KEY (username, type));
	INSERT INTO users SELECT 'e1', type, timestamp '2026-11-01 12:00' + type * interval '1 s' FROM generate_series(1, 3) type});
sql("SELECT mau.attach('ejabberd', at => $at)");
is(sql(q{SELECT user_id, registered_at FROM mau.users}), 'e1|1793534401000', 'ejabberd with a row for each kind of password: one account');
is(sql('SELECT count(*) FROM mau.source_skipped'), 0, 'and nothing amiss');
sql("ALTER ROLE homeserver RESET TimeZone; SELECT mau.detach(); SELECT mau.attach('ejabberd', at => $at)");
is(sql(q{SELECT registered_at FROM mau.users}), 1793534401000 - 9 * 3600000, 'ejabberd: registered in the time zone of all roles');
sql(q{ALTER ROLE homeserver SET TimeZone = 'UTC'});
# A name that means something in SQL, or to us, is a name.
sql(q{SELECT mau.detach(); DELETE FROM mau.users; DELETE FROM mau.monthly_active_users});
for my $name (q($host$||pg_sleep(0)::text||$host$), q('||pg_sleep(0)::text||'), q({seconds}{schema}), q(\\'), q(a"b))
{
	sql(q{UPDATE mau.settings SET server_name = $name$} . $name . "\$name\$; SELECT mau.attach('ejabberd', at => $at)");
	is(sql('SELECT user_id FROM mau.monthly_active_users'), "e1\@$name", "server_name $name is taken as it is");
	sql(q{SELECT mau.detach(); DELETE FROM mau.users; DELETE FROM mau.monthly_active_users});
}

SKIP:
{
	skip 'no dumps of a real ejabberd: MAU_FIXTURES', 2 unless defined fixture('ejabberd-old.sql');
	load_dump(fixture('ejabberd-old.sql'));
	sql("SELECT mau.attach('ejabberd', at => to_timestamp(1795228000))");
	is(sql(q{SELECT user_id, extract(epoch FROM mau.last_seen(user_id))::bigint FROM mau.users ORDER BY 1}), "e1|1700000000\ne2|1795227619\ne4|",
		'ejabberd-old.sql: last seen is seconds');
	load_dump(fixture('ejabberd-new.sql'));
	sql("SELECT mau.attach('ejabberd', at => to_timestamp(1795228000))");
	is(sql(q{SELECT user_id, extract(epoch FROM mau.last_seen(user_id))::bigint FROM mau.users ORDER BY 1}), "e1\@example.com|1795227731\ne2\@example.com|",
		'ejabberd-new.sql: last seen is seconds');
}

SKIP:
{
	my $dump = fixture('ejabberd-26.07-multihost.sql');
	skip 'no database of a real ejabberd 26.07: MAU_FIXTURES', 8 unless defined $dump;
	my $expected = decode_json(fixture('ejabberd-26.07-multihost.json'));
	$at = "to_timestamp($expected->{at_s})";
	load_dump($dump);
	sql("SELECT mau.attach('ejabberd', at => $at)");
	is(sql('SELECT count(*) FROM mau.source_skipped'), 0, 'ejabberd 26.07: nothing amiss');
	is_deeply({ map { split /\|/ } split /\n/, sql('SELECT user_id, extract(epoch FROM mau.last_seen(user_id))::bigint FROM mau.users WHERE mau.last_seen(user_id) IS NOT NULL') },
		$expected->{get_last}, 'ejabberd 26.07: last logins as its own command says, and nobody who only registered');
	is_deeply(json("SELECT mau.usage_statistics($at)")->{hosts}, $expected->{hosts}, 'ejabberd 26.07: its figures');
	is_deeply({ map { split /\|/ } split /\n/, sql("SELECT * FROM mau.monthly_active_count_by_host($at)") },
		{ map { $_ => $expected->{hosts}{$_}{'30d'} } keys %{ $expected->{hosts} } }, 'ejabberd 26.07: and ours');
	is(sql(q{SELECT user_id FROM mau.users WHERE is_deactivated}), join("\n", @{ $expected->{banned} }), 'ejabberd 26.07: who is banned');
	is(sql(q{SELECT registered_at FROM mau.users WHERE user_id = 'ann@example.com'}), 1795908509224, 'ejabberd 26.07: a registration in a session of UTC');
	sql("SELECT mau.detach(); ALTER ROLE homeserver IN DATABASE $database SET TimeZone = 'Asia/Tokyo'; SELECT mau.attach('ejabberd', at => $at)");
	is(sql(q{SELECT registered_at / 1000 FROM mau.users WHERE user_id = 'tokyo@example.com'}), $expected->{registered_at_tokyo_s}, 'ejabberd 26.07: and in one of Asia/Tokyo');
	sql(q{DELETE FROM private_storage});
	sql("SELECT mau.sync($at)");
	is(sql(q{SELECT count(*) FROM mau.users WHERE is_deactivated}), 0, 'ejabberd 26.07: a ban that is lifted');
}

# --- Dendrite ------------------------------------------------------------------------------------------------------

load(slurp_file("$fixtures/dendrite.sql"));
$at = 'to_timestamp(1795197600)';
sql("SELECT mau.attach('dendrite', at => $at)");
is_deeply(json("SELECT mau.usage_statistics($at)"), json('SELECT figures FROM dendrite_expected'), 'dendrite: its figures, r30v2 all counts a user once');
is(sql("SELECT host, users FROM mau.monthly_active_count_by_host($at)"), "a.example|4\nb.example|2", 'two virtual hosts, without guest and bridge');
is(sql("SELECT host, users FROM mau.active_users_by_host('1 day', $at)"), "a.example|3", 'the day per host');
is(sql(q{SELECT string_agg(user_id, ',' ORDER BY user_id) FROM mau.users WHERE is_guest OR is_deactivated OR appservice_id = 'irc'}),
	'@_irc_x:a.example,@_irc_y:a.example,@gone:a.example,@guest1:a.example', 'what it says of accounts');
sql(q{INSERT INTO mau.reserved_threepids VALUES ('email', 'alice@mail.example'); UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1});
sql("SELECT mau.sync($at)");
is(sql('SELECT mau.registered_reserved_users()'), '@alice:a.example', 'threepids');
sql('UPDATE mau.settings SET limit_usage_by_mau = false');
laws(
	'dendrite',
	write => q{INSERT INTO userapi_devices (access_token, device_id, localpart, server_name, created_ts, last_seen_ts) VALUES
		('t%1$s', 'D', '%1$s', 'a.example', 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)},
	late       => '@late:a.example',
	meanwhile  => '@meanwhile:a.example',
	after      => '@after:a.example',
	tables     => 'userapi_accounts, userapi_devices, userapi_daily_visits, userapi_threepids',
	migrations => [
		'ALTER TABLE userapi_devices ALTER COLUMN localpart TYPE varchar', 'ALTER TABLE userapi_devices DROP COLUMN display_name',
		'ALTER TABLE userapi_accounts ADD COLUMN policy_version text',      'DROP TABLE userapi_daily_visits',
		'CREATE TABLE userapi_daily_visits AS SELECT localpart, device_id, 1::bigint AS "timestamp", user_agent FROM userapi_devices'
	],
	break => 'ALTER TABLE userapi_devices RENAME TO device_devices',
	mend  => 'ALTER TABLE device_devices RENAME TO userapi_devices');

# --- Custom --------------------------------------------------------------------------------------------------------

load(q{CREATE TABLE logins (who text, at timestamptz, agent text); CREATE TABLE people (who varchar(40), since timestamptz, robot boolean);
	INSERT INTO logins VALUES ('a@one', to_timestamp(1795197000), 'x'), ('a@one', to_timestamp(1795196000), 'x'), ('b@two', to_timestamp(1795196000.25), 'y'),
		(NULL, to_timestamp(1795196000), 'z'), ('c@two', NULL, 'z');
	INSERT INTO people VALUES ('a@one', '2026-01-01 00:00:00+00', false), ('b@two', '2026-01-02 00:00:00+00', true)});
my ($state, $text) = error_of("SELECT mau.attach('custom')");
is($state, '55000', 'custom: without a query for activity');
sql(q{INSERT INTO mau.custom_source VALUES ('activity', 'SELECT who AS user_id, at AS last_seen, agent AS browser FROM public.logins'),
	('users', 'SELECT since AS registered_at, robot AS is_guest FROM public.people')});
($state, $text) = error_of("SELECT mau.attach('custom')");
is($state, '42804', 'custom: wrong columns');
like($text, $_, "the error says: $_")
  for qr/users: column user_id is missing/, qr/users: column registered_at is timestamp with time zone, not bigint/,
  qr/activity: column last_seen is timestamp with time zone, not bigint/, qr/activity: column browser is not one of the contract's/;
for my $bad ('SELECT nothing FROM public.nowhere', 'DELETE FROM public.people', 'SELECT 1; SELECT 2', 'SELEC', 'WITH w AS (DELETE FROM public.people RETURNING who) SELECT who AS user_id FROM w')
{
	sql(qq{UPDATE mau.custom_source SET query = '$bad' WHERE part = 'users'});
	($state, $text) = error_of("SELECT mau.attach('custom')");
	is($state, '22023', "custom: $bad");
}
is(sql('SELECT count(*) FROM mau.source'), 0, 'nothing is attached');
sql(q{UPDATE mau.custom_source SET query = 'SELECT who AS user_id, floor(extract(epoch FROM since) * 1000)::bigint AS registered_at,
		CASE WHEN robot THEN ''bot'' END AS user_type FROM {schema}.people WHERE since > to_timestamp({since} / 1000.0);' WHERE part = 'users';
	UPDATE mau.custom_source SET query = 'SELECT who AS user_id, floor(extract(epoch FROM at) * 1000)::bigint AS last_seen FROM {schema}.logins -- all' WHERE part = 'activity';
	INSERT INTO mau.custom_source VALUES ('usage', 'SELECT jsonb_build_object(''seen'', count(DISTINCT who), ''at'', {at}) AS usage FROM {schema}.logins')});
sql("SELECT mau.attach('custom', at => $at)");
is(sql('SELECT user_id, "timestamp" FROM mau.monthly_active_users ORDER BY 1'), "a\@one|1795197000000\nb\@two|1795196000250", 'custom: activity');
is(sql('SELECT user_id, registered_at, user_type FROM mau.users ORDER BY 1'), "a\@one|1767225600000|\nb\@two|1767312000000|bot", 'custom: users');
is(sql('SELECT reason FROM mau.source_skipped ORDER BY 1'), "last_seen is missing\nno user id, or one that is too long or not UTF-8", 'custom: rows that make no sense are shown');
is_deeply(json("SELECT mau.usage_statistics($at)"), { seen => 3, at => 1795197600000 }, 'custom: its own figures');
is(sql(q{SELECT has_table_privilege('homeserver', 'mau.monthly_active_users', 'SELECT')}), 'f', 'custom: read as the owner of what the queries name');
sql(q{CREATE FUNCTION public.whoami() RETURNS text LANGUAGE sql AS 'SELECT current_user'; ALTER FUNCTION public.whoami() OWNER TO homeserver;
	SELECT mau.detach(); UPDATE mau.custom_source SET query = 'SELECT jsonb_build_object(''who'', public.whoami()) AS usage' WHERE part = 'usage'});
sql("SELECT mau.attach('custom', at => $at)");
is_deeply(json('SELECT mau.usage_statistics()'), { who => 'homeserver' }, 'custom: also who attached as a superuser');
# A query that returns something else than when it was attached.
sub figures { my ($query) = @_; return sql("DROP VIEW IF EXISTS public.figures; CREATE VIEW public.figures AS $query; ALTER VIEW public.figures OWNER TO homeserver") }
figures(q{SELECT '{"n": 1}'::jsonb AS usage});
sql(q{SELECT mau.detach(); UPDATE mau.custom_source SET query = 'SELECT usage FROM public.figures' WHERE part = 'usage'; SELECT mau.attach('custom')});
is_deeply(json('SELECT mau.usage_statistics()'), { n => 1 }, 'custom: figures of a view');
for my $case ([ q{SELECT NULL::jsonb AS usage}, 'P0002', 'NULL' ], [ q{SELECT '{}'::jsonb AS usage WHERE false}, 'P0002', 'no row' ],
	[ q{SELECT '{}'::jsonb AS usage FROM generate_series(1, 2)}, 'P0002', 'two rows' ], [ q{SELECT 12345678::bigint AS usage}, '42846', 'a number' ],
	[ q{SELECT 'no JSON'::text AS usage}, '22P02', 'a text that is no JSON' ])
{
	figures($case->[0]);
	is((error_of('SELECT mau.usage_statistics()'))[0], $case->[1], "custom: $case->[2] is an error");
}
sql(q{UPDATE mau.settings SET usage_metrics = true; SELECT mau.refresh()});
is(sql('SELECT count(*), count(usage) FROM mau.snapshots'), '1|0', 'custom: a snapshot does without them');
figures(q{SELECT '{"n": 2}'::text AS usage});
is_deeply(json('SELECT mau.usage_statistics()'), { n => 2 }, 'custom: a text of JSON is taken');
sql(q{UPDATE mau.settings SET usage_metrics = false; TRUNCATE mau.snapshots; SELECT mau.detach(); UPDATE mau.custom_source SET query = 'SELECT jsonb_build_object(''who'', public.whoami()) AS usage' WHERE part = 'usage'; SELECT mau.attach('custom')});
sql('ALTER FUNCTION public.whoami() OWNER TO reader; SELECT mau.detach()');
($state) = error_of("SELECT mau.attach('custom')");
is($state, '42501', 'custom: what belongs to several is read by nobody but who may');
sql(q{DELETE FROM mau.custom_source WHERE part = 'usage'});
sql("SELECT mau.attach('custom')");
laws(
	'custom',
	write      => q{INSERT INTO logins VALUES ('%s@one', clock_timestamp(), 'x')},
	late       => 'late@one',
	meanwhile  => 'meanwhile@one',
	after      => 'after@one',
	tables     => 'logins, people',
	migrations => [ 'ALTER TABLE logins ALTER COLUMN who TYPE varchar(100)', 'ALTER TABLE people ADD COLUMN more text', 'ALTER TABLE people DROP COLUMN more' ],
	break      => 'ALTER TABLE logins RENAME TO sessions',
	mend       => 'ALTER TABLE sessions RENAME TO logins');

$node->stop;
done_testing();
