# Writes test/fixtures/trace-small.jsonl: scenes that the traces of a real Synapse do not have, answered by the model.
#
#     PGDATABASE=scratch perl test/model/make_trace.pl > test/fixtures/trace-small.jsonl
#
# The database's schema "model" is replaced. The same script gives the same lines: its random numbers are its own.

use strict;
use warnings;

use File::Spec;
use FindBin;
use JSON::PP;

use constant { SECOND => 1000, MINUTE => 60_000, HOUR => 3_600_000, DAY => 86_400_000 };

my $json = JSON::PP->new->canonical->allow_nonref;
my $now  = 1_800_000_000_000;    # ms
my @operations;

# A number from 0 to n - 1, the same on every machine.
my $state = 20261121;

sub random
{
	my ($n) = @_;
	$state = ($state * 1_103_515_245 + 12_345) % 2_147_483_648;
	return int($state / 65_536) % $n;
}

# Adds an operation 2 ms later than the last one; an id without a server is one of ours.
sub does
{
	my ($op, %rest) = @_;
	$now += 2;
	$rest{user} .= ':example.com' if defined $rest{user} && $rest{user} !~ /:/;
	push @operations, { t => $now, op => $op, %rest };
	return $now;
}

# Moves the clock so that the next operation is at exactly this time.
sub next_at
{
	my ($at) = @_;
	$at - 2 >= $now or die "back in time";
	$now = $at - 2;
	return;
}

my $true  = JSON::PP::true;
my $false = JSON::PP::false;

my %settings = (
	limit_usage_by_mau        => $true,
	mau_stats_only            => $false,
	max_mau_value             => 4,
	mau_trial_days            => 0,
	track_appservice_user_ips => $true,
	hs_disabled               => $false,
	server_name               => 'example.com',
	count_deactivated_users   => $true,
	reserved                  => [],
	appservices               => [
		{ id => 'irc',   trial_days => undef, sender => '@ircbot:example.com', exclusive_user_regexes => ['@_irc_.*', 'x_irc_ghost'] },
		{ id => 'slack', trial_days => 0,     sender => undef,                 exclusive_user_regexes => ['@slack_', '@_slack_.+:example\\.com'] }
	]);

sub settings
{
	%settings = (%settings, @_);
	does('settings', %settings);
	return;
}

sub native
{
	my ($user, %more) = @_;
	does('register', user => $user, is_guest => $false, user_type => undef, appservice => undef,
		registered_at => int($now / 1000), %more);
	return;
}

sub active  { return does('activity', user => $_[0]) }
sub actives { active($_) for @_; return }
sub counted { does('count'); return }
sub checked { does('check', args => {@_}); return }

sub checked_user
{
	my ($user) = @_;
	checked(user_id => $user =~ /:/ ? $user : "$user:example.com");
	return;
}

sub checked_threepid
{
	my ($medium, $address) = @_;
	checked(threepid => { medium => $medium, address => $address });
	return;
}

# All requests without a user.
sub checked_newcomers
{
	checked();
	checked(user_type => $_) for 'support', 'bot';
	checked_threepid('email', 'nobody@example.com');
	return;
}

# Scene 1: a limit, and bridged users tracked. Their rows take no seat and are no part of the count.
settings();
native("\@n$_") for 1 .. 6;
native("\@_irc_$_",   appservice => 'irc') for 1 .. 3;
native("\@slack_$_",  appservice => 'slack') for 1 .. 2;
native('@empty',      appservice => '');
native('@_irc_human', appservice => undef);
actives('@n1', '@_irc_1', '@_irc_2', '@n2', '@empty', '@slack_1');
counted();
actives('@ircbot', '@_irc_ghost', '@_slack_ghost', '@slack_ghost', '@x_irc_ghost');
counted();
actives('@_irc_human', '@n3', '@_irc_3', '@slack_2', '@n1');
counted();
checked_newcomers();
checked_user($_) for '@n1', '@n3', '@_irc_1', '@_irc_unseen', '@ircbot', '@notices', '@x_irc_ghost';
checked(appservice => 'irc');
does('reap');
counted();
does('admit', user => $_) for '@n3', '@n1', '@_irc_1';

# Scene 2: the table's time moves when it is more than an hour old: at 59 minutes not, at 60 exactly not, 1 ms later it does.
$now += 2 * HOUR;
my $seen = active('@n1');
for my $age (59 * MINUTE, 60 * MINUTE + 1)
{
	next_at($seen + $age);
	active('@n1');
}
$seen = active('@n2');
for my $age (60 * MINUTE, 61 * MINUTE)
{
	next_at($seen + $age);
	active('@n2');
}
$seen = active('@_irc_2');
next_at($seen + 60 * MINUTE + 1);
active('@_irc_2');

