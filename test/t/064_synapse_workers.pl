# A real Synapse (Debian's) with a worker process and Redis on a throw-away cluster. After requests over HTTP to both processes, mau's
# figures are those of Synapse's own gauges and usage statistics at the same instant: attached to Synapse's tables, with Synapse's background
# tasks in the main process; and called by doc/examples/mau_synapse.py, with the background tasks in the worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use MauSynapse;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Returns the name of a missing package, or ''.
sub missing
{
	return 'redis-server'    unless grep { -x "$_/redis-server" } split /:/, $ENV{PATH};
	return 'python3-hiredis' unless system(q{/usr/bin/python3 -c 'import hiredis' >/dev/null 2>&1}) == 0;
	return '';
}

my $missing = synapse_missing() || missing();
plan skip_all => "no real Synapse with workers here: $missing is missing (test/setup homeservers installs it where Debian has it)" if $missing;

# The bound of the whole test.
$SIG{ALRM} = sub { die 'not done within five minutes' };
alarm 300;

my $node   = synapse_cluster('synapse_workers');
my $folder = synapse_folder();
write_bridge($_) for 'irc', 'xmpp';

# --- The accounts: made once in a single process, then older than the trial, all but one --------------------------

# The clients by user. Every user but these has a browser.
my %agent = (
	android  => 'Element/1.6.20 (Google Pixel 8; Android 14; MatrixAndroidSdk2 1.6.20)',
	ios      => 'Element/1.11.2 (iPhone15,2; iOS 17.1; Scale/3.00)',
	electron => 'Mozilla/5.0 (X11; Linux x86_64) Element/1.11.80 Chrome/128.0 Electron/32.0 Safari/537.36',
	other    => 'curl/8.9.0',
);
my $proxy_agent = 'sync-v3-proxy-';    # Synapse does not count its requests
my @natives = ('web', keys %agent, 'sliding', 'main', 'trial', 'reserved', 'idle', 'leaver', 'expelled', 'locked', 'locked_before', 'puppeted',
	'proxied', 'visitor', 'visitor_too');

write_config('base', "mau_stats_only: true\n");
start_synapse();
pass('Synapse runs');
my %token = map { ($_ => "${_}_token") } 'irc', 'xmpp';
must(register_with_secret('admin'));
must(register_with_secret($_, $_)) for 'support', 'bot';
must(register($_)) for @natives;
$token{$_} = must(login($_))->{access_token} for 'admin', 'support', 'bot', @natives;
must(register_bridge($_)) for 'irc_one', 'irc_two', 'xmpp_one', 'xmpp_idle';
$token{guest} = must(register_guest())->{access_token};
my $guest = must('GET', "$CLIENT/account/whoami", $token{guest})->{user_id};
must('PUT', "$ADMIN/v2/users/\@reserved:example.com", $token{admin}, { threepids => [ { medium => 'email', address => 'boss@example.com' } ] });
must('PUT', "$ADMIN/v2/users/\@locked_before:example.com", $token{admin}, { locked => JSON::PP::true });
$token{puppet} = must('POST', "$ADMIN/v1/users/\@puppeted:example.com/login", $token{admin}, {})->{access_token};
stop_synapse();
$node->safe_psql('base', q{
	UPDATE users SET creation_ts = creation_ts - 8640000 WHERE name <> '@trial:example.com';
	TRUNCATE user_ips, monthly_active_users, user_daily_visits});

# --- Synapse with a worker -----------------------------------------------------------------------------------------

my ($redis_port, $report_port) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;

# Receives Synapse's usage statistics.
my $receiver = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => $report_port, ReuseAddr => 1) or die $!;

# Synapse checks the version of the package that test/synapse/txredisapi.py stands for.
mkdir "$folder/txredisapi-1.4.7.dist-info" or die $!;
write_file('txredisapi-1.4.7.dist-info/METADATA', "Metadata-Version: 2.1\nName: txredisapi\nVersion: 1.4.7\n");

sub write_workers_config
{
	my ($database, $background, $modules, $more) = @_;
	my $replication = synapse_port('replication');
	my $all = join ', ', '{ module: run_loops.RunLoops, config: {} }', @$modules;
	my $where = $background eq 'main' ? '' : "run_background_tasks_on: $background\n";
	write_config($database, <<"END" . $where . $more);
redis: { enabled: true, host: 127.0.0.1, port: $redis_port }
instance_map: { main: { host: 127.0.0.1, port: $replication } }
worker_replication_secret: replication
enable_metrics: true
report_stats: true
report_stats_endpoint: http://127.0.0.1:$report_port/report
mau_trial_days: 3
modules: [$all]
END
	return;
}

