package MauSource;

# Databases with a homeserver's tables in them, for the tests of attach and sync.

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use PostgreSQL::Test::Cluster;
use Test::More;

our @EXPORT = qw($NOW $DAY source_cluster preload new_homeserver load_fixture fixture at ask
  attach sync plans_of_sync members last_seen add_user see set_settings is_settled);

# 2026-11-20 18:00:00 UTC, the time of the fixtures, in ms.
our $NOW = 1795197600000;
our $DAY = 86400000;

# A server with nothing in it, without mau preloaded. The tests read its log, and its plans.
sub source_cluster
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => ['--locale=C', '--encoding=UTF8']);
	$node->append_conf('postgresql.conf', "autovacuum = off\nshared_buffers = '128MB'\n" . ($params{conf} // ''));
	$node->start;
	return $node;
}

# From here on with mau preloaded, and no worker of it in our databases.
sub preload
{
	my ($node) = @_;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\n");
	$node->restart;
	return;
}

# Synapse's three tables with Synapse's indexes, as little else as possible.
sub layout
{
	my ($schema) = @_;
	return qq{
CREATE SCHEMA IF NOT EXISTS $schema;
CREATE TABLE $schema.users (
    name text UNIQUE, password_hash text, creation_ts bigint, admin smallint DEFAULT 0 NOT NULL, is_guest smallint DEFAULT 0 NOT NULL,
    appservice_id text, user_type text, deactivated smallint DEFAULT 0 NOT NULL);
CREATE INDEX users_creation_ts ON $schema.users (creation_ts);
CREATE TABLE $schema.user_ips (
    user_id text NOT NULL, access_token text NOT NULL, device_id text, ip text NOT NULL, user_agent text NOT NULL, last_seen bigint NOT NULL);
CREATE UNIQUE INDEX user_ips_user_token_ip_unique_index ON $schema.user_ips (user_id, access_token, ip);
CREATE INDEX user_ips_device_id ON $schema.user_ips (user_id, device_id, last_seen);
CREATE INDEX user_ips_last_seen ON $schema.user_ips (user_id, last_seen);
CREATE INDEX user_ips_last_seen_only ON $schema.user_ips (last_seen);
CREATE TABLE $schema.user_threepids (
    user_id text NOT NULL, medium text NOT NULL, address text NOT NULL, validated_at bigint NOT NULL, added_at bigint NOT NULL,
    UNIQUE (medium, address));
CREATE INDEX user_threepids_user_id ON $schema.user_threepids (user_id);
};
}

# A database with mau, and an empty homeserver in `schema`.
my $databases = 0;

sub new_homeserver
{
	my ($node, %params) = @_;
	my $database = $params{name} // 'homeserver' . ++$databases;
	my $schema   = $params{schema} // 'public';
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, ($params{empty} ? '' : layout($schema)) . 'CREATE EXTENSION mau;');
	return $database;
}

sub fixture
{
	my ($name) = @_;
	return $name if $name =~ m{^/};
	return "$FindBin::RealBin/../fixtures/$name";
}

# Loads a file of SQL with psql's variables set.
sub load_fixture
{
	my ($node, $database, $name, %variables) = @_;
	my $sql = join '', map { "\\set $_ $variables{$_}\n" } sort keys %variables;
	$node->safe_psql($database, "SET client_min_messages = warning;\n$sql\\i " . fixture($name) . "\n");
	return;
}

# An instant for SQL.
sub at
{
	my ($ms) = @_;
	return "to_timestamp(${ms}::numeric / 1000)";
}

# The plans of all statements of a sync, with the rows that they read.
sub plans_of_sync
{
	my ($node, $database, $ms) = @_;
	return (ask($node, $database, qq{
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_timing = off;
SET auto_explain.log_level = notice;
SET client_min_messages = notice;
SELECT * FROM mau.sync(@{[at($ms)]});}))[1];
}

