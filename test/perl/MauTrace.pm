package MauTrace;

# Asks one and the same question of mau and of the outside truth (the model, or a trace of a real homeserver).

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use IO::Uncompress::Gunzip qw(gunzip $GunzipError);
use PostgreSQL::Test::Cluster;
use Test::More;

our @EXPORT = qw(truth_cluster sides new_database replay truth_dir);

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

# Who can be asked on this machine: the model always, mau where it is installed, there without preload and with it.
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

# A database in which one side lives alone; restarts the server if mau has to be preloaded and is not.
sub new_database
{
	my ($node, $side, $name) = @_;
	if ($side->{preload} && $node->safe_psql('postgres', 'SHOW shared_preload_libraries') !~ /\bmau\b/)
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n");
		$node->restart;
	}
	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	if ($side->{schema} eq 'mau')
	{
		$node->safe_psql($name, 'CREATE EXTENSION mau');
	}
	else
	{
		$node->psql_file($name, truth_dir() . '/model.sql', schema => $side->{schema});
	}
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

# Runs a file of SQL with psql's variables set.
sub PostgreSQL::Test::Cluster::psql_file
{
	my ($node, $database, $file, %variables) = @_;
	my $sql = join '', map { "\\set $_ '$variables{$_}'\n" } sort keys %variables;
	return $node->safe_psql($database, "$sql\\i $file\n");
}

1;