sub start_all
{
	start_process('redis', 'redis-server', '--bind', '127.0.0.1', '--port', $redis_port, '--save', '', '--dir', $folder);
	start_synapse(workers => 1);
	start_worker('worker');
	return;
}

# Receives the next usage statistics.
sub receive_report
{
	IO::Select->new($receiver)->can_read(60) or die 'Synapse does not report usage statistics';
	my $socket = $receiver->accept or die $!;
	my ($length, $body) = (0, '');
	while (defined(my $line = <$socket>))
	{
		$length = $1 if $line =~ /^content-length:\s*(\d+)/i;
		last if $line =~ /^\r?\n$/;
	}
	read $socket, $body, $length;
	print $socket "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
	close $socket;
	return decode_json($body);
}

# The gauges about users in Prometheus's text format: { 'name{labels}' => value }.
sub gauges
{
	my ($text) = @_;
	my %gauges;
	for (split /\n/, $text)
	{
		next unless /^(synapse_admin_\w+|synapse_non_deactivated_user_count)(?:\{(.*)\})? (\S+)$/;
		$gauges{ "$1\{" . join(',', sort split /,/, $2 // '') . '}' } = $3 + 0;
	}
	return \%gauges;
}

# --- The requests ---------------------------------------------------------------------------------------------------

sub sql  { return $node->safe_psql($_[0], $_[1]) }
sub user { my ($name) = @_; return $name eq 'guest' ? $guest : "\@$name:example.com" }

my $sliding_sync = '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0';

sub sync_at { my ($process, $name) = @_; return must_at($process, 'GET', "$CLIENT/sync?timeout=0", $token{$name}, undef, $agent{$name}) }

sub as_bridged
{
	my ($process, $id, $name) = @_;
	return must_at($process, 'GET', "$CLIENT/account/whoami?user_id=\@$name:example.com", $token{$id});
}

# Requests to both processes. Returns the names of the users who were active, those of bridges only if Synapse records them.
sub first_requests
{
	my ($bridges) = @_;
	sync_at('worker', $_) for 'web', keys %agent, 'trial', 'reserved', 'guest', 'support', 'bot', 'leaver', 'expelled';
	sync_at('main', $_) for 'main', 'locked';
	must_at('worker', 'POST', $sliding_sync, $token{sliding}, { lists => {} });
	must_at('worker', 'GET', "$CLIENT/sync?timeout=0", $token{proxied}, undef, $proxy_agent);
	my $room = must_at('worker', 'POST', "$CLIENT/createRoom", $token{web}, {})->{room_id};
	$room =~ s/([!:])/sprintf '%%%02X', ord $1/ge;
	must_at('worker', 'PUT', "$CLIENT/rooms/$room/send/m.room.message/1", $token{web}, { msgtype => 'm.text', body => 'Hello' });
	as_bridged('worker', 'irc', 'irc_one');
	as_bridged('main', 'xmpp', 'xmpp_one');
	return ('web', keys %agent, 'trial', 'reserved', 'guest', 'support', 'bot', 'leaver', 'expelled', 'main', 'locked', 'sliding',
		$bridges ? ('irc_one', 'xmpp_one') : ());
}

# The same, after the first requests.
sub second_requests
{
	my ($database, $bridges) = @_;
	is((request_at('worker', 'GET', "$CLIENT/sync?timeout=0", $token{locked_before}))[0], 401, "$database: a locked user is refused");
	must('PUT', "$ADMIN/v2/users/\@locked:example.com", $token{admin}, { locked => JSON::PP::true });
	is((request_at('worker', 'GET', "$CLIENT/sync?timeout=0", $token{locked}))[0], 401, "$database: and one who is locked later");
	must('POST', "$CLIENT/account/deactivate", $token{leaver},
		{ auth => { type => 'm.login.password', identifier => { type => 'm.id.user', user => 'leaver' }, password => 'secret' } });
	must('POST', "$ADMIN/v1/deactivate/\@expelled:example.com", $token{admin}, { erase => JSON::PP::false });
	# An administrator acts as a user. Both are active otherwise, too.
	sync_at('worker', $_) for 'puppet', 'puppeted';
	# Accounts that are made now, through the worker.
	for my $name ('new', 'new_too')
	{
		$token{$name} = must_at('worker', register($name))->{access_token};
		sync_at('worker', $name);
	}
	must_at('worker', login('new'));
	must_at('worker', register_bridge('irc_new'));
	must_at('worker', register_guest());
	as_bridged('worker', 'irc', $_) for 'irc_new', 'irc_two', 'irc';
	# The same again, in the other process.
	sync_at('main', $_) for 'web', 'android', 'guest';
	must('POST', $sliding_sync, $token{sliding}, { lists => {} });
	return ('admin', 'puppeted', 'new', 'new_too', $bridges ? ('irc_new', 'irc_two', 'irc') : ());
}

# Waits until Synapse has written that these users are active.
sub wait_for_user_ips
{
	my ($database, @names) = @_;
	my $users = join ', ', map { "'" . user($_) . "'" } @names;
	ok($node->poll_query_until($database, "SELECT count(DISTINCT user_id) = " . scalar(@names) . " FROM user_ips
		WHERE user_id IN ($users) AND last_seen > (extract(epoch FROM now()) - 3600) * 1000"), "$database: Synapse has written the activity of everybody");
	return;
}

# Has Synapse refresh and report its figures. Returns its gauges and its usage statistics.
sub figures_of_synapse
{
	my ($background) = @_;
	my $done = must_at($background, 'POST', '/_test/run_loops', undef, {})->{done};
	is(scalar @$done, 6, 'Synapse refreshes its figures') or diag "@$done";
	my $report = receive_report();
	return (gauges(must_at($background, 'GET', '/_synapse/metrics')), $report);
}

# Compares mau's figures with Synapse's. Returns Synapse's usage statistics.
sub compare_figures
{
	my ($database, $background) = @_;
	my ($gauges, $report) = figures_of_synapse($background);
	cmp_ok($gauges->{'synapse_admin_mau_current{server_name="example.com"}'}, '>', 10, "$database: Synapse counts active users");
	sql($database, 'SELECT mau.refresh()');
	is_deeply(gauges(sql($database, 'SELECT mau.metrics()')), $gauges, "$database: the gauges are the same")
	  or diag "mau:\n" . sql($database, 'SELECT mau.metrics()');
	my $usage = decode_json(sql($database, 'SELECT mau.usage_statistics()'));
	delete @$usage{ grep { /^r30_/ } keys %$usage };    # Synapse no longer has them
	is_deeply($usage, { map { ($_ => $report->{$_}) } keys %$usage }, "$database: the usage statistics are the same");
	note "$database: ", JSON::PP->new->canonical->encode($gauges);
	note "$database: ", JSON::PP->new->canonical->encode($usage);
	return $report;
}

sub has_no_errors
{
	my ($database) = @_;
	is(join("\n", grep { /Traceback|mau cannot be asked/ } split /\n/, log_of($_)), '', "$database: the log of $_ has no error")
	  for 'main', 'worker';
	return;
}

# --- Attached: the background tasks are in the main process ---------------------------------------------------------

sub database
{
	my ($name) = @_;
	sql('postgres', "CREATE DATABASE $name TEMPLATE base OWNER synapse");
	sql($name, q{UPDATE mau.settings SET server_name = 'example.com', mau_trial_days = 3});
	return $name;
}

my $attached = database('attached');
sql($attached, q{
	UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 100, track_appservice_user_ips = true;
	INSERT INTO mau.reserved_threepids VALUES ('email', 'boss@example.com');
	-- Users whose last activity is 10 and 40 days old; below, users with a visit 40 days ago who are active today, too.
	INSERT INTO user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
		SELECT user_id, 'token', 'DEVICE', '127.0.0.1', 'Mozilla/5.0', (extract(epoch FROM now()) - days * 86400)::bigint * 1000
		FROM (VALUES ('@idle:example.com', 10), ('@xmpp_idle:example.com', 10), ('@puppeted:example.com', 40)) old(user_id, days);
	INSERT INTO monthly_active_users SELECT user_id, last_seen FROM user_ips;
	INSERT INTO user_daily_visits (user_id, device_id, "timestamp", user_agent)
		SELECT user_id, device_id, last_seen / 86400000 * 86400000, user_agent FROM user_ips WHERE user_id !~ 'xmpp'});
for my $name ('web', keys %agent, 'support', 'bot', 'idle')
{
	my $user_agent = $agent{$name} // 'Mozilla/5.0';
	sql($attached, qq{INSERT INTO user_daily_visits (user_id, device_id, "timestamp", user_agent)
		SELECT '\@$name:example.com', 'DEVICE', (floor(extract(epoch FROM now()) / 86400) - 40)::bigint * 86400000, '$user_agent'});
}
write_workers_config($attached, 'main', [], <<'END');
limit_usage_by_mau: true
max_mau_value: 100
mau_limit_reserved_threepids: [{ medium: email, address: boss@example.com }]
track_appservice_user_ips: true
END
start_all();
sql($attached, q{SELECT mau.attach('synapse')});
my @active = first_requests(1);
sql($attached, 'SELECT mau.sync()');
push @active, second_requests($attached, 1);
sql($attached, 'SELECT mau.sync()');
wait_for_user_ips($attached, @active);
sql($attached, 'SELECT mau.sync()');
my $report = compare_figures($attached, 'main');
my $differences = sql($attached, q{SELECT * FROM mau.compare() WHERE unexplained <> 0 OR unexplained IS NULL});
is($differences, '', "$attached: compare explains each difference");
note sql($attached, 'SELECT * FROM mau.compare()');
is(sql($attached, q{SELECT count(*) FROM mau.compare() WHERE mau <> server AND figure <> 'monthly active users beside all users seen'}), 0,
	"$attached: and finds none but users who do not count");
is(sql($attached, q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM mau.monthly_active_users}),
	sql($attached, q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM monthly_active_users}), "$attached: the members are the same");
sql($attached, 'SELECT mau.fold()');
is_deeply(decode_json(sql($attached, q{SELECT json_object_agg('r30v2_users_' || client, users) FROM mau.r30v2()})),
	{ map { ($_ => $report->{$_}) } grep { /^r30v2/ } keys %$report }, "$attached: r30v2 from the history is the same");
is(sql($attached, 'SELECT health FROM mau.health()'), 'off', "$attached: healthy, without a worker of mau");
has_no_errors($attached);
stop_synapse();

# --- The module: the background tasks are in the worker -----------------------------------------------------------

my $module = database('module');
write_workers_config($module, 'worker', ['{ module: mau_synapse.MauModule, config: {} }'], "mau_stats_only: true\n");
start_all();
ok($node->poll_query_until($module, q{SELECT NOT EXISTS (SELECT FROM users u WHERE deactivated = 0
	AND NOT EXISTS (SELECT FROM mau.users k WHERE k.user_id = u.name AND k.is_registered))}), "$module: reports the accounts when Synapse starts");
delete @token{ 'new', 'new_too' };
@active = (first_requests(0), second_requests($module, 0));
wait_for_user_ips($module, @active);
compare_figures($module, 'worker');
is(sql($module, q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM mau.monthly_active_users}),
	sql($module, q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM monthly_active_users}), "$module: the members are the same");
