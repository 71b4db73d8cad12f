# `mau report` writes one file that needs nothing else: its figures are SQL's, no user id is in it, and what cannot be had is said in its
# place. In a browser, at the width of a desktop and of a phone, in light and dark, it draws without errors; every chart names what its axes
# show. The screenshots stay beside the log of this test (test/run --keep); doc/page.png is one of them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use JSON::PP;
use MauBrowser;
use MauClient;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $AT = '2026-10-31 18:00+00';
my $output = $PostgreSQL::Test::Utils::log_path;
my $folder = PostgreSQL::Test::Utils::tempdir();

my $node = PostgreSQL::Test::Cluster->new('report');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN');
for my $db (qw(homeserver one empty))
{
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, "CREATE EXTENSION mau; SELECT mau.grant_to('reader', 'monitoring')");
}
$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'users=260', '-v', "at=$AT", '-f', "$FindBin::RealBin/../fixtures/page.sql",
		'-d', $node->connstr('homeserver') ], 'a server of 260 people');
$node->safe_psql('homeserver', 'UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 220');
$node->safe_psql('one', "SELECT mau.record_activity('\@alice:example.com', '$AT')");

sub run_mau { return mau($node, \@_) }
sub sql { my ($sql, $db) = @_; return $node->safe_psql($db // 'homeserver', $sql) }
sub report { my ($db, $file, @more) = @_; return run_mau('report', '-d', $node->connstr($db) . ' user=reader', '-o', $file, @more) }
sub figures { my ($db, @more) = @_; my ($exit, $out) = report($db, '-', '--json', @more); return decode_json($out) }

# The rows of a question as psql -At shows them.
sub rows_of
{
	my ($answer, @columns) = @_;
	return join("\n", map { my $row = $_; join('|', map { my $value = $row->{$_}; !defined $value ? '' : JSON::PP::is_bool($value) ? ($value ? 't' : 'f') : $value } @columns) } @$answer);
}

my $page = "$folder/homeserver.html";

subtest 'the figures are those of SQL' => sub {
	my ($exit, $out, $err) = report('homeserver', $page, '--at', $AT);
	is("$exit|$out|$err", '0||', 'a page');
	my $figures = figures('homeserver', '--at', $AT);
	my %sql = (
		active => [ "SELECT mau.active_users('1 day', '$AT'), mau.active_users('7 days', '$AT'), mau.active_users('30 days', '$AT')", qw(dau wau mau) ],
		members => [ "SELECT mau.monthly_active_count('$AT')", 'mau' ],
		series => [ q{SELECT day, dau, wau, mau, round(stickiness::numeric, 4), new_users FROM mau.daily_series('2025-10-31', '2026-10-31') ORDER BY day},
			qw(day dau wau mau stickiness new_users) ],
		growth => [ q{SELECT g.day, g.mau_before, g.new_users, g.resurrected, g.churned, g.mau FROM generate_series(date '2025-12-04', '2026-10-30', '30 days') d, mau.growth(d::date, d::date) g ORDER BY 1},
			qw(day mau_before new_users resurrected churned mau) ],
		days_active => [ "SELECT * FROM mau.days_active('$AT') ORDER BY 1", qw(days users) ],
		services => [ "SELECT * FROM mau.monthly_active_count_by_service('$AT') ORDER BY users DESC, service", qw(name users) ],
		hosts => [ "SELECT * FROM mau.monthly_active_count_by_host('$AT') ORDER BY users DESC, host", qw(name users) ],
		bills => [ "SELECT to_char(month, 'YYYY-MM'), service_name, users, users_over, highest_mau, partial FROM mau.billing_months(at => '$AT') ORDER BY 1 DESC, service_name <> 'native', 2",
			qw(month service users users_over highest_mau partial) ],
		forecast => [ "SELECT day, mau, target_mau, reaches, days_left, assumption FROM mau.forecast(at => '$AT')", qw(day mau target_mau reaches days_left assumption) ],
		retention_months => [ "SELECT cohort_start, size, period, users FROM mau.retention('month', '2025-10-31', '2026-10-31', at => '$AT') ORDER BY 1, 3",
			qw(cohort_start size period users) ]);
	for my $name (sort keys %sql)
	{
		my ($query, @columns) = @{ $sql{$name} };
		my $expected = sql($query);
		# Perl's numbers have no zeros at their end.
		my $got = rows_of($figures->{$name}, @columns);
		s/(\.\d*?)0+(?=\||$)/$1/mg, s/\.(?=\||$)//mg for $expected, $got;
		is($got, $expected, $name);
		isnt($got, '', "$name has rows");
	}
	is(join(' ', map { "$_->{name}:$_->{mau}" } @{ $figures->{clients} }),
		join(' ', map { my $p = $_; "$p:" . sql("SELECT mau FROM mau.daily_series('2026-10-31', '2026-10-31', platform => nullif('$p', 'all'))") } qw(all web android ios electron unknown)), 'clients');
	is(scalar @{ $figures->{growth} }, 12, 'growth of twelve times 30 days');
};

subtest 'one file, and no user in it' => sub {
	my $html = slurp_file($page);
	ok($html !~ /\@user|\@_irc|\@_tg/, 'no user id');
	my $without_scripts = $html =~ s/<script nonce.*?<\/script>//gsr;
	ok($without_scripts !~ /\bsrc=|<link\b[^>]*href="(?!data:)|\@import|url\(/i && $html !~ /<script[^>]*src=/, 'nothing that is loaded');
	like($without_scripts, qr/Content-Security-Policy" content="default-src 'none'; script-src 'nonce-\w{32}'; [^"]*connect-src 'none'/, 'and nothing that may be loaded');
	cmp_ok(length $html, '<', 500_000, 'of less than 500 kB');
	# A service may have any name.
	sql(q{SELECT mau.register_user('@_evil:example.com', '2026-10-01Z', appservice_id => '</script><b>x'); SELECT mau.record_activity('@_evil:example.com', '2026-10-30Z')});
	report('homeserver', $page, '--at', $AT);
	$html = slurp_file($page);
	ok(index($html, '</script><b>x') < 0, 'a name that would end the script does not');
	ok(index($html, '\u003c/script>\u003cb>x') > 0, 'and is there');
};

subtest 'what cannot be had is said in its place' => sub {
	my ($exit, $out, $err) = report('homeserver', "$folder/past.html", '--at', '2026-06-15 12:00+00');
	is($exit, 0, 'a page of a past instant');
	like($err, qr/^mau: members: .*lies in the past.*\(SQLSTATE 22023\)\nHINT: /m, 'the cohort does not know it');
	my $past = figures('homeserver', '--at', '2026-06-15 12:00+00');
	is($past->{active}[0]{mau}, sql(q{SELECT mau.active_users('30 days', '2026-06-15 12:00+00')}), 'the history does');
	like($past->{members}{problem}, qr/lies in the past/, 'and the page says so');
	($exit, $out, $err) = run_mau('report', '-d', $node->connstr('homeserver') . ' user=stranger', '-o', "$folder/none.html");
	is($exit, 1, 'a role without rights');
	like($err, qr/SQLSTATE 42501.*\nHINT: .*grant_to\('stranger', 'monitoring'\)/m, 'is told what it needs');
	sql(q{CREATE TABLE public.broken (); UPDATE mau.tasks SET failures_in_a_row = 1, last_error = 'no good: @bob:example.com and carol@example.com', last_error_sqlstate = 'XX000', last_finished = now(), last_started = now() WHERE task = 'fold'});
	my $now = encode_json(figures('homeserver'));
	like($now, qr/no good: \(user\) and \(user\)/, 'a message of a task is shown');
	unlike($now, qr/bob|carol/, 'without the users in it');
	sql(q{UPDATE mau.tasks SET failures_in_a_row = 0, last_error = NULL, last_error_sqlstate = NULL, last_finished = NULL, last_started = NULL WHERE task = 'fold'});
};

subtest 'bad input: one line, a hint, the exit status' => sub {
	my $dsn = $node->connstr('homeserver') . ' user=reader';
	my $file = "$folder/kept.html";
	append_to_file($file, 'as before');
	my @cases = (
		[ 2, 'no output', 'report', '-d', $dsn ],
		[ 2, 'no such time', 'report', '-d', $dsn, '-o', $file, '--at', 'noon-ish' ],
		[ 1, 'no such database', 'report', '-d', $node->connstr('missing'), '-o', $file ],
		[ 1, 'no extension', 'report', '-d', $node->connstr('postgres'), '-o', $file ],
		[ 1, 'no such folder', 'report', '-d', $dsn, '-o', "$folder/missing/page.html" ]);
	for my $case (@cases)
	{
		my ($status, $name, @arguments) = @$case;
		my ($exit, $out, $err) = run_mau(@arguments);
		is($exit, $status, "$name: status");
		like($err, qr/\Amau: [^\n]+\nHINT: [^\n]+\n\z/, "$name: a line and a hint");
	}
	# A disk without room: a file may not be longer than 100 blocks.
	my ($exit, $out, $err) = (0, '', '');
	IPC::Run::run([ 'bash', '-c', 'trap "" XFSZ; ulimit -f 100; exec "$0" "$@"', mau_program(), 'report', '-d', $dsn, '-o', $file, '--at', $AT ], '>', \$out, '2>', \$err);
	is($? >> 8, 1, 'a full disk: status');
	like($err, qr/\Amau: cannot write \Q$file\E[^\n]*: File too large\nHINT: [^\n]+\n\z/, 'a full disk: a line and a hint');
	is(slurp_file($file), 'as before', 'the old file stays');
	ok(!-e "$file.new", 'and nothing else');
	IPC::Run::run([ 'bash', '-c', 'exec "$0" "$@" >/dev/full', mau_program(), 'report', '-d', $dsn, '-o', '-', '--at', $AT ], '2>', \$err);
	is($? >> 8, 1, 'a full disk behind standard output');
};

# The text of an element, without tags.
sub text_of { my ($dom, $id) = @_; my ($inside) = $dom =~ /id="\Q$id\E"[^>]*>(.*?)<\/(?:div><\/div|section|dd)>/s or return ''; return $inside =~ s/<[^>]*>/ /gr =~ s/\s+/ /gr }
# The rows of the table with a label, with | between cells.
sub table_of
{
	my ($dom, $label) = @_;
	my ($table) = $dom =~ /<table[^>]*aria-label="\Q$label\E"[^>]*>(.*?)<\/table>/s or return '';
	my ($body) = $table =~ /<tbody>(.*?)<\/tbody>/s;
	return join("\n", map { join('|', map { s{<[^>]*>}{}gr =~ s{,}{}gr =~ s{&lt;}{<}gr =~ s{&gt;}{>}gr =~ s{&amp;}{&}gr } /<t[hd][^>]*>(.*?)<\/t[hd]>/gs) } $body =~ /<tr>(.*?)<\/tr>/gs);
}

SKIP:
{
	skip 'chromium is not installed', 1 unless has_browser();
	sql(q{SELECT mau.forget_user('@_evil:example.com')});
	for my $db (qw(homeserver one empty)) { is((report($db, "$folder/$db.html", '--at', $AT))[0], 0, "the page of $db") }

	subtest 'in a browser' => sub {
		for my $db (qw(homeserver one empty))
		{
			for my $width (1280, 390)
			{
				for my $dark (0, 1)
				{
					next if $db ne 'homeserver' && $dark != ($width < 1000);
					my $name = "page-$db-$width-" . ($dark ? 'dark' : 'light');
					my (undef, $console) = browse("file://$folder/$db.html", width => $width, height => $width > 400 ? 2700 : 6200, dark => $dark, screenshot => "$output/$name.png");
					is($console, '', "$name: nothing on the console");
					cmp_ok(-s "$output/$name.png" // 0, '>', 20_000, "$name: a picture");
				}
			}
			my ($dom, $console) = browse("file://$folder/$db.html");
			is($console, '', "$db: nothing on the console");
			like($dom, qr/<html[^>]*data-errors="0"/, "$db: no errors");
			my @axes = $dom =~ /<canvas[^>]*data-axes="([^"]*)"/g;
			is(scalar(() = $dom =~ /<canvas/g), scalar @axes, "$db: every chart has titles of its axes");
			is(scalar(() = $dom =~ /<canvas[^>]*role="img"[^>]*aria-label="[^"]{20,}"/g), scalar @axes, "$db: and says what it shows");
			is(scalar(() = $dom =~ /class="scroll"/g), scalar(() = $dom =~ /class="scroll" tabindex="0" role="region" aria-label="/g), "$db: what scrolls can have the focus");
			my %charts = (homeserver => 4, one => 2, empty => 0);
			is(scalar @axes, $charts{$db}, "$db: $charts{$db} charts");
			unlike($dom =~ s/<script.*?<\/script>//gsr, qr/undefined|NaN|\[object/, "$db: no missing values");
		}
		browse("file://$folder/homeserver.html", pdf => "$output/page.pdf");
		cmp_ok(-s "$output/page.pdf" // 0, '>', 20_000, 'it prints');
		# The picture of the README: where the tasks are run.
		sql("UPDATE mau.tasks SET last_started = '$AT', last_finished = '$AT', last_duration = '0.02 s', last_rows = 100, runs = 1 WHERE task IN ('fold', 'refresh', 'reap')");
		report('homeserver', "$folder/homeserver.html", '--at', $AT);
		browse("file://$folder/homeserver.html", width => 1100, height => 900, screenshot => "$output/page.png");
	};

	subtest 'the numbers on the page are those of SQL' => sub {
		my ($dom) = browse("file://$folder/homeserver.html");
		my @axes = $dom =~ /data-axes="([^"]*)"/g;
		is(join(', ', @axes), 'UTC day | users, last UTC day of 30 | users, UTC day | % of monthly users, active days of 30 | users', 'axes with units');
		my $mau = sql("SELECT mau.monthly_active_count('$AT')");
		like(text_of($dom, 'tile-mau'), qr/Monthly active users $mau of 220: [\d.]+ %, @{[220 - $mau]} free/, 'the figure and the limit');
		like(text_of($dom, 'tile-wau'), qr/ @{[sql("SELECT mau.active_users('7 days', '$AT')")]} /, 'weekly');
		like(text_of($dom, 'tile-dau'), qr/ @{[sql("SELECT mau.active_users('1 day', '$AT')")]} /, 'daily');
		like(text_of($dom, 'tile-new'), qr/ @{[sql(q{SELECT sum(new_users) FROM mau.daily_series('2026-10-02', '2026-10-31')})]}/, 'new');
		like(text_of($dom, 'tile-full'), qr/ @{[sql("SELECT reaches FROM mau.forecast(at => '$AT')") || '–']} /, 'when the limit is reached');
		is(table_of($dom, 'Active users'), sql(q{SELECT day, dau, wau, mau, new_users FROM mau.daily_series('2025-10-31', '2026-10-31') ORDER BY day DESC}), 'the year');
		is(table_of($dom, 'Days active'), sql("SELECT * FROM mau.days_active('$AT') ORDER BY 1"), 'days active');
		is(table_of($dom, 'By host') =~ s/\|(\d+)$/|$1/gmr, sql("SELECT * FROM mau.monthly_active_count_by_host('$AT') ORDER BY users DESC, host"), 'hosts');
		my @heat = map { [ split /\|/ ] } split /\n/, table_of($dom, 'Active users by month after registration, in percent');
		my $triangle = join("\n", map { my @row = @$_; map { $row[$_] eq '' ? () : "$row[0]|$row[1]|" . ($_ - 2) . "|$row[$_]" } 2 .. $#row } @heat);
		is($triangle, sql("SELECT to_char(cohort_start, 'YYYY-MM'), size, period, round(100 * share::numeric) || ' %' FROM mau.retention('month', '2025-10-31', '2026-10-31', at => '$AT')
			WHERE size > 0 AND share IS NOT NULL ORDER BY cohort_start, period"), 'the triangle');
		my $bills = table_of($dom, 'Bills of the last twelve months');
		is($bills, sql("SELECT to_char(month, 'YYYY-MM') || CASE WHEN partial THEN ' (partial)' ELSE '' END, service_name, users, users_over, highest_mau, trim_scale(round(mean_mau::numeric, 1))
			FROM mau.billing_months(at => '$AT') WHERE users > 0 OR highest_mau > 0 ORDER BY month DESC, service_name <> 'native', 2"), 'the bills');
	};
}

$node->stop;
done_testing();
