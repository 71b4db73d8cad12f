# The boundary between C++ and the backend, by means of a module of its own that fails in every way there is
# (test/boundary/boundary.cpp). Expected: the rules of the boundary in src/pg/boundary.hpp, SQLSTATEs of
# PostgreSQL's documentation, appendix A.
use strict;
use warnings;
use Cwd qw(abs_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = abs_path('build/test/boundary.so');
die "build/test/boundary.so is not built: make build/test/boundary.so\n" unless $module && -e $module;

my $node = PostgreSQL::Test::Cluster->new('boundary');
$node->init;
$node->start;

my %functions = (
    backend_error         => ['text, text, text, text', 'void'],
    throws                => ['text', 'void'],
    throws_through_guards => ['text', 'void'],
    guard_restores        => ['text, integer', 'text'],
    guarded_value         => ['integer', 'integer'],
    runs_sql              => ['text', 'void'],
    attempts              => ['text, boolean DEFAULT false', 'text'],
    attempts_to_throw     => ['text, boolean DEFAULT false', 'text'],
    attempt_throws_on     => ['', 'text'],
    attempt_many          => ['integer', 'bigint'],
    live_objects_now      => ['', 'bigint'],
    objects_ever          => ['', 'bigint'],
    live_exceptions_now   => ['', 'bigint'],
    malloc_bytes_now      => ['', 'bigint'],
    nest_level_now        => ['', 'integer'],
);
$node->safe_psql('postgres',
    "CREATE FUNCTION $_($functions{$_}[0]) RETURNS $functions{$_}[1] LANGUAGE C AS '$module', 'test_$_'")
  for sort keys %functions;

# The objects and exceptions that are still alive in a session.
my $left = 'SELECT live_objects_now(), live_exceptions_now()';

# Runs statements and answers what they return, or the error.
sub answer {
    my ($out, $err);
    $node->psql('postgres', $_[0], stdout => \$out, stderr => \$err);
    $err =~ s/^psql:<stdin>:\d+: //mg;
    return $err eq '' ? $out : $err;
}

# Runs a statement that fails, and returns the full error and what is still alive in the same session.
sub failure {
    my ($sql) = @_;
    my ($out, $err);
    $node->psql('postgres', "\\set VERBOSITY verbose\n$sql;\n$left", stdout => \$out, stderr => \$err,
        on_error_stop => 0);
    $err =~ s/^psql:<stdin>:\d+: //mg;
    $err =~ s/^LOCATION: .*\n?//mg;
    chomp $err;
    return ($err, $out);
}

sub fails_with {
    my ($sql, $error, $name) = @_;
    my ($err, $out) = failure($sql);
    is($err, $error, $name);
    is($out, '0|0', "$name: no object and no exception is left");
}

# --- A backend error ---

fails_with(
    q{SELECT backend_error('22P04', 'the message', 'the detail', 'the hint')},
    "ERROR:  22P04: the message\nDETAIL:  the detail\nHINT:  the hint",
    'a backend error keeps SQLSTATE, message, detail and hint');
is(answer(q{DO $$ BEGIN PERFORM backend_error('22P04', 'm', 'd', 'h');
        EXCEPTION WHEN SQLSTATE '22P04' THEN NULL; END $$;
        SELECT objects_ever(), live_objects_now()}),
    '5|0', 'five frames had an object, and every destructor ran');
fails_with(
    q{SELECT backend_error('XX001', 'percent %s %n %d', '%s', '%n')},
    "ERROR:  XX001: percent %s %n %d\nDETAIL:  %s\nHINT:  %n",
    'a message is no format');

# --- C++ exceptions ---

fails_with(q{SELECT throws('ours')}, "ERROR:  22023: an error of ours\nDETAIL:  with a detail\nHINT:  and a hint",
    'an exception of ours has its own SQLSTATE, detail and hint');
fails_with(q{SELECT throws('ours, bare')}, 'ERROR:  55000: nothing but a message',
    'an exception of ours without detail and hint has none');
fails_with(q{SELECT throws('percent')}, "ERROR:  22023: 100%s %n %d\nDETAIL:  50%s\nHINT:  25%n",
    'nor is the message of an exception a format');
my ($long) = failure(q{SELECT throws('ours, long')});
like($long, qr/^ERROR:  22023: m{1023}\nDETAIL:  d{1022}\nHINT:  h{1021}é$/,
    'a message that is too long is cut, at a character');
my ($bad_alloc, $bad_alloc_left) = failure(q{SELECT throws('bad_alloc')});
like($bad_alloc, qr/^ERROR:  53200: out of memory\n/, 'std::bad_alloc is 53200');
is($bad_alloc_left, '0|0', 'std::bad_alloc: no object and no exception is left');
fails_with(q{SELECT throws('std')}, 'ERROR:  XX000: a standard exception', 'a standard exception is XX000');
fails_with(q{SELECT throws('unknown')}, 'ERROR:  XX000: unknown C++ exception in mau',
    'an exception of any type is XX000');
fails_with(q{SELECT throws_through_guards('ours')},
    "ERROR:  22023: an error of ours\nDETAIL:  with a detail\nHINT:  and a hint", 'guards let exceptions pass');
fails_with(q{SELECT throws_through_guards('unknown')}, 'ERROR:  XX000: unknown C++ exception in mau',
    'guards let exceptions of any type pass');

# --- Guards in guards ---

for my $guards (1, 2) {
    is(answer("SELECT guard_restores('backend', $guards)"), 'backend: from the backend',
        "a backend error through $guards guard(s) leaves the backend as it was");
    is(answer("SELECT guard_restores('c++', $guards)"), 'c++: from C++',
        "an exception through $guards guard(s) leaves the backend as it was");
}
is(answer("SELECT guarded_value(40); $left"), "42\n0|0", 'a value comes through two guards');

# --- SPI ---

fails_with(q{SELECT runs_sql('SELECT 1/0')},
    "ERROR:  22012: division by zero\nCONTEXT:  SQL statement \"SELECT 1/0\"", 'an error inside with_spi');
is(answer(q{DO $$ BEGIN PERFORM runs_sql('SELECT 1/0');
        EXCEPTION WHEN division_by_zero THEN NULL; END $$;
        SELECT runs_sql('CREATE TABLE after_the_error ()'); SELECT count(*) FROM after_the_error}),
    "\n0", 'SPI works after an error inside with_spi');

# --- Attempts ---

answer('CREATE TABLE t (n integer PRIMARY KEY)');
is(answer("SELECT attempts('INSERT INTO t VALUES (1)'); SELECT n FROM t"), "went well\n1",
    'what goes well stays');
is(answer("SELECT attempts('INSERT INTO t VALUES (2), (1)'); SELECT n FROM t; $left"),
    "23505: duplicate key value violates unique constraint \"t_pkey\"\n1\n0|0", 'what fails is undone');
is(answer("BEGIN; INSERT INTO t VALUES (3); SELECT attempts('INSERT INTO t VALUES (4), (1)');
        SELECT attempts('INSERT INTO t VALUES (5)'); COMMIT; SELECT n FROM t ORDER BY n"),
    "23505: duplicate key value violates unique constraint \"t_pkey\"\nwent well\n1\n3\n5",
    'what fails takes nothing else of the transaction with it');
is(answer("SELECT attempts_to_throw('ours')"), '22023: an error of ours (and a hint)',
    'an exception of ours is a value');
is(answer("SELECT attempts_to_throw('bad_alloc')"), '53200: out of memory',
    'std::bad_alloc is a value');
is(answer("SELECT attempts_to_throw('std'); $left"), "XX000: a standard exception\n0|0",
    'a standard exception is a value');
is(answer("SELECT attempts_to_throw('unknown')"), 'XX000: unknown C++ exception in mau',
    'an exception of any type is a value');

# An error that an attempt does not take goes on, and leaves the transaction's nesting right for its catcher.
sub caught_outside {
    my ($call, $condition) = @_;
    return answer(qq{
        CREATE TEMP TABLE told (what text);
        DO \$\$ DECLARE message text; detail text; hint text; BEGIN
            INSERT INTO told VALUES ('level ' || nest_level_now());
            BEGIN
                INSERT INTO told VALUES ('to be undone');
                PERFORM $call;
            EXCEPTION WHEN $condition THEN
                GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
                INSERT INTO told VALUES (concat_ws('|', SQLSTATE, message, nullif(detail, ''), nullif(hint, '')));
            END;
            INSERT INTO told VALUES ('level ' || nest_level_now());
        END \$\$;
        INSERT INTO told VALUES ('objects ' || live_objects_now() || ', exceptions ' || live_exceptions_now());
        SELECT string_agg(what, ', ') FROM told});
}
is(caught_outside(q{attempts('SELECT 1/0', true)}, 'division_by_zero'),
    'level 1, 22012|division by zero, level 1, objects 0, exceptions 0',
    'a backend error that is not taken is thrown on');
is(caught_outside(q{attempts('SELECT backend_error(''22P04'', ''m'', ''d'', ''h'')', true)}, 'SQLSTATE \'22P04\''),
    'level 1, 22P04|m|d|h, level 1, objects 0, exceptions 0', 'with everything it says');
is(answer('SELECT attempt_throws_on()'), '22012: division by zero', 'also when the memory is used again');
is(caught_outside(q{attempts_to_throw('ours', true)}, 'invalid_parameter_value'),
    'level 1, 22023|an error of ours|with a detail|and a hint, level 1, objects 0, exceptions 0',
    'so is an exception of ours');
is(caught_outside(q{attempts_to_throw('unknown', true)}, 'internal_error'),
    'level 1, XX000|unknown C++ exception in mau, level 1, objects 0, exceptions 0', 'and one of any type');
is(caught_outside(q{attempts('SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)')}, 'query_canceled'),
    'level 1, 57014|canceling statement due to user request, level 1, objects 0, exceptions 0',
    'a cancel request is never taken');
fails_with(q{SET statement_timeout = '100ms'; SELECT attempts('SELECT pg_sleep(60)')},
    "ERROR:  57014: canceling statement due to statement timeout\nCONTEXT:  SQL statement \"SELECT pg_sleep(60)\"",
    'nor is a timeout');
{
    my ($out, $err) = ('', '');
    my $status = $node->psql('postgres', q{SELECT attempts('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)')},
        stdout => \$out, stderr => \$err);
    is($status, 2, 'a session that is told to end, ends');
    like($err, qr/terminating connection due to administrator command/, 'and says so');
}
# Concurrency is what is_concurrency takes.
for my $state (qw(40001 40P01 55P03)) {
    is(answer("SELECT attempts('SELECT backend_error(''$state'', ''m'', ''d'', ''h'')', true)"),
        "$state: m (h)", "$state comes of concurrency");
}

# --- Ten thousand caught errors in one session ---

my $kinds = q{
    CASE i % 8
        WHEN 0 THEN PERFORM backend_error('22P04', repeat('m', 100), repeat('d', 100), repeat('h', 100));
        WHEN 1 THEN PERFORM throws('ours');
        WHEN 2 THEN PERFORM throws('bad_alloc');
        WHEN 3 THEN PERFORM throws('std');
        WHEN 4 THEN PERFORM throws('unknown');
        WHEN 5 THEN PERFORM throws_through_guards('std');
        WHEN 6 THEN PERFORM runs_sql('SELECT 1/0');
        WHEN 7 THEN PERFORM attempts('SELECT 1/0', true);
    END CASE;
};
# Each loop in a statement of its own; memory is looked at between statements.
my $memory = q{SELECT coalesce(sum(total_bytes), 0) AS contexts, malloc_bytes_now() AS malloced
    FROM pg_backend_memory_contexts \gset };
sub loop { my $n = shift; return "DO \$\$ BEGIN FOR i IN 1..$n LOOP BEGIN $kinds
    EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END \$\$;\n" }
my $flat = answer(
    loop(1000) . "${memory} \n${memory}before_\n" . loop(10000) . "${memory}after_\n"
      . 'SELECT :after_contexts - :before_contexts, :after_malloced - :before_malloced;' . "\n$left");
my ($contexts, $malloced, $objects, $exceptions) = split /[|\n]/, $flat;
note("10 000 errors caught by EXCEPTION: contexts $contexts, malloc $malloced bytes");
cmp_ok(abs $contexts, '<=', 64 * 1024, 'memory contexts are flat after 10 000 caught errors');
cmp_ok(abs $malloced, '<=', 64 * 1024, 'malloc is flat');
is("$objects|$exceptions", '0|0', 'no object and no exception is left');

# The same at top level: 10 000 statements that fail.
my @calls = (
    q{backend_error('22P04', 'm', 'd', 'h')}, map({ "throws('$_')" } qw(ours bad_alloc std unknown)),
    q{throws_through_guards('std')}, q{runs_sql('SELECT 1/0')}, q{attempts('SELECT 1/0', true)});
sub statements { my $n = shift; return join '', map { "SELECT $calls[$_ % @calls];\n" } 1 .. $n }
my ($out, $err);
$node->psql('postgres',
    statements(1000) . "${memory} \n${memory}before_\n" . statements(10000) . "${memory}after_\n"
      . 'SELECT :after_contexts - :before_contexts, :after_malloced - :before_malloced;' . "\n$left",
    stdout => \$out, stderr => \$err, on_error_stop => 0);
my $errors = () = $err =~ /ERROR: /g;
is($errors, 11000, '11 000 statements failed');
($contexts, $malloced, $objects, $exceptions) = split /[|\n]/, $out;
note("10 000 failed statements: contexts $contexts, malloc $malloced bytes");
cmp_ok(abs $contexts, '<=', 64 * 1024, 'memory contexts are flat after 10 000 failed statements');
cmp_ok(abs $malloced, '<=', 64 * 1024, 'malloc is flat');
is("$objects|$exceptions", '0|0', 'no object and no exception is left');

# And in one call.
my $growth = answer('SELECT attempt_many(100); SELECT attempt_many(10000)');
$growth =~ s/.*\n//;
note("10 000 attempts in one call: $growth bytes");
cmp_ok($growth, '<=', 64 * 1024, 'memory contexts are flat after 10 000 attempts in one call');

$node->stop;
done_testing();
