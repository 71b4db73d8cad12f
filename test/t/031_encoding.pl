# User ids that are not valid UTF-8: refused with a clear error wherever they come in, also in a database that takes any
# bytes (SQL_ASCII); valid ids work there as in UTF8.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('encoding');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$node->safe_psql('postgres', "CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
$node->safe_psql($_, 'CREATE EXTENSION mau') for qw(postgres ascii latin1);

# The result of a statement, or its error; bytes in, bytes out.
sub answer {
    my ($database, $sql) = @_;
    my ($out, $err);
    $node->psql($database, "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err);
    $err =~ s/^psql:<stdin>:\d+: |^LOCATION: .*\n?//mg;
    chomp $err;
    return $err eq '' ? $out : $err;
}

my $hint = "\nHINT:  Set client_encoding to what the client sends, and keep the database in UTF8.";
my %invalid = (
    'a lone continuation byte' => "\x80",
    'latin1'                   => "\xe4",
    'a cut sequence'           => "\xe2\x82",
    'an overlong slash'        => "\xc0\xaf",
    'a surrogate'              => "\xed\xa0\x80",
    'beyond Unicode'           => "\xf4\x90\x80\x80",
);
for my $name (sort keys %invalid) {
    my $id = "\@$invalid{$name}:x";
    is(answer('ascii', "SELECT mau.record_activity('$id')"), "ERROR:  22021: user_id is not valid UTF-8$hint",
        "$name, SQL_ASCII");
    like(answer('postgres', "SET client_encoding = 'UTF8'; SELECT mau.record_activity('$id')"),
        qr/^ERROR:  22021: invalid byte sequence for encoding "UTF8"/, "$name, UTF8: the server sees to it");
}
my $bad = "\@\xe4:x";
for my $call (
    "mau.record_activities(ARRAY['\@ok:x', '$bad'], ARRAY[now(), now()])", "mau.admit('$bad')",
    "mau.check_auth_blocking('$bad')", "mau.register_user('$bad')", "mau.add_threepid('$bad', 'email', 'a')",
    "mau.remove_threepid('$bad', 'email', 'a')", "mau.deactivate_user('$bad')", "mau.forget_user('$bad')",
    "mau.explain('$bad')", "mau.last_seen('$bad')")
{
    (my $name = $call) =~ s/\(.*//;
    my $which = $name =~ /activities/ ? "\nDETAIL:  It is element 2." : '';
    is(answer('ascii', "SELECT $call"), "ERROR:  22021: user_id is not valid UTF-8$which$hint", "$name, SQL_ASCII");
}
is(answer('ascii', 'SELECT count(*) FROM mau.users'), '0', 'nothing was written');

for my $database (qw(ascii postgres)) {
    is(answer($database, "SELECT mau.record_activity('\@zo\xc3\xab-\xf0\x9f\x99\x82:x')"), 'joined', "valid UTF-8, $database");
    is(answer($database, 'SELECT user_id FROM mau.monthly_active_users'), "\@zo\xc3\xab-\xf0\x9f\x99\x82:x",
        "is kept as it is, $database");
    # Where letters have no case outside ASCII, those inside still have.
    is(answer($database, "SELECT mau.fold_address('email', 'A\@EXAMPLE.COM')"), 'a@example.com', "case in ASCII, $database");
}
is(answer('ascii', "SELECT mau.fold_address('email', 'A\xc3\x84')"), "a\xc3\x84", 'other letters are left, SQL_ASCII');
is(answer('postgres', "SET client_encoding = 'UTF8'; SELECT mau.fold_address('email', 'A\xc3\x84')"), "a\xc3\xa4",
    'other letters are folded, UTF8');
is(answer('latin1', "SELECT mau.record_activity('\@alice:x')"), 'joined', 'ASCII ids in a LATIN1 database');
like(answer('latin1', "SET client_encoding = 'LATIN1'; SELECT mau.record_activity('\@zo\xeb:x')"),
    qr/^ERROR:  22021: user_id is not valid UTF-8/, 'others are not, in a LATIN1 database');

# A chart is of blocks where both sides know them, else of ASCII.
my $bar = 'SELECT l FROM mau.chart(\'dau\', (now() AT TIME ZONE \'UTC\')::date, NULL, 30, 1) l LIMIT 1';
my %drawn = (UTF8 => "1 \xe2\x94\x82", LATIN1 => '1 |', SQL_ASCII => "1 \xe2\x94\x82", EUC_JP => '1 |');
like(answer('postgres', "SET client_encoding = '$_'; $bar"), qr/^\Q$drawn{$_}\E/, "a chart, client in $_") for sort keys %drawn;
like(answer($_, $bar), qr/^1 [|] *#/, "a chart in a database in $_") for qw(ascii latin1);

$node->stop;
done_testing();