# Scene 3: a row of exactly 30 days counts, 1 ms later it does not, with no reap between; its owner needs a seat anew.
settings(max_mau_value => 20, track_appservice_user_ips => $false);
$now += 40 * DAY;
counted();
settings(max_mau_value => 3);
$seen = active('@n1');
$now += HOUR;
actives('@n2', '@n3', '@n4');
counted();
next_at($seen + 30 * DAY);
counted();
next_at($seen + 30 * DAY + 2);
counted();
checked_user('@n1');
checked_user('@n4');
active('@n4');
checked_user('@n1');
active('@n1');
counted();
does('reap');
active('@n1');
counted();
next_at($seen + 60 * DAY);
counted();
my $edge = active('@n1');
next_at($edge + 30 * DAY);
active('@n1');
next_at($now + 30 * DAY + 1);
does('reap');
counted();
actives('@_irc_1', '@ircbot');
checked_user('@_irc_1');
counted();

# Scene 4: reserved threepids: phone numbers work, e-mail in any case, only the first max_mau_value pairs hold seats, for ever.
settings(
	max_mau_value => 2,
	reserved      => [['msisdn', '447700900001'], ['email', 'Boss@Example.COM'], ['email', 'third@example.com']]);
actives('@n1', '@n2', '@n3');
checked_threepid('msisdn', '447700900001');
checked_threepid('msisdn', '447700900002');
checked_threepid('email',  'boss@example.com');
checked_threepid('email',  'BOSS@EXAMPLE.COM');
checked_threepid('email',  '447700900001');
checked_threepid('email',  'THIRD@example.com');
does('register_reserved', user => '@phone', medium => 'msisdn', address => '447700900001', registered_at => int($now / 1000));
does('register_reserved', user => '@boss',  medium => 'email',  address => 'BOSS@example.com', registered_at => int($now / 1000));
does('register_reserved', user => '@third', medium => 'email',  address => 'Third@Example.com', registered_at => int($now / 1000));
does('register_reserved', user => '@fourth', medium => 'email', address => 'fourth@example.com', registered_at => int($now / 1000));
counted();
checked_user($_) for '@phone', '@boss', '@third', '@fourth';
does('reap');
counted();
actives('@third', '@fourth', '@boss', '@n1');
$now += 45 * DAY;
counted();
checked_user('@boss');
checked_user('@third');
active('@boss');
does('reap');
counted();
does('remove_threepid', user => '@phone', medium => 'msisdn', address => '447700900001');
counted();
active('@n1');
checked_user('@phone');
active('@phone');
does('add_threepid', user => '@n1', medium => 'msisdn', address => '447700900001');
$now += 31 * DAY;
counted();
does('reap');
counted();
does('add_threepid', user => '@n2', medium => 'email', address => 'third@example.com');
settings(max_mau_value => 3);
active('@n3');
does('reap');
counted();
settings(max_mau_value => 1);
does('reap');
counted();
settings(max_mau_value => 0);
counted();
does('reap');
counted();
active('@boss');

# Scene 5: the server is closed (hs_disabled).
settings(hs_disabled => $true, max_mau_value => 10, reserved => []);
native('@help', user_type => 'support');
checked_newcomers();
checked_user($_) for '@n1', '@help', '@notices', '@_irc_1';
checked(appservice => 'irc');
settings(track_appservice_user_ips => $true);
checked_user($_) for '@_irc_1', '@help';
actives('@n1', '@help');
settings(hs_disabled => $false, limit_usage_by_mau => $false, mau_stats_only => $true);
checked_newcomers();

# Scene 6: trial days: to the ms; the appservice's own; raised later, members stay members.
settings(limit_usage_by_mau => $true, max_mau_value => 2);
$now += 31 * DAY;
does('reap');
$now = 1000 * int($now / 1000) + 1000;
my $born = $now;
native('@old', registered_at => $born / 1000);
native('@_irc_new',  appservice => 'irc',   registered_at => $born / 1000);
native('@slack_new', appservice => 'slack', registered_at => $born / 1000);
actives('@old', '@_irc_new', '@slack_new');
settings(mau_trial_days => 50);
native('@young', registered_at => $born / 1000);
actives('@young', '@old', '@slack_new', '@_irc_new');
checked_user($_) for '@old', '@young';
counted();
$now += 2 * HOUR;
actives('@young', '@old', '@slack_new');
settings(mau_trial_days => 3);
next_at($born + 3 * DAY - 1);
active('@young');
next_at($born + 3 * DAY + 1);
active('@young');
native('@late', registered_at => $born / 1000 + 3 * 86_400);
checked_user('@late');
next_at($born + 6 * DAY - 2);
checked_user('@late');
next_at($born + 6 * DAY);
checked_user('@late');
active('@late');
actives('@ghost');
settings(mau_trial_days => 0);

