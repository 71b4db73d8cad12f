# `mau import` takes over the settings of a homeserver's configuration: the exact settings from ten homeserver.yaml of different ages, as
# PyYAML and Synapse read them; from malformed ones nothing, but a message with file and line and status 2. What the files do not name stays.
# It changes nothing without an answer, in a dry run, without the right to, or when somebody else was faster.

use strict;
use warnings;

use FindBin;
use IPC::Run qw(run start);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $mau = "$root/build/client/mau";
ok(-x $mau, 'the program is built') or BAIL_OUT('build/client/mau is missing');
my $files = "$root/test/client";

my $node = PostgreSQL::Test::Cluster->new('client_import');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', 'autovacuum = off');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION mau; CREATE TABLE defaults AS TABLE mau.settings');

sub sql { return scalar $node->safe_psql('postgres', $_[0]); }

# Everything back to how CREATE EXTENSION leaves it, then a change.
sub reset_settings
{
	sql('DELETE FROM mau.settings; INSERT INTO mau.settings DEFAULT VALUES; DELETE FROM mau.reserved_threepids; DELETE FROM mau.appservices');
	sql($_[0]) if $_[0];
	return;
}

# What is not the default: a line for each setting, reserved address (in order) and appservice.
sub settings
{
	return sql(<<'END');
SELECT line FROM (
    SELECT 1 AS part, key AS place, key || '=' || coalesce(s.value, 'NULL') AS line
    FROM mau.settings, jsonb_each_text(to_jsonb(settings)) s JOIN (SELECT d.* FROM defaults, jsonb_each_text(to_jsonb(defaults)) d) d USING (key)
    WHERE s.value IS DISTINCT FROM d.value
    UNION ALL SELECT 2, to_char(position, '000000000'), medium || ' ' || address FROM mau.reserved_threepids
    UNION ALL SELECT 3, id, concat_ws(' ', id, coalesce(trial_days::text, '-'), coalesce(sender, '-'), nullif(array_to_string(exclusive_user_regexes, ' '), ''))
    FROM mau.appservices) l
ORDER BY part, place
END
}

my $database = 'postgres';

# Runs the program without a terminal; returns its status, output and messages.
sub mau
{
	my @arguments = @_;
	my ($out, $err) = ('', '');
	run([ $mau, 'import', '-d', $node->connstr($database), @arguments ], '<', \'', '>', \$out, '2>', \$err);
	return ($? >> 8, $out, $err);
}

