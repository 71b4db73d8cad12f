# A real Synapse (Debian's) on a throw-away cluster. Its own limit, and then doc/examples/mau_synapse.py with its own limit off, get the
# same requests over HTTP, from the same accounts, in the same states of the server: statuses and bodies are the same, and so are the
# members afterwards.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use MauSynapse;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $missing = synapse_missing();
plan skip_all => "no real Synapse here: $missing is missing (test/setup homeservers installs it where Debian has it)" if $missing;

my $node = synapse_cluster('synapse_live');
write_bridge('bridge');

# --- The accounts: made once, then older than the trial, all but one --------------------------------------------

write_config('base', '');
start_synapse();
pass('Synapse runs');

my %token = (bridge => 'bridge_token');
must(register_with_secret('admin'));
must(register_with_secret('support', 'support'));
must(register($_)) for 'newcomer', 'member', 'trial', 'idle';
$token{$_} = must(login($_))->{access_token} for 'admin', 'newcomer', 'member', 'trial', 'idle', 'support';
must('PUT', "$ADMIN/v2/users/\@made:example.com", $token{admin}, { password => 'secret' });
must('PUT', "$ADMIN/v2/users/\@reserved:example.com", $token{admin},
	{ password => 'secret', threepids => [ { medium => 'email', address => 'boss@example.com' } ] });
$token{$_} = must(login($_))->{access_token} for 'made', 'reserved';
must(register_bridge('bridge_one'));
$token{guest}  = must(register_guest())->{access_token};
$token{puppet} = must('POST', "$ADMIN/v1/users/\@newcomer:example.com/login", $token{admin}, {})->{access_token};
my $room = must('POST', "$CLIENT/createRoom", $token{admin}, { preset => 'public_chat',
		initial_state => [ { type => 'm.room.guest_access', state_key => '', content => { guest_access => 'can_join' } } ] })->{room_id};
$room =~ s/([!:])/sprintf '%%%02X', ord $1/ge;

sub as { my ($kind) = @_; return $kind eq 'bridge' ? 'user_id=@bridge_one:example.com' : '' }
must('POST', "$CLIENT/join/$room?" . as($_), $token{$_}, {}) for 'newcomer', 'member', 'trial', 'idle', 'support', 'made', 'reserved', 'bridge', 'guest';
# Somebody who sends no request later, and gets push notifications (which nobody receives).
must('POST', "$CLIENT/pushers/set", $token{idle}, { pushkey => 'key', kind => 'http', app_id => 'app', app_display_name => 'App',
		device_display_name => 'Device', lang => 'en', data => { url => 'http://127.0.0.1:9/_matrix/push/v1/notify' } });
stop_synapse();
$node->safe_psql('base', q{UPDATE users SET creation_ts = creation_ts - 8640000 WHERE name <> '@trial:example.com'});

# --- Both ways in each state of the server -----------------------------------------------------------------------

my $limit    = 'mau_trial_days = 3, admin_contact = \'mailto:admin@example.com\', limit_usage_by_mau = true';
my $reserved = 'mau_limit_reserved_threepids: [{ medium: email, address: boss@example.com }, { medium: email, address: second@example.com }]';
my $common   = "mau_trial_days: 3\nadmin_contact: 'mailto:admin\@example.com'\n$reserved\n";
my %states   = (
	open   => { synapse => "limit_usage_by_mau: true\nmax_mau_value: 100\n", mau => "$limit, max_mau_value = 100" },
	full   => { synapse => "limit_usage_by_mau: true\nmax_mau_value: 3\n",   mau => "$limit, max_mau_value = 3" },
	closed => {
		synapse => "hs_disabled: true\nhs_disabled_message: Closed today\n",
		mau     => q{hs_disabled = true, hs_disabled_message = 'Closed today', admin_contact = 'mailto:admin@example.com', mau_trial_days = 3} },
);

# The puppet is the newcomer, with a token that an administrator has made.
my @kinds    = ('newcomer', 'member', 'trial', 'support', 'guest', 'bridge', 'made', 'reserved', 'puppet');
my @requests = ('register', 'login', 'whoami', 'sync', 'sliding sync', 'send', 'createRoom');

# How an account of each kind is registered. A member registers by the shared secret, a trial user with an address that is not reserved.
my %registration = (
	newcomer => sub { register('new_newcomer') },
	member   => sub { register_with_secret('new_member') },
	trial    => sub { register_with_email($_[0], 'new_trial', 'anybody@example.com') },
	support  => sub { register_with_secret('new_support', 'support') },
	guest    => sub { register_guest() },
	bridge   => sub { register_bridge('bridge_new') },
	made     => sub { ('PUT', "$ADMIN/v2/users/\@new_made:example.com", $token{admin}, { password => 'secret' }) },
	reserved => sub { register_with_email($_[0], 'new_reserved', 'second@example.com') },
);

sub request_of
{
	my ($database, $kind, $what) = @_;
	my ($token, $as) = ($token{$kind}, as($kind));
	return $registration{$kind}->($database) if $what eq 'register';
	return $kind eq 'bridge' ? login('bridge_one', 'm.login.application_service') : login($kind) if $what eq 'login';
	return ('GET',  "$CLIENT/account/whoami?$as", $token)      if $what eq 'whoami';
	return ('GET',  "$CLIENT/sync?timeout=0&$as", $token)      if $what eq 'sync';
	return ('POST', "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?timeout=0&$as", $token, { lists => {} }) if $what eq 'sliding sync';
	return ('PUT', "$CLIENT/rooms/$room/send/m.room.message/$kind?$as", $token, { msgtype => 'm.text', body => 'Hello' }) if $what eq 'send';
	return ('POST', "$CLIENT/createRoom?$as", $token, {});
}

