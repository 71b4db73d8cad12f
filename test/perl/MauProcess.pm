# Processes of real homeservers that a test starts.
package MauProcess;

use strict;
use warnings;

use Exporter 'import';
use POSIX ':sys_wait_h';

our @EXPORT = qw(end_process);

# Ends a child process by SIGTERM; by SIGKILL if it is still there after 30 seconds.
sub end_process
{
	my ($pid) = @_;
	kill 'TERM', $pid;
	for (1 .. 300)
	{
		return if waitpid($pid, WNOHANG) != 0;
		select undef, undef, undef, 0.1;
	}
	kill 'KILL', $pid;
	waitpid($pid, 0);
	return;
}

1;