sub imports
{
	my ($name, $arguments, $expected, $expected_messages) = @_;
	my ($status, $out, $err) = mau('--yes', @$arguments);
	is($status, 0, "$name: it is imported") or diag($out, $err);
	is(settings(), $expected =~ s/\n\z//r, "$name: the settings");
	like($err, $expected_messages // qr/^$/, "$name: the messages");
	($status, $out, $err) = mau(@$arguments);
	is("$status $out", "0 nothing to change\n", "$name: a second time there is nothing to change");
	return;
}

# --- Ten ages ----------------------------------------------------------------------------------------------------

reset_settings();
imports('0.18', ["$files/synapse/01-synapse-0.18.yaml"], 'server_name=old.example.org');

reset_settings();
imports('0.33', ["$files/synapse/02-synapse-0.33.yaml"], <<'END');
admin_contact=mailto:admin@server.com
hs_disabled_message=Human readable reason for why the HS is blocked
limit_usage_by_mau=true
mau_trial_days=2
max_mau_value=50
server_name=chat.example.com
server_notices_mxid=@notices:chat.example.com
email reserved_user@example.com
email Second@Example.com
END

# The limit is 0 while limiting is off, also where the file has no limit_usage_by_mau.
reset_settings();
imports('1.0', ["$files/synapse/03-synapse-1.0.yaml"], <<'END');
server_name=matrix.example.net:8448
track_appservice_user_ips=true
END

# `on` is true; counting stays on although mau_stats_only is missing.
reset_settings();
imports('1.7', ["$files/synapse/04-synapse-1.7.yaml"], <<'END', qr/^mau: warning: \S+04-synapse-1.7.yaml:8: user_ips_max_age is 14d: .*\n$/);
limit_usage_by_mau=true
mau_limit_alerting=false
max_mau_value=5
server_name=seats.example
END

# Files of a folder in the order of their names' bytes; a later file replaces whole keys.
reset_settings();
imports('Debian', [ "$files/synapse/05-debian/homeserver.yaml", "$files/synapse/05-debian/conf.d" ], <<'END', qr/^mau: warning: \S+conf\.d\/README: not read.*\n$/);
admin_contact=mailto:first@example.org
limit_usage_by_mau=true
max_mau_value=30
server_name=debian.example.org
server_notices_mxid=@second:debian.example.org
END

# /data of a container is another folder here.
my $irc = 'irc - @appservice-irc:%s @irc_.*:example\.com @ircbot-[0-9]+(-\w+)?:.*';
reset_settings();
imports('Docker', [ '--appservices', $files, "$files/synapse/06-docker.yaml" ], "server_name=docker.example.com\n" . sprintf("$irc\n", 'docker.example.com') . 'telegram - @telegrambot:docker.example.com');

# An appservice that has trial days only has a row, too.
reset_settings();
imports('1.60', ["$files/synapse/07-synapse-1.60.yaml"], <<'END');
mau_trial_days=7
server_name=bridges.example
gone-bridge 30 -
irc 3 @appservice-irc:bridges.example @irc_.*:example\.com @ircbot-[0-9]+(-\w+)?:.*
telegram 0 @telegrambot:bridges.example
END

# Empty lists empty mau's, and server_notices without a value is no user.
reset_settings(q{UPDATE mau.settings SET server_notices_mxid = '@notices:x', max_mau_value = 7; INSERT INTO mau.reserved_threepids VALUES ('email', 'a@x');
	INSERT INTO mau.appservices VALUES ('old', NULL, '@old:x', '{}')});
imports('playbook', ["$files/synapse/08-playbook.yaml"], <<'END', qr/^mau: warning: \S+08-playbook.yaml:7: user_ips_max_age is 28d: .*\n$/);
admin_contact=https://example.com/contact
hs_disabled=true
hs_disabled_message=The server is closed for maintenance.
mau_trial_days=2
server_name=playbook.example.com
END

# YAML 1.1: merges, octal and hexadecimal numbers, tags; an address that is in the list twice has one place.
reset_settings();
imports('anchors', ["$files/synapse/09-anchors.yaml"], <<'END', qr/^mau: warning: \S+09-anchors.yaml:16: email first\@example.org is in the list twice\n$/);
admin_contact=12345
hs_disabled_message=Zürück & bald wieder
limit_usage_by_mau=true
mau_limit_alerting=false
mau_trial_days=8
max_mau_value=32
server_name=anchors.example
email first@example.org
msisdn 447700900000
END

reset_settings();
imports('1.157', ["$files/synapse/10-synapse-1.157.yaml"], <<'END');
admin_contact=mailto:admin@example.com
hs_disabled_message=Reason for why the HS is blocked
limit_usage_by_mau=true
mau_trial_days=5
max_mau_value=2500
server_name=everything.example.com
server_notices_mxid=@notices:everything.example.com
track_appservice_user_ips=true
email boss@example.com
email ops@example.com
irc 3 @appservice-irc:everything.example.com @irc_.*:example\.com @ircbot-[0-9]+(-\w+)?:.*
END

# --- What is malformed -------------------------------------------------------------------------------------------

my @malformed = (
	[ 'tab.yaml', 3, 'not YAML: .*' ],
	[ 'quote.yaml', 2, 'a text without its closing quote' ],
	[ 'open_list.yaml', 3, 'not YAML: .*' ],
	[ 'two_documents.yaml', 2, 'a second document' ],
	[ 'template.yaml', 2, 'a map cannot be a key' ],
	[ 'latin1.yaml', 2, 'not UTF-8, or a control character' ],
	[ 'tag.yaml', 2, 'max_mau_value must be a whole number, not a value with the tag !ENV' ],
	[ 'no_map.yaml', 2, 'the file must be a map, not a list' ],
	[ 'boolean_in_quotes.yaml', 3, 'limit_usage_by_mau must be true or false, not the text "true"' ],
	[ 'boolean_as_number.yaml', 1, 'mau_stats_only must be true or false, not 1' ],
	[ 'boolean_empty.yaml', 1, 'hs_disabled must be true or false, not empty' ],
	[ 'number_in_quotes.yaml', 2, 'max_mau_value must be a whole number, not the text "50"' ],
	[ 'negative.yaml', 2, 'max_mau_value must be from 0 to 2147483647, not -1' ],
	[ 'too_large.yaml', 1, 'max_mau_value must be from 0 to 2147483647, not 9+' ],
	[ 'fraction.yaml', 2, 'max_mau_value must be a whole number, not 50.5' ],
	[ 'days_with_unit.yaml', 1, 'mau_trial_days must be a whole number, not the text "3d"' ],
	[ 'docs_misprint.yaml', 2, 'unknown key mau_limits_reserved_threepids', 'write mau_limit_reserved_threepids, or remove it' ],
	[ 'misprint.yaml', 1, 'unknown key limit_usage_by_max', 'write limit_usage_by_mau, or remove it' ],
	[ 'unknown_mau_key.yaml', 3, 'unknown key mau_soft_limit' ],
	[ 'threepids_as_map.yaml', 2, 'mau_limit_reserved_threepids must be a list, not a map' ],
	[ 'threepid_without_address.yaml', 4, 'an entry of mau_limit_reserved_threepids has no address' ],
	[ 'unknown_medium.yaml', 2, 'unknown medium "emial"' ],
	[ 'number_as_address.yaml', 3, 'address must be a text, not 447700900000', 'put it in quotes' ],
	[ 'trial_days_of_appservice.yaml', 3, 'mau_appservice_trial_days of telegram must be a whole number, not the text "never"' ],
	[ 'url_as_server_name.yaml', 1, 'server_name must be a host\'s name, not "https://a.example/"' ],
	[ 'notices_without_user.yaml', 3, 'server_notices has no system_mxid_localpart' ],
	[ 'notices_without_server_name.yaml', 3, 'neither the files nor mau.settings say what server_name is' ],
	[ 'one_registration.yaml', 2, 'app_service_config_files must be a list, not the text "irc.yaml"' ],
	[ 'registration_missing.yaml', 4, 'cannot read /data/nowhere.yaml: No such file or directory', '--appservices names the folder .*' ],
	[ '../registrations/no_id.yaml', 1, 'the registration has no id', undef, 'registration_without_id.yaml' ],
	[ '../registrations/quoted.yaml', 5, 'exclusive must be true or false, not the text "true"', undef, 'registration_ill_typed.yaml' ],
	[ '../registrations/again.yaml', 1, 'the id irc is in \S+irc.yaml:1, too', undef, 'registration_twice.yaml' ],
	[ '../registrations/python.yaml', 6, '"@py_\(\?P<name>\.\*\):x" is no regular expression of PostgreSQL: .*', undef, 'registration_regex.yaml' ],
	[ 'duration.yaml', 1, 'user_ips_max_age must be a duration, not the text "28 days"' ]);
cmp_ok(scalar @malformed, '>=', 20, 'there are twenty malformed files');

reset_settings(q{UPDATE mau.settings SET max_mau_value = 77});
for my $case (@malformed)
{
	my ($file, $line, $what, $hint, $given) = @$case;
	my ($status, $out, $err) = mau('--yes', "$files/malformed/" . ($given // $file));
	my $path = quotemeta($file =~ s{^\.\./}{}r);
	like("$status $out$err", qr/^2 mau: \S+$path:$line: $what\n(HINT: \S.*\n)?$/, ($given // $file) . ' is named with its line');
	like($err, qr/^HINT: $hint$/m, "$file: the hint") if $hint;
	is(settings(), 'max_mau_value=77', ($given // $file) . ': nothing is applied');
}

# Each problem is named, of several files as well.
my ($status, $out, $err) = mau('--yes', "$files/malformed/misprint.yaml", "$files/malformed/negative.yaml", "$files/malformed/days_with_unit.yaml");
my @problems = $err =~ /^mau: \S+\/(\w+)\.yaml:\d+: /mg;
is("$status @problems", '2 misprint days_with_unit negative', 'each problem is named');
for my $missing ("$files/nowhere.yaml", "$files/synapse/05-debian/conf.d/none")
{
	($status, $out, $err) = mau('--yes', $missing);
	like("$status $err", qr/^2 mau: \Q$missing\E: .*\nHINT: .*\n$/, 'a file that does not exist');
}
($status, $out, $err) = mau('--yes', "$files/registrations/irc.yaml");
like("$status $err", qr/^2 mau: \S+irc.yaml: no setting of mau is in it\nHINT: .*\n$/, 'a file that is no configuration');
is(settings(), 'max_mau_value=77', 'nothing was applied');

# A registration that only the homeserver may read (root may read everything).
my $dir = PostgreSQL::Test::Utils::tempdir();
sub file
{
	my ($name, $text) = @_;
	open my $handle, '>', "$dir/$name" or die $!;
	print $handle $text;
	close $handle;
	return "$dir/$name";
}
SKIP:
{
	skip 'root may read every file', 2 if $> == 0;
	chmod 0, file('secret.yaml', "id: secret\n") or die $!;
	($status, $out, $err) = mau('--yes', file('a.yaml', "server_name: x\n\napp_service_config_files:\n  - secret.yaml\n"));
	like("$status $err", qr/^2 mau: \S+a.yaml:4: cannot read secret.yaml: Permission denied\nHINT: /, 'a registration that may not be read');
	($status, $out, $err) = mau('--yes', "$dir/secret.yaml");
	like("$status $err", qr/^2 mau: \S+secret.yaml: cannot read it: Permission denied\nHINT: /, 'a configuration that may not be read');
}

# --- What stays, and what it says --------------------------------------------------------------------------------

my $existing = q{UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 9, server_name = 'x', admin_contact = 'mailto:a@x';
	INSERT INTO mau.reserved_threepids (medium, address) VALUES ('email', 'a@x'), ('email', 'b@x'), ('email', 'c@x');
	INSERT INTO mau.appservices VALUES ('irc', 3, '@irc:x', '{@irc_.*}'), ('xmpp', NULL, '@xmpp:x', '{}'), ('days', 4, NULL, '{}')};
my $kept = "admin_contact=mailto:a\@x\nlimit_usage_by_mau=true\nmax_mau_value=9\nserver_name=x";
my $reserved = "email a\@x\nemail b\@x\nemail c\@x";
my $appservices = "days 4 -\nirc 3 \@irc:x \@irc_.*\nxmpp - \@xmpp:x";
sub case_of { my ($name, $text, $expected, $messages) = @_; reset_settings($existing); imports($name, [ file('a.yaml', $text) ], $expected, $messages); return; }

case_of('one key', "mau_trial_days: 1\n", "admin_contact=mailto:a\@x\nlimit_usage_by_mau=true\nmau_trial_days=1\nmax_mau_value=9\nserver_name=x\n$reserved\n$appservices");
case_of('no contact', "admin_contact:\n", "limit_usage_by_mau=true\nmax_mau_value=9\nserver_name=x\n$reserved\n$appservices");
case_of('the limit is off', "limit_usage_by_mau: false\n", "admin_contact=mailto:a\@x\nserver_name=x\n$reserved\n$appservices");
case_of('the limit without a value', "limit_usage_by_mau: true\n", "$kept\n$reserved\n$appservices", qr/^mau: warning: \S+:1: limit_usage_by_mau without max_mau_value: .* limit of 9\n$/);
case_of('another limit', "max_mau_value: 12\n", ($kept =~ s/9/12/r) . "\n$reserved\n$appservices");
case_of('nothing is counted', "limit_usage_by_mau: false\nmau_stats_only: false\n", "admin_contact=mailto:a\@x\nmau_stats_only=false\nserver_name=x\n$reserved\n$appservices", qr/^mau: warning: \S+:2: with limit_usage_by_mau and mau_stats_only off, mau records nobody\n$/);
case_of('a repeated key', "max_mau_value: 12\nmax_mau_value: 9\n", "$kept\n$reserved\n$appservices", qr/^mau: warning: \S+:2: max_mau_value is in line 1, too; the last one counts\n$/);
case_of('trial days alone', "mau_appservice_trial_days: {xmpp: 8}\n", "$kept\n$reserved\nirc - \@irc:x \@irc_.*\nxmpp 8 \@xmpp:x");
case_of('registrations alone', "app_service_config_files: [$files/registrations/telegram.yaml]\n", "$kept\n$reserved\ndays 4 -\nirc 3 -\ntelegram - \@telegrambot:x");
reset_settings($existing);
imports('registrations that are skipped', [ '--skip-appservices', file('a.yaml', "max_mau_value: 9\napp_service_config_files: [/data/nowhere.yaml]\n") ], "$kept\n$reserved\n$appservices");

# The difference, as a table and as JSON.
my $change = file('change.yaml', <<'END');
max_mau_value: 8
admin_contact: null
mau_limit_reserved_threepids:
- {medium: email, address: c@x}
- {medium: email, address: d@x}
- {medium: email, address: a@x}
mau_appservice_trial_days: {irc: 5, new: 1}
END
reset_settings($existing);
($status, $out, $err) = mau('--dry-run', $change);
is("$status $err$out", <<'END', 'what would change');
0 setting                      now           file
admin_contact                mailto:a@x    -
max_mau_value                9             8
reserved_threepids           2: email b@x  -
reserved_threepids           3: email c@x  1: email c@x
reserved_threepids           -             2: email d@x
reserved_threepids           1: email a@x  3: email a@x
appservices.days.trial_days  4             -
appservices.irc.trial_days   3             5
appservices.new.trial_days   -             1
END
is(settings(), "$kept\n$reserved\n$appservices", 'a dry run applies nothing');
($status, $out, $err) = mau('--dry-run', '--format', 'json', $change);
is_deeply([ grep { $_->{setting} eq 'max_mau_value' || $_->{setting} eq 'admin_contact' } @{ decode_json($out) } ],
	[ { setting => 'admin_contact', now => 'mailto:a@x', file => undef }, { setting => 'max_mau_value', now => '9', file => '8' } ], 'the same as JSON');

# --- It asks -----------------------------------------------------------------------------------------------------

($status, $out, $err) = mau($change);
like("$status $err", qr/^2 mau: nothing was applied: there is no terminal to ask on\nHINT: --yes .*\n$/, 'without a terminal it needs --yes');
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');

# On a terminal; returns its status and what it showed. What happens between question and answer is a function.
sub answer
{
	my ($answer, $between) = @_;
	my ($in, $shown) = ('', '');
	my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	my $program = start([ $mau, 'import', '-d', $node->connstr('postgres'), $change ], '<pty<', \$in, '>pty>', \$shown, '2>', \my $err, $timer);
	$program->pump until "$shown$err" =~ /\[y\/N\] /;
	$between->() if $between;
	$in .= "$answer\n";
	$program->finish;
	return ($program->result(0), "$shown$err");
}
my ($result, $shown) = answer('n');
is($result, 1, 'the answer no');
like($shown, qr/Apply this to database postgres at .*\? \[y\/N\] .*mau: nothing was applied/s, 'the question');
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');

($result, $shown) = answer('y', sub { sql('UPDATE mau.settings SET mau_trial_days = 2') });
is($result, 1, 'somebody else was faster');
like($shown, qr/nothing was applied: somebody else changed the settings meanwhile/, 'it says so');
like(settings(), qr/^max_mau_value=9$/m, 'nothing was applied');
sql('UPDATE mau.settings SET mau_trial_days = 0');

($result, $shown) = answer('y');
is($result, 0, 'the answer yes');
is(settings(), "limit_usage_by_mau=true\nmax_mau_value=8\nserver_name=x\nemail c\@x\nemail d\@x\nemail a\@x\nirc 5 \@irc:x \@irc_.*\nnew 1 -\nxmpp - \@xmpp:x", 'it is applied');

# --- One transaction ---------------------------------------------------------------------------------------------

# The last statement fails: no earlier one is kept.
reset_settings($existing);
sql(q{ALTER TABLE mau.appservices ADD CONSTRAINT no_new CHECK (id <> 'new')});
($status, $out, $err) = mau('--yes', $change);
like("$status $err", qr/^1 mau: .*no_new/, 'an error of the server');
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');
sql('ALTER TABLE mau.appservices DROP CONSTRAINT no_new');

# A trigger that drops a row is noticed.
sql(q{CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE TRIGGER dropping BEFORE INSERT ON mau.reserved_threepids FOR EACH ROW EXECUTE FUNCTION drop_row()});
($status, $out, $err) = mau('--yes', $change);
like("$status $err", qr/^1 mau: nothing was applied: the database did not keep what was written\nHINT: /, 'a trigger');
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');
sql('DROP TRIGGER dropping ON mau.reserved_threepids');

# Another session's change in progress: it waits, as long as --timeout.
my $session = $node->background_psql('postgres');
$session->query_until(qr/changing/, "BEGIN; UPDATE mau.settings SET mau_trial_days = 3;\n\\echo changing\n");
($status, $out, $err) = mau('--yes', '--timeout', '1', $change);
like("$status $err", qr/^1 mau: .*57014/, 'a change in progress');

# Calls of a homeserver do not wait for its lock.
my ($lock) = slurp_file("$root/src/client/import.cpp") =~ /"(LOCK TABLE [^"]+)"/;
$session->query_until(qr/locked/, "ROLLBACK; BEGIN; $lock;\n\\echo locked\n");
is(sql(q{SET statement_timeout = '10s'; SELECT mau.record_activity('@u:x') IS NOT NULL}), 't', 'a call while it holds its lock');
$session->quit;
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');

# --- Rights ------------------------------------------------------------------------------------------------------

sql(q{CREATE ROLE reader LOGIN; SELECT mau.grant_to('reader', 'monitoring'); CREATE ROLE nobody_special LOGIN});
($status, $out, $err) = mau('-U', 'reader', '--dry-run', $change);
is("$status $err", '0 ', 'a role that may read can look');
($status, $out, $err) = mau('-U', 'reader', '--yes', $change);
like("$status $err", qr/^1 mau: .*permission denied for table settings.*\nHINT: connect as the extension's owner or a superuser, with -U\n$/, 'but not apply');
($status, $out, $err) = mau('-U', 'nobody_special', '--yes', $change);
like("$status $err", qr/^1 mau: .*permission denied.*\nHINT: .*\n$/, 'a role without rights');
is(settings(), "$kept\n$reserved\n$appservices", 'nothing was applied');
$database = 'template1';
($status, $out, $err) = mau('--yes', $change);
like("$status $err", qr/^1 mau: database template1 does not have the extension mau\nHINT: .*\n$/, 'a database without mau');

$database = 'postgres';

# --- Dendrite and Prosody ----------------------------------------------------------------------------------------

reset_settings();
imports('Dendrite', ["$files/other/dendrite.yaml"], <<'END');
server_name=dendrite.example
server_notices_mxid=@_server:dendrite.example
telegram - @telegrambot:dendrite.example
END
reset_settings(q{UPDATE mau.settings SET server_name = 'y'});
imports('Prosody with one host', ["$files/other/prosody.cfg.lua"], <<'END');
admin_contact=mailto:admin@xmpp.example
server_name=xmpp.example
END
imports('Prosody with two hosts', [ "$files/other/prosody.cfg.lua", "$files/other/second.cfg.lua" ], 'admin_contact=xmpp:all@xmpp.example');
($status, $out, $err) = mau('--yes', "$files/other/broken.cfg.lua");
like("$status $err", qr/^2 mau: \S+broken.cfg.lua:2: \{ without its \}/, 'Lua without a closing brace');
($status, $out, $err) = mau('--yes', '--kind', 'synapse', "$files/other/dendrite.yaml");
like("$status $err", qr/^2 mau: \S+dendrite.yaml: no setting of mau is in it/, 'the kind can be given');

$node->stop;
done_testing();