# The answer in words: of a refusal the status and the body, of another answer the status and the names of what it has.
sub in_words
{
	my ($status, $body) = @_;
	my $json = JSON::PP->new->canonical->allow_nonref;
	return "$status " . ($status =~ /^2/ && ref $body eq 'HASH' ? join ' ', sort keys %$body : $json->encode($body));
}

# The answers to all requests in the server that runs: { kind => { request => answer } }.
sub cells
{
	my ($database) = @_;
	my %cells;
	for my $kind (@kinds)
	{
		for my $what (@requests)
		{
			next if $kind eq 'puppet' && $what =~ /^(register|login)$/;
			$cells{$kind}{$what} = in_words(request(request_of($database, $kind, $what)));
		}
	}
	return \%cells;
}

# Before a server starts: its database as after the preparation, with two members.
sub prepare
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE base OWNER synapse");
	for my $name ('member', 'admin')
	{
		$node->safe_psql($database, qq{
			INSERT INTO monthly_active_users VALUES ('\@$name:example.com', extract(epoch FROM now()) * 1000);
			SELECT mau.record_activity('\@$name:example.com')});
	}
	return;
}

# How often a text is in the log of PostgreSQL.
sub statements { my ($text) = @_; my $found = () = slurp_file($node->logfile) =~ /\Q$text\E/g; return $found }

my (%own, %module, %members);
for my $state ('open', 'full', 'closed')
{
	prepare("own_$state");
	write_config("own_$state", $common . $states{$state}{synapse});
	start_synapse();
	$own{$state} = cells("own_$state");
	stop_synapse();
	$members{$state}{own} = $node->safe_psql("own_$state", q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM monthly_active_users});

	my $database = "module_$state";
	prepare($database);
	$node->safe_psql($database, qq{UPDATE mau.settings SET $states{$state}{mau};
		INSERT INTO mau.reserved_threepids VALUES ('email', 'boss\@example.com'), ('email', 'second\@example.com')});
	write_config($database, "mau_stats_only: false\nmodules: [{ module: mau_synapse.MauModule, config: {} }]\n");
	start_synapse();
	ok($node->poll_query_until($database, q{
		SELECT NOT EXISTS (SELECT FROM users u WHERE NOT EXISTS (SELECT FROM mau.users k WHERE k.user_id = u.name AND k.is_registered))
		AND EXISTS (SELECT FROM mau.user_threepids WHERE address = 'boss@example.com')}), "$state: the module reports the accounts when it starts");
	$module{$state} = cells($database);
	is(join("\n", grep { /mau cannot be asked/ } split /\n/, log_of('main')), '', "$state: the rights of mau.grant_to suffice");

	if ($state eq 'open')
	{
		my $before  = statements(q{mau.admit('@member:});
		my $started = time;
		for (1 .. 10)
		{
			must('GET', "$CLIENT/account/whoami",    $token{member});
			must('GET', "$CLIENT/sync?timeout=0",    $token{member});
		}
		cmp_ok(statements(q{mau.admit('@member:}) - $before, '<=', 1 + int((time - $started) / 60), 'a member is asked about once a minute');
	}
	if ($state eq 'full')
	{
		# As if the extension were away, or the right to use it.
		my $started = time;
		$node->safe_psql($database, 'ALTER SCHEMA mau RENAME TO away');
		is((request('GET', "$CLIENT/sync?timeout=0", $token{newcomer}))[0], 200, 'a newcomer is let in while mau cannot be asked');
		is((request(login('newcomer')))[0],                                  200, 'and logs in') for 1 .. 3;
		is((request(register('while_away')))[0],                             200, 'and one registers');
		my $warnings = () = log_of('main') =~ /mau cannot be asked/g;
		ok($warnings >= 1 && $warnings <= 1 + int((time - $started) / 60), "which is logged once a minute ($warnings)");
		$node->safe_psql($database, 'ALTER SCHEMA away RENAME TO mau');
	}
	stop_synapse();
	is(join("\n", grep { /Traceback|Exception in pusher/ } split /\n/, log_of('main')), '', "$state: the log of Synapse has no error");
	$members{$state}{module} = $node->safe_psql($database, q{SELECT string_agg(user_id, ' ' ORDER BY user_id) FROM mau.monthly_active_users});
}

# Where the module answers otherwise, as doc/calling.md says.
my %differs = (
	'full guest createRoom'   => qr/^403 .*"monthly_active_user"/,
	'closed guest createRoom' => qr/^403 .*"hs_disabled"/,
	'full bridge login'       => qr/^200 /,
	'closed bridge login'     => qr/^200 /,
	'closed member register'  => qr/^200 /,
	map { ("full puppet $_" => qr/^403 .*"monthly_active_user"/) } 'sync', 'sliding sync', 'send', 'createRoom');

my ($cells, $equal) = (0, 0);
for my $state ('open', 'full', 'closed')
{
	for my $kind (@kinds)
	{
		for my $what (grep { exists $own{$state}{$kind}{$_} } @requests)
		{
			my ($theirs, $ours) = ($own{$state}{$kind}{$what}, $module{$state}{$kind}{$what});
			my $name = "$state, $kind, $what: " . substr $theirs, 0, 60;
			$cells++;
			$equal++ if $ours eq $theirs;
			if (my $expected = $differs{"$state $kind $what"})
			{
				ok($ours =~ $expected && $ours ne $theirs, "$name (the module differs)") or diag "module: $ours\nSynapse: $theirs";
			}
			else
			{
				is($ours, $theirs, $name);
			}
		}
	}
	is($members{$state}{module}, $members{$state}{own}, "$state: the members are the same") if $state ne 'closed';
}
note "$equal of $cells answers are the same";

$node->stop;
done_testing();