# Scene 7: deactivated users: counted until they expire, or gone at once.
settings(max_mau_value => 4);
actives('@n1', '@n2');
does('deactivate', user => '@n1');
counted();
active('@n1');
$now += 2 * HOUR;
active('@n1');
$now += 31 * DAY;
counted();
settings(count_deactivated_users => $false);
actives('@n2', '@n1', '@n3');
does('deactivate', user => '@n2');
counted();
active('@n2');
checked_user('@n2');
does('deactivate', user => '@_irc_1');
active('@_irc_1');
counted();
settings(count_deactivated_users => $true);
actives('@n2', '@_irc_1');
counted();

# Scene 8: guests, support users and bots; ids of other servers, and none at all.
native('@guest', is_guest => $true);
native('@help2', user_type => 'support');
native('@robot', user_type => 'bot');
actives('@guest', '@help2', '@robot', '@alice:elsewhere.example', 'bob:example.com', '@eve:notexample.com', '@eve:example.com:8448');
checked_user($_) for '@guest', '@help2', '@robot';
counted();
settings(server_name => undef);
active('@alice:elsewhere.example');
settings(server_name => 'example.com', limit_usage_by_mau => $false, mau_stats_only => $false);
actives('@n1', '@n4', '@_irc_2');
counted();

$now += 31 * DAY;
does('reap');

# Scene 9: a crowd, with the limit going up and down.
settings(limit_usage_by_mau => $true, mau_trial_days => 1, reserved => [['email', 'crowd2@example.com'], ['msisdn', '447700900003']]);
my @crowd = map { "\@crowd$_" } 1 .. 12;
native($_) for @crowd;
does('add_threepid', user => '@crowd2', medium => 'email',  address => 'Crowd2@Example.com');
does('add_threepid', user => '@crowd3', medium => 'msisdn', address => '447700900003');
my @all = (@crowd, '@_irc_1', '@_irc_new', '@slack_1', '@_slack_ghost', '@ghost1', '@ghost2', '@guest', '@help');
for (1 .. 190)
{
	my $user = $all[random(scalar @all)];
	my $what = random(100);
	if    ($what < 45) { active($user) }
	elsif ($what < 55) { does('admit', user => $user) }
	elsif ($what < 65) { checked_user($user) }
	elsif ($what < 70) { (sub { checked() }, sub { checked_threepid('email', 'CROWD2@example.com') })[random(2)]->() }
	elsif ($what < 82) { counted() }
	elsif ($what < 87) { does('reap') }
	elsif ($what < 90) { settings(max_mau_value => (0, 1, 3, 5, 8)[random(5)], track_appservice_user_ips => random(2) ? $true : $false) }
	else               { $now += (MINUTE, HOUR, 6 * HOUR, DAY, 11 * DAY)[random(5)] + random(1000) }
}
does('reap');
counted();
does('end');

# The model answers.
my $directory = $FindBin::RealBin;
my $questions = join '', map { $json->encode($_) . "\n" } @operations;
my $script    = <<"END";
\\set ON_ERROR_STOP on
\\i $directory/model.sql
SET search_path = model;
\\i $directory/replay.sql
COPY pg_temp.trace (line) FROM STDIN WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02');
$questions\\.
CALL pg_temp.replay();
SELECT json_build_object('no', no, 'got', got) FROM pg_temp.answers ORDER BY no;
END
my $input = File::Spec->tmpdir . "/make_trace.$$.sql";
open my $file, '>', $input or die "$input: $!";
print $file $script;
close $file or die "$input: $!";
my @answers = qx(psql -XAtq -f $input);
unlink $input;
$? == 0 or die 'psql failed';

for my $answer (map { $json->decode($_) } @answers)
{
	$operations[ $answer->{no} - 1 ]{answer} = $answer->{got};
}

# A line reads in the order: time, operation, user, the rest, the answer.
for my $operation (@operations)
{
	my %rest    = %$operation;
	my $answer  = delete $rest{answer} // {};
	# Whether a row that has expired is still there before the next reap is nobody's business.
	delete $answer->{seen} if defined $answer->{seen} && $operation->{t} - $answer->{seen} > 30 * DAY;
	my @members = map { [$_, delete $rest{$_}] } grep { exists $rest{$_} } qw(t op user);
	push @members, map { [$_, $rest{$_}] } sort keys %rest;
	push @members, map { [$_, $answer->{$_}] } sort keys %$answer;
	print '{', join(',', map { "\"$_->[0]\":" . $json->encode($_->[1]) } @members), "}\n";
}
