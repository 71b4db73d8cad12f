# The program mau, as a user calls it.
package MauClient;

use strict;
use warnings;

use Exporter 'import';
use Cwd qw(abs_path);
use File::Basename;
use IPC::Run;

our @EXPORT = qw(mau_program mau);

my $program = abs_path(dirname(__FILE__) . '/../..') . '/build/client/mau';

sub mau_program { return $program }

# Runs the program on a node with arguments. Returns its exit status, its standard output and its standard error. Options:
# stdin, a text; timeout, in seconds (120).
sub mau
{
	my ($node, $arguments, %options) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
	delete $ENV{PGAPPNAME};
	my ($out, $err) = ('', '');
	my $in = $options{stdin} // '';
	IPC::Run::run([ $program, @$arguments ], '<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout($options{timeout} // 120));
	return ($? >> 8, $out, $err);
}

1;
