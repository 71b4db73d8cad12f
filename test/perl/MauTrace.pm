package MauTrace;

# Asks mau and a second source (the model, or a trace of a real homeserver) the same question.

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use PostgreSQL::Test::Cluster;
use Test::More;

our @EXPORT = qw(truth_cluster sides new_database load_model replay differential);

# The folder of the model's SQL.
sub truth_dir
{
	return "$FindBin::RealBin/../model";
}

# A server with nothing in it, quiet: no worker of mau's touches the databases.
sub truth_cluster
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => ['--locale=C', '--encoding=UTF8']);
	$node->append_conf('postgresql.conf', "autovacuum = off\n");
	$node->start;
	return $node;
}

# The sides that exist on this machine: the model always, mau where it is installed, there without preload and with it.
sub sides
{
	my ($node) = @_;
	my @sides = ({ name => 'model', schema => 'model', preload => 0 });
	if ($node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'mau'}))
	{
		push @sides, { name => 'mau without preload', schema => 'mau', preload => 0 },
		  { name => 'mau preloaded', schema => 'mau', preload => 1 };
	}
	else
	{
		note 'mau is not installed here: only the model is asked';
	}
	return @sides;
}

# A database with one of the sides; restarts the server if mau has to be preloaded and is not.
sub new_database
{
	my ($node, $side, $name) = @_;
	if ($side->{preload} && $node->safe_psql('postgres', 'SHOW shared_preload_libraries') !~ /\bmau\b/)
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n");
		$node->restart;
	}
	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	if ($side->{schema} eq 'mau' && !$side->{is_model})
	{
		$node->safe_psql($name, 'CREATE EXTENSION mau');
	}
	else
	{
		load_model($node, $name, $side->{schema});
	}
	return;
}

# The model, under this name.
sub load_model
{
	my ($node, $database, $schema) = @_;
	$node->safe_psql($database, "\\set schema '$schema'\n\\i " . truth_dir() . "/model.sql\n");
	return;
}

# The lines of a trace, plain or gzipped.
sub lines_of
{
	my ($file) = @_;
	my $text = '';
	gunzip($file => \$text, Transparent => 1) or die "$file: $GunzipError";
	return $text;
}

# Replays a trace in a database on the functions of a schema: (answers compared, [the differences, a line of text each]).
sub replay
{
	my ($node, $database, $schema, $file) = @_;
	my $sql = truth_dir() . '/replay.sql';
	my ($out, $err);
	my $lines = lines_of($file);
	$lines .= "\n" unless $lines =~ /\n\z/;
	$node->psql(
		$database,
		qq{SET search_path = $schema;
\\i $sql
COPY pg_temp.trace (line) FROM STDIN WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02');
$lines\\.
CALL pg_temp.replay();
SELECT count(*) FROM pg_temp.answers;
SELECT format('line %s: %s: expected %s, got %s', no, question, expected, got) FROM pg_temp.differences ORDER BY no LIMIT 10;
SELECT '... ' || count(*) || ' differences' FROM pg_temp.differences HAVING count(*) > 10;
},
		stdout        => \$out,
		stderr        => \$err,
		on_error_stop => 1,
		on_error_die  => 1);
	my ($answers, @differences) = split /\n/, $out;
	return ($answers, \@differences);
}

# Does random operations in a database that has mau and the model alike: (operations done, the first difference with what led to it or
# '', { answer => how many times }).
sub differential
{
	my ($node, $database, $operations, $seed, $strict) = @_;
	my $sql = truth_dir() . '/differential.sql';
	my ($out, $err);
	my $verbose = $ENV{MAU_VERBOSE} ? 'on' : 'off';
	my $failed = $node->psql(
		$database,
		qq{\\i $sql
SET truth.show = $verbose;
CALL pg_temp.differential($operations, $seed, $strict);
SELECT answer || E'\\x01' || times FROM pg_temp.coverage;
SELECT operations || E'\\x01' || coalesce(difference, '') FROM pg_temp.done;
},
		stdout        => \$out,
		stderr        => \$err,
		on_error_stop => 1);
	note $err if $verbose eq 'on';
	return (0, "an error, where there must be none (MAU_VERBOSE=1 shows at what): $err", {}) if $failed;
	my %coverage;
	$coverage{$1} = $2 while $out =~ s/\A([^\x01\n]+)\x01(\d+)\n(?=.*\x01)//s;
	my ($done, $difference) = $out =~ /\A(\d+)\x01(.*)\z/s;
	return ($done, $difference, \%coverage);
}

1;
