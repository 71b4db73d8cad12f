package MauSynapse;

# A real Synapse (Debian's): its configuration, its processes, and requests to it. Its database is in a throw-away cluster, it listens
# on 127.0.0.1 and keeps its files in the test's folder; its processes are the test's own, not the package's service.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha1_hex);
use Exporter 'import';
use FindBin;
use HTTP::Tiny;
use JSON::PP;
use MauProcess;
use POSIX qw(:sys_wait_h);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

our @EXPORT = qw($CLIENT $ADMIN synapse_missing synapse_cluster synapse_folder synapse_port write_file write_bridge write_config
  start_process start_synapse start_worker stop_synapse log_of request must request_at must_at register_with_secret register
  register_with_email register_guest register_bridge login);

our $CLIENT = '/_matrix/client/v3';
our $ADMIN  = '/_synapse/admin';

my $python = '/usr/bin/python3';
my ($node, $folder);
my @bridges;
my (%port, %pid);    # by process: `main`, the names of workers, and other programs
my @running;         # the processes in the order of their start

sub synapse_folder { return $folder }

# The port of a process.
sub synapse_port { my ($process) = @_; return $port{$process} //= PostgreSQL::Test::Cluster::get_free_port() }

# Returns the name of a missing package, or ''.
sub synapse_missing
{
	return 'python3'          unless -x $python;
	return 'matrix-synapse'   unless -e '/usr/lib/python3/dist-packages/synapse/app/homeserver.py';
	return 'python3-psycopg2' unless system("$python -c 'import psycopg2' >/dev/null 2>&1") == 0;
	return '';
}

# --- Its database and its files ------------------------------------------------------------------------------------

# Starts a cluster with the database `base`: it has mau, belongs to Synapse's role, and that role may call mau.
sub synapse_cluster
{
	my ($name) = @_;
	$folder = PostgreSQL::Test::Utils::tempdir;
	$node   = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.databases = ''\nlog_statement = 'all'\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE synapse LOGIN; CREATE DATABASE base OWNER synapse');
	$node->safe_psql('base', q{CREATE EXTENSION mau; SELECT mau.grant_to('synapse')});
	return $node;
}

sub write_file
{
	my ($name, $content) = @_;
	open my $file, '>', "$folder/$name" or die $!;
	print $file $content;
	close $file;
	return;
}

# Declares a bridge to Synapse: its users are @ID_…, its token is ID_token. To be called before write_config.
sub write_bridge
{
	my ($id) = @_;
	write_file("$id.yaml", <<"END");
id: $id
url: null
as_token: ${id}_token
hs_token: ${id}_homeserver_token
sender_localpart: $id
rate_limited: false
namespaces: { users: [{ exclusive: true, regex: '\@${id}_.*' }], rooms: [], aliases: [] }
END
	push @bridges, "$folder/$id.yaml";
	return;
}

# Writes the configuration of all processes.
sub write_config
{
	my ($database, $more) = @_;
	my ($pg_host, $pg_port, $main) = ($node->host, $node->port, synapse_port('main'));
	my $bridges   = join ', ', @bridges;
	$more .= "report_stats: false\n" unless $more =~ /^report_stats:/m;
	my $unlimited = '{ per_second: 100000, burst_count: 100000 }';
	write_file('signing.key', 'ed25519 a_test ' . 'A' x 43 . "\n");
	write_file('homeserver.yaml', <<"END" . $more);
server_name: example.com
public_baseurl: http://127.0.0.1:$main/
pid_file: $folder/synapse.pid
database: { name: psycopg2, args: { user: synapse, dbname: $database, host: '$pg_host', port: $pg_port, cp_min: 1, cp_max: 5 } }
log_config: $folder/main.log.yaml
signing_key_path: $folder/signing.key
macaroon_secret_key: macaroons
form_secret: forms
registration_shared_secret: registration
enable_registration: true
enable_registration_without_verification: true
allow_guest_access: true
enable_media_repo: false
bcrypt_rounds: 4
trusted_key_servers: []
email: { smtp_host: 127.0.0.1, smtp_port: 9, notif_from: 'Test <test\@example.com>' }
app_service_config_files: [$bridges]
rc_message: $unlimited
rc_registration: $unlimited
rc_login: { address: $unlimited, account: $unlimited, failed_attempts: $unlimited }
rc_joins: { local: $unlimited, remote: $unlimited }
rc_room_creation: $unlimited
END
	return;
}

# --- Its processes -------------------------------------------------------------------------------------------------

my $http = HTTP::Tiny->new(proxy => undef, http_proxy => undef, timeout => 60);

# Starts a program in the folder, with its output in NAME.out. It is ended with the test.
sub start_process
{
	my ($name, @command) = @_;
	$pid{$name} = fork // die $!;
	if ($pid{$name})
	{
		push @running, $name;
		return;
	}
	open STDOUT, '>', "$folder/$name.out" or POSIX::_exit(1);
	open STDERR, '>&', \*STDOUT or POSIX::_exit(1);
	chdir $folder or POSIX::_exit(1);
	my $root = "$FindBin::RealBin/../..";
	$ENV{PYTHONPATH} = "$root/doc/examples:$root/test/synapse:$folder";
	$ENV{PYTHONDONTWRITEBYTECODE} = 1;
	delete @ENV{qw(http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY)};
	{ no warnings 'exec'; exec @command }
	print "$command[0]: $!\n";
	POSIX::_exit(1);
}

# Starts a process of Synapse, and waits until it answers.
sub start_synapse_process
{
	my ($name, $app, @configs) = @_;
	my $port = synapse_port($name);
	unlink "$folder/$name.log";
	write_file("$name.log.yaml", <<"END");
version: 1
formatters: { plain: { format: '%(asctime)s %(levelname)s %(name)s %(message)s' } }
handlers: { file: { class: logging.FileHandler, filename: $folder/$name.log, formatter: plain } }
root: { level: INFO, handlers: [file] }
disable_existing_loggers: false
END
	start_process($name, $python, '-m', $app, map { ('-c', "$folder/$_") } 'homeserver.yaml', @configs);
	for (1 .. 900)
	{
		return 1 if $http->get("http://127.0.0.1:$port/_matrix/client/versions")->{success};
		if (waitpid($pid{$name}, WNOHANG) != 0)
		{
			pop @running;
			last;
		}
		sleep 0.2;
	}
	diag slurp_file("$folder/$name.out");
	diag log_of($name);
	die "Synapse ($name) does not start";
}

sub listener
{
	my ($name, $resources) = @_;
	return "{ port: " . synapse_port($name) . ", type: http, bind_addresses: ['127.0.0.1'], resources: [{ names: [$resources] }] }";
}

# Starts the main process. With workers, it also listens for them.
sub start_synapse
{
	my (%params) = @_;
	my $listeners = join ', ', listener('main', 'client, metrics'), $params{workers} ? listener('replication', 'replication') : ();
	write_file('main.yaml', "listeners: [$listeners]\n");
	return start_synapse_process('main', 'synapse.app.homeserver', 'main.yaml');
}

sub start_worker
{
	my ($name) = @_;
	my $listener = listener($name, 'client, metrics');
	write_file("$name.yaml", <<"END");
worker_app: synapse.app.generic_worker
worker_name: $name
worker_listeners: [$listener]
worker_log_config: $folder/$name.log.yaml
END
	return start_synapse_process($name, 'synapse.app.generic_worker', "$name.yaml");
}

# Ends all processes, the last one first.
sub stop_synapse
{
	while (my $name = pop @running)
	{
		end_process($pid{$name});
	}
	return;
}
END { my $status = $?; stop_synapse(); $? = $status }

sub log_of { my ($name) = @_; return -e "$folder/$name.log" ? slurp_file("$folder/$name.log") : '' }

# --- Requests ------------------------------------------------------------------------------------------------------

# Sends a request to a process; returns the status and the decoded body.
sub request_at
{
	my ($process, $method, $path, $token, $body, $agent) = @_;
	my %options = (headers => { 'User-Agent' => $agent // 'Mozilla/5.0' });
	$options{headers}{Authorization} = "Bearer $token" if $token;
	if ($body)
	{
		$options{headers}{'Content-Type'} = 'application/json';
		$options{content} = encode_json($body);
	}
	my $answer = $http->request($method, 'http://127.0.0.1:' . synapse_port($process) . $path, \%options);
	return ($answer->{status}, eval { decode_json($answer->{content}) } // $answer->{content});
}

# Sends a request that must succeed; returns the body.
sub must_at
{
	my ($status, $body) = request_at(@_);
	die "$_[0]: $_[1] $_[2]: $status " . JSON::PP->new->canonical->allow_nonref->encode($body) unless $status =~ /^20/;
	return $body;
}

# The same to the main process.
sub request { return request_at('main', @_) }
sub must    { return must_at('main', @_) }

# The functions below return requests.

sub register_with_secret
{
	my ($name, $user_type) = @_;
	my $nonce = must('GET', "$ADMIN/v1/register")->{nonce};
	my $mac = hmac_sha1_hex(join("\0", $nonce, $name, 'secret', $name eq 'admin' ? 'admin' : 'notadmin', $user_type // ()), 'registration');
	return ('POST', "$ADMIN/v1/register", undef, { nonce => $nonce, username => $name, password => 'secret', mac => $mac,
			admin => $name eq 'admin' ? JSON::PP::true : JSON::PP::false, $user_type ? (user_type => $user_type) : () });
}

sub register { return ('POST', "$CLIENT/register", undef, { username => $_[0], password => 'secret', auth => { type => 'm.login.dummy' } }) }

# The address is validated as if somebody had followed the link that Synapse sent by e-mail.
sub register_with_email
{
	my ($database, $name, $address) = @_;
	$node->safe_psql($database, qq{INSERT INTO threepid_validation_session VALUES
		('session_$name', 'email', '$address', 'secret_$name', 1, extract(epoch FROM now()) * 1000)});
	return ('POST', "$CLIENT/register", undef, { username => $name, password => 'secret',
			auth => { type => 'm.login.email.identity', threepid_creds => { sid => "session_$name", client_secret => "secret_$name" } } });
}

sub register_guest { return ('POST', "$CLIENT/register?kind=guest", undef, {}) }

# A user ID_… of the bridge ID.
sub register_bridge
{
	my ($name) = @_;
	my ($id) = $name =~ /^([a-z]+)_/;
	return ('POST', "$CLIENT/register", "${id}_token", { type => 'm.login.application_service', username => $name });
}

sub login
{
	my ($name, $type) = @_;
	my ($id) = $name =~ /^([a-z]+)_/;
	return ('POST', "$CLIENT/login", $type ? "${id}_token" : undef, { type => $type // 'm.login.password', password => 'secret',
			identifier => { type => 'm.id.user', user => $name } });
}

1;
