# XMPP servers that a test starts, and sessions of a real client (slixmpp).
package MauXmpp;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use IO::Socket::INET;
use MauProcess;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep);

our @EXPORT = qw(has_xmpp_client start_xmpp_server stop_xmpp_server xmpp_login);

my $python = '/usr/bin/python3';
my $client = abs_path(dirname(__FILE__) . '/../prosody/xmpp_login.py');
my $server;

# Whether a client is installed.
sub has_xmpp_client { return -x $python && system("$python -c 'import slixmpp' >/dev/null 2>&1") == 0 }

# Starts a server: port, where clients connect; log, a file for what it prints; env; command; is_ready, a condition besides the open port. Returns
# whether it takes connections within a minute.
sub start_xmpp_server
{
	my (%call) = @_;
	$server = fork // die "fork: $!";
	if ($server == 0)
	{
		open STDOUT, '>>', $call{log} or POSIX::_exit(1);
		open STDERR, '>&', \*STDOUT or POSIX::_exit(1);
		%ENV = (%ENV, %{ $call{env} // {} });
		{ no warnings 'exec'; exec @{ $call{command} } }
		print "$call{command}[0]: $!\n";
		POSIX::_exit(1);
	}
	for (1 .. 300)
	{
		return 1 if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $call{port}, Proto => 'tcp') && (!$call{is_ready} || $call{is_ready}->());
		return 0 if waitpid($server, WNOHANG) != 0;
		sleep 0.2;
	}
	return 0;
}

sub stop_xmpp_server
{
	end_process($server) if $server;
	$server = undef;
	return;
}

END { my $status = $?; stop_xmpp_server(); $? = $status }

# A session of a user whose password is `secret`, after `register` or with `remove` if that is asked for. Returns `online`, or `refused:` and why.
sub xmpp_login
{
	my ($port, $jid, @more) = @_;
	open my $pipe, '-|', 'sh', '-c', 'exec "$@" 2>/dev/null', 'sh', $python, $client, $port, $jid, 'secret', @more or die $!;
	my $out = <$pipe> // '';
	close $pipe;
	chomp $out;
	return $out;
}

1;
