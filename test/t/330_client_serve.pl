# `mau serve` answers from memory: /metrics with each family once and a label for each of several databases, the page, /healthz. A database
# that hangs, is away, has no extension, or keeps its figures from the role, spoils nothing. No database is asked more often than every 15
# seconds. A role with the rights of monitoring is enough, and no user id is in any answer.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use MauBrowser;
use MauClient;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $AT = '2026-10-31 18:00+00';
my $folder = PostgreSQL::Test::Utils::tempdir();

my $node = PostgreSQL::Test::Cluster->new('serve');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "autovacuum = off\nlog_statement = 'all'\n");
$node->start;
sub run_mau { return mau($node, \@_) }
sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql) }
sql('postgres', 'CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN');
for my $db (qw(homeserver empty old))
{
	sql('postgres', "CREATE DATABASE $db");
	sql($db, "CREATE EXTENSION mau; SELECT mau.grant_to('reader', 'monitoring')");
}
sql('old', q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'mau'});
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'users=120', '-v', "at=$AT", '-f', "$FindBin::RealBin/../fixtures/page.sql",
		'-d', $node->connstr('homeserver') ], 'a server of 120 people');

my $http = HTTP::Tiny->new(timeout => 30);
my ($server, $url, $output, $errors);
my $listen = '127.0.0.1:0';
sub serve
{
	my (@arguments) = @_;
	($output, $errors) = ('', '');
	$server = IPC::Run::start([ mau_program(), 'serve', '--at', $AT, '--listen', $listen, @arguments ], '<', '/dev/null', '>', \$output, '2>', \$errors);
	my $until = time() + 60;
	while ($output !~ m{^mau: listening at (http://\S+)$}m)
	{
		die "no server: $errors" if time() > $until || !$server->pumpable;
		$server->pump_nb;
		sleep(0.05);
	}
	($url) = $output =~ m{(http://\S+)};
}
sub stop
{
	$server->signal('TERM');
	my $start = time();
	$server->finish;
	cmp_ok(time() - $start, '<', 5, 'SIGTERM ends it at once');
	is($server->result(0), 0, 'with status 0');
}
sub get { return $http->get($url . $_[0]) }
sub wait_for
{
	my ($check, $name) = @_;
	my $until = time() + 60;
	while (time() < $until) { return pass($name) if $check->(); sleep(0.2) }
	return fail($name);
}

subtest 'one database' => sub {
	serve('-d', $node->connstr('homeserver') . ' user=reader');
	wait_for(sub { get('metrics')->{content} =~ /^mau_target_up\{.*\} 1$/m }, 'it is asked');
	my $metrics = get('metrics');
	is($metrics->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'the type of an exposition');
	like($metrics->{content}, qr/^synapse_admin_mau_current @{[sql('homeserver', "SELECT mau.monthly_active_count('$AT')")]}$/m, 'the figure, without a label');
	my $own = sql('homeserver', "SELECT mau.metrics('$AT')");
	my @families = $own =~ /^# TYPE (\S+)/mg;
	is(join(' ', ($metrics->{content} =~ /^# TYPE (\S+)/mg)[0 .. $#families]), "@families", 'every family of mau.metrics');
	like($metrics->{content}, qr/^mau_health\{state="off"\} 1$/m, 'the health');
	like($metrics->{content}, qr/^mau_target_scrape_seconds\{database="homeserver"\} \d+\.\d+$/m, 'how long it took');

	my $page = get('');
	is($page->{status}, 200, 'the page');
	like($page->{headers}{'content-security-policy'}, qr/^default-src 'none'; script-src 'nonce-\w+'.*frame-ancestors 'none'$/, 'which may load nothing');
	is($page->{headers}{'x-content-type-options'}, 'nosniff', 'nor be another type');
	my $figures = decode_json(get('?format=json')->{content});
	is($figures->{members}[0]{mau}, sql('homeserver', "SELECT mau.monthly_active_count('$AT')"), 'its figures');
	is(get('database/homeserver')->{status}, 200, 'the same by name');
	ok(join('', map { get($_)->{content} } '', 'metrics', 'healthz', '?format=json') !~ /\@user|\@_irc|\@_tg/, 'no user id anywhere');

	my $health = get('healthz');
	is("$health->{status} $health->{content}", "200 ok\nhomeserver: off\n", '/healthz');
	is(get('nothing')->{status}, 404, 'no such page');
	is(get('database/nothing')->{status}, 404, 'no such database');
	for my $method (qw(POST PUT DELETE OPTIONS)) { is($http->request($method, $url)->{status}, 405, "$method is refused") }
	SKIP:
	{
		skip 'chromium is not installed', 2 unless has_browser();
		my ($dom, $console) = browse($url);
		is($console, '', 'nothing on the console of a browser');
		like($dom, qr/data-errors="0"/, 'and no errors');
	}

	my ($host_port) = $url =~ m{//([^/]+)};
	my ($exit, $out, $err) = run_mau('serve', '-d', $node->connstr('homeserver'), '--listen', $host_port);
	is($exit, 1, 'a port in use');
	like($err, qr/\Amau: cannot listen at \Q$host_port\E: Address already in use\nHINT: [^\n]+\n\z/, 'a line and a hint');
	$server->signal('HUP');
	is(get('healthz')->{status}, 200, 'SIGHUP does no harm where there is nothing to list');
	for my $bad ('9188', 'localhost:', ':9188', '127.0.0.1:99999', '::1:9188', '[::1:9188')
	{
		($exit, $out, $err) = run_mau('serve', '--listen', $bad);
		is($exit, 2, "$bad is no address");
		like($err, qr/\Amau: \Q$bad\E is no address\nHINT: [^\n]+\n\z/, 'a line and a hint');
	}
	stop();
};

SKIP:
{
	my $ipv6 = eval { require IO::Socket::IP; IO::Socket::IP->new(LocalHost => '::1', Listen => 1) };
	skip 'this machine has no IPv6', 1 unless $ipv6;
	subtest 'IPv6' => sub {
		my $port = $ipv6->sockport;
		my ($exit, $out, $err) = run_mau('serve', '-d', $node->connstr('homeserver'), '--listen', "[::1]:$port");
		is($exit, 1, 'a port in use');
		like($err, qr/\Amau: cannot listen at \[::1\]:$port: Address already in use\nHINT: [^\n]+\n\z/, 'a line and a hint');
		$listen = '[::1]:0';
		serve('-d', $node->connstr('homeserver') . ' user=reader');
		$listen = '127.0.0.1:0';
		like($url, qr{^http://\[::1\]:\d+/$}, 'it listens at [::1]');
		is(get('healthz')->{status}, 200, 'and answers');
		stop();
	};
}

subtest 'several databases' => sub {
	# A server that takes connections and never answers, and one that is not there.
	my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "no socket: $!";
	my $free = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1');
	my $gone = $free->sockport;
	$free->close;
	my ($host, $port) = ($node->host, $node->port);
	append_to_file("$folder/targets.yaml", <<"YAML");
- conninfo: host=$host port=$port dbname=homeserver user=reader
  name: 'a "quoted" \\ name'
- host=$host port=$port dbname=empty user=reader
- host=$host port=$port dbname=old user=reader
- {conninfo: "host=$host port=$port dbname=homeserver user=stranger", name: no rights}
- {conninfo: "host=127.0.0.1 port=@{[$silent->sockport]} dbname=silent", name: silent}
- {conninfo: "host=127.0.0.1 port=$gone dbname=gone", name: gone}
- {conninfo: "host=127.0.0.1 port=$gone", name: whole server, databases: all}
YAML
	my $log_start = -s $node->logfile;
	my $started = time();
	serve('--targets', "$folder/targets.yaml", '--timeout', '10');
	my $scrapes = 0;
	my $slowest = 0;
	my $scrape = sub { my $start = time(); my $text = get('metrics')->{content}; $scrapes++; $slowest = time() - $start if time() - $start > $slowest; return $text };
	wait_for(sub { (() = $scrape->() =~ /^mau_target_up\{/mg) == 7 }, 'each was asked, the silent one for ten seconds');
	my $text = $scrape->();
	my %up = $text =~ /^mau_target_up\{database="(.*)"\} ([01])$/mg;
	is(join(' ', map { "$_=$up{$_}" } sort keys %up), 'a \"quoted\" \\\\ name=1 empty=1 gone=0 no rights=0 old=0 silent=0 whole server=0', 'which of them answer');
	my %seen;
	is(join(' ', grep { $seen{$_}++ } $text =~ /^# TYPE (\S+)/mg), '', 'each family once');
	my ($family, @wrong) = ('');
	for my $line (split /\n/, $text)
	{
		if ($line =~ /^# TYPE (\S+)/) { $family = $1 }
		elsif ($line !~ /^#/) { push @wrong, $line unless $line =~ /^\Q$family\E\{database="(?:[^"\\]|\\.)*"[,}].* [-\d.e+]+$/ }
	}
	is(join("\n", @wrong), '', 'the samples of a family behind its head, each with its database');
	for (['homeserver', 'a \"quoted\" \\\\ name'], [ 'empty', 'empty' ])
	{
		my ($db, $label) = @$_;
		like($text, qr/^synapse_admin_mau_current\{database="\Q$label\E"\} @{[sql($db, "SELECT mau.monthly_active_count('$AT')")]}$/m, "the figure of $db");
	}
	unlike($text, qr/^(?!mau_target_).*database="(?:old|no rights|silent|gone)"/m, 'no figures of one that does not answer');
	$scrape->() for 1 .. 200;
	cmp_ok($slowest, '<', 5, 'no scrape waits for the one that hangs');
	my $rounds = () = slurp_file($node->logfile, $log_start) =~ /execute <unnamed>: \s*SELECT mau\.metrics.*\n?/g;
	cmp_ok($rounds, '>=', 2, 'they were asked');
	# Two databases, and a third that refuses.
	cmp_ok($rounds, '<=', 3 * (1 + int((time() - $started) / 15)), "not more often than every 15 seconds in $scrapes scrapes");

	my $overview = decode_json(get('?format=json')->{content});
	is(scalar @{ $overview->{targets} }, 7, 'a row for each');
	my %by_name = map { $_->{name} => $_ } @{ $overview->{targets} };
	like($by_name{old}{reason}, qr/has mau 0\.9, and this program needs 1\.0/, 'an old extension');
	like($by_name{'no rights'}{reason}, qr/SQLSTATE 42501/, 'a role without rights');
	like($by_name{silent}{reason}, qr/no connection within 10 s/, 'a database that hangs');
	is($by_name{'a "quoted" \\ name'}{mau}, sql('homeserver', "SELECT mau.monthly_active_count('$AT')"), 'the figure of the first');
	is(get('database/a%20%22quoted%22%20%5C%20name')->{status}, 200, 'its page');
	is(get('database/old')->{status}, 503, 'no page of one that does not answer');
	is(get('healthz')->{status}, 200, 'the server is well while one answers');
	like(get('healthz')->{content}, qr/^old: unreachable$/m, 'and says which does not');
	SKIP:
	{
		skip 'chromium is not installed', 3 unless has_browser();
		my (undef, $console) = browse($url, height => 900, screenshot => "$PostgreSQL::Test::Utils::log_path/fleet.png");
		is($console, '', 'nothing on the console of a browser');
		my ($dom) = browse($url);
		like($dom, qr/data-errors="0"/, 'and no errors');
		like($dom, qr{href="database/a%20%22quoted%22%20%5C%20name"}, 'a link to each page');
	}
	sql('postgres', 'DROP DATABASE empty');
	wait_for(sub { $scrape->() =~ /^mau_target_up\{database="empty"\} 0$/m }, 'a database that goes');
	unlike($scrape->(), qr/^(?!mau_target_).*database="empty"/m, 'takes its figures with it');
	$server->pump_nb;
	like($errors, qr/^mau: empty: .*database "empty" does not exist/m, 'and is reported');
	is(scalar(() = $errors =~ /^mau: old: /mg), 1, 'each trouble is reported once');
	stop();
};

# SIGHUP reads the targets anew.
subtest 'targets that change' => sub {
	my $file = "$folder/changing.yaml";
	my $write = sub { open my $f, '>', $file or die $!; print $f $_[0]; close $f; return };
	my $connection = 'host=' . $node->host . ' port=' . $node->port . ' user=reader';
	my $up = sub { my %up = get('metrics')->{content} =~ /^mau_target_up\{database="(.*)"\} ([01])$/mg; return join ' ', map { "$_=$up{$_}" } sort keys %up };
	my $reported = sub { my ($pattern) = @_; $server->pump_nb; return $errors =~ $pattern };
	$write->("- {name: a, conninfo: $connection dbname=homeserver}\n- {name: b, conninfo: $connection dbname=homeserver}\n");
	serve('--targets', $file);
	wait_for(sub { $up->() eq 'a=1 b=1' }, 'two databases');
	$write->("- {name: b, conninfo: $connection dbname=missing}\n- {name: c, conninfo: $connection dbname=homeserver}\n");
	$server->signal('HUP');
	wait_for(sub { $up->() eq 'b=0 c=1' }, 'one is gone, one is elsewhere, one is new');
	unlike(get('metrics')->{content}, qr/^(?!mau_target_).*database="b"/m, 'the figures of the old place are gone');
	is(get('database/a')->{status}, 404, 'and so is the page of the first');
	for my $case ([ '- {b: [', qr/^mau: \Q$file\E:1: [^\n]+\nHINT: /m ], [ '[]', qr/^mau: \Q$file\E:1: no targets\nHINT: /m ],
		[ "- dbname=a\n- dbname=a host=/tmp\n", qr/^mau: two databases have the name a\nHINT: /m ])
	{
		$write->($case->[0]);
		$server->signal('HUP');
		wait_for(sub { $reported->($case->[1]) }, 'a file that is wrong is reported');
	}
	unlink $file or die $!;
	mkdir $file or die $!;
	$server->signal('HUP');
	wait_for(sub { $reported->(qr/^mau: \Q$file\E: cannot read it: Is a directory\nHINT: /m) }, 'so is a folder');
	rmdir $file or die $!;
	$server->signal('HUP');
	wait_for(sub { $reported->(qr/^mau: \Q$file\E: cannot read it: No such file or directory\nHINT: /m) }, 'and one that is missing');
	is($up->(), 'b=0 c=1', 'and the databases stay as they were');
	# A list that cannot be read keeps its own databases only.
	my $unreachable = "- {name: whole, conninfo: 'host=$folder', databases: all}\n";
	$write->("- {name: d, conninfo: $connection dbname=homeserver}\n$unreachable");
	$server->signal('HUP');
	wait_for(sub { $up->() eq 'd=1 whole=0' }, 'what the file does not name any more is gone, although a server of the file does not answer');
	stop();
};

# The databases of a server's list that have no extension are no targets, at no moment.
subtest 'all databases of a server' => sub {
	my $here = 'host=' . $node->host . ' port=' . $node->port . ' user=reader';
	sql('postgres', 'CREATE DATABASE later');
	my $write = sub { my ($text) = @_; open my $f, '>', "$folder/all.yaml" or die $!; print $f $text; close $f; return };
	# By two addresses, each database has the same name twice.
	$write->("- {conninfo: '$here dbname=postgres', databases: all}\n- {conninfo: '$here dbname=postgres options=-cjit=off', databases: all}\n");
	my ($exit, $out, $err) = run_mau('serve', '--listen', '127.0.0.1:0', '--targets', "$folder/all.yaml");
	like($err, qr/\Amau: two databases have the name (?:homeserver|old)\n/, 'only those count that have the extension');

	$write->("- {conninfo: '$here dbname=postgres', databases: all}\n");
	serve('--targets', "$folder/all.yaml");
	my (%seen, $text);
	wait_for(sub {
		$text = get('metrics')->{content};
		$seen{$_}++ for $text =~ /^mau_target_up\{database="(.*)"\}/mg, map { /^(\S+): / } get('healthz')->{content} =~ /^(.*: .*)$/mg;
		$seen{$_}++ for map { $_->{name} } @{ decode_json(get('?format=json')->{content})->{targets} };
		return $text =~ /^mau_target_up\{database="homeserver"\} 1$/m && $text =~ /^mau_target_up\{database="old"\} 0$/m;
	}, 'those that have it are asked');
	is(join(' ', sort keys %seen), 'homeserver old', 'and no other is named');
	is(get("database/$_")->{status}, 404, "$_ has no page") for qw(postgres later);
	sql('later', "CREATE EXTENSION mau; SELECT mau.grant_to('reader', 'monitoring')");
	$server->signal('HUP');
	wait_for(sub { get('metrics')->{content} =~ /^mau_target_up\{database="later"\} 1$/m }, 'CREATE EXTENSION makes it one');
	sql('later', 'DROP EXTENSION mau CASCADE');
	wait_for(sub { get('metrics')->{content} !~ /database="later"/ }, 'and DROP EXTENSION ends that');
	$server->pump_nb;
	unlike($errors, qr/^mau: (?:postgres|later): /m, 'without a report');
	stop();
	# The database that gave the list is there once, also when it cannot give it any more.
	sql('later', "CREATE EXTENSION mau; SELECT mau.grant_to('reader', 'monitoring')");
	serve('--all', '-d', "$here dbname=later");
	wait_for(sub { (() = get('metrics')->{content} =~ /^mau_target_up\{database="(?:homeserver|later)"\} 1$/mg) == 2 }, 'two databases');
	sql('postgres', 'ALTER DATABASE later ALLOW_CONNECTIONS false');
	$server->signal('HUP');
	wait_for(sub { $server->pump_nb; return (() = $errors =~ /^mau: later: /mg) == 2 }, 'one gives neither figures nor the list');
	is(scalar(() = get('metrics')->{content} =~ /^mau_target_up\{database="later"\}/mg), 1, 'it has one series');
	is(scalar(() = get('healthz')->{content} =~ /^later: /mg), 1, 'one line of health');
	is(scalar(grep { $_->{name} eq 'later' } @{ decode_json(get('?format=json')->{content})->{targets} }), 1, 'and one row');
	like(get('metrics')->{content}, qr/^mau_target_up\{database="homeserver"\} 1$/m, 'the other is still there');
	stop();
	sql('postgres', 'DROP DATABASE later');
	# One that has no figures of its own is there only while it cannot give the list.
	sql('postgres', 'CREATE DATABASE lister');
	serve('--all', '-d', "$here dbname=lister");
	wait_for(sub { get('metrics')->{content} =~ /^mau_target_up\{database="homeserver"\} 1$/m }, 'a list');
	unlike(get('metrics')->{content}, qr/database="lister"/, 'by a database without mau');
	sql('postgres', 'ALTER DATABASE lister ALLOW_CONNECTIONS false');
	$server->signal('HUP');
	wait_for(sub { get('metrics')->{content} =~ /^mau_target_up\{database="lister"\} 0$/m }, 'which cannot be read any more');
	like(get('healthz')->{content}, qr/^lister: unreachable$/m, 'is shown');
	stop();
	sql('postgres', 'DROP DATABASE lister');
};

# New databases are asked at once, the others in turns, so that hundreds of them are no load.
subtest 'the pace' => sub {
	my $here = 'host=' . $node->host . ' port=' . $node->port . ' user=reader dbname=homeserver';
	open my $f, '>', "$folder/thirty.yaml" or die $!;
	print $f "- {name: d$_, conninfo: $here}\n" for 1 .. 30;
	close $f;
	my $log_start = -s $node->logfile;
	serve('--targets', "$folder/thirty.yaml");
	my @asked;
	wait_for(sub {
		my $log = slurp_file($node->logfile, $log_start);
		@asked = ();
		push @asked, 3600 * $1 + 60 * $2 + $3 while $log =~ /^\S+ (\d\d):(\d\d):([\d.]+) [^\n]*execute <unnamed>: \s*SELECT mau\.metrics/mg;
		return @asked >= 60;
	}, 'thirty databases are asked twice');
	my $turns = 0;
	$turns += 3 * $_ < 0.2 ? 3 * $_ : 0.2 for get('metrics')->{content} =~ /^mau_target_scrape_seconds\{.*\} (\S+)$/mg;
	stop();
	my $span = sub { my ($first, $last) = @_; my $seconds = $asked[$last] - $asked[$first]; return $seconds < 0 ? $seconds + 86400 : $seconds };
	cmp_ok($span->(30, 59), '>', $turns / 2, 'the second time in turns, three times as long as an answer');
	cmp_ok($span->(0, 30), '>', 14, 'which is after 15 seconds');
};

subtest 'memory does not grow' => sub {
	serve('-d', $node->connstr('homeserver') . ' user=reader');
	my ($pid) = map { $_->{PID} } @{ $server->{KIDS} };
	my $memory = sub { my ($kb) = slurp_file("/proc/$pid/status") =~ /^VmRSS:\s+(\d+)/m; return $kb };
	get($_) for ('metrics', '') x 100;
	my $before = $memory->();
	# Each thread has an arena of malloc, which grows at first: what is allowed is less than a page for each request.
	get($_) for ('metrics', '') x 300;
	my $pages = 300 * length(get('')->{content}) / 1024;
	cmp_ok($pages, '>', 10_000, 'a page is large enough to show');
	cmp_ok($memory->() - $before, '<', $pages / 4, "300 scrapes and pages keep no memory (of $before kB)");
	stop();
};

subtest 'nothing answers' => sub {
	serve('-d', $node->connstr('missing'));
	wait_for(sub { get('healthz')->{status} == 503 }, '/healthz says so');
	like(get('metrics')->{content}, qr/^mau_target_up\{database="missing"\} 0$/m, 'and the metrics');
	like(get('')->{content}, qr/database "missing" does not exist\nHINT: /, 'and the page');
	stop();
	my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "no socket: $!";
	$server = IPC::Run::start([ mau_program(), 'serve', '--all', '--timeout', '60', '--listen', '127.0.0.1:0', '-d', 'host=127.0.0.1 port=' . $silent->sockport ],
		'<', '/dev/null', '>', \$output, '2>', \$errors);
	my $waiting = $silent->accept;
	ok($waiting, 'while it waits for the first list of databases');
	stop();
	append_to_file("$folder/twice.yaml", "- dbname=a\n- dbname=a host=/tmp\n");
	my ($exit, $out, $err) = run_mau('serve', '--listen', '127.0.0.1:0', '--targets', "$folder/twice.yaml");
	is($exit, 2, 'two targets of one name');
	like($err, qr/\Amau: two databases have the name a\nHINT: [^\n]+\n\z/, 'a line and a hint');
};

$node->stop;
done_testing();
