package MauPrometheus;

# Prometheus, its tools and exporters on loopback, for tests.

use strict;
use warnings;

use Exporter 'import';
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use MauProcess;
use POSIX ();

our @EXPORT = qw(has_program free_port start_program http_text wait_for prometheus_get series_of);

my @children;

sub has_program { return grep { -x "$_/$_[0]" } split /:/, $ENV{PATH} }

sub free_port
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $!";
	return $socket->sockport;
}

# Starts a child that ends with the test; what it prints goes to the log.
sub start_child
{
	my ($log, $run) = @_;
	my $parent = $$;
	defined(my $pid = fork) or die "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>', $log or die "$log: $!";
		open STDERR, '>&', \*STDOUT;
		$run->();
		POSIX::_exit(1);
	}
	push @children, [ $parent, $pid ];
	return;
}

sub start_program
{
	my ($log, %call) = @_;
	start_child($log, sub { %ENV = (%ENV, %{ $call{env} // {} }); exec @{ $call{command} } or print "cannot run $call{command}[0]: $!\n" });
	return;
}

END
{
	my $status = $?;
	$_->[0] == $$ and end_process($_->[1]) for @children;
	$? = $status;
}

sub http_text
{
	my ($url) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get($url);
	return $answer->{success} ? $answer->{content} : undef;
}

# Whether a condition holds within the tests' time limit.
sub wait_for
{
	my ($condition) = @_;
	for (1 .. 4 * ($ENV{PG_TEST_TIMEOUT_DEFAULT} || 120))
	{
		return 1 if $condition->();
		select undef, undef, undef, 0.25;
	}
	return 0;
}

# The data of an answer of Prometheus's API; dies with its error.
sub prometheus_get
{
	my ($port, $path, %query) = @_;
	my $http = HTTP::Tiny->new(timeout => 30);
	my $answer = $http->get("http://127.0.0.1:$port/api/v1/$path?" . $http->www_form_urlencode(\%query));
	my $json = eval { JSON::PP::decode_json($answer->{content}) } or die "$path: $answer->{status} $answer->{content}\n";
	die "$query{query}: $json->{error}\n" if $json->{status} ne 'success';
	return $json->{data};
}

# The series of an expression: name and labels => value, without the labels that Prometheus and exporters add.
sub series_of
{
	my ($port, $expression) = @_;
	my %series;
	for my $result (@{ prometheus_get($port, 'query', query => $expression)->{result} })
	{
		my %labels = %{ $result->{metric} };
		my $name = delete $labels{__name__} // '';
		delete @labels{qw(job instance)};
		$series{ $name . JSON::PP->new->canonical->encode(\%labels) } = $result->{value}[1];
	}
	return \%series;
}

1;