# Statements, each in a transaction of its own: (what they print, their errors and warnings).
sub ask
{
	my ($node, $database, $sql, %params) = @_;
	my ($out, $err);
	$node->psql($database, $sql, stdout => \$out, stderr => \$err, on_error_stop => 0, %params);
	return wantarray ? ($out, $err) : $out;
}

# The rows (what, number) of a function as a hash, and what it warned of.
sub report
{
	my ($node, $database, $call) = @_;
	my ($out, $err) = ask($node, $database, "\\set VERBOSITY verbose\nSELECT * FROM $call");
	return ({ map { split /\|/ } split /\n/, $out }, $err);
}

# mau.attach and mau.sync at an instant in ms: their rows as a hash, with `error` if there was an error.
sub attach
{
	my ($node, $database, $ms, $schema) = @_;
	my ($done, $err) = report($node, $database, "mau.attach('synapse', '" . ($schema // 'public') . "', " . at($ms) . ')');
	$done->{error} = $err if $err =~ /ERROR:/;
	return $done;
}

sub sync
{
	my ($node, $database, $ms, $max_rows) = @_;
	my ($done, $err) = report($node, $database, 'mau.sync(' . at($ms) . (defined $max_rows ? ", $max_rows" : '') . ')');
	$done->{error}   = $err if $err =~ /ERROR:/;
	$done->{warning} = $err if $err =~ /WARNING:/;
	return $done;
}

# The rows of the cohort, a line `user|service|ms` each; with an instant (ms), of those who have not expired then.
sub members
{
	my ($node, $database, $ms) = @_;
	my $since = ($ms // 0) - 30 * $DAY;
	return scalar ask($node, $database,
		qq{SELECT user_id, service, "timestamp" FROM mau.monthly_active_users WHERE "timestamp" >= $since ORDER BY user_id COLLATE "C"});
}

# The last sighting of a user, ms.
sub last_seen
{
	my ($node, $database, $user) = @_;
	return scalar ask($node, $database, "SELECT round(extract(epoch FROM mau.last_seen('$user')) * 1000)");
}

# SQL that makes an account: a day before $NOW unless `born` (ms) says otherwise. Other keys are columns.
sub add_user
{
	my ($name, %columns) = @_;
	my $schema = delete $columns{schema} // 'public';
	my $born   = delete $columns{born}   // $NOW - $DAY;
	$columns{$_} = $columns{$_} =~ /^\d+$/ ? $columns{$_} : "'$columns{$_}'" for keys %columns;
	my @names = sort keys %columns;
	return
	    "INSERT INTO $schema.users ("
	  . join(', ', 'name', 'creation_ts', @names)
	  . ") VALUES ("
	  . join(', ', "'$name'", int($born / 1000), @columns{@names}) . ");\n";
}

# SQL of a sighting: as Synapse does, the row of a token and address is rewritten.
sub see
{
	my ($user, $ms, %params) = @_;
	my $schema = $params{schema} // 'public';
	my $token  = $params{token}  // 'token';
	return "INSERT INTO $schema.user_ips (user_id, access_token, ip, user_agent, last_seen)"
	  . " VALUES ('$user', '$token', '198.51.100.1', 'Element/1.6 (Android 14)', $ms)"
	  . " ON CONFLICT (user_id, access_token, ip) DO UPDATE SET last_seen = EXCLUDED.last_seen;\n";
}

sub set_settings
{
	my ($node, $database, $assignments) = @_;
	$node->safe_psql($database, "UPDATE mau.settings SET $assignments");
	return;
}

# Once more, and nothing changes (rule R8).
sub is_settled
{
	my ($node, $database, $ms, $name) = @_;
	my $sql   = 'SELECT * FROM mau.users ORDER BY 1';
	my $other = 'SELECT * FROM mau.user_threepids ORDER BY 1, 2';
	my @before = (members($node, $database), map { scalar ask($node, $database, $_) } $sql, $other);
	sync($node, $database, $ms);
	my @after = (members($node, $database), map { scalar ask($node, $database, $_) } $sql, $other);
	return is_deeply(\@after, \@before, $name);
}

1;
