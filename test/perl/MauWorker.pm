# What the tests of the background worker share: statements in the databases of one server, and waiting for what the worker does there.
package MauWorker;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(work_on sql becomes);

my ($node, $diagnosis);

# The server, and the statement whose answer is shown where something does not happen.
sub work_on
{
	($node, $diagnosis) = @_;
	return;
}

# Runs statements, each by itself, and answers what the last one says.
sub sql
{
	my ($db, @statements) = @_;
	my $answer;
	$answer = $node->safe_psql($db, $_) for @statements;
	return $answer;
}

# Polls until the query says true, for a bounded time.
sub becomes
{
	my ($db, $query, $name) = @_;
	my $ok = ok($node->poll_query_until($db, $query), $name);
	diag(sql($db, $diagnosis)) unless $ok;
	return $ok;
}

1;