is(sql($module, q{SELECT string_agg(name, ' ') FROM users u WHERE deactivated = 0
	AND NOT EXISTS (SELECT FROM mau.users k WHERE k.user_id = u.name AND k.is_registered)}), '', "$module: knows the accounts that the worker made");

# Where the module counts otherwise, as doc/calling.md says.
must_at('worker', login('idle'));
must('POST', "$CLIENT/logout", $token{visitor}, {});
wait_for_user_ips($module, 'visitor');
is(sql($module, 'SELECT user_id FROM mau.monthly_active_users EXCEPT SELECT user_id FROM monthly_active_users'), '@idle:example.com',
	"$module: differs: a login counts, even if no request follows");
is(sql($module, 'SELECT user_id FROM monthly_active_users EXCEPT SELECT user_id FROM mau.monthly_active_users'), '@visitor:example.com',
	"$module: differs: logging out does not count");

# Each process keeps the limit.
sql($module, q{UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = (SELECT mau.monthly_active_count())});
for my $process ('main', 'worker')
{
	my ($status, $body) = request_at($process, 'GET', "$CLIENT/sync?timeout=0", $token{visitor_too});
	is("$status $body->{errcode}", '403 M_RESOURCE_LIMIT_EXCEEDED', "$module: $process refuses a newcomer while the server is full");
	is((request_at($process, register("late_$process")))[0], 403, "$module: $process refuses a registration");
	sync_at($process, 'ios');
}
has_no_errors($module);
stop_synapse();

$node->stop;
done_testing();
